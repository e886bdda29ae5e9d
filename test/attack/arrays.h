/* The arrays of one side of a pair (D, or D + record): samples in their order, the record at its place. */
#ifndef PSG_ATTACK_ARRAYS_H
#define PSG_ATTACK_ARRAYS_H

#include "attack.h"

/* Memory that is freed all at once. */
typedef struct attack_memory {
    void *chunk[64];
    int count;
} attack_memory;

void *attack_take(attack_memory *memory, size_t count, size_t size);   /* zeroed; ends the program when there is none */
void attack_free(attack_memory *memory);

/* One side: `with` says whether the record is in it. */
typedef struct attack_side {
    const attack_pair *pair;
    bool with;
    int64_t samples;
} attack_side;

attack_side attack_side_of(const attack_pair *pair, bool with);
/* The id of the sample at index n. */
int64_t attack_id(const attack_side *side, int64_t n);

/* A view of zeros in memory laid out as `layout` says; gaps hold NaN. */
psg_tensor attack_view(attack_memory *memory, psg_dtype dtype, int rank, const int64_t *shape, int layout,
                       uint64_t seed);
void attack_set_element(const psg_tensor *view, int64_t n, int64_t t, int64_t column, double value);
/* Samples [first, last) of a view whose dimension 0 is the batch. */
psg_tensor attack_part(const psg_tensor *view, int64_t first, int64_t last);

/* The set of one side, whole. */
typedef struct attack_built {
    int params, blocks;
    psg_block block[ATTACK_BLOCKS];
    int first[ATTACK_PARAMS + 1];      /* the blocks of parameter k are [first[k], first[k + 1]) */
    int64_t shape[ATTACK_PARAMS][2];
    psg_dtype dtype;
    int64_t samples;
} attack_built;

attack_built attack_build_set(attack_memory *memory, const attack_side *side);

/* The gradients of samples [first, last) of it; blocks must outlive them. */
void attack_gradients(const attack_built *built, int64_t first, int64_t last, psg_block blocks[ATTACK_BLOCKS],
                      psg_gradient gradients[ATTACK_PARAMS]);

#endif
