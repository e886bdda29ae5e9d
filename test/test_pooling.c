/* Poolings against plain loops over their definition: every option, real type and instruction set; equal elements, NaN
 * and Inf; the same bits for any number of threads. */
#include "support.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum kind { MAX, AVG, ADAPTIVE_MAX, ADAPTIVE_AVG, KINDS } kind;

typedef struct pooling_case {
    kind kind;
    psg_dtype dtype;
    int spatial;
    int64_t shape[5];            /* N, C (swapped: batch_second), X */
    int64_t kernel[3], output[3];
    psg_max_pool_options max;    /* stride, padding, dilation, ceil_mode; of AVG too */
    int exclude_padding;
    int64_t divisor;
    bool batch_second, integers, odd_values;
    int layout;
} pooling_case;

static bool is_max(const pooling_case *c) { return c->kind == MAX || c->kind == ADAPTIVE_MAX; }
static bool is_adaptive(const pooling_case *c) { return c->kind >= ADAPTIVE_MAX; }

/* ---- the definition ---- */

static int64_t stride_of(const pooling_case *c, int d) { return c->max.stride[d] ? c->max.stride[d] : c->kernel[d]; }

static int64_t dilation_of(const pooling_case *c, int d) {
    return c->kind == MAX && c->max.dilation[d] ? c->max.dilation[d] : 1;
}

/* Windows end inside the padded input; ceil_mode: the one before does, and this one begins before the input's end. */
static int64_t outputs(const pooling_case *c, int d) {
    const int64_t in = c->shape[2 + d], s = stride_of(c, d), p = c->max.padding[d];
    const int64_t reach = dilation_of(c, d) * (c->kernel[d] - 1) - p;
    int64_t o = 0;
    if (is_adaptive(c)) return c->output[d] == -1 ? in : c->output[d];
    if (!c->max.ceil_mode) {
        while (o * s + reach <= in + p - 1) o++;
    } else {
        while ((o - 1) * s + reach < in + p - 1 && (!o || o * s - p < in)) o++;
    }
    return o;
}

/* Position k of window o, which may lie outside; false past the window's end. */
static bool position(const pooling_case *c, int d, int64_t o, int64_t k, int64_t *at) {
    const int64_t in = c->shape[2 + d], out = outputs(c, d);
    if (!is_adaptive(c)) {
        *at = o * stride_of(c, d) - c->max.padding[d] + k * dilation_of(c, d);
        return k < c->kernel[d];
    }
    *at = o * in / out + k;
    return *at * out < (o + 1) * in;
}

typedef struct reference {
    double *y, *terms, *gx, *gx_terms;
} reference;

typedef struct place {
    int64_t o[3], plane, out;
} place;

/* The elements of one window in order: index in the plane of each into list; returns how many.  *counted: of the
 * window, padding included. */
static int64_t window_of(const pooling_case *c, const int64_t o[3], int64_t *list, int64_t *counted) {
    int64_t count = 0, at[3] = { 0, 0, 0 }, k[3];
    *counted = 0;
    for (k[0] = 0; position(c, 0, o[0], k[0], &at[0]); k[0]++) {
        for (k[1] = 0; c->spatial > 1 ? position(c, 1, o[1], k[1], &at[1]) : k[1] < 1; k[1]++) {
            for (k[2] = 0; c->spatial > 2 ? position(c, 2, o[2], k[2], &at[2]) : k[2] < 1; k[2]++) {
                int64_t index = 0;
                bool inside = true, padded = true;
                for (int d = 0; d < c->spatial; d++) {
                    inside &= at[d] >= 0 && at[d] < c->shape[2 + d];
                    padded &= at[d] < c->shape[2 + d] + c->max.padding[d];
                    index = index * c->shape[2 + d] + at[d];
                }
                *counted += padded;
                if (inside) list[count++] = index;
            }
        }
    }
    return count;
}

static int64_t largest(const psg_tensor *x, int64_t plane, const int64_t *list, int64_t count) {
    int64_t best = count ? list[0] : -1;
    for (int64_t k = 1; k < count; k++) {
        double v = test_get_at(x, plane + list[k]), old = test_get_at(x, plane + best);
        if (v > old || isnan(v)) best = list[k];
    }
    return best;
}

static void refer_window(const pooling_case *c, const psg_tensor *x, const psg_tensor *g, const place *p,
                         int64_t *list, reference *r) {
    int64_t counted, count = window_of(c, p->o, list, &counted);
    const double go = test_get_at(g, p->out);
    if (is_max(c)) {
        int64_t best = largest(x, p->plane, list, count);
        r->y[p->out] = best < 0 ? -INFINITY : test_get_at(x, p->plane + best);
        if (best < 0) return;
        r->gx[p->plane + best] += go;
        r->gx_terms[p->plane + best] += fabs(go);
        return;
    }
    double divisor = (double)(c->divisor ? c->divisor : c->exclude_padding || is_adaptive(c) ? count : counted);
    for (int64_t k = 0; k < count; k++) {
        double v = test_get_at(x, p->plane + list[k]);
        r->y[p->out] += v / divisor;
        r->terms[p->out] += fabs(v / divisor);
        r->gx[p->plane + list[k]] += go / divisor;
        r->gx_terms[p->plane + list[k]] += fabs(go / divisor);
    }
}

static double *zeros(int64_t count) { return calloc((size_t)count + 1, sizeof(double)); }

static reference refer(const pooling_case *c, const psg_tensor *x, const psg_tensor *g) {
    int64_t in = 1, sizes[3] = { 1, 1, 1 }, total = psg_tensor_count(x), outs = psg_tensor_count(g);
    for (int d = 0; d < c->spatial; d++) {
        sizes[d] = outputs(c, d);
        in *= c->shape[2 + d];
    }
    reference r = { zeros(outs), zeros(outs), zeros(total), zeros(total) };
    int64_t *list = calloc((size_t)in + 1, sizeof *list);
    place p = { .out = 0 };
    for (int64_t plane = 0; plane < total / in; plane++) {
        p.plane = plane * in;
        for (p.o[0] = 0; p.o[0] < sizes[0]; p.o[0]++) {
            for (p.o[1] = 0; p.o[1] < sizes[1]; p.o[1]++) {
                for (p.o[2] = 0; p.o[2] < sizes[2]; p.o[2]++, p.out++) refer_window(c, x, g, &p, list, &r);
            }
        }
    }
    free(list);
    return r;
}

static void reference_free(reference *r) {
    double *all[] = { r->y, r->terms, r->gx, r->gx_terms };
    for (int k = 0; k < 4; k++) free(all[k]);
}

/* ---- one application ---- */

static psg_var record_fixed(psg_tape *tape, psg_var x, const pooling_case *c) {
    const psg_max_pool_options *o = &c->max;
    psg_avg_pool_options avg = { { o->stride[0], o->stride[1], o->stride[2] },
                                 { o->padding[0], o->padding[1], o->padding[2] },
                                 o->ceil_mode, c->exclude_padding, c->divisor };
    if (c->spatial == 1) {
        return is_max(c) ? psg_max_pool1d(tape, x, c->kernel[0], o) : psg_avg_pool1d(tape, x, c->kernel[0], &avg);
    }
    if (c->spatial == 2) {
        return is_max(c) ? psg_max_pool2d(tape, x, c->kernel, o) : psg_avg_pool2d(tape, x, c->kernel, &avg);
    }
    return is_max(c) ? psg_max_pool3d(tape, x, c->kernel, o) : psg_avg_pool3d(tape, x, c->kernel, &avg);
}

static psg_var record(psg_tape *tape, psg_var x, const pooling_case *c) {
    const int64_t *out = c->output;
    if (!is_adaptive(c)) return record_fixed(tape, x, c);
    if (c->spatial == 1) {
        return is_max(c) ? psg_adaptive_max_pool1d(tape, x, out[0]) : psg_adaptive_avg_pool1d(tape, x, out[0]);
    }
    if (c->spatial == 2) {
        return is_max(c) ? psg_adaptive_max_pool2d(tape, x, out) : psg_adaptive_avg_pool2d(tape, x, out);
    }
    return is_max(c) ? psg_adaptive_max_pool3d(tape, x, out) : psg_adaptive_avg_pool3d(tape, x, out);
}

static void fill(const pooling_case *c, test_random *random, const psg_tensor *x) {
    const double odd[] = { NAN, INFINITY, -INFINITY };
    for (int64_t i = 0; i < psg_tensor_count(x); i++) {
        double v = c->integers ? (double)test_range(random, -2, 2) : test_normal(random);
        test_set_at(x, i, c->odd_values && !test_range(random, 0, 3) ? odd[test_range(random, 0, 2)] : v);
    }
}

static psg_tape *begin(psg_context *context, const pooling_case *c) {
    psg_tape *tape;
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_second = c->batch_second;
    TEST_OK(context, psg_tape_create(context, &tape));
    TEST_OK(context, psg_tape_begin(tape, &pass));
    return tape;
}

/* The longest sum: a window, or the windows over an element. */
static double length_of(const pooling_case *c) {
    double length = 4;
    for (int d = 0; d < c->spatial; d++) length += (double)(c->shape[2 + d] + outputs(c, d));
    return length;
}

static void compare(const pooling_case *c, const psg_tensor *actual, const double *expected, const double *terms,
                    const char *what) {
    for (int64_t i = 0; i < psg_tensor_count(actual); i++) {
        double bound = terms ? test_bound(actual->dtype, length_of(c), terms[i]) : 0;
        test_near(test_get_at(actual, i), expected[i], bound, what, i);
    }
}

static void check(psg_context *context, const pooling_case *c, test_random *random) {
    test_array x = test_array_new(random, c->dtype, c->spatial + 2, c->shape, c->layout);
    fill(c, random, &x.view);
    psg_tape *tape = begin(context, c);
    psg_var in = psg_input_with_grad(tape, &x.view), out = record(tape, in, c);
    psg_tensor y, gx;
    if (psg_value(tape, out, &y)) fail_msg("%s", psg_tape_message(tape));
    assert_int_equal(y.rank, c->spatial + 2);
    assert_true(y.shape[0] == c->shape[0] && y.shape[1] == c->shape[1]);
    for (int d = 0; d < c->spatial; d++) assert_int_equal(y.shape[2 + d], outputs(c, d));
    test_array g = test_array_normal(random, c->dtype, y.rank, y.shape, c->layout);
    TEST_OK(context, psg_backward_from(tape, out, &g.view));
    TEST_OK(context, psg_input_grad(tape, in, &gx));
    reference r = refer(c, &x.view, &g.view);
    compare(c, &y, r.y, is_max(c) ? NULL : r.terms, "y");
    compare(c, &gx, r.gx, r.gx_terms, "grad_input");
    reference_free(&r);
    psg_tape_destroy(tape);
    test_array_free(&x);
    test_array_free(&g);
}

/* ---- random cases ---- */

static const int64_t widths[] = { 1, 2, 3, 5, 7, 8, 9, 13, 14, 16, 17, 31, 32, 33, 40, 70 };

static pooling_case draw(test_random *random, kind kind) {
    pooling_case c = { .kind = kind, .spatial = (int)test_range(random, 1, 3) };
    c.shape[0] = test_range(random, 0, 9) ? test_range(random, 1, 3) : 0;
    c.shape[1] = test_range(random, 0, 15) ? test_range(random, 1, 3) : 0;
    const bool dilated = test_range(random, 0, 3), strided = test_range(random, 0, 4);
    for (int d = 0; d < c.spatial; d++) {
        c.shape[2 + d] = d + 1 == c.spatial ? TEST_PICK(random, widths) : test_range(random, 1, 9);
        c.output[d] = test_range(random, -1, 10);
        c.max.dilation[d] = dilated ? test_range(random, 1, 3) : 0;
        c.kernel[d] = test_range(random, 1, c.shape[2 + d] < 6 ? c.shape[2 + d] : 6);
        if (!test_range(random, 0, 5)) c.kernel[d] = c.shape[2 + d];
        c.max.padding[d] = test_range(random, 0, c.kernel[d] / 2);
        c.max.stride[d] = strided ? test_range(random, 1, 4) : 0;
    }
    c.max.ceil_mode = (int)test_range(random, 0, 1);
    c.exclude_padding = (int)test_range(random, 0, 1);
    if (kind == AVG && !test_range(random, 0, 3)) c.divisor = test_range(random, 0, 1) ? 3 : -2;
    c.batch_second = test_range(random, 0, 1);
    c.integers = test_range(random, 0, 1);
    c.odd_values = is_max(&c) && !test_range(random, 0, 3);
    c.layout = test_range(random, 0, 1) ? TEST_ANY : TEST_CONTIGUOUS;
    return c;
}

static bool has_outputs(const pooling_case *c) {
    for (int d = 0; d < c->spatial; d++) {
        if (outputs(c, d) < 1 && !is_adaptive(c)) return false;
    }
    return true;
}

static void random_cases(kind kind) {
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t k = 0; k < count; k++) {
        psg_context *context = test_context(2, isas[k]);
        test_random random = { 100 + (uint64_t)kind };
        for (int round = 0; round < 600; round++) {
            pooling_case c = draw(&random, kind);
            c.dtype = round % 2 ? PSG_F32 : PSG_F64;
            if (has_outputs(&c)) check(context, &c, &random);
        }
        test_context_free(context);
    }
}

static void max_pools(void **state) { (void)state; random_cases(MAX); }
static void avg_pools(void **state) { (void)state; random_cases(AVG); }
static void adaptive_max_pools(void **state) { (void)state; random_cases(ADAPTIVE_MAX); }
static void adaptive_avg_pools(void **state) { (void)state; random_cases(ADAPTIVE_AVG); }

/* Sizes and options of 1 to 3 in one dimension, and beside a second one of 2: windows in the padding alone too. */
static void every_small_shape(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    test_random random = { 6 };
    for (int k = 0; k < KINDS * 3 * 3 * 3 * 2 * 2 * 3 * 2; k++) {
        int rest = k / KINDS;
        pooling_case c = { .kind = (kind)(k % KINDS), .dtype = k / 7 % 2 ? PSG_F32 : PSG_F64, .spatial = 1 + k / 5 % 2,
                           .shape = { 2, k / 3 % 2, 0, 2 }, .kernel = { 1, 2 }, .output = { 0, 3 } };
        c.shape[2] = 1 + rest % 3, rest /= 3;
        c.kernel[0] = 1 + rest % 3, c.output[0] = rest % 4, rest /= 3;
        c.max.stride[0] = 1 + rest % 3, rest /= 3;
        c.max.padding[0] = rest % 2, rest /= 2;
        c.exclude_padding = rest % 2, rest /= 2;
        c.max.dilation[0] = 1 + rest % 3, rest /= 3;
        c.max.ceil_mode = rest;
        c.max.stride[1] = c.max.dilation[1] = 1;
        c.shape[1] = c.shape[1] ? 3 : 1;
        if (2 * c.max.padding[0] <= c.kernel[0] && has_outputs(&c)) check(context, &c, &random);
    }
    test_context_free(context);
}

/* Rows longer than the sums at a time, windows too; whole planes; windows that lie between the elements. */
static void large_and_odd_cases(void **state) {
    (void)state;
    static const pooling_case list[] = {
        { .kind = AVG, .spatial = 1, .shape = { 1, 2, 9001 }, .kernel = { 3 }, .max = { .stride = { 2 } } },
        { .kind = AVG, .spatial = 2, .shape = { 1, 1, 3, 5003 }, .kernel = { 2, 7 },
          .max = { .stride = { 1, 1 }, .padding = { 1, 3 } } },
        { .kind = AVG, .spatial = 1, .shape = { 2, 1, 5000 }, .kernel = { 2500 }, .max = { .stride = { 600 } } },
        { .kind = ADAPTIVE_AVG, .spatial = 2, .shape = { 1, 2, 2, 6001 }, .output = { 1, 2 } },
        { .kind = ADAPTIVE_AVG, .spatial = 2, .shape = { 2, 3, 57, 56 }, .output = { 1, 1 } },
        { .kind = ADAPTIVE_AVG, .spatial = 3, .shape = { 2, 3, 2, 5, 6 }, .output = { 1, 1, 1 } },
        { .kind = ADAPTIVE_MAX, .spatial = 2, .shape = { 2, 3, 57, 56 }, .output = { 1, 1 }, .integers = true },
        { .kind = ADAPTIVE_MAX, .spatial = 2, .shape = { 1, 1, 4, 200 }, .output = { 3, 2 }, .integers = true,
          .odd_values = true },
        { .kind = MAX, .spatial = 2, .shape = { 4, 3, 70, 301 }, .kernel = { 3, 3 },
          .max = { .stride = { 2, 2 }, .padding = { 1, 1 } } },
        { .kind = MAX, .spatial = 1, .shape = { 2, 2, 2 }, .kernel = { 2 },
          .max = { .padding = { 1 }, .dilation = { 3 } } },
        { .kind = MAX, .spatial = 1, .shape = { 1, 1, 40 }, .kernel = { 40 }, .integers = true },
    };
    psg_context *context = test_context(2, NULL);
    test_random random = { 5 };
    for (size_t k = 0; k < sizeof list / sizeof list[0]; k++) {
        for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
            pooling_case c = list[k];
            c.dtype = (psg_dtype)dtype;
            check(context, &c, &random);
        }
    }
    test_context_free(context);
}

/* Known answers: divisors of avg_pool1d over ones, with ceil_mode windows that reach past the right padding. */
static void divisors(void **state) {
    (void)state;
    static const struct {
        int64_t kernel, stride, padding;
        int exclude;
        int count;
        double y[3];
    } list[] = {
        { 3, 2, 1, 0, 3, { 2.0 / 3, 1, 2.0 / 3 } },
        { 4, 3, 2, 0, 3, { 0.5, 1, 1.0 / 3 } },
        { 4, 3, 2, 1, 3, { 1, 1, 1 } },
    };
    psg_context *context = test_context(1, NULL);
    double ones[5] = { 1, 1, 1, 1, 1 };
    psg_tensor x = psg_tensor_of(PSG_F64, ones, 3, (int64_t[]){ 1, 1, 5 }), y;
    for (size_t k = 0; k < sizeof list / sizeof list[0]; k++) {
        psg_tape *tape;
        TEST_OK(context, psg_tape_create(context, &tape));
        TEST_OK(context, psg_tape_begin(tape, NULL));
        psg_avg_pool_options options = { { list[k].stride }, { list[k].padding }, 1, list[k].exclude, 0 };
        TEST_OK(context, psg_value(tape, psg_avg_pool1d(tape, psg_input(tape, &x), list[k].kernel, &options), &y));
        assert_int_equal(psg_tensor_count(&y), list[k].count);
        for (int i = 0; i < list[k].count; i++) test_near(test_get_at(&y, i), list[k].y[i], 1e-15, "y", i);
        psg_tape_destroy(tape);
    }
    test_context_free(context);
}

/* Known answers at the end of the range: means over a row of the largest number, of one sign or of alternating ones,
 * and a last element of another value. */
typedef struct extreme {
    int64_t size, window, stride;  /* stride 0: one window, by adaptive_avg_pool */
    bool alternate;
    double odd;                    /* the last element; 0: as the others */
    int64_t divisor;
    double mean, last;             /* in units of the largest number; of the last window */
} extreme;

static const extreme extremes[] = {
    { 2, 2, 2, false, 0, 0, 1, 1 },
    { 70, 3, 1, false, 0, 0, 1, 1 },
    { 70, 2, 2, true, 0, 0, 0, 0 },
    { 90, 5, 5, false, INFINITY, 0, 1, INFINITY },
    { 90, 5, 5, false, NAN, 0, 1, NAN },
    { 90, 5, 5, false, -1, 0, 1, 0.6 },
    { 64, 4, 4, false, 0, 2, INFINITY, INFINITY },
    { 64, 4, 4, false, 0, -8, -0.5, -0.5 },
    { 5000, 5000, 0, false, 0, 0, 1, 1 },
    { 5000, 5000, 0, false, -INFINITY, 0, -INFINITY, -INFINITY },
    { 9000, 3000, 3000, true, 0, 0, 0, 0 },
};

static void check_extreme(psg_context *context, const extreme *e, psg_dtype dtype) {
    const double largest = dtype == PSG_F32 ? FLT_MAX : DBL_MAX, precision = dtype == PSG_F32 ? 1e-6 : 1e-15;
    const pooling_case c = { .kind = e->stride ? AVG : ADAPTIVE_AVG, .spatial = 1, .output = { 1 },
                             .kernel = { e->window }, .max = { .stride = { e->stride } }, .divisor = e->divisor };
    test_random random = { 1 };
    test_array x = test_array_normal(&random, dtype, 3, (int64_t[]){ 1, 1, e->size }, TEST_CONTIGUOUS);
    for (int64_t k = 0; k < e->size; k++) test_set_at(&x.view, k, e->alternate && k % 2 ? -largest : largest);
    if (e->odd != 0) test_set_at(&x.view, e->size - 1, e->odd * largest);
    psg_tape *tape = begin(context, &c);
    psg_tensor y;
    TEST_OK(context, psg_value(tape, record(tape, psg_input(tape, &x.view), &c), &y));
    for (int64_t k = 0; k < psg_tensor_count(&y); k++) {
        const double mean = largest * (k + 1 < psg_tensor_count(&y) ? e->mean : e->last);
        test_near(test_get_at(&y, k), mean, isfinite(mean) ? largest * precision : 0, "mean", k);
    }
    psg_tape_destroy(tape);
    test_array_free(&x);
}

static void means_whose_sums_overflow(void **state) {
    (void)state;
    const char *isas[3];
    for (size_t k = 0, count = test_isas(isas); k < count; k++) {
        psg_context *context = test_context(1, isas[k]);
        for (size_t i = 0; i < sizeof extremes / sizeof extremes[0]; i++) {
            check_extreme(context, &extremes[i], PSG_F32);
            check_extreme(context, &extremes[i], PSG_F64);
        }
        test_context_free(context);
    }
}

/* ---- threads ---- */

static void copies(const pooling_case *c, unsigned threads, psg_tensor out[2]) {
    psg_context *context = test_context(threads, NULL);
    test_random random = { 9 };
    test_array x = test_array_normal(&random, c->dtype, c->spatial + 2, c->shape, TEST_CONTIGUOUS);
    psg_tape *tape = begin(context, c);
    psg_var in = psg_input_with_grad(tape, &x.view), pooled = record(tape, in, c);
    psg_tensor t[2];
    TEST_OK(context, psg_value(tape, pooled, &t[0]));
    test_array g = test_array_normal(&random, c->dtype, t[0].rank, t[0].shape, TEST_CONTIGUOUS);
    TEST_OK(context, psg_backward_from(tape, pooled, &g.view));
    TEST_OK(context, psg_input_grad(tape, in, &t[1]));
    for (int k = 0; k < 2; k++) {
        size_t bytes = (size_t)psg_tensor_count(&t[k]) * psg_dtype_size(c->dtype);
        out[k] = t[k];
        out[k].data = memcpy(malloc(bytes), t[k].data, bytes);
    }
    psg_tape_destroy(tape);
    test_array_free(&x);
    test_array_free(&g);
    test_context_free(context);
}

static void same_bits_for_any_threads(void **state) {
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        pooling_case c = { .kind = (kind)k, .spatial = 2, .shape = { 20, 16, 15, 17 }, .kernel = { 3, 3 },
                           .output = { 4, 5 }, .max = { .stride = { 2, 1 }, .padding = { 1, 1 } } };
        psg_tensor one[2], more[2];
        copies(&c, 1, one);
        for (unsigned threads = 2; threads < 8; threads += 5) {
            copies(&c, threads, more);
            for (int j = 0; j < 2; j++) {
                assert_true(test_same_bits(&one[j], &more[j]));
                free(more[j].data);
            }
        }
        for (int j = 0; j < 2; j++) free(one[j].data);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(max_pools),
        cmocka_unit_test(avg_pools),
        cmocka_unit_test(adaptive_max_pools),
        cmocka_unit_test(adaptive_avg_pools),
        cmocka_unit_test(every_small_shape),
        cmocka_unit_test(large_and_odd_cases),
        cmocka_unit_test(divisors),
        cmocka_unit_test(means_whose_sums_overflow),
        cmocka_unit_test(same_bits_for_any_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
