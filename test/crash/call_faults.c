/* Faults: in a run, each call of a kind fails in each way, once and for good; then the run goes on without. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "trials.h"

enum { STEPS = 10, SAVE_EVERY = 5 };

typedef struct way {
    const char *name;
    crash_call call;
    crash_action action;
    int error;
    uint64_t times;
    bool no_truncate;              /* what was written cannot be cut off again */
    bool recovers;                 /* no call of the library fails for it */
    bool may_be_ignored;           /* nothing is lost by it */
} way;

static const way ways[] = {
    { .name = "write EIO", .call = CRASH_WRITE, .action = CRASH_FAIL, .error = EIO, .times = 1 },
    { .name = "write ENOSPC for good", .call = CRASH_WRITE, .action = CRASH_FAIL, .error = ENOSPC,
      .times = CRASH_ALWAYS },
    { .name = "write EINTR", .call = CRASH_WRITE, .action = CRASH_FAIL, .error = EINTR, .times = 3, .recovers = true },
    { .name = "write short", .call = CRASH_WRITE, .action = CRASH_SHORT, .times = 1, .recovers = true },
    { .name = "write short for good", .call = CRASH_WRITE, .action = CRASH_SHORT, .times = CRASH_ALWAYS,
      .recovers = true },
    { .name = "write short, then ENOSPC", .call = CRASH_WRITE, .action = CRASH_SHORT_FAIL, .error = ENOSPC,
      .times = 2 },
    { .name = "write short, then ENOSPC for good", .call = CRASH_WRITE, .action = CRASH_SHORT_FAIL, .error = ENOSPC,
      .times = CRASH_ALWAYS },
    { .name = "write short, then ENOSPC, not to be cut", .call = CRASH_WRITE, .action = CRASH_SHORT_FAIL,
      .error = ENOSPC, .times = 2, .no_truncate = true },
    { .name = "fsync EIO", .call = CRASH_FSYNC, .action = CRASH_FAIL, .error = EIO, .times = 1 },
    { .name = "fsync ENOSPC for good", .call = CRASH_FSYNC, .action = CRASH_FAIL, .error = ENOSPC,
      .times = CRASH_ALWAYS },
    { .name = "fsync EINTR", .call = CRASH_FSYNC, .action = CRASH_FAIL, .error = EINTR, .times = 3, .recovers = true },
    { .name = "fsync EIO, not to be cut", .call = CRASH_FSYNC, .action = CRASH_FAIL, .error = EIO, .times = 1,
      .no_truncate = true },
    { .name = "rename EIO", .call = CRASH_RENAME, .action = CRASH_FAIL, .error = EIO, .times = 1 },
    { .name = "rename ENOSPC for good", .call = CRASH_RENAME, .action = CRASH_FAIL, .error = ENOSPC,
      .times = CRASH_ALWAYS },
    { .name = "close EIO", .call = CRASH_CLOSE, .action = CRASH_FAIL, .error = EIO, .times = 1,
      .may_be_ignored = true },
    { .name = "close EIO for good", .call = CRASH_CLOSE, .action = CRASH_FAIL, .error = EIO, .times = CRASH_ALWAYS,
      .may_be_ignored = true },
    { .name = "close EINTR for good", .call = CRASH_CLOSE, .action = CRASH_FAIL, .error = EINTR,
      .times = CRASH_ALWAYS, .recovers = true },
    { .name = "ftruncate EIO", .call = CRASH_TRUNCATE, .action = CRASH_FAIL, .error = EIO, .times = 1 },
    { .name = "ftruncate EIO for good", .call = CRASH_TRUNCATE, .action = CRASH_FAIL, .error = EIO,
      .times = CRASH_ALWAYS },
    { .name = "ftruncate EINTR", .call = CRASH_TRUNCATE, .action = CRASH_FAIL, .error = EINTR, .times = 3,
      .recovers = true },
    { .name = "open EIO", .call = CRASH_OPEN, .action = CRASH_FAIL, .error = EIO, .times = 1 },
    { .name = "open EMFILE for good", .call = CRASH_OPEN, .action = CRASH_FAIL, .error = EMFILE,
      .times = CRASH_ALWAYS },
    { .name = "open EINTR", .call = CRASH_OPEN, .action = CRASH_FAIL, .error = EINTR, .times = 3, .recovers = true },
};

static void check_outcome(crash_watch *w, const way *way, crash_end end) {
    const crash_plan *plan = w->plan;
    const bool failed = plan->failures > 0;
    if (failed && plan->status != PSG_ERR_FILE) {
        crash_violate(w, "the status is %s, must be PSG_ERR_FILE: %s", psg_status_name((psg_status)plan->status),
                      plan->message);
    }
    if (failed && way->recovers) crash_violate(w, "did not recover: %s", plan->message);
    if (!failed && !way->recovers && !way->may_be_ignored) crash_violate(w, "the fault went unnoticed");
    if (end == CRASH_GAVE_UP && !failed) crash_violate(w, "gave up without a failure");
    if (failed && way->action == CRASH_FAIL && !way->no_truncate && !strstr(plan->message, strerror(way->error))) {
        crash_violate(w, "the message lacks \"%s\": %s", strerror(way->error), plan->message);
    }
}

/* One fault, and the run afterwards; false where the run has not so many calls. */
static bool try_one(crash_watch *w, const way *way, int mode, uint64_t at) {
    crash_watch_begin(w, mode, STEPS, SAVE_EVERY);
    crash_arm(w->plan, way->action, way->call, at, way->times, way->error);
    w->plan->no_truncate = way->no_truncate;
    snprintf(w->title, sizeof w->title, "%s, call %llu, mode %d", way->name, (unsigned long long)at, mode);
    crash_end end = crash_wait(crash_watch_start(w));
    crash_watch_check(w, end);
    if (!w->plan->injected) return false;
    check_outcome(w, way, end);
    if (end == CRASH_COMPLETED) return true;
    crash_arm(w->plan, CRASH_NOTHING, CRASH_ANY, 0, 0, 0);
    end = crash_wait(crash_watch_start(w));
    crash_watch_check(w, end);
    if (end != CRASH_COMPLETED) crash_violate(w, "did not complete without faults: %s", w->plan->message);
    return true;
}

uint64_t crash_faults(crash_watch *w, uint64_t stride, uint64_t seed) {
    static const int modes[] = { 0, 2, 3, 4, 5 };   /* those without a budget, which takes long to count */
    uint64_t faults = 0;
    w->reference = NULL;
    for (size_t k = 0; k < sizeof ways / sizeof *ways; k++) {
        const int mode = modes[k % (sizeof modes / sizeof *modes)];
        for (uint64_t at = 1 + (seed + k) % stride; try_one(w, &ways[k], mode, at); at += stride) faults++;
    }
    return faults;
}
