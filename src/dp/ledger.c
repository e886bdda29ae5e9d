#include "dp/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/context.h"
#include "base/file.h"
#include "base/memory.h"
#include "dp/names.h"

struct psg_ledger {
    psg_context *context;
    char *path;
    int descriptor;
    psg_relation relation;
    psg_ledger_use use;
    bool is_broken;                /* it may hold what was not made durable, and could not be cut */
    off_t size;                    /* of the lines that were read */
    off_t durable;                 /* of these, what is known to be on disk */
    psg_ledger_mark last;
    psg_ledger_runs runs;
};

/* ---- what the lines say ---- */

static psg_status check_relation(const psg_ledger *l, const psg_line_place *at, const psg_ledger_line *line) {
    if (line->relation == l->relation) return PSG_OK;
    return psg_fail_format(l->context, at->function, l->path, "line %llu is for the relation %s, must be for %s: costs "
                           "of different relations do not add", (unsigned long long)at->line,
                           psg_relation_name(line->relation), psg_relation_name(l->relation));
}

static psg_status take_line(psg_ledger *l, const char *function, const char *text, size_t length) {
    const psg_line_place at = { l->context, function, l->path, l->last.lines + 1 };
    psg_ledger_line line;
    psg_status status = psg_ledger_line_read(&at, text, length, l->last.hash, &line);
    if (!status) status = check_relation(l, &at, &line);
    if (!status) status = psg_ledger_runs_add(&l->runs, function, &line);
    if (status) return status;
    psg_ledger_line_hash(text, length, l->last.hash);
    l->last.lines++;
    l->size += (off_t)length + 1;
    return PSG_OK;
}

static psg_status take_lines(psg_ledger *l, const char *function, const char *text, size_t length) {
    psg_status status = PSG_OK;
    for (const char *end; !status && (end = memchr(text, '\n', length)); ) {
        size_t bytes = (size_t)(end - text);
        status = take_line(l, function, text, bytes);
        text += bytes + 1;
        length -= bytes + 1;
    }
    return status;
}

/* ---- the file ---- */

static psg_status fail(const psg_ledger *l, const char *function, const char *verb) {
    return psg_fail_file(l->context, function, l->path, verb);
}

static psg_status refuse(const psg_ledger *l, const char *function, psg_status status, const char *what) {
    return psg_fail(l->context, status, "%s: %s: %s", function, l->path, what);
}

static psg_status lock(const psg_ledger *l, const char *function, int how) {
    int result;
    do result = flock(l->descriptor, how);
    while (result && errno == EINTR);
    return result ? fail(l, function, "lock") : PSG_OK;
}

static void unlock(const psg_ledger *l) { (void)flock(l->descriptor, LOCK_UN); }

/* Whether the path still names the file that is open: what is appended to another is lost to who opens the path. */
static psg_status check_file(const psg_ledger *l, const char *function, off_t *size) {
    struct stat opened, named;
    if (fstat(l->descriptor, &opened)) return fail(l, function, "examine");
    if (stat(l->path, &named)) return fail(l, function, "examine");
    if (opened.st_dev != named.st_dev || opened.st_ino != named.st_ino) {
        return refuse(l, function, PSG_ERR_FILE, "is another file than the one that was opened");
    }
    *size = opened.st_size;
    if (*size >= l->size) return PSG_OK;
    return psg_fail_format(l->context, function, l->path, "has %lld bytes, had %lld: lines were removed",
                           (long long)*size, (long long)l->size);
}

static psg_status read_bytes(const psg_ledger *l, const char *function, off_t at, char *text, size_t count) {
    if (psg_read_at(l->descriptor, text, count, at)) return PSG_OK;
    if (errno != ENODATA) return fail(l, function, "read");
    return refuse(l, function, PSG_ERR_FORMAT, "was cut while it was read");
}

/* Under a lock: the lines that were not read yet. */
static psg_status read_rest(psg_ledger *l, const char *function) {
    off_t size;
    psg_status status = check_file(l, function, &size);
    if (status || size == l->size) return status;
    size_t rest = (size_t)(size - l->size);
    char *text = psg_alloc(l->context, rest);
    if (!text) return psg_fail_memory(l->context, function, rest);
    status = read_bytes(l, function, l->size, text, rest);
    if (!status) status = take_lines(l, function, text, rest);
    psg_free(l->context, text);
    return status;
}

static psg_status check_broken(const psg_ledger *l, const char *function) {
    if (!l->is_broken) return PSG_OK;
    return refuse(l, function, PSG_ERR_FILE, "could not be cut after a line that was not made durable; must be opened "
                  "anew");
}

/* A line that was read may be one whose writer was killed before its fsync.  A mechanism that goes on with its steps, and a
 * checkpoint that names it, rely on it. */
static psg_status make_durable(psg_ledger *l, const char *function) {
    if (l->use == PSG_LEDGER_READ || l->size == l->durable) return PSG_OK;
    if (!psg_sync(l->descriptor)) {
        l->is_broken = true;
        return fail(l, function, "make durable");
    }
    l->durable = l->size;
    return PSG_OK;
}

psg_status psg_ledger_refresh(psg_ledger *l, const char *function, bool *changed) {
    uint64_t before = l->last.lines;
    psg_status status = check_broken(l, function);
    if (!status) status = lock(l, function, LOCK_SH);
    if (status) return status;
    status = read_rest(l, function);
    if (!status) status = make_durable(l, function);
    unlock(l);
    *changed = l->last.lines != before;
    return status;
}

/* ---- appending ---- */

/* Cuts the file to the lines that were read. */
static void cut(psg_ledger *l) {
    if (!psg_truncate(l->descriptor, l->size)) l->is_broken = true;
}

/* A line that is not known to be durable is cut off: a second fsync may succeed without having written it. */
static psg_status write_line(psg_ledger *l, const char *function, char *text, size_t length) {
    psg_status status = PSG_OK;
    text[length] = '\n';
    if (!psg_write_all(l->descriptor, text, length + 1)) status = fail(l, function, "write");
    else if (!psg_sync(l->descriptor)) status = fail(l, function, "make durable");
    if (status) cut(l);
    return status;
}

/* Under the lock, all lines read. */
static psg_status append_here(psg_ledger *l, const char *function, const psg_ledger_line *line) {
    char text[PSG_LINE_TEXT + 1];
    off_t size;
    psg_status status = check_file(l, function, &size);
    if (status) return status;
    size_t length = psg_ledger_line_write(line, l->last.hash, text);
    if (!length) return psg_fail_memory(l->context, function, PSG_LINE_TEXT);
    if (size > l->size && !psg_truncate(l->descriptor, l->size)) return fail(l, function, "cut to whole lines");
    status = write_line(l, function, text, length);
    if (!status) status = take_line(l, function, text, length);
    if (!status) l->durable = l->size;
    return status;
}

psg_status psg_ledger_append(psg_ledger *l, const char *function, const psg_ledger_line *line, bool *changed) {
    uint64_t before = l->last.lines;
    if (!psg_ledger_line_fits(line)) {
        return refuse(l, function, PSG_ERR_OVERFLOW, "holds steps, releases and sizes below 2^63, no others");
    }
    psg_status status = check_broken(l, function);
    if (!status) status = lock(l, function, LOCK_EX);
    if (status) return status;
    status = read_rest(l, function);
    *changed = l->last.lines != before;
    if (!status && !*changed) status = append_here(l, function, line);
    unlock(l);
    return status;
}

/* ---- life ---- */

/* O_NONBLOCK: opening a pipe does not wait, and it is refused. */
static psg_status open_file(psg_ledger *l, const char *function) {
    const int how = l->use == PSG_LEDGER_APPEND ? O_RDWR | O_CREAT | O_APPEND : O_RDONLY;
    struct stat file;
    l->descriptor = psg_open(l->path, how | O_NONBLOCK | O_NOCTTY, 0666);
    if (l->descriptor < 0) return fail(l, function, "open");
    if (fstat(l->descriptor, &file)) return fail(l, function, "examine");
    if (!S_ISREG(file.st_mode)) return refuse(l, function, PSG_ERR_FILE, "is no regular file");
    if (l->use == PSG_LEDGER_READ || psg_sync_folder(l->path)) return PSG_OK;
    return fail(l, function, "make durable");
}

static psg_status take_path(psg_ledger *l, const char *function, const char *path) {
    const size_t bytes = strlen(path) + 1;
    char *copy = psg_alloc(l->context, bytes);
    if (!copy) return psg_fail_memory(l->context, function, bytes);
    psg_free(l->context, l->path);
    l->path = memcpy(copy, path, bytes);
    return PSG_OK;
}

/* The path is made absolute: the process may change its folder. */
static psg_status begin(psg_ledger *l, const char *function, const char *path) {
    char absolute[PATH_MAX];
    bool changed;
    l->descriptor = -1;
    memset(l->last.hash, '0', PSG_LINE_HASH_TEXT - 1);
    psg_status status = take_path(l, function, path);
    if (!status) status = open_file(l, function);
    if (status) return status;
    if (!realpath(path, absolute)) return fail(l, function, "resolve");
    status = take_path(l, function, absolute);
    return status ? status : psg_ledger_refresh(l, function, &changed);
}

psg_status psg_ledger_open(psg_context *context, const char *function, const char *path, psg_ledger_use use,
                           psg_relation relation, psg_ledger **ledger) {
    psg_ledger *made = psg_alloc_zeroed(context, sizeof *made);
    if (!made) return psg_fail_memory(context, function, sizeof *made);
    made->context = context;
    made->relation = relation;
    made->use = use;
    made->runs.context = context;
    psg_status status = begin(made, function, path);
    if (status) psg_ledger_close(made);
    else *ledger = made;
    return status;
}

void psg_ledger_close(psg_ledger *l) {
    if (!l) return;
    if (l->descriptor >= 0) psg_close(l->descriptor);
    psg_ledger_runs_free(&l->runs);
    psg_free(l->context, l->path);
    psg_free(l->context, l);
}

const psg_ledger_runs *psg_ledger_all(const psg_ledger *l) { return &l->runs; }

bool psg_ledger_is_at(const psg_ledger *l, const char *path) {
    struct stat opened, named;
    return !fstat(l->descriptor, &opened) && !stat(path, &named) && opened.st_dev == named.st_dev &&
           opened.st_ino == named.st_ino;
}

psg_ledger_mark psg_ledger_last(const psg_ledger *l) { return l->last; }

/* ---- a line of the past ---- */

/* The hash of line number `wanted` of the text; false where it is not there. */
static bool hash_of_line(const char *text, size_t length, uint64_t wanted, char hash[PSG_LINE_HASH_TEXT]) {
    for (const char *end; (end = memchr(text, '\n', length)); wanted--) {
        size_t bytes = (size_t)(end - text);
        if (wanted == 1) psg_ledger_line_hash(text, bytes, hash);
        if (wanted == 1) return true;
        text += bytes + 1;
        length -= bytes + 1;
    }
    return false;
}

static psg_status compare(const psg_ledger *l, const char *function, const psg_ledger_mark *mark, const char *text) {
    char hash[PSG_LINE_HASH_TEXT];
    if (!hash_of_line(text, (size_t)l->size, mark->lines, hash)) {
        return psg_fail_format(l->context, function, l->path, "has %llu lines, must have the %llu that the checkpoint "
                               "knows", (unsigned long long)l->last.lines, (unsigned long long)mark->lines);
    }
    if (!strcmp(hash, mark->hash)) return PSG_OK;
    return psg_fail_format(l->context, function, l->path, "line %llu has hash %s, must be the checkpoint's %s",
                           (unsigned long long)mark->lines, hash, mark->hash);
}

psg_status psg_ledger_check(psg_ledger *l, const char *function, const psg_ledger_mark *mark) {
    if (!mark->lines) return PSG_OK;
    char *text = psg_alloc(l->context, (size_t)l->size);
    if (!text) return psg_fail_memory(l->context, function, (size_t)l->size);
    psg_status status = read_bytes(l, function, 0, text, (size_t)l->size);
    if (!status) status = compare(l, function, mark, text);
    psg_free(l->context, text);
    return status;
}
