/* psg/psg.h: all of libpsg. */
#ifndef PSG_PSG_H
#define PSG_PSG_H

#include "psg/accountant.h"
#include "psg/base.h"
#include "psg/dp.h"
#include "psg/gradient.h"
#include "psg/io.h"
#include "psg/linalg.h"
#include "psg/op.h"
#include "psg/ops.h"
#include "psg/optim.h"
#include "psg/params.h"
#include "psg/tape.h"
#include "psg/tensor.h"

#endif
