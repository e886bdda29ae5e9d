/* Norms of operands, and the sums of their products that the rounding of a sum over positions multiplies.  None leaves
 * the range of its type on the way. */
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

double psg_norm_bound(const psg_part *part, const void *x, ptrdiff_t step, int64_t count) {
    if (step == 1) {
        double square = part->kernels->sum_squares_bound((size_t)count, x);
        if (is_safe(part->dtype, square, count)) return sqrt(square) * (1 + 0x1p-50);
    }
    return (double)(sqrtl(psg_square_of(part->kernels, part->dtype, x, step, count)) * (1 + 0x1p-30L));
}

double psg_strided_dot(const psg_part *part, const void *x, ptrdiff_t x_step, const void *y, ptrdiff_t y_step,
                       int64_t count) {
    double sum = 0;
    if (x_step == 1 && y_step == 1) return part->kernels->dot((size_t)count, x, y);
    for (int64_t i = 0; i < count; i++) {
        const void *left = psg_elements(x, part->dtype, i * x_step), *right = psg_elements(y, part->dtype, i * y_step);
        sum += part->kernels->dot(1, left, right);
    }
    return sum;
}

void psg_add_strided(const psg_part *part, double weight, const void *x, ptrdiff_t step, int64_t count, double *sums) {
    if (step == 1) part->kernels->add_to_f64((size_t)count, weight, x, sums);
    for (int64_t i = 0; step != 1 && i < count; i++) {
        part->kernels->add_to_f64(1, weight, psg_elements(x, part->dtype, i * step), sums + i);
    }
}

double psg_tiny_norm(psg_dtype dtype) { return dtype == PSG_F64 ? 0x1p-494 : 0x1p-46; }

double psg_gamma(psg_dtype dtype, double k) {
    double ku = k * (dtype == PSG_F64 ? 0x1p-53 : 0x1p-24);
    return ku < 1 ? ku / (1 - ku) : INFINITY;
}

/* ---- a sample's operands ---- */

double psg_row_bound(const psg_part *part, const psg_operand_view *x, int64_t n, int64_t t) {
    return psg_norm_bound(part, psg_at(x, part->dtype, n, t, 0), x->step, x->columns);
}

/* The Frobenius norm, along whichever of the two dimensions is contiguous; never both at once, which would depend on
 * the batch where it lies between them. */
static double operand_bound(const psg_part *part, const psg_operand_view *x, int64_t n, int64_t live) {
    bool across = x->step == 1 || x->position != 1;
    int64_t lines = across ? live : x->columns, count = across ? x->columns : live;
    ptrdiff_t between = across ? x->position : x->step, step = across ? x->step : x->position;
    long double sum = 0;
    for (int64_t k = 0; k < lines; k++) {
        const void *line = psg_elements(psg_at(x, part->dtype, n, 0, 0), part->dtype, k * between);
        long double length = psg_norm_bound(part, line, step, count);
        sum += length * length;
    }
    return (double)sqrtl(sum) * (1 + 0x1p-40);
}

/* The most windows that hold one pixel: of the kernel's elements, those whose places differ by multiples of the stride;
 * with a dilation, all of them may. */
static double most_windows(const psg_unfolding *u) {
    double windows = 1;
    for (int d = 0; d < 3; d++) {
        int64_t apart = u->dilation[d] == 1 ? u->stride[d] : 1;
        windows *= (double)psg_least(psg_parts_of(u->kernel[d], apart), u->output[d]);
    }
    return windows;
}

static double image_bound(const psg_part *part, const psg_piece *p, int64_t n) {
    const psg_unfolding *u = &p->window;
    long double sum = 0;
    for (int64_t line = 0; line < u->channels * u->size[0] * u->size[1]; line++) {
        ptrdiff_t at = line / (u->size[0] * u->size[1]) * u->channel_step + line / u->size[1] % u->size[0] * u->step[0] +
                       line % u->size[1] * u->step[1];
        const void *from = psg_elements(psg_at(&p->a, p->dtype, n, 0, 0), p->dtype, at);
        long double length = psg_norm_bound(part, from, u->step[2], u->size[2]);
        sum += length * length;
    }
    return (double)sqrtl(sum * most_windows(u)) * (1 + 0x1p-40);
}

static double piece_lengths(const psg_part *part, const psg_piece *p, int64_t n, int64_t live, bool quick) {
    double sum = 0;
    if (p->has_windows) return operand_bound(part, &p->g, n, live) * image_bound(part, p, n);
    if (quick) return operand_bound(part, &p->g, n, live) * operand_bound(part, &p->a, n, live);
    for (int64_t t = 0; t < live; t++) {
        sum += psg_row_bound(part, &p->g, n, t) * psg_row_bound(part, &p->a, n, t);
    }
    return sum * (1 + 0x1p-30);
}

double psg_product_lengths(const psg_part *part, int64_t n, bool quick) {
    double sum = 0;
    for (size_t k = 0; k < part->count; k++) {
        sum += piece_lengths(part, &part->pieces[k], n, psg_live(part, k, n), quick);
    }
    return sum;
}
