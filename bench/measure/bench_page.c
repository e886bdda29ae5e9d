#include "bench_page.h"

#include <math.h>
#include <stdlib.h>

#include "html.h"
#include "machine.h"
#include "plot_rows.h"
#include "roofline.h"

/* ---- the machine ---- */

static void put_machine_table(html_page *page, const output_machine *m) {
    char processor[256];
    machine_processor(processor, sizeof processor);
    html_table_begin(page, "what|it was");
    html_row(page, "processor|%s", processor);
    html_row(page, "instruction set of the kernels|%s", m->isa);
    html_row(page, "OpenBLAS core|%s", m->openblas_core);
    html_row(page, "threads|%u", m->threads);
    html_row(page, "multiply-adds in registers|%.0f GF/s", m->rates.fma_gflops);
    html_row(page, "large products: OpenBLAS, libpsg's kernel|%.0f, %.0f GF/s", m->openblas_gflops, m->kernel_gflops);
    html_row(page, "in 256 MiB: copy, write, zeros, read|%.1f, %.1f, %.1f, %.1f GB/s", m->rates.copy_gbps,
             m->rates.write_gbps, m->rates.clear_gbps, m->rates.read_gbps);
    html_row(page, "library|libpsg %s", psg_version());
    html_table_end(page);
}

static void put_machine(html_page *page, const measured *m) {
    html_section(page, "machine", "The machine and what was computed on it");
    html_figures_begin(page);
    roofline_of_rows(page, m);
    put_machine_table(page, &m->machine);
    html_figures_end(page);
}

/* ---- bars, a row of the list each ---- */

typedef double (*row_value)(const measured_row *row);

static double speedup(const measured_row *row) { return row->naive_ms / row->ms; }
static double percent(const measured_row *row) { return row->percent; }

/* Of the rows that have such a value. */
static void put_bars(html_page *page, const measured *m, const plot_caption *caption, const char *label, int is_log,
                     row_value value_of) {
    const char **name = bench_alloc(m->rows * sizeof *name);
    double *value = bench_alloc(m->rows * sizeof *value);
    size_t count = 0;
    for (size_t k = 0; k < m->rows; k++) {
        const double v = value_of(&m->row[k]);
        if (!plot_scale_takes(is_log, v)) continue;
        name[count] = m->row[k].name;
        value[count++] = v;
    }
    const plot_row_series series = { .name = label, .is_bar = 1, .value = value };
    const plot_rows rows = { label, is_log, name, count, &series, 1 };
    if (count) plot_rows_write(page->out, caption, &rows);
    free(name);
    free(value);
}

static void put_number(char text[24], const char *format, double value) {
    snprintf(text, 24, isfinite(value) ? format : "", value);
}

static void put_row(html_page *page, const measured_row *row) {
    char limit[24], share[24], naive[24], flops[24];
    put_number(limit, "%.3f", row->limit_ms);
    put_number(share, "%.0f", row->percent);
    put_number(naive, "%.1f", row->naive_ms);
    put_number(flops, "%.3g", row->intensity);
    const char *mark = row->steady ? "" : " (unsteady)";
    html_row(page, "%s%s|>%.3f|>%s|>%s|>%s|>%s|>%.1f|>%.1f", row->name, mark, row->ms, limit, share, naive, flops,
             row->gflops, row->gbps);
}

static void put_rows(html_page *page, const measured *m) {
    static const plot_caption naive = {
        "Against a naive loop", "The time of plain C, one sample at a time on one thread, over libpsg's.", NULL };
    static const plot_caption limit = {
        "Against the machine's limit", "The least time of the passes at the probed rates, over the time taken. What "
        "the caches hold may go beyond.", NULL };
    if (m->rows == 0) return;
    html_section(page, "rows", "Answers and steps");
    html_paragraph(page, "A row is an op, a question, and a problem: its sizes in the order of psg-bench --help, or a "
                   "line of the op's case table; + is the memory budget that the plan was granted. Unsteady: "
                   "the probes of the machine before and after a row differ by more than 15 %%.");
    html_figures_begin(page);
    put_bars(page, m, &naive, "times as fast as the naive loop", 1, speedup);
    put_bars(page, m, &limit, "% of the limit", 0, percent);
    html_figures_end(page);
    html_table_begin(page, "row|>ms|>limit, ms|>% of it|>naive, ms|>flops a byte|>GF/s|>GB/s");
    for (size_t k = 0; k < m->rows; k++) put_row(page, &m->row[k]);
    html_table_end(page);
}

/* ---- products by both engines ---- */

static void put_ratios(html_page *page, const measured *m) {
    static const plot_caption caption = {
        "The engines in pairs", "OpenBLAS's time over the kernel's, run in turn: to the right of 1 the kernel is "
        "faster.", NULL };
    const char **name = bench_alloc(m->products * sizeof *name);
    double *value = bench_alloc(m->products * sizeof *value);
    for (size_t k = 0; k < m->products; k++) {
        name[k] = m->product[k].name;
        value[k] = m->product[k].ratio;
    }
    const plot_row_series series = { .name = "ratio", .is_bar = 1, .colour = 2, .value = value };
    const plot_rows rows = { "OpenBLAS's time / the kernel's", 1, name, m->products, &series, 1 };
    plot_rows_write(page->out, &caption, &rows);
    free(name);
    free(value);
}

static void put_products(html_page *page, const measured *m) {
    if (m->products == 0) return;
    html_section(page, "engines", "Products by both engines");
    html_figures_begin(page);
    roofline_of_products(page, m, PSG_F32);
    roofline_of_products(page, m, PSG_F64);
    put_ratios(page, m);
    html_figures_end(page);
    html_table_begin(page, "product|>OpenBLAS, ms|>kernel, ms|>OpenBLAS, GF/s|>kernel, GF/s|>flops a byte");
    for (size_t k = 0; k < m->products; k++) {
        const measured_product *p = &m->product[k];
        html_row(page, "%s|>%.3f|>%.3f|>%.1f|>%.1f|>%.3g", p->name, p->ms[ENGINE_OPENBLAS], p->ms[ENGINE_KERNEL],
                 p->gflops[ENGINE_OPENBLAS], p->gflops[ENGINE_KERNEL], p->intensity);
    }
    html_table_end(page);
}

/* ---- other systems ---- */

static void put_peer_plot(html_page *page, const peer_results *peers) {
    static const plot_caption caption = {
        "Beside other systems", "Their median times over libpsg's of the same run: to the right of 1 libpsg is faster. "
        "PyTorch without per-sample gradients is no peer but what one would like to reach.", NULL };
    static const int colour[PEERS] = { 5, 1, 2, 3, 4, 6, 0 };
    const size_t count = peers->count;
    const char **name = bench_alloc(count * sizeof *name);
    double *ratio = bench_alloc(PEERS * count * sizeof *ratio);
    plot_row_series series[PEERS];
    for (size_t p = 0; p < PEERS; p++) {
        for (size_t k = 0; k < count; k++) ratio[p * count + k] = peers->list[k].ms[p] / peers->list[k].libpsg_ms;
        series[p] = (plot_row_series){ .name = peer_names[p], .colour = colour[p], .value = ratio + p * count };
    }
    for (size_t k = 0; k < count; k++) name[k] = peers->list[k].name;
    const plot_rows rows = { "times libpsg's time", 1, name, count, series, PEERS };
    plot_rows_write(page->out, &caption, &rows);
    free(name);
    free(ratio);
}

static void put_peers(html_page *page, const peer_results *peers) {
    if (!peers) return;
    html_section(page, "peers", "Other systems");
    html_paragraph(page, "As bench/measure/peers.py timed them, on %s; of its malloc modes the faster one. A result that "
                   "disagreed with a naive loop is left out.", peers->cpu);
    html_figures_begin(page);
    put_peer_plot(page, peers);
    html_figures_end(page);
    html_table_begin(page, "case|>libpsg, ms|>plain|>EW|>func|>hooks|>ghost|>JAX|>loop");
    for (size_t k = 0; k < peers->count; k++) {
        char text[PEERS][24];
        const peer_case *c = &peers->list[k];
        for (int p = 0; p < PEERS; p++) put_number(text[p], "%.4g", c->ms[p]);
        html_row(page, "%s|>%.4g|>%s|>%s|>%s|>%s|>%s|>%s|>%s", c->name, c->libpsg_ms, text[0], text[1], text[2],
                 text[3], text[4], text[5], text[6]);
    }
    html_table_end(page);
}

int bench_page_write(const measured *m, const peer_results *peers, const char *path) {
    html_page page;
    static const char lead[] = "Per-sample gradients, norms, clipped sums and whole private steps: how fast they are "
                               "beside what the machine could do at best, a naive loop, and other systems.";
    if (html_begin(&page, "libpsg against its limits", lead, NULL)) return -1;
    put_machine(&page, m);
    put_rows(&page, m);
    put_products(&page, m);
    put_peers(&page, peers);
    return html_end(&page, path);
}
