/* From a composition to its privacy loss distributions: a rough one chooses the tilt, the window and the interval; one
 * at that interval for each direction and side gives the bounds. */
#include "pld.h"

#include <float.h>
#include <math.h>

#include "base/context.h"
#include "base/memory.h"
#include "pld_losses.h"

#define MOST_POINTS ((size_t)1 << 20)
#define LEAST_POINTS ((size_t)1 << 6)
#define POINTS_OF_DEVIATION 1000  /* of the sum, or */
#define POINTS_OF_ONE 128         /* of one release: connecting dots adds interval^2 / 6 to the variance of each */
#define POINTS_OF_LEAST 40        /* of the losses below 0, which may be few to a deviation, */
#define POINTS_FOR_LEAST 0x1p18   /* as long as these suffice */
#define ROUGH_POINTS 0x1p20       /* of the range of one release */
#define ROUGH_RESOLUTION 24
#define FINE_RESOLUTION 512
#define SPARE_DIGITS 4
#define LEFT_OUT 1e-9             /* of delta: what the tails of the releases may be given to infinity */

const char *psg_pld_refusal(const psg_composition *composition) {
    for (size_t k = 0; k < composition->part_count; k++) {
        psg_mechanism_kind kind = composition->parts[k].kind;
        if (kind == PSG_MECHANISM_FIXED_SIZE) return "no privacy loss distribution for batches of fixed size";
        if (kind == PSG_MECHANISM_BINS) return "no privacy loss distribution for balls in bins";
    }
    return composition->rho > 0 ? "no privacy loss distribution for releases known by their rho" : NULL;
}

/* ---- the question ---- */

/* epsilon at log_delta, or (sought_delta) log(delta) at epsilon. */
typedef struct question {
    const psg_composition *composition;
    const char *function;
    int sought_delta;
    double epsilon, log_delta, log_delta_lower;
    int with_lower;
    double releases; /* of all parts */
    double settled;  /* epsilon of the direction before, or 0 */
} question;

/* ---- the plan: tilt, window, interval ---- */

typedef struct plan {
    double theta, interval, reach; /* reach: of the losses of one release */
    psg_loss_window window;
    size_t points;
} plan;

/* What the tilt theta says about epsilon or log(delta), up to the share that Canonne, Kamath and Steinke save. */
static double cost(const question *q, const psg_release_losses *rough, double theta) {
    double log_moment = psg_losses_moments(rough, theta).log_moment;
    if (q->sought_delta) {
        return fmax(log_moment - theta * q->epsilon + theta * log(theta / (theta + 1)) - log1p(theta), -800);
    }
    return (log_moment - q->log_delta - log1p(theta)) / theta + log(theta / (theta + 1));
}

/* The best order in steps of its logarithm that shrink. */
static double best_theta(const question *q, const psg_release_losses *rough) {
    double best = 0, step = 4;
    for (double t = -20; t <= 40; t += step) {
        if (cost(q, rough, exp(t)) < cost(q, rough, exp(best))) best = t;
    }
    for (; step > 0.02; step /= 2) {
        for (int side = -1; side <= 1; side += 2) {
            double t = best + side * step;
            if (cost(q, rough, exp(t)) < cost(q, rough, exp(best))) best = t;
        }
    }
    return exp(best);
}

/* Chernoff's exponent at epsilon. */
static double exponent(const psg_release_losses *rough, double epsilon, double theta) {
    return psg_losses_moments(rough, theta).log_moment - theta * epsilon;
}

/* A smaller tilt than the best costs a share of the digits, which there are plenty of, and leaves rare large losses
 * rare, so that the window is narrow: the smallest that is worse by e^SPARE_DIGITS.  One that leaves no more than the
 * delta in question suffices too: the best grows without end where epsilon comes near the largest loss, as in the
 * direction in which losses are bounded, and such a tilt magnifies the grid. */
static double smaller_theta(const question *q, const psg_release_losses *rough, double best) {
    double epsilon = q->sought_delta ? q->epsilon : fmax(cost(q, rough, best), q->settled);
    double most = fmax(exponent(rough, epsilon, best) + SPARE_DIGITS, q->log_delta), low = 0, high = best;
    for (int k = 0; k < 12; k++) {
        double middle = 0.5 * (low + high);
        if (exponent(rough, epsilon, middle) > most) low = middle;
        else high = middle;
    }
    return high;
}

static size_t power_of_two(double points) {
    size_t n = LEAST_POINTS;
    while ((double)n < points && n < MOST_POINTS) n *= 2;
    return n;
}

/* -log(1 - rate): most losses of a small rate are between it and 0, and next to it where there is little noise. */
static double least_loss(const question *q) {
    return q->composition->part_count ? -log1p(-q->composition->parts[0].rate) : 0;
}

/* What lower bounds leave out is less where the least loss is a point of the grid, if others are not much coarser. */
static double aligned(const question *q, double interval) {
    double steps = floor(least_loss(q) / interval);
    return steps >= 8 ? least_loss(q) / steps : interval;
}

static void make_plan(const question *q, const psg_release_losses *rough, plan *p) {
    p->theta = smaller_theta(q, rough, best_theta(q, rough));
    p->window = psg_losses_window(rough, p->theta);
    double deviation = fmax(sqrt(psg_losses_moments(rough, p->theta).variance), rough->interval);
    double fine = deviation / fmax(POINTS_OF_DEVIATION, POINTS_OF_ONE * sqrt(q->releases));
    double width = (p->window.most - p->window.least) * 1.02;
    fine = fmin(fine, fmax(least_loss(q) / POINTS_OF_LEAST, width / POINTS_FOR_LEAST));
    p->points = power_of_two(width / fine);
    p->interval = aligned(q, width / (double)(p->points - 4));
}

/* ---- one direction ---- */

typedef struct workspace {
    psg_release_loss *loss; /* one a part */
    psg_fft fft;
    double *numbers;
} workspace;

static void answer(const question *q, const psg_tilted *t, psg_side side, psg_pld_bound *bound) {
    double direction = side == PSG_SIDE_UPPER ? 1 : -1;
    double log_delta = side == PSG_SIDE_UPPER ? q->log_delta : q->log_delta_lower;
    double value = q->sought_delta ? psg_tilted_log_delta(t, q->epsilon, direction)
                                   : psg_tilted_epsilon(t, log_delta, direction);
    if (side == PSG_SIDE_UPPER) bound->upper = fmax(bound->upper, value);
    else bound->lower = fmax(bound->lower, value);
}

/* Both directions count: the worst of them is the bound. */
static psg_status bound_one(const question *q, const plan *p, const psg_loss_setting *s, workspace *w,
                            psg_pld_bound *bound) {
    psg_tilted tilted;
    psg_status status = psg_composition_fill(q->composition, q->function, s, w->loss);
    const psg_release_losses losses = { w->loss, psg_composition_losses(q->composition), s->interval };
    if (!status && psg_losses_compose(&losses, p->theta, &p->window, &w->fft, w->numbers, &tilted)) {
        answer(q, &tilted, s->side, bound);
    } else if (s->side == PSG_SIDE_UPPER) {
        bound->upper = q->sought_delta ? 0 : INFINITY;
        bound->note = "rounding errors exceed what so many releases leave";
    }
    psg_composition_empty(q->composition, w->loss);
    return status;
}

static psg_status make_workspace(const question *q, const plan *p, workspace *w) {
    psg_context *context = q->composition->context;
    size_t bytes = 4 * p->points * sizeof *w->numbers;
    w->numbers = NULL;
    psg_status status = psg_fft_create(context, q->function, p->points / 2, &w->fft);
    if (status) return status;
    w->numbers = psg_alloc(context, bytes);
    return w->numbers ? PSG_OK : psg_fail_memory(context, q->function, bytes);
}

static void free_workspace(const question *q, workspace *w) {
    psg_free(q->composition->context, w->numbers);
    psg_fft_free(&w->fft);
}

/* ---- a direction from the rough plan to its bounds ---- */

static double least_tail(const question *q) {
    double log_delta = fmin(q->log_delta, q->log_delta_lower);
    return fmax(LEFT_OUT * exp(log_delta) / q->releases, 1e-306);
}

static psg_status plan_direction(const question *q, int mirrored, workspace *w, plan *p) {
    double tail = least_tail(q);
    double interval = psg_composition_range(q->composition, mirrored, tail) / ROUGH_POINTS;
    psg_loss_setting rough = { interval, ROUGH_RESOLUTION, tail, PSG_SIDE_UPPER, mirrored };
    *p = (plan){ .interval = 0 };
    if (!(isfinite(rough.interval) && rough.interval > 0)) return PSG_OK;
    psg_status status = psg_composition_fill(q->composition, q->function, &rough, w->loss);
    const psg_release_losses losses = { w->loss, psg_composition_losses(q->composition), rough.interval };
    if (!status) make_plan(q, &losses, p);
    p->reach = 1024 * ROUGH_POINTS * rough.interval;
    psg_composition_empty(q->composition, w->loss);
    return status;
}

/* Losses and sums must be whole multiples of the interval in 64 bits, and told apart in doubles. */
static int is_usable(const plan *p) {
    double farthest = fmax(p->reach, fmax(fabs(p->window.least), fabs(p->window.most)));
    return isfinite(p->interval) && p->interval > 0 && farthest / p->interval < 0x1p50;
}

static psg_status bound_direction(const question *q, int mirrored, workspace *w, psg_pld_bound *bound) {
    plan p;
    psg_status status = plan_direction(q, mirrored, w, &p);
    if (status) return status;
    if (!is_usable(&p)) {
        bound->upper = q->sought_delta ? 0 : INFINITY;
        bound->note = "privacy losses beyond double precision";
        return PSG_OK;
    }
    status = make_workspace(q, &p, w);
    psg_loss_setting s = { p.interval, FINE_RESOLUTION, least_tail(q), PSG_SIDE_UPPER, mirrored };
    if (!status) status = bound_one(q, &p, &s, w, bound);
    s.side = PSG_SIDE_LOWER;
    if (!status && q->with_lower) status = bound_one(q, &p, &s, w, bound);
    bound->interval = fmax(bound->interval, p.interval);
    free_workspace(q, w);
    return status;
}

/* Pairs of two-sided mixtures and Gaussians are their own mirror images. */
static int is_symmetric(const psg_composition *c) { return c->relation == PSG_REPLACE_ONE || c->part_count == 0; }

static psg_status bound_of(question *q, psg_pld_bound *bound) {
    const psg_composition *c = q->composition;
    size_t bytes = psg_composition_losses(c) * sizeof(psg_release_loss);
    workspace w = { .loss = psg_alloc(c->context, bytes), .fft = { .context = c->context } };
    if (!w.loss) return psg_fail_memory(c->context, q->function, bytes);
    q->releases = c->squared_mu > 0;
    for (size_t k = 0; k < c->part_count; k++) q->releases += (double)c->parts[k].releases;
    psg_status status = bound_direction(q, 0, &w, bound);
    if (!q->sought_delta) q->settled = bound->upper;
    if (!status && !is_symmetric(c)) status = bound_direction(q, 1, &w, bound);
    psg_free(c->context, w.loss);
    return status;
}

/* ---- the two questions ---- */

/* Masses of a distribution at a smaller delta may be no normal numbers, of whose digits nothing is known. */
#define LEAST_LOG_DELTA (-575) /* 1e-250 */

static const char *refusal_of(const psg_composition *composition, double log_delta) {
    if (log_delta < LEAST_LOG_DELTA) return "delta is below 1e-250, where privacy loss distributions have no digits";
    return psg_pld_refusal(composition);
}

psg_status psg_pld_epsilon(const psg_composition *composition, const char *function, double log_delta,
                           double log_delta_lower, int with_lower, psg_pld_bound *bound) {
    question q = { .composition = composition, .function = function, .log_delta = log_delta,
                   .log_delta_lower = log_delta_lower, .with_lower = with_lower };
    *bound = (psg_pld_bound){ .note = refusal_of(composition, fmin(log_delta, log_delta_lower)) };
    psg_status status = bound->note ? PSG_OK : bound_of(&q, bound);
    if (bound->note) bound->upper = INFINITY;
    return status;
}

psg_status psg_pld_log_delta(const psg_composition *composition, const char *function, double epsilon,
                             double log_delta, int with_lower, psg_pld_bound *bound) {
    question q = { .composition = composition, .function = function, .sought_delta = 1, .epsilon = epsilon,
                   .log_delta = log_delta, .log_delta_lower = log_delta, .with_lower = with_lower };
    *bound = (psg_pld_bound){ -INFINITY, -INFINITY, 0, refusal_of(composition, log_delta) };
    psg_status status = bound->note ? PSG_OK : bound_of(&q, bound);
    if (bound->note) bound->upper = 0;
    return status;
}
