/* psg/ops/attention.h: scaled dot-product and multi-head attention. */
#ifndef PSG_PUBLIC_OPS_ATTENTION_H
#define PSG_PUBLIC_OPS_ATTENTION_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif


#ifdef __cplusplus
}
#endif
#endif
