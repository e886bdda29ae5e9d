/* delta of a tilted sum, and its inverse.  With weights relative to a loss y0 of the grid,
 *
 *   delta(y0) = M e^{-theta y0} D,   D = sum over y > y0 of mass(y) e^{-theta (y - y0)} (1 - e^{-(y - y0)}),
 *   B = sum over y >= y0 of mass(y) e^{-(theta + 1) (y - y0)},
 *
 * both by recursion from the top, in sums of positive terms. */
#include <float.h>
#include <math.h>

#include "pld_compose.h"

typedef struct tail {
    const psg_tilted *tilted;
    double direction; /* 1: nothing smaller than the truth, -1: nothing larger */
    size_t at;        /* y0 is the loss of mass[at] */
    double d, b;
} tail;

static double mass_at(const tail *t, size_t k) {
    return fmax(t->tilted->mass[k] + t->direction * t->tilted->error, 0);
}

static tail tail_at_top(const psg_tilted *tilted, double direction) {
    tail t = { tilted, direction, tilted->length - 1, 0, 0 };
    t.b = mass_at(&t, t.at);
    return t;
}

typedef struct decay {
    double d, b, gap; /* e^{-theta h}, e^{-(theta + 1) h}, 1 - e^{-h} */
} decay;

static decay decay_of(const psg_tilted *t) {
    return (decay){ exp(-t->theta * t->interval), exp(-(t->theta + 1) * t->interval), -expm1(-t->interval) };
}

static void descend(tail *t, const decay *r) {
    t->d = r->d * (t->d + r->gap * t->b);
    t->b = r->b * t->b + mass_at(t, --t->at);
}

static double loss_at(const tail *t) {
    return (double)(t->tilted->first + (int64_t)t->at) * t->tilted->interval;
}

/* log of what multiplies D at y0, and its error in the direction asked for. */
static double log_scale(const tail *t) {
    return t->tilted->log_moment - t->tilted->theta * loss_at(t) + t->direction * t->tilted->relative;
}

/* D of epsilon = y0 - back, back in [0, h], with what may be outside the window. */
static double d_before(const tail *t, double back) {
    return fmax(t->d - expm1(-back) * t->b + t->direction * t->tilted->outside, 0);
}

/* log(delta), the infinite part added or left out. */
static double with_infinity(const psg_tilted *t, double log_delta, double direction) {
    if (direction < 0 || t->infinity == 0) return log_delta;
    double larger = fmax(log_delta, log(t->infinity)), smaller = fmin(log_delta, log(t->infinity));
    return larger + log1p(exp(smaller - larger));
}

/* Chernoff: what holds without the masses. */
static double log_delta_of_moment(const psg_tilted *t, double epsilon) {
    return t->log_moment - t->theta * epsilon + t->relative;
}

static double log_delta_in_window(const psg_tilted *tilted, double epsilon, double direction) {
    const decay r = decay_of(tilted);
    tail t = tail_at_top(tilted, direction);
    while (t.at > 0 && loss_at(&t) - tilted->interval >= epsilon) descend(&t, &r);
    double back = loss_at(&t) - epsilon;
    if (back < 0 || back > 1.5 * tilted->interval) return direction > 0 ? 0 : -INFINITY;
    return log(d_before(&t, fmin(back, tilted->interval))) + log_scale(&t);
}

double psg_tilted_log_delta(const psg_tilted *tilted, double epsilon, double direction) {
    double at = epsilon - direction * tilted->slack, inside = log_delta_in_window(tilted, at, direction);
    if (direction > 0) inside = fmin(inside, log_delta_of_moment(tilted, at));
    return fmin(with_infinity(tilted, inside, direction), 0);
}

/* ---- the inverse ---- */

#define STRIDE 64 /* logarithms are taken once in so many steps */

/* log of the delta that finite losses may have. */
static double finite_part(const psg_tilted *t, double log_delta, double direction) {
    if (direction < 0 || t->infinity == 0) return log_delta;
    double share = t->infinity * exp(-log_delta);
    return share < 1 ? log_delta + log1p(-share) : -INFINITY;
}

static int exceeds(const tail *t, double log_delta) { return log(d_before(t, 0)) + log_scale(t) > log_delta; }

/* The lowest point of the grid at which delta is not exceeded; 0 where there is none in the window. */
static int find_crossing(tail *t, const decay *r, double log_delta) {
    tail before = *t;
    if (exceeds(t, log_delta)) return 0;
    while (t->at > 0 && !exceeds(t, log_delta)) {
        before = *t;
        for (int k = 0; k < STRIDE && t->at > 0; k++) descend(t, r);
    }
    for (*t = before; t->at > 0; *t = before) {
        descend(&before, r);
        if (exceeds(&before, log_delta)) break;
    }
    return 1;
}

static double epsilon_in_window(const psg_tilted *tilted, double finite, double direction) {
    const decay r = decay_of(tilted);
    tail t = tail_at_top(tilted, direction);
    if (!find_crossing(&t, &r, finite)) return INFINITY;   /* by what is outside, which counts from above alone */
    if (t.at == 0) return direction > 0 ? loss_at(&t) : 0;
    double room = exp(finite - log_scale(&t)) - d_before(&t, 0), share = room / t.b;
    double back = !(share > 0) ? 0 : share < r.gap ? -log1p(-share) : tilted->interval;
    return loss_at(&t) - back;
}

double psg_tilted_epsilon(const psg_tilted *tilted, double log_delta, double direction) {
    double finite = finite_part(tilted, log_delta, direction);
    if (finite == -INFINITY) return INFINITY;
    double epsilon = epsilon_in_window(tilted, finite, direction);
    if (direction > 0) epsilon = fmin(epsilon, (tilted->log_moment + tilted->relative - finite) / tilted->theta);
    return fmax(epsilon + direction * tilted->slack, 0);
}
