/* head_attention: attention of every head of projected q, k, v, read where the projections wrote them:
 * (N, L, heads * size), separately or side by side in one array. */
#include <math.h>

#include "base/reserved.h"
#include "base/shapes.h"
#include "ops/attention/attention_job.h"
#include "ops/shared/operand.h"
#include "ops/shared/strided_copy.h"
#include "psg/ops/attention.h"
#include "psg/ops/shape.h"

enum { QUERY, KEY, VALUE, MASK, PADDING, BIAS_K, BIAS_V };

typedef psg_head_attention_attributes attributes_of;

/* Sizes; embed: of q and k, over all heads; value_embed: of v; width: of a row of the output. */
typedef struct sizes {
    int64_t samples, queries, keys, heads, embed, value_embed, all_keys, width;
} sizes;

static bool present(const psg_call *call, int k) { return call->input[k].role != PSG_ABSENT; }

/* ---- shape ---- */

/* Products of two sizes then fit 63 bits. */
static psg_status check_size(psg_call *call, int k) {
    char text[PSG_SHAPE_TEXT];
    const int64_t *shape = call->input[k].value.shape;
    if (shape[0] <= INT32_MAX && shape[1] <= INT32_MAX && shape[2] <= INT32_MAX) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_OVERFLOW, "%s has shape %s, sizes must be below 2^31", call->op->input_names[k],
                         psg_tensor_text(&call->input[k].value, text));
}

static psg_status check_sequence(psg_call *call, int k, int parts, int64_t *embed) {
    const psg_tensor *x = &call->input[k].value;
    char text[PSG_SHAPE_TEXT];
    if (x->rank != 3) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "%s has shape %s, must be (N, length, size)%s",
                             call->op->input_names[k], psg_tensor_text(x, text),
                             x->rank == 2 ? "; without a batch there are no per-sample gradients" : "");
    }
    if (x->shape[2] % parts) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "%s has size %lld, must be a multiple of %d: it holds %s",
                             call->op->input_names[k], (long long)x->shape[2], parts,
                             parts == 3 ? "query, key and value" : "key and value");
    }
    *embed = x->shape[2] / parts;
    psg_status status = check_size(call, k);
    return status ? status : psg_operand_beside_batch(call, k);
}

static psg_status check_agreement(psg_call *call, int k, int other, int64_t mine, int64_t theirs, const char *what) {
    if (mine == theirs) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "%s has %s %lld, %s has %lld", call->op->input_names[k], what,
                         (long long)mine, call->op->input_names[other], (long long)theirs);
}

static psg_status check_value(psg_call *call, sizes *s) {
    const int64_t *v = call->input[VALUE].value.shape;
    psg_status status = check_sequence(call, VALUE, 1, &s->value_embed);
    if (!status) status = check_agreement(call, VALUE, KEY, v[1], s->keys, "length");
    return status ? status : check_agreement(call, VALUE, KEY, v[0], s->samples, "batch size");
}

static psg_status check_key(psg_call *call, sizes *s) {
    const int64_t *k = call->input[KEY].value.shape;
    psg_status status = check_sequence(call, KEY, present(call, VALUE) ? 1 : 2, &s->value_embed);
    if (status) return status;
    s->keys = k[1];
    status = check_agreement(call, KEY, QUERY, s->value_embed, s->embed, "size");
    return status ? status : check_agreement(call, KEY, QUERY, k[0], s->samples, "batch size");
}

static psg_status check_sequences(psg_call *call, sizes *s) {
    const int64_t *q = call->input[QUERY].value.shape;
    psg_status status = check_sequence(call, QUERY, present(call, KEY) ? 1 : 3, &s->embed);
    if (status) return status;
    s->samples = q[0];
    s->queries = s->keys = q[1];
    s->value_embed = s->embed;
    if (present(call, KEY)) status = check_key(call, s);
    if (!status && present(call, VALUE) && !present(call, KEY)) {
        status = psg_call_fail(call, PSG_ERR_ARGUMENT, "value is given, but key is absent");
    }
    return !status && present(call, VALUE) ? check_value(call, s) : status;
}

static psg_status check_heads(psg_call *call, sizes *s) {
    const attributes_of *o = call->attributes;
    s->heads = o->num_heads;
    if (s->heads >= 1 && s->embed > 0 && s->embed % s->heads == 0 && s->value_embed % s->heads == 0) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "num_heads is %lld, must be positive and divide the sizes %lld (> 0) "
                         "of query and %lld of value", (long long)s->heads, (long long)s->embed,
                         (long long)s->value_embed);
}

/* Rank 2 (L, S), rank 3 (N heads, L, S), rank 4 (N or 1, heads or 1, L, S). */
static psg_status check_mask(psg_call *call, const sizes *s) {
    const psg_operand *mask = &call->input[MASK];
    const psg_tensor *m = &mask->value;
    if (!present(call, MASK)) return PSG_OK;
    bool fits = m->rank >= 2 && m->rank <= 4 && m->shape[m->rank - 2] == s->queries && m->shape[m->rank - 1] == s->keys;
    if (fits && m->rank == 3) fits = m->shape[0] == s->samples * s->heads;
    if (fits && m->rank == 4) {
        fits = (m->shape[0] == 1 || m->shape[0] == s->samples) && (m->shape[1] == 1 || m->shape[1] == s->heads);
    }
    char text[PSG_SHAPE_TEXT];
    if (!fits) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "attn_mask has shape %s, must be (%lld, %lld), (%lld, %lld, %lld) or "
                             "(N or 1, heads or 1, L, S)", psg_tensor_text(m, text), (long long)s->queries,
                             (long long)s->keys, (long long)(s->samples * s->heads), (long long)s->queries,
                             (long long)s->keys);
    }
    bool lost = psg_operand_per_sample(call, MASK) && (m->rank == 2 || (m->rank == 4 && m->shape[0] != s->samples));
    if (!lost) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_BATCH, "attn_mask of shape %s carries the batch, but has no dimension for it; "
                         "make it a constant", psg_tensor_text(m, text));
}

static psg_status check_padding(psg_call *call, const sizes *s) {
    const psg_operand *padding = &call->input[PADDING];
    const psg_tensor *m = &padding->value;
    char text[PSG_SHAPE_TEXT];
    if (!present(call, PADDING)) return PSG_OK;
    if (m->rank != 2 || m->shape[0] != s->samples || m->shape[1] != s->keys) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "key_padding_mask has shape %s, must be (%lld, %lld)",
                             psg_tensor_text(m, text), (long long)s->samples, (long long)s->keys);
    }
    if (!padding->wants_grad) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "key_padding_mask has no gradient; a real attn_mask has one");
}

static psg_status check_bias(psg_call *call, int k, int64_t embed) {
    const psg_tensor *b = &call->input[k].value;
    char text[PSG_SHAPE_TEXT];
    psg_status status = psg_operand_not_computed(call, k);
    if (status) return status;
    if (!present(call, k) || (psg_tensor_count(b) == embed && b->rank && b->shape[b->rank - 1] == embed)) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "%s has shape %s, must be (1, 1, %lld)", call->op->input_names[k],
                         psg_tensor_text(b, text), (long long)embed);
}

static psg_status check_biases(psg_call *call, const sizes *s) {
    if (present(call, BIAS_K) != present(call, BIAS_V)) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "bias_k and bias_v must both be given or both be absent");
    }
    if (present(call, BIAS_V) && s->value_embed != s->embed) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "bias_k and bias_v need a value of query's size %lld, it has %lld",
                             (long long)s->embed, (long long)s->value_embed);
    }
    psg_status status = check_bias(call, BIAS_K, s->embed);
    return status ? status : check_bias(call, BIAS_V, s->embed);
}

static psg_status measure(psg_call *call, sizes *s) {
    const attributes_of *o = call->attributes;
    psg_status status = check_sequences(call, s);
    if (!status) status = check_heads(call, s);
    if (status) return status;
    s->all_keys = s->keys + present(call, BIAS_K) + (o->add_zero_attn != 0);
    s->width = s->value_embed + (o->weights ? s->heads * s->all_keys : 0);
    return PSG_OK;
}

static psg_status shape(psg_call *call) {
    const attributes_of *o = call->attributes;
    sizes s;
    psg_status status = psg_operands_real(call, VALUE + 1);
    if (!status) status = measure(call, &s);
    if (!status) status = check_mask(call, &s);
    if (!status) status = check_padding(call, &s);
    if (!status) status = check_biases(call, &s);
    if (!status) status = psg_attention_check_dropout(call, o->dropout_p, s.samples);
    if (status) return status;
    return psg_call_output(call, call->input[QUERY].value.dtype, 3, (int64_t[]){ s.samples, s.queries, s.width });
}

/* ---- where everything lies ---- */

/* Steps from sample to sample and head to head of rows (N, length, width), whose heads have `size` elements. */
static void set_steps(const psg_tensor *x, int64_t size, int64_t step[2]) {
    step[0] = psg_shape_product(2, x->shape + 1);
    step[1] = size;
}

static const psg_operand *holder(const psg_call *call, int k) {
    while (!present(call, k)) k--;
    return &call->input[k];
}

/* Part k of q, k, v in the value or gradient of the operand that holds it, after the parts before it. */
static void *part_of(const psg_call *call, const psg_tensor *whole, int k, int64_t embed) {
    return whole->data ? psg_tensor_offset(whole, (k - (holder(call, k) - call->input)) * embed) : NULL;
}

static void set_masks(const psg_call *call, const sizes *s, psg_attention_job *job) {
    const psg_tensor *m = &call->input[MASK].value;
    psg_attention *t = &job->first;
    t->mask = psg_attention_mask_of(&call->input[MASK], false);
    t->padding = psg_attention_mask_of(&call->input[PADDING], false);
    t->padding.column_stride = t->mask.column_stride = 1;
    t->mask.row_stride = s->keys;
    job->step[PSG_PATH_PADDING][0] = s->keys;
    if (!t->mask.type || m->rank == 2) return;
    int64_t plane = s->queries * s->keys, heads = m->rank == 3 ? s->heads : m->shape[1];
    bool batched = m->rank == 3 || m->shape[0] != 1;
    if (batched) job->step[PSG_PATH_MASK][0] = psg_shape_product(3, (int64_t[]){ heads, s->queries, s->keys });
    job->step[PSG_PATH_MASK][1] = heads == 1 ? 0 : plane;
    for (int d = 0; d < 2; d++) job->step[PSG_PATH_GRAD_MASK][d] = job->step[PSG_PATH_MASK][d];
}

static void set_results(const psg_call *call, const sizes *s, psg_attention_job *job) {
    const attributes_of *o = call->attributes;
    psg_attention *t = &job->first;
    t->out = call->output.data;
    t->grad_out = call->grad_output.data;
    t->out_row = t->weights_row = s->width;
    set_steps(&call->output, s->value_embed / s->heads, job->step[PSG_PATH_OUT]);
    set_steps(&call->output, s->all_keys, job->step[PSG_PATH_WEIGHTS]);
    if (!o->weights) return;
    t->weights = psg_tensor_offset(&call->output, s->value_embed);
    if (t->grad_out) t->grad_weights = psg_tensor_offset(&call->grad_output, s->value_embed);
}

static psg_status describe(psg_call *call, sizes *s, psg_attention_job *job) {
    const attributes_of *o = call->attributes;
    psg_status status = measure(call, s);
    if (status) return status;
    const psg_operand *in[3] = { holder(call, QUERY), holder(call, KEY), holder(call, VALUE) };
    int64_t e = s->embed / s->heads, ev = s->value_embed / s->heads;
    *job = (psg_attention_job){ .call = call, .rank = 2, .shape = { s->samples, s->heads }, .dropout_p = o->dropout_p };
    job->first = (psg_attention){
        .group = 1, .queries = (size_t)s->queries, .keys = (size_t)s->keys, .key_size = (size_t)e,
        .value_size = (size_t)ev, .scale = 1 / sqrt((double)e), .causal = o->is_causal != 0,
        .zero_key = o->add_zero_attn != 0, .q = in[0]->value.data, .k = part_of(call, &in[1]->value, KEY, s->embed),
        .v = part_of(call, &in[2]->value, VALUE, s->embed), .q_row = in[0]->value.shape[2],
        .k_row = in[1]->value.shape[2], .v_row = in[2]->value.shape[2], .bias_k = call->input[BIAS_K].value.data,
        .bias_v = call->input[BIAS_V].value.data,
    };
    for (int k = 0; k < 3; k++) set_steps(&in[k]->value, k == VALUE ? ev : e, job->step[PSG_PATH_Q + k]);
    job->step[PSG_PATH_BIAS][1] = job->step[PSG_PATH_GRAD_BIAS][1] = e;
    set_masks(call, s, job);
    set_results(call, s, job);
    return PSG_OK;
}

static psg_status forward(psg_call *call) {
    psg_attention_job job;
    sizes s;
    psg_status status = describe(call, &s, &job);
    return status ? status : psg_attention_forward(&job);
}

/* ---- backward ---- */

/* Memory for the gradients of bias_k or bias_v, a row a sample. */
static psg_status take_rows(psg_call *call, int k, const sizes *s, psg_tensor *rows) {
    *rows = psg_tensor_of(call->grad_output.dtype, NULL, 2, (int64_t[]){ s->samples, s->embed });
    if (!call->input[k].wants_grad || !call->kept) return PSG_OK;
    rows->data = psg_call_keep(call, (size_t)psg_tensor_count(rows) * psg_dtype_size(rows->dtype));
    return rows->data ? PSG_OK : PSG_ERR_MEMORY;
}

static psg_status backward(psg_call *call) {
    psg_attention_job job;
    psg_tensor rows[2];
    sizes s;
    psg_status status = describe(call, &s, &job);
    for (int k = 0; k < 2 && !status; k++) status = take_rows(call, BIAS_K + k, &s, &rows[k]);
    if (status) return status;
    psg_attention *t = &job.first;
    t->grad_q = call->input[QUERY].grad.data;
    t->grad_k = part_of(call, &holder(call, KEY)->grad, KEY, s.embed);
    t->grad_v = part_of(call, &holder(call, VALUE)->grad, VALUE, s.embed);
    t->grad_mask = call->input[MASK].grad.data;
    t->grad_bias_k = rows[0].data;
    t->grad_bias_v = rows[1].data;
    job.step[PSG_PATH_GRAD_BIAS][0] = s.embed;
    if (t->grad_mask) psg_fill_zero(call->context, &call->input[MASK].grad);
    status = psg_attention_backward(&job);
    for (int k = 0; k < 2 && !status; k++) {
        if (rows[k].data) status = psg_call_add_rows(call, BIAS_K + k, &rows[k]);
    }
    return status;
}

static const char *const names[] = { "query", "key", "value", "attn_mask", "key_padding_mask", "bias_k", "bias_v" };

const psg_op psg_op_head_attention = {
    .name = "head_attention",
    .input_count = 7,
    .input_names = names,
    .optional_inputs = 1u << KEY | 1u << VALUE | 1u << MASK | 1u << PADDING | 1u << BIAS_K | 1u << BIAS_V,
    .parameter_inputs = 1u << BIAS_K | 1u << BIAS_V,
    .attributes_size = sizeof(attributes_of),
    .shape = shape,
    .forward = forward,
    .backward = backward,
};

/* ---- front ---- */

/* The size of the values over all heads, and that of the rows of the result; false where the pass has failed. */
static bool read_sizes(psg_tape *tape, const psg_var source[3], psg_var result, psg_tensor *whole, int64_t *embed) {
    int parts = source[KEY].id ? source[VALUE].id ? 1 : 2 : 3;
    psg_tensor last;
    if (psg_value_shape(tape, result, whole) || psg_value_shape(tape, source[3 - parts], &last)) return false;
    *embed = last.shape[2] / parts;
    return true;
}

/* Rows (N, L, embed and heads S'): the first part, and the weights of the other one. */
static psg_var split(psg_tape *tape, psg_var rows, const psg_tensor *whole, int64_t embed, int64_t heads, int per_head,
                     psg_var *weights) {
    int64_t shape[4] = { whole->shape[0], whole->shape[1], heads, (whole->shape[2] - embed) / heads };
    int length = psg_tape_pass(tape)->batch_second ? 0 : 1, head = 2;
    psg_var all = psg_reshape(tape, psg_slice(tape, rows, -1, embed, INT64_MAX, 1), 4, shape);
    *weights = per_head ? psg_transpose(tape, all, length, head) : psg_mean(tape, all, 1, &head, 0);
    return psg_slice(tape, rows, -1, 0, embed, 1);
}

psg_var psg_head_attention(psg_tape *tape, psg_var query, psg_var key, psg_var value, int64_t num_heads, psg_var bias_k,
                           psg_var bias_v, const psg_multi_head_attention_options *options,
                           psg_var *attention_weights) {
    static const psg_multi_head_attention_options defaults = PSG_MULTI_HEAD_ATTENTION_OPTIONS_INIT;
    const psg_multi_head_attention_options *o = options ? options : &defaults;
    if (psg_reserved_is_set(o->reserved)) {
        psg_tape_fail(tape, PSG_ERR_ARGUMENT, "head_attention: options" PSG_RESERVED_TEXT);
        return psg_none();
    }
    const psg_var in[7] = { query, key, value, o->attn_mask, o->key_padding_mask, bias_k, bias_v };
    psg_head_attention_attributes attributes = { num_heads, o->is_causal, o->dropout_p, o->add_zero_attn,
                                                 attention_weights != NULL };
    psg_var result = psg_record(tape, &psg_op_head_attention, in, 7, &attributes);
    if (!attention_weights) return result;
    psg_tensor whole;
    int64_t embed;
    *attention_weights = result;
    if (!read_sizes(tape, in, result, &whole, &embed)) return result;
    return split(tape, result, &whole, embed, num_heads, o->per_head_weights, attention_weights);
}
