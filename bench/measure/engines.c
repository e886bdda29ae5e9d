#include "engines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "product_case.h"
#include "tape_case.h"

#define MIN_PAIRS 5
#define MAX_PAIRS 1024
#define MIN_SECONDS 0.3
#define SETTLE 2e-4

typedef struct engine_kind {
    const char *name;
    int dim_count;
    double (*products)(const double *dim);          /* multiply-adds */
    double (*elements)(const double *dim);          /* of operands and result */
    psg_status (*prepare)(bench_case *c);
} engine_kind;

typedef struct engine_row {
    const engine_kind *kind;
    int64_t dim[BENCH_MAX_DIMS];
} engine_row;

/* ---- linear: x w^T over batched rows ---- */

static double linear_products(const double *dim) { return dim[0] * dim[1] * dim[2]; }
static double linear_elements(const double *dim) { return dim[0] * dim[1] + dim[0] * dim[2] + dim[1] * dim[2]; }

static psg_status prepare_linear(bench_case *c) {
    const int64_t *dim = c->problem->dim;
    return product_prepare(c, dim[0], dim[1], dim[2]);
}

/* ---- matmul: a product a sample, of two activations ---- */

typedef struct matmul_case {
    tape_case tape;                 /* the first member: c->state is both */
    psg_tensor right;
} matmul_case;

static double matmul_products(const double *dim) { return dim[0] * dim[1] * dim[2] * dim[3]; }
static double matmul_elements(const double *dim) { return dim[0] * linear_elements(dim + 1); }

static psg_var record_matmul(tape_case *t, psg_var input) {
    return psg_matmul(t->tape, input, psg_input(t->tape, &((matmul_case *)t)->right));
}

static psg_status prepare_matmul(bench_case *c) {
    const int64_t *dim = c->problem->dim;
    matmul_case *s = bench_memory(c, sizeof *s);
    c->samples = dim[0];
    c->run = tape_forward;
    s->tape.record = record_matmul;
    s->tape.input = bench_uniform(c, 1.0, 3, (int64_t[]){ dim[0], dim[1], dim[3] });
    s->right = bench_uniform(c, 1.0, 3, (int64_t[]){ dim[0], dim[3], dim[2] });
    return tape_case_start(c, &s->tape);
}

/* ---- one sample's: g^T a of its positions, or their Gram matrices ---- */

typedef struct sample_case {
    psg_tensor g, a, out;
    psg_block block;
    psg_gradient gradient;
    double *square;
} sample_case;

static double grad_sample_products(const double *dim) { return dim[0] * dim[1] * dim[2] * dim[3]; }
static double gram_products(const double *dim) { return dim[0] * dim[1] * (dim[1] + 1) / 2 * (dim[2] + dim[3]); }
static double grad_sample_elements(const double *dim) {
    return dim[0] * (dim[1] * (dim[2] + dim[3]) + dim[2] * dim[3]);
}
static double gram_elements(const double *dim) { return dim[0] * dim[1] * (dim[2] + dim[3]); }

static psg_status run_grad_sample(bench_case *c) {
    sample_case *s = c->state;
    return psg_grad_sample(c->context, &s->gradient, 1.0, PSG_OVERWRITE, &s->out);
}

static psg_status run_gram(bench_case *c) {
    sample_case *s = c->state;
    return psg_sqnorm(c->context, c->gradient, 1, s->square, NULL, NULL);
}

static sample_case *prepare_sample(bench_case *c) {
    const int64_t *dim = c->problem->dim;
    sample_case *s = bench_memory(c, sizeof *s);
    s->g = bench_uniform(c, 1.0, 3, (int64_t[]){ dim[0], dim[1], dim[2] });
    s->a = bench_uniform(c, 1.0, 3, (int64_t[]){ dim[0], dim[1], dim[3] });
    s->block = psg_factored(&s->g, &s->a);
    s->gradient = psg_gradient_of_blocks(&s->block, 1, 2, dim + 2);
    c->gradient[0] = &s->gradient;
    c->state = s;
    return s;
}

static psg_status prepare_grad_sample(bench_case *c) {
    const int64_t *dim = c->problem->dim;
    sample_case *s = prepare_sample(c);
    s->out = bench_zeros(c, 3, (int64_t[]){ dim[0], dim[2], dim[3] });
    c->run = run_grad_sample;
    return PSG_OK;
}

static psg_status prepare_gram(bench_case *c) {
    sample_case *s = prepare_sample(c);
    s->square = bench_memory(c, (size_t)c->problem->dim[0] * sizeof *s->square);
    c->run = run_gram;
    return psg_context_force_route(c->context, "gram");
}

/* ---- what is measured ---- */

static const engine_kind linear = { "linear", 3, linear_products, linear_elements, prepare_linear };
static const engine_kind matmul = { "matmul", 4, matmul_products, matmul_elements, prepare_matmul };
static const engine_kind grad_sample = { "grad_sample", 4, grad_sample_products, grad_sample_elements,
                                         prepare_grad_sample };
static const engine_kind gram = { "sqnorm by gram", 4, gram_products, gram_elements, prepare_gram };

static const engine_row rows[] = {
    { &linear, { 256, 784, 512 } },     { &linear, { 64, 1024, 1024 } },   { &linear, { 1024, 256, 256 } },
    { &linear, { 8192, 256, 256 } },    { &linear, { 4096, 768, 768 } },   { &linear, { 4096, 768, 3072 } },
    { &linear, { 4096, 3072, 768 } },   { &linear, { 1024, 768, 50257 } }, { &linear, { 8192, 128, 384 } },
    { &linear, { 512, 64, 64 } },       { &linear, { 32768, 27, 64 } },    { &matmul, { 1000, 16, 16, 16 } },
    { &grad_sample, { 64, 16, 256, 256 } },  { &grad_sample, { 64, 128, 256, 256 } },
    { &grad_sample, { 32, 128, 768, 768 } }, { &grad_sample, { 8, 512, 768, 768 } },
    { &grad_sample, { 16, 64, 512, 512 } },
    { &gram, { 32, 32, 768, 768 } },    { &gram, { 32, 128, 768, 768 } },  { &gram, { 16, 512, 768, 768 } },
    { &gram, { 32, 64, 4608, 512 } },   { &gram, { 32, 16, 4608, 512 } },
};

/* ---- pairs: OpenBLAS, then our kernel ---- */

typedef struct engine_times {
    double ms[ENGINES], percent[ENGINES];
    double ratio;                   /* OpenBLAS's time to the kernel's, median over pairs */
    double fma_gflops;
} engine_times;

static psg_status open_case(bench_case *c, unsigned threads, psg_gemm_engine engine,
                            psg_status (*prepare)(bench_case *c)) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = threads;
    options.gemm = engine;
    TRY(psg_context_create(&options, &c->context));
    TRY(prepare(c));
    return c->run(c);
}

/* The other engine's idle workers hold their processors a while: a short product is run until they sleep, and timed
 * with its operands near; a longer one does not notice them. */
static psg_status timed(bench_case *c, double before, double *seconds) {
    double start = now_seconds();
    while (before < SETTLE && now_seconds() - start < SETTLE) TRY(c->run(c));
    start = now_seconds();
    TRY(c->run(c));
    *seconds = now_seconds() - start;
    return PSG_OK;
}

static psg_status measure_pairs(bench_case *cases, double (*seconds)[MAX_PAIRS], size_t *pairs) {
    double total = 0;
    for (*pairs = 0; *pairs < MAX_PAIRS && (*pairs < MIN_PAIRS || total < MIN_SECONDS); ++*pairs) {
        for (int e = 0; e < ENGINES; e++) {
            double *took = &seconds[e][*pairs], before = *pairs ? took[-1] : 0;
            TRY(timed(&cases[e], before, took));
            total += *took;
        }
        seconds[ENGINES][*pairs] = seconds[ENGINE_OPENBLAS][*pairs] / seconds[ENGINE_KERNEL][*pairs];
    }
    return PSG_OK;
}

static psg_status time_cases(bench_case *cases, engine_times *times) {
    size_t pairs;
    double (*seconds)[MAX_PAIRS] = bench_alloc((ENGINES + 1) * sizeof *seconds);
    psg_status status = measure_pairs(cases, seconds, &pairs);
    for (int e = 0; e < ENGINES && status == PSG_OK; e++) times->ms[e] = 1e3 * bench_median(seconds[e], pairs);
    if (status == PSG_OK) times->ratio = bench_median(seconds[ENGINES], pairs);
    free(seconds);
    return status;
}

static psg_status measure(const engine_row *row, psg_dtype dtype, unsigned threads, probe *p, engine_times *times) {
    static const psg_gemm_engine engine[ENGINES] = { PSG_GEMM_OPENBLAS, PSG_GEMM_KERNEL };
    bench_problem problem = { .op = row->kind->name };
    bench_case cases[ENGINES];
    psg_status status = PSG_OK;
    double dim[BENCH_MAX_DIMS];
    memcpy(problem.dim, row->dim, sizeof problem.dim);
    for (int k = 0; k < BENCH_MAX_DIMS; k++) dim[k] = (double)row->dim[k];
    for (int e = 0; e < ENGINES; e++) {
        cases[e] = (bench_case){ .problem = &problem, .dtype = dtype };
        if (status == PSG_OK) status = open_case(&cases[e], threads, engine[e], row->kind->prepare);
    }
    times->fma_gflops = probe_fma_gflops(p, dtype);
    if (status == PSG_OK) status = time_cases(cases, times);
    for (int e = 0; e < ENGINES; e++) {
        times->percent[e] = 100 * 2e-6 * row->kind->products(dim) / times->ms[e] / times->fma_gflops;
        bench_case_close(&cases[e]);
        psg_context_destroy(cases[e].context);
    }
    return status;
}

/* ---- output ---- */

static void problem_text(const engine_row *row, char text[64]) {
    for (int k = 0, at = 0; k < row->kind->dim_count; k++) {
        at += snprintf(text + at, 64 - (size_t)at, "%s%lld", k ? "," : "", (long long)row->dim[k]);
    }
}

static void keep(measured *seen, const engine_row *row, psg_dtype dtype, const engine_times *t) {
    char problem[64];
    double dim[BENCH_MAX_DIMS];
    problem_text(row, problem);
    for (int k = 0; k < BENCH_MAX_DIMS; k++) dim[k] = (double)row->dim[k];
    const double flops = 2 * row->kind->products(dim), bytes = row->kind->elements(dim) * (double)psg_dtype_size(dtype);
    measured_product product = { .dtype = dtype, .intensity = flops / bytes, .ratio = t->ratio,
                                 .fma_gflops = t->fma_gflops };
    snprintf(product.name, sizeof product.name, "%s %s %s", row->kind->name, problem, psg_dtype_name(dtype));
    for (int e = 0; e < ENGINES; e++) {
        product.ms[e] = t->ms[e];
        product.gflops[e] = 1e-6 * flops / t->ms[e];
    }
    measured_add_product(seen, &product);
}

static void print(int json, const engine_row *row, psg_dtype dtype, const engine_times *t) {
    char problem[64];
    problem_text(row, problem);
    printf(json ? "{\"product\": \"%s\", \"problem\": [%s], \"dtype\": \"%s\", \"openblas_ms\": %.6g, "
                  "\"kernel_ms\": %.6g, \"openblas_percent\": %.4g, \"kernel_percent\": %.4g, \"ratio\": %.4g, "
                  "\"row_fma_gflops\": %.6g}\n"
                : "%-15s %-17s %-5s %11.3f %10.3f %9.0f%% %7.0f%% %7.2f %8.0f\n",
           row->kind->name, problem, psg_dtype_name(dtype), t->ms[ENGINE_OPENBLAS], t->ms[ENGINE_KERNEL],
           t->percent[ENGINE_OPENBLAS], t->percent[ENGINE_KERNEL], t->ratio, t->fma_gflops);
    fflush(stdout);
}

static int run_row(int json, const engine_row *row, psg_dtype dtype, unsigned threads, probe *p, measured *seen) {
    engine_times times;
    psg_status status = measure(row, dtype, threads, p, &times);
    if (status != PSG_OK) {
        fprintf(stderr, "%s: %s\n", row->kind->name, psg_status_name(status));
        return 1;
    }
    print(json, row, dtype, &times);
    keep(seen, row, dtype, &times);
    return 0;
}

int engines_run(int json, unsigned threads, probe *p, measured *seen) {
    int failed = 0;
    if (!json) {
        puts("linear m,n,k; matmul B,m,n,k; others B,T,p,d.  ratio: OpenBLAS's time to the kernel's, in pairs\n");
        printf("%-15s %-17s %-5s %11s %10s %10s %8s %7s %8s\n", "product", "problem", "dtype", "OpenBLAS ms",
               "kernel ms", "OpenBLAS", "kernel", "ratio", "fma GF/s");
    }
    for (psg_dtype dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
        for (const engine_row *row = rows; row < rows + sizeof rows / sizeof *rows; row++) {
            failed |= run_row(json, row, dtype, threads, p, seen);
        }
    }
    return failed;
}
