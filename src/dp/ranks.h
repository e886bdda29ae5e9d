/* What ranks of one mechanism do together in a release, a save and a load.  Without ranks each is the caller's own
 * status, or does nothing. */
#ifndef PSG_DP_RANKS_H
#define PSG_DP_RANKS_H

#include "dp/mechanism.h"

/* The largest of the values of all ranks. */
psg_status psg_ranks_largest(const psg_dp *dp, const char *function, int64_t *value);

/* The worst of all ranks' statuses; where it is not this rank's own the message names the rank. */
psg_status psg_ranks_agree(const psg_dp *dp, const char *function, psg_status status);

/* PSG_ERR_STATE on all ranks where a hash differs. */
psg_status psg_ranks_same(const psg_dp *dp, const char *function, const char *name, int64_t hash);

/* After a release was recorded, or not: agrees, and takes over the budget of rank 0, which may be why it was not. */
psg_status psg_ranks_follow(psg_dp *dp, const char *function, psg_status status);

/* Makes the sums those of all ranks, with their noise (the count of a quantile, which comes last, without).  On an
 * error of any rank they are wiped.  slices: each rank has those of its own, and all the count. */
psg_status psg_ranks_add(psg_dp *dp, const char *function, bool slices, psg_status status);

/* PSG_ERR_STATE on all ranks where the step, what the ledger has recorded ahead, the clipping norm, and where there is
 * an optimizer its learning rate or the parameters that are about to move differ. */
psg_status psg_ranks_compare(psg_dp *dp, const char *function, const psg_optimizer *optimizer);

/* rank 0's bytes to all. */
psg_status psg_ranks_broadcast(const psg_dp *dp, const char *function, void *data, size_t bytes);

/* A block of so many bytes of each rank to all. */
psg_status psg_ranks_gather(psg_dp *dp, const char *function, void *blocks, size_t bytes);

/* The rank whose record it is. */
int psg_rank_of(const psg_dp *dp, int64_t record);

#endif
