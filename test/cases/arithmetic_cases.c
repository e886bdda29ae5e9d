#include "cases.h"

#define A_AND_B                                                                                                        \
    {                                                                                                                  \
        { "a", PSG_BATCHED, 0, CASE_REAL }, { "b", PSG_BATCHED, 0, CASE_REAL }                                         \
    }

static psg_var add(psg_tape *tape, const case_line *line, const psg_var *var) {
    (void)line;
    return psg_add(tape, var[0], var[1]);
}

static psg_var sub(psg_tape *tape, const case_line *line, const psg_var *var) {
    (void)line;
    return psg_sub(tape, var[0], var[1]);
}

static psg_var mul(psg_tape *tape, const case_line *line, const psg_var *var) {
    (void)line;
    return psg_mul(tape, var[0], var[1]);
}

static psg_var divided(psg_tape *tape, const case_line *line, const psg_var *var) {
    (void)line;
    return psg_div(tape, var[0], var[1]);
}

static psg_var scale(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_scale(tape, var[0], case_real(line, "factor", 1.0));
}

static psg_var neg(psg_tape *tape, const case_line *line, const psg_var *var) {
    (void)line;
    return psg_neg(tape, var[0]);
}

const case_op case_op_add = { "add", A_AND_B, add };
const case_op case_op_sub = { "sub", A_AND_B, sub };
const case_op case_op_mul = { "mul", A_AND_B, mul };
const case_op case_op_div = { "div",
                              { { "a", PSG_BATCHED, 0, CASE_REAL }, { "b", PSG_BATCHED, 0, CASE_POSITIVE } },
                              divided };
const case_op case_op_scale = { "scale", { { "x", PSG_BATCHED, 0, CASE_REAL } }, scale };
const case_op case_op_neg = { "neg", { { "x", PSG_BATCHED, 0, CASE_REAL } }, neg };
