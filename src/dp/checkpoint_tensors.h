/* The tensors of a checkpoint: the names they have in the file, and views of where their values are. */
#ifndef PSG_DP_CHECKPOINT_TENSORS_H
#define PSG_DP_CHECKPOINT_TENSORS_H

#include "dp/mechanism.h"

/* Scalars, which the file holds as tensors of rank 0 so that no digit is lost. */
typedef struct psg_checkpoint_numbers {
    int64_t step, optimizer_steps, ledger_lines;
    double lr, max_grad_norm;      /* of the step */
} psg_checkpoint_numbers;

typedef struct psg_checkpoint_tensors {
    psg_context *context;
    psg_named *list;
    size_t count;
    char *names;                   /* of all of them, one after another */
} psg_checkpoint_tensors;

/* "NAME" of a parameter, "optimizer.NAME.STATE", "extra.NAME", and "psg.step" ... for the numbers.  PSG_ERR_ARGUMENT,
 * PSG_ERR_SHAPE: the checkpoint does not fit the mechanism.  On an error there is nothing to free. */
psg_status psg_checkpoint_tensors_of(const psg_dp *dp, const char *function, const psg_checkpoint *checkpoint,
                                     psg_checkpoint_numbers *numbers, psg_checkpoint_tensors *tensors);
void psg_checkpoint_tensors_free(psg_checkpoint_tensors *tensors);

/* The numbers of a file that was read; false where one is missing or of another type or shape. */
bool psg_checkpoint_find_numbers(const psg_tensors *tensors, psg_checkpoint_numbers *numbers);

#endif
