/* What the optimizers share: values, state, checks, the loop over chunks. */
#ifndef PSG_OPTIM_OPTIMIZER_H
#define PSG_OPTIM_OPTIMIZER_H

#include "base/owner.h"
#include "base/writer.h"
#include "kernels.h"
#include "psg/optim.h"

#define PSG_OPTIMIZER_MAX_STATES 2

/* The elements of one chunk of one parameter. */
typedef struct psg_optimizer_chunk {
    size_t count;
    const psg_kernel_table *kernels;                /* of the parameter's real type */
    void *values;
    const void *gradients;
    void *state[PSG_OPTIMIZER_MAX_STATES];          /* NULL beyond state_count */
} psg_optimizer_chunk;

struct psg_optimizer {
    psg_context *context;
    const char *name;                               /* of the function at work, for messages */
    size_t state_count;                             /* arrays of the values' size a parameter */
    const char *state_name[PSG_OPTIMIZER_MAX_STATES];
    void (*prepare)(psg_optimizer *optimizer);      /* sets numbers from options, lr and steps */
    void (*update)(const psg_optimizer *optimizer, const psg_optimizer_chunk *chunk);
    void (*describe)(const psg_optimizer *optimizer, psg_writer *writer);   /* the options but lr, in words */
    union {
        psg_sgd_options sgd;
        psg_adam_options adam;
    } options;
    union {
        psg_sgd_step sgd;
        psg_adam_step adam;
    } numbers;
    double lr;
    uint64_t steps;                                 /* the current one included */

    size_t count;
    psg_tensor *values;
    psg_owner **lenders;                            /* of each value's memory; NULL: the caller */
    void **state;                                   /* count x state_count arrays, zero at first */
};

/* Refuses an option: "<name>_create: momentum is -1, must be ..." */
psg_status psg_optimizer_refuse(psg_context *context, const char *name, const char *option, double value,
                                const char *rule);
/* A zeroed struct is no default, and must not pass for one. */
psg_status psg_optimizer_refuse_zero_lr(psg_context *context, const char *name);
/* Whether value is finite and at least 0. */
int psg_optimizer_is_magnitude(double value);

/* "sgd, momentum 0.9, dampening 0": what an optimizer is, but for lr. */
typedef struct psg_option_number {
    const char *name;
    double value;
} psg_option_number;
void psg_optimizer_describe(psg_writer *writer, const char *kind, const psg_option_number *numbers, size_t count);

/* The parts of a step: its beginning, once, and elements [first, first + count) of one parameter. */
void psg_optimizer_begin(psg_optimizer *optimizer);
void psg_optimizer_update(const psg_optimizer *optimizer, size_t parameter, size_t first, size_t count,
                          const void *gradients);

/* Copies `model` (context, name, state_count, functions, options, lr) to a new optimizer of the given values. */
psg_status psg_optimizer_create(const psg_optimizer *model, const psg_tensor *values, size_t count,
                                psg_optimizer **optimizer);

#endif
