/* Ranks become one mechanism: one key, and everything else compared. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "base/floats.h"
#include "base/memory.h"
#include "base/reserved.h"
#include "base/shapes.h"
#include "base/writer.h"
#include "blas/engine.h"
#include "dp/facts.h"
#include "dp/random.h"
#include "dp/ranks.h"

static psg_status check_ranks(const psg_dp *dp, const psg_dp_ranks *ranks) {
    if (!ranks || ranks->ranks < 1 || ranks->rank < 0 || ranks->rank >= ranks->ranks) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_set_ranks: ranks is NULL, or rank %d is outside [0, %d)",
                        ranks ? ranks->rank : 0, ranks ? ranks->ranks : 0);
    }
    if (!ranks->broadcast || !ranks->largest || !ranks->reduce_scatter || !ranks->gather) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_set_ranks: a function is NULL, must be all there");
    }
    if (psg_reserved_is_set(ranks->reserved)) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_set_ranks: ranks" PSG_RESERVED_TEXT);
    }
    return PSG_OK;
}

static psg_status check_mechanism(const psg_dp *dp, const psg_dp_ranks *ranks) {
    if (dp->step || dp->is_drawn || dp->ahead || psg_dp_has_ranks(dp)) {
        return psg_fail(dp->context, PSG_ERR_STATE, "psg_dp_set_ranks: the mechanism has begun its steps or has ranks, "
                        "must be a new one");
    }
    if (dp->options.sampling == PSG_SAMPLING_EXTERNAL) {
        return psg_fail(dp->context, PSG_ERR_UNSUPPORTED, "psg_dp_set_ranks: sampling is external, must be another: "
                        "nothing would tell that two ranks take one record");
    }
    if (ranks->rank && dp->ledger) {
        return psg_fail(dp->context, PSG_ERR_STATE, "psg_dp_set_ranks: rank %d has a ledger, must have none: "
                        "psg_dp_options.ledger is rank 0's", ranks->rank);
    }
    return psg_generator_check(dp->generator, "psg_dp_set_ranks");
}

/* Sums of whole blocks, one a rank.  Nothing is in them yet. */
static psg_status take_sums(psg_dp *dp, int ranks) {
    const size_t count = psg_dp_sum_count(dp), parts = (size_t)ranks, block = count / parts + (count % parts != 0);
    size_t bytes;
    int64_t room;
    if (__builtin_mul_overflow(block, parts, &room) || !psg_size_bytes(room, sizeof *dp->sums, &bytes)) {
        return psg_fail(dp->context, PSG_ERR_OVERFLOW, "psg_dp_set_ranks: %zu sums do not fit memory", count);
    }
    int64_t *sums = psg_alloc_zeroed(dp->context, bytes);
    if (!sums) return psg_fail_memory(dp->context, "psg_dp_set_ranks", bytes);
    psg_free(dp->context, dp->sums);
    dp->sums = sums;
    dp->block = block;
    return PSG_OK;
}

/* ---- one key ---- */

typedef struct identity {
    unsigned char key[PSG_KEY_BYTES];
    uint64_t owner;
    bool seeded;
} identity;

static identity identity_of(const psg_dp *dp) {
    identity own = { .owner = dp->owner, .seeded = dp->generator->seeded };
    memcpy(own.key, dp->generator->key, PSG_KEY_BYTES);
    return own;
}

static void take_identity(psg_dp *dp, const identity *one) {
    psg_generator *generator = dp->generator;
    memcpy(generator->key, one->key, PSG_KEY_BYTES);
    generator->seeded = one->seeded;
    dp->owner = one->owner;
    if (generator->next_owner <= dp->owner) generator->next_owner = dp->owner + 1;
}

/* The key of rank 0; seeded where any rank's is. */
static psg_status share_key(psg_dp *dp) {
    identity shared = identity_of(dp);
    int64_t seeded = shared.seeded;
    psg_status status = psg_ranks_broadcast(dp, "psg_dp_set_ranks", &shared, sizeof shared);
    status = psg_ranks_agree(dp, "psg_dp_set_ranks", status);
    if (!status) status = psg_ranks_agree(dp, "psg_dp_set_ranks", dp->ranks.largest(dp->ranks.user, &seeded));
    shared.seeded = seeded != 0;
    if (!status) take_identity(dp, &shared);
    sodium_memzero(&shared, sizeof shared);
    return status;
}

/* ---- everything else is the same ---- */

enum { MORE_FACTS = 9, ALL_FACTS = PSG_DP_FACTS + MORE_FACTS };
enum { KERNELS_ISA = PSG_DP_FACTS + 7, KERNELS_CORE };

static void say(psg_dp_fact *fact, const char *key, const char *value) {
    psg_writer w = { fact->value, PSG_FACT_TEXT, 0 };
    fact->key = key;
    psg_put(&w, "%s", value);
}

static void say_number(psg_dp_fact *fact, const char *key, double value) {
    psg_writer w = { fact->value, PSG_FACT_TEXT, 0 };
    fact->key = key;
    psg_put_number(&w, value);
}

static void say_elements(const psg_dp *dp, psg_dp_fact *fact) {
    unsigned char bytes[16];
    char text[2 * sizeof bytes + 1];
    crypto_generichash(bytes, sizeof bytes, (const void *)dp->offset, (dp->param_count + 1) * sizeof *dp->offset, NULL,
                       0);
    say(fact, "a hash of the elements of each parameter", sodium_bin2hex(text, sizeof text, bytes, sizeof bytes));
}

/* The mechanism's, and what else the bits of a sample depend on. */
static void say_facts(const psg_dp *dp, psg_dp_fact *facts) {
    static const char *const engines[] = { "automatic", "openblas", "kernel" };
    psg_dp_fact *more = facts + PSG_DP_FACTS;
    psg_dp_say_facts(dp, NULL, facts);
    say_elements(dp, &more[0]);
    say_number(&more[1], "epsilon", dp->options.epsilon);
    say_number(&more[2], "delta", dp->options.delta);
    say(&more[3], "version", psg_version());
    say(&more[4], "gemm", engines[dp->context->gemm]);
    say_number(&more[5], "memory_budget", (double)dp->context->memory_budget);
    say_number(&more[6], "slices", dp->ranks.slices != 0);
    say(&facts[KERNELS_ISA], "instruction set", dp->context->isa);
    say(&facts[KERNELS_CORE], "OpenBLAS core", psg_openblas_core());
}

static psg_status compare(const psg_dp *dp, const psg_dp_fact *own, const psg_dp_fact *first) {
    for (int k = 0; k < ALL_FACTS; k++) {
        if ((k == KERNELS_ISA || k == KERNELS_CORE) && dp->ranks.allow_other_kernels) continue;
        if (!strcmp(own[k].value, first[k].value)) continue;
        return psg_fail(dp->context, PSG_ERR_STATE, "psg_dp_set_ranks: %s is %s on rank %d and %s on rank 0, must be the "
                        "same", own[k].key, own[k].value, dp->ranks.rank, first[k].value);
    }
    return PSG_OK;
}

static psg_status compare_facts(const psg_dp *dp) {
    const size_t bytes = 2 * ALL_FACTS * sizeof(psg_dp_fact);
    psg_dp_fact *facts = psg_alloc(dp->context, bytes);
    psg_status status = facts ? PSG_OK : psg_fail_memory(dp->context, "psg_dp_set_ranks", bytes);
    status = psg_ranks_agree(dp, "psg_dp_set_ranks", status);
    if (!status) {
        psg_dp_fact *first = facts + ALL_FACTS;
        memset(facts, 0, bytes);
        say_facts(dp, facts);
        memcpy(first, facts, ALL_FACTS * sizeof *facts);
        status = psg_ranks_broadcast(dp, "psg_dp_set_ranks", first, ALL_FACTS * sizeof *first);
        if (!status) status = compare(dp, facts, first);
        status = psg_ranks_agree(dp, "psg_dp_set_ranks", status);
    }
    psg_free(dp->context, facts);
    return status;
}

psg_status psg_dp_set_ranks(psg_dp *dp, const psg_dp_ranks *ranks) {
    PSG_DEFAULT_FLOATS;
    if (!dp) return PSG_ERR_ARGUMENT;
    psg_status status = check_ranks(dp, ranks);
    if (status) return status;
    const psg_status fits = check_mechanism(dp, ranks);
    if (psg_dp_has_ranks(dp)) return fits;
    identity before = identity_of(dp);
    dp->ranks = *ranks;
    if (!ranks->check_every) dp->ranks.check_every = 64;
    status = psg_ranks_agree(dp, "psg_dp_set_ranks", fits);
    if (!status) status = psg_ranks_agree(dp, "psg_dp_set_ranks", take_sums(dp, ranks->ranks));
    if (!status) status = share_key(dp);
    if (!status) status = compare_facts(dp);
    if (!status) status = psg_ranks_follow(dp, "psg_dp_set_ranks", PSG_OK);
    if (status) {   /* two mechanisms again, which must not share a key */
        dp->ranks = (psg_dp_ranks)PSG_DP_RANKS_INIT;
        take_identity(dp, &before);
    } else if (dp->generator->seeded) {
        psg_accountant_mark_not_private(dp->accountant);
    }
    sodium_memzero(&before, sizeof before);
    return status;
}
