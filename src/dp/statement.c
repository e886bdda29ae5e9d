/* The statement: what was done, and what it guarantees. */
#include <math.h>

#include "base/context.h"
#include "base/floats.h"
#include "base/writer.h"
#include "dp/mechanism.h"
#include "dp/names.h"
#include "dp/random.h"

/* What both forms tell. */
typedef struct facts {
    const psg_dp *dp;
    const psg_dp_options *o;
    psg_privacy privacy;
    double delta;
    bool is_seeded, has_noise;
} facts;

/* ---- words ---- */

static void say_sampling(psg_writer *w, const psg_dp_options *o) {
    switch (o->sampling) {
        case PSG_SAMPLING_POISSON:
            psg_put(w, "Poisson, every record in a batch with probability %g, independently", o->sample_rate);
            break;
        case PSG_SAMPLING_TRUNCATED_POISSON:
            psg_put(w, "Poisson of rate %g, larger batches cut to %lld records at random", o->sample_rate,
                (long long)o->max_batch_size);
            break;
        case PSG_SAMPLING_FIXED_SIZE:
            psg_put(w, "%lld records without replacement", (long long)o->batch_size);
            break;
        case PSG_SAMPLING_EPOCHS:
            psg_put(w, "shuffled epochs, batches of %lld: no credit for sampling", (long long)o->batch_size);
            break;
        case PSG_SAMPLING_BALLS_IN_BINS:
            psg_put(w, "balls in bins, every record in one batch of %llu", (unsigned long long)o->batches);
            break;
        case PSG_SAMPLING_EXTERNAL: psg_put(w, "the caller's: no credit for sampling"); break;
    }
}

static const char *relation_words(psg_relation relation) {
    return relation == PSG_REPLACE_ONE ? "one record has other values" : "one record is added or removed";
}

static const char *clipping_words(psg_clipping clipping) {
    return clipping == PSG_CLIP_FLAT ? "flat" : clipping == PSG_CLIP_AUTOMATIC ? "automatic" : "normalized";
}

static void say_clipping(psg_writer *w, const facts *f) {
    psg_put(w, "Clipping: %s, max_grad_norm %g", clipping_words(f->o->clipping), f->o->max_grad_norm);
    for (int g = 0; f->o->group_count > 1 && g < f->o->group_count; g++) {
        psg_put(w, g ? ", %g" : ", by groups of parameters %g", f->o->max_grad_norm * f->dp->share[g]);
    }
    if (f->o->quantile > 0) {
        psg_put(w, ", moved to %g by a private quantile of %g, whose noise is in the account", f->dp->max_grad_norm,
            f->o->quantile);
    }
    psg_put(w, ".\n");
}

static void say_noise(psg_writer *w, const facts *f) {
    psg_put(w, "Mechanism: sums of integers and integer noise of deviation 2^36 units, from ChaCha20: rounding of the "
        "Gaussian mechanism of noise multiplier %.6g.\n", f->o->noise_multiplier);
    psg_put(w, "Residues of the noise, in the numbers below: epsilon %.3g, delta %.3g a release.\n",
            f->dp->event.residue_epsilon, f->dp->event.residue_delta);
    if (f->o->epsilon > 0) {
        psg_put(w, "Budget: epsilon %g at delta %g.\n", f->o->epsilon, f->o->delta);
    }
}

static void say_mechanism(psg_writer *w, const facts *f) {
    if (f->has_noise) say_noise(w, f);
    else psg_put(w, "Mechanism: sums without noise.\n");
    psg_put(w, "Releases: %llu", (unsigned long long)f->dp->step);
    if (f->o->earlier) psg_put(w, ", after earlier ones that are counted in");
    psg_put(w, ".\n");
    if (f->dp->ledger) {
        psg_put(w, "Ledger: each release was recorded in a file before it was made; the numbers below are those of all "
                "%llu in it, of this and other runs, made or not.\n",
                (unsigned long long)psg_accountant_releases(f->dp->accountant));
    }
}

static void say_guarantee(psg_writer *w, const facts *f) {
    if (f->is_seeded) {
        psg_put(w, "NOT PRIVATE: the generator was made from a given seed; who has it knows the noise.\n");
    } else if (!f->has_noise) {
        psg_put(w, "NOT PRIVATE: there is no noise.\n");
    } else if (!psg_accountant_releases(f->dp->accountant)) {
        psg_put(w, "Nothing has been released.\n");
    } else {
        psg_put(w, "Guarantee: (epsilon, delta) = (%.4f, %g), epsilon at least %.4f, by %s",
                ceil(f->privacy.epsilon * 1e4) / 1e4, f->delta, floor(f->privacy.epsilon_lower * 1e4) / 1e4,
                f->privacy.accountant);
        psg_put(w, f->privacy.note ? " (%s).\n" : ".\n", f->privacy.note);
    }
    if (!f->o->records) return;
    psg_put(w, "delta is %.3g of 1 / N = %.3g.\n", f->delta * (double)f->o->records, 1 / (double)f->o->records);
}

static void say_words(psg_writer *w, const facts *f) {
    psg_put(w, "Privacy statement of libpsg %s\n", psg_version());
    psg_put(w, "Unit: a record; neighbours: %s.\n", relation_words(f->o->relation));
    if (f->o->records) psg_put(w, "Records: %llu, taken as public.\n", (unsigned long long)f->o->records);
    psg_put(w, "Sampling: ");
    say_sampling(w, f->o);
    psg_put(w, "; releases divided by the expected size %g.\n", f->o->expected_batch_size);
    say_clipping(w, f);
    say_mechanism(w, f);
    say_guarantee(w, f);
    psg_put(w, "Not covered: hyperparameters chosen on these records, other runs on them%s, times, and everything but "
               "the releases (losses, norms, batches, counts of removed records are not public).\n",
            f->o->earlier || f->dp->ledger ? " than those counted in" : "");
}

/* ---- JSON ---- */

/* JSON has no infinity. */
static void put_number(psg_writer *w, const char *name, double value) {
    psg_put(w, ", \"%s\": ", name);
    if (value - value == 0) psg_put_number(w, value);
    else psg_put(w, "null");
}

static void write_json(psg_writer *w, const facts *f) {
    const psg_dp_options *o = f->o;
    psg_put(w, "{\"library\": \"libpsg\", \"version\": \"%s\", \"unit\": \"record\"", psg_version());
    psg_put(w, ", \"relation\": \"%s\"", psg_relation_name(o->relation));
    psg_put(w, ", \"records\": %llu, \"records_are_public\": true", (unsigned long long)o->records);
    psg_put(w, ", \"sampling\": \"%s\", \"batch_size\": %lld, \"batches\": %llu", psg_sampling_name(o->sampling),
        (long long)o->batch_size, (unsigned long long)o->batches);
    put_number(w, "sample_rate", o->sample_rate);
    put_number(w, "expected_batch_size", o->expected_batch_size);
    psg_put(w, ", \"max_batch_size\": %lld, \"clipping\": \"%s\", \"groups\": %d", (long long)o->max_batch_size,
        clipping_words(o->clipping), o->group_count);
    put_number(w, "max_grad_norm", o->max_grad_norm);
    put_number(w, "quantile", o->quantile);
    put_number(w, "noise_multiplier", o->noise_multiplier);
    psg_put(w, ", \"releases\": %llu", (unsigned long long)f->dp->step);
    psg_put(w, ", \"has_earlier\": %s", o->earlier ? "true" : "false");
    if (f->dp->ledger) {
        psg_put(w, ", \"recorded\": %llu", (unsigned long long)psg_accountant_releases(f->dp->accountant));
    }
    put_number(w, "residue_epsilon", f->dp->event.residue_epsilon);
    put_number(w, "residue_delta", f->dp->event.residue_delta);
    psg_put(w, ", \"seeded\": %s", f->is_seeded ? "true" : "false");
    put_number(w, "delta", f->delta);
    put_number(w, "epsilon", f->privacy.epsilon);
    put_number(w, "epsilon_lower", f->privacy.epsilon_lower);
    psg_put(w, ", \"accountant\": \"%s\"", f->privacy.accountant);
    psg_put(w, ", \"not_covered\": [\"hyperparameter selection\", \"other runs\", \"timing\", \"diagnostics\"]}");
}

psg_status psg_dp_statement(psg_dp *dp, double delta, psg_statement_format format, char *text, size_t size,
                            size_t *needed) {
    PSG_DEFAULT_FLOATS;
    if (!dp) return PSG_ERR_ARGUMENT;
    if (format != PSG_STATEMENT_WORDS && format != PSG_STATEMENT_JSON) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_statement: format is %d, must be words or JSON",
                        (int)format);
    }
    if (size && !text) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_statement: text is NULL, must hold %zu bytes", size);
    }
    psg_writer w = { text, size, 0 };
    facts f = { .dp = dp, .o = &dp->options, .delta = delta };
    psg_status status = psg_dp_privacy(dp, delta, &f.privacy);
    if (status) return psg_fail_as(dp->context, "psg_dp_statement", status);
    f.is_seeded = psg_generator_is_seeded(dp->generator);
    f.has_noise = dp->options.noise_multiplier > 0;
    if (format == PSG_STATEMENT_JSON) write_json(&w, &f);
    else say_words(&w, &f);
    if (needed) *needed = w.used;
    return PSG_OK;
}
