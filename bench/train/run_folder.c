#include "run_folder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text_file.h"

#define SECONDS_BETWEEN 5.0

/* ---- paths ---- */

static int fail(const char *path, const char *verb) {
    fprintf(stderr, "%s %s: %s\n", path, verb, strerror(errno));
    return -1;
}

/* The folder and those above it. */
static int make_folders(const char *path) {
    char part[RUN_PATH];
    snprintf(part, sizeof part, "%s", path);
    for (char *at = part + 1; ; at++) {
        if (*at && *at != '/') continue;
        const char end = *at;
        *at = 0;
        if (mkdir(part, 0777) && errno != EEXIST) return fail(part, "cannot be made");
        if (!end) return 0;
        *at = end;
    }
}

int run_folder_open(const char *path, char **command_line, run_folder *folder) {
    const struct { char *path; const char *name; } files[] = {
        { folder->ledger, "ledger.jsonl" }, { folder->checkpoint, "checkpoint.safetensors" },
        { folder->arguments, "arguments" }, { folder->weights, "weights.safetensors" },
        { folder->statement, "statement.txt" }, { folder->statement_json, "statement.json" },
        { folder->report, "report.html" }, { folder->diagnostics, "diagnostics.html" },
    };
    if (!*path || strlen(path) > RUN_PATH - 64) {
        fprintf(stderr, "--folder: the path is empty or too long\n");
        return -1;
    }
    folder->command_line = command_line;
    folder->saved_at = now_seconds();
    for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
        snprintf(files[k].path, RUN_PATH, "%s/%s", path, files[k].name);
    }
    return make_folders(path);
}

/* ---- arguments, one a line ---- */

static int write_arguments(const run_folder *folder) {
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    if (!file) return fail(folder->arguments, "cannot be written");
    for (char **argument = folder->command_line; *argument; argument++) fprintf(file, "%s\n", *argument);
    int failed = fclose(file) || text_file_write(folder->arguments, text, size);
    free(text);
    return failed ? -1 : 0;
}

/* ledger.jsonl becomes ledger.1.jsonl, or the first number that is free. */
static int put_aside(const char *ledger) {
    char old[RUN_PATH + 32];
    const int stem = (int)(strlen(ledger) - strlen("jsonl"));
    for (int k = 1; ; k++) {
        snprintf(old, sizeof old, "%.*s%d.jsonl", stem, ledger, k);
        if (link(ledger, old) == 0) return remove(ledger) ? fail(ledger, "cannot be put aside") : 0;
        if (errno == ENOENT) return 0;
        if (errno != EEXIST) return fail(ledger, "cannot be put aside");
    }
}

int run_folder_begin(const run_folder *folder) {
    if (put_aside(folder->ledger)) return -1;
    const char *const of_another[] = { folder->checkpoint, folder->statement, folder->statement_json, folder->report,
                                       folder->diagnostics };
    for (size_t k = 0; k < sizeof of_another / sizeof *of_another; k++) {
        if (remove(of_another[k]) && errno != ENOENT) return fail(of_another[k], "cannot be removed");
    }
    return write_arguments(folder);
}

static char **read_lines(FILE *file) {
    char line[RUN_PATH], **lines = calloc(1, sizeof *lines);
    for (size_t count = 0; lines && fgets(line, sizeof line, file); count++) {
        char **more = realloc(lines, (count + 2) * sizeof *lines);
        if (!more) break;
        lines = more;
        line[strcspn(line, "\n")] = 0;
        lines[count] = strdup(line);
        lines[count + 1] = NULL;
    }
    return lines;
}

char **run_folder_arguments(const run_folder *folder) {
    FILE *file = fopen(folder->arguments, "r");
    if (!file) {
        fail(folder->arguments, "cannot be read, so there is no run to go on with");
        return NULL;
    }
    char **lines = read_lines(file);
    fclose(file);
    return lines;
}

void run_folder_free_arguments(char **arguments) {
    for (char **a = arguments; a && *a; a++) free(*a);
    free(arguments);
}

/* ---- checkpoints ---- */

/* The tensors of a run under the names of the model's parameters. */
typedef struct run_tensors {
    psg_named params[MODEL_MAX_PARAMS], average[MODEL_MAX_PARAMS];
} run_tensors;

static psg_checkpoint checkpoint_of(const trainer *t, run_tensors *tensors) {
    psg_checkpoint checkpoint = PSG_CHECKPOINT_INIT;
    for (int k = 0; k < t->model.count; k++) {
        tensors->params[k] = psg_param_named(t->model.param[k]);
        tensors->average[k] = (psg_named){ tensors->params[k].name, t->average[k] };
    }
    checkpoint.params = tensors->params;
    checkpoint.extra = tensors->average;
    checkpoint.param_count = checkpoint.extra_count = (size_t)t->model.count;
    checkpoint.optimizer = t->sgd;
    return checkpoint;
}

psg_status run_folder_save(run_folder *folder, const trainer *t) {
    run_tensors tensors;
    const psg_checkpoint checkpoint = checkpoint_of(t, &tensors);
    TRY(psg_dp_save(t->dp, &checkpoint, folder->checkpoint));
    folder->saved_at = now_seconds();
    return PSG_OK;
}

psg_status run_folder_load(run_folder *folder, trainer *t) {
    run_tensors tensors;
    const psg_checkpoint checkpoint = checkpoint_of(t, &tensors);
    return psg_dp_load(t->dp, &checkpoint, folder->checkpoint);
}

int run_folder_is_due(const run_folder *folder) { return now_seconds() - folder->saved_at >= SECONDS_BETWEEN; }

psg_status run_folder_write_weights(const run_folder *folder, const trainer *t) {
    run_tensors tensors;
    checkpoint_of(t, &tensors);
    return psg_safetensors_write(t->context, folder->weights, tensors.average, (size_t)t->model.count, NULL, 0);
}
