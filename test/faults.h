/* System calls that fail: linked with --wrap for them, so that what the program itself calls goes through here.  Calls
 * inside shared libraries, stdio's for one, do not. */
#ifndef PSG_TEST_FAULTS_H
#define PSG_TEST_FAULTS_H

#include <stdbool.h>
#include <stddef.h>

typedef enum fault_call {
    FAULT_NONE, FAULT_OPEN, FAULT_STAT, FAULT_FSTAT, FAULT_LSTAT, FAULT_FLOCK, FAULT_FCHMOD, FAULT_FTRUNCATE,
    FAULT_WRITE, FAULT_PREAD, FAULT_FSYNC, FAULT_RENAME, FAULT_CLOSE, FAULT_UNLINK, FAULT_MMAP, FAULT_CALLS
} fault_call;

typedef struct fault_plan {
    fault_call call;         /* that fails, FAULT_NONE: no call */
    int at;                  /* the call of that kind, from 1 */
    bool forever;            /* all later ones of that kind too */
    int error;               /* errno; a close that fails has closed, as on Linux */
    size_t piece;            /* of a write or pread at most so many bytes; 0: all */
    void (*before)(void *user);    /* called before the chosen call, which then does not fail unless error is set */
    void *user;
} fault_plan;

/* Counts from here. */
void fault_arm(const fault_plan *plan);
/* Ends the plan; how often it struck. */
int fault_disarm(void);
/* Calls of that kind since fault_arm. */
int fault_count(fault_call call);
/* Renames that were done since fault_arm. */
int fault_renames(void);
const char *fault_name(fault_call call);

#endif
