/* add, sub, mul, div, scale.  Parameters take rows: the output gradient, times the slope, summed over the dimensions
 * along which the parameter is repeated. */
#include <stddef.h>
#include <string.h>

#include "base/context.h"
#include "base/shapes.h"
#include "kernels.h"
#include "ops/arithmetic/broadcast.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops/arithmetic.h"

enum { A, B, OUTPUT, NOTHING };

/* The slope of the output with respect to operand k: sign[k] times factor[k], all over b where divided. */
typedef struct pair_traits {
    size_t kernel;             /* where the table of kernels has f(a, b) */
    double sign[2];
    int factor[2];
    bool divided;
} pair_traits;

#define KERNEL(name) offsetof(psg_kernel_table, broadcast_##name)

static const char *const pair_names[] = { "a", "b" };

/* ---- to = factor * from ---- */

typedef struct scale_job {
    const psg_kernel_table *kernels;
    double factor;
    const psg_tensor *from, *to;
} scale_job;

static void scale_range(void *argument, size_t begin, size_t count) {
    const scale_job *job = argument;
    int64_t at = (int64_t)begin;
    job->kernels->scale_row(count, job->factor, psg_tensor_offset(job->from, at), 1, psg_tensor_offset(job->to, at),
                            false);
}

static void copy_scaled(psg_call *call, double factor, const psg_tensor *from, const psg_tensor *to) {
    scale_job job = { psg_call_kernels(call), factor, from, to };
    psg_for_ranges(call->context, (size_t)psg_tensor_count(from), PSG_RANGE, scale_range, &job);
}

/* ---- the shapes of pairs ---- */

/* Operand k with the output's rank, see psg_operand_aligned. */
static psg_tensor aligned(const psg_call *call, int k) { return psg_operand_aligned(call, k, call->output.rank); }

static psg_status check_operand(psg_call *call, int k) {
    psg_status status = psg_operand_check_aligned(call, k, call->output.rank);
    if (status || !psg_operand_per_sample(call, k)) return status;
    const psg_tensor whole = aligned(call, k), *output = &call->output;
    if (!output->rank || whole.shape[0] == output->shape[0]) return PSG_OK;
    char text[PSG_SHAPE_TEXT], all[PSG_SHAPE_TEXT];
    return psg_call_fail(call, PSG_ERR_BATCH, "%s of shape %s would be broadcast over the batch of the output %s",
                         pair_names[k], psg_tensor_text(&whole, text), psg_tensor_text(output, all));
}

static psg_status pair_shape(psg_call *call) {
    int rank_a = call->input[A].value.rank, rank_b = call->input[B].value.rank;
    int rank = rank_a > rank_b ? rank_a : rank_b;
    const psg_tensor a = psg_operand_aligned(call, A, rank), b = psg_operand_aligned(call, B, rank);
    int64_t shape[PSG_MAX_RANK];
    psg_status status = psg_operands_real(call, 2);
    if (status) return status;
    if (!psg_broadcast_shape(&a, &b, shape)) {
        char text_a[PSG_SHAPE_TEXT], text_b[PSG_SHAPE_TEXT];
        return psg_call_fail(call, PSG_ERR_SHAPE, "a has shape %s and b %s, which do not broadcast%s",
                             psg_tensor_text(&call->input[A].value, text_a),
                             psg_tensor_text(&call->input[B].value, text_b), psg_call_is_batch_second(call)
                             ? "; what has no batch must have size 1 beside dimension 0, as (T, 1, D)" : "");
    }
    status = psg_call_output(call, a.dtype, rank, shape);
    if (!status) status = check_operand(call, A);
    return status ? status : check_operand(call, B);
}

/* What is not linear in values without a batch is no sum over samples. */
static psg_status product_shape(psg_call *call) {
    bool both = call->input[A].role == PSG_BATCHED && call->input[B].role == PSG_BATCHED;
    psg_status status = both ? psg_operand_carries_batch(call, A) : PSG_OK;
    if (!status && both) status = psg_operand_carries_batch(call, B);
    return status ? status : pair_shape(call);
}

static psg_status quotient_shape(psg_call *call) {
    psg_status status = psg_operand_carries_batch(call, B);
    return status ? status : product_shape(call);
}

/* ---- gradients: sign * whole * factor, summed onto an operand ---- */

/* Where the output has the batch; -1 in an ordinary pass, which tells no samples apart. */
static int sample_dim(const psg_call *call) {
    return call->pass->ordinary ? -1 : 0;
}

static bool fills(const psg_tensor *operand, const psg_tensor *output) {
    return psg_tensor_count(operand) == psg_tensor_count(output);
}

/* to: of an operand's shape, or one that broadcasts to the output's. */
static void reduce(psg_call *call, const psg_tensor *whole, const psg_tensor *factor, double sign,
                   const psg_tensor *to) {
    if (!fills(to, whole)) {
        psg_broadcast_sum(call->context, whole, factor, sign, to, sample_dim(call));
    } else if (!factor) {
        copy_scaled(call, sign, whole, to);
    } else {
        psg_tensor product = *whole;
        product.data = to->data;
        psg_broadcast_apply(call->context, psg_call_kernels(call)->broadcast_mul, &product, whole, factor);
        if (sign != 1) copy_scaled(call, sign, &product, &product);
    }
}

static psg_status keep_like(psg_call *call, psg_tensor *tensor) {
    tensor->data = psg_call_keep(call, (size_t)psg_tensor_count(tensor) * psg_dtype_size(tensor->dtype));
    return tensor->data ? PSG_OK : PSG_ERR_MEMORY;
}

/* Whether parameter k, dimensions of size 1 in front apart, is the output's last dimensions, behind the batch: then the
 * output gradient holds its rows already, as (B, *, P). */
static bool rows_of_output(const psg_call *call, int k, psg_tensor *rows) {
    const psg_tensor p = aligned(call, k), *output = &call->output;
    int start = 0, rank = output->rank;
    while (start < rank && p.shape[start] == 1) start++;
    if (start == rank || start <= sample_dim(call)) return false;
    if (!psg_shape_equal(rank - start, p.shape + start, rank - start, output->shape + start)) return false;
    *rows = call->grad_output;
    psg_tensor_merge(rows, start, rank - 1);
    if (rows->rank == 1) psg_tensor_merge(rows, 0, -1);
    return true;
}

/* One row a sample, (B, P), summed over every other dimension along which parameter k is repeated. */
static psg_status sum_rows(psg_call *call, int k, const psg_tensor *whole, const psg_tensor *factor, double sign,
                           psg_tensor *rows) {
    const psg_tensor p = aligned(call, k);
    int64_t shape[PSG_MAX_RANK], samples = call->pass->ordinary ? 1 : whole->shape[0];
    memcpy(shape, p.shape, sizeof shape);
    if (!call->pass->ordinary) shape[0] = samples;
    psg_tensor sums = psg_tensor_of(whole->dtype, NULL, whole->rank, shape);
    psg_status status = keep_like(call, &sums);
    if (status) return status;
    reduce(call, whole, factor, sign, &sums);
    *rows = psg_tensor_of(sums.dtype, sums.data, 2, (int64_t[]){ samples, psg_tensor_count(&p) });
    return PSG_OK;
}

static psg_status parameter_gradient(psg_call *call, int k, const psg_tensor *whole, const psg_tensor *factor,
                                     double sign) {
    psg_tensor rows;
    bool ready = sign == 1 && !factor && whole->data == call->grad_output.data && rows_of_output(call, k, &rows);
    psg_status status = ready ? PSG_OK : sum_rows(call, k, whole, factor, sign, &rows);
    return status ? status : psg_call_add_rows(call, k, &rows);
}

/* The array that a slope has as its factor, in *view; NULL: none. */
static const psg_tensor *factor_of(const psg_call *call, int factor, psg_tensor *view) {
    if (factor == NOTHING) return NULL;
    *view = factor == OUTPUT ? call->output : aligned(call, factor);
    return view;
}

/* The output gradient over b: in the place of a's gradient when it is that. */
static psg_status divide(psg_call *call, psg_tensor *whole) {
    const psg_tensor *grad = &call->input[A].grad;
    *whole = call->grad_output;
    if (grad->data && fills(grad, whole)) whole->data = grad->data;
    else if (keep_like(call, whole)) return PSG_ERR_MEMORY;
    const psg_tensor b = aligned(call, B);
    psg_broadcast_apply(call->context, psg_call_kernels(call)->broadcast_div, whole, &call->grad_output, &b);
    return PSG_OK;
}

static psg_status pair_backward(psg_call *call) {
    const pair_traits *rule = call->op->traits;
    psg_tensor whole = call->grad_output;
    psg_status status = rule->divided ? divide(call, &whole) : PSG_OK;
    for (int k = 0; k < 2 && !status; k++) {
        const psg_operand *operand = &call->input[k];
        psg_tensor view, grad = aligned(call, k);
        const psg_tensor *factor = factor_of(call, rule->factor[k], &view);
        grad.data = operand->grad.data;
        if (grad.data && grad.data != whole.data) {
            reduce(call, &whole, factor, rule->sign[k], &grad);
        } else if (operand->role == PSG_PARAMETER && operand->wants_grad) {
            status = parameter_gradient(call, k, &whole, factor, rule->sign[k]);
        }
    }
    return status;
}

static psg_status pair_forward(psg_call *call) {
    const pair_traits *rule = call->op->traits;
    psg_pair_kernel kernel;
    memcpy(&kernel, (const char *)psg_call_kernels(call) + rule->kernel, sizeof kernel);
    const psg_tensor a = aligned(call, A), b = aligned(call, B);
    psg_broadcast_apply(call->context, kernel, &call->output, &a, &b);
    return PSG_OK;
}

/* ---- the ops: rows of pair_list.h ---- */

#define PAIR(name_, operator, b_kind, shape_, ...)                                                                     \
    const psg_op psg_op_##name_ = {                                                                                    \
        .name = #name_,                                                                                                \
        .input_count = 2,                                                                                              \
        .input_names = pair_names,                                                                                     \
        .parameter_inputs = 1u << A | 1u << B,                                                                         \
        .shape = shape_,                                                                                               \
        .forward = pair_forward,                                                                                       \
        .backward = pair_backward,                                                                                     \
        .traits = &(const pair_traits){ KERNEL(name_), __VA_ARGS__ },                                                  \
    };                                                                                                                 \
    psg_var psg_##name_(psg_tape *tape, psg_var a, psg_var b) {                                                        \
        return psg_record(tape, &psg_op_##name_, (psg_var[]){ a, b }, 2, NULL);                                        \
    }
#include "pair_list.h"

/* ---- scale ---- */

static psg_status scale_shape(psg_call *call) {
    psg_status status = psg_operands_real(call, 1);
    return status ? status : psg_output_like_input(call);
}

static double scale_factor(const psg_call *call) {
    const psg_scale_attributes *attributes = call->attributes;
    return attributes->factor;
}

static psg_status scale_forward(psg_call *call) {
    copy_scaled(call, scale_factor(call), &call->input[0].value, &call->output);
    return PSG_OK;
}

static psg_status scale_backward(psg_call *call) {
    const psg_tensor *grad = &call->input[0].grad;
    if (grad->data) copy_scaled(call, scale_factor(call), &call->grad_output, grad);
    return PSG_OK;
}

static const char *const scale_names[] = { "input" };

const psg_op psg_op_scale = {
    .name = "scale",
    .input_count = 1,
    .input_names = scale_names,
    .attributes_size = sizeof(psg_scale_attributes),
    .shape = scale_shape,
    .forward = scale_forward,
    .backward = scale_backward,
};

psg_var psg_scale(psg_tape *tape, psg_var x, double factor) {
    psg_scale_attributes attributes = { factor };
    return psg_record(tape, &psg_op_scale, &x, 1, &attributes);
}

psg_var psg_neg(psg_tape *tape, psg_var x) { return psg_scale(tape, x, -1); }
