/* The real transform behind privacy loss distributions, against sums, and its error bound. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "accountant/fft.h"
#include "accountant_fixture.h"
#include "support.h"

#define MOST 512

/* Masses that add up to 1. */
static void draw_masses(uint64_t *seed, double *x, size_t count) {
    double sum = 0;
    for (size_t k = 0; k < count; k++) sum += x[k] = drawn_log_uniform(seed, 1e-12, 1);
    for (size_t k = 0; k < count; k++) x[k] /= sum;
}

/* X_k at the points e^{i pi (4j + 1) / 2m}, in whatever order: every value found is one of them, each once. */
static void values_are_those_of_the_polynomial(void **state) {
    uint64_t seed = 1;
    for (size_t m = 4; m <= 64; m *= 2) {
        psg_fft fft;
        double x[128], re[64], im[64];
        int taken[64] = { 0 };
        TEST_OK((psg_context *)*state, psg_fft_create(*state, "test", m, &fft));
        draw_masses(&seed, x, 2 * m);
        for (size_t j = 0; j < m; j++) re[j] = x[j], im[j] = x[m + j];
        psg_fft_forward(&fft, re, im);
        for (size_t k = 0; k < m; k++) {
            size_t found = 0;
            for (size_t j = 0; j < m; j++) {
                long double sum_re = 0, sum_im = 0;
                for (size_t i = 0; i < 2 * m; i++) {
                    long double angle = acosl(-1) * (long double)((4 * j + 1) * i % (4 * m)) / (2 * m);
                    sum_re += x[i] * cosl(angle), sum_im += x[i] * sinl(angle);
                }
                if (taken[j] || hypot(re[k] - (double)sum_re, im[k] - (double)sum_im) > psg_fft_error(&fft)) continue;
                taken[j] = 1;
                found++;
                break;
            }
            assert_int_equal(found, 1);
        }
        psg_fft_free(&fft);
    }
}

/* Products modulo X^(2m) + 1, and x itself, there and back. */
static void products_wrap_with_their_sign_changed(void **state) {
    uint64_t seed = 2;
    for (size_t m = 4; m <= MOST / 2; m *= 2) {
        psg_fft fft;
        double x[MOST], re[MOST / 2], im[MOST / 2], expected[MOST] = { 0 };
        TEST_OK((psg_context *)*state, psg_fft_create(*state, "test", m, &fft));
        draw_masses(&seed, x, 2 * m);
        for (size_t i = 0; i < 2 * m; i++)
            for (size_t j = 0; j < 2 * m; j++) expected[(i + j) % (2 * m)] += (i + j < 2 * m ? 1 : -1) * x[i] * x[j];
        for (size_t j = 0; j < m; j++) re[j] = x[j], im[j] = x[m + j];
        psg_fft_forward(&fft, re, im);
        psg_fft_backward(&fft, re, im);
        for (size_t j = 0; j < m; j++) {
            assert_within(re[j], x[j], 2 * psg_fft_error(&fft));
            assert_within(im[j], x[m + j], 2 * psg_fft_error(&fft));
        }
        psg_fft_forward(&fft, re, im);
        for (size_t k = 0; k < m; k++) {
            double a = re[k], b = im[k];
            re[k] = a * a - b * b, im[k] = 2 * a * b;
        }
        psg_fft_backward(&fft, re, im);
        for (size_t j = 0; j < m; j++) {
            assert_within(re[j], expected[j], 6 * psg_fft_error(&fft));
            assert_within(im[j], expected[m + j], 6 * psg_fft_error(&fft));
        }
        psg_fft_free(&fft);
    }
}

/* 2^17 and 2^18 real values: back to within the bound, and the bound is of the size of rounding. */
static void long_transforms_keep_their_bound(void **state) {
    uint64_t seed = 3;
    for (size_t m = (size_t)1 << 16; m <= (size_t)1 << 17; m *= 2) {
        psg_fft fft;
        TEST_OK((psg_context *)*state, psg_fft_create(*state, "test", m, &fft));
        double *x = malloc(4 * m * sizeof *x), *y = x + 2 * m, worst = 0;
        assert_non_null(x);
        draw_masses(&seed, x, 2 * m);
        for (size_t j = 0; j < 2 * m; j++) y[j] = x[j];
        psg_fft_forward(&fft, y, y + m);
        psg_fft_backward(&fft, y, y + m);
        for (size_t j = 0; j < 2 * m; j++) worst = fmax(worst, fabs(x[j] - y[j]));
        assert_ordered(worst, 2 * psg_fft_error(&fft));
        assert_ordered(psg_fft_error(&fft), 1e-13);
        free(x);
        psg_fft_free(&fft);
    }
}

static int set_up(void **state) {
    *state = test_context(1, NULL);
    return 0;
}

static int tear_down(void **state) {
    test_context_free(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_those_of_the_polynomial),
        cmocka_unit_test(products_wrap_with_their_sign_changed),
        cmocka_unit_test(long_transforms_keep_their_bound),
    };
    return cmocka_run_group_tests_name("accountant fft", tests, set_up, tear_down);
}
