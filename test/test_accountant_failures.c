/* The accountant without memory, without arguments and at the ends of its integers: every call says so, and what was
 * there before is there after. */
#include <math.h>
#include <string.h>

#include "accountant/parts.h"
#include "accountant/runs.h"
#include "accountant_fixture.h"
#include "failing_memory.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static const psg_event external = { .sampling = PSG_SAMPLING_EXTERNAL, .noise_multiplier = 10 };

/* ---- without memory ---- */

/* One question or change, its arguments and where its answer goes: an error leaves 7 there. */
typedef struct question {
    psg_context *context;
    psg_accountant *accountant, *other;
    psg_event event;
    psg_privacy privacy;
    double number;
    uint64_t releases;
} question;

static psg_status untouched(question *q, psg_status status) {
    if (status) assert_true(q->privacy.epsilon == 7 && q->number == 7 && q->releases == 7);
    q->privacy.epsilon = 7, q->number = 7, q->releases = 7;
    return status;
}

static psg_status ask_epsilon(void *user) {
    question *q = user;
    return untouched(q, psg_accountant_epsilon(q->accountant, 1e-5, &q->privacy));
}

static psg_status ask_upper(void *user) {
    question *q = user;
    return untouched(q, psg_accountant_epsilon_upper(q->accountant, 1e-5, &q->number));
}

static psg_status ask_delta(void *user) {
    question *q = user;
    return untouched(q, psg_accountant_delta(q->accountant, 1, &q->privacy));
}

static psg_status ask_remaining(void *user) {
    question *q = user;
    return untouched(q, psg_accountant_remaining(q->accountant, &q->event, 3, 1e-5, &q->releases));
}

static psg_status ask_noise(void *user) {
    question *q = user;
    return untouched(q, psg_calibrate_noise(q->context, &q->event, 9, 0, 3, 1e-5, &q->number));
}

static psg_status ask_steps(void *user) {
    question *q = user;
    return untouched(q, psg_calibrate_steps(q->context, &q->event, 0, 3, 1e-5, &q->releases));
}

static psg_status ask_rate(void *user) {
    question *q = user;
    return untouched(q, psg_calibrate_rate(q->context, &q->event, 1, 0, 1.5, 1e-5, &q->number));
}

static psg_status make_and_destroy(void *user) {
    question *q = user;
    psg_accountant *a = q->accountant;
    psg_status status = psg_accountant_create(q->context, PSG_REPLACE_ONE, &a);
    assert_int_equal(!status, a != NULL);
    psg_accountant_destroy(a);
    return status;
}

/* Five runs of its own, five of the other's, and ten of both again. */
static psg_status merge_and_undo(void *user) {
    question *q = user;
    psg_accountant *copy = q->accountant;
    psg_status status = psg_accountant_copy(q->accountant, &copy);
    assert_int_equal(!status, copy != NULL);
    if (status) return status;
    status = psg_accountant_merge(copy, q->other);
    assert_int_equal(psg_accountant_runs(copy), status ? 5 : 10);
    const uint64_t before = psg_accountant_releases(copy);
    if (!status) status = psg_accountant_merge(copy, copy);
    assert_int_equal(psg_accountant_releases(copy), status ? before : 2 * before);
    psg_accountant_destroy(copy);
    return status;
}

/* Runs of Gaussians that differ, so that lists grow and privacy loss distributions are not asked. */
static psg_accountant *ladder(psg_context *context, int runs) {
    psg_event event = external;
    psg_accountant *a = accountant_of(context, PSG_ADD_OR_REMOVE_ONE, event, 0);
    for (int k = 0; k < runs; k++) {
        event.noise_multiplier = 10 + k;
        TEST_OK(context, psg_accountant_add(a, &event, 1));
    }
    return a;
}

static void check_without_memory(memory_call call, psg_event event, uint64_t releases, int runs, uint64_t least) {
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, 0);
    question q = { context, NULL, ladder(context, 5), event, { .epsilon = 7 }, 7, 7 };
    q.accountant = runs ? ladder(context, runs) : accountant_of(context, PSG_ADD_OR_REMOVE_ONE, event, releases);
    const uint64_t made = test_without_memory(&allocator, context, call, &q);
    if (made < least) fail_msg("%d allocations, expected %d at least", (int)made, (int)least);
    psg_accountant_destroy(q.accountant), psg_accountant_destroy(q.other);
    test_context_free(context);
    assert_int_equal(allocator.live_blocks, 0);
    assert_int_equal(allocator.mistakes, 0);
}

static void lists_need_their_memory(void **state) {
    (void)state;
    check_without_memory(make_and_destroy, external, 1, 0, 2);
    check_without_memory(merge_and_undo, external, 1, 5, 6);
}

/* Sampled, so that curves and distributions are made; with residues they are made several times over. */
static void bounds_need_their_memory(void **state) {
    (void)state;
    psg_event event = poisson_event(0.5, 0.2);
    check_without_memory(ask_epsilon, event, 1, 0, 10);
    check_without_memory(ask_upper, event, 1, 0, 8);
    check_without_memory(ask_delta, event, 1, 0, 10);
    event.residue_epsilon = 1e-6, event.residue_delta = 1e-9;
    check_without_memory(ask_epsilon, event, 1, 0, 20);
    const psg_event rho = { .sampling = PSG_SAMPLING_EXTERNAL, .rho = 0.01, .residue_epsilon = 1e-6 };
    check_without_memory(ask_delta, rho, 1, 0, 3);
}

/* Where residues exceed delta at the first guess, the second one and its confirmation need memory as well. */
static void second_guesses_need_their_memory(void **state) {
    (void)state;
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, 0);
    psg_event event = poisson_event(0.35, 0.01);
    event.residue_delta = 0.1e-5 * exp(-18.7) / 120;
    question q = { context, accountant_of(context, 0, event, 120), NULL, event, { .epsilon = 7 }, 7, 7 };
    test_allocator_arm(&allocator, 0, false);
    assert_int_equal(ask_epsilon(&q), PSG_OK);
    const uint64_t made = allocator.calls;
    const size_t blocks = allocator.live_blocks;
    assert_true(made > 30);
    for (uint64_t n = 3; n <= made; n += (made - 3) / 3) {
        test_allocator_arm(&allocator, n, true);
        assert_int_equal(ask_epsilon(&q), PSG_ERR_MEMORY);
        assert_int_equal(allocator.live_blocks, blocks);
    }
    psg_accountant_destroy(q.accountant);
    test_context_free(context);
}

/* Runs that fill their list exactly: a further event has to make room first. */
static void budgets_need_their_memory(void **state) {
    (void)state;
    check_without_memory(ask_remaining, external, 0, 4, 50);
    check_without_memory(ask_noise, external, 0, 1, 30);
    check_without_memory(ask_steps, external, 0, 1, 30);
    check_without_memory(ask_rate, poisson_event(1000, 0), 0, 1, 10);
}

/* ---- what is not there ---- */

static void nothing_is_asked_of_nothing(void **state) {
    psg_context *c = *state;
    psg_accountant *a = accountant_of(c, PSG_REPLACE_ONE, external, 3), *copy = a;
    psg_privacy p = { .epsilon = 7 };
    psg_event event = external;
    double number = 7;
    uint64_t releases = 7;
    const psg_status status[] = {
        psg_accountant_create(NULL, 0, &copy),
        psg_accountant_create(c, 0, NULL),
        psg_accountant_copy(NULL, &copy),
        psg_accountant_copy(a, NULL),
        psg_accountant_merge(NULL, a),
        psg_accountant_epsilon(NULL, 1e-5, &p),
        psg_accountant_epsilon_upper(NULL, 1e-5, &number),
        psg_accountant_epsilon_upper(a, 1e-5, NULL),
        psg_accountant_delta(NULL, 1, &p),
        psg_accountant_delta(a, 1, NULL),
        psg_accountant_run(NULL, 0, &event, &releases),
        psg_accountant_run(a, 0, NULL, &releases),
        psg_accountant_run(a, 0, &event, NULL),
        psg_accountant_remaining(NULL, &event, 1, 1e-5, &releases),
        psg_accountant_remaining(a, &event, 1, 1e-5, NULL),
        psg_accountant_remaining(a, NULL, 1, 1e-5, &releases),
        psg_calibrate_noise(NULL, &event, 1, 0, 1, 1e-5, &number),
        psg_calibrate_noise(c, &event, 1, (psg_relation)7, 1, 1e-5, &number),
        psg_calibrate_rate(NULL, &event, 1, 0, 1, 1e-5, &number),
        psg_calibrate_steps(NULL, &event, 0, 1, 1e-5, &releases),
        psg_calibrate_steps(c, &event, (psg_relation)7, 1, 1e-5, &releases),
        psg_calibrate_steps(c, &event, 0, 1, 0, &releases),
    };
    for (int k = 0; k < COUNT(status); k++) {
        if (status[k] != PSG_ERR_ARGUMENT) fail_msg("call %d gave %s", k, psg_status_name(status[k]));
    }
    assert_true(p.epsilon == 7 && number == 7 && releases == 7 && copy == a);
    assert_int_equal(psg_accountant_relation(a), PSG_REPLACE_ONE);
    assert_int_equal(psg_accountant_relation(NULL), PSG_ADD_OR_REMOVE_ONE);
    assert_int_equal(psg_accountant_releases(NULL), 0);
    assert_int_equal(psg_accountant_runs(NULL), 0);
    assert_false(psg_accountant_is_private(NULL));
    psg_accountant_destroy(a);
}

/* No rate is small enough where there is no noise, or where the budget is below the least epsilon there is. */
static void budgets_that_nothing_fits_are_refused(void **state) {
    psg_context *c = *state;
    const psg_event silent = poisson_event(0, 0);
    double rate = 7;
    assert_int_equal(psg_calibrate_rate(c, &silent, 1, 0, 1, 1e-5, &rate), PSG_ERR_NUMERIC);
    assert_non_null(strstr(psg_context_message(c), "no sample_rate"));
    assert_true(rate == 7);
}

/* ---- events ---- */

static void events_out_of_range_are_refused(void **state) {
    psg_context *c = *state;
    const psg_sampling fixed = PSG_SAMPLING_FIXED_SIZE, outer = PSG_SAMPLING_EXTERNAL;
    const psg_sampling bins = PSG_SAMPLING_BALLS_IN_BINS;
    const struct { psg_event event; const char *text; } row[] = {
        { { .noise_multiplier = 1e101, .sample_rate = 1 }, "noise_multiplier of the event is 1e+101" },
        { { .sampling = outer, .rho = -1 }, "rho of the event is -1, must be finite" },
        { { .sampling = outer, .rho = INFINITY }, "rho of the event is inf" },
        { { .sampling = outer, .rho = NAN }, "rho of the event is" },
        { { .sampling = outer, .rho = 1, .noise_multiplier = 2 }, "event is 2, must be 0 beside rho" },
        { { .sampling = outer, .noise_multiplier = 1, .sample_rate = 0.5 }, "sample_rate of the event is 0.5" },
        { { .sampling = outer, .noise_multiplier = 1, .batch_size = 4 }, "batch_size of the event is 4, must be 0" },
        { { .sampling = outer, .noise_multiplier = 1, .records = 5 }, "records of the event is 5, must be 0" },
        { { .sampling = outer, .noise_multiplier = 1, .batches = 6 }, "batches of the event is 6, must be 0" },
        { { .sampling = bins, .noise_multiplier = 1 }, "batches of the event is 0, must be at least 1" },
        { { .sampling = fixed, .noise_multiplier = 1, .batch_size = 1 }, "records of the event is 0" },
        { { .noise_multiplier = 1, .sample_rate = 1, .residue_epsilon = INFINITY }, "residue_epsilon" },
        { { .noise_multiplier = 1, .sample_rate = 1, .residue_epsilon = NAN }, "residue_epsilon" },
        { { .noise_multiplier = 1, .sample_rate = 1, .residue_delta = -0.5 }, "residue_delta of the event is -0.5" },
        { { .noise_multiplier = 1, .sample_rate = 1, .residue_delta = 1.5 }, "residue_delta of the event is 1.5" },
    };
    psg_accountant *a = accountant_of(c, PSG_REPLACE_ONE, external, 1);
    for (int k = 0; k < COUNT(row); k++) {
        assert_int_equal(psg_accountant_add(a, &row[k].event, 1), PSG_ERR_ARGUMENT);
        if (!strstr(psg_context_message(c), row[k].text)) fail_msg("%s: %s", row[k].text, psg_context_message(c));
    }
    assert_int_equal(psg_accountant_releases(a), 1);
    psg_accountant_destroy(a);
}

/* Events that differ in one field are two runs, those that do not are one. */
static void every_field_makes_another_run(void **state) {
    psg_context *c = *state;
    const psg_event cut = { .sampling = PSG_SAMPLING_TRUNCATED_POISSON, .noise_multiplier = 1, .sample_rate = 0.1,
                            .records = 50, .batch_size = 9 };
    const psg_event rho = { .sampling = PSG_SAMPLING_EXTERNAL, .rho = 1 };
    psg_event pair[][2] = { { cut, cut }, { cut, cut }, { cut, cut }, { cut, cut }, { cut, cut }, { cut, cut },
                            { cut, cut }, { rho, rho }, { external, external },
                            { epochs_event(1, 3), epochs_event(1, 3) } };
    pair[0][1].noise_multiplier = 2, pair[1][1].sample_rate = 0.2, pair[2][1].records = 60;
    pair[3][1].batch_size = 8, pair[4][1].group_size = 2, pair[5][1].residue_epsilon = 1e-9;
    pair[6][1].residue_delta = 1e-9, pair[7][1].rho = 2;
    pair[8][1].sampling = PSG_SAMPLING_POISSON, pair[8][1].sample_rate = 1, pair[9][1].batches = 4;
    for (int k = 0; k < COUNT(pair); k++) {
        psg_accountant *a = accountant_of(c, PSG_ADD_OR_REMOVE_ONE, pair[k][0], 1);
        TEST_OK(c, psg_accountant_add(a, &pair[k][0], 1));
        assert_int_equal(psg_accountant_runs(a), 1);
        TEST_OK(c, psg_accountant_add(a, &pair[k][1], 1));
        if (psg_accountant_runs(a) != 2) fail_msg("pair %d is one run", k);
        psg_accountant_destroy(a);
    }
}

/* ---- the ends of the integers ---- */

/* Lists longer than memory are made up here: no list can get there. */
static void counts_that_overflow_are_refused(void **state) {
    psg_context *c = *state;
    psg_accountant *a = accountant_of(c, 0, external, 3), *b = accountant_of(c, 0, poisson_event(1, 0.1), 1);
    TEST_OK(c, psg_accountant_add(b, &external, UINT64_MAX - 3));   /* the first of its runs would fit */
    psg_accountant endless = { .context = c, .count = SIZE_MAX / 2 };
    psg_composition composition = { .context = c };
    assert_int_equal(psg_accountant_merge(a, b), PSG_ERR_OVERFLOW);
    assert_non_null(strstr(psg_context_message(c), "below 2^64"));
    assert_int_equal(psg_accountant_merge(a, &endless), PSG_ERR_OVERFLOW);
    assert_non_null(strstr(psg_context_message(c), "do not fit memory"));
    assert_int_equal(psg_parts_reserve(&composition, "test", SIZE_MAX / 2), PSG_ERR_OVERFLOW);
    assert_null(composition.parts);
    assert_int_equal(psg_accountant_releases(a), 3);
    assert_int_equal(psg_accountant_runs(a), 1);
    psg_accountant_destroy(a), psg_accountant_destroy(b);
}

static int set_up(void **state) {
    *state = test_context(1, NULL);
    return 0;
}

static int tear_down(void **state) {
    test_context_free(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_need_their_memory),
        cmocka_unit_test(bounds_need_their_memory),
        cmocka_unit_test(second_guesses_need_their_memory),
        cmocka_unit_test(budgets_need_their_memory),
        cmocka_unit_test(nothing_is_asked_of_nothing),
        cmocka_unit_test(budgets_that_nothing_fits_are_refused),
        cmocka_unit_test(events_out_of_range_are_refused),
        cmocka_unit_test(every_field_makes_another_run),
        cmocka_unit_test(counts_that_overflow_are_refused),
    };
    return cmocka_run_group_tests_name("accountant failures", tests, set_up, tear_down);
}
