#include "dp/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/context.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/writer.h"
#include "dp/names.h"

enum { BLOCK = 64 * 1024 };        /* bytes that are read at a time; a line is shorter than PSG_LINE_TEXT */

struct psg_ledger {
    psg_context *context;
    char *path;
    int descriptor;
    psg_relation relation;
    psg_ledger_use use;
    bool is_broken;                /* it may hold what was not made durable, and could not be cut */
    bool lacks_end;                /* the last line is whole but for its end */
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

static psg_line_place next_place(const psg_ledger *l, const char *function) {
    return (psg_line_place){ l->context, function, l->path, l->last.lines + 1 };
}

/* A line without its end. */
static psg_status take_line(psg_ledger *l, const char *function, const char *text, size_t length) {
    const psg_line_place at = next_place(l, function);
    char hash[PSG_LINE_HASH_TEXT];
    psg_ledger_line line;
    psg_status status = psg_ledger_line_read(&at, text, length, l->last.hash, &line, hash);
    if (!status) status = check_relation(l, &at, &line);
    if (!status) status = psg_ledger_runs_reserve(&l->runs, function);
    if (status) return status;
    const char *rule = psg_ledger_runs_refuse(&l->runs, &line);
    if (rule) return psg_ledger_line_refuse(&at, rule);
    psg_ledger_runs_add(&l->runs, &line);
    memcpy(l->last.hash, hash, sizeof hash);
    l->last.lines++;
    l->size += (off_t)length;
    return PSG_OK;
}

/* The end that the last line lacked has come. */
static psg_status take_end(psg_ledger *l, const char *function, const char *text) {
    const psg_line_place at = { l->context, function, l->path, l->last.lines };
    if (*text != '\n') return psg_ledger_line_refuse(&at, "goes on after its hash");
    l->lacks_end = false;
    l->size++;
    return PSG_OK;
}

static psg_status take_lines(psg_ledger *l, const char *function, const char *text, size_t length) {
    const bool lacks_end = l->lacks_end;
    psg_status status = lacks_end ? take_end(l, function, text) : PSG_OK;
    const char *end, *stop = text + length;
    for (text += lacks_end; !status && (end = memchr(text, '\n', (size_t)(stop - text))); text = end + 1) {
        status = take_line(l, function, text, (size_t)(end - text));
        l->size += !status;
    }
    return status;
}

/* What stands after the last end of a line: a whole line counts, since its end alone may have been lost; the beginning
 * of one was never released under, and the next line takes its place; anything else is damage, and is not cut away. */
static psg_status take_rest(psg_ledger *l, const char *function, const char *text, size_t length) {
    const psg_line_place at = next_place(l, function);
    if (length >= PSG_LINE_TEXT) return psg_ledger_line_refuse(&at, "is longer than any");
    if (psg_is_torn_line(text, length)) return PSG_OK;
    psg_status status = take_line(l, function, text, length);
    l->lacks_end = !status;
    return status;
}

/* ---- the file ---- */

static psg_status fail(const psg_ledger *l, const char *function, const char *verb) {
    return psg_fail_file(l->context, function, l->path, verb);
}

static psg_status refuse(const psg_ledger *l, const char *function, psg_status status, const char *what) {
    return psg_fail(l->context, status, "%s: %s: %s", function, l->path, what);
}

#define LOCK_SECONDS 30

/* Others hold the lock for the time of a line, and of counting what it costs. */
static psg_status lock(const psg_ledger *l, const char *function, int how) {
    const struct timespec pause = { 0, 1000000 };
    for (int tries = 0; flock(l->descriptor, how | LOCK_NB); tries++) {
        if (errno != EINTR && errno != EWOULDBLOCK) return fail(l, function, "lock");
        if (tries >= LOCK_SECONDS * 1000) return refuse(l, function, PSG_ERR_FILE, "another process keeps it locked");
        nanosleep(&pause, NULL);
    }
    return PSG_OK;
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

/* One block: its lines, or where no line ends in it, what is left at the end of the file. */
static psg_status read_block(psg_ledger *l, const char *function, char *text, off_t size, bool *is_over) {
    const off_t before = l->size;
    const size_t bytes = size - before < BLOCK ? (size_t)(size - before) : BLOCK;
    psg_status status = read_bytes(l, function, before, text, bytes);
    if (!status) status = take_lines(l, function, text, bytes);
    *is_over = l->size == before || l->size == size;
    return status || l->size > before ? status : take_rest(l, function, text, bytes);
}

/* Under a lock: the lines that were not read yet. */
static psg_status read_rest(psg_ledger *l, const char *function) {
    off_t size;
    psg_status status = check_file(l, function, &size);
    bool is_over = size == l->size;
    if (status || is_over) return status;
    char *text = psg_alloc(l->context, BLOCK);
    if (!text) return psg_fail_memory(l->context, function, BLOCK);
    while (!status && !is_over) status = read_block(l, function, text, size, &is_over);
    psg_free(l->context, text);
    return status;
}

static psg_status check_broken(const psg_ledger *l, const char *function) {
    if (!l->is_broken) return PSG_OK;
    return refuse(l, function, PSG_ERR_FILE, "could not be cut after a line that was not made durable; must be opened "
                  "anew");
}

/* A line that was read may be one whose writer was killed before its fsync.  A mechanism that goes on with its steps,
 * and a checkpoint that names it, rely on it. */
static psg_status make_durable(psg_ledger *l, const char *function) {
    if (l->use == PSG_LEDGER_READ || l->size == l->durable) return PSG_OK;
    if (!psg_sync(l->descriptor)) {
        l->is_broken = true;
        return fail(l, function, "make durable");
    }
    l->durable = l->size;
    return PSG_OK;
}

psg_status psg_ledger_refresh(psg_ledger *l, const char *function) {
    psg_status status = check_broken(l, function);
    if (!status) status = lock(l, function, LOCK_SH);
    if (status) return status;
    status = read_rest(l, function);
    if (!status) status = make_durable(l, function);
    unlock(l);
    return status;
}

/* ---- appending ---- */

/* Cuts the file to the lines that were read. */
static void cut(psg_ledger *l) {
    if (!psg_truncate(l->descriptor, l->size)) l->is_broken = true;
}

/* A line that is not known to be durable is cut off: a second fsync may succeed without having written it. */
static psg_status write_text(psg_ledger *l, const char *function, const char *text, size_t length) {
    psg_status status = PSG_OK;
    if (!psg_write_all(l->descriptor, text, length)) status = fail(l, function, "write");
    else if (!psg_sync(l->descriptor)) status = fail(l, function, "make durable");
    if (status) cut(l);
    return status;
}

psg_status psg_ledger_begin(psg_ledger *l, const char *function) {
    psg_status status = check_broken(l, function);
    if (!status) status = lock(l, function, LOCK_EX);
    if (status) return status;
    status = read_rest(l, function);
    if (!status) status = make_durable(l, function);
    if (status) unlock(l);
    return status;
}

void psg_ledger_end(psg_ledger *l) { unlock(l); }

static psg_status check_line(psg_ledger *l, const char *function, const psg_ledger_line *line) {
    const char *rule = psg_ledger_line_fits(line) ? psg_ledger_runs_refuse(&l->runs, line)
                                                  : "has a number that is not below 2^63";
    if (!rule) return psg_ledger_runs_reserve(&l->runs, function);
    return psg_fail(l->context, PSG_ERR_OVERFLOW, "%s: %s: the line %s", function, l->path, rule);
}

/* Everything that may fail comes before the line is on disk.  What was torn is cut off first; an end that is lacking is
 * written first. */
psg_status psg_ledger_append(psg_ledger *l, const char *function, const psg_ledger_line *line) {
    char text[PSG_LINE_TEXT + 2] = "\n", hash[PSG_LINE_HASH_TEXT];
    off_t size;
    psg_status status = check_line(l, function, line);
    if (!status) status = check_file(l, function, &size);
    if (status) return status;
    const size_t length = psg_ledger_line_write(line, l->last.hash, text + 1, hash);
    if (!length) return psg_fail_memory(l->context, function, PSG_LINE_TEXT);
    if (size > l->size && !psg_truncate(l->descriptor, l->size)) return fail(l, function, "cut to whole lines");
    text[1 + length] = '\n';
    status = write_text(l, function, text + !l->lacks_end, 1 + length + l->lacks_end);
    if (status) return status;
    psg_ledger_runs_add(&l->runs, line);
    memcpy(l->last.hash, hash, sizeof hash);
    l->last.lines++;
    l->size += (off_t)(1 + length) + l->lacks_end;
    l->durable = l->size;
    l->lacks_end = false;
    return PSG_OK;
}

/* ---- life ---- */

/* O_NONBLOCK: opening a pipe does not wait, and it is refused. */
static psg_status open_file(psg_ledger *l, const char *function) {
    const int how = l->use == PSG_LEDGER_APPEND ? O_RDWR | O_CREAT | O_APPEND : O_RDONLY;
    struct stat file;
    l->descriptor = psg_open(l->path, how | O_NONBLOCK | O_NOCTTY, 0666);
    if (l->descriptor < 0) return fail(l, function, "open");
    if (fstat(l->descriptor, &file)) return fail(l, function, "examine");
    return S_ISREG(file.st_mode) ? PSG_OK : refuse(l, function, PSG_ERR_FILE, "is no regular file");
}

static psg_status take_path(psg_ledger *l, const char *function, const char *path) {
    const size_t bytes = strlen(path) + 1;
    char *copy = psg_alloc(l->context, bytes);
    if (!copy) return psg_fail_memory(l->context, function, bytes);
    psg_free(l->context, l->path);
    l->path = memcpy(copy, path, bytes);
    return PSG_OK;
}

/* The path is made absolute, since the process may change its folder, and without links, since what must be durable is
 * the file's own name. */
static psg_status settle(psg_ledger *l, const char *function, const char *path) {
    char absolute[PATH_MAX];
    if (!realpath(path, absolute)) return fail(l, function, "resolve");
    psg_status status = take_path(l, function, absolute);
    if (status || l->use == PSG_LEDGER_READ || psg_sync_folder(l->path)) return status;
    return fail(l, function, "make durable");
}

static psg_status begin(psg_ledger *l, const char *function, const char *path) {
    l->descriptor = -1;
    memset(l->last.hash, '0', PSG_LINE_HASH_TEXT - 1);
    psg_status status = take_path(l, function, path);
    if (!status) status = open_file(l, function);
    if (!status) status = settle(l, function, path);
    return status ? status : psg_ledger_refresh(l, function);
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

static bool is_named(const psg_ledger *l, const char *path) {
    struct stat opened, named;
    return !fstat(l->descriptor, &opened) && !stat(path, &named) && opened.st_dev == named.st_dev &&
           opened.st_ino == named.st_ino;
}

bool psg_ledger_is_at(const psg_ledger *l, const char *path) {
    char temporary[PATH_MAX];
    psg_writer w = { temporary, sizeof temporary, 0 };
    psg_put(&w, "%s" PSG_TEMPORARY_SUFFIX, path);
    return is_named(l, path) || (w.used < sizeof temporary && is_named(l, temporary));
}

psg_ledger_mark psg_ledger_last(const psg_ledger *l) { return l->last; }

/* ---- a line of the past ---- */

/* Line number `wanted`, which is there: how long it is without its end. */
static psg_status find_line(const psg_ledger *l, const char *function, uint64_t wanted, char text[PSG_LINE_TEXT],
                            size_t *length) {
    psg_status status = PSG_OK;
    off_t at = 0;
    for (uint64_t line = 1; !status && line <= wanted; line++, at += (off_t)*length + 1) {
        const size_t bytes = l->size - at < (off_t)PSG_LINE_TEXT ? (size_t)(l->size - at) : PSG_LINE_TEXT;
        status = read_bytes(l, function, at, text, bytes);
        const char *end = status ? NULL : memchr(text, '\n', bytes);
        *length = end ? (size_t)(end - text) : bytes;
    }
    return status;
}

psg_status psg_ledger_check(psg_ledger *l, const char *function, const psg_ledger_mark *mark) {
    char text[PSG_LINE_TEXT], hash[PSG_LINE_HASH_TEXT] = "none";
    size_t length;
    if (!mark->lines) return PSG_OK;
    if (mark->lines > l->last.lines) {
        return psg_fail_format(l->context, function, l->path, "has %llu lines, must have the %llu that the checkpoint "
                               "knows", (unsigned long long)l->last.lines, (unsigned long long)mark->lines);
    }
    psg_status status = find_line(l, function, mark->lines, text, &length);
    if (status) return status;
    psg_ledger_line_hash(text, length, hash);
    if (!strcmp(hash, mark->hash)) return PSG_OK;
    return psg_fail_format(l->context, function, l->path, "line %llu has hash %s, must be the checkpoint's %s",
                           (unsigned long long)mark->lines, hash, mark->hash);
}
