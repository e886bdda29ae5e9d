/* psg/op.h: the contract of an op, for the built-in ones and for a user's own.
 *
 * An op is a constant descriptor with three functions.  They are called with a psg_call, which describes one
 * application of the op in one pass:
 *
 *   shape     checks every argument and declares the output (psg_call_output); no data is read
 *   forward   writes output.data; may keep scratch for the backward pass (psg_call_keep)
 *   backward  reads grad_output, writes every input gradient that is wanted (input[k].grad.data not NULL: overwrite)
 *             and adds the gradient of every trainable parameter as blocks (psg_call_add_factored, psg_call_add_rows)
 *
 * An op that adds blocks is answered every question of psg/gradient.h, tied parameters included.
 *
 * An op with `derives` computes an effective weight, which has no batch, from parameters and constants alone: row i of
 * it from row i of each of them.  Other ops take its output for a parameter and add blocks to it; its backward runs
 * once after theirs, has no grad_output, and says psg_call_derive for every trainable parameter.
 * Values are contiguous and row-major, the batch is dimension 0 of every batched operand and output in every pass; all
 * real operands of one call have one real type. */
#ifndef PSG_OP_H
#define PSG_OP_H

#include "psg/gradient.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the pass that an op runs in: psg_tape_begin (psg/tape.h) takes it ---- */

/* How the loss of a pass reduces the batch.  PSG_LOSS_FOLLOW: as the loss op says (psg_cross_entropy and the other
 * losses, psg_mean, psg_sum, any op that sets call->reduces). */
typedef enum psg_loss_reduction { PSG_LOSS_FOLLOW = 0, PSG_LOSS_SUM = 1, PSG_LOSS_MEAN = 2 } psg_loss_reduction;

/* Zeroed: a per-sample pass whose batch size is inferred, the batch in front. */
typedef struct psg_pass {
    int64_t batch_size;         /* B; 0: inferred from the inputs of this pass, which must agree ((0, D) inputs make an
                                   empty batch).  With has_batch_size an explicit 0 is an empty batch.  With views a
                                   record is a sample: B counts records, of `views` rows each */
    int has_batch_size;
    psg_loss_reduction loss_reduction; /* a loss that is a mean divides by B, so psg_backward multiplies the gradient
                                   that it passes to the batch by B.  Every gradient of a sample, also that of inputs,
                                   is then that of its own loss, with the bits of a pass over it alone.  PSG_LOSS_SUM
                                   and PSG_LOSS_MEAN are declarations for what cannot be followed: a loss of an op that
                                   does not say how it reduces, a caller's output gradient (see psg_backward_from).
                                   PSG_ERR_STATE: a declaration that is missing there, or one that the loss op
                                   contradicts, or losses of both kinds in one sum.  A constant that multiplies the
                                   loss (psg_scale) multiplies every sample's own: it must not depend on B.  Ordinary
                                   passes ignore it */
    int batch_second;           /* non-zero: the batch is dimension 1 of every batched value of rank >= 3, and dimension
                                   0 of others (batch_first = no).  Options name dimensions and shapes that way too.
                                   Ops work with the batch in front, of copies that are made where such a value enters
                                   (psg_input, psg_backward_from) and leaves (psg_value, psg_input_grad); the other
                                   dimensions keep their order */
    int ordinary;               /* non-zero: no per-sample meaning is needed or checked; psg_weighted_sum with weights
                                   NULL gives the ordinary gradients */
    int evaluation;             /* non-zero: dropout passes its input through */
    int accumulate;             /* non-zero: attached grad_sample arrays are added to, set or not */
    uint64_t dropout_seed;      /* keys what ops draw (dropout masks), with the op's place on the tape and the sample:
                                   another one every step */
    const int64_t *sample_ids;  /* B identities of the samples, for what ops draw: a record has its mask wherever it
                                   stands in the batch.  A per-sample pass with an op that draws must have them, or
                                   batch; in an ordinary pass NULL stands for 0 .. B-1 */
    int allow_updates;          /* non-zero: a per-sample pass may change model state from the batch: running
                                   statistics, embedding max_norm.  Such a change is outside what clipping and noise
                                   protect, so it is refused by default; ordinary passes always allow it */
    const psg_batch *batch;     /* NULL, or the records of this pass: its count is the batch size, its ids stand for
                                   sample_ids and its stream for dropout_seed, which are then not to be given
                                   (PSG_ERR_ARGUMENT; PSG_ERR_BATCH: another batch_size).  Copied, with its ids */
    int remove_bad_records;     /* non-zero: a value of a sample that an op refuses (a label or id out of range, a
                                   length, a probability) does not end a per-sample pass: the op computes that sample with a
                                   value that it takes, and all gradients of its parameters are NaN (psg_gradient.bad),
                                   so that clipped sums remove and count it; the others keep their bits.  What it adds
                                   to the loss, and gradients of inputs, mean nothing.  Without it, the pass ends with a
                                   message that quotes the value: like all that depends on records, messages are not
                                   private.  Offsets of bags, which belong to no one record, are refused either way */
    int64_t views;              /* K rows of inputs and values for each record, its augmentations, 0: 1.  Rows n K to
                                   n K + K - 1 are those of record n, whose gradient is the mean of their gradients: all
                                   questions, sample_ids, batch and attached grad_sample arrays are of B records, while
                                   ops see B K samples.  An input gradient is of its row's own loss.  PSG_ERR_BATCH:
                                   rows that K does not divide; PSG_ERR_ARGUMENT: K < 0, or above 1 in an ordinary
                                   pass */
    uint64_t reserved[4];
} psg_pass;

#define PSG_PASS_INIT { 0, 0, PSG_LOSS_FOLLOW, 0, 0, 0, 0, 0, NULL, 0, NULL, 0, 0, { 0, 0, 0, 0 } }

/* ---- a call ---- */

/* What an operand is. */
typedef enum psg_role {
    PSG_ABSENT = 0,     /* optional input not given */
    PSG_BATCHED = 1,    /* an input of the pass or computed from one: carries the batch */
    PSG_CONSTANT = 2,   /* carries no batch and wants no gradient */
    PSG_PARAMETER = 3
} psg_role;

/* An input of a call. */
typedef struct psg_operand {
    psg_role role;
    psg_tensor value;   /* data is NULL while shapes are checked */
    psg_tensor grad;    /* backward, not PSG_PARAMETER: where the input gradient goes; data NULL: nobody wants it */
    int wants_grad;     /* a trainable parameter, or an input whose gradient somebody wants */
    int is_derived;     /* PSG_PARAMETER: an effective weight, computed in this pass; nobody may change it */
    int batch_second;   /* the caller has the batch as dimension 1 from rank 3 on, see psg_call_dim; here it is 0 */
    const char *name;   /* of the parameter or effective weight that it is, or is a part of, also of a frozen one, for as
                           long as the pass; NULL of others */
    uint64_t reserved[4];
} psg_operand;

typedef struct psg_op psg_op;

/* One application of an op in one pass.  Made by the tape alone, so that fields may follow the last one. */
typedef struct psg_call {
    psg_context *context;
    const psg_op *op;
    const void *attributes;     /* the tape's copy; NULL when the op has none */
    int input_count;            /* op->input_count; optional ones may be PSG_ABSENT */
    psg_operand *input;
    psg_tensor output;          /* also readable in backward */
    psg_tensor grad_output;     /* backward; contiguous.  data NULL in that of an op that derives */
    const psg_pass *pass;       /* the tape's copy; its batch_size is that of the pass in rows (B times its views), also
                                   where it was inferred: 0 in an ordinary pass that names none, and in an empty
                                   batch */
    double grad_sample_scale;   /* of blocks: 1, or B under PSG_LOSS_MEAN when the walk began with a caller's output
                                   gradient; psg_call_add_... apply it */
    uint64_t stream_key;        /* randomness of this call: psg_call_random */
    void *kept;                 /* forward may set it, for backward to read: memory of psg_call_keep, or NULL */
    void *internal;             /* the tape's */
    double loss_scale;          /* backward of an op with scales_loss: multiplies grad_output; 1, or B where the op
                                   took the mean over the batch */
    psg_loss_reduction reduces; /* shape sets it where the output is one loss of the whole batch: how that is made of
                                   the samples' losses, divided by B (PSG_LOSS_MEAN) or not */
} psg_call;

/* The descriptor of an op. */
struct psg_op {
    const char *name;               /* unique within a context; the functional name: "linear" */
    int input_count;                /* at most PSG_MAX_INPUTS */
    const char *const *input_names; /* for messages: "input", "weight", "bias" */
    unsigned optional_inputs;       /* bit k: input k may be absent */
    unsigned parameter_inputs;      /* bit k: input k may be a parameter; others refuse one */
    size_t attributes_size;         /* bytes the tape copies at psg_record; 0: none */
    size_t reserved_at;             /* bytes into the attributes of uint64_t reserved[4], which psg_record wants to be 0;
                                       0: they have none */
    int couples_batch;              /* its backward mixes samples, whatever the arguments: refused in a per-sample
                                       pass */
    int repeats_over_batch;         /* gives a per-sample pass an output that carries the batch even where no input
                                       does, and checks the batch of its inputs itself: a look-up of positions */
    int scales_loss;                /* backward multiplies grad_output by call->loss_scale, in double and before it
                                       divides by a batch: then B cancels exactly.  Without it the tape multiplies
                                       grad_output, which rounds */
    psg_status (*shape)(psg_call *call);
    psg_status (*forward)(psg_call *call);
    psg_status (*backward)(psg_call *call);
    psg_status (*view)(const psg_call *call, psg_tensor *x);
                                    /* or NULL: the output's elements lie in input 0 (contiguous), and this makes of x,
                                       a view of input 0's shape with any strides, that of the output.  Such an op
                                       takes a parameter for input 0: the output is then a part of the parameter,
                                       whose gradient lands in place.  PSG_ERR_UNSUPPORTED: no strides can say so */
    const void *traits;             /* the op's own, or NULL: what tells it from others that share its functions, which
                                       read call->op->traits */
    int derives;                    /* its output is an effective weight, see above.  What carries a batch, and what
                                       is derived itself, is refused as an input; the output of constants alone is a
                                       constant */
    uint64_t reserved[4];
};

/* Inputs that an op can have. */
#define PSG_MAX_INPUTS 16

/* ---- for the three functions ---- */

/* Declares the output; shape only. */
PSG_API psg_status psg_call_output(psg_call *call, psg_dtype dtype, int rank, const int64_t *shape);

/* Ends the call with a status and the message "<op>: <text>"; returns status. */
PSG_API psg_status psg_call_fail(psg_call *call, psg_status status, const char *format, ...) PSG_PRINTF(3, 4);

/* Memory until the next pass of this tape, 64-byte aligned, not cleared; NULL after recording PSG_ERR_MEMORY.  What
 * backward is to find again, forward puts into call->kept; blocks of backward may point to it. */
PSG_API void *psg_call_keep(psg_call *call, size_t bytes);

/* Dimension dim of a value of that rank, in [0, rank), as the caller of operand k counts it and as the op sees it
 * (either from the other): in a batch_second pass 0 and 1 are exchanged from rank 3 on.  What an op reads
 * dimensions, or sizes by dimension, from its attributes for goes through this. */
PSG_API int psg_call_dim(const psg_call *call, int k, int rank, int dim);

/* Adds a block to the gradient of parameter input k (ignored unless it is trainable).  The views are (B, p), (B, T, p)
 * or (B, *, p), batch first, any strides (psg_tensor_strided puts a batch dimension in front), and must stay valid
 * until the next pass: grad_output, values of operands and kept memory are. */
PSG_API psg_status psg_call_add_factored(psg_call *call, int k, const psg_tensor *backprop,
                                         const psg_tensor *activation);
PSG_API psg_status psg_call_add_rows(psg_call *call, int k, const psg_tensor *backprop);

/* The same for sparse rows: ids (B, T) or (B, *), as many positions as backprop (B, T, p) or (B, *, p). */
PSG_API psg_status psg_call_add_sparse_rows(psg_call *call, int k, const psg_tensor *backprop, const psg_tensor *ids);
/* Any block of psg/gradient.h: a part of a fused parameter (offset, row_stride), windows of an image.  Views (B, T, p),
 * the image (B, C, *X); block->scale is multiplied.  An ordinary pass sums an unfolded block at once. */
PSG_API psg_status psg_call_add_block(psg_call *call, int k, const psg_block *block);

/* backward of an op that derives: how the gradient of parameter input k (ignored unless it is trainable) follows from
 * the output's.  blocks and block_count are not read; what user points to must stay until the next pass (kept memory
 * does).  PSG_ERR_ARGUMENT: rows x columns is not the output's size, rows x width not the parameter's; another op;
 * psg_backward: a trainable parameter for which it was not said. */
PSG_API psg_status psg_call_derive(psg_call *call, int k, const psg_derivation *derivation);

/* forward, where it finds a value of a sample (a row of a batched operand) that it cannot take, on the thread that
 * called it.  Not 0: the pass removes bad records, and the op goes on with another value for it (psg_call_own).  0: it
 * is to be refused. */
PSG_API int psg_call_removes(psg_call *call, int64_t sample);
/* Makes input k's value the call's own, a copy that it may write to, unless it is already; NULL after recording
 * PSG_ERR_MEMORY. */
PSG_API void *psg_call_own(psg_call *call, int k);

/* shape of an op that will draw, for so many samples: PSG_ERR_STATE in a per-sample pass that names no samples (neither
 * batch nor sample_ids: by its row, a record in front would change everybody's mask), PSG_ERR_BATCH where it names
 * others than `samples`. */
PSG_API psg_status psg_call_draws(psg_call *call, int64_t samples);

/* count uniform 64-bit words of the stream of one sample of this call: the same for every thread count and
 * micro-batch.  To be announced in shape, see above; an op that does not is refused after it drew. */
PSG_API void psg_call_random(const psg_call *call, int64_t sample, uint64_t *words, size_t count);

/* ---- registration ---- */

/* Adds a user's op to a context, by name, for psg_apply and psg_op_check.  The descriptor must outlive the context.
 * PSG_ERR_ARGUMENT: a missing function or name, too many inputs; PSG_ERR_STATE: the name is taken. */
PSG_API psg_status psg_op_register(psg_context *context, const psg_op *op);

/* The op of that name, built-in or registered; NULL when there is none. */
PSG_API const psg_op *psg_op_find(const psg_context *context, const char *name);

/* The k-th op known to the context, built-in ones first; NULL past the end. */
PSG_API const psg_op *psg_op_at(const psg_context *context, size_t k);

/* Checks an op in f64 at given input shapes (parameters marked by role PSG_PARAMETER; values as given, f64 or integers,
 * or with data NULL drawn from a fixed stream of both signs, integers from 0 and 1; dimension 0 of batched inputs is
 * the batch): central differences of every input and parameter gradient, agreement of every question with materialised
 * gradients, and isolation: changing sample j changes no other sample's output or gradient.  An op that derives is
 * checked through the product of its output and a batched input.  Differences are of fourth order with step 1e-4, to
 * 1e-6 of a slope (of 1 for smaller ones): give values that are that far from kinks, and not so large that losses
 * cancel.  Of an operand, role and value are read.  f32 and
 * batch second are not tried.  PSG_ERR_NUMERIC names the input and the error that was found.
 */
PSG_API psg_status psg_op_check(psg_context *context, const psg_op *op, const psg_operand *inputs,
                                const void *attributes);

#ifdef __cplusplus
}
#endif
#endif
