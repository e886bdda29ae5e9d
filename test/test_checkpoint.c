/* Save and resume: what goes on is what was, what was spent stays spent, and what does not fit is refused with both
 * values. */
#include "saved_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct place {
    char folder[RUN_PATH], ledger[RUN_PATH], file[RUN_PATH];
    psg_context *context;
    psg_dp_options options;
} place;

static void place_make(place *p, test_allocator *allocator) {
    saved_folder_make(p->folder);
    saved_path(p->folder, "ledger", p->ledger);
    saved_path(p->folder, "checkpoint", p->file);
    p->context = test_context_with(allocator, 1, NULL, 0);
    p->options = saved_options(p->ledger);
}

static void place_free(place *p) {
    test_context_free(p->context);
    saved_folder_remove(p->folder);
}

static void make(place *p, unsigned char seed, saved_run *run) { saved_run_make(p->context, &p->options, seed, run); }
static void save(place *p, saved_run *run) { TEST_OK(p->context, psg_dp_save(run->dp, &run->checkpoint, p->file)); }
static psg_status load(place *p, saved_run *run) { return psg_dp_load(run->dp, &run->checkpoint, p->file); }

static void refused(const place *p, psg_status status, psg_status expected, const char *words) {
    test_status(p->context, status, expected, words);
    if (!strstr(psg_context_message(p->context), words)) fail_msg("%s", psg_context_message(p->context));
}

/* A run of `steps`, saved and ended. */
static void saved_before(place *p, unsigned char seed, int steps) {
    saved_run run;
    make(p, seed, &run);
    saved_run_steps(&run, steps);
    save(p, &run);
    saved_run_free(&run);
}

static void same_state(const saved_run *a, const saved_run *b) {
    assert_memory_equal(a->weight, b->weight, sizeof a->weight);
    assert_memory_equal(a->bias, b->bias, sizeof a->bias);
    assert_memory_equal(a->average, b->average, sizeof a->average);
    assert_int_equal(psg_optimizer_steps(a->optimizer), psg_optimizer_steps(b->optimizer));
    assert_true(psg_optimizer_lr(a->optimizer) == psg_optimizer_lr(b->optimizer));
    assert_int_equal(psg_dp_step(a->dp), psg_dp_step(b->dp));
    assert_true(psg_dp_max_grad_norm(a->dp) == psg_dp_max_grad_norm(b->dp));
    for (size_t k = 0; k < 2; k++) {
        psg_named x, y;
        TEST_OK(a->context, psg_optimizer_state(a->optimizer, k, 0, &x));
        TEST_OK(b->context, psg_optimizer_state(b->optimizer, k, 0, &y));
        assert_true(test_same_bits(&x.tensor, &y.tensor));
    }
}

/* ---- going on ---- */

/* The samplings whose batches depend on where a run stands, and a quantile, whose C does. */
typedef struct kind {
    const char *name;
    psg_sampling sampling;
    double sample_rate, quantile;
    int64_t batch_size;
    uint64_t batches, ahead;
} kind;

static const kind kinds[] = {
    { "poisson", PSG_SAMPLING_POISSON, 0.25, 0, 0, 0, 1 },
    { "poisson, steps ahead", PSG_SAMPLING_POISSON, 0.25, 0, 0, 0, 5 },
    { "quantile", PSG_SAMPLING_POISSON, 0.25, 0.5, 0, 0, 3 },
    { "epochs", PSG_SAMPLING_EPOCHS, 0, 0, 13, 0, 4 },
    { "bins", PSG_SAMPLING_BALLS_IN_BINS, 0, 0, 0, 5, 2 },
};

static void choose(place *p, const kind *k) {
    p->options.sampling = k->sampling;
    p->options.sample_rate = k->sample_rate;
    p->options.quantile = k->quantile;
    p->options.batch_size = k->batch_size;
    p->options.batches = k->batches;
    p->options.ledger_ahead = k->ahead;
}

static void a_seeded_run_goes_on_to_the_same_bits(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        place p, other;
        saved_run run, whole;
        place_make(&p, NULL);
        place_make(&other, NULL);
        choose(&p, &kinds[k]);
        choose(&other, &kinds[k]);
        make(&other, 7, &whole);
        saved_run_steps(&whole, 11);
        saved_before(&p, 7, 6);
        make(&p, 7, &run);
        TEST_OK(p.context, psg_optimizer_set_lr(run.optimizer, 99));   /* the checkpoint's counts */
        TEST_OK(p.context, load(&p, &run));
        saved_run_steps(&run, 5);
        same_state(&run, &whole);
        assert_int_equal(saved_releases(p.context, p.ledger), saved_releases(other.context, other.ledger));
        saved_run_free(&run);
        saved_run_free(&whole);
        place_free(&other);
        place_free(&p);
    }
}

/* After a crash a seeded run makes the steps since the checkpoint again, which are in the ledger already. */
static void a_seeded_run_repeats_what_is_recorded(void **state) {
    (void)state;
    place p;
    saved_run run;
    double weight[RUN_WEIGHT];
    place_make(&p, NULL);
    p.options.ledger_ahead = 4;
    make(&p, 7, &run);
    saved_run_steps(&run, 3);
    save(&p, &run);
    saved_run_steps(&run, 6);
    memcpy(weight, run.weight, sizeof weight);
    saved_run_free(&run);
    make(&p, 7, &run);
    TEST_OK(p.context, load(&p, &run));
    assert_int_equal(psg_dp_recorded_ahead(run.dp), 9);   /* 3 of 12 are made */
    saved_run_steps(&run, 6);
    assert_memory_equal(weight, run.weight, sizeof weight);
    assert_int_equal(saved_releases(p.context, p.ledger), 12);
    saved_run_free(&run);
    place_free(&p);
}

static void a_private_run_goes_on_where_it_was(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        place p;
        saved_run before, after;
        place_make(&p, NULL);
        choose(&p, &kinds[k]);
        make(&p, 0, &before);
        saved_run_steps(&before, 6);
        save(&p, &before);
        make(&p, 0, &after);
        TEST_OK(p.context, load(&p, &after));
        same_state(&before, &after);
        assert_int_equal(psg_dp_recorded_ahead(after.dp), 0);
        assert_int_equal(psg_accountant_releases(psg_dp_accountant(after.dp)),
                         psg_accountant_releases(psg_dp_accountant(before.dp)));
        assert_true(saved_run_epsilon(&after) == saved_run_epsilon(&before));
        saved_run_steps(&after, 1);
        assert_int_equal(psg_dp_step(after.dp), 7);
        saved_run_free(&after);
        saved_run_free(&before);
        place_free(&p);
    }
}

/* The ledger has more than the checkpoint: it counts.  And the key is another: the same step has other noise. */
static void what_was_spent_after_the_checkpoint_counts(void **state) {
    (void)state;
    place p;
    saved_run run, again;
    place_make(&p, NULL);
    make(&p, 0, &run);
    saved_run_steps(&run, 4);
    save(&p, &run);
    saved_run_steps(&run, 5);
    for (int time = 0; time < 2; time++) {   /* one checkpoint, two runs from it */
        double spent = saved_run_epsilon(&run);
        make(&p, 0, &again);
        TEST_OK(p.context, load(&p, &again));
        assert_int_equal(psg_dp_step(again.dp), 4);
        assert_int_equal(psg_accountant_releases(psg_dp_accountant(again.dp)), 9 + 5 * (uint64_t)time);
        assert_true(saved_run_epsilon(&again) >= spent);
        saved_run_steps(&again, 5);
        assert_memory_not_equal(again.weight, run.weight, sizeof run.weight);
        assert_int_equal(saved_releases(p.context, p.ledger), 14 + 5 * (uint64_t)time);
        saved_run_free(&again);
    }
    saved_run_free(&run);
    place_free(&p);
}

/* The parameters of a checkpoint are weights under their names, for another program. */
static void weights_come_out_of_a_checkpoint(void **state) {
    (void)state;
    place p;
    saved_run run;
    double weight[RUN_WEIGHT] = { 0 };
    psg_load_report report = PSG_LOAD_REPORT_INIT;
    place_make(&p, NULL);
    make(&p, 0, &run);
    saved_run_steps(&run, 2);
    save(&p, &run);
    psg_named wanted = run.params[0];
    wanted.tensor.data = weight;
    TEST_OK(p.context, psg_weights_load(p.context, p.file, &wanted, 1, PSG_LOAD_PARTIAL, &report));
    assert_int_equal(report.loaded, 1);
    assert_memory_equal(weight, run.weight, sizeof weight);
    saved_run_free(&run);
    place_free(&p);
}

/* A budget is for all that the ledger has: steps that were lost are not given again. */
static void a_budget_holds_over_a_resume(void **state) {
    (void)state;
    place p;
    saved_run run;
    place_make(&p, NULL);
    p.options.noise_multiplier = 0;
    p.options.epsilon = 4;
    p.options.delta = 1e-5;
    p.options.steps = 30;
    make(&p, 0, &run);
    saved_run_steps(&run, 10);
    save(&p, &run);
    saved_run_steps(&run, 5);
    saved_run_free(&run);
    make(&p, 0, &run);
    TEST_OK(p.context, load(&p, &run));
    assert_in_range(psg_dp_remaining(run.dp), 14, 15);
    while (psg_dp_remaining(run.dp)) saved_run_steps(&run, 1);
    refused(&p, saved_run_step(&run), PSG_ERR_BUDGET, "the budget of epsilon 4");
    assert_in_range(saved_releases(p.context, p.ledger), 29, 30);
    assert_true(saved_run_epsilon(&run) <= 4);
    saved_run_free(&run);
    place_free(&p);
}

static void a_run_is_saved_and_resumed_many_times(void **state) {
    (void)state;
    place p;
    saved_run run;
    place_make(&p, NULL);
    saved_before(&p, 0, 0);   /* before the first step */
    for (uint64_t t = 0; t < 5; t++) {
        make(&p, 0, &run);
        TEST_OK(p.context, load(&p, &run));
        assert_int_equal(psg_dp_step(run.dp), 2 * t);
        saved_run_steps(&run, 2);
        save(&p, &run);
        saved_run_free(&run);
    }
    assert_int_equal(saved_releases(p.context, p.ledger), 10);
    place_free(&p);
}

/* Epochs and bins of another key are others: they are drawn and counted from their beginning, whatever the step. */
static void epochs_begin_anew_with_a_new_key(void **state) {
    (void)state;
    for (size_t k = 3; k < sizeof kinds / sizeof *kinds; k++) {
        place p;
        saved_run run;
        int seen[RUN_RECORDS] = { 0 };
        place_make(&p, NULL);
        choose(&p, &kinds[k]);
        saved_before(&p, 0, 3);
        make(&p, 0, &run);
        TEST_OK(p.context, load(&p, &run));
        for (int t = 0; t < 5; t++) {   /* one epoch of either kind */
            psg_batch batch;
            TEST_OK(p.context, psg_dp_sample(run.dp, &batch));
            for (int64_t n = 0; n < batch.count; n++) seen[batch.ids[n]]++;
            TEST_OK(p.context, psg_dp_release_to(run.dp, run.optimizer));
        }
        for (int i = 0; i < RUN_RECORDS; i++) assert_int_equal(seen[i], 1);
        saved_run_free(&run);
        place_free(&p);
    }
}

/* ---- what does not fit ---- */

/* Loads into a run of other options, and nothing of it changes. */
static void load_is_refused(place *p, const psg_dp_options *options, unsigned char seed, psg_status expected,
                            const char *words) {
    saved_run run;
    saved_run_make(p->context, options, seed, &run);
    const double first = run.weight[1], average = run.average[0] = -5;
    refused(p, load(p, &run), expected, words);
    assert_true(run.weight[1] == first && run.average[0] == average);
    assert_int_equal(psg_dp_step(run.dp), 0);
    assert_int_equal(psg_optimizer_steps(run.optimizer), 0);
    saved_run_free(&run);
}

static void another_mechanism_is_refused(void **state) {
    (void)state;
    place p;
    place_make(&p, NULL);
    saved_before(&p, 0, 3);
    psg_dp_options o = p.options;
    load_is_refused(&p, &o, 3, PSG_ERR_FORMAT, "seed is none, must be ");
    o.sample_rate = 0.5;
    load_is_refused(&p, &o, 0, PSG_ERR_FORMAT, "sample_rate is 0.25, must be 0.5");
    o = p.options;
    o.noise_multiplier = 2;
    load_is_refused(&p, &o, 0, PSG_ERR_FORMAT, "noise_multiplier is 1, must be 2");
    o = p.options;
    o.max_grad_norm = 0.5;
    load_is_refused(&p, &o, 0, PSG_ERR_FORMAT, "max_grad_norm is 1, must be 0.5");
    o = p.options;
    o.records = 61;
    load_is_refused(&p, &o, 0, PSG_ERR_FORMAT, "records is 60, must be 61");
    o = p.options;
    o.expected_batch_size = 14;
    load_is_refused(&p, &o, 0, PSG_ERR_FORMAT, "expected_batch_size is 15, must be 14");
    o = p.options;
    o.clipping = PSG_CLIP_AUTOMATIC;
    load_is_refused(&p, &o, 0, PSG_ERR_FORMAT, "clipping is 0, must be 1");
    o = p.options;
    o.group_count = 2;
    load_is_refused(&p, &o, 0, PSG_ERR_FORMAT, "group_count is 1, must be 2");
    o = p.options;
    o.quantile = 0.5;
    load_is_refused(&p, &o, 0, PSG_ERR_FORMAT, "quantile is 0, must be 0.5");
    place_free(&p);
}

/* Noise that was found for other steps: the message says where it comes from. */
static void noise_of_another_budget_is_refused(void **state) {
    (void)state;
    place p;
    place_make(&p, NULL);
    p.options.noise_multiplier = 0;
    p.options.epsilon = 4;
    p.options.delta = 1e-5;
    p.options.steps = 30;
    saved_before(&p, 0, 3);
    psg_dp_options o = p.options;
    o.steps = 60;
    load_is_refused(&p, &o, 0, PSG_ERR_FORMAT, "as it follows from epsilon, delta and steps");
    o.epsilon = o.delta = 0;
    o.steps = 0;
    o.noise_multiplier = 3;
    load_is_refused(&p, &o, 0, PSG_ERR_FORMAT, ", must be 3");
    place_free(&p);
}

static void other_groups_and_seeds_are_refused(void **state) {
    (void)state;
    place p;
    const double shares[2] = { 1, 2 };
    saved_run first, second;
    place_make(&p, NULL);
    p.options.group_count = 2;
    p.options.group_norms = shares;
    saved_before(&p, 7, 3);
    psg_dp_options o = p.options;
    load_is_refused(&p, &o, 8, PSG_ERR_FORMAT, "seed is ");
    o.group_norms = NULL;
    load_is_refused(&p, &o, 7, PSG_ERR_FORMAT, "groups is ");
    make(&p, 7, &first);   /* the second mechanism of a generator has other noise than the first */
    second = first;
    const int64_t counts[2] = { RUN_WEIGHT, RUN_BIAS };
    TEST_OK(p.context, psg_dp_create(p.context, first.generator, &p.options, counts, 2, &second.dp));
    refused(&p, load(&p, &second), PSG_ERR_FORMAT, "seed is ");
    TEST_OK(p.context, load(&p, &first));
    psg_dp_destroy(second.dp);
    saved_run_free(&first);
    place_free(&p);
}

static void another_model_is_refused(void **state) {
    (void)state;
    place p;
    saved_run run;
    place_make(&p, NULL);
    saved_before(&p, 0, 3);
    make(&p, 0, &run);
    run.params[1].name = "other.bias";
    refused(&p, load(&p, &run), PSG_ERR_FORMAT, "2 missing, 2 extra, 0 mismatched; the first: extra layer.bias");
    run.params[1].name = "layer.bias";
    run.params[0].tensor.rank = 2;
    run.params[0].tensor.shape[0] = 2;
    run.params[0].tensor.shape[1] = run.params[0].tensor.stride[0] = 3;
    run.params[0].tensor.stride[1] = 1;
    refused(&p, load(&p, &run), PSG_ERR_FORMAT, "mismatched layer.weight: wanted f64 (2, 3), the file has f64 (6)");
    run.params[0].tensor.rank = 1;
    run.params[0].tensor.shape[0] = 6;
    run.params[0].tensor.stride[0] = 1;
    run.checkpoint.extra_count = 0;
    refused(&p, load(&p, &run), PSG_ERR_FORMAT, "extra extra.average");
    run.checkpoint.extra_count = 1;
    run.checkpoint.optimizer = NULL;
    refused(&p, load(&p, &run), PSG_ERR_FORMAT, "optimizer is sgd, momentum 0.9");
    assert_true(run.weight[1] == 0.1 && psg_dp_step(run.dp) == 0);
    run.checkpoint.optimizer = run.optimizer;
    TEST_OK(p.context, load(&p, &run));   /* after all these it is as good as new */
    saved_run_steps(&run, 1);
    saved_run_free(&run);
    place_free(&p);
}

/* Noise of a step must not be used again, and steps must not be forgotten. */
static void a_mechanism_in_use_is_refused(void **state) {
    (void)state;
    place p;
    saved_run run;
    psg_batch batch;
    place_make(&p, NULL);
    make(&p, 0, &run);
    saved_run_steps(&run, 2);
    save(&p, &run);
    refused(&p, load(&p, &run), PSG_ERR_STATE, "at step 2, must be a new one");
    saved_run_free(&run);
    make(&p, 0, &run);
    TEST_OK(p.context, psg_dp_sample(run.dp, &batch));
    refused(&p, load(&p, &run), PSG_ERR_STATE, "at step 0 with a batch");
    saved_run_free(&run);
    p.options.ledger = NULL;
    p.options.ledger_ahead = 0;
    make(&p, 0, &run);
    refused(&p, psg_dp_save(run.dp, &run.checkpoint, p.file), PSG_ERR_STATE, "psg_dp_options.ledger");
    refused(&p, load(&p, &run), PSG_ERR_STATE, "no ledger");
    saved_run_free(&run);
    place_free(&p);
}

/* The ledger must be the one that the checkpoint was made beside, with nothing taken away. */
static void another_ledger_is_refused(void **state) {
    (void)state;
    place p;
    saved_run run;
    size_t length, longer;
    place_make(&p, NULL);
    make(&p, 0, &run);
    saved_run_steps(&run, 3);
    char *early = saved_bytes(p.ledger, &length);
    saved_run_steps(&run, 2);
    char *late = saved_bytes(p.ledger, &longer);
    save(&p, &run);
    saved_run_free(&run);
    saved_write(p.ledger, early, length);
    load_is_refused(&p, &p.options, 0, PSG_ERR_FORMAT, "has 3 lines, must have the 5");
    remove(p.ledger);
    load_is_refused(&p, &p.options, 0, PSG_ERR_FORMAT, "has 0 lines, must have the 5");
    make(&p, 0, &run);
    saved_run_steps(&run, 6);
    saved_run_free(&run);
    load_is_refused(&p, &p.options, 0, PSG_ERR_FORMAT, "line 5 has hash ");
    saved_write(p.ledger, late, longer - 1);   /* without the end of its last line */
    make(&p, 0, &run);
    TEST_OK(p.context, load(&p, &run));
    saved_run_free(&run);
    free(late);
    free(early);
    place_free(&p);
}

/* ---- damaged files ---- */

static void replace_text(char *bytes, size_t length, const char *from, const char *to) {
    size_t size = strlen(from);
    assert_int_equal(size, strlen(to));
    for (size_t at = 0; at + size <= length; at++) {
        if (memcmp(bytes + at, from, size)) continue;
        memcpy(bytes + at, to, size);
        return;
    }
    fail_msg("no %s", from);
}

static void damaged_files_are_refused(void **state) {
    (void)state;
    const struct { const char *from, *to, *words; } changes[] = {
        { "\"psg_checkpoint\":\"1\"", "\"psg_checkpoint\":\"2\"", "format psg_checkpoint is 2, must be 1" },
        { "\"psg_checkpoint\"", "\"qsg_checkpoint\"", "format psg_checkpoint is missing" },
        { "\"run\"", "\"ran\"", "run is missing" },
        { "\"ledger_hash\"", "\"ladger_hash\"", "ledger_hash is missing" },
        { "\"sampling\":\"poisson\"", "\"sampling\":\"poissan\"", "sampling is poissan, must be poisson" },
        { "psg.step", "psg.stop", "a number psg.* is missing" },
        { "psg.lr", "psg.l_", "a number psg.* is missing" },
    };
    place p;
    size_t length;
    place_make(&p, NULL);
    saved_before(&p, 0, 3);
    char *bytes = saved_bytes(p.file, &length), *changed = malloc(length);
    for (size_t k = 0; k < sizeof changes / sizeof *changes; k++) {
        memcpy(changed, bytes, length);
        replace_text(changed, length, changes[k].from, changes[k].to);
        saved_write(p.file, changed, length);
        load_is_refused(&p, &p.options, 0, PSG_ERR_FORMAT, changes[k].words);
    }
    for (size_t cut = 0; cut < length; cut += 97) {
        saved_write(p.file, bytes, cut);
        load_is_refused(&p, &p.options, 0, PSG_ERR_FORMAT, "psg_dp_load: ");
    }
    free(changed);
    free(bytes);
    place_free(&p);
}

/* A run's name goes into the ledger when a seeded run goes on: one that is none would make the file unreadable. */
static void a_run_has_a_name_of_digits(void **state) {
    (void)state;
    place p;
    size_t length;
    place_make(&p, NULL);
    saved_before(&p, 7, 0);
    char *bytes = saved_bytes(p.file, &length);
    char *name = strstr(bytes + 8, "\"run\":\"");
    assert_non_null(name);
    name[10] = 'z';
    saved_write(p.file, bytes, length);
    load_is_refused(&p, &p.options, 7, PSG_ERR_FORMAT, "must be of 32 hexadecimal digits");
    free(bytes);
    place_free(&p);
}

/* Numbers that no run can have, put into the file by its own writer. */
typedef struct impossible {
    const char *name;
    int64_t whole;
    double number;
    const char *words;
} impossible;

static void put_numbers(double quantile, const impossible *changes, size_t change_count) {
    static const char *const keys[] = {
        "psg_checkpoint", "library", "run", "ledger_hash", "sampling", "relation", "records", "sample_rate",
        "batch_size", "batches", "expected_batch_size", "max_batch_size", "max_grad_norm", "clipping", "stability",
        "group_count", "groups", "quantile", "quantile_rate", "quantile_noise", "noise_multiplier", "parameters",
        "elements",
        "allow_openblas", "seed", "optimizer"
    };
    enum { KEYS = sizeof keys / sizeof *keys };
    place p;
    psg_tensors *file;
    psg_text_pair pairs[KEYS];
    place_make(&p, NULL);
    p.options.quantile = quantile;
    saved_before(&p, 0, 3);
    TEST_OK(p.context, psg_safetensors_read(p.context, p.file, PSG_FILE_COPY, &file));
    for (size_t k = 0; k < KEYS; k++) pairs[k] = (psg_text_pair){ keys[k], psg_tensors_metadata(file, keys[k]) };
    for (size_t k = 0; k < change_count; k++) {
        const psg_tensor *t = psg_tensors_find(file, changes[k].name);
        int64_t was;
        assert_non_null(t);
        memcpy(&was, t->data, sizeof was);
        if (t->dtype == PSG_I64) *(int64_t *)t->data = changes[k].whole;
        else *(double *)t->data = changes[k].number;
        TEST_OK(p.context, psg_safetensors_write(p.context, p.file, psg_tensors_list(file), psg_tensors_count(file),
                                                 pairs, KEYS));
        load_is_refused(&p, &p.options, 0, PSG_ERR_FORMAT, changes[k].words);
        memcpy(t->data, &was, sizeof was);
    }
    psg_tensors_destroy(file);
    place_free(&p);
}

static void impossible_numbers_are_refused(void **state) {
    (void)state;
    const impossible changes[] = {
        { "psg.step", 4, 0, "the step is 4, but the ledger has 3 steps" },
        { "psg.step", -1, 0, "a count psg.* is negative" },
        { "psg.optimizer_steps", -1, 0, "a count psg.* is negative" },
        { "psg.ledger_lines", 2, 0, "line 2 has hash " },
        { "psg.lr", 0, -1, "psg.lr is no rate" },
        { "psg.max_grad_norm", 0, 2, "psg.max_grad_norm is 2, must be 1" },
    };
    const impossible of_quantile = { "psg.max_grad_norm", 0, -1, "psg.max_grad_norm is no bound" };
    put_numbers(0, changes, sizeof changes / sizeof *changes);
    put_numbers(0.5, &of_quantile, 1);
}

/* ---- arguments and memory ---- */

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    place p;
    saved_run run;
    place_make(&p, NULL);
    make(&p, 0, &run);
    psg_checkpoint *c = &run.checkpoint;
    const psg_named params[2] = { run.params[0], run.params[1] };
    assert_int_equal(psg_dp_save(NULL, c, p.file), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_dp_load(NULL, c, p.file), PSG_ERR_ARGUMENT);
    refused(&p, psg_dp_save(run.dp, NULL, p.file), PSG_ERR_ARGUMENT, "psg_dp_save: checkpoint is NULL");
    refused(&p, psg_dp_load(run.dp, c, NULL), PSG_ERR_ARGUMENT, "psg_dp_load: path is NULL");
    refused(&p, psg_dp_load(run.dp, c, p.file), PSG_ERR_FILE, "No such file");
    c->param_count = 1;
    refused(&p, psg_dp_save(run.dp, c, p.file), PSG_ERR_ARGUMENT, "param_count is 1, must be the mechanism's 2");
    c->param_count = 2;
    run.params[1].name = NULL;
    refused(&p, psg_dp_save(run.dp, c, p.file), PSG_ERR_ARGUMENT, "params[1] has no name");
    run.params[1] = (psg_named){ "layer.weight", params[1].tensor };
    refused(&p, psg_dp_save(run.dp, c, p.file), PSG_ERR_ARGUMENT, "name \"layer.weight\" is there twice");
    run.params[1] = params[0];
    refused(&p, psg_dp_save(run.dp, c, p.file), PSG_ERR_SHAPE, "params[1] (layer.weight) has shape (6)");
    double elsewhere[RUN_BIAS] = { 0 };
    run.params[1] = params[1];
    run.params[1].tensor.data = elsewhere;
    refused(&p, psg_dp_save(run.dp, c, p.file), PSG_ERR_ARGUMENT, "value 1 of the optimizer is not the memory");
    run.params[1] = params[1];
    run.extra[0].tensor.rank = -1;
    refused(&p, psg_dp_save(run.dp, c, p.file), PSG_ERR_ARGUMENT, "extra[0] (average) has no valid tensor");
    c->extra = NULL;
    refused(&p, psg_dp_save(run.dp, c, p.file), PSG_ERR_ARGUMENT, "extra is NULL");
    c->extra_count = 0;
    psg_optimizer *small, *whole = c->optimizer;
    TEST_OK(p.context, psg_sgd_create(p.context, NULL, &params[0].tensor, 1, &small));
    c->optimizer = small;
    refused(&p, psg_dp_save(run.dp, c, p.file), PSG_ERR_ARGUMENT, "another number of values");
    c->optimizer = NULL;
    TEST_OK(p.context, psg_dp_save(run.dp, c, p.file));
    TEST_OK(p.context, psg_dp_load(run.dp, c, p.file));
    c->optimizer = whole;
    refused(&p, psg_dp_save(run.dp, c, p.ledger), PSG_ERR_ARGUMENT, "is the ledger, must be another");
    char beside[RUN_PATH];
    saved_run named;
    psg_dp_options options = p.options;
    options.ledger = saved_path(p.folder, "next.psg-tmp", beside);
    saved_run_make(p.context, &options, 0, &named);
    saved_run_steps(&named, 2);
    char next[RUN_PATH];
    refused(&p, psg_dp_save(named.dp, &named.checkpoint, saved_path(p.folder, "next", next)), PSG_ERR_ARGUMENT,
            "the temporary file beside it, is the ledger");
    assert_int_equal(saved_releases(p.context, beside), 2);
    saved_run_free(&named);
    refused(&p, psg_dp_save(run.dp, c, p.folder), PSG_ERR_FILE, "no regular file");
    psg_optimizer_destroy(small);
    saved_run_free(&run);
    place_free(&p);
}

static void without_memory_nothing_changes(void **state) {
    (void)state;
    test_allocator allocator = { 0 };
    place p;
    saved_run run, again;
    size_t length, now;
    place_make(&p, &allocator);
    make(&p, 0, &run);
    saved_run_steps(&run, 3);
    save(&p, &run);
    char *before = saved_bytes(p.file, &length);
    saved_run_steps(&run, 1);
    psg_status status = PSG_ERR_MEMORY;
    for (uint64_t n = 1; status; n++) {
        test_allocator_arm(&allocator, n, false);
        status = psg_dp_save(run.dp, &run.checkpoint, p.file);
        test_allocator_arm(&allocator, 0, false);
        char *bytes = saved_bytes(p.file, &now);
        if (status) assert_int_equal(status, PSG_ERR_MEMORY);
        if (status) assert_true(now == length && !memcmp(bytes, before, length));
        free(bytes);
    }
    free(before);
    make(&p, 0, &again);
    status = PSG_ERR_MEMORY;
    for (uint64_t n = 1; status; n++) {
        test_allocator_arm(&allocator, n, false);
        status = load(&p, &again);
        test_allocator_arm(&allocator, 0, false);
        if (status) assert_int_equal(status, PSG_ERR_MEMORY);
        if (status) assert_true(again.weight[1] == 0.1 && psg_dp_step(again.dp) == 0);
    }
    same_state(&run, &again);
    saved_run_free(&again);
    saved_run_free(&run);
    place_free(&p);
    assert_int_equal(allocator.live_blocks, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seeded_run_goes_on_to_the_same_bits),
        cmocka_unit_test(a_seeded_run_repeats_what_is_recorded),
        cmocka_unit_test(a_private_run_goes_on_where_it_was),
        cmocka_unit_test(what_was_spent_after_the_checkpoint_counts),
        cmocka_unit_test(weights_come_out_of_a_checkpoint),
        cmocka_unit_test(a_budget_holds_over_a_resume),
        cmocka_unit_test(a_run_is_saved_and_resumed_many_times),
        cmocka_unit_test(epochs_begin_anew_with_a_new_key),
        cmocka_unit_test(another_mechanism_is_refused),
        cmocka_unit_test(noise_of_another_budget_is_refused),
        cmocka_unit_test(other_groups_and_seeds_are_refused),
        cmocka_unit_test(another_model_is_refused),
        cmocka_unit_test(a_mechanism_in_use_is_refused),
        cmocka_unit_test(another_ledger_is_refused),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(a_run_has_a_name_of_digits),
        cmocka_unit_test(impossible_numbers_are_refused),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(without_memory_nothing_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
