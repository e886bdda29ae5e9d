/* matmul where the lines of test/cases do not go: leading dimensions of what is no input, and refusals. */
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

/* ---- refusals ---- */

typedef struct refusal {
    psg_role role[2];
    int rank[2];
    int64_t shape[2][5];
    bool batch_second;
    psg_status status;
    const char *text;
} refusal;

static const refusal refusals[] = {
    { { PSG_BATCHED, PSG_CONSTANT }, { 1, 2 }, { { 4 }, { 4, 5 } }, 0, PSG_ERR_BATCH, "the batch must" },
    { { PSG_BATCHED, PSG_CONSTANT }, { 2, 0 }, { { 3, 4 }, { 0 } }, 0, PSG_ERR_SHAPE, "of rank >= 1" },
    { { PSG_BATCHED, PSG_CONSTANT }, { 4, 3 }, { { 2, 3, 2, 4 }, { 3, 4, 5 } }, 1, PSG_ERR_BATCH, "what is no input" },
    { { PSG_BATCHED, PSG_CONSTANT }, { 3, 2 }, { { 2, 3, 4 }, { 5, 4 } }, 0, PSG_ERR_SHAPE, "dimension -2 of b" },
    { { PSG_BATCHED, PSG_BATCHED }, { 4, 4 }, { { 2, 3, 3, 4 }, { 2, 2, 4, 5 } }, 0, PSG_ERR_SHAPE, "broadcast" },
    { { PSG_BATCHED, PSG_BATCHED }, { 3, 4 }, { { 2, 3, 4 }, { 2, 2, 4, 5 } }, 0, PSG_ERR_BATCH, "the batch must" },
    { { PSG_BATCHED, PSG_BATCHED }, { 2, 2 }, { { 4, 4 }, { 4, 5 } }, 0, PSG_ERR_BATCH, "the batch must" },
    { { PSG_CONSTANT, PSG_BATCHED }, { 2, 2 }, { { 3, 4 }, { 4, 5 } }, 0, PSG_ERR_BATCH, "the batch must" },
    { { PSG_BATCHED, PSG_CONSTANT }, { 2, 3 }, { { 2, 4 }, { 3, 4, 5 } }, 0, PSG_ERR_BATCH, "the batch must" },
    { { PSG_BATCHED, PSG_BATCHED }, { 3, 3 }, { { 4, 2, 2 }, { 4, 2, 3 } }, 1, PSG_ERR_SHAPE, "dimension -2 of b" },
    { { PSG_BATCHED, PSG_PARAMETER }, { 3, 3 }, { { 2, 3, 4 }, { 2, 4, 5 } }, 0, PSG_ERR_BATCH,
      "what is no input of the pass must not have" },
};

static void shapes_that_do_not_fit_are_refused(void **state) {
    (void)state;
    for (const refusal *e = refusals; e < refusals + sizeof refusals / sizeof refusals[0]; e++) {
        small_pass f;
        psg_var var[2];
        small_open(&f);
        small_begin(&f, (psg_pass){ .batch_second = e->batch_second });
        for (int k = 0; k < 2; k++) {
            psg_tensor x = small_normal(&f, e->rank[k], e->shape[k]);
            var[k] = e->role[k] == PSG_PARAMETER ? psg_use(f.tape, small_parameter(&f, "w", e->rank[k], e->shape[k]))
                     : e->role[k] == PSG_BATCHED ? psg_input(f.tape, &x) : psg_constant(f.tape, &x);
        }
        psg_matmul(f.tape, var[0], var[1]);
        test_refused(f.tape, e->status, e->text);
        small_close(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leading_dimensions_line_up_as_the_caller_sees_them),
        cmocka_unit_test(shapes_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
