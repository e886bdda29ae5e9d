/* Products on our own kernel: the columns of b are packed, the rows of a beside them, and row_product multiplies.  How
 * a product is cut (columns, rows, terms at multiples of 256) changes no bit of it. */
#include "base/parallel.h"
#include "blas/engine.h"

enum {
    CHAIN = 256,             /* terms that a part is a multiple of */
    STACK_BYTES = 192 << 10, /* packed operands of a product on one thread */
    SMALL = 64 * 64 * 64,    /* multiplications that are not worth other workers */
    LONGEST = 16 * CHAIN,    /* terms of shared panels */
};
static const int64_t panel_bytes = INT64_C(4) << 20;   /* of shared panels */
static const int64_t row_bytes = INT64_C(512) << 10;   /* of a task's packed rows, in the second cache level */

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t parts_of(int64_t count, int64_t part) { return (count + part - 1) / part; }
static int64_t round_up(int64_t count, int64_t grain) { return parts_of(count, grain) * grain; }

/* ---- a product over some of its terms ---- */

typedef struct part {
    const psg_kernel_table *kernels;
    psg_gemm gemm;
    bool continues, ends;
    int64_t height, width;   /* of panels */
    int64_t element;         /* bytes */
} part;

static part part_of(const psg_kernel_table *kernels, const psg_gemm *g, int64_t t, int64_t k) {
    return (part){ .kernels = kernels, .gemm = psg_gemm_part(g, t, k), .continues = t > 0, .ends = t + k == g->k,
                   .height = (int64_t)kernels->panel_height(), .width = (int64_t)kernels->panel_width(),
                   .element = (int64_t)psg_dtype_size(g->dtype) };
}

static void pack_rows(const part *p, int64_t i, int64_t m, void *panels) {
    const psg_gemm *g = &p->gemm;
    const void *from = psg_gemm_at(g->a, g->dtype, g->transpose_a ? i : i * g->lda);
    p->kernels->pack_rows((size_t)m, (size_t)g->k, from, g->transpose_a ? 1 : g->lda, g->transpose_a ? g->lda : 1,
                          panels);
}

/* Columns [j, j + n) of b, n at most a panel. */
static void pack_panel(const part *p, int64_t j, int64_t n, void *panel) {
    const psg_gemm *g = &p->gemm;
    const void *from = psg_gemm_at(g->b, g->dtype, g->transpose_b ? j * g->ldb : j);
    p->kernels->pack_panel((size_t)n, (size_t)g->k, from, g->transpose_b ? g->ldb : 1, g->transpose_b ? 1 : g->ldb,
                           panel);
}

static void multiply(const part *p, int64_t i, int64_t m, int64_t j, int64_t n, const void *rows, const void *columns) {
    psg_gemm tile = psg_gemm_tile(&p->gemm, i, m, j, n);
    psg_row_product product = { .m = (size_t)m, .n = (size_t)n, .k = (size_t)tile.k, .rows = rows, .columns = columns,
                                .continues = p->continues, .ends = p->ends, .alpha = tile.alpha,
                                .beta = tile.bias ? 0 : tile.beta, .bias = tile.bias, .c = tile.c,
                                .c_stride = tile.ldc };
    p->kernels->row_product(&product);
}

/* With beta, c cannot hold totals: pieces of one part each, of a length that is the same for every caller. */
static void by_pieces(psg_context *context, const psg_gemm *g, void (*run)(psg_context *, const psg_gemm *)) {
    int64_t piece = g->bias || g->beta == 0 ? larger(g->k, 1) : CHAIN, t = 0;
    do {
        psg_gemm one = psg_gemm_part(g, t, smaller(piece, g->k - t));
        if (t) one.beta = 1;
        run(context, &one);
        t += piece;
    } while (t < g->k);
}

/* ---- on one thread ---- */

/* A chain's terms a part; as many columns as leave half of the memory to the rows. */
static void multiply_part(const part *p) {
    _Alignas(64) char memory[STACK_BYTES];
    const psg_gemm *g = &p->gemm;
    const int64_t columns = STACK_BYTES / p->element / larger(g->k, 1), all = round_up(g->n, p->width);
    const int64_t wide = all + p->height <= columns ? all : larger(columns / 2 / p->width * p->width, p->width);
    const int64_t high = (columns - smaller(wide, all)) / p->height * p->height;
    char *rows = memory + smaller(wide, all) * g->k * p->element;
    for (int64_t j = 0; j < g->n; j += wide) {
        int64_t n = smaller(wide, g->n - j);
        for (int64_t c = 0; c < n; c += p->width) {
            pack_panel(p, j + c, smaller(p->width, n - c), memory + c * g->k * p->element);
        }
        for (int64_t i = 0; i < g->m; i += high) {
            int64_t m = smaller(high, g->m - i);
            if (j == 0 || high < g->m) pack_rows(p, i, m, rows);
            multiply(p, i, m, j, n, rows, memory);
        }
    }
}

static void multiply_serial(psg_context *context, const psg_gemm *g) {
    int64_t t = 0;
    do {
        part p = part_of(context->kernels[g->dtype], g, t, smaller(CHAIN, g->k - t));
        multiply_part(&p);
        t += CHAIN;
    } while (t < g->k);
}

void psg_kernel_gemm(psg_context *context, const psg_gemm *gemm) {
    if (gemm->m && gemm->n) by_pieces(context, gemm, multiply_serial);
}

/* ---- over the workers: the panels of b are packed once and shared ---- */

typedef struct shared {
    psg_context *context;
    part part;
    int64_t first, n;        /* the columns whose panels are there */
    int64_t rows, columns;   /* of a task */
    char *panels;
} shared;

static char *panel_at(const shared *s, int64_t column) {
    return s->panels + column * s->part.gemm.k * s->part.element;
}

static void pack_shared(void *argument, size_t index, unsigned slot) {
    (void)slot;
    const shared *s = argument;
    int64_t column = (int64_t)index * s->part.width;
    pack_panel(&s->part, s->first + column, smaller(s->part.width, s->n - column), panel_at(s, column));
}

static void multiply_shared(void *argument, size_t index, unsigned slot) {
    const shared *s = argument;
    const int64_t across = parts_of(s->n, s->columns);
    const int64_t i = (int64_t)index / across * s->rows, column = (int64_t)index % across * s->columns;
    const int64_t m = smaller(s->rows, s->part.gemm.m - i), n = smaller(s->columns, s->n - column);
    void *rows = s->context->workspace[slot];
    pack_rows(&s->part, i, m, rows);
    multiply(&s->part, i, m, s->first + column, n, rows, panel_at(s, column));
}

/* Some four tasks a worker; where rows are few, their columns are shared out as well. */
static void cut(shared *s) {
    const psg_gemm *g = &s->part.gemm;
    const int64_t wanted = 4 * (int64_t)s->context->threads;
    const int64_t most = row_bytes / (larger(g->k, 1) * s->part.element) / s->part.height * s->part.height;
    s->rows = larger(smaller(round_up(parts_of(g->m, wanted), s->part.height), most), s->part.height);
    s->columns = round_up(parts_of(s->n, parts_of(wanted, parts_of(g->m, s->rows))), s->part.width);
}

static void multiply_columns(shared *s) {
    cut(s);
    psg_parallel(s->context, (size_t)parts_of(s->n, s->part.width), pack_shared, s);
    size_t tasks = (size_t)(parts_of(s->part.gemm.m, s->rows) * parts_of(s->n, s->columns));
    psg_parallel(s->context, tasks, multiply_shared, s);
}

/* The memory follows from the matrix alone: a larger batch takes no more. */
static void multiply_parallel(psg_context *context, const psg_gemm *g) {
    const psg_kernel_table *kernels = context->kernels[g->dtype];
    const int64_t longest = larger(smaller(g->k, LONGEST), 1);
    part p = part_of(kernels, g, 0, longest);
    const int64_t most = panel_bytes / (longest * p.element) / p.width * p.width;
    shared s = { .context = context };
    const int64_t columns = smaller(most, round_up(g->n, p.width));
    s.panels = psg_panel_memory(context, (size_t)(columns * longest * p.element));
    if (!s.panels || (double)g->m * (double)g->n * (double)g->k <= SMALL) {
        multiply_serial(context, g);
        return;
    }
    for (s.first = 0; s.first < g->n; s.first += columns) {
        s.n = smaller(columns, g->n - s.first);
        for (int64_t t = 0; t < g->k; t += longest) {
            s.part = part_of(kernels, g, t, smaller(longest, g->k - t));
            multiply_columns(&s);
        }
    }
}

void psg_kernel_rows(psg_context *context, const psg_gemm *gemm) {
    if (gemm->m && gemm->n) by_pieces(context, gemm, multiply_parallel);
}
