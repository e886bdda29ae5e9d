/* The law "one sample, one result": what a per-sample pass gives of a sample has the bits that a pass over that sample
 * alone gives, whatever stands beside it.  For any case of test/cases, at any batch. */
#ifndef PSG_TEST_ALONE_H
#define PSG_TEST_ALONE_H

#include "cases/cases.h"

/* Samples of a batch: that of a case's own stream, from 0; or a neighbour whose reals are all 0, 1e30 (f64: 1e300) or
 * NaN, where the operand takes any reals. */
enum { ALONE_ZERO = -1, ALONE_HUGE = -2, ALONE_NAN = -3 };

enum { ALONE_PARTS = CASE_OPERANDS + 8, ALONE_NAME = 64, ALONE_GRAM = 512 };

typedef struct alone_setting {
    const char *isa; /* NULL: the best */
    psg_dtype real;
    unsigned threads; /* of the batch; a sample alone has one */
    size_t budget;
    int64_t max_batch_size;
    int accumulate; /* grad_sample and the clipped sum are added to what is there */
    int wide;       /* reals of exponents from -36 to 3: the case's own are multiples of 2^-24, whose sums in double are
                       exact in any order */
    psg_context *context, *single; /* lent: of `threads` and of one; NULL: each case makes its own */
} alone_setting;

/* The shape of one sample's row of a result. */
typedef struct alone_shape {
    int rank;
    int64_t size[PSG_MAX_RANK];
} alone_shape;

/* One result: rows of every sample. */
typedef struct alone_part {
    char name[ALONE_NAME]; /* "gradient of x" */
    int64_t row;
    alone_shape shape;
    double *data;
} alone_part;

typedef struct alone_results {
    int64_t batch;
    int count;
    alone_part part[ALONE_PARTS];
    double *gram; /* batch x batch; NULL without parameters, and for more than ALONE_GRAM samples */
} alone_results;

/* A case with its samples, and the contexts of a setting.  A check that fails is printed ("op/case: what: sample n of
 * B") and counted. */
typedef struct alone_case {
    case_line line;
    alone_setting setting;
    psg_context *context, *single;
    int reduced;                      /* the output is one loss of the batch */
    int64_t pool;                     /* samples that are there */
    psg_tensor sample[CASE_OPERANDS]; /* (pool, ...): of batched operands, batch in front */
    int64_t passed, failed;
    const struct alone_case *live;    /* this one is it with more positions, which have no output gradient */
    alone_shape output;               /* of a sample, of the last pass */
    void (*recorded)(const char *op); /* NULL, or told of every op of a pass */
    uint32_t said[2 * ALONE_PARTS];   /* what failed, by a hash: each is printed once a case */
    int said_count;
} alone_case;

/* Whether the law can be asked of a line: not of refusals, ordinary passes, lines without a batch. */
int alone_applies(const case_line *line);
/* Bytes of the gradients of one sample; and the budgets that no, just all, just not all of max_batch_size fit, and
 * plenty. */
size_t alone_gradient_bytes(const case_line *line, psg_dtype real);
enum { ALONE_BUDGETS = 4 };
void alone_budgets(const case_line *line, psg_dtype real, int64_t max_batch_size, size_t budget[ALONE_BUDGETS]);

/* A context of a setting, for it to lend. */
psg_context *alone_context(const alone_setting *setting, unsigned threads);

/* With pool samples.  Returns 0 (and nothing is open) when the case cannot be run at that batch size. */
int alone_open(alone_case *c, const case_line *line, const alone_setting *setting, int64_t pool);
void alone_close(alone_case *c);

/* A pass over the picked samples; returns 0 after counting a failure.  alone_results_free in any case. */
int alone_run(alone_case *c, psg_context *context, const int64_t *pick, int64_t batch, alone_results *results);
void alone_results_free(alone_results *results);

/* A batch against each of its samples alone (at most `checked` of them, spread over it; 0: all) and its Gram matrix
 * against that of pairs. */
void alone_check(alone_case *c, const int64_t *pick, int64_t batch, int64_t checked);
/* The batch with `record` put in at `place` against the batch without it. */
void alone_check_joined(alone_case *c, const int64_t *pick, int64_t batch, int64_t record, int64_t place);

/* A batch of `line`, which is c's with larger dimensions, each sample being c's with `pad` behind it (a mask, an
 * operand called "...mask": with ones) and no output gradient there, against c's samples alone.  What of the larger
 * results has a place in the smaller ones is compared. */
void alone_check_padded(alone_case *c, const case_line *line, double pad, const int64_t *pick, int64_t batch);

/* Compares row a of one with row b of the other. */
void alone_compare(alone_case *c, const alone_results *x, int64_t a, const alone_results *y, int64_t b,
                   const char *what);

/* A row of the tables, or one that only this test has: dropout, feature_dropout, two_losses, network. */
const case_op *alone_op_find(const char *name);

/* Bit for bit, but -0 equals +0 and any NaN any other. */
int alone_same(double a, double b);

#endif
