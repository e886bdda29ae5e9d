#include "cases.h"

/* Dimensions are those of x as the pass has it. */
static psg_var reshape(psg_tape *tape, const case_line *line, const psg_var *var) {
    int64_t shape[PSG_MAX_RANK];
    return psg_reshape(tape, var[0], case_ints(line, "shape", shape, PSG_MAX_RANK), shape);
}

static psg_var expand(psg_tape *tape, const case_line *line, const psg_var *var) {
    int64_t shape[PSG_MAX_RANK];
    return psg_expand(tape, var[0], case_ints(line, "shape", shape, PSG_MAX_RANK), shape);
}

static psg_var flatten(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_flatten(tape, var[0], (int)case_int(line, "start_dim", 1), (int)case_int(line, "end_dim", -1));
}

static psg_var transpose(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_transpose(tape, var[0], (int)case_int(line, "dim0", 1), (int)case_int(line, "dim1", 2));
}

static psg_var squeeze(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_squeeze(tape, var[0], (int)case_int(line, "dim", 1));
}

static psg_var unsqueeze(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_unsqueeze(tape, var[0], (int)case_int(line, "dim", 1));
}

/* dims=... */
static int dims_of(const case_line *line, int dims[PSG_MAX_RANK]) {
    int64_t values[PSG_MAX_RANK];
    int count = case_ints(line, "dims", values, PSG_MAX_RANK);
    for (int k = 0; k < count && k < PSG_MAX_RANK; k++) dims[k] = (int)values[k];
    return count;
}

static psg_var permute(psg_tape *tape, const case_line *line, const psg_var *var) {
    int dims[PSG_MAX_RANK], count = dims_of(line, dims);
    return psg_permute(tape, var[0], count, dims);
}

static psg_var flip(psg_tape *tape, const case_line *line, const psg_var *var) {
    int dims[PSG_MAX_RANK], count = dims_of(line, dims);
    return psg_flip(tape, var[0], count, dims);
}

static psg_var mean(psg_tape *tape, const case_line *line, const psg_var *var) {
    int dims[PSG_MAX_RANK], count = dims_of(line, dims);
    return psg_mean(tape, var[0], count, dims, case_flag(line, "keepdim"));
}

static psg_var sum(psg_tape *tape, const case_line *line, const psg_var *var) {
    int dims[PSG_MAX_RANK], count = dims_of(line, dims);
    return psg_sum(tape, var[0], count, dims, case_flag(line, "keepdim"));
}

static psg_var slice(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_slice(tape, var[0], (int)case_int(line, "dim", 1), case_int(line, "start", 0),
                     case_int(line, "stop", INT64_MAX), case_int(line, "step", 1));
}

static psg_var selected(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_select(tape, var[0], (int)case_int(line, "dim", 1), case_int(line, "index", 0));
}

/* mode=reflect, replicate or circular; value=0 */
static psg_var pad(psg_tape *tape, const case_line *line, const psg_var *var) {
    static const char *const modes[] = { "constant", "reflect", "replicate", "circular" };
    int64_t widths[2 * PSG_MAX_RANK];
    int count = case_ints(line, "pad", widths, 2 * PSG_MAX_RANK), mode = case_choice(line, "mode", 0, 4, modes);
    return psg_pad(tape, var[0], count, widths, (psg_pad_mode)mode, case_real(line, "value", 0.0));
}

static psg_unfold_options windows_of(const case_line *line) {
    psg_unfold_options options = PSG_UNFOLD_OPTIONS_INIT;
    case_each(line, "kernel", 1, 2, options.kernel);
    case_each(line, "dilation", 1, 2, options.dilation);
    case_each(line, "padding", 0, 2, options.padding);
    case_each(line, "stride", 1, 2, options.stride);
    return options;
}

static psg_var unfold(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_unfold_options options = windows_of(line);
    return psg_unfold(tape, var[0], &options);
}

static psg_var fold(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_unfold_options options = windows_of(line);
    int64_t size[2];
    case_each(line, "output_size", 1, 2, size);
    return psg_fold(tape, var[0], size, &options);
}

#define SHAPED(name, function)                                                                                         \
    const case_op case_op_##name = { #name, { { "x", PSG_BATCHED, 0, CASE_REAL } }, function };
SHAPED(reshape, reshape)
SHAPED(expand, expand)
SHAPED(flatten, flatten)
SHAPED(transpose, transpose)
SHAPED(squeeze, squeeze)
SHAPED(unsqueeze, unsqueeze)
SHAPED(permute, permute)
SHAPED(flip, flip)
SHAPED(mean, mean)
SHAPED(sum, sum)
SHAPED(slice, slice)
SHAPED(select, selected)
SHAPED(pad, pad)
SHAPED(unfold2d, unfold)
SHAPED(fold2d, fold)

/* ---- several as one: x0, x1, ... ---- */

enum { MOST = 6 };

static int given(const case_line *line, const psg_var *var, psg_var *inputs) {
    int count = 0;
    for (int k = 0; k < MOST; k++) {
        if (line->operand[k].present) inputs[count++] = var[k];
    }
    return count;
}

static psg_var cat(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_var inputs[MOST];
    int count = given(line, var, inputs);
    return psg_cat(tape, inputs, count, (int)case_int(line, "dim", 1));
}

static psg_var stack(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_var inputs[MOST];
    int count = given(line, var, inputs);
    return psg_stack(tape, inputs, count, (int)case_int(line, "dim", 1));
}

#define SEVERAL                                                                                                        \
    {                                                                                                                  \
        { "x0", PSG_BATCHED, 0, CASE_REAL }, { "x1", PSG_BATCHED, 1, CASE_REAL }, { "x2", PSG_BATCHED, 1, CASE_REAL }, \
            { "x3", PSG_BATCHED, 1, CASE_REAL }, { "x4", PSG_BATCHED, 1, CASE_REAL }, {                                \
            "x5", PSG_BATCHED, 1, CASE_REAL                                                                            \
        }                                                                                                              \
    }
const case_op case_op_cat = { "cat", SEVERAL, cat };
const case_op case_op_stack = { "stack", SEVERAL, stack };
