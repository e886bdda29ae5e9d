#include "norm_fixture.h"

#include <math.h>
#include <stdlib.h>

/* ---- the definition, in plain loops ---- */

static int64_t product(const int64_t *shape, int first, int end) {
    int64_t result = 1;
    for (int d = first; d < end; d++) result *= shape[d];
    return result;
}

norm_places norm_places_of(const norm_case *c) {
    int batch = c->batch_second && c->rank >= 3, lead = c->rank - c->normalized;
    norm_places l = { .samples = c->shape[batch], .group = c->group, .second = batch == 1 };
    if (c->group) {
        l.p = c->shape[1 - batch];
        l.inner = product(c->shape, 2, c->rank);
        l.parts = c->groups;
        l.size = l.p / c->groups * l.inner;
    } else {
        l.p = l.size = product(c->shape, lead, c->rank);
        l.inner = product(c->shape, batch + 1, lead);
        l.parts = l.inner * (batch ? c->shape[0] : 1);
    }
    return l;
}

/* The element's place in row-major order. */
static int64_t place(const norm_places *l, int64_t n, int64_t j, int64_t i) {
    if (!l->group) {
        int64_t row = l->second ? (j / l->inner * l->samples + n) * l->inner + j % l->inner : n * l->parts + j;
        return row * l->size + i;
    }
    int64_t k = j * l->size + i, channel = k / l->inner;
    return (l->second ? channel * l->samples + n : n * l->p + channel) * l->inner + k % l->inner;
}

static int64_t channel_of(const norm_places *l, int64_t j, int64_t i) {
    return l->group ? (j * l->size + i) / l->inner : i;
}

static double *zeros(int64_t count) { return calloc((size_t)count + 1, sizeof(double)); }

static norm_reference reference_new(const norm_places *l) {
    int64_t x = l->samples * l->parts * l->size, w = l->samples * l->p;
    return (norm_reference){ zeros(x), zeros(x), zeros(x), zeros(x), zeros(w), zeros(w), zeros(w), zeros(w) };
}

void norm_reference_free(norm_reference *r) {
    double *all[] = { r->y, r->y_terms, r->gx, r->gx_terms, r->gw, r->gw_terms, r->gb, r->gb_terms };
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) free(all[k]);
}

static double element(const test_array *a, bool present, int64_t k, double absent) {
    return present ? test_get_at(&a->view, k) : absent;
}

/* How much an error of the variance grows in 1 / sqrt(var + eps). */
static double condition(double variance, double eps) {
    double sum = variance + eps;
    return isnan(sqrt(sum)) || variance == 0 ? 1 : fmax(1, variance / fabs(sum));
}

static void refer_part(const norm_case *c, const norm_places *l, const test_array *in, const test_array *g, int64_t n,
                       int64_t j, norm_reference *r) {
    const double about = c->rms ? 0 : 1;   /* the mean is subtracted */
    double mean = 0, variance = 0, h_mean = 0, hx_mean = 0, h_size = 0, hx_size = 0, size = (double)l->size;
    for (int64_t i = 0; i < l->size; i++) mean += about * test_get_at(&in[INPUT].view, place(l, n, j, i)) / size;
    for (int64_t i = 0; i < l->size; i++) {
        variance += pow(test_get_at(&in[INPUT].view, place(l, n, j, i)) - mean, 2) / size;
    }
    double rstd = 1 / sqrt(variance + c->eps), worse = condition(variance, c->eps);
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < l->size; i++) {
            int64_t at = place(l, n, j, i), channel = channel_of(l, j, i);
            double w = element(&in[WEIGHT], c->mode[WEIGHT], channel, 1);
            double b = element(&in[BIAS], c->mode[BIAS], channel, 0);
            double xh = (test_get_at(&in[INPUT].view, at) - mean) * rstd;
            double xh_size = (fabs(xh) + fabs(rstd) * sqrt(variance)) * worse;
            double go = test_get_at(&g->view, at), h = go * w;
            if (pass == 0) {
                h_mean += about * h / size;
                hx_mean += h * xh / size;
                h_size += fabs(h) / size;
                hx_size += fabs(h) * xh_size / size;
                r->y[at] = xh * w + b;
                r->y_terms[at] = xh_size * fabs(w) + fabs(b);
                int64_t k = n * l->p + channel;
                r->gw[k] += go * xh;
                r->gw_terms[k] += fabs(go) * xh_size;
                r->gb[k] += go;
                r->gb_terms[k] += fabs(go);
            } else {
                r->gx[at] = rstd * (h - h_mean - xh * hx_mean);
                r->gx_terms[at] = fabs(rstd) * worse * (fabs(h) + h_size + xh_size * hx_size);
            }
        }
    }
}

norm_reference norm_refer(const norm_case *c, const norm_places *l, const test_array *in, const test_array *g) {
    norm_reference r = reference_new(l);
    for (int64_t n = 0; n < l->samples; n++) {
        for (int64_t j = 0; j < l->parts && l->size; j++) refer_part(c, l, in, g, n, j, &r);
    }
    return r;
}

/* ---- one application on a tape ---- */

psg_var norm_operand(psg_context *context, norm_run *r, const norm_case *c, const test_array *in, int k) {
    if (c->mode[k] == ABSENT) return psg_none();
    if (c->mode[k] == CONSTANT) return psg_constant(r->tape, &in[k].view);
    TEST_OK(context, psg_param_create(context, k == WEIGHT ? "w" : "b", &in[k].view, &r->param[k]));
    psg_param_set_trainable(r->param[k], c->mode[k] == TRAINABLE);
    return psg_use(r->tape, r->param[k]);
}

norm_run norm_record(psg_context *context, const norm_case *c, const test_array *in) {
    norm_run r = { 0 };
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_second = c->batch_second;
    TEST_OK(context, psg_tape_create(context, &r.tape));
    TEST_OK(context, psg_tape_begin(r.tape, &pass));
    r.x = c->input_grad ? psg_input_with_grad(r.tape, &in[INPUT].view) : psg_input(r.tape, &in[INPUT].view);
    psg_var w = norm_operand(context, &r, c, in, WEIGHT), b = norm_operand(context, &r, c, in, BIAS);
    const int64_t *tail = c->shape + c->rank - c->normalized;
    if (c->instance) r.y = psg_instance_norm(r.tape, r.x, NULL, NULL, w, b, 1, 0.1, c->eps);
    else if (c->group) r.y = psg_group_norm(r.tape, r.x, c->groups, w, b, c->eps);
    else if (c->rms) r.y = psg_rms_norm(r.tape, r.x, c->normalized, tail, w, c->eps);
    else r.y = psg_layer_norm(r.tape, r.x, c->normalized, tail, w, b, c->eps);
    return r;
}

void norm_run_free(norm_run *r) {
    psg_tape_destroy(r->tape);
    for (int k = WEIGHT; k <= BIAS; k++) psg_param_destroy(r->param[k]);
}

void norm_compare(const psg_tensor *actual, const double *expected, const double *terms, double k, const char *what) {
    for (int64_t i = 0; i < psg_tensor_count(actual); i++) {
        test_near(test_get_at(actual, i), expected[i], test_bound(actual->dtype, k, terms[i]), what, i);
    }
}

static void compare_grad_sample(psg_context *context, const norm_run *r, int k, const norm_places *l,
                                const double *expected, const double *terms, double length) {
    psg_gradient gradient;
    if (!r->param[k]) return;
    if (!psg_param_is_trainable(r->param[k])) {
        assert_int_equal(psg_gradient_of(r->tape, r->param[k], &gradient), PSG_ERR_STATE);
        return;
    }
    TEST_OK(context, psg_gradient_of(r->tape, r->param[k], &gradient));
    const psg_tensor *value = psg_param_value(r->param[k]);
    int64_t shape[PSG_MAX_RANK] = { l->samples };
    for (int d = 0; d < value->rank; d++) shape[d + 1] = value->shape[d];
    test_random random = { 5 };
    test_array out = test_array_new(&random, value->dtype, value->rank + 1, shape, TEST_CONTIGUOUS);
    TEST_OK(context, psg_grad_sample(context, &gradient, 1, PSG_OVERWRITE, &out.view));
    norm_compare(&out.view, expected, terms, length, k == WEIGHT ? "grad_weight" : "grad_bias");
    test_array_free(&out);
}

void norm_case_arrays(const norm_case *c, test_random *random, test_array in[3], test_array *g) {
    const int channel_dim = c->batch_second && c->rank >= 3 ? 0 : 1;
    const int64_t *affine_shape = c->shape + (c->group ? channel_dim : c->rank - c->normalized);
    int affine_rank = c->group ? 1 : c->normalized;
    in[INPUT] = test_array_normal(random, c->dtype, c->rank, c->shape, c->layout);
    for (int64_t i = 0; i < psg_tensor_count(&in[INPUT].view); i++) {
        test_set_at(&in[INPUT].view, i, test_get_at(&in[INPUT].view, i) + c->mean);
    }
    for (int k = WEIGHT; k <= BIAS; k++) {
        in[k] = test_array_normal(random, c->dtype, affine_rank, affine_shape, TEST_CONTIGUOUS);
    }
    *g = test_array_normal(random, c->dtype, c->rank, c->shape, c->layout);
}

void norm_check_case(psg_context *context, const norm_case *c, test_random *random) {
    const double small = 32;   /* sums in strips, then a few operations: see kernels/norm_kernel.c */
    test_array in[3], g;
    norm_case_arrays(c, random, in, &g);
    const norm_places l = norm_places_of(c);
    norm_run r = norm_record(context, c, in);
    psg_tensor y, gx;
    TEST_OK(context, psg_value(r.tape, r.y, &y));
    TEST_OK(context, psg_backward_from(r.tape, r.y, &g.view));
    norm_reference expected = norm_refer(c, &l, in, &g);
    norm_compare(&y, expected.y, expected.y_terms, small, "y");
    if (c->input_grad) {
        TEST_OK(context, psg_input_grad(r.tape, r.x, &gx));
        norm_compare(&gx, expected.gx, expected.gx_terms, 2 * small, "grad_input");
    }
    double length = (double)(c->group ? 1 : l.parts);
    compare_grad_sample(context, &r, WEIGHT, &l, expected.gw, expected.gw_terms, length + small);
    compare_grad_sample(context, &r, BIAS, &l, expected.gb, expected.gb_terms, length + small);
    norm_reference_free(&expected);
    norm_run_free(&r);
    for (int k = 0; k < 3; k++) test_array_free(&in[k]);
    test_array_free(&g);
}
