/* Rows and row products: the gain of a normalisation from its operands, biases that are columns of their weights, and
 * blocks without positions. */
#include "gradient_fixture.h"
#include "small_pass.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { B = 5, FEATURES = 33 };

/* ---- row products ---- */

static void add_product(fixture *f, test_random *random, int64_t positions, int64_t p, int layout, bool plain_too) {
    int rank = positions < 0 ? 2 : 3;
    int64_t shape[3] = { B, rank == 2 ? p : positions, p };
    const psg_tensor *g = fixture_operand(f, random, rank, shape, layout);
    psg_block *block = f->block[f->count];
    block[0] = psg_rows_product(g, fixture_operand(f, random, rank, shape, layout));
    block[0].scale = (double)test_range(random, 1, 3) - 0.5;
    block[1] = psg_rows(g);
    fixture_add(f, plain_too ? 2 : 1, 1, &p);
}

static void row_products_agree_with_plain_loops(void **state) {
    (void)state;
    static const int64_t positions[] = { 0, 1, 7, -1, 130 };
    static const int layouts[] = { TEST_CONTIGUOUS, TEST_PERMUTED, TEST_PADDED, TEST_NEGATIVE, TEST_SHARED_BATCH };
    static const char *const routes[] = { NULL, "tiles", "gram" };
    test_random random = { 1 };
    psg_context *context = test_context_with(NULL, 2, NULL, (size_t)1 << 20);
    for (int k = 0; k < 5 * 5 * 2 * 2; k++) {
        fixture f = { .dtype = (psg_dtype)(k / 25 % 2), .batch_size = B };
        add_product(&f, &random, positions[k % 5], FEATURES, layouts[k / 5 % 5], k / 50);
        add_product(&f, &random, positions[k / 5 % 5], 1, layouts[k % 5], k % 2);
        fixture_refresh(&f);
        TEST_OK(context, psg_context_force_route(context, routes[k % 3]));
        check_all_questions(context, &f, &random);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

/* Products are formed in double: f32 ones are exact, whatever they cancel to. */
static void row_products_are_formed_in_double(void **state) {
    (void)state;
    float g[3] = { 1.0000001f, -1, 0x1p-30f }, a[3] = { 1.0000001f, 1.0000002f, 0x1p-30f };
    double expected = (double)g[0] * a[0] + (double)g[1] * a[1] + (double)g[2] * a[2], out, square, upper;
    psg_tensor x = psg_tensor_of(PSG_F32, g, 3, (int64_t[]){ 1, 3, 1 }), y = x;
    y.data = a;
    psg_block block = psg_rows_product(&x, &y);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, (int64_t[]){ 1 });
    const psg_gradient *set = &gradient;
    psg_context *context = test_context(1, NULL);
    psg_tensor outs = psg_tensor_of(PSG_F64, &out, 1, gradient.shape);
    double one = 1;
    TEST_OK(context, psg_weighted_sum(context, &set, 1, &one, PSG_OVERWRITE, &outs));
    test_near(out, expected, 0x1p-52, "sum", 0);
    assert_true(fabs(expected) < 1e-13 && expected != 0);
    TEST_OK(context, psg_sqnorm(context, &set, 1, &square, &upper, NULL));
    test_near(sqrt(square), fabs(expected), 0x1p-52, "norm", 0);
    assert_true(upper >= expected * expected);
    psg_context_destroy(context);
}

/* f64: two positions that cancel but for the rounding of their products, which is that of 1e30. */
static void the_rounding_of_row_products_is_covered(void **state) {
    (void)state;
    test_random random = { 7 };
    psg_context *context = test_context(1, NULL);
    for (int k = 0; k < 300; k++) {
        double x = 1 + test_uniform(&random);
        double c = 1e30 * (1 + test_uniform(&random)), e = 1e30 * (1 + test_uniform(&random));
        double g[2] = { x, -x * (c / e) }, a[2] = { c, e }, square, upper, most = 2 * x * c * test_gamma(PSG_F64, 16);
        long double truth = (long double)g[0] * a[0] + (long double)g[1] * a[1];   /* off by 2^-11 of itself */
        psg_tensor backprop = psg_tensor_of(PSG_F64, g, 3, (int64_t[]){ 1, 2, 1 }), activation = backprop;
        activation.data = a;
        psg_block block = psg_rows_product(&backprop, &activation);
        psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, (int64_t[]){ 1 });
        const psg_gradient *set = &gradient;
        TEST_OK(context, psg_sqnorm(context, &set, 1, &square, &upper, NULL));
        if (!(upper >= truth * truth * (1 - 0x1p-9L))) fail_msg("upper %g < %Lg", upper, truth * truth);
        if (!(upper <= most * most)) fail_msg("upper %g is loose", upper);
    }
    psg_context_destroy(context);
}

static void mismatched_row_products_are_refused(void **state) {
    (void)state;
    test_random random = { 2 };
    psg_context *context = test_context(1, NULL);
    for (int k = 0; k < 4; k++) {
        fixture f = { .dtype = PSG_F32, .batch_size = B };
        add_product(&f, &random, 3, FEATURES, TEST_CONTIGUOUS, false);
        psg_tensor *a = &f.block[0][0].activation;
        psg_status expected = PSG_ERR_SHAPE;
        if (k < 2) a->shape[k + 1]--;
        else if (k == 2) a->dtype = PSG_F64, expected = PSG_ERR_DTYPE;
        else a->shape[0]--, expected = PSG_ERR_BATCH;
        double square[B];
        psg_status status = psg_sqnorm(context, f.pointer, 1, square, NULL, NULL);
        test_status(context, status, expected, "row product");
        assert_non_null(strstr(psg_context_message(context), "activation"));
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

/* (x - mean) / sqrt(var + eps) over the last dimension. */
static void normalise(const psg_tensor *x, double eps, double *to) {
    int64_t count = psg_tensor_count(x) / FEATURES;
    for (int64_t r = 0; r < count; r++) {
        long double mean = 0, square = 0;
        for (int64_t j = 0; j < FEATURES; j++) mean += test_get_at(x, r * FEATURES + j) / FEATURES;
        for (int64_t j = 0; j < FEATURES; j++) {
            long double d = test_get_at(x, r * FEATURES + j) - mean;
            square += d * d / FEATURES;
        }
        for (int64_t j = 0; j < FEATURES; j++) {
            to[r * FEATURES + j] = (double)((test_get_at(x, r * FEATURES + j) - mean) / sqrtl(square + eps));
        }
    }
}

static void a_row_product_is_the_gain_of_a_layer_norm(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_tensor x = small_normal(&f, 3, (int64_t[]){ B, 7, FEATURES }), g = small_normal(&f, 3, x.shape);
    psg_tensor hat = small_zeros(&f, PSG_F64, 3, x.shape);
    normalise(&x, 1e-5, hat.data);
    psg_param *gain = small_parameter(&f, "gain", 1, (int64_t[]){ FEATURES });
    psg_param *shift = small_parameter(&f, "shift", 1, (int64_t[]){ FEATURES });
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_var y = psg_layer_norm(f.tape, psg_input(f.tape, &x), 1, (int64_t[]){ FEATURES }, psg_use(f.tape, gain),
                               psg_use(f.tape, shift), 1e-5);
    small_backward(&f, y, &g);
    psg_block block = psg_rows_product(&g, &hat);
    psg_gradient own = small_gradient_of(&f, gain), ours = psg_gradient_of_blocks(&block, 1, 1, own.shape);
    double *out[2] = { calloc(B * FEATURES, 8), calloc(B * FEATURES, 8) };
    for (int k = 0; k < 2; k++) {
        psg_tensor samples = psg_tensor_of(PSG_F64, out[k], 2, (int64_t[]){ B, FEATURES });
        TEST_OK(f.context, psg_grad_sample(f.context, k ? &ours : &own, 1, PSG_OVERWRITE, &samples));
    }
    for (int64_t e = 0; e < B * FEATURES; e++) test_near(out[1][e], out[0][e], 1e-13, "gain", e);
    free(out[0]);
    free(out[1]);
    small_close(&f);
}

/* ---- a bias that is the last column of its weight ---- */

static void new_folded(fixture *f, test_random *random, psg_dtype dtype, int64_t positions, int64_t p, int64_t d,
                       bool product) {
    *f = (fixture){ .dtype = dtype, .batch_size = B };
    const psg_tensor *g = fixture_operand(f, random, 3, (int64_t[]){ B, positions, p }, TEST_CONTIGUOUS);
    psg_block *block = f->block[0];
    block[0] = psg_factored(g, fixture_operand(f, random, 3, (int64_t[]){ B, positions, d }, TEST_CONTIGUOUS));
    block[0].row_stride = d + 1;
    block[1] = psg_rows(g);
    if (product) block[1] = psg_rows_product(g, fixture_operand(f, random, 3, g->shape, TEST_PADDED));
    block[1].offset = d;
    block[1].row_step = d + 1;
    fixture_add(f, 2, 2, (int64_t[]){ p, d + 1 });
    fixture_refresh(f);
}

static void a_folded_bias_agrees(void **state) {
    (void)state;
    static const int64_t positions[] = { 0, 1, 2, 17, 64 }, sizes[][2] = { { 20, 33 }, { 1, 5 }, { 7, 1 }, { 65, 40 } };
    test_random random = { 3 };
    for (int k = 0; k < 5 * 4 * 2 * 2; k++) {
        const int64_t *size = sizes[k / 5 % 4];
        fixture f;
        new_folded(&f, &random, (psg_dtype)(k / 20 % 2), positions[k % 5], size[0], size[1], k / 40);
        psg_context *context = test_context_with(NULL, 2, NULL, k % 2 ? (size_t)1 << 20 : 0);
        check_all_questions(context, &f, &random);
        char text[1024];
        TEST_OK(context, psg_plan_text(context, PSG_ASK_SQNORM, f.pointer, 1, NULL, text, sizeof text, NULL));
        bool partner = strstr(text, "norm taken with its weight's") != NULL;
        if (partner == (k >= 40) || strstr(text, "mixed")) fail_msg("%d: %s", k, text);
        psg_context_destroy(context);
        fixture_free(&f);
    }
}

/* The weight and its bias apart give the folded norms. */
static void a_folded_bias_has_the_norms_of_one_apart(void **state) {
    (void)state;
    test_random random = { 4 };
    psg_context *context = test_context(1, NULL);
    for (int k = 0; k < 6; k++) {
        fixture f;
        new_folded(&f, &random, (psg_dtype)(k % 2), (int64_t[]){ 1, 4, 64 }[k / 2], 20, 33, false);
        psg_block weight = f.block[0][0], bias = f.block[0][1];
        weight.row_stride = 33;
        bias.offset = bias.row_step = 0;
        psg_gradient apart[2] = { psg_gradient_of_blocks(&weight, 1, 2, (int64_t[]){ 20, 33 }),
                                  psg_gradient_of_blocks(&bias, 1, 1, (int64_t[]){ 20 }) };
        double square[2][B], upper[2][B];
        TEST_OK(context, psg_sqnorm(context, f.pointer, 1, square[0], upper[0], NULL));
        const psg_gradient *set[2] = { apart, apart + 1 };
        TEST_OK(context, psg_sqnorm(context, set, 2, square[1], upper[1], NULL));
        assert_memory_equal(square[0], square[1], sizeof square[0]);
        for (int n = 0; n < B; n++) test_near(upper[0][n], upper[1][n], 1e-12 * upper[1][n], "upper", n);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

static void row_steps_are_checked(void **state) {
    (void)state;
    static const struct { int64_t step, offset; bool legal; } cases[] = {
        { 34, 33, true },         { 34, 0, true },       { 0, 0, true },            { 1, 0, true },
        { 68, 33, false },        { -34, 19 * 34, false }, { -1, 0, false },        { 33, 0, false },
        { 34, 34, false },        { INT64_MAX, 0, false }, { INT64_MIN, 0, false }, { 2, 0, false },
        { 34, -1, false },        { 1, 20 * 34 - 19, false },
    };
    test_random random = { 5 };
    psg_context *context = test_context(1, NULL);
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        fixture f;
        new_folded(&f, &random, PSG_F32, 3, 20, 33, false);
        f.block[0][0] = f.block[0][1];
        f.gradient[0].block_count = 1;
        f.block[0][0].row_step = cases[k].step;
        f.block[0][0].offset = cases[k].offset;
        double square[B] = { 7 };
        psg_status status = psg_sqnorm(context, f.pointer, 1, square, NULL, NULL);
        if (status != (cases[k].legal ? PSG_OK : PSG_ERR_SHAPE) || (square[0] == 7) == cases[k].legal) {
            fail_msg("step %lld from %lld: %s", (long long)cases[k].step, (long long)cases[k].offset,
                     psg_status_name(status));
        }
        if (cases[k].legal) fixture_refresh(&f), check_all_questions(context, &f, &random);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

/* ---- no positions ---- */

static void blocks_without_positions_are_zero(void **state) {
    (void)state;
    const psg_window window = { 1, { 1 }, { 1 }, { 1 }, { 0 }, { 0 } };
    test_random random = { 6 };
    for (int k = 0; k < 5 * 3 * 2; k++) {
        fixture f = { .dtype = (psg_dtype)(k / 15), .batch_size = B };
        psg_block *block = f.block[0];
        for (int b = 0; b <= k / 5 % 3; b++) {   /* alone, twice, beside one of three positions */
            int64_t positions = b == 2 ? 3 : 0, p = 9;
            const psg_tensor *g = fixture_operand(&f, &random, 3, (int64_t[]){ B, positions, p }, TEST_CONTIGUOUS);
            test_array *ids = NULL;
            switch (b == 2 ? 0 : k % 5) {
            case 0: block[b] = psg_factored(g, fixture_operand(&f, &random, 3, g->shape, TEST_CONTIGUOUS)); break;
            case 1: block[b] = psg_rows(g); break;
            case 2: block[b] = psg_rows_product(g, fixture_operand(&f, &random, 3, g->shape, TEST_CONTIGUOUS)); break;
            case 3:
                ids = &f.array[f.array_count++];
                *ids = test_array_new(&random, PSG_I32, 2, (int64_t[]){ B, 0 }, TEST_CONTIGUOUS);
                block[b] = psg_sparse_rows(g, &ids->view);
                break;
            default: block[b] = psg_unfolded(g, fixture_operand(&f, &random, 3, (int64_t[]){ B, 9, 4 }, 0), &window);
            }
        }
        fixture_add(&f, (size_t)(k / 5 % 3) + 1, 2, (int64_t[]){ 9, 9 });
        fixture_refresh(&f);
        psg_context *context = test_context_with(NULL, 2, NULL, (size_t)1 << 20);
        check_all_questions(context, &f, &random);
        answers a = answers_of(context, &f, PSG_ASK_SQNORM);
        if (k / 5 % 3 < 2) for (int n = 0; n < B; n++) assert_true(a.sqnorm[n] == 0 && a.upper[n] == 0);
        answers_free(&a);
        psg_context_destroy(context);
        fixture_free(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(row_products_agree_with_plain_loops),
        cmocka_unit_test(row_products_are_formed_in_double),
        cmocka_unit_test(the_rounding_of_row_products_is_covered),
        cmocka_unit_test(mismatched_row_products_are_refused),
        cmocka_unit_test(a_row_product_is_the_gain_of_a_layer_norm),
        cmocka_unit_test(a_folded_bias_agrees),
        cmocka_unit_test(a_folded_bias_has_the_norms_of_one_apart),
        cmocka_unit_test(row_steps_are_checked),
        cmocka_unit_test(blocks_without_positions_are_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
