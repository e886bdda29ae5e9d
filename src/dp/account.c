#include "dp/account.h"

#include <string.h>

#include "accountant/runs.h"
#include "base/context.h"
#include "dp/random.h"

/* ---- what is counted ---- */

/* Others first, so that the mechanism's own releases lengthen the last run and take no memory. */
static psg_status gather(const psg_dp *dp, const char *function, const psg_dp_place *place, psg_accountant *account,
                         bool *is_seeded) {
    psg_status status = dp->earlier ? psg_accountant_merge(account, dp->earlier) : PSG_OK;
    *is_seeded = psg_generator_is_seeded(dp->generator);
    if (!status && dp->ledger) {
        bool others;
        status = psg_ledger_runs_account(psg_ledger_all(dp->ledger), place->run, account, &others);
        *is_seeded |= others;
    }
    if (!status) status = psg_accountant_add(account, &dp->event, dp->ledger ? 0 : place->step);
    return status ? status : psg_accountant_reserve(account, function, 1);
}

/* Steps that the budget allows, those that are made or recorded included.  It counts what noise costs, whoever knows
 * its seed. */
static psg_status count_budget(const psg_dp *dp, const psg_dp_place *place, psg_dp_tally *tally) {
    const psg_dp_options *o = &dp->options;
    const uint64_t spent = place->step + place->ahead;
    uint64_t remaining;
    tally->most_steps = UINT64_MAX;
    if (o->epsilon == 0) return PSG_OK;
    psg_status status = psg_accountant_remaining(tally->accountant, &dp->event, o->epsilon, o->delta, &remaining);
    if (status) return status;
    if (remaining < UINT64_MAX - spent) tally->most_steps = spent + remaining;
    if (o->steps && tally->most_steps > o->steps) tally->most_steps = o->steps > spent ? o->steps : spent;
    return PSG_OK;
}

psg_status psg_dp_count(const psg_dp *dp, const char *function, const psg_dp_place *place, psg_dp_tally *tally) {
    bool is_seeded;
    psg_status status = psg_accountant_create(dp->context, dp->options.relation, &tally->accountant);
    if (status) return status;
    status = gather(dp, function, place, tally->accountant, &is_seeded);
    if (!status) status = count_budget(dp, place, tally);
    if (status) psg_dp_drop_tally(tally);
    else if (is_seeded) psg_accountant_mark_not_private(tally->accountant);
    return status;
}

void psg_dp_drop_tally(psg_dp_tally *tally) {
    psg_accountant_destroy(tally->accountant);
    tally->accountant = NULL;
}

void psg_dp_take_tally(psg_dp *dp, psg_dp_tally *tally) {
    psg_accountant_swap(dp->accountant, tally->accountant);
    dp->most_steps = tally->most_steps;
    if (dp->ledger) dp->counted = psg_ledger_last(dp->ledger).lines;
    psg_dp_drop_tally(tally);
}

static psg_status count_here(psg_dp *dp, const char *function) {
    const psg_dp_place here = { dp->run, dp->step, dp->ahead };
    psg_dp_tally tally;
    psg_status status = psg_dp_count(dp, function, &here, &tally);
    if (!status) psg_dp_take_tally(dp, &tally);
    return status;
}

static psg_status check_most(const psg_dp *dp, const char *function, uint64_t most) {
    const psg_dp_options *o = &dp->options;
    if (dp->step < most) return PSG_OK;
    if (o->steps && most == o->steps) {
        return psg_fail(dp->context, PSG_ERR_BUDGET, "%s: steps allows %llu releases, which are made", function,
                        (unsigned long long)o->steps);
    }
    if (!dp->step && dp->ledger) {
        return psg_fail(dp->context, PSG_ERR_BUDGET, "%s: the budget of epsilon %g at delta %g is spent by what the ledger "
                        "holds, must be larger or the ledger another; psg_dp_load goes on with a run of it", function,
                        o->epsilon, o->delta);
    }
    return psg_fail(dp->context, PSG_ERR_BUDGET, "%s: the budget of epsilon %g at delta %g allows %llu releases%s, which "
                    "are made", function, o->epsilon, o->delta, (unsigned long long)most,
                    dp->ledger ? " of this mechanism beside what else the ledger holds" : "");
}

psg_status psg_dp_check_budget(const psg_dp *dp, const char *function) {
    return check_most(dp, function, psg_dp_most_steps(dp));
}

/* ---- life ---- */

static psg_status check_options(const psg_dp *dp, const char *path) {
    const uint64_t ahead = dp->options.ledger_ahead, most = path ? (uint64_t)1 << 20 : 0;
    if (path && !*path) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_create: ledger is \"\", must be a path or NULL");
    }
    if (ahead <= most) return PSG_OK;
    return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_create: ledger_ahead is %llu, must be at most %llu%s",
                    (unsigned long long)ahead, (unsigned long long)most, path ? "" : " without a ledger");
}

static psg_status open_ledger(psg_dp *dp, const char *path) {
    psg_status status = check_options(dp, path);
    if (status || !path) return status;
    status = psg_name_run(dp->context, "psg_dp_create", dp->run);
    return status ? status : psg_ledger_open(dp->context, "psg_dp_create", path, PSG_LEDGER_APPEND,
                                             dp->options.relation, &dp->ledger);
}

/* Without a ledger a budget that allows nothing is a mistake; with one it may be spent. */
static psg_status check_use(const psg_dp *dp) {
    if (dp->most_steps || dp->ledger) return PSG_OK;
    return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_create: noise_multiplier %g allows no release within "
                    "epsilon %g at delta %g", dp->options.noise_multiplier, dp->options.epsilon, dp->options.delta);
}

/* A list in the mechanism's own context, whatever context `earlier` is of. */
static psg_status copy_earlier(psg_dp *dp, const psg_accountant *earlier) {
    if (!earlier) return PSG_OK;
    psg_status status = psg_accountant_create(dp->context, dp->options.relation, &dp->earlier);
    return status ? status : psg_accountant_merge(dp->earlier, earlier);
}

psg_status psg_dp_open_account(psg_dp *dp, const psg_dp_options *given) {
    psg_status status = psg_accountant_create(dp->context, dp->options.relation, &dp->accountant);
    if (!status) status = copy_earlier(dp, given->earlier);
    if (!status) status = open_ledger(dp, given->ledger);
    if (!status) status = count_here(dp, "psg_dp_create");
    dp->pace = 1;
    return status ? status : check_use(dp);
}

void psg_dp_close_account(psg_dp *dp) {
    psg_ledger_close(dp->ledger);
    psg_accountant_destroy(dp->earlier);
    psg_accountant_destroy(dp->accountant);
}

/* ---- what others have spent ---- */

/* Lines that were read and are not in the accountant: others', also where memory ended before they were counted. */
static psg_status count_others(psg_dp *dp, const char *function) {
    return psg_ledger_last(dp->ledger).lines == dp->counted ? PSG_OK : count_here(dp, function);
}

psg_status psg_dp_refresh_account(psg_dp *dp, const char *function) {
    if (!dp->ledger || psg_generator_is_forked(dp->generator)) return PSG_OK;
    psg_status status = psg_ledger_refresh(dp->ledger, function);
    return status ? status : count_others(dp, function);
}

/* ---- a release ---- */

#define MOST_AHEAD ((uint64_t)32)

/* Steps that one line covers: 1, 2, 4, ..., 32, and not by the time that they take: what is recorded may be published,
 * and times may not. */
static uint64_t how_many(const psg_dp *dp) {
    const uint64_t allowed = dp->most_steps - dp->step;
    const uint64_t wanted = dp->options.ledger_ahead ? dp->options.ledger_ahead : dp->pace;
    return allowed < wanted ? allowed : wanted;
}

static psg_ledger_line next_line(const psg_dp *dp) {
    psg_ledger_line line = { .first = dp->step, .count = how_many(dp), .event = dp->event };
    memcpy(line.run, dp->run, PSG_RUN_TEXT);
    line.relation = dp->options.relation;
    line.max_grad_norm = dp->max_grad_norm;
    line.is_seeded = psg_generator_is_seeded(dp->generator) != 0;
    return line;
}

/* A line for the next steps; what others have written is counted before. */
static psg_status append_line(psg_dp *dp, const char *function) {
    psg_status status = count_others(dp, function);
    if (!status) status = check_most(dp, function, dp->most_steps);
    if (status) return status;
    const psg_ledger_line line = next_line(dp);
    status = psg_ledger_append(dp->ledger, function, &line);
    if (!status) status = psg_accountant_add(dp->accountant, &dp->event, line.count);
    if (status) return status;
    dp->counted = psg_ledger_last(dp->ledger).lines;
    dp->ahead = line.count;
    dp->pace = 2 * dp->pace < MOST_AHEAD ? 2 * dp->pace : MOST_AHEAD;
    return PSG_OK;
}

static psg_status record_ahead(psg_dp *dp, const char *function) {
    psg_status status = psg_ledger_begin(dp->ledger, function);
    if (status) return status;
    status = append_line(dp, function);
    psg_ledger_end(dp->ledger);
    return status;
}

psg_status psg_dp_record(psg_dp *dp, const char *function) {
    return dp->ledger && !dp->ahead ? record_ahead(dp, function) : PSG_OK;
}

psg_status psg_dp_count_release(psg_dp *dp) {
    if (dp->ahead) dp->ahead--;
    return dp->ledger ? PSG_OK : psg_accountant_add(dp->accountant, &dp->event, 1);
}
