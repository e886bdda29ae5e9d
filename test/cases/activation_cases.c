#include "cases.h"

#define OF_X(name, apply) const case_op case_op_##name = { #name, { { "x", PSG_BATCHED, 0, CASE_REAL } }, apply };

/* ---- functions of x alone: the rows of activation_list.h ---- */

#define ACTIVATION(name)                                                                       \
    static psg_var name##_of_x(psg_tape *tape, const case_line *line, const psg_var *var) {    \
        (void)line;                                                                            \
        return psg_##name(tape, var[0]);                                                       \
    }                                                                                          \
    OF_X(name, name##_of_x)
#define ACTIVATION_1(name, number, rule)
#define ACTIVATION_2(name, first, second, rule)
#define ACTIVATION_OR(name, other, flag)
#include "activation_list.h"

/* ---- functions with numbers, by the names and defaults of PyTorch ---- */

static psg_var gelu(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_gelu(tape, var[0], case_flag(line, "approximate_tanh"));
}

static psg_var elu(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_elu(tape, var[0], case_real(line, "alpha", 1.0));
}

static psg_var celu(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_celu(tape, var[0], case_real(line, "alpha", 1.0));
}

static psg_var leaky_relu(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_leaky_relu(tape, var[0], case_real(line, "negative_slope", 0.01));
}

static psg_var softplus(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_softplus(tape, var[0], case_real(line, "beta", 1.0), case_real(line, "threshold", 20.0));
}

static psg_var hardtanh(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_hardtanh(tape, var[0], case_real(line, "min_val", -1.0), case_real(line, "max_val", 1.0));
}

static psg_var softshrink(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_softshrink(tape, var[0], case_real(line, "lambda", 0.5));
}

static psg_var hardshrink(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_hardshrink(tape, var[0], case_real(line, "lambda", 0.5));
}

static psg_var threshold(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_threshold(tape, var[0], case_real(line, "threshold", 0.0), case_real(line, "value", 0.0));
}

static psg_var glu(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_glu(tape, var[0], (int)case_int(line, "dim", -1));
}

static psg_var softmax(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_softmax(tape, var[0], (int)case_int(line, "dim", -1));
}

static psg_var log_softmax(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_log_softmax(tape, var[0], (int)case_int(line, "dim", -1));
}

static psg_var softmin(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_softmin(tape, var[0], (int)case_int(line, "dim", -1));
}

static psg_var dropout(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_dropout(tape, var[0], case_real(line, "p", 0.5));
}

static psg_var feature_dropout(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_var (*const of_spatial[])(psg_tape *, psg_var, double) = { psg_dropout1d, psg_dropout2d, psg_dropout3d };
    const int spatial = line->operand[0].rank - 2;
    return of_spatial[spatial < 1 ? 0 : spatial > 3 ? 2 : spatial - 1](tape, var[0], case_real(line, "p", 0.5));
}

OF_X(gelu, gelu)
OF_X(elu, elu)
OF_X(celu, celu)
OF_X(leaky_relu, leaky_relu)
OF_X(softplus, softplus)
OF_X(hardtanh, hardtanh)
OF_X(softshrink, softshrink)
OF_X(hardshrink, hardshrink)
OF_X(threshold, threshold)
OF_X(glu, glu)
OF_X(softmax, softmax)
OF_X(log_softmax, log_softmax)
OF_X(softmin, softmin)
OF_X(dropout, dropout)
OF_X(feature_dropout, feature_dropout)

static psg_var prelu(psg_tape *tape, const case_line *line, const psg_var *var) {
    (void)line;
    return psg_prelu(tape, var[0], var[1]);
}

const case_op case_op_prelu = { "prelu",
                                { { "x", PSG_BATCHED, 0, CASE_REAL }, { "weight", PSG_PARAMETER, 0, CASE_REAL } },
                                prelu };
