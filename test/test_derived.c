/* Derived blocks of a caller's own: every question against plain loops, rows that lie anyhow, beside other blocks. */
#include "gradient_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Row i of the parameter: pulled[w] = near e[w] + far e[(3 w + 1) mod columns], near and far of row i. */
typedef struct map {
    psg_derivation derivation;
    double *near, *far;
} map;

static void pull(const void *user, int64_t first, int64_t count, const double *grad, double *pulled) {
    const map *m = user;
    int64_t columns = m->derivation.columns, width = m->derivation.width;
    for (int64_t i = 0; i < count; i++, grad += columns, pulled += width) {
        for (int64_t w = 0; w < width; w++) {
            pulled[w] = m->near[first + i] * grad[w] + m->far[first + i] * grad[(3 * w + 1) % columns];
        }
    }
}

/* No element of e is at more than three places of the far one. */
static double norm(const void *user, int64_t row) {
    const map *m = user;
    return fabs(m->near[row]) + 1.75 * fabs(m->far[row]);
}

static void new_map(map *m, test_random *random, const fixture *effective, int64_t rows, int64_t inner, int64_t width) {
    int64_t columns = rows ? effective->total / rows : 0;
    m->derivation = (psg_derivation){ .blocks = effective->gradient[0].blocks,
                                      .block_count = effective->gradient[0].block_count, .rows = rows,
                                      .columns = columns, .width = width ? width : columns, .inner = inner,
                                      .pull = pull, .norm = norm, .user = m };
    m->near = malloc((size_t)(rows + 1) * sizeof *m->near);
    m->far = malloc((size_t)(rows + 1) * sizeof *m->far);
    for (int64_t i = 0; i < rows; i++) {
        m->near[i] = test_normal(random);
        m->far[i] = test_normal(random);
    }
}

static void free_map(map *m) {
    free(m->near);
    free(m->far);
}

/* Where element k of row i lies. */
static int64_t place(const psg_derivation *d, int64_t width, int64_t i, int64_t k) {
    if (!d->inner || width != d->columns) return i * width + k;
    return (k / d->inner * d->rows + i) * d->inner + k % d->inner;
}

/* ---- values: a gradient of o from that of the effective weight ---- */

static void add_pulled(fixture *o, size_t k, const fixture *effective, const map *m, double scale) {
    const psg_derivation *d = &m->derivation;
    for (int64_t n = 0; n < o->batch_size; n++) {
        const long double *e = effective->dense + n * effective->total;
        const double *terms = effective->terms + n * effective->total;
        double most = 0;
        for (int64_t i = 0; i < d->rows; i++) {
            most = fmax(most, norm(m, i));
            for (int64_t w = 0; w < d->width; w++) {
                int64_t at = n * o->total + o->start[k] + place(d, d->width, i, w);
                int64_t near = place(d, d->columns, i, w), far = place(d, d->columns, i, (3 * w + 1) % d->columns);
                o->dense[at] += scale * ((long double)m->near[i] * e[near] + (long double)m->far[i] * e[far]);
                o->terms[at] += fabs(scale) * (fabs(m->near[i]) * terms[near] + fabs(m->far[i]) * terms[far]);
            }
        }
        o->mass[(size_t)n * o->count + k] += fabs(scale) * most * effective->mass[n];
    }
}

static void add_raw(fixture *o, size_t k, const fixture *raw) {
    for (int64_t n = 0; n < o->batch_size; n++) {
        for (int64_t e = 0; e < raw->total; e++) {
            o->dense[n * o->total + o->start[k] + e] += raw->dense[n * raw->total + e];
            o->terms[n * o->total + o->start[k] + e] += raw->terms[n * raw->total + e];
        }
        o->mass[(size_t)n * o->count + k] += raw->mass[n];
    }
}

static void add_gradient(fixture *o, size_t blocks, int rank, const int64_t *shape) {
    size_t k = o->count++;
    o->gradient[k] = psg_gradient_of_blocks(o->block[k], blocks, rank, shape);
    o->pointer[k] = &o->gradient[k];
    o->start[k] = o->total;
    o->size[k] = rank == 1 ? shape[0] : shape[0] * shape[1];
    o->total += o->size[k];
}

/* ---- scenes ---- */

enum { BESIDE_NOTHING, BESIDE_RAW, BESIDE_ANOTHER, BESIDES };

typedef struct scene {
    fixture effective, raw, o;
    map weight, gain, other;
} scene;

typedef struct layout {
    int64_t rows, inner;   /* of a P x D effective weight */
} layout;

/* A weight, derived and more, and a parameter of `width` elements a row, of one effective weight. */
static void open_scene(scene *s, test_random *random, psg_dtype dtype, fixture_kind kind, int64_t batch,
                       int64_t positions, int64_t p, int64_t d, layout l, int64_t width, int beside) {
    *s = (scene){ .o = { .dtype = dtype, .batch_size = batch } };
    fixture_single(&s->effective, random, dtype, kind, batch, positions, p, d, TEST_CONTIGUOUS);
    fixture_single(&s->raw, random, dtype, kind, batch, positions + 1, p, d, TEST_ANY);
    const psg_gradient *e = &s->effective.gradient[0];
    new_map(&s->weight, random, &s->effective, l.rows, l.inner, 0);
    new_map(&s->other, random, &s->raw, e->shape[0], 0, 0);
    new_map(&s->gain, random, &s->effective, l.rows, l.inner, width);
    fixture *o = &s->o;
    o->block[0][0] = psg_derived(&s->weight.derivation, dtype, batch);
    o->block[0][0].scale = -2;
    o->block[0][1] = beside == BESIDE_RAW ? s->raw.block[0][0] : psg_derived(&s->other.derivation, dtype, batch);
    o->block[1][0] = psg_derived(&s->gain.derivation, dtype, batch);
    add_gradient(o, beside ? 2 : 1, e->rank, e->shape);
    add_gradient(o, 1, 2, (int64_t[]){ l.rows, width });
    o->positions = s->effective.positions + s->raw.positions + 2;
    o->features = s->effective.features + 4;
    o->dense = calloc((size_t)(batch * o->total) + 1, sizeof *o->dense);
    o->terms = calloc((size_t)(batch * o->total) + 1, sizeof *o->terms);
    o->mass = calloc((size_t)batch * o->count + 1, sizeof *o->mass);
    add_pulled(o, 0, &s->effective, &s->weight, -2);
    add_pulled(o, 1, &s->effective, &s->gain, 1);
    if (beside == BESIDE_RAW) add_raw(o, 0, &s->raw);
    if (beside == BESIDE_ANOTHER) add_pulled(o, 0, &s->raw, &s->other, 1);
}

static void close_scene(scene *s) {
    free_map(&s->weight);
    free_map(&s->gain);
    free_map(&s->other);
    fixture_free(&s->effective);
    fixture_free(&s->raw);
    fixture_free(&s->o);
}

/* ---- tests ---- */

/* Rows of P x D: its own, its columns, halves of it in the middle, all of it, single elements. */
static layout layout_of(int number, int64_t p, int64_t d) {
    const layout layouts[] = { { p, 0 }, { d, 1 }, { p / 2, d }, { 1, 0 }, { p, d }, { p * d, 0 } };
    return layouts[number];
}

static void every_question_is_answered(void **state) {
    (void)state;
    static const fixture_kind kinds[] = { FIXTURE_WHOLE, FIXTURE_TRANSPOSED, FIXTURE_SPARSE };
    static const char *const routes[] = { NULL, NULL, "tiles", "keep", "gram", "recompute" };
    test_random random = { 21 };
    for (int round = 0; round < 3 * 6 * 3 * 6; round++) {
        int number = round / 3 % 6, beside = round / 18 % BESIDES;
        int64_t p = 6, d = (int64_t[]){ 1, 4, 9 }[round % 3];
        fixture_kind kind = kinds[round / 54 % 3];
        int64_t rows = kind == FIXTURE_WHOLE ? p : d, columns = kind == FIXTURE_WHOLE ? d : p;
        layout l = layout_of(number, rows, columns);
        if (!l.rows || rows * columns % l.rows || (number == 2 && rows % 2)) continue;
        int64_t width = rows * columns / l.rows > 1 ? 1 + round % 2 : 1;
        scene s;
        open_scene(&s, &random, (psg_dtype)(round % 2), kind, round % 7 ? 3 : 1, (int64_t[]){ 1, 3, 17 }[round / 6 % 3], p,
                   d, l, width, beside);
        psg_context *context = test_context_with(NULL, 2, NULL, round % 5 ? 0 : 1 << 20);
        TEST_OK(context, psg_context_force_route(context, routes[round % 6]));
        check_all_questions(context, &s.o, &random);
        psg_context_destroy(context);
        close_scene(&s);
    }
}

/* Parameters larger than the workspace, rows as long as may be. */
static void large_parameters_are_answered(void **state) {
    (void)state;
    static const struct { int64_t p, d, rows, inner; } sizes[] = {
        { 260, 401, 260, 0 }, { 260, 401, 401, 1 }, { 4, 49152, 4, 0 }, { 4, 12288, 1, 0 }, { 300, 700, 150, 700 },
    };
    test_random random = { 22 };
    for (int k = 0; k < 5 * BESIDES; k++) {
        scene s;
        layout l = { sizes[k / BESIDES].rows, sizes[k / BESIDES].inner };
        open_scene(&s, &random, k % 2 ? PSG_F64 : PSG_F32, FIXTURE_WHOLE, 2, 1 + k % 3, sizes[k / BESIDES].p,
                   sizes[k / BESIDES].d, l, 1, k % BESIDES);
        psg_context *context = test_context(2, NULL);
        check_all_questions(context, &s.o, &random);
        psg_context_destroy(context);
        close_scene(&s);
    }
}

/* A plain sum pulls once: against the weighted sum of weights 1. */
static void plain_sums_agree(void **state) {
    (void)state;
    test_random random = { 23 };
    psg_context *context = test_context(2, NULL);
    for (int k = 0; k < 12; k++) {
        scene s;
        open_scene(&s, &random, (psg_dtype)(k % 2), FIXTURE_WHOLE, 5, 2, 6, 7, layout_of(k / 2 % 3, 6, 7), 1, k / 4);
        answers plain = answers_of(context, &s.o, PSG_ASK_SUM_OF_SQUARES);
        answers weighted = answers_of(context, &s.o, PSG_ASK_SUM_OF_SQUARES);
        const double ones[5] = { 1, 1, 1, 1, 1 };
        TEST_OK(context, psg_weighted_sum(context, s.o.pointer, 2, NULL, PSG_OVERWRITE, plain.sums));
        TEST_OK(context, psg_weighted_sum(context, s.o.pointer, 2, ones, PSG_OVERWRITE, weighted.sums));
        for (size_t g = 0; g < 2; g++) {
            for (int64_t e = 0; e < s.o.size[g]; e++) {
                double terms = 0;
                for (int64_t n = 0; n < 5; n++) terms += s.o.terms[n * s.o.total + s.o.start[g] + e];
                test_near(test_get_at(&plain.sums[g], e), test_get_at(&weighted.sums[g], e),
                          test_bound(s.o.dtype, s.o.positions + 8, terms), "plain sum", e);
            }
        }
        answers_free(&plain);
        answers_free(&weighted);
        close_scene(&s);
    }
    psg_context_destroy(context);
}

/* What a sample adds has the same bits whether it was kept, rounded to f32, or is pulled anew. */
static void kept_and_recomputed_are_the_same(void **state) {
    (void)state;
    test_random random = { 24 };
    for (int k = 0; k < 9; k++) {
        scene s;
        open_scene(&s, &random, PSG_F32, FIXTURE_WHOLE, 5, 3, 6, 7, layout_of(k % 3, 6, 7), 1, BESIDE_NOTHING);
        answers answer[2];
        for (int keep = 0; keep < 2; keep++) {
            psg_context *context = test_context_with(NULL, 2, NULL, keep ? 1 << 20 : 0);
            answer[keep] = answers_of(context, &s.o, PSG_ASK_SUM_OF_SQUARES);   /* sums of doubles */
            psg_clip clip = PSG_CLIP_INIT;
            double factors[5];
            clip.max_batch_size = 5;
            TEST_OK(context, psg_clipped_sum(context, s.o.pointer, 2, &clip, PSG_OVERWRITE, answer[keep].sums, NULL,
                                             factors, NULL));
            psg_context_destroy(context);
        }
        for (size_t g = 0; g < 2; g++) {
            assert_int_equal(answer[0].sums[g].dtype, PSG_F64);
            assert_memory_equal(answer[0].sums[g].data, answer[1].sums[g].data, (size_t)s.o.size[g] * sizeof(double));
        }
        answers_free(&answer[0]);
        answers_free(&answer[1]);
        close_scene(&s);
    }
}

static double first_is_nan(const void *user, int64_t row) {
    (void)user;
    return row == 0 ? NAN : 1e-9;
}

/* A row whose Jacobian has no norm has no bound, whatever the rows after it say. */
static void a_norm_that_is_nan_is_no_bound(void **state) {
    (void)state;
    test_random random = { 25 };
    scene s;
    open_scene(&s, &random, PSG_F32, FIXTURE_WHOLE, 2, 3, 6, 7, layout_of(0, 6, 7), 1, BESIDE_NOTHING);
    s.weight.derivation.norm = first_is_nan;
    psg_context *context = test_context(1, NULL);
    double squares[2], upper[2];
    TEST_OK(context, psg_sqnorm(context, s.o.pointer, 1, squares, upper, NULL));
    assert_true(isfinite(squares[0]) && isnan(upper[0]) && isnan(upper[1]));
    psg_context_destroy(context);
    close_scene(&s);
}

/* 0 times an infinite factor of the Jacobian: grad_sample and the sum hold the 0 that the norm says. */
static void nothing_pulled_is_nothing(void **state) {
    (void)state;
    test_random random = { 26 };
    scene s;
    open_scene(&s, &random, PSG_F64, FIXTURE_WHOLE, 2, 0, 6, 7, layout_of(0, 6, 7), 1, BESIDE_NOTHING);
    s.weight.near[2] = INFINITY;
    psg_context *context = test_context(1, NULL);
    double squares[2], sample[2 * 42], sum[42];
    psg_tensor each = psg_tensor_of(PSG_F64, sample, 3, (int64_t[]){ 2, 6, 7 });
    psg_tensor total = psg_tensor_of(PSG_F64, sum, 2, (int64_t[]){ 6, 7 });
    TEST_OK(context, psg_sqnorm(context, s.o.pointer, 1, squares, NULL, NULL));
    TEST_OK(context, psg_grad_sample(context, s.o.pointer[0], 1.0, PSG_OVERWRITE, &each));
    TEST_OK(context, psg_weighted_sum(context, s.o.pointer, 1, (double[]){ 1, 0.5 }, PSG_OVERWRITE, &total));
    assert_true(squares[0] == 0 && squares[1] == 0);
    for (int k = 0; k < 42; k++) assert_true(sample[k] == 0 && sample[42 + k] == 0 && sum[k] == 0);
    psg_context_destroy(context);
    close_scene(&s);
}

static void mistakes_are_refused(void **state) {
    (void)state;
    test_random random = { 24 };
    psg_context *context = test_context(1, NULL);
    scene s;
    open_scene(&s, &random, PSG_F64, FIXTURE_WHOLE, 2, 1, 4, 6, (layout){ 4, 0 }, 1, BESIDE_NOTHING);
    psg_derivation *d = &s.weight.derivation, good = *d;
    psg_block nested = psg_derived(&good, PSG_F64, 2), scrambled = s.effective.block[0][0];
    scrambled.row_stride = 5;
    double sqnorm[2];
    for (int k = 0; k < 9; k++) {
        *d = good;
        switch (k) {
        case 0: d->pull = NULL; break;
        case 1: d->norm = NULL; break;
        case 2: d->columns = -1; break;
        case 3: d->inner = 4; break;
        case 4: d->columns = d->width = PSG_MOST_DERIVED_COLUMNS + 1; break;
        case 5: d->blocks = &nested; break;
        case 6: d->blocks = &scrambled; break;
        case 7: d->rows = 5; break;
        case 8: d->blocks = NULL; break;
        }
        static const psg_status expected[] = { PSG_ERR_ARGUMENT, PSG_ERR_ARGUMENT, PSG_ERR_ARGUMENT, PSG_ERR_ARGUMENT,
                                               PSG_ERR_UNSUPPORTED, PSG_ERR_UNSUPPORTED, PSG_ERR_SHAPE, PSG_ERR_SHAPE,
                                               PSG_ERR_ARGUMENT };
        test_status(context, psg_sqnorm(context, s.o.pointer, 1, sqnorm, NULL, NULL), expected[k], "a mistake");
    }
    *d = good;
    TEST_OK(context, psg_sqnorm(context, s.o.pointer, 1, sqnorm, NULL, NULL));
    close_scene(&s);
    psg_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_question_is_answered),
        cmocka_unit_test(large_parameters_are_answered),
        cmocka_unit_test(plain_sums_agree),
        cmocka_unit_test(kept_and_recomputed_are_the_same),
        cmocka_unit_test(a_norm_that_is_nan_is_no_bound),
        cmocka_unit_test(nothing_pulled_is_nothing),
        cmocka_unit_test(mistakes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
