/* Rows of a table by integer ids of 4 or 8 bytes. */
#include <math.h>

#include "kernels.h"
#include "magnitude.h"

static inline ptrdiff_t id_at(const void *ids, size_t id_size, ptrdiff_t k) {
    return id_size == 4 ? (ptrdiff_t)((const int32_t *)ids)[k] : (ptrdiff_t)((const int64_t *)ids)[k];
}

static inline void copy_row(size_t n, const real *x, real *y, bool stream) {
    size_t i = 0;
    if (stream) {
        for (; i + LANES <= n; i += LANES) vec_stream(y + i, vec_load(x + i));
    } else {
        for (; i + LANES <= n; i += LANES) vec_store(y + i, vec_load(x + i));
    }
    for (; i < n; i++) y[i] = x[i];
}

/* Rows lie anywhere: the one a few ids ahead is fetched while this one is copied. */
void PSG_KERNEL(gather_rows)(size_t rows, size_t n, const void *table_, const void *ids, size_t id_size,
                             ptrdiff_t id_stride, void *out_, bool stream) {
    enum { AHEAD = 6 };
    const real *table = table_;
    real *out = out_;
    bool around = stream && n % LANES == 0 && stream_aligned(out);
    for (size_t r = 0; r < rows; r++) {
        if (r + AHEAD < rows) {
            const real *next = table + id_at(ids, id_size, (ptrdiff_t)(r + AHEAD) * id_stride) * (ptrdiff_t)n;
            for (size_t i = 0; i < n && i < 1024; i += 64 / sizeof(real)) __builtin_prefetch(next + i);
        }
        copy_row(n, table + id_at(ids, id_size, (ptrdiff_t)r * id_stride) * (ptrdiff_t)n, out + r * n, around);
    }
    if (around) stream_fence();
}

/* ---- bags: sums and maxima over the rows of several ids ----
 * Rows are added in the real type over CHAIN ids, and such sums in double. */

enum { STRIP = 4, CHAIN = 32 };   /* STRIP vectors stay in registers while the ids are walked */

static inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static inline __attribute__((always_inline)) void sum_strip(size_t vectors, size_t count, size_t n, const real *table,
                                                            const void *ids, size_t id_size, const real *weights,
                                                            double scale, real *out) {
    wide total[STRIP] = { { { 0 }, { 0 } } };
    for (size_t t = 0, end; t < count; t = end) {
        vec sum[STRIP] = { vec_zero(), vec_zero(), vec_zero(), vec_zero() };
        end = smaller(count, t + CHAIN);
        for (; t < end; t++) {
            ptrdiff_t id = id_at(ids, id_size, (ptrdiff_t)t);
            if (id < 0) continue;
            vec w = weights ? vec_set(weights[t]) : vec_set(1);
            const real *row = table + id * (ptrdiff_t)n;
            for (size_t k = 0; k < vectors; k++) sum[k] = vec_add_product(sum[k], w, vec_load(row + k * LANES));
        }
        for (size_t k = 0; k < vectors; k++) total[k] = wide_add(total[k], sum[k]);
    }
    for (size_t k = 0; k < vectors; k++) vec_store(out + k * LANES, narrow(wide_scale(total[k], scale)));
}

static double sum_column(size_t count, size_t n, const real *column, const void *ids, size_t id_size,
                         const real *weights) {
    double total = 0;
    for (size_t t = 0, end; t < count; t = end) {
        real sum = 0;
        end = smaller(count, t + CHAIN);
        for (; t < end; t++) {
            ptrdiff_t id = id_at(ids, id_size, (ptrdiff_t)t);
            if (id >= 0) sum = real_add_product(sum, weights ? weights[t] : 1, column[id * (ptrdiff_t)n]);
        }
        total += (double)sum;
    }
    return total;
}

void PSG_KERNEL(bag_sum)(size_t count, size_t n, const void *table_, const void *ids, size_t id_size,
                         const void *weights, double scale, void *out_) {
    const real *table = table_;
    real *out = out_;
    size_t i = 0;
    for (; i + STRIP * LANES <= n; i += STRIP * LANES) {
        sum_strip(STRIP, count, n, table + i, ids, id_size, weights, scale, out + i);
    }
    for (; i + LANES <= n; i += LANES) sum_strip(1, count, n, table + i, ids, id_size, weights, scale, out + i);
    for (; i < n; i++) out[i] = (real)(scale * sum_column(count, n, table + i, ids, id_size, weights));
}

void PSG_KERNEL(bag_max)(size_t count, size_t n, const void *table_, const void *ids, size_t id_size, void *out_,
                         void *winner_) {
    const real *table = table_;
    real *out = out_;
    real_bits *winner = winner_;
    for (size_t i = 0; i < n; i++) {
        out[i] = 0;
        winner[i] = -1;
    }
    for (size_t t = 0; t < count; t++) {
        ptrdiff_t id = id_at(ids, id_size, (ptrdiff_t)t);
        if (id < 0) continue;
        const real *row = table + id * (ptrdiff_t)n;
        for (size_t i = 0; i < n; i++) {
            bool wins = winner[i] < 0 || row[i] > out[i];
            out[i] = wins ? row[i] : out[i];
            winner[i] = wins ? (real_bits)t : winner[i];
        }
    }
}

static double p_norm(size_t n, double p, double scale, const real *x) {
    double sum = 0;
    if (isinf(p)) return scale * largest_magnitude(n, x);
    for (size_t i = 0; i < n; i++) {
        double size = scale * fabs((double)x[i]);
        sum += p == 2 ? size * size : p == 1 ? size : pow(size, p);
    }
    return p == 2 ? sqrt(sum) : pow(sum, 1 / p);
}

/* The norm is that of scaled elements, in range with its powers.  most / norm of the elements themselves is below 1, in
 * two factors where it is below the least normal number. */
void PSG_KERNEL(limit_norm)(size_t n, double p, double most, void *x_) {
    real *x = x_;
    const double scale = scale_to_one(largest_magnitude(n, x)), norm = p_norm(n, p, scale, x);
    if (!(norm > most * scale)) return;
    const double factor = most * scale / norm;
    if (factor >= DBL_MIN) {
        for (size_t i = 0; i < n; i++) x[i] = (real)((double)x[i] * factor);
    } else {
        for (size_t i = 0; i < n; i++) x[i] = (real)((double)x[i] * scale * (most / norm));
    }
}
