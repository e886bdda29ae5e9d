/* A child process must not draw what its parent draws: a generator refuses every fork of its maker.  Nor does it have
 * its parent's workers: a context computes in the child's one thread.  Nor what those threads held of OpenBLAS. */
#include "support.h"

#include <cblas.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/context.h"
#include "base/parallel.h"
#include "dp/random.h"

static psg_generator *seeded(psg_context *context) {
    static const unsigned char seed[32] = "a seed of thirty-two bytes, once";
    psg_generator *generator;
    TEST_OK(context, psg_generator_create_seeded(context, seed, &generator));
    return generator;
}

/* Draws nothing, whatever is asked for. */
static bool refuses(psg_context *context, psg_generator *generator) {
    double x = 7;
    int64_t z = 7;
    bool refused = psg_gaussian(generator, 0, 0, 0, &x, 1) == PSG_ERR_FORKED && x == 7;
    refused &= psg_discrete_gaussian(generator, 0, 0, 0, &z, 1) == PSG_ERR_FORKED && z == 7;
    return refused & (strstr(psg_context_message(context), "psg_discrete_gaussian") != NULL);
}

/* Whether the child answers 0. */
static bool child_succeeds(pid_t child) {
    int status;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The parent goes on. */
static bool draws(psg_generator *generator) {
    double x;
    return psg_gaussian(generator, 0, 0, 0, &x, 1) == PSG_OK;
}

static void a_child_is_refused(void **state) {
    (void)state;
    psg_context *context = test_context(2, NULL);
    psg_generator *generator = seeded(context);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(refuses(context, generator) ? 0 : 1);
    assert_true(child_succeeds(child));
    assert_true(draws(generator));
    psg_generator_destroy(generator);
    test_context_free(context);
}

/* An emulator that answers every advice with success and takes none. */
int __real_madvise(void *start, size_t bytes, int advice);
static bool takes_no_advice;
int __wrap_madvise(void *start, size_t bytes, int advice) {
    return takes_no_advice ? 0 : __real_madvise(start, bytes, advice);
}

static int take_no_advice(void **state) {
    (void)state;
    takes_no_advice = true;
    return 0;
}

static int take_advice(void **state) {
    (void)state;
    takes_no_advice = false;
    return 0;
}

/* A child that goes by its parent's id, made up here: what the first process of a namespace looks like. */
static void a_child_of_the_same_id_is_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_generator *generator = seeded(context);
    if (!generator->process.page) skip();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        generator->process.pid = getpid();
        _exit(refuses(context, generator) ? 0 : 1);
    }
    assert_true(child_succeeds(child));
    assert_true(draws(generator));
    psg_generator_destroy(generator);
    test_context_free(context);
}

/* ---- contexts ---- */

static void count_one(void *argument, size_t index, unsigned slot) {
    (void)index;
    (void)slot;
    atomic_fetch_add((atomic_int *)argument, 1);
}

/* The parent's workers, if they were waited for, would never come. */
static bool computes(psg_context *context) {
    atomic_int done = 0;
    alarm(20);
    psg_parallel(context, 100, count_one, &done);
    psg_context_destroy(context);
    alarm(0);
    return done == 100;
}

static void a_context_computes_in_a_child_of_the_same_id(void **state) {
    (void)state;
    psg_context *context = test_context(3, NULL);
    if (!context->process.page) skip();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        context->process.pid = getpid();
        _exit(computes(context) ? 0 : 1);
    }
    assert_true(child_succeeds(child));
    assert_true(computes(context));
}

/* ---- namespaces ---- */

enum { CANNOT_TELL = 77 };

/* Never leaves OpenBLAS: the count is 1 meanwhile. */
static void *compute_without_end(void *entered) {
    psg_blas_enter(test_context(1, NULL));
    sem_post(entered);
    pause();
    return NULL;
}

/* The child has not the thread: its count is the host's again. */
static int first_while_computing(void) {
    psg_context *context = test_context(1, NULL);
    pthread_t thread;
    sem_t entered;
    sem_init(&entered, 0, 0);
    openblas_set_num_threads(2);
    const int host = openblas_get_num_threads();
    if (pthread_create(&thread, NULL, compute_without_end, &entered) || sem_wait(&entered)) return CANNOT_TELL;
    if (getpid() != 1 || unshare(CLONE_NEWPID)) return CANNOT_TELL;
    pid_t child = fork();
    if (child == 0) _exit(getpid() == 1 && computes(context) && openblas_get_num_threads() == host ? 0 : 1);
    return child < 0 ? CANNOT_TELL : !child_succeeds(child);
}

/* As the first process of a namespace: makes a generator, then a child that is the first of another. */
static int first_of_two_namespaces(void) {
    psg_context *context = test_context(1, NULL);
    psg_generator *generator = seeded(context);
    psg_context *wide = test_context(3, NULL);
    if (getpid() != 1 || unshare(CLONE_NEWPID)) return CANNOT_TELL;
    pid_t child = fork();
    if (child == 0) _exit(getpid() == 1 && refuses(context, generator) && computes(wide) ? 0 : 1);
    return child < 0 ? CANNOT_TELL : !child_succeeds(child);
}

/* What the first process of a new namespace returns. */
static void check_in_namespace(int (*first_process)(void)) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWPID)) _exit(CANNOT_TELL);
        pid_t first = fork();
        int status;
        if (first == 0) _exit(first_process());
        _exit(first < 0 || waitpid(first, &status, 0) != first ? CANNOT_TELL : WEXITSTATUS(status));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CANNOT_TELL) skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void the_first_process_of_a_namespace_is_refused(void **state) {
    (void)state;
    check_in_namespace(first_of_two_namespaces);
}

static void the_first_process_of_a_namespace_has_the_count(void **state) {
    (void)state;
    check_in_namespace(first_while_computing);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_is_refused),
        { "a_child_is_refused_where_no_page_is_wiped", a_child_is_refused, take_no_advice, take_advice, NULL },
        cmocka_unit_test(a_child_of_the_same_id_is_refused),
        cmocka_unit_test(a_context_computes_in_a_child_of_the_same_id),
        cmocka_unit_test(the_first_process_of_a_namespace_is_refused),
        cmocka_unit_test(the_first_process_of_a_namespace_has_the_count),
    };
    return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
