/* What a run saw of its records, step by step: NOT PRIVATE, recorded where it is asked for and nowhere else. */
#ifndef BENCH_DIAGNOSTICS_H
#define BENCH_DIAGNOSTICS_H

#include "trainer.h"

enum { NORM_QUANTILES = 3 };
extern const double norm_quantiles[NORM_QUANTILES];   /* 0.1, 0.5, 0.9 */

typedef struct diagnostics {
    size_t count, room;                     /* steps that were recorded, and that there is memory for */
    double *step, *loss, *clipped;          /* from 1; mean over the batch; share of the batch (NAN: it was empty) */
    double *norm[NORM_QUANTILES];           /* quantiles of the gradient norms of the batch's samples */
    double *norms;                          /* of the step under way */
    size_t norm_count, norm_room;
} diagnostics;

/* NULL where there is no memory. */
diagnostics *diagnostics_create(long steps);
void diagnostics_destroy(diagnostics *d);

/* The norms of a micro-batch's samples.  d NULL, here and below: nothing is recorded. */
psg_status diagnostics_add(diagnostics *d, const trainer *t, const model_gradients *gradients, size_t samples);
/* The step whose micro-batches they were: sums over its samples. */
void diagnostics_end_step(diagnostics *d, long step, double loss, double clipped, size_t samples);

#endif
