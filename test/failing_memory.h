/* failing_memory.h: a call without memory, at every allocation that it makes. */
#ifndef PSG_TEST_FAILING_MEMORY_H
#define PSG_TEST_FAILING_MEMORY_H

#include "support.h"

typedef psg_status (*memory_call)(void *user);

/* Calls with the n-th allocation failing, n = 1, 2, ..., once and for ever, until a call makes fewer than n: each of
 * the others must end in PSG_ERR_MEMORY and leave as many blocks as before, the last one must succeed.  A call that
 * fails has a text of its own, one that succeeds leaves the text there is.  Returns how many allocations it made. */
uint64_t test_without_memory(test_allocator *allocator, psg_context *context, memory_call call, void *user);

#endif
