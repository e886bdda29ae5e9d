/* The ledger and checkpoints when system calls fail: those of crash/interpose.c are linked in and fail as planned. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crash/crash_run.h"
#include "crash/crash_plan.h"
#include "support.h"

static crash_plan plan;
static const crash_mode plain = { .ledger_ahead = 1 };

/* ---- a run in a folder of its own ---- */

static void begin(crash_run *run, char *folder) {
    memset(&plan, 0, sizeof plan);
    memset(run, 0, sizeof *run);
    strcpy(folder, "/tmp/psg-faults-XXXXXX");
    assert_non_null(mkdtemp(folder));
    strcpy(plan.folder, folder);
    crash_run_paths(run, folder, NULL);
    crash_use_plan(&plan);
}

static void end(const crash_run *run, const char *folder) {
    const char *const paths[] = { run->ledger, run->checkpoint, run->final, run->published };
    char temporary[CRASH_PATH + 8];
    crash_use_plan(NULL);
    for (int k = 0; k < 4; k++) unlink(paths[k]);
    snprintf(temporary, sizeof temporary, "%s.psg-tmp", run->checkpoint);
    unlink(temporary);
    assert_int_equal(rmdir(folder), 0);
}

/* A process ends and another begins. */
static void restart(crash_run *run) {
    crash_run paths = { 0 };
    memcpy(paths.ledger, run->ledger, sizeof paths.ledger);
    memcpy(paths.checkpoint, run->checkpoint, sizeof paths.checkpoint);
    memcpy(paths.published, run->published, sizeof paths.published);
    memcpy(paths.final, run->final, sizeof paths.final);
    crash_run_close(run);
    *run = paths;
}

static psg_status step(crash_run *run) {
    psg_status status = crash_run_sum(run);
    return status ? status : crash_run_release(run);
}

static uint64_t recorded(const crash_run *run) {
    psg_accountant *spent;
    assert_int_equal(psg_ledger_read(run->context, run->ledger, PSG_ADD_OR_REMOVE_ONE, &spent), PSG_OK);
    uint64_t releases = psg_accountant_releases(spent);
    psg_accountant_destroy(spent);
    return releases;
}

/* ---- every call of a release and of a save ---- */

static const struct { crash_call call; crash_action action; int error; uint64_t times; } faults[] = {
    { CRASH_WRITE, CRASH_FAIL, EIO, 1 },            { CRASH_WRITE, CRASH_SHORT_FAIL, ENOSPC, 2 },
    { CRASH_FSYNC, CRASH_FAIL, EIO, 1 },            { CRASH_RENAME, CRASH_FAIL, ENOSPC, 1 },
    { CRASH_TRUNCATE, CRASH_FAIL, EIO, 1 },         { CRASH_OPEN, CRASH_FAIL, EIO, 1 },
};

/* The call that failed is made once more, without its fault. */
static void again(crash_run *run, psg_status (*call)(crash_run *), bool *failed) {
    psg_status status = call(run);
    *failed = status != PSG_OK;
    if (!status) return;
    assert_int_equal(status, PSG_ERR_FILE);
    assert_non_null(strstr(psg_context_message(run->context), plan.folder));
    assert_int_equal(call(run), PSG_OK);
}

static bool try_at(size_t fault, uint64_t at) {
    char folder[64];
    bool failed[3];
    crash_run run;
    begin(&run, folder);
    assert_int_equal(crash_run_open(&run, &plain, 1), PSG_OK);
    crash_arm(&plan, faults[fault].action, faults[fault].call, at, faults[fault].times, faults[fault].error);
    assert_int_equal(crash_run_sum(&run), PSG_OK);
    again(&run, crash_run_release, &failed[0]);
    again(&run, crash_run_save, &failed[1]);
    assert_int_equal(crash_run_sum(&run), PSG_OK);
    again(&run, crash_run_release, &failed[2]);
    assert_int_equal(failed[0] + failed[1] + failed[2], plan.injected > 0);
    const bool was_injected = plan.injected;
    crash_arm(&plan, CRASH_NOTHING, CRASH_ANY, 0, 0, 0);
    assert_int_equal(recorded(&run), 2);
    assert_string_equal(plan.violation, "");
    restart(&run);
    assert_int_equal(crash_run_open(&run, &plain, 2), PSG_OK);
    assert_int_equal(crash_run_load(&run), PSG_OK);
    crash_run_close(&run);
    end(&run, folder);
    return was_injected;
}

static void each_call_fails_and_is_tried_again(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof faults / sizeof *faults; k++) {
        uint64_t at = 1;
        while (try_at(k, at)) at++;
        assert_true(at > 1);
    }
}

/* ---- interruptions ---- */

static void interruptions_and_short_writes_are_no_failures(void **state) {
    static const crash_call calls[] = { CRASH_WRITE, CRASH_FSYNC, CRASH_CLOSE, CRASH_TRUNCATE, CRASH_OPEN };
    (void)state;
    for (size_t k = 0; k <= sizeof calls / sizeof *calls; k++) {
        char folder[64];
        crash_run run;
        begin(&run, folder);
        if (k) crash_arm(&plan, CRASH_FAIL, calls[k - 1], 1, 3, EINTR);
        else crash_arm(&plan, CRASH_SHORT, CRASH_WRITE, 1, CRASH_ALWAYS, 0);
        assert_int_equal(crash_run_open(&run, &plain, 1), PSG_OK);
        assert_int_equal(step(&run), PSG_OK);
        assert_int_equal(crash_run_save(&run), PSG_OK);
        assert_true(plan.injected >= 3);
        assert_string_equal(plan.violation, "");
        crash_run_close(&run);
        end(&run, folder);
    }
}

/* ---- what cannot be cut ---- */

static void a_ledger_that_cannot_be_cut_takes_no_more(void **state) {
    char folder[64];
    crash_run run;
    (void)state;
    begin(&run, folder);
    assert_int_equal(crash_run_open(&run, &plain, 1), PSG_OK);
    crash_arm(&plan, CRASH_SHORT_FAIL, CRASH_WRITE, 1, 2, ENOSPC);
    plan.no_truncate = true;
    assert_int_equal(step(&run), PSG_ERR_FILE);
    assert_int_equal(crash_run_release(&run), PSG_ERR_FILE);
    assert_non_null(strstr(psg_context_message(run.context), "must be opened anew"));
    assert_int_equal(psg_dp_step(run.dp), 0);
    restart(&run);
    crash_arm(&plan, CRASH_NOTHING, CRASH_ANY, 0, 0, 0);
    assert_int_equal(crash_run_open(&run, &plain, 2), PSG_OK);
    assert_int_equal(step(&run), PSG_OK);
    assert_int_equal(recorded(&run), 1);
    assert_string_equal(plan.violation, "");
    crash_run_close(&run);
    end(&run, folder);
}

/* ---- what a killed process left ---- */

/* The line of step 1 was written, its fsync never came; the run with a seed goes on with that line. */
static void a_line_of_a_killed_process_is_made_durable(void **state) {
    char folder[64];
    struct stat ledger;
    crash_run run;
    (void)state;
    begin(&run, folder);
    assert_int_equal(crash_run_open(&run, &crash_modes[3], 1), PSG_OK);
    assert_int_equal(step(&run), PSG_OK);
    assert_int_equal(crash_run_save(&run), PSG_OK);
    assert_int_equal(step(&run), PSG_OK);
    assert_int_equal(stat(run.ledger, &ledger), 0);
    crash_inode_of(&plan, ledger.st_ino)->is_dirty = true;
    restart(&run);
    crash_use_plan(&plan);
    assert_int_equal(crash_run_open(&run, &crash_modes[3], 2), PSG_OK);
    assert_int_equal(crash_run_load(&run), PSG_OK);
    assert_int_equal(psg_dp_recorded_ahead(run.dp), 1);
    assert_int_equal(step(&run), PSG_OK);
    assert_string_equal(plan.violation, "");
    crash_run_close(&run);
    end(&run, folder);
}

/* A program that has nothing more to do saves what it has loaded. */
static void a_checkpoint_of_what_was_loaded_loads(void **state) {
    (void)state;
    for (int mode = 0; mode < crash_mode_count; mode++) {
        char folder[64];
        crash_run run;
        begin(&run, folder);
        assert_int_equal(crash_run_open(&run, &crash_modes[mode], 1), PSG_OK);
        assert_int_equal(step(&run), PSG_OK);
        assert_int_equal(crash_run_save(&run), PSG_OK);
        for (uint64_t process = 2; process < 5; process++) {
            restart(&run);
            assert_int_equal(crash_run_open(&run, &crash_modes[mode], process), PSG_OK);
            assert_int_equal(crash_run_load(&run), PSG_OK);
            assert_int_equal(psg_dp_step(run.dp), process < 4 ? 1 : 2);
            if (process == 3) assert_int_equal(step(&run), PSG_OK);
            assert_int_equal(crash_run_save(&run), PSG_OK);
        }
        crash_run_close(&run);
        end(&run, folder);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call_fails_and_is_tried_again),
        cmocka_unit_test(interruptions_and_short_writes_are_no_failures),
        cmocka_unit_test(a_ledger_that_cannot_be_cut_takes_no_more),
        cmocka_unit_test(a_line_of_a_killed_process_is_made_durable),
        cmocka_unit_test(a_checkpoint_of_what_was_loaded_loads),
    };
    return cmocka_run_group_tests_name("ledger_faults", tests, NULL, NULL);
}
