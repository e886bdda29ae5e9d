/* The ends of what gradients may say: descriptions that do not fit 63 bits, derivations, windows, clips and views out
 * of range, questions without memory.  What fits is answered. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clip_sum.h"
#include "gradient/clipped_sum_on_grid.h"
#include "gradient/room.h"
#include "gradient_fixture.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))
#define SHAPE(...) (const int64_t[]){ __VA_ARGS__ }

static float ones[64], zeros[64];

static psg_tensor view(int rank, const int64_t *shape) { return psg_tensor_of(PSG_F32, ones, rank, shape); }

/* The gradient of a (rows, columns) parameter, asked for its values. */
static void check_refused(psg_context *c, const psg_block *block, int64_t rows, int64_t columns, psg_status expected,
                          const char *words) {
    const psg_gradient gradient = psg_gradient_of_blocks(block, 1, 2, SHAPE(rows, columns));
    psg_tensor out = psg_tensor_of(PSG_F32, zeros, 3, SHAPE(gradient.batch_size, rows, columns));
    psg_status status = psg_grad_sample(c, &gradient, 1, PSG_OVERWRITE, &out);
    if (status != expected || !strstr(psg_context_message(c), words)) {
        fail_msg("%s \"%s\", expected %s \"%s\"", psg_status_name(status), psg_context_message(c),
                 psg_status_name(expected), words);
    }
    for (int i = 0; i < COUNT(zeros); i++) assert_true(zeros[i] == 0);
}

/* ---- blocks ---- */

static void ranks_that_cannot_be_are_left_to_the_questions(void **state) {
    psg_context *c = *state;
    psg_tensor g = view(2, SHAPE(2, 3)), none = g;
    none.rank = 0;
    assert_int_equal(psg_factored(&g, &none).row_stride, 0);
    none.rank = PSG_MAX_RANK + 1;
    assert_int_equal(psg_factored(&g, &none).row_stride, 0);
    const psg_window window = { .spatial = 1, .kernel = { 2 }, .stride = { 1 }, .dilation = { 1 }, .output = { 3 } };
    none.rank = 1;
    psg_block block = psg_unfolded(&g, &none, &window);
    assert_int_equal(block.row_stride, 0);
    check_refused(c, &block, 3, 2, PSG_ERR_SHAPE, "the image must be a valid (B, C, *X) view of rank 3");
    const int64_t shape[PSG_MAX_RANK + 1] = { 1, 1, 1, 1, 1, 1, 1, 1, 7 };
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, PSG_MAX_RANK + 1, shape);
    double sqnorm = 7;
    assert_int_equal(psg_sqnorm(c, &(const psg_gradient *){ &gradient }, 1, &sqnorm, NULL, NULL), PSG_ERR_SHAPE);
    assert_true(sqnorm == 7);
}

static void places_that_overflow_are_refused(void **state) {
    psg_context *c = *state;
    const psg_tensor g = view(3, SHAPE(1, 1, 3)), a = view(3, SHAPE(1, 1, 4));
    psg_block block = psg_factored(&g, &a);
    block.offset = INT64_MAX - 2 * 4 - 2;   /* the last row begins in range, and ends beyond */
    check_refused(c, &block, 3, 4, PSG_ERR_SHAPE, "block 0");
    const int64_t many = (int64_t)1 << 41;   /* positions, all the same one */
    const psg_tensor long_g = psg_tensor_strided(PSG_F32, ones, 3, SHAPE(1, many, 3), SHAPE(0, 0, 1));
    const psg_tensor long_a = psg_tensor_strided(PSG_F32, ones, 3, SHAPE(1, many, 4), SHAPE(0, 0, 1));
    block = psg_factored(&long_g, &long_a);
    check_refused(c, &block, 3, 4, PSG_ERR_OVERFLOW, "more than 2^38 elements");
}

static void windows_that_overflow_are_refused(void **state) {
    const int64_t most = INT64_MAX;
    const psg_tensor g = view(3, SHAPE(2, 3, 2)), image = view(3, SHAPE(2, 2, 4));
    const psg_window usual = { .spatial = 1, .kernel = { 2 }, .stride = { 1 }, .dilation = { 1 }, .output = { 3 } };
    psg_window wide[] = { usual, usual, usual, usual };
    wide[0].padding[0] = most / 4, wide[1].stride[0] = most / 8, wide[2].stride[0] = most / 3;
    wide[2].dilation[0] = most / 2, wide[3].stride[0] = most / 2;
    for (int k = 0; k < COUNT(wide); k++) {
        const psg_block block = psg_unfolded(&g, &image, &wide[k]);
        check_refused(*state, &block, 2, 4, PSG_ERR_OVERFLOW, "the window's reach does not fit 63 bits");
    }
    psg_window many = usual;
    many.kernel[0] = most / 2 + 1;
    psg_block block = psg_unfolded(&g, &image, &many);
    assert_int_equal(block.row_stride, 0);
    many = usual, many.spatial = 4;
    block = psg_unfolded(&g, &image, &many);
    check_refused(*state, &block, 2, 4, PSG_ERR_ARGUMENT, "window.spatial is 4, must be 1, 2 or 3");
}

/* One pixel's distance to the next is never asked for. */
static void an_image_of_one_pixel_may_have_any_stride(void **state) {
    float g[2] = { 2, 3 }, x[2] = { 5, 7 }, values[4];
    const psg_tensor backprop = psg_tensor_of(PSG_F32, g, 3, SHAPE(1, 1, 2));
    const psg_tensor image = psg_tensor_strided(PSG_F32, x, 3, SHAPE(1, 2, 1), SHAPE(2, 1, INT64_MAX / 16));
    const psg_window window = { .spatial = 1, .kernel = { 1 }, .stride = { 1000 }, .dilation = { 1 }, .output = { 1 } };
    const psg_block block = psg_unfolded(&backprop, &image, &window);
    const psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, SHAPE(2, 2));
    const psg_tensor out = psg_tensor_of(PSG_F32, values, 3, SHAPE(1, 2, 2));
    TEST_OK((psg_context *)*state, psg_grad_sample(*state, &gradient, 1, PSG_OVERWRITE, &out));
    assert_true(values[0] == 10 && values[1] == 14 && values[2] == 15 && values[3] == 21);
}

static void ids_that_cannot_be_are_refused(void **state) {
    psg_context *c = *state;
    int64_t ids[2] = { 0, 1 };
    const psg_tensor g = view(3, SHAPE(1, 2, 3)), view_of_ids = psg_tensor_of(PSG_I64, ids, 2, SHAPE(1, 2));
    psg_block block = psg_sparse_rows(&g, &view_of_ids);
    block.row_stride = 0;
    check_refused(c, &block, 4, 3, PSG_ERR_SHAPE, "row_stride at least the length of a row");
    block.row_stride = 3;
    block.ids.rank = -1;
    check_refused(c, &block, 4, 3, PSG_ERR_SHAPE, "ids must have shape (1, 2), has no valid shape");
    block.ids.rank = PSG_MAX_RANK + 1;
    check_refused(c, &block, 4, 3, PSG_ERR_SHAPE, "ids must have shape (1, 2), has no valid shape");
}

/* ---- sparse answers ---- */

typedef struct sparse_out {
    int64_t ids[4], counts[2];
    float rows[16];
} sparse_out;

static psg_status ask_sparse(psg_context *c, const psg_gradient *gradient, int64_t positions, int64_t width,
                             sparse_out *out) {
    const psg_tensor ids = psg_tensor_of(PSG_I64, out->ids, 2, SHAPE(gradient->batch_size, positions));
    const psg_tensor rows = psg_tensor_of(PSG_F32, out->rows, 3, SHAPE(gradient->batch_size, positions, width));
    return psg_grad_sample_sparse(c, gradient, 1, &ids, &rows, out->counts);
}

/* Columns 0 and 1 of every row; columns 2 and 3 of rows 2, 4, ...  A bad sample's rows are NaN. */
static void rows_in_parts_are_merged(void **state) {
    psg_context *c = *state;
    float left[4] = { 1, 2, 3, 4 }, right[4] = { 5, 6, 7, 8 };
    int64_t left_ids[2] = { 1, 3 }, right_ids[2] = { 1, 0 };   /* of the right: rows 4 and 2 */
    const psg_tensor g = psg_tensor_of(PSG_F32, left, 3, SHAPE(2, 1, 2));
    const psg_tensor h = psg_tensor_of(PSG_F32, right, 3, SHAPE(2, 1, 2));
    const psg_tensor i = psg_tensor_of(PSG_I64, left_ids, 2, SHAPE(2, 1));
    const psg_tensor j = psg_tensor_of(PSG_I64, right_ids, 2, SHAPE(2, 1));
    psg_block blocks[2] = { psg_sparse_rows(&g, &i), psg_sparse_rows(&h, &j) };
    blocks[0].row_stride = 4;
    blocks[1].row_stride = 8, blocks[1].offset = 2 * 4 + 2;
    psg_gradient gradient = psg_gradient_of_blocks(blocks, 2, 2, SHAPE(6, 4));
    sparse_out out;
    TEST_OK(c, ask_sparse(c, &gradient, 2, 4, &out));
    const float first[8] = { 1, 2, 0, 0, 0, 0, 5, 6 }, second[8] = { 0, 0, 7, 8, 3, 4, 0, 0 };
    assert_true(out.counts[0] == 2 && out.ids[0] == 1 && out.ids[1] == 4);
    assert_true(out.counts[1] == 2 && out.ids[2] == 2 && out.ids[3] == 3);
    assert_memory_equal(out.rows, first, sizeof first);
    assert_memory_equal(out.rows + 8, second, sizeof second);
    gradient.bad = (const unsigned char[]){ 0, 1 };
    TEST_OK(c, ask_sparse(c, &gradient, 2, 4, &out));
    assert_memory_equal(out.rows, first, sizeof first);
    for (int k = 0; k < 8; k++) assert_true(isnan(out.rows[8 + k]));
}

static void tables_without_rows_are_refused(void **state) {
    psg_context *c = *state;
    int64_t ids[2] = { 0, 0 };
    const psg_tensor g = view(3, SHAPE(1, 1, 1)), view_of_ids = psg_tensor_of(PSG_I64, ids, 2, SHAPE(1, 1));
    psg_block block = psg_sparse_rows(&g, &view_of_ids);
    sparse_out out = { .ids = { 7 } };
    psg_gradient scalar = psg_gradient_of_blocks(&block, 1, 0, NULL);
    assert_int_equal(ask_sparse(c, &scalar, 1, 1, &out), PSG_ERR_UNSUPPORTED);
    const psg_tensor wide = view(3, SHAPE(1, 1, 3));
    block = psg_sparse_rows(&wide, &view_of_ids);
    block.offset = 2, block.row_stride = 4;   /* the last element is in the next row */
    psg_gradient across = psg_gradient_of_blocks(&block, 1, 2, SHAPE(3, 4));
    across.pass = 0;
    assert_int_not_equal(ask_sparse(c, &across, 1, 4, &out), PSG_OK);
    assert_int_equal(out.ids[0], 7);
    const psg_tensor empty = view(3, SHAPE(1, 1, 0));
    block = psg_sparse_rows(&empty, &view_of_ids);
    psg_gradient flat = psg_gradient_of_blocks(&block, 1, 2, SHAPE(3, 0));
    TEST_OK(c, ask_sparse(c, &flat, 1, 0, &out));
    assert_true(out.counts[0] == 0 && out.ids[0] == -1);
}

/* ---- derivations ---- */

static void halve(const void *user, int64_t first, int64_t count, const double *grad, double *pulled) {
    (void)first;
    int64_t columns = *(const int64_t *)user;
    for (int64_t i = 0; i < count * columns; i++) pulled[i] = grad[i] / 2;
}

static double half(const void *user, int64_t row) {
    (void)user, (void)row;
    return 0.5;
}

static void derivations_out_of_range_are_refused(void **state) {
    psg_context *c = *state;
    const int64_t columns = 4;
    const psg_derivation usual = { .rows = 3, .columns = columns, .width = columns, .pull = halve, .norm = half,
                                   .user = &columns };
    const struct { psg_derivation derivation; psg_status status; const char *words; } row[] = {
        { { .rows = 3, .columns = 4, .width = 4, .norm = half }, PSG_ERR_ARGUMENT, "NULL function" },
        { { .rows = 3, .columns = 4, .width = 4, .pull = halve }, PSG_ERR_ARGUMENT, "NULL function" },
        { { .rows = -3, .columns = 4, .width = 4, .pull = halve, .norm = half }, PSG_ERR_ARGUMENT, "negative size" },
        { { .rows = 3, .columns = -4, .width = 4, .pull = halve, .norm = half }, PSG_ERR_ARGUMENT, "negative size" },
        { { .rows = 3, .columns = 4, .width = -4, .pull = halve, .norm = half }, PSG_ERR_ARGUMENT, "negative size" },
        { { .rows = 3, .columns = 4, .width = 4, .pull = halve, .norm = half, .block_count = 1 }, PSG_ERR_ARGUMENT,
          "array" },
        { { .rows = 3, .columns = 49153, .width = 4, .pull = halve, .norm = half }, PSG_ERR_UNSUPPORTED, "at most" },
        { { .rows = 3, .columns = 4, .width = 49153, .pull = halve, .norm = half }, PSG_ERR_UNSUPPORTED, "at most" },
        { { .rows = 3, .columns = 4, .width = 4, .pull = halve, .norm = half, .inner = -1 }, PSG_ERR_ARGUMENT,
          "inner is -1, must be 0 or a divisor" },
        { { .rows = 3, .columns = 4, .width = 4, .pull = halve, .norm = half, .inner = 3 }, PSG_ERR_ARGUMENT,
          "inner is 3, must be 0 or a divisor" },
        { { .rows = INT64_MAX / 2, .columns = 4, .width = 4, .pull = halve, .norm = half }, PSG_ERR_OVERFLOW,
          "does not fit 63 bits" },
    };
    for (int k = 0; k < COUNT(row); k++) {
        const psg_block block = psg_derived(&row[k].derivation, PSG_F32, 1);
        check_refused(c, &block, 3, 4, row[k].status, row[k].words);
    }
    psg_block block = psg_derived(&usual, PSG_F32, 1);
    block.derivation = NULL;
    check_refused(c, &block, 3, 4, PSG_ERR_ARGUMENT, "NULL function");
    block = psg_derived(&usual, PSG_F32, 1);
    const psg_derivation twice = { .rows = 3, .columns = 4, .width = 4, .pull = halve, .norm = half, .user = &columns,
                                   .blocks = &block, .block_count = 1 };
    const psg_block outer = psg_derived(&twice, PSG_F32, 1);
    check_refused(c, &outer, 3, 4, PSG_ERR_UNSUPPORTED, "is derived itself");
}

/* Rows of 2, 5 elements apart in a parameter of 5 columns: half of g^T a, and zeros beside it. */
static void derived_rows_may_lie_apart(void **state) {
    psg_context *c = *state;
    const int64_t columns = 2;
    float g[3] = { 2, 4, 6 }, a[2] = { 1, 3 }, values[15];
    const psg_tensor backprop = psg_tensor_of(PSG_F32, g, 3, SHAPE(1, 1, 3));
    const psg_tensor activation = psg_tensor_of(PSG_F32, a, 3, SHAPE(1, 1, 2));
    const psg_block inner = psg_factored(&backprop, &activation);
    const psg_derivation d = { .rows = 3, .columns = 2, .width = 2, .pull = halve, .norm = half, .user = &columns,
                               .blocks = &inner, .block_count = 1 };
    psg_block block = psg_derived(&d, PSG_F32, 1);
    block.row_stride = 5, block.offset = 1;
    const psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, SHAPE(3, 5)), *set[] = { &gradient };
    const psg_tensor out = psg_tensor_of(PSG_F32, values, 3, SHAPE(1, 3, 5));
    TEST_OK(c, psg_grad_sample(c, &gradient, 1, PSG_OVERWRITE, &out));
    for (int i = 0; i < 15; i++) {
        int column = i % 5 - 1;
        assert_true(values[i] == (column < 0 || column > 1 ? 0 : g[i / 5] * a[column] / 2));
    }
    block.offset = 4;   /* the last row ends beyond */
    check_refused(c, &block, 3, 5, PSG_ERR_SHAPE, "block 0");
    block.offset = 1;
    const struct { psg_question question; const char *route; } row[] = {
        { PSG_ASK_GRAD_SAMPLE, "materialise" }, { PSG_ASK_GRAM, "tiles" }, { PSG_ASK_SQNORM, "pulled" },
        { PSG_ASK_CLIPPED_SUM, "pulled" },
    };
    for (int k = 0; k < COUNT(row); k++) {
        char text[512];
        size_t needed;
        TEST_OK(c, psg_plan_text(c, row[k].question, set, 1, NULL, text, sizeof text, &needed));
        if (!strstr(text, row[k].route)) fail_msg("no %s in: %s", row[k].route, text);
    }
}

/* Of 2^31 samples, all the same, there are 2^62 products: a number that fits, and bytes that do not. */
static void a_gram_of_too_many_bytes_is_refused(void **state) {
    psg_context *c = *state;
    const psg_tensor g = psg_tensor_strided(PSG_F32, ones, 2, SHAPE((int64_t)1 << 31, 3), SHAPE(0, 1));
    const psg_block block = psg_rows(&g);
    const psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, SHAPE(3)), *set[] = { &gradient };
    double cell = 7;
    assert_int_equal(psg_gram(c, set, 1, &cell), PSG_ERR_OVERFLOW);
    assert_non_null(strstr(psg_context_message(c), "B x B does not fit, B = 2147483648"));
    assert_true(cell == 7);
}

/* k u / (1 - k u), and no bound from k = 1 / u on. */
static void sums_too_long_have_no_bound(void **state) {
    (void)state;
    assert_true(psg_gamma(PSG_F32, 0x1p23) == 1 && psg_gamma(PSG_F64, 0x1p52) == 1);
    assert_true(isinf(psg_gamma(PSG_F32, 0x1p24)) && isinf(psg_gamma(PSG_F64, 0x1p54)));
}

/* ---- plans ---- */

/* What a route is forced to is what the plan tells. */
static void forced_routes_are_told(void **state) {
    psg_context *c = *state;
    const psg_tensor g = view(3, SHAPE(2, 1, 3));
    const psg_block rows = psg_rows(&g);
    const psg_gradient gradient = psg_gradient_of_blocks(&rows, 1, 1, SHAPE(3)), *set[] = { &gradient };
    const struct { psg_question question; const char *route; bool tiles; } row[] = {
        { PSG_ASK_SQNORM, NULL, false }, { PSG_ASK_SQNORM, "tiles", true }, { PSG_ASK_GRAM, "tiles", true },
        { PSG_ASK_DOT, "tiles", false },
    };
    for (int k = 0; k < COUNT(row); k++) {
        char text[512];
        size_t needed;
        TEST_OK(c, psg_context_force_route(c, row[k].route));
        TEST_OK(c, psg_plan_text(c, row[k].question, set, 1, NULL, text, sizeof text, &needed));
        if ((strstr(text, "tiles") != NULL) != row[k].tiles) fail_msg("%d: %s", k, text);
    }
    TEST_OK(c, psg_context_force_route(c, NULL));
}

/* ---- outputs and clips ---- */

static void views_of_no_rank_are_named(void **state) {
    psg_context *c = *state;
    const psg_tensor g = view(3, SHAPE(1, 1, 3));
    const psg_block block = psg_rows(&g);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, SHAPE(3));
    const psg_gradient *set[] = { &gradient };
    psg_tensor out = psg_tensor_of(PSG_F32, zeros, 2, SHAPE(1, 3)), sum = psg_tensor_of(PSG_F32, zeros, 1, SHAPE(4));
    const int ranks[] = { -1, PSG_MAX_RANK + 1 };
    for (int k = 0; k < 2; k++) {
        out.rank = ranks[k];
        assert_int_equal(psg_grad_sample(c, &gradient, 1, PSG_OVERWRITE, &out), PSG_ERR_SHAPE);
        assert_non_null(strstr(psg_context_message(c), k ? "of shape (1, 3), is of rank 9, must be"
                                                            : "of shape (1, 3), is of no shape"));
    }
    assert_int_equal(psg_weighted_sum(c, set, 1, NULL, PSG_OVERWRITE, &sum), PSG_ERR_SHAPE);
    assert_non_null(strstr(psg_context_message(c), "outs[0] must be contiguous of shape (3), is (4)"));
    gradient.name = "bias";
    assert_int_equal(psg_weighted_sum(c, set, 1, NULL, PSG_OVERWRITE, &sum), PSG_ERR_SHAPE);
    assert_non_null(strstr(psg_context_message(c), "outs[0] (bias) must be contiguous of shape (3), is (4)"));
}

static void clips_out_of_range_are_refused(void **state) {
    psg_context *c = *state;
    float g[2] = { 3, 4 };
    double sum[2] = { 7, 7 };
    int64_t grid[2] = { 7, 7 };
    const psg_tensor backprop = psg_tensor_of(PSG_F32, g, 3, SHAPE(1, 1, 2));
    const psg_tensor out = psg_tensor_of(PSG_F64, sum, 1, SHAPE(2));
    const psg_tensor whole = psg_tensor_of(PSG_I64, grid, 1, SHAPE(2));
    const psg_block block = psg_rows(&backprop);
    const psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, SHAPE(2)), *set[] = { &gradient };
    const psg_clip bad[] = {
        { .max_grad_norm = 1, .clipping = (psg_clipping)-1 },  { .max_grad_norm = 1, .clipping = (psg_clipping)3 },
        { .max_grad_norm = 1, .stability = INFINITY },         { .max_grad_norm = 1, .stability = NAN },
        { .max_grad_norm = 1, .stability = -1 },               { .max_grad_norm = 0 },
    };
    psg_clip_report report = { .removed = 7 };
    for (int k = 0; k < COUNT(bad); k++) {
        psg_status status = psg_clipped_sum(c, set, 1, &bad[k], PSG_OVERWRITE, &out, NULL, NULL, &report);
        assert_int_equal(status, PSG_ERR_ARGUMENT);
        assert_int_equal(psg_clipped_sum_on_grid(c, set, 1, &bad[k], 1024, &whole, &report), PSG_ERR_ARGUMENT);
    }
    assert_int_equal(psg_clipped_sum_on_grid(c, NULL, 1, &bad[0], 1024, &whole, &report), PSG_ERR_ARGUMENT);
    assert_true(sum[0] == 7 && grid[0] == 7 && report.removed == 7);
}

/* C / (norm + stability) of a norm of 5; 0.01 where none is given (Bu et al. 2023). */
static void automatic_clipping_has_its_stability(void **state) {
    psg_context *c = *state;
    float g[2] = { 3, 4 };
    double sum[2];
    const psg_tensor backprop = psg_tensor_of(PSG_F32, g, 3, SHAPE(1, 1, 2));
    const psg_tensor out = psg_tensor_of(PSG_F64, sum, 1, SHAPE(2));
    const psg_block block = psg_rows(&backprop);
    const psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, SHAPE(2)), *set[] = { &gradient };
    for (int k = 0; k < 2; k++) {
        const psg_clip clip = { .max_grad_norm = 2, .clipping = PSG_CLIP_AUTOMATIC, .stability = k ? 3 : 0 };
        TEST_OK(c, psg_clipped_sum(c, set, 1, &clip, PSG_OVERWRITE, &out, NULL, NULL, NULL));
        const double exact = 3 * 2 / (5 + (k ? 3 : 0.01));   /* with the upper norm, above 5 by some 2^-23 of it */
        assert_true(fabs(sum[0] - exact) < 1e-5 && sum[0] <= exact);
    }
}

static int set_up(void **state) {
    *state = test_context(1, NULL);
    return 0;
}

static int tear_down(void **state) {
    test_context_free(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_that_cannot_be_are_left_to_the_questions),
        cmocka_unit_test(places_that_overflow_are_refused),
        cmocka_unit_test(windows_that_overflow_are_refused),
        cmocka_unit_test(an_image_of_one_pixel_may_have_any_stride),
        cmocka_unit_test(ids_that_cannot_be_are_refused),
        cmocka_unit_test(rows_in_parts_are_merged),
        cmocka_unit_test(tables_without_rows_are_refused),
        cmocka_unit_test(derivations_out_of_range_are_refused),
        cmocka_unit_test(derived_rows_may_lie_apart),
        cmocka_unit_test(a_gram_of_too_many_bytes_is_refused),
        cmocka_unit_test(sums_too_long_have_no_bound),
        cmocka_unit_test(forced_routes_are_told),
        cmocka_unit_test(views_of_no_rank_are_named),
        cmocka_unit_test(clips_out_of_range_are_refused),
        cmocka_unit_test(automatic_clipping_has_its_stability),
    };
    return cmocka_run_group_tests_name("gradient limits", tests, set_up, tear_down);
}
