/* Blocks as other programs have them: parameters of several layers or projections together, a rectangle a block; and
 * networks unrolled in time, many blocks on one rectangle. */
#include "gradient_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one parameter whose blocks fill disjoint rectangles ---- */

/* The same blocks as one parameter and as a parameter each. */
typedef struct split {
    fixture whole, apart;
    int64_t strides[3];         /* of the whole: of block k, of a row, of a column */
} split;

typedef enum arrangement { LAYERS, ROW_SLICES, COLUMN_SLICES, GROUPS } arrangement;
enum { PARTS = 3, P = 20, D = 33, B = 5 };

static int64_t offset_of(arrangement how, int64_t k) { return how == COLUMN_SLICES ? k * D : k * P * D; }

static void new_split(split *s, test_random *random, psg_dtype dtype, arrangement how, int64_t positions, bool scaled) {
    static const int64_t shapes[][4] = { { PARTS, P, D }, { PARTS * P, D }, { P, PARTS * D },
                                         { PARTS * P, D / 3, 3, 1 } };
    static const int ranks[] = { 3, 2, 2, 4 };
    s->whole = (fixture){ .dtype = dtype, .batch_size = B };
    s->apart = s->whole;
    for (int64_t k = 0; k < PARTS; k++) {
        const psg_tensor *g = fixture_operand(&s->whole, random, 3, (int64_t[]){ B, positions, P }, TEST_CONTIGUOUS);
        const psg_tensor *a = fixture_operand(&s->whole, random, 3, (int64_t[]){ B, positions, D }, TEST_CONTIGUOUS);
        psg_block block = psg_factored(g, a);
        block.scale = scaled ? 0.5 * (double)(k + 1) : 2;
        s->apart.block[k][0] = block;
        fixture_add(&s->apart, 1, 2, (int64_t[]){ P, D });
        block.offset = offset_of(how, PARTS - 1 - k);   /* in any order */
        block.row_stride = how == COLUMN_SLICES ? PARTS * D : D;
        s->whole.block[0][k] = block;
    }
    fixture_add(&s->whole, PARTS, ranks[how], shapes[how]);
    fixture_refresh(&s->whole);
    fixture_refresh(&s->apart);
}

static void free_split(split *s) {
    fixture_free(&s->whole);
    fixture_free(&s->apart);
}

/* Element (k, i, j) of all blocks in the whole parameter. */
static int64_t place(arrangement how, int64_t k, int64_t i, int64_t j) {
    return offset_of(how, PARTS - 1 - k) + i * (how == COLUMN_SLICES ? PARTS * D : D) + j;
}

static void check_sums(const answers *whole, const answers *apart, arrangement how, double bound,
                       psg_question question) {
    for (int64_t e = 0; e < PARTS * P * D; e++) {
        int64_t k = e / (P * D), i = e / D % P, j = e % D;
        test_near(test_get_at(&whole->sums[0], place(how, k, i, j)), test_get_at(&apart->sums[k], e % (P * D)), bound,
                  psg_question_name(question), e);
    }
}

static void check_samples(const answers *whole, const answers *apart, arrangement how) {
    for (int64_t n = 0; n < B; n++) {
        for (int64_t e = 0; e < PARTS * P * D; e++) {
            int64_t k = e / (P * D), i = e / D % P, j = e % D;
            double have = test_get_at(&whole->out[0].view, n * PARTS * P * D + place(how, k, i, j));
            test_near(have, test_get_at(&apart->out[k].view, n * P * D + e % (P * D)), 0, "grad_sample", e);
        }
    }
}

/* Directions of the whole are those of the parts, put in their places. */
static void share_directions(answers *whole, const answers *apart, arrangement how) {
    for (int64_t e = 0; e < PARTS * P * D; e++) {
        double v = test_get_at(&apart->directions[e / (P * D)], e % (P * D));
        test_set_at(&whole->directions[0], place(how, e / (P * D), e / D % P, e % D), v);
    }
}

/* The norms' parts are added in another order; what an element or a factor is made of is not. */
static void compare_split(psg_context *context, const split *s, arrangement how) {
    for (int q = 0; q < PSG_QUESTION_COUNT; q++) {
        psg_question question = (psg_question)q;
        test_random random = { 5 };
        answers whole, apart;
        answers_new(&whole, &s->whole, &random, PSG_F64, PSG_OVERWRITE);
        answers_new(&apart, &s->apart, &random, PSG_F64, PSG_OVERWRITE);
        memcpy(apart.weights, whole.weights, B * sizeof *apart.weights);
        share_directions(&whole, &apart, how);
        TEST_OK(context, answers_ask(&whole, context, &s->whole, question, PSG_OVERWRITE));
        TEST_OK(context, answers_ask(&apart, context, &s->apart, question, PSG_OVERWRITE));
        bool sums = q == PSG_ASK_WEIGHTED_SUM || q == PSG_ASK_SUM_OF_SQUARES || q == PSG_ASK_CLIPPED_SUM;
        if (q == PSG_ASK_GRAD_SAMPLE) check_samples(&whole, &apart, how);
        if (sums) check_sums(&whole, &apart, how, q == PSG_ASK_CLIPPED_SUM ? 1e-12 : 0, question);
        for (int64_t n = 0; n < B && q == PSG_ASK_SQNORM; n++) {
            test_near(whole.sqnorm[n], apart.sqnorm[n], 1e-15 * apart.sqnorm[n], "sqnorm", n);
            test_near(whole.upper[n], apart.upper[n], 1e-12 * apart.upper[n], "upper", n);
        }
        double cells = 4 * PARTS * P * D;
        for (int64_t n = 0; n < B && q == PSG_ASK_DOT; n++) {
            test_near(whole.dots[n], apart.dots[n], 1e-14 * cells, "dot", n);
        }
        for (int64_t n = 0; n < B * B && q == PSG_ASK_GRAM; n++) {
            test_near(whole.gram[n], apart.gram[n], 1e-14 * whole.gram[n / B * (B + 1)] + 1e-14 * cells, "gram", n);
        }
        answers_free(&whole);
        answers_free(&apart);
    }
}

static void disjoint_rectangles_answer_as_parameters_apart(void **state) {
    (void)state;
    static const int64_t positions[] = { 1, 2, 17, 64, 0 };
    test_random random = { 1 };
    for (int k = 0; k < 4 * 5 * 2 * 2; k++) {
        arrangement how = (arrangement)(k % 4);
        split s;
        new_split(&s, &random, (psg_dtype)(k / 20 % 2), how, positions[k / 4 % 5], k / 40);
        psg_context *context = test_context_with(NULL, 2, NULL, k % 3 ? (size_t)64 << 20 : 0);
        psg_context *without = test_context(2, NULL);   /* columns cannot be kept, and may go by another route then */
        compare_split(without, &s, how);
        check_all_questions(context, &s.whole, &random);
        psg_context_destroy(without);
        psg_context_destroy(context);
        free_split(&s);
    }
}

/* What psg_plan_text says of every part of the whole. */
static void check_route(psg_context *context, const fixture *f, psg_question question, const char *route, int parts) {
    char text[4096], expected[64];
    int found = 0;
    snprintf(expected, sizeof expected, ": %s", route);
    TEST_OK(context, psg_plan_text(context, question, f->pointer, 1, NULL, text, sizeof text, NULL));
    for (const char *at = text; (at = strstr(at, expected)); at++) found++;
    if (found != parts || strstr(text, "mixed")) fail_msg("%d of \"%s\" in %s", parts, expected, text);
}

static void disjoint_rectangles_keep_their_routes(void **state) {
    (void)state;
    test_random random = { 2 };
    psg_context *context = test_context(1, NULL);
    for (int how = 0; how < 4; how++) {
        split one, some;
        new_split(&one, &random, PSG_F32, (arrangement)how, 1, how % 2);
        new_split(&some, &random, PSG_F32, (arrangement)how, 4, how % 2);
        check_route(context, &one.whole, PSG_ASK_SQNORM, "identity", PARTS);
        check_route(context, &one.whole, PSG_ASK_CLIPPED_SUM, "recompute (norms by identity)", PARTS);
        check_route(context, &one.whole, PSG_ASK_GRAM, "identity", PARTS);
        check_route(context, &one.whole, PSG_ASK_DOT, "project", PARTS);
        check_route(context, &one.whole, PSG_ASK_WEIGHTED_SUM, "stacked", PARTS);
        check_route(context, &some.whole, PSG_ASK_SQNORM, "gram", PARTS);
        check_route(context, &some.whole, PSG_ASK_WEIGHTED_SUM, "samples", PARTS);
        free_split(&one);
        free_split(&some);
    }
    psg_context_destroy(context);
}

/* The middle block, of (60, 33) or (20, 99), put elsewhere: it shares rows, a column or one element with another. */
static void overlapping_rectangles_stay_exact(void **state) {
    (void)state;
    static const struct { arrangement how; int64_t offset, p, d; } moves[] = {
        { ROW_SLICES, 19 * D, P, D },              { ROW_SLICES, 21 * D, P, D }, { ROW_SLICES, 19 * D + 1, P, D - 1 },
        { ROW_SLICES, 21 * D + 32, P, 1 },         { ROW_SLICES, 0, P, 5 },      { COLUMN_SLICES, 32, P, D },
        { COLUMN_SLICES, 34, P, D },               { COLUMN_SLICES, 99 + 32, P - 1, D },
        { COLUMN_SLICES, 19 * 99 + 65, 1, D },     { COLUMN_SLICES, 0, 2, D },
    };
    test_random random = { 3 };
    psg_context *context = test_context(2, NULL);
    for (int k = 0; k < 10 * 2; k++) {
        split s;
        new_split(&s, &random, (psg_dtype)(k / 10), moves[k % 10].how, 3, true);
        psg_block *moved = &s.whole.block[0][1];
        moved->offset = moves[k % 10].offset;
        moved->backprop.shape[2] = moves[k % 10].p;
        moved->activation.shape[2] = moves[k % 10].d;
        fixture_refresh(&s.whole);
        char text[2048];
        TEST_OK(context, psg_plan_text(context, PSG_ASK_SQNORM, s.whole.pointer, 1, NULL, text, sizeof text, NULL));
        if (!strstr(text, "tiles, mixed of")) fail_msg("%d: %s", k, text);
        check_all_questions(context, &s.whole, &random);
        free_split(&s);
    }
    psg_context_destroy(context);
}

/* ---- one rectangle that many blocks fill ---- */

/* count blocks of `positions` each as one parameter, and one block of all their positions. */
static void new_unrolled(fixture *many, fixture *one, test_random *random, psg_dtype dtype, int64_t batch,
                         int64_t count, int64_t positions, int64_t p, int64_t d, int layout) {
    *many = *one = (fixture){ .dtype = dtype, .batch_size = batch };
    int64_t all = count * positions;
    const psg_tensor *g = fixture_operand(one, random, 3, (int64_t[]){ batch, all, p }, TEST_CONTIGUOUS);
    const psg_tensor *a = fixture_operand(one, random, 3, (int64_t[]){ batch, all, d }, TEST_CONTIGUOUS);
    one->block[0][0] = psg_factored(g, a);
    fixture_add(one, 1, 2, (int64_t[]){ p, d });
    for (int64_t k = 0; k < count; k++) {
        const psg_tensor *from[2] = { g, a };
        const psg_tensor *to[2];
        for (int x = 0; x < 2; x++) {
            int64_t features = from[x]->shape[2];
            to[x] = fixture_operand(many, random, 3, (int64_t[]){ batch, positions, features },
                                    k % 4 ? TEST_CONTIGUOUS : layout);
            for (int64_t e = 0; e < batch * positions * features; e++) {
                int64_t n = e / (positions * features), t = e / features % positions, j = e % features;
                test_set(to[x], (int64_t[]){ n, t, j }, test_get3(from[x], n, k * positions + t, j));
            }
        }
        many->block[0][k] = psg_factored(to[0], to[1]);
    }
    fixture_add(many, (size_t)count, 2, (int64_t[]){ p, d });
    fixture_refresh(many);
    fixture_refresh(one);
}

static void check_unrolled(psg_dtype dtype, int64_t batch, int64_t count, int64_t positions, int64_t p, int64_t d,
                           size_t budget) {
    test_random random = { 4 };
    fixture many, one;
    int layout = positions > 1 ? TEST_CONTIGUOUS : TEST_PADDED;
    new_unrolled(&many, &one, &random, dtype, batch, count, positions, p, d, layout);
    psg_context *context = test_context_with(NULL, 2, NULL, budget);
    char text[2][1024];
    const char *route[2];
    for (int k = 0; k < 2; k++) {
        const fixture *f = k ? &one : &many;
        TEST_OK(context, psg_plan_text(context, PSG_ASK_SQNORM, f->pointer, 1, NULL, text[k], sizeof text[k], NULL));
        route[k] = strstr(text[k], ": gradient 0: ");
        text[k][strcspn(text[k], ",")] = 0;
    }
    if (positions && strcmp(route[0], route[1])) fail_msg("%d blocks: %s, one: %s", (int)count, text[0], text[1]);
    check_all_questions(context, &many, &random);
    answers x = answers_of(context, &many, PSG_ASK_SQNORM), y = answers_of(context, &one, PSG_ASK_SQNORM);
    for (int64_t n = 0; n < batch; n++) {
        double bound = test_bound(dtype, many.positions + many.features, many.mass[n] * many.mass[n]);
        test_near(x.sqnorm[n], y.sqnorm[n], bound, "sqnorm", n);
        bool tight = x.upper[n] <= 1.03 * y.upper[n];
        if (!tight) fail_msg("%d blocks: upper %g, one: %g", (int)count, x.upper[n], y.upper[n]);
    }
    assert_int_equal(x.fallbacks, 0);   /* wrong Grams would be answered by tiles */
    answers_free(&x);
    answers_free(&y);
    psg_context_destroy(context);
    fixture_free(&many);
    fixture_free(&one);
}

static void many_blocks_of_a_rectangle_are_one(void **state) {
    (void)state;
    for (int k = 0; k < 4; k++) {
        psg_dtype dtype = (psg_dtype)(k % 2);
        size_t budget = k < 2 ? 0 : (size_t)64 << 20;
        check_unrolled(dtype, 5, 28, 1, 24, 17, budget);    /* tiles: steps differ */
        check_unrolled(dtype, 3, 3, 64, 40, 31, budget);
        check_unrolled(dtype, 2, 3, 64, 300, 2, budget);    /* tiles */
        check_unrolled(dtype, 1, 8, 30, 300, 290, budget);  /* more than is copied together: Gram, tiles */
        check_unrolled(dtype, 1, 8, 150, 130, 90, budget);
        check_unrolled(dtype, 1, 3, 900, 7, 5, budget);     /* more than 2,048 positions */
        check_unrolled(dtype, 2, 2, 0, 7, 5, budget);
    }
}

/* Tied uses whose scales, forms or numbers of live positions differ. */
static void many_blocks_of_any_kind_are_summed(void **state) {
    (void)state;
    test_random random = { 6 };
    for (int k = 0; k < 2 * 12; k++) {
        fixture many, one;
        new_unrolled(&many, &one, &random, (psg_dtype)(k % 2), 4, 5, 3, 17, 9, k / 12 ? TEST_PADDED : TEST_CONTIGUOUS);
        for (int64_t n = 0; n < 4; n++) {   /* sample n lives in n + 1 blocks of 5, and in two positions of the last */
            for (int64_t b = n; b < 5; b++) {
                psg_tensor g = many.block[0][b].backprop;
                for (int64_t e = b == n ? 2 * 17 : 0; e < 3 * 17; e++) test_set_at(&g, n * 3 * 17 + e, 0);
            }
        }
        if (k / 2 % 3 == 1) for (int b = 0; b < 5; b++) many.block[0][b].scale = b - 1.5;
        if (k / 2 % 3 == 2) many.block[0][3].scale = 0;
        if (k / 6 % 2) many.block[0][2] = psg_rows(&many.block[0][2].activation), many.block[0][2].offset = 9 * 4;
        fixture_refresh(&many);
        psg_context *context = test_context_with(NULL, 2, NULL, k % 4 ? (size_t)1 << 20 : 0);
        check_all_questions(context, &many, &random);
        psg_context_destroy(context);
        fixture_free(&many);
        fixture_free(&one);
    }
}

/* A convolution used twice. */
static void windows_used_twice_agree(void **state) {
    (void)state;
    const psg_window window = { 2, { 3, 3 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 6, 6 } };
    test_random random = { 7 };
    for (int k = 0; k < 8; k++) {
        fixture f = { .dtype = (psg_dtype)(k % 2), .batch_size = 3 };
        for (int b = 0; b < 2; b++) {
            const psg_tensor *image = fixture_operand(&f, &random, 4, (int64_t[]){ 3, 4, 6, 6 }, TEST_ANY);
            const psg_tensor *g = fixture_operand(&f, &random, 3, (int64_t[]){ 3, 36, 7 }, TEST_ANY);
            f.block[0][b] = psg_unfolded(g, image, &window);
            f.block[0][b].scale = k / 4 ? 1 + b : 1;
        }
        fixture_add(&f, 2, 4, (int64_t[]){ 7, 4, 3, 3 });
        fixture_refresh(&f);
        psg_context *context = test_context_with(NULL, 2, NULL, k / 2 % 2 ? (size_t)64 << 20 : 0);
        check_all_questions(context, &f, &random);
        psg_context_destroy(context);
        fixture_free(&f);
    }
}

/* ---- blocks moved and scaled ---- */

enum { LAYERS_OF = 2, HEAD = 6, IN = 5, ROW = IN + 1, LAYER = 3 * HEAD * ROW };

/* Of two layers, each with the rows of three projections whose last column is their bias: projection 2 of layer 1. */
static void moved_blocks_land_where_they_are_sent(void **state) {
    (void)state;
    test_random random = { 8 };
    fixture f = { .dtype = PSG_F64, .batch_size = 3 };
    const psg_tensor *g = fixture_operand(&f, &random, 3, (int64_t[]){ 3, 2, HEAD }, TEST_ANY);
    const psg_tensor *x = fixture_operand(&f, &random, 3, (int64_t[]){ 3, 2, IN }, TEST_ANY);
    const psg_block weight = psg_block_at(psg_factored(g, x), 2 * HEAD * ROW, ROW);
    const psg_block bias = psg_block_at(psg_rows(g), 2 * HEAD * ROW + IN, ROW);
    f.block[0][0] = psg_block_scaled(psg_block_at(weight, LAYER, 0), -3);
    f.block[0][1] = psg_block_at(psg_block_scaled(psg_block_scaled(bias, 2), 0.25), LAYER, 0);
    fixture_add(&f, 2, 2, (int64_t[]){ LAYERS_OF * 3 * HEAD, ROW });
    psg_context *context = test_context(1, NULL);
    answers a = answers_of(context, &f, PSG_ASK_WEIGHTED_SUM);
    for (int64_t i = 0; i < LAYERS_OF * 3 * HEAD; i++) {
        for (int64_t j = 0; j < ROW; j++) {
            double expected = 0, row = (double)i - LAYERS_OF * 3 * HEAD + HEAD;
            for (int64_t nt = 0; nt < 3 * 2 && row >= 0; nt++) {
                double b = test_get3(g, nt / 2, nt % 2, (int64_t)row) * a.weights[nt / 2];
                expected += j < IN ? -3 * b * test_get3(x, nt / 2, nt % 2, j) : 0.5 * b;
            }
            test_near(test_get_at(&a.sums[0], i * ROW + j), expected, 1e-13, "element", i * ROW + j);
        }
    }
    answers_free(&a);
    psg_context_destroy(context);
    fixture_free(&f);
}

static void moved_blocks_are_checked(void **state) {
    (void)state;
    test_random random = { 9 };
    fixture f = { .dtype = PSG_F32, .batch_size = 2 };
    const psg_tensor *g = fixture_operand(&f, &random, 2, (int64_t[]){ 2, HEAD }, TEST_CONTIGUOUS);
    psg_block products = psg_block_at(psg_rows_product(g, g), 1, 2);
    assert_true(products.row_step == 2 && products.row_stride == HEAD && products.offset == 1);
    assert_true(psg_block_at(products, 1, 0).row_step == 2);
    fixture_add(&f, 1, 1, (int64_t[]){ HEAD });
    psg_context *context = test_context(1, NULL);
    static const int64_t moves[][2] = { { 1, 0 }, { -1, 0 }, { INT64_MAX, INT64_MAX }, { INT64_MIN, -1 } };
    for (int k = 0; k < 4; k++) {
        f.block[0][0] = psg_block_at(psg_block_at(psg_rows(g), moves[k][0], 0), moves[k][1], 0);
        if (k > 1) f.block[0][0] = psg_block_at(f.block[0][0], 1, 0);   /* what overflowed has no way back */
        check_refusals(context, &f, &random, PSG_ERR_SHAPE, "block 0");
    }
    psg_context_destroy(context);
    fixture_free(&f);
}

/* ---- unlike blocks side by side ---- */

enum { SIDE_B = 3, SIDE_ROWS = 4, SIDE_COLUMNS = 9, SIDE_BLOCKS = 5, SIDE_SIZE = SIDE_ROWS * SIDE_COLUMNS };

/* Blocks over whole columns of a parameter, some over the same ones but of another form or scale. */
static int draw_columns(test_random *random, const double *data, psg_block *blocks) {
    const int count = (int)test_range(random, 2, SIDE_BLOCKS);
    for (int k = 0; k < count; k++) {
        const int64_t width = test_range(random, 1, 3), at = test_range(random, 0, SIDE_COLUMNS - width);
        const psg_tensor g = psg_f64_3d(data + k, SIDE_B, 2, SIDE_ROWS), a = psg_f64_3d(data + 7 * k, SIDE_B, 2, width);
        const psg_tensor column = psg_f64_3d(data + 3 * k, SIDE_B, 1, SIDE_ROWS);
        switch (test_range(random, 0, 2)) {
        case 0: blocks[k] = psg_block_at(psg_factored(&g, &a), at, SIDE_COLUMNS); break;
        case 1: blocks[k] = psg_block_at(psg_rows(&column), at, SIDE_COLUMNS); break;
        default: blocks[k] = psg_block_at(psg_rows_product(&g, &g), at, SIDE_COLUMNS);
        }
        blocks[k] = psg_block_scaled(blocks[k], (double)test_range(random, 1, 2));
    }
    return count;
}

/* Whole numbers, so that sums of any order are exact: of what grad_sample says, over what was there before. */
static void check_columns(psg_context *context, const psg_gradient *gradient, const double *weights) {
    double each[SIDE_B * SIDE_SIZE] = { 0 }, sum[SIDE_SIZE] = { 0 };
    const psg_gradient *const set[1] = { gradient };
    const psg_tensor out = psg_f64_2d(sum, SIDE_ROWS, SIDE_COLUMNS);
    const psg_tensor all = psg_f64_3d(each, SIDE_B, SIDE_ROWS, SIDE_COLUMNS);
    TEST_OK(context, psg_grad_sample(context, gradient, 1, PSG_OVERWRITE, &all));
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        for (int i = 0; i < SIDE_SIZE; i++) sum[i] = 777;
        TEST_OK(context, psg_weighted_sum(context, set, 1, weights, accumulate ? PSG_ACCUMULATE : PSG_OVERWRITE, &out));
        for (int i = 0; i < SIDE_SIZE; i++) {
            double expected = accumulate ? 777 : 0;
            for (int n = 0; n < SIDE_B; n++) expected += (weights ? weights[n] : 1) * each[n * SIDE_SIZE + i];
            assert_true(sum[i] == expected);
        }
    }
}

static void unlike_blocks_side_by_side_are_summed(void **state) {
    (void)state;
    static const double weights[SIDE_B] = { 2, 1, 3 };
    const int64_t shape[2] = { SIDE_ROWS, SIDE_COLUMNS };
    test_random random = { 41 };
    double data[128];
    for (int i = 0; i < 128; i++) data[i] = (double)test_range(&random, -3, 3);
    for (unsigned threads = 1; threads < 3; threads++) {
        psg_context *context = test_context(threads, NULL);
        for (int round = 0; round < 400; round++) {
            psg_block blocks[SIDE_BLOCKS];
            const int count = draw_columns(&random, data, blocks);
            const psg_gradient gradient = psg_gradient_of_blocks(blocks, (size_t)count, 2, shape);
            check_columns(context, &gradient, NULL);
            check_columns(context, &gradient, weights);
        }
        test_context_free(context);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(disjoint_rectangles_answer_as_parameters_apart),
        cmocka_unit_test(disjoint_rectangles_keep_their_routes),
        cmocka_unit_test(overlapping_rectangles_stay_exact),
        cmocka_unit_test(many_blocks_of_a_rectangle_are_one),
        cmocka_unit_test(many_blocks_of_any_kind_are_summed),
        cmocka_unit_test(windows_used_twice_agree),
        cmocka_unit_test(moved_blocks_land_where_they_are_sent),
        cmocka_unit_test(moved_blocks_are_checked),
        cmocka_unit_test(unlike_blocks_side_by_side_are_summed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
