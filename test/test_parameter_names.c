/* Whatever a message or a plan says of a parameter, it says by the parameter's name. */
#include <string.h>

#include "dp_batch.h"
#include "small_pass.h"
#include "toy_ops.h"

enum { B = 4, IN = 3, OUT = 2, ROWS = 5 };

/* Two layers and a table, by names that no operand has. */
typedef struct model {
    small_pass f;
    psg_param *weight, *bias, *table;
    psg_tensor x, ids;
    psg_gradient gradient[3];
    const psg_gradient *set[3];
} model;

/* Says something else afterwards, so that no message counts twice. */
static void expect(model *m, psg_status status, psg_status expected, const char *what, const char *text) {
    const char *message = psg_context_message(m->f.context);
    if (status != expected || !strstr(message, text)) {
        fail_msg("%s: %s, \"%s\", without \"%s\"", what, psg_status_name(status), message, text);
    }
    psg_context_force_route(m->f.context, "no such route");
}

static void open_model(model *m) {
    const int64_t ids[B] = { 0, 4, 2, 1 };
    *m = (model){ .set = { &m->gradient[0], &m->gradient[1], &m->gradient[2] } };
    small_open(&m->f);
    m->weight = small_parameter(&m->f, "fc1.W", SHAPE(OUT, IN));
    m->bias = small_parameter(&m->f, "fc1.b", SHAPE(OUT));
    m->table = small_parameter(&m->f, "words", SHAPE(ROWS, IN));
    m->x = small_normal(&m->f, SHAPE(B, IN));
    m->ids = small_integers(&m->f, ids, SHAPE(B));
}

static psg_var linear_of(model *m, psg_param *weight, psg_param *bias) {
    psg_tape *tape = m->f.tape;
    psg_var x = psg_add(tape, psg_input(tape, &m->x),
                        psg_embedding(tape, psg_input(tape, &m->ids), psg_use(tape, m->table), NULL));
    return psg_linear(tape, x, psg_use(tape, weight), psg_use(tape, bias));
}

/* A pass over all of the model, and its gradients. */
static void run_model(model *m, const psg_batch *batch) {
    psg_pass pass = PSG_PASS_INIT;
    pass.batch = batch;
    small_begin(&m->f, pass);
    small_backward(&m->f, linear_of(m, m->weight, m->bias), NULL);
    psg_param *all[3] = { m->weight, m->bias, m->table };
    TEST_OK(m->f.context, psg_gradients_of(m->f.tape, all, 3, m->gradient, m->set));
}

/* ---- ops ---- */

static void ops_name_the_parameters_that_their_text_is_of(void **state) {
    (void)state;
    model m;
    open_model(&m);
    psg_tape *tape = m.f.tape;
    psg_param *wide = small_parameter(&m.f, "fc2.W", SHAPE(OUT, IN + 1));
    psg_param *long_bias = small_parameter(&m.f, "fc2.b", SHAPE(OUT + 1));
    small_begin(&m.f, (psg_pass)PSG_PASS_INIT);
    linear_of(&m, wide, m.bias);
    expect(&m, psg_tape_status(tape), PSG_ERR_SHAPE, "a weight of another width", "(weight: fc2.W)");
    small_begin(&m.f, (psg_pass)PSG_PASS_INIT);
    linear_of(&m, m.weight, long_bias);
    expect(&m, psg_tape_status(tape), PSG_ERR_SHAPE, "a bias of another length", "bias: fc2.b)");
    psg_param *scale = small_parameter(&m.f, "fc1.scale", SHAPE(IN));
    psg_param *shift = small_parameter(&m.f, "fc1.shift", SHAPE(IN));
    small_begin(&m.f, (psg_pass)PSG_PASS_INIT);
    psg_var x = psg_input(tape, &m.x), y;
    y = psg_record(tape, &toy_failing, (psg_var[]){ x, psg_use(tape, scale), psg_use(tape, shift) }, 3, NULL);
    expect(&m, psg_backward_from(tape, y, NULL), PSG_ERR_NUMERIC, "an op that names none",
           "toy_failing: backward failed with PSG_ERR_NUMERIC (weight: fc1.scale)");
    small_close(&m.f);
}

static void composite_ops_name_them_too(void **state) {
    (void)state;
    model m;
    open_model(&m);
    psg_tape *tape = m.f.tape;
    psg_tensor q = small_normal(&m.f, SHAPE(B, 2, IN));
    small_begin(&m.f, (psg_pass)PSG_PASS_INIT);
    psg_var x = psg_input(tape, &q), w = psg_use(tape, m.weight);
    psg_multi_head_attention_weights weights = { .in_proj_weight = w, .out_proj_weight = w };
    psg_multi_head_attention(tape, x, x, x, 1, &weights, NULL, NULL);
    expect(&m, psg_tape_status(tape), PSG_ERR_SHAPE, "attention", "in_proj_weight (fc1.W) has shape (2, 3)");
    small_begin(&m.f, (psg_pass)PSG_PASS_INIT);
    w = psg_use(tape, m.weight);
    assert_string_equal(psg_var_name(tape, w), "fc1.W");
    assert_string_equal(psg_var_name(tape, psg_transpose(tape, w, 0, 1)), "fc1.W");
    assert_string_equal(psg_var_name(tape, psg_weight_norm(tape, w, psg_none(), NULL)), "weight_norm of fc1.W");
    assert_null(psg_var_name(tape, psg_input(tape, &q)));
    assert_null(psg_var_name(tape, psg_none()));
    small_close(&m.f);
}

static void an_op_that_waits_for_a_batch_names_its_table(void **state) {
    (void)state;
    model m;
    open_model(&m);
    small_begin(&m.f, (psg_pass)PSG_PASS_INIT);
    psg_var y = psg_embedding(m.f.tape, psg_constant(m.f.tape, &m.ids), psg_use(m.f.tape, m.table), NULL);
    expect(&m, psg_backward_from(m.f.tape, y, NULL), PSG_ERR_BATCH, "no input", "(words)");
    small_close(&m.f);
}

/* "linear x fc1.W fc1.b; " of an operand without a name "x". */
static void write_names(void *user, const psg_call *call, int backward, double seconds) {
    char *text = user;
    (void)seconds;
    strcat(text, backward ? "back " : "");
    strcat(text, call->op->name);
    for (int k = 0; k < call->input_count; k++) {
        if (call->input[k].role) strcat(strcat(text, " "), call->input[k].name ? call->input[k].name : "x");
    }
    strcat(text, "; ");
}

static void an_observer_learns_the_names(void **state) {
    (void)state;
    model m;
    char text[512] = "";
    open_model(&m);
    psg_param_set_trainable(m.bias, 0);
    TEST_OK(m.f.context, psg_tape_observe(m.f.tape, write_names, text));
    small_begin(&m.f, (psg_pass)PSG_PASS_INIT);
    psg_var w = psg_weight_norm(m.f.tape, psg_use(m.f.tape, m.weight), psg_none(), NULL);
    small_backward(&m.f, psg_linear(m.f.tape, psg_input(m.f.tape, &m.x), w, psg_use(m.f.tape, m.bias)), NULL);
    assert_string_equal(text, "weight_norm fc1.W; linear x weight_norm of fc1.W fc1.b; "
                              "back linear x weight_norm of fc1.W fc1.b; back weight_norm fc1.W; ");
    small_close(&m.f);
}

/* ---- parameters and their arrays ---- */

static void parameters_are_refused_by_name(void **state) {
    (void)state;
    model m;
    open_model(&m);
    psg_context *context = m.f.context;
    psg_param *param, *pair[2] = { m.weight, NULL };
    expect(&m, psg_param_create(context, "fc3.W", &m.ids, &param), PSG_ERR_DTYPE, "integers", "(fc3.W) is i64");
    expect(&m, psg_param_attach_grad_sample(m.weight, &m.x), PSG_ERR_SHAPE, "another shape", "fc1.W has shape (2, 3)");
    small_begin(&m.f, (psg_pass)PSG_PASS_INIT);
    expect(&m, psg_gradient_of(m.f.tape, m.bias, &m.gradient[0]), PSG_ERR_STATE, "no backward", "\"fc1.b\"");
    run_model(&m, NULL);
    expect(&m, psg_gradients_of(m.f.tape, pair, 2, m.gradient, m.set), PSG_ERR_ARGUMENT, "NULL", "params[1] is NULL");
    small_close(&m.f);
}

static void attached_arrays_are_refused_by_name(void **state) {
    (void)state;
    model m;
    open_model(&m);
    psg_tape *tape = m.f.tape;
    psg_tensor more = small_zeros(&m.f, m.x.dtype, SHAPE(B + 1, OUT, IN));
    psg_tensor exact = small_zeros(&m.f, m.x.dtype, SHAPE(B, OUT, IN));
    TEST_OK(m.f.context, psg_param_attach_grad_sample(m.weight, &more));
    small_begin(&m.f, (psg_pass)PSG_PASS_INIT);
    expect(&m, psg_backward_from(tape, linear_of(&m, m.weight, m.bias), NULL), PSG_ERR_SHAPE, "B", "\"fc1.W\"");
    TEST_OK(m.f.context, psg_param_attach_grad_sample(m.weight, &exact));
    run_model(&m, NULL);
    small_begin(&m.f, (psg_pass)PSG_PASS_INIT);
    psg_use(tape, m.weight);
    expect(&m, psg_tape_status(tape), PSG_ERR_STATE, "set", "\"fc1.W\"");
    small_close(&m.f);
}

/* ---- questions ---- */

static void questions_name_the_parameters_of_their_arrays(void **state) {
    (void)state;
    model m;
    open_model(&m);
    psg_context *c = m.f.context;
    run_model(&m, NULL);
    double dots[B], error;
    psg_tensor good = small_zeros(&m.f, PSG_F64, SHAPE(OUT, IN)), flat = small_zeros(&m.f, PSG_F64, SHAPE(OUT + 1));
    psg_tensor outs[3] = { good, flat, small_zeros(&m.f, PSG_F64, SHAPE(ROWS, IN)) };
    psg_tensor ids = small_zeros(&m.f, PSG_I64, SHAPE(B, 1)), rows = small_zeros(&m.f, PSG_F64, SHAPE(B, 1, IN + 1));
    int64_t counts[B];
    expect(&m, psg_grad_sample(c, &m.gradient[0], 1, PSG_OVERWRITE, &flat), PSG_ERR_SHAPE, "out", "out (fc1.W) must");
    expect(&m, psg_grad_sample(c, &m.gradient[0], 1, PSG_OVERWRITE, NULL), PSG_ERR_ARGUMENT, "NULL",
           "out (fc1.W) is NULL");
    expect(&m, psg_grad_sample_sparse(c, &m.gradient[0], 1, &ids, &rows, counts), PSG_ERR_UNSUPPORTED, "form",
           "gradients[0] (fc1.W), block 0");
    expect(&m, psg_grad_sample_sparse(c, &m.gradient[2], 1, &rows, &rows, counts), PSG_ERR_SHAPE, "ids", "ids (words)");
    expect(&m, psg_grad_sample_sparse(c, &m.gradient[2], 1, &ids, &rows, counts), PSG_ERR_SHAPE, "rows",
           "rows (words)");
    expect(&m, psg_weighted_sum(c, m.set, 3, NULL, PSG_OVERWRITE, outs), PSG_ERR_SHAPE, "sum", "outs[1] (fc1.b)");
    expect(&m, psg_dot(c, m.set, 3, outs, dots), PSG_ERR_SHAPE, "dot", "direction[1] (fc1.b)");
    expect(&m, psg_natural_gradient_of_sum(c, m.set, 3, 1, NULL, outs, &error), PSG_ERR_SHAPE, "natural",
           "outs[1] (fc1.b)");
    small_close(&m.f);
}

static void a_sum_beyond_f32_is_refused_by_name(void **state) {
    (void)state;
    model m;
    open_model(&m);
    psg_clip clip = PSG_CLIP_INIT;
    clip.max_grad_norm = 1e38;
    psg_tensor ones = small_zeros(&m.f, PSG_F32, SHAPE(B, OUT)), out = small_zeros(&m.f, PSG_F32, SHAPE(OUT));
    psg_block block = psg_rows(&ones);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, out.shape);
    gradient.name = "fc1.b";
    expect(&m, psg_clipped_sum(m.f.context, (const psg_gradient *[]){ &gradient }, 1, &clip, PSG_OVERWRITE, &out, NULL,
                               NULL, NULL), PSG_ERR_ARGUMENT, "range", "outs[0] (fc1.b)");
    small_close(&m.f);
}

static void questions_name_the_gradients_that_they_refuse(void **state) {
    (void)state;
    model m;
    open_model(&m);
    psg_context *c = m.f.context;
    double square[B];
    char text[2048];
    run_model(&m, NULL);
    TEST_OK(c, psg_plan_text(c, PSG_ASK_CLIPPED_SUM, m.set, 3, NULL, text, sizeof text, NULL));
    assert_non_null(strstr(text, "clipped_sum: gradient 0 (fc1.W): "));
    assert_non_null(strstr(text, "clipped_sum: gradient 2 (words): "));
    m.gradient[1].name = NULL;
    TEST_OK(c, psg_plan_text(c, PSG_ASK_CLIPPED_SUM, m.set, 3, NULL, text, sizeof text, NULL));
    assert_non_null(strstr(text, "clipped_sum: gradient 1: "));
    m.gradient[2].batch_size = B + 1;
    expect(&m, psg_sqnorm(c, m.set, 3, square, NULL, NULL), PSG_ERR_BATCH, "B", "gradients[2] (words)");
    small_close(&m.f);
}

/* The pass was the last to hold the parameter: there is no name any more. */
static void a_gradient_of_a_pass_that_is_over_has_no_name(void **state) {
    (void)state;
    model m;
    open_model(&m);
    psg_context *c = m.f.context;
    double square[B];
    run_model(&m, NULL);
    psg_param_destroy(m.f.param[--m.f.params]);
    small_begin(&m.f, (psg_pass)PSG_PASS_INIT);
    expect(&m, psg_sqnorm(c, &m.set[2], 1, square, NULL, NULL), PSG_ERR_STATE, "over", "gradients[0]: of a pass");
    expect(&m, psg_grad_sample(c, m.set[2], 1, PSG_OVERWRITE, &m.x), PSG_ERR_STATE, "over", "gradients[0]: of a pass");
    small_close(&m.f);
}

static void a_long_name_leaves_room_for_what_is_said(void **state) {
    (void)state;
    model m;
    char name[1000];
    open_model(&m);
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    run_model(&m, NULL);
    m.gradient[0].name = name;
    expect(&m, psg_grad_sample(m.f.context, &m.gradient[0], 1, PSG_OVERWRITE, &m.x), PSG_ERR_SHAPE, "out",
           "of shape (4, 2, 3), is (4, 3)");
    small_close(&m.f);
}

/* ---- private training ---- */

static void a_mechanism_names_the_gradients_that_it_refuses(void **state) {
    (void)state;
    model m;
    open_model(&m);
    psg_context *c = m.f.context;
    psg_generator *generator;
    psg_dp *dp;
    psg_dp_options options = dp_external(1, 1, 2, B);
    const int64_t counts[3] = { OUT * IN, OUT, ROWS * IN };
    TEST_OK(c, psg_generator_create_seeded(c, (unsigned char[32]){ 1 }, &generator));
    TEST_OK(c, psg_dp_create(c, generator, &options, counts, 3, &dp));
    psg_batch batch = dp_take(c, dp, 0, B), other = batch;
    run_model(&m, &batch);
    other.count = B - 1;
    expect(&m, psg_dp_accumulate(dp, &other, m.set, 3, NULL), PSG_ERR_STATE, "records",
           "gradients[0] (fc1.W) is of a pass");
    run_model(&m, NULL);
    expect(&m, psg_dp_accumulate(dp, &other, m.set, 3, NULL), PSG_ERR_BATCH, "B", "gradients[0] (fc1.W) has 4 samples");
    m.gradient[1].shape[0]++;
    expect(&m, psg_dp_accumulate(dp, &batch, m.set, 3, NULL), PSG_ERR_SHAPE, "shape",
           "gradients[1] (fc1.b) has rank 1");
    run_model(&m, NULL);
    m.gradient[2].pass_parameters = 0;
    expect(&m, psg_dp_accumulate(dp, &batch, m.set, 3, NULL), PSG_ERR_STATE, "trained", "gradients[2] (words) is of a");
    psg_dp_destroy(dp);
    psg_generator_destroy(generator);
    small_close(&m.f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ops_name_the_parameters_that_their_text_is_of),
        cmocka_unit_test(composite_ops_name_them_too),
        cmocka_unit_test(an_op_that_waits_for_a_batch_names_its_table),
        cmocka_unit_test(an_observer_learns_the_names),
        cmocka_unit_test(parameters_are_refused_by_name),
        cmocka_unit_test(attached_arrays_are_refused_by_name),
        cmocka_unit_test(questions_name_the_parameters_of_their_arrays),
        cmocka_unit_test(a_sum_beyond_f32_is_refused_by_name),
        cmocka_unit_test(questions_name_the_gradients_that_they_refuse),
        cmocka_unit_test(a_gradient_of_a_pass_that_is_over_has_no_name),
        cmocka_unit_test(a_long_name_leaves_room_for_what_is_said),
        cmocka_unit_test(a_mechanism_names_the_gradients_that_it_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
