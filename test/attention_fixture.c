#include "attention_reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the library ---- */

typedef struct run {
    psg_context *context;
    psg_tape *tape;
    psg_param *param[9];      /* of in_proj: one or three; in order of use */
    psg_var x[3], mask, y, weights;
    void *memory[40];
    int params, memories;
} run;

static psg_tensor tensor(run *r, psg_dtype dtype, int rank, const int64_t *shape, const double *values) {
    psg_tensor t = psg_tensor_of(dtype, NULL, rank, shape);
    int64_t count = psg_tensor_count(&t);
    assert_true(r->memories < 40);
    t.data = r->memory[r->memories++] = calloc((size_t)count + 1, 8);
    for (int64_t i = 0; i < count && values; i++) {
        bool integer = dtype == PSG_I32 || dtype == PSG_I64;
        test_set_at(&t, i, integer ? values[i] != 0 : values[i]);
    }
    return t;
}

/* (N, length, dim) values, in the order of the pass. */
static psg_tensor sequence(run *r, const attention_case *c, int64_t length, int64_t dim, const double *values) {
    int64_t first[3] = { c->samples, length, dim }, second[3] = { length, c->samples, dim };
    psg_tensor t = tensor(r, c->dtype, 3, first, values);
    if (!c->batch_second) return t;
    psg_tensor swapped = tensor(r, c->dtype, 3, second, NULL);
    for (int64_t i = 0; i < psg_tensor_count(&t); i++) {
        int64_t at[3] = { i / dim % length, i / dim / length, i % dim };
        test_set(&swapped, at, test_get_at(&t, i));
    }
    return swapped;
}

static psg_var use(run *r, const attention_case *c, int rank, const int64_t *shape, const double *values) {
    psg_tensor t = tensor(r, c->dtype, rank, shape, values);
    TEST_OK(r->context, psg_param_create(r->context, "parameter", &t, &r->param[r->params]));
    psg_param_set_trainable(r->param[r->params], !c->frozen);
    return psg_use(r->tape, r->param[r->params++]);
}

static void use_in_projections(run *r, const attention_scene *s, psg_multi_head_attention_weights *w) {
    const attention_case *c = s->c;
    int64_t e = s->e, three[2] = { 3 * e, e };
    psg_var *const separate[3] = { &w->q_proj_weight, &w->k_proj_weight, &w->v_proj_weight };
    double *joined = calloc((size_t)(3 * e * e) + 1, sizeof *joined);
    for (int k = Q; k <= V; k++) {
        if (c->separate) *separate[k] = use(r, c, 2, (int64_t[]){ e, s->dim[k] }, s->w[k]);
        else memcpy(joined + k * e * e, s->w[k], (size_t)(e * e) * sizeof *joined);
    }
    if (!c->separate) w->in_proj_weight = use(r, c, 2, three, joined);
    for (int k = Q; k <= V; k++) memcpy(joined + k * e, s->b[k], (size_t)e * sizeof *joined);
    if (c->in_bias) w->in_proj_bias = use(r, c, 1, three, joined);
    free(joined);
}

static psg_multi_head_attention_weights use_all(run *r, const attention_scene *s) {
    psg_multi_head_attention_weights w = { .in_proj_weight = psg_none() };
    int64_t e = s->e;
    use_in_projections(r, s, &w);
    if (s->c->bias_kv) {
        w.bias_k = use(r, s->c, 3, (int64_t[]){ 1, 1, e }, s->bias[0]);
        w.bias_v = use(r, s->c, 3, (int64_t[]){ 1, 1, e }, s->bias[1]);
    }
    w.out_proj_weight = use(r, s->c, 2, (int64_t[]){ e, e }, s->wo);
    if (s->c->out_bias) w.out_proj_bias = use(r, s->c, 1, (int64_t[]){ e }, s->bo);
    return w;
}

static void give_masks(run *r, const attention_scene *s, psg_multi_head_attention_options *o) {
    const attention_case *c = s->c;
    bool integer = c->mask == MASK_INTEGER || c->mask == MASK_HEADS_INTEGER;
    int64_t plane[2] = { c->queries, c->keys }, heads[3] = { c->samples * c->heads, c->queries, c->keys };
    int64_t batched[4] = { c->samples, 1, c->queries, c->keys }, pad[2] = { c->samples, c->keys };
    psg_dtype type = integer ? PSG_I32 : c->dtype;
    psg_tensor t = c->mask <= MASK_REAL ? tensor(r, type, 2, plane, s->mask)
                   : c->mask == MASK_BATCHED_REAL ? tensor(r, type, 4, batched, s->mask)
                                                  : tensor(r, type, 3, heads, s->mask);
    bool batch_here = c->mask == MASK_BATCHED_REAL && !c->batch_second;
    if (c->mask) o->attn_mask = r->mask = batch_here ? psg_input_with_grad(r->tape, &t) : psg_constant(r->tape, &t);
    psg_tensor p = tensor(r, c->padding == 1 ? PSG_I64 : c->dtype, 2, pad, s->padding);
    if (c->padding) o->key_padding_mask = psg_input(r->tape, &p);
}

static void record(run *r, const attention_scene *s) {
    const attention_case *c = s->c;
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_second = c->batch_second;
    pass.dropout_seed = 5;
    pass.sample_ids = (int64_t[]){ 0, 1, 2, 3, 4, 5, 6, 7 };
    TEST_OK(r->context, psg_tape_begin(r->tape, &pass));
    for (int k = Q; k <= V; k++) {
        bool copy = attention_copies(c, k);
        psg_tensor x = sequence(r, c, s->length[k], s->dim[k], s->x[k]);
        r->x[k] = copy ? r->x[k - 1] : psg_input_with_grad(r->tape, &x);
    }
    psg_multi_head_attention_weights w = use_all(r, s);
    psg_multi_head_attention_options o = PSG_MULTI_HEAD_ATTENTION_OPTIONS_INIT;
    o.is_causal = c->causal;
    o.dropout_p = c->dropout_p;
    o.add_zero_attn = c->zero_attn;
    o.per_head_weights = c->per_head;
    give_masks(r, s, &o);
    r->y = psg_multi_head_attention(r->tape, r->x[Q], r->x[K], r->x[V], c->heads, &w, &o,
                                    c->no_weights ? NULL : &r->weights);
    test_status(r->context, psg_tape_status(r->tape), PSG_OK, psg_tape_message(r->tape));
}

/* ---- comparisons ---- */

static void compare(const attention_scene *s, const psg_tensor *got, const double *expected, const char *what) {
    int64_t count = psg_tensor_count(got);
    double scale = 1;
    for (int64_t i = 0; i < count; i++) scale = fmax(scale, fabs(expected[i]));
    double bound = (s->c->dtype == PSG_F64 ? 1e-12 : 4e-6) * scale * (4 + (double)s->all / 8);
    for (int64_t i = 0; i < count; i++) test_near(test_get_at(got, i), expected[i], bound, what, i);
}

/* A sequence of the pass as (N, length, dim). */
static psg_tensor batch_first(const attention_scene *s, const psg_tensor *t) {
    psg_tensor view = *t;
    if (!s->c->batch_second) return view;
    for (int d = 0; d < 2; d++) {
        view.shape[d] = t->shape[1 - d];
        view.stride[d] = t->stride[1 - d];
    }
    return view;
}

static void compare_weights(const attention_scene *s, const run *r) {
    const attention_case *c = s->c;
    psg_tensor got;
    TEST_OK(r->context, psg_value(r->tape, r->weights, &got));
    assert_int_equal(got.rank, c->per_head ? 4 : 3);
    int64_t total = c->samples * c->heads * c->queries * s->all;
    for (int64_t f = 0; f < total; f++) {
        int64_t j = f % s->all, i = f / s->all % c->queries, h = f / s->all / c->queries % c->heads;
        int64_t n = f / s->all / c->queries / c->heads;
        double expected = s->weights[f];
        if (!c->per_head) {
            if (h) continue;
            for (h = 1; h < c->heads; h++) expected += s->weights[f + h * c->queries * s->all];
            expected /= (double)c->heads;
        }
        int64_t heads_first[4] = { n, h, i, j }, heads_second[4] = { h, n, i, j }, mean_first[3] = { n, i, j };
        int64_t mean_second[3] = { i, n, j };
        const int64_t *at = c->per_head ? c->batch_second ? heads_second : heads_first
                                        : c->batch_second ? mean_second : mean_first;
        test_near(test_get(&got, at), expected, c->dtype == PSG_F64 ? 1e-12 : 1e-5, "weights", f);
    }
}

/* What the library dropped, read from the weights: where the loops say that they are not zero. */
static void read_dropout(attention_scene *s, const run *r) {
    psg_tensor got;
    const attention_case *c = s->c;
    int64_t total = c->samples * c->heads * c->queries * s->all;
    TEST_OK(r->context, psg_value(r->tape, r->weights, &got));
    s->kept = attention_take(s, total);
    for (int64_t f = 0; f < total; f++) {
        int64_t j = f % s->all, i = f / s->all % c->queries, h = f / s->all / c->queries % c->heads;
        int64_t n = f / s->all / c->queries / c->heads, first[4] = { n, h, i, j }, second[4] = { h, n, i, j };
        s->kept[f] = test_get(&got, c->batch_second ? second : first) != 0;
    }
}

static void compare_param(const attention_scene *s, const run *r, int *k, const double *const *parts, int count,
                          int64_t size) {
    psg_gradient gradient;
    int64_t n = s->c->samples, all = size * count, shape[2] = { n, all };
    psg_status status = psg_gradient_of(r->tape, r->param[*k], &gradient);
    test_status(r->context, status, s->c->frozen ? PSG_ERR_STATE : PSG_OK, "psg_gradient_of");
    psg_tensor value = *psg_param_value(r->param[(*k)++]);
    if (s->c->frozen) return;
    psg_tensor got = psg_tensor_of(s->c->dtype, calloc((size_t)(n * all) + 1, 8), 2, shape), out = got;
    out.rank = value.rank + 1;
    for (int d = 0; d < value.rank; d++) out.shape[d + 1] = value.shape[d];
    out = psg_tensor_of(out.dtype, out.data, out.rank, out.shape);
    TEST_OK(r->context, psg_grad_sample(r->context, &gradient, 1, PSG_OVERWRITE, &out));
    double *expected = calloc((size_t)(n * all) + 1, sizeof *expected);
    for (int64_t i = 0; i < n * all; i++) expected[i] = parts[i % all / size][i / all * size + i % size];
    compare(s, &got, expected, "grad_sample");
    free(expected);
    free(got.data);
}

static void compare_params(const attention_scene *s, const run *r) {
    int k = 0;
    const attention_case *c = s->c;
    const double *const weights[3] = { s->gw[Q], s->gw[K], s->gw[V] };
    const double *const biases[3] = { s->gb[Q], s->gb[K], s->gb[V] };
    const double *const others[4] = { s->gbias[0], s->gbias[1], s->gwo, s->gbo };
    for (int j = Q; j <= V && c->separate; j++) compare_param(s, r, &k, weights + j, 1, s->e * s->dim[j]);
    if (!c->separate) compare_param(s, r, &k, weights, 3, s->e * s->e);
    if (c->in_bias) compare_param(s, r, &k, biases, 3, s->e);
    for (int j = 0; j < 2 && c->bias_kv; j++) compare_param(s, r, &k, others + j, 1, s->e);
    compare_param(s, r, &k, others + 2, 1, s->e * s->e);
    if (c->out_bias) compare_param(s, r, &k, others + 3, 1, s->e);
}

static void compare_inputs(const attention_scene *s, const run *r) {
    psg_tensor grad;
    for (int k = Q; k <= V; k++) {
        TEST_OK(r->context, psg_input_grad(r->tape, r->x[k], &grad));
        psg_tensor view = batch_first(s, &grad);
        compare(s, &view, s->gx[k], k == Q ? "query gradient" : k == K ? "key gradient" : "value gradient");
    }
    if (s->c->mask != MASK_BATCHED_REAL || s->c->batch_second) return;
    TEST_OK(r->context, psg_input_grad(r->tape, r->mask, &grad));
    compare(s, &grad, s->gmask, "mask gradient");
}

void attention_check(psg_context *context, const attention_case *c, test_random *random) {
    attention_scene s = { .c = c };
    run r = { .context = context };
    attention_draw(&s, random);
    TEST_OK(context, psg_tape_create(context, &r.tape));
    record(&r, &s);
    if (c->dropout_p > 0) read_dropout(&s, &r);
    attention_refer(&s);
    psg_tensor y, gy = sequence(&r, c, c->queries, s.e, s.gy);
    TEST_OK(context, psg_value(r.tape, r.y, &y));
    y = batch_first(&s, &y);
    compare(&s, &y, s.y, "result");
    if (!c->no_weights) compare_weights(&s, &r);
    TEST_OK(context, psg_backward_from(r.tape, r.y, &gy));
    compare_inputs(&s, &r);
    compare_params(&s, &r);
    psg_tape_destroy(r.tape);
    for (int k = 0; k < r.params; k++) psg_param_destroy(r.param[k]);
    for (int k = 0; k < r.memories; k++) free(r.memory[k]);
    attention_free(&s);
}
