/* The norm of a sample of a parameter of two pieces that fill one place: a table's rows, E, and a product H, as an
 * embedding has whose table is also the output head.  E has rows e_s at id_s, H = sum_t g_t^T a_t:
 *
 *   |E + H|^2 = |E|^2 + |H|^2 + 2 <E, H>,   <E, H> = sum_{s,t} g[t, id_s] <a_t, e_s>,
 *
 * |H|^2 by its Grams.  By tiles where that costs less or cancels, and of any other mixture: also of three pieces, and
 * of windows, whose activations are no rows of a view. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "blas/gemm.h"
#include "gradient/factored.h"
#include "gradient/plan.h"

typedef struct tie { const psg_part *table, *head; } tie;

/* Scales that the real type holds, and squares of which leave nothing's range. */
static bool has_plain_scale(const psg_part *part) {
    double scale = fabs(part->scale);
    return scale == 0 || (scale >= 1e-30 && scale <= 1e30);
}

static bool find_tie(const psg_part *part, tie *t) {
    if (part->inner_count != 2) return false;
    bool first = part->inner[0].room == &psg_sparse_room;
    *t = (tie){ &part->inner[!first], &part->inner[first] };
    return t->table->room == &psg_sparse_room && t->head->room == &psg_factored_room &&
           !t->head->pieces->has_windows && !memcmp(&t->table->place, &t->head->place, sizeof t->head->place) &&
           has_plain_scale(t->table) && has_plain_scale(t->head);
}

/* The inner products run at a Gram's speed; what they multiply is gathered from as many places. */
static double cross_cost(const tie *t, double rows, double live) {
    return 2.3 * rows * live * (double)t->table->place.columns + 30 * rows * live;
}

static psg_route route_of(const tie *t, int64_t rows, int64_t live) {
    const psg_piece *p = t->table->pieces;
    bool arrays = (2 * live + rows) * (int64_t)sizeof(double) <= (int64_t)PSG_SMALL_BYTES;
    bool grams = live && arrays && psg_suits_blas(&p->g, p->positions) &&
                 t->head->context->forced_route != PSG_ROUTE_TILES &&
                 psg_gram_pays(t->head, live, cross_cost(t, (double)rows, (double)live));
    return grams ? PSG_ROUTE_GRAM : PSG_ROUTE_TILES;
}

psg_route psg_mixed_route(const psg_part *part) {
    tie t;
    if (!find_tie(part, &t)) return PSG_ROUTE_TILES;
    return route_of(&t, psg_part_positions(t.table), psg_part_positions(t.head));
}

/* <E, H> of the unscaled gradients, and sum_{s,t} |g[t, id_s]| |a_t| |e_s|, or more. */
typedef struct cross { double sum, mass; } cross;

static double element(psg_dtype dtype, const void *x) {
    return dtype == PSG_F64 ? *(const double *)x : (double)*(const float *)x;
}

/* Position s of the table, whose inner products with the head's activations are given. */
static void add_position(const tie *t, int64_t n, int64_t s, const void *products, const double *norms, cross *c) {
    const psg_piece *table = t->table->pieces, *head = t->head->pieces;
    const psg_dtype dtype = head->dtype;
    int64_t id = psg_id_at(&table->ids, n, s);
    if (id < 0) return;
    double length = psg_row_bound(t->table, &table->g, n, s) + psg_tiny_norm(dtype), mass = 0;
    for (int64_t k = 0; k < psg_live(t->head, 0, n); k++) {
        double g = element(dtype, psg_at(&head->g, dtype, n, k, id));
        c->sum += g * element(dtype, psg_elements(products, dtype, k));
        mass += fabs(g) * norms[k];
    }
    c->mass += mass * length;
}

/* norms: at least those of the head's activations. */
static cross cross_of(const tie *t, int64_t n, const double *norms, void *workspace) {
    const psg_piece *table = t->table->pieces, *head = t->head->pieces;
    int64_t live = psg_live(t->head, 0, n), count = psg_live(t->table, 0, n);
    int64_t room = (int64_t)PSG_GRAM_BYTES / (live * (int64_t)psg_dtype_size(head->dtype));
    cross c = { 0, 0 };
    for (int64_t s = 0; s < count; s += room) {
        int64_t rows = psg_least(room, count - s);
        psg_gram_product product = {
            .dtype = head->dtype, .m = rows, .n = live, .k = table->g.columns, .diagonal = live,
            .a = psg_at(&table->g, head->dtype, n, s, 0), .lda = psg_row_stride(&table->g),
            .b = psg_at(&head->a, head->dtype, n, 0, 0), .ldb = psg_row_stride(&head->a),
            .c = psg_tile_memory(workspace), .ldc = live,
            .spare = (char *)psg_tile_memory(workspace) + PSG_GRAM_BYTES,
        };
        psg_gram_serial(t->head->context, &product);
        for (int64_t k = 0; k < rows; k++) {
            add_position(t, n, s + k, psg_elements(product.c, head->dtype, k * live), norms, &c);
        }
    }
    return c;
}

/* An inner product <a_t, e_s> is off by gamma_d |a_t||e_s|, g is exact, and the sum is one of doubles, any of which may
 * lose what is below the smallest. */
static double cross_error(const tie *t, int64_t n, const cross *c) {
    int64_t live = psg_live(t->head, 0, n), count = psg_live(t->table, 0, n);
    double gd = psg_gram_gamma(t->head, live, t->head->place.columns), terms = (double)live * (double)count;
    return (gd + (1 + gd) * psg_gamma(PSG_F64, terms + 16)) * (1 + 0x1p-20) * c->mass + terms * 0x1p-1074;
}

/* Sums of squares of doubles, of rows that may have been summed. */
static long double table_error(const tie *t, const psg_estimate *e, int64_t n) {
    double terms = 2 * (double)t->table->place.columns + (double)psg_live(t->table, 0, n) + 64;
    return (2 * sqrtl(e->square) + e->error) * e->error + psg_gamma(PSG_F64, terms) * e->square;
}

/* The rounding of a gradient in whose tiles both are added; INFINITY where a sum may leave the range. */
static double tied_error(const psg_part *part, const tie *t, int64_t n, double table_lengths, double head_lengths) {
    double sum = fabs(t->table->scale) * table_lengths + fabs(t->head->scale) * head_lengths;
    if (isinf(psg_in_range(t->head, head_lengths)) || isinf(psg_in_range(part, sum))) return INFINITY;
    return psg_gamma(part->dtype, 4) * sum + 1.001 * psg_products_error(t->table, n, table_lengths) +
           1.001 * psg_products_error(t->head, n, head_lengths);
}

/* false: the bound is loose, or doubles lost something. */
static bool square_tied(const psg_part *part, const tie *t, int64_t n, psg_estimate *estimate, void *workspace) {
    const long double s = t->table->scale, r = t->head->scale;
    const psg_estimate e = t->table->room->square(t->table, n, workspace);
    const psg_gram_square h = psg_gram_square_of(t->head, n, workspace);
    const cross c = cross_of(t, n, h.norms, workspace);
    long double square = e.square + r * r * h.square + 2 * s * r * c.sum;
    long double error = table_error(t, &e, n) + r * r * h.error + 2 * fabsl(s * r) * cross_error(t, n, &c);
    double rounding = tied_error(part, t, n, t->table->room->lengths(t->table, n, true), h.lengths);
    bool is_lost = part->dtype == PSG_F64 && !(square > 0x1p-900L && square < 0x1p1000L);
    if (!(error <= psg_loose * square) || !isfinite(square) || !isfinite(rounding) || is_lost) return false;
    *estimate = (psg_estimate){ square, (double)(sqrtl(square + error) - sqrtl(square)) * (1 + 0x1p-40) + rounding };
    return true;
}

psg_estimate psg_mixed_square(const psg_part *part, int64_t n, void *workspace) {
    tie t;
    psg_estimate estimate;
    bool grams = find_tie(part, &t) && route_of(&t, psg_part_live(t.table, n), psg_part_live(t.head, n)) ==
                                           PSG_ROUTE_GRAM;
    if (grams && square_tied(part, &t, n, &estimate, workspace)) return estimate;
    if (grams) atomic_fetch_add(part->fallbacks, 1);
    return psg_square_by_tiles(part, n, workspace);
}
