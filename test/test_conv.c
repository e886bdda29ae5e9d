/* Convolutions where the lines of test/cases do not go: a weight used twice, and what is refused in which words. */
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

/* ---- refusals that the tables cannot write ---- */

typedef struct refusal {
    psg_status status;
    const char *text;
    psg_conv_options options;
} refusal;

static void options_out_of_range_are_refused(void **state) {
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
    small_pass f;
    small_open(&f);
    float values[4 * 2 * 5 * 5] = { 0 };
    const psg_tensor x = psg_f32_4d(values, 2, 4, 5, 5), w = psg_f32_4d(values, 3, 4, 3, 3);
    for (size_t k = 0; k < sizeof refusals / sizeof refusals[0]; k++) {
        small_begin(&f, (psg_pass)PSG_PASS_INIT);
        psg_conv2d(f.tape, psg_input(f.tape, &x), psg_constant(f.tape, &w), psg_none(), &refusals[k].options);
        test_refused(f.tape, refusals[k].status, refusals[k].text);
    }
    small_close(&f);
}

static void transposed_options_out_of_range_are_refused(void **state) {
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
    small_pass f;
    small_open(&f);
    float values[4 * 3 * 3 * 3] = { 0 };
    const psg_tensor x = psg_f32_4d(values, 2, 4, 3, 3), w = psg_f32_4d(values, 4, 3, 3, 3);
    for (size_t k = 0; k < sizeof refusals / sizeof refusals[0]; k++) {
        small_begin(&f, (psg_pass)PSG_PASS_INIT);
        psg_conv_transpose2d(f.tape, psg_input(f.tape, &x), psg_constant(f.tape, &w), psg_none(), &refusals[k].options);
        test_refused(f.tape, refusals[k].status, refusals[k].text);
    }
    small_close(&f);
}

static void operands_of_another_kind_are_refused(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    float values[200] = { 0 };
    double doubles[200] = { 0 };
    int64_t integers[200] = { 0 };
    const psg_tensor x = psg_f32_3d(values, 2, 4, 5), w = psg_f32_3d(values, 2, 4, 3);
    const psg_tensor w_f64 = psg_tensor_of(PSG_F64, doubles, 3, w.shape);
    const psg_tensor x_i64 = psg_tensor_of(PSG_I64, integers, 3, x.shape);
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_conv1d(f.tape, psg_input(f.tape, &x), psg_constant(f.tape, &w_f64), psg_none(), NULL);
    test_refused(f.tape, PSG_ERR_DTYPE, "conv: weight is f64");
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_conv1d(f.tape, psg_input(f.tape, &x_i64), psg_constant(f.tape, &w), psg_none(), NULL);
    test_refused(f.tape, PSG_ERR_DTYPE, "conv: input is i64");
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_conv1d(f.tape, psg_input(f.tape, &x), psg_input(f.tape, &w), psg_none(), NULL);
    test_refused(f.tape, PSG_ERR_UNSUPPORTED, "conv: weight is computed in this pass");
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_conv_transpose1d(f.tape, psg_input(f.tape, &x), psg_none(), psg_none(), NULL);
    test_refused(f.tape, PSG_ERR_ARGUMENT, "conv_transpose: weight is absent");
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_conv2d(f.tape, psg_input(f.tape, &x), psg_constant(f.tape, &w), psg_none(), NULL);
    test_refused(f.tape, PSG_ERR_SHAPE, "conv: input has shape (2, 4, 5), conv2d takes rank 4: batch,");
    const psg_conv_attributes reflect = { { .padding = { 1 }, .padding_mode = PSG_PAD_REFLECT }, 0 };
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_apply(f.tape, "conv", (psg_var[]){ psg_input(f.tape, &x), psg_constant(f.tape, &w) }, 2, &reflect);
    test_refused(f.tape, PSG_ERR_ARGUMENT, "conv: padding_mode is 1");
    small_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_weight_used_twice_adds_its_uses),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(transposed_options_out_of_range_are_refused),
        cmocka_unit_test(operands_of_another_kind_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
