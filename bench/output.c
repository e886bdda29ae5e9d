#include "output.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The processor's name, as far as the system tells it. */
static void read_cpu(char *name, size_t size) {
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(name, size, "unknown");
    while (file && fgets(line, sizeof line, file)) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !value) continue;
        value[strcspn(value, "\n\"\\")] = 0;
        snprintf(name, size, "%s", value + 2);
        break;
    }
    if (file) fclose(file);
}

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

static void json_header(const char *cpu, const char *isa, unsigned threads, const probe_rates *rates) {
    printf("{\"libpsg\": \"%s\"", psg_version());
    json_string("cpu", cpu);
    json_string("isa", isa);
    json_number("threads", threads);
    json_number("gemm_gflops", rates->gemm_gflops);
    json_number("copy_gbps", rates->copy_gbps);
    json_number("write_gbps", rates->write_gbps);
    json_number("read_gbps", rates->read_gbps);
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
    json_number("naive_ms", row->naive_ms);
    json_number("residual", row->residual);
    json_number("gflops", row->gflops);
    json_number("gbps", row->gbps);
    json_number("plain_ms", row->plain_ms);
    json_number("ratio_plain", row->ratio_plain);
    json_number("fallback_share", row->fallback_share);
    json_number("items_per_second", row->items_per_second);
    json_number("budget", (double)row->budget);
    json_number("row_gemm_gflops", row->rates.gemm_gflops);
    json_number("row_copy_gbps", row->rates.copy_gbps);
    json_number("row_write_gbps", row->rates.write_gbps);
    printf(", \"steady\": %s}\n", row->steady ? "true" : "false");
}

/* ---- the table ---- */

static void table_header(const char *cpu, const char *isa, unsigned threads, const probe_rates *rates) {
    printf("libpsg %s on %s, %s, %u threads\n"
           "GEMM %.0f GF/s; in 256 MiB: copy %.1f, write %.1f, read %.1f GB/s\n\n", psg_version(), cpu, isa, threads,
           rates->gemm_gflops, rates->copy_gbps, rates->write_gbps, rates->read_gbps);
    printf("%-20s %-14s %-16s %-30s %3s %9s %7s %7s %9s %4s %9s %7s %8s  %s\n", "op", "question", "problem", "route",
           "thr", "ms", "GF/s", "GB/s", "limit ms", "%", "naive ms", "speedup", "residual", "notes");
}

static void table_notes(const bench_row *row) {
    if (isfinite(row->ratio_plain)) printf(" %.2f x plain (%.3f ms)", row->ratio_plain, row->plain_ms);
    if (row->fallback_share > 0) printf(" %.0f%% by tiles", 100 * row->fallback_share);
    if (isfinite(row->items_per_second)) printf(" %.0f M/s", 1e-6 * row->items_per_second);
    if (row->budget) printf(" budget %zu MiB", row->budget >> 20);
    if (!row->steady) printf(" UNSTEADY");
    putchar('\n');
}

static void table_row(const bench_row *row) {
    char problem[96], naive[32] = "-", speedup[32] = "-", residual[32] = "-";
    snprintf(problem, sizeof problem, "%s", row->problem->line ? row->problem->line : "");
    for (int k = 0, at = 0; k < row->op->dim_count; k++) {
        at += snprintf(problem + at, sizeof problem - (size_t)at, "%s%lld", k ? "," : "",
                       (long long)row->problem->dim[k]);
    }
    if (isfinite(row->naive_ms)) snprintf(naive, sizeof naive, "%.1f", row->naive_ms);
    if (isfinite(row->naive_ms)) snprintf(speedup, sizeof speedup, "%.1f", row->naive_ms / row->ms);
    if (isfinite(row->residual)) snprintf(residual, sizeof residual, "%.1e", row->residual);
    printf("%-20s %-14s %-16s %-30.30s %3u %9.3f %7.1f %7.1f %9.3f %4.0f %9s %7s %8s ", row->op->name,
           row->problem->question, problem, row->route, row->threads, row->ms, row->gflops, row->gbps, row->limit_ms,
           100 * row->limit_ms / row->ms, naive, speedup, residual);
    table_notes(row);
}

/* ---- either ---- */

void output_header(int json, const char *isa, unsigned threads, const probe_rates *rates) {
    char cpu[256];
    read_cpu(cpu, sizeof cpu);
    (json ? json_header : table_header)(cpu, isa, threads, rates);
    fflush(stdout);
}

void output_row(int json, const bench_row *row) {
    (json ? json_row : table_row)(row);
    fflush(stdout);
}

void output_footer(int json) {
    if (json) return;
    puts("\nlimit: the sum over the passes of max(flops / GEMM peak, bytes / bandwidth), both probed around the row,\n"
         "the bandwidth at the row's working set; %: of that limit. naive: plain C, one thread, one sample at a time.\n"
         "residual: normwise, against the same loops in f64. UNSTEADY: the probes before and after differ by > 15 %.");
}
