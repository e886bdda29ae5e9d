#include "dp/grid_noise.h"

#include <sodium.h>
#include <string.h>

#include "base/context.h"
#include "base/entropy.h"
#include "base/memory.h"

/* ---- the key and its owner ---- */

static void free_generator(void *object) {
    psg_generator *generator = object;
    sodium_memzero(generator->key, PSG_KEY_BYTES);
    psg_fork_mark_remove(&generator->process);
    psg_free_object(generator->context, generator);
}

static psg_status start(psg_context *context, const unsigned char *seed, psg_generator *generator) {
    generator->context = context;
    generator->owner = (psg_owner){ .free = free_generator, .object = generator };
    generator->seeded = seed != NULL;
    generator->next_owner = 1;
    psg_grid_table_make(&generator->grid, PSG_GRID_RATIO_BITS, PSG_GRID_SCALE_BITS - PSG_GRID_RATIO_BITS);
    psg_status status = psg_entropy(context, "psg_generator_create", generator->key, PSG_KEY_BYTES);
    if (status) return status;
    if (seed) memcpy(generator->key, seed, PSG_KEY_BYTES);
    psg_fork_mark_set(&generator->process);
    return PSG_OK;
}

static psg_status create(psg_context *context, const unsigned char *seed, psg_generator **generator) {
    psg_generator *made = psg_new_object(context, sizeof *made);
    if (!made) return psg_fail_memory(context, "psg_generator_create", sizeof *made);
    memset(made, 0, sizeof *made);
    psg_status status = start(context, seed, made);
    if (status) {
        psg_free_object(context, made);
        return status;
    }
    *generator = made;
    return PSG_OK;
}

psg_status psg_generator_create(psg_context *context, psg_generator **generator) {
    if (!context) return PSG_ERR_ARGUMENT;
    if (!generator) {
        return psg_fail_null(context, "psg_generator_create", "generator");
    }
    *generator = NULL;
    return create(context, NULL, generator);
}

psg_status psg_generator_create_seeded(psg_context *context, const unsigned char seed[32], psg_generator **generator) {
    if (!context) return PSG_ERR_ARGUMENT;
    if (!generator || !seed) {
        return psg_fail_null(context, "psg_generator_create_seeded", generator ? "seed" : "generator");
    }
    *generator = NULL;
    return create(context, seed, generator);
}

void psg_generator_destroy(psg_generator *generator) {
    if (generator) psg_destroy_handle(&generator->owner);
}

int psg_generator_is_seeded(const psg_generator *generator) { return generator && generator->seeded; }

int psg_generator_is_forked(const psg_generator *generator) {
    return psg_has_forked(&generator->process);
}

psg_status psg_generator_check(const psg_generator *generator, const char *function) {
    if (!psg_generator_is_forked(generator)) return PSG_OK;
    return psg_fail(generator->context, PSG_ERR_FORKED,
                    "%s: the generator was made by process %ld, must be used there only", function,
                    (long)generator->process.pid);
}

/* ---- streams ----
 * XChaCha20: ChaCha20 (RFC 8439) under the subkey HChaCha20(key, first 16 nonce bytes), the last 8 nonce bytes as nonce
 * and a 64-bit block counter.  The 192-bit nonce holds a whole stream address, field by field, so no two streams of one
 * key are the same by construction; a 96-bit nonce with its 32-bit counter would not hold it. */
static void pack_nonce(const psg_stream *stream, unsigned char nonce[crypto_stream_xchacha20_NONCEBYTES]) {
    uint32_t purpose = (uint32_t)stream->purpose;
    memcpy(nonce, &purpose, 4);
    memcpy(nonce + 4, &stream->parameter, 4);
    memcpy(nonce + 8, &stream->owner, 8);
    memcpy(nonce + 16, &stream->step, 8);
}

void psg_stream_read(const psg_generator *generator, const psg_stream *stream, uint64_t first_block, void *out,
                     size_t bytes) {
    unsigned char nonce[crypto_stream_xchacha20_NONCEBYTES];
    pack_nonce(stream, nonce);
    memset(out, 0, bytes);
    crypto_stream_xchacha20_xor_ic(out, out, bytes, nonce, first_block, generator->key);
}
