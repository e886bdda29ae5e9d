/* What the parts of the attack on the clip bound share: a pair (D, D + record), how it is drawn, run and judged.
 *
 * A pair is a small description without pointers: it can be copied, changed a little, and built anew.  Pair K of seed S
 * is always the same pair: K / ATTACK_CLIMB names a climb, whose first ATTACK_FRESH pairs are drawn at random from one
 * family; each further one is the best so far with a change or two. */
#ifndef PSG_ATTACK_H
#define PSG_ATTACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <psg/psg.h>

#include "attack_random.h"

enum { ATTACK_CLIMB = 12, ATTACK_FRESH = 4, ATTACK_PARAMS = 3, ATTACK_BLOCKS = 8 };

/* ---- how the sums are asked for: the same for D and D + record but for threads and cuts ---- */

/* What the memory budget holds: gradients of so many samples. */
typedef enum attack_budget {
    BUDGET_NONE, BUDGET_BYTES_OF_B, BUDGET_OF_B, BUDGET_OF_B_AND_ONE, BUDGET_OF_MOST, BUDGET_PLENTY, BUDGETS
} attack_budget;

typedef struct attack_settings {
    psg_dtype dtype;
    int64_t batch;             /* B of D */
    int64_t place;             /* of the record in D + record, 0 to B */
    double max_grad_norm;
    int64_t max_batch_size;    /* 0, or at least B + 1 */
    int route, isa;            /* of attack_routes, and of the processor's instruction sets */
    attack_budget budget;
    unsigned threads[2];
    int64_t chunk[2];          /* samples of a micro-batch; 0: all in one call */
    bool mechanism;            /* not drawn: the sums are those of a psg_dp, which clips so */
    psg_clipping clipping;
    bool groups;               /* a norm a parameter */
} attack_settings;

enum { ATTACK_ROUTES = 6 };
extern const char *const attack_routes[ATTACK_ROUTES];   /* [0] is NULL: the planner's choice */
int attack_isas(const char *isas[3]);                    /* the processor's instruction sets; returns how many */

/* ---- what the samples hold ---- */

/* A term is a position of a block: a sample's gradient is the sum of its terms.  Pairs are terms (0, 1), (2, 3), ... */
typedef enum attack_kind {
    KIND_RANDOM,        /* each sample its own */
    KIND_EQUAL,         /* random, the same in every sample */
    KIND_EQUAL_ROWS,    /* the same in every sample and term */
    KIND_CONSTANT,      /* all elements 1 */
    KIND_WIDE,          /* random, over 80 binades */
    KIND_SPIKE,         /* one element, another in each sample; the terms of a pair cancel */
    KIND_CANCEL,        /* random; the terms of a pair cancel exactly */
    KIND_NEARLY_CANCEL, /* the same but for a residue */
    KIND_OFFSET,        /* large common offsets that cancel between the terms of a pair */
    KIND_ONE_HOT,       /* one element of one term, the same in every sample */
    KIND_ZERO,
    KIND_NAN, KIND_INFINITE,   /* one element; of the activations when the seed is odd */
    KINDS
} attack_kind;

enum { ROLE_COMMON, ROLE_SPECIAL, ROLE_RECORD, ROLES };

typedef struct attack_role {
    attack_kind kind;
    int g_exponent, a_exponent;   /* the elements are multiplied by 2^ this */
    bool negative;                /* g also by -1 */
} attack_role;

typedef struct attack_contents {
    uint64_t seed;
    bool alike;                   /* the random numbers of all samples are the same */
    int residue;                  /* of KIND_NEARLY_CANCEL: 2^ this of an element */
    int64_t lead, every;          /* samples lead, lead + every, ... of D are special, the others common */
    attack_role role[ROLES];
} attack_contents;

/* Where an element stands; the record of D + record has id B. */
typedef struct attack_element {
    int64_t id, batch;
    int array;                    /* which array of the pair: keys its random numbers */
    bool activation;
    int64_t term, column;
    int64_t rows, columns;        /* of the block: p and d */
} attack_element;

double attack_value(const attack_contents *contents, const attack_element *element);
/* The role of a sample, and its number among the special ones. */
int attack_role_of(const attack_contents *contents, int64_t id, int64_t batch);
int64_t attack_special_number(const attack_contents *contents, int64_t id);

/* ---- sets of blocks ---- */

typedef enum attack_layout {
    LAYOUT_CONTIGUOUS = 0, LAYOUT_PERMUTED = 1, LAYOUT_GAPS = 2, LAYOUT_NEGATIVE = 4, LAYOUT_SHARED = 8
} attack_layout;

typedef struct attack_block {
    psg_form form;
    bool transposed;              /* factored: psg_factored_transposed */
    int param, shares;            /* shares: the block whose backprop this one takes, or -1 */
    int64_t positions, p, d;
    int64_t row, column;          /* where its rectangle begins in the parameter */
    double scale;
    int g_layout, a_layout;
    int64_t channels;             /* unfolded, 1 or 2 spatial dimensions of equal size */
    int spatial;
    int64_t image, kernel, stride, padding;
} attack_block;

typedef struct attack_set {
    int params, blocks;
    int64_t rows[ATTACK_PARAMS], columns[ATTACK_PARAMS];
    attack_block block[ATTACK_BLOCKS];
    bool large;                   /* may take a second */
    int64_t pad;                  /* zero positions that D + record has beyond those of D, for its longer record */
} attack_set;

/* ---- networks ---- */

typedef enum attack_model {
    MODEL_LINEAR, MODEL_MLP, MODEL_ATTENTION, MODEL_CONV, MODEL_LSTM, MODEL_LAYER_NORM, MODEL_TIED, MODELS
} attack_model;

/* What the last map takes for its weight. */
typedef enum attack_weight {
    WEIGHT_PARAMETER, WEIGHT_STANDARDIZED, WEIGHT_BY_FAN_IN, WEIGHT_GAINED, WEIGHT_NORMED, WEIGHT_NORMED_COLUMNS,
    WEIGHT_KINDS
} attack_weight;

typedef struct attack_network {
    attack_model model;
    attack_weight weight;
    int64_t positions, inputs, outputs;
    bool kink;                    /* the last bias puts every pre-activation to 0 but for rounding */
    bool dropout;                 /* before the last map; samples have ids */
    bool mean;                    /* a mean cross entropy in a pass with PSG_LOSS_MEAN, else psg_backward_from */
    int64_t pad;                  /* as of sets; linear and lstm */
} attack_network;

/* ---- pairs ---- */

typedef struct attack_pair {
    int family;                   /* of attack_families */
    attack_settings settings;
    attack_contents contents;
    attack_set set;
    attack_network network;
} attack_pair;

typedef struct attack_family {
    const char *name;
    bool tape;                    /* a network, else blocks of a caller's own */
    void (*draw)(attack_random *random, attack_pair *pair);
} attack_family;

extern const attack_family attack_families[];
extern const int attack_family_count;

void attack_draw(attack_random *random, int family, attack_pair *pair);
/* One or two changes that keep the pair well-formed. */
void attack_mutate(attack_random *random, attack_pair *pair);
/* Brings place, max_batch_size and cuts into what B allows. */
void attack_repair(attack_pair *pair);

/* ---- judging ---- */

typedef enum attack_verdict { HELD, BROKEN, REFUSED, REFUSED_ONE_SIDE } attack_verdict;

typedef struct attack_outcome {
    attack_verdict verdict;
    double share;                 /* ||S(D + record) - S(D)|| / C; infinite when a sum is not finite */
    char message[160];            /* of a refusal */
} attack_outcome;

/* Compares sums of count doubles in arithmetic of 113 bits: BROKEN when they differ by more than C, not by C. */
attack_outcome attack_compare(const double *with, const double *without, int64_t count, double max_grad_norm);

/* Builds both batches, asks for both sums, compares. */
attack_outcome attack_run(const attack_pair *pair);

#endif
