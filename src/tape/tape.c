/* The tape itself: its life, its errors, its memory, its vars. */
#include <string.h>

#include "base/entropy.h"
#include "base/floats.h"
#include "base/reserved.h"
#include "base/shapes.h"
#include "tape/tape_struct.h"

/* ---- life ---- */

psg_status psg_tape_create(psg_context *context, psg_tape **tape) {
    if (!context || !tape) return psg_fail_null(context, "psg_tape_create", "tape");
    *tape = NULL;
    unsigned char unused;   /* dropout's stream needs libsodium started, not keyed */
    psg_status status = psg_entropy(context, "psg_tape_create", &unused, sizeof unused);
    if (status) return status;
    psg_tape *made = psg_new_object(context, sizeof *made);
    if (!made) return psg_fail_memory(context, "psg_tape_create", sizeof *made);
    *made = (psg_tape){ .context = context, .rows = -1, .live = { 0, context->live_passes } };
    context->live_passes = &made->live;
    psg_arena_init(&made->arena, context);
    *tape = made;
    return PSG_OK;
}

static void let_params_go(const psg_tape *tape) {
    for (size_t k = 0; k < tape->use_count; k++) {
        if (tape->uses[k].param) psg_let_go(tape->uses[k].param->owner);
    }
}

void psg_tape_destroy(psg_tape *tape) {
    if (!tape) return;
    psg_live_pass **link = &tape->context->live_passes;
    while (*link != &tape->live) link = &(*link)->next;
    *link = tape->live.next;
    let_params_go(tape);
    psg_arena_release(&tape->arena);
    psg_free_object(tape->context, tape);
}

/* Back to a tape without a pass; the arena's memory stays. */
static psg_status forget(psg_tape *tape) {
    let_params_go(tape);
    psg_arena arena = tape->arena;
    psg_status status = psg_arena_reset(&arena);
    *tape = (psg_tape){ .context = tape->context, .arena = arena, .rows = -1, .live = { 0, tape->live.next },
                        .observer = tape->observer, .observer_user = tape->observer_user };
    return status;
}

psg_status psg_tape_reserve(psg_tape *tape, size_t bytes) {
    if (!tape) return PSG_ERR_ARGUMENT;
    psg_status status = forget(tape);
    if (!status) status = psg_arena_reserve(&tape->arena, bytes);
    return status ? psg_fail_memory(tape->context, "psg_tape_reserve", bytes) : PSG_OK;
}

size_t psg_tape_bytes(const psg_tape *tape) { return tape ? tape->arena.peak : 0; }

static psg_status check_batch(psg_tape *tape) {
    const psg_pass *pass = &tape->pass;
    const psg_batch *batch = pass->batch;
    if (pass->sample_ids || pass->dropout_seed) {
        return psg_tape_fail(tape, PSG_ERR_ARGUMENT, "psg_tape_begin: %s stands beside batch, which holds it already",
                             pass->sample_ids ? "sample_ids" : "dropout_seed");
    }
    if (psg_reserved_is_set(batch->reserved)) {
        return psg_tape_fail(tape, PSG_ERR_ARGUMENT, "psg_tape_begin: batch" PSG_RESERVED_TEXT);
    }
    if (batch->count < 0 || (batch->count > 0 && !batch->ids)) {
        return psg_tape_fail(tape, PSG_ERR_ARGUMENT, "psg_tape_begin: batch has %lld records%s",
                             (long long)batch->count, batch->ids ? "" : " and no ids");
    }
    if (pass->has_batch_size && pass->batch_size != batch->count) {
        return psg_tape_fail(tape, PSG_ERR_BATCH, "psg_tape_begin: batch_size is %lld, batch has %lld records",
                             (long long)pass->batch_size, (long long)batch->count);
    }
    return PSG_OK;
}

/* From here on the pass is as if the caller had given each part of the batch.  Record numbers are copied: those of a
 * psg_dp change with its step and go with it. */
static psg_status take_batch(psg_tape *tape) {
    psg_pass *pass = &tape->pass;
    psg_status status = pass->batch ? check_batch(tape) : PSG_OK;
    if (status || !pass->batch) return status;
    const size_t bytes = (size_t)pass->batch->count * sizeof *pass->batch->ids;
    int64_t *ids = psg_tape_take(tape, bytes);
    if (!ids) return tape->status;
    if (bytes) memcpy(ids, pass->batch->ids, bytes);
    tape->batch = *pass->batch;
    tape->batch.ids = ids;
    pass->batch = &tape->batch;
    pass->sample_ids = tape->batch.ids;
    pass->batch_size = tape->batch.count;
    pass->has_batch_size = 1;
    return PSG_OK;
}

/* What ops have for batch size: rows. */
static psg_status count_rows(psg_tape *tape) {
    psg_pass *pass = &tape->pass;
    if (!pass->has_batch_size) return PSG_OK;
    if (!psg_size_multiply(pass->batch_size, psg_tape_views(tape), &pass->batch_size)) {
        return psg_tape_fail(tape, PSG_ERR_OVERFLOW, "psg_tape_begin: batch_size times views is beyond 63 bits");
    }
    tape->rows = pass->batch_size;
    return PSG_OK;
}

static psg_status check_pass(psg_tape *tape) {
    const psg_pass *pass = &tape->pass;
    if (psg_reserved_is_set(pass->reserved)) {
        return psg_tape_fail(tape, PSG_ERR_ARGUMENT, "psg_tape_begin: pass" PSG_RESERVED_TEXT);
    }
    if (pass->views < 0 || (pass->views > 1 && pass->ordinary)) {
        return psg_tape_fail(tape, PSG_ERR_ARGUMENT, "psg_tape_begin: views is %lld, must be >= 0%s",
                             (long long)pass->views, pass->ordinary ? ", and at most 1 in an ordinary pass" : "");
    }
    if (pass->batch_size < 0) {
        return psg_tape_fail(tape, PSG_ERR_ARGUMENT, "psg_tape_begin: batch_size is %lld, must be >= 0",
                             (long long)pass->batch_size);
    }
    const psg_loss_reduction given = pass->loss_reduction;
    if (given != PSG_LOSS_FOLLOW && given != PSG_LOSS_SUM && given != PSG_LOSS_MEAN) {
        return psg_tape_fail(tape, PSG_ERR_ARGUMENT, "psg_tape_begin: loss_reduction is %d, must be PSG_LOSS_FOLLOW, "
                             "PSG_LOSS_SUM or PSG_LOSS_MEAN", (int)given);
    }
    return PSG_OK;
}

/* Whether record numbers are the tape's copy of the last pass, of which a gradient has them (psg_gradient.batch). */
static bool is_own(const psg_tape *tape, const psg_batch *batch) {
    const uintptr_t own = (uintptr_t)tape->batch.ids, given = batch ? (uintptr_t)batch->ids : 0;
    return given && own && given - own < (uintptr_t)tape->batch.count * sizeof *tape->batch.ids;
}

static psg_status begin(psg_tape *tape, const psg_pass *pass) {
    psg_status status = forget(tape);
    tape->pass = *pass;
    tape->begun = true;
    tape->live.number = ++tape->context->passes;
    if (status) return psg_tape_fail(tape, status, "psg_tape_begin: no memory for %zu bytes", tape->arena.peak);
    tape->pass.has_batch_size |= tape->pass.batch_size > 0;
    status = check_pass(tape);
    if (!status) status = take_batch(tape);
    return status ? status : count_rows(tape);
}

/* The same, with the last pass's own record numbers kept beyond its memory. */
static psg_status begin_again(psg_tape *tape, psg_pass pass) {
    const size_t bytes = (size_t)pass.batch->count * sizeof *pass.batch->ids;
    int64_t *ids = psg_alloc(tape->context, bytes);
    psg_batch batch = *pass.batch;
    if (!ids) return psg_fail_memory(tape->context, "psg_tape_begin", bytes);
    memcpy(ids, batch.ids, bytes);
    batch.ids = ids;
    pass.batch = &batch;
    const psg_status status = begin(tape, &pass);
    if (status) tape->pass.batch = NULL;
    psg_free(tape->context, ids);
    return status;
}

psg_status psg_tape_begin(psg_tape *tape, const psg_pass *pass) {
    PSG_DEFAULT_FLOATS;
    static const psg_pass defaults = PSG_PASS_INIT;
    if (!tape) return PSG_ERR_ARGUMENT;
    const psg_pass given = pass ? *pass : defaults;
    return is_own(tape, given.batch) && given.batch->count > 0 ? begin_again(tape, given) : begin(tape, &given);
}

psg_context *psg_tape_context(const psg_tape *tape) { return tape ? tape->context : NULL; }
const psg_pass *psg_tape_pass(const psg_tape *tape) {
    return tape && tape->begun && !tape->status ? &tape->pass : NULL;
}
int64_t psg_tape_batch_size(const psg_tape *tape) {
    return !tape || tape->rows < 0 ? -1 : tape->rows / psg_tape_views(tape);
}

/* ---- errors ---- */

psg_status psg_tape_status(const psg_tape *tape) { return tape ? tape->status : PSG_ERR_ARGUMENT; }
const char *psg_tape_message(const psg_tape *tape) { return tape ? tape->message : ""; }

psg_status psg_tape_adopt(psg_tape *tape, psg_status status) {
    memcpy(tape->message, tape->context->message, sizeof tape->message);
    return tape->status = status;
}

psg_status psg_tape_fail_v(psg_tape *tape, psg_status status, const char *format, va_list arguments) {
    if (!tape) return PSG_ERR_ARGUMENT;
    if (tape->status) return tape->status;
    return psg_tape_adopt(tape, psg_fail_v(tape->context, status, format, arguments));
}

const char *psg_tape_parameter_name(const psg_tape *tape, const psg_tape_var *var) {
    return var && var->role == PSG_PARAMETER ? tape->uses[var->use].name : NULL;
}

const char *psg_var_name(const psg_tape *tape, psg_var var) {
    return tape ? psg_tape_parameter_name(tape, psg_tape_var_of(tape, var)) : NULL;
}

psg_status psg_tape_fail(psg_tape *tape, psg_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    status = psg_tape_fail_v(tape, status, format, arguments);
    va_end(arguments);
    return status;
}

/* What a call on a failed tape returns is the first failure's, and so is its message. */
psg_status psg_tape_say_again(const psg_tape *tape) {
    if (tape->status) memcpy(tape->context->message, tape->message, sizeof tape->message);
    return tape->status;
}

bool psg_tape_alive(psg_tape *tape, const char *function) {
    if (!tape || psg_tape_say_again(tape)) return false;
    if (!tape->begun) psg_tape_fail(tape, PSG_ERR_STATE, "%s: no pass, call psg_tape_begin first", function);
    return tape->begun;
}

/* ---- memory ---- */

void *psg_tape_take(psg_tape *tape, size_t bytes) {
    void *memory = psg_arena_take(&tape->arena, bytes);
    if (!memory) psg_tape_fail(tape, PSG_ERR_MEMORY, "tape: no memory for %zu bytes", bytes);
    return memory;
}

bool psg_tape_grow(psg_tape *tape, void **table, size_t count, size_t *capacity, size_t size) {
    if (count < *capacity) return true;
    size_t grown = *capacity ? 2 * *capacity : 8;
    void *moved = psg_tape_take(tape, grown * size);
    if (!moved) return false;
    if (count) memcpy(moved, *table, count * size);
    *table = moved;
    *capacity = grown;
    return true;
}

psg_tensor psg_tape_tensor(psg_tape *tape, psg_dtype dtype, int rank, const int64_t *shape) {
    psg_tensor tensor = psg_tensor_of(dtype, NULL, rank, shape);
    size_t bytes;
    if (!psg_size_bytes(psg_tensor_count(&tensor), psg_dtype_size(dtype), &bytes)) {
        char text[PSG_SHAPE_TEXT];
        psg_tape_fail(tape, PSG_ERR_OVERFLOW, "tape: shape %s has more elements than 64 bits count",
                      psg_shape_text(rank, shape, text));
        return tensor;
    }
    tensor.data = psg_tape_take(tape, bytes);
    return tensor;
}

/* ---- vars ----
 * An id holds the place in the table, counted from 1, and the low bits of the pass's stamp, so that a var of another
 * pass is recognised (until 2047 passes later). */

enum { INDEX_BITS = 20, STAMPS = 2047 };

static int32_t var_id(const psg_tape *tape, size_t index) {
    uint32_t stamp = tape->live.number % STAMPS;
    return (int32_t)(stamp << INDEX_BITS | (uint32_t)(index + 1));
}

psg_tape_var *psg_tape_var_of(const psg_tape *tape, psg_var var) {
    size_t place = (uint32_t)var.id & ((1u << INDEX_BITS) - 1);
    if (var.id <= 0 || !place || place > tape->var_count || var.id != var_id(tape, place - 1)) return NULL;
    return &tape->vars[place - 1];
}

psg_var psg_tape_push(psg_tape *tape, const psg_tape_var *var) {
    if (tape->var_count + 1 >= 1u << INDEX_BITS) {
        psg_tape_fail(tape, PSG_ERR_OVERFLOW, "tape: more than %zu values in one pass", tape->var_count);
        return psg_tape_no_var();
    }
    void *table = tape->vars;
    if (!psg_tape_grow(tape, &table, tape->var_count, &tape->var_capacity, sizeof *var)) return psg_tape_no_var();
    tape->vars = table;
    tape->vars[tape->var_count] = *var;
    psg_var made = { var_id(tape, tape->var_count++) };
    return made;
}
