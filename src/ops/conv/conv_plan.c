#include "ops/conv/conv_plan.h"

#include "base/shapes.h"

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

/* Position t reads t stride + k dilation - padding. */
static void gather_axis(const psg_conv_geometry *g, int a, psg_conv_part kernel, psg_conv_phase *phases,
                        psg_conv_axis *axis) {
    phases[0] = (psg_conv_phase){ .positions = (size_t)g->output[a], .taps = (size_t)kernel.count,
                                  .offset = kernel.first * g->dilation[a] - g->padding[a],
                                  .offset_step = g->dilation[a], .kernel_first = (size_t)kernel.first,
                                  .kernel_step = 1 };
    *axis = (psg_conv_axis){ .in_size = (size_t)g->image[a], .out_size = (size_t)g->output[a],
                             .in_step = (size_t)g->stride[a], .out_step = 1, .phase_count = 1, .phases = phases };
}

/* Element u = first + i stride of the image receives from t = (u + padding - k dilation) / stride where that is whole:
 * for every stride / gcd(stride, dilation)-th k.  So many neighbouring k are the first ones of as many phases. */
static void scatter_axis(const psg_conv_geometry *g, int a, psg_conv_part kernel, psg_conv_phase *phases,
                         psg_conv_axis *axis) {
    const int64_t s = g->stride[a], d = g->dilation[a], step = s / common_divisor(s, d);
    const int64_t count = smaller(s, g->image[a]), taps = kernel.count;
    for (int64_t first = 0; first < count; first++) {
        phases[first] = (psg_conv_phase){ .first = (size_t)first, .kernel_step = (size_t)step,
                                          .positions = (size_t)((g->image[a] - first + s - 1) / s),
                                          .offset_step = -(step * d / s) };
    }
    for (int64_t j = 0; j < smaller(step, taps); j++) {
        const int64_t k = kernel.first + j, from = k * d - g->padding[a], first = (from % s + s) % s;
        if (first >= count) continue;
        phases[first].taps = (size_t)((taps - 1 - j) / step + 1);
        phases[first].kernel_first = (size_t)k;
        phases[first].offset = (first - from) / s;
    }
    *axis = (psg_conv_axis){ .in_size = (size_t)g->output[a], .out_size = (size_t)g->image[a], .in_step = 1,
                             .out_step = (size_t)s, .phase_count = (size_t)count, .phases = phases };
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

static size_t taps_of(const psg_conv_part kernel[PSG_CONV_AXES]) {
    return (size_t)(kernel[0].count * kernel[1].count * kernel[2].count);
}

/* The channels of one of equal blocks: a panel of their windows stays in the cache next to the weights. */
static size_t even_channels(size_t channels, size_t taps) {
    const size_t terms = 2048, most = taps < terms ? terms / taps : 1, blocks = (channels + most - 1) / most;
    return blocks ? (channels + blocks - 1) / blocks : 1;
}

/* Boxes become flat before they become short: a row of positions is what vectors are made of.  A plane or a row more
 * than twice what its windows reach repeats little of the input; below that, fewer channels at a time cost less. */
static void choose_box(psg_conv *c, size_t taps, size_t size) {
    size_t box[PSG_CONV_AXES], channels = even_channels(c->channels, taps), reach[PSG_CONV_AXES];
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

/* What the kernel for planes of 3 x 3 taps may take: its boxes are not cut in columns. */
static bool has_planes(const psg_conv_plan *p) {
    const psg_conv_axis *rows = &p->conv.axis[1], *columns = &p->conv.axis[2];
    return p->kernel[1].count == 3 && p->kernel[2].count == 3 && rows->box == rows->positions &&
           columns->box == columns->positions;
}

/* Few samples are cut into smaller boxes, so that there is work for every worker. */
static void cut_boxes(psg_conv *c) {
    const size_t tasks = 8, few = 256;
    while (count_boxes(c) * c->samples * c->groups < tasks) {
        size_t positions = c->axis[0].box * c->axis[1].box * c->axis[2].box;
        int a = 0;
        while (a < PSG_CONV_AXES - 1 && c->axis[a].box == 1) a++;
        if (positions < few || (c->planes && a == PSG_CONV_AXES - 1)) return;
        c->axis[a].box = half(c->axis[a].box);
    }
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Positions of several small samples share panels, of which the last is seldom full.  Panels of whole rows of several
 * samples leave out taps at the border, which is worth some columns. */
static size_t share_panels(const psg_conv *c, size_t most, size_t size) {
    const size_t panel = 128 / size, row = c->axis[2].box, positions = c->axis[0].box * c->axis[1].box * row;
    const double whole_rows = 1.08;
    size_t best = 1;
    double use = 0;
    for (size_t n = 1; n <= most; n++) {
        size_t columns = n * positions;
        double full = (double)columns / (double)((columns + panel - 1) / panel * panel);
        if (n * row % panel == 0) full *= whole_rows;
        if (full > use + 0.02) {
            use = full;
            best = n;
        }
    }
    return best;
}

/* How many times the channels of a task can be staged at once: for several samples or groups. */
static size_t most_staged(const psg_conv *c, size_t size) {
    const size_t box[] = { c->axis[0].box, c->axis[1].box, c->axis[2].box };
    size_t n = 1;
    while (n < 16 && stage_fits(c, box, c->task_channels * (n + 1), size)) n++;
    return n;
}

static size_t parts_of(size_t count, size_t part) { return (count + part - 1) / part; }

size_t psg_conv_cut(psg_conv_plan *p, bool direct, bool sums) {
    psg_conv *c = &p->conv;
    const size_t size = psg_dtype_size(p->geometry->dtype), taps = taps_of(p->kernel), tasks = 16;
    choose_box(c, taps, size);
    c->planes = has_planes(p);
    if (!sums) cut_boxes(c);
    const size_t boxes = count_boxes(c), most = most_staged(c, size);
    c->task_samples = c->task_groups = 1;
    if (!direct) {
        c->task_samples = share_panels(c, least(most, 2 * c->samples / tasks), size);
    } else if (c->task_channels == c->channels) {
        const size_t results = PSG_CONV_PANEL_BYTES / (c->rows * (c->channels + 1) * taps * size);
        const size_t groups = least(least(most, results), c->samples * c->groups / (2 * tasks));
        c->task_groups = least(groups ? groups : 1, c->groups);
    }
    return boxes * parts_of(c->groups, c->task_groups) * parts_of(c->samples, c->task_samples);
}

/* ---- parts of the kernel ---- */

size_t psg_conv_phase_count(const psg_conv_plan *p) {
    size_t count = 0;
    for (int a = 0; a < PSG_CONV_AXES; a++) {
        count += p->scatter ? (size_t)smaller(p->geometry->stride[a], p->geometry->image[a]) : 1;
    }
    return count;
}

static void set_axes(psg_conv_plan *p) {
    psg_conv_phase *phases = p->phases;
    for (int a = 0; a < PSG_CONV_AXES; a++) {
        psg_conv_axis *axis = &p->conv.axis[a];
        if (p->scatter) scatter_axis(p->geometry, a, p->kernel[a], phases, axis);
        else gather_axis(p->geometry, a, p->kernel[a], phases, axis);
        find_range(axis);
        phases += axis->phase_count;
    }
}

/* What is to be made smaller: taps, or (few) the elements they reach over. */
static int64_t part_length(const psg_conv_plan *p, int a, bool few) {
    return few ? (p->kernel[a].count - 1) * p->geometry->dilation[a] : p->kernel[a].count;
}

/* The largest part of the kernel whose windows a task can hold for one position and channel. */
static void shrink_part(psg_conv_plan *p) {
    const size_t one[PSG_CONV_AXES] = { 1, 1, 1 }, size = psg_dtype_size(p->geometry->dtype);
    for (;;) {
        set_axes(p);
        bool few = taps_of(p->kernel) <= PSG_CONV_MAX_TAPS;
        if (few && stage_fits(&p->conv, one, 1, size)) return;
        int longest = 0;
        for (int a = 1; a < PSG_CONV_AXES; a++) {
            if (part_length(p, a, few) > part_length(p, longest, few)) longest = a;
        }
        if (p->kernel[longest].count == 1) return;
        p->kernel[longest].count = (int64_t)half((size_t)p->kernel[longest].count);
    }
}

void psg_conv_first_part(psg_conv_plan *p) {
    for (int a = 0; a < PSG_CONV_AXES; a++) p->kernel[a] = (psg_conv_part){ 0, p->geometry->kernel[a] };
    shrink_part(p);
    for (int a = 0; a < PSG_CONV_AXES; a++) p->length[a] = p->kernel[a].count;
}

bool psg_conv_next_part(psg_conv_plan *p) {
    bool more = false;
    for (int a = PSG_CONV_AXES - 1; a >= 0 && !more; a--) {
        int64_t first = p->kernel[a].first + p->length[a], rest = p->geometry->kernel[a] - first;
        more = rest > 0;
        p->kernel[a] = (psg_conv_part){ more ? first : 0, more ? smaller(p->length[a], rest) : p->length[a] };
    }
    if (more) set_axes(p);
    return more;
}
