/* The batch of a step: drawn from streams of the mechanism's own, or the caller's. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "base/floats.h"
#include "dp/account.h"
#include "dp/random.h"
#include "dp/ranks.h"
#include "dp/wide_integer.h"

/* ---- words ---- */

enum { CHUNK = 1024 };   /* words a read of a stream */

/* Word i of a stream, i ascending. */
typedef struct words {
    const psg_generator *generator;
    psg_stream stream;
    uint64_t wanted;                /* some of the first so many; others come a few at a time */
    uint64_t first, count;          /* words [first, first + count) are here */
    uint64_t word[CHUNK];
} words;

static void open_words(const psg_dp *dp, psg_purpose purpose, uint64_t step, uint64_t wanted, words *w) {
    w->generator = dp->generator;
    w->stream = (psg_stream){ purpose, 0, dp->owner, step };
    w->wanted = wanted;
    w->first = w->count = 0;
}

static uint64_t word(words *w, uint64_t i) {
    if (i < w->first || i - w->first >= w->count) {
        w->first = i / PSG_WORDS_PER_BLOCK * PSG_WORDS_PER_BLOCK;
        uint64_t rest = i < w->wanted ? w->wanted - w->first : PSG_WORDS_PER_BLOCK;
        w->count = rest < CHUNK ? rest : CHUNK;
        psg_stream_read(w->generator, &w->stream, w->first / PSG_WORDS_PER_BLOCK, w->word, w->count * sizeof *w->word);
    }
    return w->word[i - w->first];
}

static void close_words(words *w) {
    uint64_t held = w->wanted < CHUNK ? w->wanted : CHUNK;
    sodium_memzero(w->word, (held < PSG_WORDS_PER_BLOCK ? PSG_WORDS_PER_BLOCK : held) * sizeof *w->word);
}

/* Words from far away, until one serves. */
static uint64_t below_again(const words *w, uint64_t i, uint64_t n) {
    words again = { .generator = w->generator, .stream = w->stream, .wanted = PSG_WORDS_PER_BLOCK };
    psg_u128 product = 0;
    for (uint64_t k = 1; (uint64_t)product < -n % n; k++) product = (psg_u128)word(&again, (k << 57) + i) * n;
    close_words(&again);
    return (uint64_t)(product >> 64);
}

/* An integer below n, each with probability 1 / n, from word i (Lemire, "Fast random integer generation in an
 * interval", 2019): words whose low half is among the 2^64 % n that would make some likelier do not serve. */
static uint64_t below(words *w, uint64_t i, uint64_t n) {
    psg_u128 product = (psg_u128)word(w, i) * n;
    bool serves = (uint64_t)product >= n || (uint64_t)product >= -n % n;
    return serves ? (uint64_t)(product >> 64) : below_again(w, i, n);
}

/* ---- the samplings ----
 * Each calls `put` for the records of a batch, ascending.  What decides about record i is word i. */

/* All that are drawn; those beyond max_batch_size are counted alone. */
static void put(psg_dp *dp, uint64_t record) {
    if (dp->count < dp->options.max_batch_size) dp->ids[dp->count] = (int64_t)record;
    dp->count++;
}

/* Word i is below floor(rate 2^64); scaling by 2^64 is exact, and a rate below 1 is at most 1 - 2^-53. */
static void draw_poisson(psg_dp *dp, words *w) {
    double rate = dp->options.sample_rate;
    uint64_t threshold = rate < 1 ? (uint64_t)(rate * 0x1p64) : 0;
    for (uint64_t i = 0; i < dp->options.records; i++) {
        if (rate == 1 || word(w, i) < threshold) put(dp, i);
    }
}

/* Reservoir sampling (Vitter, algorithm R): of more than max_batch_size records drawn, so many at random. */
static void draw_truncated(psg_dp *dp, words *w) {
    static const uint64_t other = (uint64_t)1 << 56;   /* words from there on choose */
    double rate = dp->options.sample_rate;
    uint64_t threshold = rate < 1 ? (uint64_t)(rate * 0x1p64) : 0, drawn = 0;
    uint64_t most = (uint64_t)dp->options.max_batch_size;
    words choice;
    open_words(dp, w->stream.purpose, w->stream.step, PSG_WORDS_PER_BLOCK, &choice);
    for (uint64_t i = 0; i < dp->options.records; i++) {
        if (rate != 1 && word(w, i) >= threshold) continue;
        uint64_t place = drawn < most ? drawn : below(&choice, other + drawn, drawn + 1);
        if (place < most) dp->ids[place] = (int64_t)i;
        drawn++;
    }
    dp->count = (int64_t)(drawn < most ? drawn : most);
    close_words(&choice);
}

/* Selection sampling (Knuth, algorithm 3.4.2 S): record i is in with probability (wanted left) / (records left). */
static void draw_fixed(psg_dp *dp, words *w) {
    uint64_t records = dp->options.records, wanted = (uint64_t)dp->options.batch_size;
    for (uint64_t i = 0; i < records && wanted; i++) {
        if (below(w, i, records - i) >= wanted) continue;
        put(dp, i);
        wanted--;
    }
}

/* Fisher and Yates, anew for every epoch. */
static void shuffle(psg_dp *dp, uint64_t epoch) {
    words w;
    open_words(dp, PSG_PURPOSE_SAMPLER, epoch, dp->options.records, &w);
    for (uint64_t i = 0; i < dp->options.records; i++) {
        uint64_t at = below(&w, i, i + 1);
        dp->order[i] = dp->order[at];
        dp->order[at] = (int64_t)i;
    }
    dp->epoch = epoch;
    close_words(&w);
}

static int ascending(const void *x, const void *y) {
    int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
    return (a > b) - (a < b);
}

static void draw_epoch(psg_dp *dp, words *w) {
    const uint64_t batches = dp->event.batches, step = dp->step - dp->first_step;
    uint64_t at = step % batches, size = (uint64_t)dp->options.batch_size;
    uint64_t first = at * size, end = first + size < dp->options.records ? first + size : dp->options.records;
    (void)w;
    if (dp->epoch != step / batches) shuffle(dp, step / batches);
    for (uint64_t i = first; i < end; i++) put(dp, (uint64_t)dp->order[i]);
}

/* Record i is in every batches-th batch, from one that it picked for good. */
static void draw_bins(psg_dp *dp, words *w) {
    uint64_t batches = dp->options.batches, at = (dp->step - dp->first_step) % batches;
    for (uint64_t i = 0; i < dp->options.records; i++) {
        if (below(w, i, batches) == at) put(dp, i);
    }
}

static void draw(psg_dp *dp) {
    static void (*const draws[])(psg_dp *, words *) = {
        [PSG_SAMPLING_POISSON] = draw_poisson,     [PSG_SAMPLING_TRUNCATED_POISSON] = draw_truncated,
        [PSG_SAMPLING_FIXED_SIZE] = draw_fixed,    [PSG_SAMPLING_EPOCHS] = draw_epoch,
        [PSG_SAMPLING_BALLS_IN_BINS] = draw_bins,
    };
    words w;
    bool for_good = dp->options.sampling == PSG_SAMPLING_BALLS_IN_BINS;
    open_words(dp, PSG_PURPOSE_SAMPLER, for_good ? 0 : dp->step, dp->options.records, &w);
    dp->count = 0;
    draws[dp->options.sampling](dp, &w);
    close_words(&w);
}

/* ---- the batch ---- */

static int by_id(const void *x, const void *y) {
    int64_t a = ((const psg_drawn *)x)->id, b = ((const psg_drawn *)y)->id;
    return (a > b) - (a < b);
}

static psg_batch batch_of(psg_dp *dp, int64_t first) {
    words w;
    open_words(dp, PSG_PURPOSE_BATCH, dp->step, PSG_WORDS_PER_BLOCK, &w);
    dp->stream = word(&w, 0);
    close_words(&w);
    return (psg_batch){ dp->ids + first, dp->count - first, dp->step, dp->stream, dp->owner, { 0 } };
}

static psg_status fail_size(const psg_dp *dp, const char *function, int64_t count) {
    return psg_fail(dp->context, PSG_ERR_STATE, "%s: the batch has %lld records, must have at most max_batch_size %lld",
                    function, (long long)count, (long long)dp->options.max_batch_size);
}

static psg_status check(psg_dp *dp, const char *function, const psg_batch *batch) {
    if (!batch) return psg_fail_null(dp->context, function, "batch");
    psg_status status = psg_generator_check(dp->generator, function);
    return status ? status : psg_dp_check_budget(dp, function);
}

psg_status psg_dp_sample(psg_dp *dp, psg_batch *batch) {
    PSG_DEFAULT_FLOATS;
    if (!dp) return PSG_ERR_ARGUMENT;
    psg_status status = check(dp, "psg_dp_sample", batch);
    if (status) return status;
    if (dp->options.sampling == PSG_SAMPLING_EXTERNAL) {
        return psg_fail(dp->context, PSG_ERR_UNSUPPORTED, "psg_dp_sample: sampling is external, must be another; "
                        "psg_dp_take has the caller's records");
    }
    if (!dp->is_drawn) {
        draw(dp);
        int64_t count = dp->count;
        if (count > dp->options.max_batch_size) {
            psg_dp_forget_batch(dp);
            return fail_size(dp, "psg_dp_sample", count);
        }
        qsort(dp->ids, (size_t)count, sizeof *dp->ids, ascending);
        for (int64_t n = 0; n < count; n++) dp->drawn[n] = (psg_drawn){ dp->ids[n], false };
        dp->is_drawn = true;
    }
    *batch = batch_of(dp, 0);
    return PSG_OK;
}

/* Those before keep their places, so that a failure forgets the new ones alone. */
static psg_status add_ids(psg_dp *dp, const int64_t *ids, int64_t count) {
    for (int64_t n = 0; n < count; n++) {
        bool known = ids[n] >= 0 && (!dp->options.records || (uint64_t)ids[n] < dp->options.records);
        psg_drawn *end = dp->drawn + dp->count;
        const psg_drawn wanted = { ids[n], false };
        if (!known || bsearch(&wanted, dp->drawn, (size_t)dp->count, sizeof *end, by_id)) {
            return psg_fail(dp->context, known ? PSG_ERR_STATE : PSG_ERR_ARGUMENT, "psg_dp_take: ids[%lld] is %lld, "
                            "must be %s", (long long)n, (long long)ids[n],
                            known ? "in the step once" : "at least 0 and below records");
        }
    }
    for (int64_t n = 0; n < count; n++) {
        dp->ids[dp->count + n] = ids[n];
        dp->drawn[dp->count + n] = (psg_drawn){ ids[n], false };
    }
    return PSG_OK;
}

static psg_status check_once(psg_dp *dp, int64_t count) {
    psg_drawn *added = dp->drawn + dp->count;
    qsort(added, (size_t)count, sizeof *added, by_id);
    for (int64_t n = 1; n < count; n++) {
        if (added[n].id != added[n - 1].id) continue;
        return psg_fail(dp->context, PSG_ERR_STATE, "psg_dp_take: ids have %lld twice, must have each record once",
                        (long long)added[n].id);
    }
    return PSG_OK;
}

psg_status psg_dp_take(psg_dp *dp, const int64_t *ids, int64_t count, psg_batch *batch) {
    PSG_DEFAULT_FLOATS;
    if (!dp) return PSG_ERR_ARGUMENT;
    psg_status status = check(dp, "psg_dp_take", batch);
    if (status) return status;
    if (dp->options.sampling != PSG_SAMPLING_EXTERNAL) {
        return psg_fail(dp->context, PSG_ERR_UNSUPPORTED, "psg_dp_take: sampling must be external; psg_dp_sample draws "
                        "the batch");
    }
    if (count < 0 || (count && !ids)) {
        if (count > 0) return psg_fail_null(dp->context, "psg_dp_take", "ids");
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_take: count is %lld, must be at least 0",
                        (long long)count);
    }
    if (count > dp->options.max_batch_size - dp->count) return fail_size(dp, "psg_dp_take", dp->count + count);
    status = add_ids(dp, ids, count);
    if (!status) status = check_once(dp, count);
    if (status) return status;
    dp->count += count;
    qsort(dp->drawn, (size_t)dp->count, sizeof *dp->drawn, by_id);
    dp->is_drawn = true;
    *batch = batch_of(dp, dp->count - count);
    return PSG_OK;
}

/* ---- records are used once ---- */

/* Ids mostly ascend: the record after the last one found is looked at first. */
static psg_drawn *find(psg_dp *dp, int64_t id, const psg_drawn *last) {
    const psg_drawn wanted = { id, false };
    psg_drawn *next = last ? dp->drawn + (last - dp->drawn) + 1 : dp->drawn;
    if (next < dp->drawn + dp->count && next->id == id) return next;
    return bsearch(&wanted, dp->drawn, (size_t)dp->count, sizeof wanted, by_id);
}

void psg_dp_unuse(psg_dp *dp, const int64_t *ids, int64_t count) {
    psg_drawn *record = NULL;
    for (int64_t n = 0; n < count; n++) {
        record = find(dp, ids[n], record);
        record->is_used = false;
    }
}

/* Two ranks that accumulate one record would add it twice, and neither could tell. */
static psg_status check_rank(const psg_dp *dp, const int64_t *ids, int64_t count) {
    for (int64_t n = 0; psg_dp_has_ranks(dp) && n < count; n++) {
        const bool is_record = ids[n] >= 0 && (uint64_t)ids[n] < dp->options.records;
        if (!is_record || psg_rank_of(dp, ids[n]) == dp->ranks.rank) continue;
        return psg_fail(dp->context, PSG_ERR_STATE, "psg_dp_accumulate: record %lld of batch->ids[%lld] is that of rank "
                        "%d, must be of rank %d: psg_dp_own_batch", (long long)ids[n], (long long)n,
                        psg_rank_of(dp, ids[n]), dp->ranks.rank);
    }
    return PSG_OK;
}

psg_status psg_dp_use(psg_dp *dp, const int64_t *ids, int64_t count) {
    psg_status status = check_rank(dp, ids, count);
    psg_drawn *record = NULL;
    int64_t used = 0;
    while (!status && used < count) {
        record = find(dp, ids[used], record);
        if (record && !record->is_used) {
            record->is_used = true;
            used++;
        } else {
            status = psg_fail(dp->context, PSG_ERR_STATE, "psg_dp_accumulate: record %lld of batch->ids[%lld] %s",
                              (long long)ids[used], (long long)used,
                              record ? "was accumulated before in this step" : "is not of the step's batch");
        }
    }
    if (status) psg_dp_unuse(dp, ids, used);
    return status;
}

void psg_dp_forget_batch(psg_dp *dp) {
    int64_t held = dp->count < dp->options.max_batch_size ? dp->count : dp->options.max_batch_size;
    sodium_memzero(dp->ids, (size_t)held * sizeof *dp->ids);
    sodium_memzero(dp->drawn, (size_t)held * sizeof *dp->drawn);
    dp->count = 0;
    dp->is_drawn = false;
}
