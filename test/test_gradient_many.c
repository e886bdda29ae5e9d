/* Sets of many small gradients, more than one run of the plan holds, biases far from their weights. */
#include <stdlib.h>
#include <string.h>

#include "support.h"

enum { B = 5, WEIGHTS = 150, BIASES = 40, COUNT = WEIGHTS + BIASES, LARGEST = 35 };

typedef struct many {
    int64_t p[COUNT], d[COUNT], T[COUNT];   /* biases: d 1 */
    float *g[COUNT], *a[COUNT], *direction[COUNT];
    float sum[COUNT][LARGEST], plain[COUNT][LARGEST];
} many;

static float *numbers(test_random *random, int64_t count, bool integers) {
    float *x = malloc((size_t)count * sizeof *x);
    for (int64_t i = 0; i < count; i++) x[i] = (float)(integers ? test_range(random, -3, 3) : test_normal(random));
    return x;
}

/* Bias k has the backprop of weight 3 k. */
static void make(many *m, bool integers) {
    test_random random = { 7 };
    for (int64_t k = 0; k < COUNT; k++) {
        bool bias = k >= WEIGHTS;
        int64_t of = bias ? 3 * (k - WEIGHTS) : k;
        m->p[k] = 1 + of % 7;
        m->d[k] = bias ? 1 : 1 + of % 5;
        m->T[k] = 1 + of % 3;
        m->g[k] = bias ? m->g[of] : numbers(&random, B * m->T[k] * m->p[k], integers);
        m->a[k] = numbers(&random, B * m->T[k] * m->d[k], integers);
        m->direction[k] = numbers(&random, m->p[k] * m->d[k], integers);
    }
}

static void release(many *m) {
    for (int64_t k = 0; k < COUNT; k++) {
        if (k < WEIGHTS) free(m->g[k]);
        free(m->a[k]);
        free(m->direction[k]);
    }
}

static double element(const many *m, int64_t k, int64_t n, int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t t = n * m->T[k]; t < (n + 1) * m->T[k]; t++) {
        double a = k >= WEIGHTS ? 1 : m->a[k][t * m->d[k] + j];
        sum += m->g[k][t * m->p[k] + i] * a;
    }
    return sum;
}

typedef struct answer { double square[B], upper[B], dots[B], factors[B]; } answer;

/* Of samples [first, first + count); weights: n + 1. */
static void ask(psg_context *context, many *m, int64_t first, int64_t count, answer *to) {
    static psg_block block[COUNT];
    static psg_gradient gradient[COUNT];
    const psg_gradient *set[COUNT];
    psg_tensor direction[COUNT], sum[COUNT], plain[COUNT];
    double weights[B] = { 1, 2, 3, 4, 5 };
    const psg_clip clip = { .max_grad_norm = 1, .max_batch_size = B };
    for (int64_t k = 0; k < COUNT; k++) {
        int64_t p = m->p[k], d = m->d[k], T = m->T[k];
        psg_tensor g = psg_tensor_of(PSG_F32, m->g[k] + first * T * p, 3, (int64_t[]){ count, T, p });
        psg_tensor a = psg_tensor_of(PSG_F32, m->a[k] + first * T * d, 3, (int64_t[]){ count, T, d });
        block[k] = k >= WEIGHTS ? psg_rows(&g) : psg_factored(&g, &a);
        gradient[k] = psg_gradient_of_blocks(&block[k], 1, 2, (int64_t[]){ p, d });
        if (k >= WEIGHTS) gradient[k] = psg_gradient_of_blocks(&block[k], 1, 1, &p);
        set[k] = &gradient[k];
        direction[k] = psg_tensor_of(PSG_F32, m->direction[k], gradient[k].rank, gradient[k].shape);
        sum[k] = psg_tensor_of(PSG_F32, m->sum[k], gradient[k].rank, gradient[k].shape);
        plain[k] = psg_tensor_of(PSG_F32, m->plain[k], gradient[k].rank, gradient[k].shape);
    }
    TEST_OK(context, psg_sqnorm(context, set, COUNT, to->square, to->upper, NULL));
    TEST_OK(context, psg_dot(context, set, COUNT, direction, to->dots));
    TEST_OK(context, psg_clipped_sum(context, set, COUNT, &clip, PSG_OVERWRITE, sum, NULL, to->factors, NULL));
    TEST_OK(context, psg_weighted_sum(context, set, COUNT, weights, PSG_OVERWRITE, sum));
    TEST_OK(context, psg_weighted_sum(context, set, COUNT, NULL, PSG_OVERWRITE, plain));
}

/* Of integers every answer is exact. */
static void integers_are_answered_exactly(void **state) {
    (void)state;
    psg_context *context = test_context(3, NULL);
    many m;
    answer is;
    make(&m, true);
    ask(context, &m, 0, B, &is);
    double square[B] = { 0 }, dots[B] = { 0 };
    for (int64_t e = 0; e < COUNT * LARGEST; e++) {
        int64_t k = e / LARGEST, i = e % LARGEST / m.d[k], j = e % LARGEST % m.d[k];
        double sum = 0, plain = 0;
        if (i >= m.p[k]) continue;
        for (int64_t n = 0; n < B; n++) {
            double x = element(&m, k, n, i, j);
            square[n] += x * x;
            dots[n] += x * m.direction[k][i * m.d[k] + j];
            sum += (double)(n + 1) * x;
            plain += x;
        }
        assert_true(m.sum[k][i * m.d[k] + j] == sum && m.plain[k][i * m.d[k] + j] == plain);
    }
    assert_memory_equal(is.square, square, sizeof square);
    assert_memory_equal(is.dots, dots, sizeof dots);
    release(&m);
    psg_context_destroy(context);
}

/* Every sample has the bits that it has alone; and the sums those of one thread. */
static void samples_and_threads_change_no_bit(void **state) {
    (void)state;
    psg_context *context = test_context(3, NULL), *one = test_context(1, NULL);
    many m, n;
    answer all, alone;
    make(&m, false);
    ask(context, &m, 0, B, &all);
    n = m;
    ask(one, &n, 0, B, &alone);
    assert_memory_equal(&alone, &all, sizeof all);
    for (int64_t k = 0; k < COUNT; k++) {
        assert_memory_equal(n.sum[k], m.sum[k], (size_t)(m.p[k] * m.d[k]) * sizeof(float));
        assert_memory_equal(n.plain[k], m.plain[k], (size_t)(m.p[k] * m.d[k]) * sizeof(float));
    }
    for (int64_t s = 0; s < B; s++) {
        ask(context, &n, s, 1, &alone);
        assert_true(alone.square[0] == all.square[s] && alone.upper[0] == all.upper[s]);
        assert_true(alone.dots[0] == all.dots[s]);
    }
    release(&m);
    psg_context_destroy(one);
    psg_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_answered_exactly),
        cmocka_unit_test(samples_and_threads_change_no_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
