/* Victims as processes. */
#ifndef CRASH_PROCESS_H
#define CRASH_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

#include "crash_run.h"
#include "crash_plan.h"

/* How a victim ends. */
typedef enum crash_end { CRASH_COMPLETED = 0, CRASH_GAVE_UP = 3, CRASH_WAS_KILLED = 100, CRASH_ELSE = 101 } crash_end;

typedef struct crash_victim {
    char folder[CRASH_PATH], ledger[CRASH_PATH];   /* ledger "": in the folder */
    int mode;
    uint64_t incarnation, steps, save_every;
    uint64_t pause;                /* it stops before it releases this step; 0: never */
} crash_victim;

/* From the one argument of the program; 0, or -1 where it is none. */
int crash_victim_read(const char *text, crash_victim *victim);

/* A plan that victims inherit; NULL where the system refuses.  There is one a driver. */
crash_plan *crash_make_plan(void);
/* Where the victim and the library of calls are. */
void crash_set_programs(const char *folder);
/* Runs a victim; is_planned: with the plan's calls. */
pid_t crash_start(const crash_victim *victim, int is_planned);
crash_end crash_wait(pid_t process);
/* Until it has stopped itself: 0; -1 where it has ended. */
int crash_wait_stopped(pid_t process);
/* Kills it after so many seconds, if it has not ended. */
crash_end crash_kill_after(pid_t process, double seconds);
double crash_now(void);

#endif
