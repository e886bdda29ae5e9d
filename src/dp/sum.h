/* The private sum: clipped gradients of one step, on their way to one release. */
#ifndef PSG_DP_SUM_H
#define PSG_DP_SUM_H

#include "psg/dp.h"

struct psg_dp {
    psg_context *context;
    psg_generator *generator;       /* the caller's; outlives this */
    uint64_t owner;                 /* of the noise streams, see dp/random.h */
    psg_dp_options options;         /* max_batch_size resolved */
    psg_dp_reduce reduce;           /* or NULL */
    void *reduce_user;

    size_t param_count;
    size_t *offset;                 /* param_count + 1: parameter k is sums[offset[k]] to sums[offset[k + 1]] */
    double *sums;
    psg_tensor *views;              /* param_count: views of sums for one psg_clipped_sum */
    int64_t samples;                /* summed in this step */

    psg_accountant one_release;     /* what each release adds to the accountant */
    psg_accountant accountant;
};

/* The elements of parameter k. */
static inline size_t psg_dp_elements(const psg_dp *dp, size_t k) { return dp->offset[k + 1] - dp->offset[k]; }

#endif
