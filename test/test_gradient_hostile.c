/* What a hostile record, or a hostile caller, may give: each case is small and has its exact answer. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support.h"

static psg_tensor view(void *data, int rank, int64_t a, int64_t b, int64_t c) {
    return psg_tensor_of(PSG_F32, data, rank, (int64_t[]){ a, b, c });
}

typedef struct clipped {
    double norm, factor, *sum;
    psg_clip_report report;
} clipped;

/* The clipped sum of one gradient of one sample. */
static clipped clip_one(psg_context *context, const psg_gradient *gradient, int64_t max_batch_size) {
    psg_tensor out = psg_tensor_of(PSG_F64, NULL, gradient->rank, gradient->shape);
    clipped c = { .sum = calloc((size_t)psg_tensor_count(&out), sizeof *c.sum) };
    psg_clip clip = PSG_CLIP_INIT;
    clip.max_batch_size = max_batch_size;
    out.data = c.sum;
    TEST_OK(context, psg_clipped_sum(context, &gradient, 1, &clip, PSG_OVERWRITE, &out, &c.norm, &c.factor, &c.report));
    return c;
}

/* Two blocks of one place whose products sum within the range in one order and leave it in another: 2e38 | 2e38 - 3e38.
 * The sample adds nothing or no more than C, never Inf. */
static void partial_sums_out_of_range_are_removed(void **state) {
    (void)state;
    enum { P = 1024, T = 64 };
    float *g[2], *a[2];
    psg_block blocks[2];
    for (int k = 0; k < 2; k++) {
        g[k] = calloc((size_t)T * P, sizeof *g[k]);
        a[k] = calloc((size_t)T * P, sizeof *a[k]);
        for (int t = 0; t < T; t++) g[k][t * P] = a[k][t * P] = 1;
        g[k][0] = 2e19f;
        a[k][0] = 1e19f;
        psg_tensor backprop = view(g[k], 3, 1, T, P), activation = view(a[k], 3, 1, T, P);
        blocks[k] = psg_factored(&backprop, &activation);
    }
    g[1][P] = -3e19f;
    a[1][P] = 1e19f;
    static const char *const routes[] = { NULL, "gram", "tiles", "keep", "recompute" };
    psg_gradient gradient = psg_gradient_of_blocks(blocks, 2, 2, (int64_t[]){ P, P });
    for (int r = 0; r < 5; r++) {
        psg_context *context = test_context_with(NULL, 1, NULL, r % 2 ? 64 << 20 : 0);
        TEST_OK(context, psg_context_force_route(context, routes[r]));
        clipped c = clip_one(context, &gradient, 0);
        assert_int_equal(c.report.removed, 1);
        assert_true(c.sum[0] == 0);
        free(c.sum);
        psg_context_destroy(context);
    }
    for (int k = 0; k < 2; k++) {
        free(g[k]);
        free(a[k]);
    }
}

/* Sixteen blocks of one place, kept at 7 positions each and recomputed at 16, 9 of them padding. */
static void padding_changes_no_bit_of_what_is_kept(void **state) {
    (void)state;
    enum { P = 512, BLOCKS = 16, MOST = 16, LIVE = 7 };
    test_random random = { 5 };
    float *g = calloc((size_t)BLOCKS * MOST * P, sizeof *g), *a = calloc((size_t)BLOCKS * MOST * P, sizeof *a);
    for (int k = 0; k < BLOCKS * MOST * P; k++) {
        if (k / P % MOST < LIVE) g[k] = (float)test_normal(&random);
        a[k] = (float)test_normal(&random);
    }
    clipped c[2];
    for (int padded = 0; padded < 2; padded++) {
        psg_block blocks[BLOCKS];
        for (int k = 0; k < BLOCKS; k++) {
            psg_tensor backprop = view(g + k * MOST * P, 3, 1, padded ? MOST : LIVE, P);
            psg_tensor activation = view(a + k * MOST * P, 3, 1, padded ? MOST : LIVE, P);
            blocks[k] = psg_factored(&backprop, &activation);
        }
        psg_gradient gradient = psg_gradient_of_blocks(blocks, BLOCKS, 2, (int64_t[]){ P, P });
        psg_context *context = test_context_with(NULL, 1, NULL, padded ? 0 : 64 << 20);
        TEST_OK(context, psg_context_force_route(context, padded ? "tiles" : "keep"));
        c[padded] = clip_one(context, &gradient, 1);
        psg_context_destroy(context);
    }
    assert_true(c[0].factor == c[1].factor);
    assert_memory_equal(c[0].sum, c[1].sum, (size_t)P * P * sizeof(double));
    for (int k = 0; k < 2; k++) free(c[k].sum);
    free(g);
    free(a);
}

/* A convolution whose output is padded has the bound of the one that is not; a NaN that no window holds has no part. */
static void bounds_of_windows_follow_live_positions(void **state) {
    (void)state;
    enum { SIZE = 40, C = 3, P = 4, K = 3, LIVE = 20 };
    test_random random = { 6 };
    float image[C * SIZE], g[P * (LIVE + 4)] = { 0 };
    for (int k = 0; k < C * SIZE; k++) image[k] = (float)test_normal(&random);
    for (int k = 0; k < P * LIVE; k++) g[k] = (float)test_normal(&random);
    psg_context *context = test_context(1, NULL);
    double upper[4];
    for (int k = 0; k < 4; k++) {
        int64_t positions = LIVE + k % 3 * 2;
        psg_tensor backprop = view(g, 3, 1, positions, P), x = view(image, 3, 1, C, SIZE);
        psg_window window = { .spatial = 1, .kernel = { K }, .stride = { 1 }, .dilation = { 1 },
                              .output = { positions } };
        psg_block block = psg_unfolded(&backprop, &x, &window);
        psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, (int64_t[]){ P, C * K });
        const psg_gradient *set = &gradient;
        if (k == 3) image[SIZE - 1] = NAN;
        double square;
        TEST_OK(context, psg_sqnorm(context, &set, 1, &square, &upper[k], NULL));
        assert_true(upper[k] >= square && upper[k] == upper[0]);
    }
    psg_context_destroy(context);
}

/* Counts whose bytes wrap around in 64 bits. */
static void enormous_batches_are_refused(void **state) {
    (void)state;
    float x = 1;
    double sum;
    psg_tensor operand = view(&x, 2, (int64_t)1 << 61, 1, 0), out = psg_tensor_of(PSG_F64, &sum, 2, (int64_t[]){ 1, 1 });
    operand.stride[0] = 0;
    psg_block block = psg_factored(&operand, &operand);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, (int64_t[]){ 1, 1 });
    const psg_gradient *set = &gradient;
    psg_clip clip = PSG_CLIP_INIT;
    psg_context *context = test_context(1, NULL);
    assert_int_equal(psg_sum_of_squares(context, &set, 1, PSG_OVERWRITE, &out), PSG_ERR_OVERFLOW);
    assert_int_equal(psg_clipped_sum(context, &set, 1, &clip, PSG_OVERWRITE, &out, NULL, NULL, NULL), PSG_ERR_OVERFLOW);
    assert_non_null(strstr(psg_context_message(context), "2^32"));
    psg_context_destroy(context);
}

/* Views of no memory whose questions would not end in a day, and some that seem so: what there is to do is little. */
static void endless_sizes_are_refused(void **state) {
    (void)state;
    enum { ROWS = 1, FACTORED = 2, SPARSE = 3 };
    const int64_t huge = (int64_t)1 << 40, root = (int64_t)1 << 20;
    const struct { int form; int64_t batch, positions, p, d, rows, columns; psg_status status; } sizes[] = {
        { ROWS, 2, 1, huge, 0, huge, 1, PSG_ERR_OVERFLOW },
        { ROWS, 2, huge / 2, 2, 0, 2, 1, PSG_ERR_OVERFLOW },
        { ROWS, 2, huge, 0, 0, 0, 1, PSG_ERR_OVERFLOW },
        { FACTORED, 2, 3, huge, 0, huge, 0, PSG_ERR_OVERFLOW },
        { FACTORED, 2, 3, 0, huge, 0, huge, PSG_ERR_OVERFLOW },
        { FACTORED, huge, 1, 2, 0, 2, 0, PSG_ERR_OVERFLOW },
        { FACTORED, 2, 3, root, root, root, root, PSG_ERR_OVERFLOW },
        { FACTORED, 2, 3, root, 0, root, 0, PSG_OK },              { FACTORED, 0, root, 2, 3, 2, 3, PSG_OK },
        { FACTORED, 2, 3, 2, 3, huge, root, PSG_OK },              { SPARSE, 2, 2, 4, 0, huge, 4, PSG_OK },
    };
    float one = 1;
    int64_t ids[4] = { 0 };
    psg_context *context = test_context(2, NULL);
    alarm(300);
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        const int64_t b = sizes[k].batch, t = sizes[k].positions, p = sizes[k].p, none[3] = { 0 };
        psg_tensor g = psg_tensor_strided(PSG_F32, &one, 3, (int64_t[]){ b, t, p }, none);
        psg_tensor a = psg_tensor_strided(PSG_F32, &one, 3, (int64_t[]){ b, t, sizes[k].d }, none);
        psg_tensor id = psg_i64_2d(ids, 2, 2);
        psg_block block = sizes[k].form == ROWS ? psg_rows(&g) : sizes[k].form == SPARSE ? psg_sparse_rows(&g, &id)
                                                                                         : psg_factored(&g, &a);
        psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, (int64_t[]){ sizes[k].rows, sizes[k].columns });
        const psg_gradient *set = &gradient;
        double sqnorm[2], gram[4];
        assert_int_equal(psg_sqnorm(context, &set, 1, sqnorm, NULL, NULL), sizes[k].status);
        assert_int_equal(psg_gram(context, &set, 1, gram), sizes[k].status);
        if (sizes[k].status) assert_non_null(strstr(psg_context_message(context), "2^3"));
    }
    alarm(0);
    psg_context_destroy(context);
}

/* In an ordinary pass a block may have fewer or more samples than its gradient: its ids have as many. */
static void ids_have_the_samples_of_their_backprop(void **state) {
    (void)state;
    enum { MANY = 1000 };
    float g[MANY * 4];
    int32_t ids[MANY];
    double sum[12];
    for (int k = 0; k < MANY * 4; k++) g[k] = 1;
    for (int k = 0; k < MANY; k++) ids[k] = k % 3;
    psg_context *context = test_context(2, NULL);
    psg_tensor out = psg_tensor_of(PSG_F64, sum, 2, (int64_t[]){ 3, 4 });
    for (int k = 0; k < 4; k++) {
        int64_t samples = k & 1 ? MANY : 1, id_samples = k & 2 ? MANY : 1;
        psg_tensor backprop = view(g, 3, samples, 1, 4);
        psg_tensor id = psg_tensor_of(PSG_I32, ids, 2, (int64_t[]){ id_samples, 1 });
        psg_block block = psg_sparse_rows(&backprop, &id);
        psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, (int64_t[]){ 3, 4 });
        gradient.batch_size = k & 1 ? 1 : MANY;
        gradient.batch_coupled = true;
        const psg_gradient *set = &gradient;
        psg_status status = psg_weighted_sum(context, &set, 1, NULL, PSG_OVERWRITE, &out);
        assert_int_equal(status, samples == id_samples ? PSG_OK : PSG_ERR_SHAPE);
        if (!status) assert_true(sum[0] == (samples == 1 ? 1 : 334) && sum[11] == (samples == 1 ? 0 : 333));
    }
    psg_context_destroy(context);
}

/* A scale that f32 does not hold would round to 0 or Inf where blocks are mixed: the bound says so. */
static void mixed_scales_beyond_f32_have_no_bound(void **state) {
    (void)state;
    static const double scales[] = { 1e-50, 1e50, 1e-30, 1e30 };
    psg_context *context = test_context(1, NULL);
    for (int k = 0; k < 4; k++) {
        float x = scales[k] < 1 ? 1e15f : 1e-15f, zero = 0;
        psg_tensor operand = view(&x, 2, 1, 1, 0), none = view(&zero, 2, 1, 1, 0);
        psg_block blocks[2] = { psg_factored(&operand, &operand), psg_rows(&none) };
        blocks[0].scale = scales[k];
        for (size_t count = 1; count <= 2; count++) {
            psg_gradient gradient = psg_gradient_of_blocks(blocks, count, 1, (int64_t[]){ 1 });
            const psg_gradient *set = &gradient;
            double square = 0, upper = 0, norm = (double)x * x * scales[k];
            TEST_OK(context, psg_sqnorm(context, &set, 1, &square, &upper, NULL));
            assert_true(upper >= norm * norm);
            assert_true(count == 2 && k < 2 ? isinf(upper) : upper <= norm * norm * (1 + 1e-5));
        }
    }
    psg_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partial_sums_out_of_range_are_removed),
        cmocka_unit_test(padding_changes_no_bit_of_what_is_kept),
        cmocka_unit_test(bounds_of_windows_follow_live_positions),
        cmocka_unit_test(enormous_batches_are_refused),
        cmocka_unit_test(endless_sizes_are_refused),
        cmocka_unit_test(ids_have_the_samples_of_their_backprop),
        cmocka_unit_test(mixed_scales_beyond_f32_have_no_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
