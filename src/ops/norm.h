/* What layer_norm and group_norm share. */
#ifndef PSG_OPS_NORM_H
#define PSG_OPS_NORM_H

#include <stdbool.h>

#include "psg/op.h"

/* The operands of a norm. */
enum { PSG_NORM_INPUT = 0, PSG_NORM_WEIGHT = 1, PSG_NORM_BIAS = 2, PSG_NORM_INPUTS = 3 };

extern const char *const psg_norm_input_names[PSG_NORM_INPUTS];

/* Real types, an input that carries the batch, and a weight and a bias without one. */
psg_status psg_norm_check_operands(psg_call *call);
/* Weight and bias, where present, have this shape; rule: what it must equal, in words.  PSG_ERR_SHAPE. */
psg_status psg_norm_check_affine(psg_call *call, int rank, const int64_t *shape, const char *rule);

/* Mean and 1 / sqrt(var + eps) of count rows or groups, kept for backward; *stats is NULL when nobody wants a
 * gradient. */
psg_status psg_norm_keep_stats(psg_call *call, int64_t count, double **stats);

/* count elements of the call's real type until the next pass. */
psg_status psg_norm_keep_reals(psg_call *call, int64_t count, void **memory);

/* The input's count elements are so many that outputs written around the cache cost less; each run of `line` elements
 * must be whole cache lines for that. */
bool psg_norm_streams(const psg_call *call, int64_t line);

/* Adds memory, contiguous (samples, parts, count), as rows of parameter input k. */
psg_status psg_norm_add_rows(psg_call *call, int k, void *memory, int64_t samples, int64_t parts, int64_t count);

#endif
