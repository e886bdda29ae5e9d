#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/context.h"
#include "base/memory.h"

/* ---- system calls ---- */

int psg_open(const char *path, int flags, unsigned mode) {
    int descriptor;
    do descriptor = open(path, flags | O_CLOEXEC, mode);
    while (descriptor < 0 && errno == EINTR);
    return descriptor;
}

bool psg_write_all(int descriptor, const void *bytes, size_t count) {
    const char *next = bytes;
    while (count) {
        ssize_t written = write(descriptor, next, count);
        if (written < 0 && errno == EINTR) continue;
        if (written == 0) errno = EIO;
        if (written <= 0) return false;
        next += written;
        count -= (size_t)written;
    }
    return true;
}

bool psg_read_at(int descriptor, void *bytes, size_t count, int64_t offset) {
    char *next = bytes;
    while (count) {
        ssize_t got = pread(descriptor, next, count, offset);
        if (got < 0 && errno == EINTR) continue;
        if (got == 0) errno = ENODATA;
        if (got <= 0) return false;
        next += got;
        offset += got;
        count -= (size_t)got;
    }
    return true;
}

bool psg_sync(int descriptor) {
    int result;
    do result = fsync(descriptor);
    while (result && errno == EINTR);
    return result == 0;
}

bool psg_truncate(int descriptor, int64_t bytes) {
    int result;
    do result = ftruncate(descriptor, bytes);
    while (result && errno == EINTR);
    return result == 0;
}

/* Linux has closed the descriptor when it says EINTR: a second call could close another thread's. */
bool psg_close(int descriptor) { return close(descriptor) == 0 || errno == EINTR; }

static bool folder_of(const char *path, char folder[PATH_MAX]) {
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (length >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return false;
    }
    memcpy(folder, path, length);
    if (!length) folder[length++] = slash ? '/' : '.';
    folder[length] = 0;
    return true;
}

bool psg_sync_folder(const char *path) {
    char folder[PATH_MAX];
    int descriptor = folder_of(path, folder) ? psg_open(folder, O_RDONLY | O_DIRECTORY, 0) : -1;
    if (descriptor < 0) return false;
    bool synced = psg_sync(descriptor);
    int reason = errno;
    bool closed = psg_close(descriptor);
    if (!synced) errno = reason;
    return synced && closed;
}

/* ---- messages ---- */

/* The end of a path says most, and a message has not room for all of a long one. */
static psg_status fail_path(psg_context *context, psg_status status, const char *function, const char *path,
                            const char *what) {
    const size_t room = 200, length = strlen(path);
    bool cut = length > room;
    const char *end = path + (cut ? length - room : 0);
    return psg_fail(context, status, "%s: %s%s: %s", function, cut ? "..." : "", end, what);
}

/* strerror_r either returns the text (GNU) or writes it and returns 0 (POSIX). */
static const char *returned_text(const char *answer, const char *text) { return answer ? answer : text; }
static const char *written_text(int answer, const char *text) { return answer ? "unknown error" : text; }
#define TEXT_OF(answer) _Generic((answer), char *: returned_text, default: written_text)

psg_status psg_fail_file(psg_context *context, const char *function, const char *path, const char *verb) {
    char text[128], what[192];
    const char *reason = TEXT_OF(strerror_r(0, text, 0))(strerror_r(errno, text, sizeof text), text);
    snprintf(what, sizeof what, "%s: %s", verb, reason);
    return fail_path(context, PSG_ERR_FILE, function, path, what);
}

psg_status psg_fail_format(psg_context *context, const char *function, const char *path, const char *format, ...) {
    char what[PSG_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return fail_path(context, PSG_ERR_FORMAT, function, path, what);
}

/* ---- reading ---- */

static const char *no_regular_file(mode_t mode) {
    return S_ISDIR(mode)    ? "is no regular file but a directory"
           : S_ISFIFO(mode) ? "is no regular file but a FIFO"
           : S_ISCHR(mode)  ? "is no regular file but a device"
                            : "is no regular file";
}

static psg_status size_of_regular(psg_context *context, const char *function, const char *path, int descriptor,
                                  int64_t *bytes) {
    struct stat found;
    if (fstat(descriptor, &found)) return psg_fail_file(context, function, path, "open");
    if (!S_ISREG(found.st_mode)) {
        return fail_path(context, PSG_ERR_FILE, function, path, no_regular_file(found.st_mode));
    }
    *bytes = found.st_size;
    return PSG_OK;
}

/* O_NONBLOCK: opening a pipe without a writer would wait for one. */
psg_status psg_open_regular(psg_context *context, const char *function, const char *path, int *descriptor,
                            int64_t *bytes) {
    *descriptor = psg_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (*descriptor < 0) return psg_fail_file(context, function, path, "open");
    psg_status status = size_of_regular(context, function, path, *descriptor, bytes);
    if (status) {
        psg_close(*descriptor);
        *descriptor = -1;
    }
    return status;
}

/* ---- the temporary file ---- */

static psg_status fail(const psg_file *file, const char *path, const char *verb) {
    return psg_fail_file(file->context, file->function, path, verb);
}

static psg_status refuse(const psg_file *file, const char *path, const char *why) {
    return fail_path(file->context, PSG_ERR_FILE, file->function, path, why);
}

/* Whether the name still stands for what is open, which another writer may have renamed or removed; else ESTALE, ENOENT
 * or what kept us from looking. */
static bool is_named(const psg_file *file) {
    struct stat opened, named;
    if (fstat(file->descriptor, &opened) || lstat(file->temporary, &named)) return false;
    errno = ESTALE;
    return opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

static psg_status open_temporary(psg_file *file, unsigned mode) {
    const int flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    struct stat found;
    file->descriptor = psg_open(file->temporary, flags, mode);
    if (file->descriptor < 0 || fstat(file->descriptor, &found)) return fail(file, file->temporary, "open");
    if (!S_ISREG(found.st_mode)) return refuse(file, file->temporary, "is no regular file");
    if (found.st_nlink > 1) return refuse(file, file->temporary, "is another file's name too");
    if (flock(file->descriptor, LOCK_EX | LOCK_NB) == 0) return PSG_OK;
    if (errno == EWOULDBLOCK) return refuse(file, file->temporary, "another writer has it");
    return fail(file, file->temporary, "lock");
}

/* A lock on a file that has lost its name keeps nobody away. */
static psg_status lock_temporary(psg_file *file, unsigned mode) {
    const int tries = 16;
    for (int k = 0; k < tries; k++) {
        psg_status status = open_temporary(file, mode);
        file->locked = !status && is_named(file);
        if (status || file->locked) return status;
        if (errno != ESTALE && errno != ENOENT) return fail(file, file->temporary, "find again");
        psg_close(file->descriptor);
        file->descriptor = -1;
    }
    return refuse(file, file->temporary, "other writers come and go");
}

static psg_status take_names(psg_file *file, const char *path) {
    size_t length = strlen(path), bytes = 2 * length + sizeof PSG_TEMPORARY_SUFFIX + 1;
    file->path = psg_alloc(file->context, bytes);
    if (!file->path) return psg_fail_memory(file->context, file->function, bytes);
    memcpy(file->path, path, length + 1);
    file->temporary = file->path + length + 1;
    memcpy(file->temporary, path, length);
    memcpy(file->temporary + length, PSG_TEMPORARY_SUFFIX, sizeof PSG_TEMPORARY_SUFFIX);
    return PSG_OK;
}

static psg_status begin(psg_file *file) {
    const unsigned permissions = 0777;
    struct stat old;
    bool there = stat(file->path, &old) == 0;
    if (!there && errno != ENOENT) return fail(file, file->path, "open");
    if (there && !S_ISREG(old.st_mode)) return refuse(file, file->path, "is no regular file");
    if (!*file->path) return refuse(file, file->path, "is no name");
    psg_status status = lock_temporary(file, there ? 0600 : 0666);
    if (status) return status;
    if (there && fchmod(file->descriptor, old.st_mode & permissions)) return fail(file, file->temporary, "set mode");
    return psg_truncate(file->descriptor, 0) ? PSG_OK : fail(file, file->temporary, "truncate");
}

static void end(psg_file *file) {
    psg_free(file->context, file->path);
    *file = (psg_file){ .descriptor = -1 };
}

psg_status psg_file_begin(psg_context *context, const char *function, const char *path, psg_file *file) {
    *file = (psg_file){ .context = context, .function = function, .descriptor = -1 };
    psg_status status = take_names(file, path);
    if (!status) status = begin(file);
    if (status) psg_file_abandon(file);
    return status;
}

psg_status psg_file_write(psg_file *file, const void *bytes, size_t count) {
    if (file->failed) return file->failed;
    if (!psg_write_all(file->descriptor, bytes, count)) file->failed = fail(file, file->temporary, "write");
    return file->failed;
}

/* Pages whose write-back failed may count as clean afterwards: a second fsync would say nothing of them, so that a
 * failure is final (Rebello et al., Can Applications Recover from fsync Failures?, USENIX ATC 2020). */
static psg_status replace(psg_file *file) {
    if (file->failed) return file->failed;
    if (!psg_sync(file->descriptor)) return fail(file, file->temporary, "make durable");
    if (!is_named(file)) return fail(file, file->temporary, "find again");
    return rename(file->temporary, file->path) ? fail(file, file->path, "replace") : PSG_OK;
}

psg_status psg_file_commit(psg_file *file) {
    psg_status status = replace(file);
    if (status) {
        psg_file_abandon(file);
        return status;
    }
    if (!psg_close(file->descriptor)) status = fail(file, file->path, "close the new file");
    if (!psg_sync_folder(file->path) && !status) status = fail(file, file->path, "make the new name durable");
    end(file);
    return status;
}

/* The name goes while the lock is held: afterwards it may be another writer's. */
void psg_file_abandon(psg_file *file) {
    if (!file->context) return;
    if (file->locked && is_named(file)) unlink(file->temporary);
    if (file->descriptor >= 0) psg_close(file->descriptor);
    end(file);
}
