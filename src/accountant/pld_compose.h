/* pld_compose.h: the sum of independent privacy losses, seen through an exponential tilt.
 *
 * The masses p(y) of a sum are needed far in its tail, where an FFT leaves nothing but its rounding errors.  Those of
 * the tilted distribution p(y) e^{theta y} / M, M = E[e^{theta y}], are needed at its bulk, if theta is the order that
 * is best for the tail in question: the tilt of a sum is the sum of the tilts. */
#ifndef PSG_ACCOUNTANT_PLD_COMPOSE_H
#define PSG_ACCOUNTANT_PLD_COMPOSE_H

#include "fft.h"
#include "pld_atoms.h"

/* One kind of release, `releases` times. */
typedef struct psg_release_loss {
    psg_atoms atoms;
    double releases;
} psg_release_loss;

typedef struct psg_release_losses {
    const psg_release_loss *loss;
    size_t count;
    double interval;
} psg_release_losses;

/* log E[e^{theta y}] of the sum without its infinite part, and mean and variance of the tilted sum. */
typedef struct psg_moments {
    double log_moment, mean, variance;
} psg_moments;

psg_moments psg_losses_moments(const psg_release_losses *losses, double theta);

/* Where the tilted sum is, all but e^-PSG_OUTSIDE of it: from `least` to `most`; and the orders that say so. */
#define PSG_OUTSIDE 28
typedef struct psg_loss_window {
    double least, most;
    double least_order, most_order;
} psg_loss_window;

psg_loss_window psg_losses_window(const psg_release_losses *losses, double theta);

/* The tilted sum: mass[k], k < length, is at loss (first + k) * interval, up to `error` each; `outside` bounds what of
 * it is elsewhere and what of that has come back into these masses. */
typedef struct psg_tilted {
    double theta, log_moment, interval;
    int64_t first;
    size_t length;
    double *mass;
    double error, outside;
    double relative; /* relative error of every mass, and of e^{-theta y} M */
    double infinity; /* mass of an infinite loss, not tilted */
    double slack;    /* by which the sum may be off */
} psg_tilted;

/* work holds 2 * fft->length doubles three times; the result's masses are in it.  0 where T is so large that rounding
 * errors would exceed the result. */
int psg_losses_compose(const psg_release_losses *losses, double theta, const psg_loss_window *window,
                       const psg_fft *fft, double *work, psg_tilted *tilted);

/* Upper: delta at epsilon is at most its exponential; lower (direction -1): at least. */
double psg_tilted_log_delta(const psg_tilted *tilted, double epsilon, double direction);
/* The epsilon of delta = e^log_delta, from above or (direction -1) from below; INFINITY where the window does not hold
 * it from above, 0 from below. */
double psg_tilted_epsilon(const psg_tilted *tilted, double log_delta, double direction);

#endif
