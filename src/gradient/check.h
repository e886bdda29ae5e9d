/* What a question checks before it writes anything. */
#ifndef PSG_GRADIENT_CHECK_H
#define PSG_GRADIENT_CHECK_H

#include <stdbool.h>

#include "base/context.h"
#include "psg/gradient.h"

/* The gradients of a question, and who asks it. */
typedef struct psg_set {
    psg_context *context;
    const char *function;
    const psg_gradient *const *gradients;
    size_t count;
} psg_set;

/* Checks the gradients and names what is wrong in the context's message, as "<function>: ..."; coupled: a batch_coupled
 * one, which has no gradients of single samples, is allowed, else PSG_ERR_UNSUPPORTED. */
psg_status psg_check_set(const psg_set *set, bool coupled);
/* An output array, of any size, is given. */
psg_status psg_check_array(const psg_set *set, const char *name, const void *array);
psg_status psg_check_write(const psg_set *set, psg_write write);
/* An output of that type and shape, contiguous, but for what is allowed. */
typedef enum psg_allow { PSG_ALLOW_NOTHING = 0, PSG_ALLOW_STRIDES = 1, PSG_ALLOW_F64 = 2 } psg_allow;
psg_status psg_check_output(const psg_set *set, const char *name, const psg_tensor *out, psg_dtype dtype, int rank,
                            const int64_t *shape, psg_allow allow);
/* Tensors given one a gradient: contiguous, of the gradient's shape, real type. */
psg_status psg_check_tensors(const psg_set *set, const char *argument, const psg_tensor *tensors, psg_allow allow);

/* ---- for the rooms ---- */

/* A gradient, or (in_block) a block of one, under check. */
typedef struct psg_check {
    const psg_set *set;
    size_t index, block;               /* of the gradient in the set, of the block in it */
    bool in_block;
    const psg_gradient *gradient;
    int64_t numel;
} psg_check;

/* "<function>: gradients[k] (name), block b: <text>" */
psg_status psg_check_fail(const psg_check *at, psg_status status, const char *format, ...) PSG_PRINTF(3, 4);
/* A (B, p) or (B, T, p) view of the gradient's type and batch size. */
psg_status psg_check_operand(const psg_check *at, const psg_tensor *x, const char *name);
/* rows x columns elements, row i at offset + i * stride, must lie in the parameter without overlapping, as a part of
 * its shape: within rows of its last dimensions. */
psg_status psg_check_place(const psg_check *at, int64_t offset, int64_t rows, int64_t columns, int64_t stride);
/* A block, at in_block. */
psg_status psg_check_block(const psg_check *at, const psg_block *block);

static inline int64_t psg_positions_of(const psg_tensor *x) { return x->rank == 3 ? x->shape[1] : 1; }
static inline int64_t psg_features_of(const psg_tensor *x) { return x->shape[x->rank - 1]; }

#endif
