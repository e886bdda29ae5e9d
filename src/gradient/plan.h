/* The plan of a question: every gradient's blocks grouped into parts, what each keeps, who answers with whom; executed,
 * printed and forced from this one object.  Built once a call, in linear time up to sorting.
 *
 * Nothing in it depends on the batch: what may differ from sample to sample (the route of a norm) the rooms decide from
 * a sample's live positions, and gradients are kept where those of `capacity` samples fit the budget. */
#ifndef PSG_GRADIENT_PLAN_H
#define PSG_GRADIENT_PLAN_H

#include "gradient/room.h"
#include "kernels.h"

typedef struct psg_plan {
    /* given: */
    psg_question question;
    bool is_plain;             /* a sum of all samples as they are: live positions do not matter */
    bool is_apart;             /* a part a block, in their order, wherever they lie */
    int64_t capacity;          /* clipped sums: the samples that one sum may hold */
    double units;              /* of the grid that addends are rounded to, in 1; 0: none.  Then outs are PSG_I64, and
                                  are added to */
    /* made: */
    psg_context *context;
    const char *function;
    const psg_gradient *const *gradients;
    size_t gradient_count;
    int64_t batch;
    psg_part *parts;           /* in the order of their gradients */
    size_t part_count;
    int64_t *covered;          /* elements of each gradient that parts have */
    int64_t runs, some;        /* parts are visited in runs of PSG_RUN, some samples a visit */
    long double *square, *upper;   /* norms: B squares, and their bounds, a run; those of the first become the sums */
    size_t budget_held;
    bool failed;               /* without memory */
    atomic_llong fallbacks;
} psg_plan;
/* Checks the set and plans a question of it.  PSG_ERR_MEMORY names the function. */
psg_status psg_plan_make(const psg_set *set, bool coupled, psg_plan *plan);
/* The question is answered, or the plan was not made. */
void psg_plan_end(psg_plan *plan);
/* Memory of the question under way, until psg_plan_end; NULL after failing with PSG_ERR_MEMORY. */
void *psg_plan_take(psg_plan *plan, size_t bytes);
/* clipped_sum.c: the samples that one sum may hold. */
int64_t psg_capacity_of(const psg_clip *clip);
/* Whether the parts of a gradient have all its elements. */
bool psg_plan_covers(const psg_plan *plan, size_t gradient);
/* Whether a gradient says that sample n is bad. */
bool psg_plan_is_bad(const psg_plan *plan, int64_t n);
/* What a part's gradients of that many samples hold of the budget, whole cache lines. */
size_t psg_plan_kept_bytes(const psg_part *part, int64_t samples);
/* What a sample of a part costs, in operations, more or less: its norm, or what multiplies its gradient out; and some
 * 10 microseconds of them, a task that is worth a worker. */
#define PSG_TASK_COST ((double)(1 << 16))
double psg_part_cost(const psg_part *part, bool is_norm);
/* A run of parts and some samples: what a worker takes at a time.  Runs are cut by the number of parts alone, so that
 * sums over the parts of a run, added in the order of the runs, have the same bits for any batch and threads. */
#define PSG_RUN ((int64_t)64)
typedef struct psg_visit {
    const psg_part *first, *end;
    int64_t run, sample, last;     /* the run's number; samples [sample, last) */
    void *workspace;
} psg_visit;
typedef void (*psg_visitor)(void *argument, const psg_visit *visit);
/* Every part and sample once, in one parallel section that also finds their live positions: the first thing that every
 * question does with its plan.  visitor NULL: that alone. */
void psg_plan_visit(const psg_plan *plan, psg_visitor visitor, void *argument);
/* sqnorm.c: fills in the squared norms of the samples over all parts, and their upper bounds. */
void psg_plan_norms(psg_plan *plan);
/* The least double that is not below x (which is not negative), up to a factor of 1 + 2^-51. */
double psg_round_up(long double x);

/* ---- sums over samples ----
 * A task owns elements of a parameter and adds every sample's addend there, samples in order, to doubles.  An addend is
 * fixed before it gets here: the sink is the one place where samples meet. */

/* outs = or += sum over samples of all parts of a plan; weights: B, or NULL, which stands for ones.  Not on a grid. */
void psg_sum_samples(psg_plan *plan, const double *weights, psg_write write, const psg_tensor *outs);

/* outs, PSG_I64, += the sum over samples of each addend times plan->units, rounded to integers, which is exact: the
 * same for any order, threads and micro-batches.  most: what an addend is at the most, in units. */
void psg_sum_on_grid(psg_plan *plan, const double *weights, double most, const psg_tensor *outs);

/* Where a task adds: a tile of its own, which goes to the output once: lines in another worker's cache cost more. */
struct psg_sink {
    const psg_plan *plan;
    const psg_part *part;
    const double *weights;
    int64_t first, end;        /* the samples that are added */
    bool squares;              /* sum_n grad[n]^2 */
    psg_rectangle at;          /* the task's, of the room's grid */
    double *sums;              /* at.rows x at.columns, in the tile memory */
    void *workspace;
};
/* What multiplies sample n's unscaled gradient (squares: the scale); 0: it adds nothing and nothing of it is read. */
double psg_addend_weight(const psg_sink *to, int64_t n);
void psg_sink_clear(const psg_sink *to);
void psg_sink_clear_row(const psg_sink *to, double *sums);
/* Row i of the sums goes to element first + i * stride of the output. */
void psg_sink_close(const psg_sink *to, int64_t first, int64_t stride);
/* A product: a sample's whole sum over positions, or of several samples of one position each and their row_weight. */
void psg_sink_add_product(const psg_sink *to, const psg_kernel_table *kernels, psg_product *product, double weight);
/* sums += weight * x, or weight^2 x^2: count elements of a sample's gradient. */
void psg_sink_add(const psg_sink *to, const psg_kernel_table *kernels, double weight, const void *x, int64_t count,
                  double *sums);
/* Row `row` of the sums += several samples' rows at once. */
void psg_sink_add_rows(const psg_sink *to, int64_t row, size_t count, const double *weights, const void *const *x);

#endif
