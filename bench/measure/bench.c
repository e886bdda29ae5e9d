/* psg-bench: times the library's answers against the machine's limits, naive loops and an f64 reference.  A limit is
 * the time of the passes' multiply-adds at their peak in registers, or of their bytes at the memory's rate. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_options.h"
#include "bench_page.h"
#include "engines.h"
#include "growth.h"
#include "machine.h"
#include "output.h"
#include "passes.h"
#include "problems.h"
#include "product_case.h"

#define HEADER_WORKING_SET ((size_t)256 << 20)

static int print_header(const bench_options *options, probe **p, measured *seen) {
    psg_context_options context_options = PSG_CONTEXT_OPTIONS_INIT;
    psg_context *context;
    context_options.threads = options->settings.threads;
    psg_status status = psg_context_create(&context_options, &context);
    if (status != PSG_OK) {
        fprintf(stderr, "no context: %s\n", psg_status_name(status));
        return -1;
    }
    output_machine machine = { .isa = psg_context_isa(context), .openblas_core = machine_openblas_core(),
                               .threads = psg_context_threads(context) };
    *p = probe_create(machine.threads, machine.isa);
    machine.rates = probe_measure(*p, options->settings.dtype, HEADER_WORKING_SET);
    machine.openblas_gflops = probe_openblas_gflops(*p, options->settings.dtype);
    status = product_kernel_gflops(machine.threads, options->settings.dtype, &machine.kernel_gflops);
    seen->machine = machine;
    if (status == PSG_OK) output_header(options->json, &machine);
    else fprintf(stderr, "no large product: %s\n", psg_status_name(status));
    psg_context_destroy(context);
    return status == PSG_OK ? 0 : -1;
}

/* A row that fails is reported and does not stop the others. */
static int run(const bench_options *options, const bench_problem *problem, probe *p, measured *seen) {
    bench_row row;
    char message[600];
    const bench_op *op = bench_find_op(problem->op, problem->question);
    psg_status status = bench_measure_row(op, problem, &options->settings, p, &row, message, sizeof message);
    if (status != PSG_OK) {
        fprintf(stderr, "%s %s: %s\n", problem->op, problem->question, message);
        return 1;
    }
    output_row(options->json, &row);
    measured_add_row(seen, &row);
    return 0;
}

static int run_given(const bench_options *options, probe *p, measured *seen) {
    const bench_problem problem = bench_given(options);
    return run(options, &problem, p, seen);
}

static int is_chosen(const bench_options *options, const bench_problem *problem) {
    return (!options->op || strcmp(options->op, problem->op) == 0) &&
           (!options->question || strcmp(options->question, problem->question) == 0);
}

static int run_list(const bench_options *options, probe *p, measured *seen) {
    int failed = 0, chosen = 0;
    for (size_t k = 0; k < DEFAULT_PROBLEM_COUNT; k++) {
        if (!is_chosen(options, &default_problems[k])) continue;
        chosen = 1;
        failed |= run(options, &default_problems[k], p, seen);
    }
    if (!chosen) fputs("the list has no such problem; name one with --op, --question and --problem\n", stderr);
    return failed || !chosen;
}

/* The private step of every model, or the one that is asked for. */
static int run_passes(const bench_options *options, probe *p) {
    const char *question = options->question ? options->question : "private";
    int failed = 0, chosen = 0, known = strcmp(question, "private") == 0 || strcmp(question, "plain") == 0;
    for (size_t k = 0; k < DEFAULT_PROBLEM_COUNT && known; k++) {
        bench_problem problem = default_problems[k];
        if (!strstr(problem.op, "_step") || strcmp(problem.question, question) != 0) continue;
        if (options->op && strcmp(options->op, problem.op) != 0) continue;
        if (options->has_problem) memcpy(problem.dim, options->dim, sizeof problem.dim);
        chosen = 1;
        failed |= passes_run(options->json, bench_find_op(problem.op, question), &problem, &options->settings, p);
    }
    if (!chosen) fputs("--passes: a step of a model, private or plain\n", stderr);
    return failed || !chosen;
}

static int run_rows(const bench_options *options, probe *p, measured *seen) {
    output_columns(options->json);
    int failed = options->has_problem || options->line ? run_given(options, p, seen) : run_list(options, p, seen);
    if (!failed) output_footer(options->json);
    return failed;
}

static int run_chosen(const bench_options *options, probe *p, measured *seen) {
    if (options->growth) return growth_run(options->json, &options->settings, p);
    if (options->passes) return run_passes(options, p);
    int failed = options->engines && !options->html ? 0 : run_rows(options, p, seen);
    if (options->engines) failed |= engines_run(options->json, options->settings.threads, p, seen);
    return failed;
}

/* Peers are read before anything is measured. */
static int run_and_show(const bench_options *options, const peer_results *peers) {
    measured seen = { .rows = 0 };
    probe *p;
    if (print_header(options, &p, &seen) != 0) return -1;
    int failed = run_chosen(options, p, &seen);
    if (options->html) failed |= bench_page_write(&seen, options->peers ? peers : NULL, options->html);
    probe_destroy(p);
    measured_free(&seen);
    return failed;
}

int main(int argc, char **argv) {
    bench_options options;
    peer_results peers = { .list = NULL };
    int read = bench_options_read(&options, argc, argv);
    if (read != 0) return read > 0 ? EXIT_SUCCESS : 2;
    int failed = options.peers ? peer_results_read(options.peers, &peers) : 0;
    if (!failed) failed = run_and_show(&options, &peers);
    peer_results_free(&peers);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
