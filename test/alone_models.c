/* What no table of test/cases has: networks under losses of several terms. */
#include "alone.h"

/* 0.3 mse(h, y) + 0.7 mean(h^2) of h = dropout(relu(norm(x scale))): the batch meets a loss twice, each time under a
 * factor that no binary fraction is. */
static psg_var two_losses(psg_tape *tape, const case_line *line, const psg_var *var) {
    const case_operand *x = &line->operand[0];
    const int dims[] = { 0, 1, 2 };
    psg_var h = psg_mul(tape, var[0], var[2]);
    h = psg_layer_norm(tape, h, 1, &x->shape[x->rank - 1], var[3], var[4], 1e-5);
    h = psg_dropout(tape, psg_relu(tape, h), 0.25);
    psg_var first = psg_scale(tape, psg_mse(tape, h, var[1], PSG_MEAN), 0.3);
    psg_var second = psg_scale(tape, psg_mean(tape, psg_square(tape, h), x->rank, dims, 0), 0.7);
    return psg_add(tape, first, second);
}

static const case_op op_two_losses = { "two_losses",
                                       { { "x", PSG_BATCHED, 0, CASE_REAL },
                                         { "y", PSG_BATCHED, 0, CASE_REAL },
                                         { "scale", PSG_PARAMETER, 0, CASE_REAL },
                                         { "weight", PSG_PARAMETER, 0, CASE_REAL },
                                         { "bias", PSG_PARAMETER, 0, CASE_REAL } },
                                       two_losses };

/* Two linear layers, a ReLU between them, the mean over positions, cross entropy. */
static psg_var network(psg_tape *tape, const case_line *line, const psg_var *var) {
    const int positions = 1;
    psg_cross_entropy_options options = PSG_CROSS_ENTROPY_OPTIONS_INIT;
    psg_var h = psg_relu(tape, psg_linear(tape, var[0], var[2], var[3]));
    h = psg_linear(tape, h, var[4], psg_none());
    if (line->operand[0].rank == 3) h = psg_mean(tape, h, 1, &positions, 0);
    return psg_cross_entropy(tape, h, var[1], &options);
}

static const case_op op_network = { "network",
                                    { { "x", PSG_BATCHED, 0, CASE_REAL },
                                      { "label", PSG_BATCHED, 0, CASE_INTEGER },
                                      { "w1", PSG_PARAMETER, 0, CASE_REAL },
                                      { "b1", PSG_PARAMETER, 0, CASE_REAL },
                                      { "w2", PSG_PARAMETER, 0, CASE_REAL } },
                                    network };

static const case_op *const models[] = { &op_two_losses, &op_network };

const case_op *alone_op_find(const char *name) {
    for (size_t k = 0; k < sizeof models / sizeof models[0]; k++) {
        const char *a = models[k]->name, *b = name;
        while (*a && *a == *b) a++, b++;
        if (*a == *b) return models[k];
    }
    return case_op_find(name);
}
