/* Batches of raw blocks for the tests of private releases: three parameters, a weight and a bias of one layer over T
 * positions and a scale that is given as rows. */
#ifndef PSG_TEST_DP_BATCH_H
#define PSG_TEST_DP_BATCH_H

#include "support.h"

enum { DP_PARAMS = 3, DP_MAX_ELEMENTS = 1024 };

typedef struct dp_batch {
    int64_t b, t, p, d, q;        /* weight (p, d), bias (p), scale (q) */
    test_array g, a, s;           /* (b, t, p), (b, t, d), (b, 1, q) */
} dp_batch;

/* Samples [first, first + count) of a batch as gradients; list points into the struct. */
typedef struct dp_part {
    psg_block block[DP_PARAMS];
    psg_gradient gradient[DP_PARAMS];
    const psg_gradient *list[DP_PARAMS];
} dp_part;

/* Normal values times scale. */
dp_batch dp_batch_new(test_random *random, psg_dtype dtype, int64_t b, int64_t t, double scale);
void dp_batch_free(dp_batch *batch);
void dp_batch_counts(const dp_batch *batch, int64_t counts[DP_PARAMS]);
int64_t dp_batch_elements(const dp_batch *batch);
void dp_batch_part(const dp_batch *batch, int64_t first, int64_t count, dp_part *part);
/* Every value of sample n. */
void dp_batch_set_sample(dp_batch *batch, int64_t n, double value);

/* C, sigma, the divisor and the most records of a mechanism whose batches are the caller's. */
psg_dp_options dp_external(double max_grad_norm, double noise_multiplier, double expected, int64_t most);
/* Records first, first + 1, ... of an external mechanism's step. */
psg_batch dp_take(psg_context *context, psg_dp *dp, int64_t first, int64_t count);

/* A generator of the given seed and a psg_dp on it. */
typedef struct dp_run {
    psg_context *context;
    psg_generator *generator;
    psg_dp *dp;
    int64_t counts[DP_PARAMS];
    int64_t next;                 /* record number: every one is another */
} dp_run;

dp_run dp_run_new(psg_context *context, const psg_dp_options *options, const dp_batch *batch, unsigned char seed);
void dp_run_free(dp_run *run);
psg_status dp_run_add(dp_run *run, const dp_batch *batch, int64_t first, int64_t count);
/* Releases to doubles, parameter after parameter. */
psg_status dp_run_release(dp_run *run, double out[DP_MAX_ELEMENTS]);

#endif
