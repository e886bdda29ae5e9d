/* What is tried.  Each returns how many kills or faults it made; violations are the watch's. */
#ifndef CRASH_TRIALS_H
#define CRASH_TRIALS_H

#include "watch.h"

/* Runs killed at random moments and inside their calls until they end. */
uint64_t crash_kills(crash_watch *watch, uint64_t kills, uint64_t seed);
/* Every call of a run failing in every way; stride: every so manieth call alone, from a first one below it. */
uint64_t crash_faults(crash_watch *watch, uint64_t stride, uint64_t seed);
/* Two processes on one ledger; a ledger that is not what it was. */
uint64_t crash_shared(crash_watch *watch);

#endif
