#include "crash_plan.h"

#include <stdarg.h>
#include <stdio.h>

crash_inode *crash_inode_of(crash_plan *plan, ino_t inode) {
    for (size_t k = 0; k < CRASH_INODES; k++) {
        if (plan->inodes[k].inode == inode) return &plan->inodes[k];
    }
    return NULL;
}

/* The first one stays. */
void crash_violation(crash_plan *plan, const char *format, ...) {
    va_list arguments;
    if (plan->violation[0]) return;
    va_start(arguments, format);
    vsnprintf(plan->violation, sizeof plan->violation, format, arguments);
    va_end(arguments);
}

void crash_arm(crash_plan *plan, crash_action action, crash_call call, uint64_t at, uint64_t times, int error) {
    plan->action = action;
    plan->call = call;
    plan->moment = CRASH_BEFORE;
    plan->error = error;
    plan->at = at;
    plan->times = times;
    plan->no_truncate = false;
    plan->calls = plan->injected = plan->failures = 0;
    plan->status = 0;
    plan->message[0] = 0;
}
