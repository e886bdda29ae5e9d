/* How a pass learns whether its loss is a sum or a mean over the samples, and what it refuses. */
#include <string.h>

#include "psg/ops.h"
#include "small_pass.h"
#include "toy_ops.h"

enum { B = 5, IN = 4, CLASSES = 3 };

typedef struct fixture {
    small_pass f;
    psg_param *weight;
    psg_tensor x, labels;
} fixture;

static void open_fixture(fixture *n) {
    small_open(&n->f);
    n->weight = small_parameter(&n->f, "weight", SHAPE(CLASSES, IN));
    n->x = small_normal(&n->f, SHAPE(B, IN));
    n->labels = small_integers(&n->f, (int64_t[]){ 2, 0, 1, 1, 2 }, SHAPE(B));
}

/* An op that reduces the batch and does not tell. */
static psg_status silent_shape(psg_call *call) {
    psg_status status = toy_sum.shape(call);
    call->reduces = PSG_LOSS_FOLLOW;
    return status;
}

static psg_var silent_mean(psg_tape *tape, psg_var x) {
    static psg_op op;
    op = toy_sum;
    op.shape = silent_shape;
    return psg_record(tape, &op, &x, 1, &(toy_sum_attributes){ 1 });
}

typedef enum made { SUM, MEAN, SCALED_MEAN, TWO_MEANS, MEAN_OF_KEPT, SUM_OF_KEPT, SILENT, MIXED, MADE } made;

static psg_var cross_entropy(const fixture *n, psg_var y, psg_reduction reduction) {
    psg_cross_entropy_options options = { .reduction = reduction };
    return psg_cross_entropy(n->f.tape, y, psg_input(n->f.tape, &n->labels), &options);
}

static psg_var loss_of(const fixture *n, psg_var y, made how) {
    psg_tape *tape = n->f.tape;
    switch (how) {
    case SUM: return cross_entropy(n, y, PSG_SUM);
    case MEAN: return cross_entropy(n, y, PSG_MEAN);
    case SCALED_MEAN: return psg_scale(tape, cross_entropy(n, y, PSG_MEAN), 0.5);
    case TWO_MEANS: return psg_add(tape, cross_entropy(n, y, PSG_MEAN), psg_mean(tape, y, 2, (int[]){ 0, 1 }, 0));
    case MEAN_OF_KEPT: return psg_mean(tape, cross_entropy(n, y, PSG_NONE), 1, (int[]){ 0 }, 0);
    case SUM_OF_KEPT: return psg_sum(tape, cross_entropy(n, y, PSG_NONE), 1, (int[]){ 0 }, 0);
    case SILENT: return silent_mean(tape, cross_entropy(n, y, PSG_NONE));
    default: return psg_add(tape, cross_entropy(n, y, PSG_MEAN), psg_sum(tape, y, 2, (int[]){ 0, 1 }, 0));
    }
}

static psg_status walk(fixture *n, made how, psg_loss_reduction declared, const psg_tensor *x) {
    psg_pass pass = PSG_PASS_INIT;
    pass.loss_reduction = declared;
    small_begin(&n->f, pass);
    psg_var y = psg_linear(n->f.tape, psg_input(n->f.tape, x), psg_use(n->f.tape, n->weight), psg_none());
    return psg_backward(n->f.tape, loss_of(n, y, how));
}

/* Sample by sample what a pass over it alone gives: the definition, for every way to make a loss. */
static void gradients_are_those_of_a_sample_alone(void **state) {
    (void)state;
    fixture n;
    open_fixture(&n);
    for (int how = 0; how < MIXED; how++) {
        psg_loss_reduction declared = how == SILENT ? PSG_LOSS_MEAN : PSG_LOSS_FOLLOW;
        TEST_OK(n.f.context, walk(&n, (made)how, declared, &n.x));
        const double *all = small_grad_sample(&n.f, n.weight);
        fixture one = n;
        one.x.shape[0] = one.labels.shape[0] = 1;
        for (int k = 0; k < B; k++) {
            one.x.data = (double *)n.x.data + k * IN;
            one.labels.data = (int64_t *)n.labels.data + k;
            TEST_OK(n.f.context, walk(&one, (made)how, declared, &one.x));
            const double *alone = small_grad_sample(&one.f, n.weight);
            n.f = one.f;   /* its arrays */
            for (int i = 0; i < CLASSES * IN; i++) {
                double most = how == SILENT ? 0x1p-50 : 0;   /* its 1 / B is rounded before B is known to it */
                test_near(all[k * CLASSES * IN + i], alone[i], most, "alone", i);
            }
        }
    }
    small_close(&n.f);
}

static void check_refused(fixture *n, made how, psg_loss_reduction declared, const char *first, const char *second) {
    assert_int_equal(walk(n, how, declared, &n->x), PSG_ERR_STATE);
    const char *message = psg_tape_message(n->f.tape);
    if (!strstr(message, first) || !strstr(message, second)) fail_msg("\"%s\" lacks %s or %s", message, first, second);
}

static void what_contradicts_is_refused(void **state) {
    (void)state;
    fixture n;
    open_fixture(&n);
    check_refused(&n, MEAN, PSG_LOSS_SUM, "declares a sum", "cross_entropy takes the mean");
    check_refused(&n, SCALED_MEAN, PSG_LOSS_SUM, "declares a sum", "cross_entropy takes the mean");
    check_refused(&n, SUM, PSG_LOSS_MEAN, "declares a mean", "cross_entropy takes the sum");
    check_refused(&n, SUM_OF_KEPT, PSG_LOSS_MEAN, "declares a mean", "sum takes the sum");
    check_refused(&n, MIXED, PSG_LOSS_FOLLOW, "mean of cross_entropy", "sum of sum");
    check_refused(&n, SILENT, PSG_LOSS_FOLLOW, "toy_sum", "declare psg_pass.loss_reduction");
    assert_int_equal(walk(&n, MEAN, PSG_LOSS_MEAN, &n.x), PSG_OK);
    assert_int_equal(walk(&n, SUM, PSG_LOSS_SUM, &n.x), PSG_OK);
    small_close(&n.f);
}

/* A factor of the loss, as psg_backward_from's one-element gradient, is a factor of every sample's own. */
static void a_given_factor_is_followed(void **state) {
    (void)state;
    fixture n;
    open_fixture(&n);
    TEST_OK(n.f.context, walk(&n, MEAN, PSG_LOSS_FOLLOW, &n.x));
    const double *plain = small_grad_sample(&n.f, n.weight);
    psg_tensor factor = small_zeros(&n.f, PSG_F64, 0, NULL);
    test_set_at(&factor, 0, 1024);
    small_begin(&n.f, (psg_pass)PSG_PASS_INIT);
    psg_var y = psg_linear(n.f.tape, psg_input(n.f.tape, &n.x), psg_use(n.f.tape, n.weight), psg_none());
    small_backward(&n.f, loss_of(&n, y, MEAN), &factor);
    const double *scaled = small_grad_sample(&n.f, n.weight);
    for (int i = 0; i < B * CLASSES * IN; i++) assert_true(scaled[i] == 1024 * plain[i]);
    small_close(&n.f);
}

/* A caller's gradient is taken at its word, but ones are no gradient of a mean. */
static void ones_are_of_a_sum(void **state) {
    (void)state;
    fixture n;
    open_fixture(&n);
    for (int declared = PSG_LOSS_FOLLOW; declared <= PSG_LOSS_MEAN; declared++) {
        small_begin(&n.f, (psg_pass){ .loss_reduction = (psg_loss_reduction)declared });
        psg_var y = psg_linear(n.f.tape, psg_input(n.f.tape, &n.x), psg_use(n.f.tape, n.weight), psg_none());
        psg_status status = psg_backward_from(n.f.tape, y, NULL);
        assert_int_equal(status, declared == PSG_LOSS_MEAN ? PSG_ERR_STATE : PSG_OK);
    }
    assert_non_null(strstr(psg_tape_message(n.f.tape), "all ones"));
    small_close(&n.f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_those_of_a_sample_alone),
        cmocka_unit_test(what_contradicts_is_refused),
        cmocka_unit_test(a_given_factor_is_followed),
        cmocka_unit_test(ones_are_of_a_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
