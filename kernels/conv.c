/* Convolution as a matrix product whose right side is never stored whole.
 *
 * A task copies its part of the input into the workspace with the zeros of the padding around it ("stage").  There the
 * window of a position is a fixed pattern of offsets, the same for every position and channel, so LANES neighbouring
 * positions of one tap are one (unaligned) vector load.  Where rows of positions fill vectors well, the register tile
 * reads the stage itself; where rows are short, the windows of NR positions, which may lie in several rows and samples,
 * are packed into a panel first. */
#include "kernels.h"
#include "vector.h"

#define NV 2 /* vectors across a tile */
#if PSG_VECTOR_BYTES == 64
#define MR ((size_t)12)
#else
#define MR ((size_t)6)
#endif
#define NR (NV * LANES)
#define STEP (MR / 3) /* tiles have STEP, 2 STEP or MR rows */
#define AXES PSG_CONV_AXES

#define UNROLL _Pragma("GCC unroll 12")
#define INLINE static inline __attribute__((always_inline))

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* ---- weights ---- */

/* Panels of MR rows of one phase: [channel block][panel][channel][tap][MR]; zeros past the last row. */
static void pack_panel(const psg_conv *c, const psg_conv_phase *const phase[AXES], const real *from, size_t rows,
                       size_t channels, real *to) {
    for (size_t channel = 0; channel < channels; channel++, from += c->weight_channel) {
        for (size_t i = 0; i < phase[0]->taps; i++) {
            ptrdiff_t plane = (ptrdiff_t)(phase[0]->kernel_first + i * phase[0]->kernel_step) * c->weight_tap[0];
            for (size_t j = 0; j < phase[1]->taps; j++) {
                ptrdiff_t row = plane + (ptrdiff_t)(phase[1]->kernel_first + j * phase[1]->kernel_step) *
                                            c->weight_tap[1];
                for (size_t k = 0; k < phase[2]->taps; k++, to += MR) {
                    const real *w = from + row + (ptrdiff_t)(phase[2]->kernel_first + k * phase[2]->kernel_step) *
                                                     c->weight_tap[2];
                    for (size_t r = 0; r < MR; r++) to[r] = r < rows ? w[(ptrdiff_t)r * c->weight_row] : 0;
                }
            }
        }
    }
}

static size_t panels_of(const psg_conv *c) { return (c->rows + MR - 1) / MR; }

/* Walks the phases in the order of the packed weights. */
typedef struct phase_walk {
    const psg_conv *conv;
    size_t index[AXES];
    const psg_conv_phase *phase[AXES];
    size_t taps, packed;   /* taps of the phase; where its weights begin, within a group */
} phase_walk;

static bool phase_load(phase_walk *w) {
    w->taps = 1;
    for (int a = 0; a < AXES; a++) {
        w->phase[a] = &w->conv->axis[a].phases[w->index[a]];
        w->taps *= w->phase[a]->taps;
    }
    return true;
}

static bool phase_first(phase_walk *w, const psg_conv *conv) {
    *w = (phase_walk){ .conv = conv };
    return phase_load(w);
}

static bool phase_next(phase_walk *w) {
    w->packed += panels_of(w->conv) * MR * w->conv->channels * w->taps;
    for (int a = AXES - 1; a >= 0; a--) {
        if (++w->index[a] < w->conv->axis[a].phase_count) return phase_load(w);
        w->index[a] = 0;
    }
    return false;
}

static size_t group_packed(const psg_conv *c) {
    phase_walk w;
    bool more = phase_first(&w, c);
    while (more) more = phase_next(&w);
    return w.packed;
}

void PSG_KERNEL(conv_pack)(const psg_conv *c, size_t task) {
    size_t group = task / panels_of(c), panel = task % panels_of(c), rows = smaller(MR, c->rows - panel * MR);
    const real *weight = (const real *)c->weight + (ptrdiff_t)group * c->weight_group +
                         (ptrdiff_t)(panel * MR) * c->weight_row;
    real *packed = (real *)c->packed + group * group_packed(c);
    phase_walk w;
    for (bool more = phase_first(&w, c); more; more = phase_next(&w)) {
        for (size_t first = 0; first < c->channels; first += c->task_channels) {
            size_t channels = smaller(c->task_channels, c->channels - first);
            real *to = packed + w.packed + panels_of(c) * MR * first * w.taps + panel * MR * channels * w.taps;
            pack_panel(c, w.phase, weight + (ptrdiff_t)first * c->weight_channel, rows, channels, to);
        }
    }
}

size_t PSG_KERNEL(conv_pack_tasks)(const psg_conv *c) { return c->groups * panels_of(c); }

/* ---- the stage ---- */

/* One task: a box of positions of some samples of a group. */
typedef struct box {
    const psg_conv *conv;
    size_t sample, samples, group;
    size_t first[AXES], count[AXES];
    size_t channel, channels;          /* those being summed */
    psg_conv_stage stage;
    real *staged, *panel;
    int32_t *offsets;                  /* of the taps of a phase from a position's first element */
} box;

INLINE void fill_zero(real *to, size_t n) {
    for (size_t i = 0; i < n; i += LANES) vec_store_part(to + i, vec_zero(), smaller(LANES, n - i));
}

INLINE void copy_run(const real *from, real *to, size_t n) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vec_store(to + i, vec_load(from + i));
    if (i < n) vec_store_part(to + i, vec_load_part(from + i, n - i), n - i);
}

/* Elements [begin, end) of a row of count elements whose others are zeros; from is element begin. */
INLINE void stage_row(const real *from, size_t begin, size_t end, size_t count, real *to) {
    fill_zero(to, begin);
    copy_run(from, to + begin, end - begin);
    fill_zero(to + end, count - end);
}

static void stage_split_row(const real *from, size_t begin, size_t end, const psg_conv_stage *s, size_t step,
                            real *to) {
    for (size_t phase = 0; phase < s->split; phase++, to += s->width) {
        for (size_t i = 0, r = phase; i < s->width; i++, r += step) {
            to[i] = r >= begin && r < end ? from[r - begin] : 0;
        }
    }
}

/* Where elements [low, low + extent) of an axis lie inside an array of the given size: [begin, end) of them. */
INLINE void inside(ptrdiff_t low, size_t extent, size_t size, size_t *begin, size_t *end) {
    *begin = low < 0 ? smaller((size_t)-low, extent) : 0;
    ptrdiff_t rest = (ptrdiff_t)size - low;
    *end = rest < (ptrdiff_t)*begin ? *begin : smaller(extent, (size_t)rest);
}

static void stage_channel(const box *b, const real *in, real *to) {
    const psg_conv_axis *axis = b->conv->axis;
    const psg_conv_stage *s = &b->stage;
    ptrdiff_t low[AXES];
    size_t begin[AXES], end[AXES];
    for (int a = 0; a < AXES; a++) {
        low[a] = (ptrdiff_t)(b->first[a] * axis[a].in_step) + axis[a].low;
        inside(low[a], s->extent[a], axis[a].in_size, &begin[a], &end[a]);
    }
    for (size_t i = 0; i < s->extent[0]; i++) {
        for (size_t j = 0; j < s->extent[1]; j++, to += s->row) {
            if (i < begin[0] || i >= end[0] || j < begin[1] || j >= end[1]) {
                fill_zero(to, s->row);
                continue;
            }
            ptrdiff_t line = (low[0] + (ptrdiff_t)i) * (ptrdiff_t)axis[1].in_size + low[1] + (ptrdiff_t)j;
            const real *from = in + line * (ptrdiff_t)axis[2].in_size + low[2] + (ptrdiff_t)begin[2];
            if (axis[2].in_step == 1) stage_row(from, begin[2], end[2], s->row, to);
            else stage_split_row(from, begin[2], end[2], s, axis[2].in_step, to);
        }
    }
}

static void stage(const box *b) {
    const psg_conv *c = b->conv;
    const real *group = (const real *)c->in +
                        (ptrdiff_t)(b->group * c->channels + b->channel) * c->in_channel;
    for (size_t n = 0; n < b->samples; n++) {
        const real *in = group + (ptrdiff_t)(b->sample + n) * c->in_sample;
        real *to = b->staged + n * b->stage.sample;
        for (size_t k = 0; k < b->channels; k++, in += c->in_channel, to += b->stage.channel) stage_channel(b, in, to);
    }
}

/* The offset, in the stage, of each tap from the element that a position itself has there. */
static void find_offsets(const box *b, const psg_conv_phase *const phase[AXES]) {
    const psg_conv_axis *axis = b->conv->axis;
    size_t step = axis[2].in_step;
    int32_t *to = b->offsets;
    for (size_t i = 0; i < phase[0]->taps; i++) {
        size_t at0 = (size_t)(phase[0]->offset + (ptrdiff_t)i * phase[0]->offset_step - axis[0].low) * b->stage.plane;
        for (size_t j = 0; j < phase[1]->taps; j++) {
            size_t at1 = (size_t)(phase[1]->offset + (ptrdiff_t)j * phase[1]->offset_step - axis[1].low) *
                         b->stage.row;
            for (size_t k = 0; k < phase[2]->taps; k++) {
                size_t at2 = (size_t)(phase[2]->offset + (ptrdiff_t)k * phase[2]->offset_step - axis[2].low);
                *to++ = (int32_t)(at0 + at1 + at2 % step * b->stage.width + at2 / step);
            }
        }
    }
}

/* ---- runs of positions ---- */

/* count neighbouring positions: columns of a panel, elements of the stage and of the output. */
typedef struct run {
    size_t column, count;
    const real *from;
    real *to;
} run;

/* The positions of a phase in a box, row by row; a row takes `pitch` columns, of which those past its end are idle. */
typedef struct grid {
    size_t count[AXES], pitch, columns;
    const psg_conv_phase *const *phase;
    bool direct;                       /* every vector of a panel lies in one row */
} grid;

typedef struct panel_runs {
    size_t count;
    run run[NR];
    size_t width;                      /* columns in use, up to the last */
} panel_runs;

static const real *position_in_stage(const box *b, size_t n, size_t i, size_t j, size_t k) {
    const psg_conv_axis *axis = b->conv->axis;
    return b->staged + n * b->stage.sample + i * axis[0].in_step * b->stage.plane +
           j * axis[1].in_step * b->stage.row + k;
}

static real *position_in_out(const box *b, const grid *g, size_t n, const size_t at[AXES]) {
    const psg_conv *c = b->conv;
    size_t to = 0;
    for (int a = 0; a < AXES; a++) {
        to = to * c->axis[a].out_size + g->phase[a]->first + (b->first[a] + at[a]) * c->axis[a].out_step;
    }
    return (real *)c->out + (ptrdiff_t)(b->sample + n) * c->out_sample +
           (ptrdiff_t)(b->group * c->rows) * c->out_channel + (ptrdiff_t)to;
}

static void find_runs(const box *b, const grid *g, size_t column, panel_runs *runs) {
    size_t end = smaller(g->columns, column + NR), start = column;
    runs->count = 0;
    while (column < end) {
        size_t row = column / g->pitch, at[AXES] = { 0, 0, column % g->pitch };
        at[1] = row % g->count[1];
        at[0] = row / g->count[1] % g->count[0];
        size_t n = row / g->count[1] / g->count[0], room = smaller(end - column, g->pitch - at[2]);
        if (at[2] < g->count[2]) {
            run *r = &runs->run[runs->count++];
            r->column = column - start;
            r->count = smaller(room, g->count[2] - at[2]);
            r->from = position_in_stage(b, n, at[0], at[1], at[2]);
            r->to = position_in_out(b, g, n, at);
        }
        column += room;
    }
    runs->width = end - start;
}

/* The windows of the panel's positions, [channel][tap][NR].  Whole vectors are copied; what a run writes past its end
 * the next run, or the next row, overwrites. */
static void pack_windows(const box *b, const panel_runs *runs, size_t taps) {
    real *to = b->panel;
    for (size_t channel = 0; channel < b->channels; channel++) {
        for (size_t t = 0; t < taps; t++, to += NR) {
            ptrdiff_t offset = (ptrdiff_t)(channel * b->stage.channel) + b->offsets[t];
            for (size_t k = 0; k < runs->count; k++) {
                const run *r = &runs->run[k];
                for (size_t i = 0; i < r->count; i += LANES) {
                    vec_store(to + r->column + i, vec_load(r->from + offset + i));
                }
            }
        }
    }
}

/* ---- the register tile ---- */

typedef struct tile {
    vec v[MR][NV];
} tile;

INLINE tile zero_tile(size_t rows) {
    tile c;
    UNROLL for (size_t i = 0; i < rows; i++) {
        UNROLL for (size_t j = 0; j < NV; j++) c.v[i][j] = vec_zero();
    }
    return c;
}

INLINE void add_terms(size_t rows, tile *c, const real *weight, const vec row[NV]) {
    UNROLL for (size_t i = 0; i < rows; i++) {
        UNROLL for (size_t j = 0; j < NV; j++) c->v[i][j] += weight[i] * row[j];
    }
}

/* rows is a constant: MR, 2 STEP or STEP. */
INLINE tile sum_panel(size_t rows, size_t terms, const real *weight, const real *panel) {
    tile c = zero_tile(rows);
    for (size_t t = 0; t < terms; t++, weight += MR, panel += NR) {
        vec row[NV];
        UNROLL for (size_t j = 0; j < NV; j++) row[j] = *(const vec *)(const void *)(panel + j * LANES);
        add_terms(rows, &c, weight, row);
    }
    return c;
}

INLINE tile sum_stage(size_t rows, size_t channels, size_t channel_stride, size_t taps, const int32_t *offsets,
                      const real *weight, const real *const from[NV]) {
    tile c = zero_tile(rows);
    const real *base[NV];
    UNROLL for (size_t j = 0; j < NV; j++) base[j] = from[j];
    for (size_t channel = 0; channel < channels; channel++) {
        for (size_t t = 0; t < taps; t++, weight += MR) {
            vec row[NV];
            UNROLL for (size_t j = 0; j < NV; j++) row[j] = vec_load(base[j] + offsets[t]);
            add_terms(rows, &c, weight, row);
        }
        UNROLL for (size_t j = 0; j < NV; j++) base[j] += channel_stride;
    }
    return c;
}

/* ---- writing ---- */

/* Where a tile goes: rows of the panel's runs. */
typedef struct target {
    const panel_runs *runs;
    const real *bias;
    ptrdiff_t row;        /* from the group's first row */
    ptrdiff_t stride, step;
    size_t rows;          /* of the tile's that exist */
    bool add;
    real *whole;          /* all NR columns are neighbours here, or NULL */
} target;

INLINE void store_whole(size_t rows, const tile *c, const target *t) {
    real *to = t->whole + t->row * t->stride;
    UNROLL for (size_t i = 0; i < rows; i++, to += t->stride) {
        UNROLL for (size_t j = 0; j < NV; j++) {
            real *at = to + j * LANES;
            vec_store(at, t->add ? vec_load(at) + c->v[i][j] : c->v[i][j]);
        }
    }
}

INLINE void store_run(const real *from, real *to, size_t count, ptrdiff_t step, bool add) {
    if (step != 1) {
        for (size_t i = 0; i < count; i++, to += step) *to = add ? *to + from[i] : from[i];
        return;
    }
    for (size_t i = 0; i < count; i += LANES) {
        size_t part = smaller(LANES, count - i);
        vec v = vec_load_part(from + i, part);
        vec_store_part(to + i, add ? vec_load_part(to + i, part) + v : v, part);
    }
}

INLINE void store_runs(size_t rows, const tile *c, const target *t) {
    real buffer[MR * NR];
    UNROLL for (size_t i = 0; i < rows; i++) {
        UNROLL for (size_t j = 0; j < NV; j++) vec_store(buffer + i * NR + j * LANES, c->v[i][j]);
    }
    for (size_t i = 0; i < t->rows; i++) {
        for (size_t k = 0; k < t->runs->count; k++) {
            const run *r = &t->runs->run[k];
            store_run(buffer + i * NR + r->column, r->to + (t->row + (ptrdiff_t)i) * t->stride, r->count, t->step,
                      t->add);
        }
    }
}

INLINE void write_tile(size_t rows, tile *c, const target *t) {
    if (t->bias) {
        UNROLL for (size_t i = 0; i < rows; i++) {
            real bias = i < t->rows ? t->bias[t->row + (ptrdiff_t)i] : 0;
            UNROLL for (size_t j = 0; j < NV; j++) c->v[i][j] += bias;
        }
    }
    if (t->whole && t->rows == rows) store_whole(rows, c, t);
    else store_runs(rows, c, t);
}

/* ---- tasks ---- */

/* The panel's first vector of positions and the next ones; a vector that is all idle repeats the first. */
INLINE void vector_starts(const panel_runs *runs, const real *from[NV]) {
    for (size_t j = 0; j < NV; j++) from[j] = runs->run[0].from;
    for (size_t k = 0; k < runs->count; k++) {
        const run *r = &runs->run[k];
        for (size_t i = 0; i < r->count; i += LANES) from[(r->column + i) / LANES] = r->from + i;
    }
}

/* The output of all NR columns when they are neighbours there. */
static real *whole_panel(const panel_runs *runs, size_t step) {
    if (runs->width < NR || step != 1) return NULL;
    for (size_t k = 0; k + 1 < runs->count; k++) {
        const run *r = &runs->run[k];
        if (r->to + r->count != r[1].to || r->column + r->count != r[1].column) return NULL;
    }
    const run *last = &runs->run[runs->count - 1];
    return last->column + last->count == NR ? runs->run[0].to : NULL;
}

INLINE void sum_rows(const box *b, const grid *g, size_t rows, size_t taps, const real *weight,
                     const real *const from[NV], const target *t) {
    tile c = g->direct ? sum_stage(rows, b->channels, b->stage.channel, taps, b->offsets, weight, from)
                       : sum_panel(rows, b->channels * taps, weight, b->panel);
    write_tile(rows, &c, t);
}

static void sum_columns(const box *b, const grid *g, const panel_runs *runs, size_t taps, const real *weight) {
    const psg_conv *c = b->conv;
    const real *from[NV];
    target t = { .runs = runs, .stride = c->out_channel, .step = (ptrdiff_t)c->axis[2].out_step,
                 .add = c->accumulate || b->channel > 0, .whole = whole_panel(runs, c->axis[2].out_step) };
    if (c->bias && !t.add) t.bias = (const real *)c->bias + b->group * c->rows;
    if (g->direct) vector_starts(runs, from);
    else pack_windows(b, runs, taps);
    for (size_t row = 0; row < c->rows; row += MR, weight += MR * b->channels * taps) {
        t.row = (ptrdiff_t)row;
        t.rows = smaller(MR, c->rows - row);
        if (t.rows <= STEP) sum_rows(b, g, STEP, taps, weight, from, &t);
        else if (t.rows <= 2 * STEP) sum_rows(b, g, 2 * STEP, taps, weight, from, &t);
        else sum_rows(b, g, MR, taps, weight, from, &t);
    }
}

/* Reading the stage costs the idle columns, packing the copies: whole vectors, against NV FMAs a row. */
static grid grid_of(const box *b, const psg_conv_phase *const phase[AXES]) {
    grid g = { .phase = phase };
    size_t lines = b->samples;
    for (int a = 0; a < AXES; a++) {
        size_t end = smaller(b->first[a] + b->count[a], phase[a]->positions);
        g.count[a] = end > b->first[a] ? end - b->first[a] : 0;
        if (a < AXES - 1) lines *= g.count[a];
    }
    size_t row = g.count[2], vectors = (row + LANES - 1) / LANES, rows = b->conv->rows;
    g.direct = vectors * LANES * rows <= row * rows + vectors * NR;
    g.pitch = g.direct ? vectors * LANES : row;
    g.columns = lines * g.pitch;
    return g;
}

static void sum_phase(const box *b, const phase_walk *w, const real *packed) {
    const psg_conv *c = b->conv;
    grid g = grid_of(b, w->phase);
    panel_runs runs;
    find_offsets(b, w->phase);
    for (size_t column = 0; column < g.columns; column += NR) {
        find_runs(b, &g, column, &runs);
        sum_columns(b, &g, &runs, w->taps, packed + w->packed + panels_of(c) * MR * b->channel * w->taps);
    }
}

static box box_of(const psg_conv *c, size_t task, void *workspace) {
    box b = { .conv = c, .staged = workspace };
    for (int a = AXES - 1; a >= 0; a--) {
        const psg_conv_axis *x = &c->axis[a];
        b.first[a] = task % x->boxes * x->box;
        b.count[a] = smaller(x->box, x->positions - b.first[a]);
        task /= x->boxes;
    }
    b.group = task % c->groups;
    b.sample = task / c->groups * c->task_samples;
    b.samples = smaller(c->task_samples, c->samples - b.sample);
    b.panel = (real *)(void *)((char *)workspace + PSG_CONV_STAGE_BYTES);
    b.offsets = (int32_t *)(void *)((char *)workspace + PSG_CONV_STAGE_BYTES + PSG_CONV_PANEL_BYTES);
    return b;
}

void PSG_KERNEL(conv)(const psg_conv *c, size_t task, void *workspace) {
    box b = box_of(c, task, workspace);
    const real *packed = (const real *)c->packed + b.group * group_packed(c);
    do {
        b.channels = smaller(c->task_channels, c->channels - b.channel);
        b.stage = psg_conv_stage_of(c, b.count, b.channels);
        stage(&b);
        phase_walk w;
        for (bool more = phase_first(&w, c); more; more = phase_next(&w)) sum_phase(&b, &w, packed);
        b.channel += b.channels;
    } while (b.channel < c->channels);
}
