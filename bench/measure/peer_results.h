/* What bench/measure/peers.py --json wrote: times of other systems beside libpsg's. */
#ifndef BENCH_PEER_RESULTS_H
#define BENCH_PEER_RESULTS_H

#include <stddef.h>

/* Of peers.py; its plain and plain+noise, of which no case has both, are one. */
enum { PEER_PLAIN = 0, PEER_EW, PEER_FUNC, PEER_HOOKS, PEER_GHOST, PEER_JAX, PEER_LOOP, PEERS };
extern const char *const peer_names[PEERS];

typedef struct peer_case {
    char name[80];
    double libpsg_ms, ms[PEERS];    /* medians, of the malloc mode that was fastest; NAN: none, or it disagreed */
} peer_case;

typedef struct peer_results {
    peer_case *list;
    size_t count;
    char cpu[128];
} peer_results;

/* -1 after a message; peer_results_free takes it either way. */
int peer_results_read(const char *path, peer_results *results);
void peer_results_free(peer_results *results);

#endif
