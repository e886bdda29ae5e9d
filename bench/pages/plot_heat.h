/* A square table of counts as a heat map: rows shaded by their shares. */
#ifndef BENCH_PLOT_HEAT_H
#define BENCH_PLOT_HEAT_H

#include "plot_frame.h"

typedef struct plot_heat {
    const char *row_label, *column_label;
    const char *const *name;        /* of row k and of column k */
    size_t size;
    const double *count;            /* (size, size), at least 0 */
} plot_heat;

void plot_heat_write(FILE *out, const plot_caption *caption, const plot_heat *heat);

#endif
