/* psg/gradient.h: per-sample gradients and the questions asked of them.
 *
 * The gradient of one parameter for a batch of B samples is a list of blocks; the sum over the list is the gradient.
 * A block is made of views of the caller's arrays and has one of four forms:
 *
 *   factored     gradient[n][i][j] = scale * sum_t backprop[n,t,i] * activation[n,t,j]      (B x p x d)
 *   rows         gradient[n][j]    = scale * sum_t backprop[n,t,j]                          (B x p)
 *   sparse rows  gradient[n][v][j] = scale * sum_{t: ids[n,t] = v} backprop[n,t,j]          (B x V x p)
 *   unfolded     factored, where activation[n,t,:] is the window of an image at position t: what a convolution
 *                multiplies.  The windows are never stored.
 *
 * A linear layer that received activations x (B,T,d) and output gradients g (B,T,p) has the weight gradient
 * psg_factored(g, x) and the bias gradient psg_rows(g).  Nothing here knows of tapes or layers: an existing training
 * code fills these structs from its own arrays.
 *
 * Questions never change a block.  They answer for the samples of all given gradients together: the norm of sample n is
 * the norm of its concatenated gradients.  The caller owns every output; outputs must not overlap blocks. */
#ifndef PSG_GRADIENT_H
#define PSG_GRADIENT_H

#include "psg/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum psg_form { PSG_FACTORED = 0, PSG_ROWS = 1, PSG_SPARSE_ROWS = 2, PSG_UNFOLDED = 3 } psg_form;

/* Windows of an image (C, *X) of 1 to 3 spatial dimensions, one a position of the output.  Element (c, k) of the window
 * at position t (both row-major indices) is image[c, t * stride + k * dilation - padding], a sum a dimension; 0 outside
 * the image. */
typedef struct psg_window {
    int spatial;                   /* 1, 2 or 3; the arrays' further entries are not read */
    int64_t kernel[3], stride[3], dilation[3];
    int64_t padding[3];            /* zeros before the first element, >= 0 */
    int64_t output[3];             /* positions */
} psg_window;

/* One summand.  Element (i, j) of the block lands on element offset + i * row_stride + j of the flattened parameter
 * (rows: element offset + j), so a block may fill the whole parameter or a rectangle of it. */
typedef struct psg_block {
    psg_form form;
    psg_tensor backprop;    /* (B, T, p) */
    psg_tensor activation;  /* (B, T, d); rows and sparse rows: unused; unfolded: the image (B, C, *X), d = C prod K */
    psg_tensor ids;         /* sparse rows: (B, T), i32 or i64; a negative one is no row */
    psg_window window;      /* unfolded */
    double scale;           /* multiplies the block; B under loss_reduction = mean */
    int64_t offset;
    int64_t row_stride;     /* d (sparse rows: p) for a whole parameter */
} psg_block;

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
} psg_gradient;

/* Blocks from views of rank 2 (B, p) or 3 (B, T, p), any strides.  Zero batch stride shares one array among samples.
 * They check nothing; the questions do. */
PSG_API psg_block psg_factored(const psg_tensor *backprop, const psg_tensor *activation);
/* The parameter stores the transpose: element (j, i) of a d x p array receives backprop[.., i] * activation[.., j]. */
PSG_API psg_block psg_factored_transposed(const psg_tensor *backprop, const psg_tensor *activation);
PSG_API psg_block psg_rows(const psg_tensor *backprop);
/* Row ids[n, t] of the parameter receives backprop[n, t].  ids (B, T), backprop (B, T, p); both may have stride 0 along
 * the batch or the positions.  Ids are read when a question is asked, which refuses one that is past the last row. */
PSG_API psg_block psg_sparse_rows(const psg_tensor *backprop, const psg_tensor *ids);
/* backprop (B, T, p) with T = prod window->output, image (B, C, *X). */
PSG_API psg_block psg_unfolded(const psg_tensor *backprop, const psg_tensor *image, const psg_window *window);

/* A gradient over blocks, of a parameter of the given shape; the type and B are the first block's (without blocks: f32
 * and 0, to be set by hand). */
PSG_API psg_gradient psg_gradient_of_blocks(const psg_block *blocks, size_t block_count, int rank,
                                            const int64_t *shape);

/* T of all blocks together: the sum over k of blocks[k].backprop.shape[1], 1 for one of rank 2.  Checks nothing. */
PSG_API int64_t psg_gradient_positions(const psg_gradient *gradient);

/* ---- questions ----
 *
 * gradients is an array of count pointers, all with the same B and real type (else PSG_ERR_BATCH, PSG_ERR_DTYPE).
 * Shapes that do not fit a block are PSG_ERR_SHAPE.  On an error no output is written. */

typedef enum psg_write { PSG_OVERWRITE = 0, PSG_ACCUMULATE = 1 } psg_write;

/* out (B, *shape), of the gradient's real type, any strides without overlap:
 *   out[n] = scale * grad[n]             PSG_OVERWRITE
 *   out[n] = out[n] + scale * grad[n]    PSG_ACCUMULATE
 * Sparse rows that share a row are added in the real type, in the order of their positions; PSG_ACCUMULATE reads and
 * writes the named rows alone. */
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

/* sqnorm[n] = ||grad[n]||^2 over all gradients together, accumulated in double.  upper (NULL or B doubles) receives a
 * bound that is never below the true value: the rounding of every step is covered, and a sample whose Gram product
 * cancels so much that the bound is loose (error > 2 % of the result) is computed anew by tiles.
 * fallbacks (or NULL) receives how many samples were.  A sample with NaN or Inf gets NaN or Inf. */
PSG_API psg_status psg_sqnorm(psg_context *context, const psg_gradient *const *gradients, size_t count, double *sqnorm,
                              double *upper, int64_t *fallbacks);

/* outs[k] (*shape of gradient k) = sum_n weights[n] * grad_k[n]; weights NULL means all ones, which gives the ordinary
 * gradient.  A sample of weight exactly 0 is not read, so its NaN and Inf do not matter.
 * outs may be of the gradient's real type, or PSG_F64 to accumulate micro-batches: then the products of one
 * sample (T > 1), or of at most 64 samples (T = 1), are summed in the gradient's type and these sums in double.  outs
 * must be contiguous. */
PSG_API psg_status psg_weighted_sum(psg_context *context, const psg_gradient *const *gradients, size_t count,
                                    const double *weights, psg_write write, const psg_tensor *outs);

typedef struct psg_clip {
    double max_grad_norm;      /* C > 0; infinity: no clipping */
    int64_t max_batch_size;    /* samples that one sum may hold, over all its micro-batches: to be given with
                                  PSG_ACCUMULATE; 0: this B.  The clip factors leave room for the rounding of a sum of
                                  that many; see psg_clipped_sum. */
} psg_clip;

#define PSG_CLIP_INIT { 1.0, 0 }

typedef struct psg_clip_report {   /* none of this is private */
    int64_t clipped;           /* samples whose factor is below 1 (by more than the margin) */
    int64_t removed;           /* samples removed for NaN or Inf */
    int64_t fallbacks;         /* samples whose norm was computed anew by tiles */
    double mean_norm, max_norm;
} psg_clip_report;

/* outs[k] = sum_n c[n] * grad_k[n] with c[n] = min(1, C (1 - margin) / norm_upper[n]).
 * Adding or removing one sample moves the computed, concatenated sum (outs in PSG_F64) by no more than C in the
 * Euclidean norm: norm_upper is certified, and margin = 2 gamma_65 max_batch_size + 2^-22 covers the f32 rounding
 * inside the blocks of psg_weighted_sum, gamma_k = k u / (1 - k u), u = 2^-24 (f32) or 2^-53 (f64).  PSG_ERR_ARGUMENT
 * when that margin exceeds 1/2.
 * A sample whose gradient holds NaN or Inf, or whose sums over positions leave the real type's range, is removed: the
 * result is bit for bit that of the batch with its rows zero.
 * norms (or NULL): B upper norms; factors (or NULL): B factors c; report (or NULL). */
PSG_API psg_status psg_clipped_sum(psg_context *context, const psg_gradient *const *gradients, size_t count,
                                   const psg_clip *clip, psg_write write, const psg_tensor *outs, double *norms,
                                   double *factors, psg_clip_report *report);

/* dots[n] = <grad[n], direction>, direction[k] of the shape and real type of gradient k, contiguous. */
PSG_API psg_status psg_dot(psg_context *context, const psg_gradient *const *gradients, size_t count,
                           const psg_tensor *direction, double *dots);

/* gram (B x B doubles, row-major, symmetric) = inner products between samples.  Beyond 16,384 samples its shared tile
 * is larger than 2 MiB: 128 B bytes.  A gradient of sparse rows alone needs no tile but a copy of its rows. */
PSG_API psg_status psg_gram(psg_context *context, const psg_gradient *const *gradients, size_t count, double *gram);

/* outs[k] = sum_n grad_k[n]^2, elementwise; outs as in psg_weighted_sum. */
PSG_API psg_status psg_sum_of_squares(psg_context *context, const psg_gradient *const *gradients, size_t count,
                                      psg_write write, const psg_tensor *outs);

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

/* Writes the plan for a question as text, one line a gradient and block: route, cost, workspace, what is held of the
 * memory budget.  At most size bytes with the final 0; *needed (or NULL) is the full length.  Plans depend on shapes,
 * real type, instruction set and budget, never on the number of threads. */
PSG_API psg_status psg_plan_text(psg_context *context, psg_question question, const psg_gradient *const *gradients,
                                 size_t count, char *text, size_t size, size_t *needed);

/* Forces a route where it applies ("identity", "gram", "tiles", "keep", "recompute"; NULL: the planner's choice), for
 * tests and benchmarks; elsewhere the planner's choice stands.  PSG_ERR_ARGUMENT for any other name. */
PSG_API psg_status psg_context_force_route(psg_context *context, const char *route);

#ifdef __cplusplus
}
#endif
#endif
