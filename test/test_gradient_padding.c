/* Padding is never read: what stands in activations and ids behind a sample's last live position, in every form and
 * question; a position of zeros between live ones is no padding. */
#include "gradient_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { B = 6, T = 12, P = 9, D = 7 };
typedef enum form { FACTORED, TRANSPOSED, ROWS, PRODUCTS, SPARSE, WINDOWS, OVERLAPS, TIED, MIXED, FOLDED, FORMS } form;

/* Sample n lives in its first lengths[n] positions. */
static const int64_t lengths[B] = { T, 0, 1, 2, T - 1, 5 };

/* No two windows share a pixel; every two neighbours do. */
static const psg_window apart = { 1, { 3 }, { 3 }, { 1 }, { 0 }, { T } };
static const psg_window overlapping = { 1, { 3 }, { 2 }, { 1 }, { 0 }, { T } };

static const psg_tensor *operand(fixture *f, test_random *random, int64_t positions, int64_t features) {
    return fixture_operand(f, random, 3, (int64_t[]){ B, positions, features }, TEST_ANY);
}

static psg_block sparse(fixture *f, test_random *random, const psg_tensor *g) {
    test_array *ids = &f->array[f->array_count++];
    *ids = test_array_new(random, PSG_I64, 2, (int64_t[]){ B, g->shape[1] }, TEST_ANY);
    test_fill_integers(random, &ids->view, 0, D - 1);
    return psg_sparse_rows(g, &ids->view);
}

static void draw(fixture *f, test_random *random, form kind, psg_dtype dtype) {
    *f = (fixture){ .dtype = dtype, .batch_size = B };
    psg_block *block = f->block[0];
    size_t count = kind == TIED || kind == MIXED || kind == FOLDED ? 2 : 1;
    const psg_tensor *g = operand(f, random, T, P);
    if (kind == ROWS) block[0] = psg_rows(g);
    else if (kind == PRODUCTS) block[0] = psg_rows_product(g, operand(f, random, T, P));
    else if (kind == SPARSE) block[0] = sparse(f, random, g);
    else if (kind == WINDOWS) block[0] = psg_unfolded(g, operand(f, random, D, 3 * T), &apart);
    else if (kind == OVERLAPS) block[0] = psg_unfolded(g, operand(f, random, D, 2 * T + 1), &overlapping);
    else block[0] = psg_factored(g, operand(f, random, T, D));
    if (kind == TRANSPOSED) {   /* the padding is the transpose's backprop: that of the table's activations */
        block[0] = psg_factored_transposed(operand(f, random, T, D), g);
    }
    if (kind == TIED) block[1] = psg_factored(operand(f, random, T, P), operand(f, random, T, D));
    if (kind == MIXED) block[1] = psg_rows_product(operand(f, random, T, D), operand(f, random, T, D));
    if (kind == FOLDED) {
        block[0].row_stride = D + 1;
        block[1] = psg_rows(g);
        block[1].offset = D;
        block[1].row_step = D + 1;
    }
    int64_t columns = kind == WINDOWS || kind == OVERLAPS ? 3 * D : kind == FOLDED ? D + 1 : kind == SPARSE ? P : D;
    fixture_add(f, count, 2, (int64_t[]){ kind == SPARSE ? D : P, columns });
    if (kind == ROWS || kind == PRODUCTS) f->gradient[0].shape[0] = 1, f->gradient[0].shape[1] = P;
}

/* Positions [first, T) of sample n. */
static void set_backprop(const psg_block *block, int64_t n, int64_t first, int64_t last, double value) {
    const psg_tensor *g = &block->backprop;
    for (int64_t t = first; t < last; t++) {
        for (int64_t i = 0; i < g->shape[2]; i++) test_set(g, (int64_t[]){ n, t, i }, value);
    }
}

static void set_activation(const psg_block *block, int64_t n, int64_t first, int64_t last, double value) {
    const psg_tensor *a = &block->activation;
    if (block->form == PSG_SPARSE_ROWS) {
        for (int64_t t = first; t < last && value != 0; t++) test_set(&block->ids, (int64_t[]){ n, t }, 3);
    } else if (block->form == PSG_UNFOLDED) {
        int64_t stride = block->window.stride[0], from = first ? stride * (first - 1) + 3 : 0;
        for (int64_t c = 0; c < D; c++) {
            for (int64_t x = from; x < stride * (last - 1) + 3; x++) test_set(a, (int64_t[]){ n, c, x }, value);
        }
    } else if (block->form != PSG_ROWS) {
        for (int64_t t = first; t < last; t++) {
            for (int64_t j = 0; j < a->shape[2]; j++) test_set(a, (int64_t[]){ n, t, j }, value);
        }
    }
}

static void pad(const fixture *f, double activation) {
    for (size_t b = 0; b < f->gradient[0].block_count; b++) {
        for (int64_t n = 0; n < B; n++) {
            set_backprop(&f->block[0][b], n, lengths[n], T, n % 2 ? -0.0 : 0.0);
            set_activation(&f->block[0][b], n, lengths[n], T, activation);
        }
    }
}

static const char *const routes[] = { NULL, "identity", "gram", "tiles", "keep", "recompute" };

/* All answers have one hash, whatever the padding holds; with weights: the plain sum is one of all positions. */
static void padding_is_never_read(void **state) {
    (void)state;
    static const double paddings[] = { 0, NAN, INFINITY, 1e300, 1e-300 };
    test_random random = { 1 };
    for (int k = 0; k < FORMS * 2 * 6; k++) {
        psg_context *context = test_context_with(NULL, 2, NULL, k / FORMS % 2 ? (size_t)8 << 20 : 0);
        TEST_OK(context, psg_context_force_route(context, routes[k / FORMS / 2]));
        fixture f;
        draw(&f, &random, (form)(k % FORMS), (psg_dtype)(k / FORMS % 2));
        for (int q = 0; q < PSG_QUESTION_COUNT; q++) {
            uint64_t bits = 0;
            for (int p = 0; p < 5; p++) {
                pad(&f, paddings[p]);
                answers a = answers_of(context, &f, (psg_question)q);
                if (p && answers_hash(&a) != bits) {
                    fail_msg("form %d, route %s, %s: padding of %g is read", k % FORMS, routes[k / FORMS / 2],
                             psg_question_name((psg_question)q), paddings[p]);
                }
                bits = answers_hash(&a);
                answers_free(&a);
            }
        }
        pad(&f, 0);
        fixture_refresh(&f);
        check_all_questions(context, &f, &random);
        psg_context_destroy(context);
        fixture_free(&f);
    }
}

/* NaN in one of sample 0's positions of zero backprop, live ones behind it: 0 NaN is NaN, for that sample alone. */
static void zeros_between_live_positions_are_read(void **state) {
    (void)state;
    static const form products[] = { FACTORED, PRODUCTS, WINDOWS, OVERLAPS, TIED, FOLDED };
    test_random random = { 2 };
    for (int k = 0; k < 6 * 2 * 6; k++) {
        psg_context *context = test_context_with(NULL, 2, NULL, k / 12 % 2 ? (size_t)8 << 20 : 0);
        TEST_OK(context, psg_context_force_route(context, routes[k / 12]));
        fixture f;
        draw(&f, &random, products[k % 6], (psg_dtype)(k / 6 % 2));
        pad(&f, 0);
        set_backprop(&f.block[0][0], 0, 3, 4, 0);
        set_activation(&f.block[0][0], 0, 3, 4, NAN);
        answers a = answers_of(context, &f, PSG_ASK_SQNORM), g = answers_of(context, &f, PSG_ASK_GRAD_SAMPLE);
        answers c = answers_of(context, &f, PSG_ASK_CLIPPED_SUM), d = answers_of(context, &f, PSG_ASK_DOT);
        bool read = isnan(a.sqnorm[0]) && isnan(a.upper[0]) && isnan(d.dots[0]);
        read = read && isnan(test_get_at(&g.out[0].view, 0));
        if (!read) fail_msg("form %d, route %s: zeros are skipped", products[k % 6], routes[k / 12]);
        assert_true(c.report.removed == 1 && c.factors[0] == 0);
        for (int n = 1; n < B; n++) assert_true(isfinite(a.upper[n]) && c.factors[n] > 0 && isfinite(d.dots[n]));
        answers_free(&a), answers_free(&g), answers_free(&c), answers_free(&d);
        psg_context_destroy(context);
        fixture_free(&f);
    }
}

/* NaN and Inf in a backprop are live. */
static void bad_backprops_are_no_padding(void **state) {
    (void)state;
    static const double bad[] = { NAN, INFINITY };
    test_random random = { 3 };
    psg_context *context = test_context(2, NULL);
    for (int k = 0; k < FORMS * 2 * 2; k++) {
        fixture f;
        draw(&f, &random, (form)(k % FORMS), (psg_dtype)(k / FORMS % 2));
        pad(&f, 1);
        const psg_tensor *g = &f.block[0][0].backprop;
        test_set(g, (int64_t[]){ 3, T - 1, g->shape[2] / 2 }, bad[k / FORMS / 2]);
        answers a = answers_of(context, &f, PSG_ASK_SQNORM), c = answers_of(context, &f, PSG_ASK_CLIPPED_SUM);
        assert_true(!isfinite(a.sqnorm[3]) && !isfinite(a.upper[3]) && isfinite(a.upper[0]));
        assert_true(c.report.removed == 1 && c.factors[3] == 0 && c.factors[0] > 0);
        answers_free(&a), answers_free(&c);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(padding_is_never_read),
        cmocka_unit_test(zeros_between_live_positions_are_read),
        cmocka_unit_test(bad_backprops_are_no_padding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
