#include "crash_run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "published.h"

#define NOISE_MULTIPLIER 1.5
#define MAX_GRAD_NORM 1.0
#define SAMPLE_RATE 0.06   /* some batches are empty */

const crash_mode crash_modes[] = {
    { .ledger_ahead = 1, .tell_every = 25 },
    { .ledger_ahead = 4, .epsilon = 3.0 },
    { .ledger_ahead = 0, .sampling = PSG_SAMPLING_EXTERNAL },
    { .is_seeded = true, .ledger_ahead = 1 },
    { .is_seeded = true, .ledger_ahead = 4, .sampling = PSG_SAMPLING_EXTERNAL, .is_adaptive = true },
    { .is_seeded = true, .ledger_ahead = 0, .sampling = PSG_SAMPLING_EPOCHS },
};
const int crash_mode_count = sizeof crash_modes / sizeof *crash_modes;

/* ---- making one ---- */

void crash_run_paths(crash_run *run, const char *folder, const char *ledger) {
    snprintf(run->ledger, CRASH_PATH, "%s%s", ledger ? ledger : folder, ledger ? "" : "/ledger.jsonl");
    snprintf(run->checkpoint, CRASH_PATH, "%s/checkpoint.safetensors", folder);
    snprintf(run->final, CRASH_PATH, "%s/final.safetensors", folder);
    snprintf(run->published, CRASH_PATH, "%s/published", folder);
}

static psg_tensor weight_of(double values[CRASH_OUTPUTS][CRASH_INPUTS]) {
    return psg_tensor_of(PSG_F64, values, 2, (const int64_t[]){ CRASH_OUTPUTS, CRASH_INPUTS });
}

static psg_tensor bias_of(double *values) {
    return psg_tensor_of(PSG_F64, values, 1, (const int64_t[]){ CRASH_OUTPUTS });
}

static psg_dp_options options_of(const crash_run *run) {
    psg_dp_options options = PSG_DP_OPTIONS_INIT;
    options.sampling = run->mode->sampling;
    options.records = CRASH_RECORDS;
    options.sample_rate = options.sampling == PSG_SAMPLING_POISSON ? SAMPLE_RATE : 0;
    options.batch_size = options.sampling == PSG_SAMPLING_EPOCHS ? 4 : 0;
    options.quantile = run->mode->is_adaptive ? 0.5 : 0;
    options.quantile_noise = run->mode->is_adaptive ? 2.0 : 0;
    options.expected_batch_size = SAMPLE_RATE * CRASH_RECORDS;
    options.max_grad_norm = MAX_GRAD_NORM;
    options.noise_multiplier = NOISE_MULTIPLIER;
    options.epsilon = run->mode->epsilon;
    options.delta = run->mode->epsilon > 0 ? CRASH_DELTA : 0;
    options.ledger = run->ledger;
    options.ledger_ahead = run->mode->ledger_ahead;
    return options;
}

static psg_status make_generator(crash_run *run) {
    static const unsigned char seed[32] = "a seed, and nothing private";
    return run->mode->is_seeded ? psg_generator_create_seeded(run->context, seed, &run->generator)
                                : psg_generator_create(run->context, &run->generator);
}

static void publish(crash_run *run, uint64_t is_release, uint64_t noise, const void *values, size_t bytes) {
    crash_record record = { run->incarnation, psg_dp_step(run->dp) - is_release, is_release, run->batch, noise,
                            crash_hash(values, bytes), -1 };
    psg_privacy privacy;
    const uint64_t every = run->mode->tell_every;
    if (is_release && every && record.step % every == 0 && !psg_dp_privacy(run->dp, CRASH_DELTA, &privacy)) {
        record.epsilon = privacy.epsilon;
    }
    if (crash_publish(run->published, &record)) run->is_silent = true;
}

/* Shows the sums to the world, which is what the ledger must be ahead of, and keeps them. */
static psg_status see_sums(void *user, int64_t *sums, size_t count) {
    crash_run *run = user;
    memcpy(run->sums, sums, count * sizeof *sums);
    publish(run, 0, 0, sums, count * sizeof *sums);
    return PSG_OK;
}

psg_status crash_run_open(crash_run *run, const crash_mode *mode, uint64_t incarnation) {
    const int64_t counts[CRASH_PARAMS] = { CRASH_OUTPUTS * CRASH_INPUTS, CRASH_OUTPUTS };
    psg_context_options context = PSG_CONTEXT_OPTIONS_INIT;
    psg_sgd_options sgd = PSG_SGD_OPTIONS_INIT;
    const psg_tensor values[CRASH_PARAMS] = { weight_of(run->weight), bias_of(run->bias) };
    run->mode = mode;
    run->incarnation = incarnation;
    context.threads = 1;
    sgd.lr = 0.05;
    sgd.momentum = 0.9;
    sgd.dampening = 0.1;   /* not at the first step, so the number of steps counts */
    psg_status status = psg_context_create(&context, &run->context);
    if (!status) status = make_generator(run);
    const psg_dp_options options = options_of(run);
    if (!status) status = psg_dp_create(run->context, run->generator, &options, counts, CRASH_PARAMS, &run->dp);
    if (!status) status = psg_sgd_create(run->context, &sgd, values, CRASH_PARAMS, &run->sgd);
    if (!status) psg_dp_set_reduce(run->dp, see_sums, run);
    return status;
}

void crash_run_close(crash_run *run) {
    psg_optimizer_destroy(run->sgd);
    psg_dp_destroy(run->dp);
    psg_generator_destroy(run->generator);
    psg_context_destroy(run->context);
}

/* ---- a step ---- */

/* Record i: input, and the residual of the model there. */
static void look_at(const crash_run *run, int64_t i, double *input, double *residual) {
    for (int j = 0; j < CRASH_INPUTS; j++) input[j] = sin((double)(i * CRASH_INPUTS + j));
    for (int o = 0; o < CRASH_OUTPUTS; o++) {
        residual[o] = run->bias[o] - cos((double)(i * (o + 1)));
        for (int j = 0; j < CRASH_INPUTS; j++) residual[o] += run->weight[o][j] * input[j];
    }
}

static psg_status accumulate(crash_run *run, const psg_batch *batch) {
    double inputs[CRASH_RECORDS][CRASH_INPUTS], residuals[CRASH_RECORDS][CRASH_OUTPUTS];
    for (int64_t n = 0; n < batch->count; n++) look_at(run, batch->ids[n], inputs[n], residuals[n]);
    const psg_tensor input = psg_tensor_of(PSG_F64, inputs, 2, (const int64_t[]){ batch->count, CRASH_INPUTS });
    const psg_tensor residual = psg_tensor_of(PSG_F64, residuals, 2, (const int64_t[]){ batch->count, CRASH_OUTPUTS });
    const psg_block blocks[CRASH_PARAMS] = { psg_factored(&residual, &input), psg_rows(&residual) };
    const psg_gradient gradients[CRASH_PARAMS] = {
        psg_gradient_of_blocks(&blocks[0], 1, 2, (const int64_t[]){ CRASH_OUTPUTS, CRASH_INPUTS }),
        psg_gradient_of_blocks(&blocks[1], 1, 1, (const int64_t[]){ CRASH_OUTPUTS })
    };
    const psg_gradient *const list[CRASH_PARAMS] = { &gradients[0], &gradients[1] };
    return batch->count ? psg_dp_accumulate(run->dp, batch, list, CRASH_PARAMS, NULL) : PSG_OK;
}

psg_status crash_run_sum(crash_run *run) {
    const uint64_t step = psg_dp_step(run->dp);
    int64_t ids[3];
    psg_batch batch;
    for (int64_t k = 0; k < 3; k++) ids[k] = ((int64_t)step * 3 + k) % CRASH_RECORDS;
    const bool is_external = run->mode->sampling == PSG_SAMPLING_EXTERNAL;
    psg_status status = is_external ? psg_dp_take(run->dp, ids, step % 4 ? 3 : 0, &batch)
                                    : psg_dp_sample(run->dp, &batch);
    if (status) return status;
    run->batch = crash_hash(batch.ids, (size_t)batch.count * sizeof *batch.ids);
    return accumulate(run, &batch);
}

/* The integers z of the release: it is (k + z) unit / expected_batch_size with the sums k.  (Where the unit moves with
 * a quantile, the release itself.) */
static uint64_t hash_noise(const crash_run *run) {
    enum { COUNT = sizeof run->released / sizeof *run->released };
    if (run->mode->is_adaptive) return crash_hash(run->released, sizeof run->released);
    const double unit = NOISE_MULTIPLIER * MAX_GRAD_NORM / (0x1p36 - NOISE_MULTIPLIER * sqrt(COUNT));
    int64_t noise[COUNT];
    for (int k = 0; k < COUNT; k++) {
        noise[k] = llrint(run->released[k] * psg_dp_expected_batch_size(run->dp) / unit) - run->sums[k];
    }
    return crash_hash(noise, sizeof noise);
}

psg_status crash_run_release(crash_run *run) {
    double *released = run->released;
    const psg_tensor outs[CRASH_PARAMS] = {
        psg_tensor_of(PSG_F64, released, 2, (const int64_t[]){ CRASH_OUTPUTS, CRASH_INPUTS }),
        bias_of(released + CRASH_OUTPUTS * CRASH_INPUTS)
    };
    psg_status status = psg_dp_release(run->dp, outs, CRASH_PARAMS);
    if (status) return status;
    publish(run, 1, hash_noise(run), released, sizeof run->released);
    status = psg_optimizer_step(run->sgd, outs, CRASH_PARAMS);
    for (int o = 0; o < CRASH_OUTPUTS; o++) {
        for (int j = 0; j < CRASH_INPUTS; j++) run->average[o][j] += 0.1 * (run->weight[o][j] - run->average[o][j]);
    }
    return status;
}

/* ---- files ---- */

typedef struct tensors {
    psg_named params[CRASH_PARAMS], average;
} tensors;

static tensors tensors_of(crash_run *run) {
    return (tensors){ { { "weight", weight_of(run->weight) }, { "bias", bias_of(run->bias) } },
                      { "average", weight_of(run->average) } };
}

static psg_checkpoint checkpoint_of(const crash_run *run, const tensors *t) {
    return (psg_checkpoint){ t->params, CRASH_PARAMS, run->sgd, &t->average, 1, { 0 } };
}

psg_status crash_run_save(crash_run *run) {
    const tensors t = tensors_of(run);
    const psg_checkpoint checkpoint = checkpoint_of(run, &t);
    return psg_dp_save(run->dp, &checkpoint, run->checkpoint);
}

psg_status crash_run_load(crash_run *run) {
    const tensors t = tensors_of(run);
    const psg_checkpoint checkpoint = checkpoint_of(run, &t);
    return psg_dp_load(run->dp, &checkpoint, run->checkpoint);
}

psg_status crash_run_finish(crash_run *run) {
    const tensors t = tensors_of(run);
    const psg_named all[] = { t.params[0], t.params[1], t.average };
    return psg_safetensors_write(run->context, run->final, all, 3, NULL, 0);
}
