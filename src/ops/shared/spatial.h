/* What ops over (batch, channels, *spatial) read alike: how many spatial dimensions there are, and options of one entry
 * for each. */
#ifndef PSG_OPS_SPATIAL_H
#define PSG_OPS_SPATIAL_H

#include "psg/op.h"

/* The spatial dimensions of a real input 0 that carries the batch: `given`, 1 to 3, which its rank must confirm, or
 * (0) what its rank says.  Messages name the function that gave it: "conv2d". */
psg_status psg_spatial_count(psg_call *call, int given, int *spatial);

/* Option `name` into found: entries of 0 become those of `otherwise`, all of them or none ({ 2 } where two are read is
 * an error), or stay 0 where it is NULL; each must then be in [least, 2^31).  PSG_ERR_ARGUMENT. */
psg_status psg_spatial_option(psg_call *call, const char *name, int spatial, const int64_t *given,
                              const int64_t *otherwise, int64_t least, int64_t *found);

extern const int64_t psg_spatial_ones[3];

#endif
