/* scaled_dot_product_attention: softmax(scale q k^T + mask) v. */
#include <math.h>
#include <string.h>

#include "base/shapes.h"
#include "ops/attention/attention_job.h"
#include "ops/shared/operand.h"
#include "ops/shared/strided_copy.h"
#include "psg/ops/attention.h"

enum { QUERY, KEY, VALUE, MASK };

typedef psg_scaled_dot_product_attention_options options;

/* Operands of one rank, and the leading dimensions of the output.  The last of these is that of the heads: key_heads
 * times group. */
typedef struct views {
    int rank, leading;
    psg_tensor x[4];
    int64_t shape[PSG_MAX_RANK], key_heads, group;
    int64_t queries, keys, size, value_size;
} views;

/* ---- shape ---- */

static psg_status fail_pair(psg_call *call, int a, int b, const char *rule) {
    char text[PSG_SHAPE_TEXT], other[PSG_SHAPE_TEXT];
    return psg_call_fail(call, PSG_ERR_SHAPE, "%s has shape %s and %s %s, %s", call->op->input_names[a],
                         psg_tensor_text(&call->input[a].value, text), call->op->input_names[b],
                         psg_tensor_text(&call->input[b].value, other), rule);
}

static psg_status check_ranks(psg_call *call, views *v) {
    for (int k = QUERY; k <= VALUE; k++) {
        int rank = call->input[k].value.rank;
        if (rank < 2 || (rank < 3 && call->input[k].role == PSG_BATCHED)) {
            return psg_call_fail(call, PSG_ERR_SHAPE, "%s has rank %d, must be (N, *, length, size), of rank >= 3",
                                 call->op->input_names[k], rank);
        }
        if (rank > v->rank) v->rank = rank;
    }
    v->leading = v->rank - 2;
    if (v->leading) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "query, key and value have no batch dimension");
}

/* Constants may repeat; what carries the batch has every dimension of the output. */
static psg_status merge(psg_call *call, views *v, int k) {
    const psg_operand *operand = &call->input[k];
    if (operand->role == PSG_BATCHED && operand->value.rank != v->rank) {
        return fail_pair(call, k, operand->value.rank < call->input[QUERY].value.rank ? QUERY : KEY,
                         "what carries the batch must be of one rank");
    }
    for (int d = 0; d < v->leading; d++) {
        int64_t size = v->x[k].shape[d];
        if (size == v->shape[d] || (size == 1 && operand->role != PSG_BATCHED)) continue;
        if (v->shape[d] >= 0) return fail_pair(call, QUERY, k, "leading dimensions must agree");
        v->shape[d] = size;
    }
    return PSG_OK;
}

static psg_status group_heads(psg_call *call, views *v, int64_t query_heads) {
    const options *o = call->attributes;
    int64_t *heads = &v->shape[v->leading - 1];
    v->key_heads = *heads;
    v->group = 1;
    if (!o->enable_gqa || query_heads == v->key_heads) return PSG_OK;
    if (v->leading < 2) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "enable_gqa: there is no dimension of heads beside the batch");
    }
    if (!v->key_heads || query_heads % v->key_heads) {
        return fail_pair(call, QUERY, KEY, "with enable_gqa the heads (before length and size) of query must be a "
                         "multiple of those of key and value");
    }
    *heads = query_heads;
    v->group = query_heads ? query_heads / v->key_heads : 1;
    return PSG_OK;
}

/* Operand k with as many dimensions as the scores have; (L, S) and less has no leading ones to be turned. */
static psg_tensor view_of(const psg_call *call, int k, int rank) {
    const psg_tensor *x = &call->input[k].value;
    int64_t shape[PSG_MAX_RANK];
    if (x->rank > 2) return psg_operand_aligned(call, k, rank);
    for (int d = 0; d < rank; d++) shape[d] = d < rank - x->rank ? 1 : x->shape[d - rank + x->rank];
    return psg_tensor_of(x->dtype, x->data, rank, shape);
}

static psg_status measure(psg_call *call, views *v) {
    const options *o = call->attributes;
    *v = (views){ 0 };
    psg_status status = check_ranks(call, v);
    if (status) return status;
    for (int k = QUERY; k <= VALUE && !status; k++) {
        v->x[k] = view_of(call, k, v->rank);
        bool leads = call->input[k].role != PSG_BATCHED && call->input[k].value.rank > 2;
        if (leads) status = psg_operand_check_aligned(call, k, v->rank);
    }
    if (status) return status;
    for (int d = 0; d < v->leading; d++) v->shape[d] = -1;
    status = merge(call, v, QUERY);
    int64_t heads = v->shape[v->leading - 1] < 0 ? 1 : v->shape[v->leading - 1];
    if (o->enable_gqa) v->shape[v->leading - 1] = -1;
    for (int k = KEY; k <= VALUE && !status; k++) status = merge(call, v, k);
    for (int d = 0; d < v->leading; d++) {
        if (v->shape[d] < 0) v->shape[d] = 1;   /* no operand has it */
    }
    v->queries = v->x[QUERY].shape[v->leading];
    v->keys = v->x[KEY].shape[v->leading];
    v->size = v->x[QUERY].shape[v->leading + 1];
    v->value_size = v->x[VALUE].shape[v->leading + 1];
    return status ? status : group_heads(call, v, heads);
}

static psg_status check_sizes(psg_call *call, const views *v) {
    if (v->size != v->x[KEY].shape[v->leading + 1]) {
        return fail_pair(call, QUERY, KEY, "their last dimensions must agree");
    }
    if (v->keys != v->x[VALUE].shape[v->leading]) {
        return fail_pair(call, KEY, VALUE, "they must have as many positions (dimension -2)");
    }
    return PSG_OK;
}

static psg_status check_mask(psg_call *call, views *v) {
    const psg_operand *mask = &call->input[MASK];
    char text[PSG_SHAPE_TEXT], whole[PSG_SHAPE_TEXT];
    if (mask->role == PSG_ABSENT) return PSG_OK;
    int64_t shape[PSG_MAX_RANK];
    memcpy(shape, v->shape, sizeof shape);
    shape[v->leading] = v->queries;
    shape[v->leading + 1] = v->keys;
    bool fits = mask->value.rank <= v->rank;
    if (fits) v->x[MASK] = view_of(call, MASK, v->rank);
    for (int d = 0; d < v->rank && fits; d++) fits = v->x[MASK].shape[d] == 1 || v->x[MASK].shape[d] == shape[d];
    if (!fits) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "attn_mask has shape %s, must broadcast to %s",
                             psg_tensor_text(&mask->value, text), psg_shape_text(v->rank, shape, whole));
    }
    if (mask->value.rank <= 2 && !psg_operand_keeps_batch(call, MASK)) return PSG_OK;
    if (mask->value.rank <= 2) {
        return psg_call_fail(call, PSG_ERR_BATCH, "attn_mask of shape %s carries the batch, but has no dimension for "
                             "it; make it a constant", psg_tensor_text(&mask->value, text));
    }
    psg_status status = psg_operand_check_aligned(call, MASK, v->rank);
    return status ? status : psg_operand_carries_batch(call, MASK);
}

static psg_status shape(psg_call *call) {
    const options *o = call->attributes;
    views v;
    psg_status status = psg_operands_real(call, VALUE + 1);
    if (!status) status = measure(call, &v);
    if (!status) status = check_sizes(call, &v);
    for (int k = QUERY; k <= VALUE && !status; k++) status = psg_operand_carries_batch(call, k);
    if (!status) status = check_mask(call, &v);
    if (!status) status = psg_attention_check_dropout(call, o->dropout_p, v.shape[0]);
    if (!status && o->dropout_p > 0 && !call->pass->evaluation && call->input[QUERY].role != PSG_BATCHED) {
        status = psg_call_fail(call, PSG_ERR_BATCH, "query carries no batch, but a dropout mask belongs to a sample");
    }
    if (status) return status;
    v.shape[v.leading] = v.queries;
    v.shape[v.leading + 1] = v.value_size;
    return psg_call_output(call, call->input[QUERY].value.dtype, v.rank, v.shape);
}

/* ---- where everything lies ---- */

/* Steps of an operand over the leading dimensions, 0 where it repeats; a task takes `group` of the last one. */
static void set_steps(const psg_tensor *x, int64_t group, int64_t *step) {
    const int leading = x->rank - 2;
    for (int d = 0; d < leading; d++) {
        step[d] = x->shape[d] == 1 ? 0 : x->stride[d] * (d == leading - 1 ? group : 1);
    }
}

static void set_mask(psg_call *call, psg_attention_job *job, const views *v) {
    psg_mask *mask = &job->first.mask;
    *mask = psg_attention_mask_of(&call->input[MASK], true);
    if (!mask->type) return;
    const psg_tensor x = view_of(call, MASK, v->rank);
    set_steps(&x, v->group, job->step[PSG_PATH_MASK]);
    memcpy(job->step[PSG_PATH_GRAD_MASK], job->step[PSG_PATH_MASK], sizeof job->step[PSG_PATH_MASK]);
    mask->head_stride = job->step[PSG_PATH_MASK][v->leading - 1] / v->group;
    mask->row_stride = x.shape[v->leading] == 1 ? 0 : x.shape[v->leading + 1];
    mask->column_stride = x.shape[v->leading + 1] == 1 ? 0 : 1;
}

static psg_status describe(psg_call *call, psg_attention_job *job) {
    const options *o = call->attributes;
    views v;
    psg_status status = measure(call, &v);
    if (status) return status;
    *job = (psg_attention_job){ .call = call, .rank = v.leading, .dropout_p = o->dropout_p };
    memcpy(job->shape, v.shape, sizeof job->shape);
    job->shape[v.leading - 1] = v.key_heads;
    job->first = (psg_attention){
        .group = (size_t)v.group, .queries = (size_t)v.queries, .keys = (size_t)v.keys, .key_size = (size_t)v.size,
        .value_size = (size_t)v.value_size, .scale = o->scale != 0 ? o->scale : 1 / sqrt((double)v.size),
        .causal = o->is_causal != 0, .q = v.x[QUERY].data, .k = v.x[KEY].data, .v = v.x[VALUE].data,
        .q_head = v.queries * v.size, .q_row = v.size, .k_row = v.size, .v_row = v.value_size,
        .out = call->output.data, .out_head = v.queries * v.value_size, .out_row = v.value_size,
    };
    set_steps(&v.x[QUERY], v.group, job->step[PSG_PATH_Q]);
    set_steps(&v.x[KEY], 1, job->step[PSG_PATH_K]);
    set_steps(&v.x[VALUE], 1, job->step[PSG_PATH_V]);
    set_steps(&call->output, v.group, job->step[PSG_PATH_OUT]);
    set_mask(call, job, &v);
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
        int64_t shape[2] = { call->output.shape[0], psg_tensor_count(&mask->value) };
        *rows = psg_tensor_of(mask->value.dtype, NULL, 2, shape);
        job->step[PSG_PATH_GRAD_MASK][0] = shape[1];
        if (!psg_tensor_count(rows)) return PSG_OK;
        rows->data = psg_call_keep(call, (size_t)psg_tensor_count(rows) * psg_dtype_size(rows->dtype));
        if (!rows->data) return PSG_ERR_MEMORY;
    }
    if (rows->data) psg_fill_zero(call->context, rows);
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
    .reserved_at = offsetof(options, reserved),
    .shape = shape,
    .forward = forward,
    .backward = backward,
};

psg_var psg_scaled_dot_product_attention(psg_tape *tape, psg_var query, psg_var key, psg_var value, psg_var attn_mask,
                                         const psg_scaled_dot_product_attention_options *given) {
    const psg_var inputs[] = { query, key, value, attn_mask };
    return psg_record(tape, &psg_op_scaled_dot_product_attention, inputs, 4, given);
}
