/* What the poolings refuse, and the messages. */
#include "small_pass.h"

#include <stdio.h>
#include <string.h>

typedef struct refusal {
    bool avg, adaptive;
    int64_t rank, shape[5];
    int spatial;
    int64_t kernel[3];            /* adaptive: the output size */
    psg_max_pool_options options;
    psg_status status;
    const char *part;             /* of the message */
} refusal;

static const refusal refusals[] = {
    { .rank = 3, .shape = { 2, 3, 9 }, .spatial = 2, .kernel = { 2, 2 }, .status = PSG_ERR_SHAPE,
      .part = "max_pool: input has shape (2, 3, 9), max_pool2d takes rank 4: batch, channels and 2 spatial dim" },
    { .rank = 4, .shape = { 2, 3, 9, 9 }, .spatial = 1, .kernel = { 2 }, .status = PSG_ERR_SHAPE,
      .part = "max_pool: input has shape (2, 3, 9, 9), max_pool1d takes rank 3: batch, channels and 1 spatial dim" },
    { .rank = 2, .shape = { 2, 3 }, .kernel = { 2 }, .status = PSG_ERR_SHAPE,
      .part = "max_pool: input has shape (2, 3), must have rank 3 to 5: batch, channels and 1 to 3 spatial dim" },
    { .rank = 3, .shape = { 2, 3, 9 }, .spatial = 4, .kernel = { 2 }, .status = PSG_ERR_ARGUMENT,
      .part = "max_pool: spatial is 4, must be 1, 2 or 3, or 0 for what the rank of input says" },
    { .rank = 4, .shape = { 2, 3, 0, 9 }, .spatial = 2, .kernel = { 1, 1 }, .status = PSG_ERR_SHAPE,
      .part = "input has shape (2, 3, 0, 9), its spatial dimensions must not be 0" },
    { .adaptive = true, .rank = 3, .shape = { 2, 3, 0 }, .spatial = 1, .kernel = { 1 }, .status = PSG_ERR_SHAPE,
      .part = "adaptive_max_pool: input has shape (2, 3, 0), its spatial dimensions must not be 0" },
    { .rank = 5, .shape = { 0, 0, 1 << 11, 1 << 10, 1 << 10 }, .spatial = 3, .kernel = { 1, 1, 1 },
      .status = PSG_ERR_OVERFLOW,
      .part = "max_pool: input has shape (0, 0, 2048, 1024, 1024), its spatial dimensions must have fewer than" },
    { .rank = 4, .shape = { 2, 3, 9, 9 }, .spatial = 2, .kernel = { 2, 0 }, .status = PSG_ERR_ARGUMENT,
      .part = "max_pool: kernel_size[1] is 0, must be in [1, 2147483647]" },
    { .avg = true, .rank = 4, .shape = { 2, 3, 9, 9 }, .spatial = 2, .kernel = { 2, 10 }, .status = PSG_ERR_SHAPE,
      .part = "avg_pool: kernel_size[1] is 10, too large for input of shape (2, 3, 9, 9): no window fits" },
    { .rank = 3, .shape = { 2, 3, 9 }, .spatial = 1, .kernel = { 4 }, .options = { .dilation = { 3 } },
      .status = PSG_ERR_SHAPE, .part = "kernel_size[0] is 4, too large" },
    { .avg = true, .rank = 3, .shape = { 2, 3, 9 }, .spatial = 1, .kernel = { 2 }, .options = { .stride = { -1 } },
      .status = PSG_ERR_ARGUMENT, .part = "avg_pool: stride[0] is -1, must be in [1, 2147483647]" },
    { .rank = 3, .shape = { 2, 3, 9 }, .spatial = 1, .kernel = { 2 }, .options = { .dilation = { -2 } },
      .status = PSG_ERR_ARGUMENT, .part = "dilation[0] is -2, must be in [1, 2147483647]" },
    { .rank = 3, .shape = { 2, 3, 9 }, .spatial = 1, .kernel = { 3 }, .options = { .padding = { -1 } },
      .status = PSG_ERR_ARGUMENT, .part = "padding[0] is -1, must be in [0, 2147483647]" },
    { .rank = 4, .shape = { 2, 3, 9, 9 }, .spatial = 2, .kernel = { 3, 3 }, .options = { .padding = { 1, 2 } },
      .status = PSG_ERR_ARGUMENT, .part = "padding[1] is 2, must be at most half of kernel_size[1], 3" },
    { .rank = 3, .shape = { 2, 3, 9 }, .spatial = 1, .kernel = { INT64_MAX }, .status = PSG_ERR_ARGUMENT,
      .part = "kernel_size[0] is 9223372036854775807, must be in [1, 2147483647]" },
    { .rank = 4, .shape = { 2, 3, 9, 9 }, .spatial = 2, .kernel = { 3, 3 }, .options = { .dilation = { 0, 2 } },
      .status = PSG_ERR_ARGUMENT, .part = "dilation[0] is 0: give all 2 entries or none (PSG_ALL(2))" },
    { .avg = true, .rank = 4, .shape = { 2, 3, 9, 9 }, .spatial = 2, .kernel = { 3, 3 }, .options = { .stride = { 2 } },
      .status = PSG_ERR_ARGUMENT, .part = "avg_pool: stride[1] is 0: give all 2 entries or none (PSG_ALL(2))" },
    { .avg = true, .rank = 3, .shape = { 2, 3, 9 }, .spatial = 1, .kernel = { 2 },
      .options = { .stride = { INT64_MAX } }, .status = PSG_ERR_ARGUMENT,
      .part = "stride[0] is 9223372036854775807, must be in [1, 2147483647]" },
    { .rank = 3, .shape = { 2, 3, 9 }, .spatial = 1, .kernel = { INT32_MAX }, .options = { .padding = { INT64_MAX } },
      .status = PSG_ERR_ARGUMENT, .part = "padding[0] is 9223372036854775807, must be in [0, 2147483647]" },
    { .rank = 3, .shape = { 2, 3, 9 }, .spatial = 1, .kernel = { INT32_MAX },
      .options = { .padding = { INT32_MAX / 2 }, .dilation = { INT32_MAX }, .stride = { INT32_MAX }, .ceil_mode = 1 },
      .status = PSG_ERR_SHAPE, .part = "kernel_size[0] is 2147483647, too large" },
    { .adaptive = true, .rank = 5, .shape = { 2, 3, 2, 2, 2 }, .kernel = { INT32_MAX, INT32_MAX, INT32_MAX },
      .status = PSG_ERR_OVERFLOW, .part = "adaptive_max_pool: the output shape (2, 3, 2147483647, 2147483647" },
    { .adaptive = true, .rank = 3, .shape = { 2, 3, 9 }, .kernel = { INT64_MIN }, .status = PSG_ERR_ARGUMENT,
      .part = "output_size[0] is -9223372036854775808, must be in [-1, 2147483647]" },
    { .adaptive = true, .avg = true, .rank = 4, .shape = { 2, 3, 9, 9 }, .spatial = 2, .kernel = { 2, -2 },
      .status = PSG_ERR_ARGUMENT, .part = "adaptive_avg_pool: output_size[1] is -2, must be in [-1, 2147483647]" },
};

static psg_var record(psg_tape *tape, psg_var x, const refusal *e) {
    const char *kind = e->avg ? "avg" : "max";
    char name[32];
    psg_max_pool_attributes max = { { e->kernel[0], e->kernel[1], e->kernel[2] }, e->options, e->spatial };
    psg_avg_pool_attributes avg = { .spatial = e->spatial };
    psg_adaptive_pool_attributes adaptive = { { e->kernel[0], e->kernel[1], e->kernel[2] }, e->spatial };
    memcpy(avg.kernel_size, e->kernel, sizeof avg.kernel_size);
    memcpy(avg.options.stride, e->options.stride, sizeof avg.options.stride);
    snprintf(name, sizeof name, "%s%s_pool", e->adaptive ? "adaptive_" : "", kind);
    const void *attributes = e->adaptive ? (const void *)&adaptive : e->avg ? (const void *)&avg : (const void *)&max;
    return psg_apply(tape, name, &x, 1, attributes);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    float zero[600] = { 0 };
    for (size_t k = 0; k < sizeof refusals / sizeof refusals[0]; k++) {
        const refusal *e = &refusals[k];
        small_begin(&f, (psg_pass)PSG_PASS_INIT);
        psg_tensor x = psg_tensor_of(PSG_F32, zero, (int)e->rank, e->shape);
        record(f.tape, psg_input(f.tape, &x), e);
        test_refused(f.tape, e->status, e->part);
    }
    small_close(&f);
}

static void missing_arguments_are_refused(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    float zero[16] = { 0 };
    int32_t integers[16] = { 0 };
    psg_tensor x = psg_f32_4d(zero, 1, 1, 4, 4);
    psg_tensor whole = psg_tensor_of(PSG_I32, integers, 4, (int64_t[]){ 1, 1, 4, 4 });
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_max_pool2d(f.tape, psg_input(f.tape, &x), NULL, NULL);
    test_refused(f.tape, PSG_ERR_ARGUMENT, "max_pool: kernel_size[0] is 0");
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_adaptive_avg_pool2d(f.tape, psg_input(f.tape, &x), NULL);
    test_refused(f.tape, PSG_ERR_ARGUMENT, "adaptive_avg_pool: output_size[0] is -2");
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_max_pool2d(f.tape, psg_input(f.tape, &whole), (int64_t[]){ 2, 2 }, NULL);
    test_refused(f.tape, PSG_ERR_DTYPE, "max_pool: input is i32, must be f32 or f64");
    small_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(missing_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
