/* Gradients, linear algebra and tapes in a host's floating-point environment. */
#include <string.h>

#include "gradient_fixture.h"
#include "host_floats.h"

/* ---- gradients ---- */

enum { BATCH = 6 };

/* Sample 1 has products that are denormal, sample 2 denormal operands. */
static fixture fixture_of(psg_dtype dtype, int64_t positions) {
    fixture f;
    test_random random = { 7 };
    const double root = dtype == PSG_F32 ? 1e-20 : 1e-155, least = dtype == PSG_F32 ? 1e-39 : 1e-309;
    fixture_layer(&f, &random, dtype, BATCH, positions, 9, 17);
    for (size_t k = 0; k < f.array_count; k++) {
        const psg_tensor *x = &f.array[k].view;
        for (int64_t e = 0, each = psg_tensor_count(x) / BATCH; e < each; e++) {
            test_set_at(x, each + e, test_get_at(x, each + e) * root);
            test_set_at(x, 2 * each + e, test_get_at(x, 2 * each + e) * least);
        }
    }
    return f;
}

static void ask(psg_context *context, const fixture *f, psg_question question) {
    test_random random = { 99 };
    answers a;
    char text[4096];
    answers_new(&a, f, &random, PSG_F64, PSG_OVERWRITE);
    HOST_OK(answers_ask(&a, context, f, question, PSG_OVERWRITE));
    uint64_t found = answers_hash(&a);
    host_see(&found, sizeof found);
    HOST_OK(psg_plan_text(context, question, f->pointer, f->count, NULL, text, sizeof text, NULL));
    host_see(text, strlen(text));
    answers_free(&a);
}

static void questions(psg_context *context) {
    static const int64_t positions[] = { 1, 5, 40 };
    for (int round = 0; round < 6; round++) {
        fixture f = fixture_of(round % 2 ? PSG_F64 : PSG_F32, positions[round / 2]);
        for (int q = 0; q < PSG_QUESTION_COUNT; q++) ask(context, &f, (psg_question)q);
        fixture_free(&f);
    }
}

/* T = 1, one product of a denormal and 1: an upper bound is above it. */
static void tiny_norm(psg_context *context) {
    float g = 1e-39f, x = 1, least = 1e-25f;
    double sqnorm[1], upper[1];
    for (int round = 0; round < 2; round++) {
        psg_tensor tg = psg_f32_3d(round ? &least : &g, 1, 1, 1), tx = psg_f32_3d(round ? &least : &x, 1, 1, 1);
        psg_block block = psg_factored(&tg, &tx);
        psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, (const int64_t[]){ 1, 1 });
        HOST_OK(psg_sqnorm(context, (const psg_gradient *[]){ &gradient }, 1, sqnorm, upper, NULL));
        double exact = round ? (double)least * least : g;
        assert_true(upper[0] >= exact * exact);
        host_see_double(sqnorm[0]);
        host_see_double(upper[0]);
    }
}

static void clip_factors(psg_context *context) {
    double upper[BATCH] = { 0.1, 3, 1e-310, 7.7, 1 / 3., 1e10 }, total[BATCH] = { 0.3, 0.1, 1e-310, 1, 2, 3 };
    double factors[BATCH];
    psg_clip clip = { .max_grad_norm = 0.7, .max_batch_size = 100 };
    HOST_OK((psg_add_upper(BATCH, upper, total), PSG_OK));
    HOST_OK(psg_clip_factors(context, &clip, total, BATCH, factors, NULL));
    host_see(total, sizeof total);
    host_see(factors, sizeof factors);
}

/* ---- linear algebra ---- */

static void linear_algebra(psg_context *context) {
    fixture f = fixture_of(PSG_F64, 5);
    test_random random = { 3 };
    double gram[BATCH * BATCH], values[BATCH], vectors[BATCH * BATCH], error, rank;
    answers a;
    answers_new(&a, &f, &random, PSG_F64, PSG_OVERWRITE);
    HOST_OK(psg_gram(context, f.pointer, f.count, gram));
    HOST_OK(psg_gram_spectrum(context, gram, BATCH, values, vectors));
    HOST_OK((rank = psg_effective_rank(values, BATCH), PSG_OK));
    HOST_OK(psg_natural_gradient(context, f.pointer, f.count, 0.1, a.directions, a.sums, &error));
    uint64_t found = answers_hash(&a);
    host_see(&found, sizeof found);
    HOST_OK(psg_natural_gradient_of_sum(context, f.pointer, f.count, 0.1, NULL, a.sums, &error));
    found = answers_hash(&a);
    host_see(&found, sizeof found);
    host_see(values, sizeof values);
    host_see(vectors, sizeof vectors);
    host_see_double(error);
    host_see_double(rank);
    answers_free(&a);
    fixture_free(&f);
}

/* ---- a tape ---- */

enum { IN = 33, HIDDEN = 20, CLASSES = 7 };

typedef struct values {
    float x[64 * IN], weight[HIDDEN * IN], scale[HIDDEN], cosine[CLASSES * HIDDEN], out[64 * CLASSES];
    int64_t labels[64], ids[64];
} values;

static void draw(float *x, size_t count, double scale) {
    test_random random = { count };
    for (size_t k = 0; k < count; k++) x[k] = (float)(scale * test_normal(&random));
}

static psg_var output_of(psg_tape *tape, const values *v, psg_param *const *param) {
    psg_tensor x = psg_f32_2d(v->x, 64, IN);
    psg_var h = psg_linear(tape, psg_input(tape, &x), psg_use(tape, param[0]), psg_none());
    h = psg_gelu(tape, psg_layer_norm(tape, h, 1, (const int64_t[]){ HIDDEN }, psg_use(tape, param[1]),
                                      psg_none(), 1e-5), 0);
    return psg_cosine_linear(tape, psg_tanh(tape, psg_dropout(tape, h, 0.3)), psg_use(tape, param[2]), 1 / 3., 1e-8);
}

/* Shows the output; the loss is the output's entropy, or the output itself from a gradient. */
static psg_status step(psg_tape *tape, const values *v, psg_param *const *param, psg_tensor *shown, bool from) {
    psg_pass pass = PSG_PASS_INIT;
    psg_tensor labels = psg_i64_1d(v->labels, 64), grad = psg_f32_2d(v->out, 64, CLASSES);
    pass.dropout_seed = 5;
    pass.sample_ids = v->ids;
    psg_status status = psg_tape_begin(tape, &pass);
    psg_var y = output_of(tape, v, param);
    if (!status) status = psg_value(tape, y, shown);
    if (status || from) return status ? status : psg_backward_from(tape, y, &grad);
    return psg_backward(tape, psg_cross_entropy(tape, y, psg_constant(tape, &labels), NULL));
}

static void see_gradient(psg_context *context, psg_tape *tape, const psg_param *param) {
    double upper[64], sqnorm[64];
    psg_gradient gradient;
    HOST_OK(psg_gradient_of(tape, param, &gradient));
    HOST_OK(psg_sqnorm(context, (const psg_gradient *[]){ &gradient }, 1, sqnorm, upper, NULL));
    host_see(upper, sizeof upper);
    host_see(sqnorm, sizeof sqnorm);
}

static void tapes(psg_context *context) {
    static values v;
    psg_tensor value[] = { psg_f32_2d(v.weight, HIDDEN, IN), psg_f32_1d(v.scale, HIDDEN),
                           psg_f32_2d(v.cosine, CLASSES, HIDDEN) };
    psg_param *param[3];
    psg_tape *tape;
    draw(v.x, sizeof v.x / sizeof v.x[0], 1);
    for (int k = 0; k < IN; k++) v.x[k] *= 1e-38f;
    draw(v.weight, HIDDEN * IN, 0.2);
    draw(v.scale, HIDDEN, 1);
    draw(v.cosine, CLASSES * HIDDEN, 1);
    draw(v.out, 64 * CLASSES, 1e-20);
    for (int n = 0; n < 64; n++) v.labels[n] = n % CLASSES;
    for (int n = 0; n < 64; n++) v.ids[n] = n;
    for (int k = 0; k < 3; k++) TEST_OK(context, psg_param_create(context, "p", &value[k], &param[k]));
    TEST_OK(context, psg_tape_create(context, &tape));
    for (int from = 0; from < 2; from++) {
        psg_tensor shown;
        psg_status status = HOST(step(tape, &v, param, &shown, from));
        if (status) fail_msg("%s", psg_tape_message(tape));
        host_see(shown.data, sizeof v.out);
        for (int k = 0; k < 3; k++) see_gradient(context, tape, param[k]);
    }
    psg_tape_destroy(tape);
    for (int k = 0; k < 3; k++) psg_param_destroy(param[k]);
}

static void op_check(psg_context *context) {
    double x[12] = { 0.1, 0.2, -0.3, 0.7 }, weight[6] = { 1, 2, 3, 0.1, 0.2, 0.3 };
    const psg_operand inputs[3] = { { .role = PSG_BATCHED, .value = psg_tensor_of(PSG_F64, x, 2, (int64_t[]){ 4, 3 }) },
                                    { .role = PSG_PARAMETER,
                                      .value = psg_tensor_of(PSG_F64, weight, 2, (int64_t[]){ 2, 3 }) } };
    HOST_OK(psg_op_check(context, psg_op_find(context, "linear"), inputs, NULL));
}

/* ---- in every environment ---- */

static const host_calls calls[] = {
    { "questions", questions, true },
    { "tiny norm", tiny_norm, true },
    { "clip factors", clip_factors, true },
    { "linear algebra", linear_algebra, true },
    { "tapes", tapes, true },
    { "op check", op_check, false },
};
enum { CALLS = sizeof calls / sizeof calls[0] };

static void same_bits_in_every_environment(void **state) {
    (void)state;
    host_same_bits_in_every_environment(calls, CALLS);
}

static void same_bits_in_a_loop_of_the_hosts(void **state) {
    (void)state;
    host_same_bits_in_its_own_loop(calls, CALLS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_in_every_environment),
        cmocka_unit_test(same_bits_in_a_loop_of_the_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
