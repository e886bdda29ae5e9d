/* The folder of a training run: what it needs to go on after an interruption, and what it made.
 *
 *   ledger.jsonl             what was spent, on disk before each release
 *   checkpoint.safetensors   weights, momentum, average and step, at the start and every few seconds
 *   arguments                the command line that began the run
 *   records                  a hash of the records that it began with: not to be published
 *   weights.safetensors      the averaged weights, at the end, and with them
 *   statement.txt, .json     the privacy statement, in words and as one JSON object
 *   report.html              a page of what may be published
 *   diagnostics.html         a page of what may not, where it was asked for
 *   1/, 2/, ...              the runs before, each a folder like this one (earlier_runs.h)
 *   lock                     of the process that has the folder */
#ifndef BENCH_RUN_FOLDER_H
#define BENCH_RUN_FOLDER_H

#include "trainer.h"

enum { RUN_PATH = 4096, RUN_FILES = 9 };

typedef struct run_folder {
    char path[RUN_PATH], lock[RUN_PATH];
    char ledger[RUN_PATH], checkpoint[RUN_PATH], arguments[RUN_PATH], records[RUN_PATH], weights[RUN_PATH];
    char statement[RUN_PATH], statement_json[RUN_PATH], report[RUN_PATH], diagnostics[RUN_PATH];
    const char *file[RUN_FILES];   /* those, the ledger last */
    char **command_line;           /* of this program, NULL at the end */
    double saved_at;               /* of now_seconds */
} run_folder;

/* The name of file k without its folder. */
const char *run_file_name(const run_folder *folder, size_t k);
/* The message "PATH VERB: what errno says"; -1. */
int run_folder_fail(const char *path, const char *verb);

/* Takes the folder for this process, until it ends; makes it where it is missing and no run is to go on in it, with
 * those above it.  -1 after a message: also where another process has it. */
int run_folder_open(const char *path, int resumes, char **command_line, run_folder *folder);

/* Moves a run that is there out of the way (earlier_runs.h); then writes down the arguments and the records of
 * this one.  -1 after a message. */
int run_folder_begin(const run_folder *folder, const dataset *records);
/* Whether the records are those that the run began with; -1 after a message. */
int run_folder_check(const run_folder *folder, const dataset *records);
/* The arguments of the run that is there, each in malloc'd memory, NULL at the end; NULL after a message. */
char **run_folder_arguments(const run_folder *folder);
void run_folder_free_arguments(char **arguments);

/* A checkpoint of the run; and going on from it. */
psg_status run_folder_save(run_folder *folder, const trainer *t);
psg_status run_folder_load(run_folder *folder, trainer *t);
/* Whether the last one is some seconds old. */
int run_folder_is_due(const run_folder *folder);

/* The averaged weights under the names of the model's parameters. */
psg_status run_folder_write_weights(const run_folder *folder, const trainer *t);

#endif
