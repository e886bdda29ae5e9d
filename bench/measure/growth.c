#include "growth.h"

#include <math.h>
#include <stdio.h>

#include "plan_passes.h"

#define DOUBLINGS 3

/* ---- the case: N factored gradients of raw arrays ---- */

typedef struct stack_case {
    psg_block block[BENCH_MAX_PARAMS];
    psg_gradient gradient[BENCH_MAX_PARAMS];
    psg_tensor out[BENCH_MAX_PARAMS];           /* sums, or gradients of all samples */
} stack_case;

static psg_status run_clipped_sum(bench_case *c) {
    stack_case *s = c->state;
    const psg_clip clip = { .max_grad_norm = 1, .max_batch_size = c->samples };
    psg_clip_report report;
    return psg_clipped_sum(c->context, c->gradient, c->gradient_count, &clip, PSG_OVERWRITE, s->out, NULL, NULL,
                           &report);
}

static psg_status run_grad_sample(bench_case *c) {
    stack_case *s = c->state;
    for (size_t k = 0; k < c->gradient_count; k++) {
        TRY(psg_grad_sample(c->context, &s->gradient[k], 1.0, PSG_OVERWRITE, &s->out[k]));
    }
    return PSG_OK;
}

static psg_status count(bench_case *c) {
    const int64_t *dim = c->problem->dim;
    double B = (double)dim[1], T = (double)dim[2], w = (double)dim[3], size = (double)psg_dtype_size(c->dtype);
    double operands = size * B * T * 2 * w, grads = size * w * w * (c->run == run_grad_sample ? B : 1);
    c->working_set = (double)dim[0] * (operands + grads);
    if (c->run == run_clipped_sum) return bench_add_plan(c, size);
    for (int64_t k = 0; k < dim[0]; k++) bench_add_pass(c, 2 * B * T * w * w, operands, grads);
    return PSG_OK;
}

static psg_status prepare(bench_case *c) {
    const int64_t *dim = c->problem->dim, sum[] = { dim[3], dim[3] }, all[] = { dim[1], dim[3], dim[3] };
    int clips = bench_asks(c, "clipped_sum");
    stack_case *s = bench_memory(c, sizeof *s);
    c->state = s;
    c->samples = dim[1];
    c->gradient_count = (size_t)dim[0];
    c->question = clips ? PSG_ASK_CLIPPED_SUM : PSG_ASK_GRAD_SAMPLE;
    c->run = clips ? run_clipped_sum : run_grad_sample;
    c->count = count;
    for (int64_t k = 0; k < dim[0]; k++) {
        psg_tensor g = bench_uniform(c, 1.0, 3, dim + 1), a = bench_uniform(c, 1.0, 3, dim + 1);
        s->block[k] = psg_factored(&g, &a);
        s->gradient[k] = psg_gradient_of_blocks(&s->block[k], 1, 2, sum);
        c->gradient[k] = &s->gradient[k];
        s->out[k] = clips ? bench_zeros(c, 2, sum) : bench_zeros(c, 3, all);
    }
    return PSG_OK;
}

static const char *const questions[] = { "clipped_sum", "grad_sample", NULL };
static const char *const names[] = { "tensors", "B", "T", "width" };
static const bench_op stack = { "stack", "N,B,T,width", 4, questions, prepare, NULL };

/* ---- output ---- */

static void print(int json, const bench_row *row, const char *name, double time, double arithmetic) {
    const int64_t *d = row->problem->dim;
    char problem[64], exponents[2][32] = { "null", "null" };
    snprintf(problem, sizeof problem, "%lld, %lld, %lld, %lld", (long long)d[0], (long long)d[1], (long long)d[2],
             (long long)d[3]);
    if (isfinite(time)) snprintf(exponents[0], sizeof exponents[0], "%.2f", time);
    if (isfinite(time)) snprintf(exponents[1], sizeof exponents[1], "%.2f", arithmetic);
    printf(json ? "{\"growth\": \"%s\", \"question\": \"%s\", \"problem\": [%s], \"ms\": %.6g, \"limit_ms\": %.6g, "
                  "\"exponent\": %s, \"arithmetic\": %s, \"route\": \"%s\"}\n"
                : "%-8s %-12s %-18s %9.3f %9.3f %9s %11s  %s\n",
           name, row->problem->question, problem, row->ms, row->limit_ms, exponents[0], exponents[1], row->route);
    fflush(stdout);
}

/* ---- doublings of one dimension ---- */

static int run_doublings(int json, const bench_settings *settings, probe *p, const char *question, int dimension) {
    bench_problem problem = { .op = stack.name, .question = question, .dim = { 4, 16, 32, 128 } };
    double ms = NAN, limit = NAN;
    for (int k = 0; k <= DOUBLINGS; k++) {
        bench_row row;
        char message[600];
        if (bench_measure_row(&stack, &problem, settings, p, &row, message, sizeof message) != PSG_OK) {
            fprintf(stderr, "growth of %s: %s\n", names[dimension], message);
            return 1;
        }
        print(json, &row, names[dimension], log2(row.ms / ms), log2(row.limit_ms / limit));
        ms = row.ms;
        limit = row.limit_ms;
        problem.dim[dimension] *= 2;
    }
    return 0;
}

int growth_run(int json, const bench_settings *settings, probe *p) {
    int failed = 0;
    if (!json) {
        printf("%-8s %-12s %-18s %9s %9s %9s %11s  %s\n", "doubled", "question", "N, B, T, width", "ms", "limit ms",
               "exponent", "arithmetic", "route");
    }
    for (const char *const *question = questions; *question; question++) {
        for (int dimension = 0; dimension < stack.dim_count; dimension++) {
            failed |= run_doublings(json, settings, p, *question, dimension);
        }
    }
    return failed;
}
