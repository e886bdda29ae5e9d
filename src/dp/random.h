/* Addressed randomness: every word has an address, no word has two, and nothing is consumed in order. */
#ifndef PSG_DP_RANDOM_H
#define PSG_DP_RANDOM_H

#include "base/fork_mark.h"
#include "base/owner.h"
#include "dp/grid_table.h"
#include "psg/dp.h"

#define PSG_KEY_BYTES 32

struct psg_generator {
    psg_owner owner;        /* held by each psg_dp of it */
    psg_context *context;
    unsigned char key[PSG_KEY_BYTES];
    int seeded;
    psg_fork_mark process;  /* the maker's */
    uint64_t next_owner;    /* of the next psg_dp */
    psg_grid_table grid;
};

typedef enum psg_purpose {
    PSG_PURPOSE_GAUSSIAN = 1,
    PSG_PURPOSE_SAMPLER = 2,
    PSG_PURPOSE_GRID_NOISE = 3,
    PSG_PURPOSE_GRID_RETRY = 4,  /* holds the key of the slots for what a grid noise word leaves undecided */
    PSG_PURPOSE_BATCH = 5        /* the stream of a step's batch */
} psg_purpose;

/* One stream of 2^64 blocks of 8 words.  owner 0 is the public psg_gaussian and psg_discrete_gaussian; every psg_dp has
 * an owner number of its own, so that two of them on one generator, or one after the other, share no batches and no
 * noise, and what the public ones show is not theirs. */
typedef struct psg_stream {
    psg_purpose purpose;
    uint32_t parameter;
    uint64_t owner, step;
} psg_stream;

#define PSG_WORDS_PER_BLOCK 8

/* PSG_ERR_FORKED with a message unless this is the process that made the generator, and not a child of it that goes by
 * the same id in a namespace of its own. */
psg_status psg_generator_check(const psg_generator *generator, const char *function);

int psg_generator_is_forked(const psg_generator *generator);

/* Writes `bytes` bytes of a stream from block `first_block` on. */
void psg_stream_read(const psg_generator *generator, const psg_stream *stream, uint64_t first_block, void *out,
                     size_t bytes);

/* ---- normal deviates ----
 * Coordinates are made in groups of 16; psg_normals makes the groups that hold [first, first + count) in `scratch`
 * (16-byte aligned, PSG_NORMALS_SCRATCH(count) doubles) and returns where coordinate `first` is in it.  The caller
 * wipes what it does not release. */
#define PSG_NORMALS_GROUP 16
#define PSG_NORMALS_SCRATCH(count) ((size_t)(count) + 2 * PSG_NORMALS_GROUP)
const double *psg_normals(const psg_generator *generator, const psg_stream *stream, uint64_t first, size_t count,
                          double *scratch);

#endif
