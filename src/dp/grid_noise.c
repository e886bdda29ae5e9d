#include "dp/grid_noise.h"

#include <sodium.h>
#include <string.h>

#include "base/context.h"
#include "base/floats.h"
#include "base/parallel.h"
#include "kernels.h"

/* ---- samples that one word does not decide ---- */

/* The slots of one block; those from begin to end are in the scratch. */
typedef struct slots {
    const psg_grid_table *table;
    psg_grid_scratch *scratch;   /* its key is that of the stream's retries */
    uint64_t block;
    size_t used, begin, end;
} slots;

/* The next `count` slots, a multiple of PSG_GRID_SLOT_GROUP, from the block's stream: ChaCha20 under a key that the
 * noise's stream gives for its retries, the number of the block for a nonce. */
static void read_slots(slots *s, size_t count) {
    unsigned char nonce[crypto_stream_chacha20_NONCEBYTES], *words = (unsigned char *)s->scratch->slots;
    const size_t slot_bytes = PSG_GRID_SLOT_WORDS * sizeof(uint64_t), bytes = count * slot_bytes;
    s->begin = s->end;
    s->end += count;
    memcpy(nonce, &s->block, sizeof nonce);
    memset(words, 0, bytes);
    crypto_stream_chacha20_xor_ic(words, words, bytes, nonce, s->begin * slot_bytes / 64, s->scratch->key);
}

/* Words 0-1 are compared with the cap, 2-3 with the threshold, 4 is looked at where the word is refused. */
static const uint64_t *next_slot(slots *s) {
    if (s->used == s->end) read_slots(s, PSG_GRID_SLOT_GROUP);
    return s->scratch->slots + PSG_GRID_SLOT_WORDS * (s->used++ - s->begin);
}

static psg_u128 wide(const uint64_t *words) { return (psg_u128)words[0] << 64 | words[1]; }

/* Decides a word, and where it is refused looks at the slot's own.  The same operations whatever the words are, so
 * that slots take the same time. */
static bool is_decided(const psg_grid_table *table, const uint64_t *slot, uint64_t *word, int64_t *value) {
    const psg_grid_columns *columns = &table->columns;
    const uint32_t column = psg_grid_column(table, *word, wide(slot + 2));
    const psg_grid_place place = psg_grid_place_of(*word, column, columns->offset_bits);
    const bool below = psg_grid_below_curve(table, &place, wide(slot));
    const bool taken = (below | !place.cap) & !psg_grid_is_minus_zero(&place);
    int64_t next;
    const bool next_taken = psg_grid_quick(columns, slot[4], &next);
    *value = (int64_t)psg_grid_choose(taken, (uint64_t)psg_grid_value(&place, columns->offset_bits), (uint64_t)next);
    *word = slot[4];
    return taken | next_taken;
}

static int64_t decide(slots *s, uint64_t word) {
    int64_t value;
    while (!is_decided(s->table, next_slot(s), &word, &value)) {}
    return value;
}

/* ---- blocks ---- */

static void make_part(slots *s, const psg_kernel_table *kernels, size_t count, int64_t *words) {
    const uint32_t *slow = s->scratch->slow;
    const size_t found = kernels->grid_noise(count, &s->table->columns, words, s->scratch->slow);
    for (size_t k = 0; k < found; k++) words[slow[k]] = decide(s, (uint64_t)words[slow[k]]);
}

/* Slots that no sample needs: each decides its own word. */
static void pass_slots(slots *s, size_t least) {
    while (s->used < least) {
        const uint64_t *slot = next_slot(s);
        uint64_t word = slot[4];
        is_decided(s->table, slot, &word, &s->scratch->unused);
    }
}

size_t psg_grid_noise(const psg_generator *generator, const psg_stream *stream, uint64_t block, size_t count,
                      int64_t *out, psg_grid_scratch *scratch) {
    const psg_kernel_table *kernels = generator->context->kernels[PSG_F64];
    const size_t least = psg_grid_least_slots(count);
    slots s = { &generator->grid, scratch, block, 0, 0, 0 };
    psg_stream retry = *stream;
    retry.purpose = PSG_PURPOSE_GRID_RETRY;
    psg_stream_read(generator, &retry, 0, scratch->key, sizeof scratch->key);
    read_slots(&s, least);
    for (size_t done = 0; done < count; done += PSG_GRID_PART) {
        const size_t n = count - done < PSG_GRID_PART ? count - done : PSG_GRID_PART;
        const uint64_t first = block * PSG_GRID_BLOCK + done;
        psg_stream_read(generator, stream, first / PSG_WORDS_PER_BLOCK, out + done, n * sizeof *out);
        make_part(&s, kernels, n, out + done);
    }
    pass_slots(&s, least);
    sodium_memzero(scratch, sizeof *scratch);
    return s.used;
}

/* ---- the public stream ---- */

typedef struct fill {
    const psg_generator *generator;
    psg_stream stream;
    uint64_t first;
    int64_t *out;
    size_t count;
} fill;

typedef struct fill_scratch {
    psg_grid_scratch grid;
    int64_t noise[PSG_GRID_BLOCK];
} fill_scratch;

/* What begins inside a block is made from the block's beginning. */
static void fill_block(void *argument, size_t index, unsigned slot) {
    const fill *job = argument;
    fill_scratch *scratch = job->generator->context->workspace[slot];
    const uint64_t block = job->first / PSG_GRID_BLOCK + index, lead = index ? 0 : job->first % PSG_GRID_BLOCK;
    const size_t begin = (size_t)(block * PSG_GRID_BLOCK + lead - job->first), rest = job->count - begin;
    const size_t end = rest < PSG_GRID_BLOCK - lead ? lead + rest : PSG_GRID_BLOCK;
    int64_t *noise = lead ? scratch->noise : job->out + begin;
    psg_grid_noise(job->generator, &job->stream, block, end, noise, &scratch->grid);
    if (!lead) return;
    memcpy(job->out, noise + lead, (end - lead) * sizeof *noise);
    sodium_memzero(noise, end * sizeof *noise);
}

psg_status psg_discrete_gaussian(psg_generator *generator, uint64_t step, uint32_t parameter, uint64_t first,
                                 int64_t *out, size_t count) {
    PSG_DEFAULT_FLOATS;
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
    psg_parallel(context, count ? PSG_GRID_BLOCKS(first % PSG_GRID_BLOCK + count) : 0, fill_block, &job);
    return PSG_OK;
}
