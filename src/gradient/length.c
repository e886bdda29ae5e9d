/* Bounds on sum_t |g_t| |a_t|: the lengths that the rounding of a sum over positions multiplies. */
#include <math.h>
#include <string.h>

#include "gradient/factored.h"

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* At least the squared norm of `count` elements, step apart. */
static double line_bound(const psg_kernel_table *kernels, psg_dtype dtype, const void *x, ptrdiff_t step,
                         int64_t count) {
    if (step == 1) return kernels->sum_squares_bound((size_t)count, x);
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += kernels->sum_squares_bound(1, psg_elements(x, dtype, i * step));
    return sum;
}

/* ---- Frobenius norms of a sample's operands ---- */

/* Along whichever of the two dimensions is contiguous. */
static double operand_bound(const psg_kernel_table *kernels, const psg_operand_view *x, const psg_piece *p, int64_t n) {
    const void *base = psg_row(x, p->dtype, n, 0);
    if (x->step == 1 && x->position == x->columns) {
        return kernels->sum_squares_bound((size_t)(p->positions * x->columns), base);
    }
    bool across = x->step == 1 || x->position != 1;
    int64_t lines = across ? p->positions : x->columns, count = across ? x->columns : p->positions;
    ptrdiff_t between = across ? x->position : x->step, step = across ? x->step : x->position;
    double sum = 0;
    for (int64_t k = 0; k < lines; k++) {
        sum += line_bound(kernels, p->dtype, psg_elements(base, p->dtype, k * between), step, count);
    }
    return sum;
}

static int64_t common_divisor(int64_t a, int64_t b) { return b ? common_divisor(b, a % b) : a; }

/* The most windows that hold one pixel: of the kernel's elements, those whose places differ by multiples of the
 * stride. */
static double most_windows(const psg_unfolding *u) {
    double windows = 1;
    for (int d = 0; d < 3; d++) {
        int64_t apart = u->stride[d] / common_divisor(u->stride[d], u->dilation[d]);
        windows *= (double)smaller((u->kernel[d] + apart - 1) / apart, u->output[d]);
    }
    return windows;
}

static double image_bound(const psg_kernel_table *kernels, const psg_piece *p, int64_t n) {
    const psg_unfolding *u = &p->window;
    const void *image = psg_row(&p->a, p->dtype, n, 0);
    double sum = 0;
    for (int64_t c = 0; c < u->channels; c++) {
        for (int64_t line = 0; line < u->size[0] * u->size[1]; line++) {
            ptrdiff_t at = c * u->channel_step + line / u->size[1] * u->step[0] + line % u->size[1] * u->step[1];
            sum += line_bound(kernels, p->dtype, psg_elements(image, p->dtype, at), u->step[2], u->size[2]);
        }
    }
    return sum * most_windows(u);
}

/* Positions without a row are not read. */
static double sparse_lengths(const psg_kernel_table *kernels, const psg_piece *p, int64_t n) {
    double sum = 0;
    for (int64_t t = 0; t < p->positions; t++) {
        if (psg_id_at(&p->ids, n, t) < 0) continue;
        const void *row = psg_row(&p->g, p->dtype, n, t);
        sum += sqrt(line_bound(kernels, p->dtype, row, p->g.step, p->g.columns)) + psg_tiny_norm(p->dtype);
    }
    return sum;
}

double psg_norm_product_bound(const psg_kernel_table *kernels, const psg_piece *p, int64_t n) {
    double root = sqrt((double)p->positions), tiny = root * psg_tiny_norm(p->dtype);
    if (p->form == PSG_SPARSE_ROWS) return sparse_lengths(kernels, p, n);
    double g = sqrt(operand_bound(kernels, &p->g, p, n)) + tiny;
    if (p->form == PSG_ROWS) return g * root;
    double a = p->form == PSG_UNFOLDED ? image_bound(kernels, p, n) : operand_bound(kernels, &p->a, p, n);
    return g * (sqrt(a) + tiny);
}

/* ---- row by row ---- */

enum { AT_ONCE = 512 };   /* positions */

/* squares[k] += at least the squared norm of row t + k of an operand. */
static void add_row_squares(const psg_kernel_table *kernels, const psg_operand_view *x, const psg_piece *p, int64_t n,
                            int64_t t, int64_t count, double *squares) {
    if (x->step != 1 && x->position == 1) {
        for (int64_t j = 0; j < x->columns; j++) {
            const void *line = psg_elements(psg_row(x, p->dtype, n, t), p->dtype, j * x->step);
            kernels->add_squares_to_f64((size_t)count, 1.0, line, squares);
        }
        return;
    }
    for (int64_t k = 0; k < count; k++) {
        squares[k] += line_bound(kernels, p->dtype, psg_row(x, p->dtype, n, t + k), x->step, x->columns);
    }
}

static void add_window_squares(const psg_kernel_table *kernels, const psg_piece *p, int64_t n, int64_t t,
                               int64_t count, double *squares) {
    double line[AT_ONCE];   /* room for either real type */
    for (int64_t j = 0; j < p->a.columns; j++) {
        psg_unfold_part part = { t, count, j, 1 };
        kernels->unfold(&p->window, psg_row(&p->a, p->dtype, n, 0), &part, line, count);
        kernels->add_squares_to_f64((size_t)count, 1.0, line, squares);
    }
}

/* sum_t |g_t| |a_t| over a block of positions; sums of squares in double are raised by their rounding. */
static double lengths_at(const psg_kernel_table *kernels, const psg_piece *p, int64_t n, int64_t t, int64_t count) {
    double g[AT_ONCE] = { 0 }, a[AT_ONCE] = { 0 }, sum = 0, tiny = psg_tiny_norm(p->dtype);
    double raise = 1 + psg_gamma(PSG_F64, (double)p->g.columns + (double)p->a.columns + 8);
    add_row_squares(kernels, &p->g, p, n, t, count, g);
    if (p->form == PSG_FACTORED) add_row_squares(kernels, &p->a, p, n, t, count, a);
    if (p->form == PSG_UNFOLDED) add_window_squares(kernels, p, n, t, count, a);
    for (int64_t k = 0; k < count; k++) {
        double length = sqrt(g[k]) * raise + tiny;
        sum += p->form == PSG_ROWS ? length : length * (sqrt(a[k]) * raise + tiny);
    }
    return sum;
}

double psg_norm_products(const psg_kernel_table *kernels, const psg_piece *p, int64_t n) {
    if (p->form == PSG_SPARSE_ROWS) return sparse_lengths(kernels, p, n);
    double sum = 0;
    for (int64_t t = 0; t < p->positions; t += AT_ONCE) {
        sum += lengths_at(kernels, p, n, t, smaller(AT_ONCE, p->positions - t));
    }
    return sum;
}
