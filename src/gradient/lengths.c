/* Norms of operands, and the sums of their products that the rounding of a sum over positions multiplies.  None leaves
 * the range of its type on the way. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "gradient/factored.h"
#include "kernels.h"

static bool is_safe(psg_dtype dtype, double square, int64_t count) {
    return square > (dtype == PSG_F64 ? 0x1p-900 : 0x1p-120 * (double)count) && square < 0x1p1000;
}

/* Reductions go block by block, and elements with a step are gathered for it: how far apart they lie changes no bit. */
enum { BLOCK = 1024 };

static const void *gather(const psg_kernel_table *kernels, psg_dtype dtype, const void *x, ptrdiff_t step,
                          int64_t first, int64_t count, double *room) {
    const void *from = psg_elements(x, dtype, first * step);
    if (step != 1) kernels->scale_row((size_t)count, 1.0, from, step, room, false);
    return step == 1 ? from : room;
}

/* The exponent range of a long double holds the squares of all doubles. */
static long double square_of_block(const psg_kernel_table *kernels, psg_dtype dtype, const void *x, int64_t count) {
    double square = kernels->dot((size_t)count, x, x);
    long double sum = 0;
    if (dtype == PSG_F32 || is_safe(dtype, square, count) || isnan(square)) return square;
    for (int64_t i = 0; i < count; i++) sum += (long double)((const double *)x)[i] * ((const double *)x)[i];
    return sum;
}

/* The bound is the quicker. */
static long double sum_squares(const psg_kernel_table *kernels, psg_dtype dtype, const void *x, ptrdiff_t step,
                               int64_t count, bool bound) {
    double room[BLOCK];
    long double sum = 0;
    for (int64_t i = 0; i < count; i += BLOCK) {
        int64_t some = psg_least(BLOCK, count - i);
        const void *block = gather(kernels, dtype, x, step, i, some, room);
        double square = bound ? kernels->sum_squares_bound((size_t)some, block) : 0;
        sum += is_safe(dtype, square, some) ? (long double)square : square_of_block(kernels, dtype, block, some);
    }
    return sum;
}

long double psg_square_of(const psg_kernel_table *kernels, psg_dtype dtype, const void *x, ptrdiff_t step,
                          int64_t count) {
    if (dtype == PSG_F32 && step == 1 && count <= BLOCK) return kernels->dot((size_t)count, x, x);
    return sum_squares(kernels, dtype, x, step, count, false);
}

double psg_norm_bound(const psg_part *part, const void *x, ptrdiff_t step, int64_t count) {
    return (double)(sqrtl(sum_squares(part->kernels, part->dtype, x, step, count, true)) * (1 + 0x1p-30L));
}

double psg_strided_dot(const psg_part *part, const void *x, ptrdiff_t x_step, const void *y, ptrdiff_t y_step,
                       int64_t count) {
    const psg_kernel_table *kernels = part->kernels;
    double x_room[BLOCK], y_room[BLOCK], sum = 0;
    for (int64_t i = 0; i < count; i += BLOCK) {
        int64_t some = psg_least(BLOCK, count - i);
        sum += kernels->dot((size_t)some, gather(kernels, part->dtype, x, x_step, i, some, x_room),
                            gather(kernels, part->dtype, y, y_step, i, some, y_room));
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

double psg_row_bound(const psg_part *part, const psg_operand_view *x, int64_t n, int64_t t) {
    return psg_norm_bound(part, psg_at(x, part->dtype, n, t, 0), x->step, x->columns);
}

/* The Frobenius norm, along whichever of the two dimensions lies closer, as it does for any batch; never both at once,
 * which would depend on the batch where it lies between them. */
static double operand_bound(const psg_part *part, const psg_operand_view *x, int64_t n, int64_t live) {
    bool across = x->step == 1 || !x->position || live == 1 || llabs(x->step) <= llabs(x->position);
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

/* The part of an image that windows [0, live) reach, and how many they are a dimension. */
static psg_unfolding reached(const psg_unfolding *whole, int64_t live) {
    psg_unfolding u = *whole;
    for (int d = 2; d >= 0; d--) {
        u.output[d] = psg_least(whole->output[d], live);
        live = psg_parts_of(live, psg_most(whole->output[d], 1));
        int64_t end = (u.output[d] - 1) * u.stride[d] + (u.kernel[d] - 1) * u.dilation[d] + 1 - u.padding[d];
        u.size[d] = psg_most(0, psg_least(u.size[d], end));
    }
    return u;
}

static double image_bound(const psg_part *part, const psg_piece *p, int64_t n, int64_t live) {
    const psg_unfolding part_of_it = reached(&p->window, live), *u = &part_of_it;
    long double sum = 0;
    for (int64_t line = 0; line < u->channels * u->size[0] * u->size[1]; line++) {
        ptrdiff_t at = line / (u->size[0] * u->size[1]) * u->channel_step +
                       line / u->size[1] % u->size[0] * u->step[0] + line % u->size[1] * u->step[1];
        const void *from = psg_elements(psg_at(&p->a, p->dtype, n, 0, 0), p->dtype, at);
        long double length = psg_norm_bound(part, from, u->step[2], u->size[2]);
        sum += length * length;
    }
    return (double)sqrtl(sum * most_windows(u)) * (1 + 0x1p-40);
}

static double window_bound(const psg_part *part, const psg_piece *p, int64_t n, int64_t t) {
    double some[512];   /* room for either real type */
    long double sum = 0;
    for (int64_t j = 0; j < p->a.columns; j += 512) {
        psg_unfold_part window = { t, 1, j, psg_least(512, p->a.columns - j) };
        part->kernels->unfold(&p->window, psg_at(&p->a, p->dtype, n, 0, 0), &window, some, 1);
        sum += psg_square_of(part->kernels, p->dtype, some, 1, window.columns);
    }
    return (double)sqrtl(sum) * (1 + 0x1p-30);
}

static double piece_lengths(const psg_part *part, const psg_piece *p, int64_t n, int64_t live, bool quick) {
    bool windows = p->has_windows;
    double sum = 0, a = windows ? image_bound(part, p, n, live) : quick ? operand_bound(part, &p->a, n, live) : NAN;
    if (isfinite(a) || (quick && !windows)) return a * operand_bound(part, &p->g, n, live);
    for (int64_t t = 0; t < live; t++) {   /* pixels that no window holds may be NaN or Inf */
        a = windows ? window_bound(part, p, n, t) : psg_row_bound(part, &p->a, n, t);
        sum += psg_row_bound(part, &p->g, n, t) * a;
    }
    return windows ? sum : sum * (1 + 0x1p-30);
}

double psg_in_range(const psg_part *part, double lengths) {
    double most = part->dtype == PSG_F64 ? DBL_MAX / 2 : FLT_MAX / 2, scale = fmax(1, fabs(part->scale));
    return lengths * scale > most ? INFINITY : lengths;
}

double psg_product_lengths(const psg_part *part, int64_t n, bool quick) {
    double sum = 0;
    for (size_t k = 0; k < part->count; k++) {
        sum += piece_lengths(part, &part->pieces[k], n, psg_live(part, k, n), quick);
    }
    return psg_part_live(part, n) > 1 ? psg_in_range(part, sum) : sum;
}

/* gamma_K |scale| sum_t |g_t||a_t|, K the products in one sum; what a product loses below the smallest number is less
 * than that number. */
double psg_products_error(const psg_part *part, int64_t n, double lengths) {
    double elements = (double)psg_place_span(&part->place), smallest = part->dtype == PSG_F64 ? 0x1p-1074 : 0x1p-149;
    double positions = (double)psg_part_live(part, n) + 1;
    double lost = positions * sqrt(elements) * smallest, scale = fabs(part->scale);
    return scale * psg_gamma(part->dtype, positions + (double)part->count + 2) * lengths + fmax(scale, 1) * lost;
}

double psg_gradient_error(const psg_part *part, int64_t n, bool quick) {
    if (part->room->error) return fabs(part->scale) * part->room->error(part, n, quick);
    return psg_products_error(part, n, part->room->lengths(part, n, quick));
}

/* The quick bound where it is tight against the norm. */
double psg_summed_error(const psg_part *part, int64_t n, long double square) {
    double quick = psg_gradient_error(part, n, true);
    return (long double)quick * quick <= psg_loose * psg_loose * square ? quick : psg_gradient_error(part, n, false);
}
