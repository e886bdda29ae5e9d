/* A pass over named records (psg_pass.batch): whose masks are whose, and what is refused. */
#include <stdlib.h>
#include <string.h>

#include "psg/ops.h"
#include "small_pass.h"
#include "toy_ops.h"

enum { RECORDS = 4, WIDTH = 16, CLASSES = 3 };

static const int64_t all_ids[RECORDS] = { 3, 8, 9, 40 };

typedef struct network {
    small_pass f;
    psg_param *weight;
    psg_tensor x;            /* a row a record */
    psg_tensor labels;
} network;

static void open_network(network *n) {
    small_open(&n->f);
    n->weight = small_parameter(&n->f, "weight", SHAPE(CLASSES, WIDTH));
    n->x = small_normal(&n->f, SHAPE(RECORDS, WIDTH));
    n->labels = small_integers(&n->f, (int64_t[]){ 0, 2, 1, 1 }, SHAPE(RECORDS));
}

static psg_tensor rows(const psg_tensor *whole, int64_t first, int64_t count) {
    psg_tensor part = *whole;
    part.shape[0] = count;
    part.data = (char *)whole->data + (size_t)(first * whole->stride[0]) * psg_dtype_size(whole->dtype);
    return part;
}

/* The clipped sum of records [first, first + count) of the step; with dropout. */
static void clipped_sum(network *n, const psg_batch *batch, int64_t first, int64_t count, double *sum) {
    psg_batch part = psg_batch_part(batch, first, count);
    psg_tensor x = rows(&n->x, first, count), labels = rows(&n->labels, first, count);
    psg_clip clip = PSG_CLIP_INIT;
    clip.max_grad_norm = 0.25;
    psg_tensor out = psg_tensor_of(PSG_F64, sum, 2, (int64_t[]){ CLASSES, WIDTH });
    psg_pass pass = PSG_PASS_INIT;
    pass.batch = &part;
    small_begin(&n->f, pass);
    assert_int_equal(psg_tape_batch_size(n->f.tape), count);
    psg_var h = psg_dropout(n->f.tape, psg_input(n->f.tape, &x), 0.5);
    psg_var y = psg_linear(n->f.tape, h, psg_use(n->f.tape, n->weight), psg_none());
    psg_var loss = psg_cross_entropy(n->f.tape, y, psg_input(n->f.tape, &labels), NULL);
    TEST_OK(n->f.context, psg_backward(n->f.tape, loss));
    psg_gradient gradient = small_gradient_of(&n->f, n->weight);
    const psg_gradient *list = &gradient;
    TEST_OK(n->f.context, psg_clipped_sum(n->f.context, &list, 1, &clip, PSG_OVERWRITE, &out, NULL, NULL, NULL));
}

/* A record adds the same in any company: one in front moves the sum by itself alone.  Elements are at most 1, four
 * additions of doubles and their products round by 2^-50. */
static void a_record_keeps_its_mask(void **state) {
    (void)state;
    network n;
    open_network(&n);
    psg_batch batch = { .ids = all_ids, .count = RECORDS, .step = 7, .stream = 0x1234567890abcdef };
    double whole[CLASSES * WIDTH], total[CLASSES * WIDTH] = { 0 }, alone[CLASSES * WIDTH];
    clipped_sum(&n, &batch, 0, RECORDS, whole);
    for (int64_t k = 0; k < RECORDS; k++) {
        clipped_sum(&n, &batch, k, 1, alone);
        for (int i = 0; i < CLASSES * WIDTH; i++) total[i] += alone[i];
    }
    for (int i = 0; i < CLASSES * WIDTH; i++) test_near(whole[i], total[i], 0x1p-50, "sum of single records", i);
    small_close(&n.f);
}

static void mask_of(small_pass *f, psg_pass pass, double *mask) {
    psg_tensor x = small_zeros(f, PSG_F64, SHAPE(RECORDS, WIDTH)), y;
    test_fill_value(&x, 1);
    small_begin(f, pass);
    TEST_OK(f->context, psg_value(f->tape, psg_dropout(f->tape, psg_input(f->tape, &x), 0.5), &y));
    for (int64_t i = 0; i < RECORDS * WIDTH; i++) mask[i] = test_get_at(&y, i);
}

static void every_step_has_its_masks(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_batch batch = { .ids = all_ids, .count = RECORDS, .stream = 5 }, next = batch;
    next.stream = 6;
    double first[RECORDS * WIDTH], second[RECORDS * WIDTH];
    mask_of(&f, (psg_pass){ .batch = &batch }, first);
    mask_of(&f, (psg_pass){ .batch = &next }, second);
    assert_memory_not_equal(first, second, sizeof first);
    mask_of(&f, (psg_pass){ .sample_ids = all_ids, .dropout_seed = 5 }, second);   /* the caller's seeds are others */
    assert_memory_not_equal(first, second, sizeof first);
    mask_of(&f, (psg_pass){ .batch = &batch }, second);
    assert_memory_equal(first, second, sizeof first);
    small_close(&f);
}

static psg_status begin_and_drop(small_pass *f, psg_pass pass) {
    psg_tensor x = small_zeros(f, PSG_F64, SHAPE(RECORDS, WIDTH));
    if (psg_tape_begin(f->tape, &pass)) return psg_tape_status(f->tape);
    psg_dropout(f->tape, psg_input(f->tape, &x), 0.5);
    return psg_tape_status(f->tape);
}

static void check_refused(small_pass *f, psg_pass pass, psg_status status, const char *words) {
    assert_int_equal(begin_and_drop(f, pass), status);
    if (!strstr(psg_tape_message(f->tape), words)) fail_msg("\"%s\" lacks \"%s\"", psg_tape_message(f->tape), words);
}

static void what_disagrees_is_refused(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_batch batch = { .ids = all_ids, .count = RECORDS }, negative = { .count = -1 }, nameless = { .count = RECORDS };
    psg_batch few = psg_batch_part(&batch, 1, RECORDS - 1);
    check_refused(&f, (psg_pass){ .batch = &batch, .sample_ids = all_ids }, PSG_ERR_ARGUMENT, "sample_ids stands");
    check_refused(&f, (psg_pass){ .batch = &batch, .dropout_seed = 1 }, PSG_ERR_ARGUMENT, "dropout_seed stands beside");
    check_refused(&f, (psg_pass){ .batch = &batch, .batch_size = 3 }, PSG_ERR_BATCH, "batch_size is 3");
    check_refused(&f, (psg_pass){ .batch = &negative }, PSG_ERR_ARGUMENT, "-1 records");
    check_refused(&f, (psg_pass){ .batch = &nameless }, PSG_ERR_ARGUMENT, "no ids");
    check_refused(&f, (psg_pass){ .batch = &few }, PSG_ERR_BATCH, "the batch of 3 samples");
    check_refused(&f, (psg_pass)PSG_PASS_INIT, PSG_ERR_STATE, "psg_pass.batch, or sample_ids");
    assert_int_equal(begin_and_drop(&f, (psg_pass){ .ordinary = 1 }), PSG_OK);
    assert_int_equal(begin_and_drop(&f, (psg_pass){ .evaluation = 1 }), PSG_OK);
    small_close(&f);
}

/* An op of a user's that forgets psg_call_draws. */
static psg_status forgetful_shape(psg_call *call) {
    const psg_tensor *x = &call->input[0].value;
    return psg_call_output(call, x->dtype, x->rank, x->shape);
}

static void an_op_that_does_not_ask_is_refused(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_op op = toy_noise;
    op.shape = forgetful_shape;
    psg_tensor x = small_zeros(&f, PSG_F64, SHAPE(RECORDS, 4));
    for (int named = 0; named < 2; named++) {
        small_begin(&f, (psg_pass){ .sample_ids = named ? all_ids : NULL });
        psg_var in = psg_input(f.tape, &x);
        psg_record(f.tape, &op, &in, 1, NULL);
        assert_int_equal(psg_tape_status(f.tape), named ? PSG_OK : PSG_ERR_STATE);
    }
    small_close(&f);
}

/* A gradient has the numbers of its pass, in memory that the next pass takes over (and here frees: it grew). */
static void the_records_of_a_gradient_are_named_again(void **state) {
    (void)state;
    enum { MANY = 100000 };
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    psg_param *param;
    psg_gradient gradient;
    psg_pass pass = PSG_PASS_INIT;
    float weight = 2, *x = calloc(MANY, sizeof *x);
    int64_t *ids = malloc(MANY * sizeof *ids);
    for (int64_t i = 0; i < MANY; i++) ids[i] = 3 * i + 1;
    const psg_batch batch = { .ids = ids, .count = MANY, .stream = 9 };
    const psg_tensor input = psg_f32_2d(x, MANY, 1), value = psg_f32_2d(&weight, 1, 1);
    TEST_OK(context, psg_tape_create(context, &tape));
    TEST_OK(context, psg_param_create(context, "weight", &value, &param));
    pass.batch = &batch;
    for (int again = 0; again < 3; again++) {
        TEST_OK(context, psg_tape_begin(tape, &pass));
        psg_var y = psg_input(tape, &input);
        for (int k = 0; k < 4; k++) y = psg_relu(tape, y);
        TEST_OK(context, psg_backward_from(tape, psg_linear(tape, y, psg_use(tape, param), psg_none()), NULL));
        TEST_OK(context, psg_gradient_of(tape, param, &gradient));
        assert_int_equal(gradient.batch.count, MANY);
        assert_memory_equal(gradient.batch.ids, ids, MANY * sizeof *ids);
        pass.batch = &gradient.batch;
    }
    psg_tape_destroy(tape);
    psg_param_destroy(param);
    free(ids);
    free(x);
    test_context_free(context);
}

static void an_empty_step_is_a_batch(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_batch none = { 0 };
    psg_tensor x = small_zeros(&f, PSG_F64, SHAPE(0, WIDTH));
    small_begin(&f, (psg_pass){ .batch = &none });
    psg_dropout(f.tape, psg_input(f.tape, &x), 0.5);
    TEST_OK(f.context, psg_tape_status(f.tape));
    assert_int_equal(psg_tape_batch_size(f.tape), 0);
    small_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_keeps_its_mask),
        cmocka_unit_test(every_step_has_its_masks),
        cmocka_unit_test(what_disagrees_is_refused),
        cmocka_unit_test(an_op_that_does_not_ask_is_refused),
        cmocka_unit_test(an_empty_step_is_a_batch),
        cmocka_unit_test(the_records_of_a_gradient_are_named_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
