/* Of the shape ops, what the lines of test/cases cannot say: cat and stack take any number of inputs, also more than a
 * call has; unfold takes steps of any length. */
#include "small_pass.h"

enum { MANY = 40, ROWS = 3, COLUMNS = 5 };

/* Row r of the output is row r of the inputs, one after the other; so are the gradients. */
static void check_joined(small_pass *f, const psg_tensor *x, const psg_var *in, int count, psg_var out) {
    psg_tensor y, grad;
    TEST_OK(f->context, psg_value(f->tape, out, &y));
    small_backward(f, out, &y); /* then the gradients are the inputs */
    int64_t columns = psg_tensor_count(&y) / ROWS, first = 0;
    for (int k = 0; k < count; k++) {
        int64_t width = psg_tensor_count(&x[k]) / ROWS;
        TEST_OK(f->context, psg_input_grad(f->tape, in[k], &grad));
        assert_true(test_same_bits(&x[k], &grad));
        for (int64_t i = 0; i < ROWS * width; i++) {
            int64_t at = i / width * columns + first + i % width;
            test_near(test_get_at(&y, at), test_get_at(&x[k], i), 0, "joined", at);
        }
        first += width;
    }
    assert_int_equal(first, columns);
}

static void any_number_of_inputs_is_joined(void **state) {
    (void)state;
    for (int stacked = 0; stacked < 2; stacked++) {
        for (int count = 1; count <= MANY; count += 13) {
            small_pass f;
            psg_tensor x[MANY];
            psg_var in[MANY];
            small_open(&f);
            small_begin(&f, (psg_pass)PSG_PASS_INIT);
            for (int k = 0; k < count; k++) {
                x[k] = small_normal(&f, SHAPE(ROWS, stacked ? COLUMNS : k % COLUMNS));
                in[k] = psg_input_with_grad(f.tape, &x[k]);
            }
            psg_var out = stacked ? psg_stack(f.tape, in, count, 1) : psg_cat(f.tape, in, count, -1);
            check_joined(&f, x, in, count, out);
            small_close(&f);
        }
    }
}

/* One window fits, at place 0, whatever the step: column k is the padded image's element k. */
static void windows_of_long_steps(void **state) {
    (void)state;
    const psg_unfold_options options = { .kernel = { 3, 3 }, .padding = { 2, 2 }, .stride = { INT64_MAX, INT64_MAX } };
    small_pass f;
    psg_tensor columns;
    small_open(&f);
    small_begin(&f, (psg_pass)PSG_PASS_INIT);
    psg_tensor image = small_normal(&f, SHAPE(1, 1, 3, 3));
    psg_var y = psg_unfold(f.tape, psg_input(f.tape, &image), &options);
    small_backward(&f, y, NULL);
    TEST_OK(f.context, psg_value(f.tape, y, &columns));
    assert_int_equal(psg_tensor_count(&columns), 9);
    for (int64_t k = 0; k < 9; k++) assert_true(test_get_at(&columns, k) == (k == 8 ? test_get_at(&image, 0) : 0));
    small_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_inputs_is_joined),
        cmocka_unit_test(windows_of_long_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
