#include "cases.h"

/* padding_idx, max_norm, norm_type, scale_grad_by_freq; `ids 1,4 <5 constant` for the same ids in every sample. */
static psg_var embedding(psg_tape *tape, const case_line *line, const psg_var *var) {
    psg_embedding_options options = { .has_padding_idx = case_flag(line, "padding_idx"),
                                      .padding_idx = case_int(line, "padding_idx", 0),
                                      .max_norm = case_real(line, "max_norm", 0),
                                      .norm_type = case_real(line, "norm_type", 0),
                                      .scale_grad_by_freq = case_flag(line, "scale_grad_by_freq") };
    return psg_embedding(tape, var[0], var[1], &options);
}

const case_op case_op_embedding = {
    "embedding", { { "ids", PSG_BATCHED, 0, CASE_INTEGER }, { "weight", PSG_PARAMETER, 0, CASE_REAL } }, embedding
};

/* mode=mean (also absent), sum or max; the options of embedding; include_last_offset. */
static psg_var embedding_bag(psg_tape *tape, const case_line *line, const psg_var *var) {
    static const char *const modes[] = { [PSG_BAG_MEAN] = "mean", [PSG_BAG_SUM] = "sum", [PSG_BAG_MAX] = "max" };
    psg_embedding_bag_options options = { .has_padding_idx = case_flag(line, "padding_idx"),
                                          .padding_idx = case_int(line, "padding_idx", 0),
                                          .max_norm = case_real(line, "max_norm", 0),
                                          .norm_type = case_real(line, "norm_type", 0),
                                          .scale_grad_by_freq = case_flag(line, "scale_grad_by_freq"),
                                          .include_last_offset = case_flag(line, "include_last_offset") };
    options.mode = (psg_bag_mode)case_choice(line, "mode", PSG_BAG_MEAN, 3, modes);
    return psg_embedding_bag(tape, var[0], var[1], var[2], var[3], &options);
}

const case_op case_op_embedding_bag = { "embedding_bag",
                                        { { "ids", PSG_BATCHED, 0, CASE_INTEGER },
                                          { "weight", PSG_PARAMETER, 0, CASE_REAL },
                                          { "offsets", PSG_BATCHED, 1, CASE_INTEGER },
                                          { "per_sample_weights", PSG_BATCHED, 1, CASE_REAL } },
                                        embedding_bag };
