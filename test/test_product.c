/* The product kernel against plain loops in double and against BLAS, on every instruction set; the products of
 * blas/gemm.h over one thread and several. */
#include "kernels.h"
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "blas/gemm.h"

enum { WORKSPACE_GUARD = 4096 };

static double get(psg_dtype dtype, const void *data, int64_t i) {
    return dtype == PSG_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

static void set(psg_dtype dtype, void *data, int64_t i, double value) {
    if (dtype == PSG_F32) ((float *)data)[i] = (float)value;
    else ((double *)data)[i] = value;
}

/* ---- outputs: rows ld apart inside memory whose other elements must not change ---- */

typedef struct output {
    psg_dtype dtype;
    int64_t rows, columns, ld, start, elements;
    void *memory;
    double *before;
} output;

static output output_new(test_random *random, psg_dtype dtype, int64_t rows, int64_t columns, bool aligned) {
    output o = { dtype, rows, columns, .start = 64 };
    o.ld = aligned ? (columns + 15) / 16 * 16 + 16 : columns + test_range(random, 0, 5);
    if (!aligned) o.start += test_range(random, 0, 5);
    o.elements = o.start + rows * o.ld + 64;
    o.memory = aligned_alloc(64, (size_t)((o.elements + 15) / 16 * 16) * sizeof(double));
    o.before = malloc((size_t)o.elements * sizeof(double));
    assert_true(o.memory && o.before);
    for (int64_t i = 0; i < o.elements; i++) {
        set(dtype, o.memory, i, test_normal(random));
        o.before[i] = get(dtype, o.memory, i);
    }
    return o;
}

static void *output_data(const output *o) {
    return (char *)o->memory + (size_t)o->start * psg_dtype_size(o->dtype);
}

static double output_get(const output *o, int64_t i, int64_t j) {
    return get(o->dtype, o->memory, o->start + i * o->ld + j);
}

static double output_before(const output *o, int64_t i, int64_t j) { return o->before[o->start + i * o->ld + j]; }

static bool is_inside(const output *o, int64_t e) {
    int64_t at = e - o->start;
    return at >= 0 && at < o->rows * o->ld && at % o->ld < o->columns;
}

/* Frees; whole: nothing may have changed. */
static void output_free(output *o, bool whole) {
    for (int64_t e = 0; e < o->elements; e++) {
        if (whole || !is_inside(o, e)) test_near(get(o->dtype, o->memory, e), o->before[e], 0, "outside", e);
    }
    free(o->memory);
    free(o->before);
}

/* ---- cases ---- */

typedef struct product_case {
    psg_dtype dtype, operands;     /* of c and the sum, of g and a */
    psg_finish finish;
    int64_t m, n, k, flush;
    double alpha;
    bool accumulate, stream;
    test_array g, a;               /* (k, m), (k, n), any strides */
    double *row_weight, *flush_weight;
    output c;
    double squares, squares_before;
} product_case;

static bool adds_f64(psg_finish finish) {
    return finish == PSG_FINISH_ADD_F64 || finish == PSG_FINISH_ADD_SQUARES_F64;
}

static void fill_row(const psg_tensor *x, int64_t row, double value) {
    for (int64_t j = 0; j < x->shape[1]; j++) test_set(x, (int64_t[]){ row, j }, value);
}

/* Weights with zeros, over rows of NaN. */
static void draw_row_weights(product_case *c, test_random *random) {
    c->row_weight = malloc((size_t)(c->k + 1) * sizeof(double));
    for (int64_t t = 0; t < c->k; t++) {
        c->row_weight[t] = test_range(random, 0, 2) ? test_normal(random) : 0;
        if (c->row_weight[t] != 0) continue;
        fill_row(&c->g.view, t, NAN);
        fill_row(&c->a.view, t, NAN);
    }
}

static int64_t block_rows(const product_case *c) { return c->flush > 0 && c->flush < c->k ? c->flush : c->k; }

static void draw_flush_weights(product_case *c, test_random *random) {
    int64_t rows = block_rows(c), blocks = rows ? (c->k + rows - 1) / rows : 0;
    c->flush_weight = malloc((size_t)(blocks + 1) * sizeof(double));
    for (int64_t b = 0; b < blocks; b++) {
        c->flush_weight[b] = test_range(random, 0, 3) ? test_normal(random) : 0;
        for (int64_t t = b * rows; c->flush_weight[b] == 0 && t < c->k && t < (b + 1) * rows; t++) {
            fill_row(&c->g.view, t, NAN);
        }
    }
}

static void draw_sizes(product_case *c, test_random *random) {
    static const int64_t few[] = { 0, 1, 2, 5, 9 }, longest[] = { 2047, 2048 };
    c->m = test_range(random, 0, 130);
    c->n = test_range(random, 0, 130);
    c->k = test_range(random, 0, 3) ? test_range(random, 0, 130) : TEST_PICK(random, few);
    if (test_range(random, 0, 5)) return;
    c->k = TEST_PICK(random, longest);
    if (test_range(random, 0, 1)) c->m = test_range(random, 0, 30);
    else c->n = test_range(random, 0, 30);
}

static product_case draw_case(test_random *random, psg_dtype dtype, psg_finish finish) {
    product_case c = { .dtype = dtype, .operands = dtype, .finish = finish };
    if (dtype == PSG_F64 && test_range(random, 0, 1)) c.operands = PSG_F32;   /* widened while they are packed */
    draw_sizes(&c, random);
    if (adds_f64(finish)) {
        c.flush = test_range(random, 0, 1) ? test_range(random, 1, 70) : 0;
        if (!test_range(random, 0, 7)) c.k = 2500, c.flush = 700, c.m = 13;   /* only a block's length is limited */
    }
    c.accumulate = adds_f64(finish) || test_range(random, 0, 1);
    c.stream = test_range(random, 0, 1);
    c.alpha = (double[]){ 1, -0.5, 3.25 }[test_range(random, 0, 2)];
    int layout = test_range(random, 0, 1) ? TEST_ANY : TEST_CONTIGUOUS;
    c.g = test_array_normal(random, c.operands, 2, (int64_t[]){ c.k, c.m }, layout);
    c.a = test_array_normal(random, c.operands, 2, (int64_t[]){ c.k, c.n }, layout);
    if (test_range(random, 0, 1)) draw_row_weights(&c, random);
    if (adds_f64(finish) && test_range(random, 0, 1)) draw_flush_weights(&c, random);
    c.c = output_new(random, adds_f64(finish) ? PSG_F64 : dtype, c.m, c.n, test_range(random, 0, 1));
    c.squares = c.squares_before = 1.5;
    return c;
}

static bool is_written(psg_finish finish) { return finish != PSG_FINISH_SQUARE && finish != PSG_FINISH_DOT; }

static void case_free(product_case *c) {
    test_array_free(&c->g);
    test_array_free(&c->a);
    output_free(&c->c, !is_written(c->finish));
    free(c->row_weight);
    free(c->flush_weight);
}

static void run_case(psg_context *context, product_case *c, size_t workspace_bytes) {
    psg_product p = { .finish = c->finish, .m = (size_t)c->m, .n = (size_t)c->n, .k = (size_t)c->k,
                      .alpha = c->alpha, .g = c->g.view.data, .g_stride = c->g.view.stride[0],
                      .g_step = c->g.view.stride[1], .a = c->a.view.data, .a_stride = c->a.view.stride[0],
                      .a_step = c->a.view.stride[1], .c = output_data(&c->c), .c_stride = c->c.ld,
                      .accumulate = c->accumulate, .stream = c->stream,
                      .narrow = c->operands != c->dtype, .flush = (size_t)c->flush,
                      .row_weight = c->row_weight, .flush_weight = c->flush_weight,
                      .workspace_bytes = workspace_bytes };
    if (c->finish <= PSG_FINISH_DOT && c->finish != PSG_FINISH_STORE) p.squares = &c->squares;
    size_t bytes = workspace_bytes ? workspace_bytes : PSG_PRODUCT_WORKSPACE;
    unsigned char *workspace = aligned_alloc(64, bytes + WORKSPACE_GUARD);
    assert_non_null(workspace);
    memset(workspace, 0xA5, bytes + WORKSPACE_GUARD);
    context->kernels[c->dtype]->product(&p, workspace);
    for (size_t i = 0; i < WORKSPACE_GUARD; i++) assert_int_equal(workspace[bytes + i], 0xA5);
    free(workspace);
}

/* ---- the plain loops ---- */

/* The sum over rows [first, first + rows) of element (i, j), and that of its terms' absolute values. */
static double element_sum(const product_case *c, int64_t i, int64_t j, int64_t first, int64_t rows, double *terms) {
    const psg_tensor *g = &c->g.view, *a = &c->a.view;
    const char *gp = (const char *)g->data, *ap = (const char *)a->data;
    double sum = 0;
    *terms = 0;
    for (int64_t t = first; t < first + rows; t++) {
        if (c->row_weight && c->row_weight[t] == 0) continue;
        double term = get(c->operands, gp, t * g->stride[0] + i * g->stride[1]) *
                      get(c->operands, ap, t * a->stride[0] + j * a->stride[1]);
        if (c->row_weight) term *= c->row_weight[t];
        sum += term;
        *terms += fabs(term);
    }
    return sum;
}

typedef struct reference { double value, bound; } reference;

/* One block's element, or its square, times its weight. */
static reference block_reference(const product_case *c, int64_t i, int64_t j, int64_t first, int64_t rows) {
    double terms, value = c->alpha * element_sum(c, i, j, first, rows, &terms);
    double bound = test_bound(c->dtype, (double)rows + 8, fabs(c->alpha) * terms);
    if (c->finish == PSG_FINISH_ADD_SQUARES_F64) {
        return (reference){ value * value, (2 * fabs(value) + bound) * bound + 1e-14 * value * value };
    }
    return (reference){ value, bound };
}

/* alpha * sum of the weighted blocks; what was there is not in it. */
static reference reference_of(const product_case *c, int64_t i, int64_t j) {
    reference all = { 0, 0 };
    int64_t rows = block_rows(c);
    for (int64_t first = 0, block = 0; first < c->k; first += rows, block++) {
        double weight = c->flush_weight ? c->flush_weight[block] : 1;
        if (weight == 0) continue;
        reference one = block_reference(c, i, j, first, c->k - first < rows ? c->k - first : rows);
        all.value += weight * one.value;
        all.bound += fabs(weight) * one.bound;
    }
    return all;
}

static void check_element(const product_case *c, int64_t i, int64_t j, reference r) {
    double before = c->accumulate ? output_before(&c->c, i, j) : 0;
    double bound = r.bound + test_bound(c->c.dtype, 4, fabs(before) + fabs(r.value));
    test_near(output_get(&c->c, i, j), before + r.value, bound, "c", i * c->n + j);
}

static void check_case(const product_case *c) {
    reference squares = { 0, 0 };
    for (int64_t i = 0; i < c->m; i++) {
        for (int64_t j = 0; j < c->n; j++) {
            reference r = reference_of(c, i, j);
            if (is_written(c->finish)) check_element(c, i, j, r);
            bool dot = c->finish == PSG_FINISH_DOT;
            double other = dot ? output_before(&c->c, i, j) : r.value, size = dot ? fabs(other) : 2 * fabs(other);
            squares.value += r.value * other;
            squares.bound += (size + (dot ? 0 : r.bound)) * r.bound + 1e-12 * fabs(r.value * other);
        }
    }
    bool added = c->finish <= PSG_FINISH_DOT && c->finish != PSG_FINISH_STORE;
    test_near(c->squares - c->squares_before, added ? squares.value : 0, squares.bound + 1e-14, "squares", 0);
}

/* ---- against BLAS ---- */

static void *packed(psg_dtype dtype, const psg_tensor *x) {
    int64_t count = psg_tensor_count(x);
    void *copy = malloc((size_t)(count + 1) * sizeof(double));
    assert_non_null(copy);
    for (int64_t i = 0; i < count; i++) set(dtype, copy, i, test_get_at(x, i));
    return copy;
}

static void check_against_gemm(psg_context *context, const product_case *c) {
    if (c->finish != PSG_FINISH_STORE || c->row_weight || c->operands != c->dtype) return;
    void *g = packed(c->dtype, &c->g.view), *a = packed(c->dtype, &c->a.view);
    void *out = malloc((size_t)(c->m * c->n + 1) * sizeof(double));
    for (int64_t e = 0; e < c->m * c->n; e++) set(c->dtype, out, e, output_before(&c->c, e / c->n, e % c->n));
    psg_gemm gemm = { .dtype = c->dtype, .transpose_a = true, .m = c->m, .n = c->n, .k = c->k, .alpha = c->alpha,
                      .beta = c->accumulate ? 1 : 0, .a = g, .lda = c->m, .b = a, .ldb = c->n, .c = out,
                      .ldc = c->n };
    psg_gemm_serial(context, &gemm);
    for (int64_t e = 0; e < c->m * c->n; e++) {
        reference r = reference_of(c, e / c->n, e % c->n);
        double terms = fabs(r.value) + fabs(output_before(&c->c, e / c->n, e % c->n));
        double bound = 2 * (r.bound + test_bound(c->dtype, 4, terms));
        test_near(output_get(&c->c, e / c->n, e % c->n), get(c->dtype, out, e), bound, "against gemm", e);
    }
    free(g), free(a), free(out);
}

static void check_finish(psg_finish finish, int rounds) {
    const char *isas[3];
    size_t count = test_isas(isas);
    for (size_t k = 0; k < count * 2; k++) {
        psg_context *context = test_context(1, isas[k / 2]);
        test_random random = { 40 + (uint64_t)finish };
        for (int round = 0; round < rounds; round++) {
            product_case c = draw_case(&random, k % 2 ? PSG_F64 : PSG_F32, finish);
            run_case(context, &c, round % 3 ? 0 : 2 * PSG_PRODUCT_WORKSPACE);
            check_case(&c);
            check_against_gemm(context, &c);
            case_free(&c);
        }
        test_context_free(context);
    }
}

static void store(void **state) { (void)state; check_finish(PSG_FINISH_STORE, 60); }
static void store_square(void **state) { (void)state; check_finish(PSG_FINISH_STORE_SQUARE, 30); }
static void square(void **state) { (void)state; check_finish(PSG_FINISH_SQUARE, 30); }
static void dot(void **state) { (void)state; check_finish(PSG_FINISH_DOT, 30); }
static void add_f64(void **state) { (void)state; check_finish(PSG_FINISH_ADD_F64, 40); }
static void add_squares_f64(void **state) { (void)state; check_finish(PSG_FINISH_ADD_SQUARES_F64, 40); }

/* ---- gemm over the workers ---- */

static void check_gemm(psg_context *context, test_random *random, psg_dtype dtype) {
    static const int64_t sizes[] = { 0, 1, 3, 64, 65, 129, 300, 513, 801, 1100 }, depths[] = { 0, 1, 17, 64, 130, 300 };
    int64_t m = TEST_PICK(random, sizes), n = TEST_PICK(random, sizes), k = TEST_PICK(random, depths);
    psg_gemm gemm = { .dtype = dtype, .transpose_a = test_range(random, 0, 1), .transpose_b = test_range(random, 0, 1),
                      .m = m, .n = n, .k = k, .alpha = test_range(random, 0, 1) ? 1 : -0.75,
                      .beta = test_range(random, 0, 1) };
    test_array a = test_array_normal(random, dtype, 1, (int64_t[]){ m * k }, TEST_CONTIGUOUS);
    test_array b = test_array_normal(random, dtype, 1, (int64_t[]){ k * n }, TEST_CONTIGUOUS);
    test_array bias = test_array_normal(random, dtype, 1, &n, TEST_CONTIGUOUS);
    output c = output_new(random, dtype, m, n, true), other = c;
    other.memory = malloc((size_t)c.elements * sizeof(double));
    memcpy(other.memory, c.memory, (size_t)c.elements * psg_dtype_size(dtype));
    gemm.a = a.view.data, gemm.lda = gemm.transpose_a ? m : k;
    gemm.b = b.view.data, gemm.ldb = gemm.transpose_b ? k : n;
    gemm.bias = test_range(random, 0, 1) ? bias.view.data : NULL;
    gemm.ldc = c.ld;
    gemm.c = output_data(&c);
    psg_gemm_rows(context, &gemm);
    gemm.c = output_data(&other);
    psg_gemm_serial(context, &gemm);
    double unit = test_bound(dtype, (double)k + 4, 1);   /* terms: below max |a| |b| k, most of which is 5 x 5 */
    for (int64_t e = 0; e < m * n; e++) {
        double bound = 2 * unit * 36 * ((double)k + 1);
        test_near(output_get(&c, e / n, e % n), output_get(&other, e / n, e % n), bound, "gemm", e);
    }
    free(other.memory);
    output_free(&c, false);
    test_array_free(&a), test_array_free(&b), test_array_free(&bias);
}

static void gemm_parallel(void **state) {
    (void)state;
    psg_context *context = test_context(3, NULL);
    test_random random = { 7 };
    for (int round = 0; round < 60; round++) check_gemm(context, &random, round % 2 ? PSG_F64 : PSG_F32);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(store),
        cmocka_unit_test(store_square),
        cmocka_unit_test(square),
        cmocka_unit_test(dot),
        cmocka_unit_test(add_f64),
        cmocka_unit_test(add_squares_f64),
        cmocka_unit_test(gemm_parallel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
