/* softmax, log_softmax over one dimension. */
#include "base/context.h"
#include "base/shapes.h"
#include "kernels.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops/activation.h"
#include "psg/ops/arithmetic.h"

/* psg_op.traits: whether the logarithm is the value. */
typedef struct softmax_kind {
    bool logarithm;
} softmax_kind;

/* Rows of `length` elements, `inner` apart: row r starts at (r / inner) * length * inner + r % inner. */
typedef void (*row_kernel)(size_t n, ptrdiff_t stride, const void *x, void *y);
typedef void (*row_backward_kernel)(size_t n, ptrdiff_t stride, const void *y, const void *gy, void *gx);

typedef struct softmax_job {
    row_kernel row;
    row_backward_kernel row_backward;
    int64_t length, inner;
    const psg_tensor *x, *gy, *out;   /* backward: x is the output */
} softmax_job;

/* ---- shape ---- */

static int dim_of(const psg_call *call) {
    const psg_softmax_attributes *attributes = call->attributes;
    return psg_operand_dim_of(call, attributes->dim, call->input[0].value.rank);
}

static psg_status softmax_shape(psg_call *call) {
    const psg_softmax_attributes *attributes = call->attributes;
    const psg_tensor *x = &call->input[0].value;
    int dim;
    psg_status status = psg_operands_real(call, 1);
    if (!status) status = psg_operand_dim(call, "dim", attributes->dim, x->rank, &dim);
    if (!status) status = psg_operand_carries_batch(call, 0);
    if (status) return status;
    if (psg_operand_per_sample(call, 0) && !dim) {
        return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "dim is %d, the batch dimension: a softmax over it mixes the "
                             "samples, so there are no per-sample gradients", attributes->dim);
    }
    return psg_output_like_input(call);
}

/* ---- forward and backward ---- */

static void softmax_rows(void *argument, size_t begin, size_t count) {
    const softmax_job *job = argument;
    for (int64_t r = (int64_t)begin; r < (int64_t)(begin + count); r++) {
        int64_t at = r / job->inner * job->length * job->inner + r % job->inner;
        const void *x = psg_tensor_offset(job->x, at);
        void *out = psg_tensor_offset(job->out, at);
        if (job->gy) {
            job->row_backward((size_t)job->length, job->inner, x, psg_tensor_offset(job->gy, at), out);
        } else {
            job->row((size_t)job->length, job->inner, x, out);
        }
    }
}

static void run(psg_call *call, const psg_tensor *x, const psg_tensor *gy, const psg_tensor *out) {
    int dim = dim_of(call);
    bool logarithm = ((const softmax_kind *)call->op->traits)->logarithm;
    const psg_kernel_table *kernels = psg_call_kernels(call);
    softmax_job job = { .x = x, .gy = gy, .out = out };
    job.row = logarithm ? kernels->log_softmax_row : kernels->softmax_row;
    job.row_backward = logarithm ? kernels->log_softmax_row_backward : kernels->softmax_row_backward;
    job.length = x->shape[dim];
    job.inner = psg_shape_product(x->rank - dim - 1, x->shape + dim + 1);
    if (!psg_tensor_count(x)) return;
    int64_t rows = psg_tensor_count(x) / job.length;
    psg_for_ranges(call->context, (size_t)rows, psg_range_unit(job.length), softmax_rows, &job);
}

static psg_status softmax_forward(psg_call *call) {
    run(call, &call->input[0].value, NULL, &call->output);
    return PSG_OK;
}

static psg_status softmax_backward(psg_call *call) {
    if (call->input[0].grad.data) run(call, &call->output, &call->grad_output, &call->input[0].grad);
    return PSG_OK;
}

static const char *const input_names[] = { "input" };

#define OP(symbol, takes_logarithm)                            \
    const psg_op psg_op_##symbol = {                           \
        .name = #symbol,                                       \
        .input_count = 1,                                      \
        .input_names = input_names,                            \
        .attributes_size = sizeof(psg_softmax_attributes),     \
        .shape = softmax_shape,                                \
        .forward = softmax_forward,                            \
        .backward = softmax_backward,                          \
        .traits = &(const softmax_kind){ takes_logarithm },    \
    }

OP(softmax, false);
OP(log_softmax, true);

static psg_var record(psg_tape *tape, const psg_op *op, psg_var x, int dim) {
    psg_softmax_attributes attributes = { dim };
    return psg_record(tape, op, &x, 1, &attributes);
}

psg_var psg_softmax(psg_tape *tape, psg_var x, int dim) { return record(tape, &psg_op_softmax, x, dim); }
psg_var psg_log_softmax(psg_tape *tape, psg_var x, int dim) { return record(tape, &psg_op_log_softmax, x, dim); }
psg_var psg_softmin(psg_tape *tape, psg_var x, int dim) { return psg_softmax(tape, psg_scale(tape, x, -1), dim); }
