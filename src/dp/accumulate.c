/* Clipped gradients on their way into the sums of the step. */
#include <math.h>
#include <sodium.h>
#include <string.h>

#include "base/context.h"
#include "base/floats.h"
#include "base/label.h"
#include "base/reserved.h"
#include "base/shapes.h"
#include "dp/mechanism.h"
#include "gradient/clipped_sum_on_grid.h"

/* ---- checks, before anything happens ---- */

static psg_label label_of(const psg_gradient *gradient, size_t k) {
    return psg_label_at("gradients", k, gradient ? gradient->name : NULL);
}

static psg_status check_gradient(const psg_dp *dp, size_t k, const psg_gradient *gradient) {
    char text[PSG_SHAPE_TEXT];
    if (!gradient) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_accumulate: gradients[%zu] is NULL, must not be (a frozen "
                        "parameter has none: the mechanism is of those that train)", k);
    }
    if (gradient->pass && !psg_pass_is_live(dp->context, gradient->pass)) {   /* name and ids may be gone with it */
        return psg_fail(dp->context, PSG_ERR_STATE, "psg_dp_accumulate: gradients[%zu] is of a pass that is over", k);
    }
    if (gradient->batch_coupled) {
        return psg_fail(dp->context, PSG_ERR_UNSUPPORTED, "psg_dp_accumulate: %s is of an ordinary pass, whose samples have "
                        "no gradients of their own; psg_pass.ordinary must be 0", label_of(gradient, k).text);
    }
    bool has_rank = gradient->rank >= 0 && gradient->rank <= PSG_MAX_RANK;
    int64_t elements = has_rank ? psg_shape_product(gradient->rank, gradient->shape) : -1;
    if (elements == (int64_t)psg_dp_elements(dp, k)) return PSG_OK;
    return psg_fail(dp->context, PSG_ERR_SHAPE,
                    "psg_dp_accumulate: %s has rank %d, shape %s, must have %zu elements",
                    label_of(gradient, k).text, gradient->rank,
                    psg_shape_text(has_rank ? gradient->rank : 0, gradient->shape, text), psg_dp_elements(dp, k));
}

/* What is trained without being in the sums would be released without noise; what is in them without being trained is
 * a mistake of the caller's. */
static psg_status check_parameters(const psg_dp *dp, const psg_gradient *const *gradients) {
    uint32_t known = 0, reached = 0;
    for (size_t k = 0; k < dp->param_count; k++) {
        reached = gradients[k]->pass_parameters > reached ? gradients[k]->pass_parameters : reached;
        known += gradients[k]->pass_parameters > 0;
    }
    for (size_t k = 0; reached && k < dp->param_count; k++) {
        if (gradients[k]->pass_parameters || !gradients[k]->pass) continue;
        return psg_fail(dp->context, PSG_ERR_STATE, "psg_dp_accumulate: %s is of a parameter that the pass does not "
                        "train, must be trainable and reached by the loss", label_of(gradients[k], k).text);
    }
    if (reached <= known) return PSG_OK;
    return psg_fail(dp->context, PSG_ERR_STATE, "psg_dp_accumulate: the pass has %u trainable parameters, of which %u "
                    "are given; must be all: one psg_dp covers a model (psg_dp_options.groups clips its parts)",
                    reached, known);
}

/* Of the pass of another batch: its samples would count under the names of these. */
static bool is_of(const psg_gradient *gradient, const psg_batch *batch) {
    const psg_batch *own = &gradient->batch;
    if (!own->owner) return true;
    return own->owner == batch->owner && own->step == batch->step && own->stream == batch->stream &&
           own->count == batch->count && !memcmp(own->ids, batch->ids, (size_t)own->count * sizeof *own->ids);
}

static psg_status check_gradients(const psg_dp *dp, const psg_gradient *const *gradients, size_t count,
                                  const psg_batch *batch) {
    if (!gradients) return psg_fail_null(dp->context, "psg_dp_accumulate", "gradients");
    if (count != dp->param_count) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT,
                        "psg_dp_accumulate: count is %zu, must be %zu, one gradient a parameter", count,
                        dp->param_count);
    }
    psg_status status = PSG_OK;
    for (size_t k = 0; !status && k < count; k++) {
        status = check_gradient(dp, k, gradients[k]);
        if (!status && !is_of(gradients[k], batch)) {
            status = psg_fail(dp->context, PSG_ERR_STATE, "psg_dp_accumulate: %s is of a pass over other records than "
                              "batch, must be of the same", label_of(gradients[k], k).text);
        }
        if (status || gradients[k]->batch_size == batch->count) continue;
        status = psg_fail(dp->context, PSG_ERR_BATCH, "psg_dp_accumulate: %s has %lld samples, must have the %lld of the "
                          "batch", label_of(gradients[k], k).text, (long long)gradients[k]->batch_size,
                          (long long)batch->count);
    }
    return status ? status : check_parameters(dp, gradients);
}

static psg_status check_batch(const psg_dp *dp, const psg_batch *batch) {
    if (!batch || batch->count < 0 || (batch->count && !batch->ids)) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_accumulate: batch is NULL or without ids");
    }
    if (psg_reserved_is_set(batch->reserved)) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_accumulate: batch" PSG_RESERVED_TEXT);
    }
    if (batch->owner != dp->owner || batch->step != dp->step || batch->stream != dp->stream || !dp->is_drawn) {
        return psg_fail(dp->context, PSG_ERR_STATE, "psg_dp_accumulate: the batch is not of this psg_dp's step %llu; "
                        "%s draws it", (unsigned long long)dp->step,
                        dp->options.sampling == PSG_SAMPLING_EXTERNAL ? "psg_dp_take" : "psg_dp_sample");
    }
    if (!dp->is_lost) return PSG_OK;
    return psg_fail(dp->context, PSG_ERR_STATE, "psg_dp_accumulate: the sums of this step were lost to a failure; its "
                    "release is noise");
}

/* ---- groups ---- */

/* The gradients of group g and views of their sums; how many. */
static size_t select_group(psg_dp *dp, int g, const psg_gradient *const *gradients) {
    size_t count = 0;
    for (size_t k = 0; k < dp->param_count; k++) {
        if (dp->group[k] != g) continue;
        dp->gradients[count] = gradients[k];
        dp->views[count++] = psg_tensor_of(PSG_I64, dp->sums + dp->offset[k], gradients[k]->rank, gradients[k]->shape);
    }
    return count;
}

static void lose_sums(psg_dp *dp) {
    sodium_memzero(dp->sums, psg_dp_sum_count(dp) * sizeof *dp->sums);
    dp->is_lost = true;
}

static psg_status add_group(psg_dp *dp, int g, const psg_gradient *const *gradients, psg_clip_report *report) {
    const psg_clip clip = { dp->max_grad_norm * dp->share[g], dp->options.max_batch_size, dp->options.clipping,
                            dp->options.stability, { 0 } };
    *report = (psg_clip_report){ 0 };
    size_t count = select_group(dp, g, gradients);
    return count ? psg_clipped_sum_on_grid(dp->context, dp->gradients, count, &clip, dp->grid.units, dp->views, report)
                 : PSG_OK;
}

static psg_status add_groups(psg_dp *dp, const psg_gradient *const *gradients, int64_t samples,
                             psg_clip_report *reports) {
    psg_clip_report report;
    for (int g = 0; g < dp->options.group_count; g++) {
        psg_status status = add_group(dp, g, gradients, &report);
        if (status && g) lose_sums(dp);
        if (status) return status;
        if (reports) reports[g] = report;
    }
    if (psg_dp_has_quantile(dp)) {
        dp->sums[psg_dp_total(dp)] += psg_quantile_units(dp, samples - report.removed - report.clipped, samples);
    }
    return PSG_OK;
}

psg_status psg_dp_accumulate(psg_dp *dp, const psg_batch *batch, const psg_gradient *const *gradients, size_t count,
                             psg_clip_report *reports) {
    PSG_DEFAULT_FLOATS;
    if (!dp) return PSG_ERR_ARGUMENT;
    psg_status status = check_batch(dp, batch);
    if (!status) status = check_gradients(dp, gradients, count, batch);
    if (!status) status = psg_dp_use(dp, batch->ids, batch->count);
    if (status) return status;
    status = add_groups(dp, gradients, batch->count, reports);
    if (status) psg_dp_unuse(dp, batch->ids, batch->count);
    return status;
}
