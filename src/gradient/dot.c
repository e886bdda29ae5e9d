/* dot: <grad[n], v>, a sum over parts; some samples a task, which may share the work on v. */
#include "base/parallel.h"
#include "gradient/plan.h"

enum { SAMPLES = 64 };   /* at most */

typedef struct dot_job {
    const psg_plan *plan;
    const psg_tensor *direction;
    double *dots;
    int64_t some;              /* samples a task; what a sample's dot is does not depend on it */
} dot_job;

static void run_samples(void *argument, size_t index, unsigned slot) {
    const dot_job *j = argument;
    int64_t first = (int64_t)index * j->some, count = psg_least(j->some, j->plan->batch - first);
    for (int64_t n = 0; n < count; n++) j->dots[first + n] = 0;
    for (const psg_part *part = j->plan->parts; part < j->plan->parts + j->plan->part_count; part++) {
        part->room->dot(part, first, count, j->direction[part->gradient].data, j->dots + first,
                        j->plan->context->workspace[slot]);
    }
}

psg_status psg_dot(psg_context *context, const psg_gradient *const *gradients, size_t count,
                   const psg_tensor *direction, double *dots) {
    psg_set set = { context, "psg_dot", gradients, count };
    psg_plan plan = { .question = PSG_ASK_DOT };
    psg_status status = psg_plan_make(&set, false, &plan);
    if (!status) status = psg_check_tensors(&set, "direction", direction, PSG_ALLOW_NOTHING);
    if (!status) status = psg_check_array(&set, "dots", dots);
    dot_job job = { &plan, direction, dots, psg_most(1, psg_least(SAMPLES, psg_parts_of(plan.batch, 8))) };
    if (!status) psg_parallel(context, (size_t)psg_parts_of(plan.batch, job.some), run_samples, &job);
    psg_plan_end(&plan);
    return status;
}
