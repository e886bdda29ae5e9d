#include "noise_tally.h"

#include <math.h>

const int64_t noise_lags[NOISE_LAGS] = { 1, 2, 8, 16, NOISE_BLOCK };

void noise_standardise(const int64_t *z, int64_t count, noise_release *release) {
    for (int64_t i = 0; i < count; i++) {
        const double u = (double)z[i] * 0x1p-36;
        release->u[i] = u;
        release->v[i] = (u * u - 1) * sqrt(0.5);
    }
}

/* In four chains, which do not wait for each other. */
static double product(const double *x, const double *y, int64_t count) {
    double sum[4] = { 0 };
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        for (int k = 0; k < 4; k++) sum[k] += x[i + k] * y[i + k];
    }
    for (; i < count; i++) sum[0] += x[i] * y[i];
    return sum[0] + sum[1] + sum[2] + sum[3];
}

void noise_count_pair(noise_sums *sums, const noise_release *a, int64_t first_a, const noise_release *b,
                      int64_t first_b, int64_t count) {
    if (count <= 0) return;
    sums->u += product(a->u + first_a, b->u + first_b, count);
    sums->v += product(a->v + first_a, b->v + first_b, count);
    sums->count += count;
}

static void count_powers(noise_tally *t, const double *u, int64_t count) {
    double sum[5] = { 0 };
    for (int64_t i = 0; i < count; i++) {
        const double square = u[i] * u[i];
        sum[1] += u[i];
        sum[2] += square;
        sum[3] += square * u[i];
        sum[4] += square * square;
    }
    for (int k = 1; k < 5; k++) t->power[k] += sum[k];
}

/* The integer part of |u| tells which of k = 1 .. 5 it reaches. */
static void count_tails(noise_tally *t, const double *u, int64_t count) {
    int64_t reach[2][NOISE_TAILS + 1] = { { 0 } };
    for (int64_t i = 0; i < count; i++) {
        const int whole = (int)fabs(u[i]);
        reach[u[i] < 0][whole < NOISE_TAILS ? whole : NOISE_TAILS]++;
    }
    for (int k = NOISE_TAILS; k > 0; k--) {
        for (int j = k; j <= NOISE_TAILS; j++) t->above[k] += reach[0][j], t->below[k] += reach[1][j];
    }
}

static void add(noise_sums *sums, double u, double v) {
    sums->u += u;
    sums->v += v;
    sums->count++;
}

void noise_count(noise_tally *t, const int64_t *z, const noise_release *r, int64_t count) {
    t->count += count;
    count_powers(t, r->u, count);
    count_tails(t, r->u, count);
    for (int k = 0; k < NOISE_LAGS; k++) {
        noise_count_pair(&t->lag[k], r, 0, r, noise_lags[k], count - noise_lags[k]);
    }
    for (int64_t i = 0; i < count; i++) {
        add(&t->lane[i % NOISE_LANES], r->u[i], r->v[i]);
        add(&t->place[i % NOISE_BLOCK], r->u[i], r->v[i]);
        for (int k = 0; k < NOISE_BYTES; k++) t->byte[k][(uint64_t)z[i] >> 8 * k & 255]++;
    }
}
