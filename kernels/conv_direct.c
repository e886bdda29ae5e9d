/* Convolution of groups of few channels, where a register tile of channels would be mostly empty: LANES positions of
 * several rows at a time, a weight a tap in all lanes; and the weight gradients of single samples, which are sums over
 * positions. */
#include "conv_planes.h"

#define LINES 8 /* rows of positions at a time */

/* ---- values ---- */

/* What one output channel of a phase is made of. */
typedef struct lines {
    const box *box;
    const psg_conv_phase *const *phase;
    size_t taps;
    const real *weight;    /* [channel][tap] */
    real bias;
    bool add;
    const real *staged;    /* the group's first channel */
    ptrdiff_t row;         /* the output channel, from that of the box's first group on */
} lines;

/* The next term of a walk over channels and their taps. */
typedef struct term {
    const real *weight, *from;
    size_t tap;
} term;

/* sum[r] += the next n terms of LANES positions of count rows, `line` elements apart in the stage.  Every third row has
 * a base of its own: an address a row would be more than there are registers. */
INLINE void add_terms(const lines *l, size_t count, size_t n, size_t line, term *at, vec sum[LINES]) {
    const size_t step[] = { 0, line, 2 * line }, third[] = { 0, 3 * line, 6 * line };
    for (; n > 0; n--) {
        const real *from = at->from + l->box->offsets[at->tap], *base[3];
        UNROLL for (size_t r = 0; r < 3; r++) base[r] = from + third[r];
        vec w = vec_set(*at->weight++);
        UNROLL for (size_t r = 0; r < count; r++) sum[r] += w * vec_load(base[r / 3] + step[r % 3]);
        if (++at->tap < l->taps) continue;
        at->tap = 0;
        at->from += l->box->stage.channel;
    }
}

/* The bias and all terms, in chains of at most CHAIN. */
INLINE void sum_lines(const lines *l, size_t count, const real *from, size_t line, vec sum[LINES]) {
    term at = { .weight = l->weight, .from = from };
    size_t terms = l->box->channels * l->taps, chain = smaller(CHAIN, terms);
    UNROLL for (size_t r = 0; r < count; r++) sum[r] = vec_set(l->bias);
    add_terms(l, count, chain, line, &at, sum);
    for (terms -= chain; terms > 0; terms -= chain) {
        vec next[LINES];
        chain = smaller(CHAIN, terms);
        UNROLL for (size_t r = 0; r < count; r++) next[r] = vec_zero();
        add_terms(l, count, chain, line, &at, next);
        UNROLL for (size_t r = 0; r < count; r++) sum[r] += next[r];
    }
}

/* count rows (a constant) from at on, all their columns. */
INLINE void write_lines(const lines *l, size_t count, const size_t at[AXES], size_t columns) {
    const psg_conv *c = l->box->conv;
    const ptrdiff_t step = (ptrdiff_t)c->axis[2].out_step;
    const size_t out_line = c->axis[1].out_step * c->axis[2].out_size;
    const size_t line = c->axis[1].in_step * l->box->stage.row;
    const real *from = l->staged + position_in_stage(l->box, 0, at[0], at[1], 0);
    real *to = position_in_out(l->box, l->phase, 0, at) + l->row * c->out_channel;
    for (size_t k = 0; k < columns; k += LANES) {
        vec sum[LINES];
        size_t part = smaller(LANES, columns - k);
        sum_lines(l, count, from + k, line, sum);
        UNROLL for (size_t r = 0; r < count; r++) {
            real *out = to + r * out_line + (ptrdiff_t)k * step;
            if (step == 1) {
                vec_store_part(out, l->add ? vec_load_part(out, part) + sum[r] : sum[r], part);
            } else {
                real buffer[LANES];
                vec_store(buffer, sum[r]);
                store_run(buffer, out, part, step, l->add);
            }
        }
    }
}

/* count <= LINES as a constant. */
INLINE void write_some(const lines *l, size_t count, const size_t at[AXES], size_t columns) {
    switch (count) {
    case 8: write_lines(l, 8, at, columns); break;
    case 7: write_lines(l, 7, at, columns); break;
    case 6: write_lines(l, 6, at, columns); break;
    case 5: write_lines(l, 5, at, columns); break;
    case 4: write_lines(l, 4, at, columns); break;
    case 3: write_lines(l, 3, at, columns); break;
    case 2: write_lines(l, 2, at, columns); break;
    default: write_lines(l, 1, at, columns);
    }
}

/* Rows in equal parts: one row alone waits for each of its sums. */
static void write_planes(const lines *l, const size_t count[AXES]) {
    const size_t parts = (count[1] + LINES - 1) / LINES, part = parts ? (count[1] + parts - 1) / parts : 0;
    for (size_t i = 0; i < count[0]; i++) {
        for (size_t j = 0; j < count[1]; j += part) {
            write_some(l, smaller(part, count[1] - j), (const size_t[AXES]){ i, j, 0 }, count[2]);
        }
    }
}

static void write_phase(const box *b, const phase_walk *w) {
    const psg_conv *c = b->conv;
    size_t count[AXES];
    count_positions(b, w->phase, count);
    find_offsets(b, w->phase);
    lines l = { .box = b, .phase = w->phase, .taps = w->taps, .weight = panel_of(b),
                .add = c->accumulate || b->channel > 0 };
    for (size_t k = 0; k < b->groups; k++) {
        const real *weight = (const real *)c->weight + (ptrdiff_t)(b->group + k) * c->weight_group +
                             (ptrdiff_t)b->channel * c->weight_channel;
        l.staged = b->staged + k * b->channels * b->stage.channel;
        for (size_t row = k * c->rows; row < (k + 1) * c->rows; row++, weight += c->weight_row) {
            pack_taps(c, w->phase, weight, 1, 1, b->channels, panel_of(b));
            l.bias = c->bias && !l.add ? ((const real *)c->bias)[b->group * c->rows + row] : 0;
            l.row = (ptrdiff_t)row;
            write_planes(&l, count);
        }
    }
}

/* ---- values of planes ---- */

/* The rows of the box. */
static plane plane_of(const box *b, size_t channel) {
    const psg_conv_axis *rows = &b->conv->axis[1], *columns = &b->conv->axis[2];
    return (plane){ .in = (const real *)b->conv->in + (ptrdiff_t)b->sample * b->conv->in_sample +
                          (ptrdiff_t)channel * b->conv->in_channel,
                    .in_rows = rows->in_size, .in_columns = columns->in_size, .out_rows = b->count[1],
                    .out_columns = columns->out_size, .row = rows->low + (ptrdiff_t)b->first[1],
                    .column = columns->low };
}

static real *out_plane(const box *b, size_t row) {
    const psg_conv *c = b->conv;
    return (real *)c->out + (ptrdiff_t)b->sample * c->out_sample + (ptrdiff_t)row * c->out_channel +
           (ptrdiff_t)(b->first[1] * c->axis[2].out_size);
}

/* Nine taps in the order of the input; a scatter goes through them backwards. */
static void plane_weights(const psg_conv *c, const real *from, real to[9]) {
    const bool back[2] = { c->axis[1].phases[0].offset_step < 0, c->axis[2].phases[0].offset_step < 0 };
    for (ptrdiff_t i = 0; i < 3; i++) {
        for (ptrdiff_t j = 0; j < 3; j++) {
            to[3 * i + j] = from[(back[0] ? 2 - i : i) * c->weight_tap[1] + (back[1] ? 2 - j : j)];
        }
    }
}

static void write_group_planes(const box *b, size_t group) {
    const psg_conv *c = b->conv;
    for (size_t row = 0; row < c->rows; row++) {
        const real bias = c->bias ? ((const real *)c->bias)[group * c->rows + row] : 0;
        for (size_t channel = 0; channel < c->channels; channel++) {
            real weight[9];
            const plane p = plane_of(b, group * c->channels + channel);
            plane_weights(c, (const real *)c->weight + (ptrdiff_t)group * c->weight_group +
                                 (ptrdiff_t)row * c->weight_row + (ptrdiff_t)channel * c->weight_channel, weight);
            write_plane(&p, weight, channel ? 0 : bias, channel > 0, out_plane(b, group * c->rows + row));
        }
    }
}

void PSG_KERNEL(conv_direct)(const psg_conv *c, size_t task, void *workspace) {
    box b = box_of(c, task, workspace);
    if (planes_fit(c) && c->channels > 0 && c->channels <= CHAIN) {
        for (size_t k = 0; k < b.groups; k++) write_group_planes(&b, b.group + k);
        return;
    }
    do {
        b.channels = smaller(c->task_channels, c->channels - b.channel);
        b.stage = psg_conv_stage_of(c, b.count, b.channels);
        stage(&b);
        phase_walk w;
        for (bool more = phase_first(&w, c); more; more = phase_next(&w)) write_phase(&b, &w);
        b.channel += b.channels;
    } while (b.channel < c->channels);
}

/* ---- weight gradients ---- */

/* An output channel and a staged input channel, from the first of the box. */
typedef struct pair {
    const box *box;
    const psg_conv_phase *const *phase;
    const size_t *size;     /* positions of the box */
    size_t row, channel;
} pair;

/* One row of positions: sum[t] += grad * what tap t reads there.  Lanes past the end are cleared on both sides, since
 * what lies there may be infinite. */
INLINE void correlate_row(const real *grad, const real *x, size_t columns, vec_bits last, const int32_t *offsets,
                          size_t count, vec *sum) {
    size_t k = 0;
    for (; k + LANES <= columns; k += LANES) {
        vec g = vec_load(grad + k);
        UNROLL for (size_t t = 0; t < count; t++) sum[t] = vec_add_product(sum[t], g, vec_load(x + k + offsets[t]));
    }
    if (k == columns) return;
    vec g = vec_load_part(grad + k, columns - k);
    UNROLL for (size_t t = 0; t < count; t++) {
        sum[t] = vec_add_product(sum[t], g, (vec)(last & (vec_bits)vec_load(x + k + offsets[t])));
    }
}

/* A plane of positions: total[t] += grad * what tap t reads there, `count` (a constant) taps.  Rows, or pieces of long
 * ones, are summed in the real type until a lane has CHAIN terms, and then in double. */
INLINE void correlate_positions(const pair *p, const real *grad, const real *x, vec_bits last, const int32_t *offsets,
                                size_t count, dvec *total) {
    const psg_conv *c = p->box->conv;
    const size_t x_row = c->axis[1].in_step * p->box->stage.row, grad_row = c->axis[2].out_size;
    const size_t columns = p->size[2], piece = smaller(CHAIN * LANES, columns);
    for (size_t k = 0; k < columns; k += piece) {
        const size_t part = smaller(piece, columns - k), rows = CHAIN / ((part + LANES - 1) / LANES);
        for (size_t first = 0; first < p->size[1]; first += rows) {
            vec sum[9];
            UNROLL for (size_t t = 0; t < count; t++) sum[t] = vec_zero();
            for (size_t j = first; j < smaller(p->size[1], first + rows); j++) {
                correlate_row(grad + j * grad_row + k, x + j * x_row + k, part, last, offsets, count, sum);
            }
            UNROLL for (size_t t = 0; t < count; t++) total[t] = dvec_add(total[t], sum[t]);
        }
    }
}

/* One pair of channels: out[t] += sum over positions of grad * what tap t reads there, `count` (a constant) taps. */
INLINE void correlate(const pair *p, const int32_t *offsets, size_t count, real *out) {
    const box *b = p->box;
    const size_t rest = p->size[2] % LANES;
    vec_bits last;
    dvec total[9];
    for (size_t k = 0; k < LANES; k++) last[k] = k < rest ? -1 : 0;
    UNROLL for (size_t t = 0; t < count; t++) total[t] = (dvec){ 0 };
    for (size_t i = 0; i < p->size[0]; i++) {
        const real *grad = position_in_out(b, p->phase, 0, (const size_t[AXES]){ i, 0, 0 }) +
                           (ptrdiff_t)p->row * b->conv->out_channel;
        const real *x = b->staged + position_in_stage(b, 0, i, 0, 0) + p->channel * b->stage.channel;
        correlate_positions(p, grad, x, last, offsets, count, total);
    }
    UNROLL for (size_t t = 0; t < count; t++) out[t] += (real)dvec_sum(total[t]);
}

static void correlate_taps(const pair *p, size_t taps, real *out) {
    for (size_t t = 0; t < taps;) {
        const size_t rest = taps - t;
        const int32_t *offsets = p->box->offsets + t;
        if (rest >= 9) correlate(p, offsets, 9, out + t);
        else if (rest >= 4) correlate(p, offsets, 4, out + t);
        else correlate(p, offsets, 1, out + t);
        t += rest >= 9 ? 9 : rest >= 4 ? 4 : 1;
    }
}

/* Sums in the order of taps go to their places in the weight. */
static void place_taps(const psg_conv *c, const psg_conv_phase *const phase[AXES], const real *sums, real *out) {
    for (size_t i = 0; i < phase[0]->taps; i++) {
        for (size_t j = 0; j < phase[1]->taps; j++) {
            ptrdiff_t at = (ptrdiff_t)(phase[0]->kernel_first + i) * c->weight_tap[0] +
                           (ptrdiff_t)(phase[1]->kernel_first + j) * c->weight_tap[1] +
                           (ptrdiff_t)phase[2]->kernel_first;
            for (size_t k = 0; k < phase[2]->taps; k++) out[at + (ptrdiff_t)k] = *sums++;
        }
    }
}

/* Adds a staged box to sums [group][row][channel][tap], which begin from zero. */
static void correlate_box(const box *b, const phase_walk *w, bool first, real *sums) {
    size_t size[AXES];
    pair p = { .box = b, .phase = w->phase, .size = size };
    count_positions(b, w->phase, size);
    find_offsets(b, w->phase);
    if (first) memset(sums, 0, b->groups * b->conv->rows * b->channels * w->taps * sizeof(real));
    for (p.row = 0; p.row < b->groups * b->conv->rows; p.row++) {
        const size_t channel = p.row / b->conv->rows * b->channels;
        for (p.channel = channel; p.channel < channel + b->channels; p.channel++, sums += w->taps) {
            correlate_taps(&p, w->taps, sums);
        }
    }
}

static void place_sums(const box *b, const phase_walk *w, const real *sums, real *out) {
    const psg_conv *c = b->conv;
    real *weight = out + (ptrdiff_t)(b->sample * c->groups + b->group) * c->weight_group;
    for (size_t k = 0; k < b->groups; k++, weight += c->weight_group) {
        for (size_t row = 0; row < c->rows; row++) {
            real *to = weight + (ptrdiff_t)row * c->weight_row + (ptrdiff_t)b->channel * c->weight_channel;
            for (size_t i = 0; i < b->channels; i++, sums += w->taps, to += c->weight_channel) {
                place_taps(c, w->phase, sums, to);
            }
        }
    }
}

static void correlate_group_planes(const box *b, size_t group, real *out) {
    const psg_conv *c = b->conv;
    for (size_t row = 0; row < c->rows; row++) {
        for (size_t channel = 0; channel < c->channels; channel++) {
            const plane p = plane_of(b, group * c->channels + channel);
            correlate_plane(&p, out_plane(b, group * c->rows + row),
                            out + (ptrdiff_t)row * c->weight_row + (ptrdiff_t)channel * c->weight_channel);
        }
    }
}

/* All boxes of some groups of a sample, one after the other. */
void PSG_KERNEL(conv_weight_gradient)(const psg_conv *c, size_t task, void *out, void *workspace) {
    const box all = box_of(c, task, workspace);
    if (planes_fit(c)) {
        for (size_t k = all.group; k < all.group + all.groups; k++) {
            correlate_group_planes(&all, k, (real *)out + (ptrdiff_t)(all.sample * c->groups + k) * c->weight_group);
        }
        return;
    }
    const size_t boxes = c->axis[0].boxes * c->axis[1].boxes * c->axis[2].boxes;
    phase_walk w;
    phase_first(&w, c);
    for (size_t first = 0; first < c->channels; first += c->task_channels) {
        for (size_t k = 0; k < boxes; k++) {
            box b = box_of(c, task * boxes + k, workspace);
            b.channel = first;
            b.channels = smaller(c->task_channels, c->channels - first);
            b.stage = psg_conv_stage_of(c, b.count, b.channels);
            stage(&b);
            correlate_box(&b, &w, k == 0, panel_of(&b));
            if (k + 1 == boxes) place_sums(&b, &w, panel_of(&b), out);
        }
    }
}
