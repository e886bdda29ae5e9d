/* Parameters: the caller's memory with a name. */
#include <string.h>

#include "base/label.h"
#include "base/shapes.h"
#include "tape/tape_struct.h"

static psg_status check_value(psg_context *context, const char *name, const psg_tensor *value) {
    const psg_label label = psg_label_of("value", name);
    if (!psg_tensor_is_valid(value)) {
        char fault[PSG_FAULT_TEXT];
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_param_create: %s is %s", label.text,
                        psg_tensor_fault(value, fault));
    }
    if (!psg_dtype_is_real(value->dtype)) {
        return psg_fail(context, PSG_ERR_DTYPE, "psg_param_create: %s is %s, must be f32 or f64", label.text,
                        psg_dtype_name(value->dtype));
    }
    if (value->rank == PSG_MAX_RANK) {
        return psg_fail(context, PSG_ERR_SHAPE, "psg_param_create: %s has rank %d, must be below it: grad_sample has "
                        "one dimension more, the batch", label.text, PSG_MAX_RANK);
    }
    if (!psg_tensor_is_contiguous(value)) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_param_create: %s must be contiguous", label.text);
    }
    return PSG_OK;
}

static void free_param(void *object) {
    psg_param *param = object;
    psg_let_go(param->lender);
    psg_free_object(param->context, param);
}

psg_param *psg_param_of(psg_context *context, const char *name, const psg_tensor *value) {
    size_t length = strlen(name) + 1;
    psg_param *made = psg_new_object(context, sizeof *made + length);
    if (!made) return NULL;
    *made = (psg_param){ .context = context, .name = (char *)(made + 1), .value = *value, .trainable = true };
    made->own = (psg_owner){ .free = free_param, .object = made };
    made->owner = &made->own;
    made->lender = psg_owner_of(context, value->data);
    psg_hold(made->lender);
    memcpy(made->name, name, length);
    return made;
}

psg_status psg_param_create(psg_context *context, const char *name, const psg_tensor *value, psg_param **param) {
    if (!context || !param) return psg_fail_null(context, "psg_param_create", "param");
    *param = NULL;
    psg_status status = check_value(context, name, value);
    if (status) return status;
    *param = psg_param_of(context, name ? name : "parameter", value);
    return *param ? PSG_OK : psg_fail_memory(context, "psg_param_create", sizeof **param);
}

void psg_param_destroy(psg_param *param) {
    if (param && param->owner == &param->own) psg_destroy_handle(&param->own);
}

const psg_tensor *psg_param_value(const psg_param *param) { return param ? &param->value : NULL; }
const char *psg_param_name(const psg_param *param) { return param ? param->name : ""; }
void psg_param_set_trainable(psg_param *param, int trainable) {
    if (param) param->trainable = trainable != 0;
}

int psg_param_is_trainable(const psg_param *param) { return param && param->trainable; }

psg_status psg_param_attach_grad_sample(psg_param *param, const psg_tensor *grad_sample) {
    if (!param) return PSG_ERR_ARGUMENT;
    if (!grad_sample) {
        param->attached = param->has_grad_sample = false;
        return PSG_OK;
    }
    const psg_tensor *value = &param->value;
    char shape[PSG_SHAPE_TEXT], given[PSG_SHAPE_TEXT];
    if (!psg_tensor_is_valid(grad_sample)) {
        return psg_fail(param->context, PSG_ERR_ARGUMENT, "psg_param_attach_grad_sample: %s: no valid view",
                        param->name);
    }
    if (grad_sample->dtype != value->dtype) {
        return psg_fail(param->context, PSG_ERR_DTYPE, "psg_param_attach_grad_sample: %s is %s, grad_sample is %s",
                        param->name, psg_dtype_name(value->dtype), psg_dtype_name(grad_sample->dtype));
    }
    if (!psg_shape_equal(grad_sample->rank - 1, grad_sample->shape + 1, value->rank, value->shape)) {
        return psg_fail(param->context, PSG_ERR_SHAPE,
                        "psg_param_attach_grad_sample: %s has shape %s, grad_sample has %s, must be (B, *shape)",
                        param->name, psg_tensor_text(value, shape), psg_tensor_text(grad_sample, given));
    }
    param->grad_sample = *grad_sample;
    param->attached = true;
    param->has_grad_sample = false;
    return PSG_OK;
}

void psg_param_clear_grad_sample(psg_param *param) {
    if (param) param->has_grad_sample = false;
}

int psg_param_has_grad_sample(const psg_param *param) { return param && param->has_grad_sample; }
