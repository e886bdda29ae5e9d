/* embedding where the lines of test/cases do not go: ids that serve every sample, sparse answers, a tied head,
 * max_norm. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/shapes.h"
#include "small_pass.h"

enum { V = 11, D = 5 };

static test_array reals(small_pass *f, psg_dtype dtype, int rank, const int64_t *shape) {
    return test_array_normal(&f->random, dtype, rank, shape, TEST_CONTIGUOUS);
}

static test_array integers(small_pass *f, psg_dtype dtype, int rank, const int64_t *shape, int64_t high) {
    test_array made = test_array_new(&f->random, dtype, rank, shape, TEST_CONTIGUOUS);
    test_fill_integers(&f->random, &made.view, 0, high - 1);
    return made;
}

static psg_param *param_of(small_pass *f, const char *name, const test_array *array) {
    psg_param *param;
    TEST_OK(f->context, psg_param_create(f->context, name, &array->view, &param));
    return param;
}

static psg_gradient gradient_of(small_pass *f, const psg_param *param) {
    psg_gradient gradient;
    TEST_OK(f->context, psg_gradient_of(f->tape, param, &gradient));
    return gradient;
}

/* (B, V, D), of an ordinary pass (1, V, D). */
static test_array dense_of(small_pass *f, const psg_param *param) {
    psg_gradient gradient = gradient_of(f, param);
    const psg_gradient *set = &gradient;
    test_array dense = reals(f, gradient.dtype, 3, (int64_t[]){ gradient.batch_size, gradient.shape[0],
                                                                gradient.shape[1] });
    psg_tensor sum = psg_tensor_of(gradient.dtype, dense.view.data, 2, gradient.shape);
    if (gradient.batch_coupled) TEST_OK(f->context, psg_weighted_sum(f->context, &set, 1, NULL, PSG_OVERWRITE, &sum));
    else TEST_OK(f->context, psg_grad_sample(f->context, &gradient, 1, PSG_OVERWRITE, &dense.view));
    return dense;
}

/* ---- one row of ids for every sample ---- */

/* A dimension of size 1 where the batch would be, or none, stands for that row of ids in every sample. */
typedef struct shared_ids {
    int constant, rank;
    int64_t shape[3], batch, apart[3];   /* apart: the same ids for each sample, an input */
    int batch_second, ordinary;
} shared_ids;

static const shared_ids shared[] = {
    { 1, 1, { 7 }, 3, { 3, 7 }, 0, 0 },       { 1, 2, { 1, 7 }, 3, { 3, 7 }, 0, 0 },
    { 0, 2, { 1, 7 }, 3, { 3, 7 }, 0, 0 },    { 0, 3, { 1, 2, 3 }, 4, { 4, 2, 3 }, 0, 0 },
    { 0, 3, { 2, 1, 3 }, 4, { 2, 4, 3 }, 1, 0 }, { 1, 1, { 7 }, 3, { 3, 7 }, 1, 0 },
    { 1, 2, { 1, 7 }, 3, { 3, 7 }, 1, 0 },    { 1, 2, { 1, 5 }, 0, { 0, 5 }, 0, 0 },
    { 1, 2, { 1, 3 }, 1, { 1, 3 }, 0, 1 },    { 1, 1, { 3 }, 1, { 1, 3 }, 0, 1 },
};

/* The ids of a sample's place, whichever dimension has the batch. */
static void repeat(const shared_ids *c, const psg_tensor *one, const psg_tensor *each) {
    int64_t inner = c->batch_second && c->rank == 3 ? c->shape[2] : psg_tensor_count(one);
    int64_t outer = psg_tensor_count(one) / inner;
    for (int64_t k = 0; k < outer * c->batch * inner; k++) {
        test_set_at(each, k, test_get_at(one, k / inner / c->batch * inner + k % inner));
    }
}

static test_array looked_up(small_pass *f, const shared_ids *c, const psg_tensor *ids, int constant, psg_param *param,
                            const psg_embedding_options *o, psg_tensor *y) {
    psg_pass pass = { .batch_size = c->batch, .has_batch_size = 1, .batch_second = c->batch_second,
                      .ordinary = c->ordinary };
    TEST_OK(f->context, psg_tape_begin(f->tape, &pass));
    psg_var in = constant ? psg_constant(f->tape, ids) : psg_input(f->tape, ids);
    psg_var out = psg_embedding(f->tape, in, psg_use(f->tape, param), o);
    TEST_OK(f->context, psg_value(f->tape, out, y));
    test_random random = { 5 };
    test_array g = test_array_normal(&random, y->dtype, y->rank, y->shape, TEST_CONTIGUOUS);
    TEST_OK(f->context, psg_backward_from(f->tape, out, &g.view));
    test_array dense = dense_of(f, param);
    test_array_free(&g);
    return dense;
}

static void one_row_of_ids_serves_every_sample(void **state) {
    (void)state;
    static const psg_embedding_options options[] = {
        PSG_EMBEDDING_OPTIONS_INIT, { 1, 3, 0, 0, 0, { 0 } }, { 1, -V, 0, 2, 0, { 0 } }, { 0, 0, 0, 2, 1, { 0 } },
        { 1, -2, 0, 2, 1, { 0 } },
    };
    small_pass f;
    small_open_on(&f, 2, NULL);
    for (size_t k = 0; k < sizeof shared / sizeof shared[0]; k++) {
        const shared_ids *c = &shared[k];
        for (int which = 0; which < 21; which++) {
            const psg_dtype real = which & 1 ? PSG_F32 : PSG_F64, integer = which & 2 ? PSG_I32 : PSG_I64;
            const psg_embedding_options *o = which < 20 ? &options[which / 4] : NULL;
            test_array one = integers(&f, integer, c->rank, c->shape, V);
            test_array table = reals(&f, real, 2, (int64_t[]){ V, D });
            test_array each = integers(&f, integer, c->rank == 3 ? 3 : 2, c->apart, V);
            psg_param *param = param_of(&f, "table", &table);
            psg_tensor y;
            repeat(c, &one.view, &each.view);
            test_array expected = looked_up(&f, c, &each.view, 0, param, o, &y);
            test_array rows = test_array_normal(&f.random, real, y.rank, y.shape, TEST_CONTIGUOUS);
            psg_tensor_copy(&y, &rows.view);
            test_array grad = looked_up(&f, c, &one.view, c->constant, param, o, &y);
            assert_true(test_same_bits(&y, &rows.view) && test_same_bits(&grad.view, &expected.view));
            psg_param_destroy(param);
            test_array *arrays[] = { &one, &each, &table, &rows, &expected, &grad };
            for (int i = 0; i < 6; i++) test_array_free(arrays[i]);
        }
    }
    small_close(&f);
}

/* ---- sparse answers and ties ---- */

/* The sparse answer names each row once, the padding row never. */
static void sparse_answers_name_no_padding(void **state) {
    (void)state;
    static const int64_t expected[8] = { 2, 7, -1, -1, 2, -1, -1, -1 };
    small_pass f;
    small_open_on(&f, 1, NULL);
    psg_param *table = small_parameter(&f, "table", SHAPE(9, 2));
    psg_tensor ids = small_integers(&f, (int64_t[]){ 7, 2, 7, 0, 2, 2, 2, 2 }, SHAPE(2, 4));
    psg_tensor named = small_zeros(&f, PSG_I64, SHAPE(2, 4)), rows = small_zeros(&f, PSG_F64, SHAPE(2, 4, 2));
    int64_t counts[2];
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    small_backward(&f, psg_embedding(f.tape, psg_input(f.tape, &ids), psg_use(f.tape, table),
                                     &(psg_embedding_options){ .has_padding_idx = 1 }), NULL);
    psg_gradient gradient = small_gradient_of(&f, table);
    TEST_OK(f.context, psg_grad_sample_sparse(f.context, &gradient, 1, &named, &rows, counts));
    for (int k = 0; k < 8; k++) assert_true(test_get_at(&named, k) == (double)expected[k]);
    assert_true(counts[0] == 2 && counts[1] == 1);
    assert_true(test_get_at(&rows, 0) == 1 && test_get_at(&rows, 3) == 2 && test_get_at(&rows, 9) == 4);
    small_close(&f);
}

/* Norms, sums and sparse gradients of a large table never make (B, V, D). */
static void large_tables_stay_sparse(void **state) {
    (void)state;
    enum { ROWS = 200000, WIDTH = 8, BATCH = 16, IDS = 4 };
    small_pass f;
    small_open(&f);
    psg_param *table = small_parameter(&f, "table", SHAPE(ROWS, WIDTH));
    psg_tensor ids = small_zeros(&f, PSG_I64, SHAPE(BATCH, IDS));
    test_fill_integers(&f.random, &ids, 0, ROWS - 1);
    size_t before = psg_context_live_bytes(f.context);
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    small_backward(&f, psg_embedding(f.tape, psg_input(f.tape, &ids), psg_use(f.tape, table), NULL), NULL);
    double sqnorm[BATCH];
    small_squared_norms(&f, table, sqnorm);
    psg_gradient gradient = small_gradient_of(&f, table);
    psg_tensor found = small_zeros(&f, PSG_I64, SHAPE(BATCH, IDS)),
               rows = small_zeros(&f, PSG_F64, SHAPE(BATCH, IDS, WIDTH));
    int64_t counts[BATCH];
    TEST_OK(f.context, psg_grad_sample_sparse(f.context, &gradient, 1.0, &found, &rows, counts));
    assert_true(counts[0] >= 1 && counts[0] <= IDS);
    assert_true(psg_context_live_bytes(f.context) - before < sizeof(double) * ROWS * WIDTH / 2);
    small_close(&f);
}

enum { B = 3, T = 4 };

/* x = table[ids] + table[0 .. T), logits = x table^T; three parameters of equal values, or one tied. */
static psg_var tied_network(small_pass *f, const psg_tensor *ids, psg_param *const param[3]) {
    static const int64_t positions[T] = { 0, 1, 2, 1 };
    psg_tensor places = psg_tensor_of(PSG_I64, (void *)(uintptr_t)positions, 2, (int64_t[]){ 1, T });
    psg_embedding_options o = { .has_padding_idx = 1, .padding_idx = 4 };
    psg_var x = psg_embedding(f->tape, psg_input(f->tape, ids), psg_use(f->tape, param[0]), &o);
    psg_var p = psg_embedding(f->tape, psg_constant(f->tape, &places), psg_use(f->tape, param[1]), NULL);
    return psg_linear(f->tape, psg_tanh(f->tape, psg_add(f->tape, x, p)), psg_use(f->tape, param[2]), psg_none());
}

static void a_tied_head_adds_its_uses(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 2, NULL);
    test_array table[3], ids = integers(&f, PSG_I32, 2, (int64_t[]){ B, T }, V);
    test_set_at(&ids.view, 1, 4);                            /* the padding row */
    test_set_at(&ids.view, 2, test_get_at(&ids.view, 0));    /* one id twice in a sample */
    table[0] = reals(&f, PSG_F64, 2, (int64_t[]){ V, D });
    psg_param *param[3] = { param_of(&f, "table", &table[0]) };
    for (int k = 1; k < 3; k++) {
        table[k] = reals(&f, PSG_F64, 2, (int64_t[]){ V, D });
        for (int64_t i = 0; i < V * D; i++) test_set_at(&table[k].view, i, test_get_at(&table[0].view, i));
        param[k] = param_of(&f, "copy", &table[k]);
    }
    double expected[B * V * D] = { 0 };
    TEST_OK(f.context, psg_tape_begin(f.tape, NULL));
    psg_var logits = tied_network(&f, &ids.view, param);
    test_array g = reals(&f, PSG_F64, 3, (int64_t[]){ B, T, V });
    TEST_OK(f.context, psg_backward_from(f.tape, logits, &g.view));
    for (int k = 0; k < 3; k++) {
        test_array dense = dense_of(&f, param[k]);
        for (int64_t i = 0; i < B * V * D; i++) expected[i] += test_get_at(&dense.view, i);
        test_array_free(&dense);
    }
    TEST_OK(f.context, psg_tape_begin(f.tape, NULL));
    logits = tied_network(&f, &ids.view, (psg_param *[3]){ param[0], param[0], param[0] });
    TEST_OK(f.context, psg_backward_from(f.tape, logits, &g.view));
    test_array dense = dense_of(&f, param[0]);
    for (int64_t i = 0; i < B * V * D; i++) test_near(test_get_at(&dense.view, i), expected[i], 1e-11, "tied", i);
    psg_gradient gradient = gradient_of(&f, param[0]);
    int64_t counts[B];
    psg_tensor no_ids = psg_tensor_of(PSG_I64, counts, 2, (int64_t[]){ B, 1 });
    assert_int_equal(psg_grad_sample_sparse(f.context, &gradient, 1, &no_ids, &dense.view, counts),
                     PSG_ERR_UNSUPPORTED);
    for (int k = 0; k < 3; k++) {
        psg_param_destroy(param[k]);
        test_array_free(&table[k]);
    }
    test_array_free(&ids);
    test_array_free(&g);
    test_array_free(&dense);
    small_close(&f);
}

/* ---- max_norm ---- */

static double row_norm(const psg_tensor *table, int64_t row, double p) {
    double sum = 0, most = 0;
    for (int64_t d = 0; d < table->shape[1]; d++) {
        double size = fabs(test_get_at(table, row * table->shape[1] + d));
        most = fmax(most, size);
        sum += pow(size, p);
    }
    return isinf(p) ? most : pow(sum, 1 / p);
}

/* Used rows that are too long are scaled once, though their ids occur twice; the others stay bit for bit. */
static void check_max_norm(small_pass *f, psg_dtype dtype, double p, int ordinary, int bag) {
    test_array table = reals(f, dtype, 2, (int64_t[]){ 5, 3 });
    int64_t values[4] = { 2, 0, 2, 1 };
    for (int64_t k = 0; k < 15; k++) test_set_at(&table.view, k, (k / 3 == 1 ? 0.01 : 2) * test_get_at(&table.view, k));
    double before[15];
    for (int64_t k = 0; k < 15; k++) before[k] = test_get_at(&table.view, k);
    psg_tensor ids = psg_tensor_of(PSG_I64, values, 2, (int64_t[]){ 2, 2 });
    psg_param *param = param_of(f, "table", &table);
    psg_pass pass = { .ordinary = ordinary, .allow_updates = !ordinary };
    TEST_OK(f->context, psg_tape_begin(f->tape, &pass));
    psg_var in = psg_input(f->tape, &ids), weight = psg_use(f->tape, param);
    psg_embedding_options o = { .max_norm = 0.25, .norm_type = p };
    psg_embedding_bag_options bag_options = { .max_norm = 0.25, .norm_type = p };
    psg_var out = bag ? psg_embedding_bag(f->tape, in, weight, psg_none(), psg_none(), &bag_options)
                      : psg_embedding(f->tape, in, weight, &o);
    psg_tensor y, old = psg_tensor_of(PSG_F64, before, 2, (int64_t[]){ 5, 3 });
    TEST_OK(f->context, psg_value(f->tape, out, &y));
    for (int64_t k = 0; k < 15; k++) {
        double norm = row_norm(&old, k / 3, p ? p : 2), scale = k / 3 < 3 && norm > 0.25 ? 0.25 / norm : 1;
        double bound = scale == 1 ? 0 : dtype ? 1e-14 : 2e-7;
        test_near(test_get_at(&table.view, k), scale * before[k], bound, "table", k);
        if (!bag && k < 12) {
            test_near(test_get_at(&y, k), test_get_at(&table.view, values[k / 3] * 3 + k % 3), 0, "rows", k);
        }
    }
    psg_param_destroy(param);
    test_array_free(&table);
}

static void long_rows_are_scaled_to_max_norm(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 1, NULL);
    static const double norms[] = { 0, 1, 2, 3, INFINITY };
    for (int which = 0; which < 40; which++) {
        check_max_norm(&f, which & 1 ? PSG_F32 : PSG_F64, norms[which / 8], which >> 1 & 1, which >> 2 & 1);
    }
    small_close(&f);
}

/* Rows whose powers leave the range, a max_norm as small as PyTorch's addend, and factors that are subnormal. */
static void extreme_rows_are_scaled_to_max_norm(void **state) {
    (void)state;
    static const struct { psg_dtype dtype; double p, max_norm, row[2], scaled[2]; } list[] = {
        { PSG_F64, 2, 1, { 3e200, 4e200 }, { 0.6, 0.8 } },
        { PSG_F64, 2, 1e-6, { 3, 4 }, { 6e-7, 8e-7 } },
        { PSG_F32, 2, 1e-6, { 3e-5, 4e-5 }, { 6e-7, 8e-7 } },
        { PSG_F64, 2, 1e-250, { 3e-200, -4e-200 }, { 6e-251, -8e-251 } },
        { PSG_F64, 2, 1, { 3e-200, 4e-200 }, { 3e-200, 4e-200 } },
        { PSG_F64, 2, 1e-200, { 3e-200, 4e-201 }, { 9.9122790068263467e-201, 1.3216372009101796e-201 } },
        { PSG_F64, 2, 1, { 1.2e308, 1.6e308 }, { 0.6, 0.8 } },
        { PSG_F64, 2, 1e300, { 1.2e308, 1e-100 }, { 1e300, 1e-108 / 1.2 } },
        { PSG_F64, 1, 1, { 1.5e308, 1.5e308 }, { 0.5, 0.5 } },
        { PSG_F64, 3, 1, { 0, 1e150 }, { 0, 1 } },
        { PSG_F64, 0.5, 4, { 1e-300, 1e-300 }, { 1e-300, 1e-300 } },
        { PSG_F64, 0.5, 4, { 1e308, 1e308 }, { 1, 1 } },
        { PSG_F64, INFINITY, 1, { 1.5e308, -0.75e308 }, { 1, -0.5 } },
        { PSG_F64, 2, 0x1p-1070, { 0x3p-1068, 0x4p-1068 }, { 0xap-1074, 0xdp-1074 } },
        { PSG_F32, 2, 1, { 3e38, 3e38 }, { 0.70710678118654752, 0.70710678118654752 } },
        { PSG_F32, 2, 1e-30, { 3e-25, 4e-25 }, { 6e-31, 8e-31 } },
    };
    small_pass f;
    small_open_on(&f, 1, NULL);
    for (size_t k = 0; k < sizeof list / sizeof list[0]; k++) {
        test_array table = reals(&f, list[k].dtype, 2, (int64_t[]){ 1, 2 });
        psg_tensor ids = psg_tensor_of(PSG_I64, (int64_t[]){ 0 }, 1, (int64_t[]){ 1 });
        for (int64_t d = 0; d < 2; d++) test_set_at(&table.view, d, list[k].row[d]);
        psg_param *param = param_of(&f, "table", &table);
        psg_embedding_options o = { .max_norm = list[k].max_norm, .norm_type = list[k].p };
        TEST_OK(f.context, psg_tape_begin(f.tape, &(psg_pass){ .ordinary = 1 }));
        psg_embedding(f.tape, psg_input(f.tape, &ids), psg_use(f.tape, param), &o);
        TEST_OK(f.context, psg_tape_status(f.tape));
        for (int64_t d = 0; d < 2; d++) {
            double bound = (list[k].dtype == PSG_F64 ? 1e-15 : 1e-7) * fabs(list[k].scaled[d]);
            test_near(test_get_at(&table.view, d), list[k].scaled[d], bound, "row", (int64_t)k * 2 + d);
        }
        psg_param_destroy(param);
        test_array_free(&table);
    }
    small_close(&f);
}

/* Rounding leaves many f32 rows a little longer than max_norm: an id that occurs twice must not scale them again. */
static void a_row_is_scaled_once(void **state) {
    (void)state;
    enum { ROWS = 64 };
    small_pass f;
    small_open_on(&f, 1, NULL);
    test_array table[2];
    int64_t twice[2 * ROWS];
    for (int64_t k = 0; k < 2 * ROWS; k++) twice[k] = k % ROWS;
    table[0] = reals(&f, PSG_F32, 2, (int64_t[]){ ROWS, 9 });
    table[1] = reals(&f, PSG_F32, 2, (int64_t[]){ ROWS, 9 });
    for (int64_t k = 0; k < ROWS * 9; k++) {
        double value = 1e6 * (1 + fabs(test_get_at(&table[0].view, k)));
        test_set_at(&table[0].view, k, value);
        test_set_at(&table[1].view, k, value);
    }
    for (int64_t times = 1; times <= 2; times++) {
        psg_tensor ids = psg_tensor_of(PSG_I64, twice, 2, (int64_t[]){ times, ROWS });
        psg_param *param = param_of(&f, "table", &table[times - 1]);
        psg_embedding_options o = { .max_norm = 1 };
        TEST_OK(f.context, psg_tape_begin(f.tape, &(psg_pass){ .ordinary = 1 }));
        psg_embedding(f.tape, psg_input(f.tape, &ids), psg_use(f.tape, param), &o);
        TEST_OK(f.context, psg_tape_status(f.tape));
        psg_param_destroy(param);
    }
    assert_true(test_same_bits(&table[0].view, &table[1].view));
    test_array_free(&table[0]);
    test_array_free(&table[1]);
    small_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_row_of_ids_serves_every_sample),
        cmocka_unit_test(sparse_answers_name_no_padding),
        cmocka_unit_test(large_tables_stay_sparse),
        cmocka_unit_test(a_tied_head_adds_its_uses),
        cmocka_unit_test(long_rows_are_scaled_to_max_norm),
        cmocka_unit_test(extreme_rows_are_scaled_to_max_norm),
        cmocka_unit_test(a_row_is_scaled_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
