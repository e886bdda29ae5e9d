#include "toy_network.h"

#include <stdlib.h>
#include <string.h>

psg_var apply1(psg_tape *tape, const psg_op *op, psg_var a) { return psg_record(tape, op, &a, 1, NULL); }

psg_var apply2(psg_tape *tape, const psg_op *op, psg_var a, psg_var b) {
    return psg_record(tape, op, (psg_var[]){ a, b }, 2, NULL);
}

psg_var apply3(psg_tape *tape, const psg_op *op, psg_var a, psg_var b, psg_var c) {
    return psg_record(tape, op, (psg_var[]){ a, b, c }, 3, NULL);
}

void tape_ok(psg_tape *tape) {
    if (psg_tape_status(tape)) fail_msg("%s", psg_tape_message(tape));
}

psg_param *new_param(psg_context *context, const char *name, const psg_tensor *value) {
    psg_param *param;
    TEST_OK(context, psg_param_create(context, name, value, &param));
    return param;
}

psg_tape *new_tape(psg_context *context) {
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    return tape;
}

double *grad_sample_of(psg_tape *tape, const psg_param *param) {
    psg_gradient gradient;
    psg_context *context = psg_tape_context(tape);
    TEST_OK(context, psg_gradient_of(tape, param, &gradient));
    int64_t count = psg_tensor_count(psg_param_value(param));
    int64_t shape[1 + PSG_MAX_RANK] = { gradient.batch_size };
    memcpy(shape + 1, gradient.shape, sizeof gradient.shape);
    void *memory = malloc((size_t)(gradient.batch_size * count + 1) * sizeof(double));
    double *values = malloc((size_t)(gradient.batch_size * count + 1) * sizeof *values);
    psg_tensor out = psg_tensor_of(gradient.dtype, memory, gradient.rank + 1, shape);
    TEST_OK(context, psg_grad_sample(context, &gradient, 1.0, PSG_OVERWRITE, &out));
    for (int64_t i = 0; i < gradient.batch_size * count; i++) values[i] = test_get_at(&out, i);
    free(memory);
    return values;
}

network new_network_on(psg_context *context, psg_dtype dtype) {
    test_random random = { 3 };
    network net = { .context = context, .dtype = dtype, .tape = new_tape(context) };
    net.a_value = test_array_normal(&random, dtype, 2, (int64_t[]){ NETWORK_OUT, NETWORK_IN }, TEST_CONTIGUOUS);
    net.w_value = test_array_normal(&random, dtype, 1, (int64_t[]){ NETWORK_OUT }, TEST_CONTIGUOUS);
    net.b_value = test_array_normal(&random, dtype, 1, (int64_t[]){ NETWORK_OUT }, TEST_CONTIGUOUS);
    net.a = new_param(net.context, "a", &net.a_value.view);
    net.w = new_param(net.context, "w", &net.w_value.view);
    net.b = new_param(net.context, "b", &net.b_value.view);
    return net;
}

network new_network(psg_dtype dtype) { return new_network_on(test_context(2, NULL), dtype); }

void free_network(network *net) {
    psg_param_destroy(net->a);
    psg_param_destroy(net->w);
    psg_param_destroy(net->b);
    psg_tape_destroy(net->tape);
    test_array_free(&net->a_value);
    test_array_free(&net->w_value);
    test_array_free(&net->b_value);
    test_context_free(net->context);
}

psg_var network_output(network *net, psg_var x) {
    psg_var h = apply2(net->tape, &toy_matmul, x, psg_use(net->tape, net->a));
    return apply3(net->tape, &toy_scale, h, psg_use(net->tape, net->w), psg_use(net->tape, net->b));
}

psg_var network_loss(network *net, psg_var x, int mean) {
    psg_var y = network_output(net, x);
    psg_var square = apply2(net->tape, &toy_multiply, y, y);
    toy_sum_attributes attributes = { mean };
    return psg_record(net->tape, &toy_sum, &square, 1, &attributes);
}

psg_status network_step(network *net, const psg_pass *pass, const psg_tensor *x, int mean) {
    psg_status status = psg_tape_begin(net->tape, pass);
    if (status) return status;
    return psg_backward(net->tape, network_loss(net, psg_input(net->tape, x), mean));
}
