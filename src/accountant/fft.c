/* Radix 4, decimation in frequency forward and in time backward, depth first, so that small transforms stay in the
 * cache whatever the length; the last stage is of radix 2 where the length is no power of 4. */
#include "fft.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/context.h"
#include "base/memory.h"

/* ---- twiddles ---- */

typedef double lanes __attribute__((vector_size(16)));
#define LANES ((size_t)2)

static lanes load(const double *from) {
    lanes v;
    memcpy(&v, from, sizeof v);
    return v;
}

static void store(double *to, lanes v) { memcpy(to, &v, sizeof v); }

/* e^{i pi j / 2m}, j < m: products of few sines and cosines. */
static void fill_quarter(double *real, size_t m) {
    const double unit = M_PI / (double)(2 * m);
    size_t row = 1;
    while (row * row < m) row *= 2;
    for (size_t j = 0; j < row; j++) real[j] = cos(unit * (double)j), real[m + j] = sin(unit * (double)j);
    for (size_t first = row; first < m; first += row) {
        double c = cos(unit * (double)first), s = sin(unit * (double)first);
        for (size_t j = 0; j < row; j++) {
            real[first + j] = c * real[j] - s * real[m + j];
            real[m + first + j] = c * real[m + j] + s * real[j];
        }
    }
}

/* e^{i pi j / 2m} for j < 3 m, from its first quarter. */
static void root(const double *real, size_t m, size_t j, double *c, double *s) {
    double re = real[j % m], im = real[m + j % m];
    size_t quarters = j / m;
    *c = quarters == 0 ? re : quarters == 1 ? -im : -re;
    *s = quarters == 0 ? im : quarters == 1 ? re : -im;
}

/* The stage of length n has w^k, w^2k, w^3k, w = e^{2 pi i / n}, k < n / 4: six arrays, shorter stages behind longer
 * ones. */
static double *fill_stage(double *stage, const double *real, size_t m, size_t n) {
    const size_t quarter = n / 4, step = 4 * (m / n);
    for (size_t k = 0; k < quarter; k++) {
        for (size_t power = 1; power <= 3; power++) {
            root(real, m, power * k * step, &stage[(2 * power - 2) * quarter + k],
                 &stage[(2 * power - 1) * quarter + k]);
        }
    }
    return stage + 6 * quarter;
}

/* Doubles of all stages, behind which stand the real and imaginary parts of fill_quarter. */
static size_t stages_size(size_t length) {
    size_t size = 0;
    for (size_t n = length; n >= 4; n /= 4) size += 6 * (n / 4);
    return size;
}

static double *end_of_stages(const psg_fft *fft) { return fft->twiddles + stages_size(fft->length); }

static void fill(const psg_fft *fft) {
    double *stage = fft->twiddles, *real = end_of_stages(fft);
    fill_quarter(real, fft->length);
    for (size_t n = fft->length; n >= 4; n /= 4) stage = fill_stage(stage, real, fft->length, n);
}

psg_status psg_fft_create(psg_context *context, const char *function, size_t length, psg_fft *fft) {
    *fft = (psg_fft){ context, length, NULL };
    size_t count = stages_size(length) + 2 * length;
    fft->twiddles = psg_alloc(context, count * sizeof *fft->twiddles);
    if (!fft->twiddles) return psg_fail_memory(context, function, count * sizeof *fft->twiddles);
    fill(fft);
    return PSG_OK;
}

void psg_fft_free(psg_fft *fft) { psg_free(fft->context, fft->twiddles); }

/* In units of half DBL_EPSILON: a stage adds twice (1 each), multiplies (sqrt 5) by a twiddle that is a product
 * (sqrt 5) of two values whose angles below pi / 2 were rounded (4 each with their own rounding); the twist at either
 * end is another product. */
double psg_fft_error(const psg_fft *fft) {
    double stages = ceil(log2((double)fft->length) / 2);
    return (15 * stages + 15) * DBL_EPSILON / 2;
}

/* ---- one stage ---- */

typedef struct pair {
    lanes re, im;
} pair;

static pair load_pair(const double *re, const double *im, size_t at) {
    return (pair){ load(re + at), load(im + at) };
}

static void store_pair(double *re, double *im, size_t at, pair v) {
    store(re + at, v.re);
    store(im + at, v.im);
}

static pair times(pair a, pair w) { return (pair){ a.re * w.re - a.im * w.im, a.re * w.im + a.im * w.re }; }
static pair times_conjugate(pair a, pair w) { return (pair){ a.re * w.re + a.im * w.im, a.im * w.re - a.re * w.im }; }
static pair sum(pair a, pair b) { return (pair){ a.re + b.re, a.im + b.im }; }
static pair difference(pair a, pair b) { return (pair){ a.re - b.re, a.im - b.im }; }
static pair times_i(pair a) { return (pair){ -a.im, a.re }; }

static void split_stage(const double *w, double *re, double *im, size_t q) {
    for (size_t k = 0; k < q; k += LANES) {
        pair a = load_pair(re, im, k), b = load_pair(re, im, k + q);
        pair c = load_pair(re, im, k + 2 * q), d = load_pair(re, im, k + 3 * q);
        pair even = sum(a, c), odd = sum(b, d), ac = difference(a, c), bd = times_i(difference(b, d));
        store_pair(re, im, k, sum(even, odd));
        store_pair(re, im, k + q, times(sum(ac, bd), load_pair(w, w + q, k)));
        store_pair(re, im, k + 2 * q, times(difference(even, odd), load_pair(w + 2 * q, w + 3 * q, k)));
        store_pair(re, im, k + 3 * q, times(difference(ac, bd), load_pair(w + 4 * q, w + 5 * q, k)));
    }
}

static void join_stage(const double *w, double *re, double *im, size_t q) {
    for (size_t k = 0; k < q; k += LANES) {
        pair a = load_pair(re, im, k), b = times_conjugate(load_pair(re, im, k + q), load_pair(w, w + q, k));
        pair c = times_conjugate(load_pair(re, im, k + 2 * q), load_pair(w + 2 * q, w + 3 * q, k));
        pair d = times_conjugate(load_pair(re, im, k + 3 * q), load_pair(w + 4 * q, w + 5 * q, k));
        pair even = sum(a, c), odd = sum(b, d), ac = difference(a, c), bd = times_i(difference(b, d));
        store_pair(re, im, k, sum(even, odd));
        store_pair(re, im, k + q, difference(ac, bd));
        store_pair(re, im, k + 2 * q, difference(even, odd));
        store_pair(re, im, k + 3 * q, sum(ac, bd));
    }
}

/* ---- the shortest transforms, one value at a time ---- */

static void radix2(double *re, double *im) {
    double r = re[1], i = im[1];
    re[1] = re[0] - r;
    im[1] = im[0] - i;
    re[0] += r;
    im[0] += i;
}

/* direction 1: e^{+2 pi i / 4}. */
static void radix4(double *re, double *im, double direction, int one, int three) {
    double er = re[0] + re[2], ei = im[0] + im[2], sr = re[1] + re[3], si = im[1] + im[3];
    double ar = re[0] - re[2], ai = im[0] - im[2], br = direction * (re[1] - re[3]), bi = direction * (im[1] - im[3]);
    re[0] = er + sr, im[0] = ei + si;
    re[2] = er - sr, im[2] = ei - si;
    re[one] = ar - bi, im[one] = ai + br;
    re[three] = ar + bi, im[three] = ai - br;
}

/* ---- the recursion ---- */

static void forward(const double *w, double *re, double *im, size_t n) {
    if (n == 2) radix2(re, im);
    if (n == 4) radix4(re, im, 1, 1, 3);
    if (n <= 4) return;
    split_stage(w, re, im, n / 4);
    for (size_t part = 0; part < 4; part++) forward(w + 6 * (n / 4), re + part * (n / 4), im + part * (n / 4), n / 4);
}

static void backward(const double *w, double *re, double *im, size_t n) {
    if (n == 2) radix2(re, im);
    if (n == 4) radix4(re, im, -1, 1, 3);
    if (n <= 4) return;
    for (size_t part = 0; part < 4; part++) backward(w + 6 * (n / 4), re + part * (n / 4), im + part * (n / 4), n / 4);
    join_stage(w, re, im, n / 4);
}

/* ---- the twist that makes a real sequence of twice the length of it ---- */

void psg_fft_forward(const psg_fft *fft, double *re, double *im) {
    const double *real = end_of_stages(fft);
    for (size_t j = 0; j < fft->length; j += LANES) {
        store_pair(re, im, j, times(load_pair(re, im, j), load_pair(real, real + fft->length, j)));
    }
    forward(fft->twiddles, re, im, fft->length);
}

void psg_fft_backward(const psg_fft *fft, double *re, double *im) {
    const double *real = end_of_stages(fft);
    const double scale = 1 / (double)fft->length;
    backward(fft->twiddles, re, im, fft->length);
    for (size_t j = 0; j < fft->length; j += LANES) {
        pair v = times_conjugate(load_pair(re, im, j), load_pair(real, real + fft->length, j));
        store_pair(re, im, j, (pair){ scale * v.re, scale * v.im });
    }
}
