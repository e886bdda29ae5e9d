/* A program that uses every struct that grows.  It is compiled against today's headers and against those without the
 * last field of each (older_headers.awk), and gives the same answers.  GROWTH_PROGRAM: its name. */
#include <psg/psg.h>

#include <stdio.h>
#include <string.h>

#include "growth_program.h"

enum { B = 4, SIDE = 6, CLASSES = 3, STEPS = 5, WIDTH = 4 };

typedef struct program {
    psg_context *context;
    psg_tape *tape;
    psg_params *params;
    psg_param *kernel, *transposed, *gain, *table, *ih, *hh, *direction, *out;
    growth_answers *answers;
} program;

static void answer(program *p, double value) { p->answers->value[p->answers->count++] = value; }

static void add_params(program *p) {
    p->kernel = psg_params_add(p->params, "kernel", psg_init_linear(), PSG_SHAPE(2, 1, 3, 3));
    p->transposed = psg_params_add(p->params, "transposed", psg_init_linear(), PSG_SHAPE(2, 2, 2, 2));
    p->gain = psg_params_add(p->params, "gain", psg_init_constant(1), PSG_SHAPE(1, WIDTH));
    p->table = psg_params_add(p->params, "table", psg_init_normal(1), PSG_SHAPE(7, WIDTH));
    p->ih = psg_params_add(p->params, "ih", psg_init_linear(), PSG_SHAPE(WIDTH, WIDTH));
    p->hh = psg_params_add(p->params, "hh", psg_init_linear(), PSG_SHAPE(WIDTH, WIDTH));
    p->direction = psg_params_add(p->params, "direction", psg_init_linear(), PSG_SHAPE(WIDTH, WIDTH));
    p->out = psg_params_add(p->params, "out", psg_init_linear(), PSG_SHAPE(CLASSES, WIDTH));
}

/* ---- ops ---- */

/* (B, 1, SIDE, SIDE) to (B, WIDTH) */
static psg_var image_part(program *p, psg_var x) {
    psg_tape *t = p->tape;
    psg_conv_options conv = PSG_CONV_OPTIONS_INIT;
    psg_conv_transpose_options transposed = PSG_CONV_TRANSPOSE_OPTIONS_INIT;
    psg_max_pool_options max_pool = PSG_MAX_POOL_OPTIONS_INIT;
    psg_avg_pool_options avg_pool = PSG_AVG_POOL_OPTIONS_INIT;
    psg_weight_standardize_options standardize = PSG_WEIGHT_STANDARDIZE_OPTIONS_INIT;
    psg_unfold_options unfold = PSG_UNFOLD_OPTIONS_INIT;
    conv.padding[0] = conv.padding[1] = 1;
    transposed.stride[0] = transposed.stride[1] = 2;
    standardize.by_fan_in = 1;
    unfold.kernel[0] = unfold.kernel[1] = 2;
    psg_var kernel = psg_weight_standardize(t, psg_use(t, p->kernel), psg_none(), &standardize);
    psg_var h = psg_conv2d(t, x, kernel, psg_none(), &conv);                                    /* (B, 2, 6, 6) */
    h = psg_max_pool2d(t, h, (int64_t[]){ 2, 2 }, &max_pool);                                   /* (B, 2, 3, 3) */
    h = psg_conv_transpose2d(t, h, psg_use(t, p->transposed), psg_none(), &transposed);         /* (B, 2, 6, 6) */
    h = psg_avg_pool2d(t, h, (int64_t[]){ 3, 3 }, &avg_pool);                                   /* (B, 2, 2, 2) */
    h = psg_unfold(t, h, &unfold);                                                              /* (B, 8, 1) */
    return psg_slice(t, psg_reshape(t, h, 2, (int64_t[]){ -1, 8 }), 1, 0, WIDTH, 1);
}

/* ids (B, WIDTH) to (B, WIDTH) */
static psg_var sequence_part(program *p, psg_var ids) {
    psg_tape *t = p->tape;
    psg_embedding_options embedding = PSG_EMBEDDING_OPTIONS_INIT;
    psg_embedding_bag_options bag = PSG_EMBEDDING_BAG_OPTIONS_INIT;
    psg_rnn_options rnn = PSG_RNN_OPTIONS_INIT;
    psg_scaled_dot_product_attention_options attention = PSG_SCALED_DOT_PRODUCT_ATTENTION_OPTIONS_INIT;
    psg_multi_head_attention_options heads = PSG_MULTI_HEAD_ATTENTION_OPTIONS_INIT;
    const psg_rnn_weights weights = { psg_use(t, p->ih), psg_use(t, p->hh), psg_none(), psg_none(), psg_none() };
    attention.is_causal = heads.is_causal = 1;
    embedding.has_padding_idx = 1;
    psg_var table = psg_use(t, p->table), x = psg_embedding(t, ids, table, &embedding);         /* (B, WIDTH, WIDTH) */
    x = psg_scaled_dot_product_attention(t, x, x, x, psg_none(), &attention);
    x = psg_head_attention(t, x, x, x, 2, psg_none(), psg_none(), &heads, NULL);
    x = psg_rnn(t, x, psg_none(), psg_none(), &weights, &rnn, NULL);
    const int dim = 1;
    return psg_add(t, psg_mean(t, x, 1, &dim, 0), psg_embedding_bag(t, ids, table, psg_none(), psg_none(), &bag));
}

static psg_var losses(program *p, psg_var h, psg_var labels, psg_var rates) {
    psg_tape *t = p->tape;
    psg_weight_norm_options norm = PSG_WEIGHT_NORM_OPTIONS_INIT;
    psg_cross_entropy_options cross_entropy = PSG_CROSS_ENTROPY_OPTIONS_INIT;
    psg_nll_options nll = PSG_NLL_OPTIONS_INIT;
    psg_poisson_nll_options poisson = PSG_POISSON_NLL_OPTIONS_INIT;
    norm.dim = 1;
    cross_entropy.label_smoothing = 0.1;
    poisson.full = 1;
    h = psg_linear(t, h, psg_weight_norm(t, psg_use(t, p->direction), psg_use(t, p->gain), &norm), psg_none());
    psg_var scores = psg_linear(t, h, psg_use(t, p->out), psg_none());
    psg_var loss = psg_cross_entropy(t, scores, labels, &cross_entropy);
    loss = psg_add(t, loss, psg_nll(t, psg_log_softmax(t, scores, 1), labels, psg_none(), &nll));
    return psg_add(t, loss, psg_poisson_nll(t, scores, rates, &poisson));
}

static psg_status run_pass(program *p, const psg_batch *batch) {
    static float images[B * SIDE * SIDE], rates[B * CLASSES];
    static int64_t labels[B], ids[B * WIDTH];
    psg_tape *t = p->tape;
    psg_pass pass = PSG_PASS_INIT;
    for (int i = 0; i < B * SIDE * SIDE; i++) images[i] = 0.1f * (float)(i * 37 % 23 - 11);
    for (int i = 0; i < B * CLASSES; i++) rates[i] = (float)(i % 4);
    for (int i = 0; i < B; i++) labels[i] = i % CLASSES;
    for (int i = 0; i < B * WIDTH; i++) ids[i] = i * 5 % 7;
    const psg_tensor x = psg_f32_4d(images, B, 1, SIDE, SIDE), y = psg_i64_1d(labels, B);
    const psg_tensor words = psg_i64_2d(ids, B, WIDTH), target = psg_f32_2d(rates, B, CLASSES);
    pass.batch = batch;
    PSG_TRY(psg_tape_begin(t, &pass));
    psg_var h = psg_add(t, image_part(p, psg_input(t, &x)), sequence_part(p, psg_input(t, &words)));
    return psg_backward(t, losses(p, h, psg_input(t, &y), psg_input(t, &target)));
}

/* ---- questions ---- */

static void twice(const void *user, int64_t first, int64_t count, const double *grad, double *pulled) {
    (void)user, (void)first;
    for (int64_t i = 0; i < 2 * count; i++) pulled[i] = 2 * grad[i];
}
static double norm_of_twice(const void *user, int64_t row) { return (void)user, (void)row, 2; }

static psg_status ask_blocks(program *p) {
    const float g[6] = { 1, 2, 3, 4, 5, 6 };
    const int64_t shape[2] = { 3, 2 };
    const psg_tensor rows = psg_f32_2d(g, 2, 3), features = psg_f32_2d(g, 2, 2);
    const psg_block inner = psg_factored(&rows, &features);
    const psg_derivation derivation = { .blocks = &inner, .block_count = 1, .rows = 3, .columns = 2, .width = 2,
                                        .pull = twice, .norm = norm_of_twice };
    const psg_block blocks[2] = { psg_derived(&derivation, PSG_F32, 2), psg_factored(&rows, &features) };
    const psg_gradient gradients[2] = { psg_gradient_of_blocks(&blocks[0], 1, 2, shape),
                                        psg_gradient_of_blocks(&blocks[1], 1, 2, shape) };
    const psg_gradient *const set[2] = { &gradients[0], &gradients[1] };
    psg_clip clip = PSG_CLIP_INIT;
    psg_clip_report report;
    double norms[2], sums[12];
    const psg_tensor outs[2] = { psg_f64_2d(sums, 3, 2), psg_f64_2d(sums + 6, 3, 2) };
    PSG_TRY(psg_sqnorm(p->context, set, 2, norms, NULL, NULL));
    PSG_TRY(psg_clipped_sum(p->context, set, 2, &clip, PSG_OVERWRITE, outs, NULL, NULL, &report));
    for (int n = 0; n < 2; n++) answer(p, norms[n]);
    for (int i = 0; i < 12; i++) answer(p, sums[i]);
    answer(p, (double)report.clipped);
    answer(p, report.mean_norm);
    return PSG_OK;
}

/* ---- an op of one's own: y = 2 x ---- */

static psg_status double_shape(psg_call *call) {
    const psg_tensor *x = &call->input[0].value;
    return psg_call_output(call, x->dtype, x->rank, x->shape);
}
static void double_all(const psg_tensor *x, const psg_tensor *y) {
    for (int64_t i = 0; i < psg_tensor_count(x); i++) ((double *)y->data)[i] = 2 * ((const double *)x->data)[i];
}
static psg_status double_forward(psg_call *call) { return double_all(&call->input[0].value, &call->output), PSG_OK; }
static psg_status double_backward(psg_call *call) {
    if (call->input[0].grad.data) double_all(&call->grad_output, &call->input[0].grad);
    return PSG_OK;
}

static psg_status check_op(program *p) {
    static const psg_op op = { .name = "double", .input_count = 1, .shape = double_shape, .forward = double_forward,
                               .backward = double_backward };
    psg_operand input = { .role = PSG_BATCHED };
    input.value = psg_tensor_of(PSG_F64, NULL, 2, (int64_t[]){ 3, 2 });
    return psg_op_check(p->context, &op, &input, NULL);
}

/* ---- training ---- */

typedef struct training {
    psg_generator *generator;
    psg_dp *dp;
    psg_optimizer *optimizer;
} training;

static psg_status start(program *p, const char *ledger, int use_adam, training *t) {
    static const unsigned char seed[32] = { 5 };
    psg_dp_options options = PSG_DP_OPTIONS_INIT;
    psg_sgd_options sgd = PSG_SGD_OPTIONS_INIT;
    psg_adam_options adam = PSG_ADAM_OPTIONS_INIT;
    const psg_param_list list = psg_params_trainable(p->params);
    options.sampling = PSG_SAMPLING_FIXED_SIZE;
    options.relation = PSG_REPLACE_ONE;
    options.records = 50;
    options.batch_size = B;
    options.noise_multiplier = 1;
    options.ledger = ledger;
    sgd.momentum = 0.9;
    PSG_TRY(psg_generator_create_seeded(p->context, seed, &t->generator));
    PSG_TRY(psg_dp_create(p->context, t->generator, &options, list.counts, list.count, &t->dp));
    if (use_adam) return psg_adam_create(p->context, &adam, list.values, list.count, &t->optimizer);
    return psg_sgd_create(p->context, &sgd, list.values, list.count, &t->optimizer);
}

static void stop(training *t) {
    psg_optimizer_destroy(t->optimizer);
    psg_dp_destroy(t->dp);
    psg_generator_destroy(t->generator);
}

static psg_status step(program *p, training *t) {
    psg_batch batch, half;
    const psg_gradient *const *gradients;
    const psg_param_list list = psg_params_trainable(p->params);
    PSG_TRY(psg_dp_sample(t->dp, &batch));
    half = batch;                                  /* a copy is as good */
    PSG_TRY(run_pass(p, &half));
    PSG_TRY(psg_params_gradients(p->params, p->tape, &gradients));
    PSG_TRY(psg_dp_accumulate(t->dp, &half, gradients, list.count, NULL));
    return psg_dp_release_to(t->dp, t->optimizer);
}

static psg_status tell(program *p, training *t) {
    psg_privacy privacy;
    const psg_tensor flat = psg_params_flat(p->params);
    double sum = 0;
    PSG_TRY(psg_dp_privacy(t->dp, 1e-5, &privacy));
    answer(p, privacy.epsilon);
    for (int64_t i = 0; i < flat.shape[0]; i++) sum += (double)(i % 7) * ((const float *)flat.data)[i];
    answer(p, sum);
    return PSG_OK;
}

/* Beside the checkpoint, whose path it is with one letter more. */
static psg_status read_table(program *p, const char *beside) {
    psg_csv_options options = PSG_CSV_OPTIONS_INIT;
    psg_table *table;
    char path[1024];
    snprintf(path, sizeof path, "%st", beside);
    FILE *file = fopen(path, "w");
    if (!file) return PSG_ERR_FILE;
    fputs("1;\n2;3\n", file);
    fclose(file);
    options.delimiter = ';';
    options.no_header = options.fill_missing = 1;
    PSG_TRY(psg_csv_read(p->context, path, &options, &table));
    for (int k = 0; k < 4; k++) answer(p, ((const float *)psg_table_numbers(table)->data)[k]);
    psg_table_destroy(table);
    return remove(path) ? PSG_ERR_FILE : PSG_OK;
}

static psg_status save_and_load(program *p, const training *t, training *resumed, const char *path) {
    psg_checkpoint checkpoint = PSG_CHECKPOINT_INIT;
    psg_load_report report = PSG_LOAD_REPORT_INIT;
    const psg_param_list list = psg_params_trainable(p->params);
    char text[256];
    checkpoint.params = list.named;
    checkpoint.param_count = list.count;
    checkpoint.optimizer = t->optimizer;
    PSG_TRY(psg_dp_save(t->dp, &checkpoint, path));
    checkpoint.optimizer = resumed->optimizer;
    PSG_TRY(psg_dp_load(resumed->dp, &checkpoint, path));
    report.text = text;
    report.text_size = sizeof text;
    PSG_TRY(psg_weights_load(p->context, path, list.named, 1, PSG_LOAD_PARTIAL, &report));
    answer(p, (double)report.loaded);
    return read_table(p, path);
}

static psg_status train(program *p, const char *ledger, const char *path, int use_adam) {
    training first = { 0 }, second = { 0 };
    psg_status status = psg_params_initialize(p->params, 3);
    if (!status) status = start(p, ledger, use_adam, &first);
    for (int k = 0; k < STEPS && !status; k++) status = step(p, &first);
    if (!status) status = tell(p, &first);
    if (!status) status = start(p, ledger, use_adam, &second);
    if (!status) status = save_and_load(p, &first, &second, path);
    if (!status) status = step(p, &second);
    if (!status) status = tell(p, &second);
    stop(&second);
    stop(&first);
    return status;
}

static psg_status account(program *p) {
    psg_event event = PSG_EVENT_INIT;
    psg_accountant *accountant;
    psg_privacy privacy = { 0 };
    event.noise_multiplier = 1.5;
    event.sample_rate = 0.01;
    PSG_TRY(psg_accountant_create(p->context, PSG_ADD_OR_REMOVE_ONE, &accountant));
    psg_status status = psg_accountant_add(accountant, &event, 100);
    if (!status) status = psg_accountant_epsilon(accountant, 1e-6, &privacy);
    psg_accountant_destroy(accountant);
    answer(p, privacy.epsilon);
    return status;
}

static psg_status run(program *p, const char *const ledgers[2], const char *path) {
    PSG_TRY(psg_tape_create(p->context, &p->tape));
    PSG_TRY(psg_params_create(p->context, PSG_F32, &p->params));
    add_params(p);
    PSG_TRY(ask_blocks(p));
    PSG_TRY(check_op(p));
    PSG_TRY(account(p));
    for (int adam = 0; adam < 2; adam++) PSG_TRY(train(p, ledgers[adam], path, adam));
    return PSG_OK;
}

psg_status GROWTH_PROGRAM(const char *const ledgers[2], const char *path, growth_answers *answers) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    program p = { .answers = answers };
    options.threads = 2;
    PSG_TRY(psg_context_create(&options, &p.context));
    const psg_status status = run(&p, ledgers, path);
    snprintf(answers->message, sizeof answers->message, "%s", psg_context_message(p.context));
    psg_tape_destroy(p.tape);
    psg_params_destroy(p.params);
    psg_context_destroy(p.context);
    return status;
}
