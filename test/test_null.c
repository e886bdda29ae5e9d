/* Every public function takes NULL for what it is given: it returns a status or what means nothing, and does not crash;
 * what fails says why.  The calls are made from the headers (null_calls.awk). */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "support.h"

int null_calls(psg_context *context, psg_tape *tape);
void null_answer(psg_context *context, const char *about, const char *name, psg_status status);

/* "psg_relu: ..." or, of an op, "relu: ...", also of one dimension or another ("conv" for psg_conv2d). */
static bool says_own_name(const char *message, const char *name) {
    const size_t length = strcspn(message, ":");
    return message[length] && (!strncmp(message, name, length) || !strncmp(message, name + 4, length));
}

/* Before a call, without a name, another failure leaves its text; after it, a failure has a text of its own. */
void null_answer(psg_context *context, const char *about, const char *name, psg_status status) {
    if (!name) psg_context_force_route(context, "an old text");
    else if (status && !says_own_name(psg_context_message(context), name)) {
        fail_msg("%s says \"%s\"", about, psg_context_message(context));
    }
}

static void every_function_takes_null(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    TEST_OK(context, psg_tape_begin(tape, NULL));
    alarm(60);   /* a call that does not end is no answer */
    assert_true(null_calls(context, tape) > 400);
    alarm(0);
    psg_tape_destroy(tape);
    test_context_free(context);
}

static void nothing_is_no_view(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    float data[4] = { 0 };
    const int64_t shape[2] = { 2, 2 };
    const psg_gradient unshaped = psg_gradient_of_blocks(NULL, 0, 2, NULL);
    const psg_gradient unfilled = psg_gradient_of_blocks(NULL, 1, 2, shape);
    const psg_gradient *set[2] = { &unshaped, &unfilled };
    double sqnorm;
    assert_int_equal(psg_tensor_of(PSG_F32, data, 2, NULL).rank, -1);
    assert_int_equal(psg_tensor_const(PSG_F32, data, 2, NULL).rank, -1);
    assert_int_equal(psg_tensor_strided(PSG_F32, data, 2, shape, NULL).rank, -1);
    assert_int_equal(psg_tensor_of(PSG_F32, data, 0, NULL).rank, 0);
    for (int k = 0; k < 2; k++) {
        test_fails(context, psg_sqnorm(context, &set[k], 1, &sqnorm, NULL, NULL), PSG_ERR_SHAPE, "rank -1");
    }
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_function_takes_null),
        cmocka_unit_test(nothing_is_no_view),
    };
    return cmocka_run_group_tests_name("null", tests, NULL, NULL);
}
