#include "privacy_curve.h"

#include <math.h>

#include "bench_support.h"

/* The first releases of the account alone. */
static psg_status add_first(const psg_accountant *from, uint64_t releases, psg_accountant *first) {
    for (size_t k = 0; k < psg_accountant_runs(from) && releases > 0; k++) {
        psg_event event;
        uint64_t count;
        TRY(psg_accountant_run(from, k, &event, &count));
        if (count > releases) count = releases;
        TRY(psg_accountant_add(first, &event, count));
        releases -= count;
    }
    if (!psg_accountant_is_private(from)) psg_accountant_mark_not_private(first);
    return PSG_OK;
}

static psg_status epsilon_after(psg_context *context, const psg_accountant *accountant, uint64_t releases, double delta,
                                psg_privacy *privacy) {
    psg_accountant *first;
    TRY(psg_accountant_create(context, psg_accountant_relation(accountant), &first));
    psg_status status = add_first(accountant, releases, first);
    if (status == PSG_OK) status = psg_accountant_epsilon(first, delta, privacy);
    psg_accountant_destroy(first);
    return status;
}

/* Release number of point k: the first, the last, and between them as evenly as whole numbers go. */
static uint64_t release_of(size_t k, size_t count, uint64_t all) {
    return count < 2 ? all : 1 + (uint64_t)llround((double)k * (double)(all - 1) / (double)(count - 1));
}

psg_status privacy_over_releases(psg_context *context, const psg_accountant *accountant, double delta,
                                 privacy_curve *curve) {
    const uint64_t all = psg_accountant_releases(accountant);
    curve->count = all < PRIVACY_POINTS ? (size_t)all : PRIVACY_POINTS;
    for (size_t k = 0; k < curve->count; k++) {
        psg_privacy privacy;
        const uint64_t releases = release_of(k, curve->count, all);
        TRY(epsilon_after(context, accountant, releases, delta, &privacy));
        curve->at[k] = (double)releases;
        curve->upper[k] = privacy.epsilon;
        curve->lower[k] = privacy.epsilon_lower;
    }
    return PSG_OK;
}

psg_status privacy_over_epsilon(const psg_accountant *accountant, double most, privacy_curve *curve) {
    curve->count = PRIVACY_POINTS;
    for (size_t k = 0; k < curve->count; k++) {
        psg_privacy privacy;
        curve->at[k] = most * (double)(k + 1) / (double)curve->count;
        TRY(psg_accountant_delta(accountant, curve->at[k], &privacy));
        curve->upper[k] = privacy.delta;
        curve->lower[k] = privacy.delta_lower;
    }
    return PSG_OK;
}
