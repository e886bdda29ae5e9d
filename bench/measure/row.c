#include "row.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "resident.h"

#define MIN_RUNS 5
#define MAX_RUNS 4096
#define MIN_SECONDS 0.25        /* of a row, so that its median means something */
#define NAIVE_SECONDS 0.1
#define MAX_ATTEMPTS 3
#define LONG_SECONDS 5.0        /* of runs: 3 of them are enough then, and one attempt */
#define LONG_RUNS 3
#define STEADY 0.15

/* ---- limits ---- */

/* Memory may take reads and writes at once: each has its rate, and both together have that of copying. */
double bench_pass_ms(const bench_pass *pass, const probe_rates *rates) {
    double both = (pass->read + pass->written) / rates->copy_gbps;
    double moved = fmax(both, fmax(pass->read / rates->read_gbps, pass->written / rates->write_gbps));
    return 1e-6 * fmax(pass->flops / rates->fma_gflops, moved + pass->cleared / rates->clear_gbps);
}

static double limit_ms(const bench_case *c, const probe_rates *rates) {
    double sum = c->pass_count ? 0 : NAN;
    for (int k = 0; k < c->pass_count; k++) sum += bench_pass_ms(&c->pass[k], rates);
    return sum;
}

/* ---- times ---- */

typedef psg_status (*case_step)(bench_case *c);

static psg_status timed(bench_case *c, case_step before, case_step run, double *seconds) {
    if (before) TRY(before(c));
    double start = now_seconds();
    TRY(run(c));
    *seconds = now_seconds() - start;
    return PSG_OK;
}

static int suffices(size_t runs, double seconds) {
    if (runs >= LONG_RUNS && seconds >= LONG_SECONDS) return 1;
    return runs == MAX_RUNS || (runs >= MIN_RUNS && seconds >= MIN_SECONDS);
}

/* Runs the case, and its plain form in turn with it, until both the runs and the seconds suffice. */
static psg_status measure_runs(bench_case *c, double *runs, double *plain, double *ratio, size_t *count) {
    double total = 0;
    for (*count = 0; !suffices(*count, total); ++*count) {
        size_t k = *count;
        TRY(timed(c, c->before, c->run, &runs[k]));
        if (c->plain) TRY(timed(c, c->before_plain, c->plain, &plain[k]));
        ratio[k] = c->plain ? runs[k] / plain[k] : NAN;
        total += runs[k];
    }
    return PSG_OK;
}

/* From "question: gradient 0 (name): route (details), blocks, ...", the first line of the plan: the route,
 * its details. */
static psg_status find_route(bench_case *c, bench_row *row) {
    char text[512];
    strcpy(row->route, "-");
    if (c->gradient_count == 0) return PSG_OK;
    const psg_clip clip = { .max_grad_norm = 1, .max_batch_size = c->samples };
    TRY(psg_plan_text(c->context, c->question, c->gradient, c->gradient_count, &clip, text, sizeof text, NULL));
    const char *name = strstr(text, "gradient 0"), *route = name ? strstr(name, ": ") : NULL;
    route = route ? route + 2 : text;
    snprintf(row->route, sizeof row->route, "%.*s", (int)strcspn(route, ",\n"), route);
    return PSG_OK;
}

/* The first run touches every buffer and has the plan that is reported; a plain run leaves other gradients. */
static psg_status warm_up(bench_case *c, bench_row *row) {
    double seconds;
    TRY(timed(c, c->before, c->run, &seconds));
    TRY(find_route(c, row));
    if (c->count && c->pass_count == 0) TRY(c->count(c));
    return c->plain ? timed(c, c->before_plain, c->plain, &seconds) : PSG_OK;
}

static psg_status measure_times(bench_case *c, bench_row *row) {
    size_t count;
    double *seconds = bench_alloc(3 * MAX_RUNS * sizeof *seconds);
    psg_status status = measure_runs(c, seconds, seconds + MAX_RUNS, seconds + 2 * MAX_RUNS, &count);
    if (status == PSG_OK) {
        row->ms = 1e3 * bench_median(seconds, count);
        row->plain_ms = c->plain ? 1e3 * bench_median(seconds + MAX_RUNS, count) : NAN;
        row->ratio_plain = c->plain ? bench_median(seconds + 2 * MAX_RUNS, count) : NAN;
    }
    free(seconds);
    return status;
}

static double measure_naive(bench_case *c) {
    double start = now_seconds(), seconds = 0;
    int64_t done = 0;
    if (!c->naive) return NAN;
    while (done < c->samples && seconds < NAIVE_SECONDS) {
        c->naive(c, done++);
        if (done % 64 == 0 || c->samples < 1 << 16) seconds = now_seconds() - start;
    }
    return 1e3 * seconds * (double)c->samples / (double)done;
}

/* ---- one attempt ---- */

static void describe(const bench_case *c, bench_row *row) {
    double flops = 0, bytes = 0;
    for (int k = 0; k < c->pass_count; k++) {
        flops += c->pass[k].flops;
        bytes += c->pass[k].read + c->pass[k].written + c->pass[k].cleared;
    }
    row->percent = 100 * row->limit_ms / row->ms;
    row->gflops = 1e-6 * flops / row->ms;
    row->gbps = 1e-6 * bytes / row->ms;
    row->fallback_share = c->fallbacks < 0 ? NAN : (double)c->fallbacks / (double)c->samples;
    row->items_per_second = c->items > 0 ? 1e3 * c->items / row->ms : NAN;
    row->us_per_tensor = c->tensors > 0 ? 1e3 * row->ms / c->tensors : NAN;
}

static psg_status measure_case(bench_case *c, probe *p, bench_row *row) {
    row->rates = probe_measure(p, c->dtype, (size_t)c->working_set);
    TRY(measure_times(c, row));
    probe_rates after = probe_measure(p, c->dtype, (size_t)c->working_set);
    double limit_before = limit_ms(c, &row->rates), limit_after = limit_ms(c, &after);
    row->limit_ms = 0.5 * (limit_before + limit_after);
    row->steady = !(fabs(limit_after - limit_before) > STEADY * fmin(limit_before, limit_after));   /* NAN: steady */
    describe(c, row);
    return PSG_OK;
}

static psg_status compare(bench_case *c, bench_row *row) {
    row->naive_ms = measure_naive(c);
    row->residual = c->residual ? 0 : NAN;
    return c->residual ? c->residual(c, &row->residual) : PSG_OK;
}

/* ---- a row ---- */

void bench_problem_text(const bench_row *row, char text[BENCH_PROBLEM_TEXT]) {
    snprintf(text, BENCH_PROBLEM_TEXT, "%s", row->problem->line ? row->problem->line : "");
    for (int k = 0, at = 0; k < row->op->dim_count && !row->problem->line; k++) {
        at += snprintf(text + at, BENCH_PROBLEM_TEXT - (size_t)at, "%s%lld", k ? "," : "",
                       (long long)row->problem->dim[k]);
    }
}

psg_status bench_create_context(const bench_settings *settings, size_t budget, psg_context **context) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = settings->threads;
    options.memory_budget = settings->budget_given ? settings->budget : budget;
    TRY(psg_context_create(&options, context));
    return psg_context_force_route(*context, settings->route);
}

static psg_status measure(const bench_op *op, bench_case *c, probe *p, bench_row *row) {
    double start = now_seconds(), resident = resident_restart();
    TRY(op->prepare(c));
    TRY(warm_up(c, row));
    row->peak_rss_mib = resident_peak() - resident;
    for (int attempt = 0; attempt < MAX_ATTEMPTS && !row->steady; attempt++) {
        TRY(measure_case(c, p, row));
        if (now_seconds() - start > LONG_SECONDS) break;
    }
    return compare(c, row);
}

static psg_status end(bench_case *c, psg_status status, char *message, size_t message_size) {
    snprintf(message, message_size, "%s %s", psg_status_name(status),
             c->context ? psg_context_message(c->context) : "psg_context_create");
    bench_case_close(c);
    psg_context_destroy(c->context);
    return status;
}

psg_status bench_try(const bench_op *op, const bench_problem *problem, const bench_settings *settings, char *message,
                     size_t message_size) {
    bench_case c = { .op = op, .problem = problem, .dtype = settings->dtype };
    double seconds;
    psg_status status = bench_create_context(settings, problem->budget, &c.context);
    if (status == PSG_OK) status = op->prepare(&c);
    if (status == PSG_OK) status = timed(&c, c.before, c.run, &seconds);
    return end(&c, status, message, message_size);
}

psg_status bench_measure_row(const bench_op *op, const bench_problem *problem, const bench_settings *settings,
                             probe *p, bench_row *row, char *message, size_t message_size) {
    bench_case c = { .op = op, .problem = problem, .dtype = settings->dtype, .fallbacks = -1 };
    *row = (bench_row){ .op = op, .problem = problem, .dtype = settings->dtype,
                        .budget = settings->budget_given ? settings->budget : problem->budget };
    psg_status status = bench_create_context(settings, problem->budget, &c.context);
    if (status == PSG_OK) {
        row->threads = psg_context_threads(c.context);
        status = measure(op, &c, p, row);
    }
    return end(&c, status, message, message_size);
}
