/* Every kernel, once: KERNEL(return type, name, (arguments)).  Kept free of an include guard on purpose.
 * A new kernel is a file in this folder and its lines here. */

/* ---- product.c: see product.h ---- */
KERNEL(void, product, (const psg_product *product, void *workspace))
KERNEL(void, outer, (size_t m, size_t n, double alpha, const void *g, const void *a, void *c, ptrdiff_t row_stride,
                     bool accumulate, bool stream))

/* ---- product_rows.c: see product.h; panels are 64-byte aligned ---- */
KERNEL(size_t, panel_height, (void))
KERNEL(size_t, panel_width, (void))
/* m rows of k elements, element (i, t) at x[i * m_stride + t * k_stride], as panels; what is missing is 0. */
KERNEL(void, pack_rows, (size_t m, size_t k, const void *x, ptrdiff_t m_stride, ptrdiff_t k_stride, void *panels))
/* n <= panel_width() columns of a k-row matrix, element (t, j) at w[j * n_stride + t * k_stride], as a panel. */
KERNEL(void, pack_panel, (size_t n, size_t k, const void *w, ptrdiff_t n_stride, ptrdiff_t k_stride, void *panel))
KERNEL(void, row_product, (const psg_row_product *product))
/* The same for at most a third of a panel's height of rows, with whole panels of columns that are not packed: of unit
 * step, their terms column_stride apart. */
KERNEL(void, low_product, (const psg_row_product *product, ptrdiff_t column_stride))

/* ---- row_dots.c: see product.h ---- */
KERNEL(void, row_dots, (const psg_row_dots *dots))
/* The most roundings that one of k terms passes through. */
KERNEL(size_t, row_dots_depth, (size_t k))

/* ---- product.c ---- */
/* x = 0, around the cache. */
KERNEL(void, clear, (size_t n, void *x))

/* ---- unfold.c, unfold_panel.c: see unfold.h ---- */
/* out[j * out_step + t] = A[position + t][column + j]. */
KERNEL(void, unfold, (const psg_unfolding *window, const void *image, const psg_unfold_part *part, void *out,
                      ptrdiff_t out_step))
/* Rows [first, first + rows) of the Gram of windows, v_step apart, each up to the end of the line that holds position
 * t: v[s] = <window t, window s>, summed over taps from the Gram of the pixels, whose rows are as long as there are
 * pixels; its lower triangle counts, and up to a vector around it is read.  Up to a vector behind v's last line is
 * written.  The window is one of a contiguous image of one channel, of at most PSG_MOST_TAPS elements. */
KERNEL(void, window_gram, (const psg_unfolding *window, const void *pixels, int64_t first, int64_t rows, void *v,
                           ptrdiff_t v_step))
/* Panels of two vectors' columns, one after another: panel[t * width + j] = A[position + t][column + j], 0 for the
 * columns that the last one lacks. */
KERNEL(void, unfold_panels, (const psg_unfolding *window, const void *image, const psg_unfold_part *part,
                             void *panels))

/* ---- grid_sum_kernel.c: see grid_sum.h ---- */
/* sums[i] = 0, as a sum on the grid; out[i] += sums[i]. */
KERNEL(void, grid_begin, (size_t n, double *sums))
KERNEL(void, grid_end, (size_t n, const double *sums, int64_t *out))
/* out[i] = scale * (x[i] + y[i]), the sum rounded to a double; x[i] = y[i] = 0. */
KERNEL(void, from_grid, (size_t n, double scale, int64_t *x, int64_t *y, void *out))

/* ---- reduce.c ---- */
/* sum_i x[i] y[i] in double. */
KERNEL(double, dot, (size_t n, const void *x, const void *y))
/* At least sum_i x[i]^2 and at most 2^-17 of it more (underflow apart: some n 2^-149 in f32): for bounds. */
KERNEL(double, sum_squares_bound, (size_t n, const void *x))
/* y[i] += w * x[i], y in double. */
KERNEL(void, add_to_f64, (size_t n, double w, const void *x, double *y))
/* y[i] += sum_r w[r] * x[r][i] over at most PSG_ROWS_AT_ONCE rows, y in double. */
KERNEL(void, add_rows_to_f64, (size_t rows, size_t n, const double *w, const void *const *x, double *y))
/* sums[i] += w[r] * x[r][i] for each r, w[r] odd, rounded to an integer: see grid_sum.h. */
KERNEL(void, add_rows_to_grid, (size_t rows, size_t n, const double *w, const void *const *x, double *sums))
/* y[i] += w * x[i]^2, y in double. */
KERNEL(void, add_squares_to_f64, (size_t n, double w, const void *x, double *y))
/* out[i] (+)= scale * x[i], x in double. */
KERNEL(void, from_f64, (size_t n, double scale, const double *x, void *out, bool accumulate))
/* y[i] (+)= alpha * x[i * stride]. */
KERNEL(void, scale_row, (size_t n, double alpha, const void *x, ptrdiff_t stride, void *y, bool accumulate))
/* Rows [first, first + rows) of the lower triangles of two Gram matrices U and V, row t at u + (t - first) * ldu.
 * First the norms of these rows from the diagonals, raised to cover their rounding: g_norm[t] = sqrt(U_tt) raise->g +
 * raise->tiny, a_norm likewise; then, over t in the rows and all s, by symmetry (strict triangle twice, diagonal once),
 *   out[0] += sum_ts U_ts (V_ts + one), out[1] += sum |V_ts + one| |g_t||g_s|, out[2] += sum |U_ts| |a_t||a_s|,
 *   out[3] += sum_t |g_t||a_t| */
KERNEL(void, gram_combine, (size_t first, size_t rows, const void *u, size_t ldu, const void *v, size_t ldv, double one,
                            const psg_raise *raise, double *g_norm, double *a_norm, double out[4]))

/* ---- gaussian.c ---- */
/* In place: n random 64-bit words, a multiple of 16, become n standard normal doubles.  Of each group of 16, words i
 * and i + 8 give deviates i and i + 8. */
KERNEL(void, gaussian, (size_t n, double *words))

/* ---- grid_noise_kernel.c: see grid_noise_kernel.h ---- */
/* In place: n < 2^31 words become samples, but for those that are undecided; returns how many these are and writes
 * their positions, ascending, to slow, which has room for n + PSG_GRID_SLOW_ROOM. */
KERNEL(size_t, grid_noise, (size_t n, const psg_grid_columns *columns, int64_t *words, uint32_t *slow))

/* ---- update.c: see update.h ---- */
/* v NULL: no momentum. */
KERNEL(void, sgd, (size_t n, const psg_sgd_step *step, void *w, const void *g, void *v))
KERNEL(void, adam, (size_t n, const psg_adam_step *step, void *w, const void *g, void *m, void *r))

/* ---- norm.c: see norm.h ---- */
/* Rows of d elements; weight and bias hold d each, or NULL.  stats, or NULL, receives one a row. */
KERNEL(void, layer_norm, (size_t rows, size_t d, double eps, const void *x, const void *weight, const void *bias,
                          void *y, psg_norm_stats *stats, bool stream))
/* grad_input, or NULL, is written.  grad_weight (g xh) and grad_bias (g), each or NULL: with sum_stride 0 the sums over
 * the rows are added to d elements; otherwise row r writes its own terms, sum_stride r elements on. */
KERNEL(void, layer_norm_backward, (size_t rows, size_t d, const void *x, const void *grad_output, const void *weight,
                                   const psg_norm_stats *stats, void *grad_input, void *grad_weight, void *grad_bias,
                                   size_t sum_stride, bool stream))
/* The same about 0: with the mean square in place of the variance, and the mean 0. */
KERNEL(void, rms_norm, (size_t rows, size_t d, double eps, const void *x, const void *weight, const void *bias,
                        void *y, psg_norm_stats *stats, bool stream))
KERNEL(void, rms_norm_backward, (size_t rows, size_t d, const void *x, const void *grad_output, const void *weight,
                                 const psg_norm_stats *stats, void *grad_input, void *grad_weight, void *grad_bias,
                                 size_t sum_stride, bool stream))
/* One group: lines of n elements, stride apart, with one mean and one variance (of x, or NULL); line k has element
 * k * weight_step of weight and bias, each or NULL. */
KERNEL(void, group_norm, (size_t lines, size_t n, ptrdiff_t stride, double eps, const void *x, const void *weight,
                          const void *bias, size_t weight_step, void *y, psg_norm_stats *stats, double *variance,
                          bool stream))
/* grad_weight and grad_bias: one element a line, written, or NULL; grad_input too. */
KERNEL(void, group_norm_backward, (size_t lines, size_t n, ptrdiff_t stride, const void *x, const void *grad_output,
                                   const void *weight, size_t weight_step, const psg_norm_stats *stats,
                                   void *grad_input, void *grad_weight, void *grad_bias, bool stream))

/* ---- fixed_norm.c: statistics that are given ---- */
/* y = (x - mean) rstd weight + bias.  Element i has element i * step (0 or 1) of mean, rstd, weight and bias, the last
 * two or NULL. */
KERNEL(void, fixed_norm, (size_t n, size_t step, const void *x, const void *mean, const void *rstd, const void *weight,
                          const void *bias, void *y))
/* Written, or NULL: grad_input = g weight rstd; grad_weight = g (x - mean) rstd and grad_bias = g, with step 0 their
 * sums. */
KERNEL(void, fixed_norm_backward, (size_t n, size_t step, const void *x, const void *grad_output, const void *mean,
                                   const void *rstd, const void *weight, void *grad_input, void *grad_weight,
                                   void *grad_bias))

/* ---- activation_kernel.c: the functions of activation_list.h and their numbers ---- */
/* y = f(x); gx = g f'(x). */
KERNEL(void, function, (psg_function f, size_t n, const double *numbers, const void *x, void *y))
KERNEL(void, function_backward, (psg_function f, size_t n, const double *numbers, const void *x, const void *g,
                                 void *gx))

/* ---- glu.c ---- */
/* y = a sigmoid(b). */
KERNEL(void, glu, (size_t n, const void *a, const void *b, void *y))
KERNEL(void, glu_backward, (size_t n, const void *a, const void *b, const void *g, void *ga, void *gb))

/* ---- elementwise.c ---- */
/* y[i] = a[i * a_step] + b[i * b_step], steps 0 or 1; the same with a difference, a product, a quotient. */
#define PAIR(name, ...)                                                                                                \
    KERNEL(void, broadcast_##name, (size_t n, const void *a, size_t a_step, const void *b, size_t b_step, void *y))
#include "pair_list.h"
/* y[i] = mask[i] ? scale * x[i] : 0. */
KERNEL(void, masked_scale, (size_t n, double scale, const unsigned char *mask, const void *x, void *y))
/* y[i * stride] += x[i]. */
KERNEL(void, add_spread, (size_t n, const void *x, void *y, ptrdiff_t stride))
/* sum_i x[i] in double. */
KERNEL(double, sum, (size_t n, const void *x))
/* sum[i] += sum over r < rows of x[r * x_stride + i] * y[r * y_stride + i], in double; y NULL: ones. */
KERNEL(void, add_products_to_f64, (size_t rows, size_t n, const void *x, ptrdiff_t x_stride, const void *y,
                                   ptrdiff_t y_stride, double *sum))

/* ---- softmax.c: rows of n elements, stride apart ---- */
KERNEL(void, fill_zero, (size_t n, ptrdiff_t stride, void *x))
KERNEL(void, softmax_row, (size_t n, ptrdiff_t stride, const void *x, void *y))
KERNEL(void, softmax_row_backward, (size_t n, ptrdiff_t stride, const void *y, const void *gy, void *gx))
KERNEL(void, log_softmax_row, (size_t n, ptrdiff_t stride, const void *x, void *y))
KERNEL(void, log_softmax_row_backward, (size_t n, ptrdiff_t stride, const void *y, const void *gy, void *gx))
/* -sum_c q_c log softmax(x)_c, q = (1 - smoothing) [c = target] + smoothing / n; n >= 1, target < n. */
KERNEL(void, cross_entropy_row, (size_t n, ptrdiff_t stride, const void *x, size_t target, double smoothing,
                                 psg_cross_entropy_row *row))
/* g = weight times its gradient. */
KERNEL(void, cross_entropy_row_backward, (size_t n, ptrdiff_t stride, const void *x, size_t target, double smoothing,
                                          double weight, const psg_cross_entropy_row *row, void *g))
/* -sum_c w_c q_c log softmax(x)_c for any target; 0 where w_c q_c is 0. */
KERNEL(void, class_target_row, (size_t n, ptrdiff_t stride, const void *x, const psg_class_target *target,
                                psg_cross_entropy_row *row))
/* g = weight times its gradient in x, gq in q; each or NULL. */
KERNEL(void, class_target_row_backward, (size_t n, ptrdiff_t stride, const void *x, const psg_class_target *target,
                                         double weight, const psg_cross_entropy_row *row, void *g, void *gq))

/* ---- regression_loss_kernel.c: the losses of regression_loss_list.h ---- */
/* out[i] = f(x[i], y[i]), or scale gy[i] times a slope of it. */
KERNEL(void, loss, (const psg_loss_range *range, psg_loss_part part))
/* scale times the sum of f, in double. */
KERNEL(double, loss_sum, (const psg_loss_range *range))
/* The least i for which x[i] < low or x[i] > high; n when there is none. */
KERNEL(size_t, first_outside, (size_t n, double low, double high, const void *x))

/* ---- lookup.c: ids of id_size 4 or 8 bytes name rows of n elements of a table ---- */
/* out[r] = table[ids[r * id_stride]]; stream: around the cache. */
KERNEL(void, gather_rows, (size_t rows, size_t n, const void *table, const void *ids, size_t id_size,
                           ptrdiff_t id_stride, void *out, bool stream))
/* out = scale * the sum over t < count of weights[t] * table[ids[t]], negative ids left out; weights NULL: ones. */
KERNEL(void, bag_sum, (size_t count, size_t n, const void *table, const void *ids, size_t id_size, const void *weights,
                       double scale, void *out))
/* The maximum of these rows, column by column, and the t of the first row that has it (integers of the real type's
 * width); 0 and -1 without a row. */
KERNEL(void, bag_max, (size_t count, size_t n, const void *table, const void *ids, size_t id_size, void *out,
                       void *winner))
/* Where (sum |x|^p)^(1/p), of infinite p the maximum, is larger than most, x is scaled to have that norm. */
KERNEL(void, limit_norm, (size_t n, double p, double most, void *x))

/* ---- recurrent_product.c: see recurrent.h ---- */
KERNEL(void, panel_product, (const psg_panel_product *product))

/* ---- recurrent.c: see recurrent.h ---- */
KERNEL(void, rnn_forward, (const psg_recurrent_row *row))
KERNEL(void, rnn_backward, (const psg_recurrent_row *row))
KERNEL(void, lstm_forward, (const psg_recurrent_row *row))
KERNEL(void, lstm_backward, (const psg_recurrent_row *row))
KERNEL(void, gru_forward, (const psg_recurrent_row *row))
KERNEL(void, gru_backward, (const psg_recurrent_row *row))

/* ---- prelu.c: w[i * w_step], steps 0 or 1 ---- */
/* y = x > 0 ? x : w x; gx = x > 0 ? gy : w gy. */
KERNEL(void, prelu, (size_t n, const void *x, const void *w, size_t w_step, void *y))
KERNEL(void, prelu_backward, (size_t n, const void *x, const void *gy, const void *w, size_t w_step, void *gx))
/* gw[i] = x[i] > 0 ? 0 : gy[i] x[i]; the sum of that in double. */
KERNEL(void, prelu_weights, (size_t n, const void *x, const void *gy, void *gw))
KERNEL(double, prelu_weight, (size_t n, const void *x, const void *gy))

/* ---- conv.c: see conv.h ---- */
/* Packs the weights of one of conv_pack_tasks parts. */
KERNEL(size_t, conv_pack_tasks, (const psg_conv *conv))
KERNEL(void, conv_pack, (const psg_conv *conv, size_t task))
/* One task, after all weights are packed; workspace as conv.h says. */
KERNEL(void, conv, (const psg_conv *conv, size_t task, void *workspace))

/* ---- conv_direct.c: see conv.h; nothing is packed ---- */
KERNEL(void, conv_direct, (const psg_conv *conv, size_t task, void *workspace))
/* The weight gradients of one sample and conv->task_groups groups, conv->out being the output's gradient; out holds
 * weights as conv's, a sample after the other.  Tasks as conv's with one box, one sample a task, one phase an axis. */
KERNEL(void, conv_weight_gradient, (const psg_conv *conv, size_t task, void *out, void *workspace))

/* ---- max_pool.c, avg_pool.c: planes of windows, see pooling.h ---- */
/* argmax, or NULL: the place in its plane of each maximum, the first of equal ones (of NaN the last); -1 for a window
 * without elements, whose maximum is -Inf. */
KERNEL(void, max_pool, (const psg_pooling *pooling, size_t planes, const void *x, void *y, int32_t *argmax))
KERNEL(void, max_pool_backward, (const psg_pooling *pooling, size_t planes, const void *gy, const int32_t *argmax,
                                 void *gx))
KERNEL(void, avg_pool, (const psg_pooling *pooling, size_t planes, const void *x, void *y))
KERNEL(void, avg_pool_backward, (const psg_pooling *pooling, size_t planes, const void *gy, void *gx))

/* ---- attention.c: see attention.h ---- */
KERNEL(void, attention, (const psg_attention *attention, void *workspace))
KERNEL(void, attention_backward, (const psg_attention *attention, void *workspace))
