/* Parameters of which each rank moves its own slice (psg_dp_ranks.slices). */
#ifndef PSG_DP_RANKS_SLICES_H
#define PSG_DP_RANKS_SLICES_H

#include "dp/mechanism.h"
#include "optim/optimizer.h"

/* Elements [first, end) of all parameters in order. */
typedef struct psg_slice {
    size_t first, end;
} psg_slice;

/* Of a rank; without ranks everything is rank 0's. */
psg_slice psg_slice_of(const psg_dp *dp, int rank);

/* Whether releases to an optimizer move slices. */
bool psg_has_slices(const psg_dp *dp);

/* After each rank has moved its slice of the values: all have all of them.  Clears the sums, whose memory it takes. */
psg_status psg_slices_share(psg_dp *dp, const char *function, psg_optimizer *optimizer);

/* Before a checkpoint: all have all of the optimizer's state (NULL: none).  Collective. */
psg_status psg_slices_gather_state(psg_dp *dp, const char *function, psg_optimizer *optimizer);

#endif
