/* What the observer of a tape is told: every op that ran, in the order it ran, as the call was then. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "small_pass.h"

enum { MAX_EVENTS = 16 };

typedef struct event {
    char name[24];
    int backward;
    double seconds;
    int64_t elements;         /* of the output */
    bool has_grad_output;
} event;

typedef struct diary {
    event event[MAX_EVENTS];
    int count;
} diary;

static void note(void *user, const psg_call *call, int backward, double seconds) {
    diary *d = user;
    assert_true(d->count < MAX_EVENTS);
    event *e = &d->event[d->count++];
    snprintf(e->name, sizeof e->name, "%s", call->op->name);
    e->backward = backward;
    e->seconds = seconds;
    e->elements = psg_tensor_count(&call->output);
    e->has_grad_output = call->grad_output.data != NULL;
}

/* A tape that writes the diary; a weight of 4 x 2. */
static psg_param *open_observed(small_pass *f, diary *d) {
    *d = (diary){ .count = 0 };
    small_open(f);
    TEST_OK(f->context, psg_tape_observe(f->tape, note, d));
    return small_parameter(f, "weight", SHAPE(4, 2));
}

/* relu(x W^T) and, beside it, tanh, on which the loss does not depend; summed. */
static void run(small_pass *f, psg_param *weight) {
    psg_tensor x = small_normal(f, SHAPE(3, 2));
    small_begin(f, (psg_pass)PSG_PASS_INIT);
    psg_var h = psg_relu(f->tape, psg_linear(f->tape, psg_input(f->tape, &x), psg_use(f->tape, weight), psg_none()));
    psg_tanh(f->tape, h);
    psg_backward(f->tape, psg_sum(f->tape, h, 2, (int[]){ 0, 1 }, 0));
    TEST_OK(f->context, psg_tape_status(f->tape));
}

static void every_op_is_told(void **state) {
    (void)state;
    static const struct { const char *name; int backward; int64_t elements; } expected[] = {
        { "linear", 0, 12 }, { "relu", 0, 12 }, { "tanh", 0, 12 }, { "sum", 0, 1 },
        { "sum", 1, 1 }, { "relu", 1, 12 }, { "linear", 1, 12 },
    };
    small_pass f;
    diary d;
    psg_param *weight = open_observed(&f, &d);
    for (int round = 1; round <= 2; round++) {       /* of all further passes */
        d.count = 0;
        run(&f, weight);
        assert_int_equal(d.count, 7);
        for (int k = 0; k < d.count; k++) {
            assert_string_equal(d.event[k].name, expected[k].name);
            assert_int_equal(!!d.event[k].backward, expected[k].backward);
            assert_int_equal(d.event[k].elements, expected[k].elements);
            assert_int_equal(d.event[k].has_grad_output, expected[k].backward);
            assert_true(d.event[k].seconds >= 0 && d.event[k].seconds < 60);
        }
    }
    small_close(&f);
}

static void none_is_told_after_null(void **state) {
    (void)state;
    small_pass f;
    diary d;
    psg_param *weight = open_observed(&f, &d);
    TEST_OK(f.context, psg_tape_observe(f.tape, NULL, NULL));
    run(&f, weight);
    assert_int_equal(d.count, 0);
    assert_int_equal(psg_tape_observe(NULL, note, &d), PSG_ERR_ARGUMENT);
    small_close(&f);
}

/* ---- ops of the test's own: identities ---- */

static psg_status same_shape(psg_call *call) {
    const psg_tensor *x = &call->input[0].value;
    return psg_call_output(call, x->dtype, x->rank, x->shape);
}

static psg_status copy_forward(psg_call *call) {
    memcpy(call->output.data, call->input[0].value.data, (size_t)psg_tensor_count(&call->output) * sizeof(double));
    return PSG_OK;
}

static psg_status slow_forward(psg_call *call) {
    nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
    return copy_forward(call);
}

static psg_status copy_backward(psg_call *call) {
    psg_tensor *grad = &call->input[0].grad;
    if (grad->data) memcpy(grad->data, call->grad_output.data, (size_t)psg_tensor_count(grad) * sizeof(double));
    return PSG_OK;
}

static psg_status slow_backward(psg_call *call) {
    nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
    return copy_backward(call);
}

static psg_status refuse(psg_call *call) {
    (void)call;
    return PSG_ERR_NUMERIC;
}

static const char *const one_input[] = { "x" };
#define IDENTITY(op_name, to, back)                                                                                    \
    { .name = op_name, .input_count = 1, .input_names = one_input, .shape = same_shape, .forward = to,                 \
      .backward = back }
static const psg_op slow = IDENTITY("slow", slow_forward, slow_backward);
static const psg_op fails_forward = IDENTITY("fails_forward", refuse, copy_backward);
static const psg_op fails_backward = IDENTITY("fails_backward", copy_forward, refuse);

/* linear, then the op, summed. */
static diary observe(const psg_op *op) {
    small_pass f;
    diary d;
    psg_param *weight = open_observed(&f, &d);
    psg_tensor x = small_normal(&f, SHAPE(3, 2));
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_var y = psg_linear(f.tape, psg_input(f.tape, &x), psg_use(f.tape, weight), psg_none());
    TEST_OK(f.context, psg_op_register(f.context, op));
    y = psg_apply(f.tape, op->name, &y, 1, NULL);
    psg_backward(f.tape, psg_sum(f.tape, y, 2, (int[]){ 0, 1 }, 0));
    small_close(&f);
    return d;
}

static void the_time_is_that_of_the_function(void **state) {
    (void)state;
    diary d = observe(&slow);
    assert_int_equal(d.count, 6);
    assert_string_equal(d.event[1].name, "slow");
    assert_string_equal(d.event[4].name, "slow");
    assert_true(d.event[1].seconds >= 0.005 && d.event[4].seconds >= 0.005);
}

static void a_function_that_fails_is_not_told(void **state) {
    (void)state;
    diary d = observe(&fails_forward);
    assert_int_equal(d.count, 1);                       /* linear */
    d = observe(&fails_backward);
    assert_int_equal(d.count, 4);                       /* linear, the op, sum, and back through sum */
    assert_string_equal(d.event[3].name, "sum");
}

/* The derived weight's backward has no grad_output. */
static void derivations_are_told(void **state) {
    (void)state;
    small_pass f;
    diary d;
    psg_param *weight = open_observed(&f, &d);
    psg_tensor x = small_normal(&f, SHAPE(3, 2));
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_var w = psg_weight_standardize(f.tape, psg_use(f.tape, weight), psg_none(), NULL);
    psg_var y = psg_linear(f.tape, psg_input(f.tape, &x), w, psg_none());
    TEST_OK(f.context, psg_backward(f.tape, psg_sum(f.tape, y, 2, (int[]){ 0, 1 }, 0)));
    assert_int_equal(d.count, 6);
    assert_string_equal(d.event[5].name, d.event[0].name);
    assert_true(d.event[5].backward && !d.event[5].has_grad_output);
    small_close(&f);
}

/* A shape that is refused never ran. */
static void a_refused_op_is_not_told(void **state) {
    (void)state;
    small_pass f;
    diary d;
    psg_param *weight = open_observed(&f, &d);
    psg_tensor x = small_normal(&f, SHAPE(3, 5));
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_linear(f.tape, psg_input(f.tape, &x), psg_use(f.tape, weight), psg_none());
    assert_int_equal(psg_tape_status(f.tape), PSG_ERR_SHAPE);
    assert_int_equal(d.count, 0);
    small_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_is_told),
        cmocka_unit_test(none_is_told_after_null),
        cmocka_unit_test(the_time_is_that_of_the_function),
        cmocka_unit_test(a_function_that_fails_is_not_told),
        cmocka_unit_test(derivations_are_told),
        cmocka_unit_test(a_refused_op_is_not_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
