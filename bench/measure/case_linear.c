/* linear through the tape: grad_sample (forward, input gradient, per-sample gradients) and clipped_sum (the whole
 * backward: input gradient and clipped sum, against input gradient and plain sum). */
#include <math.h>

#include "plan_passes.h"
#include "tape_case.h"

typedef struct linear_case {
    tape_case tape;                 /* the first member: c->state is both */
    int64_t T, in, out;
    psg_tensor y, dx;               /* the naive loop's outputs, of all samples */
    psg_tensor dw, db;              /* its gradients: of all samples for grad_sample, else of one at a time */
    void *dw_sum, *db_sum;
} linear_case;

static psg_var record(tape_case *t, psg_var input) {
    return psg_linear(t->tape, input, psg_use(t->tape, t->param[0]), psg_use(t->tape, t->param[1]));
}

/* ---- naive ---- */

static void naive_backward(bench_case *c, int64_t n, void *dw, void *db) {
    const naive_table *naive = naive_of(c->dtype);
    linear_case *s = c->state;
    size_t T = (size_t)s->T, in = (size_t)s->in, out = (size_t)s->out;
    const void *x = bench_at(&s->tape.input, n * s->T * s->in), *g = bench_at(&s->tape.cotangent, n * s->T * s->out);
    naive->linear_input(T, in, out, g, s->tape.value[0].data, bench_at(&s->dx, n * s->T * s->in));
    naive->linear_weight(T, in, out, g, x, dw);
    naive->linear_bias(T, out, g, db);
}

static void naive_grad_sample(bench_case *c, int64_t n) {
    linear_case *s = c->state;
    naive_of(c->dtype)->linear((size_t)s->T, (size_t)s->in, (size_t)s->out,
                               bench_at(&s->tape.input, n * s->T * s->in), s->tape.value[0].data,
                               s->tape.value[1].data, bench_at(&s->y, n * s->T * s->out));
    naive_backward(c, n, bench_at(&s->dw, n * s->in * s->out), bench_at(&s->db, n * s->out));
}

static void naive_clipped_sum(bench_case *c, int64_t n) {
    const naive_table *naive = naive_of(c->dtype);
    linear_case *s = c->state;
    size_t size = (size_t)(s->in * s->out), out = (size_t)s->out;
    void *dw = s->dw.data, *db = s->db.data;
    naive_backward(c, n, dw, db);
    double norm = sqrt(naive->dot(size, dw, dw) + naive->dot(out, db, db));
    naive->add(size, fmin(1.0, 1.0 / norm), dw, s->dw_sum);
    naive->add(out, fmin(1.0, 1.0 / norm), db, s->db_sum);
}

static void prepare_naive(bench_case *c, linear_case *s) {
    int64_t B = c->samples, slots = bench_asks(c, "grad_sample") ? B : 1;
    s->y = bench_zeros(c, 3, (int64_t[]){ B, s->T, s->out });
    s->dx = bench_zeros(c, 3, (int64_t[]){ B, s->T, s->in });
    s->dw = bench_zeros(c, 3, (int64_t[]){ slots, s->out, s->in });
    s->db = bench_zeros(c, 2, (int64_t[]){ slots, s->out });
    s->dw_sum = bench_zeros(c, 2, (int64_t[]){ s->out, s->in }).data;
    s->db_sum = bench_zeros(c, 1, &s->out).data;
}

/* ---- residuals: the largest over input, weight and bias gradient ---- */

static psg_status input_error(bench_case *c, const double *g, const double *w, int64_t checked, double *residual) {
    linear_case *s = c->state;
    psg_tensor grad;
    double *dx = bench_memory(c, (size_t)(s->T * s->in) * sizeof *dx);
    TRY(psg_input_grad(s->tape.tape, s->tape.input_var, &grad));
    for (int64_t n = 0; n < checked; n++) {
        naive_f64.linear_input((size_t)s->T, (size_t)s->in, (size_t)s->out, g + n * s->T * s->out, w, dx);
        *residual = fmax(*residual, bench_error(c, s->T * s->in, bench_at(&grad, n * s->T * s->in), dx));
    }
    return PSG_OK;
}

static psg_status grad_sample_residual(bench_case *c, double *residual) {
    linear_case *s = c->state;
    size_t T = (size_t)s->T, in = (size_t)s->in, out = (size_t)s->out;
    int64_t checked = bench_check_count(c, 4.0 * (double)(s->T * s->in * s->out));
    const double *x = bench_to_f64(c, &s->tape.input), *g = bench_to_f64(c, &s->tape.cotangent);
    double *dw = bench_memory(c, in * out * sizeof *dw), *db = bench_memory(c, out * sizeof *db);
    TRY(input_error(c, g, bench_to_f64(c, &s->tape.value[0]), checked, residual));
    for (int64_t n = 0; n < checked; n++) {
        naive_f64.linear_weight(T, in, out, g + n * s->T * s->out, x + n * s->T * s->in, dw);
        naive_f64.linear_bias(T, out, g + n * s->T * s->out, db);
        double dw_error = bench_error(c, s->in * s->out, bench_at(&s->tape.grad_sample[0], n * s->in * s->out), dw);
        double db_error = bench_error(c, s->out, bench_at(&s->tape.grad_sample[1], n * s->out), db);
        *residual = fmax(*residual, fmax(dw_error, db_error));
    }
    return PSG_OK;
}

/* The reference takes the factors that the library found; their exactness is the business of sqnorm. */
static psg_status clipped_sum_residual(bench_case *c, double *residual) {
    linear_case *s = c->state;
    size_t T = (size_t)s->T, in = (size_t)s->in, out = (size_t)s->out, size = in * out;
    const double *x = bench_to_f64(c, &s->tape.input), *g = bench_to_f64(c, &s->tape.cotangent);
    double *dw = bench_memory(c, size * sizeof *dw), *db = bench_memory(c, out * sizeof *db);
    double *dw_sum = bench_memory(c, size * sizeof *dw), *db_sum = bench_memory(c, out * sizeof *db);
    TRY(tape_forward(c));
    TRY(tape_clipped_sum(c));
    TRY(input_error(c, g, bench_to_f64(c, &s->tape.value[0]), 1, residual));
    for (int64_t n = 0; n < c->samples; n++) {
        naive_f64.linear_weight(T, in, out, g + n * s->T * s->out, x + n * s->T * s->in, dw);
        naive_f64.linear_bias(T, out, g + n * s->T * s->out, db);
        naive_f64.add(size, s->tape.factors[n], dw, dw_sum);
        naive_f64.add(out, s->tape.factors[n], db, db_sum);
    }
    *residual = fmax(*residual, bench_error(c, s->in * s->out, s->tape.sum[0].data, dw_sum));
    *residual = fmax(*residual, bench_error(c, s->out, s->tape.sum[1].data, db_sum));
    return PSG_OK;
}

/* ---- the case ---- */

static psg_status count(bench_case *c) {
    const linear_case *s = c->state;
    double B = (double)c->samples, T = (double)s->T, in = (double)s->in, out = (double)s->out;
    double size = (double)psg_dtype_size(c->dtype), flops = 2 * B * T * in * out;
    double x = size * B * T * in, y = size * B * T * out, w = size * in * out;
    double grads = bench_asks(c, "grad_sample") ? B * (w + size * out) : w + size * out;
    c->working_set = 2 * (x + y) + w + grads;
    bench_add_pass(c, flops, y + w, x);
    if (!bench_asks(c, "grad_sample")) return bench_add_plan(c, size);
    bench_add_pass(c, flops, x + w, y);
    bench_add_pass(c, flops, x + y, grads);
    return PSG_OK;
}

static psg_status prepare(bench_case *c) {
    const int64_t *dim = c->problem->dim;
    linear_case *s = bench_memory(c, sizeof *s);
    int rank = dim[1] == 1 ? 2 : 3;
    int64_t x[] = { dim[0], dim[1], dim[2] }, y[] = { dim[0], dim[1], dim[3] };
    if (rank == 2) x[1] = dim[2], y[1] = dim[3];
    *s = (linear_case){ .T = dim[1], .in = dim[2], .out = dim[3] };
    c->samples = dim[0];
    s->tape.record = record;
    s->tape.want_input_grad = 1;
    s->tape.param_count = 2;
    s->tape.input = bench_uniform(c, 1.0, rank, x);
    s->tape.cotangent = bench_uniform(c, 1.0, rank, y);
    s->tape.value[0] = bench_uniform(c, 1.0, 2, (int64_t[]){ s->out, s->in });
    s->tape.value[1] = bench_uniform(c, 1.0, 1, &s->out);
    prepare_naive(c, s);
    c->count = count;
    TRY(tape_case_start(c, &s->tape));
    if (bench_asks(c, "grad_sample")) {
        c->question = PSG_ASK_GRAD_SAMPLE;
        c->run = tape_pass;
        c->naive = naive_grad_sample;
        c->residual = grad_sample_residual;
        return tape_case_attach(c, &s->tape);
    }
    c->question = PSG_ASK_CLIPPED_SUM;
    c->before = tape_forward;
    c->run = tape_clipped_sum;
    c->before_plain = tape_forward_ordinary;
    c->plain = tape_plain_sum;
    c->naive = naive_clipped_sum;
    c->residual = clipped_sum_residual;
    return PSG_OK;
}

static const char *const questions[] = { "grad_sample", "clipped_sum", NULL };

const bench_op bench_linear = { "linear", "B,T,in,out", 4, questions, prepare, NULL };
