#include "op_cost.h"

#include <stdbool.h>
#include <string.h>

static double bytes_of(const psg_tensor *t) { return (double)psg_tensor_count(t) * (double)psg_dtype_size(t->dtype); }

static int is_any(const psg_call *call, const char *const *names) {
    for (; *names; names++) {
        if (strcmp(call->op->name, *names) == 0) return 1;
    }
    return 0;
}

/* ---- products ---- */

/* The rows that every weight of the op multiplies: positions of samples. */
static double rows_of(const psg_call *call) {
    static const char *const last[] = { "linear", "in_projection", NULL };
    static const char *const plane[] = { "conv", NULL };
    static const char *const steps[] = { "lstm", "gru", "rnn_tanh", "rnn_relu", NULL };
    const psg_tensor *y = &call->output, *x = &call->input[0].value;
    double count = (double)psg_tensor_count(y);
    if (is_any(call, last)) return count / (double)y->shape[y->rank - 1];
    if (is_any(call, plane)) return count / (double)y->shape[1];
    return is_any(call, steps) ? (double)(x->shape[0] * x->shape[1]) : 0;
}

static double weight_elements(const psg_call *call, int has_input_grad) {
    double sum = 0;
    for (int k = 0, seen = 0; k < call->input_count; k++) {
        const psg_operand *w = &call->input[k];
        if (w->role != PSG_PARAMETER || w->value.rank < 2) continue;
        if (seen++ > 0 || has_input_grad) sum += (double)psg_tensor_count(&w->value);   /* the first multiplies x */
    }
    return sum;
}

/* Two products of every query with every key that it may see. */
static double attention_products(const psg_call *call) {
    if (strcmp(call->op->name, "head_attention") != 0) return 0;
    const psg_operand *key = &call->input[1];          /* absent: in one tensor with the queries */
    const psg_tensor *y = &call->output, *keys = key->role == PSG_ABSENT ? y : &key->value;
    double length = (double)keys->shape[keys->rank - 2];
    if (((const psg_head_attention_attributes *)call->attributes)->is_causal) length = (length + 1) / 2;
    return 2 * (double)psg_tensor_count(y) * length;
}

/* ---- bytes ---- */

/* Ops that read as much of a value as they write; forward, and their backward looks at the gradient alone. */
static int is_copy(const psg_call *call) {
    static const char *const names[] = { "embedding", "flatten", "permute", "reshape", "select", "slice", "squeeze",
                                         "transpose", "unsqueeze", NULL };
    return is_any(call, names);
}

static int is_sum(const psg_call *call) {
    static const char *const names[] = { "add", "mean", "sum", NULL };
    return is_any(call, names);
}

static bench_pass forward_bytes(const psg_call *call) {
    bench_pass pass = { .written = bytes_of(&call->output) };
    for (int k = 0; k < call->input_count; k++) {
        const psg_operand *x = &call->input[k];
        if (x->role != PSG_ABSENT) pass.read += bytes_of(&x->value);
    }
    if (is_copy(call)) pass.read = pass.written;
    return pass;
}

static bench_pass backward_bytes(const psg_call *call, int is_product) {
    bench_pass pass = { .read = bytes_of(&call->grad_output) };
    for (int k = 0; k < call->input_count; k++) {
        const psg_operand *x = &call->input[k];
        if (x->grad.data) pass.written += bytes_of(&x->grad);
        bool reads = is_product ? x->role == PSG_PARAMETER : x->grad.data && !is_copy(call) && !is_sum(call);
        if (reads) pass.read += bytes_of(&x->value);
    }
    if (pass.written == 0) pass.read = 0;
    return pass;
}

bench_pass op_cost(const psg_call *call, int backward) {
    double rows = rows_of(call), attention = attention_products(call);
    bench_pass pass = backward ? backward_bytes(call, rows > 0) : forward_bytes(call);
    int has_input_grad = call->input_count > 0 && call->input[0].grad.data;
    pass.flops = 2 * rows * weight_elements(call, !backward || has_input_grad) + 2 * attention * (backward ? 2 : 1);
    return pass;
}
