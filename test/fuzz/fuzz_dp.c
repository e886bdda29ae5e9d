/* Sequences of calls of two mechanisms of one seed.  The second one is spared what must be refused, is not saved and
 * loaded again, and misses one record now and then: it then draws and releases the same bits, and where a record is
 * missing the sums differ by no more than a record may move them, S / sigma units (psg/dp.h). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

enum { MOST_PARAMS = 3, MOST_ELEMENTS = 24, MOST_RECORDS = 64, MOST_CALLS = 16 };
static const double noise_deviation = 0x1p36;   /* S */

typedef struct side {
    psg_context *context;
    psg_generator *generator;
    psg_dp *dp;
    psg_optimizer *optimizer;
    double value[MOST_ELEMENTS], released[MOST_ELEMENTS];
    psg_named named[MOST_PARAMS];
    psg_tensor out[MOST_PARAMS];
    int64_t sums[MOST_ELEMENTS + 1];
    psg_batch batch;
    int has_batch;
} side;

typedef struct pair {
    psg_dp_options options;
    const char *ledger[2];
    int64_t count[MOST_PARAMS], total;
    size_t params;
    double group_norms[MOST_PARAMS];
    side of[2];
    unsigned fails;
    int64_t next_id, accumulated;
    int is_missing;              /* a record of this step from the second */
} pair;

/* ---- making ---- */

static double draw_size(fuzz_bytes *bytes, double usual) {
    return fuzz_one_in(bytes, 16) ? fuzz_odd(bytes) : usual * (double)fuzz_range(bytes, 1, 8) / 4;
}

static void draw_clipping(fuzz_bytes *bytes, pair *p) {
    psg_dp_options *o = &p->options;
    o->max_grad_norm = draw_size(bytes, 1);
    o->clipping = (psg_clipping)(fuzz_one_in(bytes, 3) ? fuzz_range(bytes, 0, 3) : 0);
    if (fuzz_one_in(bytes, 16)) o->stability = fuzz_odd(bytes);
    if (fuzz_one_in(bytes, 4)) o->group_count = (int)fuzz_range(bytes, 0, 3);
    for (int k = 0; k < MOST_PARAMS; k++) p->group_norms[k] = draw_size(bytes, 1);
    if (o->group_count > 1 && fuzz_one_in(bytes, 2)) o->group_norms = p->group_norms;
    if (fuzz_one_in(bytes, 4)) o->quantile = draw_size(bytes, 0.5);
}

/* Budgets are searched for in seconds: few. */
static void draw_options(fuzz_bytes *bytes, pair *p) {
    psg_dp_options *o = &p->options;
    *o = (psg_dp_options)PSG_DP_OPTIONS_INIT;
    o->sampling = (psg_sampling)(fuzz_one_in(bytes, 2) ? fuzz_range(bytes, 0, 6) : 0);
    o->records = (uint64_t)fuzz_range(bytes, 0, 40);
    if (o->sampling <= PSG_SAMPLING_TRUNCATED_POISSON) o->sample_rate = draw_size(bytes, 0.25);
    if (o->sampling == PSG_SAMPLING_FIXED_SIZE) o->relation = PSG_REPLACE_ONE;
    int has_size = o->sampling == PSG_SAMPLING_FIXED_SIZE || o->sampling == PSG_SAMPLING_EPOCHS;
    if (has_size) o->batch_size = fuzz_range(bytes, 0, 9);
    if (o->sampling == PSG_SAMPLING_BALLS_IN_BINS) o->batches = (uint64_t)fuzz_range(bytes, 0, 5);
    if (fuzz_one_in(bytes, 16)) o->relation = (psg_relation)fuzz_range(bytes, 0, 2);
    if (o->sampling == PSG_SAMPLING_EXTERNAL || fuzz_one_in(bytes, 8)) o->expected_batch_size = draw_size(bytes, 4);
    if (fuzz_one_in(bytes, 2)) o->max_batch_size = fuzz_range(bytes, 1, 64);
    draw_clipping(bytes, p);
    o->noise_multiplier = draw_size(bytes, 1);
    if (fuzz_one_in(bytes, 64)) {
        o->epsilon = draw_size(bytes, 4);
        o->delta = 1e-5;
        o->steps = (uint64_t)fuzz_range(bytes, 0, 9);
    }
    o->without_noise = fuzz_one_in(bytes, 32);
    if (o->without_noise) o->noise_multiplier = 0;
    o->ledger_ahead = (uint64_t)fuzz_range(bytes, 0, 3);
}

static psg_status keep_sums(void *user, int64_t *sums, size_t count) {
    side *s = user;
    FUZZ_CHECK(count <= MOST_ELEMENTS + 1);
    memcpy(s->sums, sums, count * sizeof *sums);
    return PSG_OK;
}

static psg_status make(pair *p, int k) {
    side *s = &p->of[k];
    const unsigned char seed[32] = { 3 };
    psg_sgd_options sgd = PSG_SGD_OPTIONS_INIT;
    psg_tensor values[MOST_PARAMS];
    int64_t first = 0;
    p->options.ledger = p->ledger[k];
    sgd.lr = 0.5;
    sgd.momentum = 0.9;
    static const char *const names[] = { "a", "b", "c" };
    for (size_t i = 0; i < p->params; first += p->count[i++]) {
        values[i] = psg_f64_1d(s->value + first, p->count[i]);
        s->named[i] = (psg_named){ names[i], values[i] };
        s->out[i] = psg_f64_1d(s->released + first, p->count[i]);
    }
    PSG_TRY(FUZZ_CALL(s->context, psg_generator_create_seeded(s->context, seed, &s->generator)));
    PSG_TRY(FUZZ_CALL(s->context, psg_sgd_create(s->context, &sgd, values, p->params, &s->optimizer)));
    psg_status status = FUZZ_CALL(s->context, psg_dp_create(s->context, s->generator, &p->options, p->count, p->params,
                                                            &s->dp));
    FUZZ_CHECK(!status == !!s->dp);
    if (!status) psg_dp_set_reduce(s->dp, keep_sums, s);
    return status;
}

static void destroy(side *s) {
    psg_dp_destroy(s->dp);
    psg_optimizer_destroy(s->optimizer);
    psg_generator_destroy(s->generator);
    s->dp = NULL, s->optimizer = NULL, s->generator = NULL;
}

/* ---- the same call of both ---- */

/* Whether both have gone on: where memory ended for the first, its input ends. */
static int both(const pair *p, psg_status first, psg_status second) {
    if (first == PSG_ERR_MEMORY && p->fails) return 0;
    FUZZ_CHECK(first == second);
    FUZZ_CHECK(psg_dp_step(p->of[0].dp) == psg_dp_step(p->of[1].dp));
    FUZZ_CHECK(psg_dp_max_grad_norm(p->of[0].dp) == psg_dp_max_grad_norm(p->of[1].dp));
    return 1;
}

static void check_batch(const pair *p) {
    const psg_batch *a = &p->of[0].batch, *b = &p->of[1].batch;
    FUZZ_CHECK(a->count == b->count && a->step == b->step && a->count <= psg_dp_max_batch_size(p->of[0].dp));
    FUZZ_CHECK(!a->count || !memcmp(a->ids, b->ids, (size_t)a->count * sizeof *a->ids));
    for (int64_t n = 1; n < a->count && p->options.sampling != PSG_SAMPLING_EXTERNAL; n++) {
        FUZZ_CHECK(a->ids[n - 1] < a->ids[n] && a->ids[n] < (int64_t)p->options.records);
    }
}

static int draw_batch(pair *p, fuzz_bytes *bytes) {
    psg_status status[2];
    int64_t ids[8], count = fuzz_range(bytes, 0, 8);
    for (int64_t n = 0; n < count; n++) ids[n] = p->next_id + n - fuzz_one_in(bytes, 32);
    int is_taken = p->options.sampling == PSG_SAMPLING_EXTERNAL || fuzz_one_in(bytes, 32);
    for (int k = 0; k < 2; k++) {
        side *s = &p->of[k];
        fuzz_before(s->context);
        status[k] = is_taken ? psg_dp_take(s->dp, ids, count, &s->batch) : psg_dp_sample(s->dp, &s->batch);
        fuzz_after(s->context, status[k]);
        if (!status[k]) s->has_batch = 1;
    }
    p->next_id += count;
    if (!both(p, status[0], status[1])) return 0;
    if (!status[0]) check_batch(p);
    p->accumulated = is_taken && !status[0] ? 0 : p->accumulated;
    return 1;
}

/* ---- gradients: rows of the values of a part ---- */

typedef struct part {
    psg_batch batch;
    psg_block block[MOST_PARAMS];
    psg_gradient gradient[MOST_PARAMS];
    const psg_gradient *list[MOST_PARAMS];
} part;

static void make_part(const pair *p, const psg_batch *batch, int64_t first, int64_t count, psg_dtype dtype,
                      void *values, part *to) {
    char *at = values;
    to->batch = psg_batch_part(batch, first, count);
    for (size_t k = 0; k < p->params; k++) {
        psg_tensor rows = psg_tensor_of(dtype, at, 2, (const int64_t[]){ count, p->count[k] });
        to->block[k] = psg_rows(&rows);
        to->gradient[k] = psg_gradient_of_blocks(&to->block[k], 1, 1, &p->count[k]);
        to->list[k] = &to->gradient[k];
        at += (size_t)(MOST_RECORDS * p->count[k]) * psg_dtype_size(dtype);
    }
}

/* What must be refused, of the first alone; its state is then still that of the second. */
static int misuse(pair *p, fuzz_bytes *bytes, part *x) {
    side *s = &p->of[0];
    part wrong = *x;
    int64_t other[] = { 1000000 + fuzz_byte(bytes) };
    int kind = (int)fuzz_range(bytes, 0, 4);
    size_t count = p->params - (kind == 0);
    if (kind == 1) wrong.batch.step++;
    if (kind == 2) wrong.batch.owner ^= 1;
    if (kind == 3) wrong.batch.ids = other, wrong.batch.count = 1;
    if (kind == 4) wrong.gradient[0].shape[0]++;
    for (size_t k = 0; k < p->params; k++) wrong.list[k] = &wrong.gradient[k];
    FUZZ_CHECK(FUZZ_CALL(s->context, psg_dp_accumulate(s->dp, &wrong.batch, wrong.list, count, NULL)) != PSG_OK);
    return 1;
}

static int accumulate(pair *p, fuzz_bytes *bytes) {
    static double values[MOST_ELEMENTS * MOST_RECORDS];
    side *s = p->of;
    psg_dtype dtype = fuzz_one_in(bytes, 2) ? PSG_F64 : PSG_F32;
    int64_t left = s[0].has_batch ? s[0].batch.count - p->accumulated : 0, count = fuzz_range(bytes, 0, 9);
    if (count > left) count = left;
    int misses = !p->is_missing && count && fuzz_one_in(bytes, 2);
    part x[2];
    if (!s[0].has_batch) return 1;
    fuzz_fill(bytes, dtype, values, MOST_ELEMENTS * MOST_RECORDS);
    for (int k = 0; k < 2; k++) make_part(p, &s[k].batch, p->accumulated, count - (k && misses), dtype, values, &x[k]);
    if (fuzz_one_in(bytes, 4) && !misuse(p, bytes, &x[0])) return 0;
    psg_status first = FUZZ_CALL(s[0].context, psg_dp_accumulate(s[0].dp, &x[0].batch, x[0].list, p->params, NULL));
    psg_status second = FUZZ_CALL(s[1].context, psg_dp_accumulate(s[1].dp, &x[1].batch, x[1].list, p->params, NULL));
    if (!first) {
        p->accumulated += count;
        p->is_missing |= misses;
    }
    return both(p, first, second) && !(first && misses);
}

/* ---- releases ---- */

static void check_sums(const pair *p) {
    long double moved = 0;
    for (int64_t i = 0; i < p->total; i++) {
        long double by = (long double)p->of[0].sums[i] - (long double)p->of[1].sums[i];
        moved += by * by;
    }
    double sigma = psg_dp_noise_multiplier(p->of[0].dp);
    if (!p->is_missing) FUZZ_CHECK(moved == 0);
    else if (sigma > 0) FUZZ_CHECK(sqrtl(moved) <= noise_deviation / sigma);
}

static int release(pair *p, fuzz_bytes *bytes) {
    psg_status status[2];
    int to_optimizer = fuzz_one_in(bytes, 2);
    const psg_accountant *account = psg_dp_accountant(p->of[0].dp);
    uint64_t before = psg_accountant_releases(account);
    for (int k = 0; k < 2; k++) {
        side *s = &p->of[k];
        fuzz_before(s->context);
        status[k] = to_optimizer ? psg_dp_release_to(s->dp, s->optimizer) : psg_dp_release(s->dp, s->out, p->params);
        fuzz_after(s->context, status[k]);
    }
    if (status[0] == PSG_ERR_MEMORY && p->fails) return 0;
    FUZZ_CHECK(status[0] == status[1] && psg_dp_step(p->of[0].dp) == psg_dp_step(p->of[1].dp));
    FUZZ_CHECK(psg_accountant_releases(psg_dp_accountant(p->of[0].dp)) >= before + (!status[0] && !p->options.ledger));
    if (status[0]) return 1;
    check_sums(p);
    size_t bytes_of = (size_t)p->total * sizeof(double);
    int differs = p->is_missing;
    if (!differs) FUZZ_CHECK(!memcmp(p->of[0].released, p->of[1].released, bytes_of));
    if (!differs) FUZZ_CHECK(!memcmp(p->of[0].value, p->of[1].value, bytes_of));
    memcpy(p->of[0].value, p->of[1].value, bytes_of);
    memcpy(p->of[0].released, p->of[1].released, bytes_of);
    p->of[0].has_batch = p->of[1].has_batch = 0;
    p->accumulated = p->is_missing = 0;
    return !(differs && (p->options.quantile > 0 || to_optimizer));   /* C, momentum: they differ from now on */
}

/* ---- save and load ---- */

static int is_between_steps(const pair *p) { return !p->of[0].has_batch && !p->accumulated; }

/* The first goes on in another object. */
static int reload(pair *p) {
    side *s = &p->of[0];
    const char *path = fuzz_path("checkpoint");
    double value[MOST_ELEMENTS];
    memcpy(value, s->value, sizeof value);
    psg_checkpoint checkpoint = { s->named, p->params, s->optimizer, NULL, 0, { 0 } };
    uint64_t step = psg_dp_step(s->dp);
    psg_status status = FUZZ_CALL(s->context, psg_dp_save(s->dp, &checkpoint, path));
    FUZZ_CHECK(p->ledger[0] || status == PSG_ERR_STATE);
    if (status) return !(status == PSG_ERR_MEMORY && p->fails);
    destroy(s);
    memset(s->value, 0, sizeof s->value);
    if (make(p, 0)) {
        FUZZ_CHECK(p->fails);
        return 0;
    }
    checkpoint.optimizer = s->optimizer;
    status = FUZZ_CALL(s->context, psg_dp_load(s->dp, &checkpoint, path));
    if (status == PSG_ERR_MEMORY && p->fails) return 0;
    FUZZ_CHECK(!status && psg_dp_step(s->dp) == step && !memcmp(value, s->value, (size_t)p->total * sizeof *value));
    return 1;
}

static void call(pair *p, fuzz_bytes *bytes) {
    int goes_on = 1;
    for (int k = 0; k < MOST_CALLS && goes_on && bytes->left; k++) {
        int kind = (int)fuzz_range(bytes, 0, 9);
        if (kind < 3) goes_on = draw_batch(p, bytes);
        else if (kind < 6) goes_on = accumulate(p, bytes);
        else if (kind < 9) goes_on = release(p, bytes);
        else if (is_between_steps(p)) goes_on = reload(p);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static pair p;
    fuzz_bytes bytes = { data, size };
    p = (pair){ .fails = fuzz_one_in(&bytes, 6) ? (unsigned)fuzz_range(&bytes, 1, 32) : 0 };
    p.params = (size_t)fuzz_range(&bytes, 1, MOST_PARAMS);
    for (size_t k = 0; k < p.params; k++) p.total += p.count[k] = fuzz_range(&bytes, 1, MOST_ELEMENTS / MOST_PARAMS);
    draw_options(&bytes, &p);
    if (fuzz_one_in(&bytes, 3)) p.ledger[0] = fuzz_path("first"), p.ledger[1] = fuzz_path("second");
    for (int k = 0; k < 2; k++) {
        if (p.ledger[k]) unlink(p.ledger[k]);
        p.of[k].context = fuzz_context(k ? 0 : p.fails, 0);
    }
    psg_status first = make(&p, 0), second = make(&p, 1);
    FUZZ_CHECK(first == second || (p.fails && first == PSG_ERR_MEMORY));
    if (!first) call(&p, &bytes);
    for (int k = 0; k < 2; k++) {
        destroy(&p.of[k]);
        fuzz_context_return(p.of[k].context);
    }
    return 0;
}
