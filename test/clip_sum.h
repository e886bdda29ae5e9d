/* The clipped sum of one gradient in doubles, and what a sample moves it by. */
#ifndef PSG_TEST_CLIP_SUM_H
#define PSG_TEST_CLIP_SUM_H

#include "support.h"

/* Of the first batch_size samples of a set of blocks; factors: B or NULL; report or NULL.  The caller frees it. */
double *clip_sum(psg_context *context, const psg_gradient *gradient, int64_t batch_size, const psg_clip *clip,
                 double *factors, psg_clip_report *report);
/* |a - b|, the differences in long double. */
double clip_sum_distance(const double *a, const double *b, int64_t count);
/* |sum of B samples - sum of B - 1|: what the last sample moves. */
double clip_sum_moved(psg_context *context, const psg_gradient *gradient, const psg_clip *clip);

/* The first batch_size samples; blocks: room for the gradient's. */
psg_gradient first_samples(const psg_gradient *gradient, int64_t batch_size, psg_block *blocks);

/* Contiguous views. */
psg_tensor view2(psg_dtype dtype, void *data, int64_t a, int64_t b);
psg_tensor view3(psg_dtype dtype, void *data, int64_t a, int64_t b, int64_t c);

#endif
