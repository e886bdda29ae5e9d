/* Whose process an object is: a mark in memory that a fork takes away from the child. */
#ifndef PSG_BASE_FORK_MARK_H
#define PSG_BASE_FORK_MARK_H

#include <stdbool.h>
#include <sys/types.h>

typedef struct psg_fork_mark {
    pid_t pid;                       /* that set it; alone does not see every fork: a child that is the first process of
                                        a namespace has id 1 in it, as its parent may have in its own */
    volatile unsigned char *page;    /* not 0 in that process; NULL where the system has no such memory */
} psg_fork_mark;

/* This process's from now on; a mark that was set in a parent may be set again. */
void psg_fork_mark_set(psg_fork_mark *mark);
void psg_fork_mark_remove(psg_fork_mark *mark);
/* Whether the process has forked between psg_fork_mark_set and here. */
bool psg_has_forked(const psg_fork_mark *mark);

#endif
