/* ./logistic people.csv: a classifier of the records of a CSV file, trained with differential privacy.
 * One person a line, after a line of names: age, hours, years, label (0 or 1).  The scale of each column and the
 * categories of the label are known without the file: what is computed from it would be a release that nothing
 * accounts for. */
#include <psg/psg.h>
#include <stdio.h>

enum { FEATURES = 3, CLASSES = 2, STEPS = 80, MOST_RECORDS = 100000 };

typedef struct training {
    psg_context *context;
    psg_table *people;
    psg_generator *generator;
    psg_params *params;
    psg_tape *tape;
    psg_dp *dp;
    psg_optimizer *sgd;
} training;

static psg_status prepare(training *t, const char *path) {
    static const psg_csv_column numbers[FEATURES] = { { .name = "age" }, { .name = "hours" }, { .name = "years" } };
    static const char *const categories[CLASSES] = { "0", "1" };
    const psg_csv_column label = { .name = "label", .categories = categories, .category_count = CLASSES };
    const psg_csv_options csv = { .labels = &label, .label_count = 1, .numbers = numbers, .number_count = FEATURES };
    psg_sgd_options step = PSG_SGD_OPTIONS_INIT;
    psg_dp_options dp = PSG_DP_OPTIONS_INIT;        /* Poisson batches; records are clipped to norm 1 */
    PSG_TRY(psg_context_create(NULL, &t->context));
    PSG_TRY(psg_csv_read(t->context, path, &csv, &t->people));
    PSG_TRY(psg_generator_create(t->context, &t->generator));
    PSG_TRY(psg_tape_create(t->context, &t->tape));
    PSG_TRY(psg_params_create(t->context, PSG_F32, &t->params));
    psg_params_add(t->params, "weight", psg_init_constant(0), PSG_SHAPE(CLASSES, FEATURES));
    psg_params_add(t->params, "bias", psg_init_constant(0), PSG_SHAPE(CLASSES));
    PSG_TRY(psg_params_initialize(t->params, 1));
    const psg_param_list all = psg_params_trainable(t->params);
    step.lr = 1;
    dp.records = (uint64_t)psg_table_numbers(t->people)->shape[0];
    dp.sample_rate = 0.05;
    dp.epsilon = 1;                                 /* the least noise that keeps all steps within it */
    dp.delta = 1e-6;
    dp.steps = STEPS;
    PSG_TRY(psg_dp_create(t->context, t->generator, &dp, all.counts, all.count, &t->dp));
    return psg_sgd_create(t->context, &step, all.values, all.count, &t->sgd);
}

static psg_status train_step(training *t) {
    static const float middle[FEATURES] = { 45, 35, 12 }, spread[FEATURES] = { 15, 10, 4 };
    static float x[MOST_RECORDS][FEATURES];
    static int64_t y[MOST_RECORDS];
    const float *people = psg_table_numbers(t->people)->data;
    const int64_t *label = psg_table_label(t->people, 0)->data;
    psg_batch batch;
    PSG_TRY(psg_dp_sample(t->dp, &batch));
    if (batch.count > MOST_RECORDS) return PSG_ERR_OVERFLOW;
    for (int64_t n = 0; n < batch.count; n++) {
        for (int j = 0; j < FEATURES; j++) x[n][j] = (people[batch.ids[n] * FEATURES + j] - middle[j]) / spread[j];
        y[n] = label[batch.ids[n]];
    }
    const psg_tensor inputs = psg_f32_2d(x[0], batch.count, FEATURES), labels = psg_i64_1d(y, batch.count);
    const psg_pass pass = { .batch = &batch };
    PSG_TRY(psg_tape_begin(t->tape, &pass));
    psg_var weight = psg_use(t->tape, psg_params_find(t->params, "weight"));
    psg_var bias = psg_use(t->tape, psg_params_find(t->params, "bias"));
    psg_var scores = psg_linear(t->tape, psg_input(t->tape, &inputs), weight, bias);
    PSG_TRY(psg_backward(t->tape, psg_cross_entropy(t->tape, scores, psg_input(t->tape, &labels), NULL)));
    const psg_gradient *const *gradients;
    PSG_TRY(psg_params_gradients(t->params, t->tape, &gradients));
    PSG_TRY(psg_dp_accumulate(t->dp, &batch, gradients, 2, NULL));
    return psg_dp_release_to(t->dp, t->sgd);        /* adds the noise, updates the parameters */
}

static psg_status run(training *t, const char *path) {
    char statement[2048];
    PSG_TRY(prepare(t, path));
    for (int k = 0; k < STEPS; k++) PSG_TRY(train_step(t));
    PSG_TRY(psg_dp_statement(t->dp, 1e-6, PSG_STATEMENT_WORDS, statement, sizeof statement, NULL));
    const float *w = psg_params_flat(t->params).data;
    printf("%s\nfor label 1, by age, hours, years: %.3f %.3f %.3f\n", statement, w[3] - w[0], w[4] - w[1], w[5] - w[2]);
    return PSG_OK;
}

int main(int argc, char **argv) {
    training t = { 0 };
    if (argc != 2) return fprintf(stderr, "usage: logistic FILE.csv\n"), 2;
    psg_status status = run(&t, argv[1]);
    if (status) fprintf(stderr, "logistic: %s: %s\n", psg_status_name(status), psg_context_message(t.context));
    psg_optimizer_destroy(t.sgd);
    psg_dp_destroy(t.dp);
    psg_tape_destroy(t.tape);
    psg_params_destroy(t.params);
    psg_generator_destroy(t.generator);
    psg_table_destroy(t.people);
    psg_context_destroy(t.context);
    return status;
}
