/* Errors of convolutions, look-up tables, instance norms and recurrent layers in the list of ExpandedWeights' errors,
 * by section of that list, and of what is beyond it; those of the system itself and of section 2.1, 2.4 and 2.5 are in
 * test_tape_errors.c and test_norm_refusals.c.  Sizes that do not fit are also lines error=... of the tables. */
#include "scene.h"

#define CANNOT PSG_OK, NULL
#define V(...) VIEW(__VA_ARGS__)

static psg_status answer(scene *s) { return psg_tape_status(s->tape); }

static psg_var constant(scene *s, psg_tensor value) { return psg_constant(s->tape, &value); }

/* ---- 2.2 convolutions ---- */

static psg_status conv(scene *s, psg_tensor x, psg_tensor weight, const psg_conv_options *options) {
    scene_begin(s);
    psg_conv2d(s->tape, scene_input(s, x), constant(s, weight), psg_none(), options);
    return answer(s);
}

static psg_status conv_with(scene *s, psg_conv_options options) {
    return conv(s, V(B, 4, 5, 5), V(4, 4, 3, 3), &options);
}

static psg_status conv_unbatched(scene *s) { return conv(s, V(4, 5, 5), V(4, 4, 3, 3), NULL); }
static psg_status conv_rank_5(scene *s) { return conv(s, V(B, 4, 5, 5, 5), V(4, 4, 3, 3), NULL); }
static psg_status conv_weight_rank(scene *s) { return conv(s, V(B, 4, 5, 5), V(4, 4, 3), NULL); }
static psg_status conv_channels(scene *s) { return conv(s, V(B, 4, 5, 5), V(4, 3, 3, 3), NULL); }
static psg_status conv_kernel_too_large(scene *s) { return conv(s, V(B, 4, 2, 5), V(4, 4, 3, 3), NULL); }
static psg_status conv_no_kernel(scene *s) { return conv(s, V(B, 4, 5, 5), V(4, 4, 0, 3), NULL); }
static psg_status conv_padding_rule(scene *s) {
    return conv_with(s, (psg_conv_options){ .padding_rule = (psg_conv_padding)7 });
}
static psg_status conv_same_and_numbers(scene *s) {
    return conv_with(s, (psg_conv_options){ .padding_rule = PSG_CONV_SAME, .padding = { 1, 1 } });
}
static psg_status conv_padding_mode(scene *s) {
    return conv_with(s, (psg_conv_options){ .padding_mode = (psg_pad_mode)9 });
}
static psg_status conv_stride(scene *s) { return conv_with(s, (psg_conv_options){ .stride = { 1, -1 } }); }
static psg_status conv_padding(scene *s) { return conv_with(s, (psg_conv_options){ .padding = { -1, 0 } }); }
static psg_status conv_dilation(scene *s) { return conv_with(s, (psg_conv_options){ .dilation = { -2, 1 } }); }
static psg_status conv_groups(scene *s) { return conv_with(s, (psg_conv_options){ .groups = 3 }); }
static psg_status conv_negative_groups(scene *s) { return conv_with(s, (psg_conv_options){ .groups = -1 }); }
static psg_status conv_same_strided(scene *s) {
    return conv_with(s, (psg_conv_options){ .padding_rule = PSG_CONV_SAME, .stride = { 2, 2 } });
}

static psg_status conv_bias(scene *s) {
    scene_begin(s);
    psg_conv2d(s->tape, scene_input(s, V(B, 4, 5, 5)), constant(s, V(4, 4, 3, 3)), constant(s, V(5)), NULL);
    return answer(s);
}

static psg_status conv_batch(scene *s) {
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_size = B;
    psg_tape_begin(s->tape, &pass);
    psg_conv2d(s->tape, scene_input(s, V(B + 1, 4, 5, 5)), constant(s, V(4, 4, 3, 3)), psg_none(), NULL);
    return answer(s);
}

static psg_status conv_transpose(scene *s, psg_conv_transpose_options options) {
    scene_begin(s);
    psg_conv_transpose2d(s->tape, scene_input(s, V(B, 4, 5, 5)), constant(s, V(4, 2, 3, 3)), psg_none(), &options);
    return answer(s);
}

static psg_status transpose_output_padding(scene *s) {
    return conv_transpose(s, (psg_conv_transpose_options){ .output_padding = { 1, 0 } });
}
static psg_status transpose_groups(scene *s) { return conv_transpose(s, (psg_conv_transpose_options){ .groups = 3 }); }
static psg_status transpose_padding(scene *s) {
    return conv_transpose(s, (psg_conv_transpose_options){ .padding = { 4, 4 } });
}

/* ---- 2.3 tables ---- */

static psg_status look_up(scene *s, int64_t id, psg_pass pass, const psg_embedding_options *options) {
    int64_t ids[] = { 0, id, 2, 1 };
    psg_tensor value = psg_tensor_of(PSG_I64, ids, 2, (int64_t[]){ 2, 2 });
    psg_tape_begin(s->tape, &pass);
    psg_embedding(s->tape, psg_input(s->tape, &value), psg_use(s->tape, s->weight), options);
    return answer(s);
}

static psg_status with(scene *s, psg_embedding_options options) {
    return look_up(s, 1, (psg_pass)PSG_PASS_INIT, &options);
}

static psg_status id_past_the_end(scene *s) { return look_up(s, OUT, (psg_pass)PSG_PASS_INIT, NULL); }
static psg_status id_negative(scene *s) { return look_up(s, -1, (psg_pass)PSG_PASS_INIT, NULL); }
static psg_status padding_past_the_end(scene *s) {
    return with(s, (psg_embedding_options){ .has_padding_idx = 1, .padding_idx = OUT });
}
static psg_status padding_negative(scene *s) {
    return with(s, (psg_embedding_options){ .has_padding_idx = 1, .padding_idx = -OUT - 1 });
}
static psg_status max_norm_updates(scene *s) { return with(s, (psg_embedding_options){ .max_norm = 1 }); }
static psg_status max_norm_allowed(scene *s) {
    psg_pass pass = PSG_PASS_INIT;
    pass.allow_updates = 1;
    return look_up(s, 1, pass, &(psg_embedding_options){ .max_norm = 1 });
}
static psg_status max_norm_negative(scene *s) { return with(s, (psg_embedding_options){ .max_norm = -1 }); }
static psg_status norm_type(scene *s) {
    psg_pass pass = PSG_PASS_INIT;
    pass.allow_updates = 1;
    return look_up(s, 1, pass, &(psg_embedding_options){ .max_norm = 1, .norm_type = -2 });
}

static psg_status real_ids(scene *s) {
    scene_begin(s);
    psg_embedding(s->tape, scene_input(s, V(2, 2)), psg_use(s->tape, s->weight), NULL);
    return answer(s);
}

static psg_status scalar_ids(scene *s) {
    psg_tensor ids = psg_tensor_of(PSG_I64, scene_integers, 0, NULL);
    scene_begin(s);
    psg_embedding(s->tape, psg_input(s->tape, &ids), psg_use(s->tape, s->weight), NULL);
    return answer(s);
}

static psg_status table_of_rank_1(scene *s) {
    psg_tensor ids = psg_tensor_of(PSG_I64, scene_integers, 2, (int64_t[]){ 2, 2 });
    scene_begin(s);
    psg_embedding(s->tape, psg_input(s->tape, &ids), psg_use(s->tape, s->bias), NULL);
    return answer(s);
}

static psg_status bag(scene *s, psg_embedding_bag_options options, int weights) {
    psg_tensor ids = psg_tensor_of(PSG_I64, scene_integers, 2, (int64_t[]){ 2, 2 });
    scene_begin(s);
    psg_var scale = weights ? scene_input(s, V(2, 2)) : psg_none();
    psg_embedding_bag(s->tape, psg_input(s->tape, &ids), psg_use(s->tape, s->weight), psg_none(), scale, &options);
    return answer(s);
}

static psg_status bag_mode(scene *s) { return bag(s, (psg_embedding_bag_options){ .mode = (psg_bag_mode)5 }, 0); }
static psg_status bag_weights(scene *s) { return bag(s, (psg_embedding_bag_options){ .mode = PSG_BAG_MEAN }, 1); }
static psg_status bag_max_frequency(scene *s) {
    return bag(s, (psg_embedding_bag_options){ .mode = PSG_BAG_MAX, .scale_grad_by_freq = 1 }, 0);
}

/* ---- 2.6 instance norm, batch norm ---- */

static psg_status instance_norm(scene *s, psg_tensor x, const psg_tensor *mean, const psg_tensor *var, int use_input) {
    scene_begin(s);
    psg_instance_norm(s->tape, scene_input(s, x), mean, var, psg_none(), psg_none(), use_input, 0.1, 1e-5);
    return answer(s);
}

static psg_status instance_no_statistics(scene *s) { return instance_norm(s, V(B, IN, 5), NULL, NULL, 0); }
static psg_status instance_one_value(scene *s) { return instance_norm(s, V(B, IN, 1), NULL, NULL, 1); }
static psg_status instance_rank_2(scene *s) { return instance_norm(s, V(B, IN), NULL, NULL, 1); }
static psg_status instance_rank_1(scene *s) { return instance_norm(s, V(IN), NULL, NULL, 1); }

static psg_status instance_updates(scene *s) {
    psg_tensor statistics = V(IN);
    return instance_norm(s, V(B, IN, 5), &statistics, &statistics, 1);
}

static psg_status instance_one_statistic(scene *s) {
    psg_tensor statistics = V(IN);
    return instance_norm(s, V(B, IN, 5), &statistics, NULL, 0);
}

static psg_status instance_statistics_size(scene *s) {
    psg_tensor statistics = V(IN + 1);
    return instance_norm(s, V(B, IN, 5), &statistics, &statistics, 0);
}

static psg_status instance_weight(scene *s) {
    scene_begin(s);
    psg_instance_norm(s->tape, scene_input(s, V(B, IN, 5)), NULL, NULL, psg_use(s->tape, s->bias), psg_none(), 1, 0.1,
                      1e-5);
    return answer(s);
}

static psg_status batch_norm(scene *s, int training, int ordinary, psg_tensor x) {
    psg_pass pass = PSG_PASS_INIT;
    pass.ordinary = ordinary;
    psg_tape_begin(s->tape, &pass);
    psg_batch_norm(s->tape, scene_input(s, x), NULL, NULL, psg_none(), psg_none(), training, 0.1, 1e-5);
    return answer(s);
}

static psg_status batch_norm_training(scene *s) { return batch_norm(s, 1, 0, V(B, IN, 5)); }
static psg_status batch_norm_ordinary(scene *s) { return batch_norm(s, 1, 1, V(B, IN, 5)); }
static psg_status batch_norm_no_statistics(scene *s) { return batch_norm(s, 0, 0, V(B, IN, 5)); }
static psg_status batch_norm_one_value(scene *s) { return batch_norm(s, 1, 1, V(1, IN)); }

/* ---- 2.8 recurrent layers ---- */

static psg_status rnn(scene *s, psg_tensor x, psg_tensor ih, psg_tensor hh, const int64_t *lengths, int64_t count) {
    psg_rnn_weights weights = { .bias_ih = psg_none() };
    psg_tensor given = psg_i64_1d(lengths ? lengths : scene_integers, count);
    scene_begin(s);
    psg_var input = scene_input(s, x);
    weights.weight_ih = constant(s, ih);
    weights.weight_hh = constant(s, hh);
    psg_rnn(s->tape, input, lengths ? psg_input(s->tape, &given) : psg_none(), psg_none(), &weights, NULL, NULL);
    return answer(s);
}

static psg_status rnn_unbatched(scene *s) { return rnn(s, V(5, IN), V(2, IN), V(2, 2), NULL, 0); }
static psg_status rnn_features(scene *s) { return rnn(s, V(B, 5, IN), V(2, IN + 1), V(2, 2), NULL, 0); }
static psg_status rnn_hidden(scene *s) { return rnn(s, V(B, 5, IN), V(2, IN), V(3, 2), NULL, 0); }
static psg_status rnn_length_too_long(scene *s) {
    return rnn(s, V(B, 5, IN), V(2, IN), V(2, 2), (int64_t[]){ 1, 2, 6, 3 }, B);
}
static psg_status rnn_length_negative(scene *s) {
    return rnn(s, V(B, 5, IN), V(2, IN), V(2, 2), (int64_t[]){ 1, -1, 5, 3 }, B);
}
static psg_status rnn_length_zero(scene *s) {
    return rnn(s, V(B, 5, IN), V(2, IN), V(2, 2), (int64_t[]){ 0, 2, 5, 3 }, B);
}
static psg_status rnn_lengths_count(scene *s) {
    return rnn(s, V(B, 5, IN), V(2, IN), V(2, 2), (int64_t[]){ 1, 2, 3 }, B - 1);
}

static psg_status rnn_with(scene *s, psg_rnn_options options) {
    psg_rnn_weights weights = { .bias_ih = psg_none() };
    scene_begin(s);
    psg_var input = scene_input(s, V(B, 5, IN));
    weights.weight_ih = constant(s, V(2, IN));
    weights.weight_hh = constant(s, V(2, 2));
    psg_rnn(s->tape, input, psg_none(), psg_none(), &weights, &options, NULL);
    return answer(s);
}

static psg_status rnn_other_layout(scene *s) {
    return rnn_with(s, (psg_rnn_options){ .num_layers = 1, .layout = PSG_RNN_BATCH_SECOND });
}
static psg_status rnn_dropout(scene *s) { return rnn_with(s, (psg_rnn_options){ .num_layers = 1, .dropout = 1.5 }); }
static psg_status rnn_layers(scene *s) { return rnn_with(s, (psg_rnn_options){ .num_layers = -1 }); }

/* ---- beyond the list: attention, products with parameters ---- */

static psg_status attention(scene *s, psg_tensor q, psg_tensor k, psg_tensor v) {
    scene_begin(s);
    psg_var query = scene_input(s, q), key = scene_input(s, k), value = scene_input(s, v);
    psg_scaled_dot_product_attention(s->tape, query, key, value, psg_none(), NULL);
    return answer(s);
}

static psg_status attention_widths(scene *s) { return attention(s, V(B, 2, 3), V(B, 2, 4), V(B, 2, 3)); }
static psg_status attention_keys(scene *s) { return attention(s, V(B, 2, 3), V(B, 2, 3), V(B, 3, 3)); }
static psg_status attention_rank(scene *s) { return attention(s, V(B, 3), V(B, 3), V(B, 3)); }

static psg_status heads_do_not_divide(scene *s) {
    psg_multi_head_attention_weights weights = { .in_proj_bias = psg_none() };
    scene_begin(s);
    psg_var x = scene_input(s, V(B, 5, IN));
    weights.in_proj_weight = constant(s, V(3 * IN, IN));
    weights.out_proj_weight = constant(s, V(IN, IN));
    psg_multi_head_attention(s->tape, x, x, x, 4, &weights, NULL, NULL);
    return answer(s);
}

static psg_status parameter_of_the_batch(scene *s) {
    scene_begin(s);
    psg_mul(s->tape, scene_input(s, V(OUT, OUT, IN)), psg_use(s->tape, s->weight));
    psg_add(s->tape, scene_input(s, V(OUT, IN)), psg_use(s->tape, s->weight));
    return answer(s);
}

static psg_status prelu_channels(scene *s) {
    scene_begin(s);
    psg_prelu(s->tape, scene_input(s, V(B, 5)), psg_use(s->tape, s->bias));
    return answer(s);
}

/* ---- the table ---- */

static const scene_row rows[] = {
    { "2.2 convolution of an unbatched input", PSG_ERR_SHAPE, conv_unbatched, "conv: " },
    { "2.2 one dimension too many", PSG_ERR_SHAPE, conv_rank_5, "conv: " },
    { "2.2 weight of another rank", PSG_ERR_SHAPE, conv_weight_rank, "conv: weight" },
    { "2.2 channels differ", PSG_ERR_SHAPE, conv_channels, "conv: " },
    { "2.2 kernel larger than the padded input", PSG_ERR_SHAPE, conv_kernel_too_large, "conv: " },
    { "2.2 kernel without elements", PSG_ERR_SHAPE, conv_no_kernel, "conv: " },
    { "2.2 padding neither same nor valid", PSG_ERR_ARGUMENT, conv_padding_rule, "conv: padding_rule" },
    { "2.2 (ours) same, and numbers", PSG_ERR_ARGUMENT, conv_same_and_numbers, "conv: " },
    { "2.2 padding_mode", PSG_ERR_ARGUMENT, conv_padding_mode, "padding_mode" },
    { "2.2 non-positive stride", PSG_ERR_ARGUMENT, conv_stride, "conv: stride" },
    { "2.2 negative padding", PSG_ERR_ARGUMENT, conv_padding, "conv: padding" },
    { "2.2 negative dilation", PSG_ERR_ARGUMENT, conv_dilation, "conv: dilation" },
    { "2.2 groups do not divide channels", PSG_ERR_SHAPE, conv_groups, "conv: " },
    { "2.2 negative groups", PSG_ERR_ARGUMENT, conv_negative_groups, "conv: groups" },
    { "2.2 same with a stride (plain PyTorch refuses)", PSG_OK, conv_same_strided, NULL },
    { "2.2 bias of another size", PSG_ERR_SHAPE, conv_bias, "conv: bias" },
    { "2.2 batch of another size", PSG_ERR_BATCH, conv_batch, "conv: input has shape (5, 4, 5, 5)" },
    { "2.2 (ours) output_padding not below stride", PSG_ERR_ARGUMENT, transpose_output_padding,
      "conv_transpose: output_padding" },
    { "2.2 (ours) transposed, groups", PSG_ERR_SHAPE, transpose_groups, "conv_transpose: " },
    { "2.2 (ours) transposed, no output left", PSG_ERR_SHAPE, transpose_padding, "conv_transpose: " },
    { "2.3 index out of range", PSG_ERR_ARGUMENT, id_past_the_end, "embedding: " },
    { "2.3 negative index", PSG_ERR_ARGUMENT, id_negative, "embedding: " },
    { "2.3 padding_idx must be within num_embeddings", PSG_ERR_ARGUMENT, padding_past_the_end,
      "embedding: padding_idx" },
    { "2.3 the same, negative", PSG_ERR_ARGUMENT, padding_negative, "embedding: padding_idx" },
    { "2.3 max_norm changes the weight", PSG_ERR_UNSUPPORTED, max_norm_updates, "embedding: max_norm" },
    { "2.3 max_norm, allowed", PSG_OK, max_norm_allowed, NULL },
    { "2.3 (ours) negative max_norm", PSG_ERR_ARGUMENT, max_norm_negative, "embedding: max_norm" },
    { "2.3 (ours) negative norm_type", PSG_ERR_ARGUMENT, norm_type, "embedding: norm_type" },
    { "2.3 indices of a real type", PSG_ERR_DTYPE, real_ids, "embedding: " },
    { "2.3 scalar index", PSG_ERR_BATCH, scalar_ids, "psg_input: " },
    { "2.3 (ours) table of one dimension", PSG_ERR_SHAPE, table_of_rank_1, "embedding: weight" },
    { "2.3 1-D indices have no batch", CANNOT, "here they do: one id a sample" },
    { "2.3 (ours) mode of a bag", PSG_ERR_ARGUMENT, bag_mode, "embedding_bag: mode" },
    { "2.3 (ours) weights of a mean", PSG_ERR_UNSUPPORTED, bag_weights, "embedding_bag: " },
    { "2.3 (ours) scale_grad_by_freq of a maximum", PSG_ERR_UNSUPPORTED, bag_max_frequency, "embedding_bag: " },
    { "2.6 running statistics missing", PSG_ERR_ARGUMENT, instance_no_statistics, "instance_norm: running_mean" },
    { "2.6 one of them missing", PSG_ERR_ARGUMENT, instance_one_statistic, "instance_norm: " },
    { "2.6 running statistics of another size", PSG_ERR_SHAPE, instance_statistics_size,
      "instance_norm: running_mean" },
    { "2.6 more than 1 spatial element", PSG_ERR_SHAPE, instance_one_value, "instance_norm: " },
    { "2.6 no spatial dimension", PSG_ERR_SHAPE, instance_rank_2, "instance_norm: " },
    { "2.6 unbatched", PSG_ERR_SHAPE, instance_rank_1, "instance_norm: " },
    { "2.6 weight of another size", PSG_ERR_SHAPE, instance_weight, "instance_norm: weight" },
    { "2.6 running statistics updated in place", PSG_ERR_UNSUPPORTED, instance_updates, "instance_norm: " },
    { "2.6 zero batch, EW input: functools.partial", CANNOT, "instance_norm_of_nothing_and_of_one_value" },
    { "1.3 batch_norm in a per-sample pass", PSG_ERR_UNSUPPORTED, batch_norm_training, "batch_norm: " },
    { "1.3 batch_norm in an ordinary one", PSG_OK, batch_norm_ordinary, NULL },
    { "1.3 batch_norm without statistics", PSG_ERR_ARGUMENT, batch_norm_no_statistics, "batch_norm: running_mean" },
    { "1.3 batch_norm of one value a channel", PSG_ERR_SHAPE, batch_norm_one_value, "batch_norm: " },
    { "2.8 unbatched sequence", PSG_ERR_SHAPE, rnn_unbatched, "rnn: " },
    { "2.8 features differ", PSG_ERR_SHAPE, rnn_features, "rnn: " },
    { "2.8 hidden sizes differ", PSG_ERR_SHAPE, rnn_hidden, "rnn: " },
    { "2.8 length past the end", PSG_ERR_ARGUMENT, rnn_length_too_long, "rnn: lengths" },
    { "2.8 negative length", PSG_ERR_ARGUMENT, rnn_length_negative, "rnn: lengths" },
    { "2.8 length 0 (an error of pack_padded_sequence)", PSG_OK, rnn_length_zero, NULL },
    { "2.8 too few lengths", PSG_ERR_BATCH, rnn_lengths_count, "batch size" },
    { "2.8 layout of the model and of the pass", PSG_ERR_ARGUMENT, rnn_other_layout, "rnn: layout" },
    { "2.8 dropout outside [0, 1]", PSG_ERR_ARGUMENT, rnn_dropout, "dropout" },
    { "2.8 no layers", PSG_ERR_ARGUMENT, rnn_layers, "num_layers" },
    { "attention: widths of query and key differ", PSG_ERR_SHAPE, attention_widths, "scaled_dot_product_attention: " },
    { "attention: keys and values differ in number", PSG_ERR_SHAPE, attention_keys, "scaled_dot_product_attention: " },
    { "attention: no dimension of keys", PSG_ERR_SHAPE, attention_rank, "scaled_dot_product_attention: " },
    { "attention: heads do not divide the width", PSG_ERR_ARGUMENT, heads_do_not_divide, "multi_head_attention: " },
    { "arithmetic: a parameter with a batch dimension", PSG_ERR_BATCH, parameter_of_the_batch, "add: " },
    { "prelu: weight of another size", PSG_ERR_SHAPE, prelu_channels, "prelu: weight" },
};

static void every_row_is_answered(void **state) {
    (void)state;
    scene_check_rows(rows, sizeof rows / sizeof rows[0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
