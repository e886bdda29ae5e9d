/* The folder of a training run: what it needs to go on after an interruption, and what it made.
 *
 *   ledger.jsonl             what was spent, on disk before each release (a new run keeps those before as
 *                          ledger.1.jsonl, ...)
 *   checkpoint.safetensors   weights, momentum, average and step, every few seconds
 *   arguments                the command line that began the run
 *   weights.safetensors      the averaged weights, at the end, and with them
 *   statement.txt, .json     the privacy statement, in words and as one JSON object
 *   report.html              a page of what may be published
 *   diagnostics.html         a page of what may not, where it was asked for */
#ifndef BENCH_RUN_FOLDER_H
#define BENCH_RUN_FOLDER_H

#include "trainer.h"

enum { RUN_PATH = 4096 };

typedef struct run_folder {
    char ledger[RUN_PATH], checkpoint[RUN_PATH], arguments[RUN_PATH], weights[RUN_PATH];
    char statement[RUN_PATH], statement_json[RUN_PATH], report[RUN_PATH], diagnostics[RUN_PATH];
    char **command_line;           /* of this program, NULL at the end */
    double saved_at;               /* of now_seconds */
} run_folder;

/* Makes the folder where it is missing, with those above it; -1 after a message. */
int run_folder_open(const char *path, char **command_line, run_folder *folder);

/* Puts the ledger of another run aside, removes what was said of it, and writes down the arguments of this one; -1
 * after a message. */
int run_folder_begin(const run_folder *folder);
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
