/* Save and resume. */
#include <math.h>
#include <string.h>

#include <sodium.h>

#include "base/context.h"
#include "base/file.h"
#include "base/floats.h"
#include "base/reserved.h"
#include "dp/account.h"
#include "dp/checkpoint_tensors.h"
#include "dp/facts.h"
#include "dp/random.h"
#include "dp/ranks.h"
#include "dp/ranks_slices.h"
#include "io/tensors.h"
#include "optim/optimizer.h"

#define FORMAT_KEY "psg_checkpoint"
#define FORMAT_VERSION "1"

static psg_status check_arguments(const psg_dp *dp, const char *function, const psg_checkpoint *checkpoint,
                                  const char *path) {
    if (!checkpoint || !path) return psg_fail_null(dp->context, function, checkpoint ? "path" : "checkpoint");
    if (psg_reserved_is_set(checkpoint->reserved)) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "%s: checkpoint" PSG_RESERVED_TEXT, function);
    }
    if (dp->ranks.rank) return psg_generator_check(dp->generator, function);   /* rank 0 has the file and the ledger */
    if (!dp->ledger) {
        return psg_fail(dp->context, PSG_ERR_STATE, "%s: the mechanism has no ledger, without which steps after the "
                        "checkpoint would not be counted; must have one: psg_dp_options.ledger", function);
    }
    if (psg_ledger_is_at(dp->ledger, path)) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "%s: path, or the temporary file beside it, is the ledger, must be "
                        "another", function);
    }
    return psg_generator_check(dp->generator, function);
}

/* ---- save ---- */

static psg_checkpoint_numbers numbers_of(const psg_dp *dp, const psg_optimizer *optimizer) {
    return (psg_checkpoint_numbers){ .step = (int64_t)dp->step,
                                     .optimizer_steps = (int64_t)psg_optimizer_steps(optimizer),
                                     .ledger_lines = dp->ledger ? (int64_t)psg_ledger_last(dp->ledger).lines : 0,
                                     .lr = psg_optimizer_lr(optimizer),
                                     .max_grad_norm = dp->max_grad_norm };
}

/* The run that has recorded the steps so far: a mechanism that goes on with a new key has no line before its first
 * release. */
static const char *recorded_run(const psg_dp *dp) {
    const bool is_own = psg_ledger_runs_end(psg_ledger_all(dp->ledger), dp->run) >= dp->step;
    return is_own || !dp->resumed[0] ? dp->run : dp->resumed;
}

static psg_status write_checkpoint(const psg_dp *dp, const psg_checkpoint_tensors *tensors,
                                   const psg_optimizer *optimizer, const char *path) {
    const psg_ledger_mark mark = psg_ledger_last(dp->ledger);
    psg_dp_fact facts[PSG_DP_FACTS];
    psg_text_pair pairs[PSG_DP_FACTS + 4] = { { FORMAT_KEY, FORMAT_VERSION },
                                              { "library", psg_version() },
                                              { "run", recorded_run(dp) },
                                              { "ledger_hash", mark.hash } };
    psg_dp_say_facts(dp, optimizer, facts);
    for (size_t k = 0; k < PSG_DP_FACTS; k++) pairs[k + 4] = (psg_text_pair){ facts[k].key, facts[k].value };
    const psg_source to = { dp->context, "psg_dp_save", path };
    return psg_tensors_write(&to, tensors->list, tensors->count, pairs, PSG_DP_FACTS + 4);
}

/* Of several ranks: what is gathered or broadcast as one is the same everywhere. */
static psg_status check_alike(const psg_dp *dp, const char *function, const psg_checkpoint_tensors *tensors) {
    crypto_generichash_state hash;
    unsigned char bytes[crypto_generichash_BYTES_MIN];
    int64_t value;
    crypto_generichash_init(&hash, NULL, 0, sizeof bytes);
    for (size_t k = 0; k < tensors->count; k++) {
        const psg_named *one = &tensors->list[k];
        const int64_t facts[2] = { one->tensor.dtype, psg_tensor_count(&one->tensor) };
        crypto_generichash_update(&hash, (const void *)one->name, strlen(one->name) + 1);
        crypto_generichash_update(&hash, (const void *)facts, sizeof facts);
    }
    crypto_generichash_final(&hash, bytes, sizeof bytes);
    memcpy(&value, bytes, sizeof value);
    return psg_ranks_same(dp, function, "a hash of the checkpoint's names, types and sizes", value);
}

static psg_status save(psg_dp *dp, const psg_checkpoint *checkpoint, const char *path) {
    psg_checkpoint_numbers numbers = numbers_of(dp, checkpoint->optimizer);
    psg_checkpoint_tensors tensors;
    const psg_status made = psg_checkpoint_tensors_of(dp, "psg_dp_save", checkpoint, &numbers, &tensors);
    psg_status status = psg_ranks_agree(dp, "psg_dp_save", made);
    if (!status) status = check_alike(dp, "psg_dp_save", &tensors);
    if (!status) status = psg_slices_gather_state(dp, "psg_dp_save", checkpoint->optimizer);
    const bool writes = !status && dp->ranks.rank == 0;
    if (writes) status = write_checkpoint(dp, &tensors, checkpoint->optimizer, path);
    if (!made) psg_checkpoint_tensors_free(&tensors);
    return status;
}

psg_status psg_dp_save(psg_dp *dp, const psg_checkpoint *checkpoint, const char *path) {
    PSG_DEFAULT_FLOATS;
    if (!dp) return PSG_ERR_ARGUMENT;
    psg_status status = psg_ranks_agree(dp, "psg_dp_save", check_arguments(dp, "psg_dp_save", checkpoint, path));
    if (!status) status = psg_ranks_agree(dp, "psg_dp_save", save(dp, checkpoint, path));
    return status;
}

/* ---- load: what the file says ---- */

typedef struct loading {
    psg_dp *dp;
    const psg_checkpoint *checkpoint;
    const char *path;
    psg_tensors *file;
    psg_checkpoint_numbers numbers;
    const char *run;               /* that made the checkpoint; the file's */
    psg_ledger_mark mark;
} loading;

static psg_status refuse(const loading *l, const char *what, const char *found, const char *wanted) {
    return psg_fail_format(l->dp->context, "psg_dp_load", l->path, "%s is %s, must be %s", what,
                           found ? found : "missing", wanted);
}

static psg_status check_version(const loading *l) {
    const char *version = psg_tensors_metadata(l->file, FORMAT_KEY);
    if (version && !strcmp(version, FORMAT_VERSION)) return PSG_OK;
    return refuse(l, "the format " FORMAT_KEY, version, FORMAT_VERSION " for this library");
}

/* A noise_multiplier may follow from a budget. */
static psg_status refuse_fact(const loading *l, const psg_dp_fact *fact, const char *found) {
    const bool follows = !strcmp(fact->key, "noise_multiplier") && l->dp->options.epsilon > 0;
    return psg_fail_format(l->dp->context, "psg_dp_load", l->path, "%s is %s, must be %s%s: a run goes on with the model, "
                           "optimizer and options that were saved", fact->key, found ? found : "missing", fact->value,
                           follows ? " as it follows from epsilon, delta and steps, or is given" : "");
}

static psg_status check_facts(const loading *l) {
    psg_dp_fact facts[PSG_DP_FACTS];
    psg_status status = PSG_OK;
    psg_dp_say_facts(l->dp, l->checkpoint->optimizer, facts);
    for (size_t k = 0; !status && k < PSG_DP_FACTS; k++) {
        const char *found = psg_tensors_metadata(l->file, facts[k].key);
        if (!found || strcmp(found, facts[k].value)) status = refuse_fact(l, &facts[k], found);
    }
    return status;
}

/* Numbers that a mechanism can have. */
static psg_status read_numbers(loading *l) {
    psg_checkpoint_numbers *n = &l->numbers;
    if (!psg_checkpoint_find_numbers(l->file, n)) return refuse(l, "a number psg.*", NULL, "there, of its type");
    if (n->step < 0 || n->optimizer_steps < 0 || n->ledger_lines < 0) {
        return refuse(l, "a count psg.*", "negative", "at least 0");
    }
    if (!psg_dp_has_quantile(l->dp) && n->max_grad_norm != l->dp->options.max_grad_norm) {
        return psg_fail_format(l->dp->context, "psg_dp_load", l->path, "psg.max_grad_norm is %g, must be %g",
                               n->max_grad_norm, l->dp->options.max_grad_norm);
    }
    if (!(n->lr >= 0 && isfinite(n->lr))) return refuse(l, "psg.lr", "no rate", "finite and at least 0");
    if (psg_grid_of(l->dp->gradient_noise, n->max_grad_norm, (double)psg_dp_total(l->dp)).unit > 0) return PSG_OK;
    return refuse(l, "psg.max_grad_norm", "no bound", "from 1e-100 to 1e100");
}

static psg_status read_mark(loading *l) {
    const char *hash = psg_tensors_metadata(l->file, "ledger_hash");
    l->run = psg_tensors_metadata(l->file, "run");
    if (!l->run || !psg_is_run(l->run)) return refuse(l, "run", l->run, "of 32 hexadecimal digits");
    if (!hash || strlen(hash) != PSG_LINE_HASH_TEXT - 1) return refuse(l, "ledger_hash", hash, "of 64 digits");
    l->mark.lines = (uint64_t)l->numbers.ledger_lines;
    memcpy(l->mark.hash, hash, PSG_LINE_HASH_TEXT);
    return PSG_OK;
}

/* The steps of the checkpoint are in the ledger. */
static psg_status check_steps(const loading *l) {
    uint64_t end = psg_ledger_runs_end(psg_ledger_all(l->dp->ledger), l->run);
    if (end >= (uint64_t)l->numbers.step) return PSG_OK;
    return psg_fail_format(l->dp->context, "psg_dp_load", l->path, "the step is %lld, but the ledger has %llu steps of "
                           "run %s, must have as many", (long long)l->numbers.step, (unsigned long long)end, l->run);
}

static psg_status check_file(loading *l) {
    psg_status status = check_version(l);
    if (!status) status = check_facts(l);
    if (!status) status = read_numbers(l);
    if (!status) status = read_mark(l);
    if (!status) status = psg_ledger_refresh(l->dp->ledger, "psg_dp_load");
    if (!status) status = psg_ledger_check(l->dp->ledger, "psg_dp_load", &l->mark);
    return status ? status : check_steps(l);
}

/* ---- load: where it goes on ---- */

/* With a seed the run goes on as itself, with steps that it had recorded; otherwise as another. */
static psg_dp_place place_of(const loading *l) {
    const uint64_t step = (uint64_t)l->numbers.step;
    if (!psg_generator_is_seeded(l->dp->generator)) return (psg_dp_place){ l->dp->run, step, 0 };
    return (psg_dp_place){ l->run, step, psg_ledger_runs_end(psg_ledger_all(l->dp->ledger), l->run) - step };
}

/* Nothing here can fail. */
static void go_on(const loading *l, const psg_dp_place *place, psg_dp_tally *tally) {
    psg_dp *dp = l->dp;
    psg_optimizer *optimizer = l->checkpoint->optimizer;
    dp->agreed_steps = tally->most_steps;
    psg_dp_take_tally(dp, tally);
    dp->step = dp->compare_at = place->step;
    dp->ahead = place->ahead;
    dp->first_step = psg_generator_is_seeded(dp->generator) ? 0 : dp->step;
    memmove(dp->run, place->run, PSG_RUN_TEXT);
    memcpy(dp->resumed, l->run, PSG_RUN_TEXT);
    dp->max_grad_norm = l->numbers.max_grad_norm;
    dp->grid = psg_grid_of(dp->gradient_noise, dp->max_grad_norm, (double)psg_dp_total(dp));
    if (!optimizer) return;
    optimizer->steps = (uint64_t)l->numbers.optimizer_steps;
    optimizer->lr = l->numbers.lr;
}

/* ---- load: of several ranks ---- */

/* Where rank 0 goes on. */
typedef struct joint_place {
    uint64_t step, ahead, most_steps;
    psg_checkpoint_numbers numbers;
} joint_place;

/* To the other ranks, which need not reach the file. */
static psg_status share_place(loading *l, psg_dp_place *place, psg_dp_tally *tally) {
    psg_dp *dp = l->dp;
    if (!psg_dp_has_ranks(dp)) return PSG_OK;
    joint_place joint = { place->step, place->ahead, tally->most_steps, l->numbers };
    psg_status status = psg_ranks_broadcast(dp, "psg_dp_load", &joint, sizeof joint);
    if (!status && dp->ranks.rank) {
        *place = (psg_dp_place){ dp->run, joint.step, joint.ahead };
        l->run = dp->run;
        l->numbers = joint.numbers;
        status = psg_dp_count(dp, "psg_dp_load", place, tally);
        tally->most_steps = joint.most_steps;
    }
    return psg_ranks_agree(dp, "psg_dp_load", status);
}

static psg_status share_tensors(const psg_dp *dp, const psg_checkpoint_tensors *tensors) {
    psg_status status = PSG_OK;
    for (size_t k = 0; psg_dp_has_ranks(dp) && k < tensors->count; k++) {   /* after an error too: others wait there */
        const psg_tensor *tensor = &tensors->list[k].tensor;
        const size_t bytes = (size_t)psg_tensor_count(tensor) * psg_dtype_size(tensor->dtype);
        const psg_status sent = psg_ranks_broadcast(dp, "psg_dp_load", tensor->data, bytes);
        if (!status) status = sent;
    }
    return psg_ranks_agree(dp, "psg_dp_load", status);
}

/* A broadcast takes an array as it lies, and what lies there is the same on all ranks. */
static psg_status check_shared(const psg_dp *dp, const psg_checkpoint_tensors *tensors) {
    for (size_t k = 0; psg_dp_has_ranks(dp) && k < tensors->count; k++) {
        if (psg_tensor_is_contiguous(&tensors->list[k].tensor)) continue;
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_load: %s has strides, must be contiguous on several ranks",
                        tensors->list[k].name);
    }
    return PSG_OK;
}

/* ---- load ---- */

/* What rank 0 finds in the file, everything checked; to be dropped or taken. */
static psg_status open_file(loading *l, const psg_source *from, psg_dp_place *place, psg_dp_tally *tally) {
    psg_status status = psg_tensors_read(from, PSG_FILE_COPY, &l->file);
    if (!status) status = check_file(l);
    if (status) return status;
    *place = place_of(l);
    return psg_dp_count(l->dp, "psg_dp_load", place, tally);
}

/* All or none. */
static psg_status fill(const loading *l, const psg_source *from, const psg_checkpoint_tensors *tensors) {
    return psg_tensors_take(from, l->file, tensors->list, tensors->count, PSG_LOAD_STRICT, NULL);
}

/* After the file has filled the tensors nothing can fail but the channel. */
static psg_status take(loading *l, const psg_source *from, const psg_checkpoint_tensors *tensors) {
    psg_dp *dp = l->dp;
    psg_dp_place place = { dp->run, 0, 0 };
    psg_dp_tally tally = { 0 };
    const bool reads = dp->ranks.rank == 0;
    psg_status status = psg_ranks_agree(dp, "psg_dp_load", reads ? open_file(l, from, &place, &tally) : PSG_OK);
    if (!status) status = share_place(l, &place, &tally);
    if (!status) status = psg_ranks_agree(dp, "psg_dp_load", reads ? fill(l, from, tensors) : PSG_OK);
    if (!status) status = share_tensors(dp, tensors);
    if (status) psg_dp_drop_tally(&tally);
    else go_on(l, &place, &tally);
    return status;
}

static psg_status load(loading *l) {
    const psg_source from = { l->dp->context, "psg_dp_load", l->path };
    psg_checkpoint_tensors tensors;
    psg_status status = psg_checkpoint_tensors_of(l->dp, "psg_dp_load", l->checkpoint, &l->numbers, &tensors);
    const psg_status made = status;
    if (!status) status = check_shared(l->dp, &tensors);
    status = psg_ranks_agree(l->dp, "psg_dp_load", status);
    if (!status) status = check_alike(l->dp, "psg_dp_load", &tensors);
    if (!status) status = take(l, &from, &tensors);
    psg_tensors_destroy(l->file);
    if (!made) psg_checkpoint_tensors_free(&tensors);
    return status;
}

static psg_status check_new(const psg_dp *dp) {
    if (dp->step || dp->is_drawn || dp->ahead) {
        return psg_fail(dp->context, PSG_ERR_STATE, "psg_dp_load: the mechanism is at step %llu%s, must be a new one: its "
                        "noise would be used again", (unsigned long long)dp->step, dp->is_drawn ? " with a batch" : "");
    }
    return PSG_OK;
}

psg_status psg_dp_load(psg_dp *dp, const psg_checkpoint *checkpoint, const char *path) {
    PSG_DEFAULT_FLOATS;
    if (!dp) return PSG_ERR_ARGUMENT;
    psg_status status = check_arguments(dp, "psg_dp_load", checkpoint, path);
    if (!status) status = check_new(dp);
    status = psg_ranks_agree(dp, "psg_dp_load", status);
    if (status) return status;
    loading l = { .dp = dp, .checkpoint = checkpoint, .path = path };
    return load(&l);
}
