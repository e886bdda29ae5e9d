/* Blocks of every form that an op adds to a parameter, in per-sample and ordinary passes. */
#include "gradient_values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- an op that adds the block of its attributes: y (B, 1) = 0 ---- */

typedef struct adder { psg_block block; } adder;

static psg_status adder_shape(psg_call *call) {
    return psg_call_output(call, PSG_F64, 2, (int64_t[]){ call->input[0].value.shape[0], 1 });
}

static psg_status adder_forward(psg_call *call) {
    test_fill_value(&call->output, 0);
    return PSG_OK;
}

static psg_status adder_backward(psg_call *call) {
    const adder *a = call->attributes;
    bool plain = a->block.offset == 0 && a->block.scale == 1 && a->block.form == PSG_SPARSE_ROWS;
    if (plain) return psg_call_add_sparse_rows(call, 1, &a->block.backprop, &a->block.ids);
    return psg_call_add_block(call, 1, &a->block);
}

static const char *const adder_names[] = { "input", "weight" };
static const psg_op adder_op = { .name = "adder", .input_count = 2, .input_names = adder_names, .parameter_inputs = 2,
                                 .attributes_size = sizeof(adder), .shape = adder_shape, .forward = adder_forward,
                                 .backward = adder_backward };

/* ---- scenes ---- */

enum { B = 4, ARRAYS = 3 };

typedef struct scene {
    psg_block block;          /* as the op gives it */
    psg_block plain;          /* the same with (B, T, p) views, for the plain loops */
    test_array array[ARRAYS];
    size_t array_count;
    int64_t shape[2];
} scene;

static psg_tensor *normal(scene *s, test_random *random, int rank, const int64_t *shape) {
    test_array *array = &s->array[s->array_count++];
    *array = test_array_normal(random, PSG_F64, rank, shape, TEST_ANY);
    return &array->view;
}

static psg_tensor *integers(scene *s, test_random *random, int rank, const int64_t *shape, int64_t most) {
    test_array *array = &s->array[s->array_count++];
    *array = test_array_new(random, PSG_I32, rank, shape, TEST_ANY);
    test_fill_integers(random, &array->view, -1, most);
    return &array->view;
}

/* (B, 2, 3, p) as (B, 6, p), copied into a contiguous array. */
static psg_tensor flat(scene *s, const psg_tensor *x) {
    int64_t shape[3] = { B, psg_tensor_count(x) / B / x->shape[x->rank - 1], x->shape[x->rank - 1] };
    test_random unused = { 1 };
    test_array *array = &s->array[s->array_count++];
    *array = test_array_new(&unused, x->dtype, 3, shape, TEST_CONTIGUOUS);
    for (int64_t e = 0; e < psg_tensor_count(x); e++) test_set_at(&array->view, e, test_get_at(x, e));
    return array->view;
}

static void factored_slice(scene *s, test_random *random) {
    psg_tensor *g = normal(s, random, 3, (int64_t[]){ B, 6, 3 }), *a = normal(s, random, 3, (int64_t[]){ B, 6, 5 });
    s->block = psg_factored(g, a);
    s->block.offset = 7 + 1;
    s->block.row_stride = 7;
    s->block.scale = -0.5;
    s->plain = s->block;
    memcpy(s->shape, (int64_t[]){ 6, 7 }, sizeof s->shape);
}

static void rows_slice(scene *s, test_random *random) {
    s->block = psg_rows(normal(s, random, 4, (int64_t[]){ B, 2, 3, 5 }));
    s->block.offset = 9;
    s->plain = s->block;
    s->plain.backprop = flat(s, &s->block.backprop);
    memcpy(s->shape, (int64_t[]){ 3, 5 }, sizeof s->shape);
    s->shape[0] = 4;
}

static void table(scene *s, test_random *random) {
    psg_tensor *g = normal(s, random, 3, (int64_t[]){ B, 6, 3 });
    s->block = psg_sparse_rows(g, integers(s, random, 2, (int64_t[]){ B, 6 }, 8));
    s->plain = s->block;
    memcpy(s->shape, (int64_t[]){ 9, 3 }, sizeof s->shape);
}

static void table_slice(scene *s, test_random *random) {
    psg_tensor *g = normal(s, random, 2, (int64_t[]){ B, 3 });
    s->block = psg_sparse_rows(g, integers(s, random, 1, (int64_t[]){ B }, 3));
    s->block.offset = 6;
    s->block.row_stride = 5;
    s->plain = s->block;
    s->plain.ids.rank = 2;
    s->plain.ids.shape[1] = 1;
    memcpy(s->shape, (int64_t[]){ 6, 5 }, sizeof s->shape);
}

/* 2 x (3 x 2) windows at 4 x 5 positions. */
static const psg_window window = { 2, { 3, 2 }, { 1, 2 }, { 1, 1 }, { 1, 1 }, { 4, 5 } };

static void unfolded(scene *s, test_random *random, int64_t p, int64_t row_stride) {
    psg_tensor *g = normal(s, random, 3, (int64_t[]){ B, 20, p });
    s->block = psg_unfolded(g, normal(s, random, 4, (int64_t[]){ B, 2, 4, 9 }), &window);
    s->block.offset = row_stride > 12 ? 3 : 0;
    s->block.row_stride = row_stride;
    s->block.scale = 3;
    s->plain = s->block;
    memcpy(s->shape, (int64_t[]){ p, row_stride }, sizeof s->shape);
}

static void small_windows(scene *s, test_random *random) { unfolded(s, random, 3, 12); }
static void small_windows_slice(scene *s, test_random *random) { unfolded(s, random, 3, 17); }
static void one_row_of_windows(scene *s, test_random *random) { unfolded(s, random, 1, 15); }

/* 2 positions of 12 x 8: larger than its views. */
static void large_windows(scene *s, test_random *random) {
    psg_window few = window;
    few.output[0] = 1;
    few.output[1] = 2;
    psg_tensor *g = normal(s, random, 3, (int64_t[]){ B, 2, 8 });
    s->block = psg_unfolded(g, normal(s, random, 4, (int64_t[]){ B, 2, 3, 4 }), &few);
    s->plain = s->block;
    memcpy(s->shape, (int64_t[]){ 8, 12 }, sizeof s->shape);
}

typedef void (*draw)(scene *s, test_random *random);
static const draw draws[] = { factored_slice, rows_slice, table, table_slice, small_windows, small_windows_slice,
                              one_row_of_windows, large_windows };
enum { SCENES = sizeof draws / sizeof draws[0] };

static void free_scene(scene *s) {
    for (size_t k = 0; k < s->array_count; k++) test_array_free(&s->array[k]);
}

/* ---- passes ---- */

typedef struct pass {
    psg_context *context;
    psg_tape *tape;
    psg_param *param;
    double weight[128], input[B];
} pass;

static void new_pass(pass *p, const scene *s) {
    *p = (pass){ .context = test_context(2, NULL) };
    psg_tensor value = psg_tensor_of(PSG_F64, p->weight, 2, s->shape);
    TEST_OK(p->context, psg_param_create(p->context, "weight", &value, &p->param));
    TEST_OK(p->context, psg_tape_create(p->context, &p->tape));
}

static void free_pass(pass *p) {
    psg_tape_destroy(p->tape);
    psg_param_destroy(p->param);
    psg_context_destroy(p->context);
}

/* The op twice: the parameter's gradient is twice the block. */
static psg_status run(pass *p, const scene *s, const psg_pass *options) {
    psg_tensor x = psg_tensor_of(PSG_F64, p->input, 2, (int64_t[]){ B, 1 });
    adder attributes = { s->block };
    psg_status status = psg_tape_begin(p->tape, options);
    if (status) return status;
    psg_var weight = psg_use(p->tape, p->param);
    psg_var y = psg_record(p->tape, &adder_op, (psg_var[]){ psg_input(p->tape, &x), weight }, 2, &attributes);
    y = psg_record(p->tape, &adder_op, (psg_var[]){ y, weight }, 2, &attributes);
    psg_tensor ones = psg_tensor_strided(PSG_F64, (double[]){ 1 }, 2, (int64_t[]){ B, 1 }, (int64_t[]){ 0, 0 });
    return psg_backward_from(p->tape, y, &ones);
}

static void plain_values(const scene *s, int64_t n, long double *value) {
    double terms[128] = { 0 }, mass = 0;
    memset(value, 0, 128 * sizeof *value);
    block_add_values(&s->plain, n, value, terms, &mass);
}

/* ---- tests ---- */

static void per_sample_passes_agree(void **state) {
    (void)state;
    test_random random = { 1 };
    for (int k = 0; k < SCENES * 8; k++) {
        scene s = { 0 };
        draws[k % SCENES](&s, &random);
        pass p;
        new_pass(&p, &s);
        psg_pass options = PSG_PASS_INIT;
        options.loss_reduction = k / SCENES % 2 ? PSG_LOSS_MEAN : PSG_LOSS_SUM;
        double attached[B * 128], out[B * 128], *have = k / SCENES / 2 % 2 ? attached : out;
        int64_t shape[3] = { B, s.shape[0], s.shape[1] }, numel = s.shape[0] * s.shape[1];
        psg_tensor array = psg_tensor_of(PSG_F64, attached, 3, shape), samples = psg_tensor_of(PSG_F64, out, 3, shape);
        if (have == attached) TEST_OK(p.context, psg_param_attach_grad_sample(p.param, &array));
        TEST_OK(p.context, run(&p, &s, &options));
        psg_gradient gradient;
        TEST_OK(p.context, psg_gradient_of(p.tape, p.param, &gradient));
        assert_true(gradient.block_count == 2 && gradient.batch_size == B);
        TEST_OK(p.context, psg_grad_sample(p.context, &gradient, 1.0, PSG_OVERWRITE, &samples));
        for (int64_t n = 0; n < B; n++) {
            long double value[128];
            plain_values(&s, n, value);
            double factor = 2 * (options.loss_reduction == PSG_LOSS_MEAN ? B : 1);
            for (int64_t e = 0; e < numel; e++) {
                test_near(have[n * numel + e], factor * (double)value[e], 1e-10, "sample", n);
            }
        }
        free_pass(&p);
        free_scene(&s);
    }
}

static void ordinary_passes_agree(void **state) {
    (void)state;
    test_random random = { 2 };
    for (int k = 0; k < SCENES * 8; k++) {
        scene s = { 0 };
        draws[k % SCENES](&s, &random);
        pass p;
        new_pass(&p, &s);
        psg_pass options = PSG_PASS_INIT;
        options.ordinary = 1;
        TEST_OK(p.context, run(&p, &s, &options));
        psg_gradient gradient;
        TEST_OK(p.context, psg_gradient_of(p.tape, p.param, &gradient));
        assert_true(gradient.batch_coupled && gradient.batch_size == 1);
        double sum[128];
        psg_tensor out = psg_tensor_of(PSG_F64, sum, 2, s.shape);
        const psg_gradient *set = &gradient;
        TEST_OK(p.context, psg_weighted_sum(p.context, &set, 1, NULL, PSG_OVERWRITE, &out));
        long double total[128] = { 0 }, value[128];
        for (int64_t n = 0; n < B; n++) {
            plain_values(&s, n, value);
            for (int e = 0; e < 128; e++) total[e] += 2 * value[e];
        }
        for (int64_t e = 0; e < s.shape[0] * s.shape[1]; e++) {
            test_near(sum[e], (double)total[e], 1e-10, "sum", e);
        }
        free_pass(&p);
        free_scene(&s);
    }
}

/* Blocks stay as they were added; those whose windows cost more than the gradient are computed once a clipped sum. */
static void small_windows_are_computed_once(void **state) {
    (void)state;
    static const int keeps[SCENES] = { 0, 0, 0, 0, 1, 0, 1, 0 };   /* 5: a part of its parameter's rows */
    test_random random = { 3 };
    for (int k = 0; k < SCENES; k++) {
        scene s = { 0 };
        draws[k](&s, &random);
        pass p;
        new_pass(&p, &s);
        psg_gradient gradient;
        const psg_gradient *set = &gradient;
        char text[512];
        TEST_OK(p.context, run(&p, &s, NULL));
        TEST_OK(p.context, psg_gradient_of(p.tape, p.param, &gradient));
        assert_true(gradient.blocks[0].form == PSG_UNFOLDED || k < 4);
        TEST_OK(p.context, psg_plan_text(p.context, PSG_ASK_CLIPPED_SUM, &set, 1, NULL, text, sizeof text, NULL));
        if ((strstr(text, ": keep,") != NULL) != keeps[k]) fail_msg("scene %d: %s", k, text);
        free_pass(&p);
        free_scene(&s);
    }
}

typedef struct refusal {
    int scene;
    void (*plant)(psg_block *b);
    psg_status status;
    const char *word;
} refusal;

static void other_batch(psg_block *b) { b->backprop.shape[0] = 3; }
static void ids_batch(psg_block *b) { b->ids.shape[0] = 3; }
static void image_batch(psg_block *b) { b->activation.shape[0] = 3; }
static void other_positions(psg_block *b) { b->activation.shape[1] = 5; }
static void ids_positions(psg_block *b) { b->ids.shape[1] = 5; }
static void real_ids(psg_block *b) { b->ids.dtype = PSG_F64; }
static void other_type(psg_block *b) { b->backprop.dtype = PSG_F32; }
static void low_rank(psg_block *b) { b->backprop.rank = 1; }
static void image_rank(psg_block *b) { b->activation.rank = 3; }
static void no_spatial(psg_block *b) { b->window.spatial = 0; }
static void no_stride(psg_block *b) { b->window.stride[0] = 0; }
static void unknown_form(psg_block *b) { b->form = (psg_form)9; }

static void blocks_are_checked(void **state) {
    (void)state;
    static const refusal refusals[] = {
        { 0, other_batch, PSG_ERR_BATCH, "(3, " },     { 1, other_batch, PSG_ERR_BATCH, "(3, " },
        { 2, ids_batch, PSG_ERR_SHAPE, "has (3, " },       { 4, image_batch, PSG_ERR_BATCH, "(3, " },
        { 0, other_positions, PSG_ERR_SHAPE, "6 positions" },      { 2, ids_positions, PSG_ERR_SHAPE, "(4, 6)" },
        { 2, real_ids, PSG_ERR_DTYPE, "ids" },                 { 0, other_type, PSG_ERR_DTYPE, "f32" },
        { 0, low_rank, PSG_ERR_SHAPE, "rank 1" },              { 4, low_rank, PSG_ERR_SHAPE, "rank 1" },
        { 4, image_rank, PSG_ERR_SHAPE, "rank 3" },            { 7, no_spatial, PSG_ERR_ARGUMENT, "spatial is 0" },
        { 4, no_stride, PSG_ERR_ARGUMENT, "stride[0]" },       { 0, unknown_form, PSG_ERR_ARGUMENT, "form is 9" },
    };
    test_random random = { 4 };
    for (size_t k = 0; k < sizeof refusals / sizeof refusals[0]; k++) {
        scene s = { 0 };
        draws[refusals[k].scene](&s, &random);
        refusals[k].plant(&s.block);
        pass p;
        new_pass(&p, &s);
        test_status(p.context, run(&p, &s, NULL), refusals[k].status, refusals[k].word);
        if (!strstr(psg_tape_message(p.tape), refusals[k].word)) fail_msg("%s", psg_tape_message(p.tape));
        free_pass(&p);
        free_scene(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(per_sample_passes_agree),
        cmocka_unit_test(ordinary_passes_agree),
        cmocka_unit_test(small_windows_are_computed_once),
        cmocka_unit_test(blocks_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
