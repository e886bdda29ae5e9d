/* Calls in a host's floating-point environment: rounding mode, denormals as zero, traps. */
#ifndef PSG_TEST_HOST_FLOATS_H
#define PSG_TEST_HOST_FLOATS_H

#include "support.h"

/* A call of the library's in the environment under test; what the test itself computes is in the default one.  Fails
 * the test where the call changes the environment. */
#define HOST(call) (host_enter(), host_leave(call))
#define HOST_OK(call) test_status(host_asked, HOST(call), PSG_OK, #call)

extern psg_context *host_asked;   /* whose messages these are */
void host_enter(void);
psg_status host_leave(psg_status status);

/* Adds bits to the results that are compared. */
void host_see(const void *memory, size_t bytes);
void host_see_double(double x);

typedef struct host_calls {
    const char *name;
    void (*made)(psg_context *context);
    bool on_threads;              /* the number of threads may matter */
} host_calls;

enum { HOST_MOST_CALLS = 16 };

/* The calls see the same bits in all environments on 1, 2 and 5 threads, of contexts that are made in them; and where
 * the host's own threads run the tasks. */
void host_same_bits_in_every_environment(const host_calls *calls, size_t count);
void host_same_bits_in_its_own_loop(const host_calls *calls, size_t count);

#endif
