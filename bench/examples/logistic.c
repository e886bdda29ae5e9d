/* ./logistic people.csv: a classifier of the records of a CSV file, trained with differential privacy.
 * One person a line, after a line of names: age, hours, years, label (0 or 1).  The scale of each column and the
 * categories of the label are known without the file: what is computed from it would be a release that nothing
 * accounts for. */
#include <psg/psg.h>
#include <stdio.h>

enum { FEATURES = 3, CLASSES = 2, STEPS = 80, MOST_RECORDS = 100000 };

static struct { psg_context *context; psg_table *people; psg_generator *generator; psg_params *params; psg_tape *tape;
                psg_dp *dp; psg_optimizer *sgd; } r;

static psg_status read_people(const char *path) {
    static const psg_csv_column numbers[FEATURES] = { { .name = "age" }, { .name = "hours" }, { .name = "years" } };
    static const char *const categories[CLASSES] = { "0", "1" };
    const psg_csv_column label = { .name = "label", .categories = categories, .category_count = CLASSES };
    const psg_csv_options csv = { .labels = &label, .label_count = 1, .numbers = numbers, .number_count = FEATURES };
    return psg_csv_read(r.context, path, &csv, &r.people);
}

/* One step: a batch of records, each one's gradient of its own loss, clipped, summed, and noise. */
static psg_status train_step(const psg_param_list *all) {
    static const float middle[FEATURES] = { 45, 35, 12 }, spread[FEATURES] = { 15, 10, 4 };
    static float x[MOST_RECORDS][FEATURES];
    static int64_t y[MOST_RECORDS];
    const float *people = psg_table_numbers(r.people)->data;
    const int64_t *label = psg_table_label(r.people, 0)->data;
    psg_batch batch;
    PSG_TRY(psg_dp_sample(r.dp, &batch));
    for (int64_t n = 0; n < batch.count; n++) {
        for (int j = 0; j < FEATURES; j++) x[n][j] = (people[batch.ids[n] * FEATURES + j] - middle[j]) / spread[j];
        y[n] = label[batch.ids[n]];
    }
    const psg_tensor inputs = psg_f32_2d(x[0], batch.count, FEATURES), labels = psg_i64_1d(y, batch.count);
    const psg_pass pass = { .batch = &batch };
    PSG_TRY(psg_tape_begin(r.tape, &pass));
    psg_var weight = psg_use(r.tape, all->params[0]), bias = psg_use(r.tape, all->params[1]);
    psg_var scores = psg_linear(r.tape, psg_input(r.tape, &inputs), weight, bias);
    PSG_TRY(psg_backward(r.tape, psg_cross_entropy(r.tape, scores, psg_input(r.tape, &labels), NULL)));
    const psg_gradient *const *gradients;
    PSG_TRY(psg_params_gradients(r.params, r.tape, &gradients));
    PSG_TRY(psg_dp_accumulate(r.dp, &batch, gradients, all->count, NULL));
    return psg_dp_release_to(r.dp, r.sgd);
}

static psg_status train(const char *path) {
    PSG_TRY(psg_context_create(NULL, &r.context));
    PSG_TRY(read_people(path));
    PSG_TRY(psg_generator_create(r.context, &r.generator));
    PSG_TRY(psg_tape_create(r.context, &r.tape));
    PSG_TRY(psg_params_create(r.context, PSG_F32, &r.params));
    psg_params_add(r.params, "weight", psg_init_constant(0), PSG_SHAPE(CLASSES, FEATURES));
    psg_params_add(r.params, "bias", psg_init_constant(0), PSG_SHAPE(CLASSES));
    PSG_TRY(psg_params_initialize(r.params, 1));
    const psg_param_list all = psg_params_trainable(r.params);
    const psg_sgd_options step = { .lr = 1 };
    psg_dp_options dp = PSG_DP_OPTIONS_INIT;                    /* Poisson batches; records are clipped to norm 1 */
    dp.records = (uint64_t)psg_table_numbers(r.people)->shape[0], dp.sample_rate = 0.05;
    dp.max_batch_size = MOST_RECORDS;
    dp.epsilon = 1, dp.delta = 1e-6, dp.steps = STEPS;          /* the least noise that keeps all steps within it */
    PSG_TRY(psg_dp_create(r.context, r.generator, &dp, all.counts, all.count, &r.dp));
    PSG_TRY(psg_sgd_create(r.context, &step, all.values, all.count, &r.sgd));
    for (int k = 0; k < STEPS; k++) PSG_TRY(train_step(&all));
    char statement[2048];
    PSG_TRY(psg_dp_statement(r.dp, dp.delta, PSG_STATEMENT_WORDS, statement, sizeof statement, NULL));
    const float *w = psg_params_flat(r.params).data;
    printf("%s\nfor label 1, by age, hours, years: %.3f %.3f %.3f\n", statement, w[3] - w[0], w[4] - w[1], w[5] - w[2]);
    return PSG_OK;
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: logistic FILE.csv\n"), 2;
    psg_status status = train(argv[1]);
    if (status) fprintf(stderr, "logistic: %s: %s\n", psg_status_name(status), psg_context_message(r.context));
    psg_optimizer_destroy(r.sgd), psg_dp_destroy(r.dp), psg_tape_destroy(r.tape), psg_params_destroy(r.params);
    psg_generator_destroy(r.generator), psg_table_destroy(r.people), psg_context_destroy(r.context);
    return status;
}
