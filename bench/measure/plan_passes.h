/* The passes over parameters' gradients that a plan makes. */
#ifndef BENCH_PLAN_PASSES_H
#define BENCH_PLAN_PASSES_H

#include "case.h"

/* After a run: adds what c->question, a norm or a sum or both, does with every gradient of the case by its plan.  Norms
 * of a factored gradient (B samples, T positions, p x d) multiply and add B T (T + 1) / 2 (p + d) times by Gram,
 * B T p d times by tiles and where gradients are kept, B (p + d) times by identity; sums B T p d times, or read what
 * was kept.  sum_size: bytes of an element of the sums. */
psg_status bench_add_plan(bench_case *c, double sum_size);

#endif
