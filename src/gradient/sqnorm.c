/* sqnorm: per-sample squared norms with certified upper bounds.
 *
 * Every route returns a value and a bound on its error; the bound of a gradient whose computed norm is v and whose
 * rounding in the real type is at most e is (v + e)^2, which holds for the exact gradient and for any computed one. */
#include "gradient/sqnorm.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/parallel.h"
#include "blas/gemm.h"
#include "gradient/factored.h"
#include "gradient/plan.h"
#include "gradient/range.h"
#include "gradient/sparse_rows.h"

/* Sums of as many doubles as the parameter has elements, and a few operations more. */
static double double_slack(const psg_gradient *gradient) {
    return psg_gamma(PSG_F64, (double)psg_gradient_numel(gradient) + 64);
}

/* Squares of doubles below 2^-537 vanish: count of them may hide a norm of this. */
static double hidden(double count) { return sqrt(count) * 0x1p-537; }

/* A quick bound is taken while it is at most this share of the value. */
static const double loose = 0.02;

typedef struct job {
    psg_context *context;
    const psg_kernel_table *kernels;
    const psg_gradient *gradient;
    psg_piece piece;          /* of a single block */
    psg_route route;
    double one;               /* 1: the bias partner's norm is in it */
    double *sqnorm, *upper, *room;
    const double *squares;    /* kept gradients: parts a sample */
    size_t parts;
    atomic_llong fallbacks;
} job;

/* A squared norm and the most that rounding can have moved the norm. */
typedef struct estimate {
    double square, error;
} estimate;

static double upper_of(const psg_gradient *gradient, estimate e) {
    double norm = sqrt(e.square > 0 ? e.square : 0) + e.error + hidden((double)psg_gradient_numel(gradient));
    double upper = norm * norm * (1 + double_slack(gradient));
    return isnan(e.square) ? e.square : upper;
}

/* ---- rows: sums over positions in double ---- */

/* Of the columns [first, first + count); adds the lengths of the summed rows to *lengths. */
static double square_of_sum(const job *j, int64_t n, int64_t first, int64_t count, double *sums, double *lengths) {
    const psg_piece *p = &j->piece;
    memset(sums, 0, (size_t)count * sizeof *sums);
    for (int64_t t = 0; t < p->positions; t++) {
        const void *row = psg_elements(psg_row(&p->g, p->dtype, n, t), p->dtype, first);
        j->kernels->add_to_f64((size_t)count, 1.0, row, sums);
        *lengths += sqrt(j->kernels->sum_squares_bound((size_t)count, row));
    }
    return j->context->kernels[PSG_F64]->dot((size_t)count, sums, sums);
}

static estimate rows_estimate(const job *j, int64_t n, void *workspace) {
    const psg_piece *p = &j->piece;
    const int64_t room = (int64_t)(PSG_SMALL_BYTES / sizeof(double));
    double square = 0, lengths = 0, scale = fabs(p->scale);
    if (p->positions == 1) {
        const void *row = psg_row(&p->g, p->dtype, n, 0);
        return (estimate){ j->kernels->dot((size_t)p->g.columns, row, row) * scale * scale, 0 };
    }
    for (int64_t first = 0; first < p->g.columns; first += room) {
        int64_t count = p->g.columns - first < room ? p->g.columns - first : room;
        square += square_of_sum(j, n, first, count, psg_small_memory(workspace), &lengths);
    }
    return (estimate){ square * scale * scale, psg_gamma(PSG_F64, (double)p->positions) * lengths * scale };
}

static estimate sparse_estimate(const job *j, int64_t n, void *workspace) {
    double lengths = 0, scale = fabs(j->piece.scale);
    double square = psg_sparse_square(j->context, &j->piece, n, &lengths, workspace);
    return (estimate){ square * scale * scale, psg_gamma(PSG_F64, (double)j->piece.positions) * lengths * scale };
}

/* ---- T = 1: |g a^T|^2 = |g|^2 |a|^2; with the bias |g|^2 (|a|^2 + 1) ---- */

static double square_of(const psg_kernel_table *kernels, const psg_operand_view *x, psg_dtype dtype, int64_t n) {
    const void *row = psg_row(x, dtype, n, 0);
    double sum = 0;
    if (x->step == 1) return kernels->dot((size_t)x->columns, row, row);
    for (int64_t i = 0; i < x->columns; i++) {
        const void *element = psg_elements(row, dtype, i * x->step);
        sum += kernels->dot(1, element, element);
    }
    return sum;
}

/* A weighted sum multiplies g by the weight in the real type, where the product may fall below the normal numbers: each
 * element is then off by at most 2^-149 (f64: 2^-1074), and the weighted gradient by that times sqrt(p) |a|. */
static double room_for_weight(const job *j, int64_t n) {
    const psg_piece *p = &j->piece;
    double unit = p->dtype == PSG_F64 ? 0x1p-1074 : 0x1p-149;
    double a = sqrt(square_of(j->kernels, &p->a, p->dtype, n)) + hidden((double)p->a.columns);
    return unit * a * sqrt((double)p->g.columns) * fabs(p->scale);
}

static estimate identity_estimate(const job *j, int64_t n) {
    const psg_piece *p = &j->piece;
    double scale = fabs(p->scale), square_g = square_of(j->kernels, &p->g, p->dtype, n);
    double square_a = square_of(j->kernels, &p->a, p->dtype, n) + j->one;
    double g = sqrt(square_g), a = sqrt(square_a), g_hidden = hidden((double)p->g.columns);
    double a_hidden = hidden((double)p->a.columns);
    double below = scale * (g_hidden * (a + a_hidden) + g * a_hidden);
    return (estimate){ square_g * square_a * scale * scale, below };
}

/* ---- tiles ---- */

/* gamma_K sum |scale| sum_t |g_t||a_t| over the blocks, K the products in one sum. */
static double gradient_error(const job *j, int64_t n, bool quick) {
    double positions = 0, lengths = 0;
    for (size_t k = 0; k < j->gradient->block_count; k++) {
        psg_piece p = psg_piece_of(j->gradient, k);
        positions += (double)p.positions;
        lengths += fabs(p.scale) * (quick ? psg_norm_product_bound : psg_norm_products)(j->kernels, &p, n);
    }
    return psg_gamma(j->gradient->dtype, positions + 3) * lengths;
}

/* Rounding of a gradient that is summed in the real type: the quick bound where it is tight against the norm. */
static double summed_error(const job *j, int64_t n, double square) {
    double quick = gradient_error(j, n, true);
    return quick * quick <= loose * loose * square ? quick : gradient_error(j, n, false);
}

static double square_of_ranges(const job *j, int64_t n, void *workspace) {
    int64_t numel = psg_gradient_numel(j->gradient);
    int64_t room = (int64_t)(PSG_TILE_BYTES / psg_dtype_size(j->gradient->dtype));
    void *tile = psg_tile_memory(workspace);
    double square = 0;
    for (int64_t first = 0; first < numel; first += room) {
        int64_t last = first + room < numel ? first + room : numel;
        memset(tile, 0, (size_t)(last - first) * psg_dtype_size(j->gradient->dtype));
        psg_add_range(j->context, j->gradient, n, 1.0, first, last, tile, workspace);
        square += j->kernels->dot((size_t)(last - first), tile, tile);
    }
    return square;
}

static estimate tiles_estimate(const job *j, int64_t n, void *workspace) {
    bool fused = j->gradient->block_count == 1 && psg_is_product(&j->piece) &&
                 j->piece.positions <= (int64_t)PSG_PRODUCT_MAX_K;
    double square = fused ? psg_square_tiles(j->kernels, &j->piece, n, workspace) : square_of_ranges(j, n, workspace);
    return (estimate){ square, summed_error(j, n, square) };
}

/* The bias partner of a weight that went by tiles. */
static estimate with_partner(const job *j, int64_t n, estimate weight, void *workspace) {
    if (j->one == 0) return weight;
    job bias = { .context = j->context, .kernels = j->kernels, .piece = j->piece };
    estimate b = rows_estimate(&bias, n, workspace);
    return (estimate){ weight.square + b.square, hypot(weight.error, b.error) };
}

/* ---- Gram: |G^T A|^2 = <A A^T + one, G G^T> ---- */

/* Rows [first, first + rows) of the lower triangle of x x^T, row stride T. */
static void gram_rows(const job *j, const psg_operand_view *x, int64_t n, int64_t first, int64_t rows, void *out) {
    const psg_piece *p = &j->piece;
    const void *block = psg_row(x, p->dtype, n, first);
    void *diagonal = psg_elements_mutable(out, p->dtype, first);
    psg_gemm left = { .dtype = p->dtype, .transpose_b = true, .m = rows, .n = first, .k = x->columns, .alpha = 1,
                      .a = block, .lda = x->position, .b = psg_row(x, p->dtype, n, 0), .ldb = x->position,
                      .c = out, .ldc = p->positions };
    if (rows < 48) {
        left.n = first + rows;
        psg_gemm_serial(j->context, &left);
        return;
    }
    if (first) psg_gemm_serial(j->context, &left);
    psg_syrk_serial(j->context, p->dtype, rows, x->columns, 1.0, block, x->position, 0.0, diagonal, p->positions);
}

/* G G^T whole where it fits into the panels' memory, else both by blocks of rows. */
static void gram_sums(const job *j, int64_t n, const psg_raise *raise, double out[4], void *workspace) {
    const psg_piece *p = &j->piece;
    const int64_t size = (int64_t)psg_dtype_size(p->dtype), t_count = p->positions;
    int64_t block = (int64_t)PSG_TILE_BYTES / (t_count * size);
    if (block > t_count) block = t_count;
    bool whole = t_count * t_count * size <= (int64_t)PSG_PRODUCT_WORKSPACE;
    void *u = workspace, *v = psg_tile_memory(workspace);
    double *norms = psg_small_memory(workspace);
    if (whole) gram_rows(j, &p->g, n, 0, t_count, u);
    for (int64_t first = 0; first < t_count; first += block) {
        int64_t rows = t_count - first < block ? t_count - first : block;
        if (!whole) gram_rows(j, &p->g, n, first, rows, u);
        gram_rows(j, &p->a, n, first, rows, v);
        const void *u_rows = whole ? psg_elements(u, p->dtype, first * t_count) : u;
        j->kernels->gram_combine((size_t)first, (size_t)rows, u_rows, (size_t)t_count, v, (size_t)t_count, j->one,
                                 raise, norms, norms + t_count, out);
    }
}

/* Whether a partial sum of the gradient may leave the real type's range: the tiles then say whether it does. */
static bool may_overflow(const psg_piece *p, double lengths) {
    double most = p->dtype == PSG_F64 ? DBL_MAX : (double)FLT_MAX;
    return lengths * fmax(1, fabs(p->scale)) > most / 2;
}

/* n^2 is off by at most E = gamma_p sum |V||g||g| + gamma_d sum |U||a||a| + gamma_p gamma_d (sum |g||a|)^2, and by the
 * sums in double, which are at most 2 T + 16 additions deep. */
static estimate gram_estimate(job *j, int64_t n, void *workspace) {
    const psg_piece *p = &j->piece;
    double gp = psg_gamma(p->dtype, (double)p->g.columns + 1), gd = psg_gamma(p->dtype, (double)p->a.columns + 1);
    double out[4] = { 0, 0, 0, 0 };
    psg_raise raise = { 1 + gp, 1 + gd, psg_tiny_norm(p->dtype) };
    gram_sums(j, n, &raise, out, workspace);
    double lengths = out[3], deep = psg_gamma(PSG_F64, 2 * (double)p->positions + 16);
    double error = gp * out[1] + gd * out[2] + (gp * gd + deep) * lengths * lengths;
    if (!(error <= loose * out[0]) || !isfinite(out[0]) || may_overflow(p, lengths)) {
        atomic_fetch_add(&j->fallbacks, 1);
        return with_partner(j, n, tiles_estimate(j, n, workspace), workspace);
    }
    double scale = fabs(p->scale), square = out[0] * scale * scale;
    double norm = sqrt(square), above = sqrt(square + error * scale * scale) - norm;
    return (estimate){ square, above + psg_gamma(p->dtype, (double)p->positions + 3) * scale * lengths };
}

/* ---- one sample of one gradient ---- */

static estimate estimate_sample(job *j, int64_t n, void *workspace) {
    switch (j->route) {
    case PSG_ROUTE_ROWS: return rows_estimate(j, n, workspace);
    case PSG_ROUTE_SORTED: return sparse_estimate(j, n, workspace);
    case PSG_ROUTE_IDENTITY: return identity_estimate(j, n);
    case PSG_ROUTE_GRAM: return gram_estimate(j, n, workspace);
    default: return with_partner(j, n, tiles_estimate(j, n, workspace), workspace);
    }
}

static void run_sample(void *argument, size_t n, unsigned slot) {
    job *j = argument;
    estimate e = estimate_sample(j, (int64_t)n, j->context->workspace[slot]);
    j->sqnorm[n] += e.square;
    j->upper[n] += upper_of(j->gradient, e);
    if (j->room && j->route == PSG_ROUTE_IDENTITY) j->room[n] = hypot(j->room[n], room_for_weight(j, (int64_t)n));
}

/* Samples whose norms are a few hundred operations each are taken several a task. */
static const size_t samples_a_task = 16;

static void run_samples(void *argument, size_t task, unsigned slot) {
    const job *j = argument;
    size_t batch = (size_t)j->gradient->batch_size, last = (task + 1) * samples_a_task;
    for (size_t n = task * samples_a_task; n < last && n < batch; n++) run_sample(argument, n, slot);
}

void psg_add_sqnorm(psg_context *context, const psg_gradient *const *gradients, size_t count, size_t k, double *sqnorm,
                    double *upper, double *room, int64_t *fallbacks) {
    const psg_gradient *gradient = gradients[k];
    if (!gradient->block_count || psg_plan_is_partner(gradients, count, k)) return;
    job j = { .context = context, .kernels = context->kernels[gradient->dtype], .gradient = gradient,
              .piece = psg_piece_of(gradient, 0), .route = psg_plan_sqnorm(context, gradient), .sqnorm = sqnorm,
              .upper = upper, .room = room, .one = psg_plan_partner(gradients, count, k) < count ? 1.0 : 0.0 };
    size_t batch = (size_t)gradient->batch_size;
    if (j.route == PSG_ROUTE_IDENTITY || (j.route == PSG_ROUTE_ROWS && j.piece.positions == 1)) {
        psg_parallel(context, (batch + samples_a_task - 1) / samples_a_task, run_samples, &j);
    } else {
        psg_parallel(context, batch, run_sample, &j);
    }
    *fallbacks += j.fallbacks;
}

/* ---- kept gradients ---- */

static void run_kept(void *argument, size_t n, unsigned slot) {
    (void)slot;
    job *j = argument;
    estimate e = { 0, 0 };
    for (size_t k = 0; k < j->parts; k++) e.square += j->squares[n * j->parts + k];
    e.error = summed_error(j, (int64_t)n, e.square);
    j->sqnorm[n] += e.square;
    j->upper[n] += upper_of(j->gradient, e);
}

void psg_add_kept_sqnorm(psg_context *context, const psg_gradient *gradient, const double *squares, size_t parts,
                         double *sqnorm, double *upper) {
    job j = { .context = context, .kernels = context->kernels[gradient->dtype], .gradient = gradient, .sqnorm = sqnorm,
              .upper = upper, .squares = squares, .parts = parts };
    psg_parallel(context, (size_t)gradient->batch_size, run_kept, &j);
}

/* ---- the question ---- */

psg_status psg_sqnorm(psg_context *context, const psg_gradient *const *gradients, size_t count, double *sqnorm,
                      double *upper, int64_t *fallbacks) {
    psg_status status = psg_check_questions(context, "psg_sqnorm", gradients, count);
    if (status) return status;
    if (!sqnorm) return psg_fail(context, PSG_ERR_ARGUMENT, "psg_sqnorm: sqnorm is NULL");
    size_t batch = (size_t)gradients[0]->batch_size;
    double *bounds = upper ? upper : psg_scratch(context, batch * sizeof(double));
    if (!bounds) return psg_fail_memory(context, "psg_sqnorm", batch * sizeof(double));
    for (size_t n = 0; n < batch; n++) sqnorm[n] = bounds[n] = 0;
    int64_t redone = 0;
    for (size_t k = 0; k < count; k++) psg_add_sqnorm(context, gradients, count, k, sqnorm, bounds, NULL, &redone);
    if (fallbacks) *fallbacks = redone;
    return PSG_OK;
}
