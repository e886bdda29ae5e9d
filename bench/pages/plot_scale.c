#include "plot_scale.h"

#include <math.h>

#define WANTED_TICKS 5
#define MOST_DECADES 8          /* that have a tick each */
#define ROUNDING 1e-9           /* of a step: a tick at an end counts */

int plot_scale_takes(int is_log, double value) { return isfinite(value) && (!is_log || value > 0); }

/* The step of 1, 2 or 5 times a power of ten nearest above a fifth of the span. */
static double step_of(double span) {
    const double rough = span / WANTED_TICKS, power = pow(10, floor(log10(rough))), share = rough / power;
    return power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10);
}

/* ---- ends ---- */

static plot_scale linear_ends(double low, double high) {
    if (low == high) {
        const double around = low == 0 ? 1 : fabs(low) / 2;
        low -= around;
        high += around;
    }
    const double step = step_of(high - low);
    return (plot_scale){ .low = step * floor(low / step + ROUNDING), .high = step * ceil(high / step - ROUNDING),
                         .step = step };
}

static plot_scale log_ends(double low, double high) {
    double first = floor(log10(low) + ROUNDING), last = ceil(log10(high) - ROUNDING);
    if (first == last) last++;
    return (plot_scale){ .is_log = 1, .low = pow(10, first), .high = pow(10, last) };
}

plot_scale plot_scale_of(int is_log, const double *values, size_t count) {
    double low = INFINITY, high = -INFINITY;
    for (size_t k = 0; k < count; k++) {
        if (!plot_scale_takes(is_log, values[k])) continue;
        low = fmin(low, values[k]);
        high = fmax(high, values[k]);
    }
    if (low > high) return is_log ? log_ends(1, 10) : linear_ends(0, 1);
    return is_log ? log_ends(low, high) : linear_ends(low, high);
}

/* ---- places ---- */

double plot_scale_at(const plot_scale *s, double value) {
    const double share = s->is_log ? log(value / s->low) / log(s->high / s->low)
                                   : (value - s->low) / (s->high - s->low);
    return s->from + share * (s->to - s->from);
}

static size_t linear_ticks(const plot_scale *s, double *tick) {
    const double first = ceil(s->low / s->step - ROUNDING);
    size_t count = 0;
    for (; count < PLOT_MAX_TICKS && (first + (double)count) * s->step <= s->high + ROUNDING * s->step; count++) {
        tick[count] = (first + (double)count) * s->step;
    }
    return count;
}

static size_t log_ticks(const plot_scale *s, double *tick) {
    static const double within[] = { 1, 2, 5 };
    const double first = ceil(log10(s->low) - ROUNDING), last = floor(log10(s->high) + ROUNDING);
    const double stride = fmax(1, ceil((last - first) / MOST_DECADES));
    const size_t parts = last - first <= 2 ? 3 : 1;
    size_t count = 0;
    for (double decade = first; decade <= last; decade += stride) {
        for (size_t k = 0; k < parts && count < PLOT_MAX_TICKS; k++) {
            const double value = within[k] * pow(10, decade);
            if (value <= s->high * (1 + ROUNDING)) tick[count++] = value;
        }
    }
    return count;
}

size_t plot_scale_ticks(const plot_scale *s, double tick[PLOT_MAX_TICKS]) {
    return s->is_log ? log_ticks(s, tick) : linear_ticks(s, tick);
}
