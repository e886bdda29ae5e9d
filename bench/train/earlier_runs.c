#include "earlier_runs.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_ROOM = RUN_PATH + 64, FILE_ROOM = PATH_ROOM + 64 };

static const char ledger_name[] = "ledger.jsonl", moving[] = "moving";

/* ---- a run is moved ---- */

static const char *inside(const char *folder, const char *name, char path[FILE_ROOM]) {
    snprintf(path, FILE_ROOM, "%s/%s", folder, name);
    return path;
}

/* The files of a run from one folder to another; those that are not there are not. */
static int move_files(const run_folder *folder, const char *from, const char *to) {
    char old[FILE_ROOM], new[FILE_ROOM];
    for (size_t k = 0; k < RUN_FILES; k++) {
        const char *name = run_file_name(folder, k);
        if (rename(inside(from, name, old), inside(to, name, new)) && errno != ENOENT) {
            return run_folder_fail(old, "cannot be moved");
        }
    }
    return 0;
}

int earlier_runs_restore(const run_folder *folder) {
    char aside[FILE_ROOM];
    if (access(inside(folder->path, moving, aside), F_OK)) return 0;
    if (move_files(folder, aside, folder->path)) return -1;
    return rmdir(aside) ? run_folder_fail(aside, "cannot be removed") : 0;
}

/* The folder gets its number once all files are in it. */
int earlier_runs_keep(const run_folder *folder) {
    char aside[FILE_ROOM], kept[FILE_ROOM];
    const int is_finished = access(folder->statement, F_OK) == 0, has_checkpoint = access(folder->checkpoint, F_OK) == 0;
    if (access(folder->ledger, F_OK)) return errno == ENOENT ? 0 : run_folder_fail(folder->ledger, "cannot be read");
    if (mkdir(inside(folder->path, moving, aside), 0777)) return run_folder_fail(aside, "cannot be made");
    if (move_files(folder, folder->path, aside)) return -1;
    for (int k = 1; ; k++) {
        snprintf(kept, sizeof kept, "%s/%d", folder->path, k);
        if (access(kept, F_OK)) break;
    }
    if (rename(aside, kept)) return run_folder_fail(aside, "cannot be moved");
    printf("the run that was in %s is in %s now", folder->path, kept);
    if (has_checkpoint && !is_finished) printf(" (--resume --folder %s goes on with it)", kept);
    puts("");
    return 0;
}

/* ---- what they have spent ---- */

enum { MOST_DIGITS = 16 };

static int is_number(const char *name) {
    return *name && strlen(name) <= MOST_DIGITS && !name[strspn(name, "0123456789")];
}

/* The folder whose runs these are: the one above, where this is one of its numbers. */
static void root_of(const run_folder *folder, char root[PATH_ROOM]) {
    char above[PATH_ROOM], lock[FILE_ROOM];
    const char *last = strrchr(folder->path, '/');
    snprintf(root, PATH_ROOM, "%s", folder->path);
    if (!is_number(last ? last + 1 : folder->path)) return;
    snprintf(above, sizeof above, "%.*s", last ? (int)(last - folder->path) : 1, last ? folder->path : ".");
    if (access(inside(above, "lock", lock), F_OK) == 0) snprintf(root, PATH_ROOM, "%s", above);
}

/* Whether two paths are one file. */
static int is_same(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

static psg_status add_ledger(const run_folder *folder, const trainer *t, const char *ledger, psg_accountant *all,
                             run_total *total) {
    psg_accountant *spent;
    if (access(ledger, F_OK) && (errno == ENOENT || errno == ENOTDIR)) return PSG_OK;
    if (is_same(ledger, folder->ledger)) return PSG_OK;
    TRY(psg_ledger_read(t->context, ledger, psg_accountant_relation(all), &spent));
    psg_status status = psg_accountant_merge(all, spent);
    psg_accountant_destroy(spent);
    total->others += status == PSG_OK;
    return status;
}

static psg_status add_others(const run_folder *folder, const trainer *t, psg_accountant *all, run_total *total) {
    char root[PATH_ROOM], ledger[FILE_ROOM];
    root_of(folder, root);
    psg_status status = add_ledger(folder, t, inside(root, ledger_name, ledger), all, total);
    DIR *list = opendir(root);
    if (!list) return run_folder_fail(root, "cannot be read"), PSG_ERR_FILE;
    for (struct dirent *entry; !status && (entry = readdir(list));) {
        if (!is_number(entry->d_name)) continue;
        snprintf(ledger, sizeof ledger, "%s/%.*s/%s", root, MOST_DIGITS, entry->d_name, ledger_name);
        status = add_ledger(folder, t, ledger, all, total);
    }
    closedir(list);
    return status;
}

/* delta 0: the ledgers are read, and no epsilon is found. */
static psg_status count(const run_folder *folder, const trainer *t, double delta, run_total *total) {
    psg_accountant *all;
    *total = (run_total){ 0 };
    TRY(psg_accountant_copy(psg_dp_accountant(t->dp), &all));
    psg_status status = add_others(folder, t, all, total);
    if (status == PSG_OK && delta > 0) status = psg_accountant_epsilon_upper(all, delta, &total->epsilon);
    psg_accountant_destroy(all);
    return status;
}

psg_status earlier_runs_check(const run_folder *folder, const trainer *t) {
    run_total total;
    return count(folder, t, 0, &total);
}

psg_status earlier_runs_total(const run_folder *folder, const trainer *t, double delta, run_total *total) {
    return count(folder, t, delta, total);
}

void earlier_runs_say(const run_folder *folder, const run_total *total) {
    if (!total->others) return;
    printf("other runs kept beside %s: %d; where they were of the same records, ", folder->path, total->others);
    if (isfinite(total->epsilon)) printf("all together have epsilon %.2f,", bound_shown(total->epsilon));
    else printf("no epsilon holds, as one was not private,");
    puts(" for whoever chose among them");
}
