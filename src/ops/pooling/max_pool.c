/* max_pool: the maximum of each window. */
#include "ops/pooling/pooling_windows.h"
#include "psg/ops.h"

static psg_status windows_of(psg_call *call, int spatial, psg_pooling_windows *windows) {
    const psg_max_pool_attributes *attributes = call->attributes;
    const psg_max_pool_options *o = &attributes->options;
    psg_status status = psg_pooling_input(call, spatial, windows);
    if (status) return status;
    return psg_pooling_fixed(call, attributes->kernel_size, o->stride, o->padding, o->dilation, o->ceil_mode != 0,
                             windows);
}

static psg_status shape(psg_call *call, int spatial) {
    psg_pooling_windows windows;
    psg_status status = windows_of(call, spatial, &windows);
    return status ? status : psg_pooling_output(call, &windows);
}

static psg_status shape_1d(psg_call *call) { return shape(call, 1); }
static psg_status shape_2d(psg_call *call) { return shape(call, 2); }
static psg_status shape_3d(psg_call *call) { return shape(call, 3); }

static psg_status forward(psg_call *call) {
    psg_pooling_windows windows;
    psg_status status = windows_of(call, call->output.rank - 2, &windows);
    return status ? status : psg_max_pooling_forward(call, &windows);
}

const psg_op psg_op_max_pool1d = {
    .name = "max_pool1d",
    .input_count = 1,
    .input_names = psg_pooling_input_names,
    .attributes_size = sizeof(psg_max_pool_attributes),
    .shape = shape_1d,
    .forward = forward,
    .backward = psg_max_pooling_backward,
};

const psg_op psg_op_max_pool2d = {
    .name = "max_pool2d",
    .input_count = 1,
    .input_names = psg_pooling_input_names,
    .attributes_size = sizeof(psg_max_pool_attributes),
    .shape = shape_2d,
    .forward = forward,
    .backward = psg_max_pooling_backward,
};

const psg_op psg_op_max_pool3d = {
    .name = "max_pool3d",
    .input_count = 1,
    .input_names = psg_pooling_input_names,
    .attributes_size = sizeof(psg_max_pool_attributes),
    .shape = shape_3d,
    .forward = forward,
    .backward = psg_max_pooling_backward,
};

static psg_var record(psg_tape *tape, const psg_op *op, psg_var x, int spatial, const int64_t *kernel_size,
                      const psg_max_pool_options *options) {
    psg_max_pool_attributes attributes = { .kernel_size = { 0 } };
    for (int d = 0; d < spatial && kernel_size; d++) attributes.kernel_size[d] = kernel_size[d];
    if (options) attributes.options = *options;
    return psg_record(tape, op, &x, 1, &attributes);
}

psg_var psg_max_pool1d(psg_tape *tape, psg_var x, int64_t kernel_size, const psg_max_pool_options *options) {
    return record(tape, &psg_op_max_pool1d, x, 1, &kernel_size, options);
}

psg_var psg_max_pool2d(psg_tape *tape, psg_var x, const int64_t *kernel_size, const psg_max_pool_options *options) {
    return record(tape, &psg_op_max_pool2d, x, 2, kernel_size, options);
}

psg_var psg_max_pool3d(psg_tape *tape, psg_var x, const int64_t *kernel_size, const psg_max_pool_options *options) {
    return record(tape, &psg_op_max_pool3d, x, 3, kernel_size, options);
}
