#include "clip_sum.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_BLOCKS = 32 };

psg_tensor view2(psg_dtype dtype, void *data, int64_t a, int64_t b) {
    return psg_tensor_of(dtype, data, 2, (int64_t[]){ a, b });
}

psg_tensor view3(psg_dtype dtype, void *data, int64_t a, int64_t b, int64_t c) {
    return psg_tensor_of(dtype, data, 3, (int64_t[]){ a, b, c });
}

psg_gradient first_samples(const psg_gradient *gradient, int64_t batch_size, psg_block *blocks) {
    psg_gradient some = *gradient;
    for (size_t k = 0; k < gradient->block_count; k++) {
        blocks[k] = gradient->blocks[k];
        psg_tensor *views[] = { &blocks[k].backprop, &blocks[k].activation, &blocks[k].ids };
        for (int v = 0; v < 3; v++) if (views[v]->rank > 0) views[v]->shape[0] = batch_size;
    }
    some.blocks = blocks;
    some.batch_size = batch_size;
    return some;
}

double *clip_sum(psg_context *context, const psg_gradient *gradient, int64_t batch_size, const psg_clip *clip,
                 double *factors, psg_clip_report *report) {
    psg_block blocks[MOST_BLOCKS];
    psg_gradient some = first_samples(gradient, batch_size, blocks);
    const psg_gradient *set = &some;
    psg_tensor out = psg_tensor_of(PSG_F64, NULL, gradient->rank, gradient->shape);
    double *sum = calloc((size_t)psg_tensor_count(&out), sizeof *sum);
    out.data = sum;
    TEST_OK(context, psg_clipped_sum(context, &set, 1, clip, PSG_OVERWRITE, &out, NULL, factors, report));
    return sum;
}

double clip_sum_distance(const double *a, const double *b, int64_t count) {
    long double sum = 0;
    for (int64_t e = 0; e < count; e++) sum += ((long double)a[e] - b[e]) * ((long double)a[e] - b[e]);
    return (double)sqrtl(sum);
}

double clip_sum_moved(psg_context *context, const psg_gradient *gradient, const psg_clip *clip) {
    psg_tensor out = psg_tensor_of(PSG_F64, NULL, gradient->rank, gradient->shape);
    double *with = clip_sum(context, gradient, gradient->batch_size, clip, NULL, NULL);
    double *without = clip_sum(context, gradient, gradient->batch_size - 1, clip, NULL, NULL);
    double moved = clip_sum_distance(with, without, psg_tensor_count(&out));
    free(with);
    free(without);
    return moved;
}
