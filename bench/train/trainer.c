#include "trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define INITIAL_WEIGHTS_SEED 1
#define MICRO_BATCH 256
#define STEPS_AHEAD 4                         /* that the ledger records at a time: an interruption waits for them */
#define KEPT_GRADIENTS ((size_t)64 << 20)     /* bytes that clipping may keep between norms and sum */

static psg_status create_generator(const training_options *options, trainer *t) {
    unsigned char key[32] = { 0 };
    if (!options->seeded) return psg_generator_create(t->context, &t->generator);
    for (int k = 0; k < 8; k++) key[k] = (unsigned char)(options->seed >> 8 * k);
    return psg_generator_create_seeded(t->context, key, &t->generator);
}

/* The least noise that keeps all steps within epsilon, or that of the plan. */
static psg_status create_dp(const training_options *options, const training_plan *plan, const char *ledger,
                            trainer *t) {
    psg_dp_options dp = PSG_DP_OPTIONS_INIT;
    int64_t counts[MODEL_MAX_PARAMS];
    for (int k = 0; k < t->model.count; k++) counts[k] = psg_tensor_count(&t->model.value[k]);
    dp.records = (uint64_t)plan->records;
    dp.sample_rate = plan->sample_rate;
    dp.max_grad_norm = options->recipe.max_grad_norm;
    dp.noise_multiplier = plan->noise_multiplier;
    if (plan->noise_multiplier == 0) {
        dp.epsilon = options->epsilon;
        dp.delta = options->delta;
        dp.steps = (uint64_t)plan->steps;
    }
    dp.ledger = ledger;
    dp.ledger_ahead = ledger ? STEPS_AHEAD : 0;
    return psg_dp_create(t->context, t->generator, &dp, counts, (size_t)t->model.count, &t->dp);
}

static psg_status create_sgd(const training_options *options, trainer *t) {
    psg_sgd_options sgd = PSG_SGD_OPTIONS_INIT;
    sgd.lr = options->recipe.lr;
    sgd.momentum = options->recipe.momentum;
    return psg_sgd_create(t->context, &sgd, t->model.value, (size_t)t->model.count, &t->sgd);
}

/* A batch goes in micro-batches whose activations stay in the cache. */
static psg_status create_buffers(const training_options *options, trainer *t) {
    t->capacity = MICRO_BATCH;
    t->width = dataset_width(options->input);
    t->average_decay = options->recipe.average_decay;
    t->images = malloc(t->capacity * (size_t)t->width * sizeof *t->images);
    t->labels = malloc(t->capacity * sizeof *t->labels);
    if (!t->images || !t->labels) return PSG_ERR_MEMORY;
    TRY(model_tensors(options->model, PSG_F32, t->average));
    trainer_average(t, 0);
    return model_tensors(options->model, PSG_F32, t->update);
}

psg_status trainer_create(const training_options *options, const training_plan *plan, const char *ledger, trainer *t) {
    psg_context_options context = PSG_CONTEXT_OPTIONS_INIT;
    *t = (trainer){ 0 };
    context.threads = options->threads;
    context.memory_budget = KEPT_GRADIENTS;
    TRY(psg_context_create(&context, &t->context));
    TRY(create_generator(options, t));
    TRY(psg_tape_create(t->context, &t->tape));
    TRY(model_create(t->context, options->model, PSG_F32, INITIAL_WEIGHTS_SEED, &t->model));
    TRY(create_dp(options, plan, ledger, t));
    TRY(create_sgd(options, t));
    return create_buffers(options, t);
}

void trainer_destroy(trainer *t) {
    free(t->labels);
    free(t->images);
    model_tensors_free(t->update);
    model_tensors_free(t->average);
    psg_optimizer_destroy(t->sgd);
    psg_dp_destroy(t->dp);
    psg_tape_destroy(t->tape);
    model_destroy(&t->model);
    psg_generator_destroy(t->generator);
    psg_context_destroy(t->context);
}

const char *trainer_message(const trainer *t) {
    if (t->tape && psg_tape_status(t->tape) != PSG_OK) return psg_tape_message(t->tape);
    return t->context ? psg_context_message(t->context)
                      : "the library did not start; PSG_ISA and PSG_NUM_THREADS, where set, must suit this machine";
}

micro_batch trainer_gather(trainer *t, const dataset *data, const int64_t *records, size_t count) {
    micro_batch batch = { .count = count < t->capacity ? count : t->capacity };
    for (size_t n = 0; n < batch.count; n++) {
        dataset_row(data, records[n], t->images + (int64_t)n * t->width);
        t->labels[n] = data->labels[records[n]];
    }
    batch.images = psg_f32_2d(t->images, (int64_t)batch.count, t->width);
    batch.labels = psg_i64_1d(t->labels, (int64_t)batch.count);
    return batch;
}

int trainer_class(const float *scores) {
    int best = 0;
    for (int c = 1; c < IMAGE_CLASSES; c++) {
        if (scores[c] > scores[best]) best = c;
    }
    return best;
}

long trainer_correct(const psg_tensor *scores, const micro_batch *batch) {
    const float *row = scores->data;
    const int64_t *label = batch->labels.data;
    long correct = 0;
    for (size_t n = 0; n < batch->count; n++, row += IMAGE_CLASSES) correct += trainer_class(row) == label[n];
    return correct;
}

/* Exchanges the weights and their average. */
static void swap_average(trainer *t) {
    float *weight = t->model.value[0].data, *average = t->average[0].data;
    for (int64_t i = 0; i < t->model.size; i++) {
        float w = weight[i];
        weight[i] = average[i];
        average[i] = w;
    }
}

void trainer_average(trainer *t, long step) {
    const float *weight = t->model.value[0].data;
    float *average = t->average[0].data;
    double decay = fmin(t->average_decay, (double)step / (double)(step + 10));
    for (int64_t i = 0; i < t->model.size; i++) average[i] += (float)(1 - decay) * (weight[i] - average[i]);
}

static psg_status scores_of(trainer *t, const micro_batch *batch, float *scores) {
    psg_pass pass = PSG_PASS_INIT;
    psg_tensor value;
    pass.ordinary = pass.evaluation = 1;
    TRY(psg_tape_begin(t->tape, &pass));
    TRY(psg_value(t->tape, model_scores(&t->model, t->tape, psg_input(t->tape, &batch->images)), &value));
    memcpy(scores, value.data, batch->count * IMAGE_CLASSES * sizeof *scores);
    return PSG_OK;
}

psg_status trainer_scores(trainer *t, const dataset *data, float *scores) {
    int64_t records = data->count;
    int64_t *record = malloc((size_t)records * sizeof *record);
    psg_status status = record ? PSG_OK : PSG_ERR_MEMORY;
    for (int64_t i = 0; record && i < records; i++) record[i] = i;
    swap_average(t);
    for (int64_t first = 0; first < records && status == PSG_OK; first += (int64_t)t->capacity) {
        micro_batch batch = trainer_gather(t, data, record + first, (size_t)(records - first));
        status = scores_of(t, &batch, scores + first * IMAGE_CLASSES);
    }
    swap_average(t);
    free(record);
    return status;
}

psg_status trainer_statement(const trainer *t, double delta, psg_statement_format format, char **text) {
    const size_t room = 64 * 1024;   /* of which a statement without groups takes 2,000 */
    size_t needed;
    *text = malloc(room + 1);
    if (!*text) return PSG_ERR_MEMORY;
    psg_status status = psg_dp_statement(t->dp, delta, format, *text, room, &needed);
    if (!status && needed >= room) status = PSG_ERR_OVERFLOW;
    if (status) free(*text);
    else if (format == PSG_STATEMENT_JSON) strcat(*text, "\n");
    return status;
}
