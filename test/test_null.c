/* Every public function takes NULL for what it is given: it returns a status or what means nothing, and does not crash.
 * The calls are made from the headers (null_calls.awk). */
#include <signal.h>
#include <unistd.h>

#include "support.h"

int null_calls(psg_context *context, psg_tape *tape);

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

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_function_takes_null) };
    return cmocka_run_group_tests_name("null", tests, NULL, NULL);
}
