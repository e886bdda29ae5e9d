/* (damping I + J^T J / B)^-1 v by Woodbury: everything but two questions happens in B x B. */
#include "base/context.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/shape.h"
#include "blas/lapack.h"
#include "gradient/piece.h"
#include "gradient/check.h"
#include "psg/linalg.h"

/* x = (damping B I + J J^T)^-1 J v; gram holds J J^T and is overwritten. */
static psg_status solve(psg_context *context, double *gram, int64_t batch, double damping, double *x) {
    for (int64_t n = 0; n < batch; n++) gram[n * batch + n] += damping * (double)batch;
    int saved = psg_blas_enter(context);
    bool solved = psg_cholesky_solve(batch, gram, x);
    psg_blas_leave(context, saved);
    if (solved) return PSG_OK;
    return psg_fail(context, PSG_ERR_NUMERIC,
                    "psg_natural_gradient: damping B I + J J^T is not positive definite at damping %g", damping);
}

/* out = (v - sum) / damping, with sum in double where out is. */
static void combine(const psg_kernel_table *kernels, const psg_tensor *v, double damping, double *sum,
                    const psg_tensor *out) {
    size_t count = (size_t)psg_tensor_count(v);
    for (size_t i = 0; i < count; i++) sum[i] = -sum[i];
    kernels->add_to_f64(count, 1.0, v->data, sum);
    kernels->from_f64(count, 1 / damping, sum, out->data, false);
}

static psg_status direction(psg_context *context, const psg_gradient *const *gradients, size_t count, double damping,
                            const psg_tensor *v, const psg_tensor *outs, double *gram, double *x, double *sum) {
    int64_t batch = gradients[0]->batch_size;
    psg_status status = psg_dot(context, gradients, count, v, x);
    if (!status) status = psg_gram(context, gradients, count, gram);
    if (!status) status = solve(context, gram, batch, damping, x);
    for (size_t k = 0; !status && k < count; k++) {
        psg_tensor sums = psg_tensor_of(PSG_F64, sum, outs[k].rank, outs[k].shape);
        status = psg_weighted_sum(context, &gradients[k], 1, x, PSG_OVERWRITE, &sums);
        if (!status) combine(context->kernels[gradients[k]->dtype], &v[k], damping, sum, &outs[k]);
    }
    return status;
}

psg_status psg_natural_gradient(psg_context *context, const psg_gradient *const *gradients, size_t count,
                                double damping, const psg_tensor *v, const psg_tensor *outs) {
    psg_status status = psg_check_questions(context, "psg_natural_gradient", gradients, count);
    if (!status) status = psg_check_tensors(context, "psg_natural_gradient", "v", gradients, count, v, false);
    if (!status) status = psg_check_tensors(context, "psg_natural_gradient", "outs", gradients, count, outs, false);
    if (status) return status;
    if (!(damping > 0)) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_natural_gradient: damping is %g, must be > 0", damping);
    }
    int64_t batch = gradients[0]->batch_size, largest = 0, cells;
    for (size_t k = 0; k < count; k++) {
        int64_t numel = psg_gradient_numel(gradients[k]);
        if (numel > largest) largest = numel;
    }
    size_t bytes;
    if (!psg_size_multiply(batch, batch + 1, &cells) || __builtin_add_overflow(cells, largest, &cells) ||
        !psg_size_bytes(cells, sizeof(double), &bytes)) {
        return psg_fail(context, PSG_ERR_OVERFLOW, "psg_natural_gradient: B x B does not fit, B = %lld",
                        (long long)batch);
    }
    double *memory = psg_alloc(context, bytes);
    if (!memory) return psg_fail_memory(context, "psg_natural_gradient", bytes);
    status = direction(context, gradients, count, damping, v, outs, memory, memory + batch * batch,
                       memory + batch * batch + batch);
    psg_free(context, memory);
    return status;
}
