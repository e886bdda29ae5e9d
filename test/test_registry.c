/* Every built-in op passes psg_op_check at the shapes below, one of one operand and no attributes without a row here at
 * those of `plain`; another one without a row fails the test. */
#include <string.h>

#include "support.h"

enum { MOST_INPUTS = 14 };

typedef struct shape {
    psg_role role;
    psg_dtype dtype;
    int rank;
    int64_t dims[5];
    int unit;      /* values in (0, 1), the domain of a logarithm or a probability */
} shape;

#define BATCHED(...) { PSG_BATCHED, PSG_F64, __VA_ARGS__, 0 }
#define UNIT(...) { PSG_BATCHED, PSG_F64, __VA_ARGS__, 1 }
#define CONSTANT(...) { PSG_CONSTANT, PSG_F64, __VA_ARGS__, 0 }
#define LABELS(...) { PSG_BATCHED, PSG_I64, __VA_ARGS__, 0 }
#define PARAMETER(...) { PSG_PARAMETER, PSG_F64, __VA_ARGS__, 0 }

typedef struct op_case {
    const char *op;
    shape inputs[MOST_INPUTS];
    const void *attributes;
} op_case;

static const psg_layer_norm_attributes over_last = { 1, { 5 }, 1e-5 }, over_two = { 2, { 3, 4 }, 1e-3 };
static const psg_group_norm_attributes two_groups = { 2, 1e-5 }, one_group = { 1, 1e-5 };
static const psg_rms_norm_attributes rms_last = { 1, { 5 }, 0, 0 }, rms_two = { 2, { 3, 4 }, 1, 1e-3 };
static double means[4] = { 0.1, -0.2, 0.3, 0 }, variances[4] = { 0.5, 1.5, 0.25, 1 };
static const psg_tensor running_mean = { means, PSG_F64, 1, { 4 }, { 1 } },
                        running_var = { variances, PSG_F64, 1, { 4 }, { 1 } };
static const psg_instance_norm_attributes by_input = { NULL, NULL, 1, 0.1, 1e-5 },
                                          by_running = { &running_mean, &running_var, 0, 0.1, 1e-5 };
static const psg_batch_norm_attributes evaluation = { &running_mean, &running_var, 0, 0.1, 1e-5 };
static const psg_max_pool_attributes max_pairs = { .kernel_size = { 2, 2, 2 } },
                                     max_padded = { { 5, 2, 2 }, { { 2, 1, 1 }, { 1, 1, 0 }, { 1, 2, 1 }, 1 }, 0 };
static const psg_avg_pool_attributes avg_pairs = { .kernel_size = { 2, 2, 2 } },
                                     avg_padded = { { 3, 2, 2 }, { { 2, 1, 1 }, { 1, 1, 0 }, 1, 1, 0 }, 0 };
static const psg_adaptive_pool_attributes to_one = { { 1, 1, 1 }, 0 }, to_few = { { 2, 2, -1 }, 0 };
static const psg_embedding_bag_options mean_bag = PSG_EMBEDDING_BAG_OPTIONS_INIT, sum_bag = { .mode = PSG_BAG_SUM },
                                       max_bag = { .mode = PSG_BAG_MAX };
static const psg_weight_standardize_options fan_in = { 1, 1, 1e-3 };
static const psg_weight_norm_options norm_dim_1 = { 1, 0 }, norm_dim_2 = { -1, 0 }, norm_over_all = { 0, 1 };
static const psg_gelu_attributes exact_gelu = { 0 }, tanh_gelu = { 1 };
static const psg_dropout_attributes some = { 0.4 };
static const psg_scale_attributes by = { -1.5 };
static const psg_softmax_attributes last_dim = { -1 }, dim_1 = { 1 };
static const psg_reshape_attributes as_12 = { 2, { 3, 12 } };
static const psg_flatten_attributes from_1 = { 1, -1 };
static const psg_transpose_attributes swap_12 = { 1, 2 };
static const psg_mean_attributes over_1 = { 1, { 1 }, 0 };
static const psg_cross_entropy_options mean_ce = PSG_CROSS_ENTROPY_OPTIONS_INIT, smooth_ce = { PSG_NONE, 0, 0, 0.2, 0 },
                                       ignoring_ce = { PSG_SUM, 1, 0, 0.0, 0 };
static const psg_loss_attributes mean_loss = { PSG_MEAN }, sum_loss = { PSG_SUM }, no_reduction = { PSG_NONE };
static const psg_squeeze_attributes dim_2 = { 2 }, dim_0 = { -1 };
static const psg_expand_attributes to_3324 = { 4, { -1, 3, 2, -1 } };
static const psg_permute_attributes order_0312 = { 4, { 0, 3, 1, 2 } }, order_021 = { 3, { 0, 2, 1 } };
static const psg_flip_attributes flip_12 = { 2, { 1, -1 } };
static const psg_slice_attributes by_3 = { 1, 1, INT64_MAX, 3 }, last_two = { -1, -2, 9, 1 };
static const psg_select_attributes from_end = { 1, -2 };
static const psg_cat_attributes along_1 = { 1 };
static const psg_pad_attributes constant_pad = { 4, { 1, -1, 2, 0 }, PSG_PAD_CONSTANT, 1.5 },
                                reflect_pad = { 4, { 2, 1, 1, 2 }, PSG_PAD_REFLECT, 0 },
                                replicate_pad = { 4, { 0, 3, 2, 1 }, PSG_PAD_REPLICATE, 0 },
                                circular_pad = { 4, { 3, 1, 2, 3 }, PSG_PAD_CIRCULAR, 0 },
                                rows_pad = { 4, { 0, 0, 2, 1 }, PSG_PAD_REFLECT, 0 };
static const psg_unfold_options windows = { { 2, 3 }, { 1, 2 }, { 1, 2 }, { 2, 1 } };
static const psg_fold_attributes folded = { { 3, 4 }, { { 2, 3 }, { 1, 2 }, { 1, 2 }, { 2, 1 } } };
static const psg_elu_attributes alpha_07 = { 0.7 };
static const psg_celu_attributes alpha_2 = { -2.0 };
static const psg_leaky_relu_attributes leak = { 0.1 };
static const psg_softplus_attributes beta_2 = { 2.0, 1.0 };
static const psg_hardtanh_attributes half_each = { -0.4, 0.6 };
static const psg_softshrink_attributes shrink_05 = { 0.5 };
static const psg_hardshrink_attributes harden_05 = { 0.5 };
static const psg_threshold_attributes above_03 = { 0.3, -2.0 };
static const psg_glu_attributes glu_1 = { 1 };
static const psg_feature_dropout_attributes some_channels = { 0.4, 1 };
static const psg_scaled_dot_product_attention_options plain_attention = PSG_SCALED_DOT_PRODUCT_ATTENTION_OPTIONS_INIT,
                                                      grouped_attention = { 1, 0.7, 0.3, 1 };
static const psg_head_attention_attributes two_heads = { 2, 0, 0, 0, 0 }, two_causal_heads = { 2, 1, 0.4, 1, 0 },
                                           heads_and_weights = { 2, 0, 0, 0, 1 }, causal_weights = { 2, 1, 0.4, 1, 1 };
static const psg_in_projection_attributes rows_1_to_4 = { 2, 1, 3 };
static const psg_smooth_l1_attributes beta_half = { PSG_SUM, 0.5 };
static const psg_huber_attributes delta_half = { PSG_NONE, 0.5 };
static const psg_kl_div_attributes kl_batch_mean = { PSG_BATCH_MEAN, 0 }, kl_log = { PSG_NONE, 1 };
static const psg_poisson_nll_options poisson_log = { PSG_SUM, 0, 0, 0.0 }, poisson_rate = { PSG_NONE, 1, 1, 0.0 };
static const psg_hinge_embedding_attributes margin_06 = { PSG_MEAN, 0.6 };
static const psg_nll_options mean_nll = PSG_NLL_OPTIONS_INIT, ignoring_nll = { PSG_NONE, 1, 0 };

static const psg_recurrent_attributes plain_rnn = { .states = 0 }, with_states = { .states = 1 },
                                      relu_rnn = { .nonlinearity = PSG_RNN_RELU },
                                      second_of_three = { .states = 1, .state_row = 1, .state_rows = 3 };

static const psg_conv_attributes strided_conv = { { .stride = { 2, 3 }, .padding = { 1, 2 }, .dilation = { 1, 2 } },
                                                  2 },
                                 same_conv = { { .stride = { 2 }, .groups = 2, .padding_rule = PSG_CONV_SAME }, 0 },
                                 depthwise_conv = { { .padding = PSG_ALL(1), .groups = 4 }, 0 },
                                 sided_conv = { { .stride = { 1, 2, 1 }, .padding = { 1, 0, 2 }, .has_padding_after = 1,
                                                  .padding_after = { 0, 2, 1 } }, 3 };
static const psg_conv_transpose_attributes
    strided_transpose = { { .stride = { 2, 3 }, .padding = { 1 }, .output_padding = { 1, 2 } }, 0 },
    grouped_transpose = { { .stride = { 2 }, .padding = { 1 }, .dilation = { 3 }, .groups = 2 }, 1 },
    cubic_transpose = { { .stride = { 2, 1, 2 }, .padding = { 0, 1, 1 } }, 0 };

static const op_case cases[] = {
    { "linear", { BATCHED(2, { 4, 3 }), PARAMETER(2, { 5, 3 }), PARAMETER(1, { 5 }) }, NULL },
    { "linear", { BATCHED(4, { 3, 2, 2, 4 }), PARAMETER(2, { 3, 4 }) }, NULL },
    { "bilinear", { BATCHED(2, { 4, 3 }), BATCHED(2, { 4, 2 }), PARAMETER(3, { 4, 3, 2 }), PARAMETER(1, { 4 }) },
      NULL },
    { "bilinear", { BATCHED(3, { 3, 2, 2 }), BATCHED(3, { 3, 2, 4 }), PARAMETER(3, { 3, 2, 4 }) }, NULL },
    { "bilinear", { BATCHED(3, { 2, 5, 2 }), BATCHED(3, { 2, 5, 3 }), PARAMETER(3, { 2, 2, 3 }) }, NULL },
    { "embedding", { LABELS(2, { 3, 4 }), PARAMETER(2, { 3, 2 }) }, NULL },
    { "embedding", { LABELS(3, { 3, 2, 2 }), PARAMETER(2, { 2, 3 }) }, NULL },
    { "embedding", { LABELS(1, { 3 }), PARAMETER(2, { 2, 3 }) }, NULL },
    { "embedding_bag", { LABELS(2, { 3, 4 }), PARAMETER(2, { 3, 2 }) }, &mean_bag },
    { "embedding_bag", { LABELS(2, { 3, 4 }), PARAMETER(2, { 3, 2 }), { 0 }, BATCHED(2, { 3, 4 }) }, &sum_bag },
    { "embedding_bag", { LABELS(2, { 3, 4 }), PARAMETER(2, { 2, 5 }) }, &max_bag },
    { "prelu", { BATCHED(3, { 3, 4, 2 }), PARAMETER(1, { 4 }) }, NULL },
    { "prelu", { BATCHED(2, { 3, 4 }), PARAMETER(1, { 4 }) }, NULL },
    { "prelu", { BATCHED(3, { 3, 4, 2 }), PARAMETER(1, { 1 }) }, NULL },
    { "add", { BATCHED(3, { 3, 2, 4 }), PARAMETER(2, { 2, 4 }) }, NULL },
    { "sub", { BATCHED(3, { 3, 2, 4 }), BATCHED(3, { 3, 1, 4 }) }, NULL },
    { "sub", { PARAMETER(2, { 2, 1 }), BATCHED(3, { 3, 2, 4 }) }, NULL },
    { "mul", { BATCHED(4, { 3, 2, 4, 2 }), PARAMETER(3, { 2, 1, 1 }) }, NULL },
    { "div", { BATCHED(3, { 3, 2, 4 }), BATCHED(3, { 3, 2, 1 }) }, NULL },
    { "div", { PARAMETER(1, { 4 }), BATCHED(3, { 3, 2, 4 }) }, NULL },
    { "div", { BATCHED(3, { 3, 2, 4 }), PARAMETER(1, { 4 }) }, NULL },
    { "layer_norm", { BATCHED(3, { 3, 2, 5 }), PARAMETER(1, { 5 }), PARAMETER(1, { 5 }) }, &over_last },
    { "layer_norm", { BATCHED(3, { 2, 3, 4 }), PARAMETER(2, { 3, 4 }) }, &over_two },
    { "group_norm", { BATCHED(3, { 3, 4, 3 }), PARAMETER(1, { 4 }), PARAMETER(1, { 4 }) }, &two_groups },
    { "group_norm", { BATCHED(2, { 3, 4 }), { 0 }, PARAMETER(1, { 4 }) }, &one_group },
    { "rms_norm", { BATCHED(3, { 3, 2, 5 }), PARAMETER(1, { 5 }) }, &rms_last },
    { "rms_norm", { BATCHED(3, { 2, 3, 4 }), PARAMETER(2, { 3, 4 }) }, &rms_two },
    { "instance_norm", { BATCHED(3, { 3, 4, 3 }), PARAMETER(1, { 4 }), PARAMETER(1, { 4 }) }, &by_input },
    { "instance_norm", { BATCHED(3, { 3, 4, 3 }), PARAMETER(1, { 4 }), PARAMETER(1, { 4 }) }, &by_running },
    { "batch_norm", { BATCHED(3, { 3, 4, 2 }), PARAMETER(1, { 4 }), PARAMETER(1, { 4 }) }, &evaluation },
    { "batch_norm", { BATCHED(2, { 3, 4 }), PARAMETER(1, { 4 }), PARAMETER(1, { 4 }) }, &evaluation },
    { "max_pool", { BATCHED(3, { 3, 2, 7 }) }, &max_pairs },
    { "max_pool", { BATCHED(3, { 3, 2, 7 }) }, &max_padded },
    { "max_pool", { BATCHED(4, { 2, 2, 4, 5 }) }, &max_pairs },
    { "max_pool", { BATCHED(4, { 2, 2, 4, 5 }) }, &max_padded },
    { "max_pool", { BATCHED(5, { 2, 1, 3, 4, 3 }) }, &max_pairs },
    { "max_pool", { BATCHED(5, { 2, 1, 3, 4, 3 }) }, &max_padded },
    { "avg_pool", { BATCHED(3, { 3, 2, 7 }) }, &avg_pairs },
    { "avg_pool", { BATCHED(3, { 3, 2, 7 }) }, &avg_padded },
    { "avg_pool", { BATCHED(4, { 2, 2, 4, 5 }) }, &avg_pairs },
    { "avg_pool", { BATCHED(4, { 2, 2, 4, 5 }) }, &avg_padded },
    { "avg_pool", { BATCHED(5, { 2, 1, 3, 4, 3 }) }, &avg_pairs },
    { "avg_pool", { BATCHED(5, { 2, 1, 3, 4, 3 }) }, &avg_padded },
    { "adaptive_avg_pool", { BATCHED(3, { 3, 2, 7 }) }, &to_one },
    { "adaptive_avg_pool", { BATCHED(3, { 3, 2, 7 }) }, &to_few },
    { "adaptive_avg_pool", { BATCHED(4, { 2, 2, 4, 5 }) }, &to_one },
    { "adaptive_avg_pool", { BATCHED(4, { 2, 2, 4, 5 }) }, &to_few },
    { "adaptive_avg_pool", { BATCHED(5, { 2, 1, 3, 4, 3 }) }, &to_one },
    { "adaptive_avg_pool", { BATCHED(5, { 2, 1, 3, 4, 3 }) }, &to_few },
    { "adaptive_max_pool", { BATCHED(3, { 3, 2, 7 }) }, &to_one },
    { "adaptive_max_pool", { BATCHED(3, { 3, 2, 7 }) }, &to_few },
    { "adaptive_max_pool", { BATCHED(4, { 2, 2, 4, 5 }) }, &to_one },
    { "adaptive_max_pool", { BATCHED(4, { 2, 2, 4, 5 }) }, &to_few },
    { "adaptive_max_pool", { BATCHED(5, { 2, 1, 3, 4, 3 }) }, &to_one },
    { "adaptive_max_pool", { BATCHED(5, { 2, 1, 3, 4, 3 }) }, &to_few },
    { "gelu", { BATCHED(2, { 3, 4 }) }, &exact_gelu },
    { "gelu", { BATCHED(2, { 3, 4 }) }, &tanh_gelu },
    { "dropout", { BATCHED(2, { 3, 8 }) }, &some },
    { "add", { BATCHED(3, { 3, 2, 4 }), BATCHED(3, { 3, 1, 4 }) }, NULL },
    { "mul", { BATCHED(3, { 3, 2, 4 }), BATCHED(3, { 3, 2, 1 }) }, NULL },
    { "scale", { BATCHED(2, { 3, 4 }) }, &by },
    { "softmax", { BATCHED(2, { 3, 4 }) }, &last_dim },
    { "softmax", { BATCHED(3, { 3, 4, 2 }) }, &dim_1 },
    { "reshape", { BATCHED(3, { 3, 4, 3 }) }, &as_12 },
    { "flatten", { BATCHED(3, { 3, 4, 3 }) }, &from_1 },
    { "transpose", { BATCHED(3, { 3, 4, 2 }) }, &swap_12 },
    { "mean", { BATCHED(3, { 3, 4, 2 }) }, &over_1 },
    { "cross_entropy", { BATCHED(2, { 3, 4 }), LABELS(1, { 3 }) }, &mean_ce },
    { "cross_entropy", { BATCHED(3, { 3, 4, 2 }), LABELS(2, { 3, 2 }) }, &smooth_ce },
    { "cross_entropy", { BATCHED(2, { 5, 3 }), LABELS(1, { 5 }) }, &ignoring_ce },
    { "squeeze", { BATCHED(3, { 3, 4, 1 }) }, &dim_2 },
    { "unsqueeze", { BATCHED(2, { 3, 4 }) }, &dim_0 },
    { "expand", { BATCHED(4, { 3, 1, 1, 4 }) }, &to_3324 },
    { "permute", { BATCHED(4, { 3, 2, 4, 5 }) }, &order_0312 },
    { "permute", { BATCHED(3, { 3, 2, 4 }) }, &order_021 },
    { "flip", { BATCHED(3, { 3, 2, 4 }) }, &flip_12 },
    { "slice", { BATCHED(3, { 3, 8, 2 }) }, &by_3 },
    { "slice", { BATCHED(2, { 3, 5 }) }, &last_two },
    { "select", { BATCHED(3, { 3, 4, 2 }) }, &from_end },
    { "cat", { BATCHED(3, { 3, 2, 2 }), BATCHED(3, { 3, 1, 2 }), BATCHED(3, { 3, 3, 2 }) }, &along_1 },
    { "pad", { BATCHED(3, { 3, 2, 4 }) }, &constant_pad },
    { "pad", { BATCHED(4, { 3, 2, 3, 4 }) }, &reflect_pad },
    { "pad", { BATCHED(4, { 3, 1, 2, 3 }) }, &replicate_pad },
    { "pad", { BATCHED(4, { 3, 1, 3, 3 }) }, &circular_pad },
    { "pad", { BATCHED(4, { 3, 1, 3, 3 }) }, &rows_pad },
    { "unfold", { BATCHED(4, { 2, 2, 3, 4 }) }, &windows },
    { "fold", { BATCHED(3, { 2, 12, 8 }) }, &folded },
    { "sum", { BATCHED(3, { 3, 4, 2 }) }, &over_1 },
    { "log", { UNIT(2, { 3, 4 }) }, NULL },
    { "sqrt", { UNIT(2, { 3, 4 }) }, NULL },
    { "elu", { BATCHED(2, { 3, 4 }) }, &alpha_07 },
    { "celu", { BATCHED(2, { 3, 4 }) }, &alpha_2 },
    { "leaky_relu", { BATCHED(2, { 3, 4 }) }, &leak },
    { "softplus", { BATCHED(2, { 3, 4 }) }, &beta_2 },
    { "hardtanh", { BATCHED(2, { 3, 4 }) }, &half_each },
    { "softshrink", { BATCHED(2, { 3, 4 }) }, &shrink_05 },
    { "hardshrink", { BATCHED(2, { 3, 4 }) }, &harden_05 },
    { "threshold", { BATCHED(2, { 3, 4 }) }, &above_03 },
    { "glu", { BATCHED(3, { 3, 4, 2 }) }, &glu_1 },
    { "feature_dropout", { BATCHED(3, { 3, 4, 2 }) }, &some_channels },
    { "log_softmax", { BATCHED(3, { 3, 4, 2 }) }, &dim_1 },
    { "matmul", { BATCHED(4, { 3, 2, 2, 4 }), BATCHED(4, { 3, 1, 4, 3 }) }, NULL },
    { "matmul", { BATCHED(2, { 3, 4 }), PARAMETER(2, { 4, 5 }) }, NULL },
    { "matmul", { BATCHED(4, { 3, 2, 2, 4 }), PARAMETER(3, { 2, 4, 3 }) }, NULL },
    { "matmul", { PARAMETER(3, { 2, 4, 2 }), BATCHED(4, { 3, 1, 2, 5 }) }, NULL },
    { "scaled_dot_product_attention", { BATCHED(4, { 2, 2, 3, 4 }), BATCHED(4, { 2, 2, 5, 4 }),
                                        BATCHED(4, { 2, 2, 5, 3 }), BATCHED(4, { 2, 1, 3, 5 }) }, &plain_attention },
    { "scaled_dot_product_attention", { BATCHED(4, { 2, 4, 3, 4 }), BATCHED(4, { 2, 2, 5, 4 }),
                                        BATCHED(4, { 2, 2, 5, 3 }), PARAMETER(3, { 4, 3, 5 }) }, &grouped_attention },
    { "scaled_dot_product_attention",
      { BATCHED(3, { 2, 70, 3 }), BATCHED(3, { 2, 140, 3 }), BATCHED(3, { 2, 140, 2 }) }, &plain_attention },
    { "head_attention", { BATCHED(3, { 2, 3, 12 }) }, &two_heads },
    { "head_attention", { BATCHED(3, { 2, 3, 4 }), BATCHED(3, { 2, 5, 8 }), { 0 }, BATCHED(4, { 2, 2, 3, 5 }),
                          LABELS(2, { 2, 5 }), PARAMETER(3, { 1, 1, 4 }), PARAMETER(3, { 1, 1, 4 }) },
      &two_causal_heads },
    { "head_attention", { BATCHED(3, { 2, 3, 4 }), BATCHED(3, { 2, 5, 4 }), BATCHED(3, { 2, 5, 6 }) }, &two_heads },
    { "head_attention", { BATCHED(3, { 2, 3, 12 }) }, &heads_and_weights },
    { "head_attention", { BATCHED(3, { 2, 3, 4 }), BATCHED(3, { 2, 5, 8 }), { 0 }, { 0 }, LABELS(2, { 2, 5 }),
                          PARAMETER(3, { 1, 1, 4 }), PARAMETER(3, { 1, 1, 4 }) }, &causal_weights },
    { "in_projection", { BATCHED(3, { 3, 2, 4 }), PARAMETER(2, { 7, 4 }), PARAMETER(1, { 6 }) }, &rows_1_to_4 },
    { "l1", { BATCHED(2, { 3, 4 }), BATCHED(2, { 3, 4 }) }, &mean_loss },
    { "smooth_l1", { BATCHED(2, { 3, 4 }), BATCHED(2, { 3, 4 }) }, &beta_half },
    { "huber", { BATCHED(2, { 3, 4 }), BATCHED(2, { 3, 4 }) }, &delta_half },
    { "binary_cross_entropy", { UNIT(2, { 3, 4 }), BATCHED(2, { 3, 4 }) }, &mean_loss },
    { "kl_div", { BATCHED(2, { 3, 4 }), UNIT(2, { 3, 4 }) }, &kl_batch_mean },
    { "kl_div", { BATCHED(2, { 3, 4 }), BATCHED(2, { 3, 4 }) }, &kl_log },
    { "poisson_nll", { BATCHED(2, { 3, 4 }), BATCHED(2, { 3, 4 }) }, &poisson_log },
    { "poisson_nll", { UNIT(2, { 3, 4 }), BATCHED(2, { 3, 4 }) }, &poisson_rate },
    { "soft_margin", { BATCHED(2, { 3, 4 }), BATCHED(2, { 3, 4 }) }, &mean_loss },
    { "hinge_embedding", { BATCHED(2, { 3, 4 }), CONSTANT(2, { 3, 4 }) }, &margin_06 },
    { "nll", { BATCHED(3, { 3, 4, 2 }), LABELS(2, { 3, 2 }) }, &mean_nll },
    { "nll", { BATCHED(2, { 3, 4 }), LABELS(1, { 3 }), CONSTANT(1, { 4 }) }, &ignoring_nll },
    { "cross_entropy", { BATCHED(3, { 3, 4, 2 }), LABELS(2, { 3, 2 }), CONSTANT(1, { 4 }) }, &smooth_ce },
    { "cross_entropy", { BATCHED(3, { 3, 4, 2 }), BATCHED(3, { 3, 4, 2 }) }, &mean_ce },
    { "cross_entropy", { BATCHED(3, { 3, 4, 2 }), BATCHED(3, { 3, 4, 2 }), CONSTANT(1, { 4 }) }, &smooth_ce },
    { "mse", { BATCHED(2, { 3, 4 }), BATCHED(2, { 3, 4 }) }, &mean_loss },
    { "mse", { BATCHED(2, { 3, 4 }), BATCHED(2, { 3, 4 }) }, &no_reduction },
    { "binary_cross_entropy_with_logits", { BATCHED(2, { 3, 4 }), BATCHED(2, { 3, 4 }) }, &sum_loss },
    { "rnn", { BATCHED(3, { 3, 4, 2 }), BATCHED(3, { 3, 1, 3 }), { 0 }, PARAMETER(2, { 3, 2 }), PARAMETER(2, { 3, 3 }),
               PARAMETER(1, { 3 }), PARAMETER(1, { 3 }) }, &plain_rnn },
    { "rnn", { BATCHED(3, { 2, 3, 2 }), PARAMETER(2, { 2, 3 }), { 0 }, PARAMETER(2, { 3, 2 }), PARAMETER(2, { 3, 3 }),
               PARAMETER(1, { 3 }), { 0 }, { 0 }, PARAMETER(2, { 3, 2 }), PARAMETER(2, { 3, 3 }), { 0 },
               PARAMETER(1, { 3 }), { 0 }, LABELS(1, { 2 }) }, &relu_rnn },
    { "lstm", { BATCHED(3, { 3, 4, 2 }), BATCHED(3, { 3, 1, 3 }), BATCHED(3, { 3, 1, 3 }), PARAMETER(2, { 12, 2 }),
                PARAMETER(2, { 12, 3 }), PARAMETER(1, { 12 }), PARAMETER(1, { 12 }) }, &with_states },
    { "lstm", { BATCHED(3, { 3, 2, 4 }), BATCHED(3, { 3, 3, 2 }), PARAMETER(2, { 3, 3 }), PARAMETER(2, { 12, 4 }),
                PARAMETER(2, { 12, 2 }), PARAMETER(1, { 12 }), PARAMETER(1, { 12 }), PARAMETER(2, { 2, 3 }),
                PARAMETER(2, { 12, 4 }), PARAMETER(2, { 12, 2 }), PARAMETER(1, { 12 }), PARAMETER(1, { 12 }),
                PARAMETER(2, { 2, 3 }), LABELS(1, { 3 }) }, &second_of_three },
    { "gru", { BATCHED(3, { 3, 4, 2 }), BATCHED(3, { 3, 1, 3 }), { 0 }, PARAMETER(2, { 9, 2 }), PARAMETER(2, { 9, 3 }),
               PARAMETER(1, { 9 }), PARAMETER(1, { 9 }) }, &plain_rnn },
    { "gru", { BATCHED(3, { 2, 3, 2 }), { 0 }, { 0 }, PARAMETER(2, { 9, 2 }), PARAMETER(2, { 9, 3 }), { 0 },
               PARAMETER(1, { 9 }), { 0 }, PARAMETER(2, { 9, 2 }), PARAMETER(2, { 9, 3 }), PARAMETER(1, { 9 }), { 0 },
               { 0 }, LABELS(1, { 2 }) }, &with_states },
    { "rnn_cell", { BATCHED(2, { 3, 2 }), BATCHED(2, { 3, 3 }), { 0 }, PARAMETER(2, { 3, 2 }), PARAMETER(2, { 3, 3 }),
                    PARAMETER(1, { 3 }), PARAMETER(1, { 3 }) }, &plain_rnn },
    { "lstm_cell", { BATCHED(2, { 3, 2 }), BATCHED(2, { 3, 3 }), PARAMETER(1, { 3 }), PARAMETER(2, { 12, 2 }),
                     PARAMETER(2, { 12, 3 }), PARAMETER(1, { 12 }), PARAMETER(1, { 12 }) }, &with_states },
    { "lstm_cell", { BATCHED(2, { 3, 2 }), { 0 }, BATCHED(2, { 3, 3 }), PARAMETER(2, { 12, 2 }),
                     PARAMETER(2, { 12, 3 }) }, &plain_rnn },
    { "gru_cell", { BATCHED(2, { 3, 2 }), BATCHED(2, { 3, 3 }), { 0 }, PARAMETER(2, { 9, 2 }), PARAMETER(2, { 9, 3 }),
                    PARAMETER(1, { 9 }), PARAMETER(1, { 9 }) }, &plain_rnn },
    { "conv", { BATCHED(3, { 3, 4, 7 }), PARAMETER(3, { 6, 2, 3 }), PARAMETER(1, { 6 }) }, &same_conv },
    { "conv", { BATCHED(3, { 3, 8, 5 }), PARAMETER(3, { 24, 8, 3 }) }, NULL },
    { "conv", { BATCHED(4, { 2, 3, 6, 7 }), PARAMETER(4, { 7, 3, 3, 2 }), PARAMETER(1, { 7 }) }, &strided_conv },
    { "conv", { BATCHED(4, { 2, 4, 4, 5 }), PARAMETER(4, { 8, 1, 3, 3 }), PARAMETER(1, { 8 }) }, &depthwise_conv },
    { "conv", { BATCHED(5, { 2, 2, 3, 4, 3 }), PARAMETER(5, { 9, 2, 2, 2, 3 }), PARAMETER(1, { 9 }) }, &sided_conv },
    { "conv_transpose", { BATCHED(3, { 3, 4, 5 }), PARAMETER(3, { 4, 3, 3 }), PARAMETER(1, { 6 }) },
      &grouped_transpose },
    { "conv_transpose", { BATCHED(4, { 2, 5, 3, 2 }), PARAMETER(4, { 5, 4, 3, 3 }), PARAMETER(1, { 4 }) },
      &strided_transpose },
    { "conv_transpose", { BATCHED(5, { 2, 3, 2, 3, 2 }), PARAMETER(5, { 3, 6, 2, 3, 2 }), PARAMETER(1, { 6 }) },
      &cubic_transpose },
    { "weight_standardize", { PARAMETER(2, { 3, 4 }), PARAMETER(1, { 3 }) }, NULL },
    { "weight_standardize", { PARAMETER(4, { 3, 2, 2, 3 }), PARAMETER(4, { 3, 1, 1, 1 }) }, &fan_in },
    { "weight_standardize", { PARAMETER(3, { 3, 2, 2 }), CONSTANT(1, { 3 }) }, &fan_in },
    { "weight_standardize", { CONSTANT(2, { 3, 4 }), PARAMETER(1, { 3 }) }, NULL },
    { "weight_norm", { PARAMETER(2, { 3, 4 }), PARAMETER(1, { 3 }) }, NULL },
    { "weight_norm", { PARAMETER(3, { 3, 2, 4 }), PARAMETER(3, { 1, 2, 1 }) }, &norm_dim_1 },
    { "weight_norm", { PARAMETER(3, { 3, 2, 4 }) }, &norm_dim_2 },
    { "weight_norm", { PARAMETER(3, { 3, 2, 4 }), PARAMETER(0, { 0 }) }, &norm_over_all },
};

enum { CASES = sizeof cases / sizeof cases[0] };

static const op_case plain = { NULL, { BATCHED(2, { 3, 4 }) }, NULL };

enum { UNITS = 24 };

static void fill_operands(const op_case *c, double units[UNITS], psg_operand *inputs) {
    for (int i = 0; i < UNITS; i++) units[i] = 0.1 + 0.8 * (double)(i * 7 % UNITS) / UNITS;
    memset(inputs, 0, PSG_MAX_INPUTS * sizeof *inputs);
    for (int k = 0; k < MOST_INPUTS; k++) {
        const shape *s = &c->inputs[k];
        inputs[k].role = s->role;
        inputs[k].value = psg_tensor_of(s->dtype, s->unit ? units : NULL, s->rank, s->dims);
    }
}

static void check(psg_context *context, const psg_op *op, const op_case *c) {
    psg_operand inputs[PSG_MAX_INPUTS];
    double units[UNITS];
    fill_operands(c, units, inputs);
    TEST_OK(context, psg_op_check(context, op, inputs, c->attributes));
}

static void every_op_passes_its_checks(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    size_t ops = 0;
    for (const psg_op *op; (op = psg_op_at(context, ops)); ops++) {
        int found = 0;
        for (int k = 0; k < CASES; k++) {
            if (strcmp(cases[k].op, op->name)) continue;
            check(context, op, &cases[k]);
            found++;
        }
        if (found) continue;
        if (op->input_count > 1 || op->attributes_size) fail_msg("op %s has no case", op->name);
        check(context, op, &plain);
    }
    assert_true(ops >= 80);
    test_context_free(context);
}

static void every_case_has_an_op(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    for (int k = 0; k < CASES; k++) {
        if (!psg_op_find(context, cases[k].op)) fail_msg("there is no op %s", cases[k].op);
    }
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_passes_its_checks),
        cmocka_unit_test(every_case_has_an_op),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
