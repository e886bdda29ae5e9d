/* Certified norms: upper bounds that hold on cancelling inputs and stay tight on ordinary ones. */
#include "gradient_fixture.h"

#include <math.h>
#include <stdlib.h>

typedef enum adversary {
    OFFSET_ROWS,        /* activations: one common row of size ~1e3 and a small spread */
    CENTRED_BACKPROP,   /* output gradients that sum to almost 0 over the positions, activations with an offset */
    PAIRED,             /* every position has its negative */
    ORTHOGONAL_TO_BOTH, /* output gradients nearly orthogonal to the positions' pattern of activations */
    SCALES_APART,       /* positions of sizes from 1e-15 to 1e15 */
    ADVERSARIES
} adversary;

static void centre_over_positions(const psg_tensor *operand, double remainder) {
    int64_t t_count = operand->shape[1];
    for (int64_t n = 0; n < operand->shape[0]; n++) {
        for (int64_t j = 0; j < operand->shape[2]; j++) {
            double sum = 0;
            for (int64_t t = 0; t + 1 < t_count; t++) sum += test_get3(operand, n, t, j);
            test_set(operand, (int64_t[]){ n, t_count - 1, j }, -sum + remainder);
        }
    }
}

/* x[n,t,j] = offset[n,j] + spread * normal */
static void offset_rows(test_random *random, const psg_tensor *operand, double size, double spread) {
    for (int64_t n = 0; n < operand->shape[0]; n++) {
        for (int64_t j = 0; j < operand->shape[2]; j++) {
            double offset = size * test_normal(random);
            for (int64_t t = 0; t < operand->shape[1]; t++) {
                test_set(operand, (int64_t[]){ n, t, j }, offset + spread * test_normal(random));
            }
        }
    }
}

static void pair_positions(const psg_tensor *operand, double sign, double difference) {
    for (int64_t n = 0; n < operand->shape[0]; n++) {
        for (int64_t t = 0; t + 1 < operand->shape[1]; t += 2) {
            for (int64_t j = 0; j < operand->shape[2]; j++) {
                double x = test_get3(operand, n, t, j);
                test_set(operand, (int64_t[]){ n, t + 1, j }, sign * x * (1 + difference));
            }
        }
    }
}

static void spread_scales(const psg_tensor *operand) {
    int64_t count = psg_tensor_count(operand), row = operand->shape[2];
    for (int64_t k = 0; k < count; k++) {
        test_set_at(operand, k, test_get_at(operand, k) * pow(10, (double)(k / row % 31) - 15));
    }
}

static void make_adversary(fixture *f, test_random *random, adversary kind, double difficulty) {
    const psg_tensor *g = &f->array[0].view, *a = &f->array[1].view;
    switch (kind) {
    case OFFSET_ROWS:
        offset_rows(random, a, 1e3, 1e3 * difficulty);
        centre_over_positions(g, difficulty);
        break;
    case CENTRED_BACKPROP:
        offset_rows(random, a, 30, difficulty);
        offset_rows(random, g, 700, 700 * difficulty);
        centre_over_positions(g, 0);
        break;
    case PAIRED:
        pair_positions(g, -1, difficulty);
        pair_positions(a, 1, difficulty);
        break;
    case ORTHOGONAL_TO_BOTH:
        offset_rows(random, a, 1e3, 0);
        centre_over_positions(g, difficulty);
        break;
    default:
        spread_scales(g);
        if (difficulty < 1e-3) centre_over_positions(g, 0);
    }
    fixture_refresh(f);
}

static void check_upper(psg_context *context, const fixture *f, bool tight) {
    double *sqnorm = calloc((size_t)f->batch_size + 1, 8), *upper = calloc((size_t)f->batch_size + 1, 8);
    int64_t fallbacks = -1;
    TEST_OK(context, psg_sqnorm(context, f->pointer, f->count, sqnorm, upper, &fallbacks));
    for (int64_t n = 0; n < f->batch_size; n++) {
        long double truth = fixture_sqnorm(f, n);
        if (!((long double)upper[n] >= truth) || !(upper[n] >= sqnorm[n]) || !(sqnorm[n] >= 0)) {
            fail_msg("sample %lld: true %.17Lg, sqnorm %.17g, upper %.17g", (long long)n, truth, sqnorm[n], upper[n]);
        }
        /* An upper norm may exceed the true one by 5 %, where f32 can tell the sum from 0 at all. */
        double noise = test_gamma(f->dtype, 4 * f->positions) * sqrt(fixture_mass_product(f, n, n));
        if (tight && sqrt(upper[n]) > 1.05 * (double)sqrtl(truth) + noise) {
            fail_msg("sample %lld: true norm %.9Lg, upper %.9g", (long long)n, sqrtl(truth), sqrt(upper[n]));
        }
    }
    free(sqnorm);
    free(upper);
}

static void upper_holds_on_cancelling_inputs(void **state) {
    (void)state;
    static const double difficulties[] = { 1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-9, 0 };
    static const char *const routes[] = { NULL, "gram", "tiles" };
    static const int64_t sizes[][3] = { { 64, 48, 40 }, { 130, 7, 200 }, { 200, 96, 64 }, { 2, 33, 17 } };
    test_random random = { 1 };
    for (int k = 0; k < ADVERSARIES * 8 * 4; k++) {
        const int64_t *size = sizes[k % 4];
        psg_context *context = test_context(2, NULL);
        fixture f;
        fixture_single(&f, &random, k % 3 ? PSG_F32 : PSG_F64, FIXTURE_WHOLE, 2, size[0], size[1], size[2],
                       TEST_CONTIGUOUS);
        make_adversary(&f, &random, (adversary)(k / 32), difficulties[k / 4 % 8]);
        for (int route = 0; route < 3; route++) {
            TEST_OK(context, psg_context_force_route(context, routes[route]));
            check_upper(context, &f, route == 0 || route == 2);
        }
        fixture_free(&f);
        psg_context_destroy(context);
    }
}

/* Tokens of T = 512 with sizes of a transformer layer's: the case in which a Gram product of f32 goes negative. */
static void upper_holds_on_long_sequences(void **state) {
    (void)state;
    static const char *const routes[] = { NULL, "gram" };
    test_random random = { 2 };
    for (int k = 0; k < 3; k++) {
        psg_context *context = test_context(2, NULL);
        fixture f;
        fixture_single(&f, &random, PSG_F32, FIXTURE_WHOLE, 2, 512, 96, 128, TEST_CONTIGUOUS);
        make_adversary(&f, &random, (adversary)k, k == 2 ? 1e-6 : 1e-4);
        for (int route = 0; route < 2; route++) {
            TEST_OK(context, psg_context_force_route(context, routes[route]));
            check_upper(context, &f, true);
        }
        fixture_free(&f);
        psg_context_destroy(context);
    }
}

static void cancelling_samples_fall_back_alone(void **state) {
    (void)state;
    test_random random = { 3 };
    psg_context *context = test_context(2, NULL);
    TEST_OK(context, psg_context_force_route(context, "gram"));
    fixture f;
    fixture_single(&f, &random, PSG_F32, FIXTURE_WHOLE, 4, 128, 64, 64, TEST_CONTIGUOUS);
    for (int64_t t = 0; t < 128; t++) {   /* sample 2: equal activations, output gradients in cancelling pairs */
        for (int64_t j = 0; j < 64; j++) {
            test_set(&f.array[1].view, (int64_t[]){ 2, t, j }, 900.0 + (double)j);
            if (t % 2) test_set(&f.array[0].view, (int64_t[]){ 2, t, j }, -test_get3(&f.array[0].view, 2, t - 1, j));
        }
    }
    test_set(&f.array[0].view, (int64_t[]){ 2, 0, 0 }, 1e-3 + test_get3(&f.array[0].view, 2, 0, 0));
    fixture_refresh(&f);
    double sqnorm[4], upper[4];
    int64_t fallbacks = -1;
    TEST_OK(context, psg_sqnorm(context, f.pointer, 1, sqnorm, upper, &fallbacks));
    assert_int_equal(fallbacks, 1);
    check_upper(context, &f, true);
    fixture_free(&f);
    psg_context_destroy(context);
}

static void ordinary_inputs_do_not_fall_back(void **state) {
    (void)state;
    test_random random = { 4 };
    psg_context *context = test_context(2, NULL);
    static const int64_t sizes[][3] = { { 1, 64, 64 }, { 17, 65, 33 }, { 64, 128, 64 }, { 256, 64, 64 } };
    for (int k = 0; k < 8; k++) {
        const int64_t *size = sizes[k / 2];
        fixture f;
        fixture_single(&f, &random, (psg_dtype)(k % 2), FIXTURE_WHOLE, 5, size[0], size[1], size[2], TEST_CONTIGUOUS);
        double sqnorm[5], upper[5];
        for (int forced = 0; forced < 2; forced++) {
            int64_t fallbacks = -1;
            TEST_OK(context, psg_context_force_route(context, forced ? "gram" : NULL));
            TEST_OK(context, psg_sqnorm(context, f.pointer, 1, sqnorm, upper, &fallbacks));
            assert_int_equal(fallbacks, 0);
            for (int n = 0; n < 5; n++) assert_true(upper[n] <= 1.05 * sqnorm[n] && sqnorm[n] > 0);
        }
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

/* Entries from denormal to 1e19: the sum of squares neither overflows nor vanishes, since it is taken in double. */
static void norms_have_the_range_of_double(void **state) {
    (void)state;
    static const double sizes[] = { 1e-41, 1e-38, 1e-25, 1e-10, 1, 1e10, 1e19, 1e30 };
    test_random random = { 5 };
    psg_context *context = test_context(1, NULL);
    for (size_t k = 0; k < 8; k++) {
        for (int kind = 0; kind < 2; kind++) {   /* rows; a product with ones */
            fixture f;
            fixture_single(&f, &random, PSG_F32, kind ? FIXTURE_WHOLE : FIXTURE_ROWS, 3, 1, 64, 33, TEST_CONTIGUOUS);
            test_fill_value(&f.array[0].view, sizes[k]);
            if (kind) test_fill_value(&f.array[1].view, 1.0);
            fixture_refresh(&f);
            check_upper(context, &f, k > 1);
            fixture_free(&f);
        }
    }
    psg_context_destroy(context);
}

/* A block of one position may have any stride between positions: a parameter of two blocks, more than is copied
 * together, each element 40 + 100. */
static void one_position_has_any_stride(void **state) {
    (void)state;
    enum { T = 40, P = 900, D = 800 };
    static const char *const isas[] = { "baseline", "avx2", "avx512" };
    float *ones = malloc(T * P * sizeof *ones), hundred[P];
    for (int64_t k = 0; k < T * P; k++) ones[k] = 1;
    for (int64_t k = 0; k < P; k++) hundred[k] = 100;
    psg_tensor g = psg_f32_3d(ones, 1, T, P), a = psg_f32_3d(ones, 1, T, D);
    psg_tensor one_g = psg_f32_3d(hundred, 1, 1, P), one_a = psg_f32_3d(ones, 1, 1, D);
    for (int k = 0; k < 3 * 3 * 2; k++) {
        psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
        psg_context *context;
        options.threads = 1, options.isa = isas[k % 3], options.gemm = (psg_gemm_engine)(k / 3 % 3);
        if (psg_context_create(&options, &context)) continue;   /* not of this processor */
        one_g.stride[1] = one_a.stride[1] = k / 9 ? 3 : 0;
        psg_block blocks[2] = { psg_factored(&g, &a), psg_factored(&one_g, &one_a) };
        psg_gradient gradient = psg_gradient_of_blocks(blocks, 2, 2, (int64_t[]){ P, D });
        const psg_gradient *set[] = { &gradient };
        double square, upper, exact = 140. * 140 * P * D;
        TEST_OK(context, psg_sqnorm(context, set, 1, &square, &upper, NULL));
        test_near(square, exact, 2 * test_gamma(PSG_F32, P + T + 8) * exact, "square", k);
        assert_true(upper >= exact && upper < 1.01 * exact);
        psg_context_destroy(context);
    }
    free(ones);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(upper_holds_on_cancelling_inputs),
        cmocka_unit_test(upper_holds_on_long_sequences),
        cmocka_unit_test(cancelling_samples_fall_back_alone),
        cmocka_unit_test(ordinary_inputs_do_not_fall_back),
        cmocka_unit_test(norms_have_the_range_of_double),
        cmocka_unit_test(one_position_has_any_stride),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
