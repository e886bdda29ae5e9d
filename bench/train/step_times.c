#include "step_times.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCHES 30
#define LOOP_BATCHES 3

/* ---- the step without privacy: the gradient of the whole batch, no norm, no clipping, no noise ---- */

static psg_status ordinary_gradient(trainer *t, const micro_batch *batch, psg_write write, const psg_tensor *sums) {
    static const psg_cross_entropy_options sum = { .reduction = PSG_SUM };
    psg_pass pass = PSG_PASS_INIT;
    model_gradients gradients;
    pass.ordinary = 1;
    TRY(psg_tape_begin(t->tape, &pass));
    psg_var scores = model_scores(&t->model, t->tape, psg_input(t->tape, &batch->images));
    psg_var loss = psg_cross_entropy(t->tape, scores, psg_input(t->tape, &batch->labels), &sum);
    TRY(psg_backward(t->tape, loss));
    TRY(model_gradients_of(&t->model, t->tape, &gradients));
    return psg_weighted_sum(t->context, gradients.list, (size_t)t->model.count, NULL, write, sums);
}

/* sum += factor * (the sum of count gradients); all parameters lie in one piece. */
static void add(psg_tensor *sum, double factor, const psg_tensor *gradient, int64_t size) {
    float *y = sum[0].data;
    const float *x = gradient[0].data;
    for (int64_t i = 0; i < size; i++) y[i] += (float)factor * x[i];
}

static void scale(psg_tensor *sum, double factor, int64_t size) {
    float *y = sum[0].data;
    for (int64_t i = 0; i < size; i++) y[i] *= (float)factor;
}

static psg_status plain_step(trainer *t, const dataset *data, const int64_t *records, size_t count) {
    if (count == 0) return PSG_OK;
    for (size_t first = 0; first < count; first += t->capacity) {
        micro_batch batch = trainer_gather(t, data, records + first, count - first);
        TRY(ordinary_gradient(t, &batch, first ? PSG_ACCUMULATE : PSG_OVERWRITE, t->update));
    }
    scale(t->update, 1.0 / (double)count, t->model.size);
    return psg_optimizer_step(t->sgd, t->update, (size_t)t->model.count);
}

/* ---- the naive loop: one pass a sample, its norm, clip, add; then noise ---- */

static double norm(const psg_tensor *gradient, int64_t size) {
    const float *x = gradient[0].data;
    double sum = 0;
    for (int64_t i = 0; i < size; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static psg_status add_noise(trainer *t, double deviation, psg_tensor *sum) {
    int64_t size = t->model.size;
    double *noise = malloc((size_t)size * sizeof *noise);
    psg_status status = noise ? psg_gaussian(t->generator, 0, 0, 0, noise, (size_t)size) : PSG_ERR_MEMORY;
    float *y = sum[0].data;
    for (int64_t i = 0; status == PSG_OK && i < size; i++) y[i] += (float)(deviation * noise[i]);
    free(noise);
    return status;
}

static psg_status loop_step(trainer *t, const training_options *options, const dataset *data, const int64_t *records,
                            size_t count, psg_tensor *gradient) {
    scale(t->update, 0.0, t->model.size);
    for (size_t n = 0; n < count; n++) {
        micro_batch sample = trainer_gather(t, data, records + n, 1);
        TRY(ordinary_gradient(t, &sample, PSG_OVERWRITE, gradient));
        double factor = fmin(1.0, options->recipe.max_grad_norm / norm(gradient, t->model.size));
        add(t->update, factor, gradient, t->model.size);
    }
    TRY(add_noise(t, psg_dp_noise_multiplier(t->dp) * options->recipe.max_grad_norm, t->update));
    scale(t->update, 1.0 / options->recipe.batch, t->model.size);
    return psg_optimizer_step(t->sgd, t->update, (size_t)t->model.count);
}

/* ---- measuring ---- */

typedef struct measurement {
    const training_options *options;
    const dataset *data;
    trainer *t;
    int64_t *records;
    double private_seconds[BATCHES], plain_seconds[BATCHES], loop_seconds[LOOP_BATCHES];
} measurement;

static psg_status measure_batch(measurement *m, size_t batch, const psg_batch *drawn, private_step step) {
    size_t count = (size_t)drawn->count;
    double start = now_seconds();
    TRY(step(m->t, m->data, drawn));
    double after_private = now_seconds();
    TRY(plain_step(m->t, m->data, m->records, count));
    m->private_seconds[batch] = after_private - start;
    m->plain_seconds[batch] = now_seconds() - after_private;
    return PSG_OK;
}

static psg_status measure_loop(measurement *m, size_t batch, size_t count) {
    psg_tensor gradient[MODEL_MAX_PARAMS];
    double start = now_seconds();
    TRY(model_tensors(m->t->model.kind, PSG_F32, gradient));
    psg_status status = loop_step(m->t, m->options, m->data, m->records, count, gradient);
    model_tensors_free(gradient);
    m->loop_seconds[batch] = now_seconds() - start;
    return status;
}

/* The records of a batch, which the release takes back. */
static psg_status draw(measurement *m, psg_batch *batch) {
    TRY(psg_dp_sample(m->t->dp, batch));
    memcpy(m->records, batch->ids, (size_t)batch->count * sizeof *batch->ids);
    return PSG_OK;
}

static psg_status measure_all(measurement *m, private_step step) {
    psg_batch drawn;
    for (size_t batch = 0; batch < BATCHES; batch++) {
        TRY(draw(m, &drawn));
        TRY(measure_batch(m, batch, &drawn, step));
    }
    for (size_t batch = 0; batch < LOOP_BATCHES; batch++) TRY(measure_loop(m, batch, (size_t)drawn.count));
    return PSG_OK;
}

psg_status step_times_measure(const training_options *options, const training_plan *plan, double noise_multiplier,
                              const dataset *data, private_step step, step_times *times) {
    trainer t;
    measurement m = { .options = options, .data = data, .t = &t };
    training_plan timed = *plan;
    timed.noise_multiplier = noise_multiplier;
    timed.records = data->count;
    timed.sample_rate = fmin(1, options->recipe.batch / (double)data->count);
    times->batch = timed.sample_rate * (double)data->count;
    psg_status status = trainer_create(options, &timed, NULL, &t);
    m.records = malloc((size_t)data->count * sizeof *m.records);
    if (!m.records) status = PSG_ERR_MEMORY;
    if (status == PSG_OK) status = measure_all(&m, step);
    if (status == PSG_OK) {
        times->ms_private = 1e3 * bench_median(m.private_seconds, BATCHES);
        times->ms_plain = 1e3 * bench_median(m.plain_seconds, BATCHES);
        times->ms_loop = 1e3 * bench_median(m.loop_seconds, LOOP_BATCHES);
    }
    if (status != PSG_OK) fprintf(stderr, "steps cannot be timed: %s\n", trainer_message(&t));
    free(m.records);
    trainer_destroy(&t);
    return status;
}
