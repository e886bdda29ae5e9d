#include "passes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "case_step.h"
#include "op_cost.h"

#define MAX_LINES 256
#define MIN_STEPS 5
#define MIN_SECONDS 2.0
#define WORKING_SET ((size_t)64 << 20)

typedef struct pass_line {
    char name[64];
    int calls;
    bench_pass pass;                /* of a step, as is what follows */
    double limit, seconds;          /* limit: the sum of those of its passes */
} pass_line;

typedef struct passes {
    pass_line line[MAX_LINES];
    int count, steps;
    probe_rates rates;
    double whole;                   /* seconds of all steps */
} passes;

/* ---- lines ---- */

static pass_line *line_named(passes *all, const char *name) {
    int k = 0;
    while (k < all->count && strcmp(all->line[k].name, name) != 0) k++;
    if (k == MAX_LINES) bench_die("more than %d kinds of passes", MAX_LINES);
    if (k == all->count) snprintf(all->line[all->count++].name, sizeof all->line->name, "%s", name);
    return &all->line[k];
}

static void add(passes *all, const char *name, const bench_pass *pass, double seconds) {
    pass_line *line = line_named(all, name);
    line->calls++;
    line->seconds += seconds;
    line->limit += bench_pass_ms(pass, &all->rates);
    line->pass.flops += pass->flops;
    line->pass.read += pass->read;
    line->pass.written += pass->written + pass->cleared;
}

static void add_call(void *user, const psg_call *call, int backward, double seconds) {
    passes *all = user;
    char name[64];
    int at = snprintf(name, sizeof name, "%s %s ", backward ? "backward" : "forward", call->op->name);
    for (int d = 0; d < call->output.rank && at < (int)sizeof name; d++) {
        at += snprintf(name + at, sizeof name - (size_t)at, "%s%lld", d ? "x" : "", (long long)call->output.shape[d]);
    }
    bench_pass pass = op_cost(call, backward);
    add(all, name, &pass, seconds);
}

/* ---- steps ---- */

/* Passes [first, last) that the case counts, as one line. */
static void add_rest(bench_case *c, passes *all, const char *name, int first, int last, double seconds) {
    bench_pass none = { 0 };
    add(all, name, &none, seconds);
    pass_line *line = line_named(all, name);
    for (int k = first; k < last; k++) {
        line->limit += bench_pass_ms(&c->pass[k], &all->rates);
        line->pass.flops += c->pass[k].flops;
        line->pass.read += c->pass[k].read;
        line->pass.written += c->pass[k].written + c->pass[k].cleared;
    }
}

static psg_status timed(bench_case *c, psg_status (*part)(bench_case *), double *seconds) {
    double start = now_seconds();
    TRY(part(c));
    *seconds = now_seconds() - start;
    return PSG_OK;
}

static psg_status run_step(bench_case *c, passes *all) {
    int plain = bench_asks(c, "plain");
    double start = now_seconds(), answer, update;
    TRY(plain ? tape_forward_ordinary(c) : tape_forward(c));
    TRY(tape_backward(c));
    TRY(timed(c, plain ? step_case_plain_sum : step_case_accumulate, &answer));
    TRY(timed(c, plain ? step_case_update : step_case_release, &update));
    all->whole += now_seconds() - start;
    c->pass_count = 0;
    TRY(step_case_count_answers(c));
    int answers = c->pass_count;
    step_case_count_update(c);
    add_rest(c, all, plain ? "sums" : "norms and clipped sums", 0, answers, answer);
    add_rest(c, all, plain ? "optimizer" : "noise, release and optimizer", answers, c->pass_count, update);
    all->steps++;
    return PSG_OK;
}

static psg_status measure(const bench_op *op, bench_case *c, probe *p, passes *all) {
    TRY(op->prepare(c));
    step_case *s = c->state;
    all->rates = probe_measure(p, c->dtype, WORKING_SET);
    TRY(psg_tape_observe(s->tape.tape, add_call, all));
    TRY(run_step(c, all));                              /* touches every buffer */
    probe_rates rates = all->rates;
    *all = (passes){ .rates = rates };
    while (all->steps < MIN_STEPS || all->whole < MIN_SECONDS) TRY(run_step(c, all));
    return PSG_OK;
}

/* ---- output ---- */

static void print_line(int json, const passes *all, const char *name, double calls, const bench_pass *pass,
                       double seconds, double limit) {
    double per = 1.0 / all->steps, ms = 1e3 * seconds * per, limit_ms = limit * per;
    printf(json ? "{\"pass\": \"%s\", \"calls\": %g, \"mflop\": %.6g, \"mbytes\": %.6g, \"ms\": %.6g, "
                  "\"limit_ms\": %.6g, \"percent\": %.4g, \"share\": %.4g}\n"
                : "%-52s %5g %9.1f %8.2f %9.3f %9.3f %4.0f%% %5.1f%%\n",
           name, calls * per, 1e-6 * pass->flops * per, 1e-6 * (pass->read + pass->written) * per, ms, limit_ms,
           100 * limit_ms / ms, 100 * seconds / all->whole);
}

static void print(int json, const bench_problem *problem, const passes *all) {
    bench_pass sum = { 0 }, none = { 0 };
    double seconds = 0, limit = 0;
    const probe_rates *rates = &all->rates;
    if (json) printf("{\"step\": \"%s\", \"question\": \"%s\", \"samples\": %lld, \"fma_gflops\": %.6g, "
                     "\"copy_gbps\": %.6g, \"write_gbps\": %.6g, \"read_gbps\": %.6g}\n", problem->op,
                     problem->question, (long long)problem->dim[0], rates->fma_gflops, rates->copy_gbps,
                     rates->write_gbps, rates->read_gbps);
    else printf("%s, %s, %lld samples; %.0f GF/s, in 64 MiB: copy %.1f, write %.1f, read %.1f GB/s\n"
                "%-52s %5s %9s %8s %9s %9s %5s %6s\n", problem->op, problem->question,
                (long long)problem->dim[0], rates->fma_gflops, rates->copy_gbps, rates->write_gbps, rates->read_gbps,
                "pass", "calls", "Mflop", "MB", "ms", "limit ms", "", "share");
    for (int k = 0; k < all->count; k++) {
        const pass_line *l = &all->line[k];
        print_line(json, all, l->name, l->calls, &l->pass, l->seconds, l->limit);
        seconds += l->seconds;
        limit += l->limit;
        sum.flops += l->pass.flops;
        sum.read += l->pass.read;
        sum.written += l->pass.written;
    }
    print_line(json, all, "between the passes", 0, &none, all->whole - seconds, 0);
    print_line(json, all, "whole step", all->steps, &sum, all->whole, limit);
    if (!json) putchar('\n');
    fflush(stdout);
}

int passes_run(int json, const bench_op *op, const bench_problem *problem, const bench_settings *settings, probe *p) {
    bench_case c = { .op = op, .problem = problem, .dtype = settings->dtype, .fallbacks = -1 };
    passes *all = bench_alloc(sizeof *all);
    psg_status status = bench_create_context(settings, problem->budget, &c.context);
    if (status == PSG_OK) status = measure(op, &c, p, all);
    if (status == PSG_OK) print(json, problem, all);
    else fprintf(stderr, "%s %s: %s %s\n", problem->op, problem->question, psg_status_name(status),
                 c.context ? psg_context_message(c.context) : "psg_context_create");
    bench_case_close(&c);
    psg_context_destroy(c.context);
    free(all);
    return status != PSG_OK;
}
