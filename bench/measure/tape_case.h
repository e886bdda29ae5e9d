/* What the cases that go through a tape share. */
#ifndef BENCH_TAPE_CASE_H
#define BENCH_TAPE_CASE_H

#include "case.h"

typedef struct tape_case tape_case;

struct tape_case {
    /* Filled before tape_case_start. */
    psg_tensor input;                           /* (B, ...) */
    psg_tensor cotangent;                       /* the gradient of the output; data NULL: the output is a loss */
    psg_tensor value[BENCH_MAX_PARAMS];
    int param_count;
    int want_input_grad;
    psg_var (*record)(tape_case *t, psg_var input);   /* the ops */

    void (*destroy)(bench_case *c);             /* of what tape_case_start made */
    psg_tape *tape;
    psg_param *param[BENCH_MAX_PARAMS];
    psg_tensor grad_sample[BENCH_MAX_PARAMS];   /* attached by tape_case_attach */
    psg_tensor sum[BENCH_MAX_PARAMS];           /* where clipped and weighted sums go */
    psg_var input_var, output;
    psg_gradient gradient[BENCH_MAX_PARAMS];
    double *factors, *sqnorm;                   /* of the last clipped sum; of the last norms */
};

/* The tape, the parameters and the memory for answers; sets c->state and c->destroy. */
psg_status tape_case_start(bench_case *c, tape_case *t);
/* Lets backward write grad_sample. */
psg_status tape_case_attach(bench_case *c, tape_case *t);

/* Steps for before, run and plain of a case. */
psg_status tape_forward(bench_case *c);             /* a per-sample pass */
psg_status tape_forward_ordinary(bench_case *c);
psg_status tape_pass(bench_case *c);         /* forward and backward */
psg_status tape_sqnorm(bench_case *c);              /* forward, backward, norms */
psg_status tape_clipped_sum(bench_case *c);         /* backward and clipped sum */
psg_status tape_plain_sum(bench_case *c);           /* backward and the sum without weights */

/* Backward of the pass that tape_forward recorded; the gradients are in t->gradient. */
psg_status tape_backward(bench_case *c);

#endif
