/* A child process must not draw what its parent draws: a generator refuses every fork of its maker. */
#include "support.h"

#include <sched.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* A child that goes by its parent's id, made up here: what the first process of a namespace looks like. */
static void a_child_of_the_same_id_is_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_generator *generator = seeded(context);
    if (!generator->mark) skip();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        generator->pid = getpid();
        _exit(refuses(context, generator) ? 0 : 1);
    }
    assert_true(child_succeeds(child));
    assert_true(draws(generator));
    psg_generator_destroy(generator);
    test_context_free(context);
}

enum { CANNOT_TELL = 77 };

/* As the first process of a namespace: makes a generator, then a child that is the first of another. */
static int first_of_two_namespaces(void) {
    psg_context *context = test_context(1, NULL);
    psg_generator *generator = seeded(context);
    if (getpid() != 1 || unshare(CLONE_NEWPID)) return CANNOT_TELL;
    pid_t child = fork();
    if (child == 0) _exit(getpid() == 1 && refuses(context, generator) ? 0 : 1);
    return child < 0 ? CANNOT_TELL : !child_succeeds(child);
}

static void the_first_process_of_a_namespace_is_refused(void **state) {
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWPID)) _exit(CANNOT_TELL);
        pid_t first = fork();
        int status;
        if (first == 0) _exit(first_of_two_namespaces());
        _exit(first < 0 || waitpid(first, &status, 0) != first ? CANNOT_TELL : WEXITSTATUS(status));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CANNOT_TELL) skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_is_refused),
        cmocka_unit_test(a_child_of_the_same_id_is_refused),
        cmocka_unit_test(the_first_process_of_a_namespace_is_refused),
    };
    return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
