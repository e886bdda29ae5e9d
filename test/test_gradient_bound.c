/* One sample moves a clipped sum by at most C: the sets that moved it by more while a sample's positions met other
 * samples one by one, or while its factor depended on the batch. */
#include "clip_sum.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *zeros(psg_dtype dtype, int64_t count) {
    void *memory = calloc((size_t)count, psg_dtype_size(dtype));
    assert_non_null(memory);
    return memory;
}

/* ---- samples that cancel: their addend is 0, and nobody is rounded on the way ---- */

enum { B = 259, WIDE = 256, LONG = 2048 };

/* The sum of all B samples has the bits of the first one's alone: the others are zero gradients. */
static void check_only_the_first_counts(const psg_gradient *gradient, const char *what) {
    const char *isas[3];
    for (size_t i = 0, count = test_isas(isas); i < count; i++) {
        psg_context *context = test_context(2, isas[i]);
        psg_clip clip = { .max_grad_norm = 1, .max_batch_size = B };
        int64_t numel = gradient->rank == 2 ? gradient->shape[0] * gradient->shape[1] : gradient->shape[0];
        double *all = clip_sum(context, gradient, B, &clip, NULL, NULL), *none = calloc((size_t)numel, sizeof *none);
        double *alone = clip_sum(context, gradient, 1, &clip, NULL, NULL), moved = clip_sum_distance(all, none, numel);
        if (!(moved <= 1 && moved > 0.999)) fail_msg("%s, %s: moved by %.17g C", what, isas[i], moved);
        bool same = !memcmp(all, alone, (size_t)numel * sizeof *all);
        if (!same) fail_msg("%s, %s: neighbours round the sum", what, isas[i]);
        free(all), free(none), free(alone);
        psg_context_destroy(context);
    }
}

/* Two positions, (+2^60, -2^60), but the first sample's: ordinary. */
static float *cancelling_rows(void) {
    test_random random = { 1 };
    float *g = zeros(PSG_F32, B * 2 * WIDE);
    for (int64_t k = 0; k < B * 2 * WIDE; k++) g[k] = k / WIDE % 2 ? -0x1p60f : 0x1p60f;
    for (int64_t k = 0; k < 2 * WIDE; k++) g[k] = (float)test_normal(&random);
    return g;
}

static void rows_that_cancel_round_no_other_sample(void **state) {
    (void)state;
    float *g = cancelling_rows();
    psg_tensor backprop = view3(PSG_F32, g, B, 2, WIDE);
    psg_block block = psg_rows(&backprop);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, (int64_t[]){ WIDE });
    check_only_the_first_counts(&gradient, "rows");
    free(g);
}

static void duplicate_ids_that_cancel_round_no_other_sample(void **state) {
    (void)state;
    float *g = cancelling_rows();
    int64_t *id = zeros(PSG_I64, B * 2);
    psg_tensor backprop = view3(PSG_F32, g, B, 2, WIDE), ids = view2(PSG_I64, id, B, 2);
    psg_block block = psg_sparse_rows(&backprop, &ids);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, (int64_t[]){ 3, WIDE });
    check_only_the_first_counts(&gradient, "sparse rows");
    free(g);
    free(id);
}

/* g a - g a over two blocks of one position; second: the scale of the second, whose g makes it cancel. */
static void check_tied(double second) {
    test_random random = { 2 };
    double *g = zeros(PSG_F64, B * LONG), *h = zeros(PSG_F64, B * LONG), *a = zeros(PSG_F64, B);
    for (int64_t k = 0; k < B * LONG; k++) {
        g[k] = 0x1p60 * (1 + test_uniform(&random));
        h[k] = -g[k] / second;
    }
    for (int64_t k = 0; k < LONG; k++) g[k] = test_normal(&random), h[k] = 0;
    for (int n = 0; n < B; n++) a[n] = 1 << n % 3;   /* exact, whether products are fused or not */
    psg_tensor x = view2(PSG_F64, g, B, LONG), y = view2(PSG_F64, h, B, LONG), z = view2(PSG_F64, a, B, 1);
    psg_block block[2] = { psg_factored(&x, &z), psg_factored(&y, &z) };
    block[1].scale = second;
    psg_gradient gradient = psg_gradient_of_blocks(block, 2, 2, (int64_t[]){ LONG, 1 });
    check_only_the_first_counts(&gradient, second == 1 ? "tied" : "tied, with scales");
    free(g), free(h), free(a);
}

static void tied_positions_that_cancel_round_no_other_sample(void **state) {
    (void)state;
    check_tied(1);
    check_tied(-0.5);
}

/* ---- factors are functions of the sample and of constants ---- */

typedef struct layer {
    psg_dtype dtype;
    int64_t batch, positions, p, d;
    void *g, *a;
    psg_block block;
    psg_gradient gradient;
} layer;

static void view_layer(layer *l, int64_t padded) {
    psg_tensor g = view3(l->dtype, l->g, l->batch, padded, l->p), a = view3(l->dtype, l->a, l->batch, padded, l->d);
    l->block = psg_factored(&g, &a);
    l->gradient = psg_gradient_of_blocks(&l->block, 1, 2, (int64_t[]){ l->p, l->d });
}

/* Positions in pairs whose products cancel but for 1 part in 10^5, and for a sixteenth of them. */
static void fill(layer *l, test_random *random, int64_t padded, bool cancels) {
    psg_tensor g = view3(l->dtype, l->g, l->batch, padded, l->p), a = view3(l->dtype, l->a, l->batch, padded, l->d);
    for (int64_t n = 0; n < l->batch; n++) {
        for (int64_t t = 0; t < padded; t++) {
            bool live = t < l->positions, again = cancels && t % 2;
            for (int64_t i = 0; i < l->p; i++) {
                int64_t at = (n * padded + t) * l->p + i;
                double x = !live ? 0 : again ? -test_get_at(&g, at - l->p) * (1 + 1e-5) : 1 + test_uniform(random);
                test_set_at(&g, at, x);
            }
            for (int64_t j = 0; j < l->d; j++) {
                int64_t at = (n * padded + t) * l->d + j;
                test_set_at(&a, at, !live ? NAN : again ? test_get_at(&a, at - l->d) : 1 + test_uniform(random));
            }
        }
    }
}

static void new_layer(layer *l, psg_dtype dtype, int64_t batch, int64_t positions, int64_t padded, int64_t p,
                      int64_t d, bool cancels) {
    test_random random = { 3 };
    *l = (layer){ dtype, batch, positions, p, d, zeros(dtype, batch * padded * p), zeros(dtype, batch * padded * d),
                  { 0 }, { 0 } };
    fill(l, &random, padded, cancels);
    view_layer(l, padded);
}

static void free_layer(layer *l) {
    free(l->g);
    free(l->a);
}

/* A budget that holds the gradients of B samples and not those of B + 1, under one max_batch_size. */
static void check_budget(int64_t p, int64_t d, int64_t max_batch_size) {
    enum { MANY = 2001 };
    layer l;
    new_layer(&l, PSG_F32, MANY, 32, 32, p, d, true);
    psg_context *context = test_context_with(NULL, 2, NULL, (size_t)((MANY - 1) * p * d * 4 + 64));
    psg_clip clip = { .max_grad_norm = 1, .max_batch_size = max_batch_size };
    double factors[2][MANY];
    double *with = clip_sum(context, &l.gradient, MANY, &clip, factors[0], NULL);
    double *without = clip_sum(context, &l.gradient, MANY - 1, &clip, factors[1], NULL);
    double moved = clip_sum_distance(with, without, p * d);
    if (!(moved <= 1)) fail_msg("%lld x %lld: moved by %.17g C", (long long)p, (long long)d, moved);
    assert_memory_equal(factors[0], factors[1], sizeof factors[0] - sizeof(double));
    free(with), free(without);
    psg_context_destroy(context);
    free_layer(&l);
}

static void a_budget_that_just_fits_moves_no_factor(void **state) {
    (void)state;
    static const int64_t most[] = { 2000 + 1, 0, 4000 };
    for (int k = 0; k < 3; k++) {
        check_budget(64, 64, most[k]);   /* norms by Gram */
        check_budget(32, 32, most[k]);   /* by tiles, which may be kept */
    }
}

/* Padded with positions of zero backprop, whatever stands in their activations. */
static void check_padding(psg_dtype dtype, int64_t positions, int64_t padded, int64_t size, bool cancels,
                          size_t budget) {
    enum { SOME = 20 };
    layer l;
    new_layer(&l, dtype, SOME, positions, positions, size, size, cancels);
    layer longer;
    new_layer(&longer, dtype, SOME, positions, padded, size, size, cancels);
    psg_context *context = test_context_with(NULL, 2, NULL, budget);
    psg_clip clip = { .max_grad_norm = 1, .max_batch_size = 64 };
    double factors[2][SOME];
    double *short_sum = clip_sum(context, &l.gradient, SOME, &clip, factors[0], NULL);
    double *long_sum = clip_sum(context, &longer.gradient, SOME, &clip, factors[1], NULL);
    double apart = clip_sum_distance(short_sum, long_sum, size * size);
    double rounding = 2 * SOME * test_gamma(PSG_F64, SOME + 8);   /* one position: samples may meet in another order */
    if (memcmp(factors[0], factors[1], sizeof factors[0]) || !(apart <= (positions > 1 ? 0 : rounding))) {
        fail_msg("T %lld padded to %lld, %lld x %lld: other bits", (long long)positions, (long long)padded,
                 (long long)size, (long long)size);
    }
    free(short_sum), free(long_sum);
    psg_context_destroy(context);
    free_layer(&l);
    free_layer(&longer);
}

static void padding_moves_no_factor(void **state) {
    (void)state;
    static const int64_t lengths[][2] = { { 32, 64 }, { 32, 130 }, { 1, 2 }, { 1, 64 }, { 2, 3 } };
    for (int k = 0; k < 5 * 2 * 2 * 2; k++) {
        const int64_t *t = lengths[k % 5];
        bool cancels = k / 5 % 2 && t[0] > 1;
        check_padding(k / 10 % 2 ? PSG_F64 : PSG_F32, t[0], t[1], 64, cancels, k / 20 ? (size_t)64 << 20 : 0);
        check_padding(k / 10 % 2 ? PSG_F64 : PSG_F32, t[0], t[1], 128, cancels, k / 20 ? (size_t)64 << 20 : 0);
    }
}

/* 0 stands for a constant, not for this B. */
static void no_max_batch_size_is_a_constant(void **state) {
    (void)state;
    enum { MANY = 4096 };
    layer l;
    new_layer(&l, PSG_F32, MANY, 1, 1, 7, 9, false);
    psg_context *context = test_context(2, NULL);
    psg_clip absent = { .max_grad_norm = 1 }, given = absent;
    given.max_batch_size = PSG_DEFAULT_MAX_BATCH_SIZE;
    double factors[3][MANY];
    free(clip_sum(context, &l.gradient, MANY, &absent, factors[0], NULL));
    free(clip_sum(context, &l.gradient, MANY, &given, factors[1], NULL));
    free(clip_sum(context, &l.gradient, 16, &absent, factors[2], NULL));
    assert_memory_equal(factors[0], factors[1], sizeof factors[0]);
    assert_memory_equal(factors[0], factors[2], 16 * sizeof(double));
    double moved = clip_sum_moved(context, &l.gradient, &absent);
    assert_true(moved <= 1 && moved > 0.9999);
    psg_context_destroy(context);
    free_layer(&l);
}

/* ---- the margin ---- */

static psg_status ask_margin(psg_context *context, int64_t max_batch_size, double *share) {
    float g[2] = { 3e5f, 4e5f };
    psg_tensor backprop = view2(PSG_F32, g, 1, 2);
    psg_block block = psg_rows(&backprop);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, (int64_t[]){ 2 });
    const psg_gradient *set = &gradient;
    psg_clip clip = { .max_grad_norm = 2, .max_batch_size = max_batch_size };
    double out[2], factor = NAN;
    psg_tensor outs = psg_tensor_of(PSG_F64, out, 1, gradient.shape);
    psg_status status = psg_clipped_sum(context, &set, 1, &clip, PSG_OVERWRITE, &outs, NULL, &factor, NULL);
    *share = factor * 5e5 / 2;
    return status;
}

/* 2 N gamma_{N + 8}: 0.024 % at 2^20, 1/2 at 2^25.5. */
static void the_margin_is_that_of_sums_of_doubles(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    double share;
    TEST_OK(context, ask_margin(context, 1 << 20, &share));
    assert_true(1 - share < 3e-4 && 1 - share > 2e-4);
    TEST_OK(context, ask_margin(context, 1024, &share));
    assert_true(1 - share < 3e-10);
    TEST_OK(context, ask_margin(context, 100000, &share));
    assert_true(1 - share < 3e-6);
    TEST_OK(context, ask_margin(context, 47453100, &share));
    assert_true(share > 0.499 && share < 0.51);
    test_status(context, ask_margin(context, 47453200, &share), PSG_ERR_ARGUMENT, "margin");
    assert_non_null(strstr(psg_context_message(context), "max_batch_size 47453200 needs a margin of 0.50"));
    psg_context_destroy(context);
}

/* ---- forced routes keep the bound ---- */

static void forced_routes_keep_the_bound_at_one_position(void **state) {
    (void)state;
    static const char *const routes[] = { NULL, "identity", "gram", "tiles", "keep", "recompute" };
    float g[8] = { 1, 1, 1, 1, 1, 1, 1, 1 }, a = 3e38f;
    psg_tensor t = view2(PSG_F32, g, 1, 8), u = view2(PSG_F32, &a, 1, 1);
    psg_block block = psg_factored(&t, &u);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, (int64_t[]){ 8, 1 });
    for (int k = 0; k < 6 * 400; k++) {
        psg_context *context = test_context_with(NULL, 1, NULL, (size_t)1 << 20);
        TEST_OK(context, psg_context_force_route(context, routes[k % 6]));
        psg_clip clip = { .max_grad_norm = 0.001 * (1 + k / 6 / 40.0), .max_batch_size = 8 };
        double moved = clip_sum_moved(context, &gradient, &clip) / clip.max_grad_norm;
        if (!(moved <= 1 && moved > 0.999999)) fail_msg("route %s: moved by %.17g C", routes[k % 6], moved);
        psg_context_destroy(context);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_that_cancel_round_no_other_sample),
        cmocka_unit_test(duplicate_ids_that_cancel_round_no_other_sample),
        cmocka_unit_test(tied_positions_that_cancel_round_no_other_sample),
        cmocka_unit_test(a_budget_that_just_fits_moves_no_factor),
        cmocka_unit_test(padding_moves_no_factor),
        cmocka_unit_test(no_max_batch_size_is_a_constant),
        cmocka_unit_test(the_margin_is_that_of_sums_of_doubles),
        cmocka_unit_test(forced_routes_keep_the_bound_at_one_position),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
