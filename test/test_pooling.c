/* Poolings where the lines of test/cases do not go: which of equal elements and NaN wins, and means whose sums
 * overflow. */
#include "support.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* ---- the largest of a window ---- */

/* Windows of a plane: fixed or, output set, adaptive. */
typedef struct window_case {
    int64_t size[2], kernel[2], output[2];
    psg_max_pool_options options;
} window_case;

/* Elements [from, to) in steps of `step` of window o along dimension d. */
static void window_of(const window_case *c, int d, int64_t o, int64_t *from, int64_t *to, int64_t *step) {
    *step = c->options.dilation[d];
    *from = o * c->options.stride[d] - c->options.padding[d];
    *to = *from + *step * (c->kernel[d] - 1) + 1;
    if (!c->output[0]) return;
    *step = 1;
    *from = o * c->size[d] / c->output[d];
    *to = ((o + 1) * c->size[d] + c->output[d] - 1) / c->output[d];
}

/* The first of equal elements, the last NaN; -1: the window lies in the padding or between the elements. */
static int64_t winner(const window_case *c, const psg_tensor *x, int64_t row, int64_t column) {
    int64_t from[2], to[2], step[2], best = -1;
    window_of(c, 0, row, &from[0], &to[0], &step[0]);
    window_of(c, 1, column, &from[1], &to[1], &step[1]);
    for (int64_t i = from[0]; i < to[0]; i += step[0]) {
        for (int64_t j = from[1]; j < to[1]; j += step[1]) {
            if (i < 0 || j < 0 || i >= c->size[0] || j >= c->size[1]) continue;
            double v = test_get_at(x, i * c->size[1] + j);
            if (best < 0 || v > test_get_at(x, best) || isnan(v)) best = i * c->size[1] + j;
        }
    }
    return best;
}

static void check_winners(psg_context *context, const window_case *c, psg_dtype dtype, test_random *random) {
    static const double odd[] = { NAN, INFINITY, -INFINITY };
    test_array x = test_array_new(random, dtype, 4, (int64_t[]){ 1, 1, c->size[0], c->size[1] }, TEST_CONTIGUOUS);
    double expected[12 * 80] = { 0 };
    psg_tape *tape;
    psg_tensor y, grad;
    test_fill_integers(random, &x.view, -2, 2);
    for (int64_t i = 0; i < psg_tensor_count(&x.view); i++) {
        if (!test_range(random, 0, 5)) test_set_at(&x.view, i, odd[test_range(random, 0, 2)]);
    }
    TEST_OK(context, psg_tape_create(context, &tape));
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_var in = psg_input_with_grad(tape, &x.view);
    psg_var out = c->output[0] ? psg_adaptive_max_pool2d(tape, in, c->output)
                               : psg_max_pool2d(tape, in, c->kernel, &c->options);
    TEST_OK(context, psg_backward_from(tape, out, NULL));
    TEST_OK(context, psg_value(tape, out, &y));
    TEST_OK(context, psg_input_grad(tape, in, &grad));
    for (int64_t k = 0; k < psg_tensor_count(&y); k++) {
        int64_t best = winner(c, &x.view, k / y.shape[3], k % y.shape[3]);
        test_near(test_get_at(&y, k), best < 0 ? -INFINITY : test_get_at(&x.view, best), 0, "largest", k);
        if (best >= 0) expected[best]++;
    }
    for (int64_t k = 0; k < psg_tensor_count(&grad); k++) {
        test_near(test_get_at(&grad, k), expected[k], 0, "gradient", k);
    }
    psg_tape_destroy(tape);
    test_array_free(&x);
}

static void the_first_of_equals_and_the_last_nan_win(void **state) {
    (void)state;
    static const int64_t widths[] = { 2, 3, 7, 8, 9, 16, 17, 33, 70 };
    const char *isas[3];
    for (size_t isa = 0, count = test_isas(isas); isa < count; isa++) {
        psg_context *context = test_context(2, isas[isa]);
        test_random random = { 100 };
        for (int round = 0; round < 400; round++) {
            window_case c = { .size = { test_range(&random, 2, 9), TEST_PICK(&random, widths) } };
            for (int d = 0; d < 2; d++) {
                c.kernel[d] = test_range(&random, 1, 4);
                c.options.stride[d] = test_range(&random, 1, 4);
                c.options.dilation[d] = test_range(&random, 1, 3);
                c.options.padding[d] = test_range(&random, 0, c.kernel[d] / 2);
                if (round % 2) c.output[d] = test_range(&random, 1, 10);
            }
            for (int d = 0; d < 2; d++) {
                int64_t reach = c.options.dilation[d] * (c.kernel[d] - 1) + 1;
                if (reach > c.size[d] + 2 * c.options.padding[d]) c.kernel[d] = 1, c.options.padding[d] = 0;
            }
            check_winners(context, &c, round / 2 % 2 ? PSG_F64 : PSG_F32, &random);
        }
        test_context_free(context);
    }
}

/* ---- means ---- */

/* Known answers at the end of the range: means over a row of the largest number, of one sign or of alternating ones,
 * and a last element of another value. */
typedef struct extreme {
    int64_t size, window, stride;  /* stride 0: one window, by adaptive_avg_pool */
    bool alternate;
    double odd;                    /* the last element; 0: as the others */
    int64_t divisor;
    double mean, last;             /* in units of the largest number; of the last window */
} extreme;

static const extreme extremes[] = {
    { 2, 2, 2, false, 0, 0, 1, 1 },
    { 70, 3, 1, false, 0, 0, 1, 1 },
    { 70, 2, 2, true, 0, 0, 0, 0 },
    { 90, 5, 5, false, INFINITY, 0, 1, INFINITY },
    { 90, 5, 5, false, NAN, 0, 1, NAN },
    { 90, 5, 5, false, -1, 0, 1, 0.6 },
    { 64, 4, 4, false, 0, 2, INFINITY, INFINITY },
    { 64, 4, 4, false, 0, -8, -0.5, -0.5 },
    { 5000, 5000, 0, false, 0, 0, 1, 1 },
    { 5000, 5000, 0, false, -INFINITY, 0, -INFINITY, -INFINITY },
    { 9000, 3000, 3000, true, 0, 0, 0, 0 },
};

static void check_extreme(psg_context *context, const extreme *e, psg_dtype dtype) {
    const double largest = dtype == PSG_F32 ? FLT_MAX : DBL_MAX, precision = dtype == PSG_F32 ? 1e-6 : 1e-15;
    const psg_avg_pool_options options = { .stride = { e->stride }, .divisor_override = e->divisor };
    test_random random = { 1 };
    test_array x = test_array_normal(&random, dtype, 3, (int64_t[]){ 1, 1, e->size }, TEST_CONTIGUOUS);
    for (int64_t k = 0; k < e->size; k++) test_set_at(&x.view, k, e->alternate && k % 2 ? -largest : largest);
    if (e->odd != 0) test_set_at(&x.view, e->size - 1, e->odd * largest);
    psg_tape *tape;
    psg_tensor y;
    TEST_OK(context, psg_tape_create(context, &tape));
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_var in = psg_input(tape, &x.view);
    TEST_OK(context, psg_value(tape, e->stride ? psg_avg_pool1d(tape, in, e->window, &options)
                                               : psg_adaptive_avg_pool1d(tape, in, 1), &y));
    for (int64_t k = 0; k < psg_tensor_count(&y); k++) {
        const double mean = largest * (k + 1 < psg_tensor_count(&y) ? e->mean : e->last);
        test_near(test_get_at(&y, k), mean, isfinite(mean) ? largest * precision : 0, "mean", k);
    }
    psg_tape_destroy(tape);
    test_array_free(&x);
}

static void means_do_not_overflow_with_their_sums(void **state) {
    (void)state;
    const char *isas[3];
    for (size_t k = 0, count = test_isas(isas); k < count; k++) {
        psg_context *context = test_context(1, isas[k]);
        for (size_t i = 0; i < sizeof extremes / sizeof extremes[0]; i++) {
            check_extreme(context, &extremes[i], PSG_F32);
            check_extreme(context, &extremes[i], PSG_F64);
        }
        test_context_free(context);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_of_equals_and_the_last_nan_win),
        cmocka_unit_test(means_do_not_overflow_with_their_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
