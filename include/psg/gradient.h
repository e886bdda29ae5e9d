/* psg/gradient.h: per-sample gradients and the questions asked of them.
 *
 * The gradient of one parameter for a batch of B samples is a list of blocks; the sum over the list is the gradient.
 * A block is made of views of the caller's arrays and has one of these forms:
 *
 *   factored     gradient[n][i][j] = scale * sum_t backprop[n,t,i] * activation[n,t,j]      (B x p x d)
 *   rows         gradient[n][j]    = scale * sum_t backprop[n,t,j]                          (B x p)
 *   row products gradient[n][j]    = scale * sum_t backprop[n,t,j] * activation[n,t,j]      (B x p)
 *   sparse rows  gradient[n][v][j] = scale * sum_{t: ids[n,t] = v} backprop[n,t,j]          (B x V x p)
 *   unfolded     factored, where activation[n,t,:] is the window of an image at position t: what a convolution
 *                multiplies.  The windows are never stored.
 *   derived      rows of the gradient of an effective weight, pulled back to the parameter it was computed from
 *
 * A linear layer that received activations x (B,T,d) and output gradients g (B,T,p) has the weight gradient
 * psg_factored(g, x) and the bias gradient psg_rows(g).  Nothing here knows of tapes or layers: an existing training
 * code fills these structs from its own arrays.
 *
 * Questions never change a block.  They answer for the samples of all given gradients together: the norm of sample n is
 * the norm of its concatenated gradients.  The caller owns every output; outputs must not overlap blocks.
 *
 * One sample, one result: everything that is answered for sample n has the bits that it has when n is the whole batch,
 * whatever the batch size, its place and its neighbours, for one configuration (instruction set, library, OpenBLAS
 * core, memory budget, max_batch_size).  How sample n is computed follows from its live positions alone: those up to
 * the last at which a backprop of the block is not all zero.  What comes after them is padding: it is not read (but by
 * the ordinary sum, psg_weighted_sum with weights NULL), so a batch may be padded to its longest sample, with anything
 * in the padded activations. */
#ifndef PSG_GRADIENT_H
#define PSG_GRADIENT_H

#include "psg/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a block makes gradients of its views: the list above. */
typedef enum psg_form {
    PSG_FACTORED = 0,
    PSG_ROWS = 1,
    PSG_SPARSE_ROWS = 2,
    PSG_UNFOLDED = 3,
    PSG_ROWS_PRODUCT = 4,
    PSG_DERIVED = 5
} psg_form;

/* Windows of an image (C, *X) of 1 to 3 spatial dimensions, one a position of the output.  Element (c, k) of the window
 * at position t (both row-major indices) is image[c, t * stride + k * dilation - padding], a sum a dimension; 0 outside
 * the image. */
typedef struct psg_window {
    int spatial;                   /* 1, 2 or 3; the arrays' further entries are not read */
    int64_t kernel[3], stride[3], dilation[3];
    int64_t padding[3];            /* zeros before the first element, >= 0 */
    int64_t output[3];             /* positions */
} psg_window;

typedef struct psg_derivation psg_derivation;

/* One summand.  Element (i, j) of the block lands on element offset + i * row_stride + j of the flattened parameter, so
 * a block may fill the whole parameter or a rectangle of it.  Element j of rows lands on offset + j * row_step: a bias
 * that is a column of its weight has the row's length for a step. */
typedef struct psg_block {
    psg_form form;
    psg_tensor backprop;    /* (B, T, p); T may be 0: no gradient */
    psg_tensor activation;  /* (B, T, d); row products: (B, T, p); unfolded: the image (B, C, *X), d = C prod K; rows and
                               sparse rows: unused */
    psg_tensor ids;         /* sparse rows: (B, T), i32 or i64; a negative one is no row */
    psg_window window;      /* unfolded */
    double scale;           /* multiplies the block; 0, or of magnitude 1e-100 to 1e100; in f32, beside blocks of other
                             * forms or places, one beyond 1e-30 to 1e30 has upper Inf */
    int64_t offset;
    int64_t row_stride;     /* d (sparse rows: p) for a whole parameter; rows: not read */
    int64_t row_step;       /* rows; 0 stands for 1 */
    const psg_derivation *derivation; /* derived; backprop then gives the batch size alone */
    uint64_t reserved[4];
} psg_block;

#define PSG_MOST_DERIVED_COLUMNS 49152   /* of a row of an effective weight, and of what it is pulled back to */

/* How the gradient of a parameter W follows from that of an effective weight E = f(W), row by row: row i of E
 * depends on row i of W alone, so the gradient of row i is J_i^T e with the transposed Jacobian J_i^T of that row. */
struct psg_derivation {
    const psg_block *blocks;     /* of the effective weight, rows * columns elements */
    size_t block_count;
    int64_t rows, columns;       /* columns, width: at most PSG_MOST_DERIVED_COLUMNS */
    int64_t width;               /* elements of a row of the parameter: columns for W itself, 1 for a gain a row */
    int64_t inner;               /* 0 (or columns): rows lie one after the other.  Else, a divisor of columns: row i is
                                    slice i of E's middle dimension, (columns / inner, rows, inner); so it is of a
                                    parameter of width = columns.  Parameters of other widths have their rows one after
                                    the other in either case */
    /* pulled (count x width) = J_i^T of rows [first, first + count) of grad (count x columns), all in double */
    void (*pull)(const void *user, int64_t first, int64_t count, const double *grad, double *pulled);
    /* At least the spectral norm of J_i, for the certificate of the norm: pull must round each row by less than
     * gamma_{8 columns + 64} of doubles times this norm times |grad|. */
    double (*norm)(const void *user, int64_t row);
    const void *user;            /* read from several threads */
    uint64_t reserved[4];
};

/* The per-sample gradients of one parameter. */
typedef struct psg_gradient {
    psg_dtype dtype;            /* of the blocks: PSG_F32 or PSG_F64 */
    int64_t batch_size;         /* B, 0 included */
    int rank;                   /* the parameter's shape */
    int64_t shape[PSG_MAX_RANK];
    const psg_block *blocks;    /* none: the gradient is zero */
    size_t block_count;
    int batch_coupled;          /* non-zero: the samples' shares are not gradients of their own (an ordinary pass whose
                                   loss couples the batch); only psg_weighted_sum with weights NULL is answered */
    const char *name;           /* of the parameter, for messages and plans; or NULL */
    uint32_t pass;              /* the tape's: blocks of a pass that is over are refused; 0: the caller's own arrays */
    uint32_t pass_parameters;   /* trainable parameters that the pass reached, of which psg_dp wants all; 0: not known */
    psg_batch batch;            /* the records of the pass, where it named them (psg_pass.batch): psg_dp takes no gradient
                                   under another's name; its ids last as long as the pass.  owner 0: not
                                   known */
    const unsigned char *bad;   /* B bytes, not 0: the gradient of that sample is NaN whatever its blocks hold, as that of
                                   a record that psg_pass.remove_bad_records removed; NULL: none.  (Sparse rows that
                                   psg_grad_sample_sparse finds of it are NaN, and so is every sum that it adds to) */
    uint64_t reserved[4];
} psg_gradient;

/* Blocks from views of rank 2 (B, p) or 3 (B, T, p), any strides; scale 1, offset 0, the row_stride of a whole
 * parameter, which psg_block_scaled and psg_block_at change.  Zero batch stride shares one array among samples.  They
 * check nothing; the questions do. */
PSG_API psg_block psg_factored(const psg_tensor *backprop, const psg_tensor *activation);
/* The parameter stores the transpose: element (j, i) of a d x p array receives backprop[.., i] * activation[.., j]. */
PSG_API psg_block psg_factored_transposed(const psg_tensor *backprop, const psg_tensor *activation);
/* The gradient of a bias: backprop, summed over its positions. */
PSG_API psg_block psg_rows(const psg_tensor *backprop);
/* The gain of a normalisation: backprop and the normalised input, both (B, p) or (B, T, p); products in double. */
PSG_API psg_block psg_rows_product(const psg_tensor *backprop, const psg_tensor *activation);
/* Row ids[n, t] of the parameter receives backprop[n, t].  ids (B, T), backprop (B, T, p); both may have stride 0 along
 * the batch or the positions.  Ids are read when a question is asked, which refuses one that is past the last row. */
PSG_API psg_block psg_sparse_rows(const psg_tensor *backprop, const psg_tensor *ids);
/* backprop (B, T, p) with T = prod window->output, image (B, C, *X). */
PSG_API psg_block psg_unfolded(const psg_tensor *backprop, const psg_tensor *image, const psg_window *window);
/* The block times scale, on top of the scale that it has: B, where output gradients are those of a mean over the
 * batch. */
PSG_API psg_block psg_block_scaled(psg_block block, double scale);
/* The block in a part of its parameter: moved by offset elements from where it is, its rows stride elements apart (of
 * rows and row products: their elements); stride 0: as far as they are.  A weight (p, d + 1) whose last column is its
 * bias has psg_block_at(psg_factored(g, a), 0, d + 1) and psg_block_at(psg_rows(g), d, d + 1). */
PSG_API psg_block psg_block_at(psg_block block, int64_t offset, int64_t stride);
/* What a derivation, which must outlive the block, makes of its blocks, of B = batch_size samples of real type
 * dtype. */
PSG_API psg_block psg_derived(const psg_derivation *derivation, psg_dtype dtype, int64_t batch_size);

/* A gradient over blocks, which outlive it, of a parameter of the given shape; the type and B are the first block's
 * (without blocks: f32 and 0, to be set by hand).  Checks nothing, but NULL where there must be something gives rank
 * -1.  Questions refuse that, and (PSG_ERR_OVERFLOW) what no memory holds and views with strides of 0 can say: more
 * than 2^32 samples, 2^38 elements of an operand, or 2^38 elements of the parameter that one block (sparse rows
 * excepted) touches. */
PSG_API psg_gradient psg_gradient_of_blocks(const psg_block *blocks, size_t block_count, int rank,
                                            const int64_t *shape);

/* T of all blocks together: the sum over k of blocks[k].backprop.shape[1], 1 for one of rank 2.  Checks nothing. */
PSG_API int64_t psg_gradient_positions(const psg_gradient *gradient);

/* ---- questions ----
 *
 * gradients is an array of count pointers, all with the same B and real type (else PSG_ERR_BATCH, PSG_ERR_DTYPE).
 * A block that is no part of the parameter's shape is PSG_ERR_SHAPE, a gradient of a pass that is over PSG_ERR_STATE.
 * On an error no output is written. */

/* Whether an output is written or added to. */
typedef enum psg_write { PSG_OVERWRITE = 0, PSG_ACCUMULATE = 1 } psg_write;

/* out (B, *shape), of the gradient's real type, any strides without overlap:
 *   out[n] = scale * grad[n]             PSG_OVERWRITE
 *   out[n] = out[n] + scale * grad[n]    PSG_ACCUMULATE
 * Rows are summed over positions, and sparse rows that share a row, in double and rounded once; PSG_ACCUMULATE reads
 * and writes the named rows of a table alone. */
PSG_API psg_status psg_grad_sample(psg_context *context, const psg_gradient *gradient, double scale, psg_write write,
                                   const psg_tensor *out);

/* The gradient as sparse rows, for parameters (V, *D) whose blocks are all sparse rows, or (counts 0) have none:
 *   ids    (B, T) PSG_I64, T = psg_gradient_positions: the rows of sample n in ascending order, each once; then -1
 *   rows   (B, T, D), the gradient's real type: rows[n, k] = scale * grad[n][ids[n, k]]; those of id -1 are not written
 *   counts B numbers of rows
 * What shares a row is summed in double, blocks and positions in their order, and rounded once.
 * All outputs contiguous.  PSG_ERR_UNSUPPORTED when a block has another form. */
PSG_API psg_status psg_grad_sample_sparse(psg_context *context, const psg_gradient *gradient, double scale,
                                          const psg_tensor *ids, const psg_tensor *rows, int64_t *counts);

/* sqnorm[n] = ||grad[n]||^2 over all gradients together, accumulated in double or wider.  upper (NULL or B doubles)
 * receives a bound that is never below the true value: the rounding of every step is covered, and a sample whose Gram
 * product cancels so much that the bound is loose (error > 2 % of the result) is computed anew by tiles.
 * fallbacks (or NULL) receives how many samples were.  A sample with NaN or Inf gets NaN or Inf; so does, in f64, one
 * whose single position has an operand of norm above 1e190. */
PSG_API psg_status psg_sqnorm(psg_context *context, const psg_gradient *const *gradients, size_t count, double *sqnorm,
                              double *upper, int64_t *fallbacks);

/* outs[k] (*shape of gradient k) = sum_n weights[n] * grad_k[n]; weights NULL means all ones, which gives the
 * ordinary gradient, padding read like the rest.  A sample of weight exactly 0 is not read, so its NaN and Inf do
 * not matter. outs may be of the gradient's real type, or PSG_F64 to accumulate micro-batches.  With weights, what a
 * sample adds is fixed before it meets others: its positions and blocks are summed first (one live position: its
 * products are formed in double), then weighted and added to sums in double, in the order of the samples.  outs must
 * be contiguous. */
PSG_API psg_status psg_weighted_sum(psg_context *context, const psg_gradient *const *gradients, size_t count,
                                    const double *weights, psg_write write, const psg_tensor *outs);

/* The factor c of a sample whose gradient has at most norm b; c b <= C for all of them.
 * flat       min(1, C / b): Abadi et al., "Deep learning with differential privacy" (2016)
 * automatic  C / (b + stability): AUTO-S of Bu et al., "Automatic clipping" (2023)
 * normalized C / b, 0 where b is 0: their AUTO-V */
typedef enum psg_clipping { PSG_CLIP_FLAT = 0, PSG_CLIP_AUTOMATIC, PSG_CLIP_NORMALIZED } psg_clipping;

/* How the gradients of samples are clipped; filled from its INIT macro. */
typedef struct psg_clip {
    double max_grad_norm;      /* C, from 1e-100 to 1e100 (f32 outs: C * max_batch_size within their range); infinity: no
                                  clipping, and no bound (flat alone) */
    int64_t max_batch_size;    /* samples that one sum may hold, over all its micro-batches: to be given with
                                  PSG_ACCUMULATE; 0: PSG_DEFAULT_MAX_BATCH_SIZE.  The clip factors leave room for the
                                  rounding of a sum of that many; see psg_clipped_sum. */
    psg_clipping clipping;
    double stability;          /* of automatic clipping, finite, > 0; 0: 0.01 */
    uint64_t reserved[4];
} psg_clip;

/* What a max_batch_size of 0 stands for. */
#define PSG_DEFAULT_MAX_BATCH_SIZE 65536
#define PSG_CLIP_INIT { 1.0, 0, PSG_CLIP_FLAT, 0.0, { 0, 0, 0, 0 } }

typedef struct psg_clip_report {   /* all of this depends on the records: it is not covered by any noise */
    int64_t clipped;           /* samples whose norm is above C */
    int64_t removed;           /* samples removed: NaN, Inf, or a norm of more than 2^900 C */
    int64_t fallbacks;         /* samples whose norm was computed anew by tiles */
    double mean_norm, max_norm;/* of the upper norms of those that were not removed */
    uint64_t reserved[4];
} psg_clip_report;

/* The sum of the samples' clipped gradients: outs[k], written or added to as in psg_weighted_sum, = sum_n c[n]
 * grad_k[n] with c[n] = min(1, C (1 - margin) / norm_upper[n]), or what clip->clipping says.  outs are contiguous, of
 * the parameters' shapes, PSG_F64 or of the gradients' real type. Adding or removing one sample moves the computed,
 * concatenated sum (outs in PSG_F64) by no more than C in the Euclidean norm: norm_upper is certified and, like c[n], a
 * function of sample n alone; a sample's addend is fixed before it meets others; and margin = 2 N gamma_{N+8} + 2^-40,
 * N = max_batch_size, gamma_k = k u / (1 - k u), u = 2^-53, covers the rounding of a sum of N addends in double (0.03 %
 * at N = 2^20).  PSG_ERR_ARGUMENT when that exceeds 1/2. A sample whose gradient holds NaN or Inf, or whose sums over
 * positions may, in some order, leave the real type's range, is removed: the result is bit for bit that of the batch
 * with its rows zero. Gradients whose norms come from tiles are kept between norms and sum where those of
 * max_batch_size samples fit the memory budget and keeping costs less than forming them again. norms (or NULL): B upper
 * norms; factors (or NULL): B factors c; report (or NULL). */
PSG_API psg_status psg_clipped_sum(psg_context *context, const psg_gradient *const *gradients, size_t count,
                                   const psg_clip *clip, psg_write write, const psg_tensor *outs, double *norms,
                                   double *factors, psg_clip_report *report);

/* The factors c[n] of psg_clipped_sum from upper bounds of squared norms, for programs that free a layer's arrays
 * before the next: ask each layer for its upper (psg_sqnorm), add them (psg_add_upper), then sum layer by layer with
 * psg_weighted_sum and the factors, outs in PSG_F64: one record then moves the sum by at most C, as in
 * psg_clipped_sum, whose factors differ by the rounding of totals.  factors: B; report (or NULL); upper and factors
 * may be one array. */
PSG_API psg_status psg_clip_factors(psg_context *context, const psg_clip *clip, const double *upper, int64_t batch_size,
                                    double *factors, psg_clip_report *report);

/* total[n] += upper[n], rounded upwards; totals begin at 0.  What is NaN or beyond the doubles stays so, and is removed
 * by psg_clip_factors; upper NULL: all of them become NaN. */
PSG_API void psg_add_upper(int64_t batch_size, const double *upper, double *total);

/* dots[n] = <grad[n], direction>, direction[k] of the shape and real type of gradient k, contiguous. */
PSG_API psg_status psg_dot(psg_context *context, const psg_gradient *const *gradients, size_t count,
                           const psg_tensor *direction, double *dots);

/* gram (B x B doubles, row-major, symmetric) = inner products between samples; entry (i, j) is a function of samples i
 * and j alone.  Takes memory for another B x B doubles; beyond 2,048 samples its shared tile is larger than 2 MiB:
 * 1024 B bytes. */
PSG_API psg_status psg_gram(psg_context *context, const psg_gradient *const *gradients, size_t count, double *gram);

/* outs[k] = sum_n grad_k[n]^2, elementwise; outs as in psg_weighted_sum. */
PSG_API psg_status psg_sum_of_squares(psg_context *context, const psg_gradient *const *gradients, size_t count,
                                      psg_write write, const psg_tensor *outs);

/* The questions that have plans: psg_plan_text. */
typedef enum psg_question {
    PSG_ASK_GRAD_SAMPLE = 0,
    PSG_ASK_SQNORM,
    PSG_ASK_WEIGHTED_SUM,
    PSG_ASK_CLIPPED_SUM,
    PSG_ASK_DOT,
    PSG_ASK_GRAM,
    PSG_ASK_SUM_OF_SQUARES,
    PSG_QUESTION_COUNT
} psg_question;

/* "grad_sample", "sqnorm", ... */
PSG_API const char *psg_question_name(psg_question question);

/* Writes the plan for a question (clipped sums: with this clip; NULL: PSG_CLIP_INIT's) as text, one line a part (the
 * blocks of one gradient that fill one rectangle of the parameter): its gradient, its route, its blocks, what is
 * held of the memory budget.  It is the plan that the question executes; where a route depends on a sample's live
 * positions, the line tells that of a sample without padding.  At most size bytes with the final 0 (a text that is
 * cut is no error; size 0 with text NULL is allowed); *needed (or NULL) is the full length without it.  Routes:
 * identity |g|^2 |a|^2; gram <A A^T, G G^T>; tiles of the gradient, used and discarded; rows summed over positions;
 * stacked, one product over samples; samples, a product each; project (G V) . A; sorted, scatter, gather, merge of
 * sparse rows; pulled, derived; keep, recompute between norms and sum; materialise. */
PSG_API psg_status psg_plan_text(psg_context *context, psg_question question, const psg_gradient *const *gradients,
                                 size_t count, const psg_clip *clip, char *text, size_t size, size_t *needed);

/* Forces a route where it applies ("identity", "gram", "tiles", "keep", "recompute"; NULL: the planner's choice), for
 * tests and benchmarks; elsewhere the planner's choice stands.  PSG_ERR_ARGUMENT for any other name. */
PSG_API psg_status psg_context_force_route(psg_context *context, const char *route);

#ifdef __cplusplus
}
#endif
#endif
