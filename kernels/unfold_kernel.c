/* Windows of an image, written out (lines along the last spatial dimension are copied, with zeros around them), and
 * their inner products. */
#include "kernels.h"
#include "unfold_line.h"
#include "vector.h"

/* One column of the unfolded image. */
typedef struct tap {
    ptrdiff_t start;           /* what output (0, 0, 0) reads; it may lie outside */
    line_range inside[3];      /* the outputs of each dimension that read inside the image */
} tap;

/* The column and its counters, moved on column by column. */
typedef struct taps {
    const psg_unfolding *u;
    int64_t channel, k[3];
    tap now;
} taps;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Output o of dimension d reads coordinate at + o * stride, at = k * dilation - padding. */
static void set_range(taps *s, int d) {
    const psg_unfolding *u = s->u;
    s->now.inside[d] = range_inside(s->k[d] * u->dilation[d] - u->padding[d], u->stride[d], u->size[d], u->output[d]);
}

static void set_start(taps *s) {
    const psg_unfolding *u = s->u;
    s->now.start = (ptrdiff_t)s->channel * u->channel_step;
    for (int d = 0; d < 3; d++) s->now.start += (s->k[d] * u->dilation[d] - u->padding[d]) * u->step[d];
}

static taps taps_at(const psg_unfolding *u, int64_t column) {
    taps s = { .u = u };
    for (int d = 2; d >= 0; column /= u->kernel[d--]) s.k[d] = column % u->kernel[d];
    s.channel = column;
    for (int d = 0; d < 3; d++) set_range(&s, d);
    set_start(&s);
    return s;
}

static void next_tap(taps *s) {
    int d = 2;
    while (d >= 0 && ++s->k[d] == s->u->kernel[d]) {
        s->k[d] = 0;
        set_range(s, d--);
    }
    if (d < 0) s->channel++;
    else set_range(s, d);
    set_start(s);
}

/* ---- lines ---- */

static inline bool is_in(const line_range *r, int64_t o) { return o >= r->low && o < r->high; }

static inline int64_t clamp(int64_t x, int64_t most) { return x < 0 ? 0 : x > most ? most : x; }

/* Where a run of positions begins. */
typedef struct place {
    int64_t o[3];
} place;

static place place_of(const psg_unfolding *u, int64_t position) {
    int64_t lines = position / u->output[2];
    return (place){ { lines / u->output[1], lines % u->output[1], position % u->output[2] } };
}

/* to[t] = one column at `positions` positions from `at` on. */
static void unfold_column(const psg_unfolding *u, const real *image, const tap *c, place at, int64_t positions,
                          real *to) {
    const ptrdiff_t step = u->step[2] * u->stride[2];
    while (positions > 0) {
        int64_t n = smaller(u->output[2] - at.o[2], positions);
        line_range r = { 0, 0 };
        if (is_in(&c->inside[0], at.o[0]) && is_in(&c->inside[1], at.o[1])) {
            r.low = clamp(c->inside[2].low - at.o[2], n);
            r.high = clamp(c->inside[2].high - at.o[2], n);
        }
        ptrdiff_t from = c->start + at.o[0] * u->stride[0] * u->step[0] + at.o[1] * u->stride[1] * u->step[1] +
                         at.o[2] * step;
        copy_line(r.low < r.high ? image + from : image, step, r, n, to);
        to += n;
        positions -= n;
        at.o[2] = 0;
        if (++at.o[1] < u->output[1]) continue;
        at.o[1] = 0;
        at.o[0]++;
    }
}

void PSG_KERNEL(unfold)(const psg_unfolding *u, const void *image, const psg_unfold_part *part, void *out_,
                        ptrdiff_t out_step) {
    if (!part->columns || !part->positions) return;
    real *out = out_;
    taps s = taps_at(u, part->column);
    place at = place_of(u, part->position);
    for (int64_t j = 0; j < part->columns; j++, out += out_step) {
        unfold_column(u, image, &s.now, at, part->positions, out);
        next_tap(&s);
    }
}

/* ---- inner products of windows ---- */

/* A tap that reads inside the image at one position: its pixel's products with those that it reads at a vector of
 * outputs s + i of a line, and which of these are inside, too: low <= i < high. */
typedef struct inside_tap {
    const real *products;   /* from what output (0, 0, s) reads on */
    const line_range *inside;
    int64_t low, high;
    vec_bits mask;
} inside_tap;

/* Those of position t that read inside at some of a line's outputs s + i, i < LANES; how many. */
static size_t find_inside(const psg_unfolding *u, const tap *all, size_t count, const real *pixels, int64_t t,
                          int64_t s, inside_tap *found) {
    const ptrdiff_t area = u->size[0] * u->step[0];
    const place at = place_of(u, t);
    ptrdiff_t pixel = 0;
    size_t taps_found = 0;
    vec_bits index;
    for (int d = 0; d < 3; d++) pixel += at.o[d] * u->stride[d] * u->step[d];
    for (size_t k = 0; k < LANES; k++) index[k] = (real_bits)k;
    for (const tap *c = all; c < all + count; c++) {
        int64_t low = clamp(c->inside[2].low - s, (int64_t)LANES), high = clamp(c->inside[2].high - s, (int64_t)LANES);
        bool there = is_in(&c->inside[0], at.o[0]) && is_in(&c->inside[1], at.o[1]) && is_in(&c->inside[2], at.o[2]);
        if (!there || low >= high) continue;
        const real *products = pixels + (pixel + c->start) * area + c->start + s * u->stride[2];
        vec_bits mask = (index >= (real_bits)low) & (index < (real_bits)high);
        found[taps_found++] = (inside_tap){ products, c->inside, low, high, mask };
    }
    return taps_found;
}

static vec gather(const inside_tap *c, const real *from, ptrdiff_t step) {
    real lanes[LANES] = { 0 };
    for (int64_t i = c->low; i < c->high; i++) lanes[i] = from[i * step];
    return vec_load(lanes);
}

/* A vector of products along the line of outputs from `at` on, summed over taps. */
static inline vec sum_products(const psg_unfolding *u, const inside_tap *found, size_t count, place at) {
    const ptrdiff_t line = at.o[0] * u->stride[0] * u->step[0] + at.o[1] * u->stride[1] * u->step[1];
    vec sum = vec_zero();
    for (const inside_tap *c = found; c < found + count; c++) {
        if (!is_in(&c->inside[0], at.o[0]) || !is_in(&c->inside[1], at.o[1])) continue;
        const real *from = c->products + line;
        sum += u->stride[2] == 1 ? vec_select(c->mask, vec_load(from), vec_zero()) : gather(c, from, u->stride[2]);
    }
    return sum;
}

/* The end of a line is written before its beginning and that of the next, into which whole vectors reach. */
void PSG_KERNEL(window_gram)(const psg_unfolding *u, const void *pixels, int64_t first, int64_t rows, void *v_,
                             ptrdiff_t v_step) {
    const size_t count = (size_t)(u->kernel[0] * u->kernel[1] * u->kernel[2]);
    tap all[PSG_MOST_TAPS];
    inside_tap found[PSG_MOST_TAPS];
    real *v = v_;
    taps s = taps_at(u, 0);
    for (size_t k = 0; k < count; k++, next_tap(&s)) all[k] = s.now;
    for (int64_t t = first; t < first + rows; t++, v += v_step) {
        for (int64_t part = (u->output[2] - 1) / (int64_t)LANES * (int64_t)LANES; part >= 0; part -= (int64_t)LANES) {
            size_t inside = find_inside(u, all, count, pixels, t, part, found);
            for (int64_t line = 0; line <= t; line += u->output[2]) {
                vec_store(v + line + part, sum_products(u, found, inside, place_of(u, line)));
            }
        }
    }
}
