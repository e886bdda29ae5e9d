/* Convolutions where the lines of test/cases do not go: a weight used twice. */
#include "small_pass.h"

/* conv(conv(x)): one weight's gradient is that of two weights of the same values together. */
static void a_weight_used_twice_adds_its_uses(void **state) {
    (void)state;
    static const psg_conv_options same = { .padding_rule = PSG_CONV_SAME };
    enum { WEIGHTS = 4 * 4 * 3 * 3, B = 3 };
    small_pass f;
    small_open(&f);
    psg_tensor x = small_normal(&f, SHAPE(B, 4, 6, 5)), grad_output = small_normal(&f, SHAPE(B, 4, 6, 5));
    psg_param *first = small_parameter(&f, "first", SHAPE(4, 4, 3, 3)), *second;
    TEST_OK(f.context, psg_param_create(f.context, "second", psg_param_value(first), &second));
    f.param[f.params++] = second;
    const double *grad[3];
    for (int tied = 0; tied < 2; tied++) {
        small_begin(&f, (psg_pass)PSG_PASS_INIT);
        psg_var y = psg_conv2d(f.tape, psg_input(f.tape, &x), psg_use(f.tape, first), psg_none(), &same);
        y = psg_conv2d(f.tape, y, psg_use(f.tape, tied ? first : second), psg_none(), &same);
        small_backward(&f, y, &grad_output);
        grad[2 * tied] = small_grad_sample(&f, first);
        if (!tied) grad[1] = small_grad_sample(&f, second);
    }
    for (int i = 0; i < B * WEIGHTS; i++) test_near(grad[2][i], grad[0][i] + grad[1][i], 1e-11, "tied weight", i);
    small_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_weight_used_twice_adds_its_uses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
