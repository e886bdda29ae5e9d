/* The tape with a user's ops: values, gradients, batches.  Memory: test_tape_memory.c; errors: test_tape_errors.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "toy_network.h"

enum { IN = NETWORK_IN, OUT = NETWORK_OUT };

/* What sample n alone gives, from a tape of its own. */
static double *alone(network *net, const psg_pass *pass, const psg_tensor *x, int64_t n, const psg_param *param) {
    int64_t shape[PSG_MAX_RANK];
    memcpy(shape, x->shape, sizeof shape);
    int dim = pass->batch_second && x->rank >= 3;
    shape[dim] = 1;
    psg_tensor sample = psg_tensor_strided(x->dtype, x->data, x->rank, shape, x->stride);
    sample.data = (char *)x->data + n * x->stride[dim] * (int64_t)psg_dtype_size(x->dtype);
    psg_pass single = *pass;
    single.loss_reduction = PSG_LOSS_SUM;
    single.batch_size = single.has_batch_size = 0;
    if (network_step(net, &single, &sample, 0)) fail_msg("%s", psg_tape_message(net->tape));
    return grad_sample_of(net->tape, param);
}

static void check_against_alone(network *net, psg_pass pass, const psg_tensor *x, int mean) {
    psg_param *params[] = { net->a, net->w, net->b };
    int64_t batch = x->shape[pass.batch_second && x->rank >= 3];
    pass.loss_reduction = mean ? PSG_LOSS_MEAN : PSG_LOSS_SUM;
    for (int k = 0; k < 3; k++) {
        psg_tape *together = net->tape, *apart = new_tape(net->context);
        if (network_step(net, &pass, x, mean)) fail_msg("%s", psg_tape_message(net->tape));
        assert_int_equal(psg_tape_batch_size(together), batch);
        double *all = grad_sample_of(together, params[k]);
        int64_t count = psg_tensor_count(psg_param_value(params[k]));
        net->tape = apart;
        for (int64_t n = 0; n < batch; n++) {
            double *one = alone(net, &pass, x, n, params[k]);
            for (int64_t i = 0; i < count; i++) {
                double bound = test_bound(net->dtype, 40, 50 + fabs(one[i]));
                test_near(all[n * count + i], one[i], bound, "alone", i);
            }
            free(one);
        }
        net->tape = together;
        psg_tape_destroy(apart);
        free(all);
    }
}

static void every_sample_is_what_it_is_alone(void **state) {
    (void)state;
    static const int64_t shapes[][4] = { { 4, IN }, { 4, 3, IN }, { 2, 3, 2, IN }, { 1, IN }, { 3, 1, IN } };
    static const int ranks[] = { 2, 3, 4, 2, 3 };
    for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
        network net = new_network((psg_dtype)dtype);
        test_random random = { 7 };
        for (int k = 0; k < 5 * 8; k++) {
            psg_pass pass = PSG_PASS_INIT;
            pass.batch_second = k / 5 & 1;
            int layout = k / 5 & 2 ? TEST_PERMUTED : TEST_CONTIGUOUS;
            test_array x = test_array_normal(&random, net.dtype, ranks[k % 5], shapes[k % 5], layout);
            check_against_alone(&net, pass, &x.view, k / 5 & 4);
            test_array_free(&x);
        }
        free_network(&net);
    }
}

/* ---- several consumers ---- */

static void shared_vars_add_their_gradients(void **state) {
    (void)state;
    psg_context *context = test_context(2, NULL);
    psg_tape *tape = new_tape(context);
    enum { COUNT = 200000 };   /* more than one part of the parallel sum */
    double *values = malloc(COUNT * sizeof *values);
    for (int i = 0; i < COUNT; i++) values[i] = 1.0 + i % 13;
    psg_tensor x = psg_tensor_of(PSG_F64, values, 2, (int64_t[]){ 4, COUNT / 4 }), grad;
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_var v = psg_input_with_grad(tape, &x);
    psg_var square = apply2(tape, &toy_multiply, v, v);
    psg_var fourth = apply2(tape, &toy_multiply, square, square);
    psg_var fifth = apply2(tape, &toy_multiply, fourth, v);
    TEST_OK(context, psg_backward_from(tape, fifth, NULL));
    TEST_OK(context, psg_input_grad(tape, v, &grad));
    for (int i = 0; i < COUNT; i++) assert_true(((double *)grad.data)[i] == 5 * pow(values[i], 4));
    TEST_OK(context, psg_input_grad(tape, square, &grad));   /* on the way: d x^5 / d x^2 along the squares = 2 x^3 */
    for (int i = 0; i < COUNT; i++) assert_true(((double *)grad.data)[i] == 2 * pow(values[i], 3));
    free(values);
    psg_tape_destroy(tape);
    test_context_free(context);
}

/* y = (x W^T) W^T with one W, against the same with two parameters of equal values. */
static void tied_parameters_are_summed(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape = new_tape(context);
    test_random random = { 5 };
    test_array value = test_array_normal(&random, PSG_F64, 2, (int64_t[]){ 4, 4 }, TEST_CONTIGUOUS);
    test_array x = test_array_normal(&random, PSG_F64, 3, (int64_t[]){ 3, 2, 4 }, TEST_CONTIGUOUS);
    psg_param *first = new_param(context, "first", &value.view), *second = new_param(context, "second", &value.view);
    double *got[3] = { NULL };
    for (int tied = 0; tied < 2; tied++) {
        TEST_OK(context, psg_tape_begin(tape, NULL));
        psg_var h = apply2(tape, &toy_matmul, psg_input(tape, &x.view), psg_use(tape, first));
        psg_var y = apply2(tape, &toy_matmul, h, psg_use(tape, tied ? first : second));
        TEST_OK(context, psg_backward_from(tape, y, NULL));
        got[tied ? 2 : 0] = grad_sample_of(tape, first);
        if (!tied) got[1] = grad_sample_of(tape, second);
    }
    for (int i = 0; i < 3 * 16; i++) test_near(got[2][i], got[0][i] + got[1][i], 1e-12, "tied", i);
    for (int k = 0; k < 3; k++) free(got[k]);
    psg_param_destroy(first);
    psg_param_destroy(second);
    test_array_free(&value);
    test_array_free(&x);
    psg_tape_destroy(tape);
    test_context_free(context);
}

/* ---- who gets a gradient ---- */

static void frozen_parameters_get_none(void **state) {
    (void)state;
    network net = new_network(PSG_F64);
    double values[2 * IN] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 };
    psg_tensor x = psg_tensor_of(PSG_F64, values, 2, (int64_t[]){ 2, IN });
    psg_gradient gradient;
    psg_param_set_trainable(net.w, 0);
    assert_false(psg_param_is_trainable(net.w));
    TEST_OK(net.context, network_step(&net, NULL, &x, 0));
    assert_int_equal(psg_gradient_of(net.tape, net.w, &gradient), PSG_ERR_STATE);
    assert_non_null(strstr(psg_context_message(net.context), "\"w\" has no gradient: it is frozen"));
    assert_true(gradient.block_count == 0 && gradient.batch_size == 2 && gradient.shape[0] == OUT);
    TEST_OK(net.context, psg_gradient_of(net.tape, net.a, &gradient));
    TEST_OK(net.context, psg_gradient_of(net.tape, net.b, &gradient));
    psg_param_set_trainable(net.w, 1);
    TEST_OK(net.context, network_step(&net, NULL, &x, 0));
    TEST_OK(net.context, psg_gradient_of(net.tape, net.w, &gradient));
    free_network(&net);
}

/* A frozen parameter may stand where an op takes no parameters, as any constant. */
static void frozen_parameters_are_constants(void **state) {
    (void)state;
    network net = new_network(PSG_F64);
    double values[OUT] = { 1, 2, 3 };
    psg_tensor x = psg_tensor_of(PSG_F64, values, 2, (int64_t[]){ 1, OUT }), y;
    psg_param_set_trainable(net.w, 0);
    TEST_OK(net.context, psg_tape_begin(net.tape, NULL));
    psg_var v = apply2(net.tape, &toy_multiply, psg_input(net.tape, &x), psg_use(net.tape, net.w));
    TEST_OK(net.context, psg_value(net.tape, v, &y));
    for (int i = 0; i < OUT; i++) assert_true(test_get_at(&y, i) == values[i] * test_get_at(&net.w_value.view, i));
    free_network(&net);
}

static void unreached_parameters_keep_their_array(void **state) {
    (void)state;
    network net = new_network(PSG_F64);
    double values[2 * IN] = { 0 }, kept[2 * OUT];
    psg_tensor x = psg_tensor_of(PSG_F64, values, 2, (int64_t[]){ 2, IN });
    psg_tensor array = psg_tensor_of(PSG_F64, kept, 2, (int64_t[]){ 2, OUT });
    psg_gradient gradient;
    for (int i = 0; i < 2 * OUT; i++) kept[i] = 42;
    TEST_OK(net.context, psg_param_attach_grad_sample(net.w, &array));
    TEST_OK(net.context, psg_tape_begin(net.tape, NULL));
    psg_var h = apply2(net.tape, &toy_matmul, psg_input(net.tape, &x), psg_use(net.tape, net.a));
    (void)apply3(net.tape, &toy_scale, h, psg_use(net.tape, net.w), psg_none());   /* not part of the loss */
    TEST_OK(net.context, psg_backward_from(net.tape, h, NULL));
    assert_int_equal(psg_gradient_of(net.tape, net.w, &gradient), PSG_ERR_STATE);
    assert_non_null(strstr(psg_context_message(net.context), "the loss does not depend on it"));
    assert_int_equal(psg_gradient_of(net.tape, net.b, &gradient), PSG_ERR_STATE);
    assert_non_null(strstr(psg_context_message(net.context), "it was not used in this pass"));
    for (int i = 0; i < 2 * OUT; i++) assert_true(kept[i] == 42);
    assert_false(psg_param_has_grad_sample(net.w));
    free_network(&net);
}

static void nothing_is_computed_for_nobody(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape = new_tape(context);
    double values[4] = { 1, 2, 3, 4 };
    int calls = 0;
    toy_multiply_attributes attributes = { &calls };
    psg_tensor x = psg_tensor_of(PSG_F64, values, 2, (int64_t[]){ 2, 2 }), grad;
    for (int wanted = 0; wanted < 2; wanted++) {
        TEST_OK(context, psg_tape_begin(tape, NULL));
        psg_var pair[2] = { wanted ? psg_input_with_grad(tape, &x) : psg_input(tape, &x), psg_constant(tape, &x) };
        psg_var y = psg_record(tape, &toy_multiply, pair, 2, &attributes);
        TEST_OK(context, psg_backward_from(tape, y, NULL));
        assert_int_equal(calls, wanted);
        assert_int_equal(psg_input_grad(tape, pair[1], &grad), PSG_ERR_STATE);
        assert_int_equal(psg_input_grad(tape, pair[0], &grad), wanted ? PSG_OK : PSG_ERR_STATE);
    }
    psg_tape_destroy(tape);
    test_context_free(context);
}

/* ---- attached arrays ---- */

static void attached_arrays_are_written(void **state) {
    (void)state;
    network net = new_network(PSG_F64);
    test_random random = { 11 };
    test_array x = test_array_normal(&random, PSG_F64, 2, (int64_t[]){ 3, IN }, TEST_CONTIGUOUS);
    test_array array = test_array_normal(&random, PSG_F64, 3, (int64_t[]){ 3, OUT, IN }, TEST_PERMUTED);
    psg_pass pass = PSG_PASS_INIT;
    TEST_OK(net.context, psg_param_attach_grad_sample(net.a, &array.view));
    for (int round = 1; round <= 3; round++) {   /* overwritten, added to, added to */
        pass.accumulate = round > 1;
        TEST_OK(net.context, network_step(&net, &pass, &x.view, 0));
        assert_true(psg_param_has_grad_sample(net.a) && !psg_param_has_grad_sample(net.w));
        double *expected = grad_sample_of(net.tape, net.a);
        for (int i = 0; i < 3 * OUT * IN; i++) {
            test_near(test_get_at(&array.view, i), round * expected[i], 1e-12 * (1 + fabs(expected[i])), "attached", i);
        }
        free(expected);
    }
    pass.accumulate = 0;
    assert_int_equal(network_step(&net, &pass, &x.view, 0), PSG_ERR_STATE);
    pass.ordinary = 1;   /* leaves attached arrays alone */
    void *before = test_array_snapshot(&array);
    TEST_OK(net.context, network_step(&net, &pass, &x.view, 0));
    assert_true(test_array_unchanged(&array, before));
    free(before);
    pass.ordinary = 0;
    psg_param_clear_grad_sample(net.a);
    TEST_OK(net.context, network_step(&net, &pass, &x.view, 0));
    TEST_OK(net.context, psg_param_attach_grad_sample(net.a, &array.view));   /* not set yet */
    TEST_OK(net.context, network_step(&net, &pass, &x.view, 0));
    TEST_OK(net.context, psg_param_attach_grad_sample(net.a, NULL));
    TEST_OK(net.context, network_step(&net, &pass, &x.view, 0));
    assert_false(psg_param_has_grad_sample(net.a));
    test_array_free(&x);
    test_array_free(&array);
    free_network(&net);
}

/* ---- ordinary passes ---- */

/* One W used with (B, T, d) and with the same positions as (B T, d), and an op that couples the batch. */
static void ordinary_passes_give_sums(void **state) {
    (void)state;
    network net = new_network(PSG_F64);
    test_random random = { 13 };
    test_array x = test_array_normal(&random, PSG_F64, 3, (int64_t[]){ 4, 3, IN }, TEST_CONTIGUOUS);
    psg_tensor merged = psg_tensor_of(PSG_F64, x.view.data, 2, (int64_t[]){ 12, IN });
    psg_pass pass = PSG_PASS_INIT;
    double sums[OUT * IN], gram[1];
    psg_gradient gradient;
    const psg_gradient *pointer = &gradient;
    pass.ordinary = 1;
    TEST_OK(net.context, psg_tape_begin(net.tape, &pass));
    assert_int_equal(psg_tape_batch_size(net.tape), -1);
    psg_var long_way = apply2(net.tape, &toy_matmul, psg_input(net.tape, &x.view), psg_use(net.tape, net.a));
    psg_var short_way = apply2(net.tape, &toy_matmul, psg_input(net.tape, &merged), psg_use(net.tape, net.a));
    psg_var product = apply2(net.tape, &toy_multiply, apply1(net.tape, &toy_center, long_way), short_way);
    TEST_OK(net.context, psg_backward_from(net.tape, product, NULL));
    TEST_OK(net.context, psg_gradient_of(net.tape, net.a, &gradient));
    assert_true(gradient.batch_coupled && gradient.block_count == 2 && gradient.batch_size == 1);
    psg_tensor out = psg_tensor_of(PSG_F64, sums, 2, (int64_t[]){ OUT, IN });
    TEST_OK(net.context, psg_weighted_sum(net.context, &pointer, 1, NULL, PSG_OVERWRITE, &out));
    assert_int_equal(psg_gram(net.context, &pointer, 1, gram), PSG_ERR_UNSUPPORTED);
    /* d/dW of sum_i (c_i - mean c) c_i over positions i is 2 sum_i (c_i - mean c) x_i. */
    for (int64_t k = 0; k < OUT * IN; k++) {
        double expected = 0;
        for (int64_t i = 0; i < 12; i++) {
            double own = 0, mean = 0;
            for (int64_t n = 0; n < 4; n++) {
                double c = 0;
                for (int64_t j = 0; j < IN; j++) {
                    double weight = test_get_at(&net.a_value.view, k / IN * IN + j);
                    c += test_get_at(&merged, (n * 3 + i % 3) * IN + j) * weight;
                }
                mean += c / 4;
                if (n == i / 3) own = c;
            }
            expected += 2 * (own - mean) * test_get_at(&merged, i * IN + k % IN);
        }
        test_near(sums[k], expected, 1e-11 * (1 + fabs(expected)), "ordinary", k);
    }
    test_array_free(&x);
    free_network(&net);
}

/* ---- batches ---- */

static void empty_batches_are_batches(void **state) {
    (void)state;
    network net = new_network(PSG_F32);
    for (int given = 0; given < 2; given++) {
        psg_pass pass = PSG_PASS_INIT;
        pass.has_batch_size = given;
        psg_tensor x = psg_tensor_of(PSG_F32, NULL, 2, (int64_t[]){ 0, IN });
        TEST_OK(net.context, network_step(&net, &pass, &x, 0));
        psg_gradient gradient;
        TEST_OK(net.context, psg_gradient_of(net.tape, net.a, &gradient));
        assert_int_equal(gradient.batch_size, 0);
        float sum[OUT * IN];
        const psg_gradient *pointer = &gradient;
        psg_tensor out = psg_f32_2d(sum, OUT, IN);
        TEST_OK(net.context, psg_weighted_sum(net.context, &pointer, 1, NULL, PSG_OVERWRITE, &out));
        for (int i = 0; i < OUT * IN; i++) assert_true(sum[i] == 0);
    }
    free_network(&net);
}

static void integers_are_inputs(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape = new_tape(context);
    double values[6] = { 1, 2, 3, 4, 5, 6 };
    int64_t indices[4] = { 2, -7, 0, -7 };   /* every other one */
    psg_tensor x = psg_tensor_of(PSG_F64, values, 2, (int64_t[]){ 2, 3 }), y, grad;
    psg_tensor index = psg_tensor_strided(PSG_I64, indices, 1, (int64_t[]){ 2 }, (int64_t[]){ 2 });
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_var v = psg_input_with_grad(tape, &x), picked = apply2(tape, &toy_pick, v, psg_input(tape, &index));
    TEST_OK(context, psg_backward_from(tape, picked, NULL));
    TEST_OK(context, psg_value(tape, picked, &y));
    TEST_OK(context, psg_input_grad(tape, v, &grad));
    assert_true(test_get_at(&y, 0) == 3 && test_get_at(&y, 1) == 4);
    for (int i = 0; i < 6; i++) assert_true(test_get_at(&grad, i) == (i == 2 || i == 3));
    psg_tape_destroy(tape);
    test_context_free(context);
}

static void integers_on_the_way_want_nothing(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape = new_tape(context);
    double values[6] = { 1, 2, 3, 4, 5, 6 };
    psg_tensor x = psg_tensor_of(PSG_F64, values, 2, (int64_t[]){ 2, 3 }), y, grad;
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_var v = psg_input_with_grad(tape, &x), last = apply1(tape, &toy_last, v);
    psg_var picked = apply2(tape, &toy_pick, v, last);
    TEST_OK(context, psg_backward_from(tape, picked, NULL));
    TEST_OK(context, psg_value(tape, picked, &y));
    TEST_OK(context, psg_input_grad(tape, v, &grad));
    assert_true(test_get_at(&y, 0) == 3 && test_get_at(&y, 1) == 6);
    assert_int_equal(psg_input_grad(tape, last, &grad), PSG_ERR_STATE);
    psg_tape_destroy(tape);
    test_context_free(context);
}

/* The caller's gradient may have any strides, and blocks keep a copy of it. */
static void backward_from_takes_any_view(void **state) {
    (void)state;
    network net = new_network(PSG_F64);
    test_random random = { 17 };
    test_array x = test_array_normal(&random, PSG_F64, 2, (int64_t[]){ 3, IN }, TEST_ANY);
    test_array g = test_array_normal(&random, PSG_F64, 2, (int64_t[]){ 3, OUT }, TEST_NEGATIVE);
    TEST_OK(net.context, psg_tape_begin(net.tape, NULL));
    psg_var h = apply2(net.tape, &toy_matmul, psg_input(net.tape, &x.view), psg_use(net.tape, net.a));
    TEST_OK(net.context, psg_backward_from(net.tape, h, &g.view));
    double expected[3 * OUT * IN];
    for (int64_t i = 0; i < 3 * OUT * IN; i++) {
        expected[i] = test_get_at(&g.view, i / IN) * test_get_at(&x.view, i / (OUT * IN) * IN + i % IN);
    }
    test_fill_value(&g.view, NAN);
    double *got = grad_sample_of(net.tape, net.a);
    for (int i = 0; i < 3 * OUT * IN; i++) test_near(got[i], expected[i], 1e-12, "outer product", i);
    free(got);
    test_array_free(&x);
    test_array_free(&g);
    free_network(&net);
}

/* ---- randomness ---- */

static void noise_values(psg_tape *tape, int64_t batch, const int64_t *ids, uint64_t seed, int earlier_ops, double *y) {
    double zeros[6 * 4] = { 0 };
    psg_tensor x = psg_tensor_of(PSG_F64, zeros, 2, (int64_t[]){ batch, 4 }), value;
    psg_pass pass = PSG_PASS_INIT;
    pass.dropout_seed = seed;
    pass.sample_ids = ids;
    psg_tape_begin(tape, &pass);
    psg_var v = psg_input(tape, &x);
    for (int k = 0; k < earlier_ops; k++) (void)apply1(tape, &toy_sum, v);
    psg_var noise = apply1(tape, &toy_noise, v);
    tape_ok(tape);
    psg_value(tape, noise, &value);
    memcpy(y, value.data, (size_t)batch * 4 * sizeof *y);
}

static void random_streams_belong_to_samples(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape = new_tape(context);
    static const int64_t names[] = { 0, 1, 2, 3, 4, 5 };
    double all[24], part[24], other[24];
    noise_values(tape, 6, names, 1, 0, all);
    noise_values(tape, 3, (int64_t[]){ 5, 0, 2 }, 1, 0, part);
    for (int i = 0; i < 4; i++) {
        assert_true(part[i] == all[20 + i] && part[4 + i] == all[i] && part[8 + i] == all[8 + i]);
    }
    noise_values(tape, 6, names, 2, 0, other);       /* another seed */
    assert_memory_not_equal(all, other, sizeof all);
    noise_values(tape, 6, names, 1, 1, other);       /* another place on the tape */
    assert_memory_not_equal(all, other, sizeof all);
    for (int n = 1; n < 6; n++) assert_memory_not_equal(all, all + 4 * n, 4 * sizeof *all);
    psg_tape_destroy(tape);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sample_is_what_it_is_alone),
        cmocka_unit_test(shared_vars_add_their_gradients),
        cmocka_unit_test(tied_parameters_are_summed),
        cmocka_unit_test(frozen_parameters_get_none),
        cmocka_unit_test(frozen_parameters_are_constants),
        cmocka_unit_test(unreached_parameters_keep_their_array),
        cmocka_unit_test(nothing_is_computed_for_nobody),
        cmocka_unit_test(attached_arrays_are_written),
        cmocka_unit_test(ordinary_passes_give_sums),
        cmocka_unit_test(empty_batches_are_batches),
        cmocka_unit_test(integers_are_inputs),
        cmocka_unit_test(integers_on_the_way_want_nothing),
        cmocka_unit_test(backward_from_takes_any_view),
        cmocka_unit_test(random_streams_belong_to_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
