/* Runs the convolution kernel in either direction: phases, parts of large kernels, what a task holds. */
#include "base/context.h"
#include "base/parallel.h"
#include "base/shape.h"
#include "ops/conv.h"

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t common_divisor(int64_t a, int64_t b) {
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* ---- axes ---- */

/* A part of the kernel along one axis: taps [first, first + count). */
typedef struct part {
    int64_t first, count;
} part;

/* Position t reads t stride + k dilation - padding. */
static void gather_axis(const psg_conv_geometry *g, int a, part kernel, psg_conv_phase *phases, psg_conv_axis *axis) {
    phases[0] = (psg_conv_phase){ .positions = (size_t)g->output[a], .taps = (size_t)kernel.count,
                                  .offset = kernel.first * g->dilation[a] - g->padding[a],
                                  .offset_step = g->dilation[a], .kernel_first = (size_t)kernel.first,
                                  .kernel_step = 1 };
    *axis = (psg_conv_axis){ .in_size = (size_t)g->image[a], .out_size = (size_t)g->output[a],
                             .in_step = (size_t)g->stride[a], .out_step = 1, .phase_count = 1, .phases = phases };
}

/* Element u = first + i stride of the image receives from t = (u + padding - k dilation) / stride where that is whole:
 * for every stride / gcd(stride, dilation)-th k. */
static psg_conv_phase scatter_phase(const psg_conv_geometry *g, int a, part kernel, int64_t first) {
    const int64_t s = g->stride[a], d = g->dilation[a], step = s / common_divisor(s, d), u = first + g->padding[a];
    psg_conv_phase phase = { .first = (size_t)first, .positions = (size_t)((g->image[a] - first + s - 1) / s),
                             .kernel_step = (size_t)step, .offset_step = -(step * d / s) };
    const int64_t end = kernel.first + kernel.count;
    int64_t k = kernel.first;
    while (k < end && k < kernel.first + step && (u - k * d) % s) k++;
    if (k >= end || k >= kernel.first + step) return phase;
    phase.taps = (size_t)((end - 1 - k) / step + 1);
    phase.kernel_first = (size_t)k;
    phase.offset = (u - k * d) / s;
    return phase;
}

static void scatter_axis(const psg_conv_geometry *g, int a, part kernel, psg_conv_phase *phases, psg_conv_axis *axis) {
    int64_t count = smaller(g->stride[a], g->image[a]);
    for (int64_t first = 0; first < count; first++) phases[first] = scatter_phase(g, a, kernel, first);
    *axis = (psg_conv_axis){ .in_size = (size_t)g->output[a], .out_size = (size_t)g->image[a], .in_step = 1,
                             .out_step = (size_t)g->stride[a], .phase_count = (size_t)count, .phases = phases };
}

static void find_range(psg_conv_axis *axis) {
    bool found = false;
    for (size_t k = 0; k < axis->phase_count; k++) {
        const psg_conv_phase *p = &axis->phases[k];
        if (p->positions > axis->positions) axis->positions = p->positions;
        if (!p->taps) continue;
        ptrdiff_t other = p->offset + (ptrdiff_t)(p->taps - 1) * p->offset_step;
        ptrdiff_t low = other < p->offset ? other : p->offset, high = other < p->offset ? p->offset : other;
        if (!found || low < axis->low) axis->low = low;
        if (!found || high > axis->high) axis->high = high;
        found = true;
    }
}

/* ---- what a task holds ---- */

static double stage_bytes(const psg_conv *c, const size_t box[PSG_CONV_AXES], size_t channels, size_t size) {
    double bytes = (double)size;
    for (int a = 0; a < PSG_CONV_AXES; a++) {
        const psg_conv_axis *x = &c->axis[a];
        double extent = (double)(box[a] - 1) * (double)x->in_step + (double)(x->high - x->low) + 1;
        if (a == PSG_CONV_AXES - 1) extent += extent < (double)x->in_step ? extent : (double)x->in_step;
        bytes *= extent;
    }
    return bytes * (double)channels + (double)(PSG_CONV_SLACK * size);
}

static bool stage_fits(const psg_conv *c, const size_t box[PSG_CONV_AXES], size_t channels, size_t size) {
    return stage_bytes(c, box, channels, size) <= (double)PSG_CONV_STAGE_BYTES;
}

static size_t half(size_t n) { return (n + 1) / 2; }

static size_t taps_of(const part kernel[PSG_CONV_AXES]) {
    return (size_t)(kernel[0].count * kernel[1].count * kernel[2].count);
}

/* Boxes become flat before they become short: a row of positions is what vectors are made of.  A plane or a row more
 * than twice what its windows reach repeats little of the input; below that, fewer channels at a time cost less. */
static void choose_box(psg_conv *c, size_t taps, size_t size) {
    size_t box[PSG_CONV_AXES], channels = PSG_CONV_MAX_TERMS / taps, reach[PSG_CONV_AXES];
    if (channels > c->channels) channels = c->channels;
    if (!channels) channels = 1;
    for (int a = 0; a < PSG_CONV_AXES; a++) {
        box[a] = c->axis[a].positions;
        reach[a] = 2 * ((size_t)(c->axis[a].high - c->axis[a].low) / c->axis[a].in_step + 1);
    }
    while (!stage_fits(c, box, channels, size)) {
        if (box[0] > reach[0]) box[0] = half(box[0]);
        else if (box[1] > reach[1]) box[1] = half(box[1]);
        else if (channels > 1 && channels * taps > 256) channels = half(channels);
        else if (box[0] > 1) box[0] = half(box[0]);
        else if (box[1] > 1) box[1] = half(box[1]);
        else if (box[2] > 64 || (channels == 1 && box[2] > 1)) box[2] = half(box[2]);
        else if (channels > 1) channels = half(channels);
        else break;
    }
    c->task_channels = channels;
    for (int a = 0; a < PSG_CONV_AXES; a++) c->axis[a].box = box[a];
}

static size_t count_boxes(psg_conv *c) {
    size_t boxes = 1;
    for (int a = 0; a < PSG_CONV_AXES; a++) {
        c->axis[a].boxes = (c->axis[a].positions + c->axis[a].box - 1) / c->axis[a].box;
        boxes *= c->axis[a].boxes;
    }
    return boxes;
}

/* Few samples are cut into smaller boxes, so that there is work for every worker. */
static void cut_boxes(psg_conv *c) {
    const size_t tasks = 8, least = 256;
    while (count_boxes(c) * c->samples * c->groups < tasks) {
        size_t positions = c->axis[0].box * c->axis[1].box * c->axis[2].box;
        int a = 0;
        while (a < PSG_CONV_AXES - 1 && c->axis[a].box == 1) a++;
        if (positions < least) return;
        c->axis[a].box = half(c->axis[a].box);
    }
}

/* Positions of several small samples share panels, of which the last is seldom full. */
static size_t choose_samples(const psg_conv *c, size_t size) {
    const size_t panel = 128 / size, most = c->samples / 16 < 16 ? c->samples / 16 : 16;
    const size_t box[] = { c->axis[0].box, c->axis[1].box, c->axis[2].box }, positions = box[0] * box[1] * box[2];
    size_t best = 1;
    double use = 0;
    for (size_t n = 1; n <= most || n == 1; n++) {
        if (n > 1 && !stage_fits(c, box, c->task_channels * n, size)) break;
        size_t columns = n * positions;
        double full = (double)columns / (double)((columns + panel - 1) / panel * panel);
        if (full > use + 0.02) {
            use = full;
            best = n;
        }
    }
    return best;
}

/* ---- running ---- */

typedef struct job {
    const psg_conv *conv;
    const psg_kernel_table *kernels;
    void *const *workspace;
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

static void run(psg_context *context, psg_conv *c, size_t taps, psg_dtype dtype) {
    size_t size = psg_dtype_size(dtype);
    choose_box(c, taps, size);
    cut_boxes(c);
    c->task_samples = choose_samples(c, size);
    size_t tasks = count_boxes(c) * c->groups * ((c->samples + c->task_samples - 1) / c->task_samples);
    job j = { c, context->kernels[dtype], context->workspace };
    psg_parallel(context, j.kernels->conv_pack_tasks(c), run_pack, &j);
    psg_parallel(context, tasks, run_conv, &j);
}

/* ---- directions ---- */

typedef struct direction {
    const psg_conv_geometry *geometry;
    bool scatter;
    psg_conv conv;              /* arrays, strides, channels */
    psg_conv_phase *phases;
    part kernel[PSG_CONV_AXES];
} direction;

static void set_axes(direction *d) {
    psg_conv_phase *phases = d->phases;
    for (int a = 0; a < PSG_CONV_AXES; a++) {
        psg_conv_axis *axis = &d->conv.axis[a];
        if (d->scatter) scatter_axis(d->geometry, a, d->kernel[a], phases, axis);
        else gather_axis(d->geometry, a, d->kernel[a], phases, axis);
        find_range(axis);
        phases += axis->phase_count;
    }
}

/* The largest part of the kernel whose windows a task can hold for one position and channel. */
static void choose_part(direction *d) {
    const size_t one[PSG_CONV_AXES] = { 1, 1, 1 }, size = psg_dtype_size(d->geometry->dtype);
    for (int a = 0; a < PSG_CONV_AXES; a++) d->kernel[a] = (part){ 0, d->geometry->kernel[a] };
    for (;;) {
        set_axes(d);
        bool few = taps_of(d->kernel) <= PSG_CONV_MAX_TAPS;
        if (few && stage_fits(&d->conv, one, 1, size)) return;
        int longest = 0;
        for (int a = 1; a < PSG_CONV_AXES; a++) {
            const int64_t *dilation = d->geometry->dilation;
            int64_t here = few ? (d->kernel[a].count - 1) * dilation[a] : d->kernel[a].count;
            int64_t most = few ? (d->kernel[longest].count - 1) * dilation[longest] : d->kernel[longest].count;
            if (here > most) longest = a;
        }
        if (d->kernel[longest].count == 1) return;
        d->kernel[longest].count = (int64_t)half((size_t)d->kernel[longest].count);
    }
}

static bool next_part(direction *d, const int64_t length[PSG_CONV_AXES]) {
    for (int a = PSG_CONV_AXES - 1; a >= 0; a--) {
        d->kernel[a].first += length[a];
        int64_t rest = d->geometry->kernel[a] - d->kernel[a].first;
        if (rest > 0) {
            d->kernel[a].count = smaller(length[a], rest);
            return true;
        }
        d->kernel[a] = (part){ 0, length[a] };
    }
    return false;
}

/* The sum over parts of the kernel; nearly always there is one. */
static void run_parts(psg_context *context, direction *d) {
    int64_t length[PSG_CONV_AXES];
    for (int a = 0; a < PSG_CONV_AXES; a++) length[a] = d->kernel[a].count;
    do {
        set_axes(d);
        run(context, &d->conv, taps_of(d->kernel), d->geometry->dtype);
        d->conv.accumulate = true;
    } while (next_part(d, length));
}

static psg_status run_direction(psg_call *call, direction *d) {
    psg_conv *c = &d->conv;
    const psg_conv_geometry *g = d->geometry;
    const int64_t kernel = psg_shape_product(PSG_CONV_AXES, g->kernel);
    const size_t rows = (c->rows + PSG_CONV_ROW_GRAIN - 1) / PSG_CONV_ROW_GRAIN * PSG_CONV_ROW_GRAIN;
    size_t phases = 0, size = psg_dtype_size(g->dtype);
    for (int a = 0; a < PSG_CONV_AXES; a++) phases += d->scatter ? (size_t)smaller(g->stride[a], g->image[a]) : 1;
    size_t table = (phases * sizeof(psg_conv_phase) + 63) / 64 * 64;
    char *memory = psg_scratch(call->context, table + c->groups * rows * c->channels * (size_t)kernel * size);
    if (!memory) return psg_call_fail(call, PSG_ERR_MEMORY, "no memory for the packed weight");
    d->phases = (psg_conv_phase *)(void *)memory;
    c->packed = memory + table;
    c->weight = call->input[PSG_CONV_WEIGHT].value.data;
    c->weight_tap[2] = 1;
    c->weight_tap[1] = g->kernel[2];
    c->weight_tap[0] = g->kernel[2] * g->kernel[1];
    c->weight_group = kernel * g->image_channels * g->output_channels;
    choose_part(d);
    run_parts(call->context, d);
    return PSG_OK;
}

static bool is_empty(const int64_t size[PSG_CONV_AXES], int64_t channels, int64_t samples) {
    return !size[0] || !size[1] || !size[2] || !channels || !samples;
}

psg_status psg_conv_gather(psg_call *call, const psg_conv_geometry *g, const void *image, const void *bias,
                           void *output) {
    const int64_t kernel = psg_shape_product(PSG_CONV_AXES, g->kernel);
    if (is_empty(g->output, g->output_channels, g->samples)) return PSG_OK;
    direction d = { .geometry = g };
    d.conv = (psg_conv){ .in = image, .in_sample = g->image_sample, .in_channel = g->image_channel, .out = output,
                         .out_sample = g->output_sample, .out_channel = g->output_channel, .bias = bias,
                         .samples = (size_t)g->samples, .groups = (size_t)g->groups,
                         .rows = (size_t)g->output_channels, .channels = (size_t)g->image_channels,
                         .weight_row = kernel * g->image_channels, .weight_channel = kernel };
    return run_direction(call, &d);
}

psg_status psg_conv_scatter(psg_call *call, const psg_conv_geometry *g, const void *output, const void *bias,
                            void *image) {
    const int64_t kernel = psg_shape_product(PSG_CONV_AXES, g->kernel);
    if (is_empty(g->image, g->image_channels, g->samples)) return PSG_OK;
    direction d = { .geometry = g, .scatter = true };
    d.conv = (psg_conv){ .in = output, .in_sample = g->output_sample, .in_channel = g->output_channel, .out = image,
                         .out_sample = g->image_sample, .out_channel = g->image_channel, .bias = bias,
                         .samples = (size_t)g->samples, .groups = (size_t)g->groups,
                         .rows = (size_t)g->image_channels, .channels = (size_t)g->output_channels,
                         .weight_row = kernel, .weight_channel = kernel * g->image_channels };
    return run_direction(call, &d);
}
