/* scaled_dot_product_attention: softmax(scale q k^T + mask) v. */
#include <math.h>
#include <string.h>

#include "base/shapes.h"
#include "ops/attention/attention_job.h"
#include "ops/shared/operand.h"
#include "psg/ops.h"

enum { QUERY, KEY, VALUE, MASK };

typedef psg_scaled_dot_product_attention_options options;

/* Dimension d of the output's leading ones, as operand k has it: its own, or 1 where it has none. */
static int64_t leading(const psg_call *call, int k, int rank, int d) {
    const psg_tensor *x = &call->input[k].value;
    int own = d - (rank + 2 - x->rank);
    return own < 0 ? 1 : x->shape[own];
}

/* The leading dimensions of the output, and of the keys: fewer heads with enable_gqa. */
typedef struct extents {
    int rank;
    int64_t queries[PSG_MAX_RANK], keys[PSG_MAX_RANK];
    int batch;
    int64_t group;
} extents;

/* ---- shape ---- */

static psg_status fail_pair(psg_call *call, int a, int b, const char *rule) {
    char text[PSG_SHAPE_TEXT], other[PSG_SHAPE_TEXT];
    return psg_call_fail(call, PSG_ERR_SHAPE, "%s has shape %s and %s %s, %s", call->op->input_names[a],
                         psg_tensor_text(&call->input[a].value, text), call->op->input_names[b],
                         psg_tensor_text(&call->input[b].value, other), rule);
}

static psg_status check_ranks(psg_call *call, extents *x) {
    x->rank = 0;
    for (int k = QUERY; k <= VALUE; k++) {
        int rank = call->input[k].value.rank;
        if (rank < 2 || (rank < 3 && call->input[k].role == PSG_BATCHED)) {
            return psg_call_fail(call, PSG_ERR_SHAPE, "%s has rank %d, must be (N, *, length, size), of rank >= 3",
                                 call->op->input_names[k], rank);
        }
        if (rank - 2 > x->rank) x->rank = rank - 2;
    }
    if (x->rank < 1) return psg_call_fail(call, PSG_ERR_SHAPE, "query, key and value have no batch dimension");
    x->batch = !true && x->rank + 2 >= 3 ? 1 : 0;
    if (x->batch < x->rank) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "in a batch_second pass query, key and value need rank >= 4, (H, "
                         "N, L, E); multi_head_attention takes (L, N, E)");
}

/* Constants may repeat; what carries the batch has every dimension of the output. */
static psg_status merge(psg_call *call, extents *x, int k, int64_t *shape) {
    const psg_operand *operand = &call->input[k];
    if (operand->role == PSG_BATCHED && operand->value.rank != x->rank + 2) {
        return fail_pair(call, k, operand->value.rank < call->input[QUERY].value.rank ? QUERY : KEY,
                         "what carries the batch must be of one rank");
    }
    for (int d = 0; d < x->rank; d++) {
        int64_t size = leading(call, k, x->rank, d);
        if (size == shape[d] || (size == 1 && operand->role != PSG_BATCHED)) continue;
        if (shape[d] >= 0) return fail_pair(call, QUERY, k, "leading dimensions must agree");
        shape[d] = size;
    }
    return PSG_OK;
}

/* A dimension that no operand fills has size 1. */
static void fill_ones(int rank, int64_t *shape) {
    for (int d = 0; d < rank; d++) {
        if (shape[d] < 0) shape[d] = 1;
    }
}

static psg_status check_heads(psg_call *call, extents *x) {
    const options *o = call->attributes;
    int last = x->rank - 1;
    x->group = 1;
    if (!o->enable_gqa || x->queries[last] == x->keys[last]) return PSG_OK;
    if (x->rank < 2 || last == x->batch) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "enable_gqa: there is no dimension of heads, dimension %d is the "
                             "batch", x->batch);
    }
    if (!x->keys[last] || x->queries[last] % x->keys[last]) {
        return fail_pair(call, QUERY, KEY, "with enable_gqa the heads (dimension -3) of query must be a multiple of "
                         "those of key and value");
    }
    x->group = x->queries[last] / x->keys[last];
    return PSG_OK;
}

static psg_status measure(psg_call *call, extents *x) {
    const options *o = call->attributes;
    psg_status status = check_ranks(call, x);
    for (int d = 0; d < PSG_MAX_RANK; d++) x->queries[d] = x->keys[d] = -1;
    if (!status) status = merge(call, x, QUERY, x->queries);
    if (o->enable_gqa) {
        memcpy(x->keys, x->queries, sizeof x->keys);
        if (x->rank) x->keys[x->rank - 1] = -1;
    }
    for (int k = KEY; k <= VALUE && !status; k++) status = merge(call, x, k, o->enable_gqa ? x->keys : x->queries);
    if (status) return status;
    if (o->enable_gqa) memcpy(x->queries, x->keys, (size_t)(x->rank - 1) * sizeof *x->keys);
    else memcpy(x->keys, x->queries, sizeof x->keys);
    fill_ones(x->rank, x->queries);
    fill_ones(x->rank, x->keys);
    return check_heads(call, x);
}

static psg_status check_sizes(psg_call *call) {
    const psg_tensor *q = &call->input[QUERY].value, *k = &call->input[KEY].value, *v = &call->input[VALUE].value;
    if (q->shape[q->rank - 1] != k->shape[k->rank - 1]) {
        return fail_pair(call, QUERY, KEY, "their last dimensions must agree");
    }
    if (k->shape[k->rank - 2] != v->shape[v->rank - 2]) {
        return fail_pair(call, KEY, VALUE, "they must have as many positions (dimension -2)");
    }
    return PSG_OK;
}

static psg_status fail_mask(psg_call *call, const extents *x, psg_status status) {
    char text[PSG_SHAPE_TEXT], whole[PSG_SHAPE_TEXT];
    int64_t shape[PSG_MAX_RANK];
    const psg_tensor *q = &call->input[QUERY].value, *k = &call->input[KEY].value;
    memcpy(shape, x->queries, (size_t)x->rank * sizeof *shape);
    shape[x->rank] = q->shape[q->rank - 2];
    shape[x->rank + 1] = k->shape[k->rank - 2];
    return psg_call_fail(call, status, "attn_mask has shape %s, must broadcast to %s%s",
                         psg_tensor_text(&call->input[MASK].value, text), psg_shape_text(x->rank + 2, shape, whole),
                         status == PSG_ERR_BATCH ? ", a batched one with the batch in the same dimension" : "");
}

static psg_status check_mask(psg_call *call, const extents *x) {
    const psg_operand *mask = &call->input[MASK];
    const psg_tensor *m = &mask->value, *q = &call->input[QUERY].value, *k = &call->input[KEY].value;
    if (mask->role == PSG_ABSENT) return PSG_OK;
    if (m->rank < 2 || m->rank > x->rank + 2) return fail_mask(call, x, PSG_ERR_SHAPE);
    int64_t rows = m->shape[m->rank - 2], columns = m->shape[m->rank - 1];
    bool fits = (rows == 1 || rows == q->shape[q->rank - 2]) && (columns == 1 || columns == k->shape[k->rank - 2]);
    for (int d = 0; d < x->rank; d++) {
        int64_t size = leading(call, MASK, x->rank, d);
        fits = fits && (size == 1 || size == x->queries[d]);
    }
    if (!fits) return fail_mask(call, x, PSG_ERR_SHAPE);
    int64_t batch = leading(call, MASK, x->rank, x->batch);
    bool shared = mask->role == PSG_PARAMETER && mask->wants_grad && batch != 1;
    bool lost = psg_operand_per_sample(call, MASK) && (m->rank != x->rank + 2 || batch != call->pass->batch_size);
    return shared || lost ? fail_mask(call, x, PSG_ERR_BATCH) : PSG_OK;
}

static psg_status shape(psg_call *call) {
    const options *o = call->attributes;
    extents x;
    psg_status status = psg_operands_real(call, VALUE + 1);
    if (!status) status = measure(call, &x);
    if (!status) status = check_sizes(call);
    for (int k = QUERY; k <= VALUE && !status; k++) status = psg_operand_carries_batch(call, k);
    if (!status) status = check_mask(call, &x);
    if (!status) status = psg_attention_check_dropout(call, o->dropout_p, x.queries[x.batch]);
    if (!status && o->dropout_p > 0 && !call->pass->evaluation && call->input[QUERY].role != PSG_BATCHED) {
        status = psg_call_fail(call, PSG_ERR_BATCH, "query carries no batch, but a dropout mask belongs to a sample");
    }
    if (status) return status;
    const psg_tensor *q = &call->input[QUERY].value, *v = &call->input[VALUE].value;
    x.queries[x.rank] = q->shape[q->rank - 2];
    x.queries[x.rank + 1] = v->shape[v->rank - 1];
    return psg_call_output(call, q->dtype, x.rank + 2, x.queries);
}

/* ---- where everything lies ---- */

/* Steps of an operand over the leading dimensions, 0 where it repeats; a task takes `group` of the last one. */
static void set_steps(const psg_tensor *x, const extents *e, int64_t group, int64_t *step) {
    int64_t stride = x->shape[x->rank - 2] * x->shape[x->rank - 1];
    for (int d = e->rank - 1; d >= 0; d--) {
        int own = d - (e->rank + 2 - x->rank);
        int64_t size = own < 0 ? 1 : x->shape[own];
        step[d] = size == 1 ? 0 : stride * (d == e->rank - 1 ? group : 1);
        stride *= size;
    }
}

static void set_mask(psg_call *call, psg_attention_job *job, const extents *x) {
    const psg_tensor *m = &call->input[MASK].value;
    job->first.mask = psg_attention_mask_of(&call->input[MASK], true);
    if (!job->first.mask.type) return;
    int64_t columns = m->shape[m->rank - 1], rows = m->shape[m->rank - 2];
    set_steps(m, x, x->group, job->step[PSG_PATH_MASK]);
    memcpy(job->step[PSG_PATH_GRAD_MASK], job->step[PSG_PATH_MASK], sizeof job->step[PSG_PATH_MASK]);
    job->first.mask.head_stride = job->step[PSG_PATH_MASK][x->rank - 1] / x->group;
    job->first.mask.row_stride = rows == 1 ? 0 : columns;
    job->first.mask.column_stride = columns == 1 ? 0 : 1;
}

static psg_status describe(psg_call *call, psg_attention_job *job) {
    const options *o = call->attributes;
    const psg_tensor *q = &call->input[QUERY].value, *k = &call->input[KEY].value, *v = &call->input[VALUE].value;
    extents x;
    psg_status status = measure(call, &x);
    if (status) return status;
    int64_t e = q->shape[q->rank - 1], ev = v->shape[v->rank - 1], l = q->shape[q->rank - 2], s = k->shape[k->rank - 2];
    *job = (psg_attention_job){ .call = call, .rank = x.rank, .batch = x.batch, .dropout_p = o->dropout_p };
    memcpy(job->shape, x.keys, sizeof job->shape);
    job->first = (psg_attention){
        .group = (size_t)x.group, .queries = (size_t)l, .keys = (size_t)s, .key_size = (size_t)e,
        .value_size = (size_t)ev, .scale = o->scale != 0 ? o->scale : 1 / sqrt((double)e), .causal = o->is_causal != 0,
        .q = q->data, .k = k->data, .v = v->data, .q_head = l * e, .q_row = e, .k_row = e, .v_row = ev,
        .out = call->output.data, .out_head = l * ev, .out_row = ev,
    };
    set_steps(q, &x, x.group, job->step[PSG_PATH_Q]);
    set_steps(k, &x, 1, job->step[PSG_PATH_K]);
    set_steps(v, &x, 1, job->step[PSG_PATH_V]);
    set_steps(&call->output, &x, x.group, job->step[PSG_PATH_OUT]);
    set_mask(call, job, &x);
    return PSG_OK;
}

/* ---- forward and backward ---- */

static psg_status forward(psg_call *call) {
    psg_attention_job job;
    psg_status status = describe(call, &job);
    return status ? status : psg_attention_forward(&job);
}

/* Where the gradient of the mask is added up: its own, or for a parameter one array a sample. */
static psg_status prepare_mask_gradient(psg_call *call, psg_attention_job *job, psg_tensor *rows) {
    const psg_operand *mask = &call->input[MASK];
    *rows = mask->grad;
    if (mask->role == PSG_PARAMETER && mask->wants_grad) {
        int64_t shape[2] = { call->output.shape[job->batch], psg_tensor_count(&mask->value) };
        *rows = psg_tensor_of(mask->value.dtype, NULL, 2, shape);
        job->step[PSG_PATH_GRAD_MASK][job->batch] = shape[1];
        if (!psg_tensor_count(rows)) return PSG_OK;
        rows->data = psg_call_keep(call, (size_t)psg_tensor_count(rows) * psg_dtype_size(rows->dtype));
        if (!rows->data) return PSG_ERR_MEMORY;
    }
    if (rows->data) memset(rows->data, 0, (size_t)psg_tensor_count(rows) * psg_dtype_size(rows->dtype));
    job->first.grad_mask = rows->data;
    return PSG_OK;
}

static psg_status backward(psg_call *call) {
    psg_attention_job job;
    psg_tensor rows;
    psg_status status = describe(call, &job);
    if (!status) status = prepare_mask_gradient(call, &job, &rows);
    if (status) return status;
    job.first.grad_out = call->grad_output.data;
    job.first.grad_q = call->input[QUERY].grad.data;
    job.first.grad_k = call->input[KEY].grad.data;
    job.first.grad_v = call->input[VALUE].grad.data;
    status = psg_attention_backward(&job);
    if (status || call->input[MASK].role != PSG_PARAMETER || !call->input[MASK].wants_grad) return status;
    return psg_call_add_rows(call, MASK, &rows);
}

static const char *const names[] = { "query", "key", "value", "attn_mask" };

const psg_op psg_op_scaled_dot_product_attention = {
    .name = "scaled_dot_product_attention",
    .input_count = 4,
    .input_names = names,
    .optional_inputs = 1u << MASK,
    .parameter_inputs = 1u << MASK,
    .attributes_size = sizeof(options),
    .shape = shape,
    .forward = forward,
    .backward = backward,
};

psg_var psg_scaled_dot_product_attention(psg_tape *tape, psg_var query, psg_var key, psg_var value, psg_var attn_mask,
                                         const psg_scaled_dot_product_attention_options *given) {
    const psg_var inputs[] = { query, key, value, attn_mask };
    return psg_record(tape, &psg_op_scaled_dot_product_attention, inputs, 4, given);
}
