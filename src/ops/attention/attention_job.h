/* What the attention ops share: the kernel over all heads of all samples, dropout, and the gradients it adds up.
 *
 * An op describes where the operands of one (sample, key head) lie: the task of the first one, and for each leading
 * dimension, of which the batch is the first, the steps from one to the next. */
#ifndef PSG_OPS_ATTENTION_JOB_H
#define PSG_OPS_ATTENTION_JOB_H

#include "kernels.h"
#include "psg/op.h"

/* The arrays that a task points into. */
typedef enum psg_attention_path {
    PSG_PATH_Q, PSG_PATH_K, PSG_PATH_V, PSG_PATH_OUT, PSG_PATH_WEIGHTS, PSG_PATH_MASK, PSG_PATH_PADDING, PSG_PATH_BIAS,
    PSG_PATH_GRAD_BIAS, PSG_PATH_GRAD_MASK, PSG_PATHS
} psg_attention_path;

typedef struct psg_attention_job {
    psg_call *call;
    psg_attention first;                 /* of leading index 0; forward and backward point it at their data */
    int rank;                            /* leading dimensions, the last one that of the key heads; >= 1 */
    int64_t shape[PSG_MAX_RANK];
    int64_t step[PSG_PATHS][PSG_MAX_RANK];   /* in elements; 0: repeated */
    double dropout_p;
} psg_attention_job;

/* A dropout probability that the op cannot take: PSG_ERR_ARGUMENT; samples without names: psg_call_draws. */
psg_status psg_attention_check_dropout(psg_call *call, double dropout_p, int64_t samples);

/* Writes the output that first.out points to.  Keeps what backward needs. */
psg_status psg_attention_forward(psg_attention_job *job);
/* Writes the gradients that first points to, over the whole leading shape. */
psg_status psg_attention_backward(psg_attention_job *job);

/* Points a mask at an operand's data: real, or integers. */
psg_mask psg_attention_mask_of(const psg_operand *operand, bool keeps);

#endif
