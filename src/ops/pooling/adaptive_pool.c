/* adaptive_avg_pool and adaptive_max_pool: windows that make an output of a given size. */
#include "ops/pooling/pooling_windows.h"
#include "psg/ops/pooling.h"

static psg_status windows_of(psg_call *call, psg_pooling_windows *windows) {
    const psg_adaptive_pool_attributes *a = call->attributes;
    psg_status status = psg_pooling_input(call, a->spatial, windows);
    return status ? status : psg_pooling_adaptive(call, a->output_size, windows);
}

static const psg_pooling_traits means = { windows_of, false }, maxima = { windows_of, true };

const psg_op psg_op_adaptive_avg_pool = {
    .name = "adaptive_avg_pool",
    .input_count = 1,
    .input_names = psg_pooling_input_names,
    .attributes_size = sizeof(psg_adaptive_pool_attributes),
    .shape = psg_pooling_shape,
    .forward = psg_pooling_forward,
    .backward = psg_pooling_backward,
    .traits = &means,
};

const psg_op psg_op_adaptive_max_pool = {
    .name = "adaptive_max_pool",
    .input_count = 1,
    .input_names = psg_pooling_input_names,
    .attributes_size = sizeof(psg_adaptive_pool_attributes),
    .shape = psg_pooling_shape,
    .forward = psg_pooling_forward,
    .backward = psg_pooling_backward,
    .traits = &maxima,
};

/* A missing output_size is one that is refused. */
static psg_var record(psg_tape *tape, const psg_op *op, psg_var x, int spatial, const int64_t *output_size) {
    psg_adaptive_pool_attributes attributes = { { -2, -2, -2 }, spatial };
    for (int d = 0; d < spatial && output_size; d++) attributes.output_size[d] = output_size[d];
    return psg_record(tape, op, &x, 1, &attributes);
}

psg_var psg_adaptive_avg_pool1d(psg_tape *tape, psg_var x, int64_t output_size) {
    return record(tape, &psg_op_adaptive_avg_pool, x, 1, &output_size);
}

psg_var psg_adaptive_avg_pool2d(psg_tape *tape, psg_var x, const int64_t *output_size) {
    return record(tape, &psg_op_adaptive_avg_pool, x, 2, output_size);
}

psg_var psg_adaptive_avg_pool3d(psg_tape *tape, psg_var x, const int64_t *output_size) {
    return record(tape, &psg_op_adaptive_avg_pool, x, 3, output_size);
}

psg_var psg_adaptive_max_pool1d(psg_tape *tape, psg_var x, int64_t output_size) {
    return record(tape, &psg_op_adaptive_max_pool, x, 1, &output_size);
}

psg_var psg_adaptive_max_pool2d(psg_tape *tape, psg_var x, const int64_t *output_size) {
    return record(tape, &psg_op_adaptive_max_pool, x, 2, output_size);
}

psg_var psg_adaptive_max_pool3d(psg_tape *tape, psg_var x, const int64_t *output_size) {
    return record(tape, &psg_op_adaptive_max_pool, x, 3, output_size);
}
