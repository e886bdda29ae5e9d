/* Records to be private about, the worst ones among them, and a small network that learns from them. */
#ifndef PSG_AUDIT_RECORD_DATA_H
#define PSG_AUDIT_RECORD_DATA_H

#include "attack/attack_random.h"
#include "audit.h"

enum { RECORD_POSITIONS = 3, RECORD_FEATURES = 4, RECORD_HIDDEN = 6, RECORD_CLASSES = 3, RECORD_PARAMS = 4,
       RECORD_VALUES = RECORD_POSITIONS * RECORD_FEATURES, MOST_RECORDS = 66,
       RECORD_ELEMENTS = RECORD_HIDDEN * (RECORD_FEATURES + 1) + RECORD_CLASSES * (RECORD_HIDDEN + 1) };

/* What a record may hold to break the rest. */
typedef enum record_kind {
    RECORD_NORMAL, RECORD_ZERO, RECORD_HUGE, RECORD_TINY, RECORD_NAN, RECORD_INFINITY, RECORD_MINUS_INFINITY,
    RECORD_ONE_HOT, RECORD_CANCELLING, RECORD_BAD_LABEL, RECORD_KINDS
} record_kind;

extern const char *const record_kind_names[RECORD_KINDS];

typedef struct records {
    int64_t count;
    double value[MOST_RECORDS][RECORD_VALUES];
    int64_t label[MOST_RECORDS];
} records;

/* Record `at` of that kind, the others mostly normal. */
void records_draw(attack_random *random, int64_t count, int64_t at, record_kind kind, records *r);

/* linear over positions, relu, dropout, mean over positions, linear, cross entropy. */
typedef struct network {
    psg_context *context;
    psg_tape *tape;
    psg_dtype dtype;
    double memory[RECORD_PARAMS][RECORD_ELEMENTS];
    psg_param *param[RECORD_PARAMS];
} network;

extern const int64_t network_counts[RECORD_PARAMS];

void network_open(psg_context *context, psg_dtype dtype, network *net);
void network_close(network *net);
/* A pass over the records of a batch, and its gradients, which live until the next one. */
psg_status network_pass(network *net, const records *r, const psg_batch *batch, psg_gradient gradients[RECORD_PARAMS]);

#endif
