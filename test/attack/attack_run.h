/* Asking for a clipped sum: contexts, budgets, micro-batches. */
#ifndef PSG_ATTACK_RUN_H
#define PSG_ATTACK_RUN_H

#include "arrays.h"

enum { ATTACK_MOST_PARAMS = 12 };

/* A private sum in the making, over the micro-batches of one side. */
typedef struct attack_sum {
    const attack_settings *settings;
    psg_context *context;
    double *values;                    /* all parameters, one after another */
    int64_t count;
    psg_tensor outs[ATTACK_MOST_PARAMS];
    int params;
    psg_generator *generator;          /* of a mechanism, or NULL */
    psg_dp *dp;
    int64_t next;                      /* its next record */
    psg_status status;                 /* of the first call that was refused */
    char message[160];
} attack_sum;

/* The parameters that a sum is over. */
typedef struct attack_shapes {
    int params;
    int rank[ATTACK_MOST_PARAMS];
    int64_t shape[ATTACK_MOST_PARAMS][4];
} attack_shapes;

/* A context as the settings want it, with the route forced; ends the program when the library cannot make one. */
psg_context *attack_context(const attack_settings *settings, bool with, const attack_shapes *shapes);

/* An empty sum. */
attack_sum attack_sum_new(attack_memory *memory, const attack_settings *settings, psg_context *context,
                          const attack_shapes *shapes);
/* Adds one micro-batch; after a refusal nothing. */
void attack_add(attack_sum *sum, const psg_gradient *const *gradients, bool micro_batches);
/* Ends the sum; that of a mechanism is then in units, which doubles hold. */
void attack_finish(attack_sum *sum);
/* Keeps the first refusal. */
void attack_refuse(attack_sum *sum, psg_status status, const char *message);

/* The samples of a side's micro-batches: [first, *last), false after the last one.  A side without samples has one
 * empty micro-batch when it is asked for in one call. */
bool attack_next_chunk(const attack_side *side, int64_t first, int64_t *last);

/* What both sums make of the pair. */
attack_outcome attack_judge(const attack_sum *with, const attack_sum *without, double max_grad_norm);

/* The networks' half of attack_run. */
attack_outcome attack_run_network(const attack_pair *pair);

#endif
