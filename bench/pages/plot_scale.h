/* A plot's axis: from values to units of the drawing, linear or logarithmic, and where its ticks stand. */
#ifndef BENCH_PLOT_SCALE_H
#define BENCH_PLOT_SCALE_H

#include <stddef.h>

enum { PLOT_MAX_TICKS = 16 };

typedef struct plot_scale {
    int is_log;
    double low, high;           /* values at the ends, low < high; above 0 where is_log */
    double step;                /* between ticks of a linear scale */
    double from, to;            /* where the ends are drawn */
} plot_scale;

/* Whether the value has a place on such a scale: finite, and above 0 on a logarithmic one. */
int plot_scale_takes(int is_log, double value);

/* The ends that show count values: widened to ticks, or to whole decades; around one value where all are equal; those
 * of 0 to 1 (1 to 10) where there is none.  Values that the scale does not take are left out. */
plot_scale plot_scale_of(int is_log, const double *values, size_t count);

double plot_scale_at(const plot_scale *s, double value);

/* Steps of 1, 2 or 5 times a power of ten, about five of them; decades on a logarithmic scale, with 2 and 5 between
 * where it spans at most two, every second, third, ... of them where it spans many.  Ascending; returns how many. */
size_t plot_scale_ticks(const plot_scale *s, double tick[PLOT_MAX_TICKS]);

#endif
