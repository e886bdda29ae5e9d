#include <math.h>
#include <sodium.h>

#include "base/context.h"
#include "base/floats.h"
#include "base/memory.h"
#include "base/shapes.h"
#include "dp/account.h"
#include "dp/random.h"

/* ---- creation ---- */

static psg_status check_arguments(psg_context *context, const psg_generator *generator, const psg_dp_options *options,
                                  const int64_t *param_counts, size_t param_count) {
    if (!generator || !options || !param_counts) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_dp_create: %s is NULL, must not be%s",
                        !generator ? "generator" : !options ? "options" : "param_counts",
                        generator && options ? " (a psg_params has its counts after psg_params_initialize)" : "");
    }
    if (generator->context != context) {
        return psg_fail(context, PSG_ERR_ARGUMENT,
                        "psg_dp_create: generator is of another context, must be of this one");
    }
    if (!param_count || param_count > UINT32_MAX) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_dp_create: param_count is %zu, must be in [1, 2^32)",
                        param_count);
    }
    if (options->earlier && psg_accountant_relation(options->earlier) != options->relation) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_dp_create: earlier has relation %d, must have that of the options, "
                        "%d", (int)psg_accountant_relation(options->earlier), (int)options->relation);
    }
    return psg_generator_check(generator, "psg_dp_create");
}

static psg_status count_elements(psg_context *context, const int64_t *param_counts, size_t param_count,
                                 int64_t *total) {
    *total = 0;
    for (size_t k = 0; k < param_count; k++) {
        if (param_counts[k] < 0) {
            return psg_fail(context, PSG_ERR_SHAPE, "psg_dp_create: param_counts[%zu] is %lld, must be at least 0", k,
                            (long long)param_counts[k]);
        }
        if (__builtin_add_overflow(*total, param_counts[k], total) || *total == INT64_MAX) {
            return psg_fail(context, PSG_ERR_OVERFLOW, "psg_dp_create: the sum of param_counts must be below 2^63 - 1");
        }
    }
    return PSG_OK;
}

static psg_status take(const psg_dp *dp, int64_t count, size_t size, void **memory) {
    size_t bytes;
    if (!psg_size_bytes(count, size, &bytes)) {
        return psg_fail(dp->context, PSG_ERR_OVERFLOW, "psg_dp_create: %lld elements do not fit memory",
                        (long long)count);
    }
    *memory = psg_alloc_zeroed(dp->context, bytes);
    return *memory ? PSG_OK : psg_fail_memory(dp->context, "psg_dp_create", bytes);
}

/* An error leaves what was taken in dp, for psg_dp_destroy. */
static psg_status take_memory(psg_dp *dp, int64_t total) {
    int64_t params = (int64_t)dp->param_count, most = dp->options.max_batch_size;
    bool shuffles = dp->options.sampling == PSG_SAMPLING_EPOCHS;
    const struct { int64_t count; size_t size; void **memory; } wanted[] = {
        { params + 1, sizeof *dp->offset, (void **)&dp->offset },
        { params, sizeof *dp->views, (void **)&dp->views },
        { params, sizeof *dp->gradients, (void **)&dp->gradients },
        { params, sizeof *dp->group, (void **)&dp->group },
        { dp->options.group_count, sizeof *dp->share, (void **)&dp->share },
        { most, sizeof *dp->ids, (void **)&dp->ids },
        { most, sizeof *dp->drawn, (void **)&dp->drawn },
        { shuffles ? (int64_t)dp->options.records : 0, sizeof *dp->order, (void **)&dp->order },
        { total + psg_dp_has_quantile(dp), sizeof *dp->sums, (void **)&dp->sums },
    };
    psg_status status = PSG_OK;
    for (size_t k = 0; !status && k < sizeof wanted / sizeof wanted[0]; k++) {
        status = take(dp, wanted[k].count, wanted[k].size, wanted[k].memory);
    }
    return status;
}

static void lay_out(psg_dp *dp, const psg_dp_options *given, const int64_t *param_counts) {
    double square = 0;
    for (int g = 0; g < dp->options.group_count; g++) {
        dp->share[g] = given->group_norms ? given->group_norms[g] : 1;
        square += dp->share[g] * dp->share[g];
    }
    for (int g = 0; g < dp->options.group_count; g++) {   /* rounded down: the squares add up to at most 1 */
        dp->share[g] *= dp->options.group_count > 1 ? (1 - 0x1p-40) / sqrt(square) : 1 / dp->share[g];
    }
    for (size_t k = 0; k < dp->param_count; k++) {
        dp->offset[k + 1] = dp->offset[k] + (size_t)param_counts[k];
        dp->group[k] = dp->options.group_count > 1 ? given->groups ? given->groups[k] : (int)k : 0;
    }
}

static psg_status fill(psg_dp *dp, const psg_dp_options *given, const int64_t *param_counts) {
    int64_t total;
    psg_status status = count_elements(dp->context, param_counts, dp->param_count, &total);
    if (!status) status = psg_dp_resolve(dp->context, &dp->options, total, dp->param_count);
    if (status) return status;
    if (dp->options.group_count < 1) dp->options.group_count = 1;
    dp->event = psg_dp_event(&dp->options, total);
    status = take_memory(dp, total);
    if (!status) status = psg_dp_open_account(dp, given);
    if (status) return status;
    lay_out(dp, given, param_counts);
    dp->max_grad_norm = dp->options.max_grad_norm;
    dp->gradient_noise = psg_quantile_gradient_noise(&dp->options);
    dp->grid = psg_grid_of(dp->gradient_noise, dp->max_grad_norm, (double)total);
    dp->epoch = UINT64_MAX;
    dp->owner = dp->generator->next_owner++;
    return PSG_OK;
}

psg_status psg_dp_create(psg_context *context, psg_generator *generator, const psg_dp_options *options,
                         const int64_t *param_counts, size_t param_count, psg_dp **dp) {
    PSG_DEFAULT_FLOATS;
    if (!context) return PSG_ERR_ARGUMENT;
    if (!dp) return psg_fail_null(context, "psg_dp_create", "dp");
    *dp = NULL;
    psg_status status = check_arguments(context, generator, options, param_counts, param_count);
    if (status) return status;
    psg_dp *made = psg_new_object(context, sizeof *made);
    if (!made) return psg_fail_memory(context, "psg_dp_create", sizeof *made);
    *made = (psg_dp){ .context = context, .generator = generator, .options = *options, .param_count = param_count,
                      .ranks = PSG_DP_RANKS_INIT };
    psg_hold(&generator->owner);
    status = psg_fail_as(context, "psg_dp_create", fill(made, options, param_counts));
    if (status) {
        psg_dp_destroy(made);
        return status;
    }
    *dp = made;
    return PSG_OK;
}

/* Sums that were never released are wiped. */
void psg_dp_destroy(psg_dp *dp) {
    if (!dp) return;
    if (dp->sums) sodium_memzero(dp->sums, psg_dp_sum_room(dp) * sizeof *dp->sums);
    if (dp->ids && dp->drawn) psg_dp_forget_batch(dp);
    void *const memory[] = { dp->sums, dp->ids, dp->drawn, dp->order, dp->share, dp->group, dp->gradients, dp->views,
                             dp->offset };
    for (size_t k = 0; k < sizeof memory / sizeof memory[0]; k++) psg_free(dp->context, memory[k]);
    psg_dp_close_account(dp);
    psg_let_go(&dp->generator->owner);
    psg_free_object(dp->context, dp);
}

void psg_dp_set_reduce(psg_dp *dp, psg_dp_reduce reduce, void *user) {
    if (!dp) return;
    dp->reduce = reduce;
    dp->reduce_user = user;
}

/* ---- what it is ---- */

uint64_t psg_dp_step(const psg_dp *dp) { return dp ? dp->step : 0; }
double psg_dp_noise_multiplier(const psg_dp *dp) { return dp ? dp->options.noise_multiplier : 0; }
double psg_dp_max_grad_norm(const psg_dp *dp) { return dp ? dp->max_grad_norm : 0; }
double psg_dp_expected_batch_size(const psg_dp *dp) { return dp ? dp->options.expected_batch_size : 0; }
int64_t psg_dp_max_batch_size(const psg_dp *dp) { return dp ? dp->options.max_batch_size : 0; }
const psg_accountant *psg_dp_accountant(const psg_dp *dp) { return dp ? dp->accountant : NULL; }

size_t psg_dp_parameter_at(const psg_dp *dp, size_t at) {
    size_t low = 0, high = dp->param_count;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        *(dp->offset[middle] <= at ? &low : &high) = middle;
    }
    return low;
}

uint64_t psg_dp_recorded_ahead(const psg_dp *dp) { return dp ? dp->ahead : 0; }

uint64_t psg_dp_remaining(psg_dp *dp) {
    if (!dp) return 0;
    if (!psg_dp_has_ranks(dp) && psg_dp_refresh_account(dp, "psg_dp_remaining")) return 1;
    const uint64_t most = psg_dp_most_steps(dp);
    return most == UINT64_MAX ? UINT64_MAX : most > dp->step ? most - dp->step : 0;
}

psg_status psg_dp_privacy(psg_dp *dp, double delta, psg_privacy *privacy) {
    if (!dp) return PSG_ERR_ARGUMENT;
    if (dp->is_account_elsewhere) {
        return psg_fail(dp->context, PSG_ERR_STATE, "psg_dp_privacy: this is rank %d and counts its own releases alone; "
                        "ask rank 0, which has the ledger", dp->ranks.rank);
    }
    psg_status status = psg_dp_refresh_account(dp, "psg_dp_privacy");
    if (!status) status = psg_accountant_epsilon(dp->accountant, delta, privacy);
    return psg_fail_as(dp->context, "psg_dp_privacy", status);
}
