#include "measured.h"

#include <stdio.h>
#include <stdlib.h>

/* The array, moved to where count + 1 elements have room. */
static void *grown(void *array, size_t count, size_t size) {
    void *more = realloc(array, (count + 1) * size);
    if (!more) bench_die("no memory for what was measured");
    return more;
}

void measured_add_row(measured *m, const bench_row *row) {
    if (!m) return;
    m->row = grown(m->row, m->rows, sizeof *m->row);
    measured_row *to = &m->row[m->rows++];
    char problem[BENCH_PROBLEM_TEXT];
    bench_problem_text(row, problem);
    *to = (measured_row){ .op = row->op->name, .intensity = row->gflops / row->gbps, .gflops = row->gflops,
                          .gbps = row->gbps, .ms = row->ms, .limit_ms = row->limit_ms, .percent = row->percent,
                          .steady = row->steady,
                          .naive_ms = row->naive_ms, .copy_gbps = row->rates.copy_gbps };
    char granted[32] = "";
    if (row->budget) snprintf(granted, sizeof granted, " +%zu MiB", row->budget >> 20);
    snprintf(to->name, sizeof to->name, "%s %s %.60s%s", row->op->name, row->problem->question, problem, granted);
}

void measured_add_product(measured *m, const measured_product *product) {
    if (!m) return;
    m->product = grown(m->product, m->products, sizeof *m->product);
    m->product[m->products++] = *product;
}

void measured_free(measured *m) {
    free(m->row);
    free(m->product);
}
