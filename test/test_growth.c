/* Structs that grow (psg/base.h): programs compiled before a field was there, words that are not 0, and zeroed structs.
 *
 * older_headers.awk makes the headers as they would have been before the last field of each struct; one program is
 * compiled against both. */
#include "growth/growth_program.h"
#include "saved_run.h"

#include <string.h>

static void an_older_program_has_the_same_answers(void **state) {
    (void)state;
    static growth_answers today, older;
    char folder[RUN_PATH], place[5][RUN_PATH];
    saved_folder_make(folder);
    for (int k = 0; k < 5; k++) saved_path(folder, (const char[2]){ (char)('a' + k), 0 }, place[k]);
    const char *const ledgers[2][2] = { { place[0], place[1] }, { place[2], place[3] } };
    const psg_status first = growth_today(ledgers[0], place[4], &today);
    if (first) fail_msg("today's program: %s: %s", psg_status_name(first), today.message);
    const psg_status second = growth_older(ledgers[1], place[4], &older);
    if (second) fail_msg("the older program: %s: %s", psg_status_name(second), older.message);
    assert_true(today.count > 20);
    assert_int_equal(today.count, older.count);
    for (int k = 0; k < today.count; k++) assert_true(today.value[k] == older.value[k]);
    saved_folder_remove(folder);
}

/* ---- sizes ---- */

/* Of LP64: what programs of this soname have on their stacks and in their arrays.  A field takes words of
 * `reserved`. */
static void sizes_are_those_of_the_soname(void **state) {
    (void)state;
#define SIZE(type, size) { #type, sizeof(struct type), size }
    static const struct { const char *type; size_t size, promised; } sizes[] = {
        SIZE(psg_event, 112), SIZE(psg_privacy, 96), SIZE(psg_batch, 72), SIZE(psg_context_options, 104),
        SIZE(psg_dp_options, 240), SIZE(psg_dp_ranks, 96), SIZE(psg_checkpoint, 72), SIZE(psg_block, 640),
        SIZE(psg_derivation, 104),
        SIZE(psg_gradient, 240), SIZE(psg_clip, 64), SIZE(psg_clip_report, 72), SIZE(psg_load_report, 88),
        SIZE(psg_csv_options, 104), SIZE(psg_pass, 112), SIZE(psg_operand, 352), SIZE(psg_op, 144),
        SIZE(psg_sgd_options, 72),
        SIZE(psg_adam_options, 80), SIZE(psg_scaled_dot_product_attention_options, 64),
        SIZE(psg_multi_head_attention_options, 64), SIZE(psg_conv_options, 152),
        SIZE(psg_conv_transpose_options, 136), SIZE(psg_embedding_options, 72), SIZE(psg_embedding_bag_options, 72),
        SIZE(psg_cross_entropy_options, 64), SIZE(psg_nll_options, 48), SIZE(psg_poisson_nll_options, 56),
        SIZE(psg_max_pool_options, 112), SIZE(psg_avg_pool_options, 96), SIZE(psg_rnn_options, 56),
        SIZE(psg_unfold_options, 96), SIZE(psg_weight_standardize_options, 48), SIZE(psg_weight_norm_options, 40),
    };
#undef SIZE
    for (size_t k = 0; sizeof(long) == 8 && k < sizeof sizes / sizeof sizes[0]; k++) {
        if (sizes[k].size != sizes[k].promised) {
            fail_msg("%s has %zu bytes, programs have %zu", sizes[k].type, sizes[k].size, sizes[k].promised);
        }
    }
}

/* ---- words that are not 0 ---- */

typedef struct place {
    psg_context *context;
    psg_tape *tape;
    psg_var image, sequence, scores, labels, ids, weight;
} place;

#define REFUSED_ON_TAPE(init_type, init, call)                                                                         \
    do {                                                                                                               \
        init_type options = init;                                                                                      \
        options.reserved[3] = 1;                                                                                       \
        begin(&p, params);                                                                                             \
        (void)(call);                                                                                                  \
        test_refused(p.tape, PSG_ERR_ARGUMENT, "options.reserved is not 0");                                           \
    } while (0)

static void begin(place *p, psg_params *params) {
    static const float images[2 * 2 * 4 * 4], sequences[2 * 3 * 4], scores[2 * 3];
    static const int64_t labels[2], ids[2 * 3];
    const psg_tensor image = psg_f32_4d(images, 2, 2, 4, 4), sequence = psg_f32_3d(sequences, 2, 3, 4);
    const psg_tensor score = psg_f32_2d(scores, 2, 3), label = psg_i64_1d(labels, 2), id = psg_i64_2d(ids, 2, 3);
    TEST_OK(p->context, psg_tape_begin(p->tape, NULL));
    p->image = psg_input(p->tape, &image);
    p->sequence = psg_input(p->tape, &sequence);
    p->scores = psg_input(p->tape, &score);
    p->labels = psg_input(p->tape, &label);
    p->ids = psg_input(p->tape, &id);
    p->weight = psg_use(p->tape, psg_params_find(params, "weight"));
}

static void options_of_ops_with_more_are_refused(void **state) {
    (void)state;
    place p = { .context = test_context(1, NULL) };
    psg_params *params;
    TEST_OK(p.context, psg_tape_create(p.context, &p.tape));
    TEST_OK(p.context, psg_params_create(p.context, PSG_F32, &params));
    psg_params_add(params, "weight", psg_init_linear(), PSG_SHAPE(4, 4));
    psg_params_add(params, "kernel", psg_init_linear(), PSG_SHAPE(2, 2, 2, 2));
    TEST_OK(p.context, psg_params_initialize(params, 1));
    psg_tape *t = p.tape;
    const int64_t two[2] = { 2, 2 };
    const psg_rnn_weights weights = { p.weight, p.weight, { 0 }, { 0 }, { 0 } };
    psg_param *kernel = psg_params_find(params, "kernel");
    REFUSED_ON_TAPE(psg_conv_options, PSG_CONV_OPTIONS_INIT,
                    psg_conv2d(t, p.image, psg_use(t, kernel), psg_none(), &options));
    REFUSED_ON_TAPE(psg_conv_transpose_options, PSG_CONV_TRANSPOSE_OPTIONS_INIT,
                    psg_conv_transpose2d(t, p.image, psg_use(t, kernel), psg_none(), &options));
    REFUSED_ON_TAPE(psg_max_pool_options, PSG_MAX_POOL_OPTIONS_INIT, psg_max_pool2d(t, p.image, two, &options));
    REFUSED_ON_TAPE(psg_avg_pool_options, PSG_AVG_POOL_OPTIONS_INIT, psg_avg_pool2d(t, p.image, two, &options));
    REFUSED_ON_TAPE(psg_unfold_options, PSG_UNFOLD_OPTIONS_INIT, psg_unfold(t, p.image, &options));
    REFUSED_ON_TAPE(psg_unfold_options, PSG_UNFOLD_OPTIONS_INIT, psg_fold(t, p.sequence, two, &options));
    REFUSED_ON_TAPE(psg_weight_standardize_options, PSG_WEIGHT_STANDARDIZE_OPTIONS_INIT,
                    psg_weight_standardize(t, p.weight, psg_none(), &options));
    REFUSED_ON_TAPE(psg_weight_norm_options, PSG_WEIGHT_NORM_OPTIONS_INIT,
                    psg_weight_norm(t, p.weight, p.weight, &options));
    REFUSED_ON_TAPE(psg_embedding_options, PSG_EMBEDDING_OPTIONS_INIT, psg_embedding(t, p.ids, p.weight, &options));
    REFUSED_ON_TAPE(psg_embedding_bag_options, PSG_EMBEDDING_BAG_OPTIONS_INIT,
                    psg_embedding_bag(t, p.ids, p.weight, psg_none(), psg_none(), &options));
    REFUSED_ON_TAPE(psg_cross_entropy_options, PSG_CROSS_ENTROPY_OPTIONS_INIT,
                    psg_cross_entropy(t, p.scores, p.labels, &options));
    REFUSED_ON_TAPE(psg_nll_options, PSG_NLL_OPTIONS_INIT, psg_nll(t, p.scores, p.labels, psg_none(), &options));
    REFUSED_ON_TAPE(psg_poisson_nll_options, PSG_POISSON_NLL_OPTIONS_INIT,
                    psg_poisson_nll(t, p.scores, p.scores, &options));
    REFUSED_ON_TAPE(psg_scaled_dot_product_attention_options, PSG_SCALED_DOT_PRODUCT_ATTENTION_OPTIONS_INIT,
                    psg_scaled_dot_product_attention(t, p.sequence, p.sequence, p.sequence, psg_none(), &options));
    REFUSED_ON_TAPE(psg_multi_head_attention_options, PSG_MULTI_HEAD_ATTENTION_OPTIONS_INIT,
                    psg_head_attention(t, p.sequence, p.sequence, p.sequence, 2, psg_none(), psg_none(), &options, NULL));
    REFUSED_ON_TAPE(psg_rnn_options, PSG_RNN_OPTIONS_INIT,
                    psg_rnn(t, p.sequence, psg_none(), psg_none(), &weights, &options, NULL));
    psg_pass pass = PSG_PASS_INIT;
    pass.reserved[0] = 1;
    test_fails(p.context, psg_tape_begin(t, &pass), PSG_ERR_ARGUMENT, "pass.reserved is not 0");
    psg_batch batch = { .reserved = { 0, 0, 1, 0 } };
    pass = (psg_pass)PSG_PASS_INIT;
    pass.batch = &batch;
    test_fails(p.context, psg_tape_begin(t, &pass), PSG_ERR_ARGUMENT, "batch.reserved is not 0");
    psg_tape_destroy(t);
    psg_params_destroy(params);
    test_context_free(p.context);
}

/* An op of the list that has options says where their reserved words lie: by its attributes all of 1s. */
static void every_op_with_options_says_where(void **state) {
    (void)state;
    static const char *const with_options[] = {
        "conv", "conv_transpose", "max_pool", "avg_pool", "unfold", "fold", "weight_standardize", "weight_norm",
        "embedding", "embedding_bag", "cross_entropy", "nll", "poisson_nll", "scaled_dot_product_attention",
    };
    psg_context *context = test_context(1, NULL);
    size_t found = 0;
    for (size_t k = 0; k < sizeof with_options / sizeof with_options[0]; k++) {
        assert_true(psg_op_find(context, with_options[k])->reserved_at > 0);
    }
    for (size_t k = 0; psg_op_at(context, k); k++) found += psg_op_at(context, k)->reserved_at > 0;
    assert_int_equal(found, sizeof with_options / sizeof with_options[0]);
    test_context_free(context);
}

static void other_structs_with_more_are_refused(void **state) {
    ledger_place *at = *state;
    psg_context *context = at->context;
    const float data[4] = { 1, 2, 3, 4 };
    double out;
    const psg_tensor value = psg_f32_1d(data, 4), rows = psg_f32_2d(data, 2, 2), scalar = psg_f64_1d(&out, 1);
    psg_optimizer *optimizer;
    psg_sgd_options sgd = PSG_SGD_OPTIONS_INIT;
    psg_adam_options adam = PSG_ADAM_OPTIONS_INIT;
    sgd.reserved[1] = adam.reserved[2] = 1;
    test_fails(context, psg_sgd_create(context, &sgd, &value, 1, &optimizer), PSG_ERR_ARGUMENT, "options.reserved");
    test_fails(context, psg_adam_create(context, &adam, &value, 1, &optimizer), PSG_ERR_ARGUMENT, "options.reserved");
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    psg_context *none;
    options.reserved[0] = 1;
    assert_int_equal(psg_context_create(&options, &none), PSG_ERR_ARGUMENT);
    psg_block block = psg_rows(&rows);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, (int64_t[]){ 2 });
    const psg_gradient *set[1] = { &gradient };
    psg_clip clip = PSG_CLIP_INIT;
    double norms[2];
    clip.reserved[3] = 1;
    test_fails(context, psg_clipped_sum(context, set, 1, &clip, PSG_OVERWRITE, &scalar, NULL, NULL, NULL),
               PSG_ERR_ARGUMENT, "clip.reserved");
    block.reserved[0] = 1;
    test_fails(context, psg_sqnorm(context, set, 1, norms, NULL, NULL), PSG_ERR_ARGUMENT, "block.reserved");
    block.reserved[0] = 0;
    gradient.reserved[0] = 1;
    test_fails(context, psg_sqnorm(context, set, 1, norms, NULL, NULL), PSG_ERR_ARGUMENT, "gradient.reserved");
    psg_op op = *psg_op_find(context, "relu");
    op.reserved[0] = 1;
    op.name = "mine";
    test_fails(context, psg_op_register(context, &op), PSG_ERR_ARGUMENT, "op.reserved");
    op.reserved[0] = 0;
    op.reserved_at = 8;
    op.attributes_size = 39;
    test_fails(context, psg_op_register(context, &op), PSG_ERR_ARGUMENT, "op->reserved_at leaves no room");
}

static void mechanisms_with_more_are_refused(void **state) {
    ledger_place *at = *state;
    psg_dp_options options = saved_options(at->path);
    saved_run run;
    saved_run_make(at->context, &options, 1, &run);
    char path[RUN_PATH];
    saved_path(at->folder, "checkpoint", path);
    psg_load_report report = PSG_LOAD_REPORT_INIT;
    psg_batch batch;
    report.reserved[3] = 1;
    test_fails(at->context, psg_weights_load(at->context, path, run.params, 2, PSG_LOAD_STRICT, &report),
               PSG_ERR_ARGUMENT, "report.reserved");
    TEST_OK(at->context, psg_dp_sample(run.dp, &batch));
    batch.reserved[0] = 1;
    test_fails(at->context, psg_dp_accumulate(run.dp, &batch, NULL, 0, NULL), PSG_ERR_ARGUMENT, "batch.reserved");
    run.checkpoint.reserved[2] = 1;
    test_fails(at->context, psg_dp_save(run.dp, &run.checkpoint, path), PSG_ERR_ARGUMENT, "checkpoint.reserved");
    psg_dp *none;
    const int64_t counts[2] = { RUN_WEIGHT, RUN_BIAS };
    options.reserved[0] = 7;
    test_fails(at->context, psg_dp_create(at->context, run.generator, &options, counts, 2, &none), PSG_ERR_ARGUMENT,
               "options.reserved");
    psg_accountant *accountant;
    psg_event event = PSG_EVENT_INIT;
    event.noise_multiplier = event.sample_rate = 1;
    event.reserved[1] = 1;
    TEST_OK(at->context, psg_accountant_create(at->context, PSG_ADD_OR_REMOVE_ONE, &accountant));
    test_fails(at->context, psg_accountant_add(accountant, &event, 1), PSG_ERR_ARGUMENT, "reserved");
    psg_accountant_destroy(accountant);
    saved_run_free(&run);
}

/* ---- zeroed structs ---- */

/* Either the default itself, bit by bit ... */
static void a_zeroed_struct_is_the_default(void **state) {
    (void)state;
    static const char zero[sizeof(psg_dp_options) + sizeof(psg_pass)];
#define IS_ZERO(type, init)                                                                                            \
    do {                                                                                                               \
        type defaults;                                                                                                 \
        memset(&defaults, 0, sizeof defaults);                                                                         \
        defaults = (type)init;                                                                                         \
        assert_memory_equal(&defaults, zero, sizeof defaults);                                                         \
    } while (0)
    IS_ZERO(psg_context_options, PSG_CONTEXT_OPTIONS_INIT);
    IS_ZERO(psg_pass, PSG_PASS_INIT);
    IS_ZERO(psg_checkpoint, PSG_CHECKPOINT_INIT);
    IS_ZERO(psg_load_report, PSG_LOAD_REPORT_INIT);
    IS_ZERO(psg_csv_options, PSG_CSV_OPTIONS_INIT);
    IS_ZERO(psg_conv_options, PSG_CONV_OPTIONS_INIT);
    IS_ZERO(psg_conv_transpose_options, PSG_CONV_TRANSPOSE_OPTIONS_INIT);
    IS_ZERO(psg_embedding_options, PSG_EMBEDDING_OPTIONS_INIT);
    IS_ZERO(psg_embedding_bag_options, PSG_EMBEDDING_BAG_OPTIONS_INIT);
    IS_ZERO(psg_cross_entropy_options, PSG_CROSS_ENTROPY_OPTIONS_INIT);
    IS_ZERO(psg_nll_options, PSG_NLL_OPTIONS_INIT);
    IS_ZERO(psg_poisson_nll_options, PSG_POISSON_NLL_OPTIONS_INIT);
    IS_ZERO(psg_max_pool_options, PSG_MAX_POOL_OPTIONS_INIT);
    IS_ZERO(psg_avg_pool_options, PSG_AVG_POOL_OPTIONS_INIT);
    IS_ZERO(psg_rnn_options, PSG_RNN_OPTIONS_INIT);
    IS_ZERO(psg_unfold_options, PSG_UNFOLD_OPTIONS_INIT);
    IS_ZERO(psg_weight_standardize_options, PSG_WEIGHT_STANDARDIZE_OPTIONS_INIT);
    IS_ZERO(psg_weight_norm_options, PSG_WEIGHT_NORM_OPTIONS_INIT);
    IS_ZERO(psg_scaled_dot_product_attention_options, PSG_SCALED_DOT_PRODUCT_ATTENTION_OPTIONS_INIT);
    IS_ZERO(psg_multi_head_attention_options, PSG_MULTI_HEAD_ATTENTION_OPTIONS_INIT);
#undef IS_ZERO
}

/* ... or refused. */
static void a_zeroed_struct_is_refused_elsewhere(void **state) {
    ledger_place *at = *state;
    psg_context *context = at->context;
    const psg_sgd_options sgd = { 0 };
    const psg_adam_options adam = { 0 };
    const psg_dp_options dp_options = { 0 };
    const psg_clip clip = { 0 };
    const psg_event event = { 0 };
    const float data[4] = { 1, 2, 3, 4 };
    double sum[2];
    const psg_tensor value = psg_f32_1d(data, 4), rows = psg_f32_2d(data, 2, 2), out = psg_f64_1d(sum, 2);
    const psg_block block = psg_rows(&rows);
    const psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, (int64_t[]){ 2 });
    const psg_gradient *set[1] = { &gradient };
    const int64_t counts[1] = { 4 };
    psg_optimizer *optimizer;
    psg_generator *generator;
    psg_accountant *accountant;
    psg_dp *dp;
    TEST_OK(context, psg_generator_create(context, &generator));
    TEST_OK(context, psg_accountant_create(context, PSG_ADD_OR_REMOVE_ONE, &accountant));
    test_fails(context, psg_sgd_create(context, &sgd, &value, 1, &optimizer), PSG_ERR_ARGUMENT, "lr is 0");
    test_fails(context, psg_adam_create(context, &adam, &value, 1, &optimizer), PSG_ERR_ARGUMENT, "lr is 0");
    test_fails(context, psg_dp_create(context, generator, &dp_options, counts, 1, &dp), PSG_ERR_ARGUMENT, "is 0");
    test_fails(context, psg_clipped_sum(context, set, 1, &clip, PSG_OVERWRITE, &out, NULL, NULL, NULL),
               PSG_ERR_ARGUMENT, "max_grad_norm is 0");
    test_fails(context, psg_accountant_add(accountant, &event, 1), PSG_ERR_ARGUMENT, "sample_rate of the event is 0");
    psg_accountant_destroy(accountant);
    psg_generator_destroy(generator);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_older_program_has_the_same_answers),
        cmocka_unit_test(sizes_are_those_of_the_soname),
        cmocka_unit_test(options_of_ops_with_more_are_refused),
        cmocka_unit_test(every_op_with_options_says_where),
        cmocka_unit_test_setup_teardown(other_structs_with_more_are_refused, ledger_place_open, ledger_place_close),
        cmocka_unit_test_setup_teardown(mechanisms_with_more_are_refused, ledger_place_open, ledger_place_close),
        cmocka_unit_test(a_zeroed_struct_is_the_default),
        cmocka_unit_test_setup_teardown(a_zeroed_struct_is_refused_elsewhere, ledger_place_open, ledger_place_close),
    };
    return cmocka_run_group_tests_name("growth", tests, NULL, NULL);
}
