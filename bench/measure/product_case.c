#include "product_case.h"

#include <math.h>

#include "tape_case.h"

#define RUNS 8

static psg_var record(tape_case *t, psg_var input) {
    return psg_linear(t->tape, input, psg_use(t->tape, t->param[0]), psg_none());
}

psg_status product_prepare(bench_case *c, int64_t m, int64_t n, int64_t k) {
    tape_case *t = bench_memory(c, sizeof *t);
    c->samples = m;
    c->run = tape_forward;
    t->record = record;
    t->param_count = 1;
    t->input = bench_uniform(c, 1.0, 2, (int64_t[]){ m, k });
    t->value[0] = bench_uniform(c, 1.0, 2, (int64_t[]){ n, k });
    return tape_case_start(c, t);
}

static psg_status best_of_runs(bench_case *c, double *seconds) {
    *seconds = INFINITY;
    TRY(product_prepare(c, 4096, 768, 768));
    for (int run = 0; run < RUNS; run++) {
        double start = now_seconds();
        TRY(c->run(c));
        *seconds = fmin(*seconds, now_seconds() - start);
    }
    return PSG_OK;
}

psg_status product_kernel_gflops(unsigned threads, psg_dtype dtype, double *gflops) {
    static const bench_problem problem = { .op = "product" };
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    bench_case c = { .problem = &problem, .dtype = dtype };
    double seconds = NAN;
    options.threads = threads;
    options.gemm = PSG_GEMM_KERNEL;
    psg_status status = psg_context_create(&options, &c.context);
    if (status == PSG_OK) status = best_of_runs(&c, &seconds);
    *gflops = 1e-9 * 2.0 * 4096 * 768 * 768 / seconds;
    bench_case_close(&c);
    psg_context_destroy(c.context);
    return status;
}
