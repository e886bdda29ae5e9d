#include <math.h>
#include <sodium.h>

#include "base/context.h"
#include "dp/random.h"

#define CHUNK ((size_t)1024)   /* records a read of the stream */

/* What has been written of a batch. */
typedef struct poisson_batch {
    int64_t *indices;
    size_t capacity, count;
} poisson_batch;

/* Scaling by 2^64 is exact, and a rate below 1 is at most 1 - 2^-53, so the conversion is in range and is the floor. */
static uint64_t threshold_of(double sample_rate) { return (uint64_t)ldexp(sample_rate, 64); }

static void add(poisson_batch *batch, uint64_t record) {
    if (batch->count < batch->capacity) batch->indices[batch->count] = (int64_t)record;
    batch->count++;
}

static void add_all(poisson_batch *batch, uint64_t records) {
    for (uint64_t i = 0; i < records; i++) add(batch, i);
}

/* Word i of the stream decides about record i alone. */
static void draw(const psg_generator *generator, uint64_t step, uint64_t records, uint64_t threshold,
                 poisson_batch *batch) {
    const psg_stream stream = { PSG_PURPOSE_SAMPLER, 0, 0, step };
    uint64_t words[CHUNK];
    for (uint64_t first = 0; first < records; first += CHUNK) {
        size_t count = records - first < CHUNK ? (size_t)(records - first) : CHUNK;
        psg_stream_read(generator, &stream, first / PSG_WORDS_PER_BLOCK, words, count * sizeof *words);
        for (size_t i = 0; i < count; i++) {
            if (words[i] < threshold) add(batch, first + i);
        }
    }
    sodium_memzero(words, sizeof words);
}

static psg_status check(psg_context *context, uint64_t records, double sample_rate, const int64_t *indices,
                        size_t capacity, const size_t *count) {
    if (!(sample_rate >= 0 && sample_rate <= 1)) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_poisson_sample: sample_rate is %g, must be in [0, 1]",
                        sample_rate);
    }
    if (records > INT64_MAX) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_poisson_sample: records is %llu, must be below 2^63",
                        (unsigned long long)records);
    }
    if (!count || (!indices && capacity)) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_poisson_sample: %s is NULL, must not be",
                        count ? "indices" : "count");
    }
    return PSG_OK;
}

psg_status psg_poisson_sample(psg_generator *generator, uint64_t step, uint64_t records, double sample_rate,
                              int64_t *indices, size_t capacity, size_t *count) {
    if (!generator) return PSG_ERR_ARGUMENT;
    psg_context *context = generator->context;
    psg_status status = psg_generator_check(generator, "psg_poisson_sample");
    if (!status) status = check(context, records, sample_rate, indices, capacity, count);
    if (status) return status;
    poisson_batch drawn = { indices, capacity, 0 };
    if (sample_rate == 1) add_all(&drawn, records);
    else draw(generator, step, records, threshold_of(sample_rate), &drawn);
    *count = drawn.count;
    if (drawn.count <= capacity) return PSG_OK;
    return psg_fail(context, PSG_ERR_MEMORY, "psg_poisson_sample: the batch has %zu records, capacity is %zu",
                    drawn.count, capacity);
}
