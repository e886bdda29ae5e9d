#include "gradient/plan.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "gradient/range.h"
#include "gradient/sparse_rows.h"

/* ---- names ---- */

static const char *const route_names[] = {
    [PSG_ROUTE_NONE] = "none",           [PSG_ROUTE_IDENTITY] = "identity",   [PSG_ROUTE_GRAM] = "gram",
    [PSG_ROUTE_TILES] = "tiles",         [PSG_ROUTE_ROWS] = "rows",           [PSG_ROUTE_STACKED] = "stacked",
    [PSG_ROUTE_PROJECT] = "project",     [PSG_ROUTE_KEEP] = "keep",           [PSG_ROUTE_RECOMPUTE] = "recompute",
    [PSG_ROUTE_MATERIALISE] = "materialise", [PSG_ROUTE_SORTED] = "sorted", [PSG_ROUTE_SCATTER] = "scatter",
    [PSG_ROUTE_GATHER] = "gather",           [PSG_ROUTE_SAMPLES] = "samples",
    [PSG_ROUTE_MERGE] = "merge",
};

const char *psg_route_name(psg_route route) { return route_names[route]; }

static const char *const question_names[PSG_QUESTION_COUNT] = {
    "grad_sample", "sqnorm", "weighted_sum", "clipped_sum", "dot", "gram", "sum_of_squares",
};

const char *psg_question_name(psg_question question) {
    return question >= 0 && question < PSG_QUESTION_COUNT ? question_names[question] : "unknown question";
}

psg_status psg_context_force_route(psg_context *context, const char *route) {
    static const psg_route may_be_forced[] = { PSG_ROUTE_IDENTITY, PSG_ROUTE_GRAM, PSG_ROUTE_TILES, PSG_ROUTE_KEEP,
                                               PSG_ROUTE_RECOMPUTE };
    if (!context) return PSG_ERR_ARGUMENT;
    if (!route) {
        context->forced_route = PSG_ROUTE_NONE;
        return PSG_OK;
    }
    for (size_t k = 0; k < sizeof may_be_forced / sizeof may_be_forced[0]; k++) {
        if (!strcmp(route, route_names[may_be_forced[k]])) {
            context->forced_route = (int)may_be_forced[k];
            return PSG_OK;
        }
    }
    return psg_fail(context, PSG_ERR_ARGUMENT,
                    "psg_context_force_route: route is \"%s\", must be identity, gram, tiles, keep or recompute",
                    route);
}

/* ---- costs of one sample, in floating-point operations at the speed of a large product ----
 * The factors are ratios measured on one core of a Zen 4 with OpenBLAS 0.3.21: SYRK runs at 0.89 of GEMM and below
 * 48 positions is slower than a full GEMM; finishing a register tile costs what 5 more positions cost; a byte that goes
 * to memory costs 4 operations. */

static double tiles_cost(const psg_piece *p) {
    double t = (double)p->positions, g = (double)p->g.columns, a = (double)p->a.columns;
    return 2 * (t + 5) * g * a + 8 * t * (g + a);
}

static double gram_cost(const psg_piece *p) {
    double t = (double)p->positions, both = (double)p->g.columns + (double)p->a.columns;
    double products = t < 48 ? 2 * t * t * both : 1.12 * t * t * both;
    return products + 15 * t * t + 4 * t * both;
}

static double keep_cost(const psg_piece *p) {
    double bytes = (double)p->g.columns * (double)p->a.columns * (double)psg_dtype_size(p->dtype);
    return tiles_cost(p) + 2 * 4 * bytes;
}

/* ---- what a route needs ---- */

/* Whether the gradient has a single block; its piece. */
static bool is_single(const psg_gradient *gradient, psg_piece *piece) {
    if (gradient->block_count == 1) *piece = psg_piece_of(gradient, 0);
    return gradient->block_count == 1;
}

static bool is_single_factored(const psg_gradient *gradient) {
    psg_piece piece;
    return is_single(gradient, &piece) && piece.form == PSG_FACTORED;
}

static bool is_single_rows(const psg_gradient *gradient) {
    return gradient->block_count == 1 && gradient->blocks[0].form == PSG_ROWS;
}

static bool is_single_sparse(const psg_gradient *gradient) {
    return gradient->block_count == 1 && gradient->blocks[0].form == PSG_SPARSE_ROWS;
}

/* BLAS takes rows with unit steps and a stride of at least their length. */
static bool suits_blas(const psg_operand_view *x, int64_t positions) {
    return x->step == 1 && (positions <= 1 || x->position >= x->columns) && x->columns < INT32_MAX &&
           x->position < INT32_MAX;
}

static bool gram_applies(const psg_piece *p) {
    size_t arrays = (size_t)p->positions * 2 * sizeof(double);
    return p->positions > 1 && arrays <= PSG_SMALL_BYTES && suits_blas(&p->g, p->positions) &&
           suits_blas(&p->a, p->positions);
}

static bool forced(const psg_context *context, psg_route route) { return context->forced_route == (int)route; }

/* ---- choices ---- */

psg_route psg_plan_sqnorm(const psg_context *context, const psg_gradient *gradient) {
    if (is_single_rows(gradient)) {
        const psg_piece p = psg_piece_of(gradient, 0);
        return p.g.step == 1 && !forced(context, PSG_ROUTE_TILES) ? PSG_ROUTE_ROWS : PSG_ROUTE_TILES;
    }
    if (is_single_sparse(gradient) && !forced(context, PSG_ROUTE_TILES)) {
        return psg_gradient_positions(gradient) <= PSG_SORTED_MOST ? PSG_ROUTE_SORTED : PSG_ROUTE_TILES;
    }
    if (!is_single_factored(gradient) || forced(context, PSG_ROUTE_TILES)) return PSG_ROUTE_TILES;
    psg_piece p = psg_piece_of(gradient, 0);
    if (p.positions == 1) return PSG_ROUTE_IDENTITY;
    if (!gram_applies(&p)) return PSG_ROUTE_TILES;
    if (forced(context, PSG_ROUTE_GRAM)) return PSG_ROUTE_GRAM;
    return gram_cost(&p) < tiles_cost(&p) ? PSG_ROUTE_GRAM : PSG_ROUTE_TILES;
}

psg_route psg_plan_sum(const psg_gradient *gradient) {
    psg_piece piece;
    if (is_single(gradient, &piece) && piece.form == PSG_UNFOLDED) return PSG_ROUTE_SAMPLES;
    if (is_single_factored(gradient)) return PSG_ROUTE_STACKED;
    if (is_single_sparse(gradient)) return PSG_ROUTE_SCATTER;
    return is_single_rows(gradient) ? PSG_ROUTE_ROWS : PSG_ROUTE_TILES;
}

psg_route psg_plan_dot(const psg_context *context, const psg_gradient *gradient) {
    if (is_single_rows(gradient)) return PSG_ROUTE_ROWS;
    if (is_single_sparse(gradient)) return PSG_ROUTE_GATHER;
    if (!is_single_factored(gradient) || forced(context, PSG_ROUTE_TILES)) return PSG_ROUTE_TILES;
    psg_piece p = psg_piece_of(gradient, 0);
    bool fits = p.g.batch < INT32_MAX && p.g.columns < INT32_MAX && p.a.columns < INT32_MAX && p.row_stride < INT32_MAX;
    bool one = p.positions == 1 && p.g.step == 1 && p.a.step == 1 && p.g.batch >= p.g.columns;
    return one && fits ? PSG_ROUTE_PROJECT : PSG_ROUTE_TILES;
}

psg_route psg_plan_gram(const psg_context *context, const psg_gradient *gradient) {
    psg_piece p;
    if (context->forced_route) return PSG_ROUTE_TILES;
    if (gradient->block_count && psg_sparse_gram_applies(gradient)) return PSG_ROUTE_MERGE;
    bool one = is_single(gradient, &p) && p.form == PSG_FACTORED && p.positions == 1 && p.g.step == 1 && p.a.step == 1;
    return one ? PSG_ROUTE_IDENTITY : PSG_ROUTE_TILES;
}

size_t psg_keep_bytes(const psg_gradient *gradient) {
    size_t elements = (size_t)gradient->batch_size * (size_t)psg_gradient_numel(gradient);
    size_t bytes = elements * psg_dtype_size(gradient->dtype);
    return (bytes + PSG_ALIGNMENT - 1) & ~(PSG_ALIGNMENT - 1);
}

psg_route psg_plan_clip(const psg_context *context, const psg_gradient *gradient, size_t budget_left) {
    bool vectors = !gradient->block_count || is_single_rows(gradient) || is_single_sparse(gradient);
    if (vectors || forced(context, PSG_ROUTE_RECOMPUTE) || psg_keep_bytes(gradient) > budget_left) {
        return PSG_ROUTE_RECOMPUTE;
    }
    if (forced(context, PSG_ROUTE_KEEP)) return PSG_ROUTE_KEEP;
    psg_piece p;
    if (!is_single(gradient, &p) || !psg_is_product(&p)) return PSG_ROUTE_RECOMPUTE;
    if (p.positions <= 1 || p.positions > (int64_t)PSG_PRODUCT_MAX_K) return PSG_ROUTE_RECOMPUTE;
    double norm = psg_plan_sqnorm(context, gradient) == PSG_ROUTE_GRAM ? gram_cost(&p) : tiles_cost(&p);
    return keep_cost(&p) < norm + tiles_cost(&p) ? PSG_ROUTE_KEEP : PSG_ROUTE_RECOMPUTE;
}

/* ---- a weight and the bias that shares its backprop ---- */

static bool are_partners(const psg_gradient *weight, const psg_gradient *bias) {
    if (!is_single_factored(weight) || !is_single_rows(bias)) return false;
    psg_piece w = psg_piece_of(weight, 0), b = psg_piece_of(bias, 0);
    return w.scale == b.scale && w.g.step == 1 && psg_same_backprop(&w, &b);
}

/* The first weight whose backprop the bias is, or count: a bias is taken with one weight only. */
static size_t owner_of(const psg_gradient *const *gradients, size_t count, size_t bias) {
    size_t k = 0;
    while (k < count && !are_partners(gradients[k], gradients[bias])) k++;
    return k;
}

size_t psg_plan_partner(const psg_gradient *const *gradients, size_t count, size_t k) {
    size_t bias = 0;
    if (!is_single_factored(gradients[k])) return count;
    while (bias < count && owner_of(gradients, count, bias) != k) bias++;
    return bias;
}

bool psg_plan_is_partner(const psg_gradient *const *gradients, size_t count, size_t k) {
    size_t owner = owner_of(gradients, count, k);
    return owner < count && psg_plan_partner(gradients, count, owner) == k;
}
