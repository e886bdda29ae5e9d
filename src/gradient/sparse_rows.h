/* Sparse rows: the row numbers of a sample in order, and what is computed from them. */
#ifndef PSG_GRADIENT_SPARSE_ROWS_H
#define PSG_GRADIENT_SPARSE_ROWS_H

#include "gradient/block.h"
#include "gradient/range.h"

/* Position `at` of a sample belongs to a row. */
typedef struct psg_entry {
    int64_t row, at;
} psg_entry;

/* Sorts by row, entries of one row by `at`; spare has the same size. */
void psg_sort_entries(psg_entry *entries, psg_entry *spare, int64_t count);

/* entries = the positions of sample n that have a row, sorted; the number of them.  entries has room for 2 T. */
int64_t psg_sparse_entries(const psg_piece *piece, int64_t n, psg_entry *entries);
/* The end of the run of entries of one row that begins at `first`. */
int64_t psg_run_end(const psg_entry *entries, int64_t first, int64_t count);

/* As many positions can be sorted in the panels' part of a worker's workspace. */
#define PSG_SORTED_MOST ((int64_t)(PSG_PRODUCT_WORKSPACE / (2 * sizeof(psg_entry))))

/* sums[i] += weight * element first + i of backprop[n, t], in double. */
void psg_add_sparse_row(const psg_kernel_table *kernels, const psg_piece *piece, int64_t n, int64_t t, int64_t first,
                        int64_t count, double weight, double *sums);

/* The squared norm of sample n of a single block without its scale: duplicates are summed in double, in the order of
 * their positions.  *lengths: sum_t |g_t| of rows that are summed.  T <= PSG_SORTED_MOST. */
double psg_sparse_square(psg_context *context, const psg_piece *piece, int64_t n, double *lengths, void *workspace);

/* out = or += sum_n weights[n] grad[n], or (squares) sum_n grad[n]^2, of one block; weights NULL: ones.  Unless
 * accumulate, every row that an id may name is written. */
void psg_sum_sparse(psg_context *context, const psg_piece *piece, const double *weights, bool squares, bool accumulate,
                    const psg_tensor *out);

/* ---- all blocks of a gradient as rows of its parameter (V, *D) ---- */

/* Whether every block is sparse rows, each inside a row of the parameter. */
bool psg_is_row_sparse(const psg_gradient *gradient);
/* D: elements of a row. */
int64_t psg_sparse_width(const psg_gradient *gradient);

/* The rows of sample n in ascending order, each once, T = psg_gradient_positions: ids (T) and rows (T x D reals),
 * rows = scale * gradient.  Returns how many.  Duplicates are summed in double, blocks in their order and positions in theirs, and rounded once.
 * entries: room for 2 T. */
int64_t psg_collect_rows(psg_context *context, const psg_gradient *gradient, int64_t n, double scale, int64_t *ids,
                         void *rows, psg_entry *entries, void *workspace);

/* Adds the inner products between samples to the lower triangle of gram (B x B).  memory: psg_sparse_gram_bytes. */
bool psg_sparse_gram_applies(const psg_gradient *gradient);
size_t psg_sparse_gram_bytes(const psg_gradient *gradient);
void psg_add_sparse_gram(psg_context *context, const psg_gradient *gradient, void *memory, double *gram);

#endif
