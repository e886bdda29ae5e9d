#include "gradient/lengths.h"

#include <math.h>

#include "gradient/factored.h"

/* ---- one vector ---- */

static bool is_safe(psg_dtype dtype, double square, int64_t count) {
    return square > (dtype == PSG_F64 ? 0x1p-900 : 0x1p-120 * (double)count) && square < 0x1p1000;
}

/* The exponent range of a long double holds the squares of all doubles. */
static long double square_by_elements(const psg_kernel_table *kernels, psg_dtype dtype, const void *x, ptrdiff_t step,
                                      int64_t count) {
    long double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        const void *element = psg_elements(x, dtype, i * step);
        long double wide = dtype == PSG_F64 ? *(const double *)element : 0;
        sum += dtype == PSG_F64 ? wide * wide : (long double)kernels->dot(1, element, element);
    }
    return sum;
}

long double psg_square_of(const psg_kernel_table *kernels, psg_dtype dtype, const void *x, ptrdiff_t step,
                          int64_t count) {
    if (step != 1) return square_by_elements(kernels, dtype, x, step, count);
    double square = kernels->dot((size_t)count, x, x);
    if (dtype == PSG_F32 || is_safe(dtype, square, count) || isnan(square)) return square;
    return square_by_elements(kernels, dtype, x, step, count);
}

double psg_norm_bound(const psg_kernel_table *kernels, psg_dtype dtype, const void *x, ptrdiff_t step, int64_t count) {
    if (step == 1) {
        double square = kernels->sum_squares_bound((size_t)count, x);
        if (is_safe(dtype, square, count)) return sqrt(square) * (1 + 0x1p-50);
    }
    return (double)(sqrtl(psg_square_of(kernels, dtype, x, step, count)) * (1 + 0x1p-30L));
}

double psg_strided_dot(const psg_kernel_table *kernels, psg_dtype dtype, const void *x, ptrdiff_t x_step, const void *y,
                       ptrdiff_t y_step, int64_t count) {
    double sum = 0;
    if (x_step == 1 && y_step == 1) return kernels->dot((size_t)count, x, y);
    for (int64_t i = 0; i < count; i++) {
        sum += kernels->dot(1, psg_elements(x, dtype, i * x_step), psg_elements(y, dtype, i * y_step));
    }
    return sum;
}

void psg_add_strided(const psg_kernel_table *kernels, psg_dtype dtype, double weight, const void *x, ptrdiff_t step,
                     int64_t count, double *sums) {
    if (step == 1) kernels->add_to_f64((size_t)count, weight, x, sums);
    for (int64_t i = 0; step != 1 && i < count; i++) {
        kernels->add_to_f64(1, weight, psg_elements(x, dtype, i * step), sums + i);
    }
}

/* ---- rounding ---- */

double psg_tiny_norm(psg_dtype dtype) { return dtype == PSG_F64 ? 0x1p-494 : 0x1p-46; }

double psg_gamma(psg_dtype dtype, double k) {
    double ku = k * (dtype == PSG_F64 ? 0x1p-53 : 0x1p-24);
    return ku < 1 ? ku / (1 - ku) : INFINITY;
}

/* ---- Frobenius norms of a sample's operands ---- */

/* Along whichever of the two dimensions is contiguous; never both at once, which would depend on the batch where it
 * lies between them. */
static double operand_bound(const psg_part *part, const psg_operand_view *x, int64_t n, int64_t live) {
    const void *base = psg_row(x, part->dtype, n, 0);
    bool across = x->step == 1 || x->position != 1;
    int64_t lines = across ? live : x->columns, count = across ? x->columns : live;
    ptrdiff_t between = across ? x->position : x->step, step = across ? x->step : x->position;
    long double sum = 0;
    for (int64_t k = 0; k < lines; k++) {
        long double line = psg_norm_bound(part->kernels, part->dtype, psg_elements(base, part->dtype, k * between),
                                          step, count);
        sum += line * line;
    }
    return (double)sqrtl(sum) * (1 + 0x1p-40);
}

static int64_t common_divisor(int64_t a, int64_t b) { return b ? common_divisor(b, a % b) : a; }

/* The most windows that hold one pixel: of the kernel's elements, those whose places differ by multiples of the
 * stride. */
static double most_windows(const psg_unfolding *u) {
    double windows = 1;
    for (int d = 0; d < 3; d++) {
        int64_t apart = u->stride[d] / common_divisor(u->stride[d], u->dilation[d]);
        windows *= (double)psg_least((u->kernel[d] + apart - 1) / apart, u->output[d]);
    }
    return windows;
}

static double image_bound(const psg_part *part, const psg_piece *p, int64_t n) {
    const psg_unfolding *u = &p->window;
    const void *image = psg_row(&p->a, p->dtype, n, 0);
    long double sum = 0;
    for (int64_t c = 0; c < u->channels; c++) {
        for (int64_t line = 0; line < u->size[0] * u->size[1]; line++) {
            ptrdiff_t at = c * u->channel_step + line / u->size[1] * u->step[0] + line % u->size[1] * u->step[1];
            long double length = psg_norm_bound(part->kernels, p->dtype, psg_elements(image, p->dtype, at), u->step[2],
                                                u->size[2]);
            sum += length * length;
        }
    }
    return (double)sqrtl(sum * most_windows(u)) * (1 + 0x1p-40);
}

static double quick_lengths(const psg_part *part, const psg_piece *p, int64_t n, int64_t live) {
    double a = p->has_windows ? image_bound(part, p, n) : operand_bound(part, &p->a, n, live);
    return operand_bound(part, &p->g, n, live) * a;
}

/* ---- position by position ---- */

enum { AT_ONCE = 512 };   /* positions */

/* squares[k] += at least the squared norm of row t + k of an operand. */
static void add_row_squares(const psg_part *part, const psg_operand_view *x, int64_t n, int64_t t, int64_t count,
                            double *squares) {
    for (int64_t k = 0; (x->step == 1 || x->position != 1) && k < count; k++) {
        double length = psg_norm_bound(part->kernels, part->dtype, psg_row(x, part->dtype, n, t + k), x->step,
                                       x->columns);
        squares[k] += length * length;
    }
    for (int64_t j = 0; x->step != 1 && x->position == 1 && j < x->columns; j++) {
        const void *line = psg_elements(psg_row(x, part->dtype, n, t), part->dtype, j * x->step);
        part->kernels->add_squares_to_f64((size_t)count, 1.0, line, squares);
    }
}

static void add_window_squares(const psg_part *part, const psg_piece *p, int64_t n, int64_t t, int64_t count,
                               double *squares) {
    double line[AT_ONCE];   /* room for either real type */
    for (int64_t j = 0; j < p->a.columns; j++) {
        psg_unfold_part unfolded = { t, count, j, 1 };
        part->kernels->unfold(&p->window, psg_row(&p->a, p->dtype, n, 0), &unfolded, line, count);
        part->kernels->add_squares_to_f64((size_t)count, 1.0, line, squares);
    }
}

/* A sum of squares that no double lost anything of.  An f64 one of 0 may be of numbers whose squares underflow. */
static bool is_whole(psg_dtype dtype, double square) {
    return is_safe(dtype, square, 1) || (dtype == PSG_F32 && square == 0);
}

/* |g_t| |a_t| whatever their magnitudes. */
static double length_at(const psg_part *part, const psg_piece *p, int64_t n, int64_t t) {
    const psg_operand_view *x = &p->g, *y = &p->a;
    double element, g = psg_norm_bound(part->kernels, p->dtype, psg_row(x, p->dtype, n, t), x->step, x->columns);
    long double sum = 0;
    if (!p->has_windows) {
        return g * psg_norm_bound(part->kernels, p->dtype, psg_row(y, p->dtype, n, t), y->step, y->columns);
    }
    for (int64_t j = 0; j < y->columns; j++) {
        psg_unfold_part unfolded = { t, 1, j, 1 };
        part->kernels->unfold(&p->window, psg_row(&p->a, p->dtype, n, 0), &unfolded, &element, 1);
        sum += psg_square_of(part->kernels, p->dtype, &element, 1, 1);
    }
    return g * (double)(sqrtl(sum) * (1 + 0x1p-30L));
}

/* sum_t |g_t| |a_t| over a block of positions, raised by the rounding of the sums of squares. */
static double lengths_at(const psg_part *part, const psg_piece *p, int64_t n, int64_t t, int64_t count) {
    double g[AT_ONCE] = { 0 }, a[AT_ONCE] = { 0 }, sum = 0;
    double raise = 1 + psg_gamma(PSG_F64, (double)p->g.columns + (double)p->a.columns + 8);
    add_row_squares(part, &p->g, n, t, count, g);
    if (p->has_windows) add_window_squares(part, p, n, t, count, a);
    else add_row_squares(part, &p->a, n, t, count, a);
    for (int64_t k = 0; k < count; k++) {
        bool whole = is_whole(p->dtype, g[k]) && is_whole(p->dtype, a[k]);
        sum += whole ? sqrt(g[k]) * sqrt(a[k]) * raise : length_at(part, p, n, t + k);
    }
    return sum;
}

/* The image of a padded sample holds pixels that no live window has: they are not read. */
double psg_product_lengths(const psg_part *part, const psg_piece *p, int64_t n, int64_t live, bool quick) {
    double sum = 0;
    if (quick && (!p->has_windows || live == p->positions)) return quick_lengths(part, p, n, live);
    for (int64_t t = 0; t < live; t += AT_ONCE) sum += lengths_at(part, p, n, t, psg_least(AT_ONCE, live - t));
    return sum;
}
