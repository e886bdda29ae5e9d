#include "output.h"

#include <math.h>
#include <stdio.h>

#include "machine.h"

#define NOTED_MIB 1024      /* resident memory that a row's notes mention */

/* ---- JSON ---- */

/* JSON has no NaN. */
static void json_number(const char *key, double value) {
    if (isfinite(value)) printf(", \"%s\": %.6g", key, value);
    else printf(", \"%s\": null", key);
}

static void json_string(const char *key, const char *text) {
    printf(", \"%s\": \"", key);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') putchar('\\');
        if ((unsigned char)*text >= ' ') putchar(*text);
    }
    putchar('"');
}

static void json_header(const char *cpu, const output_machine *m) {
    printf("{\"libpsg\": \"%s\"", psg_version());
    json_string("cpu", cpu);
    json_string("isa", m->isa);
    json_string("openblas_core", m->openblas_core);
    json_number("threads", m->threads);
    json_number("fma_gflops", m->rates.fma_gflops);
    json_number("openblas_gflops", m->openblas_gflops);
    json_number("kernel_gflops", m->kernel_gflops);
    json_number("copy_gbps", m->rates.copy_gbps);
    json_number("write_gbps", m->rates.write_gbps);
    json_number("read_gbps", m->rates.read_gbps);
    json_number("clear_gbps", m->rates.clear_gbps);
    puts("}");
}

static void json_dimensions(const bench_row *row) {
    for (int k = 0; k < row->op->dim_count; k++) printf("%s%lld", k ? ", " : "[", (long long)row->problem->dim[k]);
    putchar(']');
}

static void json_row(const bench_row *row) {
    printf("{\"op\": \"%s\", \"problem\": ", row->op->name);
    if (row->problem->line) printf("\"%s\"", row->problem->line);
    else json_dimensions(row);
    printf(", \"question\": \"%s\"", row->problem->question);
    json_string("route", row->route);
    printf(", \"dtype\": \"%s\"", psg_dtype_name(row->dtype));
    json_number("threads", row->threads);
    json_number("ms", row->ms);
    json_number("limit_ms", row->limit_ms);
    json_number("percent", row->percent);
    json_number("naive_ms", row->naive_ms);
    json_number("residual", row->residual);
    json_number("gflops", row->gflops);
    json_number("gbps", row->gbps);
    json_number("plain_ms", row->plain_ms);
    json_number("ratio_plain", row->ratio_plain);
    json_number("fallback_share", row->fallback_share);
    json_number("items_per_second", row->items_per_second);
    json_number("us_per_tensor", row->us_per_tensor);
    json_number("peak_rss_mib", row->peak_rss_mib);
    json_number("budget", (double)row->budget);
    json_number("row_fma_gflops", row->rates.fma_gflops);
    json_number("row_copy_gbps", row->rates.copy_gbps);
    json_number("row_write_gbps", row->rates.write_gbps);
    json_number("row_read_gbps", row->rates.read_gbps);
    json_number("row_clear_gbps", row->rates.clear_gbps);
    printf(", \"steady\": %s}\n", row->steady ? "true" : "false");
}

/* ---- the table ---- */

static void table_header(const char *cpu, const output_machine *m) {
    printf("libpsg %s on %s, %s, %u threads\n"
           "multiply-adds %.0f GF/s; large products: OpenBLAS (%s) %.0f, libpsg's kernel %.0f GF/s\n"
           "in 256 MiB: copy %.1f, write %.1f, zeros %.1f, read %.1f GB/s\n\n", psg_version(), cpu, m->isa, m->threads,
           m->rates.fma_gflops, m->openblas_core, m->openblas_gflops, m->kernel_gflops, m->rates.copy_gbps,
           m->rates.write_gbps, m->rates.clear_gbps, m->rates.read_gbps);
}

static void table_columns(void) {
    printf("%-20s %-14s %-16s %-30s %3s %9s %7s %7s %9s %4s %9s %7s %8s  %s\n", "op", "question", "problem", "route",
           "thr", "ms", "GF/s", "GB/s", "limit ms", "%", "naive ms", "speedup", "residual", "notes");
}

static void table_notes(const bench_row *row) {
    if (isfinite(row->ratio_plain)) printf(" %.2f x plain (%.3f ms)", row->ratio_plain, row->plain_ms);
    if (row->fallback_share > 0) printf(" %.0f%% by tiles", 100 * row->fallback_share);
    if (isfinite(row->items_per_second)) printf(" %.0f M/s", 1e-6 * row->items_per_second);
    if (isfinite(row->us_per_tensor)) printf(" %.2f us a tensor", row->us_per_tensor);
    if (row->peak_rss_mib >= NOTED_MIB) printf(" %.0f MiB", row->peak_rss_mib);
    if (row->budget) printf(" budget %zu MiB", row->budget >> 20);
    if (!row->steady) printf(" UNSTEADY");
    putchar('\n');
}

static void table_row(const bench_row *row) {
    char problem[BENCH_PROBLEM_TEXT];
    char limit[32] = "-", percent[32] = "-", naive[32] = "-", speedup[32] = "-", residual[32] = "-";
    bench_problem_text(row, problem);
    if (isfinite(row->limit_ms)) snprintf(limit, sizeof limit, "%.3f", row->limit_ms);
    if (isfinite(row->percent)) snprintf(percent, sizeof percent, "%.0f", row->percent);
    if (isfinite(row->naive_ms)) snprintf(naive, sizeof naive, "%.1f", row->naive_ms);
    if (isfinite(row->naive_ms)) snprintf(speedup, sizeof speedup, "%.1f", row->naive_ms / row->ms);
    if (isfinite(row->residual)) snprintf(residual, sizeof residual, "%.1e", row->residual);
    printf("%-20s %-14s %-16s %-30.30s %3u %9.3f %7.1f %7.1f %9s %4s %9s %7s %8s ", row->op->name,
           row->problem->question, problem, row->route, row->threads, row->ms, row->gflops, row->gbps, limit, percent,
           naive, speedup, residual);
    table_notes(row);
}

/* ---- either ---- */

void output_header(int json, const output_machine *machine) {
    char cpu[256];
    machine_processor(cpu, sizeof cpu);
    (json ? json_header : table_header)(cpu, machine);
    fflush(stdout);
}

void output_columns(int json) {
    if (!json) table_columns();
}

void output_row(int json, const bench_row *row) {
    (json ? json_row : table_row)(row);
    fflush(stdout);
}

void output_footer(int json) {
    if (json) return;
    puts("\nlimit: the sum over the passes of max(flops / multiply-adds in registers, bytes / bandwidth), both probed\n"
         "around the row, the bandwidth at the row's working set; %: of that limit. Passes are those of the plan in\n"
         "use. naive: plain C, one thread, one sample at a time. residual: normwise, against the same loops in f64.\n"
         "UNSTEADY: the probes before and after differ by > 15 %.");
}
