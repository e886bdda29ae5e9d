/* Logistic regression on a CSV file, with differential privacy.
 *
 *     ./logistic people.csv
 *
 * One person a line, after a line of names: age, hours, years, label (0 or 1).  Columns are brought to one scale by
 * constants that are known without the file: a mean computed from it would be a release that nothing accounts for. */
#include <psg/psg.h>
#include <stdio.h>

enum { FEATURES = 3, MOST_RECORDS = 100000, STEPS = 80 };

static const float middle[FEATURES] = { 45, 35, 12 }, spread[FEATURES] = { 15, 10, 4 };
static float features[MOST_RECORDS][FEATURES], labels[MOST_RECORDS];

typedef struct training {
    psg_context *context;
    psg_generator *generator;
    psg_params *params;
    psg_param *weight, *bias;
    psg_tape *tape;
    psg_dp *dp;
    psg_optimizer *sgd;
} training;

/* The number of records; 0, and a message: the file cannot be read, or a line is not what it must be. */
static int64_t read_records(const char *path) {
    char line[256];
    int64_t count = 0;
    FILE *file = fopen(path, "r");
    if (!file) perror(path);
    for (int number = 1; file && count < MOST_RECORDS && fgets(line, sizeof line, file); number++) {
        float *x = features[count];
        if (number == 1) continue;
        if (sscanf(line, "%f,%f,%f,%f", &x[0], &x[1], &x[2], &labels[count]) != FEATURES + 1) {
            fprintf(stderr, "%s: line %d has not %d numbers\n", path, number, FEATURES + 1);
            count = 0;
            break;
        }
        for (int j = 0; j < FEATURES; j++) x[j] = (x[j] - middle[j]) / spread[j];
        count++;
    }
    if (file) fclose(file);
    return count;
}

static psg_status prepare(training *t, int64_t records) {
    psg_dp_options options = PSG_DP_OPTIONS_INIT;   /* Poisson batches; records are clipped to norm 1 */
    options.records = (uint64_t)records;
    options.sample_rate = 0.05;
    options.epsilon = 1;                            /* the least noise that keeps all steps within it */
    options.delta = 1e-6;
    options.steps = STEPS;
    psg_sgd_options step = PSG_SGD_OPTIONS_INIT;
    step.lr = 1;
    PSG_TRY(psg_context_create(NULL, &t->context));
    PSG_TRY(psg_generator_create(t->context, &t->generator));
    PSG_TRY(psg_tape_create(t->context, &t->tape));
    PSG_TRY(psg_params_create(t->context, PSG_F32, &t->params));
    t->weight = psg_params_add(t->params, "weight", psg_init_constant(0), PSG_SHAPE(1, FEATURES));
    t->bias = psg_params_add(t->params, "bias", psg_init_constant(0), PSG_SHAPE(1));
    PSG_TRY(psg_params_initialize(t->params, 1));
    const psg_param_list all = psg_params_trainable(t->params);
    PSG_TRY(psg_dp_create(t->context, t->generator, &options, all.counts, all.count, &t->dp));
    return psg_sgd_create(t->context, &step, all.values, all.count, &t->sgd);
}

static psg_status train_step(training *t) {
    static float x[MOST_RECORDS][FEATURES], y[MOST_RECORDS];
    psg_batch batch;
    PSG_TRY(psg_dp_sample(t->dp, &batch));
    for (int64_t n = 0; n < batch.count; n++) {
        for (int j = 0; j < FEATURES; j++) x[n][j] = features[batch.ids[n]][j];
        y[n] = labels[batch.ids[n]];
    }
    const psg_tensor inputs = psg_f32_2d(x[0], batch.count, FEATURES), targets = psg_f32_2d(y, batch.count, 1);
    psg_pass pass = PSG_PASS_INIT;
    pass.batch = &batch;
    PSG_TRY(psg_tape_begin(t->tape, &pass));
    psg_var logits = psg_linear(t->tape, psg_input(t->tape, &inputs), psg_use(t->tape, t->weight),
                                psg_use(t->tape, t->bias));
    psg_var loss = psg_binary_cross_entropy_with_logits(t->tape, logits, psg_input(t->tape, &targets), PSG_MEAN);
    PSG_TRY(psg_backward(t->tape, loss));
    const psg_gradient *const *gradients;
    PSG_TRY(psg_params_gradients(t->params, t->tape, &gradients));
    PSG_TRY(psg_dp_accumulate(t->dp, &batch, gradients, psg_params_trainable(t->params).count, NULL));
    return psg_dp_release_to(t->dp, t->sgd);        /* adds the noise, updates the parameters */
}

static psg_status run(training *t, int64_t records) {
    char statement[2048];
    PSG_TRY(prepare(t, records));
    for (int k = 0; k < STEPS; k++) PSG_TRY(train_step(t));
    const float *w = psg_param_value(t->weight)->data, *b = psg_param_value(t->bias)->data;
    int64_t correct = 0;
    for (int64_t n = 0; n < records; n++) {
        const float *x = features[n], logit = w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + b[0];
        correct += (logit > 0) == (labels[n] > 0.5f);
    }
    PSG_TRY(psg_dp_statement(t->dp, 1e-6, PSG_STATEMENT_WORDS, statement, sizeof statement, NULL));
    printf("weights %.3f %.3f %.3f, bias %.3f\n%s\n", w[0], w[1], w[2], b[0], statement);
    printf("accuracy %.3f (of private records: not for publication)\n", (double)correct / (double)records);
    return PSG_OK;
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: logistic FILE.csv\n"), 2;
    const int64_t records = read_records(argv[1]);
    if (!records) return 1;
    training t = { 0 };
    psg_status status = run(&t, records);
    if (status) fprintf(stderr, "logistic: %s: %s\n", psg_status_name(status), psg_context_message(t.context));
    psg_optimizer_destroy(t.sgd);
    psg_dp_destroy(t.dp);
    psg_tape_destroy(t.tape);
    psg_params_destroy(t.params);
    psg_generator_destroy(t.generator);
    psg_context_destroy(t.context);
    return status;
}
