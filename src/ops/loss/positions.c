#include "ops/loss/positions.h"

#include "base/shapes.h"
#include "ops/shared/operand.h"

enum { SCORES, LABELS };

/* ---- where things lie ---- */

int psg_class_dim(const psg_call *call, bool class_last) {
    const psg_tensor *scores = &call->input[SCORES].value;
    return class_last ? scores->rank - 1 : 1 - 0;
}

/* (N, C, *), or (C, N, *). */
static void place_class_first(psg_positions *at, bool batch_second) {
    at->sample_stride = batch_second ? at->spatial : at->classes * at->spatial;
    at->class_stride = batch_second ? at->samples * at->spatial : at->spatial;
    at->step = 1;
    at->block = at->spatial;
}

/* (N, *, C), or (first of *, N, the others, C). */
static void place_class_last(psg_positions *at, const psg_tensor *scores, bool batch_second) {
    at->class_stride = 1;
    at->step = at->classes;
    at->block = batch_second ? psg_shape_product(scores->rank - 3, scores->shape + 2) : at->spatial;
    at->sample_stride = at->block * at->classes;
    at->block_stride = at->samples * at->sample_stride;
}

/* Labels have the scores' rank less one. */
psg_positions psg_positions_of(const psg_call *call, bool class_last) {
    const psg_tensor *scores = &call->input[SCORES].value;
    const int batch = 0, classes = psg_class_dim(call, class_last);
    psg_positions at = { .samples = scores->shape[batch], .classes = scores->shape[classes], .spatial = 1 };
    for (int d = 0; d < scores->rank; d++) at.spatial *= d == batch || d == classes ? 1 : scores->shape[d];
    if (class_last) place_class_last(&at, scores, batch);
    else place_class_first(&at, batch);
    bool labels_second = batch && scores->rank - 1 >= 3;   /* then the labels are (first spatial, N, further ones) */
    const int64_t *further = scores->shape + (class_last ? 2 : 3);
    at.run = labels_second ? psg_shape_product(scores->rank - 3, further) : at.spatial;
    return at;
}

int64_t psg_position_count(const psg_positions *at) { return at->samples * at->spatial; }

int64_t psg_scores_at(const psg_positions *at, int64_t p) {
    int64_t n = p / at->spatial, s = p % at->spatial;
    return n * at->sample_stride + s / at->block * at->block_stride + s % at->block * at->step;
}

int64_t psg_label_place(const psg_positions *at, int64_t p) {
    int64_t n = p / at->spatial, s = p % at->spatial;
    return (s / at->run * at->samples + n) * at->run + s % at->run;
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

/* The labels' shape is that of the scores, both with the batch in front, without the classes. */
static bool shapes_fit(const psg_call *call, bool class_last) {
    psg_tensor scores = call->input[SCORES].value, labels = call->input[LABELS].value;
    if (labels.rank != scores.rank - 1) return false;
    scores = psg_tensor_swap(&scores, 0, 0);
    labels = psg_tensor_swap(&labels, 0, 0);
    return scores.shape[0] == labels.shape[0] &&
           psg_shape_equal(labels.rank - 1, labels.shape + 1, scores.rank - 2, scores.shape + (class_last ? 1 : 2));
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
        return psg_call_fail(call, PSG_ERR_SHAPE, "%s has shape %s and %s %s, must be %s and (N, *)%s", name, text,
                             labels_name, psg_tensor_text(labels, labels_text), layout,
                             "");
    }
    if (scores->shape[psg_class_dim(call, class_last)] == 0) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "%s has shape %s, there must be at least one class", name, text);
    }
    status = psg_operand_carries_batch(call, SCORES);
    return status ? status : psg_operand_carries_batch(call, LABELS);
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

psg_status psg_check_labels(psg_call *call, int64_t classes, psg_ignored ignored) {
    const psg_tensor *labels = &call->input[LABELS].value;
    int64_t count = psg_tensor_count(labels);
    for (int64_t k = 0; k < count; k++) {
        int64_t label = psg_integer_at(labels, k);
        if ((label >= 0 && label < classes) || psg_is_ignored(ignored, label)) continue;
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s[%lld] (in memory order) is %lld, must be in [0, %lld)",
                             call->op->input_names[LABELS], (long long)k, (long long)label, (long long)classes);
    }
    return PSG_OK;
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
