/* psg/ops/recurrent.h: RNN, LSTM and GRU. */
#ifndef PSG_PUBLIC_OPS_RECURRENT_H
#define PSG_PUBLIC_OPS_RECURRENT_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif


#ifdef __cplusplus
}
#endif
#endif
