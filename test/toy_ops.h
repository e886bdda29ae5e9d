/* Ops of a user: written with the public headers only, slowly and plainly, in f32 and f64 alike. */
#ifndef PSG_TEST_TOY_OPS_H
#define PSG_TEST_TOY_OPS_H

#include "psg/psg.h"

extern const psg_op toy_scale;      /* y = x * weight + bias; x (B, *, d), weight (d), bias (d) or absent */
extern const psg_op toy_matmul;     /* y = x W^T; x (B, *, d), weight (p, d) */
extern const psg_op toy_multiply;   /* y = a * b, elementwise, no parameters */
extern const psg_op toy_sum;        /* the sum of all elements; toy_sum_attributes */
extern const psg_op toy_pick;       /* y[n] = x[n, index[n]]; index integers (B) */
extern const psg_op toy_last;       /* integers (B): the last index of every row of x (B, d) */
extern const psg_op toy_noise;      /* y[n] = x[n] + a uniform word of the sample's stream; x (B, d) */
extern const psg_op toy_center;     /* y[n] = x[n] - mean over the batch: couples_batch */

extern const psg_op toy_wrong;      /* toy_scale whose weight gradient is 1 % too large */
extern const psg_op toy_mixing;     /* toy_scale whose sample n also sees sample 0 */
extern const psg_op toy_forgetful;  /* toy_scale that adds no block for its bias */
extern const psg_op toy_failing;    /* toy_scale whose backward returns PSG_ERR_NUMERIC without a message */
extern const psg_op toy_deep;       /* toy_scale whose backward adds a block of a rank that cannot be */
extern const psg_op toy_oversized;  /* declares an output of 2^62 elements */

typedef struct toy_sum_attributes { int mean; } toy_sum_attributes;

/* How often toy_multiply's backward ran, counted by whoever set the pointer as attributes. */
typedef struct toy_multiply_attributes { int *backward_calls; } toy_multiply_attributes;

#endif
