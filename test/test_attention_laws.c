/* Attention where the lines of test/cases do not go: dropout, what a mask hides, sharp weights. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "case_checks.h"

typedef struct desk {
    psg_context *context;
    psg_tape *tape;
    psg_param *param[12];
    int params;
} desk;

static desk open_desk(void) {
    desk d = { .context = test_context(1, NULL) };
    TEST_OK(d.context, psg_tape_create(d.context, &d.tape));
    return d;
}

static void close_desk(desk *d) {
    psg_tape_destroy(d->tape);
    for (int k = 0; k < d->params; k++) psg_param_destroy(d->param[k]);
    test_context_free(d->context);
}

static void begin(desk *d) { TEST_OK(d->context, psg_tape_begin(d->tape, NULL)); }

enum { D = 6 };

static psg_tensor filled(psg_dtype dtype, uint64_t seed, int rank, const int64_t *shape) {
    psg_tensor t = psg_tensor_of(dtype, NULL, rank, shape);
    test_random random = { seed };
    t.data = calloc((size_t)psg_tensor_count(&t) + 1, 8);
    test_fill_normal(&random, &t, 1);
    return t;
}

static void read_all(const psg_tensor *t, double *to) {
    for (int64_t i = 0; i < psg_tensor_count(t); i++) to[i] = test_get_at(t, i);
}

/* ---- dropout ---- */

static case_line line_of(const char *op, const char *operands, const char *options) {
    case_line line;
    char text[512], message[512];
    snprintf(text, sizeof text, "dropout | %s | %s", operands, options);
    if (case_line_parse(case_op_find(op), text, &line, message, sizeof message)) fail_msg("%s", message);
    return line;
}

static const char layer_operands[] = "query 3,70,6 | in_proj_weight 18,6 | out_proj_weight 6,6";

/* The mask is one constant: gradients are those of what was kept, on any number of threads. */
static void gradients_are_those_of_what_was_kept(void **state) {
    (void)state;
    const case_line lines[] = {
        line_of("multi_head_attention", layer_operands, "num_heads=2 dropout_p=0.3"),
        line_of("multi_head_attention", "query 2,5,4 | key 2,7,4 | in_proj_weight 12,4 | in_proj_bias 12 | bias_k 1,1,4 "
                "| bias_v 1,1,4 | out_proj_weight 4,4 | attn_mask 2,1,5,7 batched | key_padding_mask 2,7 =0,0,0,1,0,1,0,"
                "1,0,0,0,0,0,0", "num_heads=2 dropout_p=0.4 add_zero_attn batch_second"),
        line_of("multi_head_attention", "query 2,5,4 | in_proj_weight 12,4 | out_proj_weight 4,4",
                "num_heads=2 dropout_p=0.4 weights per_head is_causal frozen=out_proj_weight"),
        line_of("scaled_dot_product_attention", "query 2,4,5,3 | key 2,2,130,3 | value 2,2,130,4",
                "dropout_p=0.5 enable_gqa"),
    };
    psg_context *context = test_context(2, NULL);
    for (size_t k = 0; k < sizeof lines / sizeof lines[0]; k++) {
        case_check_differences(context, &lines[k]);
        case_check_questions(context, &lines[k]);
        case_check_threads(context, &lines[k]);
    }
    test_context_free(context);
}

static void evaluation_drops_nothing(void **state) {
    (void)state;
    static const char *const options[] = { "num_heads=2", "num_heads=2 dropout_p=0.5 evaluation",
                                           "num_heads=2 dropout_p=0.5", "num_heads=2 dropout_p=1" };
    psg_context *context = test_context(1, NULL);
    case_line line[4];
    case_results results[4];
    for (int k = 0; k < 4; k++) {
        line[k] = line_of("multi_head_attention", layer_operands, options[k]);
        case_take(context, &line[k], &(case_way){ .real = PSG_F64 }, &results[k]);
    }
    case_same_bits(&line[1], &results[1], &results[0], 0, -1, "evaluation");
    for (int64_t i = 0; i < results[0].output.rows * results[0].output.row; i++) {
        assert_true(results[2].output.data[i] != results[0].output.data[i]);
        assert_true(results[3].output.data[i] == 0 && results[3].grad[0].data[i] == 0);
    }
    for (int k = 0; k < 4; k++) case_results_free(&results[k]);
    test_context_free(context);
}

/* With dropout the weights are 0 or 1 / (1 - p) times what they are, and the result is their sum of the values. */
static void kept_weights_make_the_result(void **state) {
    (void)state;
    enum { N = 2, L = 9, S = 70, HEADS = 2, E = 3 };
    for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
        desk d = open_desk();
        const double u = dtype == PSG_F32 ? 1e-5 : 1e-13;
        psg_tensor in[3], y, map[2];
        double plain[N * HEADS * L * S];
        int kept = 0;
        for (int k = 0; k < 3; k++) {
            in[k] = filled((psg_dtype)dtype, 8 + (uint64_t)k, 3, (int64_t[]){ N, k ? S : L, HEADS * E });
        }
        for (int dropped = 0; dropped < 2; dropped++) {
            psg_multi_head_attention_options o = { .dropout_p = 0.4, .per_head_weights = 1 };
            psg_pass pass = { .evaluation = !dropped, .dropout_seed = 5, .sample_ids = (int64_t[]){ 0, 1, 2, 3, 4 } };
            psg_var x[3], weights;
            TEST_OK(d.context, psg_tape_begin(d.tape, &pass));
            for (int k = 0; k < 3; k++) x[k] = psg_input(d.tape, &in[k]);
            psg_var out = psg_head_attention(d.tape, x[0], x[1], x[2], HEADS, psg_none(), psg_none(), &o, &weights);
            TEST_OK(d.context, psg_value(d.tape, weights, &map[dropped]));
            TEST_OK(d.context, psg_value(d.tape, out, &y));
            if (!dropped) read_all(&map[0], plain);
        }
        for (int64_t k = 0; k < N * L * HEADS * E; k++) {
            int64_t e = k % E, h = k / E % HEADS, i = k / E / HEADS % L, n = k / E / HEADS / L;
            double sum = 0;
            for (int64_t j = 0; j < S; j++) {
                int64_t at = ((n * HEADS + h) * L + i) * S + j;
                double weight = test_get_at(&map[1], at);
                if (weight != 0) test_near(weight, plain[at] / 0.6, u, "weight", at);
                kept += weight != 0;
                sum += weight * test_get3(&in[2], n, j, h * E + e);
            }
            test_near(test_get_at(&y, k), sum, 10 * u, "result", k);
        }
        test_near(kept, 0.6 * N * L * HEADS * E * S, E * 4.9 * sqrt(0.24 * N * L * HEADS * S), "kept", dtype);
        for (int k = 0; k < 3; k++) free(in[k].data);
        close_desk(&d);
    }
}

/* ---- parts and masks ---- */

/* The parts that are public give the layer, bit for bit: what adapters on a projection are built from. */
static void parts_make_the_layer(void **state) {
    (void)state;
    desk d = open_desk();
    psg_tensor x = filled(PSG_F32, 4, 3, (int64_t[]){ 2, 9, D }), y[4];
    psg_tensor w = filled(PSG_F32, 5, 2, (int64_t[]){ 3 * D, D });
    psg_multi_head_attention_options o = PSG_MULTI_HEAD_ATTENTION_OPTIONS_INIT;
    psg_in_projection_attributes q = { 0, 0, D }, k = { D, 0, D }, v = { 2 * D, 0, D };
    psg_multi_head_attention_weights weights = { .in_proj_weight = psg_none() };
    psg_pass pass = { .evaluation = 1 };
    o.is_causal = o.add_zero_attn = o.per_head_weights = 1;
    TEST_OK(d.context, psg_tape_begin(d.tape, &pass));
    psg_tensor out = w;
    out.shape[0] = D;
    psg_var in = psg_input(d.tape, &x), all = psg_constant(d.tape, &w), last = psg_constant(d.tape, &out), map[2];
    weights.in_proj_weight = all;
    weights.out_proj_weight = last;
    psg_var whole = psg_multi_head_attention(d.tape, in, in, in, 3, &weights, &o, &map[0]);
    psg_var heads = psg_head_attention(d.tape, psg_in_projection(d.tape, in, all, psg_none(), &q),
                                       psg_in_projection(d.tape, in, all, psg_none(), &k),
                                       psg_in_projection(d.tape, in, all, psg_none(), &v), 3, psg_none(), psg_none(),
                                       &o, &map[1]);
    const psg_var made[4] = { whole, psg_linear(d.tape, heads, last, psg_none()), map[0], map[1] };
    for (int m = 0; m < 4; m++) TEST_OK(d.context, psg_value(d.tape, made[m], &y[m]));
    assert_true(test_same_bits(&y[0], &y[1]) && test_same_bits(&y[2], &y[3]));
    assert_true(y[2].rank == 4 && y[2].shape[1] == 3 && y[2].shape[3] == 10);
    free(x.data);
    free(w.data);
    close_desk(&d);
}

/* ---- what a mask hides ----
 * 2 samples of attention by 2 heads over 200 keys, of which some no query sees, and of whose queries some see none. */

enum { HIDING_N = 2, HIDING_H = 2, HIDING_L = 150, HIDING_S = 200, HIDING_E = 6, HIDDEN_QUERY = 70 };

typedef enum hiding { CAUSAL, ROW, PLANE, REAL_PLANE, PADDING, REAL_PADDING, HEADS_MASK, HIDINGS } hiding;

static bool is_hidden_key(hiding kind, int64_t j) { return kind == CAUSAL ? j >= HIDING_L : j % 67 == 3 || j > 190; }
static bool is_hidden(hiding kind, int64_t i, int64_t j) {
    return is_hidden_key(kind, j) || ((kind == PLANE || kind == REAL_PLANE) && (i == HIDDEN_QUERY || (i + j) % 5 == 0));
}

/* Rows (N, [H,] length, E), with value in the places that kind hides. */
static psg_tensor hiding_rows(psg_dtype dtype, hiding kind, bool by_heads, bool queries, double value) {
    int64_t length = queries ? HIDING_L : HIDING_S, four[4] = { HIDING_N, HIDING_H, length, HIDING_E };
    int64_t three[3] = { HIDING_N, length, HIDING_H * HIDING_E };
    psg_tensor t = filled(dtype, 7 + length, by_heads ? 3 : 4, by_heads ? three : four);
    int64_t row = by_heads ? HIDING_H * HIDING_E : HIDING_E;
    for (int64_t k = 0; k < psg_tensor_count(&t); k++) {
        int64_t at = k / row % length;
        bool whole = (kind == PLANE || kind == REAL_PLANE) && at == HIDDEN_QUERY;
        if (queries ? whole : is_hidden_key(kind, at)) test_set_at(&t, k, (k + at) % 2 ? value : 0);
    }
    return t;
}

static psg_tensor hiding_mask(psg_dtype real, hiding kind) {
    int64_t plane[2] = { HIDING_L, HIDING_S }, row[2] = { HIDING_N, HIDING_S }, one = HIDING_S;
    int64_t all[3] = { HIDING_N * HIDING_H, HIDING_L, HIDING_S };
    bool reals = kind == REAL_PLANE || kind == REAL_PADDING, attends = kind <= REAL_PLANE;
    int rank = kind == ROW ? 1 : kind == HEADS_MASK ? 3 : 2;
    psg_tensor t = psg_tensor_of(reals ? real : kind == PLANE ? PSG_I32 : PSG_I64, NULL, rank,
                                 kind == ROW ? &one : kind == HEADS_MASK ? all : kind >= PADDING ? row : plane);
    t.data = calloc((size_t)psg_tensor_count(&t), 8);
    for (int64_t k = 0; k < psg_tensor_count(&t); k++) {
        bool hidden = is_hidden(kind, k / HIDING_S % HIDING_L, k % HIDING_S);
        test_set_at(&t, k, reals ? hidden ? -INFINITY : 0.5 : hidden != attends);
    }
    return t;
}

static psg_var hide(psg_tape *tape, hiding kind, const psg_tensor *mask, const psg_var x[3]) {
    psg_scaled_dot_product_attention_options plain = PSG_SCALED_DOT_PRODUCT_ATTENTION_OPTIONS_INIT;
    psg_multi_head_attention_options heads = PSG_MULTI_HEAD_ATTENTION_OPTIONS_INIT;
    plain.is_causal = kind == CAUSAL;
    psg_var hidden = kind == CAUSAL ? psg_none() : kind == PADDING || kind == REAL_PADDING ? psg_input(tape, mask)
                                                                                           : psg_constant(tape, mask);
    if (kind < PADDING) return psg_scaled_dot_product_attention(tape, x[0], x[1], x[2], hidden, &plain);
    *(kind == HEADS_MASK ? &heads.attn_mask : &heads.key_padding_mask) = hidden;
    return psg_head_attention(tape, x[0], x[1], x[2], HIDING_H, psg_none(), psg_none(), &heads, NULL);
}

/* Values and gradients, as doubles one after another. */
static void run_hiding(psg_context *context, psg_dtype dtype, hiding kind, double value, double *results) {
    psg_tape *tape;
    psg_var x[3];
    psg_tensor in[4], mask = hiding_mask(dtype, kind), y;
    TEST_OK(context, psg_tape_create(context, &tape));
    TEST_OK(context, psg_tape_begin(tape, NULL));
    for (int k = 0; k < 4; k++) in[k] = hiding_rows(dtype, kind, kind >= PADDING, k % 3 == 0, value);
    for (int k = 0; k < 3; k++) x[k] = psg_input_with_grad(tape, &in[k]);
    psg_var out = hide(tape, kind, &mask, x);
    TEST_OK(context, psg_backward_from(tape, out, &in[3]));
    TEST_OK(context, psg_value(tape, out, &y));
    read_all(&y, results);
    results += psg_tensor_count(&y);
    for (int k = 0; k < 3; k++) {
        TEST_OK(context, psg_input_grad(tape, x[k], &y));
        read_all(&y, results);
        results += psg_tensor_count(&y);
        for (int64_t e = 0; k && e < psg_tensor_count(&y); e++) {
            int64_t at = e / (kind >= PADDING ? HIDING_H * HIDING_E : HIDING_E) % HIDING_S;
            assert_true(!is_hidden_key(kind, at) || test_get_at(&y, e) == 0);
        }
    }
    psg_tape_destroy(tape);
    for (int k = 0; k < 4; k++) free(in[k].data);
    free(mask.data);
}

static void hidden_values_change_no_bit(void **state) {
    (void)state;
    enum { COUNT = HIDING_N * HIDING_H * HIDING_E * (2 * HIDING_L + 2 * HIDING_S) };
    static const double values[] = { NAN, INFINITY, -INFINITY, 1e38 };
    static double clean[COUNT], dirty[COUNT];
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t i = 0; i < count; i++) {
        psg_context *context = test_context(2, isas[i]);
        for (int kind = CAUSAL; kind < HIDINGS; kind++) {
            for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
                run_hiding(context, (psg_dtype)dtype, (hiding)kind, 0, clean);
                for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
                    run_hiding(context, (psg_dtype)dtype, (hiding)kind, values[v], dirty);
                    for (int e = 0; e < COUNT; e++) {
                        if (dirty[e] != clean[e]) fail_msg("kind %d, %g: result %d is %g, not %g", kind, values[v], e,
                                                           dirty[e], clean[e]);
                    }
                }
            }
        }
        test_context_free(context);
    }
}

/* A padded key in front: what its input holds changes no bit of the gradients of the projections' weights. */
static void hidden_inputs_change_no_gradient(void **state) {
    (void)state;
    enum { KEYS = 5, PADDED = 1, WEIGHTS = 2 * D * D };
    static const double values[] = { 0, NAN, INFINITY, -1e300 };
    double first[2 * WEIGHTS];
    for (int k = 0; k < 4; k++) {
        desk d = open_desk();
        begin(&d);
        psg_tensor q = filled(PSG_F64, 1, 3, (int64_t[]){ 2, 3, D }), kv = filled(PSG_F64, 2, 3, (int64_t[]){ 2, KEYS, D });
        psg_tensor in = filled(PSG_F64, 3, 2, (int64_t[]){ 3 * D, D }), out = filled(PSG_F64, 4, 2, (int64_t[]){ D, D });
        int32_t is_padded[2 * KEYS] = { [PADDED] = 1, [KEYS + PADDED] = 1 };
        psg_tensor mask = psg_tensor_of(PSG_I32, is_padded, 2, (int64_t[]){ 2, KEYS }), gw;
        for (int n = 0; n < 2; n++) test_set(&kv, (int64_t[]){ n, PADDED, 2 }, values[k]);
        psg_param *w;
        TEST_OK(d.context, psg_param_create(d.context, "in_proj_weight", &in, &w));
        psg_multi_head_attention_weights weights = { .in_proj_weight = psg_use(d.tape, w),
                                                     .out_proj_weight = psg_constant(d.tape, &out) };
        psg_multi_head_attention_options o = PSG_MULTI_HEAD_ATTENTION_OPTIONS_INIT;
        o.key_padding_mask = psg_input(d.tape, &mask);
        psg_var key = psg_input(d.tape, &kv);
        psg_var y = psg_multi_head_attention(d.tape, psg_input(d.tape, &q), key, key, 2, &weights, &o, NULL);
        TEST_OK(d.context, psg_backward_from(d.tape, y, NULL));
        psg_gradient gradient;
        TEST_OK(d.context, psg_gradient_of(d.tape, w, &gradient));
        double seen[2 * 3 * D * D];
        gw = psg_tensor_of(PSG_F64, seen, 3, (int64_t[]){ 2, 3 * D, D });
        TEST_OK(d.context, psg_grad_sample(d.context, &gradient, 1, PSG_OVERWRITE, &gw));
        for (int n = 0; n < 2; n++) {   /* the rows of k and v */
            const double *rows = seen + n * 3 * D * D + D * D;
            if (k) assert_memory_equal(first + n * WEIGHTS, rows, WEIGHTS * sizeof *rows);
            else memcpy(first + n * WEIGHTS, rows, WEIGHTS * sizeof *rows);
        }
        psg_param_destroy(w);
        free(q.data);
        free(kv.data);
        free(in.data);
        free(out.data);
        close_desk(&d);
    }
}

/* Key 0 is hidden by key_padding_mask, whatever attn_mask, of a row or of a plane, adds to its score. */
static void one_mask_hides_what_another_adds_to(void **state) {
    (void)state;
    static const float added[] = { 0, 5, INFINITY, NAN };
    for (int k = 0; k < 8; k++) {
        desk d = open_desk();
        begin(&d);
        float rows[] = { 1, 2, 3, 4 }, add[] = { added[k % 4], 0, added[k % 4], 0 };
        int32_t is_padded[] = { 1, 0 };
        psg_tensor x = psg_tensor_of(PSG_F32, rows, 3, (int64_t[]){ 1, 2, 2 }), y, grad;
        psg_tensor padding = psg_tensor_of(PSG_I32, is_padded, 2, (int64_t[]){ 1, 2 });
        psg_tensor mask = psg_tensor_strided(PSG_F32, add, 2, (int64_t[]){ 2, 2 }, (ptrdiff_t[]){ k < 4 ? 2 : 0, 1 });
        psg_multi_head_attention_options o = PSG_MULTI_HEAD_ATTENTION_OPTIONS_INIT;
        o.key_padding_mask = psg_input(d.tape, &padding);
        o.attn_mask = psg_constant(d.tape, &mask);
        psg_var in = psg_input_with_grad(d.tape, &x);
        psg_var out = psg_head_attention(d.tape, in, in, in, 1, psg_none(), psg_none(), &o, NULL);
        TEST_OK(d.context, psg_backward_from(d.tape, out, NULL));
        TEST_OK(d.context, psg_value(d.tape, out, &y));
        TEST_OK(d.context, psg_input_grad(d.tape, in, &grad));
        for (int e = 0; e < 4; e++) {
            assert_true(test_get_at(&y, e) == rows[2 + e % 2]);          /* both queries see key 1 alone */
            assert_true(test_get_at(&grad, e) == (e < 2 ? 0 : 2));
        }
        close_desk(&d);
    }
}

/* What a query sees is not hidden, be its weight 0: NaN of values and of output gradients reaches the results. */
static void seen_values_are_read(void **state) {
    (void)state;
    desk d = open_desk();
    for (int k = 1; k < 4; k++) {
        begin(&d);
        psg_tensor in[4];
        psg_var x[3];
        for (int m = 0; m < 4; m++) {
            in[m] = filled(PSG_F64, 3, 3, (int64_t[]){ 1, 3, 2 });
            if (m < 3) x[m] = psg_input_with_grad(d.tape, &in[m]);
        }
        test_set(&in[0], (int64_t[]){ 0, 2, 0 }, 1e200);   /* query 2: weight 1 at one key */
        test_set(&in[k], (int64_t[]){ 0, 1, 1 }, NAN);     /* a key, a value, an output gradient */
        psg_scaled_dot_product_attention_options causal = { .is_causal = 1 };
        psg_var y = psg_scaled_dot_product_attention(d.tape, x[0], x[1], x[2], psg_none(), &causal);
        psg_tensor out, gv;
        TEST_OK(d.context, psg_backward_from(d.tape, y, &in[3]));
        TEST_OK(d.context, psg_value(d.tape, y, &out));
        TEST_OK(d.context, psg_input_grad(d.tape, x[2], &gv));
        for (int64_t e = 0; e < 6; e++) {
            bool reached = k == 1 ? e >= 2 : k == 2 && e >= 2 && e % 2 == 1;
            assert_true(isnan(test_get_at(&out, e)) == reached);
            if (k == 3) assert_true(isnan(test_get_at(&gv, e)) == (e < 4 && e % 2 == 1));
        }
        for (int m = 0; m < 4; m++) free(in[m].data);
    }
    close_desk(&d);
}

/* Queries and keys about 100, whose scores f32 holds exactly: where one weight is nearly 1, gradients of q and k are
 * differences of nothing, and a row of them vanishes as its other weights do. */
typedef struct sharp_case {
    int64_t queries, keys;
    psg_scaled_dot_product_attention_options options;
} sharp_case;

enum { SHARP = 300 * 4 };

static void run_sharp(psg_context *context, const sharp_case *c, psg_dtype dtype, double *gq, double *gk) {
    psg_tape *tape;
    psg_var var[3];
    psg_tensor in[3], grad;
    test_random random = { 17 };
    TEST_OK(context, psg_tape_create(context, &tape));
    TEST_OK(context, psg_tape_begin(tape, NULL));
    for (int k = 0; k < 3; k++) {
        in[k] = filled(dtype, 5, 3, (int64_t[]){ 1, k ? c->keys : c->queries, 4 });
        if (k < 2) test_fill_integers(&random, &in[k], -100, 100);
        var[k] = psg_input_with_grad(tape, &in[k]);
    }
    psg_var y = psg_scaled_dot_product_attention(tape, var[0], var[1], var[2], psg_none(), &c->options);
    TEST_OK(context, psg_backward_from(tape, y, &in[0]));
    for (int k = 0; k < 2; k++) {
        TEST_OK(context, psg_input_grad(tape, var[k], &grad));
        read_all(&grad, k ? gk : gq);
    }
    psg_tape_destroy(tape);
    for (int k = 0; k < 3; k++) free(in[k].data);
}

static void near_rows(const double *got, const double *expected, int64_t rows, const char *what) {
    for (int64_t i = 0; i < rows; i++) {
        double most = 0;
        for (int64_t e = 0; e < 4; e++) most = fmax(most, fabs(expected[4 * i + e]));
        for (int64_t e = 0; e < 4; e++) test_near(got[4 * i + e], expected[4 * i + e], 4e-4 * most + 1e-36, what, i);
    }
}

static void sharp_weights_pass_what_they_differ(void **state) {
    (void)state;
    static const sharp_case cases[] = { { 64, 64, { 0, 1.0 / 256, 0, 0, { 0 } } }, { 70, 300, { 0, 1.0 / 128, 0, 0, { 0 } } },
                                        { 130, 60, { 0, 1.0 / 64, 0, 0, { 0 } } }, { 200, 200, { 1, 1.0 / 256, 0, 0, { 0 } } } };
    static double q[2][SHARP], k[2][SHARP];
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t i = 0; i < count; i++) {
        psg_context *context = test_context(1, isas[i]);
        for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
            for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
                run_sharp(context, &cases[c], (psg_dtype)dtype, q[dtype == PSG_F64], k[dtype == PSG_F64]);
            }
            near_rows(q[0], q[1], cases[c].queries, "q");
            near_rows(k[0], k[1], cases[c].keys, "k");
        }
        test_context_free(context);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_those_of_what_was_kept),
        cmocka_unit_test(kept_weights_make_the_result),
        cmocka_unit_test(evaluation_drops_nothing),
        cmocka_unit_test(sharp_weights_pass_what_they_differ),
        cmocka_unit_test(parts_make_the_layer),
        cmocka_unit_test(hidden_values_change_no_bit),
        cmocka_unit_test(hidden_inputs_change_no_gradient),
        cmocka_unit_test(one_mask_hides_what_another_adds_to),
        cmocka_unit_test(seen_values_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
