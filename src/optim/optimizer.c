#include "optim/optimizer.h"

#include <math.h>
#include <string.h>

#include "base/context.h"
#include "base/floats.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/shapes.h"

psg_status psg_optimizer_refuse(psg_context *context, const char *name, const char *option, double value,
                                const char *rule) {
    return psg_fail(context, PSG_ERR_ARGUMENT, "%s: %s is %g, must be %s", name, option, value, rule);
}

psg_status psg_optimizer_refuse_zero_lr(psg_context *context, const char *name) {
    return psg_optimizer_refuse(context, name, "lr", 0, "above 0 (the options' INIT macro has 1e-3; psg_optimizer_set_lr "
                                "takes 0)");
}

int psg_optimizer_is_magnitude(double value) { return isfinite(value) && value >= 0; }

void psg_optimizer_describe(psg_writer *writer, const char *kind, const psg_option_number *numbers, size_t count) {
    psg_put(writer, "%s", kind);
    for (size_t k = 0; k < count; k++) {
        psg_put(writer, ", %s ", numbers[k].name);
        psg_put_number(writer, numbers[k].value);
    }
}

/* ---- creation ---- */

static psg_status check_tensor(const psg_optimizer *o, const char *what, size_t k, const psg_tensor *tensor) {
    if (!psg_tensor_is_valid(tensor)) {
        char fault[PSG_FAULT_TEXT];
        return psg_fail(o->context, PSG_ERR_ARGUMENT, "%s: %s[%zu] is %s", o->name, what, k,
                        psg_tensor_fault(tensor, fault));
    }
    if (!psg_dtype_is_real(tensor->dtype)) {
        return psg_fail(o->context, PSG_ERR_DTYPE, "%s: %s[%zu] is %s, must be f32 or f64", o->name, what, k,
                        psg_dtype_name(tensor->dtype));
    }
    if (!psg_tensor_is_contiguous(tensor)) {
        return psg_fail(o->context, PSG_ERR_ARGUMENT, "%s: %s[%zu] has strides, must be contiguous", o->name, what, k);
    }
    return PSG_OK;
}

static psg_status check_values(const psg_optimizer *o, const psg_tensor *values, size_t count) {
    if (!values || !count || count > INT64_MAX / PSG_OPTIMIZER_MAX_STATES) {
        return psg_fail(o->context, PSG_ERR_ARGUMENT, "%s: values is %s of count %zu, must hold at least one (a "
                        "psg_params has its values after psg_params_initialize)", o->name,
                        values ? "an array" : "NULL", count);
    }
    psg_status status = PSG_OK;
    for (size_t k = 0; !status && k < count; k++) status = check_tensor(o, "values", k, &values[k]);
    return status;
}

static psg_status take(const psg_optimizer *o, int64_t count, size_t size, void **memory) {
    size_t bytes;
    if (!psg_size_bytes(count, size, &bytes)) {
        return psg_fail(o->context, PSG_ERR_OVERFLOW, "%s: %lld elements do not fit memory", o->name, (long long)count);
    }
    *memory = psg_alloc_zeroed(o->context, bytes);
    return *memory ? PSG_OK : psg_fail_memory(o->context, o->name, bytes);
}

/* An error leaves what was taken, for psg_optimizer_destroy. */
static psg_status take_state(psg_optimizer *o, const psg_tensor *values) {
    void *memory;
    psg_status status = take(o, (int64_t)o->count, sizeof *o->values, &memory);
    if (status) return status;
    o->values = memory;
    for (size_t k = 0; k < o->count; k++) o->values[k] = values[k];
    status = take(o, (int64_t)o->count, sizeof *o->lenders, &memory);
    if (status) return status;
    o->lenders = memory;
    for (size_t k = 0; k < o->count; k++) psg_hold(o->lenders[k] = psg_owner_of(o->context, values[k].data));
    status = take(o, (int64_t)(o->count * o->state_count), sizeof *o->state, &memory);
    if (status) return status;
    o->state = memory;
    for (size_t s = 0; !status && s < o->count * o->state_count; s++) {
        const psg_tensor *tensor = &values[s / o->state_count];
        status = take(o, psg_tensor_count(tensor), psg_dtype_size(tensor->dtype), &o->state[s]);
    }
    return status;
}

psg_status psg_optimizer_create(const psg_optimizer *model, const psg_tensor *values, size_t count,
                                psg_optimizer **optimizer) {
    if (!optimizer) {
        return psg_fail_null(model->context, model->name, "optimizer");
    }
    *optimizer = NULL;
    psg_status status = check_values(model, values, count);
    if (status) return status;
    psg_optimizer *made = psg_new_object(model->context, sizeof *made);
    if (!made) return psg_fail_memory(model->context, model->name, sizeof *made);
    *made = *model;
    made->name = "psg_optimizer_step";
    made->count = count;
    status = psg_fail_as(model->context, model->name, take_state(made, values));
    if (status) {
        psg_optimizer_destroy(made);
        return status;
    }
    *optimizer = made;
    return PSG_OK;
}

void psg_optimizer_destroy(psg_optimizer *optimizer) {
    if (!optimizer) return;
    size_t states = optimizer->state ? optimizer->count * optimizer->state_count : 0;
    for (size_t s = 0; s < states; s++) psg_free(optimizer->context, optimizer->state[s]);
    psg_free(optimizer->context, optimizer->state);
    for (size_t k = 0; optimizer->lenders && k < optimizer->count; k++) psg_let_go(optimizer->lenders[k]);
    psg_free(optimizer->context, optimizer->lenders);
    psg_free(optimizer->context, optimizer->values);
    psg_free_object(optimizer->context, optimizer);
}

psg_status psg_optimizer_set_lr(psg_optimizer *optimizer, double lr) {
    PSG_DEFAULT_FLOATS;
    if (!optimizer) return PSG_ERR_ARGUMENT;
    if (!psg_optimizer_is_magnitude(lr)) {
        return psg_optimizer_refuse(optimizer->context, "psg_optimizer_set_lr", "lr", lr, "finite and at least 0");
    }
    optimizer->lr = lr;
    return PSG_OK;
}

double psg_optimizer_lr(const psg_optimizer *optimizer) { return optimizer ? optimizer->lr : 0; }

/* ---- a step ---- */

/* tensors[k] must be like the value: contiguous, of its type and number of elements. */
static psg_status check_like(const psg_optimizer *o, const char *what, const psg_tensor *tensors, size_t k,
                             const psg_tensor *value) {
    psg_status status = check_tensor(o, what, k, &tensors[k]);
    if (status) return status;
    if (tensors[k].dtype != value->dtype) {
        return psg_fail(o->context, PSG_ERR_DTYPE, "%s: %s[%zu] is %s, must be %s as its value", o->name, what, k,
                        psg_dtype_name(tensors[k].dtype), psg_dtype_name(value->dtype));
    }
    if (psg_tensor_count(&tensors[k]) != psg_tensor_count(value)) {
        char text[PSG_SHAPE_TEXT], value_text[PSG_SHAPE_TEXT];
        return psg_fail(o->context, PSG_ERR_SHAPE, "%s: %s[%zu] has shape %s, must fit its value of shape %s", o->name,
                        what, k, psg_tensor_text(&tensors[k], text), psg_tensor_text(value, value_text));
    }
    return PSG_OK;
}

static psg_status check_gradients(const psg_optimizer *o, const psg_tensor *gradients, size_t count) {
    if (!gradients) return psg_fail_null(o->context, o->name, "gradients");
    if (count != o->count) {
        return psg_fail(o->context, PSG_ERR_ARGUMENT, "%s: count of gradients is %zu, must be %zu, one a value",
                        o->name, count, o->count);
    }
    psg_status status = PSG_OK;
    for (size_t k = 0; !status && k < count; k++) status = check_like(o, "gradients", gradients, k, &o->values[k]);
    return status;
}

void psg_optimizer_begin(psg_optimizer *optimizer) {
    optimizer->steps++;
    optimizer->prepare(optimizer);
}

void psg_optimizer_update(const psg_optimizer *o, size_t parameter, size_t first, size_t count,
                          const void *gradients) {
    const psg_tensor *values = &o->values[parameter];
    psg_optimizer_chunk chunk = { .count = count, .kernels = o->context->kernels[values->dtype] };
    chunk.values = psg_tensor_offset(values, (int64_t)first);
    chunk.gradients = gradients;
    for (size_t s = 0; s < o->state_count; s++) {
        char *state = o->state[parameter * o->state_count + s];
        chunk.state[s] = state + first * psg_dtype_size(values->dtype);
    }
    o->update(o, &chunk);
}

#define CHUNK ((size_t)16384)   /* elements a task */

typedef struct parameter_step {
    const psg_optimizer *optimizer;
    size_t parameter;
    const psg_tensor *gradient;
} parameter_step;

static void step_chunk(void *argument, size_t index, unsigned slot) {
    (void)slot;
    const parameter_step *job = argument;
    size_t first = index * CHUNK, rest = (size_t)psg_tensor_count(job->gradient) - first;
    psg_optimizer_update(job->optimizer, job->parameter, first, rest < CHUNK ? rest : CHUNK,
                         psg_tensor_offset(job->gradient, (int64_t)first));
}

psg_status psg_optimizer_step(psg_optimizer *optimizer, const psg_tensor *gradients, size_t count) {
    PSG_DEFAULT_FLOATS;
    if (!optimizer) return PSG_ERR_ARGUMENT;
    psg_status status = check_gradients(optimizer, gradients, count);
    if (status) return status;
    psg_optimizer_begin(optimizer);
    for (size_t k = 0; k < count; k++) {
        parameter_step job = { optimizer, k, &gradients[k] };
        size_t elements = (size_t)psg_tensor_count(&gradients[k]);
        psg_parallel(optimizer->context, (elements + CHUNK - 1) / CHUNK, step_chunk, &job);
    }
    return PSG_OK;
}

/* ---- state ---- */

uint64_t psg_optimizer_steps(const psg_optimizer *optimizer) { return optimizer ? optimizer->steps : 0; }
size_t psg_optimizer_state_count(const psg_optimizer *optimizer) { return optimizer ? optimizer->state_count : 0; }

psg_status psg_optimizer_state(const psg_optimizer *o, size_t value, size_t index, psg_named *state) {
    if (!o) return PSG_ERR_ARGUMENT;
    if (!state || value >= o->count || index >= o->state_count) {
        return psg_fail(o->context, PSG_ERR_ARGUMENT, "psg_optimizer_state: array %zu of value %zu, must be below %zu "
                        "and %zu, and state not NULL", index, value, o->state_count, o->count);
    }
    const psg_tensor *like = &o->values[value];
    void *data = o->state[value * o->state_count + index];
    *state = (psg_named){ o->state_name[index], psg_tensor_of(like->dtype, data, like->rank, like->shape) };
    return PSG_OK;
}

psg_status psg_optimizer_set_state(psg_optimizer *o, uint64_t steps, const psg_tensor *states, size_t count) {
    PSG_DEFAULT_FLOATS;
    if (!o) return PSG_ERR_ARGUMENT;
    if (count && !states) return psg_fail_null(o->context, "psg_optimizer_set_state", "states");
    if (count != o->count * o->state_count) {
        return psg_fail(o->context, PSG_ERR_ARGUMENT, "psg_optimizer_set_state: count of states is %zu, must be %zu, "
                        "%zu a value", count, o->count * o->state_count, o->state_count);
    }
    for (size_t s = 0; s < count; s++) {
        psg_status status = check_like(o, "states", states, s, &o->values[s / o->state_count]);
        if (status) return psg_fail_as(o->context, "psg_optimizer_set_state", status);
    }
    for (size_t s = 0; s < count; s++) {
        size_t bytes = (size_t)psg_tensor_count(&states[s]) * psg_dtype_size(states[s].dtype);
        if (bytes) memmove(o->state[s], states[s].data, bytes);
    }
    o->steps = steps;
    return PSG_OK;
}
