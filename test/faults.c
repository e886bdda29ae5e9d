#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
    fault_plan plan;
    int calls[FAULT_CALLS], struck, renames;
} now;

void fault_arm(const fault_plan *plan) {
    static const fault_plan none;
    now.plan = plan ? *plan : none;
    for (int call = 0; call < FAULT_CALLS; call++) now.calls[call] = 0;
    now.struck = now.renames = 0;
}

int fault_disarm(void) {
    now.plan = (fault_plan){ 0 };
    return now.struck;
}

int fault_count(fault_call call) { return now.calls[call]; }
int fault_renames(void) { return now.renames; }

const char *fault_name(fault_call call) {
    static const char *const names[FAULT_CALLS] = {
        "none",  "open",  "stat",  "fstat",  "lstat", "flock",  "fchmod", "ftruncate",
        "write", "pread", "fsync", "rename", "close", "unlink", "mmap",
    };
    return names[call];
}

static bool fails(fault_call call) {
    const fault_plan *plan = &now.plan;
    int number = ++now.calls[call];
    if (plan->call != call || number < plan->at || (number > plan->at && !plan->forever)) return false;
    now.struck++;
    if (plan->before) plan->before(plan->user);
    if (!plan->error) return false;
    errno = plan->error;
    return true;
}

static size_t piece_of(size_t count) { return now.plan.piece && now.plan.piece < count ? now.plan.piece : count; }

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return fails(FAULT_OPEN) ? -1 : __real_open(path, flags, mode);
}

int __real_stat(const char *path, struct stat *found);
int __wrap_stat(const char *path, struct stat *found) { return fails(FAULT_STAT) ? -1 : __real_stat(path, found); }

int __real_fstat(int descriptor, struct stat *found);
int __wrap_fstat(int descriptor, struct stat *found) {
    return fails(FAULT_FSTAT) ? -1 : __real_fstat(descriptor, found);
}

int __real_lstat(const char *path, struct stat *found);
int __wrap_lstat(const char *path, struct stat *found) { return fails(FAULT_LSTAT) ? -1 : __real_lstat(path, found); }

int __real_flock(int descriptor, int operation);
int __wrap_flock(int descriptor, int operation) {
    return fails(FAULT_FLOCK) ? -1 : __real_flock(descriptor, operation);
}

int __real_fchmod(int descriptor, mode_t mode);
int __wrap_fchmod(int descriptor, mode_t mode) { return fails(FAULT_FCHMOD) ? -1 : __real_fchmod(descriptor, mode); }

int __real_ftruncate(int descriptor, off_t length);
int __wrap_ftruncate(int descriptor, off_t length) {
    return fails(FAULT_FTRUNCATE) ? -1 : __real_ftruncate(descriptor, length);
}

ssize_t __real_write(int descriptor, const void *bytes, size_t count);
ssize_t __wrap_write(int descriptor, const void *bytes, size_t count) {
    return fails(FAULT_WRITE) ? -1 : __real_write(descriptor, bytes, piece_of(count));
}

ssize_t __real_pread(int descriptor, void *bytes, size_t count, off_t offset);
ssize_t __wrap_pread(int descriptor, void *bytes, size_t count, off_t offset) {
    return fails(FAULT_PREAD) ? -1 : __real_pread(descriptor, bytes, piece_of(count), offset);
}

int __real_fsync(int descriptor);
int __wrap_fsync(int descriptor) { return fails(FAULT_FSYNC) ? -1 : __real_fsync(descriptor); }

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to) {
    if (fails(FAULT_RENAME)) return -1;
    now.renames++;
    return __real_rename(from, to);
}

int __real_close(int descriptor);
int __wrap_close(int descriptor) {
    __real_close(descriptor);
    return fails(FAULT_CLOSE) ? -1 : 0;
}

int __real_unlink(const char *path);
int __wrap_unlink(const char *path) { return fails(FAULT_UNLINK) ? -1 : __real_unlink(path); }

void *__real_mmap(void *address, size_t bytes, int protection, int flags, int descriptor, off_t offset);
void *__wrap_mmap(void *address, size_t bytes, int protection, int flags, int descriptor, off_t offset) {
    return fails(FAULT_MMAP) ? MAP_FAILED : __real_mmap(address, bytes, protection, flags, descriptor, offset);
}
