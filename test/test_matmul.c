/* matmul where the lines of test/cases do not go: leading dimensions of what is no input. */
#include "small_pass.h"

/* y[l] = a[l] b[l] over a leading dimension of b, which is no input: the positions in front of the batch (b a
 * parameter), or the batch itself (b a constant). */
static void leading_dimensions_line_up_as_the_caller_sees_them(void **state) {
    (void)state;
    enum { L = 3, M = 2, K = 4, N = 5 };
    for (int second = 0; second < 2; second++) {
        small_pass f;
        small_open(&f);
        psg_tensor a = small_normal(&f, SHAPE(L, M, K)), go = small_normal(&f, SHAPE(L, M, N)), y;
        psg_param *w = small_parameter(&f, "w", SHAPE(L, K, N));
        const psg_tensor *b = psg_param_value(w);
        small_begin(&f, (psg_pass){ .batch_second = second });
        psg_var in = psg_input(f.tape, &a), out = psg_matmul(f.tape, in, second ? psg_use(f.tape, w)
                                                                                 : psg_constant(f.tape, b));
        small_backward(&f, out, &go);
        TEST_OK(f.context, psg_value(f.tape, out, &y));
        const double *grad = second ? small_grad_sample(&f, w) : NULL;
        for (int64_t k = 0; k < L * M * N; k++) {
            int64_t l = k / (M * N), m = k / N % M, n = k % N;
            double sum = 0;
            for (int64_t i = 0; i < K; i++) {
                double x = test_get3(&a, l, m, i);
                sum += x * test_get3(b, l, i, n);
                if (grad) test_near(grad[((m * L + l) * K + i) * N + n], x * test_get3(&go, l, m, n), 1e-14, "grad", k);
            }
            test_near(test_get_at(&y, k), sum, 1e-14, "y", k);
        }
        small_close(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leading_dimensions_line_up_as_the_caller_sees_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
