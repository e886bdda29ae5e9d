/* What the convolution kernels share: phases, a task's box of positions, and the part of the input it copies. */
#ifndef PSG_KERNELS_CONV_STAGE_H
#define PSG_KERNELS_CONV_STAGE_H

#include "kernels.h"
#include "vector.h"

#define AXES PSG_CONV_AXES
#define CHAIN ((size_t)128) /* terms that are added one after the other in the real type; then such sums are */

#define UNROLL _Pragma("GCC unroll 12")
#define INLINE static inline __attribute__((always_inline))

static inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* ---- phases ---- */

/* Walks the phases the last axis fastest. */
typedef struct phase_walk {
    const psg_conv *conv;
    size_t index[AXES];
    const psg_conv_phase *phase[AXES];
    size_t taps, taps_before;   /* of the phase; of the phases before it */
} phase_walk;

static inline bool phase_load(phase_walk *w) {
    w->taps = 1;
    for (int a = 0; a < AXES; a++) {
        w->phase[a] = &w->conv->axis[a].phases[w->index[a]];
        w->taps *= w->phase[a]->taps;
    }
    return true;
}

static inline bool phase_first(phase_walk *w, const psg_conv *conv) {
    *w = (phase_walk){ .conv = conv };
    return phase_load(w);
}

static inline bool phase_next(phase_walk *w) {
    w->taps_before += w->taps;
    for (int a = AXES - 1; a >= 0; a--) {
        if (++w->index[a] < w->conv->axis[a].phase_count) return phase_load(w);
        w->index[a] = 0;
    }
    return false;
}

/* ---- weights ---- */

/* The weights of `rows` output channels from `from` on at the taps of a phase: [channel][tap][grain], zeros past the
 * last row. */
INLINE void pack_taps(const psg_conv *c, const psg_conv_phase *const phase[AXES], const real *from, size_t rows,
                      size_t grain, size_t channels, real *to) {
    for (size_t channel = 0; channel < channels; channel++, from += c->weight_channel) {
        for (size_t i = 0; i < phase[0]->taps; i++) {
            ptrdiff_t plane = (ptrdiff_t)(phase[0]->kernel_first + i * phase[0]->kernel_step) * c->weight_tap[0];
            for (size_t j = 0; j < phase[1]->taps; j++) {
                ptrdiff_t row = plane + (ptrdiff_t)(phase[1]->kernel_first + j * phase[1]->kernel_step) *
                                            c->weight_tap[1];
                for (size_t k = 0; k < phase[2]->taps; k++, to += grain) {
                    const real *w = from + row + (ptrdiff_t)(phase[2]->kernel_first + k * phase[2]->kernel_step) *
                                                     c->weight_tap[2];
                    for (size_t r = 0; r < grain; r++) to[r] = r < rows ? w[(ptrdiff_t)r * c->weight_row] : 0;
                }
            }
        }
    }
}

/* ---- the stage ---- */

/* One task: a box of positions of some samples and groups. */
typedef struct box {
    const psg_conv *conv;
    size_t sample, samples, group, groups;
    size_t first[AXES], count[AXES];
    size_t channel, channels;          /* those being summed */
    psg_conv_stage stage;
    void *workspace;
    real *staged;
    int32_t *offsets;                  /* of the taps of a phase from a position's first element */
} box;

/* Lanes [begin, end) of what lies at p, which need not exist outside them; the others are 0. */
INLINE vec load_between(const real *p, size_t begin, size_t end) {
#if PSG_VECTOR_BYTES == 64 && PSG_REAL_IS_F64
    return (vec)_mm512_maskz_loadu_pd((__mmask8)((1u << end) - (1u << begin)), p);
#elif PSG_VECTOR_BYTES == 64
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << end) - (1u << begin)), p);
#else
    vec v = { 0 };
    for (size_t k = 0; k < LANES; k++) {
        if (k >= begin && k < end) v[k] = p[k];
    }
    return v;
#endif
}

/* What a box reads along one axis: elements low, low + 1, ..., of which [begin, end) lie inside the array. */
typedef struct span {
    ptrdiff_t low;
    size_t begin, end;
} span;

static inline span span_of(const box *b, int axis) {
    const psg_conv_axis *x = &b->conv->axis[axis];
    const size_t extent = b->stage.extent[axis];
    span s = { .low = (ptrdiff_t)(b->first[axis] * x->in_step) + x->low };
    const ptrdiff_t rest = (ptrdiff_t)x->in_size - s.low;
    s.begin = s.low < 0 ? smaller((size_t)-s.low, extent) : 0;
    s.end = rest < (ptrdiff_t)s.begin ? s.begin : smaller(extent, (size_t)rest);
    return s;
}

/* Elements at, ..., at + LANES - 1 of a row, zeros outside the span; from is the row's element begin. */
INLINE vec load_span(const real *from, const span *s, size_t at) {
    const size_t low = s->begin < at ? 0 : smaller(s->begin - at, LANES);
    const size_t high = s->end < at ? 0 : smaller(s->end - at, LANES);
    if (low == 0 && high == LANES) return vec_load(from + (at - s->begin));
    return load_between((const real *)((uintptr_t)from + (at - s->begin) * sizeof(real)), low, high < low ? low : high);
}

/* Rows are written by whole vectors: what goes past the end the next row, or nobody, overwrites. */
INLINE void zero_row(size_t count, real *to) {
    for (size_t i = 0; i < count; i += LANES) vec_store(to + i, vec_zero());
}

INLINE void stage_row(const real *from, const span *s, size_t count, real *to) {
    for (size_t i = 0; i < count; i += LANES) vec_store(to + i, load_span(from, s, i));
}

/* The even elements, then the odd ones. */
INLINE void stage_halves(const real *from, const span *s, const psg_conv_stage *stage, real *to) {
    for (size_t i = 0; i < stage->width; i += LANES) {
        const vec a = load_span(from, s, 2 * i), b = load_span(from, s, 2 * i + LANES);
        const vec even = vec_even(a, b), odd = vec_odd(a, b);
        const size_t part = smaller(LANES, stage->width - i);
        vec_store_part(to + i, even, part);
        if (stage->split == 2) vec_store_part(to + stage->width + i, odd, part);
    }
}

static inline void stage_parts(const real *from, const span *s, const psg_conv_stage *stage, size_t step, real *to) {
    for (size_t phase = 0; phase < stage->split; phase++, to += stage->width) {
        for (size_t i = 0, r = phase; i < stage->width; i++, r += step) {
            to[i] = r >= s->begin && r < s->end ? from[r - s->begin] : 0;
        }
    }
}

/* Rows of one vector, all with the same lanes. */
INLINE void stage_narrow_plane(const real *from, size_t line, const span s[AXES], size_t rows, size_t row, real *to) {
    const span *columns = &s[2];
    const real *at = (const real *)((uintptr_t)from - columns->begin * sizeof(real));
    size_t j = 0;
    for (; j < s[1].begin; j++, to += row) vec_store(to, vec_zero());
    for (; j < s[1].end; j++, to += row) {
        vec_store(to, load_between(at, columns->begin, columns->end));
        at = (const real *)((uintptr_t)at + line * sizeof(real));
    }
    for (; j < rows; j++, to += row) vec_store(to, vec_zero());
}

INLINE void stage_plane(const real *from, size_t line, const span s[AXES], const psg_conv_stage *stage, size_t step,
                        real *to) {
    size_t j = 0;
    for (; j < s[1].begin; j++, to += stage->row) zero_row(stage->row, to);
    for (; j < s[1].end; j++, from += line, to += stage->row) {
        if (step == 1) stage_row(from, &s[2], stage->row, to);
        else if (step == 2) stage_halves(from, &s[2], stage, to);
        else stage_parts(from, &s[2], stage, step, to);
    }
    for (; j < stage->extent[1]; j++, to += stage->row) zero_row(stage->row, to);
}

/* in is where element (low + begin) of each axis lies. */
static inline void stage_channel(const box *b, const span s[AXES], const real *in, real *to) {
    const psg_conv_axis *axis = b->conv->axis;
    const psg_conv_stage *stage = &b->stage;
    const size_t line = axis[2].in_size, plane = axis[1].in_size * line;
    const bool empty = s[1].begin == s[1].end || s[2].begin == s[2].end;
    for (size_t i = 0; i < stage->extent[0]; i++, to += stage->plane) {
        if (i < s[0].begin || i >= s[0].end || empty) {
            zero_row(stage->plane, to);
            continue;
        }
        if (axis[2].in_step == 1 && stage->row <= LANES) {
            stage_narrow_plane(in, line, s, stage->extent[1], stage->row, to);
        } else {
            stage_plane(in, line, s, stage, axis[2].in_step, to);
        }
        in += plane;
    }
}

static inline void stage(const box *b) {
    const psg_conv *c = b->conv;
    span s[AXES];
    ptrdiff_t inside = 0;
    for (int a = 0; a < AXES; a++) {
        s[a] = span_of(b, a);
        inside = inside * (ptrdiff_t)c->axis[a].in_size + s[a].low + (ptrdiff_t)s[a].begin;
    }
    const real *first = (const real *)c->in + inside + (ptrdiff_t)(b->group * c->channels + b->channel) * c->in_channel;
    for (size_t n = 0; n < b->samples; n++) {
        const real *in = first + (ptrdiff_t)(b->sample + n) * c->in_sample;
        real *to = b->staged + n * b->stage.sample;
        for (size_t k = 0; k < b->channels * b->groups; k++, in += c->in_channel, to += b->stage.channel) {
            stage_channel(b, s, in, to);
        }
    }
}

/* The offset, in the stage, of each tap from the element that a position itself has there. */
static inline void find_offsets(const box *b, const psg_conv_phase *const phase[AXES]) {
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

/* ---- tasks ---- */

/* Behind the stage, PSG_CONV_PANEL_BYTES. */
static inline real *panel_of(const box *b) { return (real *)(void *)((char *)b->workspace + PSG_CONV_STAGE_BYTES); }

static inline box box_of(const psg_conv *c, size_t task, void *workspace) {
    box b = { .conv = c, .workspace = workspace, .staged = workspace };
    for (int a = AXES - 1; a >= 0; a--) {
        const psg_conv_axis *x = &c->axis[a];
        b.first[a] = task % x->boxes * x->box;
        b.count[a] = smaller(x->box, x->positions - b.first[a]);
        task /= x->boxes;
    }
    const size_t blocks = (c->groups + c->task_groups - 1) / c->task_groups;
    b.group = task % blocks * c->task_groups;
    b.groups = smaller(c->task_groups, c->groups - b.group);
    b.sample = task / blocks * c->task_samples;
    b.samples = smaller(c->task_samples, c->samples - b.sample);
    b.offsets = (int32_t *)(void *)((char *)workspace + PSG_CONV_STAGE_BYTES + PSG_CONV_PANEL_BYTES);
    return b;
}

/* ---- positions ---- */

/* The positions of a phase in a box. */
static inline void count_positions(const box *b, const psg_conv_phase *const phase[AXES], size_t count[AXES]) {
    for (int a = 0; a < AXES; a++) {
        size_t end = smaller(b->first[a] + b->count[a], phase[a]->positions);
        count[a] = end > b->first[a] ? end - b->first[a] : 0;
    }
}

/* Where a position's first channel begins in the stage, from its beginning. */
static inline size_t position_in_stage(const box *b, size_t n, size_t i, size_t j, size_t k) {
    const psg_conv_axis *axis = b->conv->axis;
    return n * b->stage.sample + i * axis[0].in_step * b->stage.plane +
           j * axis[1].in_step * b->stage.row + k;
}

static inline real *position_in_out(const box *b, const psg_conv_phase *const phase[AXES], size_t n,
                                    const size_t at[AXES]) {
    const psg_conv *c = b->conv;
    size_t to = 0;
    for (int a = 0; a < AXES; a++) {
        to = to * c->axis[a].out_size + phase[a]->first + (b->first[a] + at[a]) * c->axis[a].out_step;
    }
    return (real *)c->out + (ptrdiff_t)(b->sample + n) * c->out_sample +
           (ptrdiff_t)(b->group * c->rows) * c->out_channel + (ptrdiff_t)to;
}

/* ---- results ---- */

/* to (+)= from, count elements, step apart in to. */
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

#endif
