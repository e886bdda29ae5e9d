/* A whole step of training a model: private (forward, backward, clipped sum, noise, SGD), plain (the library's own step
 * without privacy), and clipped_sum (backward and clipped sum against backward and plain sum). */
#ifndef BENCH_CASE_STEP_H
#define BENCH_CASE_STEP_H

#include "model.h"
#include "tape_case.h"

typedef struct step_case {
    tape_case tape;                         /* the first member: c->state is both */
    const model_kind *kind;
    psg_tensor labels;
    psg_generator *generator;
    psg_dp *dp;
    psg_optimizer *sgd;
} step_case;

/* s->kind and s->tape.input given, the first dimension of the input the batch: parameters with their first values, the
 * objects of a step, and what the problem's question runs.  Labels given, or data NULL: one below classes a sample. */
psg_status step_case_start(bench_case *c, step_case *s, int64_t classes);

/* Gives the parameters their first values again: timed steps move them. */
void step_case_restore(const step_case *s);

/* What follows backward in a step, part by part: the private one accumulates and releases to the optimizer; the plain
 * one sums and updates. */
psg_status step_case_accumulate(bench_case *c);
psg_status step_case_release(bench_case *c);
psg_status step_case_plain_sum(bench_case *c);
psg_status step_case_update(bench_case *c);

/* The passes of these parts: norms and sums by the plan in use; what a question does not have adds nothing. */
psg_status step_case_count_answers(bench_case *c);
void step_case_count_update(bench_case *c);
/* All of them. */
psg_status step_case_count_rest(bench_case *c);

extern const char *const step_questions[];

#endif
