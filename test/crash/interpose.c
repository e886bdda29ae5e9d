/* System calls that fail as planned: a library for LD_PRELOAD, or linked into a test.
 *
 * The model of a disk: what is written stands in memory, which a killed process does not take along but a power cut
 * does; fsync makes it durable.  So fsync itself has nothing to do here.  After an fsync that failed the pages may
 * count as clean, and a second one says nothing of them (Rebello et al., USENIX ATC 2020): they are lost until they are
 * cut off.
 *
 * The order of calls is checked on the way: nothing is published before the ledger is durable, no file gets another's
 * name before it is durable. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "crash_plan.h"

static crash_plan *plan;   /* or NULL: nothing is planned */

#define DESCRIPTORS 256

typedef enum kind { NOT_OURS, OF_THE_LIBRARY, LEDGER, PUBLISHED, FOLDER } kind;

static kind kind_of[DESCRIPTORS];
static crash_inode *inode_of[DESCRIPTORS];
static crash_inode *ledger;
static bool name_is_dirty;   /* that of the ledger, or one that was given by rename, is not durable */

void crash_use_plan(crash_plan *wanted) {
    plan = wanted;
    ledger = NULL;
    name_is_dirty = false;
    memset(kind_of, 0, sizeof kind_of);
}

__attribute__((constructor)) static void find_plan(void) {
    const char *text = getenv(CRASH_PLAN_VARIABLE);
    if (!text) return;
    void *memory = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(text), 0);
    if (memory == MAP_FAILED) abort();
    crash_use_plan(memory);
}

/* ---- what is seen ---- */

static kind kind_of_path(const char *path) {
    size_t length = plan ? strlen(plan->folder) : 0;
    if (!length || strncmp(path, plan->folder, length)) return NOT_OURS;
    const char *name = path + length;
    if (!*name || !strcmp(name, "/")) return FOLDER;
    if (*name != '/') return NOT_OURS;
    return !strcmp(name, "/published") ? PUBLISHED : !strcmp(name, "/ledger.jsonl") ? LEDGER : OF_THE_LIBRARY;
}

static kind kind_at(int descriptor) {
    return plan && descriptor >= 0 && descriptor < DESCRIPTORS ? kind_of[descriptor] : NOT_OURS;
}

static void check_publication(void) {
    if (ledger && (ledger->is_dirty || ledger->is_lost)) {
        crash_violation(plan, "published before the ledger was durable");
    }
    if (name_is_dirty) crash_violation(plan, "published before the names in the folder were durable");
}

/* ---- what happens ---- */

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

/* Counts the call; whether it is among the planned ones.  A published record is the victim's own: it does not fail. */
static bool is_planned(crash_call call, kind of) {
    if (plan->action == CRASH_NOTHING || (plan->call != CRASH_ANY && plan->call != call)) return false;
    if (of == PUBLISHED && plan->action != CRASH_KILL) return false;
    plan->calls++;
    return plan->calls >= plan->at && plan->calls - plan->at < plan->times;
}

static bool fail(crash_call call, kind of, bool *is_now) {
    const crash_action action = plan->action;
    *is_now = is_planned(call, of);
    bool cut_fails = call == CRASH_TRUNCATE && plan->no_truncate && plan->injected;
    bool fails = *is_now && (action == CRASH_FAIL || (action == CRASH_SHORT_FAIL && plan->calls > plan->at));
    if (*is_now && action != CRASH_KILL) plan->injected++;
    if (*is_now && action == CRASH_KILL && plan->moment != CRASH_AFTER && call != CRASH_WRITE) die();
    if (fails || cut_fails) errno = plan->error;
    return fails || cut_fails;
}

static void after(bool is_now) {
    if (is_now && plan->action == CRASH_KILL) die();
}

/* Bytes that a write takes. */
static size_t some(size_t count, bool is_now) {
    if (!is_now || plan->action == CRASH_FAIL) return count;
    if (plan->action == CRASH_KILL && plan->moment == CRASH_BEFORE) die();
    return plan->action == CRASH_KILL && plan->moment == CRASH_AFTER ? count : (count + 1) / 2;
}

static ssize_t write_at(int descriptor, const void *bytes, size_t count, const off_t *offset) {
    kind of = kind_at(descriptor);
    bool is_now = false;
    if (of == PUBLISHED) check_publication();
    if (of && fail(CRASH_WRITE, of, &is_now)) return -1;
    if (of) inode_of[descriptor]->is_dirty = true;
    if (of) count = some(count, is_now);
    ssize_t written = offset ? syscall(SYS_pwrite64, descriptor, bytes, count, *offset)
                             : syscall(SYS_write, descriptor, bytes, count);
    after(is_now);
    return written;
}

static void make_durable(int descriptor, bool failed) {
    struct stat file;
    crash_inode *inode = inode_of[descriptor];
    if (kind_of[descriptor] == FOLDER) {
        if (!failed) name_is_dirty = false;
        return;
    }
    if (failed) inode->is_lost |= inode->is_dirty;
    if (failed || inode->is_lost || fstat(descriptor, &file)) return;
    inode->durable = file.st_size;
    inode->is_dirty = false;
}

static int sync_file(int descriptor) {
    kind of = kind_at(descriptor);
    bool is_now = false;
    if (!of) return (int)syscall(SYS_fsync, descriptor);
    bool failed = fail(CRASH_FSYNC, of, &is_now);
    make_durable(descriptor, failed && errno != EINTR);
    if (failed) return -1;
    after(is_now);
    return 0;
}

static void see(int descriptor, kind of, bool is_new) {
    struct stat file;
    if (descriptor < 0 || descriptor >= DESCRIPTORS || fstat(descriptor, &file)) return;
    crash_inode *inode = crash_inode_of(plan, file.st_ino);
    if (!inode) {
        inode = crash_inode_of(plan, 0);
        is_new = true;
    }
    if (!inode) abort();
    if (is_new) *inode = (crash_inode){ .inode = file.st_ino };
    /* A process that finds what another's fsync failed to write makes these pages dirty anew with its next line. */
    inode->is_dirty |= inode->is_lost;
    inode->is_lost = false;
    kind_of[descriptor] = of;
    inode_of[descriptor] = inode;
    if (of == LEDGER) ledger = inode;
}

static int open_file(const char *path, int flags, mode_t mode) {
    kind of = kind_of_path(path);
    bool is_now = false, is_new = of && (flags & O_CREAT) && syscall(SYS_faccessat, AT_FDCWD, path, F_OK);
    if (of && fail(CRASH_OPEN, of, &is_now)) return -1;
    int descriptor = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (of) see(descriptor, of, is_new);
    if (is_new && of == LEDGER) name_is_dirty = true;
    after(is_now);
    return descriptor;
}

/* ---- the calls ---- */

ssize_t write(int descriptor, const void *bytes, size_t count) { return write_at(descriptor, bytes, count, NULL); }

ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t offset) {
    return write_at(descriptor, bytes, count, &offset);
}

int fsync(int descriptor) { return sync_file(descriptor); }
int fdatasync(int descriptor) { return sync_file(descriptor); }

int open(const char *path, int flags, ...) {
    mode_t mode = 0;
    va_list arguments;
    va_start(arguments, flags);
    if (flags & O_CREAT) mode = va_arg(arguments, mode_t);
    va_end(arguments);
    return open_file(path, flags, mode);
}

/* The descriptor is gone whatever it says, as on Linux. */
int close(int descriptor) {
    kind of = kind_at(descriptor);
    bool is_now = false, failed = of && fail(CRASH_CLOSE, of, &is_now);
    int error = errno;
    if (of) kind_of[descriptor] = NOT_OURS;
    int result = (int)syscall(SYS_close, descriptor);
    after(is_now);
    if (!failed) return result;
    errno = error;
    return -1;
}

int ftruncate(int descriptor, off_t length) {
    kind of = kind_at(descriptor);
    bool is_now = false;
    if (of && fail(CRASH_TRUNCATE, of, &is_now)) return -1;
    int result = (int)syscall(SYS_ftruncate, descriptor, length);
    crash_inode *inode = of ? inode_of[descriptor] : NULL;
    if (inode && !result && length <= inode->durable) {
        inode->durable = length;
        inode->is_dirty = inode->is_lost = false;
    }
    after(is_now);
    return result;
}

int rename(const char *from, const char *to) {
    kind of = kind_of_path(from);
    bool is_now = false;
    struct stat file;
    if (of && stat(from, &file) == 0) {
        const crash_inode *inode = crash_inode_of(plan, file.st_ino);
        const bool is_durable = inode && !inode->is_dirty && !inode->is_lost;
        if (!is_durable) crash_violation(plan, "%s renamed before it was durable", from);
    }
    if (of && fail(CRASH_RENAME, of, &is_now)) return -1;
    int result = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (of && !result) {
        name_is_dirty = true;
        plan->renames++;
    }
    after(is_now);
    return result;
}
