/* psg/tape.h: parameters, the define-by-run tape, per-sample passes.
 *
 *     psg_pass pass = PSG_PASS_INIT;
 *     psg_tape_begin(tape, &pass);
 *     psg_var x = psg_input(tape, &images);
 *     psg_var y = psg_linear(tape, x, psg_use(tape, weight), psg_use(tape, bias));
 *     psg_var loss = psg_cross_entropy(tape, y, psg_input(tape, &labels), NULL);
 *     if (psg_backward(tape, loss) != PSG_OK) puts(psg_context_message(context));
 *     psg_gradient gradient;  psg_gradient_of(tape, weight, &gradient);
 *
 * Errors are sticky: after the first one every call on the tape returns at once, and psg_backward returns that first
 * status, with its message in the context (psg_tape_message keeps it for the tape).  Everything a pass produces
 * (values, gradients, blocks) lives until the next psg_tape_begin.  A psg_gradient kept longer is refused by the
 * questions (PSG_ERR_STATE); a view from psg_value or psg_input_grad kept longer points to memory of another pass,
 * which is not detected. */
#ifndef PSG_TAPE_H
#define PSG_TAPE_H

#include "psg/op.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- parameters ---- */

/* What is trained: a name, a view of the caller's values, and whether it is trainable. */
typedef struct psg_param psg_param;

/* A parameter over the caller's memory (contiguous, f32 or f64, rank 0 to PSG_MAX_RANK - 1: grad_sample has the batch
 * beside it), which must outlive it and the passes that use it; what a psg_params or psg_tensors of this context has is
 * held.  Trainable at first.  name is copied, for messages. */
PSG_API psg_status psg_param_create(psg_context *context, const char *name, const psg_tensor *value, psg_param **param);
/* The memory is the caller's and stays; a pass that uses the parameter keeps it.  One of a set (psg/params.h) goes with
 * the set, and nothing happens here.  NULL is none. */
PSG_API void psg_param_destroy(psg_param *param);

/* The view that it was made of, and its own copy of the name; valid as long as it is. */
PSG_API const psg_tensor *psg_param_value(const psg_param *param);
PSG_API const char *psg_param_name(const psg_param *param);
/* Its name and value, as psg/io.h writes and fills them. */
static inline psg_named psg_param_named(const psg_param *param) {
    const psg_tensor *value = psg_param_value(param);
    psg_named named = { psg_param_name(param), value ? *value : psg_tensor_of(PSG_F32, NULL, -1, NULL) };
    return named;
}
/* Frozen (0) parameters get no gradient.  Takes effect at the next psg_use. */
PSG_API void psg_param_set_trainable(psg_param *param, int trainable);
/* 1 or 0. */
PSG_API int psg_param_is_trainable(const psg_param *param);

/* Lets every later per-sample pass write this parameter's grad_sample into the caller's (B, *shape) array while
 * backward runs; NULL detaches.  After a pass it counts as set, and its psg_use in the next per-sample pass is
 * PSG_ERR_STATE until psg_param_clear_grad_sample (grad_samples of different batches must not be mixed), unless the
 * pass says accumulate.  An array whose B is not the pass's is PSG_ERR_SHAPE in psg_backward, before anything is
 * written. A parameter that the loss does not reach keeps its array untouched, and it does not count as set. */
PSG_API psg_status psg_param_attach_grad_sample(psg_param *param, const psg_tensor *grad_sample);
/* The attached array is free for another pass; it stays attached, and keeps its values until then. */
PSG_API void psg_param_clear_grad_sample(psg_param *param);
/* Whether a pass has written it since: 1 or 0. */
PSG_API int psg_param_has_grad_sample(const psg_param *param);

/* ---- passes ---- */

/* The ops of one pass at a time, with their values. */
typedef struct psg_tape psg_tape;

/* A value on a tape.  id 0: absent (psg_none), which is what zeroed memory holds. */
typedef struct psg_var { int32_t id; } psg_var;

/* Stands for an optional input that is not given. */
static inline psg_var psg_none(void) { psg_var v = { 0 }; return v; }

/* A tape for passes one after another; it takes memory when they do.  PSG_ERR_MEMORY, *tape NULL. */
PSG_API psg_status psg_tape_create(psg_context *context, psg_tape **tape);
/* With the values and gradients of its last pass.  NULL is none. */
PSG_API void psg_tape_destroy(psg_tape *tape);

/* Takes memory for passes of up to bytes now; a tape otherwise grows during its first passes and then allocates no
 * more. psg_tape_bytes tells what the passes so far needed at most: run one at the largest batch, or reserve.  Forgets
 * the last pass. */
PSG_API psg_status psg_tape_reserve(psg_tape *tape, size_t bytes);
PSG_API size_t psg_tape_bytes(const psg_tape *tape);

/* Told of every op of a pass after its forward function, and after its backward function where there is one to run
 * (backward not 0): the call as it is then, which the observer may read and must not change, and the seconds of wall
 * time that the function took; backward's include adding gradients of operands that other ops share.  grad_output.data
 * is NULL in the backward of an op that derives (psg/op.h).  call->op->name names the op; layers of one op differ by
 * the names of their parameters, call->input[k].name.  Not told of a function that failed, of an op that backward does
 * not reach, nor of what follows the walk (questions, releases, optimizers).  Called on the thread that runs the pass;
 * it may call nothing on the tape. */
typedef void (*psg_op_observer)(void *user, const psg_call *call, int backward, double seconds);

/* The observer of the tape from now on, over all passes; NULL: none.  One that is there costs two readings of the clock
 * a function.  PSG_ERR_ARGUMENT: tape is NULL. */
PSG_API psg_status psg_tape_observe(psg_tape *tape, psg_op_observer observer, void *user);

/* Starts a pass, forgetting the last one.  pass NULL: all defaults. */
PSG_API psg_status psg_tape_begin(psg_tape *tape, const psg_pass *pass);

/* The first error of this pass, PSG_OK without one, and its message: "linear: weight has 5 input features, input has
 * 4".  Valid until the next pass. */
PSG_API psg_status psg_tape_status(const psg_tape *tape);
PSG_API const char *psg_tape_message(const psg_tape *tape);
/* The context that it was made from. */
PSG_API psg_context *psg_tape_context(const psg_tape *tape);

/* What a function that records several ops needs, to read and to refuse its arguments as an op does.
 * The pass as ops have it (psg_call.pass), its batch_size in rows, also where it was inferred; NULL where none has
 * begun or it has failed. */
PSG_API const psg_pass *psg_tape_pass(const psg_tape *tape);
/* The name of the parameter that a var is or is a part of, of an effective weight "weight_norm of v"; NULL of other
 * values.  As long as the pass and the parameter. */
PSG_API const char *psg_var_name(const psg_tape *tape, psg_var var);
/* Ends the pass with a status and a message, unless it has failed before; returns its status. */
PSG_API psg_status psg_tape_fail(psg_tape *tape, psg_status status, const char *format, ...) PSG_PRINTF(3, 4);

/* Batched inputs.  Contiguous ones are read in place and must stay unchanged until the next pass; others are copied,
 * and in a batch_second pass those of rank >= 3. Integers (labels, ids) are inputs too.  psg_input_with_grad also
 * asks for the input's gradient. */
PSG_API psg_var psg_input(psg_tape *tape, const psg_tensor *value);
PSG_API psg_var psg_input_with_grad(psg_tape *tape, const psg_tensor *value);
/* A value without a batch: a mask, a table.  Not counted when the batch size is inferred. */
PSG_API psg_var psg_constant(psg_tape *tape, const psg_tensor *value);
/* A parameter, as often as wanted: its gradient is the sum over all uses.  Its values are read in place and must stay
 * unchanged until the next pass. */
PSG_API psg_var psg_use(psg_tape *tape, psg_param *param);

/* Applies an op: what the functional forms of psg/ops.h do.  inputs may hold psg_none() for optional ones; fewer than
 * op->input_count stand for trailing absent ones. */
PSG_API psg_var psg_record(psg_tape *tape, const psg_op *op, const psg_var *inputs, int input_count,
                           const void *attributes);

/* The value of a var: a contiguous view into the tape or of the caller's input, there as soon as the op is recorded and
 * until the next psg_tape_begin.  In a batch_second pass it may be a copy, made by the first call: PSG_ERR_MEMORY.  The
 * message of an error of its own is the context's. */
PSG_API psg_status psg_value(psg_tape *tape, psg_var var, psg_tensor *value);
/* The same with data NULL: its type and shape, for which nothing is copied. */
PSG_API psg_status psg_value_shape(psg_tape *tape, psg_var var, psg_tensor *value);

/* Walks the tape back once from a one-element loss, a mean or a sum over the batch: psg_pass.loss_reduction.  A second
 * walk of one pass is PSG_ERR_STATE, sticky like every error: psg_gradient_of gives no gradient after it, but those
 * taken before stay usable. */
PSG_API psg_status psg_backward(psg_tape *tape, psg_var loss);

/* The same from any var and the caller's own output gradient: var's shape, any strides; NULL: all ones.  A contiguous
 * one is read in place and must stay unchanged until the next pass; others are copied.  From one element under
 * PSG_LOSS_FOLLOW, grad_output multiplies a loss that is followed as in psg_backward.  Else a declaration tells of
 * grad_output alone: PSG_LOSS_SUM (also PSG_LOSS_FOLLOW), that of each sample's own loss; PSG_LOSS_MEAN, one with the
 * 1 / B of a mean in it (with NULL: PSG_ERR_STATE): blocks are multiplied by B, input gradients are not. */
PSG_API psg_status psg_backward_from(psg_tape *tape, psg_var var, const psg_tensor *grad_output);

/* After backward: the gradient of an input made by psg_input_with_grad, or of any batched var on the way. PSG_ERR_STATE
 * when it was not reached or not asked for.  As psg_value, it may be a copy in a batch_second pass. */
PSG_API psg_status psg_input_grad(psg_tape *tape, psg_var var, psg_tensor *grad);

/* After backward: the per-sample gradient of a parameter, for the questions of psg/gradient.h.  A parameter that was
 * not used, not reached or frozen is PSG_ERR_STATE; *gradient is then usable as the zero gradient that it is.
 * After a sticky error the status is that error, and *gradient is the zero gradient.  Its own message is the context's
 * (psg_context_message). */
PSG_API psg_status psg_gradient_of(const psg_tape *tape, const psg_param *param, psg_gradient *gradient);

/* psg_gradient_of for count parameters, and set[k] = &gradients[k], as the questions of psg/gradient.h and
 * psg_dp_accumulate take them.  The first error ends it. */
PSG_API psg_status psg_gradients_of(const psg_tape *tape, psg_param *const *params, size_t count,
                                    psg_gradient *gradients, const psg_gradient **set);

/* The batch size of the pass in records, given or inferred; -1 before the first batched input.  Inputs and values have
 * psg_pass.views times as many rows. */
PSG_API int64_t psg_tape_batch_size(const psg_tape *tape);

#ifdef __cplusplus
}
#endif
#endif
