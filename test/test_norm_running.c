/* instance_norm and batch_norm with running statistics: normalization by them, their updates, and batch_norm's training
 * in an ordinary pass. */
#include "norm_fixture.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct running_case {
    bool batch_norm, statistics;   /* statistics: of the input; else the running ones */
    psg_dtype dtype;
    int rank;
    int64_t shape[4];
    norm_affine mode[3];
    bool batch_second, ordinary, input_grad;
    double momentum, eps;
    double scale;                  /* of the input, its running statistics, its output gradient; 0: 1 */
    int layout;
} running_case;

typedef struct dims {
    int64_t n, c, s;
    bool second;
} dims;

static dims dims_of(const running_case *c) {
    dims d = { .s = 1, .second = c->batch_second && c->rank >= 3 };
    d.n = c->shape[d.second];
    d.c = c->shape[1 - d.second];
    for (int k = 2; k < c->rank; k++) d.s *= c->shape[k];
    return d;
}

static int64_t at(const dims *d, int64_t n, int64_t c, int64_t s) {
    return ((d->second ? c * d->n + n : n * d->c + c) * d->s) + s;
}

/* ---- operands ---- */

typedef struct operands {
    test_array x, g, affine[3], mean, variance;
} operands;

static void times(const psg_tensor *t, double factor) {
    for (int64_t k = 0; k < psg_tensor_count(t); k++) test_set_at(t, k, factor * test_get_at(t, k));
}

static operands operands_of(const running_case *c, test_random *random) {
    const dims d = dims_of(c);
    operands o = { .x = test_array_normal(random, c->dtype, c->rank, c->shape, c->layout),
                   .g = test_array_normal(random, c->dtype, c->rank, c->shape, c->layout),
                   .mean = test_array_normal(random, c->dtype, 1, &d.c, TEST_CONTIGUOUS),
                   .variance = test_array_new(random, c->dtype, 1, &d.c, TEST_CONTIGUOUS) };
    test_fill_uniform(random, &o.variance.view, 0.25, 3);
    for (int k = WEIGHT; k <= BIAS; k++) {
        o.affine[k] = test_array_normal(random, c->dtype, 1, &d.c, TEST_CONTIGUOUS);
    }
    if (!c->scale) return o;
    times(&o.x.view, c->scale);
    if (c->statistics) return o;
    times(&o.mean.view, c->scale);
    times(&o.variance.view, c->scale * c->scale);
    times(&o.g.view, 1e3 * c->scale);
    return o;
}

static void operands_free(operands *o) {
    test_array *all[] = { &o->x, &o->g, &o->affine[WEIGHT], &o->affine[BIAS], &o->mean, &o->variance };
    for (int k = 0; k < 6; k++) test_array_free(all[k]);
}

static psg_var apply(psg_tape *tape, const running_case *c, psg_var x, const psg_tensor *mean, const psg_tensor *var,
                     psg_var weight, psg_var bias) {
    return c->batch_norm
        ? psg_batch_norm(tape, x, mean, var, weight, bias, c->statistics, c->momentum, c->eps)
        : psg_instance_norm(tape, x, mean, var, weight, bias, c->statistics, c->momentum, c->eps);
}

static norm_run record(psg_context *context, const running_case *c, operands *o) {
    norm_run r = { 0 };
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_second = c->batch_second;
    pass.ordinary = c->ordinary;
    pass.allow_updates = 1;
    norm_case affine = { .mode = { c->mode[0], c->mode[1], c->mode[2] } };
    TEST_OK(context, psg_tape_create(context, &r.tape));
    TEST_OK(context, psg_tape_begin(r.tape, &pass));
    r.x = c->input_grad ? psg_input_with_grad(r.tape, &o->x.view) : psg_input(r.tape, &o->x.view);
    psg_var w = norm_operand(context, &r, &affine, o->affine, WEIGHT);
    psg_var b = norm_operand(context, &r, &affine, o->affine, BIAS);
    r.y = apply(r.tape, c, r.x, &o->mean.view, &o->variance.view, w, b);
    if (psg_tape_status(r.tape)) fail_msg("%s", psg_tape_message(r.tape));
    return r;
}

static double affine(const running_case *c, const operands *o, int k, int64_t channel, double absent) {
    return c->mode[k] == ABSENT ? absent : test_get_at(&o->affine[k].view, channel);
}

/* ---- normalization by running statistics: a linear layer ---- */

static void near(const psg_tensor *t, int64_t k, double expected, double terms, double length, const char *what) {
    test_near(test_get_at(t, k), expected, test_bound(t->dtype, length, terms), what, k);
}

static void check_sums(psg_context *context, const running_case *c, const operands *o, const norm_run *r, int k) {
    const dims d = dims_of(c);
    psg_gradient gradient;
    if (!r->param[k]) return;
    if (c->mode[k] == FROZEN) {
        assert_int_equal(psg_gradient_of(r->tape, r->param[k], &gradient), PSG_ERR_STATE);
        return;
    }
    TEST_OK(context, psg_gradient_of(r->tape, r->param[k], &gradient));
    test_random random = { 5 };
    test_array out = test_array_new(&random, c->dtype, 2, (int64_t[]){ d.n, d.c }, TEST_CONTIGUOUS);
    TEST_OK(context, psg_grad_sample(context, &gradient, 1, PSG_OVERWRITE, &out.view));
    for (int64_t n = 0; n < d.n; n++) {
        for (int64_t channel = 0; channel < d.c; channel++) {
            double m = test_get_at(&o->mean.view, channel), v = test_get_at(&o->variance.view, channel);
            double sum = 0, terms = 0;
            for (int64_t s = 0; s < d.s; s++) {
                double go = test_get_at(&o->g.view, at(&d, n, channel, s)), x = test_get_at(&o->x.view,
                                                                                            at(&d, n, channel, s));
                sum += k == BIAS ? go : go * (x - m) / sqrt(v + c->eps);
                terms += k == BIAS ? fabs(go) : fabs(go) * (fabs(x) + fabs(m)) / sqrt(v + c->eps);
            }
            near(&out.view, n * d.c + channel, sum, terms, 32, k == BIAS ? "grad_bias" : "grad_weight");
        }
    }
    test_array_free(&out);
}

/* The running statistics are zeroed before backward, which must use what forward read. */
static void check_fixed(psg_context *context, const running_case *c, test_random *random) {
    const dims d = dims_of(c);
    operands o = operands_of(c, random);
    norm_run r = record(context, c, &o);
    double mean[256], variance[256];
    psg_tensor y, gx;
    for (int64_t k = 0; k < d.c; k++) {
        mean[k] = test_get_at(&o.mean.view, k);
        variance[k] = test_get_at(&o.variance.view, k);
    }
    test_fill_value(&o.mean.view, 77);
    test_fill_value(&o.variance.view, 0);
    TEST_OK(context, psg_value(r.tape, r.y, &y));
    TEST_OK(context, psg_backward_from(r.tape, r.y, &o.g.view));
    if (c->input_grad) TEST_OK(context, psg_input_grad(r.tape, r.x, &gx));
    for (int64_t k = 0; k < d.c; k++) {
        test_set_at(&o.mean.view, k, mean[k]);
        test_set_at(&o.variance.view, k, variance[k]);
    }
    for (int64_t n = 0; n < d.n; n++) {
        for (int64_t channel = 0; channel < d.c; channel++) {
            double rstd = 1 / sqrt(variance[channel] + c->eps), m = mean[channel];
            double w = affine(c, &o, WEIGHT, channel, 1), b = affine(c, &o, BIAS, channel, 0);
            for (int64_t s = 0; s < d.s; s++) {
                int64_t k = at(&d, n, channel, s);
                double x = test_get_at(&o.x.view, k), go = test_get_at(&o.g.view, k);
                near(&y, k, (x - m) * rstd * w + b, (fabs(x) + fabs(m)) * rstd * fabs(w) + fabs(b), 8, "y");
                if (c->input_grad) near(&gx, k, go * w * rstd, fabs(go * w * rstd), 4, "grad_input");
            }
        }
    }
    for (int k = WEIGHT; k <= BIAS; k++) check_sums(context, c, &o, &r, k);
    norm_run_free(&r);
    operands_free(&o);
}

/* ---- updates ---- */

typedef struct moment { double mean, variance; } moment;

/* Over samples [first, end) of one channel. */
static moment moment_of(const operands *o, const dims *d, int64_t first, int64_t end, int64_t channel) {
    const double count = (double)((end - first) * d->s);
    moment m = { 0, 0 };
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t n = first; n < end; n++) {
            for (int64_t s = 0; s < d->s; s++) {
                double x = test_get_at(&o->x.view, at(d, n, channel, s));
                if (pass) m.variance += (x - m.mean) * (x - m.mean) / count;
                else m.mean += x / count;
            }
        }
    }
    return m;
}

static void check_update(psg_context *context, const running_case *c, test_random *random) {
    const dims d = dims_of(c);
    operands o = operands_of(c, random);
    double mean[8], variance[8];
    for (int64_t channel = 0; channel < d.c; channel++) {
        double found_mean = 0, found_variance = 0, sets = c->batch_norm ? 1 : (double)d.n;
        double count = (double)(c->batch_norm ? d.n * d.s : d.s);
        for (int64_t n = 0; n < (c->batch_norm ? 1 : d.n); n++) {
            moment m = moment_of(&o, &d, n, c->batch_norm ? d.n : n + 1, channel);
            found_mean += m.mean / sets;
            found_variance += m.variance * count / (count - 1) / sets;
        }
        mean[channel] = (1 - c->momentum) * test_get_at(&o.mean.view, channel) + c->momentum * found_mean;
        variance[channel] = (1 - c->momentum) * test_get_at(&o.variance.view, channel) + c->momentum * found_variance;
    }
    norm_run r = record(context, c, &o);
    const double size = c->scale ? c->scale : 1;
    for (int64_t k = 0; k < d.c; k++) {
        bool holds = c->dtype == PSG_F64 || variance[k] <= FLT_MAX;
        near(&o.mean.view, k, mean[k], 4 * size, 8, "running_mean");
        near(&o.variance.view, k, holds ? variance[k] : INFINITY, 8 * size * size, 8, "running_var");
    }
    norm_run_free(&r);
    operands_free(&o);
}

static void statistics_move_by_momentum(void **state) {
    (void)state;
    static const double momenta[] = { 0.1, 0.5, 0, 1, -1.2, -1 };
    psg_context *context = test_context(2, NULL);
    test_random random = { 4 };
    for (int code = 0; code < 6 * 16; code++) {
        running_case c = { .batch_norm = code & 1, .statistics = true, .dtype = code & 2 ? PSG_F32 : PSG_F64,
                           .rank = 3, .shape = { 3, 4, 7 }, .batch_second = code & 4, .ordinary = code & 9,
                           .momentum = momenta[code >> 4], .eps = code & 8 ? 0.6 : -0.01 };
        if (code % 5 == 0) c.rank = 4, c.shape[2] = 3, c.shape[3] = 4;
        check_update(context, &c, &random);
    }
    running_case rows = { .batch_norm = true, .statistics = true, .rank = 2, .shape = { 9, 5 }, .ordinary = true,
                          .momentum = 0.3, .eps = 1e-5 };
    check_update(context, &rows, &random);
    test_context_free(context);
}

/* Inputs without elements. */
static void nothing_updates_nothing(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    test_random random = { 4 };
    for (int code = 0; code < 4; code++) {
        running_case c = { .batch_norm = code & 1, .statistics = true, .rank = 3, .shape = { 2, 3, 4 },
                           .ordinary = code & 1, .momentum = 0.5, .eps = 1e-5,
                           .mode = { 0, TRAINABLE, TRAINABLE } };
        c.shape[code & 2 ? 0 : 2] = 0;
        operands o = operands_of(&c, &random);
        void *mean = test_array_snapshot(&o.mean), *variance = test_array_snapshot(&o.variance);
        norm_run r = record(context, &c, &o);
        TEST_OK(context, psg_backward_from(r.tape, r.y, &o.g.view));
        assert_true(test_array_unchanged(&o.mean, mean) && test_array_unchanged(&o.variance, variance));
        free(mean);
        free(variance);
        norm_run_free(&r);
        operands_free(&o);
    }
    test_context_free(context);
}

/* ---- batch_norm in training, an ordinary pass ---- */

static void check_ordinary_sum(psg_context *context, const norm_run *r, int k, const double *sum, const double *terms,
                               int64_t count, psg_dtype dtype) {
    psg_gradient gradient;
    const psg_gradient *list = &gradient;
    double memory[64];
    psg_tensor out = psg_tensor_of(dtype, memory, 1, &count);
    if (!r->param[k]) return;
    TEST_OK(context, psg_gradient_of(r->tape, r->param[k], &gradient));
    TEST_OK(context, psg_weighted_sum(context, &list, 1, NULL, PSG_OVERWRITE, &out));
    for (int64_t c = 0; c < count; c++) near(&out, c, sum[c], terms[c], 64, k == BIAS ? "bias" : "weight");
}

static void check_training(psg_context *context, const running_case *c, test_random *random) {
    const dims d = dims_of(c);
    const double count = (double)(d.n * d.s);
    operands o = operands_of(c, random);
    norm_run r = record(context, c, &o);
    psg_tensor y, gx;
    TEST_OK(context, psg_value(r.tape, r.y, &y));
    TEST_OK(context, psg_backward_from(r.tape, r.y, &o.g.view));
    TEST_OK(context, psg_input_grad(r.tape, r.x, &gx));
    double gw[64] = { 0 }, gb[64] = { 0 }, gw_terms[64] = { 0 }, gb_terms[64] = { 0 };
    for (int64_t channel = 0; channel < d.c; channel++) {
        const moment m = moment_of(&o, &d, 0, d.n, channel);
        const double rstd = 1 / sqrt(m.variance + c->eps), w = affine(c, &o, WEIGHT, channel, 1);
        for (int pass = 0; pass < 2; pass++) {
            for (int64_t k = 0; k < d.n * d.s; k++) {
                int64_t i = at(&d, k / d.s, channel, k % d.s);
                double xh = (test_get_at(&o.x.view, i) - m.mean) * rstd, go = test_get_at(&o.g.view, i);
                if (!pass) {
                    gw[channel] += go * xh;
                    gb[channel] += go;
                    gw_terms[channel] += fabs(go) * (fabs(xh) + 1);
                    gb_terms[channel] += fabs(go);
                    near(&y, i, xh * w + affine(c, &o, BIAS, channel, 0), (fabs(xh) + 1) * fabs(w) + 1, 64, "y");
                } else {
                    double expected = rstd * w * (go - gb[channel] / count - xh * gw[channel] / count);
                    double terms = rstd * fabs(w) * (fabs(go) + 1 + (fabs(xh) + 1) * gw_terms[channel] / count);
                    near(&gx, i, expected, terms, 64, "grad_input");
                }
            }
        }
    }
    check_ordinary_sum(context, &r, WEIGHT, gw, gw_terms, d.c, c->dtype);
    check_ordinary_sum(context, &r, BIAS, gb, gb_terms, d.c, c->dtype);
    norm_run_free(&r);
    operands_free(&o);
}

/* Squares and products out of the range of f32: variances that it holds, others that are Inf, and gradients. */
static void extreme_inputs_are_right(void **state) {
    (void)state;
    static const double scales[] = { 1e15, 1e19, 1e25, 1e-15, 1e-18 };
    psg_context *context = test_context(1, NULL);
    test_random random = { 7 };
    for (int code = 0; code < 5 * 2; code++) {
        running_case c = { .batch_norm = code & 1, .statistics = true, .dtype = PSG_F32, .rank = 3,
                           .shape = { 3, 4, 7 }, .ordinary = true, .input_grad = true, .momentum = 1,
                           .scale = scales[code / 2], .mode = { 0, TRAINABLE, TRAINABLE } };
        check_update(context, &c, &random);
        if (c.batch_norm) check_training(context, &c, &random);
        c.statistics = c.ordinary = false;
        c.scale = 1e18;
        check_fixed(context, &c, &random);
    }
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statistics_move_by_momentum),
        cmocka_unit_test(nothing_updates_nothing),
        cmocka_unit_test(extreme_inputs_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
