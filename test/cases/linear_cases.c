#include "cases.h"

static psg_var linear(psg_tape *tape, const case_line *line, const psg_var *var) {
    (void)line;
    return psg_linear(tape, var[0], var[1], var[2]);
}

const case_op case_op_linear = { "linear",
                                 { { "x", PSG_BATCHED, 0, CASE_REAL },
                                   { "weight", PSG_PARAMETER, 0, CASE_REAL },
                                   { "bias", PSG_PARAMETER, 1, CASE_REAL } },
                                 linear };

static psg_var bilinear(psg_tape *tape, const case_line *line, const psg_var *var) {
    (void)line;
    return psg_bilinear(tape, var[0], var[1], var[2], var[3]);
}

const case_op case_op_bilinear = { "bilinear",
                                   { { "x1", PSG_BATCHED, 0, CASE_REAL },
                                     { "x2", PSG_BATCHED, 0, CASE_REAL },
                                     { "weight", PSG_PARAMETER, 0, CASE_REAL },
                                     { "bias", PSG_PARAMETER, 1, CASE_REAL } },
                                   bilinear };
