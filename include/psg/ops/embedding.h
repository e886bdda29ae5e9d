/* psg/ops/embedding.h: look-up tables. */
#ifndef PSG_PUBLIC_OPS_EMBEDDING_H
#define PSG_PUBLIC_OPS_EMBEDDING_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif


#ifdef __cplusplus
}
#endif
#endif
