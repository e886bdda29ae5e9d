#include "event.h"

#include <math.h>

#include "base/context.h"

/* ---- refusals ---- */

typedef struct check {
    psg_context *context;
    const char *function;
    const psg_event *event;
} check;

static psg_status refuse(const check *c, const char *field, double value, const char *rule) {
    return psg_fail(c->context, PSG_ERR_ARGUMENT, "%s: %s of the event is %g, must be %s", c->function, field, value,
                    rule);
}

static psg_status refuse_unused(const check *c, const char *field, double value) {
    return refuse(c, field, value, "0 for this sampling");
}

/* ---- one field after another ---- */

static psg_status check_sampling(const check *c, psg_relation relation) {
    psg_sampling sampling = c->event->sampling;
    if ((unsigned)sampling > PSG_SAMPLING_EXTERNAL) return refuse(c, "sampling", (double)sampling, "a psg_sampling");
    if (sampling != PSG_SAMPLING_FIXED_SIZE || relation == PSG_REPLACE_ONE) return PSG_OK;
    return psg_fail(c->context, PSG_ERR_UNSUPPORTED,
                    "%s: PSG_SAMPLING_FIXED_SIZE has no bound for PSG_ADD_OR_REMOVE_ONE (a record more changes every "
                    "other record's chance), must be accounted under PSG_REPLACE_ONE", c->function);
}

static psg_status check_noise(const check *c) {
    const psg_event *e = c->event;
    if (!(e->noise_multiplier >= 0 && e->noise_multiplier <= 1e100)) {
        return refuse(c, "noise_multiplier", e->noise_multiplier, "at least 0 and at most 1e100");
    }
    if (!(isfinite(e->rho) && e->rho >= 0)) return refuse(c, "rho", e->rho, "finite and at least 0");
    if (e->rho == 0) return PSG_OK;
    if (e->sampling != PSG_SAMPLING_EXTERNAL) return refuse_unused(c, "rho", e->rho);
    return e->noise_multiplier == 0 ? PSG_OK : refuse(c, "noise_multiplier", e->noise_multiplier, "0 beside rho");
}

static psg_status check_rate(const check *c) {
    double rate = c->event->sample_rate;
    if (c->event->sampling > PSG_SAMPLING_TRUNCATED_POISSON) {
        return rate == 0 ? PSG_OK : refuse_unused(c, "sample_rate", rate);
    }
    return rate > 0 && rate <= 1 ? PSG_OK : refuse(c, "sample_rate", rate, "in (0, 1]");
}

static psg_status check_sizes(const check *c) {
    const psg_event *e = c->event;
    int has_records = e->sampling == PSG_SAMPLING_TRUNCATED_POISSON || e->sampling == PSG_SAMPLING_FIXED_SIZE;
    int has_epochs = e->sampling == PSG_SAMPLING_EPOCHS || e->sampling == PSG_SAMPLING_BALLS_IN_BINS;
    if (has_records && !(e->records && e->batch_size)) {
        return refuse(c, e->records ? "batch_size" : "records", 0, "at least 1");
    }
    if (!has_records && (e->records || e->batch_size)) {
        return refuse_unused(c, e->records ? "records" : "batch_size",
                             (double)(e->records ? e->records : e->batch_size));
    }
    if (e->sampling == PSG_SAMPLING_FIXED_SIZE && e->batch_size > e->records) {
        return refuse(c, "batch_size", (double)e->batch_size, "at most records");
    }
    if (has_epochs && !e->batches) return refuse(c, "batches", 0, "at least 1");
    return has_epochs || !e->batches ? PSG_OK : refuse_unused(c, "batches", (double)e->batches);
}

static psg_status check_residues(const check *c) {
    const psg_event *e = c->event;
    if (!(isfinite(e->residue_epsilon) && e->residue_epsilon >= 0)) {
        return refuse(c, "residue_epsilon", e->residue_epsilon, "finite and at least 0");
    }
    if (!(e->residue_delta >= 0 && e->residue_delta <= 1)) {
        return refuse(c, "residue_delta", e->residue_delta, "in [0, 1]");
    }
    for (int k = 0; k < 4; k++) {
        if (e->reserved[k]) return refuse(c, "reserved", (double)e->reserved[k], "0");
    }
    return PSG_OK;
}

psg_status psg_event_check(psg_context *context, const char *function, const psg_event *event, psg_relation relation) {
    if (!event) return psg_fail_null(context, function, "event");
    const check c = { context, function, event };
    psg_status status = check_sampling(&c, relation);
    if (!status) status = check_noise(&c);
    if (!status) status = check_rate(&c);
    if (!status) status = check_sizes(&c);
    return status ? status : check_residues(&c);
}

/* ---- comparison ---- */

int psg_event_equal(const psg_event *a, const psg_event *b) {
    return a->sampling == b->sampling && a->noise_multiplier == b->noise_multiplier &&
           a->sample_rate == b->sample_rate && a->records == b->records && a->batch_size == b->batch_size &&
           a->batches == b->batches && a->group_size == b->group_size && a->rho == b->rho &&
           a->residue_epsilon == b->residue_epsilon && a->residue_delta == b->residue_delta;
}

int psg_event_same_epochs(const psg_event *a, const psg_event *b) {
    return a->batches && a->batches == b->batches && a->sampling == b->sampling;
}
