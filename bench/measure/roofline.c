#include "roofline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plot.h"

enum { GROUPS = 6, ROOF = 3, MOST_SERIES = 12, MOST_NOTE = 200 };

/* Points of one group, and roofs: the coordinates of all series of a plot. */
typedef struct roofline {
    plot_series series[MOST_SERIES];
    size_t count;
    double roof_x[MOST_SERIES][ROOF], roof_y[MOST_SERIES][ROOF];
    char name[MOST_SERIES][MOST_NOTE];
    double low, high;               /* of the intensities */
} roofline;

static const plot_axis intensity = { .label = "arithmetic intensity (flops a byte)", .is_log = 1 };
static const plot_axis rate = { .label = "computed (GF/s)", .is_log = 1 };

/* ---- roofs ---- */

/* min(peak, bytes a second x flops a byte) over all intensities; memory infinite: the peak alone. */
static void add_roof(roofline *r, plot_mark mark, int colour, double peak, double memory) {
    double *x = r->roof_x[r->count], *y = r->roof_y[r->count];
    x[0] = r->low, x[1] = fmin(fmax(peak / memory, r->low), r->high), x[2] = r->high;
    for (int k = 0; k < ROOF; k++) y[k] = fmin(peak, memory * x[k]);
    r->series[r->count] = (plot_series){ .name = r->name[r->count], .mark = mark, .colour = colour, .x = x, .y = y,
                                         .count = ROOF };
    r->count++;
}

static void widen(roofline *r, double value) {
    if (!plot_scale_takes(1, value)) return;
    r->low = fmin(r->low, value);
    r->high = fmax(r->high, value);
}

/* ---- rows ---- */

static const struct { const char *name; const char *const op[9]; } groups[GROUPS - 1] = {
    { "linear layers", { "linear", NULL } },
    { "convolutions", { "conv1d", "conv2d", "conv3d", NULL } },
    { "normalizations", { "layer_norm", "group_norm", "instance_norm", NULL } },
    { "sequences: embedding, LSTM, attention", { "embedding", "lstm", "multi_head_attention", NULL } },
    { "many small tensors, noise", { "tensors", "noise", NULL } },
};

/* The last group is that of whole steps. */
static int group_of(const measured_row *row) {
    for (int g = 0; g < GROUPS - 1; g++) {
        for (const char *const *op = groups[g].op; *op; op++) {
            if (strcmp(*op, row->op) == 0) return g;
        }
    }
    return GROUPS - 1;
}

typedef struct points { double *x, *y; const char **tooltip; size_t count; } points;

static points take_points(const measured *m, int group) {
    points p = { bench_alloc(m->rows * sizeof *p.x), bench_alloc(m->rows * sizeof *p.y),
                 bench_alloc(m->rows * sizeof *p.tooltip), 0 };
    for (size_t k = 0; k < m->rows; k++) {
        const measured_row *row = &m->row[k];
        if (group_of(row) != group || !plot_scale_takes(1, row->intensity)) continue;
        p.x[p.count] = row->intensity;
        p.y[p.count] = row->gflops;
        p.tooltip[p.count++] = row->name;
    }
    return p;
}

static void free_points(points *p, size_t count) {
    for (size_t k = 0; k < count; k++) {
        free(p[k].x);
        free(p[k].y);
        free(p[k].tooltip);
    }
}

static void add_points(roofline *r, const char *name, int colour, const points *p) {
    if (p->count == 0) return;
    r->series[r->count++] = (plot_series){ .name = name, .mark = PLOT_POINTS, .colour = colour, .x = p->x, .y = p->y,
                                           .count = p->count, .tooltips = p->tooltip };
}

static void add_machine(roofline *r, const measured *m) {
    const probe_rates *rates = &m->machine.rates;
    double cache = rates->copy_gbps;
    for (size_t k = 0; k < m->rows; k++) cache = fmax(cache, m->row[k].copy_gbps);
    snprintf(r->name[r->count], MOST_NOTE, "multiply-adds %.0f GF/s; copying 256 MiB %.0f GB/s", rates->fma_gflops,
             rates->copy_gbps);
    add_roof(r, PLOT_LINE, 5, rates->fma_gflops, rates->copy_gbps);
    snprintf(r->name[r->count], MOST_NOTE, "the same, copying within the caches %.0f GB/s", cache);
    add_roof(r, PLOT_DASHES, 5, rates->fma_gflops, cache);
}

void roofline_of_rows(html_page *page, const measured *m) {
    static const plot_caption caption = {
        "Roofline", "Every row that computes and moves data, by the flops and bytes of its passes.", NULL };
    roofline r = { .low = INFINITY };
    points p[GROUPS];
    for (size_t k = 0; k < m->rows; k++) widen(&r, m->row[k].intensity);
    if (r.high <= 0) return;
    add_machine(&r, m);
    for (int g = 0; g < GROUPS; g++) {
        p[g] = take_points(m, g);
        add_points(&r, g < GROUPS - 1 ? groups[g].name : "whole steps of models", g < 5 ? g : 6, &p[g]);
    }
    plot_write(page->out, &caption, &intensity, &rate, r.series, r.count);
    free_points(p, GROUPS);
}

/* ---- products ---- */

static points take_products(const measured *m, psg_dtype dtype, int engine) {
    points p = { bench_alloc(m->products * sizeof *p.x), bench_alloc(m->products * sizeof *p.y),
                 bench_alloc(m->products * sizeof *p.tooltip), 0 };
    for (size_t k = 0; k < m->products; k++) {
        if (m->product[k].dtype != dtype) continue;
        p.x[p.count] = m->product[k].intensity;
        p.y[p.count] = m->product[k].gflops[engine];
        p.tooltip[p.count++] = m->product[k].name;
    }
    return p;
}

static void add_product_roof(roofline *r, const measured *m, psg_dtype dtype) {
    double peak = 0;
    for (size_t k = 0; k < m->products; k++) {
        if (m->product[k].dtype == dtype) peak = fmax(peak, m->product[k].fma_gflops);
    }
    snprintf(r->name[r->count], MOST_NOTE, "multiply-adds %.0f GF/s; copying 256 MiB %.0f GB/s", peak,
             m->machine.rates.copy_gbps);
    add_roof(r, PLOT_LINE, 5, peak, m->machine.rates.copy_gbps);
}

void roofline_of_products(html_page *page, const measured *m, psg_dtype dtype) {
    char title[60];
    const plot_caption caption = { title, "Each product by both engines; operands and results count once.", NULL };
    roofline r = { .low = INFINITY };
    points p[ENGINES];
    for (size_t k = 0; k < m->products; k++) widen(&r, m->product[k].intensity);
    if (r.high <= 0) return;
    snprintf(title, sizeof title, "Products in %s", psg_dtype_name(dtype));
    add_product_roof(&r, m, dtype);
    for (int e = 0; e < ENGINES; e++) {
        p[e] = take_products(m, dtype, e);
        add_points(&r, e == ENGINE_OPENBLAS ? "OpenBLAS" : "libpsg's kernel", e, &p[e]);
    }
    plot_write(page->out, &caption, &intensity, &rate, r.series, r.count);
    free_points(p, ENGINES);
}
