#include "dp/facts.h"

#include <sodium.h>
#include <string.h>

#include "base/writer.h"
#include "dp/names.h"
#include "dp/random.h"
#include "optim/optimizer.h"

typedef struct fact_list {
    psg_dp_fact *next;
} fact_list;

/* The value of the next fact, to be written. */
static psg_writer add(fact_list *list, const char *key) {
    psg_dp_fact *fact = list->next++;
    fact->key = key;
    fact->value[0] = 0;
    return (psg_writer){ fact->value, PSG_FACT_TEXT, 0 };
}

static void say_number(fact_list *list, const char *key, double value) {
    psg_writer w = add(list, key);
    psg_put_number(&w, value);
}

static void say_count(fact_list *list, const char *key, uint64_t value) {
    psg_writer w = add(list, key);
    psg_put(&w, "%llu", (unsigned long long)value);
}

static void say_text(fact_list *list, const char *key, const char *value) {
    psg_writer w = add(list, key);
    psg_put(&w, "%s", value);
}

static void say_hash(fact_list *list, const char *key, crypto_generichash_state *hash) {
    unsigned char bytes[16];
    char text[2 * sizeof bytes + 1];
    crypto_generichash_final(hash, bytes, sizeof bytes);
    say_text(list, key, sodium_bin2hex(text, sizeof text, bytes, sizeof bytes));
}

/* Which parameter is in which group, and the groups' shares of C. */
static void say_groups(fact_list *list, const psg_dp *dp) {
    crypto_generichash_state hash;
    if (dp->options.group_count <= 1) {
        say_text(list, "groups", "one");
        return;
    }
    crypto_generichash_init(&hash, NULL, 0, 16);
    crypto_generichash_update(&hash, (const void *)dp->group, dp->param_count * sizeof *dp->group);
    crypto_generichash_update(&hash, (const void *)dp->share, (size_t)dp->options.group_count * sizeof *dp->share);
    say_hash(list, "groups", &hash);
}

/* A seed is known by a hash of it and the number of the mechanism on its generator. */
static void say_seed(fact_list *list, const psg_dp *dp) {
    static const unsigned char purpose[] = "psg_dp_save: seed";
    crypto_generichash_state hash;
    if (!psg_generator_is_seeded(dp->generator)) {
        say_text(list, "seed", "none");
        return;
    }
    crypto_generichash_init(&hash, purpose, sizeof purpose, 16);
    crypto_generichash_update(&hash, dp->generator->key, PSG_KEY_BYTES);
    crypto_generichash_update(&hash, (const void *)&dp->owner, sizeof dp->owner);
    say_hash(list, "seed", &hash);
}

static void say_optimizer(fact_list *list, const psg_optimizer *optimizer) {
    psg_writer w = add(list, "optimizer");
    if (optimizer) optimizer->describe(optimizer, &w);
    else psg_put(&w, "none");
}

void psg_dp_say_facts(const psg_dp *dp, const psg_optimizer *optimizer, psg_dp_fact facts[PSG_DP_FACTS]) {
    const psg_dp_options *o = &dp->options;
    fact_list list = { facts };
    say_text(&list, "sampling", psg_sampling_name(o->sampling));
    say_text(&list, "relation", psg_relation_name(o->relation));
    say_count(&list, "records", o->records);
    say_number(&list, "sample_rate", o->sample_rate);
    say_count(&list, "batch_size", (uint64_t)o->batch_size);
    say_count(&list, "batches", o->batches);
    say_number(&list, "expected_batch_size", o->expected_batch_size);
    say_count(&list, "max_batch_size", (uint64_t)o->max_batch_size);
    say_number(&list, "max_grad_norm", o->max_grad_norm);
    say_count(&list, "clipping", (uint64_t)o->clipping);
    say_number(&list, "stability", o->stability);
    say_count(&list, "group_count", (uint64_t)o->group_count);
    say_groups(&list, dp);
    say_number(&list, "quantile", o->quantile);
    say_number(&list, "quantile_rate", o->quantile_rate);
    say_number(&list, "quantile_noise", o->quantile_noise);
    say_count(&list, "parameters", dp->param_count);
    say_count(&list, "elements", psg_dp_total(dp));
    say_number(&list, "noise_multiplier", o->noise_multiplier);
    say_count(&list, "allow_openblas", o->allow_openblas != 0);
    say_seed(&list, dp);
    say_optimizer(&list, optimizer);
}
