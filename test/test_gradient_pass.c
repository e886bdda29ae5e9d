/* A gradient belongs to its pass: once the pass is over, whose memory the next one takes, every question refuses it. */
#include "small_pass.h"

#include <string.h>

enum { B = 4, IN = 5, OUT = 3 };

typedef struct taken {
    psg_param *weight;
    psg_gradient gradient;
} taken;

static void run(small_pass *f, psg_tape *tape, const psg_tensor *x, psg_param *weight, psg_gradient *gradient) {
    psg_pass pass = PSG_PASS_INIT;
    TEST_OK(f->context, psg_tape_begin(tape, &pass));
    psg_var y = psg_linear(tape, psg_input(tape, x), psg_use(tape, weight), psg_none());
    TEST_OK(f->context, psg_backward_from(tape, y, NULL));
    TEST_OK(f->context, psg_gradient_of(tape, weight, gradient));
}

static taken take(small_pass *f, psg_tensor *x) {
    taken t;
    *x = small_normal(f, 2, (int64_t[]){ B, IN });
    t.weight = small_parameter(f, "weight", 2, (int64_t[]){ OUT, IN });
    run(f, f->tape, x, t.weight, &t.gradient);
    return t;
}

enum { ASKED = 9, CELLS = B * OUT * IN };

/* Every question, its outputs 7 before. */
typedef struct replies {
    psg_status status[ASKED];
    double out[CELLS], sums[CELLS], numbers[B], upper[B], gram[B * B], rows[CELLS];
    int64_t ids[B], counts[B];
    char text[1024];
} replies;

static void ask_all(psg_context *context, const psg_gradient *gradient, replies *r) {
    static const double direction[OUT * IN] = { 1 };
    double *doubles[] = { r->out, r->sums, r->numbers, r->upper, r->gram, r->rows };
    const int counts[] = { CELLS, CELLS, B, B, B * B, CELLS };
    for (int k = 0; k < 6; k++) for (int e = 0; e < counts[k]; e++) doubles[k][e] = 7;
    for (int n = 0; n < B; n++) r->ids[n] = r->counts[n] = 7;
    strcpy(r->text, "7");
    const psg_gradient *set = gradient;
    psg_clip clip = { .max_grad_norm = 1, .max_batch_size = B };
    psg_tensor out = psg_tensor_of(PSG_F64, r->out, 3, (int64_t[]){ B, OUT, IN });
    psg_tensor sums = psg_tensor_of(PSG_F64, r->sums, 2, (int64_t[]){ OUT, IN });
    psg_tensor to = psg_tensor_of(PSG_F64, (void *)(uintptr_t)direction, 2, (int64_t[]){ OUT, IN });
    psg_tensor ids = psg_tensor_of(PSG_I64, r->ids, 2, (int64_t[]){ B, 1 });
    psg_tensor rows = psg_tensor_of(PSG_F64, r->rows, 3, (int64_t[]){ B, 1, IN });
    r->status[0] = psg_grad_sample(context, gradient, 1, PSG_OVERWRITE, &out);
    r->status[1] = psg_sqnorm(context, &set, 1, r->numbers, r->upper, NULL);
    r->status[2] = psg_weighted_sum(context, &set, 1, NULL, PSG_OVERWRITE, &sums);
    r->status[3] = psg_clipped_sum(context, &set, 1, &clip, PSG_OVERWRITE, &sums, r->numbers, r->upper, NULL);
    r->status[4] = psg_dot(context, &set, 1, &to, r->numbers);
    r->status[5] = psg_gram(context, &set, 1, r->gram);
    r->status[6] = psg_sum_of_squares(context, &set, 1, PSG_OVERWRITE, &sums);
    r->status[7] = psg_plan_text(context, PSG_ASK_SQNORM, &set, 1, NULL, r->text, sizeof r->text, NULL);
    r->status[8] = psg_grad_sample_sparse(context, gradient, 1, &ids, &rows, r->counts);
}

static bool is_untouched(const replies *r) {
    const double *doubles[] = { r->out, r->sums, r->numbers, r->upper, r->gram, r->rows };
    const int counts[] = { CELLS, CELLS, B, B, B * B, CELLS };
    for (int k = 0; k < 6; k++) for (int e = 0; e < counts[k]; e++) if (doubles[k][e] != 7) return false;
    for (int n = 0; n < B; n++) if (r->ids[n] != 7 || r->counts[n] != 7) return false;
    return !strcmp(r->text, "7");
}

static void check_over(psg_context *context, const psg_gradient *gradient, const char *how) {
    replies r;
    ask_all(context, gradient, &r);
    for (int k = 0; k < ASKED; k++) test_status(context, r.status[k], PSG_ERR_STATE, how);
    assert_non_null(strstr(psg_context_message(context), "of a pass that is over"));
    if (!is_untouched(&r)) fail_msg("%s: an output was written", how);
}

/* The last question is for tables. */
static void check_lives(psg_context *context, const psg_gradient *gradient, const char *how) {
    replies r;
    ask_all(context, gradient, &r);
    for (int k = 0; k < ASKED - 1; k++) test_status(context, r.status[k], PSG_OK, how);
    test_status(context, r.status[8], PSG_ERR_UNSUPPORTED, how);
}

/* ---- how a pass ends ---- */

static void a_pass_ends_with_the_next(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_tensor x;
    taken t = take(&f, &x);
    check_lives(f.context, &t.gradient, "before");
    psg_gradient again;
    TEST_OK(f.context, psg_gradient_of(f.tape, t.weight, &again));
    TEST_OK(f.context, psg_tape_begin(f.tape, NULL));
    check_over(f.context, &t.gradient, "begun anew");
    check_over(f.context, &again, "begun anew");
    run(&f, f.tape, &x, t.weight, &again);
    check_over(f.context, &t.gradient, "after the next");
    check_lives(f.context, &again, "the next");
    small_close(&f);
}

/* A set is refused when one of its gradients is over. */
static void a_set_holds_no_gradient_of_another_pass(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_tensor x;
    taken t = take(&f, &x);
    psg_gradient now;
    run(&f, f.tape, &x, t.weight, &now);
    double square[B] = { 7 };
    const psg_gradient *set[] = { &now, &t.gradient };
    test_status(f.context, psg_sqnorm(f.context, set, 2, square, NULL, NULL), PSG_ERR_STATE, "set");
    assert_non_null(strstr(psg_context_message(f.context), "gradients[1]: of a pass that is over"));
    assert_true(square[0] == 7);
    small_close(&f);
}

static void a_pass_ends_when_its_tape_reserves(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_tensor x;
    taken t = take(&f, &x);
    TEST_OK(f.context, psg_tape_reserve(f.tape, (size_t)1 << 20));
    check_over(f.context, &t.gradient, "reserved");
    small_close(&f);
}

static void a_pass_ends_with_its_tape(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_tensor x;
    taken t = take(&f, &x);
    psg_tape *other;
    psg_gradient kept;
    TEST_OK(f.context, psg_tape_create(f.context, &other));
    run(&f, other, &x, t.weight, &kept);
    psg_tape_destroy(f.tape);
    check_over(f.context, &t.gradient, "tape destroyed");
    check_lives(f.context, &kept, "the other tape's");
    TEST_OK(f.context, psg_tape_create(f.context, &f.tape));
    check_over(f.context, &t.gradient, "a new tape");
    check_lives(f.context, &kept, "the other tape's");
    psg_tape_destroy(other);
    check_over(f.context, &kept, "the other tape destroyed");
    small_close(&f);
}

/* Passes of several tapes live at once, in any order. */
static void tapes_end_their_own_passes_alone(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_tensor x;
    taken first = take(&f, &x);
    psg_tape *tape[3];
    psg_gradient gradient[3];
    for (int k = 0; k < 3; k++) {
        TEST_OK(f.context, psg_tape_create(f.context, &tape[k]));
        run(&f, tape[k], &x, first.weight, &gradient[k]);
    }
    check_lives(f.context, &first.gradient, "first");
    TEST_OK(f.context, psg_tape_begin(tape[1], NULL));
    check_over(f.context, &gradient[1], "second of three");
    check_lives(f.context, &gradient[0], "first of three");
    check_lives(f.context, &gradient[2], "third of three");
    psg_tape_destroy(tape[2]);
    check_over(f.context, &gradient[2], "third of three");
    check_lives(f.context, &gradient[0], "first of three");
    check_lives(f.context, &first.gradient, "first");
    psg_tape_destroy(tape[0]);
    psg_tape_destroy(tape[1]);
    small_close(&f);
}

/* ---- whose passes ---- */

static void a_callers_own_arrays_have_no_pass(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_tensor x;
    taken t = take(&f, &x);
    psg_tensor g = small_normal(&f, 2, (int64_t[]){ B, OUT });
    psg_block block = psg_factored(&g, &x);
    psg_gradient own = psg_gradient_of_blocks(&block, 1, 2, (int64_t[]){ OUT, IN });
    assert_int_equal(own.pass, 0);
    assert_true(t.gradient.pass != 0);
    TEST_OK(f.context, psg_tape_begin(f.tape, NULL));
    check_lives(f.context, &own, "raw");
    psg_tape_destroy(f.tape);
    f.tape = NULL;
    check_lives(f.context, &own, "raw, without a tape");
    small_close(&f);
}

/* A context knows its own tapes' passes: one without tapes has none. */
static void contexts_have_their_own_passes(void **state) {
    (void)state;
    small_pass f;
    small_open(&f);
    psg_tensor x;
    taken t = take(&f, &x);
    psg_context *other = test_context(1, NULL);
    check_over(other, &t.gradient, "another context");
    psg_tape *tape;
    TEST_OK(other, psg_tape_create(other, &tape));
    check_over(other, &t.gradient, "another context's idle tape");
    psg_tape_destroy(tape);
    check_lives(f.context, &t.gradient, "its own");
    psg_context_destroy(other);
    small_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pass_ends_with_the_next),
        cmocka_unit_test(a_set_holds_no_gradient_of_another_pass),
        cmocka_unit_test(a_pass_ends_when_its_tape_reserves),
        cmocka_unit_test(a_pass_ends_with_its_tape),
        cmocka_unit_test(tapes_end_their_own_passes_alone),
        cmocka_unit_test(a_callers_own_arrays_have_no_pass),
        cmocka_unit_test(contexts_have_their_own_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
