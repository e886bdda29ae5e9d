/* One program, compiled against two sets of headers. */
#ifndef TEST_GROWTH_PROGRAM_H
#define TEST_GROWTH_PROGRAM_H

#include "psg/base.h"

typedef struct growth_answers {
    double value[64];
    int count;
    char message[256];
} growth_answers;

/* Trains with a ledger each, saving to path: files that are not there yet. */
psg_status growth_today(const char *const ledgers[2], const char *path, growth_answers *answers);
psg_status growth_older(const char *const ledgers[2], const char *path, growth_answers *answers);

#endif
