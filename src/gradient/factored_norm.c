/* The norm of a sample of a product part, by its live positions L alone:
 *
 *   L = 1   |g|^2 |a|^2
 *   Gram    <A A^T, G G^T>, where that costs less
 *   tiles   of the gradient, squared in registers and discarded. */
#include <math.h>
#include <stdatomic.h>

#include "blas/gemm.h"
#include "gradient/factored.h"
#include "gradient/plan.h"
#include "kernels.h"

/* Copied positions go first in the panels' memory, which the products then have the rest of. */
static size_t copy_bytes(const psg_sample *s) { return s->is_copied ? PSG_SMALL_BYTES : 0; }

/* f64 operands beyond this could hide what their product loses below the smallest double. */
static const long double most_norm = 1e190L;
static psg_estimate square_single(const psg_part *part, const psg_piece *p, int64_t n) {
    long double g = psg_square_of(part->kernels, p->dtype, psg_at(&p->g, p->dtype, n, 0, 0), p->g.step, p->g.columns);
    long double a = psg_square_of(part->kernels, p->dtype, psg_at(&p->a, p->dtype, n, 0, 0), p->a.step, p->a.columns);
    if (g > most_norm * most_norm || a > most_norm * most_norm) g = INFINITY;
    long double scale = part->scale;
    return (psg_estimate){ g * (a + (part->partner ? 1 : 0)) * scale * scale, 0 };
}

/* The bias that shares the backprop. */
static psg_estimate with_partner(const psg_part *part, int64_t n, psg_estimate weight, void *workspace) {
    if (!part->partner) return weight;
    psg_estimate bias = part->partner->room->square(part->partner, n, workspace);
    return (psg_estimate){ weight.square + bias.square, hypot(weight.error, bias.error) };
}

/* Whether squares of doubles may have left the range of doubles. */
static bool is_lost(const psg_part *part, double square) {
    return part->dtype == PSG_F64 && !(square > 0x1p-900 && square < 0x1p1000);
}

static psg_estimate scaled(const psg_part *part, int64_t n, long double square) {
    square = square * part->scale * part->scale;
    return (psg_estimate){ square, psg_summed_error(part, n, square) };
}

/* The gradient squared in registers; to: where it is kept, rows of place.columns, or NULL. */
static double square_whole(const psg_part *part, const psg_sample *s, void *to, void *workspace) {
    double square = 0;
    psg_product product = psg_product_of(s->one, s->n, &s->at, 0, s->live);
    product.finish = to ? PSG_FINISH_STORE_SQUARE : PSG_FINISH_SQUARE;
    product.c = to;
    product.c_stride = part->place.columns;
    product.stream = to && psg_leaves_cache(part->pieces);
    product.squares = &square;
    product.workspace_bytes = PSG_WORKSPACE_BYTES - copy_bytes(s);
    part->kernels->product(&product, (char *)workspace + copy_bytes(s));
    return square;
}

/* By tiles; what is kept is squared on the way, or when all pieces are in it. */
static psg_estimate square_tiles(const psg_part *part, int64_t n, void *to, void *workspace) {
    int64_t first = part->place.offset, count = psg_place_span(&part->place);
    psg_rectangle all = psg_whole(part);
    psg_sample s;
    psg_take_sample(&s, part, n, &all, workspace);
    bool whole = s.is_whole && s.live <= PSG_LONGEST;
    double square = whole ? square_whole(part, &s, to, workspace) : 0;
    if (whole && !is_lost(part, square)) return scaled(part, n, square);
    if (!to) return psg_square_by_tiles(part, n, workspace);
    if (!whole) part->room->write(part, n, 1.0, first, first + count, to, false, workspace);
    return scaled(part, n, psg_square_of(part->kernels, part->dtype, to, 1, count));
}

/* ---- the norm: |G^T A|^2 = <A A^T + one, G G^T> ---- */

/* Rows [t, t + rows) of piece k of x x^T, left of and on the diagonal block; row stride: all live positions. */
static void gram_rows(const psg_part *part, const psg_sample *s, size_t k, int64_t t, int64_t rows, bool activations,
                      void *out) {
    const psg_piece *pieces = s->is_whole ? s->one : part->pieces;
    const psg_operand_view *x = activations ? &pieces[k].a : &pieces[k].g;
    psg_gram_product gram = { .dtype = part->dtype, .m = rows, .k = x->columns,
                              .a = psg_at(x, part->dtype, s->n, t, 0), .lda = psg_row_stride(x), .c = out,
                              .ldc = s->live, .spare = (char *)out + PSG_GRAM_BYTES };
    for (size_t l = 0; l <= k; l++) {
        const psg_operand_view *y = activations ? &pieces[l].a : &pieces[l].g;
        gram.n = l < k ? psg_live(part, l, s->n) : t + rows;
        gram.diagonal = l < k ? gram.n : t;
        gram.b = psg_at(y, part->dtype, s->n, 0, 0);
        gram.ldb = psg_row_stride(y);
        if (gram.n) psg_gram_serial(part->context, &gram);
        gram.c = psg_elements_mutable(gram.c, part->dtype, gram.n);
        gram.spare = psg_elements_mutable(gram.spare, part->dtype, gram.n);
    }
}

/* Both Grams by blocks of rows, combined as they come. */
static void gram_sums(const psg_part *part, const psg_sample *s, const psg_raise *raise, double out[4],
                      void *workspace) {
    int64_t row = s->live * (int64_t)psg_dtype_size(part->dtype), done = 0;
    int64_t room = (int64_t)PSG_GRAM_BYTES / row;
    void *u = (char *)workspace + copy_bytes(s), *v = psg_tile_memory(workspace);
    double *norms = psg_small_memory(workspace);
    for (size_t k = 0; k < (s->is_whole ? 1 : part->count); k++) {
        int64_t count = s->is_whole ? s->live : psg_live(part, k, s->n);
        for (int64_t t = 0; t < count; t += room) {
            int64_t rows = psg_least(room, count - t);
            gram_rows(part, s, k, t, rows, false, u);
            gram_rows(part, s, k, t, rows, true, v);
            part->kernels->gram_combine((size_t)(done + t), (size_t)rows, u, (size_t)s->live, v, (size_t)s->live,
                                        part->partner ? 1.0 : 0.0, raise, norms, norms + s->live, out);
        }
        done += count;
    }
}

double psg_gram_gamma(const psg_part *part, int64_t rows, int64_t terms) {
    return psg_gamma(part->dtype, (double)psg_gram_depth(part->context, part->dtype, rows, terms) + 1);
}

/* n^2 is off by at most E = gamma_p sum |V||g||g| + gamma_d sum |U||a||a| + gamma_p gamma_d (sum |g||a|)^2, gammas of
 * the depth of sums of p and of d terms, and by the sums in double, which are at most 2 L + 16 additions deep. */
psg_gram_square psg_gram_square_of(const psg_part *part, int64_t n, void *workspace) {
    const psg_place *place = &part->place;
    psg_rectangle all = psg_whole(part);
    psg_sample s;
    psg_take_sample(&s, part, n, &all, workspace);
    const psg_unfolding *window = part->pieces->has_windows ? &part->pieces->window : NULL;
    double gp = window ? psg_gamma(part->dtype, (double)place->rows + 1) : psg_gram_gamma(part, s.live, place->rows);
    double gd = window ? psg_gamma(part->dtype, psg_image_gram_terms(window) + 1)
                       : psg_gram_gamma(part, s.live, place->columns);
    double out[4] = { 0, 0, 0, 0 }, live = (double)s.live;
    psg_raise raise = { 1 + gp, 1 + gd, psg_tiny_norm(part->dtype) };
    if (window) psg_image_gram_sums(part, n, s.live, &raise, out, workspace);
    else gram_sums(part, &s, &raise, out, workspace);
    double lengths = out[3], deep = psg_gamma(PSG_F64, 2 * live + 16);
    double error = gp * out[1] + gd * out[2] + (gp * gd + deep) * lengths * lengths;
    return (psg_gram_square){ out[0], error, lengths, (const double *)psg_small_memory(workspace) + s.live };
}

/* false: the bound is loose. */
static bool square_gram(const psg_part *part, int64_t n, psg_estimate *estimate, void *workspace) {
    psg_gram_square gram = psg_gram_square_of(part, n, workspace);
    double square = gram.square, error = gram.error, scale = fabs(part->scale);
    if (!(error <= psg_loose * square) || !isfinite(square) || isinf(psg_in_range(part, gram.lengths))) return false;
    double above = (sqrt(square + error) - sqrt(square)) * scale;
    *estimate = (psg_estimate){ (long double)square * scale * scale,
                                above + psg_products_error(part, n, gram.lengths) };
    return true;
}

/* ---- the choice, in floating-point operations at the speed of a large product ----
 * The factors are ratios measured on one core of a Zen 4: Grams run at 0.87 of a large product and lose tiles at the
 * diagonal, which weigh more where positions are few; finishing a register tile costs what 5 more positions cost, and
 * unfolding a channel 15,000 operations beside those that its windows cost. */

static double tiles_cost(const psg_part *part, double t) {
    double p = (double)part->place.rows, d = (double)part->place.columns;
    double channels = part->pieces->has_windows ? (double)part->pieces->window.channels : 0;
    return 2 * (t + 5) * p * d + 8 * t * (p + d) + 15000 * channels;
}

static double gram_cost(const psg_part *part, int64_t live) {
    if (part->pieces->has_windows) return psg_image_gram_cost(part, live);
    double t = (double)live, both = (double)part->place.rows + (double)part->place.columns;
    return (1.15 * t + 6) * t * both + 15 * t * t + 4 * t * both;
}

/* Of keeping: written and read; a byte costs what 4 operations do where it is near, and 6 among many parameters. */
static double kept_cost(const psg_part *part) {
    return 12 * (double)psg_dtype_size(part->dtype) * (double)part->place.rows * (double)part->place.columns;
}

static bool keeping_pays(const psg_part *part, int64_t live) {
    return part->pieces[0].has_windows || 2 * (live + 5) > 8 * (int64_t)psg_dtype_size(part->dtype) ||
           part->context->forced_route == PSG_ROUTE_KEEP;
}

static bool gram_applies(const psg_part *part, int64_t live) {
    bool arrays = live * 2 * (int64_t)sizeof(double) <= (int64_t)PSG_SMALL_BYTES;
    if (part->pieces[0].has_windows) return psg_image_gram_applies(part, live);
    if (!arrays) return false;
    if (psg_is_copied(part, live)) return true;
    for (size_t k = 0; k < part->count; k++) {
        const psg_piece *p = &part->pieces[k];
        if (!psg_suits_blas(&p->g, p->positions) || !psg_suits_blas(&p->a, p->positions)) return false;
    }
    return part->count == 1 || live >= 8 * (int64_t)part->count;
}

static bool is_keeping(const psg_part *part, int64_t live) {
    return part->has_room && live <= PSG_LONGEST && keeping_pays(part, live);
}

bool psg_gram_pays(const psg_part *part, int64_t live, double more) {
    if (!gram_applies(part, live)) return false;
    double tiles = is_keeping(part, live) ? kept_cost(part) : tiles_cost(part, (double)live);
    return gram_cost(part, live) + more < tiles || part->context->forced_route == PSG_ROUTE_GRAM;
}

/* Tiles of a norm that are kept need no product in the sum.  Whether the budget has room is a matter of shapes and of
 * the configuration, so that a norm follows neither the batch nor what other parameters keep. */
psg_route psg_factored_route(const psg_part *part, int64_t live) {
    psg_route forced = (psg_route)part->context->forced_route;
    if (forced == PSG_ROUTE_TILES) return PSG_ROUTE_TILES;
    if (psg_is_single(part, live)) return PSG_ROUTE_IDENTITY;
    if (forced == PSG_ROUTE_KEEP && is_keeping(part, live)) return PSG_ROUTE_TILES;
    return psg_gram_pays(part, live, 0) ? PSG_ROUTE_GRAM : PSG_ROUTE_TILES;
}

/* Kept where the norm comes from tiles, and where a product is more work than writing and reading the gradient. */
bool psg_factored_may_keep(const psg_part *part, int64_t live) {
    return live <= PSG_LONGEST && keeping_pays(part, live) && psg_factored_route(part, live) == PSG_ROUTE_TILES;
}

bool psg_factored_keeps(const psg_part *part, int64_t live) { return part->kept && psg_factored_may_keep(part, live); }

psg_estimate psg_factored_square(const psg_part *part, int64_t n, void *workspace) {
    int64_t live = psg_part_live(part, n);
    psg_estimate estimate = { 0, 0 };
    if (!live) return estimate;
    psg_route route = psg_factored_route(part, live);
    if (route == PSG_ROUTE_IDENTITY) return square_single(part, psg_single_live_piece(part, n), n);
    if (route == PSG_ROUTE_GRAM && square_gram(part, n, &estimate, workspace)) return estimate;
    if (route == PSG_ROUTE_GRAM) atomic_fetch_add(part->fallbacks, 1);
    bool keeps = psg_factored_keeps(part, live);
    int64_t bytes = part->place.rows * part->place.columns * (int64_t)psg_dtype_size(part->dtype);
    if (keeps) part->is_kept[n] = true;
    estimate = square_tiles(part, n, keeps ? part->kept + n * bytes : NULL, workspace);
    return with_partner(part, n, estimate, workspace);
}
