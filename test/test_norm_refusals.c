/* What the norms refuse, and the messages. */
#include "support.h"

#include <string.h>

typedef struct refusal {
    bool group, second;
    int rank;
    int64_t shape[3];
    int normalized_rank;
    int64_t normalized[2], groups;
    int weight_rank, bias_rank;   /* 0: absent */
    int64_t weight[2], bias[2];
    psg_status status;
    const char *part;             /* of the message */
} refusal;

static const refusal refusals[] = {
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = 2, .normalized = { 4, 5 }, .status = PSG_ERR_UNSUPPORTED,
      .part = "layer_norm: normalized_shape (4, 5) includes the batch dimension 0" },
    { .second = true, .rank = 3, .shape = { 2, 4, 5 }, .normalized_rank = 2, .normalized = { 4, 5 },
      .status = PSG_ERR_UNSUPPORTED, .part = "includes the batch dimension 1" },
    { .rank = 1, .shape = { 5 }, .normalized_rank = 2, .normalized = { 1, 5 }, .status = PSG_ERR_SHAPE,
      .part = "normalized_shape is (1, 5), must equal the last dimensions of input, which has shape (5)" },
    { .rank = 3, .shape = { 4, 5, 6 }, .normalized_rank = 1, .normalized = { 5 }, .status = PSG_ERR_SHAPE,
      .part = "normalized_shape is (5), must equal the last dimensions of input, which has shape (4, 5, 6)" },
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = 0, .status = PSG_ERR_ARGUMENT,
      .part = "normalized_shape has rank 0" },
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = 9, .status = PSG_ERR_ARGUMENT,
      .part = "normalized_shape has rank 9" },
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = -1, .status = PSG_ERR_ARGUMENT,
      .part = "normalized_shape has rank -1" },
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = 1, .normalized = { 5 }, .weight_rank = 1, .weight = { 4 },
      .status = PSG_ERR_SHAPE, .part = "layer_norm: weight has shape (4), must have the normalized_shape, (5)" },
    { .rank = 2, .shape = { 4, 5 }, .normalized_rank = 1, .normalized = { 5 }, .bias_rank = 2, .bias = { 1, 5 },
      .status = PSG_ERR_SHAPE, .part = "layer_norm: bias has shape (1, 5), must have the normalized_shape, (5)" },
    { .group = true, .rank = 1, .shape = { 6 }, .groups = 2, .status = PSG_ERR_SHAPE,
      .part = "group_norm: input has shape (6)" },
    { .group = true, .rank = 2, .shape = { 4, 6 }, .groups = 4, .status = PSG_ERR_SHAPE,
      .part = "num_groups is 4, must divide the 6 channels of input of shape (4, 6)" },
    { .group = true, .second = true, .rank = 3, .shape = { 6, 4, 5 }, .groups = 4, .status = PSG_ERR_SHAPE,
      .part = "must divide the 6 channels" },
    { .group = true, .rank = 2, .shape = { 4, 6 }, .groups = 0, .status = PSG_ERR_ARGUMENT, .part = "num_groups is 0" },
    { .group = true, .rank = 2, .shape = { 4, 6 }, .groups = -2, .status = PSG_ERR_ARGUMENT,
      .part = "num_groups is -2" },
    { .group = true, .rank = 3, .shape = { 4, 6, 5 }, .groups = 2, .weight_rank = 1, .weight = { 5 },
      .status = PSG_ERR_SHAPE,
      .part = "group_norm: weight has shape (5), must have one element a channel, (6)" },
    { .group = true, .rank = 3, .shape = { 4, 6, 5 }, .groups = 2, .bias_rank = 2, .bias = { 6, 1 },
      .status = PSG_ERR_SHAPE,
      .part = "group_norm: bias has shape (6, 1)" },
};

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    float zero[200] = { 0 };
    for (size_t k = 0; k < sizeof refusals / sizeof refusals[0]; k++) {
        const refusal *e = &refusals[k];
        psg_pass pass = PSG_PASS_INIT;
        pass.batch_second = e->second;
        TEST_OK(context, psg_tape_begin(tape, &pass));
        psg_tensor x = psg_tensor_of(PSG_F32, zero, e->rank, e->shape);
        psg_tensor weight = psg_tensor_of(PSG_F32, zero, e->weight_rank, e->weight);
        psg_tensor bias = psg_tensor_of(PSG_F32, zero, e->bias_rank, e->bias);
        psg_var input = psg_input(tape, &x), w = e->weight_rank ? psg_constant(tape, &weight) : psg_none();
        psg_var b = e->bias_rank ? psg_constant(tape, &bias) : psg_none();
        int64_t normalized[9] = { e->normalized[0], e->normalized[1] };
        if (e->group) psg_group_norm(tape, input, e->groups, w, b, 1e-5);
        else psg_layer_norm(tape, input, e->normalized_rank, normalized, w, b, 1e-5);
        test_refused(tape, e->status, e->part);
    }
    psg_tape_destroy(tape);
    test_context_free(context);
}

static void wrong_operands_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    double doubles[8] = { 0 };
    int64_t integers[8] = { 0 };
    float floats[8] = { 0 };
    psg_tensor x = psg_f32_2d(floats, 2, 4), w64 = psg_tensor_of(PSG_F64, doubles, 1, (int64_t[]){ 4 });
    psg_tensor ids = psg_tensor_of(PSG_I64, integers, 2, (int64_t[]){ 2, 4 }), w2 = psg_f32_1d(floats, 2);

    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_layer_norm(tape, psg_input(tape, &x), 1, (int64_t[]){ 4 }, psg_constant(tape, &w64), psg_none(), 1e-5);
    test_refused(tape, PSG_ERR_DTYPE, "layer_norm: ");
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_group_norm(tape, psg_input(tape, &ids), 2, psg_none(), psg_none(), 1e-5);
    test_refused(tape, PSG_ERR_DTYPE, "group_norm: input is i64, must be f32 or f64");
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_layer_norm(tape, psg_input(tape, &x), 1, (int64_t[]){ 4 }, psg_none(), psg_input(tape, &w2), 1e-5);
    test_refused(tape, PSG_ERR_UNSUPPORTED, "layer_norm: bias is computed from an input of the pass");
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_layer_norm(tape, psg_input(tape, &x), 1, NULL, psg_none(), psg_none(), 1e-5);
    test_refused(tape, PSG_ERR_ARGUMENT, "normalized_shape has rank 0");
    psg_tape_destroy(tape);
    test_context_free(context);
}

static void rms_norm_is_refused_like_layer_norm(void **state) {
    (void)state;
    static const struct { int64_t normalized[2]; int rank; psg_status status; const char *part; } list[] = {
        { { 4, 5 }, 2, PSG_ERR_UNSUPPORTED, "rms_norm: normalized_shape (4, 5) includes the batch dimension 0" },
        { { 4 }, 1, PSG_ERR_SHAPE, "rms_norm: normalized_shape is (4), must equal the last dimensions of input" },
        { { 5 }, 1, PSG_ERR_SHAPE, "rms_norm: weight has shape (4), must have the normalized_shape, (5)" },
    };
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    float zero[20] = { 0 };
    psg_tensor x = psg_f32_2d(zero, 4, 5), w = psg_f32_1d(zero, 4);
    TEST_OK(context, psg_tape_create(context, &tape));
    for (size_t k = 0; k < sizeof list / sizeof list[0]; k++) {
        TEST_OK(context, psg_tape_begin(tape, NULL));
        psg_rms_norm(tape, psg_input(tape, &x), list[k].rank, list[k].normalized, psg_constant(tape, &w), 1e-5);
        test_refused(tape, list[k].status, list[k].part);
    }
    psg_tape_destroy(tape);
    test_context_free(context);
}

/* ---- running statistics ---- */

typedef struct running_refusal {
    bool batch_norm, statistics;   /* statistics: of the input */
    int rank;
    int64_t shape[3];
    bool ordinary;
    bool no_mean, no_variance, updates;
    int64_t mean, variance;      /* sizes */
    int64_t mean_stride;         /* 0: contiguous */
    bool mean_f64;
    psg_status status;
    const char *part;
} running_refusal;

static const running_refusal running_refusals[] = {
    { .statistics = true, .rank = 3, .shape = { 2, 3, 4 }, .mean = 3, .variance = 3, .status = PSG_ERR_UNSUPPORTED,
      .part = "instance_norm: running_mean and running_var would be updated from the batch, a change of the model "
              "outside what clipping and noise protect" },
    { .rank = 3, .shape = { 2, 3, 4 }, .no_mean = true, .no_variance = true, .status = PSG_ERR_ARGUMENT,
      .part = "instance_norm: running_mean and running_var are absent, but required when use_input_stats is 0" },
    { .rank = 3, .shape = { 2, 3, 4 }, .no_variance = true, .mean = 3, .status = PSG_ERR_ARGUMENT,
      .part = "instance_norm: running_mean is given without running_var" },
    { .statistics = true, .rank = 3, .shape = { 2, 3, 4 }, .no_mean = true, .variance = 3, .updates = true,
      .status = PSG_ERR_ARGUMENT, .part = "running_var is given without running_mean" },
    { .rank = 3, .shape = { 2, 3, 4 }, .mean = 4, .variance = 3, .status = PSG_ERR_SHAPE,
      .part = "running_mean has shape (4), must have one element a channel, (3)" },
    { .rank = 3, .shape = { 2, 3, 4 }, .mean = 3, .variance = 2, .status = PSG_ERR_SHAPE,
      .part = "running_var has shape (2), must have one element a channel, (3)" },
    { .rank = 3, .shape = { 2, 3, 4 }, .mean = 3, .variance = 3, .mean_f64 = true, .status = PSG_ERR_DTYPE,
      .part = "running_mean is f64, but input is f32" },
    { .rank = 3, .shape = { 2, 3, 4 }, .mean = 3, .variance = 3, .mean_stride = 2, .status = PSG_ERR_ARGUMENT,
      .part = "running_mean must be a valid contiguous array" },
    { .statistics = true, .rank = 3, .shape = { 2, 3, 1 }, .no_mean = true, .no_variance = true,
      .status = PSG_ERR_SHAPE, .part = "input has shape (2, 3, 1), must have more than 1 spatial element" },
    { .statistics = true, .rank = 2, .shape = { 2, 3 }, .no_mean = true, .no_variance = true,
      .status = PSG_ERR_SHAPE, .part = "input has shape (2, 3), must have more than 1 spatial element" },
    { .statistics = true, .rank = 1, .shape = { 2 }, .no_mean = true, .no_variance = true,
      .status = PSG_ERR_SHAPE, .part = "instance_norm: input has shape (2), must have a batch and a channel" },
    { .batch_norm = true, .statistics = true, .rank = 3, .shape = { 2, 3, 4 }, .mean = 3, .variance = 3,
      .updates = true, .status = PSG_ERR_UNSUPPORTED,
      .part = "batch_norm: in training it normalizes by statistics over the batch, which couple the samples, so no "
              "per-sample gradient exists; use group_norm, layer_norm or instance_norm, or running statistics" },
    { .batch_norm = true, .rank = 3, .shape = { 2, 3, 4 }, .no_mean = true, .no_variance = true,
      .status = PSG_ERR_ARGUMENT, .part = "batch_norm: running_mean and running_var are absent, but required when "
                                          "training is 0" },
    { .batch_norm = true, .statistics = true, .rank = 2, .shape = { 1, 3 }, .ordinary = true, .mean = 3,
      .variance = 3, .status = PSG_ERR_SHAPE,
      .part = "batch_norm: input has shape (1, 3), must have more than 1 value a channel in training" },
};

static void wrong_running_statistics_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    for (size_t k = 0; k < sizeof running_refusals / sizeof running_refusals[0]; k++) {
        const running_refusal *e = &running_refusals[k];
        float x[64] = { 0 }, variances[8] = { 0 };
        double means[16] = { 0 };
        psg_pass pass = PSG_PASS_INIT;
        pass.ordinary = e->ordinary;
        pass.allow_updates = e->updates;
        TEST_OK(context, psg_tape_begin(tape, &pass));
        psg_tensor input = psg_tensor_of(PSG_F32, x, e->rank, e->shape);
        psg_tensor mean = psg_tensor_of(e->mean_f64 ? PSG_F64 : PSG_F32, means, 1, &e->mean);
        if (e->mean_stride) mean.stride[0] = e->mean_stride;
        psg_tensor variance = psg_tensor_of(PSG_F32, variances, 1, &e->variance);
        const psg_tensor *m = e->no_mean ? NULL : &mean, *v = e->no_variance ? NULL : &variance;
        psg_var in = psg_input(tape, &input), none = psg_none();
        if (e->batch_norm) psg_batch_norm(tape, in, m, v, none, none, e->statistics, 0.1, 1e-5);
        else psg_instance_norm(tape, in, m, v, none, none, e->statistics, 0.1, 1e-5);
        test_refused(tape, e->status, e->part);
        for (int i = 0; i < 8; i++) assert_true(variances[i] == 0 && means[i] == 0);
    }
    psg_tape_destroy(tape);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(wrong_operands_are_refused),
        cmocka_unit_test(wrong_running_statistics_are_refused),
        cmocka_unit_test(rms_norm_is_refused_like_layer_norm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
