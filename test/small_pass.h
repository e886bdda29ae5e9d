/* Small passes: a context, a tape, tensors and parameters of random values that live as long as they. */
#ifndef PSG_TEST_SMALL_PASS_H
#define PSG_TEST_SMALL_PASS_H

#include "support.h"

typedef struct small_pass {
    test_allocator allocator; /* fresh memory is NaN */
    psg_context *context;
    psg_tape *tape;
    test_random random;
    psg_param *param[8];
    void *memory[64];
    int params, arrays;
} small_pass;

#define SHAPE(...)                                                                                                     \
    (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }

/* On two threads and the best instruction set; or on these. */
void small_open(small_pass *f);
void small_open_on(small_pass *f, unsigned threads, const char *isa);
void small_close(small_pass *f);

psg_tensor small_zeros(small_pass *f, psg_dtype dtype, int rank, const int64_t *shape);
psg_tensor small_normal(small_pass *f, int rank, const int64_t *shape);
psg_tensor small_integers(small_pass *f, const int64_t *values, int rank, const int64_t *shape);
psg_param *small_parameter(small_pass *f, const char *name, int rank, const int64_t *shape);

/* These fail the test. */
void small_begin(small_pass *f, psg_pass pass);
void small_backward(small_pass *f, psg_var output, const psg_tensor *grad_output);

/* Answers of the pass: (B, *shape), B. */
psg_gradient small_gradient_of(small_pass *f, const psg_param *param);
const double *small_grad_sample(small_pass *f, const psg_param *param);
void small_squared_norms(small_pass *f, const psg_param *param, double *sqnorm);
/* Clips at 0.01: each sample's part of the sum must be at most that long, and nearly, all gradients being longer. */
void small_check_contribution(small_pass *f, const psg_param *param);

#endif
