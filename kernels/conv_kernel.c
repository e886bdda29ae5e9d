/* Convolution as a matrix product whose right side is never stored whole.
 *
 * A task copies its part of the input into the workspace with the zeros of the padding around it ("stage").  There the
 * window of a position is a fixed pattern of offsets, the same for every position and channel, so LANES neighbouring
 * positions of one tap are one (unaligned) vector load.  Where rows of positions fill vectors well, the register tile
 * reads the stage itself; where rows are short, the windows of NR positions, which may lie in several rows and samples,
 * are packed into a panel first. */
#include "conv_stage.h"
#include "tile_shape.h"

static size_t panels_of(const psg_conv *c) { return (c->rows + MR - 1) / MR; }

/* ---- weights ---- */

/* Elements of the packed weights before a phase, within a group. */
static size_t packed_before(const phase_walk *w) {
    return panels_of(w->conv) * MR * w->conv->channels * w->taps_before;
}

/* Panels of MR rows: [phase][channel block][panel][channel][tap][MR]. */
static size_t group_packed(const psg_conv *c) {
    phase_walk w;
    bool more = phase_first(&w, c);
    while (more) more = phase_next(&w);
    return packed_before(&w);
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
            real *to = packed + packed_before(&w) + panels_of(c) * MR * first * w.taps + panel * MR * channels * w.taps;
            pack_taps(c, w.phase, weight + (ptrdiff_t)first * c->weight_channel, rows, MR, channels, to);
        }
    }
}

size_t PSG_KERNEL(conv_pack_tasks)(const psg_conv *c) { return c->groups * panels_of(c); }

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
    size_t tap, taps;                  /* the first tap that meets more than zeros of the padding, and how many */
} panel_runs;

/* Taps of one axis of a window that some position of the panel reads inside the array. */
typedef struct tap_range {
    size_t first, end;
} tap_range;

INLINE void widen_range(const box *b, const psg_conv_phase *phase, int axis, size_t position, tap_range *range) {
    const psg_conv_axis *x = &b->conv->axis[axis];
    const ptrdiff_t from = (ptrdiff_t)((b->first[axis] + position) * x->in_step) + phase->offset;
    const ptrdiff_t size = (ptrdiff_t)x->in_size;
    for (size_t j = 0; j < range->first; j++) {
        ptrdiff_t at = from + (ptrdiff_t)j * phase->offset_step;
        if (at >= 0 && at < size) range->first = j;
    }
    for (size_t j = phase->taps; j > range->end; j--) {
        ptrdiff_t at = from + (ptrdiff_t)(j - 1) * phase->offset_step;
        if (at >= 0 && at < size) range->end = j;
    }
}

/* Columns are ordered by position along the first axes, then by sample, so that a panel meets few rows: at the border
 * whole rows of taps are left out. */
static void find_runs(const box *b, const grid *g, size_t column, panel_runs *runs) {
    const int axis = g->phase[0]->taps == 1 ? 1 : 0;
    const size_t inner = g->phase[2]->taps * (axis == 0 ? g->phase[1]->taps : 1);
    size_t end = smaller(g->columns, column + NR), start = column;
    tap_range range = { g->phase[axis]->taps, 0 };
    runs->count = 0;
    while (column < end) {
        size_t row = column / g->pitch, at[AXES] = { 0, 0, column % g->pitch };
        size_t n = row % b->samples, room = smaller(end - column, g->pitch - at[2]);
        at[1] = row / b->samples % g->count[1];
        at[0] = row / b->samples / g->count[1];
        widen_range(b, g->phase[axis], axis, at[axis], &range);
        if (at[2] < g->count[2]) {
            run *r = &runs->run[runs->count++];
            r->column = column - start;
            r->count = smaller(room, g->count[2] - at[2]);
            r->from = b->staged + position_in_stage(b, n, at[0], at[1], at[2]);
            r->to = position_in_out(b, g->phase, n, at);
        }
        column += room;
    }
    runs->width = end - start;
    runs->tap = range.first * inner;
    runs->taps = range.end > range.first ? (range.end - range.first) * inner : 0;
}

/* The windows of the panel's positions, [channel][tap][NR]: each vector is put together from the runs that it meets. */
#if PSG_VECTOR_BYTES == 64

/* Lanes of a vector, from where lane 0 would be. */
typedef struct share {
    const real *from;
    uint32_t lanes;
} share;

typedef struct shares {
    size_t count;
    share share[NR];
} shares;

static shares shares_of(const panel_runs *runs, size_t first) {
    shares s = { .count = 0 };
    for (size_t k = 0; k < runs->count; k++) {
        const run *r = &runs->run[k];
        const size_t begin = r->column > first ? r->column : first, end = smaller(r->column + r->count, first + LANES);
        if (begin >= end) continue;
        const uint32_t lanes = (1u << (end - first)) - (1u << (begin - first));
        const real *from = (const real *)((uintptr_t)r->from + (first - r->column) * sizeof(real));
        s.share[s.count++] = (share){ from, lanes };
    }
    return s;
}

INLINE vec load_shares(const shares *s, ptrdiff_t offset) {
    vec v = vec_zero();
    for (size_t k = 0; k < s->count; k++) {
        const real *from = (const real *)((uintptr_t)s->share[k].from + (size_t)offset * sizeof(real));
#if PSG_REAL_IS_F64
        v = (vec)_mm512_mask_loadu_pd((__m512d)v, (__mmask8)s->share[k].lanes, from);
#else
        v = (vec)_mm512_mask_loadu_ps((__m512)v, (__mmask16)s->share[k].lanes, from);
#endif
    }
    return v;
}

static void pack_windows(const box *b, const panel_runs *runs) {
    const shares left = shares_of(runs, 0), right = shares_of(runs, LANES);
    real *to = panel_of(b);
    for (size_t channel = 0; channel < b->channels; channel++) {
        for (size_t t = runs->tap; t < runs->tap + runs->taps; t++, to += NR) {
            const ptrdiff_t offset = (ptrdiff_t)(channel * b->stage.channel) + b->offsets[t];
            vec_store(to, load_shares(&left, offset));
            vec_store(to + LANES, load_shares(&right, offset));
        }
    }
}

#else

/* Whole vectors are copied; what a run writes past its end the next run, or the next row, overwrites. */
static void pack_windows(const box *b, const panel_runs *runs) {
    real *to = panel_of(b);
    for (size_t channel = 0; channel < b->channels; channel++) {
        for (size_t t = runs->tap; t < runs->tap + runs->taps; t++, to += NR) {
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

#endif

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
        UNROLL for (size_t j = 0; j < NV; j++) c->v[i][j] = vec_add_product(c->v[i][j], vec_set(weight[i]), row[j]);
    }
}

/* What a tile sums: of each channel the taps [first, end); the others meet zeros of the padding. */
typedef struct terms {
    size_t channels, taps, first, end;
    const real *weight;            /* [channel][tap][MR] */
    const real *panel;             /* [channel][tap from first on][NR], or NULL: the stage */
    const real *from[NV];          /* the stage: where vectors begin */
    const int32_t *offsets;
    size_t channel_stride;
    size_t chain_channels;         /* of a chain: whole ones of at most CHAIN terms together, or one with more */
} terms;

/* Some of them: channels [channel, channel_end), taps [tap, tap_end). */
typedef struct part {
    size_t channel, channel_end, tap, tap_end;
} part;

INLINE tile add_panel(size_t rows, const terms *s, const part *p) {
    tile c = zero_tile(rows);
    const size_t width = s->end - s->first, joined = width == s->taps ? p->channel_end - p->channel : 1;
    const size_t count = joined == 1 ? p->tap_end - p->tap : joined * width;
    for (size_t channel = p->channel; channel < p->channel_end; channel += joined) {
        const real *weight = s->weight + (channel * s->taps + p->tap) * MR;
        const real *panel = s->panel + (channel * width + p->tap - s->first) * NR;
        for (size_t t = 0; t < count; t++, weight += MR, panel += NR) {
            vec row[NV];
            UNROLL for (size_t j = 0; j < NV; j++) row[j] = *(const vec *)(const void *)(panel + j * LANES);
            add_terms(rows, &c, weight, row);
        }
    }
    return c;
}

INLINE tile add_stage(size_t rows, const terms *s, const part *p) {
    tile c = zero_tile(rows);
    const real *base[NV];
    UNROLL for (size_t j = 0; j < NV; j++) base[j] = s->from[j] + p->channel * s->channel_stride;
    for (size_t channel = p->channel; channel < p->channel_end; channel++) {
        const real *weight = s->weight + (channel * s->taps + p->tap) * MR;
        for (size_t t = p->tap; t < p->tap_end; t++, weight += MR) {
            vec row[NV];
            UNROLL for (size_t j = 0; j < NV; j++) row[j] = vec_load(base[j] + s->offsets[t]);
            add_terms(rows, &c, weight, row);
        }
        UNROLL for (size_t j = 0; j < NV; j++) base[j] += s->channel_stride;
    }
    return c;
}

/* The next chain: the next channels', or the next CHAIN taps of a channel with more.  Which taps are left out, as the
 * panel's other positions may decide, moves no chain's ends. */
INLINE bool next_part(const terms *s, part *p) {
    if (p->tap_end >= s->end) {
        p->channel = p->channel_end;
        p->channel_end = smaller(s->channels, p->channel + s->chain_channels);
        p->tap_end = s->first;
    }
    p->tap = p->tap_end;
    p->tap_end = smaller(s->end, s->taps <= CHAIN ? s->taps : (p->tap / CHAIN + 1) * CHAIN);
    return p->channel < s->channels;
}

/* rows is a constant: MR, 2 STEP or STEP.  The total of the chains so far waits in the first cache level. */
INLINE tile sum_terms(size_t rows, const terms *s) {
    _Alignas(PSG_VECTOR_BYTES) real total[MR * NR];
    part p = { .tap_end = s->end };
    tile c = zero_tile(rows);
    for (bool first = true; next_part(s, &p); first = false) {
        if (!first) {
            UNROLL for (size_t i = 0; i < rows; i++) {
                UNROLL for (size_t j = 0; j < NV; j++) vec_store(total + i * NR + j * LANES, c.v[i][j]);
            }
        }
        c = s->panel ? add_panel(rows, s, &p) : add_stage(rows, s, &p);
        if (first) continue;
        UNROLL for (size_t i = 0; i < rows; i++) {
            UNROLL for (size_t j = 0; j < NV; j++) c.v[i][j] = vec_load(total + i * NR + j * LANES) + c.v[i][j];
        }
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

INLINE void sum_rows(size_t rows, const terms *s, const target *t) {
    tile c = sum_terms(rows, s);
    write_tile(rows, &c, t);
}

static terms terms_of(const box *b, const grid *g, const panel_runs *runs, size_t taps, const real *weight) {
    terms s = { .channels = b->channels, .taps = taps, .first = runs->tap, .end = runs->tap + runs->taps,
                .weight = weight, .chain_channels = taps > 0 && taps < CHAIN ? CHAIN / taps : 1 };
    if (g->direct) {
        vector_starts(runs, s.from);
        s.offsets = b->offsets;
        s.channel_stride = b->stage.channel;
    } else {
        pack_windows(b, runs);
        s.panel = panel_of(b);
    }
    return s;
}

static void sum_columns(const box *b, const grid *g, const panel_runs *runs, size_t taps, const real *weight) {
    const psg_conv *c = b->conv;
    terms s = terms_of(b, g, runs, taps, weight);
    target t = { .runs = runs, .stride = c->out_channel, .step = (ptrdiff_t)c->axis[2].out_step,
                 .add = c->accumulate || b->channel > 0, .whole = whole_panel(runs, c->axis[2].out_step) };
    if (c->bias && !t.add) t.bias = (const real *)c->bias + b->group * c->rows;
    for (size_t row = 0; row < c->rows; row += MR, s.weight += MR * b->channels * taps) {
        t.row = (ptrdiff_t)row;
        t.rows = smaller(MR, c->rows - row);
        if (t.rows <= STEP) sum_rows(STEP, &s, &t);
        else if (t.rows <= 2 * STEP) sum_rows(2 * STEP, &s, &t);
        else sum_rows(MR, &s, &t);
    }
}

/* Reading the stage costs the idle columns, packing the copies: whole vectors, against NV FMAs a row. */
static grid grid_of(const box *b, const psg_conv_phase *const phase[AXES]) {
    grid g = { .phase = phase };
    size_t lines = b->samples;
    count_positions(b, phase, g.count);
    for (int a = 0; a < AXES - 1; a++) lines *= g.count[a];
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
        sum_columns(b, &g, &runs, w->taps, packed + packed_before(w) + panels_of(c) * MR * b->channel * w->taps);
    }
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
