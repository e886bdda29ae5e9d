/* Runs the convolution kernels in either direction. */
#include <string.h>

#include "base/context.h"
#include "base/parallel.h"
#include "base/shapes.h"
#include "ops/conv/conv_plan.h"

/* ---- tasks ---- */

typedef struct job {
    const psg_conv *conv;
    const psg_kernel_table *kernels;
    void *const *workspace;
    void *rows;                 /* weight gradients */
} job;

static void run_pack(void *argument, size_t index, unsigned slot) {
    const job *j = argument;
    (void)slot;
    j->kernels->conv_pack(j->conv, index);
}

static void run_conv(void *argument, size_t index, unsigned slot) {
    const job *j = argument;
    j->kernels->conv(j->conv, index, j->workspace[slot]);
}

static void run_direct(void *argument, size_t index, unsigned slot) {
    const job *j = argument;
    j->kernels->conv_direct(j->conv, index, j->workspace[slot]);
}

static void run_weight(void *argument, size_t index, unsigned slot) {
    const job *j = argument;
    j->kernels->conv_weight_gradient(j->conv, index, j->rows, j->workspace[slot]);
}

static job job_of(psg_context *context, const psg_conv_plan *p) {
    return (job){ .conv = &p->conv, .kernels = context->kernels[p->geometry->dtype], .workspace = context->workspace };
}

/* ---- values ---- */

/* A register tile holds at least four output channels, and costs as much as many terms. */
static bool is_direct(const psg_conv *c) { return c->rows == 1 || (c->rows <= 4 && c->channels <= 4); }

/* The sum over parts of the kernel; nearly always there is one. */
static void run_parts(psg_context *context, psg_conv_plan *p) {
    const job j = job_of(context, p);
    const bool direct = is_direct(&p->conv);
    psg_conv_first_part(p);
    do {
        size_t tasks = psg_conv_cut(p, direct, false);
        if (!direct) psg_parallel(context, j.kernels->conv_pack_tasks(&p->conv), run_pack, (void *)(uintptr_t)&j);
        psg_parallel(context, tasks, direct ? run_direct : run_conv, (void *)(uintptr_t)&j);
        p->conv.accumulate = true;
    } while (psg_conv_next_part(p));
}

/* The strides of the weight, and scratch for its packed copy and the phases. */
static psg_status prepare(psg_call *call, psg_conv_plan *p) {
    psg_conv *c = &p->conv;
    const psg_conv_geometry *g = p->geometry;
    const int64_t kernel = psg_shape_product(PSG_CONV_AXES, g->kernel);
    const size_t rows = (c->rows + PSG_CONV_ROW_GRAIN - 1) / PSG_CONV_ROW_GRAIN * PSG_CONV_ROW_GRAIN;
    const size_t table = (psg_conv_phase_count(p) * sizeof(psg_conv_phase) + 63) / 64 * 64;
    size_t packed = is_direct(c) ? 0 : c->groups * rows * c->channels * (size_t)kernel * psg_dtype_size(g->dtype);
    char *memory = psg_scratch(call->context, table + packed);
    if (!memory) return psg_call_fail(call, PSG_ERR_MEMORY, "no memory for the packed weight");
    p->phases = (psg_conv_phase *)(void *)memory;
    c->packed = memory + table;
    c->weight = call->input[PSG_CONV_WEIGHT].value.data;
    c->weight_tap[2] = 1;
    c->weight_tap[1] = g->kernel[2];
    c->weight_tap[0] = g->kernel[2] * g->kernel[1];
    c->weight_group = kernel * g->image_channels * g->output_channels;
    return PSG_OK;
}

static bool is_empty(const int64_t size[PSG_CONV_AXES], int64_t channels, int64_t samples) {
    return !size[0] || !size[1] || !size[2] || !channels || !samples;
}

/* From the image to the output, or (scatter) from the output to the image. */
static psg_conv_plan plan_of(const psg_conv_geometry *g, bool scatter, const void *in, const void *bias, void *out) {
    const int64_t kernel = psg_shape_product(PSG_CONV_AXES, g->kernel), row = kernel * g->image_channels;
    const int64_t image = psg_shape_product(PSG_CONV_AXES, g->image);
    const int64_t output = psg_shape_product(PSG_CONV_AXES, g->output);
    const int64_t rows = scatter ? g->image_channels : g->output_channels;
    const int64_t channels = scatter ? g->output_channels : g->image_channels;
    psg_conv_plan p = { .geometry = g, .scatter = scatter };
    p.conv = (psg_conv){ .in = in, .in_channel = scatter ? output : image, .out = out,
                         .out_channel = scatter ? image : output, .bias = bias, .samples = (size_t)g->samples,
                         .groups = (size_t)g->groups, .rows = (size_t)rows, .channels = (size_t)channels,
                         .weight_row = scatter ? kernel : row, .weight_channel = scatter ? row : kernel };
    p.conv.in_sample = g->groups * channels * p.conv.in_channel;
    p.conv.out_sample = g->groups * rows * p.conv.out_channel;
    return p;
}

static psg_status run(psg_call *call, psg_conv_plan p) {
    psg_status status = prepare(call, &p);
    if (!status) run_parts(call->context, &p);
    return status;
}

psg_status psg_conv_gather(psg_call *call, const psg_conv_geometry *g, const void *image, const void *bias,
                           void *output) {
    if (is_empty(g->output, g->output_channels, g->samples)) return PSG_OK;
    return run(call, plan_of(g, false, image, bias, output));
}

psg_status psg_conv_scatter(psg_call *call, const psg_conv_geometry *g, const void *output, const void *bias,
                            void *image) {
    if (is_empty(g->image, g->image_channels, g->samples)) return PSG_OK;
    return run(call, plan_of(g, true, output, bias, image));
}

/* ---- weight gradients of few channels ---- */

psg_status psg_conv_weight_rows(psg_call *call, const psg_conv_geometry *g, const void *image, const void *output,
                                void *rows) {
    if (!g->samples || !g->image_channels || !g->output_channels) return PSG_OK;
    if (!psg_shape_product(PSG_CONV_AXES, g->output)) {   /* a sum over no positions */
        const int64_t elements = g->samples * psg_tensor_count(&call->input[PSG_CONV_WEIGHT].value);
        memset(rows, 0, (size_t)elements * psg_dtype_size(g->dtype));
        return PSG_OK;
    }
    psg_conv_plan p = plan_of(g, false, image, NULL, (void *)(uintptr_t)output);
    psg_status status = prepare(call, &p);
    if (status) return status;
    job j = job_of(call->context, &p);
    j.rows = rows;
    psg_conv_first_part(&p);
    do {
        const psg_conv *c = &p.conv;
        const size_t tasks = psg_conv_cut(&p, true, true) / (c->axis[0].boxes * c->axis[1].boxes * c->axis[2].boxes);
        psg_parallel(call->context, tasks, run_weight, &j);
    } while (psg_conv_next_part(&p));
    return PSG_OK;
}
