/* adaptive_avg_pool and adaptive_max_pool: windows that make an output of a given size. */
#include "ops/pooling/pooling_windows.h"
#include "psg/ops.h"

static psg_status windows_of(psg_call *call, int spatial, psg_pooling_windows *windows) {
    const psg_adaptive_pool_attributes *attributes = call->attributes;
    psg_status status = psg_pooling_input(call, spatial, windows);
    return status ? status : psg_pooling_adaptive(call, attributes->output_size, windows);
}

static psg_status shape(psg_call *call, int spatial) {
    psg_pooling_windows windows;
    psg_status status = windows_of(call, spatial, &windows);
    return status ? status : psg_pooling_output(call, &windows);
}

static psg_status shape_1d(psg_call *call) { return shape(call, 1); }
static psg_status shape_2d(psg_call *call) { return shape(call, 2); }
static psg_status shape_3d(psg_call *call) { return shape(call, 3); }

static psg_status avg_forward(psg_call *call) {
    psg_pooling_windows windows;
    psg_status status = windows_of(call, call->output.rank - 2, &windows);
    return status ? status : psg_avg_pooling_forward(call, &windows);
}

static psg_status max_forward(psg_call *call) {
    psg_pooling_windows windows;
    psg_status status = windows_of(call, call->output.rank - 2, &windows);
    return status ? status : psg_max_pooling_forward(call, &windows);
}

const psg_op psg_op_adaptive_avg_pool1d = {
    .name = "adaptive_avg_pool1d",
    .input_count = 1,
    .input_names = psg_pooling_input_names,
    .attributes_size = sizeof(psg_adaptive_pool_attributes),
    .shape = shape_1d,
    .forward = avg_forward,
    .backward = psg_avg_pooling_backward,
};

const psg_op psg_op_adaptive_avg_pool2d = {
    .name = "adaptive_avg_pool2d",
    .input_count = 1,
    .input_names = psg_pooling_input_names,
    .attributes_size = sizeof(psg_adaptive_pool_attributes),
    .shape = shape_2d,
    .forward = avg_forward,
    .backward = psg_avg_pooling_backward,
};

const psg_op psg_op_adaptive_avg_pool3d = {
    .name = "adaptive_avg_pool3d",
    .input_count = 1,
    .input_names = psg_pooling_input_names,
    .attributes_size = sizeof(psg_adaptive_pool_attributes),
    .shape = shape_3d,
    .forward = avg_forward,
    .backward = psg_avg_pooling_backward,
};

const psg_op psg_op_adaptive_max_pool1d = {
    .name = "adaptive_max_pool1d",
    .input_count = 1,
    .input_names = psg_pooling_input_names,
    .attributes_size = sizeof(psg_adaptive_pool_attributes),
    .shape = shape_1d,
    .forward = max_forward,
    .backward = psg_max_pooling_backward,
};

const psg_op psg_op_adaptive_max_pool2d = {
    .name = "adaptive_max_pool2d",
    .input_count = 1,
    .input_names = psg_pooling_input_names,
    .attributes_size = sizeof(psg_adaptive_pool_attributes),
    .shape = shape_2d,
    .forward = max_forward,
    .backward = psg_max_pooling_backward,
};

const psg_op psg_op_adaptive_max_pool3d = {
    .name = "adaptive_max_pool3d",
    .input_count = 1,
    .input_names = psg_pooling_input_names,
    .attributes_size = sizeof(psg_adaptive_pool_attributes),
    .shape = shape_3d,
    .forward = max_forward,
    .backward = psg_max_pooling_backward,
};

static psg_var record(psg_tape *tape, const psg_op *op, psg_var x, int spatial, const int64_t *output_size) {
    psg_adaptive_pool_attributes attributes = { { -2, -2, -2 } };
    for (int d = 0; d < spatial && output_size; d++) attributes.output_size[d] = output_size[d];
    return psg_record(tape, op, &x, 1, &attributes);
}

psg_var psg_adaptive_avg_pool1d(psg_tape *tape, psg_var x, int64_t output_size) {
    return record(tape, &psg_op_adaptive_avg_pool1d, x, 1, &output_size);
}

psg_var psg_adaptive_avg_pool2d(psg_tape *tape, psg_var x, const int64_t *output_size) {
    return record(tape, &psg_op_adaptive_avg_pool2d, x, 2, output_size);
}

psg_var psg_adaptive_avg_pool3d(psg_tape *tape, psg_var x, const int64_t *output_size) {
    return record(tape, &psg_op_adaptive_avg_pool3d, x, 3, output_size);
}

psg_var psg_adaptive_max_pool1d(psg_tape *tape, psg_var x, int64_t output_size) {
    return record(tape, &psg_op_adaptive_max_pool1d, x, 1, &output_size);
}

psg_var psg_adaptive_max_pool2d(psg_tape *tape, psg_var x, const int64_t *output_size) {
    return record(tape, &psg_op_adaptive_max_pool2d, x, 2, output_size);
}

psg_var psg_adaptive_max_pool3d(psg_tape *tape, psg_var x, const int64_t *output_size) {
    return record(tape, &psg_op_adaptive_max_pool3d, x, 3, output_size);
}
