/* The Gram of an image's windows by that of its pixels x_q: over the kernel's elements k,
 *
 *   <a_t, a_s> = sum_k <x_{t + k}, x_{s + k}>     pixels outside being 0
 *
 * Both Grams by the product kernel, whose elements do not know which others are wanted. */
#include "gradient/factored.h"
#include "kernels.h"

/* Of a Gram at once: what lies right of the diagonal is waste, and columns are packed anew. */
enum { ROWS = 48 };

/* What windows [0, live) reach: of the slowest dimension, along which images are padded, only that, whatever the image
 * has beyond it. */
static psg_unfolding reached(const psg_piece *p, int64_t live) {
    psg_unfolding u = p->window;
    const int d = p->slowest;
    for (int inner = d + 1; inner < 3; inner++) live = psg_parts_of(live, u.output[inner]);
    u.output[d] = live;
    u.size[d] = psg_most(0, (live - 1) * u.stride[d] + (u.kernel[d] - 1) * u.dilation[d] + 1 - u.padding[d]);
    return u;
}

/* The same windows of an image of one channel, a number a pixel. */
static psg_unfolding plane_of(const psg_piece *p, int64_t live) {
    psg_unfolding u = reached(p, live);
    for (int d = 0; d < 3; d++) u.size[d] = psg_least(u.size[d], p->window.size[d]);
    u.channels = 1;
    u.step[2] = 1;
    u.step[1] = u.size[2];
    u.step[0] = u.size[1] * u.size[2];
    return u;
}

/* The pixels as rows of a view, when they are one evenly spaced sequence. */
static bool has_rows(const psg_piece *p, psg_operand_view *pixels) {
    const psg_unfolding *u = &p->window;
    int64_t count = 1;
    *pixels = (psg_operand_view){ p->a.data, u->channels, p->a.batch, 1, u->channel_step };
    for (int d = 2; d >= 0; d--) {
        if (u->size[d] == 1 && d != p->slowest) continue;
        if (count == 1) pixels->position = u->step[d];
        else if (u->step[d] != pixels->position * count) return false;
        count *= u->size[d];
    }
    return true;
}

/* Rows [t, t + rows) of x x^T, left of and on the diagonal block. */
static void product_rows(const psg_part *part, const psg_operand_view *x, int64_t n, int64_t t, int64_t rows, void *out,
                         int64_t stride, void *workspace) {
    for (int64_t j = 0; j < x->columns; j += PSG_LONGEST) {
        psg_product product = { .finish = PSG_FINISH_STORE, .m = (size_t)rows, .n = (size_t)(t + rows),
                                .k = (size_t)psg_least(PSG_LONGEST, x->columns - j), .alpha = 1,
                                .g = psg_at(x, part->dtype, n, t, j), .g_stride = x->step, .g_step = x->position,
                                .a = psg_at(x, part->dtype, n, 0, j), .a_stride = x->step, .a_step = x->position,
                                .c = out, .c_stride = stride, .accumulate = j > 0 };
        part->kernels->product(&product, workspace);
    }
}

static int64_t volume(const int64_t x[3]) { return x[0] * x[1] * x[2]; }

/* Pixels have the tile's memory; norms and rows of both Grams the small one, with room for a vector behind them. */
static int64_t rows_at_once(const psg_part *part, int64_t positions) {
    int64_t bytes = (int64_t)PSG_SMALL_BYTES - 64 - 16 * positions;
    return psg_least(ROWS, bytes / (2 * positions * (int64_t)psg_dtype_size(part->dtype)));
}

void psg_image_gram_sums(const psg_part *part, int64_t n, int64_t live, const psg_raise *raise, double out[4],
                         void *workspace) {
    const psg_piece *p = part->pieces;
    const psg_unfolding plane = plane_of(p, live);
    int64_t area = volume(plane.size), positions = volume(plane.output), room = rows_at_once(part, positions);
    psg_operand_view pixels;
    has_rows(p, &pixels);
    void *products = psg_tile_memory(workspace);
    double *norms = psg_small_memory(workspace);
    void *u = norms + 2 * positions, *v = psg_elements_mutable(u, p->dtype, room * positions);
    for (int64_t q = 0; q < area; q += ROWS) {
        void *row = psg_elements_mutable(products, p->dtype, q * area);
        product_rows(part, &pixels, n, q, psg_least(ROWS, area - q), row, area, workspace);
    }
    for (int64_t t = 0; t < live; t += room) {
        int64_t rows = psg_least(room, live - t);
        product_rows(part, &p->g, n, t, rows, u, positions, workspace);
        part->kernels->window_gram(&plane, products, t, rows, v, positions);
        part->kernels->gram_combine((size_t)t, (size_t)rows, u, (size_t)positions, v, (size_t)positions, 0.0, raise,
                                    norms, norms + positions, out);
    }
}

static double volume_f64(const int64_t x[3]) { return (double)x[0] * (double)x[1] * (double)x[2]; }

double psg_image_gram_terms(const psg_unfolding *u) { return (double)u->channels + volume_f64(u->kernel); }

bool psg_image_gram_applies(const psg_part *part, int64_t live) {
    if (!live || part->count != 1) return false;   /* of several pieces the first may have no positions */
    const psg_unfolding u = reached(part->pieces, live);
    psg_operand_view pixels;
    double area = volume_f64(u.size), bytes = (double)psg_dtype_size(part->dtype);
    bool fits = area * area * bytes <= (double)PSG_TILE_BYTES && volume_f64(u.output) * 16 <= (double)PSG_SMALL_BYTES;
    fits = fits && rows_at_once(part, volume(u.output)) >= ROWS / 4 && volume_f64(u.kernel) <= PSG_MOST_TAPS;
    return fits && has_rows(part->pieces, &pixels);
}

/* Half of both Grams and some columns more; reading them; a vector of a line of outputs, position by position. */
double psg_image_gram_cost(const psg_part *part, int64_t live) {
    const psg_unfolding u = reached(part->pieces, live);
    double area = volume_f64(u.size), t = (double)live;
    double products = area * area * (double)u.channels + t * t * (double)part->place.rows;
    double vectors = t / (double)u.output[2] * (double)psg_parts_of(u.output[2], 16);
    return 1.2 * products + 15 * (area * area + t * t) + 100 * volume_f64(u.kernel) * t * vectors + 50000;
}
