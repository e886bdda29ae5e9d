/* An op of one's own: snake, y = x + sin(a x)^2 / a with a parameter a for each feature (Ziyin, Hartwig and Ueda 2020).
 * Shapes, forward and backward are all it takes: every question is answered, and psg_op_check compares gradients with
 * differences and each sample with itself alone. */
#include <math.h>
#include <psg/psg.h>
#include <stdio.h>

enum { RECORDS = 4, IN = 3 };

static psg_status snake_shape(psg_call *call) {
    const psg_tensor *x = &call->input[0].value, *a = &call->input[1].value;
    if (a->rank != 1 || x->rank < 2 || a->shape[0] != x->shape[x->rank - 1]) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "a must have one element for each of the input's last dimension");
    }
    return psg_call_output(call, x->dtype, x->rank, x->shape);
}

/* Elements of both real types, as double. */
static double get(const psg_tensor *x, int64_t k) {
    return x->dtype == PSG_F32 ? (double)((const float *)x->data)[k] : ((const double *)x->data)[k];
}
static void set(const psg_tensor *x, int64_t k, double value) {
    if (x->dtype == PSG_F32) ((float *)x->data)[k] = (float)value;
    else ((double *)x->data)[k] = value;
}

static psg_status snake_forward(psg_call *call) {
    const psg_tensor *x = &call->input[0].value, *a = &call->input[1].value;
    for (int64_t k = 0, count = psg_tensor_count(x); k < count; k++) {
        const double ak = get(a, k % a->shape[0]), s = sin(ak * get(x, k));
        set(&call->output, k, get(x, k) + s * s / ak);
    }
    return PSG_OK;
}

/* dy/dx = 1 + sin(2 a x), dy/da = (x sin(2 a x) - sin(a x)^2 / a) / a: a's gradient is a row for each position. */
static psg_status snake_backward(psg_call *call) {
    const psg_tensor *x = &call->input[0].value, *a = &call->input[1].value, *g = &call->grad_output;
    const int64_t count = psg_tensor_count(x);
    psg_tensor rows = *g;
    rows.data = psg_call_keep(call, (size_t)count * psg_dtype_size(x->dtype));
    if (!rows.data) return PSG_ERR_MEMORY;
    for (int64_t k = 0; k < count; k++) {
        const double ak = get(a, k % a->shape[0]), xk = get(x, k), s = sin(ak * xk), s2 = sin(2 * ak * xk);
        if (call->input[0].grad.data) set(&call->input[0].grad, k, get(g, k) * (1 + s2));
        set(&rows, k, get(g, k) * (xk * s2 - s * s / ak) / ak);
    }
    return psg_call_add_rows(call, 1, &rows);
}

static const char *const snake_inputs[] = { "input", "a" };
static const psg_op snake = { .name = "snake", .input_count = 2, .input_names = snake_inputs,
                              .parameter_inputs = 1 << 1,   /* the second may be one */
                              .shape = snake_shape, .forward = snake_forward, .backward = snake_backward };

static psg_var snake_of(psg_tape *tape, psg_var x, psg_var a) {
    return psg_record(tape, &snake, (const psg_var[]){ x, a }, 2, NULL);
}

static psg_status check(psg_context *context) {
    const double a[3] = { 0.5, 1, 2 };
    const psg_operand inputs[2] = { { .role = PSG_BATCHED, .value = psg_f64_3d(NULL, 4, 2, 3) },
                                    { .role = PSG_PARAMETER, .value = psg_f64_1d(a, 3) } };
    PSG_TRY(psg_op_register(context, &snake));   /* for psg_apply(tape, "snake", ...), too */
    PSG_TRY(psg_op_check(context, &snake, inputs, NULL));
    puts("snake: gradients, every question and each sample alone agree");
    return PSG_OK;
}

/* The squared norm of each sample's gradient in a layer that uses the op: a look at a question. */
static psg_status ask(psg_context *context, psg_tape *tape, psg_params *params) {
    float x[RECORDS * IN], y[RECORDS];
    for (int k = 0; k < RECORDS * IN; k++) x[k] = (float)sin(k);
    for (int n = 0; n < RECORDS; n++) y[n] = x[n * IN] * x[n * IN];
    psg_param *weight = psg_params_add(params, "weight", psg_init_linear(), PSG_SHAPE(1, IN));
    psg_param *a = psg_params_add(params, "a", psg_init_constant(1), PSG_SHAPE(IN));
    PSG_TRY(psg_params_initialize(params, 1));
    const psg_tensor inputs = psg_f32_2d(x, RECORDS, IN), targets = psg_f32_2d(y, RECORDS, 1);
    PSG_TRY(psg_tape_begin(tape, NULL));
    psg_var h = snake_of(tape, psg_input(tape, &inputs), psg_use(tape, a));
    psg_var out = psg_linear(tape, h, psg_use(tape, weight), psg_none());
    PSG_TRY(psg_backward(tape, psg_mse(tape, out, psg_input(tape, &targets), PSG_MEAN)));
    const psg_gradient *const *gradients;
    double sqnorm[RECORDS];
    PSG_TRY(psg_params_gradients(params, tape, &gradients));
    PSG_TRY(psg_sqnorm(context, gradients, 2, sqnorm, NULL, NULL));
    for (int n = 0; n < RECORDS; n++) printf("sample %d: squared norm %.4f\n", n, sqnorm[n]);
    return PSG_OK;
}

static psg_status run(psg_context **context, psg_params **params, psg_tape **tape) {
    PSG_TRY(psg_context_create(NULL, context));
    PSG_TRY(psg_params_create(*context, PSG_F32, params));
    PSG_TRY(psg_tape_create(*context, tape));
    PSG_TRY(check(*context));
    return ask(*context, *tape, *params);
}

int main(void) {
    psg_context *context = NULL;
    psg_params *params = NULL;
    psg_tape *tape = NULL;
    psg_status status = run(&context, &params, &tape);
    if (status) fprintf(stderr, "own_op: %s: %s\n", psg_status_name(status), psg_context_message(context));
    psg_tape_destroy(tape);
    psg_params_destroy(params);
    psg_context_destroy(context);
    return status;
}
