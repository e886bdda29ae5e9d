/* The mechanism's promises: what one record can move, what its budget allows, what it says of itself. */
#include "dp_batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "accountant/event.h"
#include "base/context.h"
#include "dp/grid_noise.h"
#include "dp/mechanism.h"

static psg_dp *open_dp(psg_context *context, psg_generator **generator, const psg_dp_options *options,
                       const int64_t *counts, size_t count, bool seeded) {
    const unsigned char seed[32] = { 9 };
    psg_dp *dp;
    if (seeded) TEST_OK(context, psg_generator_create_seeded(context, seed, generator));
    else TEST_OK(context, psg_generator_create(context, generator));
    TEST_OK(context, psg_dp_create(context, *generator, options, counts, count, &dp));
    return dp;
}

static void close_dp(psg_dp *dp, psg_generator *generator) {
    psg_dp_destroy(dp);
    psg_generator_destroy(generator);
}

static psg_status release(psg_dp *dp, double *out) {
    psg_tensor outs[DP_PARAMS];
    for (size_t k = 0; k < dp->param_count; k++) {
        const int64_t count = (int64_t)psg_dp_elements(dp, k);
        outs[k] = psg_tensor_of(PSG_F64, out + dp->offset[k], 1, &count);
    }
    return psg_dp_release(dp, outs, dp->param_count);
}

/* ---- the grid ---- */

/* C / unit + sqrt(D) <= S / sigma in long double, and not much less. */
static void addends_stay_below_the_noise(void **state) {
    (void)state;
    static const double sigmas[] = { 0x1p-10, 0.3, 1, 7, 1e4, 1e6 }, norms[] = { 1e-100, 1e-3, 1, 1e100 };
    static const double elements[] = { 1, 1e4, 1e8 };
    for (int k = 0; k < 6 * 4 * 3; k++) {
        double sigma = sigmas[k % 6], c = norms[k / 6 % 4], d = elements[k / 24];
        psg_grid grid = psg_grid_of(sigma, c, d);
        long double longest = (long double)c * grid.units + sqrtl(d), most = 0x1p36L / sigma;
        assert_true(longest <= most && longest >= most * (1 - 0x1p-40L) - 1);
        assert_true((long double)grid.units * grid.unit <= 1);
    }
    assert_true(psg_grid_of(1e6, 1, 1e20).unit == 0 && psg_grid_of(1, 1e-310, 1).unit == 0);
}

/* ---- groups ---- */

/* Sample 1 beyond the others: every group's part of the sum moves by at most its C_g, and reaches it. */
static void groups_are_clipped_apart(void **state) {
    (void)state;
    psg_context *context = test_context(2, NULL);
    test_random random = { 3 };
    dp_batch batch = dp_batch_new(&random, PSG_F64, 2, 3, 10);
    static const double shares[] = { 3, 4 };
    static const int groups[] = { 0, 1, 0 };   /* weight and scale; bias */
    psg_dp_options options = dp_external(2, 0, 1, 8);
    options.group_count = 2;
    options.groups = groups;
    options.group_norms = shares;
    double out[2][DP_MAX_ELEMENTS], square[2] = { 0, 0 };
    for (int count = 1; count <= 2; count++) {
        dp_run run = dp_run_new(context, &options, &batch, 1);
        TEST_OK(context, dp_run_add(&run, &batch, 0, count));
        TEST_OK(context, dp_run_release(&run, out[count - 1]));
        dp_run_free(&run);
    }
    for (int64_t i = 0; i < dp_batch_elements(&batch); i++) {
        bool bias = i >= batch.p * batch.d && i < batch.p * batch.d + batch.p;
        square[bias] += (out[1][i] - out[0][i]) * (out[1][i] - out[0][i]);
    }
    test_near(sqrt(square[0]), 2 * 0.6, 1e-8, "group 0 of 3 / 5 C", 0);
    test_near(sqrt(square[1]), 2 * 0.8, 1e-8, "group 1 of 4 / 5 C", 0);
    assert_true(sqrt(square[0] + square[1]) <= 2 * (1 + 1e-9));
    dp_batch_free(&batch);
    test_context_free(context);
}

/* Group 1 has a C that is refused when group 0 is in the sums: all are lost, and the release is noise. */
static void groups_that_fail_are_lost(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    test_random random = { 4 };
    dp_batch batch = dp_batch_new(&random, PSG_F64, 2, 1, 1);
    static const double shares[] = { 1, 1e-15 };
    static const int groups[] = { 0, 1, 0 };
    psg_dp_options options = dp_external(1e-90, 1, 1, 8);
    options.group_count = 2;
    options.groups = groups;
    options.group_norms = shares;
    double out[DP_MAX_ELEMENTS], noise[DP_MAX_ELEMENTS];
    dp_run run = dp_run_new(context, &options, &batch, 1), other = dp_run_new(context, &options, &batch, 1);
    test_fails(context, dp_run_add(&run, &batch, 0, 1), PSG_ERR_ARGUMENT, "max_grad_norm is 1e-105");
    test_fails(context, dp_run_add(&run, &batch, 1, 1), PSG_ERR_STATE, "lost to a failure");
    TEST_OK(context, dp_run_release(&run, out));
    TEST_OK(context, dp_run_release(&other, noise));
    assert_memory_equal(out, noise, (size_t)dp_batch_elements(&batch) * sizeof *out);
    dp_run_free(&run), dp_run_free(&other);
    dp_batch_free(&batch);
    test_context_free(context);
}

/* c b = C b / (b + 0.01), C; of norms 5 and 0.5. */
static void automatic_clipping_scales_every_record(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const float rows[2][2] = { { 3, 4 }, { 0.3f, 0.4f } };
    const int64_t two = 2;
    for (int clipping = PSG_CLIP_AUTOMATIC; clipping <= PSG_CLIP_NORMALIZED; clipping++) {
        for (int n = 0; n < 2; n++) {
            psg_dp_options options = dp_external(0.7, 0, 1, 8);
            options.clipping = (psg_clipping)clipping;
            psg_generator *generator;
            psg_dp *dp = open_dp(context, &generator, &options, &two, 1, true);
            psg_tensor view = psg_f32_2d(rows[n], 1, 2);
            psg_block block = psg_rows(&view);
            psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, &two);
            const psg_gradient *list = &gradient;
            psg_batch batch = dp_take(context, dp, 0, 1);
            double out[2], norm = n ? 0.5 : 5;
            TEST_OK(context, psg_dp_accumulate(dp, &batch, &list, 1, NULL));
            TEST_OK(context, release(dp, out));
            double expected = clipping == PSG_CLIP_AUTOMATIC ? 0.7 * norm / (norm + 0.01) : 0.7;
            test_near(hypot(out[0], out[1]), expected, 1e-6, "norm of what it adds", n);
            assert_true(hypot(out[0], out[1]) <= 0.7 * (1 + 0x1p-35));
            close_dp(dp, generator);
        }
    }
    test_context_free(context);
}

/* ---- the noise ---- */

/* Without records a release is z unit / expected_batch_size, z at the element's place among those of all parameters. */
static void check_noise(const psg_dp *dp, uint64_t step, double factor, const double *out) {
    static int64_t z[PSG_GRID_BLOCK];
    const psg_stream stream = { PSG_PURPOSE_GRID_NOISE, 0, dp->owner, step };
    for (size_t at = 0; at < psg_dp_total(dp); at++) {
        const size_t block = at / PSG_GRID_BLOCK;
        if (at % PSG_GRID_BLOCK == 0) {
            psg_grid_noise(dp->generator, &stream, block, PSG_GRID_BLOCK, z, dp->context->workspace[0]);
        }
        assert_true(out[at] == factor * (double)z[at % PSG_GRID_BLOCK]);
    }
}

/* Parameters of nothing, within a block, up to its end, over two of them, and small ones. */
static void noise_is_that_of_the_place(void **state) {
    (void)state;
    static const int64_t counts[] = { 0, 100, 2048, 14236, 0, 40000, 5, 0, 1, 3000, 0 };
    enum { PARAMS = sizeof counts / sizeof *counts, TOTAL = 59390 };
    static double out[TOTAL];
    psg_context *context = test_context(2, NULL);
    psg_dp_options options = dp_external(1, 1.5, 8, 16);
    psg_generator *generator;
    psg_dp *dp = open_dp(context, &generator, &options, counts, PARAMS, true);
    psg_tensor outs[PARAMS];
    for (size_t k = 0; k < PARAMS; k++) outs[k] = psg_tensor_of(PSG_F64, out + dp->offset[k], 1, &counts[k]);
    assert_int_equal(psg_dp_total(dp), TOTAL);
    for (uint64_t step = 0; step < 3; step++) {
        const double factor = dp->grid.unit / 8;
        TEST_OK(context, psg_dp_release(dp, outs, PARAMS));
        check_noise(dp, step, factor, out);
    }
    close_dp(dp, generator);
    test_context_free(context);
}

/* ---- the quantile ---- */

/* Without records a release is its noise, and log C moves by that of the count: the first element's would tell it. */
static void the_count_has_noise_of_its_own(void **state) {
    (void)state;
    enum { RELEASES = 200 };
    psg_context *context = test_context(1, NULL);
    const int64_t one = 1;
    psg_dp_options options = dp_external(1, 1, 1, 4);
    options.quantile = 0.5, options.quantile_noise = 5;
    psg_generator *generator;
    psg_dp *dp = open_dp(context, &generator, &options, &one, 1, true);
    double xy = 0, xx = 0, yy = 0;
    for (int k = 0; k < RELEASES; k++) {
        const double norm = psg_dp_max_grad_norm(dp), unit = dp->grid.unit;
        double out;
        assert_true(unit == psg_grid_of(dp->gradient_noise, norm, 1).unit);   /* of the C that has moved */
        TEST_OK(context, release(dp, &out));
        const double x = out / unit / 0x1p36, y = log(psg_dp_max_grad_norm(dp) / norm);
        xy += x * y, xx += x * x, yy += y * y;
    }
    test_near(sqrt(yy / RELEASES), 0.2 * 5, 4.89 / sqrt(2 * RELEASES), "deviation of log C: rate quantile_noise", 0);
    test_near(xy / sqrt(xx * yy), 0, 4.89 / sqrt(RELEASES), "correlation", 0);
    close_dp(dp, generator);
    test_context_free(context);
}

/* Norms 1 to 100: the median is 50, found from a C far above and far below. */
static void c_follows_the_quantile(void **state) {
    (void)state;
    enum { B = 100, STEPS = 150 };
    psg_context *context = test_context(1, NULL);
    const int64_t one = 1;
    float rows[B];
    for (int n = 0; n < B; n++) rows[n] = (float)(n + 1);
    for (int start = 0; start < 2; start++) {
        psg_dp_options options = dp_external(start ? 1e4 : 1e-2, 1, B, B);
        options.quantile = 0.5;
        psg_generator *generator;
        psg_dp *dp = open_dp(context, &generator, &options, &one, 1, true);
        assert_true(dp->gradient_noise > 1 && dp->options.quantile_noise == 5);
        test_near(1 / (dp->gradient_noise * dp->gradient_noise) + 1 / 100.0, 1, 1e-12, "noise", 0);
        double mean = 0;
        for (int step = 0; step < STEPS; step++) {
            psg_tensor view = psg_f32_2d(rows, B, 1);
            psg_block block = psg_rows(&view);
            psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, &one);
            const psg_gradient *list = &gradient;
            psg_batch batch = dp_take(context, dp, 0, B);
            double out;
            TEST_OK(context, psg_dp_accumulate(dp, &batch, &list, 1, NULL));
            TEST_OK(context, release(dp, &out));
            if (step >= STEPS - 50) mean += log(psg_dp_max_grad_norm(dp)) / 50;
        }
        /* C moves by a factor of exp(0.2 0.05) a step by its noise, and back by that of 0.2 of its distance. */
        test_near(mean, log(50), 0.08, "logarithm of C", start);
        close_dp(dp, generator);
    }
    test_context_free(context);
}

/* ---- the budget ---- */

static void a_budget_finds_its_noise_and_ends(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_generator *generator;
    const int64_t one = 1;
    psg_dp_options options = PSG_DP_OPTIONS_INIT;
    options.records = 1000;
    options.sample_rate = 0.1;
    options.epsilon = 2;
    options.delta = 1e-5;
    options.steps = 7;
    psg_dp *dp = open_dp(context, &generator, &options, &one, 1, false);
    psg_batch batch;
    psg_privacy privacy;
    double out = 0;
    assert_true(psg_dp_noise_multiplier(dp) > 0.5 && psg_dp_remaining(dp) == 7);
    for (int step = 0; step < 7; step++) {
        TEST_OK(context, psg_dp_sample(dp, &batch));
        TEST_OK(context, release(dp, &out));
    }
    TEST_OK(context, psg_dp_privacy(dp, 1e-5, &privacy));
    assert_true(privacy.epsilon <= 2 && privacy.epsilon > 1.98);
    out = 7;
    test_fails(context, psg_dp_sample(dp, &batch), PSG_ERR_BUDGET, "allows 7 releases");
    test_fails(context, release(dp, &out), PSG_ERR_BUDGET, "allows 7 releases");
    assert_true(out == 7 && psg_dp_step(dp) == 7 && psg_dp_remaining(dp) == 0);
    /* With what was spent, three times the budget: a smaller rest than a budget of 4 alone has. */
    psg_dp *later, *alone;
    options.noise_multiplier = psg_dp_noise_multiplier(dp);
    options.epsilon = 4;
    options.steps = 0;
    TEST_OK(context, psg_dp_create(context, generator, &options, &one, 1, &alone));
    options.earlier = psg_dp_accountant(dp);
    TEST_OK(context, psg_dp_create(context, generator, &options, &one, 1, &later));
    assert_true(psg_dp_remaining(later) + 7 == psg_dp_remaining(alone) && psg_dp_remaining(later) > 7);
    assert_int_equal(psg_accountant_releases(psg_dp_accountant(later)), 7);
    psg_dp_destroy(later);
    psg_dp_destroy(alone);
    close_dp(dp, generator);
    test_context_free(context);
}

/* Nothing needs to be taken before a release where the caller draws: the release itself asks. */
static void a_budget_ends_without_batches(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_generator *generator;
    const int64_t one = 1;
    psg_dp_options options = dp_external(1, 100, 8, 16);
    options.epsilon = 1;
    options.delta = 1e-5;
    options.steps = 2;
    psg_dp *dp = open_dp(context, &generator, &options, &one, 1, false);
    double out = 0;
    for (int step = 0; step < 2; step++) TEST_OK(context, release(dp, &out));
    out = 7;
    test_fails(context, release(dp, &out), PSG_ERR_BUDGET, "allows 2 releases");
    assert_true(out == 7 && psg_dp_step(dp) == 2);
    assert_int_equal(psg_accountant_releases(psg_dp_accountant(dp)), 2);
    close_dp(dp, generator);
    test_context_free(context);
}

/* What is in the account is what the options say of the draw, the noise and the neighbours, and nothing beside. */
static void the_account_is_of_what_is_drawn(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_generator *generator;
    const int64_t one = 1;
    psg_dp_options poisson = PSG_DP_OPTIONS_INIT;
    poisson.records = 1000, poisson.sample_rate = 0.1, poisson.noise_multiplier = 2;
    poisson.expected_batch_size = 50;   /* a denominator, not the rate */
    psg_dp_options options[4] = { poisson, poisson, poisson, poisson };
    psg_event expected[4];
    options[1].relation = PSG_REPLACE_ONE;
    options[2].sampling = PSG_SAMPLING_TRUNCATED_POISSON, options[2].max_batch_size = 120;
    options[3].quantile = 0.5;
    TEST_OK(context, psg_generator_create(context, &generator));
    for (int k = 0; k < 4; k++) {
        psg_dp *dp;
        psg_batch batch;
        psg_event event;
        uint64_t releases;
        double out;
        expected[k] = (psg_event){ .sampling = options[k].sampling, .noise_multiplier = 2, .sample_rate = 0.1 };
        expected[k].residue_epsilon = (k == 3 ? 2 : 1) * 0x1p-60;   /* a coordinate, and the count */
        expected[k].residue_delta = (k == 3 ? 2 : 1) * 0x1p-110;
        if (k == 2) expected[k].records = 1000, expected[k].batch_size = 120;
        TEST_OK(context, psg_dp_create(context, generator, &options[k], &one, 1, &dp));
        TEST_OK(context, psg_dp_sample(dp, &batch));
        TEST_OK(context, release(dp, &out));
        TEST_OK(context, psg_accountant_run(psg_dp_accountant(dp), 0, &event, &releases));
        assert_true(psg_event_equal(&event, &expected[k]));
        assert_int_equal(psg_accountant_relation(psg_dp_accountant(dp)), options[k].relation);
        assert_true(releases == 1 && psg_accountant_runs(psg_dp_accountant(dp)) == 1);
        psg_dp_destroy(dp);
    }
    psg_generator_destroy(generator);
    test_context_free(context);
}

/* Two trainings of 5 of an epoch's 10 batches, each with an order of its own: a record may be in a batch of both. */
static void earlier_epochs_are_others(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_generator *generator;
    const int64_t one = 1;
    psg_dp_options options = PSG_DP_OPTIONS_INIT;
    psg_dp *dp[2];
    double out, two;
    options.sampling = PSG_SAMPLING_EPOCHS;
    options.records = 100;
    options.batch_size = 10;
    options.noise_multiplier = 1;
    TEST_OK(context, psg_generator_create(context, &generator));
    for (int k = 0; k < 2; k++) {
        TEST_OK(context, psg_dp_create(context, generator, &options, &one, 1, &dp[k]));
        for (int step = 0; step < 5; step++) {
            psg_batch batch;
            TEST_OK(context, psg_dp_sample(dp[k], &batch));
            TEST_OK(context, release(dp[k], &out));
        }
        options.earlier = psg_dp_accountant(dp[k]);
    }
    psg_privacy privacy;
    TEST_OK(context, psg_dp_privacy(dp[1], 1e-5, &privacy));
    assert_int_equal(psg_gaussian_epsilon(1, 2, 1e-5, &two), PSG_OK);
    assert_true(privacy.epsilon >= two && privacy.epsilon < two * 1.001);
    for (int k = 0; k < 2; k++) psg_dp_destroy(dp[k]);
    psg_generator_destroy(generator);
    test_context_free(context);
}

/* ---- all of a model ---- */

/* One record's gradients under the names of two, and under a step that is over. */
static void gradients_count_under_their_own_names(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    psg_param *param;
    float w = 2, x = 1;
    const int64_t one = 1;
    psg_tensor value = psg_f32_2d(&w, 1, 1), in = psg_f32_2d(&x, 1, 1);
    psg_generator *generator;
    psg_dp_options options = dp_external(1, 1, 2, 4);
    psg_dp *dp = open_dp(context, &generator, &options, &one, 1, true);
    psg_gradient gradient;
    const psg_gradient *list = &gradient;
    double out;
    TEST_OK(context, psg_tape_create(context, &tape));
    TEST_OK(context, psg_param_create(context, "w", &value, &param));
    psg_batch batch = dp_take(context, dp, 0, 2), first = psg_batch_part(&batch, 0, 1);
    psg_batch second = psg_batch_part(&batch, 1, 1);
    psg_pass pass = PSG_PASS_INIT;
    pass.batch = &first;
    TEST_OK(context, psg_tape_begin(tape, &pass));
    psg_var y = psg_linear(tape, psg_input(tape, &in), psg_use(tape, param), psg_none());
    TEST_OK(context, psg_backward_from(tape, y, NULL));
    TEST_OK(context, psg_gradient_of(tape, param, &gradient));
    test_fails(context, psg_dp_accumulate(dp, &second, &list, 1, NULL), PSG_ERR_STATE, "over other records");
    TEST_OK(context, psg_dp_accumulate(dp, &first, &list, 1, NULL));
    TEST_OK(context, release(dp, &out));
    batch = dp_take(context, dp, 0, 1);
    test_fails(context, psg_dp_accumulate(dp, &batch, &list, 1, NULL), PSG_ERR_STATE, "over other records");
    psg_tape_destroy(tape);
    psg_param_destroy(param);
    close_dp(dp, generator);
    test_context_free(context);
}

/* Two weights are trained; a psg_dp of one of them would leave the other without noise. */
static void parameters_that_it_does_not_know_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    psg_param *param[2];
    float w[2][1] = { { 2 }, { 3 } }, x[2] = { 1, 2 };
    const int64_t ones[] = { 1, 1 };
    psg_generator *generator;
    psg_dp_options options = dp_external(1, 1, 2, 4);
    TEST_OK(context, psg_tape_create(context, &tape));
    for (int k = 0; k < 2; k++) {
        psg_tensor value = psg_f32_2d(w[k], 1, 1);
        TEST_OK(context, psg_param_create(context, "w", &value, &param[k]));
    }
    for (int frozen = 0; frozen < 2; frozen++) {
        psg_pass pass = PSG_PASS_INIT;
        psg_gradient gradient[2];
        const psg_gradient *list[2] = { &gradient[0], &gradient[1] };
        psg_tensor in = psg_f32_2d(x, 2, 1);
        psg_param_set_trainable(param[1], !frozen);
        TEST_OK(context, psg_tape_begin(tape, &pass));
        psg_var y = psg_linear(tape, psg_input(tape, &in), psg_use(tape, param[0]), psg_none());
        TEST_OK(context, psg_backward_from(tape, psg_linear(tape, y, psg_use(tape, param[1]), psg_none()), NULL));
        TEST_OK(context, psg_gradient_of(tape, param[0], &gradient[0]));
        psg_dp *dp = open_dp(context, &generator, &options, ones, 1, true);
        psg_batch batch = dp_take(context, dp, 0, 2);
        psg_status status = psg_dp_accumulate(dp, &batch, list, 1, NULL);
        if (frozen) TEST_OK(context, status);
        else test_fails(context, status, PSG_ERR_STATE, "2 trainable parameters, of which 1");
        close_dp(dp, generator);
        if (frozen) {   /* and of both, where one is not trained */
            assert_int_equal(psg_gradient_of(tape, param[1], &gradient[1]), PSG_ERR_STATE);
            dp = open_dp(context, &generator, &options, ones, 2, true);
            batch = dp_take(context, dp, 0, 2);
            test_fails(context, psg_dp_accumulate(dp, &batch, list, 2, NULL), PSG_ERR_STATE, "does not train");
            close_dp(dp, generator);
        }
        if (frozen) continue;
        TEST_OK(context, psg_gradient_of(tape, param[1], &gradient[1]));
        dp = open_dp(context, &generator, &options, ones, 2, true);
        batch = dp_take(context, dp, 0, 2);
        TEST_OK(context, psg_dp_accumulate(dp, &batch, list, 2, NULL));
        close_dp(dp, generator);
    }
    for (int k = 0; k < 2; k++) psg_param_destroy(param[k]);
    psg_tape_destroy(tape);
    test_context_free(context);
}

/* ---- the statement ---- */

static void the_statement_says_what_was_done(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_generator *generator;
    const int64_t one = 1;
    psg_dp_options options = PSG_DP_OPTIONS_INIT;
    options.records = 5000;
    options.sample_rate = 0.02;
    options.noise_multiplier = 1.25;
    options.max_grad_norm = 0.5;
    for (int seeded = 0; seeded < 2; seeded++) {
        psg_dp *dp = open_dp(context, &generator, &options, &one, 1, seeded);
        char text[4096], cut[40];
        psg_batch batch;
        size_t needed = 0, again = 0;
        double out;
        for (int step = 0; step < 3; step++) {
            TEST_OK(context, psg_dp_sample(dp, &batch));
            TEST_OK(context, release(dp, &out));
        }
        TEST_OK(context, psg_dp_statement(dp, 1e-6, PSG_STATEMENT_WORDS, text, sizeof text, &needed));
        static const char *const words[] = { "one record is added or removed", "5000, taken as public", "0.02",
                                             "max_grad_norm 0.5", "multiplier 1.25", "Releases: 3", "Not covered",
                                             "1 / N = 0.0002", PSG_VERSION_STRING };
        for (size_t k = 0; k < sizeof words / sizeof words[0]; k++) assert_non_null(strstr(text, words[k]));
        assert_non_null(strstr(text, seeded ? "NOT PRIVATE" : "(epsilon, delta) = ("));
        assert_true(!seeded == !strstr(text, "NOT PRIVATE") && strlen(text) == needed);
        TEST_OK(context, psg_dp_statement(dp, 1e-6, PSG_STATEMENT_WORDS, cut, sizeof cut, &again));
        assert_true(again == needed && strlen(cut) == sizeof cut - 1 && !strncmp(cut, text, sizeof cut - 1));
        TEST_OK(context, psg_dp_statement(dp, 1e-6, PSG_STATEMENT_JSON, text, sizeof text, &needed));
        static const char *const fields[] = { "\"records\": 5000", "\"sampling\": \"poisson\"", "\"releases\": 3",
                                              "\"residue_epsilon\": 8.67361737988403",   /* 2^-60 of one element */
                                              "\"residue_delta\": 7.70371977754894",     /* 2^-110 */
                                              "\"relation\": \"add_or_remove_one\"", "\"noise_multiplier\": 1.25" };
        for (size_t k = 0; k < sizeof fields / sizeof fields[0]; k++) assert_non_null(strstr(text, fields[k]));
        assert_non_null(strstr(text, seeded ? "\"epsilon\": null" : "\"accountant\": \""));
        assert_true(text[0] == '{' && text[needed - 1] == '}');
        test_fails(context, psg_dp_statement(dp, 0, PSG_STATEMENT_JSON, text, sizeof text, NULL), PSG_ERR_ARGUMENT,
                    "delta");
        test_fails(context, psg_dp_statement(dp, 0.1, PSG_STATEMENT_JSON, NULL, 3, NULL), PSG_ERR_ARGUMENT, "text");
        close_dp(dp, generator);
    }
    test_context_free(context);
}

/* ---- the bits of releases ----
 * Which of two neighbours gave a release?  Sums of D are multiples of 2^-10; the record adds a vector of norm C without
 * such a bound on its bits.  Of doubles with Gaussian noise the low bits told it with certainty (Mironov 2012).  Here
 * every release is a multiple of one unit: what is left is the Gaussian mechanism's own, advantage 2 Phi(mu / 2) - 1 of
 * the best test, which looks along the record. */

enum { RELEASES = 4000, WIDTH = 16 };

typedef struct tally { int along, odd; } tally;   /* releases beyond the middle; coordinates of an odd number of units */

static tally attack(psg_context *context, int with, double sigma) {
    const int64_t width = WIDTH;
    psg_dp_options options = dp_external(1, sigma, 1, 4);
    psg_generator *generator;
    psg_dp *dp = open_dp(context, &generator, &options, &width, 1, true);
    tally t = { 0, 0 };
    for (int k = 0; k < RELEASES; k++) {
        double rows[2][WIDTH], out[WIDTH], along = 0;
        for (int i = 0; i < WIDTH; i++) rows[0][i] = 0x1p-10 * i, rows[1][i] = 0.25 * (1 - 1e-9 * i);
        psg_tensor view = psg_tensor_of(PSG_F64, rows, 2, (int64_t[]){ 1 + with, WIDTH });
        psg_block block = psg_rows(&view);
        psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 1, &width);
        const psg_gradient *list = &gradient;
        psg_batch batch = dp_take(context, dp, 0, 1 + with);
        const double unit = dp->grid.unit;
        TEST_OK(context, psg_dp_accumulate(dp, &batch, &list, 1, NULL));
        TEST_OK(context, release(dp, out));
        for (int i = 0; i < WIDTH; i++) {
            double units = out[i] / unit;
            assert_true(fabs(units - rint(units)) < 1e-3);   /* a multiple, whichever neighbour */
            t.odd += (int64_t)rint(units) & 1;
            along += (out[i] - rows[0][i]) * 0.25;
        }
        t.along += along > 0.5;
    }
    close_dp(dp, generator);
    return t;
}

static void low_bits_tell_nothing(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const double sigma = 2, n = RELEASES, all = n * WIDTH;
    tally out = attack(context, 0, sigma), in = attack(context, 1, sigma);
    const double p = 0.5 * erfc(0.5 / sigma / sqrt(2));   /* beyond half of mu = 1 / sigma, without the record */
    test_near(out.odd / all, 0.5, 4.89 / sqrt(4 * all), "odd units of D", 0);
    test_near((in.odd - out.odd) / all, 0, 4.89 / sqrt(2 * all), "advantage of the last bit", 0);
    test_near((in.along - out.along) / n, 1 - 2 * p, 4.89 * sqrt(2 * p * (1 - p) / n), "advantage of the best test", 0);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addends_stay_below_the_noise),
        cmocka_unit_test(groups_are_clipped_apart),
        cmocka_unit_test(groups_that_fail_are_lost),
        cmocka_unit_test(automatic_clipping_scales_every_record),
        cmocka_unit_test(noise_is_that_of_the_place),
        cmocka_unit_test(the_count_has_noise_of_its_own),
        cmocka_unit_test(c_follows_the_quantile),
        cmocka_unit_test(a_budget_finds_its_noise_and_ends),
        cmocka_unit_test(a_budget_ends_without_batches),
        cmocka_unit_test(the_account_is_of_what_is_drawn),
        cmocka_unit_test(earlier_epochs_are_others),
        cmocka_unit_test(gradients_count_under_their_own_names),
        cmocka_unit_test(parameters_that_it_does_not_know_are_refused),
        cmocka_unit_test(the_statement_says_what_was_done),
        cmocka_unit_test(low_bits_tell_nothing),
    };
    return cmocka_run_group_tests_name("dp mechanism", tests, NULL, NULL);
}
