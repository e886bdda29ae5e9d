#include "plot_frame.h"

#include <math.h>
#include <string.h>

#include "html.h"

#define RADIUS 4.0

/* ---- the figure ---- */

static void put_span(FILE *out, const char *style, const char *text) {
    fprintf(out, " <span%s>", style);
    html_text(out, text);
    fputs("</span>", out);
}

void plot_open(FILE *out, const plot_caption *caption, double height) {
    fputs("<figure>\n<figcaption>", out);
    if (caption->warning) put_span(out, " class=\"mark\"", caption->warning);
    fputs(" <b>", out);
    html_text(out, caption->title);
    fputs("</b>", out);
    if (caption->note) put_span(out, "", caption->note);
    fprintf(out, "</figcaption>\n<svg viewBox=\"0 0 %d %g\" role=\"img\" aria-label=\"", PLOT_WIDTH, height);
    html_text(out, caption->title);
    fputs("\">\n", out);
    if (caption->warning) plot_text(out, PLOT_WIDTH - 4, 13, "end", "mark", caption->warning);
}

void plot_close(FILE *out) { fputs("</svg>\n</figure>\n", out); }

static void begin_text(FILE *out, double x, double y, const char *anchor, const char *style) {
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">", x, y, anchor, style);
}

void plot_text(FILE *out, double x, double y, const char *anchor, const char *style, const char *text) {
    begin_text(out, x, y, anchor, style);
    html_text(out, text);
    fputs("</text>\n", out);
}

/* ---- axes ---- */

/* Ticks of a logarithmic axis beyond these are all powers of ten. */
static int has_powers(const plot_scale *s) { return s->is_log && (s->low < 1e-3 || s->high > 1e5); }

/* 0.02, 500, and of very small and very large ones 10^k, or m x 10^k. */
static void put_number(FILE *out, double value, int is_power) {
    const double size = fabs(value), power = size > 0 ? floor(log10(size) + 1e-9) : 0;
    const char *sign = value < 0 ? "\u2212" : "";
    if (power >= -3 && power < 5 && !is_power) {
        fprintf(out, "%s%.6g", sign, size);
        return;
    }
    const double mantissa = size / pow(10, power);
    fputs(sign, out);
    if (fabs(mantissa - 1) > 1e-6) fprintf(out, "%.3g\u00b7", mantissa);
    fprintf(out, "10<tspan dy=\"-5\" font-size=\"9\">%s%g</tspan>", power < 0 ? "\u2212" : "", fabs(power));
}

static void put_line(FILE *out, const char *style, double x1, double y1, double x2, double y2) {
    fprintf(out, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", style, x1, y1, x2, y2);
}

static void put_tick_text(FILE *out, double x, double y, const char *anchor, const plot_scale *s, double value) {
    begin_text(out, x, y, anchor, "soft");
    put_number(out, value, has_powers(s));
    fputs("</text>\n", out);
}

void plot_axis_below(FILE *out, const plot_scale *x, double top, double bottom, const char *label) {
    double tick[PLOT_MAX_TICKS];
    const size_t count = plot_scale_ticks(x, tick);
    for (size_t k = 0; k < count; k++) {
        const double at = plot_scale_at(x, tick[k]);
        put_line(out, "grid", at, top, at, bottom);
        put_tick_text(out, at, bottom + 17, "middle", x, tick[k]);
    }
    put_line(out, "axis", x->from, bottom, x->to, bottom);
    plot_text(out, (x->from + x->to) / 2, bottom + 35, "middle", "", label);
}

void plot_axis_left(FILE *out, const plot_scale *y, double left, double right, const char *label) {
    double tick[PLOT_MAX_TICKS];
    const size_t count = plot_scale_ticks(y, tick);
    for (size_t k = 0; k < count; k++) {
        const double at = plot_scale_at(y, tick[k]);
        put_line(out, "grid", left, at, right, at);
        put_tick_text(out, left - 7, at + 4, "end", y, tick[k]);
    }
    put_line(out, "axis", left, y->from, left, y->to);
    plot_text(out, 4, y->to - 12, "start", "", label);
}

/* ---- marks ---- */

/* A shape for each colour, around the origin. */
static const char *const shapes[PLOT_COLOURS] = {
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
    "M-3.6,-3.6h7.2v7.2h-7.2z",
    "M0,-4.8L4.6,3.6L-4.6,3.6z",
    "M0,-5L5,0L0,5L-5,0z",
    "M0,4.8L4.6,-3.6L-4.6,-3.6z",
    "M-1.5,-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "M-4.2,-2.1L-2.1,-4.2L0,-2.1L2.1,-4.2L4.2,-2.1L2.1,0L4.2,2.1L2.1,4.2L0,2.1L-2.1,4.2L-4.2,2.1L-2.1,0z",
};

void plot_marker(FILE *out, int colour, double x, double y, const char *tooltip) {
    fprintf(out, "<path class=\"f%d\" fill-opacity=\".85\" transform=\"translate(%.1f %.1f)\" d=\"%s\">", colour, x, y,
            shapes[colour]);
    if (tooltip) {
        fputs("<title>", out);
        html_text(out, tooltip);
        fputs("</title>", out);
    }
    fputs("</path>\n", out);
}

const char *plot_stroke(const char *style) {
    return strcmp(style, "dashes") == 0 ? " stroke-dasharray=\"7 5\"" :
           strcmp(style, "dots") == 0 ? " stroke-dasharray=\"0.1 5\"" : "";
}

void plot_legend(FILE *out, double x, double y, const char *style, int colour, const char *name) {
    if (strcmp(style, "marker") == 0) {
        plot_marker(out, colour, x + 12, y - RADIUS, NULL);
    } else if (strcmp(style, "bar") == 0) {
        fprintf(out, "<rect class=\"f%d\" x=\"%.1f\" y=\"%.1f\" width=\"16\" height=\"10\"/>\n", colour, x + 4, y - 9);
    } else {
        fprintf(out, "<path class=\"line s%d\"%s d=\"M%.1f,%.1fh24\"/>\n", colour, plot_stroke(style), x, y - RADIUS);
    }
    plot_text(out, x + 31, y, "start", "", name);
}
