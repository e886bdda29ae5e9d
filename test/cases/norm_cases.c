#include "cases.h"

#include <math.h>

/* rank=1: the last dimensions of x are normalized over; shape=... says them otherwise.  Returns their number. */
static int normalized(const case_line *line, int64_t shape[PSG_MAX_RANK]) {
    const case_operand *x = &line->operand[0];
    int rank = (int)case_int(line, "rank", 1), given = case_ints(line, "shape", shape, PSG_MAX_RANK);
    for (int d = 0; d < rank && !given && rank <= x->rank; d++) shape[d] = x->shape[x->rank - rank + d];
    return given ? given : rank;
}

static psg_var layer_norm(psg_tape *tape, const case_line *line, const psg_var *var) {
    int64_t shape[PSG_MAX_RANK] = { 0 };
    int rank = normalized(line, shape);
    return psg_layer_norm(tape, var[0], rank, shape, var[1], var[2], case_real(line, "eps", 1e-5));
}

const case_op case_op_layer_norm = { "layer_norm",
                                     { { "x", PSG_BATCHED, 0, CASE_REAL },
                                       { "weight", PSG_PARAMETER, 1, CASE_REAL },
                                       { "bias", PSG_PARAMETER, 1, CASE_REAL } },
                                     layer_norm };

static psg_var group_norm(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_group_norm(tape, var[0], case_int(line, "num_groups", 1), var[1], var[2], case_real(line, "eps", 1e-5));
}

const case_op case_op_group_norm = { "group_norm",
                                     { { "x", PSG_BATCHED, 0, CASE_REAL },
                                       { "weight", PSG_PARAMETER, 1, CASE_REAL },
                                       { "bias", PSG_PARAMETER, 1, CASE_REAL } },
                                     group_norm };

/* eps left out: the machine epsilon. */
static psg_var rms_norm(psg_tape *tape, const case_line *line, const psg_var *var) {
    int64_t shape[PSG_MAX_RANK] = { 0 };
    int rank = normalized(line, shape);
    return psg_rms_norm(tape, var[0], rank, shape, var[1], case_real(line, "eps", NAN));
}

const case_op case_op_rms_norm = { "rms_norm",
                                   { { "x", PSG_BATCHED, 0, CASE_REAL }, { "weight", PSG_PARAMETER, 1, CASE_REAL } },
                                   rms_norm };

/* The array of a running statistic, or NULL. */
static const psg_tensor *array_of(psg_tape *tape, psg_var var, psg_tensor *array) {
    return psg_value(tape, var, array) ? NULL : array;
}

static psg_var instance_norm(psg_tape *tape, const case_line *line, const psg_var *var) {
    static psg_tensor mean, variance; /* the recorded call points to them */
    return psg_instance_norm(tape, var[0], var[1].id ? array_of(tape, var[1], &mean) : NULL,
                             var[2].id ? array_of(tape, var[2], &variance) : NULL, var[3], var[4],
                             (int)case_int(line, "use_input_stats", 1), case_real(line, "momentum", 0.1),
                             case_real(line, "eps", 1e-5));
}

const case_op case_op_instance_norm = { "instance_norm",
                                        { { "x", PSG_BATCHED, 0, CASE_REAL },
                                          { "running_mean", PSG_CONSTANT, 1, CASE_REAL },
                                          { "running_var", PSG_CONSTANT, 1, CASE_POSITIVE },
                                          { "weight", PSG_PARAMETER, 1, CASE_REAL },
                                          { "bias", PSG_PARAMETER, 1, CASE_REAL } },
                                        instance_norm };

static psg_var batch_norm(psg_tape *tape, const case_line *line, const psg_var *var) {
    static psg_tensor mean, variance; /* the recorded call points to them */
    return psg_batch_norm(tape, var[0], var[1].id ? array_of(tape, var[1], &mean) : NULL,
                          var[2].id ? array_of(tape, var[2], &variance) : NULL, var[3], var[4],
                          case_flag(line, "training"), case_real(line, "momentum", 0.1), case_real(line, "eps", 1e-5));
}

const case_op case_op_batch_norm = { "batch_norm",
                                     { { "x", PSG_BATCHED, 0, CASE_REAL },
                                       { "running_mean", PSG_CONSTANT, 1, CASE_REAL },
                                       { "running_var", PSG_CONSTANT, 1, CASE_POSITIVE },
                                       { "weight", PSG_PARAMETER, 1, CASE_REAL },
                                       { "bias", PSG_PARAMETER, 1, CASE_REAL } },
                                     batch_norm };
