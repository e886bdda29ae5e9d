/* The release: the only place where something of the sums leaves them. */
#include <sodium.h>
#include <string.h>

#include "base/context.h"
#include "base/floats.h"
#include "base/parallel.h"
#include "base/shapes.h"
#include "dp/account.h"
#include "dp/random.h"
#include "dp/ranks.h"
#include "dp/ranks_slices.h"
#include "dp/release_noise.h"
#include "optim/optimizer.h"

/* ---- checks, before anything happens ---- */

static psg_status check_out(const psg_dp *dp, size_t k, const psg_tensor *out) {
    char text[PSG_SHAPE_TEXT];
    if (!psg_tensor_is_valid(out)) {
        char fault[PSG_FAULT_TEXT];
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_release: outs[%zu] is %s", k,
                        psg_tensor_fault(out, fault));
    }
    if (psg_tensor_count(out) != (int64_t)psg_dp_elements(dp, k)) {
        return psg_fail(dp->context, PSG_ERR_SHAPE, "psg_dp_release: outs[%zu] has shape %s, must have %zu elements", k,
                        psg_tensor_text(out, text), psg_dp_elements(dp, k));
    }
    if (!psg_dtype_is_real(out->dtype)) {
        return psg_fail(dp->context, PSG_ERR_DTYPE, "psg_dp_release: outs[%zu] is %s, must be f32 or f64", k,
                        psg_dtype_name(out->dtype));
    }
    if (!psg_tensor_is_contiguous(out)) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_release: outs[%zu] has strides, must be contiguous", k);
    }
    return PSG_OK;
}

/* A release without its batch, which has counted as drawn, would be another mechanism. */
static psg_status check_step(const psg_dp *dp, const char *function) {
    psg_status status = psg_generator_check(dp->generator, function);
    if (!status) status = psg_dp_check_budget(dp, function);
    if (status || dp->is_drawn || dp->options.sampling == PSG_SAMPLING_EXTERNAL) return status;
    return psg_fail(dp->context, PSG_ERR_STATE, "%s: no batch was drawn for step %llu, must be: psg_dp_sample",
                    function, (unsigned long long)dp->step);
}

static psg_status check_release(const psg_dp *dp, const psg_tensor *outs, size_t count) {
    if (!outs) return psg_fail_null(dp->context, "psg_dp_release", "outs");
    if (count != dp->param_count) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT,
                        "psg_dp_release: count is %zu, must be %zu, one tensor a parameter", count, dp->param_count);
    }
    psg_status status = check_step(dp, "psg_dp_release");
    for (size_t k = 0; !status && k < count; k++) status = check_out(dp, k, &outs[k]);
    return status;
}

static psg_status check_optimizer(const psg_dp *dp, const psg_optimizer *optimizer) {
    if (!optimizer) return psg_fail_null(dp->context, "psg_dp_release_to", "optimizer");
    if (optimizer->count != dp->param_count) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT,
                        "psg_dp_release_to: the optimizer has %zu values, must have %zu, one a parameter",
                        optimizer->count, dp->param_count);
    }
    for (size_t k = 0; k < dp->param_count; k++) {
        if (psg_tensor_count(&optimizer->values[k]) == (int64_t)psg_dp_elements(dp, k)) continue;
        char text[PSG_SHAPE_TEXT];
        return psg_fail(dp->context, PSG_ERR_SHAPE,
                        "psg_dp_release_to: value %zu of the optimizer has shape %s, must have %zu elements", k,
                        psg_tensor_text(&optimizer->values[k], text), psg_dp_elements(dp, k));
    }
    return check_step(dp, "psg_dp_release_to");
}

/* ---- the sum over all ranks ---- */

static psg_status reduce_sums(psg_dp *dp, const char *function) {
    size_t count = psg_dp_sum_count(dp);
    if (!dp->reduce) return PSG_OK;
    psg_status status = dp->reduce(dp->reduce_user, dp->sums, count);
    if (!status) return PSG_OK;
    sodium_memzero(dp->sums, count * sizeof *dp->sums);
    return psg_fail(dp->context, status,
                    "%s: the reduce hook returned %s; the step is over, its sums are gone", function,
                    psg_status_name(status));
}

/* ---- noise and division ---- */

/* To outs, or where these are NULL to the optimizer. */
typedef struct release_job {
    const psg_dp *dp;
    const psg_tensor *outs;
    const psg_optimizer *optimizer;
    double factor;                  /* of the integers: unit / expected_batch_size */
    psg_slice slice;                /* the elements that this process releases */
} release_job;

#define PIECE ((size_t)2048)   /* elements at a time: what goes to the optimizer is in the first cache level */

typedef struct release_scratch {
    psg_noise_scratch of;
    double gradient[PIECE];         /* or floats */
} release_scratch;

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* Of several ranks the sums have their noise already. */
static void find_noise(const psg_dp *dp, size_t block, size_t count, psg_noise_scratch *scratch) {
    if (psg_dp_has_ranks(dp)) memset(scratch->noise, 0, count * sizeof *scratch->noise);
    else psg_dp_make_noise(dp, PSG_NOISE_OF_SUMS, block, count, scratch);
}

/* Elements [first, first + count) of parameter k, count <= PIECE.  Sums and noise become 0. */
static void release_piece(const release_job *job, size_t k, size_t first, size_t count, int64_t *noise, void *scratch) {
    const psg_tensor *target = job->outs ? &job->outs[k] : &job->optimizer->values[k];
    void *to = job->outs ? psg_tensor_offset(target, (int64_t)first) : scratch;
    int64_t *sums = job->dp->sums + job->dp->offset[k] + first;
    job->dp->context->kernels[target->dtype]->from_grid(count, job->factor, sums, noise, to);
    if (!job->outs) psg_optimizer_update(job->optimizer, k, first, count, to);
}

/* Blocks are of all parameters in a row, since many parameters are smaller than a block.  What goes to the optimizer
 * does so while it is near. */
static void release_block(void *argument, size_t index, unsigned slot) {
    const release_job *job = argument;
    const psg_dp *dp = job->dp;
    release_scratch *scratch = dp->context->workspace[slot];
    const size_t block = job->slice.first / PSG_GRID_BLOCK + index, begin = block * PSG_GRID_BLOCK;
    const size_t first = begin > job->slice.first ? begin : job->slice.first;
    const size_t end = smaller(begin + PSG_GRID_BLOCK, job->slice.end);
    find_noise(dp, block, end - begin, &scratch->of);
    size_t k = psg_dp_parameter_at(dp, first), count;
    for (size_t at = first; at < end; at += count) {
        while (dp->offset[k + 1] <= at) k++;
        count = smaller(smaller(end, dp->offset[k + 1]) - at, PIECE);
        release_piece(job, k, at - dp->offset[k], count, scratch->of.noise + (at - begin), scratch->gradient);
    }
}

static void release_slice(release_job *job) {
    const psg_slice *s = &job->slice;
    if (s->first >= s->end) return;
    psg_parallel(job->dp->context, PSG_GRID_BLOCKS(s->end) - s->first / PSG_GRID_BLOCK, release_block, job);
}

/* C of the next step, and with it the grid. */
static void move_quantile(psg_dp *dp) {
    if (!psg_dp_has_quantile(dp)) return;
    int64_t *count = dp->sums + psg_dp_total(dp);
    psg_noise_scratch *scratch = dp->context->workspace[0];
    psg_dp_make_noise(dp, PSG_NOISE_OF_COUNT, 0, 1, scratch);
    double next = psg_quantile_next(dp, *count + scratch->noise[0]);
    psg_grid grid = psg_grid_of(dp->gradient_noise, next, (double)psg_dp_total(dp));
    *count = 0;
    sodium_memzero(scratch->noise, sizeof *scratch->noise);
    if (grid.unit == 0) return;   /* C has no grid: it stays */
    dp->max_grad_norm = next;
    dp->grid = grid;
}

/* ---- the step ends ---- */

/* Checks come first and change nothing.  Then the release is recorded before the sums leave this function, to the hook,
 * to other ranks or to outs, and stays so: the account never counts too few.  A hook that fails may have left anything
 * in the sums, so the step ends without output; its noise is not used again, since the step has been counted. */
static psg_status release(psg_dp *dp, const char *function, const psg_tensor *outs, psg_optimizer *optimizer) {
    const bool slices = optimizer && psg_has_slices(dp);
    const psg_slice all = { 0, psg_dp_total(dp) };
    release_job job = { dp, outs, optimizer, dp->grid.unit / dp->options.expected_batch_size,
                        slices ? psg_slice_of(dp, dp->ranks.rank) : all };
    psg_status status = psg_ranks_follow(dp, function, psg_dp_record(dp, function));
    if (status) return status;
    status = psg_dp_count_release(dp);
    if (status && !psg_dp_has_ranks(dp)) return status;
    psg_dp_forget_batch(dp);
    dp->is_lost = false;
    status = psg_ranks_add(dp, function, slices, status ? status : reduce_sums(dp, function));
    if (!status && optimizer) psg_optimizer_begin(optimizer);
    if (!status) release_slice(&job);
    if (!status) move_quantile(dp);
    if (!status && slices) status = psg_slices_share(dp, function, optimizer);
    dp->step++;
    return status;
}

psg_status psg_dp_release(psg_dp *dp, const psg_tensor *outs, size_t count) {
    PSG_DEFAULT_FLOATS;
    if (!dp) return PSG_ERR_ARGUMENT;
    psg_status status = psg_ranks_agree(dp, "psg_dp_release", check_release(dp, outs, count));
    if (!status) status = psg_ranks_compare(dp, "psg_dp_release", NULL);
    return status ? status : release(dp, "psg_dp_release", outs, NULL);
}

psg_status psg_dp_release_to(psg_dp *dp, psg_optimizer *optimizer) {
    PSG_DEFAULT_FLOATS;
    if (!dp) return PSG_ERR_ARGUMENT;
    psg_status status = psg_ranks_agree(dp, "psg_dp_release_to", check_optimizer(dp, optimizer));
    if (!status) status = psg_ranks_compare(dp, "psg_dp_release_to", optimizer);
    return status ? status : release(dp, "psg_dp_release_to", NULL, optimizer);
}
