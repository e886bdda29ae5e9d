#include "ops/shared/ranges.h"

#include "base/parallel.h"

typedef struct range_job {
    size_t count, unit;
    psg_range_task task;
    psg_range_sum sum;
    double *partial;
    void *argument;
} range_job;

static size_t ranges_of(size_t count, size_t unit) { return count / unit + (count % unit != 0); }

static size_t length_at(const range_job *job, size_t index) {
    size_t rest = job->count - index * job->unit;
    return rest < job->unit ? rest : job->unit;
}

static void run_range(void *argument, size_t index, unsigned slot) {
    const range_job *job = argument;
    (void)slot;
    job->task(job->argument, index * job->unit, length_at(job, index));
}

static void sum_range(void *argument, size_t index, unsigned slot) {
    const range_job *job = argument;
    (void)slot;
    job->partial[index] = job->sum(job->argument, index * job->unit, length_at(job, index));
}

size_t psg_range_unit(int64_t work) { return work >= PSG_RANGE || work < 1 ? 1 : (size_t)(PSG_RANGE / work); }

/* A single range runs without the pool. */
void psg_for_ranges(psg_context *context, size_t count, size_t unit, psg_range_task task, void *argument) {
    if (!count) return;
    if (count <= unit) {
        task(argument, 0, count);
        return;
    }
    range_job job = { .count = count, .unit = unit, .task = task, .argument = argument };
    psg_parallel(context, ranges_of(count, unit), run_range, &job);
}

psg_status psg_sum_ranges(psg_call *call, size_t count, psg_range_sum sum, void *argument, double *total) {
    *total = 0;
    if (count <= PSG_RANGE) {
        if (count) *total = sum(argument, 0, count);
        return PSG_OK;
    }
    size_t ranges = ranges_of(count, PSG_RANGE);
    double *partial = psg_call_keep(call, ranges * sizeof *partial);
    if (!partial) return PSG_ERR_MEMORY;
    range_job job = { .count = count, .unit = PSG_RANGE, .sum = sum, .partial = partial, .argument = argument };
    psg_parallel(call->context, ranges, sum_range, &job);
    for (size_t k = 0; k < ranges; k++) *total += partial[k];
    return PSG_OK;
}
