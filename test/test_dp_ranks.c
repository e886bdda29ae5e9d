/* One mechanism of several ranks: the bits of one process for any number of them, an error on one is an error on all,
 * and nothing is added twice.  Ranks are threads here; what they return is looked at when all have ended. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dp/random.h"
#include "rank_threads.h"

enum { P0 = 5 * 7, P1 = 40000, PARAMS = P0 + P1, STEPS = 20, MOST_RECORDS = 300 };   /* three blocks of noise */

static char folder[] = "/tmp/psg-ranks-XXXXXX";

/* ---- a run ---- */

typedef struct scene {
    psg_dp_options options;
    int steps, save_at;                /* 0: it is not saved */
    const char *ledger, *loads;        /* of rank 0; a checkpoint to go on from, or NULL */
    int odd_rank;                      /* for which the next ones hold; -1: none */
    double odd_rate, odd_lr;           /* another sample_rate, learning rate */
    int odd_ledger, odd_weight, odd_step, odd_shape, takes_others, odd_seed;
    const char *odd_isa;
    int goes_on;                       /* after its first release, which fails */
    int failing_after;                 /* calls that do not fail */
    int slices;
    uint64_t odd_every, odd_reserved;
    int odd_extra, odd_optimizer;      /* in the checkpoint; none there */
    int others_spend;                  /* of the ledger, which rank 0 then asks */
} scene;

typedef struct result {
    scene scene;
    psg_status status;
    char message[256];
    float weights[PARAMS];
    double epsilon;
    uint64_t batches, steps, own;      /* a hash of the batches; releases; records accumulated */
    int is_private;
    unsigned char key;                 /* its first byte at the end */
} result;

typedef struct process {
    psg_context *context;
    psg_generator *generator;
    psg_dp *dp;
    psg_optimizer *sgd;
    float *rows;
} process;

/* The gradient of record i is its own vector less the weights, which later steps therefore depend on. */
static void fill_rows(const psg_batch *batch, const float *weights, float *rows) {
    for (int64_t n = 0; n < batch->count; n++) {
        for (int e = 0; e < PARAMS; e++) {
            rows[n * PARAMS + e] = 0.01f * (float)((batch->ids[n] * 31 + e * 7) % 41 - 20) - 0.1f * weights[e];
        }
    }
}

static psg_status accumulate(process *p, const psg_batch *own, const float *weights) {
    const int64_t size[3] = { own->count, 1, P0 }, second[3] = { own->count, 1, P1 };
    const int64_t stride[3] = { PARAMS, PARAMS, 1 };
    fill_rows(own, weights, p->rows);
    const psg_tensor g[2] = { psg_tensor_strided(PSG_F32, p->rows, 3, size, stride),
                              psg_tensor_strided(PSG_F32, p->rows + P0, 3, second, stride) };
    const psg_block blocks[2] = { psg_rows(&g[0]), psg_rows(&g[1]) };
    const psg_gradient gradients[2] = { psg_gradient_of_blocks(&blocks[0], 1, PSG_SHAPE(P0)),
                                        psg_gradient_of_blocks(&blocks[1], 1, PSG_SHAPE(P1)) };
    const psg_gradient *const set[2] = { &gradients[0], &gradients[1] };
    return psg_dp_accumulate(p->dp, own, set, 2, NULL);
}

static uint64_t hashed(uint64_t hash, const psg_batch *batch) {
    for (int64_t n = 0; n < batch->count; n++) hash = (hash ^ (uint64_t)batch->ids[n]) * 0x100000001b3u;
    return hash * 31 + batch->stream;
}

/* Of what others spend rank 0 hears first; the account is its alone. */
static psg_status spend(process *p, rank *r, result *out) {
    psg_privacy privacy;
    const psg_event event = { .sampling = PSG_SAMPLING_POISSON, .sample_rate = 0.1, .noise_multiplier = 1.5 };
    if (r->number == 0) {
        PSG_TRY(psg_ledger_record(p->context, out->scene.ledger, out->scene.options.relation, &event, 40));
        return psg_dp_privacy(p->dp, 1e-5, &privacy);
    }
    return psg_dp_privacy(p->dp, 1e-5, &privacy) == PSG_ERR_STATE ? PSG_OK : PSG_ERR_NUMERIC;
}

static psg_status step(process *p, rank *r, result *out, uint64_t at) {
    psg_batch batch, own;
    const int is_odd = r->number == out->scene.odd_rank && (int)at == 3;
    PSG_TRY(psg_dp_sample(p->dp, &batch));
    PSG_TRY(psg_dp_own_batch(p->dp, &batch, &own));
    out->batches = hashed(out->batches, &batch);
    out->own += (uint64_t)own.count;
    if (out->scene.others_spend && at == 3) PSG_TRY(spend(p, r, out));
    psg_status status = accumulate(p, is_odd && out->scene.takes_others ? &batch : &own, out->weights);
    if (is_odd && out->scene.odd_step) status = PSG_ERR_MEMORY;
    PSG_TRY(psg_dp_agree(p->dp, status));
    if (is_odd && out->scene.odd_shape) {
        const psg_tensor few = psg_f32_1d(p->rows, 3);
        return psg_dp_release(p->dp, &few, 1);
    }
    status = psg_dp_release_to(p->dp, p->sgd);
    const int again = status && out->scene.goes_on && psg_dp_step(p->dp) == at;
    return again ? psg_dp_release_to(p->dp, p->sgd) : status;
}

static psg_checkpoint checkpoint_of(process *p, psg_named named[2]) {
    psg_checkpoint checkpoint = PSG_CHECKPOINT_INIT;
    checkpoint.params = named;
    checkpoint.param_count = 2;
    checkpoint.optimizer = p->sgd;
    return checkpoint;
}

static psg_status create(process *p, rank *r, result *out, psg_named named[2]) {
    scene *s = &out->scene;
    const int is_odd = r->number == s->odd_rank;
    unsigned char key[32] = { (unsigned char)(r->number ? 200 + r->number : 7) };   /* rank 0's is the one that counts */
    psg_context_options context = PSG_CONTEXT_OPTIONS_INIT;
    psg_sgd_options sgd = PSG_SGD_OPTIONS_INIT;
    context.threads = 1 + (unsigned)r->number % 2;
    if (is_odd && s->odd_isa) context.isa = s->odd_isa;
    PSG_TRY(psg_context_create(&context, &p->context));
    PSG_TRY(s->odd_seed && !is_odd ? psg_generator_create(p->context, &p->generator)
                                   : psg_generator_create_seeded(p->context, key, &p->generator));
    if (is_odd && s->odd_rate > 0) s->options.sample_rate = s->odd_rate;
    s->options.ledger = r->number == 0 || (is_odd && s->odd_ledger) ? s->ledger : NULL;
    if (!s->options.ledger) s->options.ledger_ahead = 0;
    PSG_TRY(psg_dp_create(p->context, p->generator, &s->options, (const int64_t[]){ P0, P1 }, 2, &p->dp));
    sgd.lr = is_odd && s->odd_lr > 0 ? s->odd_lr : 0.5, sgd.momentum = 0.5;
    if (is_odd && s->odd_weight) out->weights[9] = 1;
    const psg_tensor values[2] = { psg_f32_1d(out->weights, P0), psg_f32_1d(out->weights + P0, P1) };
    named[0] = (psg_named){ "first", values[0] }, named[1] = (psg_named){ "second", values[1] };
    PSG_TRY(psg_sgd_create(p->context, &sgd, values, 2, &p->sgd));
    return (p->rows = malloc(MOST_RECORDS * PARAMS * sizeof *p->rows)) ? PSG_OK : PSG_ERR_MEMORY;
}

static psg_status fail_once(void *user, int64_t *sums, size_t count) {
    int *failures = user;
    if ((*failures)++) return PSG_OK;
    sums[count - 1] = 77;
    return PSG_ERR_SYSTEM;
}

static psg_status go(process *p, rank *r, result *out) {
    psg_named named[2];
    int failures = 0, lost = 0;
    scene *s = &out->scene;
    psg_dp_ranks ranks = rank_functions(r);
    ranks.slices = s->slices;
    if (r->number == s->odd_rank) ranks.check_every = s->odd_every, ranks.reserved[1] = s->odd_reserved;
    PSG_TRY(create(p, r, out, named));
    PSG_TRY(psg_dp_set_ranks(p->dp, &ranks));
    psg_checkpoint checkpoint = checkpoint_of(p, named);
    double number = 0;
    const psg_named extra = { "number", psg_f64_1d(&number, 1) };
    if (r->number == s->odd_rank && s->odd_optimizer) checkpoint.optimizer = NULL;
    if (r->number == s->odd_rank && s->odd_extra) checkpoint.extra = &extra, checkpoint.extra_count = 1;
    if (s->loads) PSG_TRY(psg_dp_load(p->dp, &checkpoint, s->loads));
    if (s->goes_on && r->channel->ranks == 1) psg_dp_set_reduce(p->dp, fail_once, &failures);
    while ((int)psg_dp_step(p->dp) < s->steps && psg_dp_remaining(p->dp)) {
        const psg_status status = step(p, r, out, psg_dp_step(p->dp));
        if (!s->goes_on || lost) PSG_TRY(status);
        lost |= status != PSG_OK;
        if (s->save_at && (int)psg_dp_step(p->dp) == s->save_at) {
            char path[64];
            snprintf(path, sizeof path, "%s/run", folder);
            PSG_TRY(psg_dp_save(p->dp, &checkpoint, path));
        }
    }
    out->is_private = psg_accountant_is_private(psg_dp_accountant(p->dp));
    return psg_accountant_epsilon_upper(psg_dp_accountant(p->dp), 1e-5, &out->epsilon);
}

static void body(rank *r) {
    result *out = r->user;
    process p = { 0 };
    out->status = go(&p, r, out);
    if (p.context) snprintf(out->message, sizeof out->message, "%s", psg_context_message(p.context));
    if (p.dp) out->steps = psg_dp_step(p.dp);
    if (p.generator) out->key = p.generator->key[0];
    psg_optimizer_destroy(p.sgd);
    psg_dp_destroy(p.dp);
    psg_generator_destroy(p.generator);
    psg_context_destroy(p.context);
    free(p.rows);
}

static scene new_scene(void) {
    scene s = { .options = PSG_DP_OPTIONS_INIT, .steps = STEPS, .odd_rank = -1 };
    s.options.records = 200;
    s.options.sample_rate = 0.1;
    s.options.noise_multiplier = 1.5;
    return s;
}

static result *run(int ranks, const scene *s, channel_call failing, int failing_rank) {
    result *results = calloc((size_t)ranks, sizeof *results);
    assert_non_null(results);
    for (int k = 0; k < ranks; k++) results[k].scene = *s;
    rank_threads(ranks, failing, failing_rank, s->failing_after, body, results, sizeof *results);
    return results;
}

/* ---- the same bits ---- */

static void check_ranks(const scene *s, const char *what) {
    result *one = run(1, s, NO_CALL, 0);
    if (one->status) fail_msg("%s: one process: %s", what, one->message);
    for (int ranks = 2; ranks <= MOST_RANKS; ranks++) {
        result *all = run(ranks, s, NO_CALL, 0);
        uint64_t own = 0;
        for (int k = 0; k < ranks; k++) {
            if (all[k].status) fail_msg("%s: rank %d of %d: %s", what, k, ranks, all[k].message);
            if (memcmp(all[k].weights, one->weights, sizeof one->weights)) fail_msg("%s: other bits", what);
            assert_true(all[k].batches == one->batches && all[k].steps == one->steps);
            assert_true(all[k].epsilon == one->epsilon && all[k].is_private == one->is_private);
            own += all[k].own;
        }
        assert_true(own == one->own);
        free(all);
    }
    free(one);
}

static void any_number_of_ranks_gives_the_same_bits(void **state) {
    (void)state;
    scene s = new_scene();
    check_ranks(&s, "Poisson");
    s.options.quantile = 0.5;
    check_ranks(&s, "a quantile");
    s = new_scene();
    s.options.group_count = 2;
    check_ranks(&s, "groups");
    s = new_scene();
    s.options.records = 3, s.options.sample_rate = 0.5;
    check_ranks(&s, "three records");
    s.options.sample_rate = 1e-9;
    check_ranks(&s, "empty batches");
    s = new_scene();
    s.options.sampling = PSG_SAMPLING_EPOCHS, s.options.batch_size = 33, s.options.sample_rate = 0;
    check_ranks(&s, "epochs");
    s = new_scene();
    s.options.sampling = PSG_SAMPLING_BALLS_IN_BINS, s.options.batches = 9, s.options.sample_rate = 0;
    check_ranks(&s, "bins");
    s = new_scene();
    s.options.noise_multiplier = 0, s.options.without_noise = 1;
    check_ranks(&s, "no noise");
    s = new_scene();
    s.slices = 1;
    check_ranks(&s, "slices");
    s.options.quantile = 0.5;
    check_ranks(&s, "slices and a quantile");
}

/* ---- an error on one is an error on all ---- */

static void check_failure(const scene *s, channel_call failing, psg_status status, const char *words,
                          uint64_t most_steps) {
    for (int ranks = 2; ranks <= 3; ranks++) {
        result *all = run(ranks, s, failing, 1);
        for (int k = 0; k < ranks; k++) {
            if (all[k].status != status) fail_msg("%s: rank %d: %s", words, k, psg_status_name(all[k].status));
            assert_true(all[k].steps <= most_steps);
            if (k && !strstr(all[1].message, words)) fail_msg("%s: rank 1 says %s", words, all[1].message);
            const int names_rank = !failing && !strstr(words, "before step");
            if (k != 1 && names_rank && !strstr(all[k].message, "rank 1")) fail_msg("rank %d: %s", k, all[k].message);
        }
        free(all);
    }
}

/* Of an empty batch the weights are noise: its variance over 40,035 coordinates is off by at most 5 deviations of
 * sqrt(2 / 40035), 0.7 %, where R times, or 1 / R of it, is off by half at the least. */
static void noise_is_added_once(void **state) {
    (void)state;
    scene s = new_scene();
    s.options.records = 3, s.options.sample_rate = 1e-9, s.options.expected_batch_size = 2, s.steps = 1;
    for (int ranks = 1; ranks <= MOST_RANKS; ranks++) {
        result *all = run(ranks, &s, NO_CALL, 0);
        const double deviation = 0.5 * s.options.noise_multiplier * s.options.max_grad_norm / 2;   /* lr sigma C / 2 */
        double square = 0;
        if (all->status) fail_msg("%s", all->message);
        for (int e = 0; e < PARAMS; e++) square += (double)all->weights[e] * all->weights[e];
        test_near(square / PARAMS / (deviation * deviation), 1, 5 * 0.0071, "variance", ranks);
        free(all);
    }
}

static void what_fails_on_one_fails_on_all(void **state) {
    (void)state;
    scene s = new_scene();
    s.odd_rank = 1;
    s.odd_step = 1;
    check_failure(&s, NO_CALL, PSG_ERR_MEMORY, "", 3);
    s.odd_step = 0, s.takes_others = 1;
    check_failure(&s, NO_CALL, PSG_ERR_STATE, "is that of rank 0, must be of rank 1", 3);
    s.takes_others = 0, s.odd_shape = 1;
    check_failure(&s, NO_CALL, PSG_ERR_ARGUMENT, "count is 1, must be 2", 3);
    s = new_scene();
    check_failure(&s, REDUCE_SCATTER, PSG_ERR_SYSTEM, "the ranks' reduce_scatter returned PSG_ERR_SYSTEM", 1);
    for (; s.failing_after < 2; s.failing_after++) {
        check_failure(&s, GATHER, PSG_ERR_SYSTEM, "the ranks' gather returned PSG_ERR_SYSTEM", 1);
    }
    for (s.failing_after = 13; s.failing_after < 23; s.failing_after++) {   /* of the comparison before the release */
        check_failure(&s, LARGEST, PSG_ERR_SYSTEM, "the ranks' largest returned PSG_ERR_SYSTEM", 0);
    }
    for (s.failing_after = 0; s.failing_after < 6; s.failing_after++) {   /* of set_ranks and of releases */
        check_failure(&s, BROADCAST, PSG_ERR_SYSTEM, "the ranks' broadcast returned PSG_ERR_SYSTEM", 3);
    }
}

/* The step is over and lost on every rank, and nothing of it is in the next. */
static void a_lost_step_leaves_nothing(void **state) {
    (void)state;
    scene s = new_scene();
    s.options.noise_multiplier = 0, s.options.without_noise = 1, s.goes_on = 1;
    result *one = run(1, &s, NO_CALL, 0);
    assert_true(one->status == PSG_OK && one->steps == STEPS);
    for (channel_call call = REDUCE_SCATTER; call <= GATHER; call++) {
        s.failing_after = call == GATHER;   /* of the attach's */
        result *all = run(3, &s, call, 1);
        for (int k = 0; k < 3; k++) {
            assert_true(all[k].status == PSG_OK && all[k].steps == STEPS);
            assert_memory_equal(all[k].weights, one->weights, sizeof one->weights);
        }
        free(all);
    }
    free(one);
}

/* What was recorded when the ranks failed to agree is made by the next release. */
static void a_release_is_tried_again(void **state) {
    (void)state;
    char ledger[64];
    scene s = new_scene();
    snprintf(ledger, sizeof ledger, "%s/again", folder);
    s.ledger = ledger, s.options.ledger_ahead = 2, s.goes_on = 1;
    s.failing_after = 3;                       /* broadcasts of the attach */
    result *all = run(3, &s, BROADCAST, 1);
    for (int k = 0; k < 3; k++) {
        if (all[k].status) fail_msg("rank %d: %s", k, all[k].message);
        assert_int_equal(all[k].steps, STEPS);
    }
    psg_context *context = test_context(1, NULL);
    psg_accountant *account;
    TEST_OK(context, psg_ledger_read(context, ledger, s.options.relation, &account));
    assert_int_equal(psg_accountant_releases(account), STEPS);
    psg_accountant_destroy(account);
    test_context_free(context);
    free(all);
    remove(ledger);
}

static void records_are_dealt_out_by_number(void **state) {
    static const uint64_t own[3] = { 3, 3, 4 };   /* from 0, 3, 6 on */
    scene s = new_scene();
    (void)state;
    s.options.records = 10, s.options.sample_rate = 1, s.steps = 1;
    result *all = run(3, &s, NO_CALL, 0);
    for (int k = 0; k < 3; k++) assert_true(!all[k].status && all[k].own == own[k]);
    free(all);
}

static void ranks_that_differ_are_refused(void **state) {
    (void)state;
    char ledger[64];
    scene s = new_scene();
    s.options.sample_rate = 0.125;
    snprintf(ledger, sizeof ledger, "%s/refused", folder);
    s.odd_rank = 1;
    s.odd_rate = 0.25;
    check_failure(&s, NO_CALL, PSG_ERR_STATE, "sample_rate is 0.25 on rank 1 and 0.125 on rank 0", 0);
    s.odd_rate = 0, s.odd_isa = "baseline";
    psg_context *context = test_context(1, NULL);
    const int has_other = strcmp(psg_context_isa(context), "baseline") != 0;
    test_context_free(context);
    if (has_other) check_failure(&s, NO_CALL, PSG_ERR_STATE, "instruction set is baseline on rank 1", 0);
    s.odd_isa = NULL, s.odd_weight = 1;
    check_failure(&s, NO_CALL, PSG_ERR_STATE, "a hash of the parameters before step 0 is", 0);
    s.odd_weight = 0, s.odd_lr = 0.25;
    check_failure(&s, NO_CALL, PSG_ERR_STATE, "the learning rate before step 0 is 0.25 on this rank, on all from 0.25 to "
                  "0.5, must be", 0);
    s.odd_lr = 0, s.odd_every = 3;
    check_failure(&s, NO_CALL, PSG_ERR_STATE, "check_every is 3 on rank 1 and 64 on rank 0", 0);
    s.odd_every = 0, s.odd_reserved = 1;
    check_failure(&s, NO_CALL, PSG_ERR_ARGUMENT, "ranks.reserved is not 0", 0);
    s.odd_reserved = 0;
    s.ledger = ledger, s.odd_ledger = 1;
    check_failure(&s, NO_CALL, PSG_ERR_STATE, "rank 1 has a ledger", 0);
    remove(ledger);
}

/* What else is made of the ranks' generators must not draw the same noise, after an attach that failed neither. */
static void each_rank_keeps_its_key(void **state) {
    (void)state;
    for (int is_bad = 0; is_bad < 2; is_bad++) {
        scene s = new_scene();
        s.steps = 1;
        s.odd_rank = is_bad ? 2 : -1;
        s.odd_rate = 0.25;
        result *all = run(3, &s, NO_CALL, 0);
        for (int k = 0; k < 3; k++) {
            assert_int_equal(all[k].status, is_bad ? PSG_ERR_STATE : PSG_OK);
            assert_int_equal(all[k].key, k ? 200 + k : 7);
        }
        free(all);
    }
}

static void arguments_are_checked(void **state) {
    (void)state;
    channel c = { .ranks = 2 };
    rank r = { &c, 0, NULL };
    psg_context *context = test_context(1, NULL);
    psg_generator *generator;
    psg_dp *dp;
    psg_batch batch;
    psg_dp_options options = new_scene().options;
    psg_dp_ranks ranks = rank_functions(&r);
    TEST_OK(context, psg_generator_create(context, &generator));
    TEST_OK(context, psg_dp_create(context, generator, &options, (const int64_t[]){ 3 }, 1, &dp));
    test_fails(context, psg_dp_set_ranks(dp, NULL), PSG_ERR_ARGUMENT, "ranks is NULL");
    ranks.rank = 2;
    test_fails(context, psg_dp_set_ranks(dp, &ranks), PSG_ERR_ARGUMENT, "rank 2 is outside [0, 2)");
    ranks.rank = 0, ranks.gather = NULL;
    test_fails(context, psg_dp_set_ranks(dp, &ranks), PSG_ERR_ARGUMENT, "a function is NULL");
    TEST_OK(context, psg_dp_sample(dp, &batch));
    test_fails(context, psg_dp_own_batch(dp, &batch, NULL), PSG_ERR_ARGUMENT, "own is NULL");
    psg_batch foreign = batch, own;
    foreign.owner++;
    test_fails(context, psg_dp_own_batch(dp, &foreign, &own), PSG_ERR_ARGUMENT, "not of this psg_dp");
    TEST_OK(context, psg_dp_own_batch(dp, &batch, &own));
    assert_true(own.count == batch.count && own.ids == batch.ids);
    assert_int_equal(psg_dp_agree(dp, PSG_ERR_NUMERIC), PSG_ERR_NUMERIC);
    assert_int_equal(psg_dp_agree(dp, PSG_OK), PSG_OK);
    psg_dp_destroy(dp);
    psg_generator_destroy(generator);
    test_context_free(context);
}

/* ---- save, resume, privacy ---- */

static void a_run_goes_on_on_other_ranks(void **state) {
    (void)state;
    char ledger[64], path[64];
    scene s = new_scene();
    snprintf(ledger, sizeof ledger, "%s/ledger", folder);
    snprintf(path, sizeof path, "%s/run", folder);
    result *straight = run(1, &s, NO_CALL, 0);
    for (int first = 1, slices = 0; first <= 3; first += slices, slices = !slices) {
        scene half = s, rest = s;
        half.slices = slices, rest.slices = !slices;   /* a checkpoint has all of the momentum either way */
        half.ledger = rest.ledger = ledger;
        half.options.ledger_ahead = rest.options.ledger_ahead = 1;
        half.steps = half.save_at = 10;
        rest.loads = path;
        result *begun = run(first, &half, NO_CALL, 0), *ended = run(4 - first, &rest, NO_CALL, 0);
        for (int k = 0; k < 4 - first; k++) {
            if (begun->status || ended[k].status) fail_msg("%s; %s", begun->message, ended[k].message);
            assert_memory_equal(ended[k].weights, straight->weights, sizeof straight->weights);
            assert_true(ended[k].epsilon == straight->epsilon && ended[k].steps == STEPS);
        }
        free(begun);
        free(ended);
        remove(ledger);
        remove(path);
    }
    free(straight);
    s.ledger = ledger, s.options.ledger_ahead = 1, s.steps = s.save_at = 4;
    free(run(1, &s, NO_CALL, 0));
    s.save_at = 0, s.loads = path, s.odd_rank = 1, s.odd_extra = 1;
    check_failure(&s, NO_CALL, PSG_ERR_STATE, "a hash of the checkpoint's names, types and sizes before step 0 is", 0);
    s.loads = NULL, s.odd_extra = 0, s.odd_optimizer = 1, s.slices = 1, s.save_at = 2;
    remove(ledger);
    check_failure(&s, NO_CALL, PSG_ERR_STATE, "a hash of the checkpoint's names, types and sizes before step 2 is", 2);
    remove(ledger);
    remove(path);
}

/* A mechanism of no elements has ranks too: more than bytes of its sums. */
static void attach_nothing(rank *r) {
    const psg_dp_options options = new_scene().options;
    const psg_dp_ranks ranks = rank_functions(r);
    psg_context *context = test_context(1, NULL);
    psg_generator *generator;
    psg_dp *dp;
    psg_status *status = r->user;
    *status = psg_generator_create(context, &generator);
    if (!*status) *status = psg_dp_create(context, generator, &options, (const int64_t[]){ 0 }, 1, &dp);
    if (!*status) *status = psg_dp_set_ranks(dp, &ranks);
    psg_dp_destroy(dp);
    psg_generator_destroy(generator);
    psg_context_destroy(context);
}

static void no_elements_have_ranks(void **state) {
    (void)state;
    psg_status status[MOST_RANKS];
    rank_threads(MOST_RANKS, NO_CALL, 0, 0, attach_nothing, status, sizeof *status);
    for (int k = 0; k < MOST_RANKS; k++) assert_int_equal(status[k], PSG_OK);
}

/* A budget, which the ledger of rank 0 has, ends the loop of every rank after the same step. */
static void the_budget_of_rank_0_is_that_of_all(void **state) {
    (void)state;
    char ledger[64];
    scene s = new_scene();
    snprintf(ledger, sizeof ledger, "%s/budget", folder);
    s.ledger = ledger;
    s.options.epsilon = 2, s.options.delta = 1e-5, s.steps = 1000;
    result *before = run(1, &s, NO_CALL, 0);
    assert_true(before->steps > 5 && before->steps < 900);
    remove(ledger);
    s.steps = 5;
    free(run(1, &s, NO_CALL, 0));              /* another mechanism spends of the same ledger */
    s.steps = 1000;
    result *all = run(3, &s, NO_CALL, 0);
    for (int k = 0; k < 3; k++) {
        if (all[k].status) fail_msg("%s", all[k].message);
        assert_true(all[k].steps == all[0].steps && all[k].steps < before->steps);
    }
    free(all);
    remove(ledger);
    s.others_spend = 1;
    all = run(3, &s, NO_CALL, 0);
    for (int k = 0; k < 3; k++) {
        if (all[k].status && all[k].status != PSG_ERR_BUDGET) fail_msg("%s", all[k].message);
        assert_true(all[k].status == all[0].status && all[k].steps == all[0].steps);
        assert_true(all[k].steps < before->steps);
    }
    free(all);
    free(before);
    remove(ledger);
}

static void one_seed_makes_all_not_private(void **state) {
    (void)state;
    scene s = new_scene();
    s.odd_seed = 1, s.steps = 2;
    result *all = run(3, &s, NO_CALL, 0);
    for (int k = 0; k < 3; k++) assert_true(!all[k].status && all[k].is_private);
    free(all);
    s.odd_rank = 2;
    all = run(3, &s, NO_CALL, 0);
    for (int k = 0; k < 3; k++) assert_true(!all[k].status && !all[k].is_private);
    assert_memory_equal(all[0].weights, all[2].weights, sizeof all[0].weights);
    free(all);
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state) {
    (void)state;
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_ranks_gives_the_same_bits),
        cmocka_unit_test(noise_is_added_once),
        cmocka_unit_test(what_fails_on_one_fails_on_all),
        cmocka_unit_test(a_lost_step_leaves_nothing),
        cmocka_unit_test(a_release_is_tried_again),
        cmocka_unit_test(records_are_dealt_out_by_number),
        cmocka_unit_test(ranks_that_differ_are_refused),
        cmocka_unit_test(each_rank_keeps_its_key),
        cmocka_unit_test(no_elements_have_ranks),
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(a_run_goes_on_on_other_ranks),
        cmocka_unit_test(the_budget_of_rank_0_is_that_of_all),
        cmocka_unit_test(one_seed_makes_all_not_private),
    };
    alarm(240);   /* ranks that wait for one another would wait for ever */
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
