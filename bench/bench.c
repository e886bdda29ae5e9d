/* psg-bench: times the library's answers against the machine's limits, naive loops and an f64 reference.  A limit is
 * the time of the passes' multiply-adds at their peak in registers, or of their bytes at the memory's rate. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_options.h"
#include "engines.h"
#include "growth.h"
#include "machine.h"
#include "output.h"
#include "passes.h"
#include "problems.h"
#include "product_case.h"

#define HEADER_WORKING_SET ((size_t)256 << 20)

static int print_header(const bench_options *options, probe **p) {
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
    if (status == PSG_OK) output_header(options->json, &machine);
    else fprintf(stderr, "no large product: %s\n", psg_status_name(status));
    psg_context_destroy(context);
    return status == PSG_OK ? 0 : -1;
}

/* A row that fails is reported and does not stop the others. */
static int run(const bench_options *options, const bench_problem *problem, probe *p) {
    bench_row row;
    char message[600];
    const bench_op *op = bench_find_op(problem->op, problem->question);
    psg_status status = bench_measure_row(op, problem, &options->settings, p, &row, message, sizeof message);
    if (status == PSG_OK) output_row(options->json, &row);
    else fprintf(stderr, "%s %s: %s\n", problem->op, problem->question, message);
    return status != PSG_OK;
}

static int run_given(const bench_options *options, probe *p) {
    const bench_problem problem = bench_given(options);
    return run(options, &problem, p);
}

static int is_chosen(const bench_options *options, const bench_problem *problem) {
    return (!options->op || strcmp(options->op, problem->op) == 0) &&
           (!options->question || strcmp(options->question, problem->question) == 0);
}

static int run_list(const bench_options *options, probe *p) {
    int failed = 0, chosen = 0;
    for (size_t k = 0; k < DEFAULT_PROBLEM_COUNT; k++) {
        if (!is_chosen(options, &default_problems[k])) continue;
        chosen = 1;
        failed |= run(options, &default_problems[k], p);
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

static int run_chosen(const bench_options *options, probe *p) {
    if (options->engines) return engines_run(options->json, options->settings.threads, p);
    if (options->growth) return growth_run(options->json, &options->settings, p);
    if (options->passes) return run_passes(options, p);
    output_columns(options->json);
    int failed = options->has_problem || options->line ? run_given(options, p) : run_list(options, p);
    if (!failed) output_footer(options->json);
    return failed;
}

int main(int argc, char **argv) {
    bench_options options;
    probe *p;
    int read = bench_options_read(&options, argc, argv);
    if (read != 0) return read > 0 ? EXIT_SUCCESS : 2;
    if (print_header(&options, &p) != 0) return EXIT_FAILURE;
    int failed = run_chosen(&options, p);
    probe_destroy(p);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
