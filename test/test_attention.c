/* multi_head_attention and scaled_dot_product_attention against plain loops: every option, layout and shape. */
#include "attention_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- multi_head_attention ---- */

static attention_case draw_case(test_random *random) {
    static const int64_t lengths[] = { 1, 1, 2, 3, 4, 5, 7, 9 }, sizes[] = { 1, 2, 3, 4, 5 };
    attention_case c = { .samples = test_range(random, 1, 4), .queries = TEST_PICK(random, lengths),
                         .keys = TEST_PICK(random, lengths), .heads = test_range(random, 1, 3),
                         .head_size = TEST_PICK(random, sizes), .kdim = test_range(random, 1, 6),
                         .vdim = test_range(random, 1, 6) };
    if (!test_range(random, 0, 20)) c.samples = 0;
    if (!test_range(random, 0, 20)) c.queries = 0;
    if (!test_range(random, 0, 20)) c.keys = 0;
    c.sources = (attention_sources)test_range(random, 0, SOURCES_COUNT - 1);
    c.mask = (attention_mask)test_range(random, 0, MASK_COUNT - 1);
    c.padding = (int)test_range(random, 0, 2);
    bool *const flags[] = { &c.batch_second, &c.separate, &c.in_bias, &c.out_bias, &c.bias_kv, &c.zero_attn, &c.causal,
                            &c.per_head };
    for (size_t k = 0; k < sizeof flags / sizeof flags[0]; k++) *flags[k] = test_range(random, 0, 1);
    c.no_weights = !test_range(random, 0, 3);
    c.frozen = !test_range(random, 0, 9);
    if (!test_range(random, 0, 3)) {
        c.dropout_p = 0.4;
        c.per_head = true;
        c.no_weights = false;
    }
    if (c.sources == SELF) c.keys = c.queries;
    if (c.sources == SELF) c.kdim = c.vdim = c.heads * c.head_size;
    if (c.sources == KEY_IS_VALUE) c.vdim = c.kdim;
    return c;
}

static void random_cases(psg_dtype dtype, int rounds) {
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t k = 0; k < count; k++) {
        psg_context *context = test_context(2, isas[k]);
        test_random random = { 41 };
        for (int round = 0; round < rounds; round++) {
            attention_case c = draw_case(&random);
            c.dtype = dtype;
            attention_check(context, &c, &random);
        }
        test_context_free(context);
    }
}

static void random_f64(void **state) { (void)state; random_cases(PSG_F64, 400); }
static void random_f32(void **state) { (void)state; random_cases(PSG_F32, 400); }

/* Several tiles of queries and of keys, and sizes that fill no vector. */
static void long_sequences(void **state) {
    (void)state;
    static const attention_case list[] = {
        { .samples = 1, .queries = 150, .keys = 300, .heads = 2, .head_size = 7, .sources = ALL_APART },
        { .samples = 1, .queries = 300, .keys = 150, .heads = 1, .head_size = 33, .causal = true },
        { .samples = 2, .queries = 129, .keys = 257, .heads = 1, .head_size = 3, .causal = true, .padding = 1,
          .mask = MASK_HEADS_REAL, .sources = KEY_IS_VALUE, .bias_kv = true, .zero_attn = true, .in_bias = true },
        { .samples = 1, .queries = 65, .keys = 128, .heads = 1, .head_size = 17, .bias_kv = true, .batch_second = true,
          .dropout_p = 0.5, .per_head = true, .sources = ALL_APART },
        { .samples = 2, .queries = 64, .keys = 64, .heads = 2, .head_size = 16, .in_bias = true, .out_bias = true },
    };
    psg_context *context = test_context(2, NULL);
    test_random random = { 7 };
    for (size_t k = 0; k < sizeof list / sizeof list[0]; k++) {
        for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
            attention_case c = list[k];
            c.dtype = (psg_dtype)dtype;
            if (c.sources == SELF) c.keys = c.queries;
            attention_check(context, &c, &random);
        }
    }
    test_context_free(context);
}

/* With several heads the order of the batch and that of the sequence must not be mixed up (Opacus 1.6.0 does, with
 * batch_first): both orders give what the loops give. */
static void both_orders_of_the_batch(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    for (int second = 0; second < 2; second++) {
        test_random random = { 3 };
        attention_case c = { .dtype = PSG_F64, .samples = 3, .queries = 5, .keys = 5, .heads = 4, .head_size = 2,
                             .batch_second = second, .in_bias = true, .out_bias = true, .padding = 1 };
        attention_check(context, &c, &random);
    }
    test_context_free(context);
}

/* ---- scaled_dot_product_attention ---- */

typedef struct product_case {
    psg_dtype dtype;
    int64_t samples, heads, key_heads, queries, keys, size, value_size;
    psg_scaled_dot_product_attention_options options;
    int mask;            /* 0: none; 1: (L, S); 2: (N, 1, L, S); 3: (N, H, 1, S) integers; 4: (H, 1, S) parameter;
                            5: (S); 6: () */
    bool batch_second;
} product_case;

static psg_tensor array(psg_dtype dtype, int rank, const int64_t *shape, test_random *random) {
    psg_tensor t = psg_tensor_of(dtype, NULL, rank, shape);
    t.data = calloc((size_t)psg_tensor_count(&t) + 1, 8);
    if (dtype == PSG_F32 || dtype == PSG_F64) test_fill_normal(random, &t, 1);
    else test_fill_integers(random, &t, 0, 1);
    return t;
}

/* Element of a (N, H, *, *) array, or (H, N, *, *). */
static double element(const product_case *c, const psg_tensor *t, int64_t n, int64_t h, int64_t i, int64_t j) {
    return test_get(t, (int64_t[]){ c->batch_second ? h : n, c->batch_second ? n : h, i, j });
}

static double masked(const product_case *c, const psg_tensor *mask, int64_t n, int64_t h, int64_t i, int64_t j) {
    if (c->options.is_causal && j > i) return -INFINITY;
    switch (c->mask) {
    case 1: return test_get(mask, (int64_t[]){ i, j });
    case 2: return element(c, mask, n, 0, i, j);
    case 3: return element(c, mask, n, h, 0, j) != 0 ? 0 : -INFINITY;
    case 4: return test_get(mask, (int64_t[]){ h, 0, j });
    case 5: return test_get(mask, &j);
    case 6: return test_get(mask, NULL);
    default: return 0;
    }
}

static void compare_product(const product_case *c, const psg_tensor in[3], const psg_tensor *mask,
                            const psg_tensor *y) {
    double scale = c->options.scale != 0 ? c->options.scale : 1 / sqrt((double)c->size), p[400];
    int64_t group = c->heads / c->key_heads;
    for (int64_t r = 0; r < c->samples * c->heads * c->queries; r++) {
        int64_t i = r % c->queries, h = r / c->queries % c->heads, n = r / c->queries / c->heads;
        double max = -INFINITY, sum = 0;
        for (int64_t j = 0; j < c->keys; j++) {
            p[j] = 0;
            for (int64_t d = 0; d < c->size; d++) {
                p[j] += element(c, &in[0], n, h, i, d) * element(c, &in[1], n, h / group, j, d);
            }
            p[j] = p[j] * scale + masked(c, mask, n, h, i, j);
            max = fmax(max, p[j]);
        }
        for (int64_t j = 0; j < c->keys; j++) sum += p[j] = max == -INFINITY ? 0 : exp(p[j] - max);
        for (int64_t d = 0; d < c->value_size; d++) {
            double expected = 0;
            for (int64_t j = 0; j < c->keys && sum > 0; j++) {
                expected += p[j] / sum * element(c, &in[2], n, h / group, j, d);
            }
            test_near(element(c, y, n, h, i, d), expected, c->dtype == PSG_F64 ? 1e-12 : 2e-5, "y", r);
        }
    }
}

static void check_product(psg_context *context, const product_case *c, test_random *random) {
    psg_tape *tape;
    psg_param *param = NULL;
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_second = c->batch_second;
    TEST_OK(context, psg_tape_create(context, &tape));
    TEST_OK(context, psg_tape_begin(tape, &pass));
    psg_tensor in[3];
    psg_var var[3], mask_var = psg_none();
    for (int k = 0; k < 3; k++) {
        int64_t h = k ? c->key_heads : c->heads, l = k ? c->keys : c->queries, e = k == 2 ? c->value_size : c->size;
        int64_t shape[4] = { c->batch_second ? h : c->samples, c->batch_second ? c->samples : h, l, e };
        in[k] = array(c->dtype, 4, shape, random);
        var[k] = psg_input_with_grad(tape, &in[k]);
    }
    int64_t l = c->queries, s = c->keys, n = c->samples, h = c->heads;
    int64_t first[7][4] = { { 1 }, { l, s }, { n, 1, l, s }, { n, h, 1, s }, { h, 1, s }, { s } };
    int64_t second[7][4] = { { 1 }, { l, s }, { 1, n, l, s }, { h, n, 1, s }, { h, 1, s }, { s } };
    static const int ranks[7] = { 1, 2, 4, 4, 3, 1, 0 };
    psg_tensor mask = array(c->mask == 3 ? PSG_I32 : c->dtype, ranks[c->mask],
                            c->batch_second ? second[c->mask] : first[c->mask], random);
    if (c->mask == 4) {
        TEST_OK(context, psg_param_create(context, "table", &mask, &param));
        mask_var = psg_use(tape, param);
    } else if (c->mask) {
        mask_var = c->mask == 2 || c->mask == 3 ? psg_input(tape, &mask) : psg_constant(tape, &mask);
    }
    psg_var y = psg_scaled_dot_product_attention(tape, var[0], var[1], var[2], mask_var, &c->options);
    psg_tensor value;
    test_status(context, psg_tape_status(tape), PSG_OK, psg_tape_message(tape));
    TEST_OK(context, psg_value(tape, y, &value));
    compare_product(c, in, &mask, &value);
    TEST_OK(context, psg_backward_from(tape, y, NULL));
    psg_tape_destroy(tape);
    psg_param_destroy(param);
    for (int k = 0; k < 3; k++) free(in[k].data);
    free(mask.data);
}

static void products(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    static const int64_t lengths[] = { 0, 1, 2, 5, 16, 31, 64, 65, 130, 200 }, sizes[] = { 0, 1, 4, 8, 17, 32, 40 };
    for (size_t k = 0; k < count; k++) {
        psg_context *context = test_context(2, isas[k]);
        test_random random = { 13 };
        for (int round = 0; round < 60; round++) {
            product_case c = { .dtype = (psg_dtype)(round % 2), .samples = test_range(&random, 0, 3),
                               .key_heads = test_range(&random, 1, 2), .queries = TEST_PICK(&random, lengths),
                               .keys = TEST_PICK(&random, lengths), .size = TEST_PICK(&random, sizes),
                               .value_size = TEST_PICK(&random, sizes), .mask = (int)test_range(&random, 0, 6) };
            c.options.is_causal = (int)test_range(&random, 0, 1);
            c.options.enable_gqa = (int)test_range(&random, 0, 1);
            c.options.scale = test_range(&random, 0, 1) || !c.size ? 0.3 : 0;
            c.heads = c.key_heads * (c.options.enable_gqa ? test_range(&random, 1, 3) : 1);
            c.batch_second = c.mask != 4 && test_range(&random, 0, 1);
            check_product(context, &c, &random);
        }
        test_context_free(context);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_f64),       cmocka_unit_test(random_f32),
        cmocka_unit_test(long_sequences),   cmocka_unit_test(both_orders_of_the_batch),
        cmocka_unit_test(products),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
