/* Whole networks through the tape: the record must not change what the others' gradients are.
 *
 * Each model ends with a linear map (a convolution) and a ReLU.  At a kink the last bias is the negative of what the
 * library itself computes there, so that a pre-activation is 0 or the last bit of a rounding. */
#include <stdio.h>
#include <stdlib.h>

#include "draw.h"
#include "networks.h"

/* ---- models ---- */

static psg_var use(const attack_graph *net, int k) { return psg_use(net->tape, net->param[k]); }

static psg_var attend(const attack_graph *net, psg_var x) {
    psg_multi_head_attention_weights w = { .in_proj_weight = use(net, 0), .in_proj_bias = use(net, 1),
                                           .out_proj_weight = use(net, 2), .out_proj_bias = use(net, 3) };
    return psg_multi_head_attention(net->tape, x, x, x, 2, &w, NULL, NULL);
}

static psg_var recur(const attack_graph *net, psg_var x, const psg_tensor *lengths) {
    psg_rnn_weights w = { .weight_ih = use(net, 0), .weight_hh = use(net, 2), .bias_ih = use(net, 1),
                          .bias_hh = use(net, 3) };
    return psg_lstm(net->tape, x, psg_input(net->tape, lengths), psg_none(), psg_none(), &w, NULL, NULL, NULL);
}

/* Derived weights; the bias is a gain beside. */
static psg_var weight_of(const attack_graph *net, int k) {
    psg_weight_standardize_options fan_in = { .by_fan_in = 1 };
    psg_weight_norm_options columns = { .dim = 1 };
    psg_var w = use(net, k);
    switch (net->spec->weight) {
    case WEIGHT_STANDARDIZED: return psg_weight_standardize(net->tape, w, psg_none(), NULL);
    case WEIGHT_BY_FAN_IN: return psg_weight_standardize(net->tape, w, psg_none(), &fan_in);
    case WEIGHT_GAINED: return psg_weight_standardize(net->tape, w, use(net, k + 1), NULL);
    case WEIGHT_NORMED: return psg_weight_norm(net->tape, w, psg_none(), NULL);
    case WEIGHT_NORMED_COLUMNS: return psg_weight_norm(net->tape, w, psg_none(), &columns);
    default: return w;
    }
}

/* What stands before the last ReLU, of samples [first, last). */
static psg_var pre_activation(const attack_graph *net, int64_t first, int64_t last, int bias) {
    psg_tensor x_part = attack_part(&net->x, first, last), lengths = attack_part(&net->lengths, first, last);
    int64_t F = net->spec->inputs;
    psg_var x = psg_input(net->tape, &x_part);
    switch (net->spec->model) {
    case MODEL_MLP: x = psg_relu(net->tape, psg_linear(net->tape, x, use(net, 0), use(net, 1))); break;
    case MODEL_ATTENTION: x = attend(net, x); break;
    case MODEL_LSTM: x = recur(net, x, &lengths); break;
    case MODEL_LAYER_NORM: x = psg_layer_norm(net->tape, x, 1, &F, use(net, 0), use(net, 1), 1e-5); break;
    case MODEL_TIED: x = psg_embedding(net->tape, x, use(net, 0), NULL); break;
    default: break;
    }
    if (net->spec->dropout) x = psg_dropout(net->tape, x, 0.5);
    if (net->spec->model == MODEL_CONV) {
        psg_conv_options same = PSG_CONV_OPTIONS_INIT;
        same.padding_rule = PSG_CONV_SAME;
        return psg_conv2d(net->tape, x, weight_of(net, bias - 1), use(net, bias), &same);
    }
    return psg_linear(net->tape, x, weight_of(net, bias - 1), use(net, bias));
}

static psg_status backward(const attack_graph *net, psg_var y, int64_t first, int64_t last, int bias) {
    if (!net->spec->mean) {
        psg_tensor gradient = attack_part(&net->gradient, first, last);
        return psg_backward_from(net->tape, y, &gradient);
    }
    psg_tensor labels = attack_part(&net->labels, first, last);
    psg_var flat = psg_flatten(net->tape, y, 1, -1);
    psg_var scores = psg_linear(net->tape, flat, use(net, bias + 1), use(net, bias + 2));
    return psg_backward(net->tape, psg_cross_entropy(net->tape, scores, psg_input(net->tape, &labels), NULL));
}

static void begin(const attack_graph *net, int64_t first) {
    psg_pass pass = PSG_PASS_INIT;
    pass.dropout_seed = 5;
    pass.sample_ids = (const int64_t *)net->ids.data + first;
    pass.loss_reduction = net->spec->mean ? PSG_LOSS_MEAN : PSG_LOSS_SUM;
    psg_tape_begin(net->tape, &pass);
}

/* ---- a side ---- */

static void open_network(attack_memory *memory, attack_graph *net, const attack_weights *w) {
    net->params = w->shapes.params;
    psg_status status = psg_tape_create(net->context, &net->tape);
    for (int k = 0; k < net->params && status == PSG_OK; k++) {
        status = psg_param_create(net->context, "weight", &w->value[k], &net->param[k]);
    }
    if (status != PSG_OK) {
        fprintf(stderr, "attack: %s\n", psg_context_message(net->context));
        exit(EXIT_FAILURE);
    }
    attack_make_inputs(memory, net);
}

static void close_network(attack_graph *net) {
    psg_tape_destroy(net->tape);
    for (int k = 0; k < net->params; k++) psg_param_destroy(net->param[k]);
    psg_context_destroy(net->context);
}

/* The bias becomes the negative of what the first row of the whole side comes to without it. */
static void put_at_kink(const attack_graph *net, const attack_weights *w) {
    psg_tensor y;
    begin(net, 0);
    psg_var var = pre_activation(net, 0, net->side->samples, w->bias);
    if (psg_value(net->tape, var, &y) != PSG_OK || !psg_tensor_count(&y)) return;
    int64_t K = net->spec->outputs, step = net->spec->model == MODEL_CONV ? psg_tensor_count(&y) / y.shape[0] / K : 1;
    for (int64_t k = 0; k < K; k++) attack_set_flat(&w->value[w->bias], k, -attack_flat(&y, k * step));
}

static void add_pass(const attack_graph *net, attack_sum *sum, int64_t first, int64_t last, int bias) {
    psg_gradient gradients[ATTACK_MOST_PARAMS];
    const psg_gradient *list[ATTACK_MOST_PARAMS];
    begin(net, first);
    psg_var y = psg_relu(net->tape, pre_activation(net, first, last, bias));
    psg_status status = backward(net, y, first, last, bias);
    attack_refuse(sum, status, psg_tape_message(net->tape));
    for (int k = 0; k < net->params && sum->status == PSG_OK; k++) {
        attack_refuse(sum, psg_gradient_of(net->tape, net->param[k], &gradients[k]), psg_context_message(net->context));
        list[k] = &gradients[k];
    }
    attack_add(sum, list, net->side->pair->settings.chunk[net->side->with] != 0);
}

/* A mean over no samples is no number: such a side is left at zero. */
static void sum_passes(const attack_graph *net, attack_sum *sum, int bias) {
    for (int64_t first = 0, last = 0; attack_next_chunk(net->side, first, &last); first = last ? last : 1) {
        if (last > first || !net->spec->mean) add_pass(net, sum, first, last, bias);
    }
}

attack_outcome attack_run_network(const attack_pair *pair) {
    attack_memory memory = { .count = 0 };
    attack_weights w = attack_new_weights(&memory, pair);
    attack_sum sum[2];
    for (int with = 0; with < 2; with++) {
        attack_side side = attack_side_of(pair, with);
        attack_graph net = { .side = &side, .spec = &pair->network };
        net.context = attack_context(&pair->settings, with, &w.shapes);
        open_network(&memory, &net, &w);
        if (!with && pair->network.kink) put_at_kink(&net, &w);
        sum[with] = attack_sum_new(&memory, &pair->settings, net.context, &w.shapes);
        sum_passes(&net, &sum[with], w.bias);
        attack_finish(&sum[with]);
        close_network(&net);
    }
    attack_outcome outcome = attack_judge(&sum[1], &sum[0], pair->settings.max_grad_norm);
    attack_free(&memory);
    return outcome;
}

/* ---- drawing ---- */

static void draw_network_sizes(attack_random *random, attack_network *n) {
    bool image = n->model == MODEL_CONV;
    n->positions = image ? attack_range(random, 2, 7) : ATTACK_PICK(random, 1, 2, 5, 16, 16, 20);
    n->inputs = image ? attack_range(random, 1, 4) : 2 * attack_range(random, 1, 20);
    n->outputs = image ? attack_range(random, 1, 8) : attack_range(random, 1, 24);
    if (attack_once_in(random, 3) && !image) n->inputs = 32, n->outputs = 16;
}

void attack_draw_network(attack_random *random, attack_pair *pair, attack_model model) {
    attack_network *n = &pair->network;
    attack_settings *s = &pair->settings;
    *n = (attack_network){ .model = model };
    draw_network_sizes(random, n);
    n->kink = !attack_once_in(random, 4);
    n->dropout = !n->kink && attack_once_in(random, 2);
    n->mean = attack_once_in(random, 3);
    bool pads = (model == MODEL_LINEAR || model == MODEL_LSTM) && !n->mean && !n->dropout;
    n->pad = pads && attack_once_in(random, 4) ? attack_range(random, 1, 20) : 0;
    s->batch = ATTACK_PICK(random, 1, 2, 7, 12, 17, 64, 100, 200, 400);
    if (model == MODEL_MLP && attack_once_in(random, 8)) s->batch = ATTACK_PICK(random, 767, 1025, 1535);
    if (model != MODEL_LINEAR && model != MODEL_MLP && s->batch > 100) s->batch = 100;
    s->max_batch_size = s->batch + 1 + ATTACK_PICK(random, 0, 100);
    s->place = ATTACK_PICK(random, 0, 0, s->batch / 2, s->batch);
    int size = (int)attack_range(random, -2, 2);
    attack_all_roles(pair, (attack_kind)ATTACK_PICK(random, KIND_EQUAL_ROWS, KIND_EQUAL_ROWS, KIND_EQUAL, KIND_RANDOM),
                     0, size);
    attack_role *record = &pair->contents.role[ROLE_RECORD];
    if (attack_once_in(random, 3)) record->kind = (attack_kind)attack_range(random, 0, KINDS - 1);
    attack_draw_norm(random, pair, -2);
}
