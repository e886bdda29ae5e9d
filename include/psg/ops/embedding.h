/* psg/ops/embedding.h: look-up tables.
 *
 * ids are i32 or i64, each in [0, V): another one is PSG_ERR_ARGUMENT.  The table is a parameter or a constant (V, D).
 * Its gradient is sparse rows, which psg_grad_sample_sparse gives without a dense array, unless another op uses the
 * table too (a tied head: PSG_ERR_UNSUPPORTED; use psg_grad_sample). */
#ifndef PSG_PUBLIC_OPS_EMBEDDING_H
#define PSG_PUBLIC_OPS_EMBEDDING_H

#include "psg/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of a look-up; zeroed: none of these. */
typedef struct psg_embedding_options {
    int has_padding_idx;
    int64_t padding_idx;       /* in [-V, V), negative ones counted from the end: its row gets no gradient */
    double max_norm;           /* > 0: forward first scales every row of the batch's ids whose norm is larger to
                                  max_norm, by max_norm / norm (PyTorch: max_norm / (norm + 1e-7)), in the parameter's
                                  own memory, which must be writable: values that ops recorded before took from it
                                  stay as they were.  Needs weight to be a parameter, and psg_pass.allow_updates in a
                                  per-sample pass.  0: none */
    double norm_type;          /* p of that norm, > 0; 0: 2 */
    int scale_grad_by_freq;    /* divides each position's gradient by how often its id occurs in its sample (in an
                                  ordinary pass: in all ids) */
    uint64_t reserved[4];
} psg_embedding_options;

#define PSG_EMBEDDING_OPTIONS_INIT { 0, 0, 0.0, 0.0, 0, { 0, 0, 0, 0 } }

/* Rows of weight (V, D) by ids (N, *): (N, *, D).  options NULL: defaults.
 * In a per-sample pass ids that are the same for all samples are a psg_constant of shape (T) or (1, *), or an input
 * with batch size 1: they are looked up for every sample, and the output is (B, *, D); the look-up may come
 * before the first psg_input of the pass, and is then done when that tells B
 * (max_norm's update of the table, too).  The batch of the output is
 * where the pass has it: batch_second makes (T, N, D) of ids (N, T). */
PSG_API psg_var psg_embedding(psg_tape *tape, psg_var ids, psg_var weight, const psg_embedding_options *options);

/* What is made of the rows of a bag. */
typedef enum psg_bag_mode { PSG_BAG_MEAN = 0, PSG_BAG_SUM = 1, PSG_BAG_MAX = 2 } psg_bag_mode;

/* Of a look-up of bags; zeroed: the mean, and none of the others. */
typedef struct psg_embedding_bag_options {
    psg_bag_mode mode;
    int has_padding_idx;       /* ids equal to padding_idx are in no bag: not summed, not counted */
    int64_t padding_idx;
    double max_norm, norm_type;/* as psg_embedding's */
    int scale_grad_by_freq;    /* as psg_embedding's, a bag being its sample; not with PSG_BAG_MAX */
    int include_last_offset;   /* offsets has N + 1 elements, the last being M */
    uint64_t reserved[4];
} psg_embedding_bag_options;

#define PSG_EMBEDDING_BAG_OPTIONS_INIT { PSG_BAG_MEAN, 0, 0, 0.0, 0.0, 0, 0, { 0, 0, 0, 0 } }

/* The mean, sum or maximum of a bag's rows: (N, D); zeros for an empty bag.  Of equal maxima the first id's row gets
 * the gradient.  A sample has one bag, either
 *   ids (N, T), offsets psg_none(), or
 *   ids (M), a psg_constant since it has no batch dimension, offsets (N) from 0 ascending to at most M: bag n is
 *   ids[offsets[n]] up to the next bag's first or the end.  With include_last_offset offsets is a psg_constant too.
 * per_sample_weights (PSG_BAG_SUM alone; psg_none(): ones) multiply the rows; shape of ids.  Their gradient is an input
 * gradient. */
PSG_API psg_var psg_embedding_bag(psg_tape *tape, psg_var ids, psg_var weight, psg_var offsets,
                                  psg_var per_sample_weights, const psg_embedding_bag_options *options);

#ifdef __cplusplus
}
#endif
#endif
