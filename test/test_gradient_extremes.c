/* Gradients at the edges of their types and strides: sums that cancel, weights below the normal floats, squares that
 * underflow, strides that name nothing, panels as large as the workspace; on every instruction set. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void on_every_isa(void (*test)(psg_context *context)) {
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t k = 0; k < count; k++) {
        psg_context *context = test_context(1, isas[k]);
        test(context);
        test_context_free(context);
    }
}

static void *values(psg_dtype dtype, int64_t count, double value) {
    void *memory = malloc((size_t)count * psg_dtype_size(dtype));
    assert_non_null(memory);
    psg_tensor view = psg_tensor_of(dtype, memory, 1, &count);
    test_fill_value(&view, value);
    return memory;
}

static psg_tensor matrix(psg_dtype dtype, void *data, int64_t rows, int64_t columns) {
    return psg_tensor_of(dtype, data, 2, (int64_t[]){ rows, columns });
}

/* A sample's contribution to a clipped sum of at most 16 elements. */
static double contribution(psg_context *context, const psg_gradient *gradient, double c) {
    double out[16], sum = 0;
    int64_t count = gradient->shape[0] * gradient->shape[1];
    psg_tensor o = psg_tensor_of(PSG_F64, out, gradient->rank, gradient->shape);
    psg_clip clip = { .max_grad_norm = c, .max_batch_size = 1 };
    TEST_OK(context, psg_clipped_sum(context, &gradient, 1, &clip, PSG_OVERWRITE, &o, NULL, NULL, NULL));
    for (int64_t i = 0; i < count; i++) sum = hypot(sum, out[i]);
    return sum;
}

/* ---- one position, blocks that cancel ---- */

enum { TIED = 64 };

typedef struct tied { float g[2][TIED], a[2][TIED]; } tied;

/* g1 a1 + g2 a2 is far below its terms. */
static tied draw_tied(void) {
    test_random random = { 1 };
    tied t;
    for (int n = 0; n < TIED; n++) {
        t.g[0][n] = 3.0e6f * (0.9f + 0.1f * (float)test_uniform(&random));
        t.g[1][n] = -t.g[0][n] / 3;
        t.a[0][n] = 1;
        t.a[1][n] = 3;
    }
    return t;
}

static void remove_sample(float *x, int n) { memmove(x + n, x + n + 1, (size_t)(TIED - 1 - n) * sizeof *x); }

static double tied_sum(psg_context *context, tied t, int dropped) {
    for (int k = 0; k < 2 && dropped >= 0; k++) {
        remove_sample(t.g[k], dropped);
        remove_sample(t.a[k], dropped);
    }
    psg_block block[2];
    for (int k = 0; k < 2; k++) {
        int64_t batch = dropped < 0 ? TIED : TIED - 1;
        psg_tensor g = matrix(PSG_F32, t.g[k], batch, 1), a = matrix(PSG_F32, t.a[k], batch, 1);
        block[k] = psg_factored(&g, &a);
    }
    psg_gradient gradient = psg_gradient_of_blocks(block, 2, 2, (int64_t[]){ 1, 1 });
    const psg_gradient *set = &gradient;
    psg_clip clip = { .max_grad_norm = 1, .max_batch_size = TIED };
    double out;
    psg_tensor o = matrix(PSG_F64, &out, 1, 1);
    TEST_OK(context, psg_clipped_sum(context, &set, 1, &clip, PSG_OVERWRITE, &o, NULL, NULL, NULL));
    return out;
}

static void check_tied(psg_context *context) {
    tied t = draw_tied();
    double full = tied_sum(context, t, -1);
    for (int n = 0; n < TIED; n++) test_near(tied_sum(context, t, n), full, 1, "sum without sample", n);
}

static void tied_blocks_that_cancel(void **state) { (void)state; on_every_isa(check_tied); }

/* ---- ranges ---- */

/* C / norm is subnormal in f32. */
static void check_subnormal_factors(psg_context *context) {
    float g[8] = { 1, 1, 1, 1, 1, 1, 1, 1 }, a = 3e38f;
    psg_tensor t = matrix(PSG_F32, g, 1, 8), u = matrix(PSG_F32, &a, 1, 1);
    psg_block block = psg_factored(&t, &u);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, (int64_t[]){ 8, 1 });
    for (double base = 1e-2; base > 5e-7; base /= 10) {
        for (int k = 0; k < 400; k++) {
            double c = base * (1 + k / 400.0), moved = contribution(context, &gradient, c);
            if (!(moved <= c)) fail_msg("C = %.17g: the sample contributes %.17g C", c, moved / c);
            if (c >= 1e-2) assert_true(moved >= 0.999 * c);   /* below, subnormals have too few digits */
        }
    }
}

static void subnormal_clip_factors(void **state) { (void)state; on_every_isa(check_subnormal_factors); }

static void check_f64_underflow(psg_context *context) {
    double g[2] = { 1e-162, 1e-162 }, a = 1e153, square, upper;
    psg_tensor t = matrix(PSG_F64, g, 1, 2), u = matrix(PSG_F64, &a, 1, 1);
    psg_block block = psg_factored(&t, &u);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, (int64_t[]){ 2, 1 });
    const psg_gradient *set = &gradient;
    long double element = (long double)g[0] * a;
    TEST_OK(context, psg_sqnorm(context, &set, 1, &square, &upper, NULL));
    assert_true(upper >= 2 * element * element);
    assert_true(contribution(context, &gradient, 1e-11) <= 1e-11);
}

static void f64_squares_that_underflow(void **state) { (void)state; on_every_isa(check_f64_underflow); }

static void check_sum_of_squares(psg_context *context, float g, float a) {
    double out, expected = ((double)g * a) * ((double)g * a);
    psg_tensor t = matrix(PSG_F32, &g, 1, 1), u = matrix(PSG_F32, &a, 1, 1), o = matrix(PSG_F64, &out, 1, 1);
    psg_block block = psg_factored(&t, &u);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, (int64_t[]){ 1, 1 });
    const psg_gradient *set = &gradient;
    TEST_OK(context, psg_sum_of_squares(context, &set, 1, PSG_OVERWRITE, &o));
    test_near(out, expected, 1e-6 * expected, "sum of squares", 0);
}

/* The squares of an operand leave the range of f32, those of the product do not. */
static void check_squares(psg_context *context) {
    check_sum_of_squares(context, 1e20f, 1e-10f);
    check_sum_of_squares(context, 1e-25f, 1e10f);
    check_sum_of_squares(context, 1e-10f, 1e20f);
    check_sum_of_squares(context, 1e10f, 1e-25f);
}

static void sum_of_squares_range(void **state) { (void)state; on_every_isa(check_squares); }

/* 32 ones, then 2^24 squares below half a unit of the sum in double. */
static void check_long_norm(psg_context *context) {
    const int64_t count = (int64_t)1 << 24;
    float *g = values(PSG_F32, count, 7.4e-9);
    for (int i = 0; i < 32; i++) g[i] = 1;
    long double expected = 32 + (long double)(count - 32) * g[32] * g[32];
    psg_tensor t = matrix(PSG_F32, g, 1, count);
    psg_block block = psg_rows(&t);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, &count);
    const psg_gradient *set = &gradient;
    double square, upper;
    TEST_OK(context, psg_sqnorm(context, &set, 1, &square, &upper, NULL));
    if (!(upper >= expected)) fail_msg("upper is %.17g, the truth %.17Lg", upper, expected);
    assert_true(upper <= 1.0001L * expected);
    free(g);
}

static void norm_of_many_elements(void **state) { (void)state; on_every_isa(check_long_norm); }

/* ---- strides ---- */

/* Standard output and error go to a file between these two; the second returns how much was printed. */
typedef struct capture { FILE *file; int saved[2]; } capture;

static capture capture_begin(void) {
    fflush(NULL);
    capture c = { tmpfile(), { dup(1), dup(2) } };
    assert_non_null(c.file);
    dup2(fileno(c.file), 1);
    dup2(fileno(c.file), 2);
    return c;
}

static long capture_end(capture *c) {
    fflush(NULL);
    for (int k = 0; k < 2; k++) {
        dup2(c->saved[k], k + 1);
        close(c->saved[k]);
    }
    fseek(c->file, 0, SEEK_END);
    long printed = ftell(c->file);
    fclose(c->file);
    return printed;
}

enum { WIDE = 500000 };

typedef struct row_answers {
    psg_status status[4];
    double square, upper, dot;
    float *sum, *sample;
} row_answers;

/* All ones: two blocks for the norm, one for the sums. */
static void ask_rows(psg_context *context, float *a, row_answers *r) {
    float g = 1;
    psg_tensor t = matrix(PSG_F32, &g, 1, 1), u = matrix(PSG_F32, a, 1, WIDE);
    psg_block block[2] = { psg_factored(&t, &u), psg_factored(&t, &u) };
    block[0].row_stride = block[1].row_stride = 0;
    const int64_t shape[2] = { 1, WIDE };
    psg_gradient two = psg_gradient_of_blocks(block, 2, 2, shape), one = psg_gradient_of_blocks(block, 1, 2, shape);
    const psg_gradient *pair = &two, *single = &one;
    psg_tensor sum = matrix(PSG_F32, r->sum, 1, WIDE), direction = matrix(PSG_F32, a, 1, WIDE);
    psg_tensor sample = psg_tensor_of(PSG_F32, r->sample, 3, (int64_t[]){ 1, 1, WIDE });
    r->status[0] = psg_sqnorm(context, &pair, 1, &r->square, &r->upper, NULL);
    r->status[1] = psg_weighted_sum(context, &single, 1, NULL, PSG_OVERWRITE, &sum);
    r->status[2] = psg_dot(context, &single, 1, &direction, &r->dot);
    r->status[3] = psg_grad_sample(context, &one, 1, PSG_OVERWRITE, &sample);
}

/* A block of one row may have any row stride: BLAS must not see it. */
static void check_row_stride(psg_context *context) {
    float *a = values(PSG_F32, WIDE, 1);
    row_answers r = { .dot = -1, .sum = values(PSG_F32, WIDE, -1), .sample = values(PSG_F32, WIDE, -1) };
    capture c = capture_begin();
    ask_rows(context, a, &r);
    assert_int_equal(capture_end(&c), 0);
    for (int k = 0; k < 4; k++) test_status(context, r.status[k], PSG_OK, "question");
    test_near(r.square, 4.0 * WIDE, 1e-3 * WIDE, "square", 0);
    assert_true(r.upper >= 4.0 * WIDE && r.upper <= 4.1 * WIDE);
    test_near(r.dot, WIDE, 1e-3 * WIDE, "dot", 0);
    for (int i = 0; i < WIDE; i++) {
        test_near(r.sum[i], 1, 0, "sum", i);
        test_near(r.sample[i], 1, 0, "sample", i);
    }
    free(a), free(r.sum), free(r.sample);
}

static void one_row_of_any_stride(void **state) { (void)state; on_every_isa(check_row_stride); }

/* g's single sample (or position) has a stride that fits no BLAS integer. */
static void check_large_stride(psg_context *context, int rank, const int64_t *stride) {
    float g[4] = { 1, 1, 1, 1 }, a[3] = { 1, 1, 1 }, *ones = values(PSG_F32, 12, 1);
    psg_tensor t = psg_tensor_strided(PSG_F32, g, rank, rank == 2 ? (int64_t[]){ 1, 4 } : (int64_t[]){ 1, 1, 4 },
                                      stride);
    psg_tensor u = matrix(PSG_F32, a, 1, 3);
    psg_block block = psg_factored(&t, &u);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, (int64_t[]){ 4, 3 });
    const psg_gradient *set = &gradient;
    double sum[12], square, upper, dot = -1;
    psg_tensor o = matrix(PSG_F64, sum, 4, 3), direction = matrix(PSG_F32, ones, 4, 3);
    capture c = capture_begin();
    psg_status status[3] = { psg_dot(context, &set, 1, &direction, &dot),
                             psg_sqnorm(context, &set, 1, &square, &upper, NULL),
                             psg_weighted_sum(context, &set, 1, NULL, PSG_OVERWRITE, &o) };
    assert_int_equal(capture_end(&c), 0);
    for (int k = 0; k < 3; k++) test_status(context, status[k], PSG_OK, "question");
    test_near(dot, 12, 1e-5, "dot", 0);
    test_near(square, 12, 1e-5, "square", 0);
    for (int i = 0; i < 12; i++) test_near(sum[i], 1, 0, "sum", i);
    free(ones);
}

static void check_large_strides(psg_context *context) {
    const int64_t huge = INT64_C(3000000000);
    check_large_stride(context, 2, (int64_t[]){ huge, 1 });
    check_large_stride(context, 2, (int64_t[]){ INT64_C(1) << 31, 1 });
    check_large_stride(context, 2, (int64_t[]){ -huge, 1 });
    check_large_stride(context, 3, (int64_t[]){ huge, 4, 1 });
    check_large_stride(context, 3, (int64_t[]){ 4, huge, 1 });
    check_large_stride(context, 3, (int64_t[]){ huge, huge, 1 });
}

static void large_batch_stride(void **state) { (void)state; on_every_isa(check_large_strides); }

/* ---- panels as large as the workspace ---- */

enum { CANARY = 4096 };

static void *canary_allocate(void *user, size_t bytes) {
    (void)user;
    unsigned char *memory = malloc(bytes + CANARY);
    if (memory) memset(memory + bytes, 0xA5, CANARY);
    return memory;
}

static void canary_release(void *user, void *memory, size_t bytes) {
    size_t *written = user;
    const unsigned char *end = (unsigned char *)memory + bytes;
    for (int i = 0; i < CANARY; i++) *written += end[i] != 0xA5;
    free(memory);
}

/* g strided, so that it is packed: p columns of it, and d of a. */
static void check_panels(const char *isa, psg_dtype dtype, int64_t p, int64_t d) {
    size_t written = 0;
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    options.isa = isa;
    options.allocator = (psg_allocator){ canary_allocate, canary_release, &written };
    psg_context *context;
    assert_int_equal(psg_context_create(&options, &context), PSG_OK);
    void *g = values(dtype, 2 * p, 1), *a = values(dtype, d, 1), *v = values(dtype, p * d, 1);
    psg_tensor t = psg_tensor_strided(dtype, g, 2, (int64_t[]){ 1, p }, (int64_t[]){ 2 * p, 2 });
    psg_tensor u = matrix(dtype, a, 1, d), direction = matrix(dtype, v, p, d);
    psg_block block = psg_factored(&t, &u);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, (int64_t[]){ p, d });
    const psg_gradient *set = &gradient;
    double dot;
    TEST_OK(context, psg_dot(context, &set, 1, &direction, &dot));
    test_near(dot, (double)(p * d), 0, "dot", p);
    psg_context_destroy(context);
    if (written) fail_msg("%s, p = %lld: %zu bytes past a block were written", isa, (long long)p, written);
    free(g), free(a), free(v);
}

static void panels_that_fill_the_workspace(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t k = 0; k < count; k++) {
        for (int64_t full = 1 << 18, p = full - 40; p <= full; p += 6) check_panels(isas[k], PSG_F64, p, 8);
        for (int64_t full = 1 << 19, p = full - 40; p <= full; p += 10) check_panels(isas[k], PSG_F32, p, 8);
        check_panels(isas[k], PSG_F64, 262134, 8);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tied_blocks_that_cancel),
        cmocka_unit_test(subnormal_clip_factors),
        cmocka_unit_test(f64_squares_that_underflow),
        cmocka_unit_test(sum_of_squares_range),
        cmocka_unit_test(norm_of_many_elements),
        cmocka_unit_test(one_row_of_any_stride),
        cmocka_unit_test(large_batch_stride),
        cmocka_unit_test(panels_that_fill_the_workspace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
