/* The pool, also of more workers than processors, a loop of the host's, OpenBLAS's thread count. */
#include "support.h"

#include <cblas.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/parallel.h"
#include "base/pool.h"

/* ---- the pool ---- */

typedef struct visits {
    atomic_int count[256];
    atomic_int busy[64];
    atomic_int wrong;
    unsigned slots;
} visits;

static void visit(void *argument, size_t index, unsigned slot) {
    visits *v = argument;
    if (slot >= v->slots || atomic_exchange(&v->busy[slot], 1)) atomic_fetch_add(&v->wrong, 1);
    atomic_fetch_add(&v->count[index], 1);
    atomic_store(&v->busy[slot], 0);
}

static void check_visits(psg_context *context, size_t count) {
    visits v = { .slots = psg_context_threads(context) };
    psg_parallel(context, count, visit, &v);
    assert_int_equal(v.wrong, 0);
    for (size_t k = 0; k < 256; k++) assert_int_equal(v.count[k], k < count ? 1 : 0);
}

static void pool_runs_every_index_once(void **state) {
    (void)state;
    static const unsigned threads[] = { 1, 2, 3, 7, 16 };
    test_random random = { 17 };
    for (size_t k = 0; k < sizeof threads / sizeof threads[0]; k++) {
        psg_context *context = test_context(threads[k], NULL);
        for (int repeat = 0; repeat < 4000; repeat++) {
            check_visits(context, (size_t)test_range(&random, 0, repeat % 10 ? 8 : 256));
            if (repeat % 1000 == 999) usleep(3000);   /* let the workers fall asleep */
        }
        psg_context_destroy(context);
    }
}

static void pools_come_and_go(void **state) {
    (void)state;
    for (int repeat = 0; repeat < 100; repeat++) {
        psg_context *context = test_context((unsigned)(1 + repeat % 5), NULL);
        if (repeat % 2) check_visits(context, 20);
        psg_context_destroy(context);
    }
}

/* ---- more workers than processors ---- */

/* Pins this thread, and so those that it creates; returns the mask before. */
static cpu_set_t pin_to_one(void) {
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    int first = 0;
    while (!CPU_ISSET(first, &before)) first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    return before;
}

static void unpin(const cpu_set_t *before) { assert_int_equal(sched_setaffinity(0, sizeof *before, before), 0); }

/* A pool of 64 that keeps `processors` awake runs loops of few and of many tasks. */
static void run_crowded_pool(unsigned processors, int loops) {
    test_random random = { processors };
    psg_context *context = test_context(1, NULL);
    psg_pool *pool;
    assert_int_equal(psg_pool_create(context, 64, processors, &pool), PSG_OK);
    for (int repeat = 0; repeat < loops; repeat++) {
        size_t count = (size_t)test_range(&random, 1, repeat % 10 ? 8 : 256);
        visits v = { .slots = 64 };
        psg_pool_run(pool, count, visit, &v);
        assert_int_equal(v.wrong, 0);
        for (size_t k = 0; k < 256; k++) assert_int_equal(v.count[k], k < count ? 1 : 0);
        if (repeat % 50 == 49) usleep(500);   /* let the workers fall asleep */
    }
    psg_pool_join(pool);
    psg_pool_free(context, pool);
    psg_context_destroy(context);
}

static void crowded_pools_run_every_index_once(void **state) {
    (void)state;
    static const unsigned processors[] = { 1, 2, 3, 64 };
    for (size_t k = 0; k < sizeof processors / sizeof processors[0]; k++) {
        int loops = processors[k] < 64 ? 2000 : 200;
        run_crowded_pool(processors[k], loops);
        cpu_set_t before = pin_to_one();
        run_crowded_pool(processors[k], loops / 4);
        unpin(&before);
    }
}

static void pinned_context_of_many_workers_computes(void **state) {
    (void)state;
    psg_context *wide = test_context(64, NULL);
    cpu_set_t before = pin_to_one();
    psg_context *narrow = test_context(64, NULL);
    for (int repeat = 0; repeat < 2000; repeat++) {
        check_visits(wide, (size_t)(repeat % 9));
        check_visits(narrow, (size_t)(repeat % 9));
    }
    unpin(&before);
    check_visits(narrow, 256);
    psg_context_destroy(narrow);
    psg_context_destroy(wide);
}

typedef struct crowd { atomic_int inside, most; } crowd;

static void count_crowd(void *argument, size_t index, unsigned slot) {
    (void)index;
    (void)slot;
    crowd *c = argument;
    int now = atomic_fetch_add(&c->inside, 1) + 1, most = atomic_load(&c->most);
    while (now > most && !atomic_compare_exchange_weak(&c->most, &most, now)) {}
    usleep(100);
    atomic_fetch_sub(&c->inside, 1);
}

static void no_more_work_than_there_are_processors(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    for (unsigned processors = 1; processors <= 4; processors++) {
        psg_pool *pool;
        crowd c = { 0 };
        assert_int_equal(psg_pool_create(context, 16, processors, &pool), PSG_OK);
        for (int repeat = 0; repeat < 20; repeat++) psg_pool_run(pool, 40, count_crowd, &c);
        psg_pool_join(pool);
        psg_pool_free(context, pool);
        assert_in_range(c.most, 1, processors);
    }
    psg_context_destroy(context);
}

/* Without sleeping: a random time about that which a worker spins before it sleeps. */
static void pause_shortly(test_random *random) {
    struct timespec start, now;
    int64_t wait = test_range(random, 0, 130000), gone = 0;
    clock_gettime(CLOCK_MONOTONIC, &start);
    while (gone < wait) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        gone = (now.tv_sec - start.tv_sec) * 1000000000LL + (now.tv_nsec - start.tv_nsec);
    }
}

static void meet(void *argument, size_t index, unsigned slot) {
    (void)index;
    (void)slot;
    pthread_barrier_wait(argument);
}

/* As many tasks as processors wait for each other: each needs a thread of its own, awake, asleep or between. */
static void every_processor_gets_a_worker(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    test_random random = { 31 };
    alarm(300);
    for (unsigned processors = 2; processors <= 4; processors++) {
        psg_pool *pool;
        pthread_barrier_t barrier;
        pthread_barrier_init(&barrier, NULL, processors);
        assert_int_equal(psg_pool_create(context, 16, processors, &pool), PSG_OK);
        for (int repeat = 0; repeat < (processors == 2 ? 2000 : 200); repeat++) {
            psg_pool_run(pool, processors, meet, &barrier);
            pause_shortly(&random);
        }
        psg_pool_join(pool);
        psg_pool_free(context, pool);
        pthread_barrier_destroy(&barrier);
    }
    alarm(0);
    psg_context_destroy(context);
}

/* The worker's task outlasts the caller's spinning: the caller sleeps and must be woken. */
static void nap_elsewhere(void *argument, size_t index, unsigned slot) {
    (void)index;
    atomic_int *naps = argument;
    usleep(slot ? 3000 : 1000);
    atomic_fetch_add(naps, 1);
}

static void caller_waits_for_a_slow_worker(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_pool *pool;
    atomic_int naps = 0;
    alarm(300);
    assert_int_equal(psg_pool_create(context, 3, 3, &pool), PSG_OK);
    for (int repeat = 1; repeat <= 100; repeat++) {
        psg_pool_run(pool, 3, nap_elsewhere, &naps);
        assert_int_equal(naps, 3 * repeat);
    }
    alarm(0);
    psg_pool_join(pool);
    psg_pool_free(context, pool);
    psg_context_destroy(context);
}

/* ---- a loop of the host's, a forked child ---- */

typedef struct host_calls { size_t calls; unsigned slots; } host_calls;

static void reverse_for(void *user, size_t count, unsigned slots, psg_task task, void *argument) {
    host_calls *calls = user;
    calls->calls++;
    calls->slots = slots;
    for (size_t k = count; k-- > 0;) task(argument, k, (unsigned)k % slots);
}

static void host_loop_replaces_the_pool(void **state) {
    (void)state;
    host_calls calls = { 0 };
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = 5;
    options.parallel_for = reverse_for;
    options.parallel_user = &calls;
    for (int alone = 0; alone < 2; alone++) {
        options.leave_openblas_alone = alone;
        psg_context *context;
        assert_int_equal(psg_context_create(&options, &context), PSG_OK);
        assert_int_equal(psg_context_threads(context), 5);
        for (size_t count = 0; count < 20; count++) check_visits(context, count);
        assert_int_equal(calls.slots, 5);
        assert_true(calls.calls >= 18);
        calls = (host_calls){ 0 };
        psg_context_destroy(context);
    }
}

static void forked_child_still_computes(void **state) {
    (void)state;
    psg_context *context = test_context(3, NULL);
    check_visits(context, 100);
    for (int repeat = 0; repeat < 10; repeat++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (!child) {
            alarm(10);
            visits v = { .slots = 3 };
            psg_parallel(context, 50, visit, &v);
            int good = !v.wrong;
            for (size_t k = 0; k < 50; k++) good &= v.count[k] == 1;
            psg_context_destroy(context);
            _exit(good ? 0 : 1);
        }
        int outcome;
        assert_int_equal(waitpid(child, &outcome, 0), child);
        assert_true(WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0);
    }
    check_visits(context, 100);
    psg_context_destroy(context);
}

/* ---- OpenBLAS's thread count ---- */

extern int omp_get_max_threads(void) __attribute__((weak));

/* How many threads a product of the calling thread's would get. */
static int threads_of_a_call(void) {
    bool openmp = openblas_get_parallel() == 2;
    return openmp ? omp_get_max_threads() : openblas_get_num_threads();
}

typedef struct blas_seen { atomic_int single, other; } blas_seen;

static void look_at_openblas(void *argument, size_t index, unsigned slot) {
    (void)index;
    (void)slot;
    blas_seen *seen = argument;
    atomic_fetch_add(threads_of_a_call() == 1 ? &seen->single : &seen->other, 1);
}

static void openblas_count_is_restored(void **state) {
    (void)state;
    int before = openblas_get_num_threads();
    for (int host = 1; host <= 2; host++) {
        openblas_set_num_threads(host);
        host = threads_of_a_call();
        psg_context *context = test_context(3, NULL);
        assert_int_equal(threads_of_a_call(), host);
        blas_seen seen = { 0 };
        for (int repeat = 0; repeat < 50; repeat++) psg_parallel(context, 9, look_at_openblas, &seen);
        assert_int_equal(seen.single, 450);
        assert_int_equal(threads_of_a_call(), host);
        psg_context_destroy(context);
        assert_int_equal(threads_of_a_call(), host);
    }
    openblas_set_num_threads(before);
}

static void openblas_can_be_left_alone(void **state) {
    (void)state;
    int before = openblas_get_num_threads();
    openblas_set_num_threads(2);
    int host = openblas_get_num_threads();
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    options.leave_openblas_alone = 1;
    psg_context *context;
    assert_int_equal(psg_context_create(&options, &context), PSG_OK);
    blas_seen seen = { 0 };
    psg_parallel(context, 4, look_at_openblas, &seen);
    assert_int_equal(seen.other, host == 1 ? 0 : 4);
    psg_context_destroy(context);
    openblas_set_num_threads(before);
}

static void *compute_in_own_context(void *argument) {
    blas_seen *seen = argument;
    psg_context *context = NULL;
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = 2;
    if (psg_context_create(&options, &context)) return NULL;
    for (int repeat = 0; repeat < 2000; repeat++) psg_parallel(context, 3, look_at_openblas, seen);
    psg_context_destroy(context);
    return seen;
}

static void contexts_in_two_threads_share_the_bracket(void **state) {
    (void)state;
    int before = openblas_get_num_threads();
    openblas_set_num_threads(2);
    int host = openblas_get_num_threads();
    blas_seen seen = { 0 };
    pthread_t thread[2];
    for (int k = 0; k < 2; k++) assert_int_equal(pthread_create(&thread[k], NULL, compute_in_own_context, &seen), 0);
    for (int k = 0; k < 2; k++) {
        void *result;
        pthread_join(thread[k], &result);
        assert_non_null(result);
    }
    assert_int_equal(seen.other, 0);
    assert_int_equal(seen.single, 12000);
    assert_int_equal(threads_of_a_call(), host);
    openblas_set_num_threads(before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_runs_every_index_once),
        cmocka_unit_test(pools_come_and_go),
        cmocka_unit_test(crowded_pools_run_every_index_once),
        cmocka_unit_test(pinned_context_of_many_workers_computes),
        cmocka_unit_test(no_more_work_than_there_are_processors),
        cmocka_unit_test(every_processor_gets_a_worker),
        cmocka_unit_test(caller_waits_for_a_slow_worker),
        cmocka_unit_test(host_loop_replaces_the_pool),
        cmocka_unit_test(forked_child_still_computes),
        cmocka_unit_test(openblas_count_is_restored),
        cmocka_unit_test(openblas_can_be_left_alone),
        cmocka_unit_test(contexts_in_two_threads_share_the_bracket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
