#include "cases.h"

/* ---- functions of two: the rows of pair_list.h ---- */

#define PAIR(name, operator, b_kind, ...)                                                                              \
    static psg_var name(psg_tape *tape, const case_line *line, const psg_var *var) {                                   \
        (void)line;                                                                                                    \
        return psg_##name(tape, var[0], var[1]);                                                                       \
    }                                                                                                                  \
    const case_op case_op_##name = {                                                                                   \
        #name, { { "a", PSG_BATCHED, 0, CASE_REAL }, { "b", PSG_BATCHED, 0, b_kind } }, name,                          \
    };
#define div quotient   /* stdlib.h has a div */
#include "pair_list.h"
#undef div

/* ---- of one and a number ---- */

static psg_var scale(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_scale(tape, var[0], case_real(line, "factor", 1.0));
}

static psg_var neg(psg_tape *tape, const case_line *line, const psg_var *var) {
    (void)line;
    return psg_neg(tape, var[0]);
}

const case_op case_op_scale = { "scale", { { "x", PSG_BATCHED, 0, CASE_REAL } }, scale };
const case_op case_op_neg = { "neg", { { "x", PSG_BATCHED, 0, CASE_REAL } }, neg };
