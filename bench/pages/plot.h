/* Plots of y over x: lines and points on linear or logarithmic axes. */
#ifndef BENCH_PLOT_H
#define BENCH_PLOT_H

#include "plot_frame.h"

typedef enum plot_mark { PLOT_LINE = 0, PLOT_DASHES, PLOT_DOTS, PLOT_POINTS } plot_mark;

/* Points that an axis does not take (NaN, infinite, at or below 0 on a logarithmic one) are left out; lines break
 * there. */
typedef struct plot_series {
    const char *name;               /* in the legend */
    plot_mark mark;
    int colour;                     /* below PLOT_COLOURS; points of a colour have a shape of their own */
    const double *x, *y;
    size_t count;
    const char *const *tooltips;    /* count of them, for points; or NULL */
} plot_series;

typedef struct plot_axis {
    const char *label;              /* with its unit */
    int is_log;
    int has_zero;                   /* a linear axis that begins at 0 */
} plot_axis;

/* The figure: caption, axes that show every point of every series, the series, a legend where there are two or more. */
void plot_write(FILE *out, const plot_caption *caption, const plot_axis *x, const plot_axis *y,
                const plot_series *series, size_t count);

#endif
