/* Convolutions against plain loops in double: values, input gradients, per-sample gradients, over random geometries. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conv_reference.h"

/* ---- one pass ---- */

typedef struct world {
    psg_context *context;
    psg_tape *tape;
    psg_param *weight, *bias;
    test_array x, grad_y, weight_values, bias_values;
    double *x_f64, *grad_y_f64, *weight_f64, *bias_f64;
    psg_tensor y, grad_x;
} world;

static double *values_of(const psg_tensor *t) {
    int64_t count = psg_tensor_count(t);
    double *values = calloc((size_t)(count ? count : 1), sizeof *values);
    assert_non_null(values);
    for (int64_t k = 0; k < count; k++) values[k] = test_get_at(t, k);
    return values;
}

/* The view of a (first, second, ...) array with its first two dimensions exchanged in memory. */
static test_array batched_array(test_random *random, const conv_case *c, psg_dtype dtype, const int64_t *shape,
                                bool batch_second, psg_tensor *given) {
    int64_t swapped[5] = { shape[1], shape[0] };
    for (int d = 2; d < c->spatial + 2; d++) swapped[d] = shape[d];
    test_array array = test_array_normal(random, dtype, c->spatial + 2, batch_second ? swapped : shape,
                                         TEST_CONTIGUOUS);
    *given = array.view;
    return array;
}

/* Batch first, whatever the array was. */
static psg_tensor batch_first(psg_tensor t, bool batch_second) {
    if (!batch_second) return t;
    int64_t size = t.shape[0], stride = t.stride[0];
    t.shape[0] = t.shape[1];
    t.stride[0] = t.stride[1];
    t.shape[1] = size;
    t.stride[1] = stride;
    return t;
}

static void make_world(world *w, test_random *random, const conv_case *c, psg_dtype dtype, bool batch_second,
                       unsigned threads, const char *isa) {
    int64_t x_shape[5], y_shape[5], weight_shape[5];
    psg_tensor given;
    conv_x_shape(c, x_shape);
    conv_y_shape(c, y_shape);
    conv_weight_shape(c, weight_shape);
    *w = (world){ .context = test_context(threads, isa) };
    TEST_OK(w->context, psg_tape_create(w->context, &w->tape));
    w->x = batched_array(random, c, dtype, x_shape, batch_second, &given);
    w->grad_y = batched_array(random, c, dtype, y_shape, batch_second, &given);
    w->weight_values = test_array_normal(random, dtype, c->spatial + 2, weight_shape, TEST_CONTIGUOUS);
    w->bias_values = test_array_normal(random, dtype, 1, &c->out_channels, TEST_CONTIGUOUS);
    TEST_OK(w->context, psg_param_create(w->context, "weight", &w->weight_values.view, &w->weight));
    TEST_OK(w->context, psg_param_create(w->context, "bias", &w->bias_values.view, &w->bias));
    psg_tensor x = batch_first(w->x.view, batch_second), grad_y = batch_first(w->grad_y.view, batch_second);
    w->x_f64 = values_of(&x);
    w->grad_y_f64 = values_of(&grad_y);
    w->weight_f64 = values_of(&w->weight_values.view);
    w->bias_f64 = values_of(&w->bias_values.view);
}

static void free_world(world *w) {
    psg_param_destroy(w->weight);
    psg_param_destroy(w->bias);
    psg_tape_destroy(w->tape);
    test_context_free(w->context);
    test_array_free(&w->x);
    test_array_free(&w->grad_y);
    test_array_free(&w->weight_values);
    test_array_free(&w->bias_values);
    free(w->x_f64);
    free(w->grad_y_f64);
    free(w->weight_f64);
    free(w->bias_f64);
}

static void run_pass(world *w, const conv_case *c, const psg_pass *pass) {
    TEST_OK(w->context, psg_tape_begin(w->tape, pass));
    psg_var x = psg_input_with_grad(w->tape, &w->x.view);
    psg_var y = conv_record(w->tape, c, x, psg_use(w->tape, w->weight),
                            c->with_bias ? psg_use(w->tape, w->bias) : psg_none());
    psg_status status = psg_backward_from(w->tape, y, &w->grad_y.view);
    if (status) fail_msg("%s", psg_tape_message(w->tape));
    TEST_OK(w->context, psg_value(w->tape, y, &w->y));
    TEST_OK(w->context, psg_input_grad(w->tape, x, &w->grad_x));
    w->y = batch_first(w->y, pass->batch_second);
    w->grad_x = batch_first(w->grad_x, pass->batch_second);
}

static conv_answer reference_of(const world *w, const conv_case *c) {
    return conv_reference(c, w->x_f64, w->weight_f64, c->with_bias ? w->bias_f64 : NULL, w->grad_y_f64);
}

/* ---- comparisons ---- */

/* No sum is longer than this: channels and taps, or positions. */
static double longest_sum(const conv_case *c) {
    double taps = 1, positions = 1, channels = (double)(c->in_channels + c->out_channels);
    for (int d = 0; d < CONV_AXES; d++) {
        taps *= (double)c->kernel[d];
        positions *= (double)(c->transposed ? c->in[d] : c->out[d]);
    }
    return taps * channels + positions + 4;
}

static void compare(const conv_case *c, const psg_tensor *actual, const double *expected, const double *terms,
                    int64_t count, const char *what) {
    assert_int_equal(psg_tensor_count(actual), count);
    for (int64_t k = 0; k < count; k++) {
        test_near(test_get_at(actual, k), expected[k], test_bound(actual->dtype, longest_sum(c), terms[k]), what, k);
    }
}

static void compare_gradient(const world *w, const conv_case *c, const psg_param *param, const double *expected,
                             const double *terms, const char *what) {
    const psg_tensor *value = psg_param_value(param);
    psg_gradient gradient;
    int64_t shape[PSG_MAX_RANK] = { c->batch };
    TEST_OK(w->context, psg_gradient_of(w->tape, param, &gradient));
    for (int d = 0; d < value->rank; d++) shape[d + 1] = value->shape[d];
    test_random random = { 5 };
    test_array out = test_array_new(&random, value->dtype, value->rank + 1, shape, TEST_CONTIGUOUS);
    TEST_OK(w->context, psg_grad_sample(w->context, &gradient, 1.0, PSG_OVERWRITE, &out.view));
    compare(c, &out.view, expected, terms, c->batch * psg_tensor_count(value), what);
    test_array_free(&out);
}

static void compare_values(const world *w, const conv_case *c, const conv_answer *a) {
    compare(c, &w->y, a->y, a->terms_y, a->y_count, "y");
    compare(c, &w->grad_x, a->grad_x, a->terms_grad_x, a->x_count, "grad x");
}

static void compare_gradients(const world *w, const conv_case *c, const conv_answer *a) {
    compare_gradient(w, c, w->weight, a->grad_weight, a->terms_grad_weight, "grad weight");
    if (c->with_bias) compare_gradient(w, c, w->bias, a->grad_bias, a->terms_grad_bias, "grad bias");
}

/* The sum over the samples, in whatever pass. */
static void compare_sum(const world *w, const conv_case *c, const conv_answer *a) {
    const psg_tensor *value = psg_param_value(w->weight);
    psg_gradient gradient;
    const psg_gradient *set = &gradient;
    test_random random = { 5 };
    test_array sum = test_array_new(&random, PSG_F64, value->rank, value->shape, TEST_CONTIGUOUS);
    TEST_OK(w->context, psg_gradient_of(w->tape, w->weight, &gradient));
    TEST_OK(w->context, psg_weighted_sum(w->context, &set, 1, NULL, PSG_OVERWRITE, &sum.view));
    for (int64_t i = 0; i < a->weight_count; i++) {
        double expected = 0, terms = 0;
        for (int64_t n = 0; n < c->batch; n++) {
            expected += a->grad_weight[n * a->weight_count + i];
            terms += a->terms_grad_weight[n * a->weight_count + i];
        }
        test_near(test_get_at(&sum.view, i), expected, test_bound(value->dtype, longest_sum(c), terms), "sum", i);
    }
    test_array_free(&sum);
}

/* In both kinds of pass. */
static void check_case(test_random *random, const conv_case *c, psg_dtype dtype, bool batch_second, const char *isa) {
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_second = batch_second;
    world w;
    make_world(&w, random, c, dtype, batch_second, 2, isa);
    conv_answer a = reference_of(&w, c);
    for (pass.ordinary = 0; pass.ordinary < 2; pass.ordinary++) {
        run_pass(&w, c, &pass);
        compare_values(&w, c, &a);
        if (!pass.ordinary) compare_gradients(&w, c, &a);
        compare_sum(&w, c, &a);
    }
    conv_answer_free(&a);
    free_world(&w);
}

/* ---- tests ---- */

static void random_geometries_agree_with_loops(void **state) {
    (void)state;
    const char *isas[3];
    const size_t isa_count = test_isas(isas);
    test_random random = { 11 };
    for (int k = 0; k < 400; k++) {
        conv_case c = conv_random_case(&random);
        psg_dtype dtype = test_range(&random, 0, 1) ? PSG_F32 : PSG_F64;
        bool second = test_range(&random, 0, 2) == 0;
        check_case(&random, &c, dtype, second, isas[(size_t)k % isa_count]);
    }
}

/* ---- shapes at which the library cuts its work ---- */

static conv_case plain_case(int spatial, int64_t batch, int64_t in_channels, int64_t out_channels) {
    conv_case c = { .spatial = spatial, .with_bias = true, .batch = batch, .groups = 1, .in_channels = in_channels,
                    .out_channels = out_channels };
    for (int d = 0; d < CONV_AXES; d++) c.in[d] = c.kernel[d] = c.stride[d] = c.dilation[d] = 1;
    return c;
}

/* The convolution, and its adjoint with the same padding on both sides unless nothing would be left. */
static void check_both_directions(test_random *random, conv_case *c, psg_dtype dtype) {
    conv_find_output(c);
    check_case(random, c, dtype, false, NULL);
    conv_case adjoint = *c;
    adjoint.transposed = true;
    adjoint.in_channels = c->out_channels;
    adjoint.out_channels = c->in_channels;
    for (int d = 0; d < CONV_AXES; d++) {
        adjoint.in[d] = c->out[d];
        adjoint.after[d] = 0;
    }
    conv_find_output(&adjoint);
    if (adjoint.out[0] > 0 && adjoint.out[1] > 0) check_case(random, &adjoint, dtype, false, NULL);
}

/* More taps than a task takes: the kernel is summed in parts. */
static void kernels_of_many_taps(void **state) {
    (void)state;
    test_random random = { 21 };
    conv_case line = plain_case(1, 2, 1, 2), plane = plain_case(2, 1, 2, 1);
    line.in[0] = 6007;
    line.kernel[0] = 5000;
    line.padding[0] = line.after[0] = 3;
    check_both_directions(&random, &line, PSG_F64);
    plane.in[0] = plane.in[1] = 90;
    plane.kernel[0] = 70;
    plane.kernel[1] = 80;
    plane.stride[1] = 3;
    check_both_directions(&random, &plane, PSG_F32);
}

/* Windows that reach over more than a task holds; strides beyond the image. */
static void far_windows(void **state) {
    (void)state;
    test_random random = { 22 };
    conv_case dilated = plain_case(2, 1, 2, 3), strided = plain_case(1, 2, 2, 3);
    dilated.in[0] = dilated.in[1] = 420;
    dilated.kernel[0] = dilated.kernel[1] = 3;
    dilated.dilation[0] = dilated.dilation[1] = 208;
    dilated.padding[0] = 1;
    check_both_directions(&random, &dilated, PSG_F64);
    strided.in[0] = 100000;
    strided.kernel[0] = 3;
    strided.stride[0] = 99991;
    strided.padding[0] = 1;
    check_both_directions(&random, &strided, PSG_F64);
}

/* Images and channels that are cut into boxes and blocks. */
static void large_images_and_many_channels(void **state) {
    (void)state;
    test_random random = { 23 };
    conv_case wide = plain_case(2, 1, 3, 5), deep = plain_case(2, 2, 800, 5), row = plain_case(1, 2, 2, 3);
    wide.in[0] = 83;
    wide.in[1] = 301;
    wide.kernel[0] = wide.kernel[1] = 3;
    wide.padding[0] = wide.padding[1] = wide.after[0] = wide.after[1] = 1;
    check_both_directions(&random, &wide, PSG_F64);
    deep.in[0] = deep.in[1] = 4;
    deep.kernel[0] = deep.kernel[1] = 3;
    deep.padding[0] = deep.after[0] = 1;
    check_both_directions(&random, &deep, PSG_F32);
    row.in[0] = 70001;
    row.kernel[0] = 4;
    row.stride[0] = 3;
    row.dilation[0] = 2;
    check_both_directions(&random, &row, PSG_F64);
}

static void depthwise_images_in_boxes(void **state) {
    (void)state;
    test_random random = { 24 };
    conv_case c = plain_case(2, 3, 4, 8);
    c.groups = 4;
    c.in[0] = 203;
    c.in[1] = 407;
    c.kernel[0] = 3;
    c.kernel[1] = 4;
    c.stride[1] = 2;
    c.padding[0] = c.after[0] = 1;
    check_both_directions(&random, &c, PSG_F64);
}

/* Kernels of 3 x 3 over planes of few channels: any width, and padding that reaches past the image. */
static void planes_of_3x3(void **state) {
    (void)state;
    test_random random = { 27 };
    const int64_t widths[] = { 1, 2, 5, 7, 13, 14, 15, 16, 28, 29, 40 };
    for (int k = 0; k < 80; k++) {
        conv_case c = plain_case(2, test_range(&random, 1, 3), 1, 1);
        c.groups = test_range(&random, 1, 3);
        c.in_channels = c.groups * test_range(&random, 1, 2);
        c.out_channels = c.groups * test_range(&random, 1, 2);
        for (int d = 0; d < 2; d++) {
            c.kernel[d] = 3;
            c.in[d] = d ? TEST_PICK(&random, widths) : test_range(&random, 1, 9);
            c.padding[d] = test_range(&random, 0, 4);
            c.after[d] = test_range(&random, 0, 4);
            if (c.in[d] + c.padding[d] + c.after[d] < 3) c.after[d] = 2;
        }
        check_both_directions(&random, &c, k % 2 ? PSG_F32 : PSG_F64);
    }
}

/* Small samples share panels: with many of them, several a task. */
static void many_small_samples(void **state) {
    (void)state;
    test_random random = { 25 };
    for (int groups = 1; groups <= 6; groups += 5) {
        conv_case c = plain_case(2, 67, 6, 12);
        c.groups = groups;
        c.in[0] = c.in[1] = 5;
        c.kernel[0] = c.kernel[1] = 3;
        c.padding[0] = c.padding[1] = c.after[0] = c.after[1] = 1;
        check_both_directions(&random, &c, PSG_F32);
    }
}

/* The weight's gradients are larger than what they are made of (kept as windows), or smaller (kept as rows). */
static void large_and_small_parameters(void **state) {
    (void)state;
    test_random random = { 26 };
    conv_case large = plain_case(1, 3, 40, 50), small = plain_case(1, 3, 3, 4);
    large.in[0] = 5;
    small.in[0] = 90;
    large.kernel[0] = small.kernel[0] = 3;
    check_both_directions(&random, &large, PSG_F64);
    check_both_directions(&random, &small, PSG_F64);
}

/* ---- every small shape ---- */

static void check_small(test_random *random, conv_case c) {
    conv_find_output(&c);
    for (int d = 0; d < c.spatial; d++) {
        const int64_t reach = c.dilation[d] * (c.kernel[d] - 1) + 1;
        if (c.transposed ? c.out[d] < 1 : c.in[d] + c.padding[d] + c.after[d] < reach) return;
        if (c.transposed && c.after[d] >= c.stride[d] && c.after[d] >= c.dilation[d]) return;
    }
    check_case(random, &c, c.in[0] % 2 ? PSG_F32 : PSG_F64, false, NULL);
}

/* Channels of a group that are summed in vectors, or by the kernels of few channels; one and several groups; no batch;
 * no channels. */
static void check_channels(test_random *random, conv_case c) {
    static const int64_t list[][4] = { { 2, 1, 1, 1 }, { 2, 1, 5, 4 }, { 1, 2, 3, 6 }, { 1, 3, 1, 1 }, { 0, 1, 2, 2 },
                                       { 1, 1, 0, 2 }, { 1, 2, 2, 0 } };
    for (size_t k = 0; k < sizeof list / sizeof list[0]; k++) {
        c.batch = list[k][0];
        c.groups = list[k][1];
        c.in_channels = list[k][1] * list[k][2];
        c.out_channels = list[k][1] * list[k][3];
        check_small(random, c);
    }
}

/* Axes of sizes 0 and 1 among them: windows that lie in the padding alone, outputs of no input. */
static void every_small_shape(void **state) {
    (void)state;
    test_random random = { 28 };
    for (int k = 0; k < 2 * 3 * 3 * 3 * 2 * 3 * 2; k++) {
        conv_case c = plain_case(1, 1, 1, 1);
        int rest = k / 2;
        c.transposed = k % 2;
        c.in[0] = rest % 3, rest /= 3;
        c.kernel[0] = 1 + rest % 3, rest /= 3;
        c.stride[0] = 1 + rest % 3, rest /= 3;
        c.dilation[0] = 1 + rest % 2, rest /= 2;
        c.after[0] = rest % 3, rest /= 3;
        c.padding[0] = rest % 2;
        check_channels(&random, c);
        c.spatial = 2 + k % 2;
        for (int d = 1; d < c.spatial; d++) {
            c.in[d] = (k / 5 + d) % 3;
            c.kernel[d] = 1 + k / 7 % 2;
            c.padding[d] = c.transposed ? 0 : c.kernel[d] - 1;
            c.after[d] = c.transposed ? 0 : 1;
        }
        check_channels(&random, c);
    }
}

/* ---- laws ---- */

static void same_bits(const psg_tensor *a, const psg_tensor *b) { assert_true(test_same_bits(a, b)); }

static psg_tensor grad_sample_of(const world *w, const psg_param *param, int64_t batch, test_array *out) {
    const psg_tensor *value = psg_param_value(param);
    int64_t shape[PSG_MAX_RANK] = { batch };
    psg_gradient gradient;
    test_random random = { 5 };
    for (int d = 0; d < value->rank; d++) shape[d + 1] = value->shape[d];
    *out = test_array_new(&random, value->dtype, value->rank + 1, shape, TEST_CONTIGUOUS);
    TEST_OK(w->context, psg_gradient_of(w->tape, param, &gradient));
    TEST_OK(w->context, psg_grad_sample(w->context, &gradient, 1.0, PSG_OVERWRITE, &out->view));
    return out->view;
}

static void compare_threads(const conv_case *c, uint64_t seed) {
    const unsigned threads[] = { 1, 2, 5 };
    psg_pass pass = PSG_PASS_INIT;
    world w[3];
    test_array weight[3];
    psg_tensor grad[3];
    for (int k = 0; k < 3; k++) {
        test_random random = { seed };
        make_world(&w[k], &random, c, PSG_F32, false, threads[k], NULL);
        run_pass(&w[k], c, &pass);
        grad[k] = grad_sample_of(&w[k], w[k].weight, c->batch, &weight[k]);
        same_bits(&w[k].y, &w[0].y);
        same_bits(&w[k].grad_x, &w[0].grad_x);
        same_bits(&grad[k], &grad[0]);
    }
    for (int k = 0; k < 3; k++) {
        test_array_free(&weight[k]);
        free_world(&w[k]);
    }
}

static void any_number_of_threads_gives_the_same_bits(void **state) {
    (void)state;
    conv_case c = plain_case(2, 9, 12, 20), few = plain_case(1, 1, 5, 6);
    c.in[0] = c.in[1] = 13;
    c.kernel[0] = c.kernel[1] = 3;
    conv_find_output(&c);
    compare_threads(&c, 31);
    c.groups = 4;
    compare_threads(&c, 32);
    c.out_channels = c.groups = c.in_channels;
    compare_threads(&c, 33);
    few.in[0] = 4000;
    few.kernel[0] = 5;
    conv_find_output(&few);
    compare_threads(&few, 34);
}

/* One weight used twice: conv(conv(x)), whose gradient is that of both uses; against differences of the loss. */
static void a_weight_used_twice(void **state) {
    (void)state;
    test_random random = { 51 };
    psg_context *context = test_context(2, NULL);
    psg_tape *tape;
    psg_param *weight;
    TEST_OK(context, psg_tape_create(context, &tape));
    test_array x = test_array_normal(&random, PSG_F64, 4, (int64_t[]){ 3, 4, 6, 5 }, TEST_CONTIGUOUS);
    test_array w = test_array_normal(&random, PSG_F64, 4, (int64_t[]){ 4, 4, 3, 3 }, TEST_CONTIGUOUS);
    TEST_OK(context, psg_param_create(context, "weight", &w.view, &weight));
    const psg_conv_options same = { .padding_rule = PSG_CONV_SAME };
    double losses[2][3];
    test_array out = test_array_new(&random, PSG_F64, 5, (int64_t[]){ 3, 4, 4, 3, 3 }, TEST_CONTIGUOUS);
    const double h = 1e-5;
    for (int64_t i = 0; i < 144; i += 7) {
        for (int side = 0; side < 3; side++) {
            double kept = test_get_at(&w.view, i);
            if (side < 2) test_set_at(&w.view, i, kept + (side ? h : -h));
            TEST_OK(context, psg_tape_begin(tape, NULL));
            psg_var y = psg_conv2d(tape, psg_input(tape, &x.view), psg_use(tape, weight), psg_none(), &same);
            y = psg_conv2d(tape, y, psg_use(tape, weight), psg_none(), &same);
            psg_tensor value;
            TEST_OK(context, psg_value(tape, y, &value));
            for (int64_t n = 0; n < 3 && side < 2; n++) {
                losses[side][n] = 0;
                for (int64_t k = 0; k < 120; k++) losses[side][n] += test_get_at(&value, n * 120 + k);
            }
            test_set_at(&w.view, i, kept);
            if (side < 2) continue;
            TEST_OK(context, psg_backward_from(tape, y, NULL));
            psg_gradient gradient;
            TEST_OK(context, psg_gradient_of(tape, weight, &gradient));
            TEST_OK(context, psg_grad_sample(context, &gradient, 1.0, PSG_OVERWRITE, &out.view));
            for (int64_t n = 0; n < 3; n++) {
                double slope = (losses[1][n] - losses[0][n]) / (2 * h);
                test_near(test_get_at(&out.view, n * 144 + i), slope, 1e-5 * (1 + fabs(slope)), "tied weight", i);
            }
        }
    }
    psg_param_destroy(weight);
    psg_tape_destroy(tape);
    test_array_free(&x);
    test_array_free(&w);
    test_array_free(&out);
    test_context_free(context);
}

/* A passed infinity stays in its sample. */
static void samples_do_not_meet(void **state) {
    (void)state;
    test_random random = { 52 };
    psg_pass pass = PSG_PASS_INIT;
    for (int groups = 1; groups <= 6; groups += 5) {
        conv_case c = plain_case(2, 40, 6, 6);
        c.groups = groups;
        c.in[0] = c.in[1] = 4;
        c.kernel[0] = c.kernel[1] = 3;
        conv_find_output(&c);
        world w;
        make_world(&w, &random, &c, PSG_F32, false, 2, NULL);
        test_set_at(&w.x.view, 17 * 6 * 16 + 5, INFINITY);
        test_set_at(&w.grad_y.view, 23 * 6 * 4 + 2, NAN);
        run_pass(&w, &c, &pass);
        test_array out;
        psg_tensor weight = grad_sample_of(&w, w.weight, c.batch, &out);
        const int64_t size = psg_tensor_count(&weight) / c.batch;
        for (int64_t n = 0; n < c.batch; n++) {
            for (int64_t k = 0; k < 6 * 4; k++) assert_true(n == 17 || isfinite(test_get_at(&w.y, n * 24 + k)));
            for (int64_t k = 0; k < 6 * 16; k++) assert_true(n == 23 || isfinite(test_get_at(&w.grad_x, n * 96 + k)));
            for (int64_t k = 0; k < size; k++) {
                assert_true(n == 17 || n == 23 || isfinite(test_get_at(&weight, n * size + k)));
            }
        }
        test_array_free(&out);
        free_world(&w);
    }
}

/* ---- memory ---- */

static void later_passes_allocate_nothing(void **state) {
    (void)state;
    test_random random = { 61 };
    psg_pass pass = PSG_PASS_INIT;
    for (int groups = 1; groups <= 8; groups += 7) {
        conv_case c = plain_case(2, 6, 8, 16);
        c.groups = groups;
        c.in[0] = c.in[1] = 9;
        c.kernel[0] = c.kernel[1] = 3;
        c.stride[0] = c.stride[1] = 2;
        conv_find_output(&c);
        world w;
        make_world(&w, &random, &c, PSG_F32, false, 2, NULL);
        for (int k = 0; k < 2; k++) run_pass(&w, &c, &pass);
        uint64_t before = psg_context_allocations(w.context);
        run_pass(&w, &c, &pass);
        assert_int_equal(psg_context_allocations(w.context), before);
        free_world(&w);
    }
}

/* ---- refusals that the tables cannot write ---- */

typedef struct refusal {
    psg_status status;
    const char *text;
    psg_conv_options options;
} refusal;

static void expect_refusal(psg_context *context, psg_tape *tape, psg_status status, const char *text) {
    (void)context;
    assert_int_equal(psg_tape_status(tape), status);
    if (!strstr(psg_tape_message(tape), text)) {
        fail_msg("\"%s\" does not hold \"%s\"", psg_tape_message(tape), text);
    }
}

static void options_out_of_range(void **state) {
    (void)state;
    const refusal refusals[] = {
        { PSG_ERR_ARGUMENT, "conv: padding_rule is 3", { .padding_rule = (psg_conv_padding)3 } },
        { PSG_ERR_ARGUMENT, "conv: padding_mode is 9", { .padding_mode = (psg_pad_mode)9 } },
        { PSG_ERR_ARGUMENT, "padding[1] is 2, must be 0", { .padding = { 0, 2 }, .padding_rule = PSG_CONV_VALID } },
        { PSG_ERR_ARGUMENT, "stride[0] is 4294967296, must be in [1, 2147483647]", { .stride = { INT64_C(1) << 32 } } },
        { PSG_ERR_ARGUMENT, "padding[1] is 4294967296", { .padding = { 0, INT64_C(1) << 32 } } },
        { PSG_ERR_ARGUMENT, "dilation[1] is", { .dilation = { 1, INT64_MAX } } },
        { PSG_ERR_SHAPE, "kernel reaches over 4294967293 elements", { .dilation = { INT32_MAX - 1, 1 } } },
        { PSG_ERR_ARGUMENT, "dilation[0] is -1", { .dilation = { -1 }, .padding_mode = PSG_PAD_REFLECT,
                                                   .padding = { 1 } } },
        { PSG_ERR_ARGUMENT, "padding[0] is -1", { .padding = { -1 }, .padding_mode = PSG_PAD_CIRCULAR } },
        { PSG_ERR_ARGUMENT, "conv: stride[1] is 0: give all 2 entries or none (PSG_ALL(2))", { .stride = { 2 } } },
        { PSG_ERR_ARGUMENT, "dilation[0] is 0: give all 2 entries or none (PSG_ALL(3))", { .dilation = { 0, 3 } } },
        { PSG_ERR_SHAPE, "groups is 5", { .groups = 5 } },
        { PSG_ERR_SHAPE, "groups is 9223372036854775807", { .groups = INT64_MAX } },
        { PSG_ERR_ARGUMENT, "groups is -9223372036854775808", { .groups = INT64_MIN } },
        { PSG_ERR_ARGUMENT, "dilation[0] is 9223372036854775807", { .dilation = PSG_ALL(INT64_MAX),
                                                                   .padding_rule = PSG_CONV_SAME } },
        { PSG_ERR_OVERFLOW, "the output shape", { .padding = PSG_ALL(INT32_MAX) } },
    };
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    float values[4 * 2 * 5 * 5] = { 0 };
    const psg_tensor x = psg_f32_4d(values, 2, 4, 5, 5), w = psg_f32_4d(values, 3, 4, 3, 3);
    for (size_t k = 0; k < sizeof refusals / sizeof refusals[0]; k++) {
        TEST_OK(context, psg_tape_begin(tape, NULL));
        psg_conv2d(tape, psg_input(tape, &x), psg_constant(tape, &w), psg_none(), &refusals[k].options);
        expect_refusal(context, tape, refusals[k].status, refusals[k].text);
    }
    psg_tape_destroy(tape);
    test_context_free(context);
}

static void transposed_options_out_of_range(void **state) {
    (void)state;
    static const struct {
        psg_status status;
        const char *text;
        psg_conv_transpose_options options;
    } refusals[] = {
        { PSG_ERR_ARGUMENT, "stride[0] is 9223372036854775807", { .stride = PSG_ALL(INT64_MAX) } },
        { PSG_ERR_ARGUMENT, "padding[1] is 9223372036854775807", { .padding = { 0, INT64_MAX } } },
        { PSG_ERR_ARGUMENT, "dilation[0] is -9223372036854775808", { .dilation = PSG_ALL(INT64_MIN) } },
        { PSG_ERR_ARGUMENT, "output_padding[0] is 9223372036854775807", { .output_padding = { INT64_MAX } } },
        { PSG_ERR_ARGUMENT, "output_padding[0] is 3, must be less than stride 3 or dilation 2",
          { .output_padding = { 3 }, .stride = PSG_ALL(3), .dilation = PSG_ALL(2) } },
        { PSG_ERR_SHAPE, "the output of spatial dimension 0 would have -4294967289 elements",
          { .padding = PSG_ALL(INT32_MAX) } },
        { PSG_ERR_OVERFLOW, "the output shape (2, 3, 10737418235",
          { .stride = PSG_ALL(INT32_MAX), .dilation = PSG_ALL(INT32_MAX), .output_padding = PSG_ALL(INT32_MAX - 1) } },
        { PSG_ERR_SHAPE, "groups is 9223372036854775807", { .groups = INT64_MAX } },
    };
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    float values[4 * 3 * 3 * 3] = { 0 };
    const psg_tensor x = psg_f32_4d(values, 2, 4, 3, 3), w = psg_f32_4d(values, 4, 3, 3, 3);
    for (size_t k = 0; k < sizeof refusals / sizeof refusals[0]; k++) {
        TEST_OK(context, psg_tape_begin(tape, NULL));
        psg_conv_transpose2d(tape, psg_input(tape, &x), psg_constant(tape, &w), psg_none(), &refusals[k].options);
        expect_refusal(context, tape, refusals[k].status, refusals[k].text);
    }
    psg_tape_destroy(tape);
    test_context_free(context);
}

static void operands_of_another_kind(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    float values[200] = { 0 };
    double doubles[200] = { 0 };
    int64_t integers[200] = { 0 };
    const psg_tensor x = psg_f32_3d(values, 2, 4, 5), w = psg_f32_3d(values, 2, 4, 3);
    const psg_tensor w_f64 = psg_tensor_of(PSG_F64, doubles, 3, w.shape);
    const psg_tensor x_i64 = psg_tensor_of(PSG_I64, integers, 3, x.shape);
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_conv1d(tape, psg_input(tape, &x), psg_constant(tape, &w_f64), psg_none(), NULL);
    expect_refusal(context, tape, PSG_ERR_DTYPE, "conv: weight is f64");
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_conv1d(tape, psg_input(tape, &x_i64), psg_constant(tape, &w), psg_none(), NULL);
    expect_refusal(context, tape, PSG_ERR_DTYPE, "conv: input is i64");
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_conv1d(tape, psg_input(tape, &x), psg_input(tape, &w), psg_none(), NULL);
    expect_refusal(context, tape, PSG_ERR_UNSUPPORTED, "conv: weight is computed in this pass");
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_conv_transpose1d(tape, psg_input(tape, &x), psg_none(), psg_none(), NULL);
    expect_refusal(context, tape, PSG_ERR_ARGUMENT, "conv_transpose: weight is absent");
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_conv2d(tape, psg_input(tape, &x), psg_constant(tape, &w), psg_none(), NULL);
    expect_refusal(context, tape, PSG_ERR_SHAPE, "conv: input has shape (2, 4, 5), conv2d takes rank 4: batch,");
    const psg_conv_attributes reflect = { { .padding = { 1 }, .padding_mode = PSG_PAD_REFLECT }, 0 };
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_apply(tape, "conv", (psg_var[]){ psg_input(tape, &x), psg_constant(tape, &w) }, 2, &reflect);
    expect_refusal(context, tape, PSG_ERR_ARGUMENT, "conv: padding_mode is 1");
    psg_tape_destroy(tape);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_geometries_agree_with_loops),
        cmocka_unit_test(kernels_of_many_taps),
        cmocka_unit_test(far_windows),
        cmocka_unit_test(large_images_and_many_channels),
        cmocka_unit_test(depthwise_images_in_boxes),
        cmocka_unit_test(planes_of_3x3),
        cmocka_unit_test(many_small_samples),
        cmocka_unit_test(large_and_small_parameters),
        cmocka_unit_test(every_small_shape),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(a_weight_used_twice),
        cmocka_unit_test(samples_do_not_meet),
        cmocka_unit_test(later_passes_allocate_nothing),
        cmocka_unit_test(options_out_of_range),
        cmocka_unit_test(transposed_options_out_of_range),
        cmocka_unit_test(operands_of_another_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
