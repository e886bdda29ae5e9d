/* Every kernel, once: KERNEL(return type, name, (arguments)).  Kept free of an include guard on purpose.
 * A new kernel is a file in this folder and its lines here. */

/* ---- product.c: see product.h ---- */
KERNEL(void, product, (const psg_product *product, void *workspace))
KERNEL(void, outer, (size_t m, size_t n, double alpha, const void *g, const void *a, void *c, ptrdiff_t row_stride,
                     bool accumulate, bool stream))

/* ---- reduce.c ---- */
/* sum_i x[i] y[i] in double. */
KERNEL(double, dot, (size_t n, const void *x, const void *y))
/* At least sum_i x[i]^2 and at most 2^-17 of it more (underflow apart: some n 2^-149 in f32): for bounds. */
KERNEL(double, sum_squares_bound, (size_t n, const void *x))
/* y[i] += w * x[i], y in double. */
KERNEL(void, add_to_f64, (size_t n, double w, const void *x, double *y))
/* y[i] += sum_r w[r] * x[r][i] over at most PSG_ROWS_AT_ONCE rows, y in double. */
KERNEL(void, add_rows_to_f64, (size_t rows, size_t n, const double *w, const void *const *x, double *y))
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

/* ---- update.c: see update.h ---- */
/* v NULL: no momentum. */
KERNEL(void, sgd, (size_t n, const psg_sgd_step *step, void *w, const void *g, void *v))
KERNEL(void, adam, (size_t n, const psg_adam_step *step, void *w, const void *g, void *m, void *v))

/* ---- norm.c ---- */
/* Rows of d elements; weight and bias hold d each, or NULL.  stats, or NULL, receives mean and 1 / sqrt(var + eps) of
 * each row. */
KERNEL(void, layer_norm, (size_t rows, size_t d, double eps, const void *x, const void *weight, const void *bias,
                          void *y, double *stats, bool stream))
/* Each of the last three may be NULL: grad_input is written, the sums over the rows are added to grad_weight (g xh) and
 * grad_bias (g), d elements each. */
KERNEL(void, layer_norm_backward, (size_t rows, size_t d, const void *x, const void *grad_output, const void *weight,
                                   const double *stats, void *grad_input, void *grad_weight, void *grad_bias,
                                   bool stream))
/* One group of one sample: channels lines of spatial elements, channel_stride apart, with one mean and one variance. */
KERNEL(void, group_norm, (size_t channels, size_t spatial, ptrdiff_t channel_stride, double eps, const void *x,
                          const void *weight, const void *bias, void *y, double *stats, bool stream))
/* grad_weight and grad_bias: one element a channel, written, or NULL; grad_input too. */
KERNEL(void, group_norm_backward, (size_t channels, size_t spatial, ptrdiff_t channel_stride, const void *x,
                                   const void *grad_output, const void *weight, const double *stats, void *grad_input,
                                   void *grad_weight, void *grad_bias, bool stream))

/* ---- activation.c ---- */
/* y = f(x); gx = gy f'(x). */
KERNEL(void, relu, (size_t n, const void *x, void *y))
KERNEL(void, relu_backward, (size_t n, const void *x, const void *gy, void *gx))
KERNEL(void, tanh, (size_t n, const void *x, void *y))
KERNEL(void, tanh_backward, (size_t n, const void *x, const void *gy, void *gx))
KERNEL(void, sigmoid, (size_t n, const void *x, void *y))
KERNEL(void, sigmoid_backward, (size_t n, const void *x, const void *gy, void *gx))
KERNEL(void, gelu, (size_t n, const void *x, void *y))
KERNEL(void, gelu_backward, (size_t n, const void *x, const void *gy, void *gx))
KERNEL(void, gelu_tanh, (size_t n, const void *x, void *y))
KERNEL(void, gelu_tanh_backward, (size_t n, const void *x, const void *gy, void *gx))

/* ---- elementwise.c ---- */
/* y[i] = a[i * a_step] + b[i * b_step], steps 0 or 1; the same with a product. */
KERNEL(void, broadcast_add, (size_t n, const void *a, size_t a_step, const void *b, size_t b_step, void *y))
KERNEL(void, broadcast_mul, (size_t n, const void *a, size_t a_step, const void *b, size_t b_step, void *y))
/* y[i] = mask[i] ? scale * x[i] : 0. */
KERNEL(void, masked_scale, (size_t n, double scale, const unsigned char *mask, const void *x, void *y))
/* sum_i x[i] in double. */
KERNEL(double, sum, (size_t n, const void *x))
/* sum[i] += x[i] * y[i], in double. */
KERNEL(void, add_product_to_f64, (size_t n, const void *x, const void *y, double *sum))

/* ---- softmax.c: rows of n elements, stride apart ---- */
KERNEL(void, fill_zero, (size_t n, ptrdiff_t stride, void *x))
KERNEL(void, softmax_row, (size_t n, ptrdiff_t stride, const void *x, void *y))
KERNEL(void, softmax_row_backward, (size_t n, ptrdiff_t stride, const void *y, const void *gy, void *gx))
/* -sum_c q_c log softmax(x)_c, q = (1 - smoothing) [c = target] + smoothing / n; n >= 1, target < n. */
KERNEL(void, cross_entropy_row, (size_t n, ptrdiff_t stride, const void *x, size_t target, double smoothing,
                                 psg_cross_entropy_row *row))
/* g = weight times its gradient. */
KERNEL(void, cross_entropy_row_backward, (size_t n, ptrdiff_t stride, const void *x, size_t target, double smoothing,
                                          double weight, const psg_cross_entropy_row *row, void *g))

/* ---- regression_loss.c ---- */
/* out[i] = loss(x[i], y[i]), and the sum of that in double. */
KERNEL(void, squared_error, (size_t n, const void *x, const void *y, void *out))
KERNEL(double, squared_error_sum, (size_t n, const void *x, const void *y))
KERNEL(void, logistic_loss, (size_t n, const void *x, const void *y, void *out))
KERNEL(double, logistic_loss_sum, (size_t n, const void *x, const void *y))
/* out[i] = factor gy[i] (x[i] - y[i]), factor gy[i] (sigmoid(x[i]) - y[i]), factor gy[i] x[i]; gy NULL: ones. */
KERNEL(void, difference_backward, (size_t n, double factor, const void *gy, const void *x, const void *y, void *out))
KERNEL(void, logistic_backward, (size_t n, double factor, const void *gy, const void *x, const void *y, void *out))
KERNEL(void, first_backward, (size_t n, double factor, const void *gy, const void *x, const void *y, void *out))
