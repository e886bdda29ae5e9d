/* A mark in memory that a fork takes away from the child. */
#ifndef PSG_BASE_FORK_MARK_H
#define PSG_BASE_FORK_MARK_H

#include <stdbool.h>

typedef struct psg_fork_mark psg_fork_mark;

/* NULL where the system has no such memory; the process id alone must do there.  It does not see every fork: a child
 * that is the first process of a namespace has id 1 in it, as its parent may have in its own. */
psg_fork_mark *psg_fork_mark_create(void);
void psg_fork_mark_destroy(psg_fork_mark *mark);   /* NULL is none */
/* Whether the process has forked between the mark and here; of NULL: no. */
bool psg_fork_mark_is_gone(const psg_fork_mark *mark);

#endif
