/* Whole networks through the tape: the record must not change what the others' gradients are.
 *
 * Each model ends with a linear map (a convolution) and a ReLU.  At a kink the last bias is the negative of what the
 * library itself computes there, so that a pre-activation is 0 or the last bit of a rounding. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"
#include "run.h"

enum { CLASSES = 3 };

/* The parameters' values: both sides read the same. */
typedef struct weights {
    attack_shapes shapes;
    psg_tensor value[ATTACK_MOST_PARAMS];
    int bias;                /* of the last map before the ReLU */
} weights;

typedef struct network {
    const attack_side *side;
    const attack_network *spec;
    psg_context *context;
    psg_tape *tape;
    psg_param *param[ATTACK_MOST_PARAMS];
    int params;
    psg_tensor x, gradient, labels, lengths, ids;   /* of all samples of the side */
} network;

/* ---- parameters ---- */

static void add_shape(weights *w, int rank, int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
    int k = w->shapes.params++;
    w->shapes.rank[k] = rank;
    memcpy(w->shapes.shape[k], (int64_t[4]){ d0, d1, d2, d3 }, sizeof w->shapes.shape[k]);
}

static void add_linear(weights *w, int64_t outputs, int64_t inputs) {
    add_shape(w, 2, outputs, inputs, 1, 1);
    add_shape(w, 1, outputs, 1, 1, 1);
}

/* Those before the last map. */
static void add_body(weights *w, const attack_network *spec) {
    int64_t F = spec->inputs;
    switch (spec->model) {
    case MODEL_MLP: add_linear(w, F, F); break;
    case MODEL_ATTENTION: add_linear(w, 3 * F, F); add_linear(w, F, F); break;
    case MODEL_LSTM: add_linear(w, 4 * F, F); add_linear(w, 4 * F, F); break;
    case MODEL_LAYER_NORM: add_shape(w, 1, F, 1, 1, 1); add_shape(w, 1, F, 1, 1, 1); break;
    default: break;
    }
}

/* Of y, a sample. */
static int64_t features_of(const attack_network *spec) {
    int64_t positions = spec->model == MODEL_CONV ? spec->positions * spec->positions : spec->positions;
    return spec->outputs * (spec->model == MODEL_MLP ? 1 : positions);
}

static void add_shapes(weights *w, const attack_network *spec) {
    add_body(w, spec);
    if (spec->model == MODEL_CONV) {
        add_shape(w, 4, spec->outputs, spec->inputs, 3, 3);
        add_shape(w, 1, spec->outputs, 1, 1, 1);
    } else {
        add_linear(w, spec->outputs, spec->inputs);
    }
    w->bias = w->shapes.params - 1;
    if (spec->mean) add_linear(w, CLASSES, features_of(spec));
}

static double weight_at(uint64_t seed, int k, int64_t i) {
    uint64_t bits = attack_hash(seed ^ attack_hash((uint64_t)k << 40 | (uint64_t)i));
    return (double)(int64_t)(bits >> 11) * 0x1p-53 - 0.5;
}

static void set_flat(const psg_tensor *x, int64_t i, double value) {
    if (x->dtype == PSG_F64) ((double *)x->data)[i] = value;
    else ((float *)x->data)[i] = (float)value;
}

static double get_flat(const psg_tensor *x, int64_t i) {
    return x->dtype == PSG_F64 ? ((const double *)x->data)[i] : ((const float *)x->data)[i];
}

static weights new_weights(attack_memory *memory, const attack_pair *pair) {
    weights w = { .bias = 0 };
    add_shapes(&w, &pair->network);
    for (int k = 0; k < w.shapes.params; k++) {
        w.value[k] = psg_tensor_of(pair->settings.dtype, NULL, w.shapes.rank[k], w.shapes.shape[k]);
        int64_t count = psg_tensor_count(&w.value[k]);
        w.value[k].data = attack_take(memory, (size_t)count, psg_dtype_size(pair->settings.dtype));
        for (int64_t i = 0; i < count; i++) {
            bool zero = k == w.bias && pair->network.kink;
            set_flat(&w.value[k], i, zero ? 0 : weight_at(pair->contents.seed, k, i));
        }
    }
    return w;
}

/* ---- inputs ---- */

static int64_t positions_of(const attack_side *side) {
    return side->pair->network.positions + (side->with ? side->pair->network.pad : 0);
}

static int64_t length_of(const attack_side *side, int64_t id) {
    const attack_pair *pair = side->pair;
    if (id == pair->settings.batch) return positions_of(side);
    if (pair->network.model != MODEL_LSTM || pair->network.kink) return pair->network.positions;
    return 1 + (int64_t)(attack_hash(pair->contents.seed + (uint64_t)id) % (uint64_t)pair->network.positions);
}

/* (N, rows, columns), positions in dimension 1, or in dimension 2 of an image. */
static psg_tensor new_values(attack_memory *memory, const attack_side *side, bool activation, int64_t rows,
                             int64_t columns) {
    int64_t shape[3] = { side->samples, rows, columns };
    bool image = side->pair->network.model == MODEL_CONV;
    psg_tensor view = attack_view(memory, side->pair->settings.dtype, 3, shape, LAYOUT_CONTIGUOUS, 0);
    attack_element e = { .batch = side->pair->settings.batch, .array = activation, .activation = activation,
                         .rows = columns, .columns = columns };
    for (int64_t n = 0; n < side->samples; n++) {
        e.id = attack_id(side, n);
        int64_t length = image || rows == 1 ? rows : length_of(side, e.id);
        for (e.term = 0; e.term < length; e.term++) {
            for (e.column = 0; e.column < columns; e.column++) {
                attack_set_element(&view, n, e.term, e.column, attack_value(&side->pair->contents, &e));
            }
        }
    }
    return view;
}

/* An integer below `below` for each of `columns` places of a sample. */
static psg_tensor new_integers(attack_memory *memory, const attack_side *side, int64_t columns, int64_t below) {
    int64_t shape[2] = { side->samples, columns };
    psg_tensor view = attack_view(memory, PSG_I64, 2, shape, LAYOUT_CONTIGUOUS, 0);
    for (int64_t n = 0; n < side->samples; n++) {
        int64_t id = side->pair->network.kink ? 0 : attack_id(side, n);
        for (int64_t t = 0; t < columns; t++) {
            uint64_t bits = attack_hash(side->pair->contents.seed + (uint64_t)(id * 131 + t));
            attack_set_element(&view, n, t, 0, (double)(bits % (uint64_t)below));
        }
    }
    return view;
}

static psg_tensor reshaped(const psg_tensor *x, int rank, int64_t d1, int64_t d2, int64_t d3) {
    return psg_tensor_of(x->dtype, x->data, rank, (int64_t[4]){ x->shape[0], d1, d2, d3 });
}

static int64_t same_id(const attack_side *side, int64_t id) {
    (void)side;
    return id;
}

/* An integer a sample, of its id. */
static psg_tensor new_numbers(attack_memory *memory, const attack_side *side,
                              int64_t (*number)(const attack_side *, int64_t)) {
    psg_tensor view = attack_view(memory, PSG_I64, 1, &side->samples, LAYOUT_CONTIGUOUS, 0);
    for (int64_t n = 0; n < side->samples; n++) ((int64_t *)view.data)[n] = number(side, attack_id(side, n));
    return view;
}

static void make_inputs(attack_memory *memory, network *net) {
    const attack_side *side = net->side;
    const attack_network *spec = net->spec;
    int64_t T = positions_of(side), F = spec->inputs, K = spec->outputs;
    if (spec->model == MODEL_CONV) {
        psg_tensor x = new_values(memory, side, true, F, T * T), g = new_values(memory, side, false, K, T * T);
        net->x = reshaped(&x, 4, F, T, T);
        net->gradient = reshaped(&g, 4, K, T, T);
    } else if (spec->model == MODEL_MLP) {
        psg_tensor x = new_values(memory, side, true, 1, F), g = new_values(memory, side, false, 1, K);
        net->x = reshaped(&x, 2, F, 1, 1);
        net->gradient = reshaped(&g, 2, K, 1, 1);
    } else {
        net->x = spec->model == MODEL_TIED ? new_integers(memory, side, T, K) : new_values(memory, side, true, T, F);
        net->gradient = new_values(memory, side, false, T, K);
    }
    psg_tensor labels = new_integers(memory, side, 1, CLASSES);
    net->labels = reshaped(&labels, 1, 1, 1, 1);
    net->lengths = new_numbers(memory, side, length_of);
    net->ids = new_numbers(memory, side, same_id);
}

/* ---- models ---- */

static psg_var use(const network *net, int k) { return psg_use(net->tape, net->param[k]); }

static psg_var attend(const network *net, psg_var x) {
    psg_multi_head_attention_weights w = { .in_proj_weight = use(net, 0), .in_proj_bias = use(net, 1),
                                           .out_proj_weight = use(net, 2), .out_proj_bias = use(net, 3) };
    return psg_multi_head_attention(net->tape, x, x, x, 2, &w, NULL, NULL);
}

static psg_var recur(const network *net, psg_var x, const psg_tensor *lengths) {
    psg_rnn_weights w = { .weight_ih = use(net, 0), .weight_hh = use(net, 2), .bias_ih = use(net, 1),
                          .bias_hh = use(net, 3) };
    return psg_lstm(net->tape, x, psg_input(net->tape, lengths), psg_none(), psg_none(), &w, NULL, NULL, NULL);
}

/* What stands before the last ReLU, of samples [first, last). */
static psg_var pre_activation(const network *net, int64_t first, int64_t last, int bias) {
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
        return psg_conv2d(net->tape, x, use(net, bias - 1), use(net, bias), &same);
    }
    return psg_linear(net->tape, x, use(net, bias - 1), use(net, bias));
}

static psg_status backward(const network *net, psg_var y, int64_t first, int64_t last, int bias) {
    if (!net->spec->mean) {
        psg_tensor gradient = attack_part(&net->gradient, first, last);
        return psg_backward_from(net->tape, y, &gradient);
    }
    psg_tensor labels = attack_part(&net->labels, first, last);
    psg_var flat = psg_flatten(net->tape, y, 1, -1);
    psg_var scores = psg_linear(net->tape, flat, use(net, bias + 1), use(net, bias + 2));
    return psg_backward(net->tape, psg_cross_entropy(net->tape, scores, psg_input(net->tape, &labels), NULL));
}

static void begin(const network *net, int64_t first) {
    psg_pass pass = PSG_PASS_INIT;
    pass.dropout_seed = 5;
    pass.sample_ids = (const int64_t *)net->ids.data + first;
    pass.loss_reduction = net->spec->mean ? PSG_LOSS_MEAN : PSG_LOSS_SUM;
    psg_tape_begin(net->tape, &pass);
}

/* ---- a side ---- */

static void open_network(attack_memory *memory, network *net, const weights *w) {
    net->params = w->shapes.params;
    psg_status status = psg_tape_create(net->context, &net->tape);
    for (int k = 0; k < net->params && status == PSG_OK; k++) {
        status = psg_param_create(net->context, "weight", &w->value[k], &net->param[k]);
    }
    if (status != PSG_OK) {
        fprintf(stderr, "attack: %s\n", psg_context_message(net->context));
        exit(EXIT_FAILURE);
    }
    make_inputs(memory, net);
}

static void close_network(network *net) {
    psg_tape_destroy(net->tape);
    for (int k = 0; k < net->params; k++) psg_param_destroy(net->param[k]);
    psg_context_destroy(net->context);
}

/* The bias becomes the negative of what the first row of the whole side comes to without it. */
static void put_at_kink(const network *net, const weights *w) {
    psg_tensor y;
    begin(net, 0);
    psg_var var = pre_activation(net, 0, net->side->samples, w->bias);
    if (psg_value(net->tape, var, &y) != PSG_OK || !psg_tensor_count(&y)) return;
    int64_t K = net->spec->outputs, step = net->spec->model == MODEL_CONV ? psg_tensor_count(&y) / y.shape[0] / K : 1;
    for (int64_t k = 0; k < K; k++) set_flat(&w->value[w->bias], k, -get_flat(&y, k * step));
}

static void add_pass(const network *net, attack_sum *sum, int64_t first, int64_t last, int bias) {
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
static void sum_passes(const network *net, attack_sum *sum, int bias) {
    for (int64_t first = 0, last = 0; attack_next_chunk(net->side, first, &last); first = last ? last : 1) {
        if (last > first || !net->spec->mean) add_pass(net, sum, first, last, bias);
    }
}

attack_outcome attack_run_network(const attack_pair *pair) {
    attack_memory memory = { .count = 0 };
    weights w = new_weights(&memory, pair);
    attack_sum sum[2];
    for (int with = 0; with < 2; with++) {
        attack_side side = attack_side_of(pair, with);
        network net = { .side = &side, .spec = &pair->network };
        net.context = attack_context(&pair->settings, with, &w.shapes);
        open_network(&memory, &net, &w);
        if (!with && pair->network.kink) put_at_kink(&net, &w);
        sum[with] = attack_sum_new(&memory, &pair->settings, net.context, &w.shapes);
        sum_passes(&net, &sum[with], w.bias);
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
    attack_all_roles(pair, (attack_kind)ATTACK_PICK(random, KIND_EQUAL_ROWS, KIND_EQUAL_ROWS, KIND_EQUAL, KIND_RANDOM),
                     0, (int)attack_range(random, -2, 2));
    attack_role *record = &pair->contents.role[ROLE_RECORD];
    if (attack_once_in(random, 3)) record->kind = (attack_kind)attack_range(random, 0, KINDS - 1);
    attack_draw_norm(random, pair, -2);
}
