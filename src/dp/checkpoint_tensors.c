#include "dp/checkpoint_tensors.h"

#include <string.h>

#include "base/context.h"
#include "base/label.h"
#include "base/memory.h"
#include "base/shapes.h"
#include "base/writer.h"
#include "optim/optimizer.h"

/* ---- checks ---- */

static psg_status refuse(const psg_dp *dp, const char *function, const char *what) {
    return psg_fail(dp->context, PSG_ERR_ARGUMENT, "%s: %s", function, what);
}

static psg_status check_named(const psg_dp *dp, const char *function, const char *what, const psg_named *named,
                              size_t k) {
    if (named->name && psg_tensor_is_valid(&named->tensor)) return PSG_OK;
    return psg_fail(dp->context, PSG_ERR_ARGUMENT, "%s: %s has no %s, must have", function,
                    psg_label_at(what, k, named->name).text, named->name ? "valid tensor" : "name");
}

static psg_status check_param(const psg_dp *dp, const char *function, const psg_checkpoint *c, size_t k) {
    const psg_named *param = &c->params[k];
    psg_status status = check_named(dp, function, "params", param, k);
    if (status) return status;
    if (psg_tensor_count(&param->tensor) != (int64_t)psg_dp_elements(dp, k)) {
        char text[PSG_SHAPE_TEXT];
        return psg_fail(dp->context, PSG_ERR_SHAPE, "%s: %s has shape %s, must have the %zu elements of the "
                        "mechanism's parameter", function, psg_label_at("params", k, param->name).text,
                        psg_tensor_text(&param->tensor, text), psg_dp_elements(dp, k));
    }
    if (!c->optimizer || c->optimizer->values[k].data == param->tensor.data) return PSG_OK;
    return psg_fail(dp->context, PSG_ERR_ARGUMENT, "%s: value %zu of the optimizer is not the memory of %s, must be",
                    function, k, psg_label_at("params", k, param->name).text);
}

static psg_status check(const psg_dp *dp, const char *function, const psg_checkpoint *c) {
    if (!c->params || c->param_count != dp->param_count) {
        return psg_fail(dp->context, PSG_ERR_ARGUMENT, "%s: param_count is %zu, must be the mechanism's %zu", function,
                        c->params ? c->param_count : 0, dp->param_count);
    }
    if (c->optimizer && c->optimizer->count != dp->param_count) {
        return refuse(dp, function, "the optimizer has another number of values than the mechanism has parameters");
    }
    if (c->extra_count && !c->extra) return refuse(dp, function, "extra is NULL, must hold extra_count tensors");
    psg_status status = PSG_OK;
    for (size_t k = 0; !status && k < c->param_count; k++) status = check_param(dp, function, c, k);
    for (size_t k = 0; !status && k < c->extra_count; k++) {
        status = check_named(dp, function, "extra", &c->extra[k], k);
    }
    return status;
}

/* ---- the list ---- */

/* Writes names and views, or, without room for names, counts alone. */
typedef struct collector {
    psg_writer names;
    psg_named *list;               /* or NULL */
    size_t count;
} collector;

static void add(collector *c, const char *kind, const char *name, const char *part, const psg_tensor *tensor) {
    if (c->list) c->list[c->count] = (psg_named){ c->names.text + c->names.used, *tensor };
    c->count++;
    psg_put(&c->names, "%s%s%s%s%s", kind, *kind ? "." : "", name, *part ? "." : "", part);
    c->names.used++;   /* its end */
}

typedef struct number_field {
    const char *name;
    psg_dtype dtype;
    size_t offset;
} number_field;

static const number_field number_fields[] = {
    { "step", PSG_I64, offsetof(psg_checkpoint_numbers, step) },
    { "optimizer_steps", PSG_I64, offsetof(psg_checkpoint_numbers, optimizer_steps) },
    { "ledger_lines", PSG_I64, offsetof(psg_checkpoint_numbers, ledger_lines) },
    { "lr", PSG_F64, offsetof(psg_checkpoint_numbers, lr) },
    { "max_grad_norm", PSG_F64, offsetof(psg_checkpoint_numbers, max_grad_norm) },
};
#define NUMBER_FIELDS (sizeof number_fields / sizeof *number_fields)

static void add_numbers(collector *c, psg_checkpoint_numbers *numbers) {
    for (size_t k = 0; k < NUMBER_FIELDS; k++) {
        const number_field *field = &number_fields[k];
        const psg_tensor scalar = psg_tensor_of(field->dtype, (char *)numbers + field->offset, 0, NULL);
        add(c, "psg", field->name, "", &scalar);
    }
}

static void add_state(collector *c, const psg_optimizer *optimizer, size_t k, const char *name) {
    psg_named state = { NULL, { NULL, PSG_F32, 0, { 0 }, { 0 } } };
    for (size_t s = 0; s < psg_optimizer_state_count(optimizer); s++) {
        psg_optimizer_state(optimizer, k, s, &state);
        add(c, "optimizer", name, state.name, &state.tensor);
    }
}

static void add_all(collector *c, const psg_checkpoint *checkpoint, psg_checkpoint_numbers *numbers) {
    for (size_t k = 0; k < checkpoint->param_count; k++) {
        const psg_named *param = &checkpoint->params[k];
        add(c, "", param->name, "", &param->tensor);
        add_state(c, checkpoint->optimizer, k, param->name);
    }
    for (size_t k = 0; k < checkpoint->extra_count; k++) {
        add(c, "extra", checkpoint->extra[k].name, "", &checkpoint->extra[k].tensor);
    }
    add_numbers(c, numbers);
}

psg_status psg_checkpoint_tensors_of(const psg_dp *dp, const char *function, const psg_checkpoint *checkpoint,
                                     psg_checkpoint_numbers *numbers, psg_checkpoint_tensors *tensors) {
    psg_status status = check(dp, function, checkpoint);
    if (status) return status;
    collector all = { { NULL, 0, 0 }, NULL, 0 };
    add_all(&all, checkpoint, numbers);
    const size_t list_bytes = all.count * sizeof *tensors->list, name_bytes = all.names.used;
    *tensors = (psg_checkpoint_tensors){ .context = dp->context };
    tensors->list = psg_alloc(dp->context, list_bytes);
    tensors->names = psg_alloc(dp->context, name_bytes);
    if (!tensors->list || !tensors->names) {
        psg_checkpoint_tensors_free(tensors);
        return psg_fail_memory(dp->context, function, list_bytes + name_bytes);
    }
    all = (collector){ { tensors->names, name_bytes, 0 }, tensors->list, 0 };
    add_all(&all, checkpoint, numbers);
    tensors->count = all.count;
    return PSG_OK;
}

void psg_checkpoint_tensors_free(psg_checkpoint_tensors *tensors) {
    psg_free(tensors->context, tensors->names);
    psg_free(tensors->context, tensors->list);
}

bool psg_checkpoint_find_numbers(const psg_tensors *tensors, psg_checkpoint_numbers *numbers) {
    char name[64];
    for (size_t k = 0; k < NUMBER_FIELDS; k++) {
        const number_field *field = &number_fields[k];
        psg_writer w = { name, sizeof name, 0 };
        psg_put(&w, "psg.%s", field->name);
        const psg_tensor *found = psg_tensors_find(tensors, name);
        if (!found || found->dtype != field->dtype || found->rank) return false;
        memcpy((char *)numbers + field->offset, found->data, psg_dtype_size(field->dtype));
    }
    return true;
}
