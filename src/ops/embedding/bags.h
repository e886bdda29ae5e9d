/* The bags of embedding_bag: which ids are in each. */
#ifndef PSG_OPS_BAGS_H
#define PSG_OPS_BAGS_H

#include "ops/embedding/lookup.h"

enum { PSG_BAG_OFFSETS = PSG_LOOKUP_TABLE + 1, PSG_BAG_WEIGHTS, PSG_BAG_INPUTS };

/* What forward leaves for backward. */
typedef struct psg_bags {
    psg_tensor ids;          /* (N, T); -1: no row */
    const int64_t *start;    /* ragged: N + 1 places in the flat ids; NULL: n * T */
    psg_tensor winner;       /* maximum: (N, D) positions of the bag; -1: none */
} psg_bags;

/* *start = where the bags of flat ids start, N + 1 places; NULL without offsets.  PSG_ERR_ARGUMENT: offsets that do not
 * ascend from 0 to at most the number of ids. */
psg_status psg_bags_start(psg_call *call, const int64_t **start);
/* Reads start and padding_idx; with winners, memory for those too. */
psg_status psg_bags_collect(psg_call *call, const psg_lookup_options *options, const int64_t *start, bool winners,
                            psg_bags *bags);

/* The place of bag n's first id in the ids and weights as given. */
int64_t psg_bag_start(const psg_bags *bags, int64_t n);
/* 1 / the number of its ids that are rows; 0 when there is none. */
double psg_bag_mean_factor(const psg_bags *bags, int64_t n);

#endif
