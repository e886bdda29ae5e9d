/* What embedding and embedding_bag check and compute alike.  Input 0 holds the ids, input 1 the table (V, D). */
#ifndef PSG_OPS_LOOKUP_H
#define PSG_OPS_LOOKUP_H

#include <stdbool.h>

#include "psg/op.h"

enum { PSG_LOOKUP_IDS, PSG_LOOKUP_TABLE };

/* The options that both have. */
typedef struct psg_lookup_options {
    int has_padding_idx;
    int64_t padding_idx;
    double max_norm, norm_type;
} psg_lookup_options;

/* ---- shape ---- */

/* Types, the table's rank and role, the options; ids of rank >= 1. */
psg_status psg_lookup_check(psg_call *call, const psg_lookup_options *options);
/* Input k must be i32 or i64. */
psg_status psg_lookup_check_integers(psg_call *call, int k);

/* ---- forward ---- */

/* Every id must be in [0, V): PSG_ERR_ARGUMENT names the first that is not, unless the pass removes bad records, and
 * the id is a record's: then it is 0.  start: N + 1 places, sample n has ids [start[n], start[n + 1]); NULL: rows of a
 * batched input.  Then max_norm's update of the table. */
psg_status psg_lookup_prepare(psg_call *call, const psg_lookup_options *options, const int64_t *start);

/* ---- gradients ---- */

/* Element k of a contiguous i32 or i64 tensor. */
int64_t psg_lookup_id(const psg_tensor *ids, int64_t k);
void psg_lookup_set_id(const psg_tensor *ids, int64_t k, int64_t id);

/* *without = ids with -1 for padding_idx: ids itself where there is none, else a kept copy. */
psg_status psg_lookup_without_padding(psg_call *call, const psg_lookup_options *options, const psg_tensor *ids,
                                      psg_tensor *without);

/* share[n * T + t] = 1 / how often ids[n, t] occurs in row n of ids (B, T), any strides; 0 for negative ids. */
psg_status psg_lookup_shares(psg_call *call, const psg_tensor *ids, double *share);

#endif
