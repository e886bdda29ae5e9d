/* The samples of the discrete Gaussian that one word decides, and where the others are.
 *
 * Nothing branches on a word, so that the time does not tell which words were undecided.  Noise is of 64-bit integers
 * whatever the real type of the gradients, so both tables hold this same kernel. */
#undef PSG_REAL_IS_F64
#define PSG_REAL_IS_F64 1

#include "kernels.h"
#include "vector.h"

#if PSG_VECTOR_BYTES > 16   /* 16 bytes are two words, which is no gain */

typedef int64_t vec_words __attribute__((vector_size(PSG_VECTOR_BYTES), aligned(8), may_alias));

/* The entries of LANES words' places. */
static inline vec_bits entries_of(const uint32_t *entry, const int64_t *words) {
    vec_bits found;
    for (size_t k = 0; k < LANES; k++) found[k] = entry[words[k] & (PSG_GRID_COLUMNS - 1)];
    return found;
}

static inline unsigned set_lanes(vec_bits set) {
#if PSG_VECTOR_BYTES == 64
    return _mm512_movepi64_mask((__m512i)set);
#else
    return (unsigned)_mm256_movemask_pd((__m256d)set);
#endif
}

/* Appends the positions first + k of the lanes that are set; returns how many. */
static inline size_t append(unsigned set, size_t first, uint32_t *positions) {
#if PSG_VECTOR_BYTES == 64
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i all = _mm256_add_epi32(_mm256_set1_epi32((int)first), lanes);
    _mm256_storeu_si256((void *)positions, _mm256_maskz_compress_epi32((__mmask8)set, all));
    return (size_t)__builtin_popcount(set);
#else
    size_t count = 0;
    for (size_t k = 0; k < LANES; k++) {
        positions[count] = (uint32_t)(first + k);
        count += set >> k & 1;
    }
    return count;
#endif
}

/* psg_grid_quick of a vector of words: the samples, the words where undecided, and which lanes are. */
static inline vec_bits quick(const psg_grid_columns *columns, const int64_t *words, vec_bits *undecided) {
    const vec_bits word = *(const vec_words *)words, own = word & (PSG_GRID_COLUMNS - 1);
    const vec_bits entry = entries_of(columns->entry, words);
    const vec_bits bits = word >> PSG_GRID_THRESHOLD_BIT & 0xfffff, threshold = entry >> 12;
    const vec_bits below = bits < threshold;
    const vec_bits column = (below & own) | (~below & entry & (PSG_GRID_COLUMNS - 1));
    const vec_bits offset = word >> PSG_GRID_OFFSET_BIT & (((int64_t)1 << columns->offset_bits) - 1);
    const vec_bits magnitude = (column & (PSG_GRID_CELLS - 1)) << columns->offset_bits | offset;
    const vec_bits negative = -(word >> PSG_GRID_SIGN_BIT & 1);
    *undecided = (bits == threshold) | (column >= PSG_GRID_CELLS) | (negative & (magnitude == 0));
    return (*undecided & word) | (~*undecided & ((magnitude ^ negative) - negative));
}

#endif

size_t PSG_KERNEL(grid_noise)(size_t n, const psg_grid_columns *columns, int64_t *words, uint32_t *slow) {
    size_t found = 0, i = 0;
#if PSG_VECTOR_BYTES > 16
    for (; i + LANES <= n; i += LANES) {
        vec_bits undecided;
        *(vec_words *)(words + i) = quick(columns, words + i, &undecided);
        found += append(set_lanes(undecided), i, slow + found);
    }
#endif
    for (; i < n; i++) {
        int64_t value;
        const bool decided = psg_grid_quick(columns, (uint64_t)words[i], &value);
        slow[found] = (uint32_t)i;
        found += !decided;
        words[i] = (int64_t)psg_grid_choose(decided, (uint64_t)value, (uint64_t)words[i]);
    }
    return found;
}
