/* The options of a mechanism: what is refused, and what 0 stands for. */
#include <math.h>

#include "base/context.h"
#include "base/reserved.h"
#include "dp/mechanism.h"

typedef struct checked {
    psg_context *context;
    psg_dp_options *o;
    int64_t elements;
} checked;

static psg_status refuse(const checked *c, const char *name, double value, const char *rule) {
    return psg_fail(c->context, PSG_ERR_ARGUMENT, "psg_dp_create: %s is %g, must be %s", name, value, rule);
}

/* ---- sampling ---- */

static psg_status check_rate(const checked *c) {
    double rate = c->o->sample_rate;
    if (rate > 0 && rate <= 1) return PSG_OK;
    return refuse(c, "sample_rate", rate, "in (0, 1]: every record is in a batch with this probability");
}

static psg_status check_batch_size(const checked *c) {
    if (c->o->batch_size >= 1 && (uint64_t)c->o->batch_size <= c->o->records) return PSG_OK;
    return refuse(c, "batch_size", (double)c->o->batch_size, "from 1 to records");
}

/* What the sampling does not use must be 0: it would be believed. */
static psg_status check_unused(const checked *c) {
    const psg_sampling s = c->o->sampling;
    bool rate = s == PSG_SAMPLING_POISSON || s == PSG_SAMPLING_TRUNCATED_POISSON;
    bool size = s == PSG_SAMPLING_FIXED_SIZE || s == PSG_SAMPLING_EPOCHS;
    if (!rate && c->o->sample_rate != 0) {
        return refuse(c, "sample_rate", c->o->sample_rate, "0 with this sampling, which has none");
    }
    if (!size && c->o->batch_size) {
        return refuse(c, "batch_size", (double)c->o->batch_size, "0 with this sampling, whose batches vary");
    }
    if (s != PSG_SAMPLING_BALLS_IN_BINS && c->o->batches) {
        return refuse(c, "batches", (double)c->o->batches, "0 but for balls in bins");
    }
    return PSG_OK;
}

static psg_status check_sampling(const checked *c) {
    if ((unsigned)c->o->sampling > PSG_SAMPLING_EXTERNAL) {
        return refuse(c, "sampling", (double)c->o->sampling, "one of psg_sampling");
    }
    psg_status status = check_unused(c);
    if (status) return status;
    if (c->o->records > INT64_MAX || (!c->o->records && c->o->sampling != PSG_SAMPLING_EXTERNAL)) {
        return refuse(c, "records", (double)c->o->records, "the records of the data set, from 1 to 2^63 - 1");
    }
    switch (c->o->sampling) {
        case PSG_SAMPLING_POISSON:
        case PSG_SAMPLING_TRUNCATED_POISSON: return check_rate(c);
        case PSG_SAMPLING_FIXED_SIZE:
        case PSG_SAMPLING_EPOCHS: return check_batch_size(c);
        case PSG_SAMPLING_BALLS_IN_BINS:
            if (c->o->batches >= 1 && c->o->batches <= c->o->records) return PSG_OK;
            return refuse(c, "batches", (double)c->o->batches, "from 1 to records");
        case PSG_SAMPLING_EXTERNAL: break;
    }
    return PSG_OK;
}

static double expected_of(const psg_dp_options *o) {
    if (o->expected_batch_size != 0) return o->expected_batch_size;
    if (o->batch_size) return (double)o->batch_size;
    if (o->batches) return (double)o->records / (double)o->batches;
    return o->sample_rate * (double)o->records;
}

static int64_t most_of(const psg_dp_options *o) {
    double expected = o->expected_batch_size;
    if (o->max_batch_size) return o->max_batch_size;
    if (o->batch_size) return o->batch_size;
    if (o->sampling == PSG_SAMPLING_EXTERNAL) return PSG_DEFAULT_MAX_BATCH_SIZE;
    return (int64_t)ceil(fmin(expected + 12 * sqrt(expected) + 64, 0x1p40));
}

static psg_status resolve_sizes(const checked *c) {
    psg_dp_options *o = c->o;
    o->expected_batch_size = expected_of(o);
    if (!(o->expected_batch_size > 0 && o->expected_batch_size <= 0x1p53)) {
        return refuse(c, "expected_batch_size", o->expected_batch_size, "above 0 and at most 2^53");
    }
    if (o->max_batch_size < 0 || o->max_batch_size > (int64_t)1 << 40) {
        return refuse(c, "max_batch_size", (double)o->max_batch_size, "at least 0 and at most 2^40");
    }
    bool truncates = o->sampling == PSG_SAMPLING_TRUNCATED_POISSON;
    if (truncates && !o->max_batch_size) {
        return refuse(c, "max_batch_size", 0, "given with truncated Poisson sampling, which it truncates");
    }
    o->max_batch_size = most_of(o);
    if (o->max_batch_size >= o->batch_size) return PSG_OK;
    return refuse(c, "max_batch_size", (double)o->max_batch_size, "at least batch_size");
}

/* ---- clipping ---- */

static psg_status resolve_quantile(const checked *c) {
    psg_dp_options *o = c->o;
    if (o->quantile == 0 && o->quantile_rate == 0 && o->quantile_noise == 0) return PSG_OK;
    if (!(o->quantile > 0 && o->quantile < 1)) return refuse(c, "quantile", o->quantile, "in (0, 1), or 0: a fixed C");
    if (o->quantile_rate == 0) o->quantile_rate = 0.2;
    if (o->quantile_noise == 0) o->quantile_noise = o->expected_batch_size / 20;
    if (!(o->quantile_rate > 0 && o->quantile_rate <= 10)) {
        return refuse(c, "quantile_rate", o->quantile_rate, "in (0, 10]");
    }
    if (!(o->quantile_noise > 0 && o->quantile_noise <= 1e9)) {
        return refuse(c, "quantile_noise", o->quantile_noise, "above 0 and at most 1e9");
    }
    if (o->clipping == PSG_CLIP_FLAT && o->group_count <= 1) return PSG_OK;
    return refuse(c, "quantile", o->quantile, "0 unless one norm is clipped, flat");
}

static psg_status check_groups(const checked *c, size_t param_count) {
    const psg_dp_options *o = c->o;
    if (o->group_count < 0 || (size_t)o->group_count > param_count) {
        return refuse(c, "group_count", o->group_count, "at least 0 and at most param_count");
    }
    if (o->group_count <= 1) return PSG_OK;
    if (!o->groups && (size_t)o->group_count != param_count) {
        return refuse(c, "group_count", o->group_count, "param_count where groups is NULL");
    }
    for (int g = 0; o->groups && g < o->group_count; g++) {
        size_t k = 0;
        while (k < param_count && o->groups[k] != g) k++;
        if (k < param_count) continue;
        return psg_fail(c->context, PSG_ERR_ARGUMENT, "psg_dp_create: groups has no parameter in group %d, must have "
                        "one in each of group_count %d", g, o->group_count);
    }
    for (size_t k = 0; o->groups && k < param_count; k++) {
        if (o->groups[k] < 0 || o->groups[k] >= o->group_count) {
            return psg_fail(c->context, PSG_ERR_ARGUMENT, "psg_dp_create: groups[%zu] is %d, must be in [0, %d)", k,
                            o->groups[k], o->group_count);
        }
    }
    for (int g = 0; o->group_norms && g < o->group_count; g++) {
        if (o->group_norms[g] >= 1e-30 && o->group_norms[g] <= 1e30) continue;
        return psg_fail(c->context, PSG_ERR_ARGUMENT, "psg_dp_create: group_norms[%d] is %g, must be from 1e-30 to "
                        "1e30", g, o->group_norms[g]);
    }
    return PSG_OK;
}

/* What psg_clipped_sum would refuse, and an engine under which its bound does not hold. */
static psg_status check_clipping(const checked *c) {
    const psg_dp_options *o = c->o;
    const psg_clip clip = { .max_grad_norm = o->max_grad_norm, .clipping = o->clipping, .stability = o->stability };
    if (!(o->max_grad_norm >= 1e-100 && o->max_grad_norm <= 1e100)) {
        return refuse(c, "max_grad_norm", o->max_grad_norm, "from 1e-100 to 1e100: it is what noise covers");
    }
    psg_status status = psg_clip_factors(c->context, &clip, NULL, 0, NULL, NULL);
    if (status || c->context->gemm != PSG_GEMM_OPENBLAS || o->allow_openblas) return status;
    return psg_fail(c->context, PSG_ERR_ARGUMENT, "psg_dp_create: the context's gemm is openblas, under which a record "
                    "changes the gradients of others, so max_grad_norm bounds nothing; use automatic or kernel, or set "
                    "allow_openblas");
}

/* ---- noise ---- */

/* Of an imperfect sampler of noise whose values lie within e^{+-2^-60} of the ideal but for 2^-110, an element: see
 * grid_noise.h. */
psg_event psg_dp_event(const psg_dp_options *o, int64_t elements) {
    psg_event event = PSG_EVENT_INIT;
    double drawn = (double)elements + (o->quantile > 0);
    event.sampling = o->sampling;
    event.noise_multiplier = o->noise_multiplier;
    event.sample_rate = o->sample_rate;
    event.batches = o->batches;
    event.residue_epsilon = drawn * 0x1p-60;
    event.residue_delta = drawn * 0x1p-110;
    if (o->sampling == PSG_SAMPLING_FIXED_SIZE) event.batch_size = (uint64_t)o->batch_size;
    if (o->sampling == PSG_SAMPLING_TRUNCATED_POISSON) event.batch_size = (uint64_t)o->max_batch_size;
    if (event.batch_size) event.records = o->records;
    if (o->sampling == PSG_SAMPLING_EPOCHS) {
        event.batches = (o->records + (uint64_t)o->batch_size - 1) / (uint64_t)o->batch_size;
    }
    return event;
}

static psg_status find_noise(const checked *c) {
    psg_dp_options *o = c->o;
    psg_event event = psg_dp_event(o, c->elements);
    if (!o->steps) return refuse(c, "steps", 0, "the releases that epsilon is for, since noise_multiplier is 0");
    if (o->earlier) {
        return psg_fail(c->context, PSG_ERR_ARGUMENT, "psg_dp_create: noise_multiplier is 0, must be given with "
                        "earlier releases: epsilon is then that of all");
    }
    psg_status status = psg_calibrate_noise(c->context, &event, o->steps, o->relation, o->epsilon, o->delta,
                                            &o->noise_multiplier);
    if (!status && o->noise_multiplier < 0x1p-10) o->noise_multiplier = 0x1p-10;
    return status;
}

static psg_status resolve_noise(const checked *c) {
    psg_dp_options *o = c->o;
    double sigma = o->noise_multiplier;
    if (sigma != 0 && !(sigma >= 0x1p-10 && sigma <= 1e6)) {
        return refuse(c, "noise_multiplier", sigma, "0, or from 1/1024 to 1e6");
    }
    if (o->epsilon == 0) {
        if (sigma == 0 && !o->without_noise) {
            return refuse(c, "noise_multiplier", 0, "above 0, or found from a budget; without_noise says: none");
        }
        if (o->delta == 0 && !o->steps) return PSG_OK;
        return refuse(c, "epsilon", 0, "above 0 where delta or steps are given: they are a budget's");
    }
    if (!(o->epsilon > 0 && isfinite(o->epsilon))) return refuse(c, "epsilon", o->epsilon, "above 0 and finite, or 0");
    if (!(o->delta > 0 && o->delta < 1)) return refuse(c, "delta", o->delta, "in (0, 1) with an epsilon");
    return sigma == 0 && !o->without_noise ? find_noise(c) : PSG_OK;
}

/* Sums, and the sums of some samples in doubles, must hold the integers. */
static psg_status check_grid(const checked *c) {
    const psg_dp_options *o = c->o;
    if (o->quantile > 0 && !(2 * o->quantile_noise > o->noise_multiplier * 1.001)) {
        return refuse(c, "quantile_noise", o->quantile_noise, "above half of noise_multiplier, whose share it takes");
    }
    double sigma = psg_quantile_gradient_noise(o), addend = sigma > 0 ? PSG_NOISE_SCALE / sigma : PSG_NOISE_SCALE;
    if (psg_grid_of(sigma, o->max_grad_norm, (double)c->elements).unit == 0) {
        return refuse(c, "noise_multiplier * sqrt(elements)", sigma * sqrt((double)c->elements), "at most 2^35");
    }
    if (o->quantile > 0) addend = fmax(addend, PSG_NOISE_SCALE / (2 * o->quantile_noise));   /* the count's */
    if ((double)o->max_batch_size * addend <= 0x1p60) return PSG_OK;
    return refuse(c, "max_batch_size / noise_multiplier", (double)o->max_batch_size * addend / PSG_NOISE_SCALE,
                  "at most 2^24: sums are 64-bit integers");
}

psg_status psg_dp_resolve(psg_context *context, psg_dp_options *options, int64_t elements, size_t param_count) {
    const checked c = { context, options, elements };
    if (psg_reserved_is_set(options->reserved)) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_dp_create: options" PSG_RESERVED_TEXT);
    }
    psg_status status = check_sampling(&c);
    if (!status) status = resolve_sizes(&c);
    if (!status) status = check_groups(&c, param_count);
    if (!status) status = check_clipping(&c);
    if (!status) status = resolve_quantile(&c);
    if (!status) status = resolve_noise(&c);
    return status ? status : check_grid(&c);
}
