/* bilinear and prelu where the lines of test/cases do not go: memory, and what is refused in which words. */
#include "small_pass.h"

static test_array reals(small_pass *f, psg_dtype dtype, int rank, const int64_t *shape) {
    return test_array_normal(&f->random, dtype, rank, shape, TEST_CONTIGUOUS);
}

/* Of the outer products only the smaller is kept: (g (x) x1) of 32 elements a sample, (x1 (x) x2) of 3200; with more
 * positions than outputs and inputs, the gradients themselves. */
static void bilinear_keeps_the_smaller_product(void **state) {
    (void)state;
    static const int64_t sizes[][4] = { { 1, 2, 16, 200 }, { 1, 200, 16, 2 }, { 500, 4, 4, 4 } };   /* T, O, I1, I2 */
    small_pass f;
    small_open_on(&f, 1, NULL);
    for (int k = 0; k < 3; k++) {
        int64_t positions = sizes[k][0], out = sizes[k][1], in1 = sizes[k][2], in2 = sizes[k][3];
        test_array x1 = reals(&f, PSG_F64, 3, (int64_t[]){ 64, positions, in1 });
        test_array x2 = reals(&f, PSG_F64, 3, (int64_t[]){ 64, positions, in2 });
        test_array w = reals(&f, PSG_F64, 3, (int64_t[]){ out, in1, in2 });
        psg_param *param;
        TEST_OK(f.context, psg_param_create(f.context, "weight", &w.view, &param));
        size_t bytes[2];
        for (int trainable = 0; trainable < 2; trainable++) {
            psg_tape *tape;
            TEST_OK(f.context, psg_tape_create(f.context, &tape));
            psg_param_set_trainable(param, trainable);
            TEST_OK(f.context, psg_tape_begin(tape, NULL));
            psg_var y = psg_bilinear(tape, psg_input_with_grad(tape, &x1.view), psg_input(tape, &x2.view),
                                     psg_use(tape, param), psg_none());
            TEST_OK(f.context, psg_backward_from(tape, y, NULL));
            bytes[trainable] = psg_tape_bytes(tape);
            psg_tape_destroy(tape);
        }
        assert_true(bytes[1] < bytes[0] + 2 * 64 * 64 * sizeof(double));
        psg_param_destroy(param);
        test_array_free(&x1);
        test_array_free(&x2);
        test_array_free(&w);
    }
    small_close(&f);
}

static void bilinear_shapes_that_do_not_fit_are_refused(void **state) {
    (void)state;
    static const struct {
        int64_t x1[2], x2[2], w[3], b;
        psg_status status;
        const char *text;
    } cases[] = {
        { { 4, 3 }, { 5, 2 }, { 6, 3, 2 }, 6, PSG_ERR_SHAPE, "input1 has shape (4, 3) and input2 (5, 2)" },
        { { 4, 3 }, { 4, 2 }, { 6, 2, 2 }, 6, PSG_ERR_SHAPE, "weight has shape (6, 2, 2), must be (out, 3, 2)" },
        { { 4, 3 }, { 4, 2 }, { 6, 3, 2 }, 5, PSG_ERR_SHAPE, "bias must have shape (6), has (5)" },
    };
    small_pass f;
    small_open_on(&f, 1, NULL);
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        test_array x1 = reals(&f, PSG_F64, 2, cases[k].x1), x2 = reals(&f, PSG_F64, 2, cases[k].x2);
        test_array w = reals(&f, PSG_F64, 3, cases[k].w), b = reals(&f, PSG_F64, 1, &cases[k].b);
        psg_pass pass = PSG_PASS_INIT;
        pass.batch_size = 4;
        TEST_OK(f.context, psg_tape_begin(f.tape, &pass));
        psg_bilinear(f.tape, psg_input(f.tape, &x1.view), psg_input(f.tape, &x2.view), psg_constant(f.tape, &w.view),
                     psg_constant(f.tape, &b.view));
        test_refused(f.tape, cases[k].status, cases[k].text);
        test_array_free(&x1);
        test_array_free(&x2);
        test_array_free(&w);
        test_array_free(&b);
    }
    test_array x = reals(&f, PSG_F64, 1, (int64_t[]){ 4 }), w = reals(&f, PSG_F64, 3, (int64_t[]){ 2, 4, 4 });
    psg_tape_begin(f.tape, NULL);
    psg_bilinear(f.tape, psg_input(f.tape, &x.view), psg_input(f.tape, &x.view), psg_constant(f.tape, &w.view),
                 psg_none());
    test_refused(f.tape, PSG_ERR_SHAPE, "must be (N, *, in1) and (N, *, in2)");
    test_array y = reals(&f, PSG_F64, 2, (int64_t[]){ 2, 4 }), table = reals(&f, PSG_F64, 3, (int64_t[]){ 2, 4, 4 });
    psg_tape_begin(f.tape, NULL);
    psg_bilinear(f.tape, psg_input(f.tape, &y.view), psg_input(f.tape, &y.view), psg_input(f.tape, &table.view),
                 psg_none());
    test_refused(f.tape, PSG_ERR_UNSUPPORTED, "weight is computed in this pass, must be a parameter or a constant");
    test_array_free(&x);
    test_array_free(&y);
    test_array_free(&w);
    test_array_free(&table);
    small_close(&f);
}

static void prelu_shapes_that_do_not_fit_are_refused(void **state) {
    (void)state;
    small_pass f;
    small_open_on(&f, 1, NULL);
    test_array x = reals(&f, PSG_F64, 3, (int64_t[]){ 4, 3, 5 }), five = reals(&f, PSG_F64, 1, (int64_t[]){ 5 });
    test_array square = reals(&f, PSG_F64, 2, (int64_t[]){ 3, 1 });
    const test_array *wrong[] = { &five, &square };
    for (int k = 0; k < 2; k++) {
        psg_tape_begin(f.tape, NULL);
        psg_prelu(f.tape, psg_input(f.tape, &x.view), psg_constant(f.tape, &wrong[k]->view));
        test_refused(f.tape, PSG_ERR_SHAPE, "prelu: weight must have shape (), (1) or (3), one element a channel, has ");
    }
    test_array_free(&x);
    test_array_free(&five);
    test_array_free(&square);
    small_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bilinear_keeps_the_smaller_product),
        cmocka_unit_test(bilinear_shapes_that_do_not_fit_are_refused),
        cmocka_unit_test(prelu_shapes_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
