/* psg/ops/conv.h: convolution and transposed convolution. */
#ifndef PSG_PUBLIC_OPS_CONV_H
#define PSG_PUBLIC_OPS_CONV_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif


#ifdef __cplusplus
}
#endif
#endif
