/* Networks of ops (network.h) and what passes over them give: a refusal by name that stays for the rest of its pass, or
 * gradients of which the questions agree, and of each sample the bits that a pass over it alone gives. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "network.h"

enum { MOST_ELEMENTS = 1 << 14 };

typedef struct answers {
    int count;                                   /* parameters */
    int64_t size[NETWORK_PARAMS], batch_size;
    psg_tensor grad_sample[NETWORK_PARAMS], sum[NETWORK_PARAMS];
    double sqnorm[NETWORK_SAMPLES], upper[NETWORK_SAMPLES];
} answers;

static double element(const psg_tensor *x, int64_t k) {
    return x->dtype == PSG_F64 ? ((const double *)x->data)[k] : (double)((const float *)x->data)[k];
}

static int same(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

static void answers_free(answers *a) {
    for (int k = 0; k < NETWORK_PARAMS; k++) {
        free(a->grad_sample[k].data);
        free(a->sum[k].data);
    }
}

/* ---- a pass ---- */

/* Once a pass has failed, everything says so. */
static psg_status check_failed(network *net, psg_var output) {
    psg_status status = psg_tape_status(net->tape);
    const char *message = psg_tape_message(net->tape);
    char before[1024];
    strncpy(before, message, sizeof before - 1)[sizeof before - 1] = 0;
    FUZZ_CHECK(*message && !strncmp(psg_status_name(status), "PSG_ERR_", 8));
    FUZZ_CHECK(status == PSG_ERR_MEMORY || strstr(message, ": "));
    psg_relu(net->tape, output);
    FUZZ_CHECK(psg_backward(net->tape, output) == status && psg_tape_status(net->tape) == status);
    FUZZ_CHECK(!strncmp(psg_tape_message(net->tape), before, sizeof before - 1));
    return status;
}

static psg_status walk(network *net, const psg_pass *pass, int64_t first, int64_t count, int is_ended) {
    psg_var output = psg_none();
    if (network_forward(net, pass, first, count, &output)) {
        return net->tape && psg_tape_status(net->tape) ? check_failed(net, output) : PSG_ERR_MEMORY;
    }
    psg_status status = psg_backward_from(net->tape, output, NULL);
    if (status) return check_failed(net, output);
    if (!is_ended) return PSG_OK;
    FUZZ_CHECK(psg_backward_from(net->tape, output, NULL) == PSG_ERR_STATE);
    return check_failed(net, output);
}

/* ---- answers ---- */

static psg_status ask(network *net, answers *a, int64_t count, int is_ordinary) {
    static psg_gradient gradient[NETWORK_PARAMS];
    const psg_gradient *set[NETWORK_PARAMS];
    psg_context *context = net->context;
    *a = (answers){ .batch_size = count };
    for (int k = 0; k < net->param_count; k++) {
        psg_gradient *g = &gradient[a->count];
        psg_status status = FUZZ_CALL(context, psg_gradient_of(net->tape, net->param[k], g));
        int64_t elements = psg_tensor_count(psg_param_value(net->param[k])), shape[PSG_MAX_RANK] = { count };
        if (status == PSG_ERR_STATE || elements > MOST_ELEMENTS || g->rank + 1 > PSG_MAX_RANK) continue;
        if (status) return status;
        set[a->count] = g;
        memcpy(shape + 1, g->shape, (size_t)g->rank * sizeof *shape);
        a->size[a->count] = elements;
        void *rows = calloc((size_t)(count * elements) + 1, sizeof(double));
        a->grad_sample[a->count] = psg_tensor_of(g->dtype, rows, g->rank + 1, shape);
        a->sum[a->count] = psg_tensor_of(g->dtype, calloc((size_t)elements + 1, sizeof(double)), g->rank, g->shape);
        a->count++;
    }
    if (!a->count) return PSG_OK;
    PSG_TRY(FUZZ_CALL(context, psg_weighted_sum(context, set, (size_t)a->count, NULL, PSG_OVERWRITE, a->sum)));
    if (is_ordinary) return PSG_OK;
    for (int k = 0; k < a->count; k++) {
        PSG_TRY(FUZZ_CALL(context, psg_grad_sample(context, set[k], 1, PSG_OVERWRITE, &a->grad_sample[k])));
    }
    return FUZZ_CALL(context, psg_sqnorm(context, set, (size_t)a->count, a->sqnorm, a->upper, NULL));
}

/* What is materialised is rounded, by far less than the factors here where terms do not cancel. */
static void check_norms(const answers *a, psg_dtype real) {
    for (int64_t n = 0; n < a->batch_size; n++) {
        double square = 0;
        for (int k = 0; k < a->count; k++) {
            for (int64_t i = 0; i < a->size[k]; i++) {
                double g = element(&a->grad_sample[k], n * a->size[k] + i);
                square += g * g;
            }
        }
        FUZZ_CHECK(!(a->upper[n] < a->sqnorm[n]));
        FUZZ_CHECK(!(a->upper[n] < square * (real == PSG_F64 ? 1 - 1e-9 : 1 - 1e-3)));
    }
}

static void check_sums(const answers *a, psg_dtype real) {
    for (int k = 0; k < a->count; k++) {
        double largest = 0;
        for (int64_t i = 0; i < a->size[k] * a->batch_size; i++) {
            largest = fmax(largest, fabs(element(&a->grad_sample[k], i)));
        }
        for (int64_t i = 0; i < a->size[k] && isfinite(largest); i++) {
            double sum = 0;
            for (int64_t n = 0; n < a->batch_size; n++) sum += element(&a->grad_sample[k], n * a->size[k] + i);
            double near = (real == PSG_F64 ? 1e-9 : 1e-2) * (largest + 1);
            FUZZ_CHECK(!(fabs(sum - element(&a->sum[k], i)) > near));
        }
    }
}

static void check_alone(network *net, psg_pass pass, const answers *all, const int64_t *ids, int64_t n) {
    answers one;
    pass.sample_ids = ids + n;
    if (!walk(net, &pass, n, 1, 0) && !ask(net, &one, 1, 0)) {
        FUZZ_CHECK(one.count == all->count);
        for (int k = 0; k < one.count; k++) {
            for (int64_t i = 0; i < one.size[k]; i++) {
                FUZZ_CHECK(same(element(&one.grad_sample[k], i), element(&all->grad_sample[k], n * one.size[k] + i)));
            }
        }
        FUZZ_CHECK(!one.count || (same(one.sqnorm[0], all->sqnorm[n]) && same(one.upper[0], all->upper[n])));
        answers_free(&one);
    }
}

/* ---- an input ---- */

static psg_pass draw_pass(fuzz_bytes *bytes, const int64_t *ids) {
    psg_pass pass = PSG_PASS_INIT;
    pass.loss_reduction = fuzz_one_in(bytes, 4) ? (psg_loss_reduction)fuzz_range(bytes, 0, 2) : PSG_LOSS_SUM;
    pass.evaluation = fuzz_one_in(bytes, 4);
    pass.ordinary = fuzz_one_in(bytes, 6);
    pass.remove_bad_records = fuzz_one_in(bytes, 4);
    pass.allow_updates = fuzz_one_in(bytes, 8);
    pass.dropout_seed = fuzz_byte(bytes);
    if (fuzz_one_in(bytes, 16)) pass.batch_size = fuzz_range(bytes, 0, 9);
    if (fuzz_one_in(bytes, 16)) pass.views = fuzz_range(bytes, 0, 4);
    if (!fuzz_one_in(bytes, 16)) pass.sample_ids = ids;
    return pass;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const int64_t ids[NETWORK_SAMPLES] = { 5, 0, 77, 1 };
    static network net;
    fuzz_bytes bytes = { data, size };
    unsigned fails = fuzz_one_in(&bytes, 6) ? (unsigned)fuzz_range(&bytes, 1, 64) : 0;
    psg_context *context = fuzz_context(fails, fuzz_one_in(&bytes, 2) ? 1 << 20 : 0);
    psg_pass pass = draw_pass(&bytes, ids);
    int is_ended = fuzz_one_in(&bytes, 16);
    answers all = { 0 };
    network_draw(&net, context, &bytes);
    int is_whole = pass.views <= 1 && !pass.batch_size;
    psg_status status = walk(&net, &pass, 0, net.batch_size, is_ended);
    if (!status && is_whole && !ask(&net, &all, net.batch_size, pass.ordinary) && !pass.ordinary) {
        check_norms(&all, net.real);
        check_sums(&all, net.real);
        int may_repeat = !pass.allow_updates && pass.sample_ids;
        for (int64_t n = 0; n < net.batch_size && may_repeat; n++) check_alone(&net, pass, &all, ids, n);
    }
    answers_free(&all);
    network_free(&net);
    fuzz_context_return(context);
    return 0;
}
