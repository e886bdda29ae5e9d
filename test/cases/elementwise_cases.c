#include <string.h>

#include "cases.h"

/* ---- functions of x alone ---- */

static const struct {
    const char *name;
    psg_var (*function)(psg_tape *tape, psg_var x);
} functions[] = {
    { "tanh", psg_tanh },
    { "sigmoid", psg_sigmoid },
    { "relu6", psg_relu6 },
    { "silu", psg_silu },
    { "logsigmoid", psg_logsigmoid },
    { "mish", psg_mish },
    { "selu", psg_selu },
    { "hardsigmoid", psg_hardsigmoid },
    { "hardswish", psg_hardswish },
    { "softsign", psg_softsign },
    { "tanhshrink", psg_tanhshrink },
    { "exp", psg_exp },
    { "log", psg_log },
    { "sqrt", psg_sqrt },
    { "square", psg_square },
    { "abs", psg_abs },
    { "sin", psg_sin },
    { "cos", psg_cos },
};

static psg_var unary(psg_tape *tape, const case_line *line, const psg_var *var) {
    for (size_t k = 0; k < sizeof functions / sizeof functions[0]; k++) {
        if (!strcmp(functions[k].name, line->op->name)) return functions[k].function(tape, var[0]);
    }
    return psg_none();
}

#define UNARY(name) const case_op case_op_##name = { #name, { { "x", PSG_BATCHED, 0, CASE_REAL } }, unary };
#define UNARY_OF_POSITIVES(name)                                                                                       \
    const case_op case_op_##name = { #name, { { "x", PSG_BATCHED, 0, CASE_POSITIVE } }, unary };
UNARY(tanh)
UNARY(sigmoid)
UNARY(relu6)
UNARY(silu)
UNARY(logsigmoid)
UNARY(mish)
UNARY(selu)
UNARY(hardsigmoid)
UNARY(hardswish)
UNARY(softsign)
UNARY(tanhshrink)
UNARY(exp)
UNARY(square)
UNARY(abs)
UNARY(sin)
UNARY(cos)
UNARY_OF_POSITIVES(log)
UNARY_OF_POSITIVES(sqrt)

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

static psg_var log_softmax(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_log_softmax(tape, var[0], (int)case_int(line, "dim", -1));
}

static psg_var softmin(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_softmin(tape, var[0], (int)case_int(line, "dim", -1));
}

#define NUMBERS(name) const case_op case_op_##name = { #name, { { "x", PSG_BATCHED, 0, CASE_REAL } }, name };
NUMBERS(gelu)
NUMBERS(elu)
NUMBERS(celu)
NUMBERS(leaky_relu)
NUMBERS(softplus)
NUMBERS(hardtanh)
NUMBERS(softshrink)
NUMBERS(hardshrink)
NUMBERS(threshold)
NUMBERS(glu)
NUMBERS(log_softmax)
NUMBERS(softmin)

static psg_var prelu(psg_tape *tape, const case_line *line, const psg_var *var) {
    (void)line;
    return psg_prelu(tape, var[0], var[1]);
}

const case_op case_op_prelu = { "prelu",
                                { { "x", PSG_BATCHED, 0, CASE_REAL }, { "weight", PSG_PARAMETER, 0, CASE_REAL } },
                                prelu };
