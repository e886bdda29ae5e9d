/* Private runs, accountants, optimizers and files in a host's floating-point environment. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host_floats.h"

static void draw(float *x, size_t count, double scale) {
    test_random random = { count };
    for (size_t k = 0; k < count; k++) x[k] = (float)(scale * test_normal(&random));
}

static void see_privacy(const psg_privacy *p) {
    const double values[] = { p->epsilon, p->delta, p->epsilon_lower, p->delta_lower, p->order, p->interval };
    host_see(values, sizeof values);
}

/* ---- a private run ---- */

enum { ROWS = 40, WIDTH = 5 };

static void see_statement(psg_dp *dp) {
    char text[8192];
    psg_privacy privacy;
    HOST_OK(psg_dp_statement(dp, 1e-5, PSG_STATEMENT_JSON, text, sizeof text, NULL));
    host_see(text, strlen(text));
    HOST_OK(psg_dp_privacy(dp, 1e-5, &privacy));
    see_privacy(&privacy);
}

static void private_step(psg_dp *dp, psg_optimizer *optimizer, const float *grad) {
    const int64_t width = WIDTH;
    psg_batch batch;
    HOST_OK(psg_dp_sample(dp, &batch));
    host_see(batch.ids, (size_t)batch.count * sizeof *batch.ids);
    psg_tensor rows = psg_f32_3d(grad, batch.count, 1, WIDTH);
    psg_block block = psg_rows(&rows);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, &width);
    HOST_OK(psg_dp_accumulate(dp, &batch, (const psg_gradient *[]){ &gradient }, 1, NULL));
    HOST_OK(psg_dp_release_to(dp, optimizer));
    host_see_double(psg_dp_max_grad_norm(dp));
}

static psg_dp_options private_options(void) {
    psg_dp_options options = PSG_DP_OPTIONS_INIT;
    options.records = ROWS;
    options.sample_rate = 0.3;
    options.max_grad_norm = 0.7;
    options.quantile = 0.4;
    options.quantile_noise = 5;
    options.noise_multiplier = 1.3;
    return options;
}

static void private_run(psg_context *context) {
    unsigned char seed[32] = { 1 };
    float weight[WIDTH] = { 1 / 3.f, 0.1f, 0, 1, 2 }, grad[ROWS * WIDTH], out[WIDTH];
    psg_dp_options options = private_options();
    psg_adam_options adam = PSG_ADAM_OPTIONS_INIT;
    psg_tensor value = psg_f32_1d(weight, WIDTH), released = psg_f32_1d(out, WIDTH);
    psg_generator *generator;
    psg_optimizer *optimizer;
    psg_dp *dp;
    draw(grad, ROWS * WIDTH, 0.3);
    grad[0] = 1e-39f;
    TEST_OK(context, psg_generator_create_seeded(context, seed, &generator));
    HOST_OK(psg_dp_create(context, generator, &options, (const int64_t[]){ WIDTH }, 1, &dp));
    host_see_double(psg_dp_noise_multiplier(dp));
    HOST_OK(psg_adam_create(context, &adam, &value, 1, &optimizer));
    for (int turn = 0; turn < 3; turn++) private_step(dp, optimizer, grad);
    psg_batch batch;
    HOST_OK(psg_dp_sample(dp, &batch));
    HOST_OK(psg_dp_release(dp, &released, 1));
    HOST_OK(psg_optimizer_step(optimizer, &released, 1));
    host_see(weight, sizeof weight);
    see_statement(dp);
    psg_optimizer_destroy(optimizer);
    psg_dp_destroy(dp);
    psg_generator_destroy(generator);
}

static void deviates(psg_context *context) {
    unsigned char seed[32] = { 2 };
    psg_generator *generator;
    double normal[500];
    int64_t whole[500];
    TEST_OK(context, psg_generator_create_seeded(context, seed, &generator));
    HOST_OK(psg_gaussian(generator, 1, 2, 3, normal, 500));
    HOST_OK(psg_discrete_gaussian(generator, 1, 2, 3, whole, 500));
    host_see(normal, sizeof normal);
    host_see(whole, sizeof whole);
    psg_generator_destroy(generator);
}

/* ---- the accountant ---- */

static void account(psg_context *context, psg_event event, uint64_t releases, psg_relation relation) {
    psg_accountant *accountant;
    psg_privacy privacy;
    double upper;
    uint64_t fit;
    TEST_OK(context, psg_accountant_create(context, relation, &accountant));
    HOST_OK(psg_accountant_add(accountant, &event, releases));
    HOST_OK(psg_accountant_epsilon(accountant, 1e-5, &privacy));
    see_privacy(&privacy);
    HOST_OK(psg_accountant_delta(accountant, 0.7, &privacy));
    see_privacy(&privacy);
    HOST_OK(psg_accountant_epsilon_upper(accountant, 1e-6, &upper));
    HOST_OK(psg_accountant_remaining(accountant, &event, 2, 1e-5, &fit));
    host_see_double(upper);
    host_see(&fit, sizeof fit);
    psg_accountant_destroy(accountant);
}

static void accountants(psg_context *context) {
    const psg_event poisson = { .noise_multiplier = 1.1, .sample_rate = 0.013 };
    const psg_event fixed = { .sampling = PSG_SAMPLING_FIXED_SIZE, .noise_multiplier = 2.3, .records = 1000,
                              .batch_size = 37 };
    const psg_event external = { .sampling = PSG_SAMPLING_EXTERNAL, .noise_multiplier = 7.3 };
    account(context, poisson, 10, PSG_ADD_OR_REMOVE_ONE);
    account(context, fixed, 3, PSG_REPLACE_ONE);
    account(context, external, 20, PSG_ADD_OR_REMOVE_ONE);
}

static void calibration(psg_context *context) {
    const psg_event all = { .sampling = PSG_SAMPLING_EXTERNAL, .noise_multiplier = 7.3 };
    const psg_event some = { .noise_multiplier = 1.7, .sample_rate = 0.013 };
    double sigma, rate, rdp, epsilon;
    uint64_t steps;
    HOST_OK(psg_calibrate_noise(context, &all, 200, PSG_ADD_OR_REMOVE_ONE, 1.3, 1e-5, &sigma));
    HOST_OK(psg_calibrate_rate(context, &some, 30, PSG_ADD_OR_REMOVE_ONE, 1.3, 1e-5, &rate));
    HOST_OK(psg_calibrate_steps(context, &all, PSG_ADD_OR_REMOVE_ONE, 1.3, 1e-5, &steps));
    const double found[] = { sigma, rate, (double)steps };
    host_see(found, sizeof found);
    for (double alpha = 1.5; alpha < 40; alpha *= 1.7) {
        HOST_OK(psg_rdp_sampled_gaussian(0.013, 1.1, alpha, &rdp));
        HOST_OK(psg_gaussian_epsilon(alpha, 3, 1e-5, &epsilon));
        host_see_double(rdp);
        host_see_double(epsilon);
    }
}

/* ---- optimizers, files ---- */

static void momentum(psg_context *context) {
    psg_sgd_options options = { 0.1, 0.9, 0.3, 0.01, 0, { 0 } };
    float weight[WIDTH] = { 0.1f, 0.2f, 0.3f, 0.4f, 1e-39f }, grad[WIDTH] = { 0.3f, -0.1f, 0.7f, 1e-20f, 1e-39f };
    psg_tensor value = psg_f32_1d(weight, WIDTH), gradient = psg_f32_1d(grad, WIDTH);
    psg_optimizer *optimizer;
    HOST_OK(psg_sgd_create(context, &options, &value, 1, &optimizer));
    for (int turn = 0; turn < 5; turn++) HOST_OK(psg_optimizer_step(optimizer, &gradient, 1));
    host_see(weight, sizeof weight);
    psg_optimizer_destroy(optimizer);
}

static void files(psg_context *context) {
    char path[] = "/tmp/psg-floats-XXXXXX";
    float from[WIDTH] = { 0.1f, 1e-39f, -3, 1e20f, 1e-44f };
    double to[WIDTH];
    const psg_named saved = { "w", psg_f32_1d(from, WIDTH) };
    const psg_named loaded = { "w", psg_tensor_of(PSG_F64, to, 1, (const int64_t[]){ WIDTH }) };
    close(mkstemp(path));
    HOST_OK(psg_safetensors_write(context, path, &saved, 1, NULL, 0));
    HOST_OK(psg_weights_load(context, path, &loaded, 1, PSG_LOAD_STRICT, NULL));
    remove(path);
    host_see(to, sizeof to);
}

/* ---- in every environment ---- */

static const host_calls calls[] = {
    { "private run", private_run, true },
    { "deviates", deviates, true },
    { "accountants", accountants, false },
    { "calibration", calibration, false },
    { "momentum", momentum, true },
    { "files", files, false },
};
enum { CALLS = sizeof calls / sizeof calls[0] };

static void same_bits_in_every_environment(void **state) {
    (void)state;
    host_same_bits_in_every_environment(calls, CALLS);
}

static void same_bits_in_a_loop_of_the_hosts(void **state) {
    (void)state;
    host_same_bits_in_its_own_loop(calls, CALLS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_in_every_environment),
        cmocka_unit_test(same_bits_in_a_loop_of_the_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
