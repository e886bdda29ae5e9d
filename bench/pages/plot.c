#include "plot.h"

#include <stdlib.h>

enum { LEFT = 52, RIGHT = PLOT_WIDTH - 16, TOP = 34, AREA = 230, BELOW = 44 };

/* Of a plot_mark, as plot_frame.h calls them. */
static const char *const styles[] = { "line", "dashes", "dots", "marker" };

/* The scale of an axis over all series; `second`: their y. */
static plot_scale scale_of(const plot_axis *axis, int second, const plot_series *series, size_t count) {
    size_t total = 1, used = 0;
    for (size_t k = 0; k < count; k++) total += series[k].count;
    double *values = malloc(total * sizeof *values);
    for (size_t k = 0; values && k < count; k++) {
        for (size_t i = 0; i < series[k].count; i++) values[used++] = (second ? series[k].y : series[k].x)[i];
    }
    if (values && axis->has_zero) values[used++] = 0;
    const plot_scale scale = plot_scale_of(axis->is_log, values, used);
    free(values);
    return scale;
}

static int has_place(const plot_scale *x, const plot_scale *y, const plot_series *s, size_t i) {
    return plot_scale_takes(x->is_log, s->x[i]) && plot_scale_takes(y->is_log, s->y[i]);
}

/* A point that has no neighbour is a short stroke of round ends. */
static void put_line(FILE *out, const plot_scale *x, const plot_scale *y, const plot_series *s) {
    int is_open = 0;
    fprintf(out, "<path class=\"line s%d\"%s d=\"", s->colour, plot_stroke(styles[s->mark]));
    for (size_t i = 0; i < s->count; i++) {
        const int has = has_place(x, y, s, i);
        if (has) {
            fprintf(out, "%s%.1f,%.1f%s", is_open ? "L" : "M", plot_scale_at(x, s->x[i]), plot_scale_at(y, s->y[i]),
                    is_open ? "" : "h0");
        }
        is_open = has;
    }
    fputs("\"/>\n", out);
}

static void put_points(FILE *out, const plot_scale *x, const plot_scale *y, const plot_series *s) {
    for (size_t i = 0; i < s->count; i++) {
        if (!has_place(x, y, s, i)) continue;
        plot_marker(out, s->colour, plot_scale_at(x, s->x[i]), plot_scale_at(y, s->y[i]),
                    s->tooltips ? s->tooltips[i] : NULL);
    }
}

static int is_empty(const plot_scale *x, const plot_scale *y, const plot_series *series, size_t count) {
    for (size_t k = 0; k < count; k++) {
        for (size_t i = 0; i < series[k].count; i++) {
            if (has_place(x, y, &series[k], i)) return 0;
        }
    }
    return 1;
}

static void put_legend(FILE *out, const plot_series *series, size_t count) {
    for (size_t k = 0; k < count; k++) {
        const double y = 14 + (double)k * PLOT_LEGEND_LINE;
        plot_legend(out, 4, y, styles[series[k].mark], series[k].colour, series[k].name);
    }
}

void plot_write(FILE *out, const plot_caption *caption, const plot_axis *x_axis, const plot_axis *y_axis,
                const plot_series *series, size_t count) {
    const double top = TOP + (count > 1 ? (double)count * PLOT_LEGEND_LINE : 0), bottom = top + AREA;
    plot_scale x = scale_of(x_axis, 0, series, count), y = scale_of(y_axis, 1, series, count);
    x.from = LEFT, x.to = RIGHT;
    y.from = bottom, y.to = top;
    plot_open(out, caption, bottom + BELOW);
    if (count > 1) put_legend(out, series, count);
    plot_axis_below(out, &x, top, bottom, x_axis->label);
    plot_axis_left(out, &y, LEFT, RIGHT, y_axis->label);
    for (size_t k = 0; k < count; k++) (series[k].mark == PLOT_POINTS ? put_points : put_line)(out, &x, &y, &series[k]);
    if (is_empty(&x, &y, series, count)) {
        plot_text(out, (LEFT + RIGHT) / 2, top + AREA / 2, "middle", "soft", "no values");
    }
    plot_close(out);
}
