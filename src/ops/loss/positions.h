/* Losses of scores (N, C, *) or, with class_last, (N, *, C), input 0, and class labels (N, *), input 1: cross_entropy
 * and nll. */
#ifndef PSG_OPS_POSITIONS_H
#define PSG_OPS_POSITIONS_H

#include <stdbool.h>

#include "psg/ops/loss.h"

/* Position p has label p, and scores `stride` apart that start at element psg_scores_at. */
typedef struct psg_positions {
    int64_t count, classes, stride;
} psg_positions;

psg_positions psg_positions_of(const psg_call *call, bool class_last);
int64_t psg_scores_at(const psg_positions *at, int64_t p);
/* The shape of the labels: the scores' without the classes; returns the rank. */
int psg_positions_shape(const psg_call *call, bool class_last, int64_t shape[PSG_MAX_RANK]);
/* The dimension of the scores' classes. */
int psg_class_dim(const psg_call *call, bool class_last);
/* Element k of an i32 or i64 tensor. */
int64_t psg_integer_at(const psg_tensor *tensor, int64_t k);

/* Which labels do not count. */
typedef struct psg_ignored {
    int has_index;
    int64_t index;
} psg_ignored;

static inline bool psg_is_ignored(psg_ignored ignored, int64_t label) {
    return ignored.has_index && label == ignored.index;
}

/* shape: real scores of rank >= 2 with at least one class, integer labels that fit them, both carrying the batch. */
psg_status psg_check_labels_shape(psg_call *call, bool class_last);
/* shape: input k is absent, or constant class weights (C). */
psg_status psg_check_class_weight(psg_call *call, int k, bool class_last);
/* shape: a mean that divides by what is counted over all samples is no sum of losses of samples. */
psg_status psg_check_counted_mean(psg_call *call, psg_reduction reduction, bool counts);
/* forward: labels in [0, classes), or ignored; or 0, of a record that the pass removes. */
psg_status psg_check_labels(psg_call *call, int64_t classes, psg_ignored ignored);

/* The weight of a label: 0 when it is ignored, 1 without an operand k.  What has weight 0 has no loss and no gradient,
 * whatever its scores. */
double psg_label_weight(const psg_call *call, int k, psg_ignored ignored, int64_t label);
/* The sum of these over all labels. */
double psg_label_weights(const psg_call *call, int k, psg_ignored ignored);

#endif
