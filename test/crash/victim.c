/* The victim: one process of a private run.  It goes on from the checkpoint where there is one, else it begins with the
 * ledger that is there.  A call that fails is told to the plan and made once more. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crash_run.h"
#include "crash_plan.h"
#include "process.h"
#include "published.h"

typedef struct victim {
    crash_victim options;
    crash_run run;
    crash_plan *plan;
} victim;

typedef psg_status (*call)(crash_run *run);

/* ---- what failed ---- */

static void report(victim *v, psg_status status) {
    const char *message = psg_context_message(v->run.context);
    v->plan->status = status;
    v->plan->failures++;
    snprintf(v->plan->message, sizeof v->plan->message, "%s", message);
    if (!strstr(message, v->options.folder)) crash_violation(v->plan, "a message names no path: %s", message);
}

/* A call, and once more where it fails for its file. */
static psg_status attempt(victim *v, call what) {
    psg_status status = what(&v->run);
    if (!status) return status;
    report(v, status);
    if (status != PSG_ERR_FILE) return status;
    status = what(&v->run);
    if (status) report(v, status);
    return status;
}

/* ---- saving ---- */

static bool is_there(const char *path) {
    struct stat found;
    return stat(path, &found) == 0;
}

/* A save that fails leaves the old file, unless the new one has its name already, and nothing beside it. */
static psg_status save(victim *v, call what, const char *path) {
    char temporary[CRASH_PATH + 4];
    const uint64_t before = crash_hash_of_file(path), renames = v->plan->renames;
    snprintf(temporary, sizeof temporary, "%s.psg-tmp", path);
    psg_status status = what(&v->run);
    if (!status) return status;
    report(v, status);
    if (v->plan->renames == renames && crash_hash_of_file(path) != before) {
        crash_violation(v->plan, "%s changed, saving it failed: %s", path, v->plan->message);
    }
    if (is_there(temporary)) crash_violation(v->plan, "%s is left, saving failed: %s", temporary, v->plan->message);
    return attempt(v, what);
}

/* ---- the run ---- */

static psg_status begin(victim *v) {
    psg_status status = crash_run_open(&v->run, &crash_modes[v->options.mode], v->options.incarnation);
    if (status) {
        report(v, status);
        return status;
    }
    return is_there(v->run.checkpoint) ? attempt(v, crash_run_load) : PSG_OK;
}

static psg_status step(victim *v) {
    psg_status status = crash_run_sum(&v->run);
    if (status) {
        report(v, status);
        return status;
    }
    if (v->options.pause && psg_dp_step(v->run.dp) == v->options.pause) raise(SIGSTOP);
    status = attempt(v, crash_run_release);
    if (v->run.is_silent) crash_violation(v->plan, "%s cannot be written", v->run.published);
    if (status || psg_dp_step(v->run.dp) % v->options.save_every) return status;
    return save(v, crash_run_save, v->run.checkpoint);
}

static psg_status train(victim *v) {
    psg_status status = begin(v);
    while (!status && psg_dp_step(v->run.dp) < v->options.steps && psg_dp_remaining(v->run.dp)) status = step(v);
    if (!status) status = save(v, crash_run_save, v->run.checkpoint);
    return status ? status : save(v, crash_run_finish, v->run.final);
}

int main(int argc, char **argv) {
    static crash_plan none;
    victim v = { .plan = &none };
    const char *plan = getenv(CRASH_PLAN_VARIABLE);
    if (argc != 2 || crash_victim_read(argv[1], &v.options)) return 2;
    if (plan) v.plan = mmap(NULL, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(plan), 0);
    if (v.plan == MAP_FAILED) return 2;
    crash_run_paths(&v.run, v.options.folder, v.options.ledger[0] ? v.options.ledger : NULL);
    psg_status status = train(&v);
    crash_run_close(&v.run);
    return status ? CRASH_GAVE_UP : CRASH_COMPLETED;
}
