/* What the shape functions of ops check alike, and small readings of a call. */
#ifndef PSG_OPS_OPERAND_H
#define PSG_OPS_OPERAND_H

#include <stdbool.h>

#include "psg/op.h"

/* The first count inputs must be f32 or f64 (that they are of one type the tape has checked): PSG_ERR_DTYPE. */
psg_status psg_operands_real(psg_call *call, int count);

/* In a per-sample pass a batched operand k must have dimension 0 of size B: a value that has lost its batch,
 * such as a loss, couples the samples in whatever is not linear.  PSG_ERR_BATCH. */
psg_status psg_operand_carries_batch(psg_call *call, int k);

/* The same of an operand that has the batch as others have, also where it is a constant: one of a batch_second pass
 * whose batch would have to be turned is refused.  PSG_ERR_BATCH. */
psg_status psg_operand_beside_batch(psg_call *call, int k);

/* Declares an output of input 0's type and shape. */
psg_status psg_output_like_input(psg_call *call);

/* The dimension that an option of the caller of input 0 names, as the op has it: negative ones counted from the end,
 * and through psg_call_dim.  PSG_ERR_ARGUMENT when rank has none such. */
psg_status psg_operand_dim(psg_call *call, const char *name, int dim, int rank, int *found);
/* The same of a dimension that was checked. */
int psg_operand_dim_of(const psg_call *call, int dim, int rank);

/* Refuses operand k when it carries the batch: the op has no gradient for it there, and in a per-sample pass it would
 * couple the samples.  PSG_ERR_UNSUPPORTED. */
psg_status psg_operand_not_computed(psg_call *call, int k);

/* Refuses dimension dim of operand k, given as argument `name`, when it is the batch of a per-sample pass, or of a
 * batch_second one, where it could not be put back: PSG_ERR_BATCH "<name> is ..., the batch dimension: <reason>".
 * Checks psg_operand_carries_batch too. */
psg_status psg_operand_not_batch(psg_call *call, int k, const char *name, int dim, const char *reason);

/* Whether dimension 0 of operand k is the batch and must stay that: in a per-sample pass, and in a batch_second one. */
bool psg_operand_keeps_batch(const psg_call *call, int k);
/* Whether the caller has the batch of the output as dimension 1 from rank 3 on. */
bool psg_call_is_batch_second(const psg_call *call);
/* Running statistics, embedding's max_norm: whether the pass lets the op change them. */
bool psg_may_update(const psg_call *call);

/* Operand k with as many dimensions as the output has or `rank`: aligned at the last one as the caller sees both (ones
 * in front), then with the batch in front.  What it means for the batch psg_operand_check_aligned says. */
psg_tensor psg_operand_aligned(const psg_call *call, int k, int rank);
/* Of operands that broadcast to `rank` dimensions: what carries the batch has it where the output has it; a trainable
 * parameter, and in a batch_second pass a constant, has size 1 there.  PSG_ERR_BATCH. */
psg_status psg_operand_check_aligned(psg_call *call, int k, int rank);

/* Whether input k carries the batch and the pass tells samples apart. */
bool psg_operand_per_sample(const psg_call *call, int k);

/* The kernels of input 0's type: kernels.h has what is in the table. */
typedef struct psg_kernel_table psg_kernel_table;
const psg_kernel_table *psg_call_kernels(const psg_call *call);

/* The single element of a one-element tensor of a real type. */
double psg_scalar_value(const psg_call *call, const psg_tensor *tensor);
/* Writes it. */
void psg_scalar_set(const psg_call *call, double value, const psg_tensor *tensor);
/* 0 for element k of input `input`, integers, in a copy of the call's own. */
psg_status psg_integer_correct(psg_call *call, int input, int64_t k);
/* backward of a loss of one element that was divided by divisor: what its slopes are multiplied by. */
double psg_loss_factor(const psg_call *call, double divisor);

#endif
