/* npy and npz files as numpy could have written them, and edits of these. */
#ifndef PSG_TEST_GOOD_ARRAYS_H
#define PSG_TEST_GOOD_ARRAYS_H

#include "fuzz.h"

/* Each writes up to capacity bytes and returns how many. */

/* Any bytes, or a header of one of the types and orders with values, edited. */
size_t good_npy(fuzz_bytes *bytes, uint8_t *file, size_t capacity);
/* Any bytes, or an archive of such members, stored or deflated, with sums that are right; its records edited. */
size_t good_npz(fuzz_bytes *bytes, uint8_t *file, size_t capacity);

#endif
