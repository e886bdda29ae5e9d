#include "plot_rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROW = 19, TOP = 8, BELOW = 44, RIGHT = PLOT_WIDTH - 46, MOST_NAME = 290 };

#define FONT 11.0               /* of names, less where they are long */
#define WIDTH 0.6               /* of a character, in parts of the font */

static double base_of(const plot_rows *rows) { return rows->is_log ? 1 : 0; }

/* All values, and where bars start. */
static plot_scale scale_of(const plot_rows *rows) {
    size_t used = 0;
    double *values = malloc((rows->row_count * rows->series_count + 1) * sizeof *values);
    for (size_t k = 0; values && k < rows->series_count; k++) {
        for (size_t i = 0; i < rows->row_count; i++) values[used++] = rows->series[k].value[i];
    }
    if (values) values[used++] = base_of(rows);
    const plot_scale scale = plot_scale_of(rows->is_log, values, used);
    free(values);
    return scale;
}

static double longest_name(const plot_rows *rows) {
    size_t longest = 0;
    for (size_t i = 0; i < rows->row_count; i++) {
        const size_t length = strlen(rows->row[i]);
        if (length > longest) longest = length;
    }
    return (double)longest;
}

static void put_bar(FILE *out, const plot_rows *rows, const plot_scale *x, const plot_row_series *s, size_t i,
                    double y) {
    const double start = plot_scale_at(x, base_of(rows)), end = plot_scale_at(x, s->value[i]);
    fprintf(out, "<rect class=\"f%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\"/>\n", s->colour,
            fmin(start, end), y - ROW / 2.0 + 3, fmax(fabs(end - start), 1), ROW - 6);
    if (rows->series_count > 1) return;
    char text[32];
    snprintf(text, sizeof text, s->value[i] >= 100 ? "%.0f" : "%.3g", s->value[i]);
    plot_text(out, fmax(start, end) + 5, y + 4, "start", "", text);
}

static void put_row(FILE *out, const plot_rows *rows, const plot_scale *x, size_t i, double y) {
    plot_text(out, x->from - 8, y + 4, "end", "name", rows->row[i]);
    for (size_t k = 0; k < rows->series_count; k++) {
        const plot_row_series *s = &rows->series[k];
        char tooltip[160];
        if (!plot_scale_takes(rows->is_log, s->value[i])) continue;
        snprintf(tooltip, sizeof tooltip, "%s, %s: %.4g", rows->row[i], s->name, s->value[i]);
        if (s->is_bar) put_bar(out, rows, x, s, i, y);
        else plot_marker(out, s->colour, plot_scale_at(x, s->value[i]), y, tooltip);
    }
}

static void put_legend(FILE *out, const plot_rows *rows) {
    for (size_t k = 0; k < rows->series_count; k++) {
        const plot_row_series *s = &rows->series[k];
        plot_legend(out, 4, 14 + (double)k * PLOT_LEGEND_LINE, s->is_bar ? "bar" : "marker", s->colour, s->name);
    }
}

void plot_rows_write(FILE *out, const plot_caption *caption, const plot_rows *rows) {
    const double legend = rows->series_count > 1 ? (double)rows->series_count * PLOT_LEGEND_LINE + 6 : 0;
    const double characters = fmax(longest_name(rows), 1), font = fmin(FONT, (MOST_NAME - 12) / WIDTH / characters);
    const double top = TOP + fmax(legend, caption->warning ? PLOT_LEGEND_LINE : 0);
    const double bottom = top + (double)rows->row_count * ROW;
    plot_scale x = scale_of(rows);
    x.from = font * WIDTH * characters + 12, x.to = RIGHT;
    plot_open(out, caption, bottom + BELOW);
    if (rows->series_count > 1) put_legend(out, rows);
    plot_axis_below(out, &x, top, bottom, rows->label);
    fprintf(out, "<g style=\"--name: %.1fpx\">\n", font);
    for (size_t i = 0; i < rows->row_count; i++) put_row(out, rows, &x, i, top + ((double)i + 0.5) * ROW);
    fputs("</g>\n", out);
    plot_close(out);
}
