/* What ops refuse where the lines of test/cases cannot say it: arguments that are NULL or absent, attributes that only
 * the general form takes, operands that other ops made, sizes whose products overflow. */
#include <math.h>

#include "small_pass.h"

static const double zeros[512];

static psg_tensor view(int rank, const int64_t *shape) {
    return psg_tensor_of(PSG_F64, (void *)(uintptr_t)zeros, rank, shape);
}

static psg_var input(psg_tape *t, int rank, const int64_t *shape) {
    psg_tensor x = view(rank, shape);
    return psg_input(t, &x);
}

static psg_var constant(psg_tape *t, int rank, const int64_t *shape) {
    psg_tensor x = view(rank, shape);
    return psg_constant(t, &x);
}

#define IN(...) input(t, SHAPE(__VA_ARGS__))
#define CONSTANT(...) constant(t, SHAPE(__VA_ARGS__))
#define LONGS(...) (int64_t[]){ __VA_ARGS__ }
/* A pass over the call alone is refused so. */
#define REFUSED(status, words, call)                                                                                   \
    (test_status(f.context, psg_tape_begin(t, NULL), PSG_OK, words), (void)(call), test_refused(t, status, words))

static void arguments_that_are_null(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 1, NULL);
    psg_tape *t = f.tape;
    const psg_var none = psg_none();
    REFUSED(PSG_ERR_ARGUMENT, "permute: dims must be 3 dimensions", psg_permute(t, IN(2, 3, 4), 3, NULL));
    REFUSED(PSG_ERR_ARGUMENT, "flip: count is -1, must be", psg_flip(t, IN(2, 3, 4), 1, NULL));
    REFUSED(PSG_ERR_ARGUMENT, "cat: input 0 is absent", psg_cat(t, NULL, 0, 1));
    REFUSED(PSG_ERR_ARGUMENT, "pad: count is -1, must be even", psg_pad(t, IN(2, 3, 4), 2, NULL, PSG_PAD_CONSTANT, 0));
    REFUSED(PSG_ERR_ARGUMENT, "kernel must be positive", psg_unfold(t, IN(2, 2, 3, 4), NULL));
    REFUSED(PSG_ERR_ARGUMENT, "expand: rank must be", psg_expand(t, IN(2, 3, 4), 3, NULL));
    REFUSED(PSG_ERR_ARGUMENT, "not NULL", psg_reshape(t, IN(4, 3), 2, NULL));
    REFUSED(PSG_ERR_ARGUMENT, "dims not NULL", psg_mean(t, IN(4, 3), 1, NULL, 0));
    REFUSED(PSG_ERR_ARGUMENT, "max_pool: kernel_size[0] is 0", psg_max_pool2d(t, IN(1, 1, 4, 4), NULL, NULL));
    REFUSED(PSG_ERR_ARGUMENT, "adaptive_avg_pool: output_size[0] is -2",
            psg_adaptive_avg_pool2d(t, IN(1, 1, 4, 4), NULL));
    REFUSED(PSG_ERR_ARGUMENT, "normalized_shape has rank 0", psg_layer_norm(t, IN(2, 4), 1, NULL, none, none, 1e-5));
    REFUSED(PSG_ERR_ARGUMENT, "lstm: weights is NULL",
            psg_lstm(t, IN(3, 4, 2), none, none, none, NULL, NULL, NULL, NULL));
    REFUSED(PSG_ERR_ARGUMENT, "gru_cell: weights is NULL", psg_gru_cell(t, IN(3, 2), none, NULL));
    REFUSED(PSG_ERR_ARGUMENT, "weights is NULL",
            psg_multi_head_attention(t, IN(2, 3, 4), IN(2, 5, 4), IN(2, 5, 4), 2, NULL, NULL, NULL));
    small_close(&f);
}

static void operands_that_are_absent(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 1, NULL);
    psg_tape *t = f.tape;
    const psg_var none = psg_none();
    REFUSED(PSG_ERR_ARGUMENT, "conv_transpose: weight is absent",
            psg_conv_transpose1d(t, IN(2, 4, 5), none, none, NULL));
    for (int k = 0; k < 2; k++) {
        TEST_OK(f.context, psg_tape_begin(t, NULL));
        psg_rnn_weights w = { k ? CONSTANT(20, 2) : none, k ? none : CONSTANT(20, 5), none, none, none };
        psg_lstm(t, IN(3, 4, 2), none, none, none, &w, NULL, NULL, NULL);
        test_refused(t, PSG_ERR_ARGUMENT, k ? "lstm: weight_hh is absent" : "lstm: weight_ih is absent");
    }
    TEST_OK(f.context, psg_tape_begin(t, NULL));
    psg_rnn_weights projected = { CONSTANT(15, 2), CONSTANT(15, 2), none, none, CONSTANT(2, 5) };
    psg_gru(t, IN(3, 4, 2), none, none, &projected, NULL, NULL);
    test_refused(t, PSG_ERR_ARGUMENT, "gru: weight_hr is given, but only lstm has one");
    TEST_OK(f.context, psg_tape_begin(t, NULL));
    psg_multi_head_attention_weights w = { .in_proj_weight = CONSTANT(12, 4), .in_proj_bias = CONSTANT(12) };
    psg_multi_head_attention(t, IN(2, 3, 4), IN(2, 5, 4), IN(2, 5, 4), 2, &w, NULL, NULL);
    test_refused(t, PSG_ERR_ARGUMENT, "out_proj_weight is absent");
    small_close(&f);
}

static void attributes_of_the_general_form(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 1, NULL);
    psg_tape *t = f.tape;
    psg_max_pool_attributes pool = { .kernel_size = { 2 } };
    REFUSED(PSG_ERR_SHAPE,
            "max_pool: input has shape (2, 3), must have rank 3 to 5: batch, channels and 1 to 3 spatial dim",
            psg_apply(t, "max_pool", (psg_var[]){ IN(2, 3) }, 1, &pool));
    pool.spatial = 4;
    REFUSED(PSG_ERR_ARGUMENT, "max_pool: spatial is 4, must be 1, 2 or 3, or 0 for what the rank of input says",
            psg_apply(t, "max_pool", (psg_var[]){ IN(2, 3, 9) }, 1, &pool));
    const psg_conv_attributes reflect = { { .padding = { 1 }, .padding_mode = PSG_PAD_REFLECT }, 0 };
    REFUSED(PSG_ERR_ARGUMENT, "conv: padding_mode is 1",
            psg_apply(t, "conv", (psg_var[]){ IN(2, 4, 5), CONSTANT(2, 4, 3) }, 2, &reflect));
    const int64_t rank_9[9] = { 4, 3, 1, 1, 1, 1, 1, 1, 1 };
    REFUSED(PSG_ERR_ARGUMENT, "rank must be in [0, 8]", psg_reshape(t, IN(4, 3), 9, rank_9));
    REFUSED(PSG_ERR_SHAPE, "feature_dropout: input has shape (2, 3, 4), must be (N, C) and 2 spatial",
            psg_dropout2d(t, IN(2, 3, 4), 0.5));
    const psg_recurrent_attributes rows = { .state_row = 1, .state_rows = INT64_MIN };
    REFUSED(PSG_ERR_SHAPE, "rnn: hx must have shape",
            psg_apply(t, "rnn", (psg_var[]){ IN(3, 4, 2), IN(3, 1, 5), psg_none(), CONSTANT(5, 2), CONSTANT(5, 5) }, 5,
                      &rows));
    psg_tensor mean = view(1, LONGS(3)), variance = mean;
    mean.stride[0] = 2;
    REFUSED(PSG_ERR_ARGUMENT, "running_mean must be a valid contiguous array",
            psg_instance_norm(t, IN(2, 3, 4), &mean, &variance, psg_none(), psg_none(), 0, 0.1, 1e-5));
    small_close(&f);
}

static void operands_that_ops_made(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 1, NULL);
    psg_tape *t = f.tape;
#define LOSS psg_mse(t, IN(4, 3), IN(4, 3), PSG_SUM)
#define MADE(...) psg_tanh(t, IN(__VA_ARGS__))
    REFUSED(PSG_ERR_BATCH, "relu: input has shape ()", psg_relu(t, LOSS));
    REFUSED(PSG_ERR_BATCH, "b of shape () would be broadcast", psg_add(t, IN(4, 3), LOSS));
    REFUSED(PSG_ERR_BATCH, "mul: a has shape ()", psg_mul(t, LOSS, LOSS));
    REFUSED(PSG_ERR_BATCH, "div: b has shape ()", psg_div(t, CONSTANT(1), LOSS));
    REFUSED(PSG_ERR_UNSUPPORTED, "linear: weight is computed in this pass",
            psg_linear(t, IN(3, 3), MADE(3, 3), psg_none()));
    REFUSED(PSG_ERR_UNSUPPORTED, "linear: bias is computed in this pass",
            psg_linear(t, IN(3, 3), CONSTANT(3, 3), psg_reshape(t, MADE(3, 1), 1, LONGS(3))));
    const psg_in_projection_attributes projection = { 0, 0, 3 };
    REFUSED(PSG_ERR_UNSUPPORTED, "in_projection: weight is computed in this pass",
            psg_apply(t, "in_projection", (psg_var[]){ IN(3, 2, 3), MADE(3, 3) }, 2, &projection));
    TEST_OK(f.context, psg_tape_begin(t, NULL));
    psg_var x = IN(3, 2, 1), one = psg_sum(t, MADE(3, 2, 1), 3, (int[]){ 0, 1, 2 }, 1);
    psg_apply(t, "head_attention", (psg_var[]){ x, x, x, psg_none(), psg_none(), one, one }, 7,
              &(psg_head_attention_attributes){ .num_heads = 1 });
    test_refused(t, PSG_ERR_UNSUPPORTED, "head_attention: bias_k is computed in this pass");
    psg_tensor ids = psg_tensor_of(PSG_I64, (void *)(uintptr_t)zeros, 2, LONGS(1, 3));
    REFUSED(PSG_ERR_BATCH, "embedding: gives an output a sample, but no psg_input of this pass tells the batch size",
            psg_backward(t, psg_embedding(t, psg_constant(t, &ids), psg_use(t, small_parameter(&f, "w", SHAPE(11, 5))),
                                          NULL)));
    small_close(&f);
}

/* Empty arrays may be large: no product of sizes overflows. */
static void sizes_beyond_2_31(void **state) {
    (void)state;
    const int64_t most = INT64_MAX, large = most / 32;
    const psg_var none = psg_none();
    small_pass f;
    small_open_on(&f, 1, NULL);
    psg_tape *t = f.tape;
    for (int k = 0; k < 3; k++) {
        TEST_OK(f.context, psg_tape_begin(t, NULL));
        psg_var x = k ? IN(3, 4, 2) : IN(3, most / 64, 0);
        psg_var high = k == 2 ? CONSTANT(0, most / 8) : CONSTANT(most / 8 - 3, 0);
        psg_rnn_weights w = { CONSTANT(20, k ? 2 : 0), CONSTANT(20, 5), none, none, k == 1 ? high : none };
        if (k == 2) w.weight_ih = high;
        psg_lstm(t, x, none, none, none, &w, NULL, NULL, NULL);
        test_refused(t, PSG_ERR_OVERFLOW, "sizes must be below 2^31");
    }
    static const char *const text[] = { "below 2^31", "num_heads is 9223372036854775807", "rows from 2 on",
                                        "sizes must be below 2^31", "num_heads is 9223372036854775807" };
    for (int k = 0; k < 5; k++) {
        TEST_OK(f.context, psg_tape_begin(t, &(psg_pass){ .ordinary = 1 }));
        psg_var x = k == 3 ? IN(0, large, 4) : IN(0, 1, large), y = IN(2, 3, 4), weight = CONSTANT(12, 4);
        psg_multi_head_attention_weights w = { .in_proj_weight = weight, .out_proj_weight = weight };
        const psg_in_projection_attributes rows = { 2, 0, most };
        if (k == 0) psg_multi_head_attention(t, x, x, x, 1, &w, NULL, NULL);
        if (k == 1) psg_multi_head_attention(t, y, y, y, most, &w, NULL, NULL);
        if (k == 2) psg_in_projection(t, y, weight, none, &rows);
        if (k == 3) psg_head_attention(t, x, x, x, 2, none, none, NULL, &y);
        if (k == 4) psg_head_attention(t, y, y, y, most, none, none, NULL, &y);
        test_refused(t, k == 0 || k == 3 ? PSG_ERR_OVERFLOW : PSG_ERR_ARGUMENT, text[k]);
    }
    small_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_that_are_null),  cmocka_unit_test(operands_that_are_absent),
        cmocka_unit_test(operands_that_ops_made),   cmocka_unit_test(attributes_of_the_general_form),
        cmocka_unit_test(sizes_beyond_2_31),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
