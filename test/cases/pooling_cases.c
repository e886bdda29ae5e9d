#include "cases.h"

/* ceil_mode is a flag; the other options are PyTorch's, one number or one a dimension. */
typedef struct pooling {
    int64_t kernel_size[3];
    psg_max_pool_options max;
    psg_avg_pool_options avg;
} pooling;

static pooling read_pooling(const case_line *line, int spatial) {
    pooling p = { { 0 }, PSG_MAX_POOL_OPTIONS_INIT, PSG_AVG_POOL_OPTIONS_INIT };
    case_each(line, "kernel_size", 0, spatial, p.kernel_size);
    case_each(line, "stride", 0, spatial, p.max.stride);
    case_each(line, "padding", 0, spatial, p.max.padding);
    case_each(line, "dilation", 0, spatial, p.max.dilation);
    for (int d = 0; d < spatial; d++) {
        p.avg.stride[d] = p.max.stride[d];
        p.avg.padding[d] = p.max.padding[d];
    }
    p.max.ceil_mode = p.avg.ceil_mode = case_flag(line, "ceil_mode");
    p.avg.count_exclude_pad = !case_int(line, "count_include_pad", 1);
    p.avg.divisor_override = case_int(line, "divisor_override", 0);
    return p;
}

static psg_var max_pool(psg_tape *tape, const case_line *line, const psg_var *var) {
    const int spatial = case_spatial(line);
    const pooling p = read_pooling(line, spatial);
    if (spatial == 1) return psg_max_pool1d(tape, var[0], p.kernel_size[0], &p.max);
    if (spatial == 2) return psg_max_pool2d(tape, var[0], p.kernel_size, &p.max);
    return psg_max_pool3d(tape, var[0], p.kernel_size, &p.max);
}

static psg_var avg_pool(psg_tape *tape, const case_line *line, const psg_var *var) {
    const int spatial = case_spatial(line);
    const pooling p = read_pooling(line, spatial);
    if (spatial == 1) return psg_avg_pool1d(tape, var[0], p.kernel_size[0], &p.avg);
    if (spatial == 2) return psg_avg_pool2d(tape, var[0], p.kernel_size, &p.avg);
    return psg_avg_pool3d(tape, var[0], p.kernel_size, &p.avg);
}

/* output_size, -1 for the input's own. */
static psg_var adaptive_avg_pool(psg_tape *tape, const case_line *line, const psg_var *var) {
    int64_t size[3];
    const int spatial = case_spatial(line);
    case_each(line, "output_size", -1, spatial, size);
    if (spatial == 1) return psg_adaptive_avg_pool1d(tape, var[0], size[0]);
    if (spatial == 2) return psg_adaptive_avg_pool2d(tape, var[0], size);
    return psg_adaptive_avg_pool3d(tape, var[0], size);
}

static psg_var adaptive_max_pool(psg_tape *tape, const case_line *line, const psg_var *var) {
    int64_t size[3];
    const int spatial = case_spatial(line);
    case_each(line, "output_size", -1, spatial, size);
    if (spatial == 1) return psg_adaptive_max_pool1d(tape, var[0], size[0]);
    if (spatial == 2) return psg_adaptive_max_pool2d(tape, var[0], size);
    return psg_adaptive_max_pool3d(tape, var[0], size);
}

#define POOL_OPERANDS { { "x", PSG_BATCHED, 0, CASE_REAL } }

const case_op case_op_max_pool1d = { "max_pool1d", POOL_OPERANDS, max_pool };
const case_op case_op_max_pool2d = { "max_pool2d", POOL_OPERANDS, max_pool };
const case_op case_op_max_pool3d = { "max_pool3d", POOL_OPERANDS, max_pool };
const case_op case_op_avg_pool1d = { "avg_pool1d", POOL_OPERANDS, avg_pool };
const case_op case_op_avg_pool2d = { "avg_pool2d", POOL_OPERANDS, avg_pool };
const case_op case_op_avg_pool3d = { "avg_pool3d", POOL_OPERANDS, avg_pool };
const case_op case_op_adaptive_avg_pool1d = { "adaptive_avg_pool1d", POOL_OPERANDS, adaptive_avg_pool };
const case_op case_op_adaptive_avg_pool2d = { "adaptive_avg_pool2d", POOL_OPERANDS, adaptive_avg_pool };
const case_op case_op_adaptive_avg_pool3d = { "adaptive_avg_pool3d", POOL_OPERANDS, adaptive_avg_pool };
const case_op case_op_adaptive_max_pool1d = { "adaptive_max_pool1d", POOL_OPERANDS, adaptive_max_pool };
const case_op case_op_adaptive_max_pool2d = { "adaptive_max_pool2d", POOL_OPERANDS, adaptive_max_pool };
const case_op case_op_adaptive_max_pool3d = { "adaptive_max_pool3d", POOL_OPERANDS, adaptive_max_pool };
