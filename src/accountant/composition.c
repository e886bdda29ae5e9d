#include "composition.h"

#include <math.h>

#include "base/context.h"
#include "base/memory.h"
#include "binomial.h"
#include "numeric.h"
#include "parts.h"

static double square(double x) { return x * x; }

/* How far a neighbour moves one sum, in max_grad_norm: replaced records take two. */
static double sensitivity_of(const psg_composition *c, const psg_event *e) {
    double group = e->group_size ? (double)e->group_size : 1;
    return c->relation == PSG_REPLACE_ONE || e->sampling == PSG_SAMPLING_TRUNCATED_POISSON ? 2 * group : group;
}

/* Epochs that `releases` from `position` on touch: a record is in one release of each. */
static double epochs_of(const psg_event_run *run) {
    uint64_t batches = run->event.batches, first = batches - run->position;
    if (run->releases <= first) return 1;
    uint64_t rest = run->releases - first;
    return 1 + (double)(rest / batches) + (rest % batches != 0);
}

/* Releases that one record may be in. */
static double participations(const psg_event_run *run) {
    return run->event.batches ? epochs_of(run) : (double)run->releases;
}

/* ---- one run ---- */

static psg_mechanism poisson_part(const psg_event *e) {
    return (psg_mechanism){ .kind = PSG_MECHANISM_POISSON, .sigma = e->noise_multiplier, .rate = e->sample_rate,
                       .group = e->group_size ? e->group_size : 1 };
}

/* Zeroing a record frees its place for another where batch_size others or more were drawn besides: with probability
 * P(Bin(N - 1, q) >= B); in these cases it is among those kept with probability P(Bin(N, q) > B) B / N. */
static psg_mechanism truncated_part(const psg_event *e) {
    psg_mechanism part = poisson_part(e);
    part.full = psg_binomial_tail(e->records - 1, e->sample_rate, e->batch_size);
    if (part.full == 0) return part;
    double over = psg_binomial_tail(e->records, e->sample_rate, e->batch_size + 1);   /* batch_size < records here */
    part.kind = PSG_MECHANISM_TRUNCATED;
    part.full_rate = fmin(over * (double)e->batch_size / (double)e->records / part.full, 1);
    return part;
}

/* A batch meets a group of k with probability 1 - C(N - k, m) / C(N, m) <= k m / N. */
static psg_mechanism fixed_size_part(const psg_event *e) {
    uint64_t group = e->group_size ? e->group_size : 1;
    double rate = (double)group * ((double)e->batch_size / (double)e->records);
    return (psg_mechanism){ .kind = PSG_MECHANISM_FIXED_SIZE, .sigma = e->noise_multiplier, .rate = fmin(rate, 1),
                       .group = group };
}

static psg_mechanism bins_part(const psg_event_run *run) {
    return (psg_mechanism){ .kind = PSG_MECHANISM_BINS, .sigma = run->event.noise_multiplier, .group = 1,
                       .batches = run->event.batches, .position = run->position };
}

/* Bins are chosen once: several runs that share them are no independent releases. */
static int bins_are_alone(const psg_accountant *a, const psg_event_run *run) {
    if (a->relation != PSG_ADD_OR_REMOVE_ONE || run->event.group_size > 1) return 0;
    for (size_t k = 0; k < a->count; k++) {
        if (&a->runs[k] != run && psg_event_same_epochs(&a->runs[k].event, &run->event)) return 0;
    }
    return run->event.batches > 1;
}

/* Whether the run has a part of its own: sampling that the accountants give credit for. */
static int part_of(const psg_accountant *a, const psg_event_run *run, psg_mechanism *part) {
    const psg_event *e = &run->event;
    switch (e->sampling) {
    case PSG_SAMPLING_POISSON:
        *part = poisson_part(e);
        return e->sample_rate < 1;
    case PSG_SAMPLING_TRUNCATED_POISSON:
        if (a->relation == PSG_REPLACE_ONE) {   /* who is in the batch does not depend on a record's values */
            *part = poisson_part(e);
            return e->sample_rate < 1;
        }
        *part = truncated_part(e);
        return e->group_size <= 1 && (part->kind == PSG_MECHANISM_TRUNCATED || e->sample_rate < 1);
    case PSG_SAMPLING_FIXED_SIZE:
        *part = fixed_size_part(e);
        return part->rate < 1;
    case PSG_SAMPLING_BALLS_IN_BINS:
        *part = bins_part(run);
        return bins_are_alone(a, run);
    default:
        return 0;
    }
}

static psg_status add_run(psg_composition *c, const psg_accountant *a, const psg_event_run *run) {
    const psg_event *e = &run->event;
    c->residue_epsilon += (double)run->releases * e->residue_epsilon;
    c->residue_delta += (double)run->releases * e->residue_delta;
    if (e->rho > 0) {
        c->rho += (double)run->releases * e->rho;
        return PSG_OK;
    }
    if (e->noise_multiplier == 0) c->unbounded = 1;
    if (c->unbounded) return PSG_OK;
    double squared_mu = participations(run) * square(sensitivity_of(c, e) / e->noise_multiplier);
    psg_mechanism part;
    c->squared_mu_all += squared_mu;
    if (part_of(a, run, &part)) {
        part.releases = run->releases;
        return psg_parts_add(c, &part);
    }
    c->squared_mu += squared_mu;
    return PSG_OK;
}

psg_status psg_composition_of(const psg_accountant *accountant, const char *function, psg_composition *composition) {
    psg_composition *c = composition;
    *c = (psg_composition){ .context = accountant->context, .relation = accountant->relation };
    psg_status status = psg_parts_reserve(c, function, accountant->count);
    for (size_t k = 0; !status && k < accountant->count; k++) status = add_run(c, accountant, &accountant->runs[k]);
    if (!status) psg_parts_merge(c);
    return status;
}

void psg_composition_free(psg_composition *composition) { psg_free(composition->context, composition->parts); }
