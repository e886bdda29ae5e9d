/* A host whose address space runs short (RLIMIT_AS) after the context was made: every call returns, in a child process
 * with a watchdog.  OpenBLAS asks for its buffers until it has them. */
#include "gradient_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a child process ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CAN_LIMIT = 0 };   /* sanitizers need address space of their own */
#else
enum { CAN_LIMIT = 1 };
#endif

/* No more than extra bytes beyond what is mapped. */
static bool limit_address_space(size_t extra) {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%lu", &pages) != 1) return false;
    fclose(file);
    rlim_t most = pages * (rlim_t)sysconf(_SC_PAGESIZE) + extra;
    return setrlimit(RLIMIT_AS, &(struct rlimit){ most, most }) == 0;
}

/* What body returns in a child of its own: 0 is good. */
static void run_in_child(int (*body)(size_t extra), size_t extra) {
    int outcome;
    if (!CAN_LIMIT) skip();
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        alarm(30);
        _exit(body(extra));
    }
    assert_int_equal(waitpid(child, &outcome, 0), child);
    if (WIFSIGNALED(outcome)) fail_msg("a call did not return: signal %d", WTERMSIG(outcome));
    assert_int_equal(WEXITSTATUS(outcome), 0);
}

/* ---- memory of the context's alone ---- */

/* An allocator that has what it needs from the start. */
typedef struct store { char *memory; size_t used; } store;
enum { STORE_BYTES = 64 << 20 };

static void *take(void *user, size_t bytes) {
    store *s = user;
    size_t rounded = (bytes + 63) & ~(size_t)63;
    if (rounded > STORE_BYTES - s->used) return NULL;
    s->used += rounded;
    return s->memory + s->used - rounded;
}

static void give(void *user, void *memory, size_t bytes) {
    store *s = user;
    size_t rounded = (bytes + 63) & ~(size_t)63;
    if ((char *)memory + rounded == s->memory + s->used) s->used -= rounded;
}

enum { MATRIX = 300 };

static psg_status spectrum(psg_context *context, double *gram, double *values, double *vectors) {
    for (int i = 0; i < MATRIX * MATRIX; i++) gram[i] = i / MATRIX == i % MATRIX ? 1 + i % 7 : 0.001;
    return psg_gram_spectrum(context, gram, MATRIX, values, vectors);
}

/* LAPACK's workspace is several MB: malloc would map them. */
static int spectrum_without_malloc(size_t extra) {
    static store s;
    s.memory = malloc(STORE_BYTES);
    double *gram = malloc(3 * MATRIX * MATRIX * sizeof *gram), *vectors = gram + MATRIX * MATRIX, values[MATRIX];
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    psg_context *context;
    options.threads = 1;
    options.allocator = (psg_allocator){ take, give, &s };
    if (psg_context_create(&options, &context) || spectrum(context, gram, values, vectors)) return 1;
    if (!limit_address_space(extra)) return 2;
    return spectrum(context, gram, values, vectors) ? 3 : 0;
}

static void lapack_has_the_contexts_memory(void **state) {
    (void)state;
    run_in_child(spectrum_without_malloc, 0);
}

/* ---- every call returns ---- */

enum { POSITIONS = 40, WIDTH = 64, SAMPLES = 24 };

typedef struct work {
    psg_context *context;
    psg_tape *tape;
    psg_param *weight;
    fixture f;
    answers a[PSG_QUESTION_COUNT];
    float *x;
    double *gram, *vectors, *values;
} work;

/* All that the test itself needs, and the first call of OpenBLAS is yet to come but for what the context makes. */
static bool prepare(work *w, unsigned threads, psg_gemm_engine engine) {
    test_random random = { 4 };
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = threads;
    options.gemm = engine;
    options.memory_budget = (size_t)1 << 30;
    if (psg_context_create(&options, &w->context)) return false;
    fixture_layer(&w->f, &random, PSG_F32, SAMPLES, POSITIONS, WIDTH, WIDTH);
    for (int q = 0; q < PSG_QUESTION_COUNT; q++) answers_new(&w->a[q], &w->f, &random, PSG_F64, PSG_OVERWRITE);
    w->x = calloc(SAMPLES * POSITIONS * WIDTH + WIDTH * WIDTH, sizeof(float));
    w->gram = malloc((2 * MATRIX * MATRIX + MATRIX) * sizeof(double));
    w->vectors = w->gram + MATRIX * MATRIX;
    w->values = w->vectors + MATRIX * MATRIX;
    psg_tensor weight = psg_f32_2d(w->x + SAMPLES * POSITIONS * WIDTH, WIDTH, WIDTH);
    return !psg_param_create(w->context, "w", &weight, &w->weight) && !psg_tape_create(w->context, &w->tape);
}

static psg_status pass_over(work *w) {
    psg_tensor x = psg_f32_3d(w->x, SAMPLES, POSITIONS, WIDTH), grad = psg_f32_3d(w->x, SAMPLES, POSITIONS, POSITIONS);
    psg_status status = psg_tape_begin(w->tape, NULL);
    psg_var y = psg_linear(w->tape, psg_input(w->tape, &x), psg_use(w->tape, w->weight), psg_none());
    psg_var products = psg_matmul(w->tape, y, psg_transpose(w->tape, y, 1, 2));
    return status ? status : psg_backward_from(w->tape, products, &grad);
}

/* 1 where a call has no answer that is allowed. */
static int is_wrong(psg_status status, bool has_memory) {
    return status != PSG_OK && (has_memory || status != PSG_ERR_MEMORY);
}

static int work_on(work *w, bool has_memory) {
    int wrong = 0;
    for (int round = 0; round < 2; round++) {
        for (int q = 0; q < PSG_QUESTION_COUNT; q++) {
            wrong += is_wrong(answers_ask(&w->a[q], w->context, &w->f, (psg_question)q, PSG_OVERWRITE), has_memory);
        }
        wrong += is_wrong(pass_over(w), has_memory);
        wrong += is_wrong(spectrum(w->context, w->gram, w->values, w->vectors), has_memory);
    }
    return wrong;
}

static unsigned threads_of_work;
static psg_gemm_engine engine_of_work;

static int products_begin_after_the_limit(size_t extra) {
    static work w;
    if (!prepare(&w, threads_of_work, engine_of_work)) return 100;
    if (!limit_address_space(extra)) return 101;
    return work_on(&w, extra >= (size_t)64 << 20);
}

static void every_call_returns(void **state) {
    (void)state;
    static const unsigned threads[] = { 1, 2, 5 };
    for (size_t t = 0; t < 3; t++) {
        for (int engine = PSG_GEMM_AUTOMATIC; engine <= PSG_GEMM_KERNEL; engine++) {
            threads_of_work = threads[t];
            engine_of_work = (psg_gemm_engine)engine;
            for (int megabytes = 0; megabytes <= 64; megabytes = megabytes ? 8 * megabytes : 8) {
                run_in_child(products_begin_after_the_limit, (size_t)megabytes << 20);
            }
        }
    }
}

/* Gradients that a budget allows and memory does not are computed twice. */
static int budget_without_memory(size_t extra) {
    static store s;
    static work w;
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    if (!prepare(&w, 2, PSG_GEMM_AUTOMATIC)) return 100;
    s.memory = malloc(STORE_BYTES);
    s.used = STORE_BYTES - ((size_t)6 << 20);
    options.threads = 2;
    options.memory_budget = (size_t)1 << 30;
    options.allocator = (psg_allocator){ take, give, &s };
    psg_context *context;
    if (psg_context_create(&options, &context) || !limit_address_space(extra)) return 101;
    if (psg_context_force_route(context, "keep")) return 102;
    return answers_ask(&w.a[0], context, &w.f, PSG_ASK_CLIPPED_SUM, PSG_OVERWRITE) ? 1 : 0;
}

static void a_budget_may_be_more_than_there_is(void **state) {
    (void)state;
    run_in_child(budget_without_memory, 0);
}

/* ---- contexts ---- */

/* What OpenBLAS would not get, no context is promised; there is one again afterwards. */
static int contexts_without_buffers(size_t extra) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    psg_context *first, *second;
    options.threads = 1;
    if (psg_context_create(&options, &first)) return 1;
    if (!limit_address_space(extra)) return 2;
    if (psg_context_create(&options, &second) != PSG_ERR_MEMORY || second) return 3;
    psg_context_destroy(first);
    for (int repeat = 0; repeat < 100; repeat++) {
        if (psg_context_create(&options, &first)) return 4;
        psg_context_destroy(first);
    }
    return 0;
}

static void no_context_without_buffers(void **state) {
    (void)state;
    run_in_child(contexts_without_buffers, (size_t)64 << 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_returns),
        cmocka_unit_test(a_budget_may_be_more_than_there_is),
        cmocka_unit_test(no_context_without_buffers),
        cmocka_unit_test(lapack_has_the_contexts_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
