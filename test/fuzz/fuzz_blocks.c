/* Questions of sets of raw blocks (block_draw.h).  On an error no output has changed.  All questions of a set that one
 * answers are answered; their answers agree with the materialised gradient, which is compared with plain loops where no
 * number is odd.  Every bit of sample n is that of n alone, and a record moves the clipped sum by at most C. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../gradient_values.h"
#include "block_draw.h"

enum { MOST_PARAMETER = 4096, FILL = 0x5a };
static const double bound_of_record = 0.5;   /* C */

/* ---- outputs ---- */

typedef struct outputs {
    int64_t size[DRAWN_GRADIENTS], total;        /* elements of the parameters */
    psg_tensor grad[DRAWN_GRADIENTS], sum[DRAWN_GRADIENTS], direction[DRAWN_GRADIENTS];
    double *sqnorm, *upper, *norms, *factors, *dots, *gram;
    char *memory, *end;
} outputs;

static double *doubles(outputs *o, int64_t count) {
    double *values = (double *)(void *)o->end;
    o->end += (size_t)count * sizeof *values;
    return values;
}

/* 0: a set whose parameters are too large to write. */
static int outputs_make(outputs *o, const drawn_set *set, psg_dtype sums) {
    int64_t B = set->batch_size;
    *o = (outputs){ .total = 0 };
    for (size_t k = 0; k < set->count; k++) {
        const psg_gradient *g = set->list[k];
        psg_tensor view = psg_tensor_of(PSG_F64, NULL, g->rank, g->shape);
        o->size[k] = psg_tensor_count(&view);
        if (o->size[k] < 0 || o->size[k] > MOST_PARAMETER || g->batch_size != B) return 0;
        for (int d = 0; d < g->rank; d++) {
            if (g->shape[d] > MOST_PARAMETER) return 0;
        }
        o->total += o->size[k];
    }
    o->memory = o->end = malloc((size_t)((B + 2) * o->total + 5 * B + B * B + 1) * sizeof(double));
    FUZZ_CHECK(o->memory);
    for (size_t k = 0; k < set->count; k++) {
        const psg_gradient *g = set->list[k];
        int64_t shape[PSG_MAX_RANK] = { B };
        memcpy(shape + 1, g->shape, (size_t)g->rank * sizeof *shape);
        o->grad[k] = psg_tensor_of(g->dtype, doubles(o, B * o->size[k]), g->rank + 1, shape);
        o->sum[k] = psg_tensor_of(sums, doubles(o, o->size[k]), g->rank, g->shape);
        o->direction[k] = psg_tensor_of(g->dtype, doubles(o, o->size[k]), g->rank, g->shape);
        memset(o->direction[k].data, 0x3f, (size_t)o->size[k] * sizeof(double));   /* small numbers of either type */
    }
    double **arrays[] = { &o->sqnorm, &o->upper, &o->norms, &o->factors, &o->dots };
    for (size_t k = 0; k < 5; k++) *arrays[k] = doubles(o, B);
    o->gram = doubles(o, B * B);
    return 1;
}

static void clear(outputs *o) {
    for (size_t k = 0; k < DRAWN_GRADIENTS; k++) {
        if (o->grad[k].data) memset(o->grad[k].data, FILL, (size_t)psg_tensor_count(&o->grad[k]) * sizeof(double));
        if (o->sum[k].data) memset(o->sum[k].data, FILL, (size_t)o->size[k] * sizeof(double));
    }
    memset(o->sqnorm, FILL, (size_t)(o->end - (char *)o->sqnorm));
}

static int is_clear(const outputs *o) {
    const char *tail = (const char *)o->sqnorm;
    for (size_t k = 0; k < DRAWN_GRADIENTS && o->grad[k].data; k++) {
        const char *grad = o->grad[k].data, *sum = o->sum[k].data;
        for (int64_t i = 0; i < psg_tensor_count(&o->grad[k]) * (int64_t)sizeof(double); i++) {
            if (grad[i] != FILL) return 0;
        }
        for (int64_t i = 0; i < o->size[k] * (int64_t)sizeof(double); i++) {
            if (sum[i] != FILL) return 0;
        }
    }
    while (tail < o->end && *tail == FILL) tail++;
    return tail == o->end;
}

/* ---- asking ---- */

static psg_status ask(psg_context *context, const drawn_set *set, outputs *o, int question) {
    const psg_clip clip = { bound_of_record, 1000, PSG_CLIP_FLAT, 0, { 0 } };
    psg_clip_report report;
    int64_t fallbacks;
    psg_status status = PSG_OK;
    clear(o);
    fuzz_before(context);
    switch (question) {
    case PSG_ASK_SQNORM: status = psg_sqnorm(context, set->list, set->count, o->sqnorm, o->upper, &fallbacks); break;
    case PSG_ASK_WEIGHTED_SUM:
        status = psg_weighted_sum(context, set->list, set->count, NULL, PSG_OVERWRITE, o->sum);
        break;
    case PSG_ASK_CLIPPED_SUM:
        status = psg_clipped_sum(context, set->list, set->count, &clip, PSG_OVERWRITE, o->sum, o->norms, o->factors,
                                 &report);
        break;
    case PSG_ASK_DOT: status = psg_dot(context, set->list, set->count, o->direction, o->dots); break;
    case PSG_ASK_GRAM: status = psg_gram(context, set->list, set->count, o->gram); break;
    case PSG_ASK_SUM_OF_SQUARES:
        status = psg_sum_of_squares(context, set->list, set->count, PSG_OVERWRITE, o->sum);
        break;
    default: status = psg_grad_sample(context, set->list[0], 1, PSG_OVERWRITE, &o->grad[0]);
    }
    status = fuzz_after(context, status);
    FUZZ_CHECK(!status || is_clear(o));
    return status;
}

static int same(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

static double element(const psg_tensor *x, int64_t k) {
    return x->dtype == PSG_F64 ? ((const double *)x->data)[k] : (double)((const float *)x->data)[k];
}

/* ---- sample n alone ---- */

static void check_alone(psg_context *context, const drawn_set *set, const outputs *o, int question, int64_t n) {
    drawn_set alone;
    outputs one;
    drawn_set_alone(set, n, &alone);
    FUZZ_CHECK(outputs_make(&one, &alone, PSG_F64));
    psg_status status = ask(context, &alone, &one, question);
    FUZZ_CHECK(status == PSG_OK);
    if (question == PSG_ASK_SQNORM) {
        FUZZ_CHECK(same(o->sqnorm[n], one.sqnorm[0]) && same(o->upper[n], one.upper[0]));
    } else if (question == PSG_ASK_DOT) {
        FUZZ_CHECK(same(o->dots[n], one.dots[0]));
    } else if (question == PSG_ASK_CLIPPED_SUM) {
        FUZZ_CHECK(same(o->norms[n], one.norms[0]) && same(o->factors[n], one.factors[0]));
    }
    for (int64_t k = 0; question == PSG_ASK_GRAD_SAMPLE && k < o->size[0]; k++) {
        FUZZ_CHECK(same(element(&o->grad[0], n * o->size[0] + k), element(&one.grad[0], k)));
    }
    free(one.memory);
}

/* ---- what a record moves: a record that is bad is not there ---- */

static void check_moved(psg_context *context, const drawn_set *set, const outputs *with, int64_t n) {
    drawn_set others = *set;
    outputs without;
    long double moved = 0;
    unsigned char bad[DRAWN_SAMPLES] = { 0 };
    memcpy(bad, set->bad, sizeof bad);
    bad[n] = 1;
    others.of[0].gradient.bad = bad;
    others.list[0] = &others.of[0].gradient;
    FUZZ_CHECK(outputs_make(&without, &others, PSG_F64));
    FUZZ_CHECK(ask(context, &others, &without, PSG_ASK_CLIPPED_SUM) == PSG_OK);
    for (size_t k = 0; k < set->count; k++) {
        for (int64_t i = 0; i < with->size[k]; i++) {
            long double by = (long double)element(&with->sum[k], i) - element(&without.sum[k], i);
            FUZZ_CHECK(isfinite(by));
            moved += by * by;
        }
    }
    FUZZ_CHECK(sqrtl(moved) <= bound_of_record);
    free(without.memory);
}

/* ---- plain loops ---- */

typedef struct exact {
    long double square;          /* of the norm over all gradients */
    double mass;                 /* sum_t |scale| |backprop_t| |activation_t| over all blocks */
    int is_finite;
} exact;

static int has_terms(const psg_block *block) {
    return block_positions(block) && block->backprop.shape[block->backprop.rank - 1];
}

static void add_derived(const psg_block *block, int64_t n, long double *value, double *terms, double *mass) {
    const psg_derivation *d = block->derivation;
    size_t count = (size_t)(d->rows * d->columns), width = (size_t)d->width;
    long double *e = calloc(count + 1, sizeof *e);
    double *e_terms = calloc(count + 1, sizeof *e_terms), *e_row = calloc((size_t)d->columns + 1, sizeof *e_row);
    double *pulled = calloc(width + 1, sizeof *pulled), e_mass = 0;
    if (has_terms(d->blocks)) block_add_values(d->blocks, n, e, e_terms, &e_mass);
    for (int64_t i = 0; i < d->rows; i++) {
        for (int64_t j = 0; j < d->columns; j++) e_row[j] = (double)e[i * d->columns + j];
        d->pull(d->user, i, 1, e_row, pulled);
        for (size_t j = 0; j < width; j++) value[(size_t)i * width + j] += block->scale * pulled[j];
        d->pull(d->user, i, 1, e_terms + i * d->columns, pulled);
        for (size_t j = 0; j < width; j++) terms[(size_t)i * width + j] += fabs(block->scale * pulled[j]);
    }
    *mass += fabs(block->scale) * d->norm(d->user, 0) * e_mass;
    free(e);
    free(e_terms);
    free(e_row);
    free(pulled);
}

/* Gradient k of sample n; sums its square and compares it with what the library materialised. */
static void add_exact(const drawn_set *set, const outputs *o, size_t k, int64_t n, exact *sum) {
    const psg_gradient *g = set->list[k];
    long double *value = calloc((size_t)o->size[k] + 1, sizeof *value);
    double *terms = calloc((size_t)o->size[k] + 1, sizeof *terms);
    for (size_t b = 0; b < g->block_count; b++) {
        if (g->blocks[b].form == PSG_DERIVED) add_derived(&g->blocks[b], n, value, terms, &sum->mass);
        else if (has_terms(&g->blocks[b])) block_add_values(&g->blocks[b], n, value, terms, &sum->mass);
    }
    for (int64_t i = 0; i < o->size[k]; i++) {
        sum->square += value[i] * value[i];
        sum->is_finite &= isfinite(value[i]) && terms[i] < 1e300;
        if (!k && set->is_plain && !(g->bad && g->bad[n])) {
            double near = test_bound(set->dtype, 256, terms[i]), is = element(&o->grad[0], n * o->size[0] + i);
            FUZZ_CHECK(fabs(is - (double)value[i]) <= near);
        }
    }
    free(value);
    free(terms);
}

/* In long double the sums of exact() round by less than 2^-50 of the mass. */
static void check_norm(const drawn_set *set, const outputs *norms, const outputs *o, int64_t n) {
    exact x = { .is_finite = 1 };
    int is_bad = set->of[0].gradient.bad && set->bad[n];
    for (size_t k = 0; k < set->count; k++) add_exact(set, o, k, n, &x);
    long double rounding = 0x1p-50L * (long double)x.mass * (long double)x.mass;
    if (is_bad) FUZZ_CHECK(!isfinite(norms->sqnorm[n]));
    if (is_bad || !x.is_finite) return;
    FUZZ_CHECK(!((long double)norms->upper[n] < x.square - rounding));
    FUZZ_CHECK(!(norms->upper[n] < norms->sqnorm[n]));
    if (set->is_plain) {
        double near = test_bound(set->dtype, 256, x.mass * x.mass);
        FUZZ_CHECK(fabs(norms->sqnorm[n] - (double)x.square) <= near);
    }
}

/* ---- an input ---- */

/* Questions of one set with the same arguments are refused alike, but for what memory they want. */
static void check_statuses(const psg_status *status, unsigned fails, size_t count) {
    for (int q = 0; q < PSG_QUESTION_COUNT && !fails; q++) {
        int is_of_first = q == PSG_ASK_GRAD_SAMPLE && count > 1;   /* and asks no other gradient */
        FUZZ_CHECK(is_of_first ? !status[q] || status[PSG_ASK_SQNORM] : status[q] == status[PSG_ASK_SQNORM]);
    }
}

static void check_answers(psg_context *context, const drawn_set *set, outputs *o) {
    outputs norms;
    FUZZ_CHECK(outputs_make(&norms, set, PSG_F64));
    FUZZ_CHECK(ask(context, set, &norms, PSG_ASK_SQNORM) == PSG_OK);
    for (int64_t n = 0; n < set->batch_size; n++) check_alone(context, set, &norms, PSG_ASK_SQNORM, n);
    FUZZ_CHECK(ask(context, set, o, PSG_ASK_GRAD_SAMPLE) == PSG_OK);
    for (int64_t n = 0; n < set->batch_size; n++) {
        check_alone(context, set, o, PSG_ASK_GRAD_SAMPLE, n);
        if (set->is_known) check_norm(set, &norms, o, n);
    }
    FUZZ_CHECK(ask(context, set, o, PSG_ASK_DOT) == PSG_OK);
    for (int64_t n = 0; n < set->batch_size; n++) check_alone(context, set, o, PSG_ASK_DOT, n);
    FUZZ_CHECK(ask(context, set, o, PSG_ASK_CLIPPED_SUM) == PSG_OK);
    for (int64_t n = 0; n < set->batch_size; n++) {
        check_alone(context, set, o, PSG_ASK_CLIPPED_SUM, n);
        check_moved(context, set, o, n);
    }
    free(norms.memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_bytes bytes = { data, size };
    unsigned fails = fuzz_one_in(&bytes, 4) ? (unsigned)fuzz_range(&bytes, 1, 16) : 0;
    psg_context *context = fuzz_context(fails, fuzz_one_in(&bytes, 2) ? 1 << 16 : 0);
    static const char *const routes[] = { NULL, "identity", "gram", "tiles", "keep", "recompute" };
    FUZZ_CHECK(psg_context_force_route(context, routes[fuzz_range(&bytes, 0, 5)]) == PSG_OK);
    drawn_set set;
    outputs o;
    psg_status status[PSG_QUESTION_COUNT];
    drawn_set_make(&set, &bytes);
    if (outputs_make(&o, &set, PSG_F64)) {
        for (int q = 0; q < PSG_QUESTION_COUNT; q++) status[q] = ask(context, &set, &o, q);
        check_statuses(status, fails, set.count);
        if (!fails && !status[PSG_ASK_SQNORM]) check_answers(context, &set, &o);
        free(o.memory);
    } else {
        FUZZ_CALL(context, psg_plan_text(context, PSG_ASK_SQNORM, set.list, set.count, NULL, NULL, 0, NULL));
    }
    drawn_set_free(&set);
    fuzz_context_return(context);
    return 0;
}
