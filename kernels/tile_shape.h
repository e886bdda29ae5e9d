/* The register tile of products and convolutions: MR rows of NV vectors, as many as the registers hold. */
#ifndef PSG_KERNELS_TILE_SHAPE_H
#define PSG_KERNELS_TILE_SHAPE_H

#include "vector.h"

#define NV 2 /* vectors across a tile */
#if PSG_VECTOR_BYTES == 64
#define MR ((size_t)12)
#else
#define MR ((size_t)6)
#endif
#define NR (NV * LANES)
#define STEP (MR / 3) /* the last panel's tiles have STEP, 2 STEP or MR rows */

#endif
