/* What psg_op_check knows of the op under test: its inputs, and the results of one pass in f64. */
#ifndef PSG_OPS_OP_CHECK_H
#define PSG_OPS_OP_CHECK_H

#include <stdbool.h>

#include "base/context.h"
#include "base/memory.h"
#include "psg/ops/arithmetic.h"

/* Copies of what one pass gave; grad: of input k when it is batched (its shape) or a parameter ((B, *shape)). */
typedef struct psg_op_check_results {
    double *output;
    double *grad[PSG_MAX_INPUTS];
} psg_op_check_results;

typedef struct psg_op_checker {
    psg_context *context;
    const psg_op *op;
    const void *attributes;
    psg_arena arena;
    psg_tape *tape;
    int64_t batch_size;
    int64_t *ids;                        /* 0 .. B-1: the samples' names, for ops that draw */
    psg_role role[PSG_MAX_INPUTS];
    psg_tensor input[PSG_MAX_INPUTS];    /* own data, f64 or integers */
    bool given[PSG_MAX_INPUTS];          /* the caller's values, not drawn */
    psg_param *param[PSG_MAX_INPUTS];    /* over input[k].data */
    psg_var var[PSG_MAX_INPUTS];         /* of the pass that ran last */
    psg_tensor probe;                    /* (B, *shape): what multiplies an effective weight, which has no batch */
    psg_var output_var;
    psg_tensor output;                   /* of the pass that ran last */
    psg_tensor grad_output;              /* random, of the output's shape */
    psg_op_check_results results;           /* at the inputs as drawn */
    uint64_t random;
} psg_op_checker;

/* PSG_ERR_NUMERIC with "psg_op_check: <op>: <text>". */
psg_status psg_op_check_fail(psg_op_checker *check, const char *format, ...) PSG_PRINTF(2, 3);
/* count doubles of the check's memory, NULL after setting the message. */
double *psg_op_check_doubles(psg_op_checker *check, int64_t count);
/* A value in (-1, -1/4] or [1/4, 1): away from the kinks of common functions at 0. */
double psg_op_check_draw(psg_op_checker *check);
/* "weight" or "input 1". */
const char *psg_op_check_input_name(const psg_op_checker *check, int k);

/* Every question about all parameters together, against check->results.  The pass that ran last must be at the inputs
 * as drawn. */
psg_status psg_op_check_questions(psg_op_checker *check);

#endif
