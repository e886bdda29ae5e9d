/* What a question checks before it writes anything. */
#ifndef PSG_GRADIENT_CHECK_H
#define PSG_GRADIENT_CHECK_H

#include <stdbool.h>

#include "base/context.h"
#include "psg/gradient.h"

/* A gradient, or a tensor for one, or (in_block) a block of one, under check. */
typedef struct psg_check {
    psg_context *context;
    const char *function, *argument;   /* argument NULL: gradients */
    size_t index, block;               /* of the gradient in the set, of the block in it */
    bool in_block;
    const psg_gradient *gradient;
    int64_t numel;
} psg_check;

/* Checks a gradient set and names what is wrong in the context's message, as "<function>: ...". */
psg_status psg_check_set(psg_context *context, const char *function, const psg_gradient *const *gradients,
                         size_t count);
/* The same for questions that need gradients of single samples: a batch_coupled one is PSG_ERR_UNSUPPORTED. */
psg_status psg_check_questions(psg_context *context, const char *function, const psg_gradient *const *gradients,
                               size_t count);
psg_status psg_check_write(psg_context *context, const char *function, psg_write write);
/* Checks tensors given one a gradient: contiguous, of the gradient's shape, real type or (allow_f64) PSG_F64. */
psg_status psg_check_tensors(psg_context *context, const char *function, const char *argument,
                             const psg_gradient *const *gradients, size_t count, const psg_tensor *tensors,
                             bool allow_f64);

/* ---- for the rooms ---- */

/* "<function>: <argument>[k] (name), block b: <text>" */
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
