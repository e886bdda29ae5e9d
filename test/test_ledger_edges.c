/* What a ledger does not hold is refused before it is written: a line that cannot be read would end the ledger. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dp/ledger_line.h"
#include "dp/names.h"
#include "failing_memory.h"
#include "saved_run.h"

typedef ledger_place fixture;

static const psg_event external = { .sampling = PSG_SAMPLING_EXTERNAL, .noise_multiplier = 1 };

static psg_status record(const fixture *f, psg_event event, uint64_t releases) {
    return psg_ledger_record(f->context, f->path, PSG_ADD_OR_REMOVE_ONE, &event, releases);
}

static uint64_t recorded(const fixture *f) {
    psg_accountant *spent;
    TEST_OK(f->context, psg_ledger_read(f->context, f->path, PSG_ADD_OR_REMOVE_ONE, &spent));
    uint64_t releases = psg_accountant_releases(spent);
    psg_accountant_destroy(spent);
    return releases;
}

/* Each would be another number, or none, when it is read. */
static void numbers_beyond_63_bits_are_refused(void **state) {
    fixture *f = *state;
    const uint64_t beyond = (uint64_t)INT64_MAX + 1;
    psg_event group = external, epochs = external, cut = external, small = external;
    group.group_size = beyond;
    epochs.sampling = PSG_SAMPLING_EPOCHS, epochs.batches = beyond;
    cut.sampling = PSG_SAMPLING_TRUNCATED_POISSON, cut.sample_rate = 0.1, cut.records = beyond, cut.batch_size = 1;
    small = cut, small.records = 1, small.batch_size = beyond;
    const psg_event bad[] = { group, epochs, cut, small };
    TEST_OK(f->context, record(f, external, 1));
    for (int k = 0; k < 4; k++) {
        assert_int_equal(record(f, bad[k], 1), PSG_ERR_OVERFLOW);
        assert_non_null(strstr(psg_context_message(f->context), "below 2^63"));
    }
    assert_int_equal(record(f, external, beyond), PSG_ERR_OVERFLOW);
    assert_int_equal(recorded(f), 1);
    TEST_OK(f->context, record(f, external, 2));
    assert_int_equal(recorded(f), 3);
}

static void steps_beyond_63_bits_do_not_fit(void **state) {
    (void)state;
    psg_ledger_line line = { .first = INT64_MAX - 3, .count = 3 };
    assert_true(psg_ledger_line_fits(&line));
    line.count = 4;
    assert_false(psg_ledger_line_fits(&line));
    line = (psg_ledger_line){ .first = (uint64_t)INT64_MAX + 1 };
    assert_false(psg_ledger_line_fits(&line));
    line = (psg_ledger_line){ .first = INT64_MAX, .count = (uint64_t)INT64_MAX + 2 };   /* their sum is 0 */
    assert_false(psg_ledger_line_fits(&line));
    line = (psg_ledger_line){ .first = (uint64_t)INT64_MAX + 2, .count = INT64_MAX };
    assert_false(psg_ledger_line_fits(&line));
}

static void what_is_no_enumeration_has_no_name(void **state) {
    (void)state;
    assert_string_equal(psg_sampling_name(PSG_SAMPLING_EXTERNAL), "external");
    assert_string_equal(psg_relation_name(PSG_REPLACE_ONE), "replace_one");
    assert_null(psg_sampling_name((psg_sampling)-1));
    assert_null(psg_sampling_name((psg_sampling)6));
    assert_null(psg_relation_name((psg_relation)2));
    assert_int_equal(psg_sampling_of_name("fixed_size"), PSG_SAMPLING_FIXED_SIZE);
    assert_int_equal(psg_sampling_of_name("bernoulli"), -1);
}

/* ---- memory ---- */

typedef struct call {
    psg_context *context;
    const char *path;
    bool reads;
} call;

static psg_status read_or_record(void *user) {
    const call *c = user;
    psg_accountant *spent;
    if (!c->reads) return psg_ledger_record(c->context, c->path, PSG_ADD_OR_REMOVE_ONE, &external, 1);
    psg_status status = psg_ledger_read(c->context, c->path, PSG_ADD_OR_REMOVE_ONE, &spent);
    assert_int_equal(!status, spent != NULL);
    if (!status) assert_true(psg_accountant_releases(spent) > 6);
    psg_accountant_destroy(spent);
    return status;
}

/* Of seven kinds of events, so that lists grow. */
static void ledgers_need_their_memory(void **state) {
    fixture *f = *state;
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, 0);
    psg_event event = external;
    for (int k = 0; k < 7; k++) {
        event.noise_multiplier = 1 + k;
        TEST_OK(f->context, record(f, event, 1));
    }
    call c = { context, f->path, true };
    assert_true(test_without_memory(&allocator, context, read_or_record, &c) > 15);
    c.reads = false;
    assert_true(test_without_memory(&allocator, context, read_or_record, &c) > 4);
    test_context_free(context);
    assert_int_equal(allocator.mistakes, 0);
}

static uint64_t json_left;   /* allocations of jansson, which has memory of its own, before one fails */

static void *count_down(size_t bytes) { return json_left ? json_left--, malloc(bytes) : NULL; }

static void ledgers_need_memory_for_json(void **state) {
    fixture *f = *state;
    const uint64_t before = recorded(f);
    psg_accountant *spent = NULL;
    psg_status status = PSG_ERR_MEMORY;
    for (uint64_t n = 0; status; n++) {
        json_left = n;
        json_set_alloc_funcs(count_down, free);
        status = psg_ledger_read(f->context, f->path, PSG_ADD_OR_REMOVE_ONE, &spent);
        json_set_alloc_funcs(malloc, free);
        assert_true(!status == (spent != NULL));
        assert_true(n || status == PSG_ERR_MEMORY);   /* within a token it is bad syntax to jansson */
    }
    assert_int_equal(psg_accountant_releases(spent), before);
    psg_accountant_destroy(spent);
    const psg_ledger_line line = { .event = external };
    char text[PSG_LINE_TEXT], hash[PSG_LINE_HASH_TEXT];
    json_left = 0;
    json_set_alloc_funcs(count_down, free);
    size_t length = psg_ledger_line_write(&line, "", text, hash);
    json_set_alloc_funcs(malloc, free);
    assert_int_equal(length, 0);
}

static void nothing_is_recorded_for_nobody(void **state) {
    fixture *f = *state;
    psg_accountant *spent = (void *)f;
    const uint64_t before = recorded(f);
    assert_int_equal(psg_ledger_read(NULL, f->path, 0, &spent), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_ledger_read(f->context, NULL, 0, &spent), PSG_ERR_ARGUMENT);
    assert_non_null(strstr(psg_context_message(f->context), "path is NULL"));
    assert_int_equal(psg_ledger_read(f->context, f->path, 0, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_ledger_read(f->context, f->path, (psg_relation)2, &spent), PSG_ERR_ARGUMENT);
    assert_null(spent);
    assert_int_equal(psg_ledger_record(NULL, f->path, 0, &external, 1), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_ledger_record(f->context, NULL, 0, &external, 1), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_ledger_record(f->context, f->path, 0, NULL, 1), PSG_ERR_ARGUMENT);
    assert_int_equal(recorded(f), before);
}

/* Steps that were drawn with a seed guarantee nothing to who reads them. */
static void seeded_steps_are_read_as_not_private(void **state) {
    fixture *f = *state;
    psg_dp_options options = PSG_DP_OPTIONS_INIT;
    options.sampling = PSG_SAMPLING_EXTERNAL, options.expected_batch_size = 1;
    options.noise_multiplier = 1, options.max_grad_norm = 1, options.ledger = f->path;
    const int64_t one = 1;
    double out;
    const psg_tensor outs[] = { psg_tensor_of(PSG_F64, &out, 1, &one) };
    psg_generator *generator;
    psg_accountant *spent;
    psg_dp *dp;
    TEST_OK(f->context, psg_ledger_read(f->context, f->path, PSG_ADD_OR_REMOVE_ONE, &spent));
    assert_true(psg_accountant_is_private(spent));
    psg_accountant_destroy(spent);
    TEST_OK(f->context, psg_generator_create_seeded(f->context, (const unsigned char[32]){ 1 }, &generator));
    TEST_OK(f->context, psg_dp_create(f->context, generator, &options, &one, 1, &dp));
    TEST_OK(f->context, psg_dp_release(dp, outs, 1));
    TEST_OK(f->context, psg_ledger_read(f->context, f->path, PSG_ADD_OR_REMOVE_ONE, &spent));
    assert_false(psg_accountant_is_private(spent));
    psg_accountant_destroy(spent);
    psg_dp_destroy(dp);
    psg_generator_destroy(generator);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_beyond_63_bits_are_refused),
        cmocka_unit_test(steps_beyond_63_bits_do_not_fit),
        cmocka_unit_test(what_is_no_enumeration_has_no_name),
        cmocka_unit_test(ledgers_need_their_memory),
        cmocka_unit_test(ledgers_need_memory_for_json),
        cmocka_unit_test(nothing_is_recorded_for_nobody),
        cmocka_unit_test(seeded_steps_are_read_as_not_private),
    };
    return cmocka_run_group_tests_name("ledger edges", tests, ledger_place_open, ledger_place_close);
}
