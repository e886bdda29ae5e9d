#include "record_data.h"

#include <math.h>
#include <string.h>

#include "psg/ops.h"

const char *const record_kind_names[RECORD_KINDS] = {
    "normal", "zero", "1e30", "1e-42", "NaN", "infinite", "-infinite", "one-hot", "cancelling", "label out of range",
};

/* ---- records ---- */

/* A sum of 12 uniforms, less 6: near enough to normal. */
static double normal(attack_random *random) {
    double sum = -6;
    for (int k = 0; k < 12; k++) sum += ldexp((double)(attack_bits(random) >> 11), -53);
    return sum;
}

static void fill(double *value, double with) {
    for (int k = 0; k < RECORD_VALUES; k++) value[k] = with;
}

/* Positions that cancel in pairs but for a small rest: norms by Gram lose their digits here. */
static void fill_cancelling(attack_random *random, double *value) {
    for (int t = 0; t < RECORD_POSITIONS; t++) {
        for (int j = 0; j < RECORD_FEATURES; j++) {
            value[t * RECORD_FEATURES + j] = (t % 2 ? -700 : 700) + 1e-3 * normal(random);
        }
    }
}

static void draw_record(attack_random *random, record_kind kind, double *value, int64_t *label) {
    static const double one[RECORD_KINDS] = { [RECORD_NAN] = NAN, [RECORD_INFINITY] = INFINITY,
                                              [RECORD_MINUS_INFINITY] = -INFINITY };
    for (int k = 0; k < RECORD_VALUES; k++) value[k] = normal(random);
    *label = attack_range(random, 0, RECORD_CLASSES - 1);
    switch (kind) {
    case RECORD_ZERO: fill(value, 0); break;
    case RECORD_HUGE: fill(value, 1e30); break;
    case RECORD_TINY: fill(value, 1e-42); break;
    case RECORD_NAN:
    case RECORD_INFINITY:
    case RECORD_MINUS_INFINITY: value[attack_range(random, 0, RECORD_VALUES - 1)] = one[kind]; break;
    case RECORD_ONE_HOT:
        fill(value, 0);
        value[attack_range(random, 0, RECORD_VALUES - 1)] = 1e4;
        break;
    case RECORD_CANCELLING: fill_cancelling(random, value); break;
    case RECORD_BAD_LABEL: *label = attack_once_in(random, 2) ? -7 : RECORD_CLASSES; break;
    default: break;
    }
}

void records_draw(attack_random *random, int64_t count, int64_t at, record_kind kind, records *r) {
    r->count = count;
    for (int64_t n = 0; n < count; n++) {
        const bool is_bad = attack_once_in(random, 6);
        const record_kind other = is_bad ? (record_kind)attack_range(random, 0, RECORD_KINDS - 1) : RECORD_NORMAL;
        draw_record(random, n == at ? kind : other, r->value[n], &r->label[n]);
    }
}

/* ---- the network ---- */

static const int64_t shapes[RECORD_PARAMS][2] = { { RECORD_HIDDEN, RECORD_FEATURES }, { RECORD_HIDDEN },
                                                  { RECORD_CLASSES, RECORD_HIDDEN }, { RECORD_CLASSES } };
const int64_t network_counts[RECORD_PARAMS] = { RECORD_HIDDEN * RECORD_FEATURES, RECORD_HIDDEN,
                                                RECORD_CLASSES * RECORD_HIDDEN, RECORD_CLASSES };

/* As the network's real type. */
static void store(psg_dtype dtype, void *to, const double *from, int64_t count) {
    for (int64_t k = 0; k < count; k++) {
        if (dtype == PSG_F64) ((double *)to)[k] = from[k];
        else ((float *)to)[k] = (float)from[k];
    }
}

void network_open(psg_context *context, psg_dtype dtype, network *net) {
    attack_random random = { 17 };
    net->context = context;
    net->dtype = dtype;
    AUDIT_OK(context, psg_tape_create(context, &net->tape));
    for (int k = 0; k < RECORD_PARAMS; k++) {
        double value[RECORD_ELEMENTS];
        for (int64_t i = 0; i < network_counts[k]; i++) value[i] = normal(&random);
        store(dtype, net->memory[k], value, network_counts[k]);
        psg_tensor tensor = psg_tensor_of(dtype, net->memory[k], k % 2 ? 1 : 2, shapes[k]);
        AUDIT_OK(context, psg_param_create(context, NULL, &tensor, &net->param[k]));
    }
}

void network_close(network *net) {
    for (int k = 0; k < RECORD_PARAMS; k++) psg_param_destroy(net->param[k]);
    psg_tape_destroy(net->tape);
}

static psg_var loss_of(network *net, const psg_tensor *values, const psg_tensor *labels) {
    psg_tape *t = net->tape;
    psg_var p[RECORD_PARAMS];
    for (int k = 0; k < RECORD_PARAMS; k++) p[k] = psg_use(t, net->param[k]);
    psg_var h = psg_relu(t, psg_linear(t, psg_input(t, values), p[0], p[1]));
    h = psg_mean(t, psg_dropout(t, h, 0.25), 1, (int[]){ 1 }, 0);
    return psg_cross_entropy(t, psg_linear(t, h, p[2], p[3]), psg_input(t, labels), NULL);
}

static psg_status gradients_of(network *net, psg_gradient gradients[RECORD_PARAMS]) {
    psg_status status = psg_tape_status(net->tape);
    for (int k = 0; !status && k < RECORD_PARAMS; k++) {
        status = psg_gradient_of(net->tape, net->param[k], &gradients[k]);
    }
    return status;
}

psg_status network_pass(network *net, const records *r, const psg_batch *batch, psg_gradient gradients[RECORD_PARAMS]) {
    static double values[MOST_RECORDS * RECORD_VALUES];
    static int64_t labels[MOST_RECORDS];
    psg_pass pass = PSG_PASS_INIT;
    pass.batch = batch;
    pass.remove_bad_records = 1;
    for (int64_t n = 0; n < batch->count; n++) {
        const int64_t row = n * RECORD_VALUES;
        void *to = net->dtype == PSG_F64 ? (void *)(values + row) : (void *)((float *)values + row);
        store(net->dtype, to, r->value[batch->ids[n]], RECORD_VALUES);
        labels[n] = r->label[batch->ids[n]];
    }
    const int64_t shape[] = { batch->count, RECORD_POSITIONS, RECORD_FEATURES };
    const psg_tensor x = psg_tensor_of(net->dtype, values, 3, shape), y = psg_tensor_of(PSG_I64, labels, 1, shape);
    psg_status status = psg_tape_begin(net->tape, &pass);
    if (!status) status = psg_backward(net->tape, loss_of(net, &x, &y));
    return status ? status : gradients_of(net, gradients);
}
