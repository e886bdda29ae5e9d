/* Grid noise, word by word: what each decides, and where it comes from. */
#include "support.h"

#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "dp/grid_noise.h"
#include "kernels.h"

static const unsigned char seed[32] = "bytes of a seed: there are 32...";

static psg_generator *seeded(psg_context *context) {
    psg_generator *generator;
    TEST_OK(context, psg_generator_create_seeded(context, seed, &generator));
    return generator;
}

static int64_t *draw(psg_generator *generator, uint64_t step, uint32_t parameter, uint64_t first, size_t count) {
    int64_t *z = malloc((count + 1) * sizeof *z);
    assert_non_null(z);
    assert_int_equal(psg_discrete_gaussian(generator, step, parameter, first, z, count), PSG_OK);
    return z;
}

/* ---- the kernels ---- */

/* Each place below, at and above its threshold; both zeros; and words at random. */
static size_t words_to_try(const psg_grid_columns *columns, uint64_t *words) {
    test_random random = { 3 };
    size_t n = 0;
    for (uint64_t place = 0; place < PSG_GRID_COLUMNS; place++) {
        const uint64_t threshold = columns->entry[place] >> 12, rest = test_random_bits(&random) << 20 >> 8;
        for (uint64_t bits = threshold ? threshold - 1 : 0; bits <= threshold + 1 && bits >> 20 == 0; bits++) {
            words[n++] = bits << 44 | (rest & 0xfffffff000) | place;
        }
    }
    for (uint64_t sign = 0; sign < 2; sign++) {
        for (uint64_t offset = 0; offset < 2; offset++) words[n++] = 0xfffffULL << 44 | offset << 13 | sign << 12;
    }
    while (n < 5 * PSG_GRID_COLUMNS) words[n++] = test_random_bits(&random);
    return n;
}

/* By the description in grid_noise_kernel.h. */
static bool decided(const psg_grid_columns *columns, uint64_t word, int64_t *value) {
    const uint32_t place = word & 0xfff, bits = (uint32_t)(word >> 44), threshold = columns->entry[place] >> 12;
    const uint32_t column = bits < threshold ? place : columns->entry[place] & 0xfff;
    const int64_t magnitude = (int64_t)(column & 0x7ff) << 29 | (word >> 13 & 0x1fffffff);
    const bool negative = word >> 12 & 1;
    *value = negative ? -magnitude : magnitude;
    return bits != threshold && column < 2048 && !(negative && magnitude == 0);
}

static void check_kernel(const psg_kernel_table *kernels, const psg_grid_columns *columns, const uint64_t *words,
                         size_t n) {
    int64_t *out = malloc((n + 1) * sizeof *out), value;
    uint32_t *slow = calloc(n + PSG_GRID_SLOW_ROOM, sizeof *slow);
    assert_true(out && slow);
    for (size_t i = 0; i < n; i++) out[i] = (int64_t)words[i];
    out[n] = 77;
    const size_t found = kernels->grid_noise(n, columns, out, slow);
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        const bool is_decided = decided(columns, words[i], &value);
        if (!is_decided) assert_int_equal(slow[k++], i);
        assert_true(out[i] == (is_decided ? value : (int64_t)words[i]));
    }
    assert_int_equal(k, found);
    assert_true(out[n] == 77);
    free(out), free(slow);
}

static void every_kernel_decides_as_described(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    psg_grid_table *table = malloc(sizeof *table);
    uint64_t *words = malloc(5 * PSG_GRID_COLUMNS * sizeof *words);
    assert_true(table && words);
    psg_grid_table_make(table, 7, 29);
    const size_t n = words_to_try(&table->columns, words);
    for (size_t k = 0; k < count; k++) {
        for (int real = 0; real < 2; real++) {
            const psg_kernel_table *kernels = psg_kernels_choose(isas[k], real);
            check_kernel(kernels, &table->columns, words, n);
            for (size_t few = 0; few < 40; few++) check_kernel(kernels, &table->columns, words + n - 100, few);
        }
    }
    free(table), free(words);
}

/* ---- the same numbers by another way ---- */

/* Words of a stream from RFC 8439's ChaCha20, see test_random.c; owner 0. */
static void words_by_rfc8439(uint32_t purpose, uint64_t step, uint32_t parameter, uint64_t block, uint64_t words[8]) {
    unsigned char in[16] = { 0 }, subkey[32], nonce[12], bytes[64] = { 0 };
    uint32_t high = (uint32_t)(block >> 32);
    memcpy(in, &purpose, 4);
    memcpy(in + 4, &parameter, 4);
    crypto_core_hchacha20(subkey, in, seed, NULL);
    memcpy(nonce, &high, 4);
    memcpy(nonce + 4, &step, 8);
    crypto_stream_chacha20_ietf_xor_ic(bytes, bytes, sizeof bytes, nonce, (uint32_t)block, subkey);
    memcpy(words, bytes, sizeof bytes);
}

/* Words 5 slot to 5 slot + 4 of the stream of a block of 16384 coordinates: its number is the nonce, the first half of
 * block 0 of the stream of purpose 4 the key. */
static void slot_by_rfc8439(uint64_t step, uint32_t parameter, uint64_t block, size_t slot, uint64_t words[5]) {
    uint64_t key[8];
    words_by_rfc8439(4, step, parameter, 0, key);
    for (size_t k = 0; k < 5; k++) {
        unsigned char nonce[12] = { 0 }, bytes[64] = { 0 };
        const size_t word = 5 * slot + k;
        memcpy(nonce + 4, &block, 8);
        crypto_stream_chacha20_ietf_xor_ic(bytes, bytes, sizeof bytes, nonce, (uint32_t)(word / 8),
                                           (unsigned char *)key);
        memcpy(words + k, bytes + word % 8 * 8, 8);
    }
}

/* The part of the cap that is below the curve. */
static double part_below(uint32_t cell, uint64_t offset) {
    const double t = ldexp((double)offset, -29), j = cell;
    return 1 - expm1(-t * (2 * j + t) / 32768) / expm1(-(2 * j + 1) / 32768);
}

/* Whether a word is taken with the help of a slot: the uniform fraction of a cap is counted from above. */
static bool taken(const psg_grid_table *table, uint64_t word, const uint64_t slot[5], int64_t *value) {
    const uint32_t place = word & 0xfff;
    const psg_u128 bits = (psg_u128)(word >> 44) << 96 | (psg_u128)slot[2] << 32 | slot[3] >> 32;
    const uint32_t column = bits < table->threshold[place] ? place : table->columns.entry[place] & 0xfff;
    const uint64_t offset = word >> 13 & 0x1fffffff;
    const int64_t magnitude = (int64_t)(column & 0x7ff) << 29 | (int64_t)offset;
    const double gap = part_below(column & 0x7ff, offset) - (1 - ldexp((double)slot[0], -64));
    *value = word >> 12 & 1 ? -magnitude : magnitude;
    assert_true(fabs(gap) > 1e-12 || column < 2048);
    return column < 2048 ? magnitude || !(word >> 12 & 1) : gap > 0;
}

/* *slot is the next of the coordinate's block: its slots are taken in the order of coordinates. */
static int64_t sample_by_definition(const psg_grid_table *table, uint64_t step, uint32_t parameter, uint64_t coordinate,
                                    size_t *slot) {
    uint64_t words[8], helper[5];
    int64_t value;
    words_by_rfc8439(3, step, parameter, coordinate / 8, words);
    uint64_t word = words[coordinate % 8];
    while (!decided(&table->columns, word, &value)) {
        slot_by_rfc8439(step, parameter, coordinate / 16384, (*slot)++, helper);
        if (taken(table, word, helper, &value)) break;
        word = helper[4];
    }
    return value;
}

/* Returns how many slots it took. */
static size_t check_definition(psg_generator *generator, uint64_t step, uint32_t parameter, uint64_t first, size_t n) {
    int64_t *z = draw(generator, step, parameter, first, n);
    size_t slot = 0, slots = 0;
    for (uint64_t at = first / 16384 * 16384; at < first + n; at++) {
        if (at % 16384 == 0) slots += slot, slot = 0;
        const int64_t value = sample_by_definition(&generator->grid, step, parameter, at, &slot);
        assert_true(at < first || z[at - first] == value);
    }
    free(z);
    return slots + slot;
}

static void noise_is_bars_and_caps_on_chacha20(void **state) {
    (void)state;
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t k = 0; k < count; k++) {
        psg_context *context = test_context(1, isas[k]);
        psg_generator *generator = seeded(context);
        const size_t slots = check_definition(generator, 5, 2, 0, 60000);
        test_near((double)slots, 60000 * .0062, 100, "slots", 0);
        check_definition(generator, UINT64_MAX, UINT32_MAX, ((uint64_t)1 << 62) + 3000, 3000);
        check_definition(generator, (uint64_t)1 << 40, 0, ((uint64_t)1 << 35) - 1000, 3000);
        psg_generator_destroy(generator);
        test_context_free(context);
    }
}

/* Where the 20 bits of a word are those of its place's threshold, which is once in 2^20 words, 96 bits more decide, and
 * if it is a cap then 128 others. */
static void ties_are_decided_by_bits_of_their_own(void **state) {
    (void)state;
    enum { BLOCKS = 500, N = 16384 };
    psg_context *context = test_context(1, NULL);
    psg_generator *generator = seeded(context);
    const psg_stream stream = { PSG_PURPOSE_GRID_NOISE, 1, 0, 4 };
    uint64_t *words = malloc(N * sizeof *words);
    assert_non_null(words);
    int ties = 0;
    for (uint64_t block = 0; block < BLOCKS; block++) {
        psg_stream_read(generator, &stream, block * (N / PSG_WORDS_PER_BLOCK), words, N * sizeof *words);
        for (uint64_t i = 0; i < N; i++) {
            if (words[i] >> 44 != generator->grid.columns.entry[words[i] & 0xfff] >> 12) continue;
            check_definition(generator, 4, 1, block * N + i, 1);
            ties++;
        }
    }
    test_near(ties, BLOCKS * N * 0x1p-20, 4.89 * sqrt(BLOCKS * N * 0x1p-20), "ties", 0);
    free(words);
    psg_generator_destroy(generator);
    test_context_free(context);
}

/* ---- any way of asking gives the same bits ---- */

static void splits_threads_and_instructions_do_not_matter(void **state) {
    (void)state;
    enum { N = 50000 };
    test_random random = { 1 };
    const char *isas[3];
    size_t isa_count = test_isas(isas);
    psg_context *first_context = test_context(1, isas[0]);
    psg_generator *reference = seeded(first_context);
    const uint64_t base = 12345;
    int64_t *x = draw(reference, 9, 4, base, N);
    for (size_t k = 0; k < 2 * isa_count; k++) {
        psg_context *context = test_context(k % 2 ? 5 : 1, isas[k / 2]);
        psg_generator *generator = seeded(context);
        for (int round = 0; round < 200; round++) {
            size_t first = (size_t)test_range(&random, 0, N - 1), count = (size_t)test_range(&random, 0, 40);
            if (round % 20 == 0) first = 0, count = N;
            else if (round % 10 == 0) count = (size_t)test_range(&random, 0, N);
            if (count > N - first) count = N - first;
            int64_t *part = draw(generator, 9, 4, base + first, count);
            assert_memory_equal(part, x + first, count * sizeof *x);
            free(part);
        }
        psg_generator_destroy(generator);
        test_context_free(context);
    }
    free(x);
    psg_generator_destroy(reference);
    test_context_free(first_context);
}

/* A psg_dp's streams are not the public one's. */
static void owners_have_streams_of_their_own(void **state) {
    (void)state;
    enum { N = 10000 };
    psg_context *context = test_context(1, NULL);
    psg_generator *generator = seeded(context);
    int64_t *z = draw(generator, 6, 2, 5 * PSG_GRID_BLOCK, N), *mine = malloc(N * sizeof *mine);
    assert_non_null(mine);
    for (uint64_t owner = 0; owner < 3; owner++) {
        const psg_stream stream = { PSG_PURPOSE_GRID_NOISE, 2, owner, 6 };
        psg_grid_noise(generator, &stream, 5, N, mine, context->workspace[0]);   /* block 5 */
        size_t same = 0;
        for (size_t i = 0; i < N; i++) same += mine[i] == z[i];
        assert_int_equal(same, owner ? 0 : N);
    }
    free(z), free(mine);
    psg_generator_destroy(generator);
    test_context_free(context);
}

/* ---- traces, arguments ---- */

static void the_scratch_is_wiped(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_generator *generator = seeded(context);
    unsigned char *scratch = context->workspace[0];
    memset(scratch, 0, PSG_WORKSPACE_BYTES);
    free(draw(generator, 0, 0, 3, 20000));
    for (size_t i = 0; i < PSG_WORKSPACE_BYTES; i++) assert_int_equal(scratch[i], 0);
    psg_generator_destroy(generator);
    test_context_free(context);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_generator *generator = seeded(context);
    int64_t z;
    assert_int_equal(psg_discrete_gaussian(NULL, 0, 0, 0, &z, 1), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_discrete_gaussian(generator, 0, 0, 0, NULL, 1), PSG_ERR_ARGUMENT);
    assert_non_null(strstr(psg_context_message(context), "psg_discrete_gaussian"));
    assert_int_equal(psg_discrete_gaussian(generator, 0, 0, 0, NULL, 0), PSG_OK);
    assert_int_equal(psg_discrete_gaussian(generator, 0, 0, INT64_MAX, &z, 1), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_discrete_gaussian(generator, 0, 0, UINT64_MAX, &z, 1), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_discrete_gaussian(generator, 0, 0, INT64_MAX - 1, &z, 1), PSG_OK);
    psg_generator_destroy(generator);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kernel_decides_as_described),
        cmocka_unit_test(noise_is_bars_and_caps_on_chacha20),
        cmocka_unit_test(ties_are_decided_by_bits_of_their_own),
        cmocka_unit_test(splits_threads_and_instructions_do_not_matter),
        cmocka_unit_test(owners_have_streams_of_their_own),
        cmocka_unit_test(the_scratch_is_wiped),
        cmocka_unit_test(wrong_arguments_are_refused),
    };
    return cmocka_run_group_tests_name("grid words", tests, NULL, NULL);
}
