/* One training run, audited (Steinke, Nasr and Jagielski, "Privacy auditing with one (1) training run", 2023).
 *
 * Of m canaries each is in the data set by a fair coin of its own.  One private training runs over the whole public
 * path: batches, tape, clipping, release to an optimizer.  The attacker sees the weights at the end, guesses "in" of
 * the k canaries with the largest scores and "out" of the k with the smallest.  If v or more of the r = 2 k guesses are
 * right, and the training is (epsilon, delta)-DP, that had a probability of at most (their bound with delta)
 *
 *   beta + 2 m delta alpha,   beta = P[Bin(r, q) >= v],   q = e^epsilon / (1 + e^epsilon),
 *   alpha = max_{1 <= i <= v} P[v - i <= Bin(r, q) < v] / i.
 *
 * The attacker is strong: a canary is a row of a table of its own, its gradient is beyond C at every step, and its
 * score is where its row has gone.  This is a test of the whole and not of a tenth: it sees noise that is five times
 * too small, and not three. */
#include <math.h>
#include <stdlib.h>

#include "attack/attack_random.h"
#include "audit.h"
#include "psg/ops.h"
#include "statistics.h"

/* Ordinary records learn a weight and share row 0 of the table. */
enum { ORDINARY = 100, FEATURES = 3, STEPS = 40, GUESSES = 5, RUN_PARAMS = 2 };

static const double rate = 0.5, delta = 1e-9, far_target = 1e4, learning_rate = 0.5;

/* ---- the run ---- */

typedef struct run {
    int64_t canaries;
    psg_context *context;
    psg_generator *generator;
    psg_tape *tape;
    psg_dp *dp;
    psg_optimizer *sgd;
    double *table, weight[FEATURES];
    psg_tensor value[RUN_PARAMS];
    psg_param *param[RUN_PARAMS];
    bool *is_in;                       /* of each canary */
    /* A batch: the records that are there. */
    int64_t *ids, *rows;
    double *features, *targets;
} run;

static void take_arrays(const audit_options *options, uint64_t number, run *r) {
    const size_t most = (size_t)r->canaries + ORDINARY;
    attack_random coin = { attack_hash(options->seed + number) };
    r->table = audit_array((size_t)r->canaries + 1, sizeof *r->table);
    r->is_in = audit_array((size_t)r->canaries, sizeof *r->is_in);
    r->ids = audit_array(most, sizeof *r->ids);
    r->rows = audit_array(most, sizeof *r->rows);
    r->features = audit_array(most * FEATURES, sizeof *r->features);
    r->targets = audit_array(most, sizeof *r->targets);
    for (int64_t j = 0; j < r->canaries; j++) r->is_in[j] = attack_once_in(&coin, 2);
}

/* The run's address stays: tensors point into it. */
static void run_open(const audit_options *options, uint64_t number, double sigma, run *r) {
    const int64_t counts[] = { options->n + 1, FEATURES };
    psg_dp_options dp = PSG_DP_OPTIONS_INIT;
    psg_sgd_options sgd = PSG_SGD_OPTIONS_INIT;
    *r = (run){ .canaries = options->n, .context = audit_context(2) };
    take_arrays(options, number, r);
    dp.records = (uint64_t)options->n + ORDINARY;
    dp.sample_rate = rate;
    dp.noise_multiplier = sigma;
    sgd.lr = learning_rate;
    r->generator = audit_generator(r->context, options->seed, 300 + number);
    AUDIT_OK(r->context, psg_tape_create(r->context, &r->tape));
    AUDIT_OK(r->context, psg_dp_create(r->context, r->generator, &dp, counts, RUN_PARAMS, &r->dp));
    r->value[0] = psg_tensor_of(PSG_F64, r->table, 2, (const int64_t[]){ counts[0], 1 });
    r->value[1] = psg_tensor_of(PSG_F64, r->weight, 2, (const int64_t[]){ 1, FEATURES });
    for (int k = 0; k < RUN_PARAMS; k++) {
        AUDIT_OK(r->context, psg_param_create(r->context, NULL, &r->value[k], &r->param[k]));
    }
    AUDIT_OK(r->context, psg_sgd_create(r->context, &sgd, r->value, RUN_PARAMS, &r->sgd));
}

static void run_close(run *r) {
    psg_optimizer_destroy(r->sgd);
    for (int k = 0; k < RUN_PARAMS; k++) psg_param_destroy(r->param[k]);
    psg_dp_destroy(r->dp);
    psg_tape_destroy(r->tape);
    psg_generator_destroy(r->generator);
    psg_context_destroy(r->context);
    free(r->table), free(r->is_in), free(r->ids), free(r->rows), free(r->features), free(r->targets);
}

/* Record i < canaries is canary i, which pulls row i + 1 upwards; the others learn a weight and row 0. */
static void put(run *r, int64_t id, int64_t at) {
    const bool is_canary = id < r->canaries;
    r->ids[at] = id;
    r->rows[at] = is_canary ? id + 1 : 0;
    r->targets[at] = is_canary ? far_target : (double)(id % 7) - 3;
    for (int j = 0; j < FEATURES; j++) {
        r->features[at * FEATURES + j] = is_canary ? 0 : (double)(id * (j + 2) % 5) - 2;
    }
}

/* Those of the drawn that are there. */
static psg_batch choose(run *r, const psg_batch *drawn) {
    psg_batch there = *drawn;
    there.ids = r->ids;
    there.count = 0;
    for (int64_t n = 0; n < drawn->count; n++) {
        const int64_t id = drawn->ids[n];
        if (id >= r->canaries || r->is_in[id]) put(r, id, there.count++);
    }
    return there;
}

static void train_step(run *r) {
    psg_batch drawn;
    psg_gradient gradients[RUN_PARAMS];
    const psg_gradient *list[] = { &gradients[0], &gradients[1] };
    AUDIT_OK(r->context, psg_dp_sample(r->dp, &drawn));
    const psg_batch batch = choose(r, &drawn);
    const int64_t shape[] = { batch.count, FEATURES }, one[] = { batch.count, 1 };
    psg_tensor x = psg_tensor_of(PSG_F64, r->features, 2, shape), y = psg_tensor_of(PSG_F64, r->targets, 2, one);
    psg_tensor rows = psg_tensor_of(PSG_I64, r->rows, 1, one);
    psg_pass pass = PSG_PASS_INIT;
    pass.batch = &batch;
    psg_tape *t = r->tape;
    AUDIT_OK(r->context, psg_tape_begin(t, &pass));
    psg_var own = psg_embedding(t, psg_input(t, &rows), psg_use(t, r->param[0]), NULL);
    psg_var common = psg_linear(t, psg_input(t, &x), psg_use(t, r->param[1]), psg_none());
    AUDIT_OK(r->context, psg_backward(t, psg_mse(t, psg_add(t, own, common), psg_input(t, &y), PSG_MEAN)));
    for (int k = 0; k < RUN_PARAMS; k++) AUDIT_OK(r->context, psg_gradient_of(t, r->param[k], &gradients[k]));
    AUDIT_OK(r->context, psg_dp_accumulate(r->dp, &batch, list, RUN_PARAMS, NULL));
    AUDIT_OK(r->context, psg_dp_release_to(r->dp, r->sgd));
}

/* ---- guesses ---- */

typedef struct scored {
    double score;
    bool is_in;
} scored;

static int by_score(const void *a, const void *b) {
    const scored *x = a, *y = b;
    return (x->score > y->score) - (x->score < y->score);
}

static double p_value(int64_t m, int64_t guesses, int64_t right, double epsilon) {
    const double q = 1 / (1 + exp(-epsilon)), beta = binomial_at_least(right, guesses, q);
    double alpha = 0;
    for (int64_t i = 1; i <= right; i++) {
        alpha = fmax(alpha, (binomial_at_least(right - i, guesses, q) - beta) / (double)i);
    }
    return beta + 2 * (double)m * delta * alpha;
}

/* The largest epsilon that is refuted at the level, which falls with epsilon. */
static double epsilon_bound(int64_t m, int64_t guesses, int64_t right, double level) {
    double low = 0, high = 60;
    if (p_value(m, guesses, right, 0) > level) return 0;
    for (int k = 0; k < 40; k++) {
        const double middle = (low + high) / 2;
        *(p_value(m, guesses, right, middle) <= level ? &low : &high) = middle;
    }
    return low;
}

/* Over some numbers of guesses, the level shared among them. */
static double refuted_epsilon(const scored *sorted, int64_t m) {
    static const int64_t shares[GUESSES] = { 5, 10, 20, 40, 100 };
    double best = 0;
    for (int g = 0; g < GUESSES; g++) {
        const int64_t k = m / shares[g];
        int64_t right = 0;
        for (int64_t i = 0; i < k; i++) right += !sorted[i].is_in + sorted[m - 1 - i].is_in;
        if (k > 0) best = fmax(best, epsilon_bound(m, 2 * k, right, AUDIT_LEVEL / GUESSES));
    }
    return best;
}

/* epsilon that the run with this sigma refutes; claim (or NULL): what the accountant says of it. */
static double run_once(const audit_options *options, uint64_t number, double sigma, double *claim) {
    run r;
    psg_privacy privacy;
    run_open(options, number, sigma, &r);
    for (int step = 0; step < STEPS; step++) train_step(&r);
    scored *score = audit_array((size_t)r.canaries, sizeof *score);
    for (int64_t j = 0; j < r.canaries; j++) score[j] = (scored){ r.table[j + 1], r.is_in[j] };
    qsort(score, (size_t)r.canaries, sizeof *score, by_score);
    const double found = refuted_epsilon(score, r.canaries);
    psg_accountant *accountant = audit_accountant_of(r.context, r.dp);
    AUDIT_OK(r.context, psg_accountant_epsilon(accountant, delta, &privacy));
    if (claim) *claim = privacy.epsilon;
    psg_accountant_destroy(accountant);
    free(score);
    run_close(&r);
    return found;
}

/* The same run with a sixth of the noise must refute the claim of the whole: with 10,000 canaries its bound is then
 * more than 6 deviations above it, as that of the honest run is above 0. */
audit_report audit_one_run(const audit_options *options) {
    static const double sigma = 12, weaker = 6;
    audit_report report = { .passed = true };
    double claim;
    const double found = run_once(options, 0, sigma, &claim), more = run_once(options, 1, sigma / weaker, NULL);
    audit_say(&report, "epsilon at least %.2f of %.2f; at least %.2f with a sixth of the noise", found, claim, more);
    if (!(found <= claim)) audit_fail(&report, "epsilon is at least %.2f, the accountant says %.2f", found, claim);
    if (!(found > 0)) audit_fail(&report, "the attack finds nothing");
    if (!(more > claim)) {
        audit_fail(&report, "a sixth of the noise gave epsilon %.2f, did not refute %.2f", more, claim);
    }
    return report;
}
