/* Normalization: y = (x - mean) * rstd * weight + bias over rows, or over the lines of a group.
 *
 * E[x^2] - mean^2 loses every digit of the variance when the mean is large against the deviation, so sums run over
 * differences to an element of the row, and again about the mean where that element lies far from it.  A row is read
 * from memory once; later passes find it in the cache.
 * The mean is used as a pair of reals, high + low: x - high is exact near the mean, so x - high - low keeps the
 * precision of x however large the mean is. */
#include "kernels.h"
#include "vector.h"

/* Lane sums run over this many vectors in the real type and are then added in double, which bounds the rounding of a
 * sum by some 20 ulp of its terms' magnitudes, whatever its length. */
enum { STRIP_VECTORS = 16, CACHE_LINE = 64 };

/* n elements that share their statistics, and the weight of each: weight[i], or factor for all when weight is NULL. */
typedef struct segment {
    size_t n;
    const real *weight;
    real factor;
    real high, low, rstd;
} segment;

static inline segment segment_of(size_t n, const real *weight, const double *stats) {
    real high = (real)stats[0];
    return (segment){ n, weight, 1, high, (real)(stats[0] - (double)high), (real)stats[1] };
}

static inline vec centered(const segment *s, vec x) { return x - vec_set(s->high) - vec_set(s->low); }

static inline vec weight_at(const segment *s, size_t i) {
    return s->weight ? vec_load(s->weight + i) : vec_set(s->factor);
}

static inline vec weight_part(const segment *s, size_t i, size_t n) {
    return s->weight ? vec_load_part(s->weight + i, n) : vec_set(s->factor);
}

static inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* Elements before the first cache line that begins in p: full lines alone are worth a streaming store. */
static inline size_t head_length(const real *p, size_t n, bool stream) {
    size_t past = (uintptr_t)p % CACHE_LINE;
    return stream && past ? smaller(n, (CACHE_LINE - past) / sizeof(real)) : 0;
}

/* ---- statistics ---- */

/* Sums of x - origin and of its squares, by lanes. */
typedef struct moments {
    dvec first, second;
} moments;

static inline moments add_moments(moments m, size_t n, const real *x, real origin) {
    const vec from = vec_set(origin);
    const size_t pairs = n - n % (2 * LANES);
    for (size_t i = 0; i < pairs;) {
        size_t end = smaller(pairs, i + STRIP_VECTORS * LANES);
        vec first[2] = { vec_zero(), vec_zero() }, second[2] = { vec_zero(), vec_zero() };
        for (; i < end; i += 2 * LANES) {
            vec c = vec_load(x + i) - from, d = vec_load(x + i + LANES) - from;
            first[0] += c;
            first[1] += d;
            second[0] += c * c;
            second[1] += d * d;
        }
        m.first = dvec_add(m.first, first[0] + first[1]);
        m.second = dvec_add(m.second, second[0] + second[1]);
    }
    for (size_t i = pairs; i < n; i += LANES) {
        size_t part = smaller(LANES, n - i);
        vec c = vec_first(vec_load_part(x + i, part) - from, part);
        m.first = dvec_add(m.first, c);
        m.second = dvec_add(m.second, c * c);
    }
    return m;
}

typedef struct sample {
    double origin, mean, variance;   /* mean: of x - origin */
} sample;

static inline sample sample_about(size_t lines, size_t n, ptrdiff_t stride, const real *x, real origin) {
    const double count = (double)lines * (double)n;
    moments m = { { 0 }, { 0 } };
    for (size_t k = 0; k < lines; k++) m = add_moments(m, n, x + (ptrdiff_t)k * stride, origin);
    double mean = dvec_sum(m.first) / count, variance = dvec_sum(m.second) / count - mean * mean;
    return (sample){ (double)origin, mean, variance < 0 ? 0 : variance };
}

/* stats = mean, 1 / sqrt(variance + eps): NaN when that sum is negative, as in the definition.  Returns the variance.
 * About an origin within 3 deviations of the mean the subtraction of mean^2 costs at most one digit; equal elements
 * have variance 0 exactly. */
static inline double statistics(size_t lines, size_t n, ptrdiff_t stride, double eps, const real *x, double *stats) {
    sample s = sample_about(lines, n, stride, x, x[0]);
    if (s.mean * s.mean > 9 * s.variance) s = sample_about(lines, n, stride, x, (real)(s.origin + s.mean));
    stats[0] = s.origin + s.mean;
    stats[1] = 1 / __builtin_sqrt(s.variance + eps);
    return s.variance;
}

/* stats = 0, 1 / sqrt(mean of x^2 + eps): the root mean square is a deviation from 0. */
static inline void root_mean_square(size_t n, double eps, const real *x, double *stats) {
    moments m = add_moments((moments){ { 0 }, { 0 } }, n, x, 0);
    stats[0] = 0;
    stats[1] = 1 / __builtin_sqrt(dvec_sum(m.second) / (double)n + eps);
}

/* ---- y = (x - mean) rstd weight + bias ---- */

static inline vec normalized(const segment *s, vec x, vec weight, vec bias) {
    return centered(s, x) * vec_set(s->rstd) * weight + bias;
}

static void normalize_part(const segment *s, const real *x, const real *bias, real shift, real *y, size_t i, size_t n) {
    vec b = bias ? vec_load_part(bias + i, n) : vec_set(shift);
    vec_store_part(y + i, normalized(s, vec_load_part(x + i, n), weight_part(s, i, n), b), n);
}

/* The bias of element i is bias[i], or shift for all when bias is NULL. */
static void normalize(const segment *s, const real *x, const real *bias, real shift, real *y, bool stream) {
    size_t i = head_length(y, s->n, stream);
    if (i) normalize_part(s, x, bias, shift, y, 0, i);
    for (; i + LANES <= s->n; i += LANES) {
        vec b = bias ? vec_load(bias + i) : vec_set(shift);
        vec value = normalized(s, vec_load(x + i), weight_at(s, i), b);
        if (stream) vec_stream(y + i, value);
        else vec_store(y + i, value);
    }
    if (i < s->n) normalize_part(s, x, bias, shift, y, i, s->n - i);
}

/* ---- backward: h = g weight, c = x - mean ---- */

typedef struct sums {
    dvec h, hc;   /* sum h, sum h c, by lanes */
} sums;

/* Where the terms g c rstd and g of a row go, NULL: nowhere; they are added, or overwrite what is there. */
typedef struct row_sums {
    real *weight, *bias;
    bool overwrite;
} row_sums;

typedef struct terms {
    vec h, hc;
} terms;

/* The terms of one vector; hands over g c rstd and g. */
static inline terms one_vector(const segment *s, const real *x, const real *g, row_sums to, size_t i) {
    vec c = centered(s, vec_load(x + i)), go = vec_load(g + i), h = go * weight_at(s, i);
    if (to.weight) {
        vec term = go * (c * vec_set(s->rstd));
        vec_store(to.weight + i, to.overwrite ? term : vec_load(to.weight + i) + term);
    }
    if (to.bias) vec_store(to.bias + i, to.overwrite ? go : vec_load(to.bias + i) + go);
    return (terms){ h, h * c };
}

static inline terms part_of_vector(const segment *s, const real *x, const real *g, row_sums to, size_t i, size_t n) {
    vec c = centered(s, vec_load_part(x + i, n)), go = vec_load_part(g + i, n), h = go * weight_part(s, i, n);
    if (to.weight) {
        vec term = go * (c * vec_set(s->rstd));
        vec_store_part(to.weight + i, to.overwrite ? term : vec_load_part(to.weight + i, n) + term, n);
    }
    if (to.bias) vec_store_part(to.bias + i, to.overwrite ? go : vec_load_part(to.bias + i, n) + go, n);
    return (terms){ h, h * c };
}

/* One read of x and g gives the two sums of the row and its share of the sums over rows. */
static inline sums backward_sums(const segment *s, const real *x, const real *g, row_sums to) {
    const size_t pairs = s->n - s->n % (2 * LANES);
    sums out = { { 0 }, { 0 } };
    for (size_t i = 0; i < pairs;) {
        size_t end = smaller(pairs, i + STRIP_VECTORS * LANES);
        vec h[2] = { vec_zero(), vec_zero() }, hc[2] = { vec_zero(), vec_zero() };
        for (; i < end; i += 2 * LANES) {
            terms even = one_vector(s, x, g, to, i), odd = one_vector(s, x, g, to, i + LANES);
            h[0] += even.h;
            h[1] += odd.h;
            hc[0] += even.hc;
            hc[1] += odd.hc;
        }
        out.h = dvec_add(out.h, h[0] + h[1]);
        out.hc = dvec_add(out.hc, hc[0] + hc[1]);
    }
    for (size_t i = pairs; i < s->n; i += LANES) {
        terms rest = part_of_vector(s, x, g, to, i, smaller(LANES, s->n - i));
        out.h = dvec_add(out.h, rest.h);
        out.hc = dvec_add(out.hc, rest.hc);
    }
    return out;
}

/* The means that the input gradient subtracts: of h, and of h (x - mean) rstd. */
typedef struct means {
    real h, hx;
} means;

static inline means means_of(double sum_h, double sum_hc, double rstd, double count) {
    return (means){ (real)(sum_h / count), (real)(sum_hc * rstd / count) };
}

/* rstd (h - mean(h) - xh mean(h xh)), xh = c rstd */
static inline vec input_gradient(const segment *s, means m, vec x, vec g, vec weight) {
    vec rstd = vec_set(s->rstd);
    return rstd * (g * weight - vec_set(m.h) - centered(s, x) * rstd * vec_set(m.hx));
}

static void input_gradient_part(const segment *s, means m, const real *x, const real *g, real *gx, size_t i, size_t n) {
    vec value = input_gradient(s, m, vec_load_part(x + i, n), vec_load_part(g + i, n), weight_part(s, i, n));
    vec_store_part(gx + i, value, n);
}

static void write_input_gradient(const segment *s, means m, const real *x, const real *g, real *gx, bool stream) {
    size_t i = head_length(gx, s->n, stream);
    if (i) input_gradient_part(s, m, x, g, gx, 0, i);
    for (; i + LANES <= s->n; i += LANES) {
        vec value = input_gradient(s, m, vec_load(x + i), vec_load(g + i), weight_at(s, i));
        if (stream) vec_stream(gx + i, value);
        else vec_store(gx + i, value);
    }
    if (i < s->n) input_gradient_part(s, m, x, g, gx, i, s->n - i);
}

/* ---- rows ---- */

/* Each step is taken for a few rows before the next one, so that the sums, the division and the root at the end of one
 * row overlap with the elements of another.  Long rows hide them anyway and are better read in one stream. */
enum { MAX_BLOCK = 8, BLOCK_BYTES = 4096 };

static inline size_t rows_in_block(size_t d) {
    size_t fit = BLOCK_BYTES / sizeof(real) / (d ? d : 1);
    return fit < 1 ? 1 : smaller(fit, MAX_BLOCK);
}

static inline void norm_block(bool about_mean, size_t rows, size_t d, double eps, const real *x, const real *weight,
                              const real *bias, real *y, double *stats, bool stream) {
    double local[2 * MAX_BLOCK];
    if (!stats) stats = local;
    for (size_t r = 0; r < rows; r++) {
        if (about_mean) statistics(1, d, 0, eps, x + r * d, stats + 2 * r);
        else root_mean_square(d, eps, x + r * d, stats + 2 * r);
    }
    for (size_t r = 0; r < rows; r++) {
        segment s = segment_of(d, weight, stats + 2 * r);
        normalize(&s, x + r * d, bias, 0, y + r * d, stream);
    }
}

static inline void norm_rows(bool about_mean, size_t rows, size_t d, double eps, const real *x, const real *weight,
                             const real *bias, real *y, double *stats, bool stream) {
    const size_t block = rows_in_block(d);
    for (size_t r = 0; r < rows && d; r += block) {
        norm_block(about_mean, smaller(block, rows - r), d, eps, x + r * d, weight, bias, y + r * d,
                   stats ? stats + 2 * r : NULL, stream);
    }
    if (stream) stream_fence();
}

void PSG_KERNEL(layer_norm)(size_t rows, size_t d, double eps, const void *x, const void *weight, const void *bias,
                            void *y, double *stats, bool stream) {
    norm_rows(true, rows, d, eps, x, weight, bias, y, stats, stream);
}

void PSG_KERNEL(rms_norm)(size_t rows, size_t d, double eps, const void *x, const void *weight, const void *bias,
                          void *y, double *stats, bool stream) {
    norm_rows(false, rows, d, eps, x, weight, bias, y, stats, stream);
}

/* Row r's terms go sum_stride r further: 0 adds all rows together. */
static inline void backward_block(bool about_mean, size_t rows, size_t d, const real *x, const real *g,
                                  const real *weight, const double *stats, real *gx, row_sums to, size_t sum_stride,
                                  bool stream) {
    means m[MAX_BLOCK];
    for (size_t r = 0; r < rows; r++) {
        segment s = segment_of(d, weight, stats + 2 * r);
        sums total = backward_sums(&s, x + r * d, g + r * d, to);
        m[r] = means_of(about_mean ? dvec_sum(total.h) : 0, dvec_sum(total.hc), stats[2 * r + 1], (double)d);
        if (to.weight) to.weight += sum_stride;
        if (to.bias) to.bias += sum_stride;
    }
    for (size_t r = 0; r < rows && gx; r++) {
        segment s = segment_of(d, weight, stats + 2 * r);
        write_input_gradient(&s, m[r], x + r * d, g + r * d, gx + r * d, stream);
    }
}

static inline void backward_rows(bool about_mean, size_t rows, size_t d, const real *x, const real *g,
                                 const real *weight, const double *stats, real *gx, row_sums to, size_t sum_stride,
                                 bool stream) {
    const size_t block = rows_in_block(2 * d);
    for (size_t r = 0; r < rows && d; r += block) {
        row_sums at = { to.weight ? to.weight + r * sum_stride : NULL, to.bias ? to.bias + r * sum_stride : NULL,
                        to.overwrite };
        backward_block(about_mean, smaller(block, rows - r), d, x + r * d, g + r * d, weight, stats + 2 * r,
                       gx ? gx + r * d : NULL, at, sum_stride, stream);
    }
    if (stream) stream_fence();
}

void PSG_KERNEL(layer_norm_backward)(size_t rows, size_t d, const void *x, const void *grad_output,
                                     const void *weight, const double *stats, void *grad_input, void *grad_weight,
                                     void *grad_bias, size_t sum_stride, bool stream) {
    const row_sums to = { grad_weight, grad_bias, sum_stride > 0 };
    backward_rows(true, rows, d, x, grad_output, weight, stats, grad_input, to, sum_stride, stream);
}

void PSG_KERNEL(rms_norm_backward)(size_t rows, size_t d, const void *x, const void *grad_output, const void *weight,
                                   const double *stats, void *grad_input, void *grad_weight, void *grad_bias,
                                   size_t sum_stride, bool stream) {
    const row_sums to = { grad_weight, grad_bias, sum_stride > 0 };
    backward_rows(false, rows, d, x, grad_output, weight, stats, grad_input, to, sum_stride, stream);
}

/* ---- groups of lines ---- */

void PSG_KERNEL(group_norm)(size_t lines, size_t n, ptrdiff_t stride, bool adjacent, double eps, const void *x_,
                            const void *weight_, const void *bias_, size_t weight_step, void *y_, double *stats,
                            double *variance, bool stream) {
    const real *x = x_, *weight = weight_, *bias = bias_;
    real *y = y_;
    double local[2];
    if (!lines || !n) return;
    if (!stats) stats = local;
    double found = adjacent ? statistics(1, lines * n, 0, eps, x, stats) : statistics(lines, n, stride, eps, x, stats);
    if (variance) *variance = found;
    segment s = segment_of(n, NULL, stats);
    for (size_t k = 0; k < lines; k++) {
        ptrdiff_t at = (ptrdiff_t)k * stride;
        s.factor = weight ? weight[k * weight_step] : 1;
        normalize(&s, x + at, NULL, bias ? bias[k * weight_step] : 0, y + at, stream);
    }
    if (stream) stream_fence();
}

void PSG_KERNEL(group_norm_backward)(size_t lines, size_t n, ptrdiff_t stride, const void *x_, const void *grad_output,
                                     const void *weight_, size_t weight_step, const double *stats, void *grad_input,
                                     void *grad_weight_, void *grad_bias_, bool stream) {
    const real *x = x_, *g = grad_output, *weight = weight_;
    real *gx = grad_input, *grad_weight = grad_weight_, *grad_bias = grad_bias_;
    const double rstd = stats[1], count = (double)lines * (double)n;
    segment s = segment_of(n, NULL, stats);
    double sum_h = 0, sum_hc = 0;
    for (size_t k = 0; k < lines; k++) {
        ptrdiff_t at = (ptrdiff_t)k * stride;
        sums line = backward_sums(&s, x + at, g + at, (row_sums){ NULL, NULL, false });
        double go = dvec_sum(line.h), go_c = dvec_sum(line.hc), w = weight ? (double)weight[k * weight_step] : 1;
        if (grad_weight) grad_weight[k] = (real)(go_c * rstd);
        if (grad_bias) grad_bias[k] = (real)go;
        sum_h += w * go;
        sum_hc += w * go_c;
    }
    const means m = means_of(sum_h, sum_hc, rstd, count);
    for (size_t k = 0; k < lines && gx; k++) {
        ptrdiff_t at = (ptrdiff_t)k * stride;
        s.factor = weight ? weight[k * weight_step] : 1;
        write_input_gradient(&s, m, x + at, g + at, gx + at, stream);
    }
    if (stream) stream_fence();
}
