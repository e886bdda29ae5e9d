/* Windows of an image as panels: 2 * LANES columns each, one position after another.
 *
 * Neighbouring columns and positions read the same pixels.  So what a block of positions reads of the channels of some
 * panels is copied once, with the zeros around it, to planes in the first cache levels where a column is a constant
 * offset and consecutive positions of a line are contiguous; the panels are their transposes. */
#include "kernels.h"
#include "transpose.h"
#include "unfold_line.h"
#include "vector.h"

/* unfold.c */
void PSG_KERNEL(unfold)(const psg_unfolding *window, const void *image, const psg_unfold_part *part, void *out,
                        ptrdiff_t out_step);

#define WIDTH ((int64_t)(2 * LANES))
#define MOST ((int64_t)(48 << 10) / (int64_t)sizeof(real)) /* reals of all planes */

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Positions: `lines` lines of `width` from output (o0, o1, o2) on; several lines only when they are whole. */
typedef struct block {
    int64_t o[3], lines, width;
} block;

/* planes[channel][k0][line][copy][x].  Pixels of one remainder modulo the stride are neighbours in a copy: kernel
 * element k2 reads copy k2 * dilation % stride, k2 * dilation / stride further on.  Where that reaches too far (not
 * shared) it has a copy of its own. */
typedef struct planes {
    int64_t channel, channels;
    bool shared;
    int64_t copies, shift;       /* elements that a line's last window reaches beyond its first */
    int64_t length, lines;
    int64_t line_step, slice_step, channel_step;
} planes;

/* ---- sizes ---- */

static int64_t reach(const psg_unfolding *u, int d) { return (u->kernel[d] - 1) * u->dilation[d]; }

static int64_t whole_panels(int64_t columns) { return (columns + WIDTH - 1) / WIDTH * WIDTH; }

static int64_t whole_quads(int64_t count) { return (count + (int64_t)QUAD - 1) / (int64_t)QUAD * (int64_t)QUAD; }

static void set_copies(planes *p, const psg_unfolding *u) {
    const int64_t line = whole_quads(u->output[2]), shift = reach(u, 2) / u->stride[2];
    const int64_t copies = smaller(u->stride[2], reach(u, 2) + 1);
    p->shared = (double)copies * (double)(line + shift) <= (double)u->kernel[2] * (double)line;
    p->copies = p->shared ? copies : u->kernel[2];
    p->shift = p->shared ? shift : 0;
}

static void set_channels(planes *p, const psg_unfolding *u, const psg_unfold_part *part) {
    const int64_t taps = u->kernel[0] * u->kernel[1] * u->kernel[2];
    p->channel = part->column / taps;
    p->channels = (part->column + part->columns - 1) / taps - p->channel + 1;
}

/* Columns whose planes have room for all lines of all their channels: whole panels, one where that is too much. */
static int64_t columns_at_once(const planes *p, const psg_unfolding *u, const psg_unfold_part *part) {
    const double lines = (double)smaller(u->output[1], part->positions / u->output[2] + 2);
    const double height = (lines - 1) * (double)u->stride[1] + (double)reach(u, 1) + 1;
    const double length = (double)(whole_quads(u->output[2]) + p->shift);
    const double channels = __builtin_floor((double)MOST / ((double)(u->kernel[0] * p->copies) * height * length));
    const double taps = (double)(u->kernel[0] * u->kernel[1] * u->kernel[2]), columns = (channels - 1) * taps;
    if (columns >= (double)part->columns) return whole_panels(part->columns);
    return columns < (double)WIDTH ? WIDTH : (int64_t)columns / WIDTH * WIDTH;
}

/* The most positions at o that planes have room for: lines as many as possible, else a part of one.  In double: a large
 * kernel must not overflow. */
static bool choose_block(const planes *p, const psg_unfolding *u, int64_t positions, block *b) {
    double apart = (double)p->channels * (double)u->kernel[0] * (double)p->copies;
    double shift = (double)p->shift, line = apart * ((double)whole_quads(u->output[2]) + shift);
    double lines = ((double)MOST / line - (double)reach(u, 1) - 1) / (double)u->stride[1] + 1;
    if (b->o[2] == 0 && positions >= u->output[2] && lines >= 1) {
        double most = (double)smaller(positions / u->output[2], u->output[1] - b->o[1]);
        b->lines = (int64_t)(lines < most ? lines : most);
        b->width = u->output[2];
        return true;
    }
    double width = (double)MOST / (apart * ((double)reach(u, 1) + 1)) - shift;
    b->lines = 1;
    b->width = smaller(positions, u->output[2] - b->o[2]);
    if (width < (double)QUAD) return false;
    if (width < (double)whole_quads(b->width)) b->width = (int64_t)width / (int64_t)QUAD * (int64_t)QUAD;
    return true;
}

static void set_steps(planes *p, const psg_unfolding *u, const block *b) {
    p->length = whole_quads(b->width) + p->shift;
    p->lines = (b->lines - 1) * u->stride[1] + reach(u, 1) + 1;
    p->line_step = p->copies * p->length;
    p->slice_step = p->lines * p->line_step;
    p->channel_step = u->kernel[0] * p->slice_step;
}

/* What kernel element k2 reads of a line's copies. */
static int64_t offset_in_line(const planes *p, const psg_unfolding *u, int64_t k2) {
    if (!p->shared) return k2 * p->length;
    return k2 * u->dilation[2] % u->stride[2] * p->length + k2 * u->dilation[2] / u->stride[2];
}

/* Of the columns of a panel. */
static void set_offsets(const planes *p, const psg_unfolding *u, const psg_unfold_part *part,
                        int64_t offset[2 * LANES]) {
    int64_t taps = u->kernel[1] * u->kernel[2], first = part->column - p->channel * u->kernel[0] * taps;
    int64_t k2 = first % u->kernel[2], k1 = first / u->kernel[2] % u->kernel[1], slice = first / taps;
    for (int64_t j = 0; j < part->columns; j++) {
        offset[j] = slice * p->slice_step + k1 * u->dilation[1] * p->line_step + offset_in_line(p, u, k2);
        if (++k2 < u->kernel[2]) continue;
        k2 = 0;
        if (++k1 < u->kernel[1]) continue;
        k1 = 0;
        slice++;
    }
    for (int64_t j = part->columns; j < WIDTH; j++) offset[j] = offset[0];   /* read and cleared */
}

/* ---- copying ---- */

static void fill_slice(const planes *p, const psg_unfolding *u, const block *b, const real *slice, bool inside,
                       real *to) {
    for (int64_t copy = 0; copy < p->copies; copy++, to += p->length) {
        int64_t x = b->o[2] * u->stride[2] - u->padding[2] + copy * (p->shared ? 1 : u->dilation[2]);
        int64_t y = b->o[1] * u->stride[1] - u->padding[1];
        line_range across = range_inside(x, u->stride[2], u->size[2], p->length), none = { 0, 0 };
        const ptrdiff_t step = (ptrdiff_t)((size_t)u->step[2] * (size_t)u->stride[2]);   /* too far: not taken */
        for (int64_t line = 0; line < p->lines; line++, y++) {
            bool there = inside && y >= 0 && y < u->size[1] && across.low < across.high;
            const real *from = there ? slice + y * u->step[1] + x * u->step[2] : slice;
            copy_line(from, step, there ? across : none, p->length, to + line * p->line_step);
        }
    }
}

static void fill_planes(const planes *p, const psg_unfolding *u, const block *b, const real *image, real *to) {
    for (int64_t c = 0; c < p->channels; c++) {
        for (int64_t k = 0; k < u->kernel[0]; k++, to += p->slice_step) {
            int64_t z = b->o[0] * u->stride[0] + k * u->dilation[0] - u->padding[0];
            bool inside = z >= 0 && z < u->size[0];
            const real *slice = image + (p->channel + c) * u->channel_step + (inside ? z * u->step[0] : 0);
            fill_slice(p, u, b, slice, inside, to);
        }
    }
}

/* ---- transposing ---- */

/* QUAD positions of LANES columns, one column a 128-bit lane; only `valid` columns are kept, `rows` positions. */
static inline void transpose_gathered(const real *from, const int64_t *offset, size_t valid, int64_t rows,
                                      real *panel) {
    vec v[QUAD];
    for (size_t r = 0; r < QUAD; r++) v[r] = load_lanes_at(from, offset + r);
    transpose_lanes(v);
    if (valid < LANES) {
        for (size_t r = 0; r < QUAD; r++) v[r] = vec_first(v[r], valid);
    }
    if (rows >= (int64_t)QUAD) {
        for (size_t r = 0; r < QUAD; r++) vec_store(panel + r * (2 * LANES), v[r]);
    } else {
        for (int64_t r = 0; r < rows; r++) vec_store(panel + r * WIDTH, v[r]);
    }
}

static void transpose_block(const planes *p, const psg_unfolding *u, const block *b, const psg_unfold_part *part,
                            const real *from, real *panel) {
    int64_t offset[2 * LANES], columns = part->columns;
    set_offsets(p, u, part, offset);
    size_t left = (size_t)smaller(columns, (int64_t)LANES), right = (size_t)columns - left;
    for (int64_t line = 0; line < b->lines; line++, from += u->stride[1] * p->line_step, panel += b->width * WIDTH) {
        for (int64_t x = 0; x < b->width; x += (int64_t)QUAD) {
            transpose_gathered(from + x, offset, left, b->width - x, panel + x * WIDTH);
            transpose_gathered(from + x, offset + LANES, right, b->width - x, panel + x * WIDTH + LANES);
        }
    }
}

/* ---- panels ---- */

/* Kernels that reach too far for planes: lines of single columns. */
static void transpose_lines(const psg_unfolding *u, const void *image, const psg_unfold_part *part, real *panel) {
    enum { POSITIONS = 64 };
    real lines[2 * LANES * POSITIONS];
    psg_unfold_part at = *part;
    for (int64_t t = 0; t < part->positions; t += POSITIONS) {
        at.position = part->position + t;
        at.positions = smaller(POSITIONS, part->positions - t);
        PSG_KERNEL(unfold)(u, image, &at, lines, POSITIONS);
        transpose_panel(lines, POSITIONS, (size_t)at.positions, (size_t)part->columns, 2 * LANES, panel + t * WIDTH);
    }
}

static block block_at(const psg_unfolding *u, int64_t position) {
    int64_t line = position / u->output[2];
    return (block){ { line / u->output[1], line % u->output[1], position % u->output[2] }, 0, 0 };
}

/* The panel of columns [j, j + WIDTH) of a part. */
static psg_unfold_part panel_part(const psg_unfold_part *part, int64_t j) {
    return (psg_unfold_part){ part->position, part->positions, part->column + j, smaller(WIDTH, part->columns - j) };
}

/* Panels that share planes. */
static void unfold_group(planes *p, const psg_unfolding *u, const void *image, const psg_unfold_part *part,
                         real *panels) {
    real memory[MOST];
    set_channels(p, u, part);
    for (int64_t t = 0; t < part->positions;) {
        block b = block_at(u, part->position + t);
        if (!choose_block(p, u, part->positions - t, &b)) {
            transpose_lines(u, image, part, panels);
            return;
        }
        set_steps(p, u, &b);
        fill_planes(p, u, &b, image, memory);
        for (int64_t j = 0; j < part->columns; j += WIDTH) {
            const psg_unfold_part one = panel_part(part, j);
            transpose_block(p, u, &b, &one, memory, panels + part->positions * j + t * WIDTH);
        }
        t += b.lines * b.width;
    }
}

void PSG_KERNEL(unfold_panels)(const psg_unfolding *u, const void *image, const psg_unfold_part *part, void *panels_) {
    real *panels = panels_;
    planes p;
    if (!part->positions) return;   /* the output may have no extent */
    set_copies(&p, u);
    const int64_t group = columns_at_once(&p, u, part);
    for (int64_t j = 0; j < part->columns; j += group) {
        psg_unfold_part some = *part;
        some.column += j;
        some.columns = smaller(group, part->columns - j);
        unfold_group(&p, u, image, &some, panels + part->positions * j);
    }
}
