/* Record and replay (after Cebere et al., arXiv 2602.17454, 2026): two
 * mechanisms of one key and of neighbouring data sets are run side by side.  N is public, so a record that is removed
 * is one that adds nothing.  Where it is not drawn, everything is the same, bit for bit.  Where it is:
 *
 *   - all that may be published but the release is the same: statuses, who was drawn, sigma, C, budget, statement;
 *   - the integers of the sum move by at most C / unit + sqrt(D) / 2 = S / sigma - sqrt(D) / 2 (psg/dp.h; the sigma of
 *     the gradients, and with a quantile the count's 1/2 record beside it, at most S / sigma together);
 *   - the releases, and with a quantile the next C, differ by exactly that: the noise is the same. */
#include <math.h>
#include <string.h>

#include "audit.h"
#include "record_side.h"

/* ---- pairs ---- */

enum { CLIP_MODES = 5, MODE_GROUPS = 3, MODE_QUANTILE = 4, SAMPLINGS = 6 };

static void draw_sampling(attack_random *random, psg_dp_options *o, int64_t n) {
    static const double rates[] = { 0.1, 0.5, 0.5, 1 };
    o->records = (uint64_t)n;
    switch (o->sampling) {
    case PSG_SAMPLING_TRUNCATED_POISSON:
        o->max_batch_size = n / 3 + 1;
        o->sample_rate = 0.5;
        break;
    case PSG_SAMPLING_FIXED_SIZE:
        o->relation = PSG_REPLACE_ONE;
        o->batch_size = n / 2 + 1;
        break;
    case PSG_SAMPLING_EPOCHS: o->batch_size = n / 2 + 1; break;
    case PSG_SAMPLING_BALLS_IN_BINS: o->batches = n > 1 ? 2 : 1; break;
    case PSG_SAMPLING_EXTERNAL:
        o->expected_batch_size = (double)(n + 1) / 2;
        o->max_batch_size = MOST_RECORDS;
        break;
    default: o->sample_rate = rates[attack_range(random, 0, 3)];
    }
}

static void draw_clipping(attack_random *random, pair *p) {
    static const double norms[] = { 1e-3, 0.1, 1, 50 };
    const int64_t mode = attack_range(random, 0, CLIP_MODES - 1);
    psg_dp_options *o = &p->options;
    o->max_grad_norm = norms[attack_range(random, 0, 3)];
    if (mode < MODE_GROUPS) o->clipping = (psg_clipping)mode;
    if (mode == MODE_QUANTILE) o->quantile = 0.3, o->quantile_noise = 3, o->quantile_rate = 0.2;
    if (mode != MODE_GROUPS) return;
    o->group_count = 2;
    for (int k = 0; k < RECORD_PARAMS; k++) {
        p->groups[k] = k % 2;
        p->group_norms[k] = (double)attack_range(random, 1, 4);
    }
    o->groups = p->groups;
    o->group_norms = p->group_norms;
}

static void pair_draw(attack_random *random, int64_t number, pair *p) {
    static const char *const routes[] = { NULL, "identity", "gram", "tiles" };
    static const double sigmas[] = { 0.5, 1, 4 };
    const int64_t n = ATTACK_PICK(random, 1, 2, 3, 17, MOST_RECORDS - 1, MOST_RECORDS);
    *p = (pair){ .key = attack_bits(random), .options = PSG_DP_OPTIONS_INIT, .steps = 3 };
    p->options.sampling = (psg_sampling)(number % SAMPLINGS);
    p->options.noise_multiplier = sigmas[attack_range(random, 0, 2)];
    draw_sampling(random, &p->options, n);
    draw_clipping(random, p);
    if (number % SAMPLINGS == PSG_SAMPLING_EXTERNAL) p->options.epsilon = 1e4, p->options.delta = 1e-5;
    p->target = ATTACK_PICK(random, 0, n - 1, n / 2);
    p->kind = (record_kind)attack_range(random, 0, RECORD_KINDS - 1);
    records_draw(random, n, p->target, p->kind, &p->data);
    p->route = routes[attack_range(random, 0, 3)];
    for (int k = 0; k < 2; k++) p->micro_batch[k] = ATTACK_PICK(random, 1, 5, MOST_RECORDS, MOST_RECORDS);
}

/* ---- what is found ---- */

typedef struct findings {
    audit_report *report;
    int64_t pair, in[SAMPLINGS], out[SAMPLINGS];   /* steps with the target drawn, and not */
    double share;                                  /* the largest movement, of what is allowed */
} findings;

static void find(findings *f, const side *s, const char *what) {
    audit_fail(f->report, "pair %lld (sampling %d, clipping %d, quantile %g, groups %d, a record that is %s), step "
               "%llu: %s", (long long)f->pair, (int)s->pair->options.sampling, (int)s->pair->options.clipping,
               s->pair->options.quantile, s->pair->options.group_count, record_kind_names[s->pair->kind],
               (unsigned long long)psg_dp_step(s->dp), what);
}

static bool same_batch(const side *a, const side *b) {
    return a->batch.count == b->batch.count && a->batch.step == b->batch.step && a->batch.stream == b->batch.stream &&
           a->batch.owner == b->batch.owner && !memcmp(a->ids, b->ids, (size_t)a->batch.count * sizeof *a->ids);
}

static bool same_facts(const side *a, const side *b) {
    return psg_dp_step(a->dp) == psg_dp_step(b->dp) && psg_dp_remaining(a->dp) == psg_dp_remaining(b->dp) &&
           psg_dp_noise_multiplier(a->dp) == psg_dp_noise_multiplier(b->dp) && a->max_grad_norm == b->max_grad_norm &&
           psg_dp_expected_batch_size(a->dp) == psg_dp_expected_batch_size(b->dp) &&
           psg_dp_max_batch_size(a->dp) == psg_dp_max_batch_size(b->dp) &&
           psg_accountant_releases(psg_dp_accountant(a->dp)) == psg_accountant_releases(psg_dp_accountant(b->dp));
}

static bool same_text(const side *a, const side *b) {
    return !strcmp(a->text[0], b->text[0]) && !strcmp(a->text[1], b->text[1]);
}

/* Of the gradients, when a quantile takes its share. */
static double gradient_noise(const psg_dp_options *o) {
    const double ratio = o->quantile > 0 ? o->noise_multiplier / (2 * o->quantile_noise) : 0;
    return o->noise_multiplier / sqrt(1 - ratio * ratio);
}

/* In long double, whose rounding (2^-64) is below the room that the factors leave (2^-40). */
static long double square_moved(const side *a, const side *b, size_t first, size_t last) {
    long double sum = 0;
    for (size_t i = first; i < last; i++) {
        const long double moved = (long double)(a->sums[i] - b->sums[i]);
        sum += moved * moved;
    }
    return sum;
}

static void check_movement(findings *f, const side *a, const side *b) {
    const psg_dp_options *o = &a->pair->options;
    const long double allowed = 0x1p36L / gradient_noise(o) - sqrtl(RECORD_ELEMENTS) / 2;
    const long double moved = square_moved(a, b, 0, RECORD_ELEMENTS);
    const long double all = square_moved(a, b, 0, a->sum_count), most = 0x1p36L / o->noise_multiplier;
    if (!(moved <= allowed * allowed)) find(f, a, "the sum moved by more than C");
    if (!(all <= most * most)) find(f, a, "sum and count moved by more than S / sigma");
    f->share = fmax(f->share, (double)(sqrtl(moved) / allowed));
}

/* (k + z) - (k' + z) = k - k': each release is off by 2^-53 of itself, which is below 2^42 units. */
static void check_noise(findings *f, const side *a, const side *b) {
    const psg_dp_options *o = &a->pair->options;
    const double unit = audit_unit(gradient_noise(o), a->max_grad_norm, RECORD_ELEMENTS);
    const double factor = unit / psg_dp_expected_batch_size(a->dp);
    for (int i = 0; i < RECORD_ELEMENTS; i++) {
        const double moved = (a->out[i] - b->out[i]) / factor;
        if (fabs(moved - (double)(a->sums[i] - b->sums[i])) < 0.25) continue;
        find(f, a, "the release moved otherwise than the sum");
        return;
    }
}

/* C exp(-rate (b - quantile)) with b = (count + noise) / expected + 1/2; half a record is `half` units of the count. */
static void check_next_norm(findings *f, const side *a, const side *b) {
    const psg_dp_options *o = &a->pair->options;
    const double half = floor(0x1p36 / (2 * o->quantile_noise)), expected = psg_dp_expected_batch_size(a->dp);
    const double moved = (double)(a->sums[RECORD_ELEMENTS] - b->sums[RECORD_ELEMENTS]) / (2 * half) / expected;
    const double ratio = psg_dp_max_grad_norm(a->dp) / psg_dp_max_grad_norm(b->dp);
    if (fabs(log(ratio) + o->quantile_rate * moved) > 1e-12) find(f, a, "C moved otherwise than the count");
}

/* After a step; false: the pair is over. */
static bool compare(findings *f, const side *with, const side *without) {
    const bool is_in = side_has_target(with), has_quantile = with->pair->options.quantile > 0;
    if (with->status || without->status) {
        find(f, with, with->status != without->status ? "one neighbour is refused" : "refused");
        return false;
    }
    if (!same_batch(with, without)) find(f, with, "other batches");
    if (!same_facts(with, without)) find(f, with, "other facts");
    if (!(has_quantile && is_in) && !same_text(with, without)) find(f, with, "other statements");
    if (with->sum_count != without->sum_count) find(f, with, "other numbers of sums");
    (is_in ? f->in : f->out)[with->pair->options.sampling]++;
    if (is_in) check_noise(f, with, without);
    if (is_in) check_movement(f, with, without);
    if (is_in && has_quantile) check_next_norm(f, with, without);
    if (is_in) return f->report->passed && !has_quantile;   /* C follows what was released */
    if (memcmp(with->sums, without->sums, with->sum_count * sizeof *with->sums)) find(f, with, "other sums");
    else if (memcmp(with->out, without->out, sizeof with->out)) find(f, with, "other releases");
    return f->report->passed;
}

static void run_pair(findings *f, const pair *p, network *net) {
    static side with, without;
    side_open(&with, p, net, true);
    side_open(&without, p, net, false);
    for (uint64_t step = 0; step < p->steps; step++) {
        side_step(&with);
        side_step(&without);
        if (!compare(f, &with, &without)) break;
    }
    side_close(&with);
    side_close(&without);
}

/* An audit that never had the record drawn, or never near C, has not looked. */
static void check_coverage(findings *f) {
    int64_t in = 0, out = 0;
    for (int k = 0; k < SAMPLINGS; k++) {
        in += f->in[k], out += f->out[k];
        if (f->in[k] > 0 && f->out[k] > 0) continue;
        audit_fail(f->report, "sampling %d: the record was drawn in %lld steps and not in %lld", k,
                   (long long)f->in[k], (long long)f->out[k]);
    }
    if (!(f->share > 0.999)) {
        audit_fail(f->report, "no record moved the sum by more than %g of what is allowed", f->share);
    }
    audit_say(f->report, "drawn in %lld steps, the sum moved by %.9f C at most; not drawn in %lld, the same bits",
              (long long)in, f->share, (long long)out);
}

audit_report audit_records(const audit_options *options) {
    static network nets[2];
    static pair p;
    audit_report report = { .passed = true };
    findings f = { .report = &report };
    psg_context *context = audit_context(1);
    attack_random random = { attack_hash(options->seed) };
    network_open(context, PSG_F32, &nets[0]);
    network_open(context, PSG_F64, &nets[1]);
    for (f.pair = 0; f.pair < options->n && report.passed; f.pair++) {
        pair_draw(&random, f.pair, &p);
        run_pair(&f, &p, &nets[attack_once_in(&random, 2)]);
    }
    check_coverage(&f);
    for (int k = 0; k < 2; k++) network_close(&nets[k]);
    psg_context_destroy(context);
    return report;
}
