/* What an account says at many points: epsilon after each of the releases, delta at each epsilon. */
#ifndef BENCH_PRIVACY_CURVE_H
#define BENCH_PRIVACY_CURVE_H

#include <psg/accountant.h>

enum { PRIVACY_POINTS = 25 };

typedef struct privacy_curve {
    size_t count;
    double at[PRIVACY_POINTS], upper[PRIVACY_POINTS], lower[PRIVACY_POINTS];
} privacy_curve;

/* epsilon at delta after 1 release, ... and all of them, in the order in which they were made. */
psg_status privacy_over_releases(psg_context *context, const psg_accountant *accountant, double delta,
                                 privacy_curve *curve);
/* delta at epsilon above 0, up to most. */
psg_status privacy_over_epsilon(const psg_accountant *accountant, double most, privacy_curve *curve);

#endif
