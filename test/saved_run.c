#include "saved_run.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- files ---- */

/* In memory where that is possible: fsync on a busy disk takes long. */
void saved_folder_make(char folder[RUN_PATH]) {
    snprintf(folder, RUN_PATH, "%s/psg-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    assert_non_null(mkdtemp(folder));
}

const char *saved_path(const char *folder, const char *name, char path[RUN_PATH]) {
    assert_true(snprintf(path, RUN_PATH, "%s/%s", folder, name) < RUN_PATH);
    return path;
}

void saved_folder_remove(const char *folder) {
    DIR *open_folder = opendir(folder);
    char path[RUN_PATH];
    assert_non_null(open_folder);
    for (struct dirent *entry; (entry = readdir(open_folder));) {
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) remove(saved_path(folder, entry->d_name, path));
    }
    closedir(open_folder);
    assert_int_equal(rmdir(folder), 0);
}

char *saved_bytes(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    char *bytes = calloc(1, (size_t)1 << 20);
    assert_non_null(file);
    *length = fread(bytes, 1, ((size_t)1 << 20) - 1, file);
    fclose(file);
    return bytes;
}

void saved_write(const char *path, const char *bytes, size_t length) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

int ledger_place_open(void **state) {
    static ledger_place place;
    place.context = test_context(1, NULL);
    saved_folder_make(place.folder);
    saved_path(place.folder, "ledger", place.path);
    *state = &place;
    return 0;
}

int ledger_place_close(void **state) {
    ledger_place *place = *state;
    test_context_free(place->context);
    saved_folder_remove(place->folder);
    return 0;
}

/* ---- the run ---- */

psg_dp_options saved_options(const char *ledger) {
    psg_dp_options options = PSG_DP_OPTIONS_INIT;
    options.records = RUN_RECORDS;
    options.sample_rate = 0.25;
    options.noise_multiplier = 1;
    options.ledger = ledger;
    options.ledger_ahead = ledger != NULL;
    return options;
}

static psg_named named(const char *name, double *values, int64_t count) {
    return (psg_named){ name, psg_tensor_of(PSG_F64, values, 1, &count) };
}

static psg_status make_optimizer(saved_run *run) {
    psg_sgd_options sgd = PSG_SGD_OPTIONS_INIT;
    const psg_tensor values[2] = { run->params[0].tensor, run->params[1].tensor };
    sgd.lr = 0.5;
    sgd.momentum = 0.9;
    return psg_sgd_create(run->context, &sgd, values, 2, &run->optimizer);
}

psg_status saved_run_try(psg_context *context, const psg_dp_options *options, unsigned char seed, saved_run *run) {
    const int64_t counts[2] = { RUN_WEIGHT, RUN_BIAS };
    unsigned char key[32] = { seed };
    *run = (saved_run){ .context = context };
    for (int i = 0; i < RUN_WEIGHT; i++) run->weight[i] = 0.1 * i;
    run->params[0] = named("layer.weight", run->weight, RUN_WEIGHT);
    run->params[1] = named("layer.bias", run->bias, RUN_BIAS);
    run->extra[0] = named("average", run->average, RUN_WEIGHT);
    psg_status status = seed ? psg_generator_create_seeded(context, key, &run->generator)
                             : psg_generator_create(context, &run->generator);
    if (!status) status = psg_dp_create(context, run->generator, options, counts, 2, &run->dp);
    if (!status) status = make_optimizer(run);
    run->checkpoint = (psg_checkpoint){ run->params, 2, run->optimizer, run->extra, 1, { 0 } };
    return status;
}

void saved_run_make(psg_context *context, const psg_dp_options *options, unsigned char seed, saved_run *run) {
    TEST_OK(context, saved_run_try(context, options, seed, run));
}

void saved_run_free(saved_run *run) {
    psg_optimizer_destroy(run->optimizer);
    psg_dp_destroy(run->dp);
    psg_generator_destroy(run->generator);
}

static void fill_rows(const saved_run *run, const psg_batch *batch, double *weight, double *bias) {
    for (int64_t n = 0; n < batch->count; n++) {
        const double x = (double)batch->ids[n];
        for (int i = 0; i < RUN_WEIGHT; i++) weight[n * RUN_WEIGHT + i] = sin(x + i) + 0.1 * run->weight[i];
        for (int i = 0; i < RUN_BIAS; i++) bias[n * RUN_BIAS + i] = cos(x * i) - run->bias[i];
    }
}

static psg_status accumulate(saved_run *run, const psg_batch *batch) {
    static double weight[RUN_RECORDS * RUN_WEIGHT], bias[RUN_RECORDS * RUN_BIAS];
    const int64_t shapes[2][1] = { { RUN_WEIGHT }, { RUN_BIAS } };
    const psg_tensor rows[2] = { psg_tensor_of(PSG_F64, weight, 3, (const int64_t[]){ batch->count, 1, RUN_WEIGHT }),
                                 psg_tensor_of(PSG_F64, bias, 3, (const int64_t[]){ batch->count, 1, RUN_BIAS }) };
    psg_block block[2] = { psg_rows(&rows[0]), psg_rows(&rows[1]) };
    psg_gradient gradient[2];
    fill_rows(run, batch, weight, bias);
    for (int k = 0; k < 2; k++) gradient[k] = psg_gradient_of_blocks(&block[k], 1, 1, shapes[k]);
    return psg_dp_accumulate(run->dp, batch, (const psg_gradient *[]){ &gradient[0], &gradient[1] }, 2, NULL);
}

psg_status saved_run_step(saved_run *run) {
    psg_batch batch;
    psg_status status = psg_dp_sample(run->dp, &batch);
    if (!status) status = accumulate(run, &batch);
    if (!status) status = psg_dp_release_to(run->dp, run->optimizer);
    for (int i = 0; !status && i < RUN_WEIGHT; i++) run->average[i] += 0.1 * (run->weight[i] - run->average[i]);
    return status;
}

void saved_run_steps(saved_run *run, int count) {
    for (int t = 0; t < count; t++) TEST_OK(run->context, saved_run_step(run));
}

double saved_run_epsilon(const saved_run *run) {
    double epsilon;
    TEST_OK(run->context, psg_accountant_epsilon_upper(psg_dp_accountant(run->dp), 1e-5, &epsilon));
    return epsilon;
}

uint64_t saved_releases(psg_context *context, const char *ledger) {
    psg_accountant *accountant;
    TEST_OK(context, psg_ledger_read(context, ledger, PSG_ADD_OR_REMOVE_ONE, &accountant));
    uint64_t releases = psg_accountant_releases(accountant);
    psg_accountant_destroy(accountant);
    return releases;
}
