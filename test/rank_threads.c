#include "rank_threads.h"

#include <string.h>

static void meet(const rank *r) { pthread_barrier_wait(&r->channel->barrier); }

static psg_status status_of(const rank *r, channel_call call) {
    if (r->channel->failing_rank != r->number || r->channel->failing != call) return PSG_OK;   /* its alone to read */
    if (r->channel->failing_after-- > 0) return PSG_OK;
    r->channel->failing = NO_CALL;
    return PSG_ERR_SYSTEM;
}

static psg_status broadcast(void *user, void *data, size_t bytes) {
    rank *r = user;
    if (r->number == 0) r->channel->data[0] = data;
    meet(r);
    if (r->number) memcpy(data, r->channel->data[0], bytes);
    meet(r);
    return status_of(r, BROADCAST);
}

static psg_status largest(void *user, int64_t *value) {
    rank *r = user;
    r->channel->value[r->number] = *value;
    meet(r);
    for (int k = 0; k < r->channel->ranks; k++) if (r->channel->value[k] > *value) *value = r->channel->value[k];
    meet(r);
    return status_of(r, LARGEST);
}

/* Blocks that are others' end as rubbish, which they may. */
static psg_status reduce_scatter(void *user, int64_t *sums, size_t block) {
    rank *r = user;
    const size_t first = (size_t)r->number * block;
    r->channel->data[r->number] = sums;
    meet(r);
    for (int k = 0; k < r->channel->ranks; k++) {
        const int64_t *others = r->channel->data[k];
        for (size_t i = first; k != r->number && i < first + block; i++) sums[i] += others[i];
    }
    meet(r);
    for (size_t i = 0; i < block * (size_t)r->channel->ranks; i++) if (i < first || i >= first + block) sums[i] = -77;
    return status_of(r, REDUCE_SCATTER);
}

static psg_status gather(void *user, void *blocks, size_t bytes) {
    rank *r = user;
    r->channel->data[r->number] = blocks;
    meet(r);
    for (int k = 0; k < r->channel->ranks; k++) {
        const size_t at = (size_t)k * bytes;
        if (k != r->number) memcpy((char *)blocks + at, (const char *)r->channel->data[k] + at, bytes);
    }
    meet(r);
    return status_of(r, GATHER);
}

psg_dp_ranks rank_functions(rank *r) {
    psg_dp_ranks ranks = PSG_DP_RANKS_INIT;
    ranks.rank = r->number;
    ranks.ranks = r->channel->ranks;
    ranks.user = r;
    ranks.broadcast = broadcast;
    ranks.largest = largest;
    ranks.reduce_scatter = reduce_scatter;
    ranks.gather = gather;
    return ranks;
}

typedef struct start { void (*body)(rank *); rank rank; } start;

static void *run(void *argument) {
    start *s = argument;
    s->body(&s->rank);
    return NULL;
}

void rank_threads(int ranks, channel_call failing, int failing_rank, int failing_after, void (*body)(rank *),
                  void *users, size_t size) {
    channel c = { .ranks = ranks, .failing = failing, .failing_rank = failing_rank, .failing_after = failing_after };
    start starts[MOST_RANKS];
    pthread_t thread[MOST_RANKS];
    pthread_barrier_init(&c.barrier, NULL, (unsigned)ranks);
    for (int k = 0; k < ranks; k++) {
        starts[k] = (start){ body, { &c, k, (char *)users + (size_t)k * size } };
        pthread_create(&thread[k], NULL, run, &starts[k]);
    }
    for (int k = 0; k < ranks; k++) pthread_join(thread[k], NULL);
    pthread_barrier_destroy(&c.barrier);
}
