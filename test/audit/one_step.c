/* What one release tells of one record (Nasr, Hayes, Steinke, Balle, Tramer, Jagielski, Carlini and Terzis, "Tight
 * auditing of differentially private machine learning", 2023).
 *
 * Canary j is a record whose gradient is beyond C and along coordinate j alone, which nothing else touches.  A release
 * with all canaries of V coordinates and one with none give V trials of either side: coordinate j of the first is that
 * coordinate of a release of D', all canaries, and of the second that of a release of D_j = D' - canary j, since the
 * other canaries add exactly 0 there, in integers.  Each j is a pair of neighbours of its own, and coordinates have
 * noise of their own, so the trials are independent.
 *
 * A test says "in" above a threshold.  One half of the trials chooses the threshold, the other counts its false
 * positives and negatives, whose upper bounds (Clopper and Pearson) give
 *
 *   mu >= -Phi^-1(FPR) - Phi^-1(FNR)                         of Gaussian differential privacy, to be at most 1 / sigma
 *   delta(epsilon) >= 1 - FNR - e^epsilon FPR, 1 - FPR - e^epsilon FNR     to be at most what the accountant says */
#include <math.h>
#include <stdlib.h>

#include "audit.h"
#include "statistics.h"

enum { COORDINATES = 100000, THRESHOLDS = 81, SIDES = 2 };

static const double norm_bound = 0.7;   /* C */
static const double near_zero = 1e-6;   /* an epsilon; less than the residues of a release has no delta below 1 */

typedef struct setting {
    double sigma, rate;                 /* rate 0: the canaries are in every batch */
} setting;

/* ---- releases ---- */

typedef struct stage {
    psg_context *context;
    psg_generator *generator;
    int64_t coordinates;
    double *gradient, *released;        /* coordinates each */
} stage;

static stage stage_open(const audit_options *options, uint64_t number, int64_t n) {
    stage s = { .context = audit_context(2) };
    s.generator = audit_generator(s.context, options->seed, number);
    s.coordinates = n / 2 < COORDINATES ? n / 2 : COORDINATES;
    s.gradient = audit_array((size_t)s.coordinates, sizeof(double));
    s.released = audit_array((size_t)s.coordinates, sizeof(double));
    for (int64_t j = 0; j < s.coordinates; j++) s.gradient[j] = 3 * norm_bound;
    return s;
}

static void stage_close(stage *s) {
    free(s->gradient), free(s->released);
    psg_generator_destroy(s->generator);
    psg_context_destroy(s->context);
}

static psg_dp *open_dp(const stage *s, const setting *setting) {
    psg_dp_options options = audit_external(norm_bound, setting->sigma, s->coordinates);
    psg_dp *dp;
    if (setting->rate > 0) {
        options.sampling = PSG_SAMPLING_POISSON;
        options.sample_rate = setting->rate;
        options.records = (uint64_t)s->coordinates;
    }
    AUDIT_OK(s->context, psg_dp_create(s->context, s->generator, &options, &s->coordinates, 1, &dp));
    return dp;
}

static psg_batch draw(const stage *s, const setting *setting, psg_dp *dp) {
    psg_batch batch;
    if (setting->rate > 0) {
        AUDIT_OK(s->context, psg_dp_sample(dp, &batch));
        return batch;
    }
    int64_t *ids = audit_array((size_t)s->coordinates, sizeof *ids);
    for (int64_t j = 0; j < s->coordinates; j++) ids[j] = j;
    AUDIT_OK(s->context, psg_dp_take(dp, ids, s->coordinates, &batch));
    free(ids);
    return batch;
}

/* The canary of record j is row j of a table. */
static void add_canaries(const stage *s, psg_dp *dp, const psg_batch *batch) {
    const int64_t shape[] = { batch->count, 1, 1 };
    psg_tensor backprop = psg_tensor_of(PSG_F64, s->gradient, 3, shape);
    psg_tensor ids = psg_i64_2d(batch->ids, batch->count, 1);
    psg_block block = psg_sparse_rows(&backprop, &ids);
    psg_gradient gradient = psg_gradient_of_blocks(&block, 1, 2, (const int64_t[]){ s->coordinates, 1 });
    const psg_gradient *list = &gradient;
    AUDIT_OK(s->context, psg_dp_accumulate(dp, batch, &list, 1, NULL));
}

/* n scores in units of C, with the canaries or without; accountant (or NULL): of one release. */
static double *collect(const stage *s, const setting *setting, int64_t n, bool with, psg_accountant **accountant) {
    psg_dp *dp = open_dp(s, setting);
    double *score = audit_array((size_t)n, sizeof *score);
    psg_tensor out = psg_tensor_of(PSG_F64, s->released, 1, &s->coordinates);
    for (int64_t first = 0; first < n; first += s->coordinates) {
        psg_batch batch = draw(s, setting, dp);
        if (with) add_canaries(s, dp, &batch);
        AUDIT_OK(s->context, psg_dp_release(dp, &out, 1));
        for (int64_t j = 0; j < s->coordinates && first + j < n; j++) score[first + j] = s->released[j] / norm_bound;
        if (!first && accountant) *accountant = audit_accountant_of(s->context, dp);
    }
    psg_dp_destroy(dp);
    return score;
}

/* ---- thresholds ---- */

/* Of the scores of one half: how many are above each threshold, without (side 0) and with the canary. */
typedef struct counts {
    int64_t n, above[SIDES][THRESHOLDS];
} counts;

/* Thresholds are a tenth of sigma apart, about 1/2. */
static void count_above(const double *score, int64_t n, double sigma, int64_t *above) {
    int64_t bin[THRESHOLDS + 1] = { 0 };
    for (int64_t i = 0; i < n; i++) {
        const double place = ceil((score[i] - 0.5) / (sigma / 10)) + THRESHOLDS / 2;
        bin[(int)fmin(fmax(place, 0), THRESHOLDS)]++;
    }
    int64_t sum = 0;
    for (int k = THRESHOLDS; k-- > 0;) above[k] = sum += bin[k + 1];
}

typedef struct halves {
    counts choosing, counting;
} halves;

static halves run_sides(const stage *s, const setting *setting, int64_t n, psg_accountant **accountant) {
    halves h = { { n / 2, { { 0 } } }, { n - n / 2, { { 0 } } } };
    for (int with = 0; with < SIDES; with++) {
        double *score = collect(s, setting, n, with, with ? accountant : NULL);
        count_above(score, h.choosing.n, setting->sigma, h.choosing.above[with]);
        count_above(score + h.choosing.n, h.counting.n, setting->sigma, h.counting.above[with]);
        free(score);
    }
    return h;
}

/* Of errors seen `hits` times in n. */
typedef double (*rate_of)(int64_t hits, int64_t n);

static double estimated(int64_t hits, int64_t n) { return fmin(fmax((double)hits, 0.5), (double)n - 0.5) / (double)n; }
static double bounded(int64_t hits, int64_t n) { return probability_bound(hits, n, AUDIT_LEVEL / 2); }

/* About what `bounded` gives, quickly: chooses well. */
static double guessed(int64_t hits, int64_t n) {
    const double p = (double)hits / (double)n;
    return fmin(p + AUDIT_Z * sqrt(p * (1 - p) / (double)n) + AUDIT_Z * AUDIT_Z / (double)n, 1);
}

static double mu_of(const counts *c, int k, double epsilon, rate_of rate) {
    (void)epsilon;
    const double fpr = rate(c->above[0][k], c->n), fnr = rate(c->n - c->above[1][k], c->n);
    return fpr < 1 && fnr < 1 ? -normal_quantile(fpr) - normal_quantile(fnr) : -1;
}

static double gain_of(const counts *c, int k, double epsilon, rate_of rate) {
    return 1 - rate(c->n - c->above[1][k], c->n) - exp(epsilon) * rate(c->above[0][k], c->n);
}

static double loss_of(const counts *c, int k, double epsilon, rate_of rate) {
    return 1 - rate(c->above[0][k], c->n) - exp(epsilon) * rate(c->n - c->above[1][k], c->n);
}

typedef double (*figure_of)(const counts *c, int k, double epsilon, rate_of rate);

static int best_threshold(const halves *h, figure_of figure, double epsilon) {
    int best = 0;
    for (int k = 1; k < THRESHOLDS; k++) {
        if (figure(&h->choosing, k, epsilon, guessed) > figure(&h->choosing, best, epsilon, guessed)) best = k;
    }
    return best;
}

/* ---- every batch ---- */

typedef struct found_mu {
    double estimate, bound;
} found_mu;

static found_mu find_mu(const audit_options *options, uint64_t number, double sigma, int64_t n) {
    stage s = stage_open(options, number, n);
    const setting setting = { sigma, 0 };
    const halves h = run_sides(&s, &setting, n, NULL);
    const int k = best_threshold(&h, mu_of, 0);
    stage_close(&s);
    return (found_mu){ mu_of(&h.counting, k, 0, estimated), mu_of(&h.counting, k, 0, bounded) };
}

/* Four times the releases where errors are near 1/2. */
static int64_t trials_for(double sigma, int64_t n) { return sigma > 2 ? 4 * n : n; }

/* Whether a tenth less noise is flagged but with probability 1e-9: at the threshold in the middle a quantile has the
 * deviation e = sqrt(p (1 - p) / (n / 2)) / phi; the bound lies 2 z e below what is true, and moves by sqrt(2) e. */
static bool sees_a_tenth(double sigma, int64_t n) {
    const double middle = 1 / (0.9 * sigma) / 2, p = normal_above(middle);
    const double density = exp(-middle * middle / 2) / sqrt(2 * acos(-1));
    const double e = sqrt(p * (1 - p) / ((double)n / 2)) / density;
    return 2 * middle - (2 * AUDIT_Z + 6 * sqrt(2)) * e > 1 / sigma;
}

static void check_sigma(const audit_options *options, double sigma, uint64_t number, audit_report *report) {
    const int64_t n = trials_for(sigma, options->n);
    const found_mu mu = find_mu(options, number, sigma, n);
    audit_say(report, "sigma %g: mu sigma %.4f, at least %.4f; ", sigma, mu.estimate * sigma, mu.bound * sigma);
    if (!(mu.bound * sigma <= 1)) {
        audit_fail(report, "sigma %g is claimed, one release has mu sigma of at least %.4f, must be at most 1", sigma,
                   mu.bound * sigma);
    }
    if (!(mu.estimate * sigma >= 0.85)) {
        audit_fail(report, "sigma %g is claimed, the attack finds mu sigma %.4f: blind, or too much noise", sigma,
                   mu.estimate * sigma);
    }
}

/* The audit itself: releases with a tenth less noise than is claimed. */
static void check_power(const audit_options *options, double claimed, uint64_t number, audit_report *report) {
    const int64_t n = trials_for(claimed, options->n);
    if (!sees_a_tenth(claimed, n)) {
        audit_say(report, "(too few releases to see a tenth at sigma %g) ", claimed);
        return;
    }
    const double bound = find_mu(options, number, 0.9 * claimed, n).bound * claimed;
    if (bound > 1) audit_say(report, "0.9 sigma flagged at %g; ", claimed);
    else audit_fail(report, "noise of 0.9 sigma gave mu sigma %.4f and was not flagged at sigma %g", bound, claimed);
}

/* ---- Poisson batches ---- */

static double claimed_delta(psg_context *context, const psg_accountant *accountant, double epsilon, double *lower) {
    psg_privacy privacy;
    AUDIT_OK(context, psg_accountant_delta(accountant, epsilon, &privacy));
    *lower = privacy.delta_lower;
    return privacy.delta;
}

static void check_point(const halves *h, figure_of figure, double epsilon, double delta, const setting *setting,
                        audit_report *report) {
    const double seen = figure(&h->counting, best_threshold(h, figure, epsilon), epsilon, bounded);
    if (seen <= delta) return;
    audit_fail(report, "rate %g, sigma %g: delta(%g) is at least %.5f, the accountant says %.5f", setting->rate,
               setting->sigma, epsilon, seen, delta);
}

static void check_trade_off(const audit_options *options, const setting *setting, uint64_t number,
                            audit_report *report) {
    stage s = stage_open(options, number, options->n);
    psg_accountant *accountant;
    const halves h = run_sides(&s, setting, options->n, &accountant);
    double lower, least;
    for (double epsilon = near_zero; epsilon <= 2.1; epsilon += 0.5) {
        const double delta = claimed_delta(s.context, accountant, epsilon, &lower);
        check_point(&h, gain_of, epsilon, delta, setting, report);
        check_point(&h, loss_of, epsilon, delta, setting, report);
    }
    const double delta = claimed_delta(s.context, accountant, near_zero, &least);
    const double seen = gain_of(&h.counting, best_threshold(&h, gain_of, 0), 0, estimated);
    audit_say(report, "rate %g: delta(0) %.4f of %.4f%s", setting->rate, seen, delta,
              number == 10 ? "; " : "");
    if (seen < 0.85 * least) {
        audit_fail(report, "rate %g, sigma %g: the attack finds delta(0) %.4f, at least %.4f is true: blind, or too "
                   "few records", setting->rate, setting->sigma, seen, least);
    }
    psg_accountant_destroy(accountant);
    stage_close(&s);
}

audit_report audit_one_step(const audit_options *options) {
    static const double sigmas[] = { 0.5, 1, 4 };
    static const setting settings[] = { { 1, 0.5 }, { 0.5, 0.2 } };
    audit_report report = { .passed = true };
    for (uint64_t k = 0; k < 3; k++) check_sigma(options, sigmas[k], k, &report);
    for (uint64_t k = 0; k < 3; k++) check_power(options, sigmas[k], 100 + k, &report);
    for (uint64_t k = 0; k < 2; k++) check_trade_off(options, &settings[k], 10 + k, &report);
    return report;
}
