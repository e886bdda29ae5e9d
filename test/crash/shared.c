/* One ledger and others who use it, or do to it what nobody should. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "recorded.h"
#include "trials.h"

enum { STEPS = 50, SAVE_EVERY = 5, PAUSE = 10 };

/* ---- two processes ---- */

static size_t count_published(const crash_watch *w) {
    size_t count;
    free(crash_read_published(w->paths.published, &count));
    return count;
}

/* Every record has its line in a run.  (Both make the same steps, so it does not matter which run is whose.) */
static void check_process(crash_watch *w, const crash_watch *half, const crash_lines *lines, const char *run) {
    size_t count, missing = 0;
    crash_record *records = crash_read_published(half->paths.published, &count);
    for (size_t k = 0; k < count; k++) missing += !crash_covers(lines, lines->count, run, records[k].step);
    if (count != 2 * STEPS || missing) {
        crash_violate(w, "%zu records of %d, %zu of them not in the ledger", count, 2 * STEPS, missing);
    }
    free(records);
}

/* The runs of a ledger that two processes wrote. */
static void find_runs(const crash_lines *lines, const char **first, const char **second) {
    *first = *second = "";
    if (!lines->count) return;
    *first = *second = lines->lines[0].run;
    for (size_t k = 0; k < lines->count; k++) {
        if (strcmp(lines->lines[k].run, *first)) *second = lines->lines[k].run;
    }
}

static void check_sum(crash_watch *w, const char *ledger, uint64_t wanted) {
    psg_accountant *spent = NULL;
    psg_status status = psg_ledger_read(w->context, ledger, PSG_ADD_OR_REMOVE_ONE, &spent);
    const uint64_t releases = psg_accountant_releases(spent);
    if (status || releases != wanted) {
        crash_violate(w, "two processes recorded %llu releases, must be %llu: %s", (unsigned long long)releases,
                      (unsigned long long)wanted, psg_status_name(status));
    }
    psg_accountant_destroy(spent);
}

static crash_watch half_of(const crash_watch *w, const char *name) {
    crash_watch half = *w;
    snprintf(half.victim.folder, sizeof half.victim.folder, "%.*s/%s", CRASH_PATH - 16, w->victim.folder, name);
    return half;
}

static void two_processes(crash_watch *w, int mode) {
    crash_watch one = half_of(w, "one"), two = half_of(w, "two");
    const char *first, *second;
    crash_watch_begin(w, mode, STEPS, SAVE_EVERY);
    snprintf(w->title, sizeof w->title, "two processes on one ledger, mode %d", mode);
    crash_watch_begin(&one, mode, STEPS, SAVE_EVERY);
    crash_watch_begin(&two, mode, STEPS, SAVE_EVERY);
    snprintf(one.victim.ledger, CRASH_PATH, "%s", w->paths.ledger);
    snprintf(two.victim.ledger, CRASH_PATH, "%s", w->paths.ledger);
    pid_t a = crash_start(&one.victim, 0), b = crash_start(&two.victim, 0);
    if (crash_wait(a) != CRASH_COMPLETED) crash_violate(w, "the first did not complete");
    if (crash_wait(b) != CRASH_COMPLETED) crash_violate(w, "the second did not complete");
    crash_lines lines = crash_read_lines(w->paths.ledger);
    find_runs(&lines, &first, &second);
    if (!strcmp(first, second)) crash_violate(w, "the ledger has not the runs of two");
    check_process(w, &one, &lines, first);
    check_process(w, &two, &lines, second);
    const uint64_t ahead = crash_modes[mode].ledger_ahead, each = (STEPS + ahead - 1) / ahead * ahead;
    check_sum(w, w->paths.ledger, 2 * each);
    free(lines.lines);
}

/* ---- a ledger under a running process ---- */

static void copy_over(const char *path) {
    char text[1 << 16], other[CRASH_PATH + 8];
    FILE *from = fopen(path, "rb");
    size_t count = from ? fread(text, 1, sizeof text, from) : 0;
    if (from) fclose(from);
    snprintf(other, sizeof other, "%s.other", path);
    FILE *to = fopen(other, "wb");
    if (to && fwrite(text, 1, count, to) == count && fclose(to) == 0) rename(other, path);
}

static void cut_lines(const char *path) {
    struct stat found;
    if (stat(path, &found) == 0 && truncate(path, found.st_size / 2)) perror(path);
}

static void add_garbage(const char *path) {
    FILE *file = fopen(path, "ab");
    if (!file) return;
    fputs("{\"psg_ledger\":1}\n", file);
    fclose(file);
}

static void remove_it(const char *path) { unlink(path); }

typedef struct deed {
    const char *name;
    void (*make)(const char *path);
    psg_status wanted;
} deed;

static const deed deeds[] = {
    { "the ledger replaced by a copy", copy_over, PSG_ERR_FILE },
    { "the ledger removed", remove_it, PSG_ERR_FILE },
    { "the ledger cut", cut_lines, PSG_ERR_FORMAT },
    { "a line that is none appended", add_garbage, PSG_ERR_FORMAT },
};

static void under_a_process(crash_watch *w, const deed *deed) {
    crash_watch_begin(w, 0, STEPS, SAVE_EVERY);
    snprintf(w->title, sizeof w->title, "%s", deed->name);
    w->victim.pause = PAUSE;
    pid_t process = crash_watch_start(w);
    w->victim.pause = 0;
    if (crash_wait_stopped(process)) {
        crash_violate(w, "ended before its pause");
        return;
    }
    const size_t before = count_published(w);
    deed->make(w->paths.ledger);
    kill(process, SIGCONT);
    if (crash_wait(process) != CRASH_GAVE_UP) crash_violate(w, "the process did not give up");
    if ((psg_status)w->plan->status != deed->wanted) {
        crash_violate(w, "the status is %s, must be %s", psg_status_name((psg_status)w->plan->status),
                      psg_status_name(deed->wanted));
    }
    if (w->plan->violation[0]) crash_violate(w, "%s", w->plan->violation);
    if (count_published(w) != before) crash_violate(w, "something was released afterwards");
}

uint64_t crash_shared(crash_watch *w) {
    const uint64_t count = sizeof deeds / sizeof *deeds;
    two_processes(w, 0);
    two_processes(w, 1);
    for (uint64_t k = 0; k < count; k++) under_a_process(w, &deeds[k]);
    return count;
}
