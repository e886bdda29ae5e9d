/* The law of the noise that a psg_dp releases: of empty batches, in units.
 *
 * The discrete Gaussian of scale S = 2^36 has the moments of the normal law within e^{-2 pi^2 S^2}, and P[z >= k S] is
 * (1 - Phi(k)) (1 + O(k / S)): where 10^8 samples are counted, that changes a count by less than 10^-2. */
#include <math.h>
#include <stdlib.h>

#include "audit.h"
#include "noise_tally.h"
#include "statistics.h"

/* No multiple of a block, of a vector or of each other. */
enum { FIRST = 60007, SECOND = 80011, ELEMENTS = FIRST + SECOND, MECHANISMS = 2 };

static const double sigma = 0.7, norm_bound = 1.3;

/* ---- releases ---- */

typedef struct source {
    psg_context *context;
    psg_generator *generator;
    psg_dp *dp[MECHANISMS];
    double *out;
    int64_t *z;
    noise_release now[MECHANISMS], before, shown;   /* of ELEMENTS each */
} source;

static noise_release release_new(void) {
    return (noise_release){ audit_array(ELEMENTS, sizeof(double)), audit_array(ELEMENTS, sizeof(double)) };
}

static void release_free(noise_release *r) { free(r->u), free(r->v); }

static source source_open(uint64_t seed) {
    const int64_t counts[] = { FIRST, SECOND };
    const psg_dp_options options = audit_external(norm_bound, sigma, 8);
    source s = { .context = audit_context(2), .before = release_new(), .shown = release_new() };
    s.generator = audit_generator(s.context, seed, 200);
    s.out = audit_array(ELEMENTS, sizeof *s.out);
    s.z = audit_array(ELEMENTS, sizeof *s.z);
    for (int m = 0; m < MECHANISMS; m++) {
        AUDIT_OK(s.context, psg_dp_create(s.context, s.generator, &options, counts, 2, &s.dp[m]));
        s.now[m] = release_new();
    }
    return s;
}

static void source_close(source *s) {
    for (int m = 0; m < MECHANISMS; m++) psg_dp_destroy(s->dp[m]), release_free(&s->now[m]);
    release_free(&s->before), release_free(&s->shown);
    free(s->out), free(s->z);
    psg_generator_destroy(s->generator);
    psg_context_destroy(s->context);
}

/* What is released is z unit, rounded to a double: z is below 2^40. */
static void release_noise(source *s, int m) {
    const int64_t first = FIRST, second = SECOND;
    const double unit = audit_unit(sigma, norm_bound, ELEMENTS);
    const psg_tensor outs[] = { psg_tensor_of(PSG_F64, s->out, 1, &first),
                                psg_tensor_of(PSG_F64, s->out + FIRST, 1, &second) };
    AUDIT_OK(s->context, psg_dp_release(s->dp[m], outs, 2));
    for (int64_t i = 0; i < ELEMENTS; i++) s->z[i] = llrint(s->out[i] / unit);
}

static void count_release(source *s, int m, noise_tally *t) {
    const noise_release old = s->before;
    const bool has_before = psg_dp_step(s->dp[m]) > 0;
    s->before = s->now[m];
    s->now[m] = old;
    release_noise(s, m);
    noise_standardise(s->z, ELEMENTS, &s->now[m]);
    noise_count(t, s->z, &s->now[m], ELEMENTS);
    if (has_before) noise_count_pair(&t->pair[NOISE_OF_STEP], &s->now[m], 0, &s->before, 0, ELEMENTS);
    noise_count_pair(&t->pair[NOISE_OF_PARAMETER], &s->now[m], 0, &s->now[m], FIRST, FIRST);
}

/* One release of each mechanism, and what the generator shows of the same address. */
static void count_step(source *s, uint64_t step, noise_tally *t) {
    for (int m = 0; m < MECHANISMS; m++) count_release(s, m, t);
    noise_count_pair(&t->pair[NOISE_OF_MECHANISM], &s->now[0], 0, &s->now[1], 0, ELEMENTS);
    AUDIT_OK(s->context, psg_discrete_gaussian(s->generator, step, 0, 0, s->z, ELEMENTS));
    noise_standardise(s->z, ELEMENTS, &s->shown);
    for (int m = 0; m < MECHANISMS; m++) {
        noise_count_pair(&t->pair[NOISE_OF_PUBLIC], &s->now[m], 0, &s->shown, 0, ELEMENTS);
    }
}

/* ---- statistics ---- */

typedef struct verdict {
    int count, off;             /* statistics; of them beyond AUDIT_Z */
    const char *name;           /* of the largest */
    int64_t where;
    double largest;
} verdict;

static void consider(verdict *v, const char *name, int64_t where, double deviate) {
    v->count++;
    v->off += !(fabs(deviate) <= AUDIT_Z);
    if (fabs(deviate) <= v->largest) return;
    v->largest = fabs(deviate);
    v->name = name;
    v->where = where;
}

/* E u^2 = 1, E u^4 = 3; variances of powers 1 to 4 are 1, 2, 15, 96. */
static void judge_moments(const noise_tally *t, verdict *v) {
    static const double mean[] = { 1, 0, 1, 0, 3 }, variance[] = { 0, 1, 2, 15, 96 };
    const double n = (double)t->count;
    for (int k = 1; k < 5; k++) consider(v, "moment", k, (t->power[k] - n * mean[k]) / sqrt(n * variance[k]));
}

static void judge_tails(const noise_tally *t, verdict *v) {
    for (int k = 1; k <= NOISE_TAILS; k++) {
        consider(v, "tail above deviation", k, deviate_of_count(t->above[k], t->count, normal_above(k)));
        consider(v, "tail below deviation", -k, deviate_of_count(t->below[k], t->count, normal_above(k)));
    }
}

/* Products of independent values of variance 1 have variance 1. */
static void judge_products(const noise_sums *sums, const char *u, const char *squares, int64_t where, verdict *v) {
    consider(v, u, where, sums->u / sqrt((double)sums->count));
    consider(v, squares, where, sums->v / sqrt((double)sums->count));
}

static void judge_pairs(const noise_tally *t, verdict *v) {
    static const char *const of[NOISE_PAIRS][2] = {
        { "correlation of steps", "correlation of steps, squares" },
        { "correlation of parameters", "correlation of parameters, squares" },
        { "correlation of mechanisms", "correlation of mechanisms, squares" },
        { "correlation with psg_discrete_gaussian", "correlation with psg_discrete_gaussian, squares" },
    };
    for (int k = 0; k < NOISE_LAGS; k++) {
        judge_products(&t->lag[k], "correlation at lag", "correlation of squares at lag", noise_lags[k], v);
    }
    for (int k = 0; k < NOISE_PAIRS; k++) judge_products(&t->pair[k], of[k][0], of[k][1], 0, v);
}

/* Chi-squares of the sums at each place.  v has an excess kurtosis of 12, so the square of a sum of m has a variance
 * larger by 1 + 6 / m than that of a normal deviate. */
static void judge_places(const noise_sums *sums, int count, const char *u, const char *squares, verdict *v) {
    double chi_u = 0, chi_v = 0, least = INFINITY;
    for (int k = 0; k < count; k++) {
        const double m = (double)sums[k].count;
        chi_u += sums[k].u * sums[k].u / m;
        chi_v += sums[k].v * sums[k].v / m;
        least = fmin(least, m);
    }
    consider(v, u, count, deviate_of_chi_square(chi_u, count));
    consider(v, squares, count, deviate_of_chi_square(chi_v, count) / sqrt(1 + 6 / least));
}

static void judge_bytes(const noise_tally *t, verdict *v) {
    for (int k = 0; k < NOISE_BYTES; k++) {
        const double expected = (double)t->count / 256;
        double chi = 0;
        for (int b = 0; b < 256; b++) {
            const double off = (double)t->byte[k][b] - expected;
            chi += off * off / expected;
        }
        consider(v, "byte", k, deviate_of_chi_square(chi, 255));
    }
}

static void judge(const noise_tally *t, audit_report *report) {
    verdict v = { 0 };
    judge_moments(t, &v);
    judge_tails(t, &v);
    judge_pairs(t, &v);
    judge_places(t->lane, NOISE_LANES, "mean by lane", "variance by lane", &v);
    judge_places(t->place, NOISE_BLOCK, "mean by place in a block", "variance by place in a block", &v);
    judge_bytes(t, &v);
    if (v.off) {
        audit_fail(report, "%d of %d statistics are off; %s %lld by %.2f standard errors, must be within %.2f", v.off,
                   v.count, v.name, (long long)v.where, v.largest, AUDIT_Z);
    }
    audit_say(report, "variance %.6f, %d statistics, the largest %.2f standard errors (%s %lld)",
              t->power[2] / (double)t->count, v.count, v.largest, v.name, (long long)v.where);
}

audit_report audit_noise(const audit_options *options) {
    audit_report report = { .passed = true };
    source s = source_open(options->seed);
    noise_tally *t = audit_array(1, sizeof *t);
    for (uint64_t step = 0; step < 2 || t->count < options->n; step++) count_step(&s, step, t);
    judge(t, &report);
    free(t);
    source_close(&s);
    return report;
}
