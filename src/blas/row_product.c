/* Products on our own kernel: columns of b are packed, rows of a beside them, and row_product multiplies them chain by
 * chain (256 terms).  How a product is cut into rows, columns and tasks changes no bit of it. */
#include "base/parallel.h"
#include "blas/engine.h"
#include "kernels.h"

enum {
    CHAIN = PSG_PRODUCT_CHAIN,
    STACK_BYTES = 192 << 10, /* packed operands of a product on one thread */
    SMALL = 64 * 64 * 64,    /* multiplications that are not worth other workers */
};
static const int64_t panel_bytes = INT64_C(4) << 20;   /* of shared panels */
static const int64_t row_bytes = INT64_C(512) << 10;   /* of a task's packed rows, in the second cache level */

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t parts_of(int64_t count, int64_t part) { return (count + part - 1) / part; }
static int64_t round_up(int64_t count, int64_t grain) { return parts_of(count, grain) * grain; }

/* ---- a product, chain by chain ---- */

typedef struct job {
    psg_context *context;
    const psg_kernel_table *kernels;
    const psg_gemm *gemm;
    int64_t height, width;   /* of panels */
    int64_t element;         /* bytes */
} job;

static job job_of(psg_context *context, const psg_gemm *g) {
    const psg_kernel_table *kernels = context->kernels[g->dtype];
    return (job){ context, kernels, g, (int64_t)kernels->panel_height(), (int64_t)kernels->panel_width(),
                  (int64_t)psg_dtype_size(g->dtype) };
}

static int64_t terms_at(const job *j, int64_t t) { return smaller(CHAIN, j->gemm->k - t); }

/* Rows [i, i + m) of a, terms from t on. */
static void pack_rows(const job *j, int64_t i, int64_t m, int64_t t, void *panels) {
    const psg_gemm *g = j->gemm;
    int64_t row = g->transpose_a ? 1 : g->lda, term = g->transpose_a ? g->lda : 1;
    j->kernels->pack_rows((size_t)m, (size_t)terms_at(j, t), psg_gemm_at(g->a, g->dtype, i * row + t * term), row, term,
                          panels);
}

/* Columns [c, c + n) of b, panel after panel. */
static void pack_columns(const job *j, int64_t c, int64_t n, int64_t t, char *panels) {
    const psg_gemm *g = j->gemm;
    int64_t column = g->transpose_b ? g->ldb : 1, term = g->transpose_b ? 1 : g->ldb, terms = terms_at(j, t);
    for (int64_t done = 0; done < n; done += j->width) {
        const void *from = psg_gemm_at(g->b, g->dtype, (c + done) * column + t * term);
        j->kernels->pack_panel((size_t)smaller(j->width, n - done), (size_t)terms, from, column, term,
                               panels + done * terms * j->element);
    }
}

/* Rows of unit step are not worth packing for few columns, unless many of them begin in the same cache sets; nor are
 * columns of unit step for few rows. */
static bool is_loose(const job *j, int64_t n) {
    const int64_t columns = 512, sets = 4096;   /* bytes after which first-level sets recur */
    return !j->gemm->transpose_a && n <= columns && j->gemm->lda * j->element % sets;
}
static bool is_low(const job *j) { return !j->gemm->transpose_b && j->gemm->m <= j->height / 3; }

/* With beta every chain is added to c by itself; otherwise c holds the total of those before, and the last one makes
 * the result of it. */
static psg_row_product product_of(const job *j, int64_t i, int64_t m, int64_t c, int64_t n, int64_t t,
                                  const void *rows, const void *columns) {
    psg_gemm g = psg_gemm_tile(j->gemm, i, m, c, n);
    bool onto = g.beta != 0 && !g.bias;
    psg_row_product product = { .m = (size_t)m, .n = (size_t)n, .k = (size_t)terms_at(j, t), .rows = rows,
                                .columns = columns, .continues = t > 0 && !onto, .ends = onto || t + CHAIN >= g.k,
                                .alpha = g.alpha, .bias = g.bias, .c = g.c, .c_stride = g.ldc };
    if (onto) product.beta = t > 0 ? 1 : g.beta;
    return product;
}

static void multiply(const job *j, int64_t i, int64_t m, int64_t c, int64_t n, int64_t t, const void *rows,
                     const void *columns) {
    psg_row_product product = product_of(j, i, m, c, n, t, rows, columns);
    j->kernels->row_product(&product);
}

static void multiply_loose(const job *j, int64_t i, int64_t m, int64_t c, int64_t n, int64_t t, const void *columns) {
    const psg_gemm *g = j->gemm;
    psg_row_product product = product_of(j, i, m, c, n, t, psg_gemm_at(g->a, g->dtype, i * g->lda + t), columns);
    product.row_stride = g->lda;
    j->kernels->row_product(&product);
}

/* The first n columns, whole panels of them. */
static void multiply_low(const job *j, int64_t n, int64_t t, const void *rows) {
    const psg_gemm *g = j->gemm;
    psg_row_product product = product_of(j, 0, g->m, 0, n, t, rows, psg_gemm_at(g->b, g->dtype, t * g->ldb));
    j->kernels->low_product(&product, g->ldb);
}

/* ---- on one thread ---- */

/* Columns [c, c + n), packed; `high` rows fit at once.  All of them stay for the next columns. */
static void multiply_packed(const job *j, int64_t c, int64_t n, int64_t t, int64_t high, char *rows, char *columns) {
    const int64_t m = j->gemm->m;
    pack_columns(j, c, n, t, columns);
    if (is_loose(j, j->gemm->n)) {
        multiply_loose(j, 0, m, c, n, t, columns);
        return;
    }
    for (int64_t i = 0; i < m; i += high) {
        if (c == 0 || high < m) pack_rows(j, i, smaller(high, m - i), t, rows);
        multiply(j, i, smaller(high, m - i), c, n, t, rows, columns);
    }
}

/* As many columns as leave half of the memory to the rows. */
static void multiply_chain(const job *j, int64_t t) {
    _Alignas(64) char memory[STACK_BYTES];
    const psg_gemm *g = j->gemm;
    const int64_t terms = larger(terms_at(j, t), 1), room = STACK_BYTES / j->element / terms;
    const int64_t all = round_up(g->n, j->width), half = larger(room / 2 / j->width * j->width, j->width);
    const int64_t wide = all + j->height <= room ? all : half, high = (room - wide) / j->height * j->height;
    const int64_t loose = is_low(j) ? g->n / j->width * j->width : 0;
    char *rows = memory + wide * terms * j->element;
    if (loose) {
        pack_rows(j, 0, g->m, t, rows);
        multiply_low(j, loose, t, rows);
    }
    for (int64_t c = loose; c < g->n; c += wide) {
        multiply_packed(j, c, smaller(wide, g->n - c), t, high, rows, memory);
    }
}

void psg_kernel_gemm(psg_context *context, const psg_gemm *gemm) {
    const job j = job_of(context, gemm);
    if (!gemm->m || !gemm->n) return;
    multiply_chain(&j, 0);
    for (int64_t t = CHAIN; t < gemm->k; t += CHAIN) multiply_chain(&j, t);
}

/* ---- over the workers, few rows: a part of the columns a task ---- */

typedef struct slices {
    psg_context *context;
    const psg_gemm *gemm;
    int64_t columns;
} slices;

static void multiply_slice(void *argument, size_t index, unsigned slot) {
    (void)slot;
    const slices *s = argument;
    int64_t c = (int64_t)index * s->columns;
    psg_gemm slice = psg_gemm_tile(s->gemm, 0, s->gemm->m, c, smaller(s->columns, s->gemm->n - c));
    psg_kernel_gemm(s->context, &slice);
}

static void multiply_slices(const job *j) {
    slices s = { j->context, j->gemm, 0 };
    s.columns = round_up(parts_of(j->gemm->n, 4 * (int64_t)j->context->threads), j->width);
    psg_parallel(j->context, (size_t)parts_of(j->gemm->n, s.columns), multiply_slice, &s);
}

/* ---- over the workers: panels of b are packed once and shared ---- */

typedef struct shared {
    job job;
    int64_t first, n;        /* the columns whose panels are there, */
    int64_t start, terms;    /* and the terms */
    int64_t rows, columns;   /* of a task */
    char *panels;            /* chain after chain */
} shared;

static char *panels_at(const shared *s, int64_t column, int64_t t) {
    int64_t whole = round_up(s->n, s->job.width) * (t - s->start);
    return s->panels + (whole + column * terms_at(&s->job, t)) * s->job.element;
}

static void pack_shared(void *argument, size_t index, unsigned slot) {
    (void)slot;
    const shared *s = argument;
    int64_t column = (int64_t)index * s->job.width, n = smaller(s->job.width, s->n - column), t = s->start;
    do {
        pack_columns(&s->job, s->first + column, n, t, panels_at(s, column, t));
        t += CHAIN;
    } while (t < s->start + s->terms);
}

static void multiply_shared(void *argument, size_t index, unsigned slot) {
    const shared *s = argument;
    const int64_t across = parts_of(s->n, s->columns);
    const int64_t i = (int64_t)index / across * s->rows, column = (int64_t)index % across * s->columns;
    const int64_t m = smaller(s->rows, s->job.gemm->m - i), n = smaller(s->columns, s->n - column);
    void *rows = s->job.context->workspace[slot];
    int64_t t = s->start;
    do {
        if (is_loose(&s->job, n)) {
            multiply_loose(&s->job, i, m, s->first + column, n, t, panels_at(s, column, t));
        } else {
            pack_rows(&s->job, i, m, t, rows);
            multiply(&s->job, i, m, s->first + column, n, t, rows, panels_at(s, column, t));
        }
        t += CHAIN;
    } while (t < s->start + s->terms);
}

/* A cut into down x across tasks of whole tiles. */
typedef struct cut {
    int64_t tiles, panels;   /* of a task */
    int64_t time;            /* of the worker that has most, in tiles; packing a row costs what a panel does */
} cut;

static cut cut_into(const shared *s, int64_t down, int64_t across) {
    const job *j = &s->job;
    const int64_t threads = (int64_t)j->context->threads;
    const int64_t tiles = parts_of(parts_of(j->gemm->m, j->height), down);
    const int64_t panels = parts_of(parts_of(s->n, j->width), across);
    const int64_t packing = is_loose(j, panels * j->width) ? 0 : 1;
    return (cut){ tiles, panels, parts_of(down * across, threads) * tiles * (panels + packing) };
}

/* The evenest of some cuts into four tasks a worker and more, which the rows' memory holds. */
static cut best_cut(const shared *s) {
    const job *j = &s->job;
    const int64_t tiles = parts_of(j->gemm->m, j->height), wanted = 4 * (int64_t)j->context->threads;
    const int64_t least = parts_of(tiles, row_bytes / (CHAIN * j->element * j->height));
    cut best = { 0, 0, INT64_MAX };
    for (int64_t across = 1; across <= 8 && across <= parts_of(s->n, j->width); across *= 2) {
        const int64_t from = smaller(larger(least, parts_of(wanted, across)), tiles);
        for (int64_t down = from; down <= 2 * from && down <= tiles && down < from + 8; down++) {
            const cut c = cut_into(s, down, across);
            if (c.time < best.time) best = c;
        }
    }
    return best;
}

static void multiply_columns(shared *s) {
    const job *j = &s->job;
    const cut c = best_cut(s);
    s->rows = c.tiles * j->height;
    s->columns = c.panels * j->width;
    psg_parallel(j->context, (size_t)parts_of(s->n, j->width), pack_shared, s);
    psg_parallel(j->context, (size_t)(parts_of(j->gemm->m, s->rows) * parts_of(s->n, s->columns)), multiply_shared, s);
}

/* Panels of some columns and, where these are very long, some of the terms at a time. */
static void multiply_parallel(shared *s, int64_t columns, int64_t longest) {
    const psg_gemm *g = s->job.gemm;
    for (s->first = 0; s->first < g->n; s->first += columns) {
        s->n = smaller(columns, g->n - s->first);
        s->start = 0;
        do {
            s->terms = smaller(longest, g->k - s->start);
            multiply_columns(s);
            s->start += longest;
        } while (s->start < g->k);
    }
}

/* The memory follows from the matrix alone: a larger batch takes no more. */
void psg_kernel_rows(psg_context *context, const psg_gemm *gemm) {
    shared s = { .job = job_of(context, gemm) };
    const int64_t row = s.job.width * s.job.element;
    const int64_t longest = larger(smaller(gemm->k, 4 * CHAIN), 1);   /* wide panels: rows are packed less often */
    const int64_t columns = smaller(panel_bytes / (longest * row) * s.job.width, round_up(gemm->n, s.job.width));
    if (!gemm->m || !gemm->n) return;
    s.panels = psg_panel_memory(context, (size_t)(columns * longest * s.job.element));
    if (!s.panels || (double)gemm->m * (double)gemm->n * (double)gemm->k <= SMALL) psg_kernel_gemm(context, gemm);
    else if (gemm->m <= s.job.height) multiply_slices(&s.job);
    else multiply_parallel(&s, columns, longest);
}
