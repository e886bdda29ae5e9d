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
    if (!ranks) return psg_fail_null(dp->context, "psg_dp_set_ranks", "ranks");
    if (ranks->ranks < 1 || ranks->rank < 0 || ranks->rank >= ranks->ranks) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_set_ranks: rank %d is outside [0, %d)", ranks->rank,
                        ranks->ranks);
    }
    if (!ranks->broadcast || !ranks->largest || !ranks->reduce_scatter || !ranks->gather) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_set_ranks: a function is NULL, must be all there");
    }
    return PSG_OK;
}

/* What others have to hear of. */
static psg_status check_mechanism(const psg_dp *dp, const psg_dp_ranks *ranks) {
    if (psg_reserved_is_set(ranks->reserved)) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_set_ranks: ranks" PSG_RESERVED_TEXT);
    }
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
    const size_t count = psg_dp_sum_count(dp), parts = (size_t)ranks, block = count ? (count - 1) / parts + 1 : 1;
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

/* Block k is rank k's.  The sums hold nothing yet. */
static psg_status check_numbers(psg_dp *dp) {
    const int ranks = dp->ranks.ranks, own = dp->ranks.rank;
    dp->sums[own] = own;
    psg_status status = psg_ranks_gather(dp, "psg_dp_set_ranks", dp->sums, sizeof *dp->sums);
    for (int k = 0; !status && k < ranks; k++) {
        if (dp->sums[k] == k) continue;
        status = psg_fail(dp->context, PSG_ERR_ARGUMENT, "psg_dp_set_ranks: where rank %d should be the channel has rank "
                          "%lld, must be every rank in its place (this is rank %d)", k, (long long)dp->sums[k], own);
    }
    memset(dp->sums, 0, (size_t)ranks * sizeof *dp->sums);
    return psg_ranks_agree(dp, "psg_dp_set_ranks", status);
}

/* ---- one key ---- */

typedef struct identity {
    unsigned char key[PSG_KEY_BYTES];
    uint64_t owner;
    bool has_ledger;
} identity;

/* A generator of dp's own: what else the caller's serves keeps its key, which no other rank has. */
static psg_status take_identity(psg_dp *dp, const identity *shared, bool seeded) {
    psg_generator *joint = NULL;
    psg_status status = psg_generator_create_seeded(dp->context, shared->key, &joint);
    status = psg_ranks_agree(dp, "psg_dp_set_ranks", status);
    if (!status) {
        joint->seeded = seeded;
        psg_hold(&joint->owner);
        dp->generator = joint;
        dp->owner = shared->owner;
        dp->is_account_elsewhere = dp->ranks.rank && shared->has_ledger;
    }
    psg_generator_destroy(joint);
    return status;
}

/* The key of rank 0; seeded where any rank's is. */
static psg_status share_key(psg_dp *dp) {
    identity shared = { .owner = dp->owner, .has_ledger = dp->ledger != NULL };
    int64_t seeded = dp->generator->seeded != 0;
    memcpy(shared.key, dp->generator->key, PSG_KEY_BYTES);
    psg_status status = psg_ranks_broadcast(dp, "psg_dp_set_ranks", &shared, sizeof shared);
    status = psg_ranks_agree(dp, "psg_dp_set_ranks", status);
    if (!status) status = psg_ranks_agree(dp, "psg_dp_set_ranks", psg_ranks_largest(dp, "psg_dp_set_ranks", &seeded));
    if (!status) status = take_identity(dp, &shared, seeded != 0);
    sodium_memzero(&shared, sizeof shared);
    return status;
}

static void end_attach(psg_dp *dp, psg_generator *own, uint64_t owner, psg_status status) {
    psg_generator *other = own;
    if (status) {   /* two mechanisms again, each with its own key */
        other = dp->generator;
        dp->ranks = (psg_dp_ranks)PSG_DP_RANKS_INIT;
        dp->generator = own;
        dp->owner = owner;
        dp->is_account_elsewhere = false;
    } else if (dp->generator->seeded) {
        psg_accountant_mark_not_private(dp->accountant);
    }
    if (other != dp->generator) psg_let_go(&other->owner);
}

/* ---- everything else is the same ---- */

enum { MORE_FACTS = 13, ALL_FACTS = PSG_DP_FACTS + MORE_FACTS };
enum { KERNELS_ISA = PSG_DP_FACTS + 11, KERNELS_CORE };

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
    say_number(&more[7], "check_every", (double)dp->ranks.check_every);
    say_number(&more[8], "the number of ranks", dp->ranks.ranks);
    say_number(&more[9], "steps", (double)dp->options.steps);
    say_number(&more[10], "the number of earlier releases",
               dp->earlier ? (double)psg_accountant_releases(dp->earlier) : 0);
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
    psg_generator *own = dp->generator;
    const uint64_t owner = dp->owner;
    dp->ranks = *ranks;
    if (!ranks->check_every) dp->ranks.check_every = 64;
    status = psg_ranks_agree(dp, "psg_dp_set_ranks", fits);
    if (!status) status = psg_ranks_agree(dp, "psg_dp_set_ranks", take_sums(dp, ranks->ranks));
    if (!status) status = check_numbers(dp);
    if (!status) status = share_key(dp);
    if (!status) status = compare_facts(dp);
    if (!status) status = psg_ranks_follow(dp, "psg_dp_set_ranks", PSG_OK);
    end_attach(dp, own, owner, status);
    return status;
}
