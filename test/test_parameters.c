/* Parameters in elementwise ops where the lines of test/cases do not go: memory, two parameters, and every error. */
#include <stdlib.h>
#include <string.h>

#include "small_pass.h"

typedef psg_var (*pair_op)(psg_tape *, psg_var, psg_var);
static const pair_op pair_ops[] = { psg_add, psg_sub, psg_mul, psg_div };
enum { PAIR_OPS = 4 };

/* A shift of the non-batch shape costs no copy: the pass needs no more memory than with a frozen one, a few blocks
 * apart. */
static void a_shift_is_a_view(void **state) {
    (void)state;
    size_t bytes[2];
    for (int trainable = 0; trainable < 2; trainable++) {
        small_pass f;
        small_open_on(&f, 1, NULL);
        test_array x = test_array_normal(&f.random, PSG_F64, 3, (int64_t[]){ 8, 16, 32 }, TEST_CONTIGUOUS);
        test_array p = test_array_normal(&f.random, PSG_F64, 2, (int64_t[]){ 16, 32 }, TEST_CONTIGUOUS);
        psg_param *param;
        TEST_OK(f.context, psg_param_create(f.context, "p", &p.view, &param));
        psg_param_set_trainable(param, trainable);
        TEST_OK(f.context, psg_tape_begin(f.tape, NULL));
        psg_var in = psg_input_with_grad(f.tape, &x.view);
        psg_var out = psg_add(f.tape, in, psg_use(f.tape, param));
        TEST_OK(f.context, psg_backward_from(f.tape, out, NULL));
        bytes[trainable] = psg_tape_bytes(f.tape);
        psg_param_destroy(param);
        test_array_free(&x);
        test_array_free(&p);
        small_close(&f);
    }
    assert_true(bytes[1] < bytes[0] + 8 * 16 * 32 * sizeof(double) / 4);
}

/* ---- errors ---- */

static psg_param *param_of(small_pass *f, const test_array *array) {
    psg_param *param;
    TEST_OK(f->context, psg_param_create(f->context, "p", &array->view, &param));
    return param;
}

static test_array reals(small_pass *f, int rank, const int64_t *shape) {
    return test_array_normal(&f->random, PSG_F64, rank, shape, TEST_CONTIGUOUS);
}
#define REALS(f, ...) reals(f, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[]){ __VA_ARGS__ })

static void parameters_along_the_batch_are_refused(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 1, NULL);
    test_array x = REALS(&f, 4, 3), rows = REALS(&f, 4, 3), wide = REALS(&f, 5), deep = REALS(&f, 2, 4, 3);
    psg_param *by_row = param_of(&f, &rows), *misfit = param_of(&f, &wide), *outer = param_of(&f, &deep);
    for (int op = 0; op < PAIR_OPS; op++) {
        psg_tape_begin(f.tape, NULL);
        pair_ops[op](f.tape, psg_input(f.tape, &x.view), psg_use(f.tape, by_row));
        test_refused(f.tape, PSG_ERR_BATCH,
               "b is a parameter of shape (4, 3), which would run along the batch of the "
               "output; its size there must be 1");
        psg_tape_begin(f.tape, NULL);
        pair_ops[op](f.tape, psg_input(f.tape, &x.view), psg_use(f.tape, misfit));
        test_refused(f.tape, PSG_ERR_SHAPE, "a has shape (4, 3) and b (5), which do not broadcast");
        psg_tape_begin(f.tape, NULL);
        pair_ops[op](f.tape, psg_use(f.tape, outer), psg_input(f.tape, &x.view));
        test_refused(f.tape, PSG_ERR_BATCH, "a is a parameter of shape (2, 4, 3), which would run along");
        psg_tape_begin(f.tape, NULL);
        psg_input(f.tape, &x.view);
        pair_ops[op](f.tape, psg_use(f.tape, by_row), psg_use(f.tape, by_row));
        test_refused(f.tape, PSG_ERR_UNSUPPORTED, "has trainable parameters but no batched input");
        psg_tape_begin(f.tape, NULL);
        psg_input(f.tape, &x.view);
        pair_ops[op](f.tape, psg_use(f.tape, by_row), psg_constant(f.tape, &x.view));
        test_refused(f.tape, PSG_ERR_UNSUPPORTED, "has trainable parameters but no batched input");
    }
    /* 1 / loss is no sum over samples, loss / 2 is */
    test_array two = reals(&f, 0, (int64_t[]){ 0 });
    for (int k = 0; k < 2; k++) {
        psg_tape_begin(f.tape, NULL);
        psg_var loss = psg_mean(f.tape, psg_input(f.tape, &x.view), 2, (int[]){ 0, 1 }, 0);
        psg_var c = psg_constant(f.tape, &two.view);
        if (k) psg_div(f.tape, c, loss);
        else psg_div(f.tape, loss, c);
        if (k) test_refused(f.tape, PSG_ERR_BATCH, "div: b has shape ()");
        else assert_int_equal(psg_tape_status(f.tape), PSG_OK);
    }
    psg_param_destroy(by_row);
    psg_param_destroy(misfit);
    psg_param_destroy(outer);
    test_array_free(&x);
    test_array_free(&rows);
    test_array_free(&wide);
    test_array_free(&deep);
    test_array_free(&two);
    small_close(&f);
}

/* Two parameters make a value of an ordinary pass: their product's gradients are those of the whole sum. */
static void two_parameters_multiply_in_an_ordinary_pass(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 1, NULL);
    test_array a = REALS(&f, 2, 3), b = REALS(&f, 3), g = REALS(&f, 2, 3), sum = REALS(&f, 3);
    psg_param *pa = param_of(&f, &a), *pb = param_of(&f, &b);
    psg_pass pass = PSG_PASS_INIT;
    pass.ordinary = 1;
    TEST_OK(f.context, psg_tape_begin(f.tape, &pass));
    psg_var out = psg_mul(f.tape, psg_use(f.tape, pa), psg_use(f.tape, pb));
    TEST_OK(f.context, psg_backward_from(f.tape, out, &g.view));
    psg_gradient gradient;
    const psg_gradient *set = &gradient;
    TEST_OK(f.context, psg_gradient_of(f.tape, pb, &gradient));
    TEST_OK(f.context, psg_weighted_sum(f.context, &set, 1, NULL, PSG_OVERWRITE, &sum.view));
    for (int64_t j = 0; j < 3; j++) {
        double expected = test_get_at(&g.view, j) * test_get_at(&a.view, j) +
                          test_get_at(&g.view, 3 + j) * test_get_at(&a.view, 3 + j);
        test_near(test_get_at(&sum.view, j), expected, 1e-12, "product of parameters", j);
    }
    psg_param_destroy(pa);
    psg_param_destroy(pb);
    test_array_free(&a);
    test_array_free(&b);
    test_array_free(&g);
    test_array_free(&sum);
    small_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shift_is_a_view),
        cmocka_unit_test(parameters_along_the_batch_are_refused),
        cmocka_unit_test(two_parameters_multiply_in_an_ordinary_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
