#include "earlier_runs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The folder of run k (1, 2, ...) before this one. */
static const char *earlier_folder(const run_folder *folder, int k, const char *name, char path[RUN_PATH + 64]) {
    snprintf(path, RUN_PATH + 64, "%s/%d%s%s", folder->path, k, *name ? "/" : "", name);
    return path;
}

static const char *name_of(const char *path) { return strrchr(path, '/') + 1; }

/* The ledger goes last: as long as it is here, so is the run. */
int earlier_runs_keep(const run_folder *folder) {
    const char *const files[] = { folder->arguments, folder->records, folder->checkpoint, folder->weights,
                                  folder->statement, folder->statement_json, folder->report, folder->diagnostics,
                                  folder->ledger };
    char aside[RUN_PATH + 64], to[RUN_PATH + 64];
    const int goes_on = access(folder->checkpoint, F_OK) == 0;
    int k = 1;
    if (access(folder->ledger, F_OK)) return errno == ENOENT ? 0 : run_folder_fail(folder->ledger, "cannot be read");
    while (mkdir(earlier_folder(folder, k, "", aside), 0777)) {
        if (errno != EEXIST) return run_folder_fail(aside, "cannot be made");
        k++;
    }
    for (size_t n = 0; n < sizeof files / sizeof *files; n++) {
        if (rename(files[n], earlier_folder(folder, k, name_of(files[n]), to)) && errno != ENOENT) {
            return run_folder_fail(files[n], "cannot be put aside");
        }
    }
    printf("the run that was in %s is in %s now", folder->path, aside);
    if (goes_on) printf(" (--resume --folder %s goes on with it)", aside);
    puts("");
    return 0;
}

static psg_status add_earlier(const run_folder *folder, const trainer *t, psg_accountant *all, run_total *total) {
    char ledger[RUN_PATH + 64];
    for (int k = 1; access(earlier_folder(folder, k, "", ledger), F_OK) == 0; k++) {
        psg_accountant *spent;
        if (access(earlier_folder(folder, k, name_of(folder->ledger), ledger), F_OK)) continue;
        TRY(psg_ledger_read(t->context, ledger, psg_accountant_relation(all), &spent));
        psg_status status = psg_accountant_merge(all, spent);
        psg_accountant_destroy(spent);
        TRY(status);
        total->earlier++;
    }
    return PSG_OK;
}

psg_status earlier_runs_total(const run_folder *folder, const trainer *t, double delta, run_total *total) {
    psg_accountant *all;
    *total = (run_total){ 0 };
    TRY(psg_accountant_copy(psg_dp_accountant(t->dp), &all));
    psg_status status = add_earlier(folder, t, all, total);
    if (status == PSG_OK) status = psg_accountant_epsilon_upper(all, delta, &total->epsilon);
    psg_accountant_destroy(all);
    return status;
}
