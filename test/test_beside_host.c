/* A host that multiplies in threads of its own, with thread counts of its own, while contexts come, compute and go: no
 * product of either is wrong.  All numbers are whole, so that every order of adding has the same bits.
 * test_beside_host --calls N: so many products of the host's. */
#include "support.h"

#include <cblas.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern void omp_set_num_threads(int count) __attribute__((weak));
extern int omp_get_max_threads(void) __attribute__((weak));

static int wanted_calls = 1000;

/* ---- the host ---- */

enum { SIDE = 200, HOSTS = 3 };

typedef struct host_work {
    double a[SIDE * SIDE], b[SIDE * SIDE], turned_a[SIDE * SIDE], turned_b[SIDE * SIDE];
    float a32[SIDE * SIDE], b32[SIDE * SIDE];
    double product[SIDE * SIDE];
    float product32[SIDE * SIDE];
    atomic_int stop, calls, wrong;
} host_work;

typedef struct host_thread {
    host_work *work;
    int number;
    pthread_t thread;
} host_thread;

static void draw_host_work(host_work *w, test_random *random) {
    for (int i = 0; i < SIDE; i++) {
        for (int j = 0; j < SIDE; j++) {
            int at = i * SIDE + j, turned = j * SIDE + i;
            w->a32[at] = (float)(w->a[at] = w->turned_a[turned] = (double)test_range(random, -8, 8));
            w->b32[at] = (float)(w->b[at] = w->turned_b[turned] = (double)test_range(random, -8, 8));
        }
    }
    for (int i = 0; i < SIDE; i++) {
        for (int j = 0; j < SIDE; j++) {
            double sum = 0;
            for (int k = 0; k < SIDE; k++) sum += w->a[i * SIDE + k] * w->b[k * SIDE + j];
            w->product32[i * SIDE + j] = (float)(w->product[i * SIDE + j] = sum);
        }
    }
}

/* In the OpenMP build a thread's own, which must stay; 1: there is none.  One of the hosts has products on several
 * threads: of two such, OpenBLAS's OpenMP build loses some by itself (its issues 5825 and 5836). */
static int own_threads(int number) {
    if (openblas_get_parallel() != 2 || !omp_set_num_threads) return 1;
    omp_set_num_threads(number ? 1 : 3);
    return omp_get_max_threads();
}

static bool doubles_are_wrong(const host_work *w, double *c, bool turn_a, bool turn_b) {
    cblas_dgemm(CblasRowMajor, turn_a ? CblasTrans : CblasNoTrans, turn_b ? CblasTrans : CblasNoTrans, SIDE, SIDE, SIDE,
                1, turn_a ? w->turned_a : w->a, SIDE, turn_b ? w->turned_b : w->b, SIDE, 0, c, SIDE);
    return memcmp(c, w->product, sizeof w->product);
}

static bool floats_are_wrong(const host_work *w, float *c) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, SIDE, SIDE, SIDE, 1, w->a32, SIDE, w->b32, SIDE, 0, c, SIDE);
    return memcmp(c, w->product32, sizeof w->product32);
}

static void *multiply_until_stopped(void *argument) {
    const host_thread *self = argument;
    host_work *w = self->work;
    double *c = malloc(sizeof w->product);
    const int threads = own_threads(self->number);
    const bool mixed = openblas_get_parallel() == 2;
    for (int call = 0; !atomic_load(&w->stop); call++) {
        bool turned = mixed && call % 4 > 1;
        bool in_floats = mixed && call % 2;
        bool wrong = in_floats ? floats_are_wrong(w, (float *)(void *)c) : doubles_are_wrong(w, c, turned, turned);
        wrong |= openblas_get_parallel() == 2 && omp_get_max_threads && omp_get_max_threads() != threads;
        atomic_fetch_add(&w->calls, 1);
        atomic_fetch_add(&w->wrong, wrong);
    }
    free(c);
    return NULL;
}

/* ---- contexts ---- */

enum { SAMPLES = 6, POSITIONS = 40, WIDTH = 80 };

typedef struct guest {
    float g[SAMPLES * POSITIONS * WIDTH], a[SAMPLES * POSITIONS * WIDTH];
    psg_tensor views[2];
    psg_block block;
    psg_gradient gradient;
    const psg_gradient *set[1];
} guest;

typedef struct answer {
    double sqnorm[SAMPLES], gram[SAMPLES * SAMPLES], values[SAMPLES];
    double sum[WIDTH * WIDTH];
} answer;

static guest *new_guest(test_random *random) {
    guest *g = calloc(1, sizeof *g);
    const int64_t shape[] = { WIDTH, WIDTH };
    for (int k = 0; k < SAMPLES * POSITIONS * WIDTH; k++) g->g[k] = (float)test_range(random, -2, 2);
    for (int k = 0; k < SAMPLES * POSITIONS * WIDTH; k++) g->a[k] = (float)test_range(random, -2, 2);
    g->views[0] = psg_f32_3d(g->g, SAMPLES, POSITIONS, WIDTH);
    g->views[1] = psg_f32_3d(g->a, SAMPLES, POSITIONS, WIDTH);
    g->block = psg_factored(&g->views[0], &g->views[1]);
    g->gradient = psg_gradient_of_blocks(&g->block, 1, 2, shape);
    g->set[0] = &g->gradient;
    return g;
}

static void answer_of(psg_context *context, const guest *g, answer *found) {
    const psg_tensor sum = psg_tensor_of(PSG_F64, found->sum, 2, (const int64_t[]){ WIDTH, WIDTH });
    TEST_OK(context, psg_sqnorm(context, g->set, 1, found->sqnorm, NULL, NULL));
    TEST_OK(context, psg_gram(context, g->set, 1, found->gram));
    TEST_OK(context, psg_weighted_sum(context, g->set, 1, NULL, PSG_OVERWRITE, &sum));
    TEST_OK(context, psg_gram_spectrum(context, found->gram, SAMPLES, found->values, NULL));
}

static psg_context *context_on(psg_gemm_engine engine) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    psg_context *context;
    options.threads = 2;
    options.gemm = engine;
    assert_int_equal(psg_context_create(&options, &context), PSG_OK);
    return context;
}

/* A context of its own now and then, on either engine; returns how many answers differ. */
static int compute_until(const guest *g, host_work *work, int calls) {
    static answer expected, found;
    int differ = 0;
    for (int turn = 0; atomic_load(&work->calls) < calls; turn++) {
        psg_context *context = context_on(turn % 2 ? PSG_GEMM_OPENBLAS : PSG_GEMM_AUTOMATIC);
        for (int repeat = 0; repeat < 20; repeat++) {
            answer_of(context, g, turn || repeat ? &found : &expected);
            differ += (turn || repeat) && memcmp(&found, &expected, sizeof found);
        }
        psg_context_destroy(context);
    }
    return differ;
}

static void the_host_may_multiply_meanwhile(void **state) {
    (void)state;
    test_random random = { 29 };
    host_work *work = calloc(1, sizeof *work);
    host_thread host[HOSTS];
    guest *g = new_guest(&random);
    int before = openblas_get_num_threads();
    draw_host_work(work, &random);
    openblas_set_num_threads(2);
    for (int k = 0; k < HOSTS; k++) {
        host[k] = (host_thread){ .work = work, .number = k };
        assert_int_equal(pthread_create(&host[k].thread, NULL, multiply_until_stopped, &host[k]), 0);
    }
    int differ = compute_until(g, work, wanted_calls);
    atomic_store(&work->stop, 1);
    for (int k = 0; k < HOSTS; k++) pthread_join(host[k].thread, NULL);
    assert_int_equal(work->wrong, 0);
    assert_int_equal(differ, 0);
    openblas_set_num_threads(before);
    free(g);
    free(work);
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "--calls")) wanted_calls = atoi(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_host_may_multiply_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
