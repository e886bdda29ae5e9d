/* Normalization: y = (x - mean) * rstd * weight + bias over rows, or over the lines of a group.
 *
 * E[x^2] - mean^2 loses every digit of the variance when the mean is large against the deviation, so sums run over
 * differences to an element of the row, and again about the mean where that element lies far from it.  A row is read
 * from memory once; later passes find it in the cache.
 * The mean is used as a pair of reals, high + low: x - high is exact near the mean, so x - high - low keeps the
 * precision of x however large the mean is.
 *
 * Squares leave the range of the type long before the elements do.  Statistics whose var + eps shows that are taken
 * again, of the elements times a power of two (psg_norm_stats), and all that follows works on scaled elements. */
#include "kernels.h"
#include "magnitude.h"

/* Lane sums run over this many vectors in the real type and are then added in double, which bounds the rounding of a
 * sum by some 20 ulp of its terms' magnitudes, whatever its length. */
enum { STRIP_VECTORS = 16, CACHE_LINE = 64 };

/* n elements that share their statistics, and the weight of each: weight[i], or factor for all when weight is NULL. */
typedef struct segment {
    size_t n;
    const real *weight;
    real factor;
    real scale, high, low, rstd;
} segment;

/* A loop is compiled for scale 1, inlined with a plain copy of the segment, and for others. */
#define FOR_EACH_SCALE static inline __attribute__((always_inline))
#define FOR_OTHER_SCALES static __attribute__((cold, noinline))

static inline segment plain(const segment *s) {
    segment copy = *s;
    copy.scale = 1;
    return copy;
}

/* A reciprocal that the type does not hold, of a row of one value and a tiny eps, keeps 0 times it at 0. */
static inline segment segment_of(size_t n, const real *weight, const psg_norm_stats *stats) {
    const double most = PSG_REAL_IS_F64 ? 0x1.fffffffffffffp1023 : 0x1.fffffep127;
    real high = (real)stats->mean, rstd = (real)(stats->rstd > most && stats->rstd < __builtin_inf() ? most : stats->rstd);
    return (segment){ n, weight, 1, (real)stats->scale, high, (real)(stats->mean - (double)high), rstd };
}

/* (x - mean) rstd: of the order of 1, so that its products with gradients stay in range where the gradients do. */
static inline vec standardized(const segment *s, vec x) {
    return (x * vec_set(s->scale) - vec_set(s->high) - vec_set(s->low)) * vec_set(s->rstd);
}

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

/* What shares them: lines of n elements, stride apart. */
typedef struct area {
    size_t lines, n;
    ptrdiff_t stride;
    const real *x;
} area;

/* Sums of scale x - origin and of its squares, by lanes. */
typedef struct moments {
    dvec first, second;
} moments;

static inline moments add_moments(moments m, size_t n, const real *x, real scale, real origin) {
    const vec by = vec_set(scale), from = vec_set(origin);
    const size_t pairs = n - n % (2 * LANES);
    for (size_t i = 0; i < pairs;) {
        size_t end = smaller(pairs, i + STRIP_VECTORS * LANES);
        vec first[2] = { vec_zero(), vec_zero() }, second[2] = { vec_zero(), vec_zero() };
        for (; i < end; i += 2 * LANES) {
            vec c = vec_load(x + i) * by - from, d = vec_load(x + i + LANES) * by - from;
            first[0] += c;
            first[1] += d;
            second[0] = vec_add_product(second[0], c, c);
            second[1] = vec_add_product(second[1], d, d);
        }
        m.first = dvec_add(m.first, first[0] + first[1]);
        m.second = dvec_add(m.second, second[0] + second[1]);
    }
    for (size_t i = pairs; i < n; i += LANES) {
        size_t part = smaller(LANES, n - i);
        vec c = vec_first(vec_load_part(x + i, part) * by - from, part);
        m.first = dvec_add(m.first, c);
        m.second = dvec_add(m.second, c * c);
    }
    return m;
}

/* Means of scale x - origin and of its square. */
typedef struct sample {
    double origin, mean, square;
} sample;

static inline sample sample_about(const area *a, real scale, real origin) {
    const double count = (double)a->lines * (double)a->n;
    moments m = { { 0 }, { 0 } };
    for (size_t k = 0; k < a->lines; k++) m = add_moments(m, a->n, a->x + (ptrdiff_t)k * a->stride, scale, origin);
    return (sample){ (double)origin, dvec_sum(m.first) / count, dvec_sum(m.second) / count };
}

static inline double variance_of(sample s) {
    double variance = s.square - s.mean * s.mean;
    return variance < 0 ? 0 : variance;
}

/* The mean and the variance of scale x; about 0: 0 and the mean square.
 * About an origin within 3 deviations of the mean the subtraction of mean^2 costs at most one digit; equal elements
 * have variance 0 exactly. */
static inline double spread(const area *a, bool about_mean, real scale, double *mean) {
    *mean = 0;
    if (!about_mean) return sample_about(a, scale, 0).square;
    sample s = sample_about(a, scale, a->x[0] * scale);
    if (s.mean * s.mean > 9 * variance_of(s)) s = sample_about(a, scale, (real)(s.origin + s.mean));
    *mean = s.origin + s.mean;
    return variance_of(s);
}

/* Brings the elements and the root of eps to the order of 1. */
static double scale_of(const area *a, double eps) {
    double most = __builtin_sqrt(__builtin_fabs(eps));
    for (size_t k = 0; k < a->lines; k++) {
        most = __builtin_fmax(most, largest_magnitude(a->n, a->x + (ptrdiff_t)k * a->stride));
    }
    return scale_to_one(most);
}

static __attribute__((noinline)) double scaled_statistics(const area *a, bool about_mean, double eps,
                                                          psg_norm_stats *stats) {
    const double scale = scale_of(a, eps), variance = spread(a, about_mean, (real)scale, &stats->mean);
    stats->scale = scale;
    stats->rstd = 1 / __builtin_sqrt(variance + eps * scale * scale);
    return variance / scale / scale;
}

/* Returns the variance.  rstd is NaN when var + eps is negative, as in the definition.  A square that underflows is
 * wrong by less than the least positive number, which is nothing beside this least var + eps; at the most rstd is a
 * normal number. */
static inline double statistics(const area *a, bool about_mean, double eps, psg_norm_stats *stats) {
    const double least = PSG_REAL_IS_F64 ? 0x1p-960 : 0x1p-100, most = PSG_REAL_IS_F64 ? DBL_MAX : 0x1p250;
    double variance = spread(a, about_mean, 1, &stats->mean), sum = variance + eps;
    if (!(sum >= least && sum <= most)) return scaled_statistics(a, about_mean, eps, stats);
    stats->scale = 1;
    stats->rstd = 1 / __builtin_sqrt(sum);
    return variance;
}

/* ---- y = (x - mean) rstd weight + bias ---- */

static inline vec normalized(const segment *s, vec x, vec weight, vec bias) {
    return vec_add_product(bias, standardized(s, x), weight);
}

FOR_EACH_SCALE void normalize_part(const segment *s, const real *x, const real *bias, real shift, real *y, size_t i,
                                   size_t n) {
    vec b = bias ? vec_load_part(bias + i, n) : vec_set(shift);
    vec_store_part(y + i, normalized(s, vec_load_part(x + i, n), weight_part(s, i, n), b), n);
}

FOR_EACH_SCALE void normalize_all(const segment *s, const real *x, const real *bias, real shift, real *y,
                                  bool stream) {
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

FOR_OTHER_SCALES void normalize_scaled(const segment *s, const real *x, const real *bias, real shift, real *y) {
    normalize_all(s, x, bias, shift, y, false);
}

/* The bias of element i is bias[i], or shift for all when bias is NULL. */
static void normalize(const segment *s, const real *x, const real *bias, real shift, real *y, bool stream) {
    const segment ordinary = plain(s);
    if (s->scale == 1) normalize_all(&ordinary, x, bias, shift, y, stream);
    else normalize_scaled(s, x, bias, shift, y);
}

/* ---- backward: h = g weight, xh = (x - mean) rstd ---- */

typedef struct sums {
    dvec h, hx;   /* sum h, sum h xh, by lanes */
} sums;

/* Where the terms g xh and g of a row go, NULL: nowhere; they are added, or overwrite what is there. */
typedef struct row_sums {
    real *weight, *bias;
    bool overwrite;
} row_sums;

typedef struct terms {
    vec h, hx;
} terms;

/* Adds the terms of one vector to sum; hands over g xh and g. */
static inline void one_vector(const segment *s, const real *x, const real *g, row_sums to, size_t i, terms *sum) {
    vec xh = standardized(s, vec_load(x + i)), go = vec_load(g + i), h = go * weight_at(s, i);
    if (to.weight) {
        vec term = go * xh;
        vec_store(to.weight + i, to.overwrite ? term : vec_load(to.weight + i) + term);
    }
    if (to.bias) vec_store(to.bias + i, to.overwrite ? go : vec_load(to.bias + i) + go);
    sum->h += h;
    sum->hx = vec_add_product(sum->hx, h, xh);
}

static inline terms part_of_vector(const segment *s, const real *x, const real *g, row_sums to, size_t i, size_t n) {
    vec xh = standardized(s, vec_load_part(x + i, n)), go = vec_load_part(g + i, n), h = go * weight_part(s, i, n);
    if (to.weight) {
        vec term = go * xh;
        vec_store_part(to.weight + i, to.overwrite ? term : vec_load_part(to.weight + i, n) + term, n);
    }
    if (to.bias) vec_store_part(to.bias + i, to.overwrite ? go : vec_load_part(to.bias + i, n) + go, n);
    return (terms){ h, h * xh };
}

FOR_EACH_SCALE sums backward_sums_of(const segment *s, const real *x, const real *g, row_sums to) {
    const size_t pairs = s->n - s->n % (2 * LANES);
    sums out = { { 0 }, { 0 } };
    for (size_t i = 0; i < pairs;) {
        size_t end = smaller(pairs, i + STRIP_VECTORS * LANES);
        terms even = { vec_zero(), vec_zero() }, odd = even;
        for (; i < end; i += 2 * LANES) {
            one_vector(s, x, g, to, i, &even);
            one_vector(s, x, g, to, i + LANES, &odd);
        }
        out.h = dvec_add(out.h, even.h + odd.h);
        out.hx = dvec_add(out.hx, even.hx + odd.hx);
    }
    for (size_t i = pairs; i < s->n; i += LANES) {
        terms rest = part_of_vector(s, x, g, to, i, smaller(LANES, s->n - i));
        out.h = dvec_add(out.h, rest.h);
        out.hx = dvec_add(out.hx, rest.hx);
    }
    return out;
}

FOR_OTHER_SCALES sums scaled_sums(const segment *s, const real *x, const real *g, row_sums to) {
    return backward_sums_of(s, x, g, to);
}

/* One read of x and g gives the two sums of the row and its share of the sums over rows. */
static inline sums backward_sums(const segment *s, const real *x, const real *g, row_sums to) {
    const segment ordinary = plain(s);
    return s->scale == 1 ? backward_sums_of(&ordinary, x, g, to) : scaled_sums(s, x, g, to);
}

/* The means that the input gradient subtracts. */
typedef struct means {
    real h, hx;
} means;

static inline means means_of(double sum_h, double sum_hx, double count) {
    return (means){ (real)(sum_h / count), (real)(sum_hx / count) };
}

/* rstd (h - mean(h) - xh mean(h xh)), the gradient of scale x */
static inline vec input_gradient(const segment *s, means m, vec x, vec g, vec weight) {
    return vec_set(s->rstd) * (g * weight - vec_set(m.h) - standardized(s, x) * vec_set(m.hx));
}

FOR_EACH_SCALE void input_gradient_part(const segment *s, means m, const real *x, const real *g, real *gx, size_t i,
                                        size_t n) {
    vec value = input_gradient(s, m, vec_load_part(x + i, n), vec_load_part(g + i, n), weight_part(s, i, n));
    vec_store_part(gx + i, value, n);
}

FOR_EACH_SCALE void write_gradient(const segment *s, means m, const real *x, const real *g, real *gx, bool stream) {
    size_t i = head_length(gx, s->n, stream);
    if (i) input_gradient_part(s, m, x, g, gx, 0, i);
    for (; i + LANES <= s->n; i += LANES) {
        vec value = input_gradient(s, m, vec_load(x + i), vec_load(g + i), weight_at(s, i));
        if (stream) vec_stream(gx + i, value);
        else vec_store(gx + i, value);
    }
    if (i < s->n) input_gradient_part(s, m, x, g, gx, i, s->n - i);
}

/* rstd and scale may be numbers of the type where their product is none. */
FOR_OTHER_SCALES void write_scaled_gradient(const segment *s, means m, const real *x, const real *g, real *gx) {
    write_gradient(s, m, x, g, gx, false);
    for (size_t i = 0; i < s->n; i++) gx[i] *= s->scale;
}

static void write_input_gradient(const segment *s, means m, const real *x, const real *g, real *gx, bool stream) {
    const segment ordinary = plain(s);
    if (s->scale == 1) write_gradient(&ordinary, m, x, g, gx, stream);
    else write_scaled_gradient(s, m, x, g, gx);
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
                              const real *bias, real *y, psg_norm_stats *stats, bool stream) {
    psg_norm_stats local[MAX_BLOCK];
    if (!stats) stats = local;
    for (size_t r = 0; r < rows; r++) statistics(&(area){ 1, d, 0, x + r * d }, about_mean, eps, &stats[r]);
    for (size_t r = 0; r < rows; r++) {
        segment s = segment_of(d, weight, &stats[r]);
        normalize(&s, x + r * d, bias, 0, y + r * d, stream);
    }
}

static inline void norm_rows(bool about_mean, size_t rows, size_t d, double eps, const real *x, const real *weight,
                             const real *bias, real *y, psg_norm_stats *stats, bool stream) {
    const size_t block = rows_in_block(d);
    for (size_t r = 0; r < rows && d; r += block) {
        norm_block(about_mean, smaller(block, rows - r), d, eps, x + r * d, weight, bias, y + r * d,
                   stats ? stats + r : NULL, stream);
    }
    if (stream) stream_fence();
}

void PSG_KERNEL(layer_norm)(size_t rows, size_t d, double eps, const void *x, const void *weight, const void *bias,
                            void *y, psg_norm_stats *stats, bool stream) {
    norm_rows(true, rows, d, eps, x, weight, bias, y, stats, stream);
}

void PSG_KERNEL(rms_norm)(size_t rows, size_t d, double eps, const void *x, const void *weight, const void *bias,
                          void *y, psg_norm_stats *stats, bool stream) {
    norm_rows(false, rows, d, eps, x, weight, bias, y, stats, stream);
}

/* Row r's terms go sum_stride r further: 0 adds all rows together. */
static inline void backward_block(bool about_mean, size_t rows, size_t d, const real *x, const real *g,
                                  const real *weight, const psg_norm_stats *stats, real *gx, row_sums to,
                                  size_t sum_stride, bool stream) {
    means m[MAX_BLOCK];
    for (size_t r = 0; r < rows; r++) {
        segment s = segment_of(d, weight, &stats[r]);
        sums total = backward_sums(&s, x + r * d, g + r * d, to);
        m[r] = means_of(about_mean ? dvec_sum(total.h) : 0, dvec_sum(total.hx), (double)d);
        if (to.weight) to.weight += sum_stride;
        if (to.bias) to.bias += sum_stride;
    }
    for (size_t r = 0; r < rows && gx; r++) {
        segment s = segment_of(d, weight, &stats[r]);
        write_input_gradient(&s, m[r], x + r * d, g + r * d, gx + r * d, stream);
    }
}

static inline void backward_rows(bool about_mean, size_t rows, size_t d, const real *x, const real *g,
                                 const real *weight, const psg_norm_stats *stats, real *gx, row_sums to,
                                 size_t sum_stride, bool stream) {
    const size_t block = rows_in_block(2 * d);
    for (size_t r = 0; r < rows && d; r += block) {
        row_sums at = { to.weight ? to.weight + r * sum_stride : NULL, to.bias ? to.bias + r * sum_stride : NULL,
                        to.overwrite };
        backward_block(about_mean, smaller(block, rows - r), d, x + r * d, g + r * d, weight, stats + r,
                       gx ? gx + r * d : NULL, at, sum_stride, stream);
    }
    if (stream) stream_fence();
}

void PSG_KERNEL(layer_norm_backward)(size_t rows, size_t d, const void *x, const void *grad_output,
                                     const void *weight, const psg_norm_stats *stats, void *grad_input,
                                     void *grad_weight, void *grad_bias, size_t sum_stride, bool stream) {
    const row_sums to = { grad_weight, grad_bias, sum_stride > 0 };
    backward_rows(true, rows, d, x, grad_output, weight, stats, grad_input, to, sum_stride, stream);
}

void PSG_KERNEL(rms_norm_backward)(size_t rows, size_t d, const void *x, const void *grad_output, const void *weight,
                                   const psg_norm_stats *stats, void *grad_input, void *grad_weight, void *grad_bias,
                                   size_t sum_stride, bool stream) {
    const row_sums to = { grad_weight, grad_bias, sum_stride > 0 };
    backward_rows(false, rows, d, x, grad_output, weight, stats, grad_input, to, sum_stride, stream);
}

/* ---- groups of lines ---- */

void PSG_KERNEL(group_norm)(size_t lines, size_t n, ptrdiff_t stride, double eps, const void *x_, const void *weight_,
                            const void *bias_, size_t weight_step, void *y_, psg_norm_stats *stats, double *variance,
                            bool stream) {
    const real *x = x_, *weight = weight_, *bias = bias_;
    real *y = y_;
    psg_norm_stats local;
    if (!lines || !n) return;
    if (!stats) stats = &local;
    double found = stride == (ptrdiff_t)n ? statistics(&(area){ 1, lines * n, 0, x }, true, eps, stats)
                                          : statistics(&(area){ lines, n, stride, x }, true, eps, stats);
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
                                     const void *weight_, size_t weight_step, const psg_norm_stats *stats,
                                     void *grad_input, void *grad_weight_, void *grad_bias_, bool stream) {
    const real *x = x_, *g = grad_output, *weight = weight_;
    real *gx = grad_input, *grad_weight = grad_weight_, *grad_bias = grad_bias_;
    segment s = segment_of(n, NULL, stats);
    double sum_h = 0, sum_hx = 0;
    for (size_t k = 0; k < lines; k++) {
        ptrdiff_t at = (ptrdiff_t)k * stride;
        sums line = backward_sums(&s, x + at, g + at, (row_sums){ NULL, NULL, false });
        double go = dvec_sum(line.h), go_x = dvec_sum(line.hx), w = weight ? (double)weight[k * weight_step] : 1;
        if (grad_weight) grad_weight[k] = (real)go_x;
        if (grad_bias) grad_bias[k] = (real)go;
        sum_h = add_product(sum_h, w, go);
        sum_hx = add_product(sum_hx, w, go_x);
    }
    const means m = means_of(sum_h, sum_hx, (double)lines * (double)n);
    for (size_t k = 0; k < lines && gx; k++) {
        ptrdiff_t at = (ptrdiff_t)k * stride;
        s.factor = weight ? weight[k * weight_step] : 1;
        write_input_gradient(&s, m, x + at, g + at, gx + at, stream);
    }
    if (stream) stream_fence();
}
