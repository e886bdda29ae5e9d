#include "attack_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const attack_routes[ATTACK_ROUTES] = { NULL, "identity", "gram", "tiles", "keep", "recompute" };

/* ---- contexts ---- */

static int64_t numel_of(const attack_shapes *shapes, int k) {
    int64_t numel = 1;
    for (int d = 0; d < shapes->rank[k]; d++) numel *= shapes->shape[k][d];
    return numel;
}

/* Each gradient of `samples` samples begins at a multiple of 64 bytes. */
static size_t held(const attack_settings *s, const attack_shapes *shapes, int64_t samples, size_t alignment) {
    size_t bytes = 0;
    for (int k = 0; k < shapes->params; k++) {
        size_t more = (size_t)(samples * numel_of(shapes, k)) * psg_dtype_size(s->dtype);
        bytes += (more + alignment - 1) / alignment * alignment;
    }
    return bytes;
}

static size_t budget_of(const attack_settings *s, const attack_shapes *shapes) {
    switch (s->budget) {
    case BUDGET_BYTES_OF_B: return held(s, shapes, s->batch, 1);
    case BUDGET_OF_B: return held(s, shapes, s->batch, 64);
    case BUDGET_OF_B_AND_ONE: return held(s, shapes, s->batch + 1, 64);
    case BUDGET_OF_MOST: return held(s, shapes, s->max_batch_size < 4096 ? s->max_batch_size : 4096, 64);
    case BUDGET_PLENTY: return (size_t)1 << 30;
    default: return 0;
    }
}

static psg_context *create(const char *isa, unsigned threads, size_t budget) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.isa = isa;
    options.threads = threads;
    options.memory_budget = budget;
    psg_context *context;
    return psg_context_create(&options, &context) == PSG_OK ? context : NULL;
}

int attack_isas(const char *isas[3]) {
    static const char *const names[3] = { "baseline", "avx2", "avx512" };
    static const char *present[3];
    static int count;
    for (int k = 0; k < 3 && count <= k; k++) {
        psg_context *context = create(names[k], 1, 0);
        if (!context) break;
        present[count++] = names[k];
        psg_context_destroy(context);
    }
    memcpy(isas, present, sizeof present);
    return count;
}

psg_context *attack_context(const attack_settings *settings, bool with, const attack_shapes *shapes) {
    const char *isas[3];
    int count = attack_isas(isas);
    const char *isa = isas[settings->isa < count ? settings->isa : count - 1];
    psg_context *context = create(isa, settings->threads[with], budget_of(settings, shapes));
    if (!context || psg_context_force_route(context, attack_routes[settings->route]) != PSG_OK) {
        fputs("attack: no context\n", stderr);
        exit(EXIT_FAILURE);
    }
    return context;
}

/* ---- sums ---- */

/* Noise of multiplier 1: a record may move the integers by 2^36. */
static const double most_units = 0x1p36;

static void open_mechanism(attack_sum *sum, const attack_shapes *shapes) {
    psg_dp_options options = PSG_DP_OPTIONS_INIT;
    int64_t counts[ATTACK_MOST_PARAMS];
    for (int k = 0; k < shapes->params; k++) counts[k] = numel_of(shapes, k);
    options.sampling = PSG_SAMPLING_EXTERNAL;
    options.noise_multiplier = options.expected_batch_size = 1;
    options.max_grad_norm = sum->settings->max_grad_norm;
    options.max_batch_size = sum->settings->max_batch_size;
    options.clipping = sum->settings->clipping;
    options.group_count = sum->settings->groups ? shapes->params : 1;
    psg_status status = psg_generator_create(sum->context, &sum->generator);
    if (!status) {
        status = psg_dp_create(sum->context, sum->generator, &options, counts, (size_t)shapes->params, &sum->dp);
    }
    attack_refuse(sum, status, psg_context_message(sum->context));
}

static psg_status accumulate(attack_sum *sum, const psg_gradient *const *gradients) {
    int64_t count = gradients[0]->batch_size, *ids = calloc((size_t)count + 1, sizeof *ids);
    psg_batch batch;
    for (int64_t n = 0; n < count; n++) ids[n] = sum->next++;
    psg_status status = psg_dp_take(sum->dp, ids, count, &batch);
    free(ids);
    return status ? status : psg_dp_accumulate(sum->dp, &batch, gradients, (size_t)sum->params, NULL);
}

/* What reaches the noise. */
static psg_status take_sums(void *user, int64_t *sums, size_t count) {
    attack_sum *sum = user;
    for (size_t i = 0; i < count; i++) sum->values[i] = (double)sums[i];
    return PSG_ERR_STATE;
}

void attack_finish(attack_sum *sum) {
    psg_tensor outs[ATTACK_MOST_PARAMS];
    if (!sum->settings->mechanism) return;
    memcpy(outs, sum->outs, sizeof outs);
    psg_dp_set_reduce(sum->dp, take_sums, sum);
    if (sum->status == PSG_OK) psg_dp_release(sum->dp, outs, (size_t)sum->params);
    psg_dp_destroy(sum->dp);
    psg_generator_destroy(sum->generator);
}

attack_sum attack_sum_new(attack_memory *memory, const attack_settings *settings, psg_context *context,
                          const attack_shapes *shapes) {
    attack_sum sum = { .settings = settings, .context = context, .params = shapes->params };
    for (int k = 0; k < shapes->params; k++) sum.count += numel_of(shapes, k);
    double *values = sum.values = attack_take(memory, (size_t)sum.count, sizeof *values);
    for (int k = 0; k < shapes->params; k++) {
        sum.outs[k] = psg_tensor_of(PSG_F64, values, shapes->rank[k], shapes->shape[k]);
        values += numel_of(shapes, k);
    }
    if (settings->mechanism) open_mechanism(&sum, shapes);
    return sum;
}

void attack_refuse(attack_sum *sum, psg_status status, const char *message) {
    if (sum->status != PSG_OK || status == PSG_OK) return;
    sum->status = status;
    snprintf(sum->message, sizeof sum->message, "%s", message);
}

void attack_add(attack_sum *sum, const psg_gradient *const *gradients, bool micro_batches) {
    if (sum->status != PSG_OK) return;
    psg_clip clip = PSG_CLIP_INIT;
    psg_write write = micro_batches ? PSG_ACCUMULATE : PSG_OVERWRITE;
    clip.max_grad_norm = sum->settings->max_grad_norm;
    clip.max_batch_size = sum->settings->max_batch_size;
    psg_status status = sum->dp ? accumulate(sum, gradients)
                                : psg_clipped_sum(sum->context, gradients, (size_t)sum->params, &clip, write,
                                                  sum->outs, NULL, NULL, NULL);
    if (status != PSG_OK) attack_refuse(sum, status, psg_context_message(sum->context));
}

bool attack_next_chunk(const attack_side *side, int64_t first, int64_t *last) {
    int64_t chunk = side->pair->settings.chunk[side->with];
    if (first >= side->samples && (chunk || first || side->samples)) return false;
    *last = !chunk || side->samples - first < chunk ? side->samples : first + chunk;
    return true;
}

static attack_outcome refused(const attack_sum *with, const attack_sum *without) {
    bool both = with->status != PSG_OK && without->status != PSG_OK;
    attack_outcome outcome = { both ? REFUSED : REFUSED_ONE_SIDE, 0, "" };
    memcpy(outcome.message, with->status ? with->message : without->message, sizeof outcome.message);
    return outcome;
}

attack_outcome attack_judge(const attack_sum *with, const attack_sum *without, double max_grad_norm) {
    if (with->status != PSG_OK || without->status != PSG_OK) return refused(with, without);
    return attack_compare(with->values, without->values, with->count,
                          with->settings->mechanism ? most_units : max_grad_norm);
}

/* ---- blocks ---- */

static attack_shapes shapes_of(const attack_set *set) {
    attack_shapes shapes = { .params = set->params };
    for (int k = 0; k < set->params; k++) {
        shapes.rank[k] = 2;
        shapes.shape[k][0] = set->rows[k];
        shapes.shape[k][1] = set->columns[k];
    }
    return shapes;
}

static void sum_blocks(attack_memory *memory, const attack_side *side, attack_sum *sum) {
    attack_built built = attack_build_set(memory, side);
    psg_block blocks[ATTACK_BLOCKS];
    psg_gradient gradients[ATTACK_PARAMS];
    const psg_gradient *list[ATTACK_PARAMS];
    for (int k = 0; k < ATTACK_PARAMS; k++) list[k] = &gradients[k];
    for (int64_t first = 0, last = 0; attack_next_chunk(side, first, &last); first = last ? last : 1) {
        attack_gradients(&built, first, last, blocks, gradients);
        attack_add(sum, list, side->pair->settings.chunk[side->with] != 0);
    }
}

static attack_outcome run_blocks(const attack_pair *pair) {
    attack_memory memory = { .count = 0 };
    attack_shapes shapes = shapes_of(&pair->set);
    attack_sum sum[2];
    for (int with = 0; with < 2; with++) {
        attack_side side = attack_side_of(pair, with);
        psg_context *context = attack_context(&pair->settings, with, &shapes);
        sum[with] = attack_sum_new(&memory, &pair->settings, context, &shapes);
        sum_blocks(&memory, &side, &sum[with]);
        attack_finish(&sum[with]);
        psg_context_destroy(context);
    }
    attack_outcome outcome = attack_judge(&sum[1], &sum[0], pair->settings.max_grad_norm);
    attack_free(&memory);
    return outcome;
}

static attack_outcome run(const attack_pair *pair) {
    return attack_families[pair->family].tape ? attack_run_network(pair) : run_blocks(pair);
}

/* The worse of what psg_clipped_sum and psg_dp make of it. */
attack_outcome attack_run(const attack_pair *pair) {
    attack_pair again = *pair;
    again.settings.mechanism = true;
    again.settings.clipping = (psg_clipping)(pair->contents.seed % 3);
    again.settings.groups = pair->contents.seed / 3 % 4 == 0;
    attack_outcome sum = run(pair), mechanism = run(&again);
    if (sum.verdict == BROKEN || mechanism.verdict == REFUSED) return sum;
    if (mechanism.verdict == HELD && (sum.verdict != HELD || sum.share >= mechanism.share)) return sum;
    return mechanism;
}
