#include "dp/grid_noise.h"

#include <sodium.h>
#include <string.h>

#include "base/context.h"
#include "base/parallel.h"
#include "kernels.h"

/* ---- samples that one word does not decide ---- */

/* One call's view of the randomness behind the words. */
typedef struct retries {
    const psg_grid_table *table;
    psg_grid_scratch *scratch;   /* its key is that of the stream's retries */
} retries;

/* Block (coordinate, attempt) of ChaCha20 under a key that the stream gives for its retries: 0-1 are compared with the
 * cap, 2-3 with the threshold, 4 is the word of the next attempt. */
static void read_retry(const retries *r, uint64_t coordinate, uint64_t attempt) {
    unsigned char nonce[crypto_stream_chacha20_NONCEBYTES];
    uint64_t *words = r->scratch->retry;
    memcpy(nonce, &attempt, sizeof nonce);
    memset(words, 0, sizeof r->scratch->retry);
    crypto_stream_chacha20_xor_ic((unsigned char *)words, (unsigned char *)words, sizeof r->scratch->retry, nonce,
                                  coordinate, r->scratch->key);
}

static psg_u128 wide(const uint64_t *words) { return (psg_u128)words[0] << 64 | words[1]; }

/* One slot: decides the word of an attempt, and where it is refused looks at the next.  The same operations whatever
 * the word is, so that slots take the same time. */
static bool attempt_is_over(const retries *r, uint64_t coordinate, uint64_t attempt, uint64_t *word, int64_t *value) {
    read_retry(r, coordinate, attempt);
    const uint64_t *words = r->scratch->retry;
    const psg_grid_columns *columns = &r->table->columns;
    const uint32_t column = psg_grid_column(r->table, *word, wide(words + 2));
    const psg_grid_place place = psg_grid_place_of(*word, column, columns->offset_bits);
    const bool below = psg_grid_below_curve(r->table, &place, wide(words));
    const bool taken = (below | !place.cap) & !psg_grid_is_minus_zero(&place);
    int64_t next;
    const bool next_taken = psg_grid_quick(columns, words[4], &next);
    *value = taken ? psg_grid_value(&place, columns->offset_bits) : next;
    *word = words[4];
    return taken | next_taken;
}

/* Returns how many slots it took. */
static size_t decide(const retries *r, uint64_t coordinate, uint64_t word, int64_t *value) {
    size_t slots = 0;
    while (!attempt_is_over(r, coordinate, slots, &word, value)) slots++;
    return slots + 1;
}

/* ---- blocks ---- */

static void make_block(const retries *r, const psg_kernel_table *kernels, uint64_t first, size_t count,
                       const uint64_t *words, int64_t *out) {
    psg_grid_scratch *scratch = r->scratch;
    const size_t found = kernels->grid_noise(count, &r->table->columns, words, out, scratch->slow);
    size_t slots = 0;
    for (size_t k = 0; k < found; k++) {
        const size_t i = scratch->slow[k];
        slots += decide(r, first + i, words[i], &out[i]);
    }
    for (; slots < psg_grid_least_slots(count); slots++) {
        uint64_t word = words[slots % count];
        attempt_is_over(r, first, UINT64_MAX, &word, &scratch->unused);
    }
}

void psg_grid_noise(const psg_generator *generator, const psg_stream *stream, uint64_t first, size_t count,
                    int64_t *out, void *scratch) {
    psg_grid_scratch *s = scratch;
    const retries r = { &generator->grid, s };
    const psg_kernel_table *kernels = generator->context->kernels[PSG_F64];
    psg_stream retry = *stream;
    retry.purpose = PSG_PURPOSE_GRID_RETRY;
    psg_stream_read(generator, &retry, 0, s->key, sizeof s->key);
    for (size_t done = 0; done < count; done += PSG_GRID_BLOCK) {
        const size_t n = count - done < PSG_GRID_BLOCK ? count - done : PSG_GRID_BLOCK;
        const size_t lead = (first + done) % PSG_WORDS_PER_BLOCK;
        const uint64_t block = (first + done) / PSG_WORDS_PER_BLOCK;
        psg_stream_read(generator, stream, block, s->words, (lead + n) * sizeof *s->words);
        make_block(&r, kernels, first + done, n, s->words + lead, out + done);
    }
    sodium_memzero(s, sizeof *s);
}

/* ---- the public stream ---- */

typedef struct fill {
    const psg_generator *generator;
    psg_stream stream;
    uint64_t first;
    int64_t *out;
    size_t count;
} fill;

static void fill_block(void *argument, size_t index, unsigned slot) {
    const fill *job = argument;
    const size_t begin = index * PSG_GRID_BLOCK, rest = job->count - begin;
    psg_grid_noise(job->generator, &job->stream, job->first + begin, rest < PSG_GRID_BLOCK ? rest : PSG_GRID_BLOCK,
                   job->out + begin, job->generator->context->workspace[slot]);
}

psg_status psg_discrete_gaussian(psg_generator *generator, uint64_t step, uint32_t parameter, uint64_t first,
                                 int64_t *out, size_t count) {
    if (!generator) return PSG_ERR_ARGUMENT;
    psg_context *context = generator->context;
    psg_status status = psg_generator_check(generator, "psg_discrete_gaussian");
    if (status) return status;
    if (!out && count) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_discrete_gaussian: out is NULL, must hold %zu", count);
    }
    if (first > INT64_MAX || count > INT64_MAX - first) {
        return psg_fail(context, PSG_ERR_ARGUMENT,
                        "psg_discrete_gaussian: first + count is %llu + %zu, must be below 2^63",
                        (unsigned long long)first, count);
    }
    fill job = { generator, { PSG_PURPOSE_GRID_NOISE, parameter, 0, step }, first, out, count };
    psg_parallel(context, (count + PSG_GRID_BLOCK - 1) / PSG_GRID_BLOCK, fill_block, &job);
    return PSG_OK;
}
