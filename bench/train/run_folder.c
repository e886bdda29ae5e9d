#include "run_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "earlier_runs.h"
#include "text_file.h"

#define SECONDS_BETWEEN 5.0

/* ---- paths ---- */

int run_folder_fail(const char *path, const char *verb) {
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
        if (mkdir(part, 0777) && errno != EEXIST) return run_folder_fail(part, "cannot be made");
        if (!end) return 0;
        *at = end;
    }
}

/* The lock goes with the process. */
static int take_lock(const run_folder *folder) {
    const int lock = open(folder->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock < 0) return run_folder_fail(folder->lock, "cannot be opened");
    if (flock(lock, LOCK_EX | LOCK_NB) == 0) return 0;
    if (errno != EWOULDBLOCK) return run_folder_fail(folder->lock, "cannot be locked");
    fprintf(stderr, "%s: another process trains there; --folder names another place\n", folder->path);
    return -1;
}

const char *run_file_name(const run_folder *folder, size_t k) { return strrchr(folder->file[k], '/') + 1; }

static void set_paths(const char *path, run_folder *folder) {
    const struct { char *path; const char *name; } files[RUN_FILES] = {
        { folder->arguments, "arguments" }, { folder->records, "records" },
        { folder->checkpoint, "checkpoint.safetensors" }, { folder->weights, "weights.safetensors" },
        { folder->statement, "statement.txt" }, { folder->statement_json, "statement.json" },
        { folder->report, "report.html" }, { folder->diagnostics, "diagnostics.html" },
        { folder->ledger, "ledger.jsonl" },
    };
    snprintf(folder->path, RUN_PATH, "%s", path);
    snprintf(folder->lock, RUN_PATH, "%s/lock", path);
    for (size_t k = 0; k < RUN_FILES; k++) {
        snprintf(files[k].path, RUN_PATH, "%s/%s", path, files[k].name);
        folder->file[k] = files[k].path;
    }
}

static int check_resumed(const run_folder *folder) {
    if (access(folder->arguments, R_OK) == 0) return 0;
    return run_folder_fail(folder->arguments, "cannot be read, so there is no run to go on with");
}

int run_folder_open(const char *path, int resumes, char **command_line, run_folder *folder) {
    if (!*path || strlen(path) > RUN_PATH - 64) {
        fprintf(stderr, "--folder: the path is empty or too long\n");
        return -1;
    }
    set_paths(path, folder);
    folder->command_line = command_line;
    folder->saved_at = now_seconds();
    if (resumes && access(path, F_OK)) return check_resumed(folder);
    if (!resumes && make_folders(path)) return -1;
    if (take_lock(folder) || earlier_runs_restore(folder)) return -1;
    return resumes ? check_resumed(folder) : 0;
}

/* ---- the records ---- */

enum { HASH_BYTES = 32, HASH_TEXT = 2 * HASH_BYTES + 1 };

static void hash_records(const dataset *records, char text[HASH_TEXT]) {
    unsigned char hash[HASH_BYTES];
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, sizeof hash);
    crypto_generichash_update(&state, records->pixels, (size_t)records->count * IMAGE_PIXELS);
    crypto_generichash_update(&state, records->labels, (size_t)records->count);
    crypto_generichash_final(&state, hash, sizeof hash);
    sodium_bin2hex(text, HASH_TEXT, hash, sizeof hash);
}

int run_folder_check(const run_folder *folder, const dataset *records) {
    char text[HASH_TEXT], begun[HASH_TEXT] = "";
    FILE *file = fopen(folder->records, "r");
    if (!file) return run_folder_fail(folder->records, "cannot be read, so the run cannot go on");
    if (!fgets(begun, sizeof begun, file)) begun[0] = 0;
    fclose(file);
    hash_records(records, text);
    if (!strcmp(text, begun)) return 0;
    fprintf(stderr, "--resume: these are not the records that the run in %s began with\n", folder->path);
    return -1;
}

/* ---- arguments, one a line ---- */

static int write_arguments(const run_folder *folder) {
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    if (!file) return run_folder_fail(folder->arguments, "cannot be written");
    for (char **argument = folder->command_line; *argument; argument++) fprintf(file, "%s\n", *argument);
    int failed = fclose(file) || text_file_write(folder->arguments, text, size);
    free(text);
    return failed ? -1 : 0;
}

int run_folder_begin(const run_folder *folder, const dataset *records) {
    char text[HASH_TEXT];
    if (earlier_runs_keep(folder)) return -1;
    for (size_t k = 0; k < RUN_FILES; k++) {   /* without a ledger: no run */
        if (remove(folder->file[k]) && errno != ENOENT) return run_folder_fail(folder->file[k], "cannot be removed");
    }
    hash_records(records, text);
    return text_file_write(folder->records, text, HASH_TEXT - 1) ? -1 : write_arguments(folder);
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
        run_folder_fail(folder->arguments, "cannot be read, so there is no run to go on with");
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
