/* layer_norm and group_norm through the tape: forward, input gradient, and per-sample scale and shift gradients
 * (grad_sample) or their norms (sqnorm). */
#include <math.h>

#include "tape_case.h"

#define EPS 1e-5

typedef struct norm_case {
    tape_case tape;                     /* the first member: c->state is both */
    naive_norm shape;                   /* of one sample */
    int64_t elements, groups;           /* of one sample; group_norm */
    psg_tensor y, dx, dscale, dshift;   /* the naive loop's, of all samples */
    double naive_sqnorm;
} norm_case;

static psg_var record_layer_norm(tape_case *t, psg_var input) {
    return psg_layer_norm(t->tape, input, 1, t->value[0].shape, psg_use(t->tape, t->param[0]),
                          psg_use(t->tape, t->param[1]), EPS);
}

static psg_var record_group_norm(tape_case *t, psg_var input) {
    const norm_case *s = (const norm_case *)t;
    return psg_group_norm(t->tape, input, s->groups, psg_use(t->tape, t->param[0]), psg_use(t->tape, t->param[1]),
                          EPS);
}

static void naive_grad_sample(bench_case *c, int64_t n) {
    const naive_table *naive = naive_of(c->dtype);
    norm_case *s = c->state;
    int64_t first = n * s->elements, count = (int64_t)s->shape.count;
    const void *x = bench_at(&s->tape.input, first), *scale = s->tape.value[0].data;
    naive->norm(&s->shape, x, scale, s->tape.value[1].data, bench_at(&s->y, first));
    naive->norm_backward(&s->shape, x, scale, bench_at(&s->tape.cotangent, first), bench_at(&s->dx, first),
                         bench_at(&s->dscale, n * count), bench_at(&s->dshift, n * count));
}

static void naive_sqnorm(bench_case *c, int64_t n) {
    const naive_table *naive = naive_of(c->dtype);
    norm_case *s = c->state;
    size_t count = s->shape.count;
    const void *dscale = bench_at(&s->dscale, n * (int64_t)count), *dshift = bench_at(&s->dshift, n * (int64_t)count);
    naive_grad_sample(c, n);
    s->naive_sqnorm += naive->dot(count, dscale, dscale) + naive->dot(count, dshift, dshift);
}

/* The f64 answer for one sample. */
typedef struct reference { const double *x, *scale, *shift, *g; double *y, *dx, *dscale, *dshift; } reference;

static reference reference_start(bench_case *c) {
    norm_case *s = c->state;
    size_t elements = (size_t)s->elements * sizeof(double), count = s->shape.count * sizeof(double);
    return (reference){ bench_to_f64(c, &s->tape.input), bench_to_f64(c, &s->tape.value[0]),
                        bench_to_f64(c, &s->tape.value[1]), bench_to_f64(c, &s->tape.cotangent),
                        bench_memory(c, elements), bench_memory(c, elements), bench_memory(c, count),
                        bench_memory(c, count) };
}

static void reference_sample(const norm_case *s, const reference *r, int64_t n) {
    const double *x = r->x + n * s->elements;
    naive_f64.norm(&s->shape, x, r->scale, r->shift, r->y);
    naive_f64.norm_backward(&s->shape, x, r->scale, r->g + n * s->elements, r->dx, r->dscale, r->dshift);
}

/* The largest over output, input gradient and both parameter gradients. */
static psg_status grad_sample_residual(bench_case *c, double *residual) {
    norm_case *s = c->state;
    int64_t count = (int64_t)s->shape.count;
    reference r = reference_start(c);
    psg_tensor y, dx;
    TRY(psg_value(s->tape.tape, s->tape.output, &y));
    TRY(psg_input_grad(s->tape.tape, s->tape.input_var, &dx));
    for (int64_t n = 0; n < bench_check_count(c, 30.0 * (double)s->elements); n++) {
        reference_sample(s, &r, n);
        double value = fmax(bench_error(c, s->elements, bench_at(&y, n * s->elements), r.y),
                            bench_error(c, s->elements, bench_at(&dx, n * s->elements), r.dx));
        double params = fmax(bench_error(c, count, bench_at(&s->tape.grad_sample[0], n * count), r.dscale),
                             bench_error(c, count, bench_at(&s->tape.grad_sample[1], n * count), r.dshift));
        *residual = fmax(*residual, fmax(value, params));
    }
    return PSG_OK;
}

static psg_status sqnorm_residual(bench_case *c, double *residual) {
    norm_case *s = c->state;
    size_t count = s->shape.count;
    reference r = reference_start(c);
    for (int64_t n = 0; n < bench_check_count(c, 30.0 * (double)s->elements); n++) {
        reference_sample(s, &r, n);
        double square = naive_f64.dot(count, r.dscale, r.dscale) + naive_f64.dot(count, r.dshift, r.dshift);
        *residual = fmax(*residual, fabs(s->tape.sqnorm[n] - square) / square);
    }
    return PSG_OK;
}

/* Forward reads x and writes y; backward reads x and the output gradient and writes the rest. */
static void add_passes(bench_case *c, const norm_case *s) {
    double elements = (double)(c->samples * s->elements), size = (double)psg_dtype_size(c->dtype);
    double params = 2.0 * (double)c->samples * (double)s->shape.count;
    double answer = bench_asks(c, "sqnorm") ? 8.0 * (double)c->samples : size * params;
    c->working_set = 4 * size * elements + answer;
    bench_add_pass(c, 8 * elements, size * elements, size * elements);
    bench_add_pass(c, 14 * elements, 2 * size * elements, size * elements + answer);
}

static psg_status prepare(bench_case *c, norm_case *s, int rank, const int64_t *shape) {
    int64_t count = (int64_t)s->shape.count;
    c->samples = shape[0];
    s->shape.eps = EPS;
    s->tape.want_input_grad = 1;
    s->tape.param_count = 2;
    s->tape.input = bench_uniform(c, 1.0, rank, shape);
    s->tape.cotangent = bench_uniform(c, 1.0, rank, shape);
    s->tape.value[0] = bench_uniform(c, 1.0, 1, &count);
    s->tape.value[1] = bench_uniform(c, 1.0, 1, &count);
    s->y = bench_zeros(c, rank, shape);
    s->dx = bench_zeros(c, rank, shape);
    s->dscale = bench_zeros(c, 2, (int64_t[]){ c->samples, count });
    s->dshift = bench_zeros(c, 2, (int64_t[]){ c->samples, count });
    add_passes(c, s);
    TRY(tape_case_start(c, &s->tape));
    if (bench_asks(c, "grad_sample")) {
        c->question = PSG_ASK_GRAD_SAMPLE;
        c->run = tape_pass;
        c->naive = naive_grad_sample;
        c->residual = grad_sample_residual;
        return tape_case_attach(c, &s->tape);
    }
    c->question = PSG_ASK_SQNORM;
    c->run = tape_sqnorm;
    c->naive = naive_sqnorm;
    c->residual = sqnorm_residual;
    return PSG_OK;
}

static psg_status prepare_layer_norm(bench_case *c) {
    const int64_t *dim = c->problem->dim;
    norm_case *s = bench_memory(c, sizeof *s);
    int64_t shape[] = { dim[0], dim[1], dim[2] };
    if (dim[1] == 1) shape[1] = dim[2];
    s->elements = dim[1] * dim[2];
    s->shape = (naive_norm){ .rows = (size_t)dim[1], .spans = 1, .length = (size_t)dim[2], .count = (size_t)dim[2],
                             .per_element = 1 };
    s->tape.record = record_layer_norm;
    return prepare(c, s, dim[1] == 1 ? 2 : 3, shape);
}

static psg_status prepare_group_norm(bench_case *c) {
    const int64_t *dim = c->problem->dim;
    norm_case *s = bench_memory(c, sizeof *s);
    s->elements = dim[1] * dim[2];
    s->groups = dim[3];
    s->shape = (naive_norm){ .rows = (size_t)dim[3], .spans = (size_t)(dim[1] / dim[3]), .length = (size_t)dim[2],
                             .count = (size_t)dim[1] };
    s->tape.record = record_group_norm;
    return prepare(c, s, 3, dim);
}

static const char *const questions[] = { "grad_sample", "sqnorm", NULL };

const bench_op bench_layer_norm = { "layer_norm", "B,T,D", 3, questions, prepare_layer_norm, NULL };
const bench_op bench_group_norm = { "group_norm", "B,C,HW,G", 4, questions, prepare_group_norm, NULL };
