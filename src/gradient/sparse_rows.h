/* Rows of a sparse part, for grad_sample_sparse. */
#ifndef PSG_GRADIENT_SPARSE_ROWS_H
#define PSG_GRADIENT_SPARSE_ROWS_H

#include "gradient/plan.h"

/* rows = the rows that sample n names, ascending, each once; how many. */
int64_t psg_sparse_rows_of(const psg_part *part, int64_t n, int64_t *rows);
/* sums += scale * elements [first, first + count) of what sample n adds to a row. */
void psg_sparse_add_row(const psg_part *part, int64_t n, int64_t row, int64_t first, int64_t count, double scale,
                        double *sums);

#endif
