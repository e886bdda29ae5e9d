#include "plot_heat.h"

enum { LEFT = 92, TOP = 40, RIGHT = PLOT_WIDTH - 8, BELOW = 92 };

#define MOST_OPAQUE 0.5         /* numbers are to be read on it, light and dark: 4.5 and more to 1 (WCAG 2.1) */

static double row_total(const plot_heat *heat, size_t row) {
    double total = 0;
    for (size_t k = 0; k < heat->size; k++) total += heat->count[row * heat->size + k];
    return total;
}

static void put_cell(FILE *out, double x, double y, double side, double count, double total) {
    const double share = total > 0 ? count / total : 0;
    char text[32];
    fprintf(out, "<rect class=\"f0\" fill-opacity=\"%.3f\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n",
            MOST_OPAQUE * share, x, y, side - 1, side - 1);
    if (count == 0) return;
    snprintf(text, sizeof text, "%.0f", count);
    plot_text(out, x + side / 2, y + side / 2 + 4, "middle", "", text);
}

static void put_row(FILE *out, const plot_heat *heat, size_t row, double side) {
    const double y = TOP + (double)row * side, total = row_total(heat, row);
    plot_text(out, LEFT - 8, y + side / 2 + 4, "end", "soft", heat->name[row]);
    for (size_t k = 0; k < heat->size; k++) {
        put_cell(out, LEFT + (double)k * side, y, side, heat->count[row * heat->size + k], total);
    }
}

/* Names of columns are turned, so that they fit. */
static void put_column_name(FILE *out, const plot_heat *heat, size_t k, double side, double bottom) {
    const double x = LEFT + ((double)k + 0.5) * side + 4;
    fprintf(out, "<g transform=\"translate(%.1f %.1f) rotate(-45)\">", x, bottom + 12);
    plot_text(out, 0, 0, "end", "soft", heat->name[k]);
    fputs("</g>\n", out);
}

void plot_heat_write(FILE *out, const plot_caption *caption, const plot_heat *heat) {
    const double side = (RIGHT - LEFT) / (double)(heat->size ? heat->size : 1);
    const double bottom = TOP + side * (double)heat->size;
    plot_open(out, caption, bottom + BELOW);
    plot_text(out, 4, TOP - 10, "start", "", heat->row_label);
    for (size_t k = 0; k < heat->size; k++) put_row(out, heat, k, side);
    for (size_t k = 0; k < heat->size; k++) put_column_name(out, heat, k, side, bottom);
    plot_text(out, (LEFT + RIGHT) / 2, bottom + BELOW - 6, "middle", "", heat->column_label);
    plot_close(out);
}
