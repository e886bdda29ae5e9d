/* One of two neighbours on its way through a mechanism of its own. */
#ifndef PSG_AUDIT_RECORD_SIDE_H
#define PSG_AUDIT_RECORD_SIDE_H

#include "record_data.h"

/* Both have the same key, records and options; the target adds nothing on one of them. */
typedef struct pair {
    uint64_t key;
    psg_dp_options options;
    int groups[RECORD_PARAMS];      /* options point here */
    double group_norms[RECORD_PARAMS];
    records data;
    int64_t target;
    record_kind kind;
    const char *route;
    int64_t micro_batch[2];         /* of each side: records a pass */
    uint64_t steps;
} pair;

enum { SIDE_TEXT = 8192 };

typedef struct side {
    const pair *pair;
    network *net;
    bool with;                      /* the target is there */
    psg_generator *generator;
    psg_dp *dp;
    /* Of the step: */
    psg_status status;              /* the first that is not PSG_OK */
    psg_batch batch;
    int64_t ids[MOST_RECORDS];
    double max_grad_norm;
    int64_t sums[RECORD_ELEMENTS + 1];
    size_t sum_count;
    double out[RECORD_ELEMENTS];
    char text[2][SIDE_TEXT];        /* the statement after it, in both formats */
} side;

void side_open(side *s, const pair *pair, network *net, bool with);
void side_close(side *s);
/* A whole step: the batch of the mechanism, micro-batches, release. */
void side_step(side *s);
bool side_has_target(const side *s);

#endif
