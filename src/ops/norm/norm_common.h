/* What the normalizations share. */
#ifndef PSG_OPS_NORM_COMMON_H
#define PSG_OPS_NORM_COMMON_H

#include <stdbool.h>

#include "kernels.h"
#include "psg/op.h"

/* The operands of a norm. */
enum { PSG_NORM_INPUT = 0, PSG_NORM_WEIGHT = 1, PSG_NORM_BIAS = 2, PSG_NORM_INPUTS = 3 };

extern const char *const psg_norm_input_names[PSG_NORM_INPUTS];

/* Real types, an input that carries the batch, and a weight and a bias without one. */
psg_status psg_norm_check_operands(psg_call *call);
/* Weight and bias, where present, have this shape; rule: what it must equal, in words.  PSG_ERR_SHAPE. */
psg_status psg_norm_check_affine(psg_call *call, int rank, const int64_t *shape, const char *rule);

/* The data of input k advanced by elements; NULL where it is absent. */
void *psg_norm_data(const psg_call *call, int k, int64_t elements);
bool psg_norm_wants(const psg_call *call, int k);

/* Statistics of count rows or groups, kept for backward; *stats is NULL when nobody wants a gradient. */
psg_status psg_norm_keep_stats(psg_call *call, int64_t count, psg_norm_stats **stats);

/* count elements of `size` bytes until the next pass. */
psg_status psg_norm_keep(psg_call *call, int64_t count, size_t size, void **memory);

/* The input's count elements are so many that outputs written around the cache cost less; each run of `line` elements
 * must be whole cache lines for that. */
bool psg_norm_streams(const psg_call *call, int64_t line);

/* Adds memory, contiguous (samples, parts, count), as rows of parameter input k. */
psg_status psg_norm_add_rows(psg_call *call, int k, void *memory, int64_t samples, int64_t parts, int64_t count);

/* ---- inputs (N, C, *) ---- */

/* Operands, an input of rank >= 2, and one element a channel in weight and bias. */
psg_status psg_norm_check_channels(psg_call *call);

/* Each channel of each sample is a line of spatial elements; 0 where the input has no elements. */
typedef struct psg_norm_layout {
    int64_t samples, channels, spatial;
} psg_norm_layout;

psg_norm_layout psg_norm_layout_of(const psg_call *call);

/* ---- norm_groups.c: statistics of groups of lines ---- */

/* Group k of sets * groups: lines from k * group_stride, line_stride apart, of spatial elements. */
typedef struct psg_norm_groups {
    int64_t sets, groups, lines, spatial;
    int64_t group_stride, line_stride;
    bool one_weight;        /* of a group, not one a line */
    double eps;
} psg_norm_groups;

/* The groups of num_groups in each sample. */
psg_norm_groups psg_norm_groups_of(const psg_call *call, int64_t num_groups, double eps);

/* The caller's running statistics, each or NULL; read and written while the op is recorded. */
typedef struct psg_norm_running {
    const psg_tensor *mean, *variance;
    double momentum;
} psg_norm_running;

/* The output.  *kept: the statistics, one a group, for backward to find in call->kept; NULL when nobody wants a
 * gradient.  Running statistics that are given are updated. */
psg_status psg_norm_groups_forward(psg_call *call, const psg_norm_groups *groups, const psg_norm_running *running,
                                   void **kept);

/* Input gradient and one element a line, (sets, groups, lines), of the gradients of weight and bias, each memory or
 * NULL. */
void psg_norm_groups_backward(const psg_call *call, const psg_norm_groups *groups, void *grad_weight,
                              void *grad_bias);

/* Memory for such a gradient of input k when it is wanted, 0 where no group will write. */
psg_status psg_norm_keep_lines(psg_call *call, int k, const psg_norm_groups *groups, void **memory);

/* The whole backward of num_groups in each sample. */
psg_status psg_norm_groups_gradients(psg_call *call, const psg_norm_groups *groups);

/* ---- norm_running.c: statistics of a model, one element a channel ---- */

/* Both present or both absent, contiguous, of the input's type, (C); required names the option that makes them so, or
 * is NULL; updates: forward will write them, which the pass must allow. */
psg_status psg_norm_check_running(psg_call *call, const psg_norm_running *running, const char *required, bool updates);

/* running = (1 - momentum) running + momentum found, found the mean over the sets of their means, and of variances
 * times n / (n - 1); groups are channels. */
void psg_norm_update_running(const psg_call *call, const psg_norm_running *running, const psg_norm_groups *groups,
                             const psg_norm_stats *stats, const double *variance);

/* Normalization by them, linear in the input: the op's forward and backward, which finds *kept in call->kept. */
psg_status psg_norm_fixed_forward(psg_call *call, const psg_norm_running *running, double eps, void **kept);
psg_status psg_norm_fixed_backward(psg_call *call);

#endif
