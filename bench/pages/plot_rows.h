/* Plots whose values belong to named rows: bars, or points of several series in a row. */
#ifndef BENCH_PLOT_ROWS_H
#define BENCH_PLOT_ROWS_H

#include "plot_frame.h"

typedef struct plot_row_series {
    const char *name;               /* in the legend, where there are two or more */
    int colour, is_bar;
    const double *value;            /* one a row; what the axis does not take is left out */
} plot_row_series;

typedef struct plot_rows {
    const char *label;              /* of the axis, with its unit */
    int is_log;
    const char *const *row;         /* names */
    size_t row_count;
    const plot_row_series *series;
    size_t series_count;
} plot_rows;

/* Bars start at 0, on a logarithmic axis at 1, which the axis shows; a bar that is alone has its number beside it. */
void plot_rows_write(FILE *out, const plot_caption *caption, const plot_rows *rows);

#endif
