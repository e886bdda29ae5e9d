/* Sums over samples.  A task owns elements of a parameter and adds every sample's addend there, samples in order, to
 * doubles.  An addend is fixed before it gets here: the sink is the one place where samples meet. */
#ifndef PSG_GRADIENT_SINK_H
#define PSG_GRADIENT_SINK_H

#include "gradient/room.h"

struct psg_plan;

struct psg_sum {
    const struct psg_plan *plan;
    const double *weights;     /* B; NULL: ones */
    bool squares;              /* sum_n grad[n]^2 */
};

/* outs = or += sum over samples of all parts of a plan. */
void psg_sum_samples(struct psg_plan *plan, const double *weights, psg_write write, const psg_tensor *outs);

/* What multiplies sample n's unscaled gradient; 0: it has no live position, or its addend is 0, and nothing of it is
 * read.  Squares: the scale. */
double psg_addend_weight(const psg_sum *sum, const psg_part *part, int64_t n);

/* ---- where a task adds: a tile of its own, which goes to the output once ----
 * Output lines that were in the other worker's cache the step before would cost more than this pass. */

typedef struct psg_sink {
    double *sums;              /* rows x columns */
    int64_t rows, columns;
} psg_sink;

psg_sink psg_sink_open(int64_t rows, int64_t columns, void *workspace);
/* Row i of the sink goes to element first + i * stride of the part's output. */
void psg_sink_close(const psg_part *part, const psg_sink *sink, int64_t first, int64_t stride);

/* A product: of one sample, whose whole sum over positions it is; or of several of one position each, its row_weight
 * theirs. */
void psg_sink_add_product(const psg_sum *sum, const psg_kernel_table *kernels, psg_product *product, double weight,
                          const psg_sink *sink, void *workspace);
/* sums += weight * x, or weight^2 x^2: count elements of a sample's gradient. */
void psg_sink_add(const psg_sum *sum, const psg_kernel_table *kernels, double weight, const void *x, int64_t count,
                  double *sums);
/* Several samples' at once. */
void psg_sink_add_rows(const psg_kernel_table *kernels, size_t rows, const double *weights, const void *const *x,
                       int64_t count, double *sums);

#endif
