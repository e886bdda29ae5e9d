#include "tape/initial.h"

#include <endian.h>
#include <math.h>
#include <sodium.h>
#include <string.h>

#include "base/shapes.h"

static const double two_pi = 6.283185307179586;

const char *psg_init_defect(const psg_init *init) {
    if ((unsigned)init->kind > PSG_INIT_KAIMING) return "init is no psg_init_kind";
    if (!isfinite(init->value)) return "init's value is not finite";
    if (init->kind != PSG_INIT_CONSTANT && init->value < 0) return "init's value is negative";
    return NULL;
}

/* ---- the law ---- */

typedef struct distribution {
    psg_init_kind kind;   /* one of the first three */
    double value;
} distribution;

static distribution law_of(const psg_init *init, const psg_tensor *value) {
    const int rank = value->rank;
    const double kernel = rank > 2 ? (double)psg_shape_product(rank - 2, value->shape + 2) : 1;
    const double fan_in = rank > 1 ? (double)value->shape[1] * kernel : 1;
    const double fan_out = rank > 0 ? (double)value->shape[0] * kernel : 1;
    switch (init->kind) {
    case PSG_INIT_LINEAR: return (distribution){ PSG_INIT_UNIFORM, 1 / sqrt(fan_in) };
    case PSG_INIT_XAVIER: return (distribution){ PSG_INIT_UNIFORM, sqrt(6 / (fan_in + fan_out)) };
    case PSG_INIT_KAIMING: return (distribution){ PSG_INIT_NORMAL, sqrt(2 / fan_in) };
    default: return (distribution){ init->kind, init->value };
    }
}

/* ---- the words: ChaCha20 under BLAKE2b-256(seed, name), word i the elements' i-th ---- */

enum { WORDS = 512, WORD_BYTES = 8, BLOCK_BYTES = 64 };

typedef unsigned char stream_key[crypto_stream_chacha20_KEYBYTES];

static void find_key(uint64_t seed, const char *name, stream_key key) {
    const uint64_t stored = htole64(seed);
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, sizeof(stream_key));
    crypto_generichash_update(&state, (const unsigned char *)&stored, sizeof stored);
    crypto_generichash_update(&state, (const unsigned char *)name, strlen(name));
    crypto_generichash_final(&state, key, sizeof(stream_key));
}

static void read_words(const stream_key key, int64_t first, uint64_t words[WORDS]) {
    static const unsigned char nonce[crypto_stream_chacha20_NONCEBYTES] = { 0 };
    unsigned char *bytes = (unsigned char *)words;
    memset(words, 0, WORDS * sizeof *words);
    crypto_stream_chacha20_xor_ic(bytes, bytes, WORDS * WORD_BYTES, nonce, (uint64_t)(first * WORD_BYTES / BLOCK_BYTES),
                                  key);
    for (int i = 0; i < WORDS; i++) words[i] = le64toh(words[i]);
}

/* 53 bits in (0, 1): the middle of its cell. */
static double unit(uint64_t word) { return ((double)(word >> 11) + 0.5) * 0x1p-53; }

/* Box and Muller (1958): the two deviates of a pair of words. */
static double normal(const uint64_t *words, int i) {
    const double radius = sqrt(-2 * log(unit(words[i & ~1]))), angle = two_pi * unit(words[i | 1]);
    return radius * (i & 1 ? sin(angle) : cos(angle));
}

static double element(const distribution *law, const uint64_t *words, int i) {
    if (law->kind == PSG_INIT_UNIFORM) return law->value * (2 * unit(words[i]) - 1);
    return law->value * normal(words, i);
}

static void set(const psg_tensor *value, int64_t i, double x) {
    if (value->dtype == PSG_F64) ((double *)value->data)[i] = x;
    else ((float *)value->data)[i] = (float)x;
}

void psg_init_draw(const psg_init *init, uint64_t seed, const char *name, const psg_tensor *value) {
    const int64_t count = psg_tensor_count(value);
    const distribution law = law_of(init, value);
    uint64_t words[WORDS] = { 0 };
    stream_key key;
    find_key(seed, name, key);
    for (int64_t i = 0; i < count; i++) {
        if (law.kind != PSG_INIT_CONSTANT && i % WORDS == 0) read_words(key, i, words);
        set(value, i, law.kind == PSG_INIT_CONSTANT ? law.value : element(&law, words, (int)(i % WORDS)));
    }
}
