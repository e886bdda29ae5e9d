/* The page of psg-bench: rooflines, bars against naive loops and limits, and other systems where they were timed. */
#ifndef BENCH_BENCH_PAGE_H
#define BENCH_BENCH_PAGE_H

#include "measured.h"
#include "peer_results.h"

/* peers: NULL for none.  -1 after a message. */
int bench_page_write(const measured *m, const peer_results *peers, const char *path);

#endif
