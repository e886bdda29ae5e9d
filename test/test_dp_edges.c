/* psg_dp at its edges: what the statement says of every kind of mechanism, options out of range, batches and gradients
 * that are others', calls without a mechanism. */
#include <math.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dp/mechanism.h"
#include "dp/random.h"
#include "dp_batch.h"
#include "failing_memory.h"
#include "psg/dp.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static psg_context *failing;   /* of the test of memory */

typedef struct fixture {
    psg_context *context;
    psg_generator *generator, *seeded;
} fixture;

static int set_up(void **state) {
    static fixture f;
    const unsigned char seed[32] = { 7 };
    f.context = test_context(1, NULL);
    TEST_OK(f.context, psg_generator_create(f.context, &f.generator));
    TEST_OK(f.context, psg_generator_create_seeded(f.context, seed, &f.seeded));
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    psg_generator_destroy(f->generator), psg_generator_destroy(f->seeded);
    test_context_free(f->context);
    return 0;
}

static const int64_t counts[] = { 3, 2 };

static psg_dp *create(const fixture *f, const psg_dp_options *options) {
    psg_dp *dp;
    TEST_OK(f->context, psg_dp_create(f->context, f->generator, options, counts, 2, &dp));
    return dp;
}

static psg_status release(psg_dp *dp, double out[5]) {
    const psg_tensor outs[] = { psg_tensor_of(PSG_F64, out, 1, &counts[0]),
                                psg_tensor_of(PSG_F64, out + 3, 1, &counts[1]) };
    return psg_dp_release(dp, outs, 2);
}

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#endif

#define NOISY .noise_multiplier = 2, .max_grad_norm = 0.5

/* ---- the statement ---- */

typedef struct said {
    psg_dp_options options;
    const char *words[4];   /* all of them in the statement */
    const char *fields[3];  /* and in its JSON */
} said;

static const said kinds[] = {
    { { NOISY, .records = 400, .sample_rate = 0.1, .clipping = PSG_CLIP_AUTOMATIC },
      { "with probability 0.1, independently", "Clipping: automatic, max_grad_norm 0.5", "expected size 40" },
      { "\"sampling\": \"poisson\"", "\"clipping\": \"automatic\"", "\"batches\": 0" } },
    { { NOISY, .records = 400, .sample_rate = 0.1, .max_batch_size = 60, .sampling = PSG_SAMPLING_TRUNCATED_POISSON },
      { "rate 0.1, larger batches cut to 60 records at random" },
      { "\"sampling\": \"truncated_poisson\"", "\"max_batch_size\": 60" } },
    { { NOISY, .records = 400, .batch_size = 20, .sampling = PSG_SAMPLING_FIXED_SIZE, .relation = PSG_REPLACE_ONE },
      { "one record has other values", "20 records without replacement", "no privacy loss distribution" },
      { "\"relation\": \"replace_one\"", "\"sampling\": \"fixed_size\"", "\"batch_size\": 20" } },
    { { NOISY, .records = 400, .batch_size = 20, .sampling = PSG_SAMPLING_EPOCHS, .clipping = PSG_CLIP_NORMALIZED },
      { "shuffled epochs, batches of 20", "Clipping: normalized", "by Gaussian" }, { "\"sampling\": \"epochs\"" } },
    { { NOISY, .records = 400, .batches = 8, .sampling = PSG_SAMPLING_BALLS_IN_BINS },
      { "balls in bins, every record in one batch of 8" }, { "\"sampling\": \"balls_in_bins\"", "\"batches\": 8" } },
    { { NOISY, .expected_batch_size = 40, .sampling = PSG_SAMPLING_EXTERNAL, .group_count = 2 },
      { "the caller's: no credit", "by groups of parameters 0.353553, 0.353553" },
      { "\"groups\": 2", "\"records\": 0" } },
    { { NOISY, .records = 400, .sample_rate = 0.1, .quantile = 0.25, .epsilon = 3, .delta = 1e-5 },
      { "by a private quantile of 0.25", "Budget: epsilon 3 at delta 1e-05" }, { "\"quantile\": 0.25" } },
    { { .max_grad_norm = 1, .records = 400, .sample_rate = 0.1, .without_noise = 1 },
      { "Mechanism: sums without noise", "NOT PRIVATE: there is no noise" }, { "\"epsilon\": null" } },
};

static void check_said(psg_dp *dp, const said *kind) {
    char text[4096];
    TEST_OK(dp->context, psg_dp_statement(dp, 1e-6, PSG_STATEMENT_WORDS, text, sizeof text, NULL));
    for (int k = 0; k < COUNT(kind->words) && kind->words[k]; k++) {
        if (!strstr(text, kind->words[k])) fail_msg("no \"%s\" in: %s", kind->words[k], text);
    }
    TEST_OK(dp->context, psg_dp_statement(dp, 1e-6, PSG_STATEMENT_JSON, text, sizeof text, NULL));
    for (int k = 0; k < COUNT(kind->fields) && kind->fields[k]; k++) {
        if (!strstr(text, kind->fields[k])) fail_msg("no %s in: %s", kind->fields[k], text);
    }
}

static void every_kind_is_said(void **state) {
    fixture *f = *state;
    double out[5];
    psg_batch batch;
    for (int k = 0; k < COUNT(kinds); k++) {
        psg_dp *dp = create(f, &kinds[k].options);
        char text[4096];
        TEST_OK(f->context, psg_dp_statement(dp, 1e-6, PSG_STATEMENT_WORDS, text, sizeof text, NULL));
        assert_true(!strstr(text, "Nothing has been released") == (kinds[k].options.without_noise != 0));
        if (dp->options.sampling != PSG_SAMPLING_EXTERNAL) TEST_OK(f->context, psg_dp_sample(dp, &batch));
        TEST_OK(f->context, release(dp, out));
        check_said(dp, &kinds[k]);
        psg_dp_destroy(dp);
    }
}

static void earlier_releases_are_said(void **state) {
    fixture *f = *state;
    psg_accountant *earlier;
    const psg_event event = { .sampling = PSG_SAMPLING_EXTERNAL, .noise_multiplier = 3 };
    TEST_OK(f->context, psg_accountant_create(f->context, PSG_ADD_OR_REMOVE_ONE, &earlier));
    TEST_OK(f->context, psg_accountant_add(earlier, &event, 4));
    psg_dp_options options = kinds[0].options;
    options.earlier = earlier;
    psg_dp *dp = create(f, &options);
    psg_accountant_destroy(earlier);
    const said expected = { .words = { "Releases: 0, after earlier ones", "other runs on them than those counted in" },
                            .fields = { "\"has_earlier\": true", "\"releases\": 0" } };
    check_said(dp, &expected);
    assert_int_equal(psg_accountant_releases(psg_dp_accountant(dp)), 4);
    psg_dp_destroy(dp);
}

static void wrong_statements_are_refused(void **state) {
    fixture *f = *state;
    psg_dp *dp = create(f, &kinds[0].options);
    char text[16] = "before";
    size_t needed = 7;
    assert_int_equal(psg_dp_statement(NULL, 1e-6, PSG_STATEMENT_WORDS, text, 16, &needed), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_statement(dp, 1e-6, (psg_statement_format)2, text, 16, &needed), PSG_ERR_ARGUMENT);
    assert_non_null(strstr(psg_context_message(f->context), "format is 2"));
    assert_true(needed == 7 && !strcmp(text, "before"));
    TEST_OK(f->context, psg_dp_statement(dp, 1e-6, PSG_STATEMENT_WORDS, NULL, 0, &needed));
    assert_true(needed > 500);
    psg_dp_destroy(dp);
}

/* ---- options ---- */

static void options_out_of_range_are_refused(void **state) {
    fixture *f = *state;
#define POISSON NOISY, .records = 400, .sample_rate = 0.1
    const struct { psg_dp_options options; const char *words; } bad[] = {
        { { NOISY, .records = UINT64_MAX, .sample_rate = 0.1 }, "from 1 to 2^63 - 1" },
        { { NOISY, .records = 10, .batches = 11, .sampling = PSG_SAMPLING_BALLS_IN_BINS }, "batches is 11" },
        { { NOISY, .records = 10, .batch_size = -1, .sampling = PSG_SAMPLING_EPOCHS }, "batch_size is -1" },
        { { POISSON, .max_batch_size = ((int64_t)1 << 40) + 1 }, "at most 2^40" },
        { { POISSON, .group_count = -1 }, "group_count is -1" },
        { { POISSON, .group_count = 2, .groups = (const int[]){ 0, 1 }, .group_norms = (const double[]){ 1, 1e31 } },
          "group_norms[1] is 1e+31" },
        { { POISSON, .group_count = 2, .group_norms = (const double[]){ 1e-31, 1 } }, "group_norms[0] is 1e-31" },
        { { POISSON, .quantile = 1 }, "quantile is 1" },
        { { POISSON, .quantile = -0.1 }, "quantile is -0.1" },
        { { POISSON, .quantile_noise = 3 }, "quantile is 0" },
        { { POISSON, .quantile = 0.5, .quantile_rate = 11 }, "quantile_rate is 11" },
        { { POISSON, .quantile = 0.5, .quantile_noise = -1 }, "quantile_noise is -1" },
        { { POISSON, .quantile = 0.5, .quantile_noise = 1e10 }, "quantile_noise is 1e+10" },
        { { POISSON, .quantile = 0.5, .group_count = 2 }, "quantile is 0.5, must be 0 unless one norm" },
        { { POISSON, .epsilon = 1, .delta = 1 }, "delta is 1" },
        { { POISSON, .epsilon = INFINITY, .delta = 0.1 }, "epsilon is inf" },
        { { .noise_multiplier = 1e6, .max_grad_norm = 1e-100, .records = 400, .sample_rate = 0.1, .ledger = "" },
          "ledger is \"\"" },
        { { POISSON, .ledger = "/nowhere", .ledger_ahead = ((uint64_t)1 << 20) + 1 }, "must be at most 1048576" },
        { { .max_grad_norm = 1, .records = 4, .sample_rate = 1, .without_noise = 1, .epsilon = 1, .delta = 0.1 },
          "allows no release" },
        { { POISSON, .ledger_ahead = 1 }, "at most 0 without a ledger" },
    };
    for (int k = 0; k < COUNT(bad); k++) {
        psg_dp *dp = (void *)f;
        psg_status status = psg_dp_create(f->context, f->generator, &bad[k].options, counts, 2, &dp);
        test_status(f->context, status, PSG_ERR_ARGUMENT, bad[k].words);
        if (!strstr(psg_context_message(f->context), bad[k].words)) {
            fail_msg("no \"%s\" in: %s", bad[k].words, psg_context_message(f->context));
        }
        assert_null(dp);
    }
    psg_dp *dp;
    const psg_dp_options usual = { POISSON };
    const psg_dp_options grouped = { POISSON, .group_count = 2, .groups = (const int[]){ 0, 1, -1 } };
    assert_int_equal(psg_dp_create(f->context, f->generator, &grouped, (const int64_t[]){ 1, 1, 1 }, 3, &dp),
                     PSG_ERR_ARGUMENT);
    assert_non_null(strstr(psg_context_message(f->context), "groups[2] is -1"));
    assert_int_equal(psg_dp_create(f->context, f->generator, &usual, counts, (size_t)UINT32_MAX + 1, &dp),
                     PSG_ERR_ARGUMENT);
}

/* Noise of sigma sqrt(D) beyond half of 2^36 units leaves no grid. */
static void too_many_elements_for_the_grid_are_refused(void **state) {
    fixture *f = *state;
    const psg_dp_options options = { .noise_multiplier = 1e6, .max_grad_norm = 1, .records = 10, .sample_rate = 1 };
    const int64_t elements = (int64_t)1 << 40;
    psg_dp *dp;
    assert_int_equal(psg_dp_create(f->context, f->generator, &options, &elements, 1, &dp), PSG_ERR_ARGUMENT);
    assert_non_null(strstr(psg_context_message(f->context), "at most 2^35"));
    assert_null(dp);
}

/* So large a budget needs less noise than the least there is.  Of no elements: the residues of any leave no epsilon
 * above 64. */
static void the_least_noise_is_found(void **state) {
    fixture *f = *state;
    psg_dp_options options = { .max_grad_norm = 1, .records = 10, .sample_rate = 1, .epsilon = 1e9, .delta = 1e-5,
                               .steps = 1 };
    const int64_t no_elements = 0;
    psg_dp *dp;
    TEST_OK(f->context, psg_dp_create(f->context, f->generator, &options, &no_elements, 1, &dp));
    assert_true(psg_dp_noise_multiplier(dp) == 0x1p-10);
    assert_int_equal(psg_dp_remaining(dp), 1);
    options.earlier = psg_dp_accountant(dp);
    psg_dp *other;
    assert_int_equal(psg_dp_create(f->context, f->generator, &options, counts, 2, &other), PSG_ERR_ARGUMENT);
    assert_non_null(strstr(psg_context_message(f->context), "must be given with earlier releases"));
    psg_dp_destroy(dp);
}

/* A budget that is larger than its steps ends with them. */
static void steps_end_a_budget(void **state) {
    fixture *f = *state;
    const psg_dp_options options = { NOISY, .expected_batch_size = 4, .sampling = PSG_SAMPLING_EXTERNAL, .epsilon = 100,
                                     .delta = 1e-5, .steps = 2 };
    psg_dp *dp = create(f, &options);
    double out[5];
    for (int step = 2; step > 0; step--) {
        assert_int_equal(psg_dp_remaining(dp), step);
        TEST_OK(f->context, release(dp, out));
    }
    assert_int_equal(psg_dp_remaining(dp), 0);
    assert_int_equal(release(dp, out), PSG_ERR_BUDGET);
    assert_non_null(strstr(psg_context_message(f->context), "allows 2 releases"));
    psg_dp_destroy(dp);
}

/* A budget beyond what doubles count is none. */
static void an_endless_budget_has_no_end(void **state) {
    fixture *f = *state;
    const psg_dp_options options = { .max_grad_norm = 1, .noise_multiplier = 1e6, .records = 10, .sample_rate = 1,
                                     .epsilon = 1e6, .delta = 1e-5 };
    const int64_t no_elements = 0;   /* and no residues */
    psg_dp *dp;
    TEST_OK(f->context, psg_dp_create(f->context, f->generator, &options, &no_elements, 1, &dp));
    assert_true(psg_dp_remaining(dp) == UINT64_MAX);
    psg_dp_destroy(dp);
}

static psg_status create_and_destroy(void *user) {
    const psg_dp_options *options = user;
    psg_generator *generator = NULL;
    psg_dp *dp = NULL;
    psg_status status = psg_generator_create(failing, &generator);
    if (!status) status = psg_dp_create(failing, generator, options, counts, 2, &dp);
    assert_int_equal(!status, dp != NULL);
    psg_dp_destroy(dp);
    psg_generator_destroy(generator);
    return status;
}

/* Budgets, earlier releases and noise that is found need more than a mechanism alone. */
static void budgets_need_their_memory(void **state) {
    (void)state;
    test_allocator allocator = { 0 };
    psg_accountant *earlier;
    failing = test_context_with(&allocator, 1, NULL, 0);
    psg_dp_options options = { .expected_batch_size = 4, .sampling = PSG_SAMPLING_EXTERNAL, .max_grad_norm = 1,
                               .epsilon = 2, .delta = 1e-5, .steps = 3, .max_batch_size = 4 };
    psg_event event = { .sampling = PSG_SAMPLING_EXTERNAL, .noise_multiplier = 30 };
    assert_true(test_without_memory(&allocator, failing, create_and_destroy, &options) > 60);
    TEST_OK(failing, psg_accountant_create(failing, PSG_ADD_OR_REMOVE_ONE, &earlier));
    for (int k = 0; k < 5; k++) {   /* more runs than a new accountant has room for */
        event.noise_multiplier += 1;
        TEST_OK(failing, psg_accountant_add(earlier, &event, 1));
    }
    options.earlier = earlier, options.noise_multiplier = 10;
    assert_true(test_without_memory(&allocator, failing, create_and_destroy, &options) > 40);
    psg_accountant_destroy(earlier);
    test_context_free(failing);
    assert_int_equal(allocator.mistakes, 0);
}

/* Earlier releases of another context are copied into the mechanism's own, whose memory and messages it uses. */
static void earlier_releases_may_be_of_another_context(void **state) {
    fixture *f = *state;
    test_allocator allocator = { 0 };
    psg_context *other = test_context_with(&allocator, 1, NULL, 0);
    const psg_event event = { .sampling = PSG_SAMPLING_EXTERNAL, .noise_multiplier = 30 };
    psg_accountant *earlier;
    psg_privacy alone, after;
    TEST_OK(other, psg_accountant_create(other, PSG_ADD_OR_REMOVE_ONE, &earlier));
    TEST_OK(other, psg_accountant_add(earlier, &event, 4));
    psg_dp_options options = { NOISY, .expected_batch_size = 4, .sampling = PSG_SAMPLING_EXTERNAL };
    options.earlier = earlier;
    test_allocator_arm(&allocator, 1, true);
    psg_dp *dp = create(f, &options);
    test_allocator_arm(&allocator, 0, false);
    TEST_OK(other, psg_accountant_epsilon(earlier, 1e-5, &alone));
    psg_accountant_destroy(earlier);
    test_context_free(other);
    TEST_OK(f->context, psg_dp_privacy(dp, 1e-5, &after));
    assert_true(after.epsilon == alone.epsilon);
    psg_dp_destroy(dp);
}

static void sizes_that_overflow_are_refused(void **state) {
    fixture *f = *state;
    const psg_dp_options usual = { NOISY, .records = 10, .sample_rate = 1 };
    const struct { int64_t counts[2]; const char *words; } bad[] = {
        { { INT64_MAX - 1, INT64_MAX - 1 }, "the sum of param_counts must be below 2^63 - 1" },
        { { INT64_MAX, 0 }, "the sum of param_counts must be below 2^63 - 1" },
        { { (int64_t)1 << 61, 0 }, "do not fit memory" },
    };
    for (int k = 0; k < COUNT(bad); k++) {
        psg_dp *dp;
        assert_int_equal(psg_dp_create(f->context, f->generator, &usual, bad[k].counts, 2, &dp), PSG_ERR_OVERFLOW);
        if (!strstr(psg_context_message(f->context), bad[k].words)) fail_msg("%s", psg_context_message(f->context));
    }
    assert_true(psg_grid_of(1, 1e-300, 1).unit == 0);   /* units below the normal numbers */
    assert_true(psg_grid_of(1, 1e-100, 1).unit > 0);
}

/* ---- nothing ---- */

static void nothing_has_no_properties(void **state) {
    fixture *f = *state;
    psg_privacy privacy = { .epsilon = 7 };
    psg_batch batch;
    double out[5];
    psg_generator *generator = f->generator;
    psg_dp_set_reduce(NULL, NULL, NULL);
    assert_true(psg_dp_step(NULL) == 0 && psg_dp_remaining(NULL) == 0 && psg_dp_recorded_ahead(NULL) == 0);
    assert_true(psg_dp_noise_multiplier(NULL) == 0 && psg_dp_max_grad_norm(NULL) == 0);
    assert_true(psg_dp_expected_batch_size(NULL) == 0 && psg_dp_max_batch_size(NULL) == 0 && !psg_dp_accountant(NULL));
    assert_false(psg_generator_is_seeded(NULL));
    assert_int_equal(psg_dp_privacy(NULL, 1e-5, &privacy), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_sample(NULL, &batch), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_take(NULL, NULL, 0, &batch), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_release_to(NULL, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_gaussian(NULL, 0, 0, 0, out, 5), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_generator_create(NULL, &generator), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_generator_create(f->context, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_generator_create_seeded(NULL, (const unsigned char[32]){ 0 }, &generator), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_generator_create_seeded(f->context, NULL, &generator), PSG_ERR_ARGUMENT);
    assert_non_null(strstr(psg_context_message(f->context), "seed is NULL"));
    assert_int_equal(psg_generator_create_seeded(f->context, (const unsigned char[32]){ 0 }, NULL), PSG_ERR_ARGUMENT);
    assert_non_null(strstr(psg_context_message(f->context), "generator is NULL"));
    psg_generator_destroy(NULL);
    assert_true(privacy.epsilon == 7 && generator == f->generator);
}

static void normals_out_of_range_are_refused(void **state) {
    fixture *f = *state;
    double out[4] = { 7, 7, 7, 7 }, again[2];
    psg_generator *g = f->seeded;
    TEST_OK(f->context, psg_gaussian(g, 0, 0, 0, NULL, 0));
    assert_int_equal(psg_gaussian(g, 0, 0, 0, NULL, 2), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_gaussian(g, 0, 0, (uint64_t)INT64_MAX + 1, out, 1), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_gaussian(g, 0, 0, INT64_MAX - 1, out, 2), PSG_ERR_ARGUMENT);
    assert_true(out[0] == 7 && out[1] == 7);
    TEST_OK(f->context, psg_gaussian(g, 0, 0, INT64_MAX - 2, out, 2));
    TEST_OK(f->context, psg_gaussian(g, 0, 0, INT64_MAX - 1, again, 1));
    assert_true(out[0] != 7 && out[1] == again[0] && out[2] == 7);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(psg_gaussian(g, 0, 0, 0, out, 1) == PSG_ERR_FORKED ? 0 : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Everything that reads a stream looks whose process it is. */
static void a_generator_of_another_process_is_refused(void **state) {
    fixture *f = *state;
    const psg_dp_options external = { NOISY, .expected_batch_size = 4, .sampling = PSG_SAMPLING_EXTERNAL };
    const psg_dp_options poisson = { NOISY, .records = 20, .sample_rate = 1 };
    psg_dp *dp = create(f, &external), *sampled = create(f, &poisson), *none = dp;
    psg_batch batch;
    double out[5] = { 7 };
    int64_t whole[2] = { 7 };
    assert_non_null(f->generator->process.page);
    *f->generator->process.page = 0;   /* as it is in a child */
    assert_int_equal(psg_dp_sample(sampled, &batch), PSG_ERR_FORKED);
    assert_int_equal(psg_dp_take(dp, NULL, 0, &batch), PSG_ERR_FORKED);
    assert_int_equal(release(dp, out), PSG_ERR_FORKED);
    assert_int_equal(psg_gaussian(f->generator, 0, 0, 0, out, 1), PSG_ERR_FORKED);
    assert_int_equal(psg_discrete_gaussian(f->generator, 0, 0, 0, whole, 1), PSG_ERR_FORKED);
    assert_int_equal(psg_dp_create(f->context, f->generator, &poisson, counts, 2, &none), PSG_ERR_FORKED);
    *f->generator->process.page = 1;
    assert_true(out[0] == 7 && whole[0] == 7 && !none && psg_dp_step(dp) == 0);
    TEST_OK(f->context, release(dp, out));
    psg_dp_destroy(dp), psg_dp_destroy(sampled);
}

/* ---- batches and gradients of others ---- */

/* Everybody is drawn, and so many of them kept. */
static void a_full_rate_is_truncated(void **state) {
    fixture *f = *state;
    const psg_dp_options options = { NOISY, .records = 10, .sample_rate = 1, .max_batch_size = 4,
                                     .sampling = PSG_SAMPLING_TRUNCATED_POISSON };
    psg_dp *dp = create(f, &options);
    bool seen[10] = { false };
    psg_batch batch;
    double out[5];
    for (int step = 0; step < 40; step++) {
        TEST_OK(f->context, psg_dp_sample(dp, &batch));
        assert_int_equal(batch.count, 4);
        for (int n = 0; n < 4; n++) {
            assert_true(batch.ids[n] >= 0 && batch.ids[n] < 10 && (!n || batch.ids[n] > batch.ids[n - 1]));
            seen[batch.ids[n]] = true;
        }
        TEST_OK(f->context, release(dp, out));
    }
    for (int i = 0; i < 10; i++) assert_true(seen[i]);   /* missed with probability 10 0.6^40 = 1e-8 */
    psg_dp_destroy(dp);
}

static void batches_of_others_are_refused(void **state) {
    fixture *f = *state;
    const psg_dp_options external = { NOISY, .expected_batch_size = 4, .sampling = PSG_SAMPLING_EXTERNAL,
                                      .max_batch_size = 4, .records = 50 };
    const psg_dp_options poisson = { NOISY, .records = 20, .sample_rate = 1 };
    psg_dp *dp = create(f, &external), *sampled = create(f, &poisson);
    psg_batch batch, kept, drawn = { 0 };
    const struct { int64_t ids[3], count; psg_status status; } bad[] = {
        { { 1, 2 }, -1, PSG_ERR_ARGUMENT },   { { 1, -2 }, 2, PSG_ERR_ARGUMENT }, { { 1, 50 }, 2, PSG_ERR_ARGUMENT },
        { { 1, 1 }, 2, PSG_ERR_STATE },       { { 3, 9 }, 2, PSG_ERR_STATE },
    };
    TEST_OK(f->context, psg_dp_take(dp, (const int64_t[]){ 9, 8 }, 2, &kept));
    for (int k = 0; k < COUNT(bad); k++) {
        assert_int_equal(psg_dp_take(dp, bad[k].ids, bad[k].count, &batch), bad[k].status);
    }
    assert_int_equal(psg_dp_take(dp, NULL, 1, &batch), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_take(dp, (const int64_t[]){ 1, 2, 3 }, 3, &batch), PSG_ERR_STATE);   /* 5 of at most 4 */
    assert_int_equal(psg_dp_take(dp, NULL, 0, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_sample(dp, &batch), PSG_ERR_UNSUPPORTED);
    assert_int_equal(psg_dp_take(sampled, NULL, 0, &batch), PSG_ERR_UNSUPPORTED);
    assert_int_equal(psg_dp_sample(sampled, NULL), PSG_ERR_ARGUMENT);
    double out[5];
    assert_int_equal(release(sampled, out), PSG_ERR_STATE);   /* nothing was drawn */
    TEST_OK(f->context, psg_dp_sample(sampled, &drawn));
    assert_int_equal(drawn.count, 20);
    const psg_gradient none[2] = { { .dtype = PSG_F32, .batch_size = 20, .rank = 1, .shape = { 3 } },
                                   { .dtype = PSG_F32, .batch_size = 20, .rank = 1, .shape = { 2 } } };
    const psg_gradient *list[] = { &none[0], &none[1] };
    const psg_batch undrawn = { .ids = (const int64_t[]){ 1, 2 }, .count = 2, .owner = dp->owner };
    psg_dp *fresh = create(f, &external);
    psg_batch early = undrawn;
    early.owner = fresh->owner;
    assert_int_equal(psg_dp_accumulate(fresh, &early, list, 2, NULL), PSG_ERR_STATE);    /* nobody took it */
    psg_dp_destroy(fresh);
    assert_int_equal(psg_dp_accumulate(dp, &drawn, list, 2, NULL), PSG_ERR_STATE);      /* of another mechanism */
    psg_batch forged = drawn;
    forged.stream++;
    assert_int_equal(psg_dp_accumulate(sampled, &forged, list, 2, NULL), PSG_ERR_STATE);
    forged = drawn, forged.step++;
    assert_int_equal(psg_dp_accumulate(sampled, &forged, list, 2, NULL), PSG_ERR_STATE);
    forged = drawn, forged.count = -1;
    assert_int_equal(psg_dp_accumulate(sampled, &forged, list, 2, NULL), PSG_ERR_ARGUMENT);
    TEST_OK(f->context, psg_dp_accumulate(sampled, &drawn, list, 2, NULL));
    assert_int_equal(psg_dp_accumulate(sampled, &drawn, list, 2, NULL), PSG_ERR_STATE);  /* once is all */
    assert_non_null(strstr(psg_context_message(f->context), "was accumulated before in this step"));
    psg_dp_destroy(dp), psg_dp_destroy(sampled);
}

/* Gradients say of what pass they are. */
static void gradients_of_other_passes_are_refused(void **state) {
    fixture *f = *state;
    const psg_dp_options external = { NOISY, .expected_batch_size = 4, .sampling = PSG_SAMPLING_EXTERNAL };
    psg_dp *dp = create(f, &external);
    psg_batch batch;
    psg_tape *tape;   /* whose pass is number 1 */
    const int64_t others[] = { 5, 7 };
    TEST_OK(f->context, psg_tape_create(f->context, &tape));
    TEST_OK(f->context, psg_tape_begin(tape, NULL));
    TEST_OK(f->context, psg_dp_take(dp, (const int64_t[]){ 5, 6 }, 2, &batch));
    const psg_gradient good[2] = { { .dtype = PSG_F32, .batch_size = 2, .rank = 1, .shape = { 3 }, .batch = batch },
                                   { .dtype = PSG_F32, .batch_size = 2, .rank = 1, .shape = { 2 }, .batch = batch } };
    psg_gradient bad[8][2];
    for (int k = 0; k < COUNT(bad); k++) memcpy(bad[k], good, sizeof good);
    bad[0][1].batch.owner++, bad[1][1].batch.step++, bad[2][1].batch.stream++, bad[3][1].batch.count--;
    bad[4][1].batch.ids = others;
    bad[5][0].pass_parameters = 3, bad[5][1].pass_parameters = 3;                /* two of three */
    bad[6][0].pass_parameters = 1, bad[6][1].pass = 1, bad[6][1].name = "bias";  /* one of the pass is not trained */
    bad[7][0].pass_parameters = 1, bad[7][1].pass = 1;
    for (int k = 0; k < COUNT(bad); k++) {
        const psg_gradient *list[] = { &bad[k][0], &bad[k][1] };
        test_status(f->context, psg_dp_accumulate(dp, &batch, list, 2, NULL), PSG_ERR_STATE, "a gradient of others");
        if (k >= 6) assert_non_null(strstr(psg_context_message(f->context), k == 6 ? "[1] (bias) is" : "[1] is"));
    }
    psg_gradient mixed[2] = { good[0], good[1] };
    mixed[0].pass_parameters = 1;   /* all of its pass, and one of the caller's own arrays */
    TEST_OK(f->context, psg_dp_accumulate(dp, &batch, (const psg_gradient *[]){ &mixed[0], &mixed[1] }, 2, NULL));
    psg_dp_unuse(dp, batch.ids, batch.count);
    mixed[1].rank = -1;
    const psg_gradient *no_rank[] = { &mixed[0], &mixed[1] };
    assert_int_equal(psg_dp_accumulate(dp, &batch, no_rank, 2, NULL), PSG_ERR_SHAPE);
    psg_gradient longer = good[1];
    longer.shape[0] = 9, longer.name = "bias";
    const psg_gradient *too_long[] = { &good[0], &longer }, *right[] = { &good[0], &good[1] };
    assert_int_equal(psg_dp_accumulate(dp, &batch, too_long, 2, NULL), PSG_ERR_SHAPE);
    assert_non_null(strstr(psg_context_message(f->context), "gradients[1] (bias) has rank 1, shape (9)"));
    psg_clip_report reports[1];
    TEST_OK(f->context, psg_dp_accumulate(dp, &batch, right, 2, reports));
    assert_true(reports[0].clipped == 0 && reports[0].removed == 0);
    psg_tape_destroy(tape);
    psg_dp_destroy(dp);
}

/* A failure after the first group leaves sums that hold half of the samples' gradients: they are lost, and the release
 * of the step is noise. */
static void sums_of_half_a_sample_are_lost(void **state) {
    fixture *f = *state;
    psg_dp_options external = { NOISY, .expected_batch_size = 4, .sampling = PSG_SAMPLING_EXTERNAL, .group_count = 2 };
    float g[2][3] = { { 1, 2, 3 }, { 4, 5, 6 } };
    const int64_t shape[] = { 2, 3 }, other_shape[] = { 2, 2 };
    const psg_tensor x = psg_tensor_of(PSG_F32, g, 2, shape);
    psg_tensor y = psg_tensor_of(PSG_F32, g, 2, other_shape);
    y.data = NULL;   /* refused when the second group is asked */
    const psg_block blocks[] = { psg_rows(&x), psg_rows(&y) };
    const psg_gradient first = psg_gradient_of_blocks(&blocks[0], 1, 1, &counts[0]);
    const psg_gradient second = psg_gradient_of_blocks(&blocks[1], 1, 1, &counts[1]);
    const psg_gradient *list[] = { &first, &second };
    psg_dp *dp = create(f, &external);
    psg_batch batch;
    double out[5];
    TEST_OK(f->context, psg_dp_take(dp, (const int64_t[]){ 5, 6 }, 2, &batch));
    assert_int_equal(psg_dp_accumulate(dp, &batch, list, 2, NULL), PSG_ERR_SHAPE);
    for (int i = 0; i < 5; i++) assert_int_equal(dp->sums[i], 0);
    assert_int_equal(psg_dp_accumulate(dp, &batch, list, 2, NULL), PSG_ERR_STATE);
    assert_non_null(strstr(psg_context_message(f->context), "lost to a failure"));
    TEST_OK(f->context, release(dp, out));
    TEST_OK(f->context, psg_dp_take(dp, (const int64_t[]){ 5, 6 }, 2, &batch));
    assert_int_equal(psg_dp_accumulate(dp, &batch, list, 2, NULL), PSG_ERR_SHAPE);   /* of a step of its own */
    psg_dp_destroy(dp);
}

/* A failure before anything was added loses nothing: the batch may be added once more. */
static void a_first_failure_loses_nothing(void **state) {
    fixture *f = *state;
    const psg_dp_options external = { NOISY, .expected_batch_size = 4, .sampling = PSG_SAMPLING_EXTERNAL };
    float g[2][3] = { { 1, 2, 3 }, { 4, 5, 6 } };
    psg_tensor x = psg_tensor_of(PSG_F32, g, 2, (const int64_t[]){ 2, 3 });
    psg_block block = psg_rows(&x);
    block.backprop.data = NULL;
    const psg_gradient first = psg_gradient_of_blocks(&block, 1, 1, &counts[0]);
    const psg_gradient second = { .dtype = PSG_F32, .batch_size = 2, .rank = 1, .shape = { 2 } };
    const psg_gradient *list[] = { &first, &second };
    psg_dp *dp = create(f, &external);
    psg_batch batch;
    TEST_OK(f->context, psg_dp_take(dp, (const int64_t[]){ 5, 6 }, 2, &batch));
    assert_int_equal(psg_dp_accumulate(dp, &batch, list, 2, NULL), PSG_ERR_SHAPE);
    block.backprop.data = g;
    TEST_OK(f->context, psg_dp_accumulate(dp, &batch, list, 2, NULL));
    assert_true(dp->sums[0] != 0 && dp->sums[3] == 0);
    psg_dp_destroy(dp);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_is_said),
        cmocka_unit_test(earlier_releases_are_said),
        cmocka_unit_test(wrong_statements_are_refused),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(too_many_elements_for_the_grid_are_refused),
        cmocka_unit_test(the_least_noise_is_found),
        cmocka_unit_test(steps_end_a_budget),
        cmocka_unit_test(an_endless_budget_has_no_end),
        cmocka_unit_test(budgets_need_their_memory),
        cmocka_unit_test(earlier_releases_may_be_of_another_context),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(nothing_has_no_properties),
        cmocka_unit_test(normals_out_of_range_are_refused),
        cmocka_unit_test(a_generator_of_another_process_is_refused),
        cmocka_unit_test(a_full_rate_is_truncated),
        cmocka_unit_test(a_first_failure_loses_nothing),
        cmocka_unit_test(batches_of_others_are_refused),
        cmocka_unit_test(gradients_of_other_passes_are_refused),
        cmocka_unit_test(sums_of_half_a_sample_are_lost),
    };
    return cmocka_run_group_tests_name("dp edges", tests, set_up, tear_down);
}
