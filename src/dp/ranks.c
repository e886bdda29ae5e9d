#include "dp/ranks.h"

#include <sodium.h>
#include <string.h>

#include "base/context.h"
#include "base/floats.h"
#include "base/parallel.h"
#include "base/writer.h"
#include "dp/ranks_slices.h"
#include "dp/release_noise.h"
#include "dp/wide_integer.h"
#include "optim/optimizer.h"

/* ---- which records ---- */

/* Rank r has the records from floor(N r / R) on: record i is that of floor((R (i + 1) - 1) / N). */
int psg_rank_of(const psg_dp *dp, int64_t record) {
    const psg_u128 ranks = (psg_u128)dp->ranks.ranks;
    return (int)((ranks * ((uint64_t)record + 1) - 1) / dp->options.records);
}

/* Ids ascend in the order of the batch. */
psg_status psg_dp_own_batch(psg_dp *dp, const psg_batch *batch, psg_batch *own) {
    if (!dp) return PSG_ERR_ARGUMENT;
    if (!batch || !own || batch->owner != dp->owner || (batch->count > 0 && !batch->ids)) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_own_batch: batch is not of this psg_dp, or own is NULL");
    }
    int64_t first = 0, end = batch->count;
    if (psg_dp_has_ranks(dp)) {
        while (first < end && psg_rank_of(dp, batch->ids[first]) < dp->ranks.rank) first++;
        while (end > first && psg_rank_of(dp, batch->ids[end - 1]) > dp->ranks.rank) end--;
    }
    *own = psg_batch_part(batch, first, end - first);
    return PSG_OK;
}

/* ---- agreement ---- */

/* A hook's status may be any number; a vote is a status and the number of a rank. */
static psg_status known(psg_status status) {
    const int number = (int)status;
    return number >= PSG_OK && number <= PSG_ERR_BUDGET ? status : PSG_ERR_SYSTEM;
}

static psg_status fail_channel(const psg_dp *dp, const char *function, const char *what, psg_status status) {
    return psg_fail(dp->context, known(status), "%s: the ranks' %s returned %s", function, what, psg_status_name(status));
}

psg_status psg_ranks_largest(const psg_dp *dp, const char *function, int64_t *value) {
    const psg_status sent = dp->ranks.largest(dp->ranks.user, value);
    return sent ? fail_channel(dp, function, "largest", sent) : PSG_OK;
}

static bool is_vote(const psg_dp *dp, int64_t vote) {
    const int64_t status = vote >> 32;
    return vote == 0 || (status > PSG_OK && status <= PSG_ERR_BUDGET && (vote & UINT32_MAX) < dp->ranks.ranks);
}

psg_status psg_ranks_agree(const psg_dp *dp, const char *function, psg_status status) {
    if (!psg_dp_has_ranks(dp)) return status;
    status = known(status);
    int64_t worst = status ? (int64_t)status << 32 | dp->ranks.rank : 0;
    const psg_status sent = psg_ranks_largest(dp, function, &worst);
    if (sent) return sent;
    if (!is_vote(dp, worst)) {
        return psg_fail(dp->context, PSG_ERR_SYSTEM, "%s: what another rank sent is no vote: ranks are in different "
                        "calls, or the channel is used by others", function);
    }
    if (worst >> 32 == (int64_t)status) return status;
    return psg_fail(dp->context, (psg_status)(worst >> 32), "%s: rank %d of %d failed: %s; this is rank %d", function,
                    (int)(worst & INT32_MAX), dp->ranks.ranks, psg_status_name((psg_status)(worst >> 32)),
                    dp->ranks.rank);
}

psg_status psg_dp_agree(psg_dp *dp, psg_status status) {
    return dp ? psg_ranks_agree(dp, "psg_dp_agree", status) : PSG_ERR_ARGUMENT;
}

psg_status psg_ranks_broadcast(const psg_dp *dp, const char *function, void *data, size_t bytes) {
    if (!psg_dp_has_ranks(dp)) return PSG_OK;
    const psg_status sent = dp->ranks.broadcast(dp->ranks.user, data, bytes);
    return sent ? fail_channel(dp, function, "broadcast", sent) : PSG_OK;
}

psg_status psg_ranks_follow(psg_dp *dp, const char *function, psg_status status) {
    uint64_t budget[2] = { dp->most_steps, dp->ahead };
    if (!psg_dp_has_ranks(dp)) return status;
    status = psg_ranks_agree(dp, function, status);
    const psg_status sent = psg_ranks_broadcast(dp, function, budget, sizeof budget);
    if (!sent) {
        dp->agreed_steps = budget[0];
        dp->ahead = budget[1];
    }
    return psg_ranks_agree(dp, function, status ? status : sent);   /* also where one rank alone lost the first vote */
}

/* ---- what moves is the same everywhere ---- */

/* A number that all ranks have in common; a real one by its bits, which order those above 0. */
typedef struct common {
    const char *name;
    enum { COUNT, REAL, HASH } kind;
    int64_t value, smallest, largest;
} common;

static common common_real(const char *name, double value) {
    common one = { name, REAL, 0, 0, 0 };
    memcpy(&one.value, &value, sizeof value);
    return one;
}

static int64_t hash_values(const psg_dp *dp, const psg_optimizer *optimizer) {
    crypto_generichash_state hash;
    int64_t value;
    crypto_generichash_init(&hash, NULL, 0, crypto_generichash_BYTES_MIN);
    for (size_t k = 0; k < optimizer->count; k++) {
        const psg_tensor *values = &optimizer->values[k];
        crypto_generichash_update(&hash, values->data, psg_dp_elements(dp, k) * psg_dtype_size(values->dtype));
    }
    unsigned char bytes[crypto_generichash_BYTES_MIN];
    crypto_generichash_final(&hash, bytes, sizeof bytes);
    memcpy(&value, bytes, sizeof value);
    return value;
}

/* The smallest is ~largest(~value). */
static psg_status find_range(const psg_dp *dp, const char *function, common *one) {
    int64_t below = ~one->value;
    one->largest = one->value;
    const psg_status sent = psg_ranks_largest(dp, function, &one->largest);
    const psg_status too = psg_ranks_largest(dp, function, &below);   /* whatever became of the first: others are there */
    one->smallest = ~below;
    return sent ? sent : too;
}

static void put_value(psg_writer *w, const common *one, int64_t value) {
    double real;
    memcpy(&real, &value, sizeof real);
    if (one->kind == REAL) psg_put_number(w, real);
    else psg_put(w, one->kind == HASH ? "%016llx" : "%llu", (unsigned long long)value);
}

static psg_status fail_common(const psg_dp *dp, const char *function, const common *one) {
    char text[160] = "";
    psg_writer w = { text, sizeof text, 0 };
    const int64_t values[3] = { one->value, one->smallest, one->largest };
    static const char *const words[3] = { "", " on this rank, on all from ", " to " };
    for (int k = 0; k < 3; k++) {
        psg_put(&w, "%s", words[k]);
        put_value(&w, one, values[k]);
    }
    return psg_fail(dp->context, PSG_ERR_STATE, "%s: %s before step %llu is %s, must be the same on all ranks (this is "
                    "rank %d)", function, one->name, (unsigned long long)dp->step, text, dp->ranks.rank);
}

/* Every rank makes all the calls, and all agree on the end. */
psg_status psg_ranks_compare(psg_dp *dp, const char *function, const psg_optimizer *optimizer) {
    if (!psg_dp_has_ranks(dp) || dp->step < dp->compare_at) return PSG_OK;
    common all[] = {
        { "the number of the step", COUNT, (int64_t)dp->step, 0, 0 },
        { "the number of steps that the ledger has recorded ahead", COUNT, (int64_t)dp->ahead, 0, 0 },
        common_real("the clipping norm", dp->max_grad_norm),
        common_real("the learning rate", optimizer ? optimizer->lr : 0),
        { "a hash of the parameters", HASH, optimizer ? hash_values(dp, optimizer) : 0, 0, 0 },
    };
    psg_status status = PSG_OK;
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) {
        psg_status found = find_range(dp, function, &all[k]);
        if (!found && !status && all[k].smallest != all[k].largest) found = fail_common(dp, function, &all[k]);
        if (!status) status = found;
    }
    status = psg_ranks_agree(dp, function, status);
    if (status) return status;
    dp->compare_at = dp->step + dp->ranks.check_every;
    return PSG_OK;
}

psg_status psg_ranks_same(const psg_dp *dp, const char *function, const char *name, int64_t hash) {
    if (!psg_dp_has_ranks(dp)) return PSG_OK;
    common one = { name, HASH, hash, 0, 0 };
    psg_status status = find_range(dp, function, &one);
    if (!status && one.smallest != one.largest) status = fail_common(dp, function, &one);
    return psg_ranks_agree(dp, function, status);
}

/* ---- sums and noise ---- */

/* The part of the sums that this rank adds noise to, without the count. */
typedef struct noise_job {
    psg_dp *dp;
    psg_slice slice;
} noise_job;

/* What of a block of noise lies in the slice. */
static void add_block(void *argument, size_t index, unsigned slot) {
    const noise_job *job = argument;
    const psg_slice *s = &job->slice;
    psg_dp *dp = job->dp;
    psg_noise_scratch *scratch = dp->context->workspace[slot];
    const size_t block = s->first / PSG_GRID_BLOCK + index, begin = block * PSG_GRID_BLOCK;
    const size_t first = begin > s->first ? begin : s->first;
    const size_t end = begin + PSG_GRID_BLOCK < s->end ? begin + PSG_GRID_BLOCK : s->end;
    psg_dp_make_noise(dp, PSG_NOISE_OF_SUMS, block, end - begin, scratch);
    for (size_t at = first; at < end; at++) dp->sums[at] += scratch->noise[at - begin];
    sodium_memzero(scratch->noise, (end - begin) * sizeof *scratch->noise);
}

static void add_noise(psg_dp *dp) {
    noise_job job = { dp, psg_slice_of(dp, dp->ranks.rank) };
    const size_t first = job.slice.first / PSG_GRID_BLOCK;
    if (job.slice.first < job.slice.end) {
        psg_parallel(dp->context, PSG_GRID_BLOCKS(job.slice.end) - first, add_block, &job);
    }
}

static psg_status reduce_scatter(psg_dp *dp, const char *function) {
    const psg_status sent = dp->ranks.reduce_scatter(dp->ranks.user, dp->sums, dp->block);
    return sent ? fail_channel(dp, function, "reduce_scatter", sent) : PSG_OK;
}

psg_status psg_ranks_gather(psg_dp *dp, const char *function, void *blocks, size_t bytes) {
    const psg_status sent = dp->ranks.gather(dp->ranks.user, blocks, bytes);
    return sent ? fail_channel(dp, function, "gather", sent) : PSG_OK;
}

/* The count of a quantile, which lies behind the parameters, of the rank in whose block it is. */
static psg_status share_count(psg_dp *dp, const char *function) {
    if (!psg_dp_has_quantile(dp)) return PSG_OK;
    const size_t at = psg_dp_total(dp);
    const bool is_own = at / dp->block == (size_t)dp->ranks.rank;
    int64_t count = is_own ? dp->sums[at] : INT64_MIN;
    const psg_status status = psg_ranks_largest(dp, function, &count);
    dp->sums[at] = count;
    return status;
}

static psg_status share_sums(psg_dp *dp, const char *function, bool slices) {
    if (slices) return share_count(dp, function);
    return psg_ranks_gather(dp, function, dp->sums, dp->block * sizeof *dp->sums);
}

psg_status psg_ranks_add(psg_dp *dp, const char *function, bool slices, psg_status status) {
    if (!psg_dp_has_ranks(dp)) return status;
    status = psg_ranks_agree(dp, function, status);
    if (!status) status = psg_ranks_agree(dp, function, reduce_scatter(dp, function));
    if (!status) add_noise(dp);
    if (!status) status = psg_ranks_agree(dp, function, share_sums(dp, function, slices));
    if (status) sodium_memzero(dp->sums, psg_dp_sum_room(dp) * sizeof *dp->sums);
    return status;
}
