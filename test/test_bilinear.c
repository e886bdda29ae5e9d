/* bilinear where the lines of test/cases do not go: memory. */
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bilinear_keeps_the_smaller_product),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
