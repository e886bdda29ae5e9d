/* dot: <grad[n], v>, a sum over parts; the samples of a visit may share the work on v. */
#include <math.h>
#include <string.h>

#include "base/floats.h"
#include "gradient/plan.h"

enum { SAMPLES = 64 };   /* at most */

typedef struct dot_job {
    const psg_tensor *direction;
    double *dots;              /* B a run */
    int64_t batch;
} dot_job;

static void visit_dots(void *argument, const psg_visit *visit) {
    const dot_job *j = argument;
    double *dots = j->dots + visit->run * j->batch + visit->sample;
    int64_t count = visit->last - visit->sample;
    for (int64_t n = 0; n < count; n++) dots[n] = 0;
    for (const psg_part *part = visit->first; part < visit->end; part++) {
        part->room->dot(part, visit->sample, count, j->direction[part->gradient].data, dots, visit->workspace);
    }
}

static psg_status add_dots(psg_plan *plan, const psg_tensor *direction, double *dots) {
    dot_job job = { direction, psg_plan_take(plan, (size_t)(plan->runs * plan->batch) * sizeof *dots), plan->batch };
    if (!job.dots) return PSG_ERR_MEMORY;
    plan->some = psg_most(plan->some, psg_least(SAMPLES, psg_parts_of(plan->batch, 8)));
    psg_plan_visit(plan, visit_dots, &job);
    memset(dots, 0, (size_t)plan->batch * sizeof *dots);
    for (int64_t k = 0; k < plan->runs * plan->batch; k++) dots[k % plan->batch] += job.dots[k];
    for (int64_t n = 0; n < plan->batch; n++) {
        if (psg_plan_is_bad(plan, n)) dots[n] = NAN;
    }
    return PSG_OK;
}

psg_status psg_dot(psg_context *context, const psg_gradient *const *gradients, size_t count,
                   const psg_tensor *direction, double *dots) {
    PSG_DEFAULT_FLOATS;
    psg_set set = { context, "psg_dot", gradients, count };
    psg_plan plan = { .question = PSG_ASK_DOT };
    psg_status status = psg_plan_make(&set, false, &plan);
    if (!status) status = psg_check_tensors(&set, "direction", direction, PSG_ALLOW_NOTHING);
    if (!status) status = psg_check_array(&set, "dots", dots);
    if (!status) status = add_dots(&plan, direction, dots);
    psg_plan_end(&plan);
    return status;
}
