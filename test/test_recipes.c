/* The recipes of bench/examples/recipes.md, against plain loops.  Values are small integers, so that sums are exact. */
#include "support.h"

#include <math.h>
#include <string.h>

#include "recipes.inc"

enum { MOST = 512 };   /* elements of an array or a parameter */

static float *numbers(float values[MOST], uint64_t seed) {
    test_random random = { seed };
    for (int i = 0; i < MOST; i++) values[i] = (float)test_range(&random, -3, 3);
    return values;
}

/* Every sample's gradient, and their sum, is what was expected: want (B, count). */
static void check(const psg_gradient *gradient, const double *want) {
    psg_context *context = test_context(1, NULL);
    float samples[B * MOST];
    double sum[MOST], norms[B];
    int64_t shape[PSG_MAX_RANK] = { B }, count = 1;
    for (int d = 0; d < gradient->rank; d++) count *= shape[d + 1] = gradient->shape[d];
    const psg_tensor out = psg_tensor_of(PSG_F32, samples, gradient->rank + 1, shape);
    const psg_tensor total = psg_tensor_of(PSG_F64, sum, gradient->rank, gradient->shape);
    TEST_OK(context, psg_grad_sample(context, gradient, 1, PSG_OVERWRITE, &out));
    TEST_OK(context, psg_weighted_sum(context, &gradient, 1, NULL, PSG_OVERWRITE, &total));
    TEST_OK(context, psg_sqnorm(context, &gradient, 1, norms, NULL, NULL));
    for (int n = 0; n < B; n++) {
        double norm = 0;
        for (int64_t e = 0; e < count; e++) {
            norm += want[n * count + e] * want[n * count + e];
            test_near(samples[n * count + e], want[n * count + e], 0, "element of a sample", n * count + e);
        }
        test_near(norms[n], norm, 0, "squared norm", n);
    }
    for (int64_t e = 0; e < count; e++) {
        test_near(sum[e], want[e] + want[count + e] + want[2 * count + e], 0, "sum", e);
    }
    psg_context_destroy(context);
}

/* sum_t g[n, t, i] x[n, t, j] into element first + i * row + j * column of count. */
static void add_products(double *want, const float *x, const float *g, int p, int count, int first, int row,
                         int column) {
    for (int nt = 0; nt < B * T; nt++) {
        for (int i = 0; i < p; i++) {
            for (int j = 0; j < D; j++) {
                want[nt / T * count + first + i * row + j * column] += g[nt * p + i] * x[nt * D + j];
            }
        }
    }
}

static void add_rows(double *want, const float *g, int p, int count, int first, int step) {
    for (int nt = 0; nt < B * T; nt++) {
        for (int i = 0; i < p; i++) want[nt / T * count + first + i * step] += g[nt * p + i];
    }
}

typedef struct arrays {
    float x[3][MOST], g[3][MOST];
    double want[B * MOST];
    psg_block block[8];
} arrays;

static arrays *begin(void) {
    static arrays a;
    memset(a.want, 0, sizeof a.want);
    for (int k = 0; k < 3; k++) numbers(a.x[k], 2 * (uint64_t)k + 1), numbers(a.g[k], 2 * (uint64_t)k + 2);
    return &a;
}

static void layer(void **state) {
    (void)state;
    arrays *a = begin();
    add_rows(a->want, a->g[0], P, P, 0, 1);
    psg_gradient bias = bias_of(a->block, a->g[0]);
    check(&bias, a->want);
    a = begin();
    add_products(a->want, a->x[0], a->g[0], P, P * D, 0, D, 1);
    psg_gradient weight = weight_of(a->block, a->x[0], a->g[0]);
    check(&weight, a->want);
    for (int k = 0; k < B * P * D; k++) a->want[k] *= B;
    psg_gradient of_mean = weight_under_mean_loss(a->block, a->x[0], a->g[0]);
    check(&of_mean, a->want);
}

/* What clipping to `most` makes of parameters of count[k] elements: sum[k], weighted by min(1, most / norm). */
static void clip_by_hand(double *const want[], const int *count, int params, double most, double sum[][MOST]) {
    for (int k = 0; k < params; k++) memset(sum[k], 0, sizeof sum[k]);
    for (int n = 0; n < B; n++) {
        double square = 0;
        for (int k = 0; k < params; k++) {
            for (int e = 0; e < count[k]; e++) square += want[k][n * count[k] + e] * want[k][n * count[k] + e];
        }
        const double factor = fmin(1, most / sqrt(square));
        for (int k = 0; k < params; k++) {
            for (int e = 0; e < count[k]; e++) sum[k][e] += factor * want[k][n * count[k] + e];
        }
    }
}

enum { MOST_NORM = 50 };   /* what the tests clip to: less than the norms of these numbers */

/* Norms are bounds: above the true ones by some roundings of f32. */
static void near_sum(const double *have, const double *want, int count) {
    for (int e = 0; e < count; e++) test_near(have[e], want[e], 1e-5 * MOST_NORM, "clipped sum", e);
}

static void clipped(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    arrays *a = begin();
    double bias_want[B * P] = { 0 }, sum[2][MOST], have[P * D + P];
    add_products(a->want, a->x[0], a->g[0], P, P * D, 0, D, 1);
    add_rows(bias_want, a->g[0], P, P, 0, 1);
    const psg_tensor sums[2] = { psg_tensor_of(PSG_F64, have, PSG_SHAPE(P, D)),
                                 psg_tensor_of(PSG_F64, have + P * D, PSG_SHAPE(P)) };
    TEST_OK(context, clip_and_sum(context, a->x[0], a->g[0], MOST_NORM, sums));
    clip_by_hand((double *[]){ a->want, bias_want }, (int[]){ P * D, P }, 2, MOST_NORM, sum);
    near_sum(have, sum[0], P * D);
    near_sum(have + P * D, sum[1], P);
    psg_context_destroy(context);
}

static void tied(void **state) {
    (void)state;
    arrays *a = begin();
    int32_t ids[B * T];
    for (int k = 0; k < B * T; k++) ids[k] = k * 5 % V;
    add_products(a->want, a->x[0], a->g[0], V, V * D, 0, D, 1);
    for (int nt = 0; nt < B * T; nt++) {
        for (int j = 0; j < D; j++) a->want[nt / T * V * D + ids[nt] * D + j] += a->x[1][nt * D + j];
    }
    psg_gradient table = tied_table(a->block, ids, a->x[1], a->x[0], a->g[0]);
    check(&table, a->want);
}

static void positions(void **state) {
    (void)state;
    arrays *a = begin();
    for (int n = 0; n < B; n++) {
        for (int e = 0; e < T * D; e++) a->want[n * LONGEST * D + e] = a->g[0][n * T * D + e];
    }
    psg_gradient table = position_table(a->block, a->g[0]);
    check(&table, a->want);
}

static void parts(void **state) {
    (void)state;
    arrays *a = begin();
    const float *const x[3] = { a->x[0], a->x[1], a->x[2] }, *const g[3] = { a->g[0], a->g[1], a->g[2] };
    for (int k = 0; k < 3; k++) add_products(a->want, x[0], g[k], P, 3 * P * D, k * P * D, D, 1);
    psg_gradient fused = fused_projection(a->block, x[0], g);
    check(&fused, a->want);
    a = begin();
    for (int l = 0; l < LAYERS; l++) add_products(a->want, x[l], g[l], P, LAYERS * P * D, l * P * D, D, 1);
    psg_gradient all = all_layers(a->block, x, g);
    check(&all, a->want);
    a = begin();
    add_products(a->want, x[0], g[0], P, P * (D + 1), 0, D + 1, 1);
    add_rows(a->want, g[0], P, P * (D + 1), D, D + 1);
    psg_gradient folded = folded_bias(a->block, x[0], g[0]);
    check(&folded, a->want);
}

/* The same numbers, time first. */
static void turn(const float *from, float *to, int features) {
    for (int k = 0; k < B * T * features; k++) {
        const int n = k / features / T, t = k / features % T;
        to[(t * B + n) * features + k % features] = from[k];
    }
}

static void layouts(void **state) {
    (void)state;
    arrays *a = begin();
    const float *step_x[T], *step_g[T];
    turn(a->x[0], a->x[1], D);
    turn(a->g[0], a->g[1], P);
    for (int t = 0; t < T; t++) step_x[t] = a->x[1] + t * B * D, step_g[t] = a->g[1] + t * B * P;
    add_products(a->want, a->x[0], a->g[0], P, P * D, 0, D, 1);
    psg_gradient turned = time_major(a->block, a->x[1], a->g[1]);
    check(&turned, a->want);
    psg_gradient steps = unrolled(a->block, step_x, step_g);
    check(&steps, a->want);
    memset(a->want, 0, sizeof a->want);
    add_products(a->want, a->x[0], a->g[0], P, P * D, 0, 1, P);
    psg_gradient other = transposed(a->block, a->x[0], a->g[0]);
    check(&other, a->want);
    memset(a->want, 0, sizeof a->want);
    add_products(a->want, a->x[0], a->g[0], P, LEADING * D, 0, 1, LEADING);
    psg_gradient columns = column_major(a->block, a->x[0], a->g[0]);
    check(&columns, a->want);
}

static void flipped(void **state) {
    (void)state;
    arrays *a = begin();
    for (int e = 0; e < B * P * C * K * O; e++) {
        const int t = e % O, k = e / O % K, c = e / (O * K) % C, i = e / (O * K * C) % P, n = e / (O * K * C * P);
        const float x = a->x[0][(n * C + c) * X + t + K - 1 - k];
        a->want[((n * P + i) * C + c) * K + k] += a->g[0][(n * P + i) * O + t] * x;
    }
    psg_gradient weight = flipped_convolution(a->block, a->x[0], a->g[0]);
    check(&weight, a->want);
}

static void gains(void **state) {
    (void)state;
    arrays *a = begin();
    for (int e = 0; e < B * T * D; e++) a->want[e / (T * D) * D + e % D] += a->g[0][e] * a->x[0][e];
    psg_gradient weight = gain(a->block, a->x[0], a->g[0]);
    check(&weight, a->want);
}

static psg_gradient layer_of(void *host, int l, psg_block *block) {
    arrays *a = host;
    return weight_of(block, a->x[l], a->g[l]);
}

static void results(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    arrays *a = begin();
    psg_clip clip = PSG_CLIP_INIT;
    clip.max_grad_norm = MOST_NORM;
    static double want[LAYERS][B * P * D], sum[LAYERS][MOST];
    double have[LAYERS][P * D];
    for (int l = 0; l < LAYERS; l++) add_products(want[l], a->x[l], a->g[l], P, P * D, 0, D, 1);
    const psg_tensor sums[LAYERS] = { psg_tensor_of(PSG_F64, have[0], PSG_SHAPE(P, D)),
                                      psg_tensor_of(PSG_F64, have[1], PSG_SHAPE(P, D)) };
    TEST_OK(context, streamed(context, layer_of, a, &clip, sums));
    clip_by_hand((double *[]){ want[0], want[1] }, (int[]){ P * D, P * D }, LAYERS, MOST_NORM, sum);
    for (int l = 0; l < LAYERS; l++) near_sum(have[l], sum[l], P * D);

    float own[P * D];
    psg_gradient gradient = layer_of(a, 0, a->block);
    TEST_OK(context, clipped_mean_into(context, &gradient, &clip, own));
    clip_by_hand((double *[]){ want[0] }, (int[]){ P * D }, 1, MOST_NORM, sum);
    for (int e = 0; e < P * D; e++) test_near(own[e], sum[0][e] / B, 1e-5 * MOST_NORM, "mean", e);
    psg_context_destroy(context);
}

#ifdef _OPENMP
static void on_the_threads_of_openmp(void **state) {
    (void)state;
    psg_context *context;
    omp_set_num_threads(3);
    assert_int_equal(create_on_openmp(&context), PSG_OK);
    assert_int_equal(psg_context_threads(context), 3);
    arrays *a = begin();
    double sums[2][P * D], norms[2][B];
    psg_gradient gradient = weight_of(a->block, a->x[0], a->g[0]);
    const psg_gradient *set[1] = { &gradient };
    const psg_clip clip = PSG_CLIP_INIT;
    psg_context *own = test_context(1, NULL);
    for (int k = 0; k < 2; k++) {
        const psg_tensor out = psg_tensor_of(PSG_F64, sums[k], PSG_SHAPE(P, D));
        psg_context *each = k ? own : context;
        TEST_OK(each, psg_clipped_sum(each, set, 1, &clip, PSG_OVERWRITE, &out, norms[k], NULL, NULL));
    }
    assert_memory_equal(sums[0], sums[1], sizeof sums[0]);
    assert_memory_equal(norms[0], norms[1], sizeof norms[0]);
    psg_context_destroy(own);
    psg_context_destroy(context);
}
#endif

/* This program flushes denormals and does not know NaN. */
static void beside_fast_mathematics(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    arrays *a = begin();
    double upper[B], norms[B];
    uint32_t bits;
    int64_t bad;
    for (int k = 0; k < B * T * D; k++) a->x[0][k] = 1e-20f;
    for (int k = 0; k < B * T * P; k++) a->g[0][k] = 1e-20f;
    psg_gradient gradient = weight_of(a->block, a->x[0], a->g[0]);
    const psg_gradient *set[1] = { &gradient };
    const psg_tensor out = psg_tensor_of(PSG_F32, a->want, PSG_SHAPE(B, P, D));
    TEST_OK(context, psg_grad_sample(context, &gradient, 1, PSG_OVERWRITE, &out));
    memcpy(&bits, a->want, sizeof bits);
    test_near(bits, 4e-40 / 0x1p-149, 2, "steps of 2^-149", 0);
    bits = 0x7fc00000;   /* NaN, which this program may not write as a number */
    memcpy(a->x[0] + T * D, &bits, sizeof bits);
    TEST_OK(context, psg_sqnorm(context, set, 1, norms, upper, NULL));
    TEST_OK(context, count_bad(context, upper, &bad));
    assert_int_equal(bad, 1);
    psg_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layer),     cmocka_unit_test(clipped), cmocka_unit_test(tied),
        cmocka_unit_test(positions), cmocka_unit_test(parts),   cmocka_unit_test(layouts),
        cmocka_unit_test(flipped),   cmocka_unit_test(gains),   cmocka_unit_test(results),
#ifdef _OPENMP
        cmocka_unit_test(on_the_threads_of_openmp),
#endif
        cmocka_unit_test(beside_fast_mathematics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
