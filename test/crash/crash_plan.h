/* What shall happen to a victim's system calls, and what was seen of them.  The driver makes it in a memory file that
 * the victim inherits, so that it outlives a victim that is killed and goes on over its restarts. */
#ifndef CRASH_PLAN_H
#define CRASH_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The number of the descriptor, in the environment. */
#define CRASH_PLAN_VARIABLE "CRASH_PLAN"

/* pwrite counts as write, fdatasync as fsync. */
typedef enum crash_call {
    CRASH_WRITE, CRASH_FSYNC, CRASH_RENAME, CRASH_CLOSE, CRASH_TRUNCATE, CRASH_OPEN, CRASH_ANY
} crash_call;

typedef enum crash_action {
    CRASH_NOTHING,
    CRASH_FAIL,                    /* the call does nothing and fails with `error` */
    CRASH_SHORT,                   /* a write takes half of the bytes */
    CRASH_SHORT_FAIL,              /* the same, and the writes after it fail */
    CRASH_KILL                     /* the process kills itself before, halfway through or after the call */
} crash_action;

typedef enum crash_moment { CRASH_BEFORE, CRASH_HALFWAY, CRASH_AFTER } crash_moment;

#define CRASH_ALWAYS UINT64_MAX

/* A file of the run, by inode. */
typedef struct crash_inode {
    ino_t inode;
    int64_t durable;               /* bytes that a power cut leaves */
    bool is_dirty;                 /* written to, and no fsync since */
    bool is_lost;                  /* an fsync failed: what it was to write is not durable whatever a second one says */
} crash_inode;

#define CRASH_INODES 1024
#define CRASH_TEXT 512

typedef struct crash_plan {
    char folder[CRASH_TEXT];       /* calls on what is in it are seen */
    crash_action action;
    crash_call call;
    crash_moment moment;
    int error;
    uint64_t at, times;            /* the at-th of these calls, from 1, and how many from there on */
    bool no_truncate;              /* from then on every ftruncate fails too */

    uint64_t calls;                /* of the planned kind, of this process */
    uint64_t injected;             /* of them that were made to fail */
    uint64_t renames;              /* that were made */
    crash_inode inodes[CRASH_INODES];
    char violation[CRASH_TEXT];    /* "": none */

    int status;                    /* of the last library call that failed; 0: none did */
    uint64_t failures;             /* of library calls, of this process */
    char message[CRASH_TEXT];
} crash_plan;

/* NULL where there is none. */
crash_inode *crash_inode_of(crash_plan *plan, ino_t inode);
/* The plan of this process: found in the environment, or set by a test that has the calls linked in. */
void crash_use_plan(crash_plan *plan);
void crash_violation(crash_plan *plan, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Calls that are counted and made to fail begin anew. */
void crash_arm(crash_plan *plan, crash_action action, crash_call call, uint64_t at, uint64_t times, int error);

#endif
