/* Sums over samples.  A task owns elements of a parameter and adds every sample's addend there, samples in order, to
 * doubles.  An addend is fixed before it gets here: the sink is the one place where samples meet. */
#ifndef PSG_GRADIENT_SINK_H
#define PSG_GRADIENT_SINK_H

#include "gradient/plan.h"

/* outs = or += sum over samples of all parts of a plan; weights: B, or NULL, which stands for ones. */
void psg_sum_samples(psg_plan *plan, const double *weights, psg_write write, const psg_tensor *outs);

/* Where a task adds: a tile of its own, which goes to the output once.  Output lines that were in the other worker's
 * cache the step before would cost more than this pass. */
struct psg_sink {
    const psg_plan *plan;
    const psg_part *part;
    const double *weights;
    bool squares;              /* sum_n grad[n]^2 */
    psg_rectangle at;          /* the task's, of the room's grid */
    double *sums;              /* at.rows x at.columns, in the tile memory */
    void *workspace;
};

/* What multiplies sample n's unscaled gradient; 0: it has no live position, or its addend is 0, and nothing of it is
 * read.  Squares: the scale. */
double psg_addend_weight(const psg_sink *to, int64_t n);

void psg_sink_clear(const psg_sink *to);
/* Row i of the sums goes to element first + i * stride of the part's output. */
void psg_sink_close(const psg_sink *to, int64_t first, int64_t stride);

/* A product: of one sample, whose whole sum over positions it is; or of several of one position each, its row_weight
 * theirs. */
void psg_sink_add_product(const psg_sink *to, const psg_kernel_table *kernels, psg_product *product, double weight);
/* sums += weight * x, or weight^2 x^2: count elements of a sample's gradient. */
void psg_sink_add(const psg_sink *to, const psg_kernel_table *kernels, double weight, const void *x, int64_t count,
                  double *sums);
/* Row `row` of the sums += several samples' rows at once. */
void psg_sink_add_rows(const psg_sink *to, int64_t row, size_t count, const double *weights, const void *const *x);

#endif
