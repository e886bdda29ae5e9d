#include "cases.h"

/* reduction=mean (also absent), sum, none or batchmean. */
static psg_reduction reduction_of(const case_line *line) {
    static const char *const names[] = { [PSG_MEAN] = "mean", [PSG_SUM] = "sum", [PSG_NONE] = "none",
                                         [PSG_BATCH_MEAN] = "batchmean" };
    return (psg_reduction)case_choice(line, "reduction", PSG_MEAN, 4, names);
}

static psg_var mse(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_mse(tape, var[0], var[1], reduction_of(line));
}

static psg_var l1(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_l1(tape, var[0], var[1], reduction_of(line));
}

static psg_var smooth_l1(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_smooth_l1(tape, var[0], var[1], case_real(line, "beta", 1.0), reduction_of(line));
}

static psg_var huber(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_huber(tape, var[0], var[1], case_real(line, "delta", 1.0), reduction_of(line));
}

static psg_var logits(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_binary_cross_entropy_with_logits(tape, var[0], var[1], reduction_of(line));
}

static psg_var probabilities(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_binary_cross_entropy(tape, var[0], var[1], reduction_of(line));
}

static psg_var kl_div(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_kl_div(tape, var[0], var[1], case_flag(line, "log_target"), reduction_of(line));
}

static psg_var poisson_nll(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_poisson_nll_options options = { reduction_of(line), case_flag(line, "input_is_rate"), case_flag(line, "full"),
                                        case_real(line, "eps", 0.0), { 0 } };
    return psg_poisson_nll(tape, var[0], var[1], &options);
}

static psg_var soft_margin(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_soft_margin(tape, var[0], var[1], reduction_of(line));
}

static psg_var hinge_embedding(psg_tape *tape, const case_line *line, const psg_var *var) {
    return psg_hinge_embedding(tape, var[0], var[1], case_real(line, "margin", 1.0), reduction_of(line));
}

#define X                                                                                                              \
    { "x", PSG_BATCHED, 0, CASE_REAL }
#define UNIT_X                                                                                                         \
    { "x", PSG_BATCHED, 0, CASE_UNIT }
#define TARGET(kind)                                                                                                   \
    { "target", PSG_BATCHED, 0, kind }
const case_op case_op_mse = { "mse", { X, TARGET(CASE_REAL) }, mse };
const case_op case_op_l1 = { "l1", { X, TARGET(CASE_REAL) }, l1 };
const case_op case_op_smooth_l1 = { "smooth_l1", { X, TARGET(CASE_REAL) }, smooth_l1 };
const case_op case_op_huber = { "huber", { X, TARGET(CASE_REAL) }, huber };
const case_op case_op_binary_cross_entropy_with_logits = { "binary_cross_entropy_with_logits",
                                                           { X, TARGET(CASE_UNIT) },
                                                           logits };
const case_op case_op_binary_cross_entropy = { "binary_cross_entropy", { UNIT_X, TARGET(CASE_UNIT) }, probabilities };
const case_op case_op_kl_div = { "kl_div", { X, TARGET(CASE_UNIT) }, kl_div };
const case_op case_op_poisson_nll = { "poisson_nll", { X, TARGET(CASE_POSITIVE) }, poisson_nll };
const case_op case_op_soft_margin = { "soft_margin", { X, TARGET(CASE_REAL) }, soft_margin };
const case_op case_op_hinge_embedding = { "hinge_embedding", { X, TARGET(CASE_REAL) }, hinge_embedding };

static psg_var nll(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_nll_options options = { reduction_of(line), case_flag(line, "ignore_index"),
                                case_int(line, "ignore_index", -100), { 0 } };
    return psg_nll(tape, var[0], var[1], var[2], &options);
}

/* target "real" or "unit": probabilities. */
static psg_var cross_entropy(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_cross_entropy_options options = PSG_CROSS_ENTROPY_OPTIONS_INIT;
    options.reduction = reduction_of(line);
    options.has_ignore_index = case_flag(line, "ignore_index");
    options.ignore_index = case_int(line, "ignore_index", -100);
    options.label_smoothing = case_real(line, "label_smoothing", 0.0);
    options.class_last = case_flag(line, "class_last");
    return psg_cross_entropy_weighted(tape, var[0], var[1], var[2], &options);
}

#define CLASSES                                                                                                        \
    { X, TARGET(CASE_INTEGER), { "weight", PSG_CONSTANT, 1, CASE_POSITIVE } }
const case_op case_op_nll = { "nll", CLASSES, nll };
const case_op case_op_cross_entropy = { "cross_entropy", CLASSES, cross_entropy };
