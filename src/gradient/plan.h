/* The plan of a question: every gradient's blocks grouped into parts, what each keeps, who answers with whom.  Built
 * once a call, in linear time up to sorting, in memory of the context that lives until the next question; executed,
 * printed and forced from this one object.
 *
 * Nothing in it depends on the batch: what may differ from sample to sample (the route of a norm) the rooms decide from
 * a sample's live positions, and gradients are kept where those of `capacity` samples fit the budget. */
#ifndef PSG_GRADIENT_PLAN_H
#define PSG_GRADIENT_PLAN_H

#include "gradient/room.h"

typedef struct psg_plan {
    psg_context *context;
    psg_question question;
    const psg_gradient *const *gradients;
    size_t gradient_count;
    psg_part *parts;
    size_t part_count;
    bool is_plain;             /* a sum of all samples as they are: live positions do not matter */
    int64_t batch, capacity;
    size_t budget_held;
    atomic_llong fallbacks;
} psg_plan;

/* Plans a question of a checked set; capacity: the samples that one sum may hold (clipped sums).  is_plain: see above.
 * PSG_ERR_MEMORY names the function. */
psg_status psg_plan_make(psg_context *context, const char *function, psg_question question,
                         const psg_gradient *const *gradients, size_t count, int64_t capacity, bool is_plain,
                         psg_plan *plan);

/* Memory of the question under way, until psg_plan_end; NULL after failing with PSG_ERR_MEMORY. */
void *psg_plan_take(psg_plan *plan, const char *function, size_t bytes);

/* What a part's gradients of that many samples hold of the budget, whole cache lines. */
size_t psg_plan_kept_bytes(const psg_part *part, int64_t samples);

/* The question is answered. */
void psg_plan_end(psg_plan *plan);

/* Runs task(argument, n, slot) for every sample, a few a turn where there are many. */
void psg_plan_samples(const psg_plan *plan, psg_task task, void *argument);

#endif
