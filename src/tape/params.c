/* Sets of parameters that own their memory: the parameters at once, their values and the arrays of the lists with
 * psg_params_initialize, so that no view ever moves. */
#include "psg/params.h"

#include <stdio.h>
#include <string.h>

#include "base/floats.h"
#include "base/shapes.h"
#include "tape/initial.h"
#include "tape/tape_struct.h"

typedef struct entry {
    psg_param *param;
    psg_init init;
} entry;

/* The arrays of a psg_param_list, of the set's count each. */
typedef struct list_arrays {
    psg_param **params;
    psg_tensor *values;
    psg_named *named;
    int64_t *counts;
} list_arrays;

struct psg_params {
    psg_context *context;
    psg_owner owner;                    /* held by passes that use a parameter, and by views of the values */
    psg_lent lent;                      /* the values */
    psg_dtype dtype;
    entry *entries;
    size_t count, room;
    int64_t size;                       /* elements of all */
    psg_arena memory;                   /* of what follows; empty before psg_params_initialize */
    char *values;                       /* NULL before */
    list_arrays all, trainable;
    psg_gradient *gradients;
    const psg_gradient **set;
    psg_status status;                  /* the first error, and its text */
    char message[PSG_MESSAGE_SIZE];
};

static void free_set(void *object) {
    psg_params *params = object;
    psg_take_back(params->context, &params->lent);
    for (size_t k = 0; k < params->count; k++) psg_free_object(params->context, params->entries[k].param);
    psg_free(params->context, params->entries);
    psg_arena_release(&params->memory);
    psg_free_object(params->context, params);
}

psg_status psg_params_create(psg_context *context, psg_dtype dtype, psg_params **params) {
    if (!context || !params) return psg_fail_null(context, "psg_params_create", "params");
    *params = NULL;
    if (!psg_dtype_is_real(dtype)) {
        return psg_fail(context, PSG_ERR_DTYPE, "psg_params_create: dtype is %s, must be f32 or f64",
                        psg_dtype_name(dtype));
    }
    psg_params *made = psg_new_object(context, sizeof *made);
    if (!made) return psg_fail_memory(context, "psg_params_create", sizeof *made);
    *made = (psg_params){ .context = context, .owner = { .free = free_set, .object = made }, .dtype = dtype };
    psg_arena_init(&made->memory, context);
    *params = made;
    return PSG_OK;
}

void psg_params_destroy(psg_params *params) {
    if (params) psg_destroy_handle(&params->owner);
}

/* ---- adding ---- */

static size_t find(const psg_params *params, const char *name) {
    size_t k = 0;
    while (k < params->count && strcmp(params->entries[k].param->name, name)) k++;
    return k;
}

static bool make_room(psg_params *params) {
    if (params->count < params->room) return true;
    const size_t room = params->room ? 2 * params->room : 16;
    entry *grown = psg_alloc(params->context, room * sizeof *grown);
    if (!grown) return false;
    if (params->count) memcpy(grown, params->entries, params->count * sizeof *grown);
    psg_free(params->context, params->entries);
    params->entries = grown;
    params->room = room;
    return true;
}

static psg_status check(const psg_params *params, const char *name, const psg_init *init, const psg_tensor *value) {
    psg_context *context = params->context;
    const char *defect = psg_init_defect(init);
    if (params->values) {
        return psg_fail(context, PSG_ERR_STATE, "psg_params_add: %s: psg_params_initialize has taken the memory", name);
    }
    if (find(params, name) < params->count) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_params_add: %s is there already", name);
    }
    if (value->rank < 0 || value->rank >= PSG_MAX_RANK) {
        return psg_fail(context, PSG_ERR_SHAPE, "psg_params_add: %s: shape is NULL, or rank is outside [0, %d]", name,
                        PSG_MAX_RANK - 1);
    }
    if (defect) return psg_fail(context, PSG_ERR_ARGUMENT, "psg_params_add: %s: %s", name, defect);
    const int64_t count = psg_shape_product(value->rank, value->shape);
    size_t bytes;
    char text[PSG_SHAPE_TEXT];
    for (int d = 0; d < value->rank; d++) {
        if (value->shape[d] >= 0) continue;
        return psg_fail(context, PSG_ERR_SHAPE, "psg_params_add: %s: shape is %s, must have no negative size", name,
                        psg_tensor_text(value, text));
    }
    if (count < 0 || count > INT64_MAX - params->size ||
        !psg_size_bytes(params->size + count, psg_dtype_size(params->dtype), &bytes)) {
        return psg_fail(context, PSG_ERR_OVERFLOW, "psg_params_add: %s: with its shape %s the set does not fit memory",
                        name, psg_tensor_text(value, text));
    }
    return PSG_OK;
}

static psg_status add(psg_params *params, const char *name, const psg_init *init, int rank, const int64_t *shape) {
    if (!name) return psg_fail(params->context, PSG_ERR_ARGUMENT, "psg_params_add: name is NULL");
    const psg_tensor value = psg_tensor_of(params->dtype, NULL, rank, shape);
    psg_status status = check(params, name, init, &value);
    if (status) return status;
    psg_param *param = psg_param_of(params->context, name, &value);
    if (!param || !make_room(params)) {
        psg_free_object(params->context, param);
        return psg_fail_memory(params->context, "psg_params_add", sizeof *param);
    }
    param->owner = &params->owner;
    params->entries[params->count++] = (entry){ param, *init };
    params->size += psg_tensor_count(&value);
    return PSG_OK;
}

psg_param *psg_params_add(psg_params *params, const char *name, psg_init init, int rank, const int64_t *shape) {
    if (!params || params->status) return NULL;
    params->status = add(params, name, &init, rank, shape);
    if (!params->status) return params->entries[params->count - 1].param;
    snprintf(params->message, sizeof params->message, "%s", params->context->message);
    return NULL;
}

/* ---- memory and first values ---- */

static bool take_list(psg_params *params, list_arrays *list) {
    psg_arena *memory = &params->memory;
    const size_t count = params->count;
    return (list->params = psg_arena_take(memory, count * sizeof *list->params)) &&
           (list->values = psg_arena_take(memory, count * sizeof *list->values)) &&
           (list->named = psg_arena_take(memory, count * sizeof *list->named)) &&
           (list->counts = psg_arena_take(memory, count * sizeof *list->counts));
}

static psg_status take_memory(psg_params *params) {
    psg_arena *memory = &params->memory;
    const size_t bytes = (size_t)params->size * psg_dtype_size(params->dtype), count = params->count;
    char *values = NULL;
    if (!take_list(params, &params->all) || !take_list(params, &params->trainable) ||
        !(params->gradients = psg_arena_take(memory, count * sizeof *params->gradients)) ||
        !(params->set = psg_arena_take(memory, count * sizeof *params->set)) ||
        !(values = psg_arena_take(memory, bytes))) {
        psg_arena_release(memory);
        return psg_fail_memory(params->context, "psg_params_initialize", bytes);
    }
    params->values = values;
    psg_lend(params->context, &params->lent, &params->owner, values, bytes);
    for (size_t k = 0; k < count; k++) {
        psg_tensor *value = &params->entries[k].param->value;
        value->data = values;
        values += (size_t)psg_tensor_count(value) * psg_dtype_size(params->dtype);
    }
    return PSG_OK;
}

psg_status psg_params_initialize(psg_params *params, uint64_t seed) {
    PSG_DEFAULT_FLOATS;
    if (!params) return PSG_ERR_ARGUMENT;
    if (params->status) return psg_fail(params->context, params->status, "%s", params->message);
    psg_status status = params->values ? PSG_OK : take_memory(params);
    for (size_t k = 0; k < params->count && !status; k++) {
        const entry *e = &params->entries[k];
        psg_init_draw(&e->init, seed, e->param->name, &e->param->value);
    }
    return status;
}

/* ---- looking ---- */

psg_param *psg_params_find(const psg_params *params, const char *name) {
    if (!params || !name) return NULL;
    const size_t k = find(params, name);
    return k < params->count ? params->entries[k].param : NULL;
}

psg_tensor psg_params_flat(const psg_params *params) {
    if (!params || !params->values) return psg_tensor_of(PSG_F32, NULL, -1, NULL);
    return psg_tensor_of(params->dtype, params->values, 1, &params->size);
}

static psg_param_list fill(const psg_params *params, const list_arrays *list, bool frozen_too) {
    psg_param_list found = { 0, list->params, list->values, list->named, list->counts };
    for (size_t k = 0; k < params->count; k++) {
        psg_param *param = params->entries[k].param;
        if (!frozen_too && !param->trainable) continue;
        list->params[found.count] = param;
        list->values[found.count] = param->value;
        list->named[found.count] = psg_param_named(param);
        list->counts[found.count++] = psg_tensor_count(&param->value);
    }
    return found;
}

static const psg_param_list none = { 0, NULL, NULL, NULL, NULL };

psg_param_list psg_params_all(psg_params *params) {
    return params && params->values ? fill(params, &params->all, true) : none;
}

psg_param_list psg_params_trainable(psg_params *params) {
    return params && params->values ? fill(params, &params->trainable, false) : none;
}

psg_status psg_params_gradients(psg_params *params, const psg_tape *tape, const psg_gradient *const **gradients) {
    if (!params) return tape ? psg_fail_null(tape->context, "psg_params_gradients", "params") : PSG_ERR_ARGUMENT;
    if (!gradients) return psg_fail_null(params->context, "psg_params_gradients", "gradients");
    *gradients = NULL;
    if (!params->values) {
        return psg_fail(params->context, PSG_ERR_STATE, "psg_params_gradients: before psg_params_initialize");
    }
    const psg_param_list trained = fill(params, &params->trainable, false);
    memset(params->set, 0, params->count * sizeof *params->set);   /* more than are trainable now are NULL */
    psg_status status = psg_gradients_of(tape, trained.params, trained.count, params->gradients, params->set);
    if (!status) *gradients = params->set;
    return status;
}
