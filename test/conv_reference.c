#include "conv_reference.h"

#include <math.h>
#include <stdlib.h>

static int64_t volume(const int64_t *size) { return size[0] * size[1] * size[2]; }

/* ---- shapes ---- */

static void shape_of(const conv_case *c, int64_t first, int64_t second, const int64_t *size, int64_t *shape) {
    shape[0] = first;
    shape[1] = second;
    for (int d = 0; d < c->spatial; d++) shape[d + 2] = size[d];
}

void conv_x_shape(const conv_case *c, int64_t *shape) { shape_of(c, c->batch, c->in_channels, c->in, shape); }

void conv_y_shape(const conv_case *c, int64_t *shape) { shape_of(c, c->batch, c->out_channels, c->out, shape); }

void conv_weight_shape(const conv_case *c, int64_t *shape) {
    if (c->transposed) shape_of(c, c->in_channels, c->out_channels / c->groups, c->kernel, shape);
    else shape_of(c, c->out_channels, c->in_channels / c->groups, c->kernel, shape);
}

void conv_find_output(conv_case *c) {
    for (int d = 0; d < CONV_AXES; d++) {
        int64_t reach = c->dilation[d] * (c->kernel[d] - 1) + 1;
        if (c->transposed) c->out[d] = (c->in[d] - 1) * c->stride[d] - 2 * c->padding[d] + reach + c->after[d];
        else c->out[d] = (c->in[d] + c->padding[d] + c->after[d] - reach) / c->stride[d] + 1;
    }
}

/* ---- random cases ---- */

static void random_axis(test_random *random, conv_case *c, int d) {
    c->kernel[d] = test_range(random, 1, 4);
    c->stride[d] = test_range(random, 1, 3);
    c->dilation[d] = test_range(random, 1, 3);
    c->padding[d] = test_range(random, 0, 3);
    int64_t reach = c->dilation[d] * (c->kernel[d] - 1) + 1;
    if (!c->transposed) {
        c->after[d] = test_range(random, 0, 1) ? c->padding[d] : test_range(random, 0, 3);
        int64_t least = reach - c->padding[d] - c->after[d];
        c->in[d] = test_range(random, least < 1 ? 1 : least, (least < 1 ? 1 : least) + (c->spatial == 1 ? 40 : 12));
    } else {
        int64_t most = c->stride[d] > c->dilation[d] ? c->stride[d] : c->dilation[d];
        c->after[d] = test_range(random, 0, most - 1);
        c->in[d] = test_range(random, 1, c->spatial == 1 ? 30 : 9);
        while ((c->in[d] - 1) * c->stride[d] - 2 * c->padding[d] + reach + c->after[d] < 1) c->in[d]++;
    }
}

conv_case conv_random_case(test_random *random) {
    const int64_t groups[] = { 1, 1, 1, 2, 3, 4 }, channels[] = { 1, 1, 2, 3, 5, 13, 17 };
    conv_case c = { .spatial = (int)test_range(random, 1, 3), .transposed = test_range(random, 0, 2) == 0,
                    .with_bias = test_range(random, 0, 3) > 0, .batch = test_range(random, 1, 4),
                    .groups = TEST_PICK(random, groups) };
    c.in_channels = c.groups * TEST_PICK(random, channels);
    c.out_channels = c.groups * TEST_PICK(random, channels);
    for (int d = 0; d < CONV_AXES; d++) {
        c.in[d] = c.kernel[d] = c.stride[d] = c.dilation[d] = 1;
        if (d < c.spatial) random_axis(random, &c, d);
    }
    conv_find_output(&c);
    return c;
}

/* ---- the loops ---- */

/* One product weight * image between element `small` of the strided side and `large` of the other. */
typedef struct term {
    int64_t n, channel_in, channel_out, at_in, at_out, at_weight;
} term;

static void add(double *sum, double *terms, int64_t at, double value) {
    sum[at] += value;
    terms[at] += fabs(value);
}

static void add_term(const conv_case *c, const term *t, const double *x, const double *weight, const double *grad_y,
                     conv_answer *a) {
    int64_t xi = (t->n * c->in_channels + t->channel_in) * volume(c->in) + t->at_in;
    int64_t yi = (t->n * c->out_channels + t->channel_out) * volume(c->out) + t->at_out;
    add(a->y, a->terms_y, yi, x[xi] * weight[t->at_weight]);
    add(a->grad_x, a->terms_grad_x, xi, grad_y[yi] * weight[t->at_weight]);
    add(a->grad_weight, a->terms_grad_weight, t->n * a->weight_count + t->at_weight, grad_y[yi] * x[xi]);
}

static void split(int64_t flat, const int64_t *size, int64_t *index) {
    for (int d = CONV_AXES - 1; d >= 0; d--) {
        index[d] = flat % size[d];
        flat /= size[d];
    }
}

/* The element of the image that tap k of position t reads; -1 outside. */
static int64_t element(const conv_case *c, const int64_t *image, int64_t position, const int64_t *positions,
                       int64_t tap) {
    int64_t t[CONV_AXES], k[CONV_AXES], at = 0;
    split(position, positions, t);
    split(tap, c->kernel, k);
    for (int d = 0; d < CONV_AXES; d++) {
        int64_t i = t[d] * c->stride[d] + k[d] * c->dilation[d] - c->padding[d];
        if (i < 0 || i >= image[d]) return -1;
        at = at * image[d] + i;
    }
    return at;
}

static void add_channels(const conv_case *c, int64_t n, int64_t in, int64_t out, const double *x, const double *weight,
                         const double *grad_y, conv_answer *a) {
    const int64_t *image = c->transposed ? c->out : c->in, *positions = c->transposed ? c->in : c->out;
    const int64_t in_group = c->in_channels / c->groups, out_group = c->out_channels / c->groups;
    const int64_t row = c->transposed ? in * out_group + out % out_group : out * in_group + in % in_group;
    for (int64_t t = 0; t < volume(positions); t++) {
        for (int64_t k = 0; k < volume(c->kernel); k++) {
            int64_t i = element(c, image, t, positions, k);
            if (i < 0) continue;
            term one = { n, in, out, c->transposed ? t : i, c->transposed ? i : t, row * volume(c->kernel) + k };
            add_term(c, &one, x, weight, grad_y, a);
        }
    }
}

static void add_bias(const conv_case *c, const double *bias, const double *grad_y, conv_answer *a) {
    for (int64_t k = 0; k < a->y_count; k++) {
        int64_t row = k / volume(c->out);
        if (bias) add(a->y, a->terms_y, k, bias[row % c->out_channels]);
        add(a->grad_bias, a->terms_grad_bias, row, grad_y[k]);
    }
}

static double *zeros(int64_t count) {
    double *memory = calloc((size_t)(count > 0 ? count : 1), sizeof *memory);
    assert_non_null(memory);
    return memory;
}

conv_answer conv_reference(const conv_case *c, const double *x, const double *weight, const double *bias,
                           const double *grad_y) {
    conv_answer a = { .y_count = c->batch * c->out_channels * volume(c->out),
                      .x_count = c->batch * c->in_channels * volume(c->in),
                      .weight_count = c->in_channels * c->out_channels / c->groups * volume(c->kernel),
                      .bias_count = c->out_channels };
    double **sums[] = { &a.y, &a.grad_x, &a.grad_weight, &a.grad_bias };
    double **terms[] = { &a.terms_y, &a.terms_grad_x, &a.terms_grad_weight, &a.terms_grad_bias };
    const int64_t counts[] = { a.y_count, a.x_count, c->batch * a.weight_count, c->batch * a.bias_count };
    for (int k = 0; k < 4; k++) {
        *sums[k] = zeros(counts[k]);
        *terms[k] = zeros(counts[k]);
    }
    const int64_t in_group = c->in_channels / c->groups, out_group = c->out_channels / c->groups;
    for (int64_t n = 0; n < c->batch; n++) {
        for (int64_t in = 0; in < c->in_channels; in++) {
            for (int64_t out = in / in_group * out_group; out < (in / in_group + 1) * out_group; out++) {
                add_channels(c, n, in, out, x, weight, grad_y, &a);
            }
        }
    }
    add_bias(c, bias, grad_y, &a);
    return a;
}

void conv_answer_free(conv_answer *a) {
    double *all[] = { a->y, a->grad_x, a->grad_weight, a->grad_bias,
                      a->terms_y, a->terms_grad_x, a->terms_grad_weight, a->terms_grad_bias };
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) free(all[k]);
}

/* ---- the op ---- */

static psg_var record_transposed(psg_tape *tape, const conv_case *c, psg_var x, psg_var weight, psg_var bias) {
    psg_conv_transpose_options o = PSG_CONV_TRANSPOSE_OPTIONS_INIT;
    for (int d = 0; d < c->spatial; d++) {
        o.stride[d] = c->stride[d];
        o.padding[d] = c->padding[d];
        o.dilation[d] = c->dilation[d];
        o.output_padding[d] = c->after[d];
    }
    o.groups = c->groups;
    if (c->spatial == 1) return psg_conv_transpose1d(tape, x, weight, bias, &o);
    if (c->spatial == 2) return psg_conv_transpose2d(tape, x, weight, bias, &o);
    return psg_conv_transpose3d(tape, x, weight, bias, &o);
}

psg_var conv_record(psg_tape *tape, const conv_case *c, psg_var x, psg_var weight, psg_var bias) {
    if (c->transposed) return record_transposed(tape, c, x, weight, bias);
    psg_conv_options o = PSG_CONV_OPTIONS_INIT;
    for (int d = 0; d < c->spatial; d++) {
        o.stride[d] = c->stride[d];
        o.padding[d] = c->padding[d];
        o.padding_after[d] = c->after[d];
        o.dilation[d] = c->dilation[d];
        o.has_padding_after |= c->after[d] != c->padding[d];
    }
    o.groups = c->groups;
    if (c->spatial == 1) return psg_conv1d(tape, x, weight, bias, &o);
    if (c->spatial == 2) return psg_conv2d(tape, x, weight, bias, &o);
    return psg_conv3d(tape, x, weight, bias, &o);
}
