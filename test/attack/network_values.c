#include "networks.h"

#include <string.h>

/* ---- parameters ---- */

static void add_shape(attack_weights *w, int rank, int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
    int k = w->shapes.params++;
    w->shapes.rank[k] = rank;
    memcpy(w->shapes.shape[k], (int64_t[4]){ d0, d1, d2, d3 }, sizeof w->shapes.shape[k]);
}

static void add_linear(attack_weights *w, int64_t outputs, int64_t inputs) {
    add_shape(w, 2, outputs, inputs, 1, 1);
    add_shape(w, 1, outputs, 1, 1, 1);
}

/* Those before the last map. */
static void add_body(attack_weights *w, const attack_network *spec) {
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

static void add_shapes(attack_weights *w, const attack_network *spec) {
    add_body(w, spec);
    if (spec->model == MODEL_CONV) {
        add_shape(w, 4, spec->outputs, spec->inputs, 3, 3);
        add_shape(w, 1, spec->outputs, 1, 1, 1);
    } else {
        add_linear(w, spec->outputs, spec->inputs);
    }
    w->bias = w->shapes.params - 1;
    if (spec->mean) add_linear(w, ATTACK_CLASSES, features_of(spec));
}

static double weight_at(uint64_t seed, int k, int64_t i) {
    uint64_t bits = attack_hash(seed ^ attack_hash((uint64_t)k << 40 | (uint64_t)i));
    return (double)(int64_t)(bits >> 11) * 0x1p-53 - 0.5;
}

void attack_set_flat(const psg_tensor *x, int64_t i, double value) {
    if (x->dtype == PSG_F64) ((double *)x->data)[i] = value;
    else ((float *)x->data)[i] = (float)value;
}

double attack_flat(const psg_tensor *x, int64_t i) {
    return x->dtype == PSG_F64 ? ((const double *)x->data)[i] : ((const float *)x->data)[i];
}

attack_weights attack_new_weights(attack_memory *memory, const attack_pair *pair) {
    attack_weights w = { .bias = 0 };
    add_shapes(&w, &pair->network);
    for (int k = 0; k < w.shapes.params; k++) {
        w.value[k] = psg_tensor_of(pair->settings.dtype, NULL, w.shapes.rank[k], w.shapes.shape[k]);
        int64_t count = psg_tensor_count(&w.value[k]);
        w.value[k].data = attack_take(memory, (size_t)count, psg_dtype_size(pair->settings.dtype));
        for (int64_t i = 0; i < count; i++) {
            bool zero = k == w.bias && pair->network.kink;
            attack_set_flat(&w.value[k], i, zero ? 0 : weight_at(pair->contents.seed, k, i));
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

void attack_make_inputs(attack_memory *memory, attack_graph *net) {
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
    psg_tensor labels = new_integers(memory, side, 1, ATTACK_CLASSES);
    net->labels = reshaped(&labels, 1, 1, 1, 1);
    net->lengths = new_numbers(memory, side, length_of);
    net->ids = new_numbers(memory, side, same_id);
}
