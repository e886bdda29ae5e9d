/* What all drawings share: a figure with its caption, axes with ticks, markers, a legend.  SVG in HTML, in the colours
 * of html_style.h. */
#ifndef BENCH_PLOT_FRAME_H
#define BENCH_PLOT_FRAME_H

#include <stdio.h>

#include "plot_scale.h"

enum { PLOT_WIDTH = 480, PLOT_LEGEND_LINE = 18, PLOT_COLOURS = 7 };

/* What stands above a drawing; warning (or NULL) in the drawing too, so that a copy of it carries it. */
typedef struct plot_caption { const char *title, *note, *warning; } plot_caption;

/* A figure with a drawing of PLOT_WIDTH x height units, which fills the width that the page gives it. */
void plot_open(FILE *out, const plot_caption *caption, double height);
void plot_close(FILE *out);

/* A text; anchor: start, middle or end; style: a class of the style sheet, or "". */
void plot_text(FILE *out, double x, double y, const char *anchor, const char *style, const char *text);

/* Ticks, grid and label of an axis below, from the scale's from to its to; and of one at the left, whose label stands
 * above it. */
void plot_axis_below(FILE *out, const plot_scale *x, double top, double bottom, const char *label);
void plot_axis_left(FILE *out, const plot_scale *y, double left, double right, const char *label);

/* A mark of the colour's own shape; tooltip or NULL. */
void plot_marker(FILE *out, int colour, double x, double y, const char *tooltip);

/* What makes a line of style "line" (nothing), "dashes" or "dots" so: an attribute. */
const char *plot_stroke(const char *style);

/* A line of the legend: what is drawn (style: "line", "dashes", "dots", "marker" or "bar"), then the name. */
void plot_legend(FILE *out, double x, double y, const char *style, int colour, const char *name);

#endif
