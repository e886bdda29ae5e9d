#include "watch.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "recorded.h"

void crash_violate(crash_watch *w, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("violation: %s, process %llu: ", w->title, (unsigned long long)w->victim.incarnation);
    vprintf(format, arguments);
    puts("");
    va_end(arguments);
    w->violations++;
}

static bool is_there(const char *path) {
    struct stat found;
    return stat(path, &found) == 0;
}

/* ---- a run and its processes ---- */

static void empty_folder(const char *path) {
    char name[2 * CRASH_PATH];
    DIR *folder = opendir(path);
    if (!folder) mkdir(path, 0777);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (unlink(name) == 0) continue;
        empty_folder(name);
        rmdir(name);
    }
    if (folder) closedir(folder);
}

void crash_remove_folder(crash_watch *w) {
    empty_folder(w->victim.folder);
    rmdir(w->victim.folder);
}

void crash_watch_begin(crash_watch *w, int mode, uint64_t steps, uint64_t save_every) {
    empty_folder(w->victim.folder);
    crash_run_paths(&w->paths, w->victim.folder, NULL);
    w->victim.mode = mode;
    w->victim.incarnation = 0;
    w->victim.steps = steps;
    w->victim.save_every = save_every;
    w->seen = 0;
    w->releases = w->step = 0;
    w->epsilon = 0;
    memset(w->plan, 0, sizeof *w->plan);
    snprintf(w->plan->folder, sizeof w->plan->folder, "%s", w->victim.folder);
}

static void read_run_before(crash_watch *w) {
    psg_tensors *file;
    w->run_before[0] = 0;
    if (!is_there(w->paths.checkpoint)) return;
    if (psg_safetensors_read(w->context, w->paths.checkpoint, PSG_FILE_COPY, &file)) return;
    const char *run = psg_tensors_metadata(file, "run");
    if (run) snprintf(w->run_before, sizeof w->run_before, "%s", run);
    psg_tensors_destroy(file);
}

pid_t crash_watch_start(crash_watch *w) {
    crash_lines lines = crash_read_lines(w->paths.ledger);
    w->lines_before = lines.count;
    free(lines.lines);
    read_run_before(w);
    w->victim.incarnation++;
    return crash_start(&w->victim, 1);
}

static void cut(crash_watch *w, const char *path, const char *end) {
    char name[CRASH_PATH + 8];
    struct stat found;
    snprintf(name, sizeof name, "%s%s", path, end);
    crash_inode *inode = stat(name, &found) ? NULL : crash_inode_of(w->plan, found.st_ino);
    if (!inode) return;
    if (found.st_size > inode->durable && truncate(name, inode->durable)) crash_violate(w, "%s cannot be cut", name);
    inode->is_dirty = inode->is_lost = false;
}

void crash_cut_power(crash_watch *w) {
    cut(w, w->paths.ledger, "");
    cut(w, w->paths.checkpoint, "");
    cut(w, w->paths.checkpoint, ".psg-tmp");
    cut(w, w->paths.final, "");
    cut(w, w->paths.final, ".psg-tmp");
}

/* ---- what was published ---- */

/* No noise is used twice; a run with a seed does the same again. */
static void check_noise(crash_watch *w, const crash_record *a, const crash_record *b) {
    const unsigned long long step = a->step;
    const bool is_seeded = crash_modes[w->victim.mode].is_seeded;
    const bool are_equal = a->batch == b->batch && a->noise == b->noise && a->values == b->values;
    if (is_seeded && a->step == b->step && !are_equal) crash_violate(w, "step %llu differs from an earlier one", step);
    if (a->is_release && b->is_release && a->noise == b->noise && !(is_seeded && a->step == b->step)) {
        crash_violate(w, "the noise of step %llu is that of step %llu of process %llu", step,
                      (unsigned long long)b->step, (unsigned long long)b->incarnation);
    }
}

static void check_published(crash_watch *w, const crash_lines *lines) {
    size_t count;
    crash_record *records = crash_read_published(w->paths.published, &count);
    if (count < w->seen) crash_violate(w, "published records are gone");
    const char *own = crash_modes[w->victim.mode].is_seeded && w->run_before[0] ? w->run_before : NULL;
    for (size_t k = w->seen; k < count; k++) {
        const crash_record *r = &records[k];
        const char *what = r->is_release ? "release" : "sum";
        if (r->incarnation != w->victim.incarnation) crash_violate(w, "a record is of another process");
        if (!crash_covers(lines, w->lines_before, own, r->step)) {
            crash_violate(w, "the %s of step %llu is not in the ledger", what, (unsigned long long)r->step);
        }
        for (size_t j = 0; j < k; j++) {
            if (records[j].is_release == r->is_release) check_noise(w, r, &records[j]);
        }
        if (r->epsilon > w->epsilon) w->epsilon = r->epsilon;
    }
    w->seen = count;
    free(records);
}

/* ---- what was spent ---- */

static bool is_durable(const crash_watch *w) {
    struct stat found;
    if (stat(w->paths.ledger, &found)) return false;
    const crash_inode *inode = crash_inode_of(w->plan, found.st_ino);
    return inode && !inode->is_dirty && !inode->is_lost;
}

/* A ledger of so many releases of a mode; all of them have one event, so it is computed once for each. */
static psg_status find_epsilon(int mode, const psg_accountant *spent, double *epsilon) {
    enum { MODES = 16, MOST = 4096 };
    static double known[MODES][MOST];
    const uint64_t releases = psg_accountant_releases(spent);
    const bool fits = releases && releases < MOST;
    *epsilon = fits ? known[mode][releases] : 0;
    psg_status status = *epsilon > 0 ? PSG_OK : psg_accountant_epsilon_upper(spent, CRASH_DELTA, epsilon);
    if (!status && fits) known[mode][releases] = *epsilon;
    return status;
}

static void check_epsilon(crash_watch *w, const psg_accountant *spent) {
    double epsilon;
    if (psg_accountant_releases(spent) < w->releases) {
        crash_violate(w, "the ledger had %llu releases, has %llu", (unsigned long long)w->releases,
                      (unsigned long long)psg_accountant_releases(spent));
    }
    if (find_epsilon(w->victim.mode, spent, &epsilon) || epsilon < w->epsilon) {
        crash_violate(w, "epsilon was %g, is %g", w->epsilon, epsilon);
    }
    if (is_durable(w)) {
        w->releases = psg_accountant_releases(spent);
        w->epsilon = epsilon;
    }
}

static void check_ledger(crash_watch *w, const crash_lines *lines) {
    psg_accountant *spent;
    if (!is_there(w->paths.ledger)) {
        if (w->seen || w->releases) crash_violate(w, "the ledger is gone");
        return;
    }
    if (psg_ledger_read(w->context, w->paths.ledger, PSG_ADD_OR_REMOVE_ONE, &spent)) {
        crash_violate(w, "the ledger does not read: %s", psg_context_message(w->context));
        return;
    }
    if (psg_accountant_releases(spent) != crash_recorded(lines)) crash_violate(w, "the ledger's lines have other sums");
    check_epsilon(w, spent);
    psg_accountant_destroy(spent);
}

/* ---- files ---- */

/* Its budget, which takes long to count, matters where the run is complete. */
static void check_checkpoint(crash_watch *w, bool is_complete) {
    crash_run run = w->paths;
    crash_mode mode = crash_modes[w->victim.mode];
    if (!is_complete) mode.epsilon = 0;
    if (!is_there(w->paths.checkpoint)) {
        if (w->step || is_complete) crash_violate(w, "the checkpoint is gone");
        return;
    }
    psg_status status = crash_run_open(&run, &mode, 0);
    if (!status) status = crash_run_load(&run);
    const uint64_t step = psg_dp_step(run.dp);
    if (status) crash_violate(w, "the checkpoint does not load: %s", psg_context_message(run.context));
    else if (step < w->step) crash_violate(w, "the checkpoint went back to step %llu", (unsigned long long)step);
    else w->step = step;
    if (is_complete && !status && step != w->victim.steps && psg_dp_remaining(run.dp)) {
        crash_violate(w, "completed at step %llu within its budget", (unsigned long long)step);
    }
    crash_run_close(&run);
}

static void check_names(crash_watch *w, bool is_complete) {
    static const char *const names[] = { "ledger.jsonl", "published", "checkpoint.safetensors", "final.safetensors",
                                         "checkpoint.safetensors.psg-tmp", "final.safetensors.psg-tmp" };
    const size_t count = sizeof names / sizeof *names - (is_complete ? 2 : 0);
    DIR *folder = opendir(w->victim.folder);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        size_t k = 0;
        while (k < count && strcmp(names[k], entry->d_name)) k++;
        if (k == count && entry->d_name[0] != '.') crash_violate(w, "%s is left", entry->d_name);
    }
    if (folder) closedir(folder);
}

static void check_complete(crash_watch *w) {
    const crash_reference *reference = w->reference;
    if (!is_there(w->paths.final)) crash_violate(w, "completed without its parameters");
    if (!reference) return;
    if (crash_modes[w->victim.mode].is_seeded && crash_hash_of_file(w->paths.final) != reference->final) {
        crash_violate(w, "ended with other bits than the run without interruption");
    }
    if (crash_modes[w->victim.mode].epsilon == 0 && w->releases < reference->releases) {
        crash_violate(w, "the ledger has fewer releases than the run without interruption");
    }
}

void crash_watch_check(crash_watch *w, crash_end end) {
    const bool is_complete = end == CRASH_COMPLETED;
    crash_lines lines = crash_read_lines(w->paths.ledger);
    if (end == CRASH_ELSE) crash_violate(w, "the process ended in no expected way");
    if (w->plan->violation[0]) crash_violate(w, "%s", w->plan->violation);
    w->plan->violation[0] = 0;
    check_published(w, &lines);
    check_ledger(w, &lines);
    check_checkpoint(w, is_complete);
    check_names(w, is_complete);
    if (is_complete) check_complete(w);
    free(lines.lines);
}
