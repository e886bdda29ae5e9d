/* A small network of toy ops on a tape, and short forms for tests of the tape. */
#ifndef PSG_TEST_TOY_NETWORK_H
#define PSG_TEST_TOY_NETWORK_H

#include "support.h"
#include "toy_ops.h"

psg_var apply1(psg_tape *tape, const psg_op *op, psg_var a);
psg_var apply2(psg_tape *tape, const psg_op *op, psg_var a, psg_var b);
psg_var apply3(psg_tape *tape, const psg_op *op, psg_var a, psg_var b, psg_var c);
/* Fails the test with the tape's message. */
void tape_ok(psg_tape *tape);

psg_param *new_param(psg_context *context, const char *name, const psg_tensor *value);
psg_tape *new_tape(psg_context *context);

/* grad_sample of a parameter as doubles, (B, P); the caller frees. */
double *grad_sample_of(psg_tape *tape, const psg_param *param);

/* h = x A^T, y = scale(h, w, b), loss = sum or mean of y * y; x (B, *, NETWORK_IN). */
enum { NETWORK_IN = 5, NETWORK_OUT = 3 };

typedef struct network {
    psg_context *context;
    psg_tape *tape;
    psg_dtype dtype;
    test_array a_value, w_value, b_value;   /* (OUT, IN), (OUT), (OUT) */
    psg_param *a, *w, *b;
} network;

network new_network(psg_dtype dtype);
/* The network owns the context. */
network new_network_on(psg_context *context, psg_dtype dtype);
void free_network(network *net);

psg_var network_output(network *net, psg_var x);
psg_var network_loss(network *net, psg_var x, int mean);
/* A whole pass, backward included. */
psg_status network_step(network *net, const psg_pass *pass, const psg_tensor *x, int mean);

#endif
