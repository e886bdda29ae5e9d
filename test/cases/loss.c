#include <string.h>

#include "cases.h"

/* reduction=mean (also absent), sum or none. */
static psg_reduction reduction_of(const case_line *line) {
    const char *word = case_word(line, "reduction", "mean");
    return !strcmp(word, "none") ? PSG_NONE : !strcmp(word, "sum") ? PSG_SUM : PSG_MEAN;
}

static psg_var cross_entropy(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_cross_entropy_options options = PSG_CROSS_ENTROPY_OPTIONS_INIT;
    options.reduction = reduction_of(line);
    options.has_ignore_index = case_flag(line, "ignore_index");
    options.ignore_index = case_int(line, "ignore_index", -100);
    options.label_smoothing = case_real(line, "label_smoothing", 0.0);
    options.class_last = case_flag(line, "class_last");
    return psg_cross_entropy(tape, var[0], var[1], &options);
}

const case_op case_op_cross_entropy = {
    "cross_entropy", { { "x", PSG_BATCHED, 0, CASE_REAL }, { "target", PSG_BATCHED, 0, CASE_INTEGER } }, cross_entropy
};
