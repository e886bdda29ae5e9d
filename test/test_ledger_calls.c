/* A ledger when any of its system calls fails: the call is told with the path, nothing is recorded twice or by halves,
 * and the next try succeeds. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "faults.h"
#include "saved_run.h"

typedef ledger_place fixture;

static psg_status record(const fixture *f) {
    const psg_event event = { .sampling = PSG_SAMPLING_EXTERNAL, .noise_multiplier = 3 };
    return psg_ledger_record(f->context, f->path, PSG_ADD_OR_REMOVE_ONE, &event, 1);
}

static psg_status count(const fixture *f, uint64_t *releases) {
    psg_accountant *spent;
    psg_status status = psg_ledger_read(f->context, f->path, PSG_ADD_OR_REMOVE_ONE, &spent);
    if (!status) *releases = psg_accountant_releases(spent);
    psg_accountant_destroy(spent);
    return status;
}

static uint64_t recorded(const fixture *f) {
    uint64_t releases = 0;
    TEST_OK(f->context, count(f, &releases));
    return releases;
}

/* An unfinished line at the end, as a killed process leaves one, has to be cut off first. */
static void leave_half_a_line(const fixture *f) {
    FILE *file = fopen(f->path, "a");
    assert_non_null(file);
    fputs("{\"psg_ledger\":1,", file);
    fclose(file);
}

static const fault_call calls[] = { FAULT_OPEN, FAULT_STAT, FAULT_FSTAT, FAULT_FLOCK, FAULT_FTRUNCATE, FAULT_WRITE,
                                    FAULT_PREAD, FAULT_FSYNC };
enum { CALLS = sizeof calls / sizeof *calls };

/* An unlock that fails is no failure: the lock ends with the descriptor. */
static bool try_record(const fixture *f, fault_call call, int at) {
    const uint64_t before = recorded(f);
    const fault_plan plan = { .call = call, .at = at, .error = EIO };
    leave_half_a_line(f);
    fault_arm(&plan);
    psg_status status = record(f);
    const bool struck = fault_disarm() > 0;
    if (status) {
        assert_int_equal(status, PSG_ERR_FILE);
        assert_non_null(strstr(psg_context_message(f->context), f->path));
        TEST_OK(f->context, record(f));
    } else if (struck) {
        assert_int_equal(call, FAULT_FLOCK);
    }
    assert_int_equal(recorded(f), before + 1);
    return struck;
}

static void a_record_is_whole_or_not_there(void **state) {
    fixture *f = *state;
    TEST_OK(f->context, record(f));
    for (int k = 0; k < CALLS; k++) {
        int at = 1;
        while (try_record(f, calls[k], at)) at++;
        assert_true(at > 1);
    }
}

static void a_reading_that_fails_is_told(void **state) {
    fixture *f = *state;
    static const fault_call reading[] = { FAULT_OPEN, FAULT_STAT, FAULT_FSTAT, FAULT_PREAD };
    for (size_t k = 0; k < sizeof reading / sizeof *reading; k++) {
        bool struck = true;
        for (int at = 1; struck; at++) {
            const fault_plan plan = { .call = reading[k], .at = at, .error = EIO };
            uint64_t releases = 7;
            fault_arm(&plan);
            psg_status status = count(f, &releases);
            struck = fault_disarm() > 0;
            assert_int_equal(status, struck ? PSG_ERR_FILE : PSG_OK);
            assert_true(struck ? releases == 7 : releases > 0);
        }
    }
}

/* An interrupted lock is asked for again. */
static void interrupted_locks_are_taken(void **state) {
    fixture *f = *state;
    const uint64_t before = recorded(f);
    const fault_plan plan = { .call = FAULT_FLOCK, .at = 1, .error = EINTR };
    fault_arm(&plan);
    psg_status status = record(f);
    assert_int_equal(fault_disarm(), 1);
    TEST_OK(f->context, status);
    assert_int_equal(recorded(f), before + 1);
}

static void replace_file(void *user) {
    const fixture *f = user;
    char other[RUN_PATH + 32];
    snprintf(other, sizeof other, "%s.other", f->path);
    FILE *from = fopen(f->path, "r"), *to = fopen(other, "w");
    assert_true(from && to);
    for (int c; (c = fgetc(from)) != EOF;) fputc(c, to);
    fclose(from), fclose(to);
    assert_int_equal(rename(other, f->path), 0);
}

static void cut_file(void *user) {
    const fixture *f = user;
    assert_int_equal(truncate(f->path, 20), 0);
}

/* Whoever replaces or cuts the file while it is read has not followed the lock. */
static void files_that_change_below_are_refused(void **state) {
    fixture *f = *state;
    uint64_t releases = 0;
    fault_plan plan = { .call = FAULT_STAT, .at = 1, .before = replace_file, .user = f };
    fault_arm(&plan);
    assert_int_equal(record(f), PSG_ERR_FILE);
    assert_int_equal(fault_disarm(), 1);
    assert_non_null(strstr(psg_context_message(f->context), "is another file than the one that was opened"));
    plan = (fault_plan){ .call = FAULT_PREAD, .at = 1, .before = cut_file, .user = f };
    fault_arm(&plan);
    assert_int_equal(count(f, &releases), PSG_ERR_FORMAT);
    assert_int_equal(fault_disarm(), 1);
    assert_non_null(strstr(psg_context_message(f->context), "was cut while it was read"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_whole_or_not_there),
        cmocka_unit_test(a_reading_that_fails_is_told),
        cmocka_unit_test(interrupted_locks_are_taken),
        cmocka_unit_test(files_that_change_below_are_refused),
    };
    return cmocka_run_group_tests_name("ledger calls", tests, ledger_place_open, ledger_place_close);
}
