#include "cases.h"

static psg_var matmul(psg_tape *tape, const case_line *line, const psg_var *var) {
    (void)line;
    return psg_matmul(tape, var[0], var[1]);
}

const case_op case_op_matmul = { "matmul",
                                 { { "a", PSG_BATCHED, 0, CASE_REAL }, { "b", PSG_BATCHED, 0, CASE_REAL } },
                                 matmul };
