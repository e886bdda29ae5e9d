#include "pld_atoms.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/context.h"
#include "base/memory.h"

#define LARGEST_EXACT_LOSS 500 /* beyond, e^loss leaves the doubles: a bucket goes to one end */

/* ---- the grid ---- */

/* z with P(N(0, 1) > z) <= tail. */
static double quantile_bound(double tail) { return sqrt(-2 * log(tail)); }

/* Of the distribution that the losses are seen from: P, or mirrored Q. */
static void range_of_x(const psg_pair *pair, int mirrored, double tail, double *from, double *to) {
    double reach = pair->sigma * quantile_bound(tail);
    *to = mirrored ? reach : pair->means - 1 + reach;
    *from = pair->two_sided && mirrored ? -(pair->means - 1) - reach : -reach;
    if (!pair->two_sided && pair->weight[0] > 0) *from = -INFINITY;
}

void psg_pair_range(const psg_pair *pair, int mirrored, double tail, double *least, double *most) {
    double from, to;
    range_of_x(pair, mirrored, tail, &from, &to);
    *most = psg_pair_loss(pair, to);
    *least = isfinite(from) ? psg_pair_loss(pair, from) : log(pair->weight[0]);
}

/* Losses beyond it, of noise that is next to none, are taken for it: points and their differences fit 64 bits. */
#define MOST_POINT 0x1p61

/* Points of the grid, ascending, from one at or below the least loss to one at or above the most. */
typedef struct points {
    const psg_pair *pair;
    const psg_loss_grid *grid;
    int64_t first, last;
    int has_least; /* losses have a minimum, which is not below the first point but for its rounding */
    double center[3];
} points;

static points points_of(const psg_pair *pair, const psg_loss_grid *grid, int mirrored) {
    points p = { .pair = pair, .grid = grid };
    double least, most, h = grid->interval;
    psg_pair_range(pair, mirrored, grid->tail, &least, &most);
    p.first = (int64_t)fmax(floor(least / h * (1 - DBL_EPSILON)), -MOST_POINT);
    p.last = (int64_t)fmin(ceil(most / h), MOST_POINT);
    p.has_least = !pair->two_sided && pair->weight[0] > 0;
    p.center[0] = psg_pair_loss(pair, 0) / h;
    p.center[1] = psg_pair_loss(pair, pair->means - 1) / h;
    p.center[2] = pair->two_sided ? -p.center[1] : p.center[0];
    return p;
}

static int64_t next_point(const points *p, int64_t at) {
    double distance = INFINITY, here = (double)at;
    for (int k = 0; k < 3; k++) distance = fmin(distance, fabs(here - p->center[k]));
    double stride = fmax(floor(distance / p->grid->resolution), 1);
    return stride < (double)p->last - here ? at + (int64_t)stride : p->last;
}

static size_t count_points(const points *p) {
    size_t count = 1;
    for (int64_t at = p->first; at < p->last; at = next_point(p, at)) count++;
    return count;
}

/* ---- growth ---- */

static psg_status reserve(psg_atoms *a, const char *function, size_t more) {
    if (more <= a->capacity - a->count) return PSG_OK;
    size_t capacity = a->count + more;
    psg_atom *atom = psg_alloc(a->context, capacity * sizeof *atom);
    if (!atom) return psg_fail_memory(a->context, function, capacity * sizeof *atom);
    if (a->count) memcpy(atom, a->atom, a->count * sizeof *atom);
    psg_free(a->context, a->atom);
    a->atom = atom;
    a->capacity = capacity;
    return PSG_OK;
}

void psg_atoms_free(psg_atoms *atoms) { psg_free(atoms->context, atoms->atom); }

/* ---- buckets ---- */

/* The losses between points low and high, seen from P (or mirrored from Q: the losses are then from -high to -low). */
typedef struct cell {
    int64_t low, high;
    double p, p_error, q, q_error, excess, excess_error;
} cell;

static cell cell_of(const psg_bucket *b, int64_t low, int64_t high, int mirrored) {
    double p = fmax(b->q + b->excess, 0), p_error = b->q_error + b->excess_error + DBL_EPSILON * b->q;
    if (!mirrored) return (cell){ low, high, p, p_error, b->q, b->q_error, b->excess, b->excess_error };
    return (cell){ -high, -low, b->q, b->q_error, p, p_error, -b->excess, b->excess_error };
}

/* P - e^loss Q and a bound of its error. */
static double advantage(const cell *c, double loss, double *error) {
    double growth = expm1(loss);
    *error = c->excess_error + fabs(growth) * c->q_error + DBL_EPSILON * (fabs(c->excess) + fabs(growth) * c->q);
    return c->excess - growth * c->q;
}

static void put(psg_atoms *a, int64_t index, double mass) {
    if (!(mass > 0)) return;
    if (!a->count || index < a->least) a->least = index;
    if (!a->count || index > a->most) a->most = index;
    a->atom[a->count++] = (psg_atom){ index, mass };
}

/* ---- upper: connect the dots ---- */

/* a + b = P and a e^{-low} + b e^{-high} = Q: b = (P - e^low Q) / (1 - e^{low - high}), every part at its worst. */
static void connect(psg_atoms *a, const cell *c, double h, double weight) {
    double error, low = (double)c->low * h, p = c->p + c->p_error, upper = p;
    if (low < LARGEST_EXACT_LOSS) {
        double gap = -expm1(-(double)(c->high - c->low) * h), share = advantage(c, low, &error);
        upper = fmin(fmax((share + error) / gap, 0) * (1 + 4 * DBL_EPSILON), p);
    }
    put(a, c->low, weight * (p - upper));
    put(a, c->high, weight * upper);
}

/* ---- lower: merge outputs ----
 * What is left of a bucket below a point and a part of the bucket above it, merged so that P >= e^loss Q, are one
 * output with at least the loss of the point.  Where all of the bucket above does not outweigh what is left, the rest
 * waits for the next point; where it has waited too long, it goes down to its own lower end. */
typedef struct chain {
    psg_atoms *atoms;
    double h, weight;
    cell below;
    double left; /* of below, in [0, 1] */
} chain;

#define PATIENCE 6 /* in widths of the bucket that waits */

static double certain(const cell *c) { return fmax(c->p - c->p_error, 0); }

static void drop_below(chain *m) {
    put(m->atoms, m->below.low, m->weight * m->left * certain(&m->below));
    m->left = 0;
}

/* How much of `below` and of `above` makes one output at above's lower end. */
static void shares(const chain *m, const cell *above, double *down, double *up) {
    double loss = (double)above->low * m->h, above_error, below_error;
    double surplus = advantage(above, loss, &above_error), deficit = -advantage(&m->below, loss, &below_error);
    surplus -= above_error;
    deficit = fmax(deficit + below_error, 0);
    *down = *up = 0;
    if (!(surplus > 0)) return;
    *down = deficit * m->left <= surplus ? m->left : surplus / deficit;
    *up = deficit * m->left <= surplus ? *down * deficit / surplus : 1;
}

static void merge(chain *m, const cell *above) {
    double down, up;
    if (above->low - m->below.low > PATIENCE * (m->below.high - m->below.low)) drop_below(m);
    if ((double)above->low * m->h >= LARGEST_EXACT_LOSS) drop_below(m);
    if (m->left == 0) {
        m->below = *above;
        m->left = 1;
        return;
    }
    shares(m, above, &down, &up);
    if (up == 0 && down == 0) up = 1;
    put(m->atoms, above->low,
        m->weight * (down * (1 - 32 * DBL_EPSILON) * certain(&m->below) + up * certain(above)));
    m->left -= down;
    if (up == 1) return;
    m->below = *above;
    m->left = 1 - up;
}

/* ---- one pass over the grid ---- */

/* All that one distribution is made from. */
typedef struct sweep {
    const psg_pair *pair;
    psg_side side;
    int mirrored;
    double weight, h;
    psg_atoms *atoms;
} sweep;

static void take_cells(const sweep *s, const cell *cells, size_t count) {
    chain merged = { s->atoms, s->h, s->weight, cells[0], 0.5 };
    if (s->side == PSG_SIDE_UPPER) {
        for (size_t k = 0; k < count; k++) connect(s->atoms, &cells[k], s->h, s->weight);
        return;
    }
    put(s->atoms, cells[0].low, 0.5 * s->weight * certain(&cells[0]));
    for (size_t k = 1; k < count; k++) merge(&merged, &cells[k]);
    drop_below(&merged);
}

/* The losses below the grid go up to its first point, or are left out; those above it to infinity, or down to its last
 * point. */
static void take_tails(const sweep *s, const points *p, const psg_bucket *under, const psg_bucket *over) {
    const psg_bucket *least = s->mirrored ? over : under, *most = s->mirrored ? under : over;
    cell low = cell_of(least, p->first, p->first, s->mirrored), high = cell_of(most, p->last, p->last, s->mirrored);
    if (s->side == PSG_SIDE_UPPER) {
        put(s->atoms, s->mirrored ? -p->last : p->first, s->weight * (low.p + low.p_error));
        s->atoms->infinity += s->weight * (high.p + high.p_error);
    } else {
        put(s->atoms, s->mirrored ? -p->first : p->last, s->weight * certain(&high));
    }
}

typedef struct boundary {
    int64_t index;
    double x;
} boundary;

static boundary boundary_at(const points *p, psg_atoms *a, int64_t index) {
    double epsilon = (double)index * p->grid->interval;
    boundary b = { index, psg_pair_inverse(p->pair, epsilon) };
    a->slack = fmax(a->slack, psg_pair_slack(p->pair, b.x, epsilon));
    return b;
}

static void sweep_grid(const sweep *s, const points *p, boundary *bounds, cell *cells, size_t count) {
    size_t n = 0;
    for (int64_t at = p->first; n < count; at = next_point(p, at)) bounds[n++] = boundary_at(p, s->atoms, at);
    if (p->has_least) bounds[0].x = -INFINITY;
    for (size_t k = 0; k + 1 < count; k++) {
        psg_bucket bucket = psg_pair_bucket(s->pair, bounds[k].x, bounds[k + 1].x);
        cells[s->mirrored ? count - 2 - k : k] = cell_of(&bucket, bounds[k].index, bounds[k + 1].index, s->mirrored);
    }
    take_cells(s, cells, count - 1);
    psg_bucket under = psg_pair_bucket(s->pair, -INFINITY, bounds[0].x);
    psg_bucket over = psg_pair_bucket(s->pair, bounds[count - 1].x, INFINITY);
    take_tails(s, p, &under, &over);
}

psg_status psg_atoms_add(psg_atoms *atoms, const char *function, const psg_pair *pair, const psg_loss_grid *grid,
                         psg_side side, int mirrored, double weight) {
    points p = points_of(pair, grid, mirrored);
    size_t count = count_points(&p), bytes = count * (sizeof(boundary) + sizeof(cell));
    psg_status status = reserve(atoms, function, 2 * count + 4);
    if (status) return status;
    cell *cells = psg_alloc(atoms->context, bytes);
    if (!cells) return psg_fail_memory(atoms->context, function, bytes);
    const sweep s = { pair, side, mirrored, weight, grid->interval, atoms };
    sweep_grid(&s, &p, (boundary *)(cells + count), cells, count);
    psg_free(atoms->context, cells);
    return PSG_OK;
}
