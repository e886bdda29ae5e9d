/* What psg/gradient.h refuses, with its status, a message that names function and argument, and outputs untouched. */
#include "gradient_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- one defect at a time ---- */

typedef struct scene {
    psg_context *context;
    fixture f;
    answers a;
} scene;

typedef struct defect {
    const char *name;
    void (*plant)(scene *s);
    psg_status status;
    const char *word;        /* in the message */
    unsigned questions;      /* bit k: question k must refuse it */
} defect;

enum {
    ALL = (1 << PSG_QUESTION_COUNT) - 1,
    SUMS = 1 << PSG_ASK_WEIGHTED_SUM | 1 << PSG_ASK_CLIPPED_SUM | 1 << PSG_ASK_SUM_OF_SQUARES,
    SETS = ALL & ~(1 << PSG_ASK_GRAD_SAMPLE),
    SAMPLES = 1 << PSG_ASK_GRAD_SAMPLE,
    DOTS = 1 << PSG_ASK_DOT,
};

static psg_gradient *first(scene *s) { return &s->f.gradient[0]; }
static psg_block *block(scene *s) { return &s->f.block[0][0]; }

/* gradients */
static void null_gradient(scene *s) { s->f.pointer[1] = NULL; }
static void no_gradients(scene *s) { s->f.count = 0; }
static void integer_gradient(scene *s) { first(s)->dtype = PSG_I32; }
static void unknown_dtype(scene *s) { first(s)->dtype = (psg_dtype)17; }
static void other_dtype(scene *s) { first(s)->dtype = PSG_F64; }
static void mixed_dtypes(scene *s) { s->f.gradient[1].dtype = PSG_F64; s->f.gradient[1].block_count = 0; }
static void mixed_batches(scene *s) { s->f.gradient[1].batch_size = 9; s->f.gradient[1].block_count = 0; }
static void negative_batch(scene *s) { first(s)->batch_size = -1; first(s)->block_count = 0; }
static void wrong_batch(scene *s) { for (int k = 0; k < 3; k++) s->f.gradient[k].batch_size = 4; }
static void null_blocks(scene *s) { first(s)->blocks = NULL; }
static void negative_rank(scene *s) { first(s)->rank = -1; }
static void high_rank(scene *s) { first(s)->rank = 9; }
static void negative_shape(scene *s) { first(s)->shape[0] = -7; }
static void huge_shape(scene *s) { first(s)->shape[0] = first(s)->shape[1] = (int64_t)1 << 40; }
static void huge_total(scene *s) { first(s)->shape[0] = first(s)->shape[1] = (int64_t)1 << 31; }
static void small_shape(scene *s) { first(s)->shape[0]--; }
static void coupled(scene *s) { s->f.gradient[0].batch_coupled = 1; }
static void coupled_unweighted(scene *s) { coupled(s); s->f.gradient[0].batch_coupled = -1; }

/* blocks */
static void unknown_form(scene *s) { block(s)->form = (psg_form)9; }
static void low_rank_backprop(scene *s) { block(s)->backprop.rank = 1; }
static void high_rank_backprop(scene *s) { block(s)->backprop.rank = 4; block(s)->backprop.shape[3] = 1; }
static void impossible_rank(scene *s) {
    psg_tensor g = block(s)->backprop, a = block(s)->activation;
    g.rank = a.rank = 4 * PSG_MAX_RANK;
    *block(s) = psg_factored(&g, &a);
}
static void impossible_rank_of_rows(scene *s) {
    block(s)->backprop.rank = 4 * PSG_MAX_RANK;
    *block(s) = psg_rows(&block(s)->backprop);
}
static void invalid_backprop(scene *s) { block(s)->backprop.rank = -1; }
static void null_backprop(scene *s) { block(s)->backprop.data = NULL; }
static void null_activation(scene *s) { block(s)->activation.data = NULL; }
static void negative_positions(scene *s) { block(s)->backprop.shape[1] = -3; }
static void f64_backprop(scene *s) { block(s)->backprop.dtype = PSG_F64; }
static void f64_activation(scene *s) { block(s)->activation.dtype = PSG_F64; }
static void activation_batch(scene *s) { block(s)->activation.shape[0] = 4; }
static void backprop_batch(scene *s) { block(s)->backprop.shape[0] = 4; }
static void other_positions(scene *s) { block(s)->activation.shape[1] = 2; }
static void wide_activation(scene *s) { block(s)->activation.shape[2] = 10; }
static void tall_backprop(scene *s) { block(s)->backprop.shape[2] = 8; }
static void negative_offset(scene *s) { block(s)->offset = -1; }
static void offset_past_end(scene *s) { block(s)->offset = 1; }
static void huge_offset(scene *s) { block(s)->offset = INT64_MAX; }
static void wide_rows(scene *s) { block(s)->row_stride = 10; }
static void huge_row_stride(scene *s) { block(s)->row_stride = INT64_MAX; }
static void negative_row_stride(scene *s) { block(s)->row_stride = -9; }
static void overlapping_rows(scene *s) { block(s)->row_stride = 8; }
static void rows_past_end(scene *s) { s->f.block[1][0].offset = 1; }
static void huge_operand(scene *s) {
    psg_tensor *operands[] = { &block(s)->backprop, &block(s)->activation };
    for (int k = 0; k < 2; k++) {
        operands[k]->shape[1] = (int64_t)1 << 62;
        operands[k]->stride[1] = 0;
    }
}

/* outputs */
static void bad_out_shape(scene *s) { s->a.out[0].view.shape[1]++; }
static void bad_out_batch(scene *s) { s->a.out[0].view.shape[0]--; }
static void bad_out_rank(scene *s) { s->a.out[0].view.rank--; }
static void bad_out_dtype(scene *s) { s->a.out[0].view.dtype = PSG_F64; }
static void integer_out(scene *s) { s->a.out[0].view.dtype = PSG_I32; }
static void null_out_data(scene *s) { s->a.out[0].view.data = NULL; }
static void bad_sum_shape(scene *s) { s->a.sums[1].shape[0]++; }
static void bad_sum_rank(scene *s) { s->a.sums[1].rank = 0; }
static void integer_sum(scene *s) { s->a.sums[2].dtype = PSG_I64; }
static void strided_sum(scene *s) { s->a.sums[0].stride[0]++; }
static void null_sum_data(scene *s) { s->a.sums[2].data = NULL; }
static void bad_direction_shape(scene *s) { s->a.directions[0].shape[1]--; }
static void bad_direction_dtype(scene *s) { s->a.directions[2].dtype = PSG_F64; }
static void strided_direction(scene *s) { s->a.directions[0].stride[1] = 2; }
static void null_direction_data(scene *s) { s->a.directions[1].data = NULL; }

static const defect defects[] = {
    { "null_gradient", null_gradient, PSG_ERR_ARGUMENT, "gradients[1]", SETS },
    { "no_gradients", no_gradients, PSG_ERR_ARGUMENT, "gradients", SETS },
    { "integer_gradient", integer_gradient, PSG_ERR_DTYPE, "i32", ALL },
    { "unknown_dtype", unknown_dtype, PSG_ERR_DTYPE, "unknown", ALL },
    { "other_dtype", other_dtype, PSG_ERR_DTYPE, "backprop is f32", ALL },
    { "mixed_dtypes", mixed_dtypes, PSG_ERR_DTYPE, "gradients[1]", SETS },
    { "mixed_batches", mixed_batches, PSG_ERR_BATCH, "gradients[1]", SETS },
    { "negative_batch", negative_batch, PSG_ERR_SHAPE, "-1", ALL },
    { "wrong_batch", wrong_batch, PSG_ERR_BATCH, "backprop", ALL },
    { "null_blocks", null_blocks, PSG_ERR_ARGUMENT, "gradients[0]", ALL },
    { "negative_rank", negative_rank, PSG_ERR_SHAPE, "rank", ALL },
    { "high_rank", high_rank, PSG_ERR_SHAPE, "rank", ALL },
    { "negative_shape", negative_shape, PSG_ERR_SHAPE, "negative", ALL },
    { "huge_shape", huge_shape, PSG_ERR_OVERFLOW, "63", ALL },
    { "huge_total", huge_total, PSG_ERR_OVERFLOW, "63", ALL },
    { "small_shape", small_shape, PSG_ERR_SHAPE, "block 0", ALL },
    { "coupled", coupled, PSG_ERR_UNSUPPORTED, "ordinary", ALL },
    { "coupled_unweighted", coupled_unweighted, PSG_ERR_UNSUPPORTED, "weights NULL", ALL },
    { "unknown_form", unknown_form, PSG_ERR_ARGUMENT, "form", ALL },
    { "low_rank_backprop", low_rank_backprop, PSG_ERR_SHAPE, "backprop", ALL },
    { "high_rank_backprop", high_rank_backprop, PSG_ERR_SHAPE, "backprop", ALL },
    { "impossible_rank", impossible_rank, PSG_ERR_SHAPE, "backprop", ALL },
    { "impossible_rank_of_rows", impossible_rank_of_rows, PSG_ERR_SHAPE, "backprop", ALL },
    { "invalid_backprop", invalid_backprop, PSG_ERR_SHAPE, "backprop", ALL },
    { "null_backprop", null_backprop, PSG_ERR_SHAPE, "backprop", ALL },
    { "null_activation", null_activation, PSG_ERR_SHAPE, "activation", ALL },
    { "negative_positions", negative_positions, PSG_ERR_SHAPE, "backprop", ALL },
    { "f64_backprop", f64_backprop, PSG_ERR_DTYPE, "backprop is f64", ALL },
    { "f64_activation", f64_activation, PSG_ERR_DTYPE, "activation is f64", ALL },
    { "activation_batch", activation_batch, PSG_ERR_BATCH, "activation", ALL },
    { "backprop_batch", backprop_batch, PSG_ERR_BATCH, "backprop", ALL },
    { "other_positions", other_positions, PSG_ERR_SHAPE, "positions", ALL },
    { "wide_activation", wide_activation, PSG_ERR_SHAPE, "block 0", ALL },
    { "tall_backprop", tall_backprop, PSG_ERR_SHAPE, "block 0", ALL },
    { "negative_offset", negative_offset, PSG_ERR_SHAPE, "block 0", ALL },
    { "offset_past_end", offset_past_end, PSG_ERR_SHAPE, "block 0", ALL },
    { "huge_offset", huge_offset, PSG_ERR_SHAPE, "block 0", ALL },
    { "wide_rows", wide_rows, PSG_ERR_SHAPE, "block 0", ALL },
    { "huge_row_stride", huge_row_stride, PSG_ERR_SHAPE, "block 0", ALL },
    { "negative_row_stride", negative_row_stride, PSG_ERR_SHAPE, "block 0", ALL },
    { "overlapping_rows", overlapping_rows, PSG_ERR_SHAPE, "block 0", ALL },
    { "rows_past_end", rows_past_end, PSG_ERR_SHAPE, "block 0", SETS },
    { "huge_operand", huge_operand, PSG_ERR_SHAPE, "backprop", ALL },
    { "bad_out_shape", bad_out_shape, PSG_ERR_SHAPE, "out", SAMPLES },
    { "bad_out_batch", bad_out_batch, PSG_ERR_SHAPE, "out", SAMPLES },
    { "bad_out_rank", bad_out_rank, PSG_ERR_SHAPE, "out", SAMPLES },
    { "bad_out_dtype", bad_out_dtype, PSG_ERR_DTYPE, "out", SAMPLES },
    { "integer_out", integer_out, PSG_ERR_DTYPE, "out", SAMPLES },
    { "null_out_data", null_out_data, PSG_ERR_SHAPE, "out", SAMPLES },
    { "bad_sum_shape", bad_sum_shape, PSG_ERR_SHAPE, "outs[1]", SUMS },
    { "bad_sum_rank", bad_sum_rank, PSG_ERR_SHAPE, "outs[1]", SUMS },
    { "integer_sum", integer_sum, PSG_ERR_DTYPE, "outs[2]", SUMS },
    { "strided_sum", strided_sum, PSG_ERR_SHAPE, "outs[0]", SUMS },
    { "null_sum_data", null_sum_data, PSG_ERR_SHAPE, "outs[2]", SUMS },
    { "bad_direction_shape", bad_direction_shape, PSG_ERR_SHAPE, "direction[0]", DOTS },
    { "bad_direction_dtype", bad_direction_dtype, PSG_ERR_DTYPE, "direction[2]", DOTS },
    { "strided_direction", strided_direction, PSG_ERR_SHAPE, "direction[0]", DOTS },
    { "null_direction_data", null_direction_data, PSG_ERR_SHAPE, "direction[1]", DOTS },
};

static void scene_open(scene *s, psg_dtype sum_dtype) {
    test_random random = { 5 };
    s->context = test_context(2, NULL);
    fixture_layer(&s->f, &random, PSG_F32, 3, 5, 7, 9);
    answers_new(&s->a, &s->f, &random, sum_dtype, PSG_OVERWRITE);
}

static void scene_close(scene *s) {
    s->f.count = s->a.count = 3;
    answers_free(&s->a);
    fixture_free(&s->f);
    psg_context_destroy(s->context);
}

/* "psg_sqnorm: ..." */
static bool names_function(const char *message, const char *function) {
    size_t length = strlen(function);
    return !strncmp(message, "psg_", 4) && !strncmp(message + 4, function, length) && message[4 + length] == ':';
}

static void check_refused(scene *s, const char *name, psg_question question, psg_status status, psg_status expected,
                          const char *word, uint64_t before) {
    const char *message = psg_context_message(s->context), *function = psg_question_name(question);
    if (status != expected) {
        fail_msg("%s with %s is %s, expected %s: %s", function, name, psg_status_name(status),
                 psg_status_name(expected), message);
    }
    if (!names_function(message, function) || !strstr(message, word)) {
        fail_msg("the message for %s in %s is \"%s\", without \"%s\"", name, function, message, word);
    }
    if (answers_hash(&s->a) != before) fail_msg("%s with %s has written an output", function, name);
}

static void every_defect_is_refused(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof defects / sizeof defects[0]; k++) {
        for (int question = 0; question < PSG_QUESTION_COUNT; question++) {
            if (!(defects[k].questions >> question & 1)) continue;
            scene s;
            scene_open(&s, PSG_F32);
            defects[k].plant(&s);
            uint64_t before = answers_hash(&s.a);
            psg_status status = answers_ask(&s.a, s.context, &s.f, (psg_question)question, PSG_OVERWRITE);
            check_refused(&s, defects[k].name, (psg_question)question, status, defects[k].status, defects[k].word,
                          before);
            size_t needed;
            if (defects[k].questions == ALL) {
                status = psg_plan_text(s.context, (psg_question)question, s.f.pointer, s.f.count, NULL, NULL, 0, &needed);
                assert_true(status == defects[k].status || defects[k].status == PSG_ERR_UNSUPPORTED);
            }
            scene_close(&s);
        }
    }
}

static void unknown_write_is_refused(void **state) {
    (void)state;
    static const psg_question writing[] = { PSG_ASK_GRAD_SAMPLE, PSG_ASK_WEIGHTED_SUM, PSG_ASK_CLIPPED_SUM,
                                            PSG_ASK_SUM_OF_SQUARES };
    for (int k = 0; k < 4; k++) {
        scene s;
        scene_open(&s, PSG_F64);
        uint64_t before = answers_hash(&s.a);
        psg_status status = answers_ask(&s.a, s.context, &s.f, writing[k], (psg_write)2);
        check_refused(&s, "write 2", writing[k], status, PSG_ERR_ARGUMENT, "write", before);
        scene_close(&s);
    }
}

/* Sums of an f64 gradient do not go into f32. */
static void narrower_sums_are_refused(void **state) {
    (void)state;
    static const psg_question sums[] = { PSG_ASK_WEIGHTED_SUM, PSG_ASK_CLIPPED_SUM, PSG_ASK_SUM_OF_SQUARES };
    test_random random = { 6 };
    scene s = { .context = test_context(1, NULL) };
    fixture_layer(&s.f, &random, PSG_F64, 3, 5, 7, 9);
    answers_new(&s.a, &s.f, &random, PSG_F32, PSG_OVERWRITE);
    uint64_t before = answers_hash(&s.a);
    for (int k = 0; k < 3; k++) {
        psg_status status = answers_ask(&s.a, s.context, &s.f, sums[k], PSG_OVERWRITE);
        check_refused(&s, "f32 outs", sums[k], status, PSG_ERR_DTYPE, "outs[0]", before);
    }
    scene_close(&s);
}

#define REFUSED(question, word, call) \
    check_refused(&s, #call, question, call, PSG_ERR_ARGUMENT, word, before)

static void missing_arguments_are_refused(void **state) {
    (void)state;
    scene s;
    scene_open(&s, PSG_F32);
    psg_context *c = s.context;
    const psg_gradient *const *g = s.f.pointer;
    answers *a = &s.a;
    uint64_t before = answers_hash(a);
    REFUSED(PSG_ASK_GRAD_SAMPLE, "gradient", psg_grad_sample(c, NULL, 1, PSG_OVERWRITE, &a->out[0].view));
    REFUSED(PSG_ASK_GRAD_SAMPLE, "out", psg_grad_sample(c, g[0], 1, PSG_OVERWRITE, NULL));
    REFUSED(PSG_ASK_SQNORM, "gradients", psg_sqnorm(c, NULL, 3, a->sqnorm, NULL, NULL));
    REFUSED(PSG_ASK_SQNORM, "sqnorm", psg_sqnorm(c, g, 3, NULL, a->upper, &a->fallbacks));
    REFUSED(PSG_ASK_WEIGHTED_SUM, "gradients", psg_weighted_sum(c, NULL, 3, NULL, PSG_OVERWRITE, a->sums));
    REFUSED(PSG_ASK_WEIGHTED_SUM, "outs", psg_weighted_sum(c, g, 3, NULL, PSG_OVERWRITE, NULL));
    REFUSED(PSG_ASK_CLIPPED_SUM, "gradients",
            psg_clipped_sum(c, NULL, 3, &a->clip, PSG_OVERWRITE, a->sums, NULL, NULL, NULL));
    REFUSED(PSG_ASK_CLIPPED_SUM, "clip", psg_clipped_sum(c, g, 3, NULL, PSG_OVERWRITE, a->sums, NULL, NULL, NULL));
    REFUSED(PSG_ASK_CLIPPED_SUM, "outs",
            psg_clipped_sum(c, g, 3, &a->clip, PSG_OVERWRITE, NULL, a->norms, a->factors, &a->report));
    REFUSED(PSG_ASK_DOT, "gradients", psg_dot(c, NULL, 3, a->directions, a->dots));
    REFUSED(PSG_ASK_DOT, "direction", psg_dot(c, g, 3, NULL, a->dots));
    REFUSED(PSG_ASK_DOT, "dots", psg_dot(c, g, 3, a->directions, NULL));
    REFUSED(PSG_ASK_GRAM, "gradients", psg_gram(c, NULL, 3, a->gram));
    REFUSED(PSG_ASK_GRAM, "gram", psg_gram(c, g, 3, NULL));
    REFUSED(PSG_ASK_SUM_OF_SQUARES, "gradients", psg_sum_of_squares(c, NULL, 3, PSG_OVERWRITE, a->sums));
    REFUSED(PSG_ASK_SUM_OF_SQUARES, "outs", psg_sum_of_squares(c, g, 3, PSG_OVERWRITE, NULL));
    assert_int_equal(psg_plan_text(c, PSG_ASK_GRAM, NULL, 1, NULL, NULL, 0, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_plan_text(c, PSG_QUESTION_COUNT, g, 3, NULL, NULL, 0, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_plan_text(c, (psg_question)-1, g, 3, NULL, NULL, 0, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_plan_text(c, PSG_ASK_GRAM, g, 3, NULL, NULL, 10, NULL), PSG_ERR_ARGUMENT);
    scene_close(&s);
}

static void a_missing_context_is_refused(void **state) {
    (void)state;
    scene s;
    scene_open(&s, PSG_F32);
    uint64_t before = answers_hash(&s.a);
    for (int question = 0; question < PSG_QUESTION_COUNT; question++) {
        psg_status status = answers_ask(&s.a, NULL, &s.f, (psg_question)question, PSG_OVERWRITE);
        assert_int_equal(status, PSG_ERR_ARGUMENT);
        status = psg_plan_text(NULL, (psg_question)question, s.f.pointer, 3, NULL, NULL, 0, NULL);
        assert_int_equal(status, PSG_ERR_ARGUMENT);
    }
    assert_true(answers_hash(&s.a) == before);
    scene_close(&s);
}

/* An ordinary pass's gradient answers the one question that has a meaning. */
static void coupled_gradients_have_an_ordinary_sum(void **state) {
    (void)state;
    scene s;
    scene_open(&s, PSG_F32);
    for (int coupled_too = 0; coupled_too < 2; coupled_too++) {
        for (int k = 0; k < 3; k++) s.f.gradient[k].batch_coupled = coupled_too;
        TEST_OK(s.context, psg_weighted_sum(s.context, s.f.pointer, 3, NULL, PSG_OVERWRITE, s.a.sums));
    }
    scene_close(&s);
}

/* A Gram matrix of 2^32 samples that share one gradient has 2^64 entries. */
static void a_gram_matrix_too_large_is_refused(void **state) {
    (void)state;
    float g[2] = { 1, 2 };
    int64_t batch = (int64_t)1 << 32;
    psg_tensor view = psg_tensor_strided(PSG_F32, g, 2, (int64_t[]){ batch, 2 }, (int64_t[]){ 0, 1 });
    psg_block rows = psg_rows(&view);
    psg_gradient gradient = psg_gradient_of_blocks(&rows, 1, 1, (int64_t[]){ 2 });
    const psg_gradient *set[] = { &gradient };
    psg_context *context = test_context(1, NULL);
    double cell = 7;
    assert_int_equal(psg_gram(context, set, 1, &cell), PSG_ERR_OVERFLOW);
    assert_true(cell == 7);
    psg_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_defect_is_refused),
        cmocka_unit_test(unknown_write_is_refused),
        cmocka_unit_test(narrower_sums_are_refused),
        cmocka_unit_test(missing_arguments_are_refused),
        cmocka_unit_test(a_missing_context_is_refused),
        cmocka_unit_test(coupled_gradients_have_an_ordinary_sum),
        cmocka_unit_test(a_gram_matrix_too_large_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
