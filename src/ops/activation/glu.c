/* glu: the first half of the input along a dimension, gated by the sigmoid of the second. */
#include "base/shapes.h"
#include "kernels.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops/activation.h"

/* ---- shape ---- */

static int dim_of(const psg_call *call) {
    const psg_glu_attributes *attributes = call->attributes;
    return psg_operand_dim_of(call, attributes->dim, call->input[0].value.rank);
}

static psg_status glu_shape(psg_call *call) {
    const psg_glu_attributes *attributes = call->attributes;
    psg_tensor x = call->input[0].value;
    int dim;
    psg_status status = psg_operands_real(call, 1);
    if (!status) status = psg_operand_dim(call, "dim", attributes->dim, x.rank, &dim);
    if (!status) status = psg_operand_not_batch(call, 0, "dim", dim, "some samples would gate others");
    if (status) return status;
    if (x.shape[dim] % 2) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "input has size %lld along dim %d, must be even",
                             (long long)x.shape[dim], attributes->dim);
    }
    x.shape[dim] /= 2;
    return psg_call_output(call, x.dtype, x.rank, x.shape);
}

/* ---- forward and backward ---- */

/* The output is `outer` runs of `run` elements; those of the input are twice as long, a then b.  A task is a piece of a
 * run. */
typedef struct glu_job {
    const psg_kernel_table *kernels;
    int64_t run, pieces;
    const psg_tensor *x, *y, *gx;    /* y: the output, or its gradient */
} glu_job;

static void glu_pieces(void *argument, size_t begin, size_t count) {
    const glu_job *job = argument;
    for (int64_t k = (int64_t)begin; k < (int64_t)(begin + count); k++) {
        int64_t start = k % job->pieces * PSG_RANGE, rest = job->run - start;
        int64_t y_at = k / job->pieces * job->run + start, a_at = k / job->pieces * 2 * job->run + start;
        size_t n = (size_t)(rest < PSG_RANGE ? rest : PSG_RANGE);
        const void *a = psg_tensor_offset(job->x, a_at), *b = psg_tensor_offset(job->x, a_at + job->run);
        void *y = psg_tensor_offset(job->y, y_at);
        if (job->gx) {
            job->kernels->glu_backward(n, a, b, y, psg_tensor_offset(job->gx, a_at),
                                       psg_tensor_offset(job->gx, a_at + job->run));
        } else {
            job->kernels->glu(n, a, b, y);
        }
    }
}

static void run(psg_call *call, const psg_tensor *y, const psg_tensor *gx) {
    int dim = dim_of(call);
    int64_t count = psg_tensor_count(y);
    if (!count) return;
    glu_job job = { .kernels = psg_call_kernels(call), .x = &call->input[0].value, .y = y, .gx = gx };
    job.run = psg_shape_product(y->rank - dim, y->shape + dim);
    job.pieces = (job.run + PSG_RANGE - 1) / PSG_RANGE;
    psg_for_ranges(call->context, (size_t)(count / job.run * job.pieces), psg_range_unit(job.run), glu_pieces, &job);
}

static psg_status glu_forward(psg_call *call) {
    run(call, &call->output, NULL);
    return PSG_OK;
}

static psg_status glu_backward(psg_call *call) {
    if (call->input[0].grad.data) run(call, &call->grad_output, &call->input[0].grad);
    return PSG_OK;
}

static const char *const input_names[] = { "input" };

const psg_op psg_op_glu = {
    .name = "glu",
    .input_count = 1,
    .input_names = input_names,
    .attributes_size = sizeof(psg_glu_attributes),
    .shape = glu_shape,
    .forward = glu_forward,
    .backward = glu_backward,
};

psg_var psg_glu(psg_tape *tape, psg_var x, int dim) {
    psg_glu_attributes attributes = { dim };
    return psg_record(tape, &psg_op_glu, &x, 1, &attributes);
}
