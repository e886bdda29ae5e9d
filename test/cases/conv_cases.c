#include <string.h>

#include "cases.h"

#define CONV_OPERANDS                                                                                                  \
    {                                                                                                                  \
        { "x", PSG_BATCHED, 0, CASE_REAL }, { "weight", PSG_PARAMETER, 0, CASE_REAL }, {                               \
            "bias", PSG_PARAMETER, 1, CASE_REAL                                                                        \
        }                                                                                                              \
    }

static const char *const modes[] = { "zeros", "reflect", "replicate", "circular" };

/* padding=same, padding=valid or numbers; padding_after=... when those behind differ; padding_mode=reflect, ... */
static psg_conv_options options_of(const case_line *line, int spatial) {
    psg_conv_options options = { .groups = case_int(line, "groups", 0) };
    const char *padding = case_word(line, "padding", "0");
    case_each(line, "stride", 0, spatial, options.stride);
    case_each(line, "dilation", 0, spatial, options.dilation);
    if (!strcmp(padding, "same")) options.padding_rule = PSG_CONV_SAME;
    else if (!strcmp(padding, "valid")) options.padding_rule = PSG_CONV_VALID;
    else case_each(line, "padding", 0, spatial, options.padding);
    options.has_padding_after = case_flag(line, "padding_after");
    case_each(line, "padding_after", 0, spatial, options.padding_after);
    options.padding_rule = (psg_conv_padding)case_int(line, "padding_rule", options.padding_rule);
    options.padding_mode = (psg_pad_mode)case_choice(line, "padding_mode", 0, 4, modes);
    return options;
}

static psg_var conv(psg_tape *tape, const case_line *line, const psg_var *var) {
    const int spatial = case_spatial(line);
    const psg_conv_options options = options_of(line, spatial);
    if (spatial == 1) return psg_conv1d(tape, var[0], var[1], var[2], &options);
    if (spatial == 2) return psg_conv2d(tape, var[0], var[1], var[2], &options);
    return psg_conv3d(tape, var[0], var[1], var[2], &options);
}

const case_op case_op_conv1d = { "conv1d", CONV_OPERANDS, conv };
const case_op case_op_conv2d = { "conv2d", CONV_OPERANDS, conv };
const case_op case_op_conv3d = { "conv3d", CONV_OPERANDS, conv };

static psg_conv_transpose_options transpose_options_of(const case_line *line, int spatial) {
    psg_conv_transpose_options options = { .groups = case_int(line, "groups", 0) };
    case_each(line, "stride", 0, spatial, options.stride);
    case_each(line, "padding", 0, spatial, options.padding);
    case_each(line, "dilation", 0, spatial, options.dilation);
    case_each(line, "output_padding", 0, spatial, options.output_padding);
    return options;
}

static psg_var conv_transpose(psg_tape *tape, const case_line *line, const psg_var *var) {
    const int spatial = case_spatial(line);
    const psg_conv_transpose_options options = transpose_options_of(line, spatial);
    if (spatial == 1) return psg_conv_transpose1d(tape, var[0], var[1], var[2], &options);
    if (spatial == 2) return psg_conv_transpose2d(tape, var[0], var[1], var[2], &options);
    return psg_conv_transpose3d(tape, var[0], var[1], var[2], &options);
}

const case_op case_op_conv_transpose1d = { "conv_transpose1d", CONV_OPERANDS, conv_transpose };
const case_op case_op_conv_transpose2d = { "conv_transpose2d", CONV_OPERANDS, conv_transpose };
const case_op case_op_conv_transpose3d = { "conv_transpose3d", CONV_OPERANDS, conv_transpose };
