/* Clipped sums of integers: what a sample adds is a function of that sample alone, and sums are exact. */
#include "gradient/clipped_sum_on_grid.h"
#include "gradient_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

enum { MOST = 4096, ROUNDS = 60 };

static const double max_grad_norm = 0.7, units = 0x1.5555555555555p36;   /* C is some 2^36 units */

typedef struct grid_sum {
    int64_t value[MOST];
    psg_tensor outs[FIXTURE_GRADIENTS];
} grid_sum;

/* So many samples that sums of doubles would be refused. */
static psg_clip clip_of(int clipping) {
    return (psg_clip){ .max_grad_norm = max_grad_norm, .max_batch_size = 1 << 28, .clipping = (psg_clipping)clipping };
}

static void start(grid_sum *sum, const fixture *f) {
    assert_true(f->total <= MOST);
    memset(sum->value, 0, sizeof sum->value);
    for (size_t k = 0; k < f->count; k++) {
        sum->outs[k] = psg_tensor_of(PSG_I64, sum->value + f->start[k], f->gradient[k].rank, f->gradient[k].shape);
    }
}

static void add(psg_context *context, const fixture *f, int clipping, grid_sum *sum) {
    psg_clip clip = clip_of(clipping);
    psg_clip_report report;
    TEST_OK(context, psg_clipped_sum_on_grid(context, f->pointer, f->count, &clip, units, sum->outs, &report));
}

static void add_selected(psg_context *context, const fixture *f, const int64_t *samples, int64_t count, int clipping,
                         grid_sum *sum) {
    fixture some;
    fixture_select(&some, f, samples, count);
    add(context, &some, clipping, sum);
    fixture_free(&some);
}

/* Operands contiguous, as selected samples have them: bounds of norms are summed along the closer dimension. */
static void draw(fixture *contiguous, test_random *random, int round) {
    fixture any;
    int64_t all[64];
    fixture_random(&any, random, round % 2 ? PSG_F32 : PSG_F64);
    assert_true(any.batch_size <= 64);
    for (int64_t n = 0; n < any.batch_size; n++) all[n] = n;
    fixture_select(contiguous, &any, all, any.batch_size);
    fixture_free(&any);
}

/* Samples in another order, in parts, alone, under other numbers of threads: the same integers. */
static void sums_are_exact(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t i = 0; i < count; i++) {
        psg_context *one = test_context(1, isas[i]), *three = test_context(3, isas[i]);
        test_random random = { 31 };
        for (int round = 0; round < ROUNDS; round++) {
            static grid_sum whole, parts, alone;
            fixture f;
            int64_t order[64];
            draw(&f, &random, round);
            for (int64_t n = 0; n < f.batch_size; n++) order[n] = (n * 5 + round) % f.batch_size;
            bool is_order = f.total <= MOST && f.batch_size % 5;
            for (int clipping = 0; is_order && clipping < 3; clipping++) {
                int64_t cut = f.batch_size / 3;
                start(&whole, &f);
                start(&parts, &f);
                start(&alone, &f);
                add(one, &f, clipping, &whole);
                add_selected(three, &f, order, cut, clipping, &parts);
                add_selected(three, &f, order + cut, f.batch_size - cut, clipping, &parts);
                for (int64_t n = 0; n < f.batch_size; n++) add_selected(one, &f, &n, 1, clipping, &alone);
                assert_memory_equal(whole.value, parts.value, sizeof whole.value);
                assert_memory_equal(whole.value, alone.value, sizeof whole.value);
            }
            fixture_free(&f);
        }
        test_context_free(one);
        test_context_free(three);
    }
}

/* 1 and 1/2 units: what is added for 1/2 is not rounded by whether the 1 is there. */
static void ties_are_of_the_record_alone(void **state) {
    (void)state;
    const char *isas[3];
    const double rows[] = { 0x1p-36, 0x1p-37 };
    const int64_t one = 1;
    const psg_clip clip = { .max_grad_norm = 1, .max_batch_size = 4 };
    psg_clip_report report;
    for (size_t i = 0, count = test_isas(isas); i < count; i++) {
        psg_context *context = test_context(1, isas[i]);
        int64_t sum[3] = { 0, 0, 0 };   /* of the first, of the second, of both */
        for (int k = 0; k < 3; k++) {
            psg_tensor view = psg_tensor_of(PSG_F64, (double *)rows + k % 2, 2, (int64_t[]){ 1 + k / 2, 1 });
            psg_tensor out = psg_tensor_of(PSG_I64, &sum[k], 1, &one);
            psg_block block = psg_rows(&view);
            psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, &one);
            const psg_gradient *list = &gradient;
            TEST_OK(context, psg_clipped_sum_on_grid(context, &list, 1, &clip, 0x1p36, &out, &report));
        }
        assert_int_equal(sum[0], 1);
        assert_int_equal(sum[2], sum[0] + sum[1]);
        test_context_free(context);
    }
}

/* Each addend is within half a unit of units c g an element, c g the addend of psg_weighted_sum with the factors that a
 * limit of C gives, and so at most units C + sqrt(D) / 2 long. */
static void addends_are_rounded_once(void **state) {
    (void)state;
    psg_context *context = test_context(2, NULL);
    test_random random = { 32 };
    for (int round = 0; round < ROUNDS; round++) {
        static grid_sum sum;
        fixture f;
        fixture_random(&f, &random, round % 2 ? PSG_F32 : PSG_F64);
        for (int64_t n = 0; n < f.batch_size && f.total <= MOST; n++) {
            static double plain[MOST];
            fixture one;
            psg_tensor outs[FIXTURE_GRADIENTS];
            double upper = 0, square = 0;
            fixture_select(&one, &f, &n, 1);
            start(&sum, &one);
            add(context, &one, PSG_CLIP_FLAT, &sum);
            TEST_OK(context, psg_sqnorm(context, one.pointer, one.count, &square, &upper, NULL));
            double factor = fmin(1, max_grad_norm / sqrt(upper));
            for (size_t k = 0; k < one.count; k++) {
                outs[k] = psg_tensor_of(PSG_F64, plain + one.start[k], one.gradient[k].rank, one.gradient[k].shape);
            }
            TEST_OK(context, psg_weighted_sum(context, one.pointer, one.count, &factor, PSG_OVERWRITE, outs));
            double length = 0;
            for (int64_t e = 0; e < f.total; e++) {
                double value = (double)sum.value[e];
                test_near(value, plain[e] * units, 0.5 + 0x1p-39 * fabs(value), "addend", e);
                length += value * value;
            }
            assert_true(sqrt(length) <= units * max_grad_norm + sqrt((double)f.total) / 2);
            fixture_free(&one);
        }
        fixture_free(&f);
    }
    test_context_free(context);
}

/* Samples that add up to more than the 2^51 units that doubles hold on the grid, each adding the same: B times what one
 * adds. */
static void many_samples_do_not_overflow(void **state) {
    (void)state;
    enum { MANY = 200000, ONE = 3 };
    psg_context *context = test_context(2, NULL);
    float *g = calloc(MANY, sizeof *g), a[2] = { 3, -4 };
    for (int64_t n = 0; n < MANY; n++) g[n] = 2;
    int64_t sum[2] = { 0 }, one[2] = { 0 }, shape[2] = { 1, 2 };
    for (int round = 0; round < 2; round++) {
        int64_t batch = round ? ONE : MANY;
        psg_tensor backprop = psg_tensor_of(PSG_F32, g, 2, (int64_t[]){ batch, 1 });
        psg_tensor activation = psg_tensor_strided(PSG_F32, a, 2, (int64_t[]){ batch, 2 }, (ptrdiff_t[]){ 0, 1 });
        psg_block block = psg_factored(&backprop, &activation);
        psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, shape);
        const psg_gradient *list = &gradient;
        psg_tensor out = psg_tensor_of(PSG_I64, round ? one : sum, 2, shape);
        psg_clip clip = clip_of(PSG_CLIP_FLAT);
        psg_clip_report report;
        TEST_OK(context, psg_clipped_sum_on_grid(context, &list, 1, &clip, units, &out, &report));
    }
    for (int e = 0; e < 2; e++) {
        assert_true(one[e] % ONE == 0 && one[e] != 0);
        assert_true(sum[e] == one[e] / ONE * MANY);
    }
    free(g);
    test_context_free(context);
}

/* ---- from integers to values ---- */

/* Of any size below 2^62, so that two make no more than 2^63. */
static int64_t random_integer(test_random *random) {
    const int64_t magnitude = (int64_t)(test_random_bits(random) >> test_range(random, 2, 63));
    return test_range(random, 0, 1) ? -magnitude : magnitude;
}

static double value_of(const void *out, psg_dtype dtype, size_t i) {
    return dtype == PSG_F64 ? ((const double *)out)[i] : (double)((const float *)out)[i];
}

/* The sum of two is rounded to a double, the product again, and that to its type; what was read is 0 then. */
static void check_values(const psg_kernel_table *kernels, psg_dtype dtype, size_t n, test_random *random) {
    enum { ROOM = 100 };
    int64_t x[ROOM], y[ROOM], sum[ROOM];
    double out[ROOM];
    const double scale = 0x1.23456789abcdfp-36;
    for (size_t i = 0; i < ROOM; i++) {
        x[i] = random_integer(random), y[i] = random_integer(random);
        sum[i] = x[i] + y[i];
    }
    memset(out, 1, sizeof out);
    const double untouched = value_of(out, dtype, n);
    kernels->from_grid(n, scale, x, y, out);
    for (size_t i = 0; i < n; i++) {
        const double value = scale * (double)sum[i];
        assert_true(value_of(out, dtype, i) == (dtype == PSG_F64 ? value : (double)(float)value));
        assert_true(x[i] == 0 && y[i] == 0);
    }
    assert_true(x[n] + y[n] == sum[n] && value_of(out, dtype, n) == untouched);
}

static void integers_become_values_and_are_cleared(void **state) {
    (void)state;
    const char *isas[3];
    const size_t count = test_isas(isas);
    test_random random = { 33 };
    for (size_t k = 0; k < count; k++) {
        for (size_t n = 0; n < 2000; n++) {
            check_values(psg_kernels_choose(isas[k], PSG_F32), PSG_F32, n % 99, &random);
            check_values(psg_kernels_choose(isas[k], PSG_F64), PSG_F64, n % 99, &random);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_exact), cmocka_unit_test(ties_are_of_the_record_alone),
        cmocka_unit_test(addends_are_rounded_once),
        cmocka_unit_test(many_samples_do_not_overflow), cmocka_unit_test(integers_become_values_and_are_cleared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
