#include "record_side.h"

#include <string.h>

/* What reaches the noise. */
static psg_status see_sums(void *user, int64_t *sums, size_t count) {
    side *s = user;
    s->sum_count = count;
    memcpy(s->sums, sums, count * sizeof *sums);
    return PSG_OK;
}

void side_open(side *s, const pair *pair, network *net, bool with) {
    *s = (side){ .pair = pair, .net = net, .with = with };
    s->generator = audit_generator(net->context, pair->key, 0);
    AUDIT_OK(net->context, psg_context_force_route(net->context, pair->route));
    AUDIT_OK(net->context, psg_dp_create(net->context, s->generator, &pair->options, network_counts, RECORD_PARAMS,
                                         &s->dp));
    psg_dp_set_reduce(s->dp, see_sums, s);
}

void side_close(side *s) {
    psg_dp_destroy(s->dp);
    psg_generator_destroy(s->generator);
}

/* Half of the records, of the caller's choice: the same on both sides. */
static psg_status take(side *s) {
    attack_random random = { s->pair->key + psg_dp_step(s->dp) };
    int64_t ids[MOST_RECORDS], count = 0;
    for (int64_t n = 0; n < s->pair->data.count; n++) {
        if (attack_once_in(&random, 2)) ids[count++] = n;
    }
    return psg_dp_take(s->dp, ids, count, &s->batch);
}

static psg_status add(side *s, const psg_batch *part) {
    psg_gradient gradients[RECORD_PARAMS];
    const psg_gradient *list[RECORD_PARAMS];
    for (int k = 0; k < RECORD_PARAMS; k++) list[k] = &gradients[k];
    psg_status status = network_pass(s->net, &s->pair->data, part, gradients);
    return status ? status : psg_dp_accumulate(s->dp, part, list, RECORD_PARAMS, NULL);
}

/* The records that are there; an empty batch is one empty pass. */
static psg_status add_batch(side *s) {
    int64_t there[MOST_RECORDS];
    psg_batch all = s->batch;
    const int64_t most = s->pair->micro_batch[s->with];
    all.ids = there;
    all.count = 0;
    for (int64_t n = 0; n < s->batch.count; n++) {
        if (s->with || s->ids[n] != s->pair->target) there[all.count++] = s->ids[n];
    }
    int64_t first = 0;
    do {
        const int64_t rest = all.count - first, count = rest < most ? rest : most;
        const psg_batch part = psg_batch_part(&all, first, count);
        psg_status status = add(s, &part);
        if (status) return status;
        first += count;
    } while (first < all.count);
    return PSG_OK;
}

static psg_status release(side *s) {
    psg_tensor outs[RECORD_PARAMS];
    double *out = s->out;
    for (int k = 0; k < RECORD_PARAMS; out += network_counts[k++]) {
        outs[k] = psg_tensor_of(PSG_F64, out, 1, &network_counts[k]);
    }
    return psg_dp_release(s->dp, outs, RECORD_PARAMS);
}

static psg_status state(side *s) {
    psg_status status = PSG_OK;
    for (int k = 0; !status && k < 2; k++) {
        status = psg_dp_statement(s->dp, 1e-5, (psg_statement_format)k, s->text[k], SIDE_TEXT, NULL);
    }
    return status;
}

void side_step(side *s) {
    s->max_grad_norm = psg_dp_max_grad_norm(s->dp);
    s->status = s->pair->options.sampling == PSG_SAMPLING_EXTERNAL ? take(s) : psg_dp_sample(s->dp, &s->batch);
    if (s->status) return;
    memcpy(s->ids, s->batch.ids, (size_t)s->batch.count * sizeof *s->ids);
    s->status = add_batch(s);
    if (!s->status) s->status = release(s);
    if (!s->status) s->status = state(s);
}

bool side_has_target(const side *s) {
    for (int64_t n = 0; n < s->batch.count; n++) {
        if (s->ids[n] == s->pair->target) return true;
    }
    return false;
}
