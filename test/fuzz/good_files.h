/* Files as the library writes them, and edits of these: what a reader meets behind its first checks. */
#ifndef PSG_TEST_GOOD_FILES_H
#define PSG_TEST_GOOD_FILES_H

#include "fuzz.h"

/* Each writes up to capacity bytes and returns how many. */

/* Any bytes, or tensors and metadata with an edited header, whose length is then told right or as it was. */
size_t good_safetensors(fuzz_bytes *bytes, uint8_t *file, size_t capacity);
/* Lines of drawn events, edited, the chain of hashes made anew or not. */
size_t good_ledger(fuzz_bytes *bytes, uint8_t *file, size_t capacity);
/* An IDX file of images or labels, compressed or not, edited. */
size_t good_idx(fuzz_bytes *bytes, uint8_t *file, size_t capacity);
/* A checkpoint of a good_run of that ledger, edited as safetensors are; the ledger is of its steps. */
size_t good_checkpoint(fuzz_bytes *bytes, uint8_t *file, size_t capacity, const char *ledger);

/* A mechanism with a seed over one parameter, momentum and an extra array. */
enum { GOOD_WEIGHT = 6 };
typedef struct good_run {
    psg_generator *generator;
    psg_dp *dp;
    psg_optimizer *optimizer;
    double weight[GOOD_WEIGHT], average[GOOD_WEIGHT];
    psg_named params[1], extra[1];
    psg_checkpoint checkpoint;
} good_run;

/* Points into itself; to be freed also after an error. */
psg_status good_run_make(psg_context *context, const char *ledger, good_run *run);
void good_run_free(good_run *run);
/* Both arrays. */
void good_run_fill(good_run *run, double value);
int good_run_holds(const good_run *run, double value);

#endif
