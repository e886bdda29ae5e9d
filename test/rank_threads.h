/* Ranks of one psg_dp as threads of one process: a channel for psg_dp_ranks, and threads that use it. */
#ifndef PSG_TEST_RANK_THREADS_H
#define PSG_TEST_RANK_THREADS_H

#include <pthread.h>

#include "psg/dp.h"

enum { MOST_RANKS = 4 };

typedef enum channel_call { NO_CALL, BROADCAST, LARGEST, REDUCE_SCATTER, GATHER } channel_call;

/* What all share.  Barriers stand in for messages. */
typedef struct channel {
    int ranks;
    pthread_barrier_t barrier;
    void *data[MOST_RANKS];
    int64_t value[MOST_RANKS];
    channel_call failing;          /* returns PSG_ERR_SYSTEM on rank failing_rank, once, after so many that did not */
    int failing_rank, failing_after;
} channel;

typedef struct rank {
    channel *channel;
    int number;
    void *user;                    /* the test's */
} rank;

/* Runs `body` on as many threads as ranks, with users[r] of `size` bytes each. */
void rank_threads(int ranks, channel_call failing, int failing_rank, int failing_after, void (*body)(rank *),
                  void *users, size_t size);

psg_dp_ranks rank_functions(rank *r);

#endif
