/* Sparse rows: the row numbers of a sample in order. */
#ifndef PSG_GRADIENT_SPARSE_ROWS_H
#define PSG_GRADIENT_SPARSE_ROWS_H

#include "gradient/room.h"

/* Position t of block (or piece) `block` of a sample belongs to a row. */
typedef struct psg_entry {
    int64_t row;
    uint32_t block, t;
} psg_entry;

/* Sorts by row, stably; spare has the same size. */
void psg_sort_entries(psg_entry *entries, psg_entry *spare, int64_t count);
/* The end of the run of entries of one row that begins at `first`. */
int64_t psg_run_end(const psg_entry *entries, int64_t first, int64_t count);

#endif
