/* Parameters in elementwise ops where the lines of test/cases do not go: memory, two parameters. */
#include <stdlib.h>
#include <string.h>

#include "small_pass.h"

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

static psg_param *param_of(small_pass *f, const test_array *array) {
    psg_param *param;
    TEST_OK(f->context, psg_param_create(f->context, "p", &array->view, &param));
    return param;
}

static test_array reals(small_pass *f, int rank, const int64_t *shape) {
    return test_array_normal(&f->random, PSG_F64, rank, shape, TEST_CONTIGUOUS);
}
#define REALS(f, ...) reals(f, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[]){ __VA_ARGS__ })

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
        cmocka_unit_test(two_parameters_multiply_in_an_ordinary_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
