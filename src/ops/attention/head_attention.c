/* head_attention and attention_weights: attention of every head of projected q, k, v, read where the projections wrote
 * them: (N, L, heads * size), separately or side by side in one array. */
#include <math.h>
#include <string.h>

#include "base/shapes.h"
#include "ops/attention/attention_job.h"
#include "ops/shared/operand.h"
#include "psg/ops.h"

enum { QUERY, KEY, VALUE, MASK, PADDING, BIAS_K, BIAS_V };

typedef psg_head_attention_attributes options;

extern const psg_op psg_op_attention_weights;

/* Sizes; embed: of q and k, over all heads; value_embed: of v. */
typedef struct sizes {
    int64_t samples, queries, keys, heads, embed, value_embed, all_keys;
} sizes;

static bool gives_weights(const psg_call *call) { return call->op == &psg_op_attention_weights; }
static bool present(const psg_call *call, int k) { return call->input[k].role != PSG_ABSENT; }

static int64_t length_of(const psg_call *call, const psg_tensor *x) {
    return x->shape[1 - 0];
}

/* ---- shape ---- */

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
    return psg_operand_carries_batch(call, k);
}

static psg_status check_agreement(psg_call *call, int k, int other, int64_t mine, int64_t theirs, const char *what) {
    if (mine == theirs) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "%s has %s %lld, %s has %lld", call->op->input_names[k], what,
                         (long long)mine, call->op->input_names[other], (long long)theirs);
}

static psg_status check_value(psg_call *call, sizes *s) {
    const psg_tensor *k = &call->input[KEY].value, *v = &call->input[VALUE].value;
    psg_status status = check_sequence(call, VALUE, 1, &s->value_embed);
    if (!status) status = check_agreement(call, VALUE, KEY, length_of(call, v), s->keys, "length");
    int batch = 0;
    return status ? status : check_agreement(call, VALUE, KEY, v->shape[batch], k->shape[batch], "batch size");
}

static psg_status check_key(psg_call *call, sizes *s) {
    const psg_tensor *q = &call->input[QUERY].value, *k = &call->input[KEY].value;
    int64_t embed;
    psg_status status = check_sequence(call, KEY, present(call, VALUE) ? 1 : 2, &embed);
    if (status) return status;
    s->keys = length_of(call, k);
    s->value_embed = embed;
    status = check_agreement(call, KEY, QUERY, embed, s->embed, "size");
    int batch = 0;
    return status ? status : check_agreement(call, KEY, QUERY, k->shape[batch], q->shape[batch], "batch size");
}

static psg_status check_sequences(psg_call *call, sizes *s) {
    psg_status status = check_sequence(call, QUERY, present(call, KEY) ? 1 : 3, &s->embed);
    if (status) return status;
    const psg_tensor *q = &call->input[QUERY].value;
    s->samples = q->shape[0];
    s->queries = s->keys = length_of(call, q);
    s->value_embed = s->embed;
    if (present(call, KEY)) status = check_key(call, s);
    if (!status && present(call, VALUE) && !present(call, KEY)) {
        status = psg_call_fail(call, PSG_ERR_ARGUMENT, "value is given, but key is absent");
    }
    return !status && present(call, VALUE) ? check_value(call, s) : status;
}

static psg_status check_heads(psg_call *call, sizes *s) {
    const options *o = call->attributes;
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
    if (present(call, BIAS_K) != present(call, BIAS_V) && !gives_weights(call)) {
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
    const options *o = call->attributes;
    psg_status status = check_sequences(call, s);
    if (!status) status = check_heads(call, s);
    if (!status) s->all_keys = s->keys + present(call, BIAS_K) + (o->add_zero_attn != 0);
    return status;
}

static psg_status declare(psg_call *call, const sizes *s) {
    bool first = true;
    if (gives_weights(call)) {
        int64_t shape[4] = { first ? s->samples : s->queries, first ? s->heads : s->samples,
                             first ? s->queries : s->heads, s->all_keys };
        return psg_call_output(call, call->input[QUERY].value.dtype, 4, shape);
    }
    int64_t shape[3] = { first ? s->samples : s->queries, first ? s->queries : s->samples, s->value_embed };
    return psg_call_output(call, call->input[QUERY].value.dtype, 3, shape);
}

static psg_status shape(psg_call *call) {
    const options *o = call->attributes;
    sizes s;
    psg_status status = psg_operands_real(call, VALUE + 1);
    if (!status) status = measure(call, &s);
    if (!status) status = check_mask(call, &s);
    if (!status) status = check_padding(call, &s);
    if (!status) status = check_biases(call, &s);
    if (!status) status = psg_attention_check_dropout(call, o->dropout_p, s.samples);
    return status ? status : declare(call, &s);
}

/* ---- where everything lies ---- */

/* Steps from sample to sample and head to head, and the row stride, of a sequence (N, length, width) whose heads have
 * `size` elements. */
static ptrdiff_t set_sequence(const psg_call *call, const psg_tensor *x, int64_t size, int64_t step[2]) {
    int64_t width = x->shape[2], batch = 0;
    step[0] = batch ? width : x->shape[1] * width;
    step[1] = size;
    return batch ? x->shape[1] * width : width;
}

static const psg_operand *holder(const psg_call *call, int k) {
    while (!present(call, k)) k--;
    return &call->input[k];
}

/* Parts of q, k, v that come before part k in the operand that holds it. */
static int64_t parts_before(const psg_call *call, int k) { return k - (int)(holder(call, k) - call->input); }

static void *part_of(const psg_call *call, const psg_tensor *whole, int k, int64_t embed) {
    return psg_tensor_offset(whole, parts_before(call, k) * embed);
}

static void set_mask(const psg_call *call, const sizes *s, psg_attention_job *job) {
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
    job->step[PSG_PATH_MASK][0] = job->step[PSG_PATH_GRAD_MASK][0] = batched ? heads * plane : 0;
    job->step[PSG_PATH_MASK][1] = job->step[PSG_PATH_GRAD_MASK][1] = heads == 1 ? 0 : plane;
}

static void set_output(const psg_call *call, const sizes *s, psg_attention_job *job) {
    psg_attention *t = &job->first;
    t->out = call->output.data;
    int64_t *step = job->step[PSG_PATH_OUT];
    if (!gives_weights(call)) {
        t->out_row = set_sequence(call, &call->output, s->value_embed / s->heads, step);
    } else {
        int64_t sample = s->heads * s->all_keys;
        step[0] = true ? s->queries * sample : sample;
        step[1] = true ? s->queries * s->all_keys : s->all_keys;
        t->out_row = true ? s->all_keys : s->samples * sample;
    }
}

static psg_status describe(psg_call *call, sizes *s, psg_attention_job *job) {
    const options *o = call->attributes;
    psg_status status = measure(call, s);
    if (status) return status;
    int64_t e = s->embed / s->heads, ev = gives_weights(call) ? s->all_keys : s->value_embed / s->heads;
    *job = (psg_attention_job){ .call = call, .rank = 2, .shape = { s->samples, s->heads }, .dropout_p = o->dropout_p,
                                .nodes_back = o->follows ? 1 : 0 };
    psg_attention *t = &job->first;
    *t = (psg_attention){ .group = 1, .queries = (size_t)s->queries, .keys = (size_t)s->keys, .key_size = (size_t)e,
                          .value_size = (size_t)ev, .scale = 1 / sqrt((double)e), .causal = o->is_causal != 0,
                          .gives_weights = gives_weights(call), .zero_key = o->add_zero_attn != 0 };
    t->q = call->input[QUERY].value.data;
    t->q_row = set_sequence(call, &call->input[QUERY].value, e, job->step[PSG_PATH_Q]);
    t->k = part_of(call, &holder(call, KEY)->value, KEY, s->embed);
    t->k_row = set_sequence(call, &holder(call, KEY)->value, e, job->step[PSG_PATH_K]);
    if (!t->gives_weights) {
        t->v = part_of(call, &holder(call, VALUE)->value, VALUE, s->embed);
        t->v_row = set_sequence(call, &holder(call, VALUE)->value, ev, job->step[PSG_PATH_V]);
    }
    t->bias_k = call->input[BIAS_K].value.data;
    t->bias_v = call->input[BIAS_V].value.data;
    job->step[PSG_PATH_BIAS][1] = job->step[PSG_PATH_GRAD_BIAS][1] = e;
    set_mask(call, s, job);
    set_output(call, s, job);
    return PSG_OK;
}

static psg_status forward(psg_call *call) {
    psg_attention_job job;
    sizes s;
    psg_status status = describe(call, &s, &job);
    return status ? status : psg_attention_forward(&job);
}

/* ---- backward ---- */

static psg_status take_rows(psg_call *call, int k, int64_t samples, int64_t columns, psg_tensor *rows) {
    int64_t shape[2] = { samples, columns };
    *rows = psg_tensor_of(call->grad_output.dtype, NULL, 2, shape);
    if (!call->input[k].wants_grad || !psg_tensor_count(&call->output)) return PSG_OK;
    size_t bytes = (size_t)psg_tensor_count(rows) * psg_dtype_size(rows->dtype);
    rows->data = psg_call_keep(call, bytes);
    return rows->data ? PSG_OK : PSG_ERR_MEMORY;
}

static void clear(const psg_tensor *x) {
    if (x->data) memset(x->data, 0, (size_t)psg_tensor_count(x) * psg_dtype_size(x->dtype));
}

static void set_gradients(psg_call *call, const sizes *s, psg_attention_job *job) {
    psg_attention *t = &job->first;
    t->grad_out = call->grad_output.data;
    t->grad_q = call->input[QUERY].grad.data;
    t->grad_k = holder(call, KEY)->grad.data ? part_of(call, &holder(call, KEY)->grad, KEY, s->embed) : NULL;
    if (t->gives_weights) {
        clear(&holder(call, VALUE)->grad);   /* the values have no part in the weights */
    } else if (holder(call, VALUE)->grad.data) {
        t->grad_v = part_of(call, &holder(call, VALUE)->grad, VALUE, s->embed);
    }
    clear(&call->input[MASK].grad);
    t->grad_mask = call->input[MASK].grad.data;
}

static psg_status backward(psg_call *call) {
    psg_attention_job job;
    psg_tensor rows[2];
    sizes s;
    psg_status status = describe(call, &s, &job);
    if (!status) status = take_rows(call, BIAS_K, s.samples, s.embed, &rows[0]);
    rows[1].data = NULL;   /* bias_v has no part in the weights */
    if (!status && !gives_weights(call)) status = take_rows(call, BIAS_V, s.samples, s.embed, &rows[1]);
    if (status) return status;
    if (gives_weights(call)) clear(&rows[1]);   /* nor bias_v */
    set_gradients(call, &s, &job);
    job.first.grad_bias_k = rows[0].data;
    job.first.grad_bias_v = rows[1].data;
    job.step[PSG_PATH_GRAD_BIAS][0] = s.embed;
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
    .attributes_size = sizeof(options),
    .shape = shape,
    .forward = forward,
    .backward = backward,
};

const psg_op psg_op_attention_weights = {
    .name = "attention_weights",
    .input_count = 7,
    .input_names = names,
    .optional_inputs = 1u << KEY | 1u << VALUE | 1u << MASK | 1u << PADDING | 1u << BIAS_K | 1u << BIAS_V,
    .parameter_inputs = 1u << BIAS_K | 1u << BIAS_V,
    .attributes_size = sizeof(options),
    .shape = shape,
    .forward = forward,
    .backward = backward,
};
