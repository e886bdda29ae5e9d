/* Noise: N standard normal doubles, or N integers of the discrete Gaussian.  It is bound by what its stream costs:
 * numbers a second, without a limit. */
#include "case.h"

#include <math.h>
#include <string.h>

typedef struct noise_case {
    psg_generator *generator;
    uint64_t step;
    double *out;
    int64_t *grid;      /* the same memory */
    uint64_t naive_state;
    double naive_sum;
} noise_case;

static psg_status run(bench_case *c) {
    noise_case *s = c->state;
    return psg_gaussian(s->generator, s->step++, 0, 0, s->out, (size_t)c->samples);
}

static psg_status run_discrete(bench_case *c) {
    noise_case *s = c->state;
    return psg_discrete_gaussian(s->generator, s->step++, 0, 0, s->grid, (size_t)c->samples);
}

static void naive(bench_case *c, int64_t n) {
    noise_case *s = c->state;
    s->out[n] = bench_gaussian(&s->naive_state);
    s->naive_sum += s->out[n];
}

/* What one would write: a rounded deviate. */
static void naive_discrete(bench_case *c, int64_t n) {
    noise_case *s = c->state;
    s->grid[n] = llrint(0x1p36 * bench_gaussian(&s->naive_state));
    s->naive_sum += (double)s->grid[n];
}

static void destroy(bench_case *c) {
    noise_case *s = c->state;
    psg_generator_destroy(s->generator);
}

static psg_status prepare(bench_case *c) {
    static const unsigned char key[32] = { 0 };
    noise_case *s = bench_memory(c, sizeof *s);
    c->state = s;
    c->destroy = destroy;
    const int discrete = !strcmp(c->problem->question, "discrete_gaussian");
    c->run = discrete ? run_discrete : run;
    c->naive = discrete ? naive_discrete : naive;
    c->samples = c->problem->dim[0];
    c->items = (double)c->samples;
    s->out = bench_memory(c, (size_t)c->samples * sizeof *s->out);
    s->grid = (void *)s->out;
    c->working_set = 8.0 * (double)c->samples;
    return psg_generator_create_seeded(c->context, key, &s->generator);
}

static const char *const questions[] = { "gaussian", "discrete_gaussian", NULL };

const bench_op bench_noise = { "noise", "N", 1, questions, prepare, NULL };
