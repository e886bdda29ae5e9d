/* max_pool: the maximum of each window. */
#include "ops/pooling/pooling_windows.h"
#include "psg/ops/pooling.h"

static psg_status windows_of(psg_call *call, psg_pooling_windows *windows) {
    const psg_max_pool_attributes *a = call->attributes;
    const psg_max_pool_options *o = &a->options;
    psg_status status = psg_pooling_input(call, a->spatial, windows);
    return status ? status : psg_pooling_fixed(call, a->kernel_size, o->stride, o->padding, o->dilation,
                                               o->ceil_mode != 0, windows);
}

static const psg_pooling_traits traits = { windows_of, true };

const psg_op psg_op_max_pool = {
    .name = "max_pool",
    .input_count = 1,
    .input_names = psg_pooling_input_names,
    .attributes_size = sizeof(psg_max_pool_attributes),
    .reserved_at = offsetof(psg_max_pool_attributes, options.reserved),
    .shape = psg_pooling_shape,
    .forward = psg_pooling_forward,
    .backward = psg_pooling_backward,
    .traits = &traits,
};

static psg_var record(psg_tape *tape, psg_var x, int spatial, const int64_t *kernel_size,
                      const psg_max_pool_options *options) {
    psg_max_pool_attributes attributes = { .spatial = spatial };
    for (int d = 0; d < spatial && kernel_size; d++) attributes.kernel_size[d] = kernel_size[d];
    if (options) attributes.options = *options;
    return psg_record(tape, &psg_op_max_pool, &x, 1, &attributes);
}

psg_var psg_max_pool1d(psg_tape *tape, psg_var x, int64_t kernel_size, const psg_max_pool_options *options) {
    return record(tape, x, 1, &kernel_size, options);
}

psg_var psg_max_pool2d(psg_tape *tape, psg_var x, const int64_t *kernel_size, const psg_max_pool_options *options) {
    return record(tape, x, 2, kernel_size, options);
}

psg_var psg_max_pool3d(psg_tape *tape, psg_var x, const int64_t *kernel_size, const psg_max_pool_options *options) {
    return record(tape, x, 3, kernel_size, options);
}
