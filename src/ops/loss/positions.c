#include "ops/loss/positions.h"

#include "base/shapes.h"
#include "ops/shared/operand.h"

enum { SCORES, LABELS };

/* ---- where things lie ---- */

int psg_class_dim(const psg_call *call, bool class_last) {
    return class_last ? call->input[SCORES].value.rank - 1 : 1;
}

int psg_positions_shape(const psg_call *call, bool class_last, int64_t shape[PSG_MAX_RANK]) {
    const psg_tensor *scores = &call->input[SCORES].value;
    int rank = 0;
    for (int d = 0; d < scores->rank; d++) {
        if (d != psg_class_dim(call, class_last)) shape[rank++] = scores->shape[d];
    }
    return rank;
}

psg_positions psg_positions_of(const psg_call *call, bool class_last) {
    const psg_tensor *scores = &call->input[SCORES].value;
    const int classes = psg_class_dim(call, class_last);
    int64_t before = psg_shape_product(classes, scores->shape);
    int64_t stride = psg_shape_product(scores->rank - classes - 1, scores->shape + classes + 1);
    return (psg_positions){ before * stride, scores->shape[classes], stride };
}

int64_t psg_scores_at(const psg_positions *at, int64_t p) {
    return p / at->stride * at->stride * at->classes + p % at->stride;
}

int64_t psg_integer_at(const psg_tensor *tensor, int64_t k) {
    if (tensor->dtype == PSG_I32) return ((const int32_t *)tensor->data)[k];
    return ((const int64_t *)tensor->data)[k];
}

/* ---- shape ---- */

static psg_status check_types(psg_call *call) {
    psg_dtype labels = call->input[LABELS].value.dtype;
    psg_status status = psg_operands_real(call, 1);
    if (status || labels == PSG_I32 || labels == PSG_I64) return status;
    return psg_call_fail(call, PSG_ERR_DTYPE, "%s is %s, must be i32 or i64", call->op->input_names[LABELS],
                         psg_dtype_name(labels));
}

static bool shapes_fit(const psg_call *call, bool class_last) {
    const psg_tensor *labels = &call->input[LABELS].value;
    int64_t shape[PSG_MAX_RANK];
    return psg_shape_equal(labels->rank, labels->shape, psg_positions_shape(call, class_last, shape), shape);
}

psg_status psg_check_labels_shape(psg_call *call, bool class_last) {
    psg_status status = check_types(call);
    if (status) return status;
    const psg_tensor *scores = &call->input[SCORES].value, *labels = &call->input[LABELS].value;
    const char *name = call->op->input_names[SCORES], *labels_name = call->op->input_names[LABELS];
    const char *layout = class_last ? "(N, *, C)" : "(N, C, *)";
    char text[PSG_SHAPE_TEXT], labels_text[PSG_SHAPE_TEXT];
    psg_tensor_text(scores, text);
    if (scores->rank < 2) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "%s has shape %s, must be of rank >= 2: %s", name, text, layout);
    }
    if (!shapes_fit(call, class_last)) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "%s has shape %s and %s %s, must be %s and (N, *)", name, text,
                             labels_name, psg_tensor_text(labels, labels_text), layout);
    }
    if (scores->shape[psg_class_dim(call, class_last)] == 0) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "%s has shape %s, there must be at least one class", name, text);
    }
    status = psg_operand_beside_batch(call, SCORES);
    return status ? status : psg_operand_beside_batch(call, LABELS);
}

psg_status psg_check_class_weight(psg_call *call, int k, bool class_last) {
    const psg_operand *weight = &call->input[k];
    int64_t classes = call->input[SCORES].value.shape[psg_class_dim(call, class_last)];
    char text[PSG_SHAPE_TEXT];
    if (weight->role == PSG_ABSENT) return PSG_OK;
    if (weight->role != PSG_CONSTANT) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "weight carries a batch, must be a psg_constant of shape (C)");
    }
    if (!psg_dtype_is_real(weight->value.dtype)) {
        return psg_call_fail(call, PSG_ERR_DTYPE, "weight is %s, must be f32 or f64",
                             psg_dtype_name(weight->value.dtype));
    }
    if (weight->value.rank == 1 && weight->value.shape[0] == classes) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "weight has shape %s, must be (%lld): one a class",
                         psg_tensor_text(&weight->value, text), (long long)classes);
}

psg_status psg_check_counted_mean(psg_call *call, psg_reduction reduction, bool counts) {
    if (call->pass->ordinary || !counts || reduction != PSG_MEAN) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "a mean over the targets that are not ignored, or by their "
                         "weights, divides the loss of each sample by a sum over all samples, which mixes them; use "
                         "reduction PSG_SUM or PSG_NONE");
}

/* ---- labels ---- */

/* Class 0 stands in for the label of a record that is removed. */
static psg_status correct_label(psg_call *call, int64_t k, int64_t classes) {
    psg_tensor *labels = &call->input[LABELS].value;
    bool own = call->input[LABELS].role == PSG_BATCHED;
    int64_t label = psg_integer_at(labels, k), row = own ? psg_tensor_count(labels) / labels->shape[0] : 1;
    if (!own || !psg_call_removes(call, k / row)) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s[%lld] (in memory order) is %lld, must be in [0, %lld)",
                             call->op->input_names[LABELS], (long long)k, (long long)label, (long long)classes);
    }
    return psg_integer_correct(call, LABELS, k);
}

psg_status psg_check_labels(psg_call *call, int64_t classes, psg_ignored ignored) {
    int64_t count = psg_tensor_count(&call->input[LABELS].value);
    psg_status status = PSG_OK;
    for (int64_t k = 0; k < count && !status; k++) {
        int64_t label = psg_integer_at(&call->input[LABELS].value, k);
        bool good = (label >= 0 && label < classes) || psg_is_ignored(ignored, label);
        if (!good) status = correct_label(call, k, classes);
    }
    return status;
}

double psg_label_weight(const psg_call *call, int k, psg_ignored ignored, int64_t label) {
    if (psg_is_ignored(ignored, label)) return 0;
    if (call->input[k].role == PSG_ABSENT) return 1;
    psg_tensor one = call->input[k].value;
    one.data = psg_tensor_offset(&one, label);
    return psg_scalar_value(call, &one);
}

double psg_label_weights(const psg_call *call, int k, psg_ignored ignored) {
    const psg_tensor *labels = &call->input[LABELS].value;
    int64_t count = psg_tensor_count(labels);
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += psg_label_weight(call, k, ignored, psg_integer_at(labels, i));
    return sum;
}
