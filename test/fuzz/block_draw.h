/* Sets of gradients over raw blocks, drawn from bytes: what a caller may say of arrays that are there, right or wrong.
 * Every view lies inside memory of exactly its extent. */
#ifndef PSG_TEST_BLOCK_DRAW_H
#define PSG_TEST_BLOCK_DRAW_H

#include "fuzz.h"

enum { DRAWN_GRADIENTS = 3, DRAWN_BLOCKS = 3, DRAWN_ARRAYS = 64, DRAWN_SAMPLES = 8 };

typedef struct drawn_gradient {
    psg_gradient gradient;
    psg_block block[DRAWN_BLOCKS], inner[DRAWN_BLOCKS];   /* inner: of the derivation */
    psg_derivation derivation[DRAWN_BLOCKS];
} drawn_gradient;

typedef struct drawn_set {
    psg_dtype dtype;
    int64_t batch_size;
    size_t count;
    int is_known;                      /* plain loops have its gradients: not those of a derivation moved or sliced */
    int is_plain;                      /* no odd value or scale: what is computed may be compared with what is exact */
    drawn_gradient of[DRAWN_GRADIENTS];
    const psg_gradient *list[DRAWN_GRADIENTS];
    unsigned char bad[DRAWN_SAMPLES];
    void *array[DRAWN_ARRAYS];
    int array_count;
} drawn_set;

void drawn_set_make(drawn_set *set, fuzz_bytes *bytes);
void drawn_set_free(drawn_set *set);

/* The set over its sample n alone, which shares the arrays; not to be freed. */
void drawn_set_alone(const drawn_set *from, int64_t n, drawn_set *alone);

#endif
