/* What must hold of a run's folder, whatever happened to its processes. */
#ifndef CRASH_WATCH_H
#define CRASH_WATCH_H

#include "process.h"
#include "published.h"

/* What an uninterrupted run of a mode gives. */
typedef struct crash_reference {
    double seconds;                /* of its process */
    uint64_t calls;                /* that the plan may choose from */
    uint64_t releases;             /* in its ledger, at least */
    uint64_t final;                /* hash of the final file */
} crash_reference;

typedef struct crash_watch {
    crash_plan *plan;
    psg_context *context;
    char title[128];               /* what is being tried, for messages */
    crash_victim victim;
    crash_run paths;               /* paths alone */
    const crash_reference *reference;   /* or NULL: not compared */

    size_t lines_before;           /* of the ledger, when this process began */
    char run_before[33];           /* that the checkpoint names; "": none */
    size_t seen;                   /* published records that were checked */
    uint64_t releases, step;       /* that the ledger and the checkpoint had, and must have from now on */
    double epsilon;
    uint64_t violations;           /* of all runs */
} crash_watch;

/* A run of its own in an empty folder. */
void crash_watch_begin(crash_watch *watch, int mode, uint64_t steps, uint64_t save_every);
/* The next process of it, with the plan's calls. */
pid_t crash_watch_start(crash_watch *watch);
void crash_remove_folder(crash_watch *watch);
/* What a power cut leaves: the bytes that are durable. */
void crash_cut_power(crash_watch *watch);
/* Once its process has ended. */
void crash_watch_check(crash_watch *watch, crash_end end);
void crash_violate(crash_watch *watch, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
