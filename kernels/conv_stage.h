/* What the convolution kernels share: phases, a task's box of positions, and the part of the input it copies. */
#ifndef PSG_KERNELS_CONV_STAGE_H
#define PSG_KERNELS_CONV_STAGE_H

#include "kernels.h"
#include "vector.h"

#define AXES PSG_CONV_AXES

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

INLINE void fill_zero(real *to, size_t n) {
    for (size_t i = 0; i < n; i += LANES) vec_store_part(to + i, vec_zero(), smaller(LANES, n - i));
}

INLINE void copy_run(const real *from, real *to, size_t n) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vec_store(to + i, vec_load(from + i));
    if (i < n) vec_store_part(to + i, vec_load_part(from + i, n - i), n - i);
}

#if PSG_VECTOR_BYTES == 64
/* Lanes [begin, end) of what lies at p, which need not exist outside them; the others are 0. */
INLINE vec load_between(const real *p, size_t begin, size_t end) {
    const uint32_t lanes = (1u << end) - (1u << begin);
#if PSG_REAL_IS_F64
    return (vec)_mm512_maskz_loadu_pd((__mmask8)lanes, p);
#else
    return (vec)_mm512_maskz_loadu_ps((__mmask16)lanes, p);
#endif
}

/* The elements of two vectors at even and at odd places. */
INLINE void split_pair(vec a, vec b, vec *even, vec *odd) {
#if PSG_REAL_IS_F64
    const __m512i at = _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0), one = _mm512_set1_epi64(1);
    *even = (vec)_mm512_permutex2var_pd((__m512d)a, at, (__m512d)b);
    *odd = (vec)_mm512_permutex2var_pd((__m512d)a, _mm512_add_epi64(at, one), (__m512d)b);
#else
    const __m512i at = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    *even = (vec)_mm512_permutex2var_ps((__m512)a, at, (__m512)b);
    *odd = (vec)_mm512_permutex2var_ps((__m512)a, _mm512_add_epi32(at, _mm512_set1_epi32(1)), (__m512)b);
#endif
}

/* Elements [begin, end) of a row of count elements whose others are zeros; from is element begin.  Whole vectors: what
 * is written past the row the next one, or nobody, overwrites. */
INLINE void stage_row(const real *from, size_t begin, size_t end, size_t count, real *to) {
    const real *row = (const real *)((uintptr_t)from - begin * sizeof(real));
    for (size_t i = 0; i < count; i += LANES) {
        size_t low = begin < i ? 0 : smaller(begin - i, LANES), high = end < i ? 0 : smaller(end - i, LANES);
        vec_store(to + i, load_between((const real *)((uintptr_t)row + i * sizeof(real)), low, high < low ? low : high));
    }
}
#else
INLINE void stage_row(const real *from, size_t begin, size_t end, size_t count, real *to) {
    fill_zero(to, begin);
    copy_run(from, to + begin, end - begin);
    fill_zero(to + end, count - end);
}
#endif

static inline void stage_split_row(const real *from, size_t begin, size_t end, const psg_conv_stage *s, size_t step,
                                   real *to) {
    for (size_t phase = 0; phase < s->split; phase++, to += s->width) {
        for (size_t i = 0, r = phase; i < s->width; i++, r += step) {
            to[i] = r >= begin && r < end ? from[r - begin] : 0;
        }
    }
}

#if PSG_VECTOR_BYTES == 64
/* step = 2, by vectors.  The odd elements of a row go behind its even ones. */
static inline void stage_halves(const real *from, size_t begin, size_t end, const psg_conv_stage *s, real *to) {
    const real *row = (const real *)((uintptr_t)from - begin * sizeof(real));
    for (size_t i = 0; i < s->width; i += LANES) {
        vec pair[2], even, odd;
        for (size_t k = 0; k < 2; k++) {
            const size_t at = 2 * i + k * LANES;
            const size_t low = begin < at ? 0 : smaller(begin - at, LANES), high = end < at ? 0 : smaller(end - at, LANES);
            pair[k] = load_between((const real *)((uintptr_t)row + at * sizeof(real)), low, high < low ? low : high);
        }
        split_pair(pair[0], pair[1], &even, &odd);
        const size_t part = smaller(LANES, s->width - i);
        vec_store_part(to + i, even, part);
        if (s->split == 2) vec_store_part(to + s->width + i, odd, part);
    }
}
#else
static inline void stage_halves(const real *from, size_t begin, size_t end, const psg_conv_stage *s, real *to) {
    stage_split_row(from, begin, end, s, 2, to);
}
#endif

/* Where elements [low, low + extent) of an axis lie inside an array of the given size: [begin, end) of them. */
INLINE void inside(ptrdiff_t low, size_t extent, size_t size, size_t *begin, size_t *end) {
    *begin = low < 0 ? smaller((size_t)-low, extent) : 0;
    ptrdiff_t rest = (ptrdiff_t)size - low;
    *end = rest < (ptrdiff_t)*begin ? *begin : smaller(extent, (size_t)rest);
}

static inline void stage_channel(const box *b, const real *in, real *to) {
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
            if (i < begin[0] || i >= end[0] || j < begin[1] || j >= end[1] || begin[2] == end[2]) {
                fill_zero(to, s->row);
                continue;
            }
            ptrdiff_t line = (low[0] + (ptrdiff_t)i) * (ptrdiff_t)axis[1].in_size + low[1] + (ptrdiff_t)j;
            const real *from = in + line * (ptrdiff_t)axis[2].in_size + low[2] + (ptrdiff_t)begin[2];
            if (axis[2].in_step == 1) stage_row(from, begin[2], end[2], s->row, to);
            else if (axis[2].in_step == 2) stage_halves(from, begin[2], end[2], s, to);
            else stage_split_row(from, begin[2], end[2], s, axis[2].in_step, to);
        }
    }
}

static inline void stage(const box *b) {
    const psg_conv *c = b->conv;
    const real *group = (const real *)c->in +
                        (ptrdiff_t)(b->group * c->channels + b->channel) * c->in_channel;
    for (size_t n = 0; n < b->samples; n++) {
        const real *in = group + (ptrdiff_t)(b->sample + n) * c->in_sample;
        real *to = b->staged + n * b->stage.sample;
        for (size_t k = 0; k < b->channels * b->groups; k++, in += c->in_channel, to += b->stage.channel) {
            stage_channel(b, in, to);
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
