/* psg/ops/pooling.h: pooling. */
#ifndef PSG_PUBLIC_OPS_POOLING_H
#define PSG_PUBLIC_OPS_POOLING_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif


#ifdef __cplusplus
}
#endif
#endif
