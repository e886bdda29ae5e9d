/* A convolution is a product of Fourier transforms, here on 36 x 36 points; taking every k-th of its results is folding
 * the product, the mean of its k x k blocks.  With x the padded image, psi the wavelets (j, direction) and phi the
 * blur:
 *
 *   order 0      x * phi
 *   order 1      |x * psi_1| * phi
 *   order 2      ||x * psi_1| * psi_2| * phi     for j_1 = 0, j_2 = 1
 *
 * A path is computed at its own scale: 36 >> j points a side.  Eight images go together, one in each lane. */
#include "scattering.h"

#include <complex.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { J = 2, L = 8, IMAGE = 28, PAD = 4, SIDE = IMAGE + 2 * PAD, POINTS = SIDE * SIDE, HALF = SIDE / 2, LOW = SIDE / 4,
       LANES = 8 };

/* Functions in which lanes are registers, compiled for each of these instruction sets and chosen when the program
 * starts, which is before the sanitizers do. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define ON_LANES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define ON_LANES
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(LANES * sizeof(float))));
typedef struct number { lanes re, im; } number;

/* Fourier transforms of the filters, which are real. */
struct scattering_filters {
    float phi[J][POINTS];           /* at scale j: (36 >> j)^2 points */
    float psi[J][L][POINTS];
    float cosine[SIDE], sine[SIDE]; /* of 2 pi k / 36 */
};

/* ---- the filters, as kymatio's filter_bank makes them ---- */

typedef struct gabor_shape { double sigma, theta, xi, slant; } gabor_shape;

/* exp(-u^T C u / (2 sigma^2) + i xi <u, (cos, sin)>) over its integral without the wave, C round but for the slant
 * across theta, summed over periods.  kymatio writes 3.1415 for the pi of the integral. */
static void gabor(const gabor_shape *g, double complex *out) {
    const double c = cos(g->theta), s = sin(g->theta), slant = g->slant * g->slant, over = 2 * g->sigma * g->sigma;
    const double xx = (c * c + slant * s * s) / over, yy = (s * s + slant * c * c) / over, xy = c * s * (1 - slant) / over;
    for (int p = 0; p < POINTS; p++) {
        out[p] = 0;
        for (int period = 0; period < 25; period++) {
            const double x = p / SIDE + (period / 5 - 2) * SIDE, y = p % SIDE + (period % 5 - 2) * SIDE;
            out[p] += cexp(-(xx * x * x + 2 * xy * x * y + yy * y * y) + I * g->xi * (x * c + y * s));
        }
        out[p] *= g->slant / (3.1415 * over);
    }
}

/* Less as much of its envelope as makes its sum zero. */
static void morlet(const gabor_shape *g, double complex *out) {
    const gabor_shape envelope = { g->sigma, g->theta, 0, g->slant };
    double complex blurred[POINTS], sum = 0, blurred_sum = 0;
    gabor(g, out);
    gabor(&envelope, blurred);
    for (int p = 0; p < POINTS; p++) sum += out[p], blurred_sum += blurred[p];
    for (int p = 0; p < POINTS; p++) out[p] -= sum / blurred_sum * blurred[p];
}

/* The Fourier transform, which is real; along rows, then along columns. */
static void transform_filter(const double complex *x, float *out) {
    double complex row[POINTS], sum;
    for (int p = 0; p < POINTS; p++) {
        for (int k = row[p] = 0; k < SIDE; k++) {
            row[p] += x[p / SIDE * SIDE + k] * cexp(-2 * M_PI * I * (p % SIDE * k % SIDE) / SIDE);
        }
    }
    for (int p = 0; p < POINTS; p++) {
        for (int k = sum = 0; k < SIDE; k++) {
            sum += row[k * SIDE + p % SIDE] * cexp(-2 * M_PI * I * (p / SIDE * k % SIDE) / SIDE);
        }
        out[p] = (float)creal(sum);
    }
}

/* The middle half of the frequencies is left out, the others lie together. */
static void halve_filter(const float *x, float *out) {
    for (int p = 0; p < HALF * HALF; p++) {
        const int row = p / HALF, column = p % HALF;
        out[p] = x[(row < HALF / 2 ? row : row + HALF) * SIDE + (column < HALF / 2 ? column : column + HALF)];
    }
}

static void make_filters(scattering_filters *f) {
    double complex x[POINTS];
    for (int j = 0; j < J; j++) {
        for (int l = 0; l < L; l++) {
            morlet(&(gabor_shape){ 0.8 * (1 << j), (L - L / 2 - 1 - l) * M_PI / L, 0.75 * M_PI / (1 << j), 4.0 / L }, x);
            transform_filter(x, f->psi[j][l]);
        }
    }
    gabor(&(gabor_shape){ 0.8 * (1 << (J - 1)), 0, 0, 1 }, x);
    transform_filter(x, f->phi[0]);
    halve_filter(f->phi[0], f->phi[1]);
    for (int k = 0; k < SIDE; k++) {
        f->cosine[k] = (float)cos(2 * M_PI * k / SIDE);
        f->sine[k] = (float)sin(2 * M_PI * k / SIDE);
    }
}

/* ---- transforms of 9, 18 and 36 points a side: 9 = 3 x 3, and 2 or 4 times as many (Cooley and Tukey, 1965) ---- */

/* x e^{i sign 2 pi k / 36} */
INLINE void turn(number *x, const scattering_filters *f, int k, float sign) {
    const float c = f->cosine[k], s = sign * f->sine[k];
    const lanes re = x->re * c - x->im * s;
    x->im = x->re * s + x->im * c;
    x->re = re;
}

INLINE void transform_3(number *a, number *b, number *c, float sign) {
    const float root = sign * 0.86602540378443865f;
    const lanes re = b->re + c->re, im = b->im + c->im, d_re = root * (b->re - c->re), d_im = root * (b->im - c->im);
    const lanes m_re = a->re - 0.5f * re, m_im = a->im - 0.5f * im;
    a->re += re;
    a->im += im;
    b->re = m_re - d_im;
    b->im = m_im + d_re;
    c->re = m_re + d_im;
    c->im = m_im - d_re;
}

/* Of x[0 .. 9), in place but for the order: result k is at 3 (k mod 3) + k / 3. */
INLINE void transform_9(number *x, const scattering_filters *f, float sign) {
    for (int n = 0; n < 3; n++) {
        transform_3(&x[n], &x[n + 3], &x[n + 6], sign);
        turn(&x[n + 3], f, 4 * n, sign);
        turn(&x[n + 6], f, 8 * n, sign);
    }
    for (int k = 0; k < 9; k += 3) transform_3(&x[k], &x[k + 1], &x[k + 2], sign);
}

INLINE void transform_2(number *a, number *b) {
    const number difference = { a->re - b->re, a->im - b->im };
    a->re += b->re;
    a->im += b->im;
    *b = difference;
}

INLINE void transform_4(number *a, number *b, number *c, number *d, float sign) {
    transform_2(a, c);
    transform_2(b, d);
    transform_2(a, b);
    const lanes re = -sign * d->im, im = sign * d->re;   /* i sign d */
    *d = (number){ c->re - re, c->im - im };
    c->re += re;
    c->im += im;
    const number middle = *b;                            /* of a, c, b, d are results 0, 1, 2, 3 */
    *b = *c;
    *c = middle;
}

/* The 9 r points x[0], x[stride], ...: r points apart by 9, then 9 of each. */
INLINE void transform_line(int r, number *x, int stride, const scattering_filters *f, float sign) {
    number t[4][9];
    for (int n = 0; n < 9; n++) {
        for (int k = 0; k < r; k++) t[k][n] = x[(n + 9 * k) * stride];
        if (r == 2) transform_2(&t[0][n], &t[1][n]);
        if (r == 4) transform_4(&t[0][n], &t[1][n], &t[2][n], &t[3][n], sign);
        for (int k = 1; k < r; k++) turn(&t[k][n], f, n * k * (4 / r), sign);
    }
    for (int k = 0; k < r; k++) {
        transform_9(t[k], f, sign);
        for (int n = 0; n < 9; n++) x[(k + r * n) * stride] = t[k][3 * (n % 3) + n / 3];
    }
}

INLINE void transform_square(int r, number *x, const scattering_filters *f, float sign) {
    for (int i = 0; i < 9 * r; i++) transform_line(r, x + i * 9 * r, 1, f, sign);
    for (int i = 0; i < 9 * r; i++) transform_line(r, x + i, 9 * r, f, sign);
}

/* sum x e^{i sign 2 pi k n / side} in both dimensions; sign -1 is the Fourier transform, 1 its inverse times side^2. */
ON_LANES static void transform(int side, number *x, const scattering_filters *f, float sign) {
    if (side == SIDE) transform_square(4, x, f, sign);
    else if (side == HALF) transform_square(2, x, f, sign);
    else transform_square(1, x, f, sign);
}

/* ---- the paths ---- */

/* Of x times a filter, side points a side, the mean of its k x k blocks, over the points of the inverse transform. */
ON_LANES static void multiply_and_fold(int side, int k, const number *x, const float *filter, number *out) {
    const int few = side / k;
    const float scale = 1.0f / (float)(side * side);
    for (int p = 0; p < few * few; p++) {
        number sum = { 0 };
        for (int block = 0; block < k * k; block++) {
            const int at = (p / few + block / k * few) * side + p % few + block % k * few;
            sum.re += x[at].re * filter[at];
            sum.im += x[at].im * filter[at];
        }
        out[p] = (number){ sum.re * scale, sum.im * scale };
    }
}

ON_LANES static void take_modulus(int points, number *x) {
    for (int p = 0; p < points; p++) {
        lanes square = x[p].re * x[p].re + x[p].im * x[p].im;
        for (int l = 0; l < LANES; l++) x[p].re[l] = sqrtf(square[l]);
        x[p].im = (lanes){ 0 };
    }
}

typedef struct job {
    const scattering_filters *f;
    const uint8_t *images;
    int64_t count, blocks;
    float *features;
    atomic_llong next;
} job;

typedef struct block {
    const job *job;
    int64_t first;                  /* image of lane 0 */
    number image[POINTS], first_order[POINTS], second_order[HALF * HALF], low[LOW * LOW];
} block;

/* The blur of a path at scale j, and its inner 7 x 7 points, which the padding does not reach. */
static void finish_path(block *b, int path, int j, const number *x) {
    const int side = SIDE >> j;
    multiply_and_fold(side, side / LOW, x, b->job->f->phi[j], b->low);
    transform(LOW, b->low, b->job->f, 1);
    for (int64_t l = 0; l < LANES && b->first + l < b->job->count; l++) {
        float *out = b->job->features + (b->first + l) * SCATTERING_FEATURES + path * SCATTERING_PLACES;
        for (int p = 0; p < SCATTERING_PLACES; p++) out[p] = b->low[(p / 7 + 1) * LOW + p % 7 + 1].re[l];
    }
}

/* out = transform of |x * psi|, of from and to points a side */
static void scatter(const scattering_filters *f, int from, int to, const number *x, const float *psi, number *out) {
    multiply_and_fold(from, from / to, x, psi, out);
    transform(to, out, f, 1);
    take_modulus(to * to, out);
    transform(to, out, f, -1);
}

/* Reflected about the first and last rows and columns. */
static int reflected(int at) { return at < 0 ? -at : at >= IMAGE ? 2 * (IMAGE - 1) - at : at; }

static void read_images(block *b) {
    memset(b->image, 0, sizeof b->image);
    for (int64_t l = 0; l < LANES && b->first + l < b->job->count; l++) {
        const uint8_t *image = b->job->images + (b->first + l) * IMAGE * IMAGE;
        for (int p = 0; p < POINTS; p++) {
            b->image[p].re[l] = (float)image[reflected(p / SIDE - PAD) * IMAGE + reflected(p % SIDE - PAD)] / 255.0f;
        }
    }
}

static void scatter_block(block *b) {
    const scattering_filters *f = b->job->f;
    read_images(b);
    transform(SIDE, b->image, f, -1);
    finish_path(b, 0, 0, b->image);
    for (int path = 0; path < J * L; path++) {
        const int j = path / L;
        scatter(f, SIDE, SIDE >> j, b->image, f->psi[j][path % L], b->first_order);
        finish_path(b, 1 + path, j, b->first_order);
        for (int l = 0; l < L && j == 0; l++) {
            scatter(f, SIDE, HALF, b->first_order, f->psi[1][l], b->second_order);
            finish_path(b, 1 + J * L + path * L + l, 1, b->second_order);
        }
    }
}

static void *scatter_blocks(void *argument) {
    job *shared = argument;
    block *b = aligned_alloc(_Alignof(lanes), sizeof *b);
    if (!b) return argument;        /* not NULL: failed */
    b->job = shared;
    for (int64_t k; (k = atomic_fetch_add(&shared->next, 1)) < shared->blocks;) {
        b->first = k * LANES;
        scatter_block(b);
    }
    free(b);
    return NULL;
}

scattering_filters *scattering_filters_create(void) {
    scattering_filters *f = malloc(sizeof *f);
    if (f) make_filters(f);
    return f;
}

void scattering_filters_destroy(scattering_filters *f) { free(f); }

int scattering_of(const scattering_filters *f, const uint8_t *images, int64_t count, unsigned threads,
                  float *features) {
    enum { MOST_THREADS = 64 };
    pthread_t thread[MOST_THREADS];
    unsigned started = 0;
    void *failed = NULL;
    job shared = { .f = f, .images = images, .count = count, .blocks = (count + LANES - 1) / LANES,
                   .features = features };
    while (started < threads && started < MOST_THREADS &&
           !pthread_create(&thread[started], NULL, scatter_blocks, &shared)) started++;
    for (unsigned k = 0; k < started; k++) {
        void *result;
        pthread_join(thread[k], &result);
        if (result) failed = result;
    }
    return failed || !started ? -1 : 0;
}

/* ---- normalisation ---- */

void scattering_normalise(float *features) {
    enum { GROUPS = 27, GROUP = SCATTERING_FEATURES / GROUPS };
    for (float *x = features; x < features + SCATTERING_FEATURES; x += GROUP) {
        double mean = 0, square = 0;
        for (int i = 0; i < GROUP; i++) mean += (double)x[i] / GROUP;
        for (int i = 0; i < GROUP; i++) square += ((double)x[i] - mean) * ((double)x[i] - mean) / GROUP;
        const double scale = 1 / sqrt(square + 1e-5);
        for (int i = 0; i < GROUP; i++) x[i] = (float)(((double)x[i] - mean) * scale);
    }
}
