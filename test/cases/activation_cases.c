#include "cases.h"

static psg_var relu(psg_tape *tape, const case_line *line, const psg_var *var) {
    (void)line;
    return psg_relu(tape, var[0]);
}

const case_op case_op_relu = { "relu", { { "x", PSG_BATCHED, 0, CASE_REAL } }, relu };

static psg_var softmax(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_softmax(tape, var[0], (int)case_int(line, "dim", -1));
}

const case_op case_op_softmax = { "softmax", { { "x", PSG_BATCHED, 0, CASE_REAL } }, softmax };
