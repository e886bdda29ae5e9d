/* The memory of the tape: none taken in steady state, none lost when it runs out. */
#include "toy_network.h"

enum { IN = NETWORK_IN };

static void steady_steps_allocate_nothing(void **state) {
    (void)state;
    network net = new_network(PSG_F32);
    test_random random = { 19 };
    test_array x = test_array_normal(&random, PSG_F32, 3, (int64_t[]){ 40, 30, IN }, TEST_PERMUTED);
    psg_tensor fewer = x.view;
    fewer.shape[0] = 7;
    for (int round = 0; round < 3; round++) TEST_OK(net.context, network_step(&net, NULL, &x.view, 0));
    uint64_t before = psg_context_allocations(net.context);
    for (int round = 0; round < 5; round++) {
        TEST_OK(net.context, network_step(&net, NULL, round & 1 ? &fewer : &x.view, 0));
    }
    assert_int_equal(psg_context_allocations(net.context), before);
    size_t bytes = psg_tape_bytes(net.tape);
    psg_tape *fresh = new_tape(net.context), *old = net.tape;
    TEST_OK(net.context, psg_tape_reserve(fresh, bytes));
    net.tape = fresh;
    before = psg_context_allocations(net.context);
    TEST_OK(net.context, network_step(&net, NULL, &x.view, 0));
    assert_int_equal(psg_context_allocations(net.context), before);
    psg_tape_destroy(old);
    test_array_free(&x);
    free_network(&net);
}

static void outputs_are_aligned(void **state) {
    (void)state;
    network net = new_network(PSG_F32);
    float values[3 * IN] = { 0 };
    psg_tensor x = psg_f32_2d(values, 3, IN), y;
    TEST_OK(net.context, psg_tape_begin(net.tape, NULL));
    psg_var in = psg_input(net.tape, &x);
    TEST_OK(net.context, psg_value(net.tape, in, &y));
    assert_ptr_equal(y.data, values);   /* contiguous inputs are read in place */
    TEST_OK(net.context, psg_value(net.tape, network_output(&net, in), &y));
    assert_int_equal((uintptr_t)y.data % 64, 0);
    free_network(&net);
}

/* Everything from the context to the gradient, by an allocator that may fail. */
static psg_status whole_program(test_allocator *allocator, const psg_tensor *values, const psg_tensor *x) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.allocator = test_allocator_hook(allocator);
    options.threads = 1;
    psg_context *context;
    psg_tape *tape = NULL;
    psg_param *param = NULL;
    psg_gradient gradient;
    psg_status status = psg_context_create(&options, &context);
    if (status) return status;
    status = psg_op_register(context, &toy_scale);
    if (!status) status = psg_param_create(context, "weight", values, &param);
    if (!status) status = psg_tape_create(context, &tape);
    for (int round = 0; round < 2 && !status; round++) {
        psg_tape_begin(tape, NULL);
        psg_var v = psg_input_with_grad(tape, x);
        for (int k = 0; k < 12; k++) v = psg_apply(tape, "toy_scale", (psg_var[]){ v, psg_use(tape, param) }, 2, NULL);
        status = psg_backward_from(tape, v, NULL);
        if (!status) status = psg_gradient_of(tape, param, &gradient);
        if (status) assert_true(psg_tape_message(tape)[0] != 0);
    }
    psg_tape_destroy(tape);
    psg_param_destroy(param);
    psg_context_destroy(context);
    return status;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    static double x[64 * 200], w[200];   /* enough to need several chunks */
    psg_tensor value = psg_tensor_of(PSG_F64, w, 1, (int64_t[]){ 200 });
    psg_tensor input = psg_tensor_strided(PSG_F64, x, 2, (int64_t[]){ 64, 200 }, (int64_t[]){ 1, 64 });
    for (int forever = 0; forever < 2; forever++) {
        uint64_t n = 1;
        for (psg_status status = PSG_ERR_MEMORY; status; n++) {
            test_allocator allocator = { 0 };
            test_allocator_arm(&allocator, n, forever);
            status = whole_program(&allocator, &value, &input);
            assert_true(status == PSG_OK || status == PSG_ERR_MEMORY);
            assert_true((allocator.failed == 0) == (status == PSG_OK));
            assert_true(!allocator.live_bytes && !allocator.live_blocks && !allocator.mistakes);
        }
        assert_true(n > 8);
    }
}

/* A tape that ran out of memory goes on with the next pass. */
static void a_failed_pass_is_forgotten(void **state) {
    (void)state;
    test_allocator allocator = { 0 };
    network net = new_network_on(test_context_with(&allocator, 1, NULL, 0), PSG_F64);
    test_random random = { 23 };
    test_array x = test_array_normal(&random, PSG_F64, 2, (int64_t[]){ 2000, IN }, TEST_CONTIGUOUS);
    for (uint64_t n = 1; n <= 3; n++) {
        test_allocator_arm(&allocator, n, true);
        psg_status status = network_step(&net, NULL, &x.view, 0);
        test_allocator_arm(&allocator, 0, false);
        if (status) assert_int_equal(status, PSG_ERR_MEMORY);
        assert_int_equal(psg_tape_status(net.tape), status);
        TEST_OK(net.context, network_step(&net, NULL, &x.view, 0));
        assert_int_equal(psg_tape_status(net.tape), PSG_OK);
    }
    test_array_free(&x);
    free_network(&net);
    assert_int_equal(allocator.live_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steady_steps_allocate_nothing),
        cmocka_unit_test(outputs_are_aligned),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(a_failed_pass_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
