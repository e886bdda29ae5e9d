/* The tape: a list of applied ops, the values they made, and the parameters they used.
 *
 * Everything of a pass lives in one arena that psg_tape_begin resets: values, gradients, nodes and the tables below
 * (which grow by doubling, so pointers into them hold only until the next psg_var or psg_use). */
#ifndef PSG_TAPE_TAPE_STRUCT_H
#define PSG_TAPE_TAPE_STRUCT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/context.h"
#include "base/memory.h"
#include "psg/tape.h"

struct psg_param {
    psg_context *context;
    psg_owner own;
    psg_owner *owner;         /* what passes that use it hold: own, or that of its set */
    psg_owner *lender;        /* of the value's memory; NULL: the caller */
    char *name;
    psg_tensor value;
    bool trainable;
    bool attached;            /* grad_sample is the caller's array */
    bool has_grad_sample;     /* a pass wrote it and nobody cleared it */
    psg_tensor grad_sample;
};

/* A trainable parameter of a contiguous view, whose data may come later; NULL when there is no memory. */
psg_param *psg_param_of(psg_context *context, const char *name, const psg_tensor *value);

/* A value of the pass: an input, a constant, a parameter or an op's output. */
typedef struct psg_tape_var {
    psg_role role;
    bool wants_grad;
    psg_tensor value;         /* contiguous, the batch in front */
    psg_tensor grad;          /* contiguous; data NULL: not reached */
    bool waits;               /* for the batch size: nothing else of it is known */
    bool batch_second;        /* the caller has the batch as dimension 1 from rank 3 on */
    psg_tensor outside[2];    /* value and grad as the caller has them, once somebody asked; data NULL: not yet */
    size_t use;               /* PSG_PARAMETER: its place in the table of uses */
} psg_tape_var;

/* A parameter or an effective weight in this pass, however often it is used: all its uses add to one list of blocks.
 * Or a part of one, which adds to the list of the whole. */
typedef struct psg_tape_use {
    psg_param *param;         /* NULL: an effective weight, or a part */
    const char *name;
    psg_tensor value;         /* contiguous */
    bool is_part;
    size_t whole;             /* a part: the use of what it is a part of */
    psg_tensor place;         /* where it lies in that: any strides */
    bool trainable;           /* in at least one use */
    bool reached;             /* by backward */
    psg_block *blocks;
    size_t block_count, block_capacity;
} psg_tape_use;

/* One application of an op.  call.internal points back here. */
typedef struct psg_tape_node {
    psg_call call;
    psg_tape *tape;
    struct psg_tape_node *previous;
    size_t input[PSG_MAX_INPUTS];   /* the operands' places in the table of vars */
    size_t output;
    bool in_backward;
    unsigned derived;               /* bit k: psg_call_derive was said of operand k */
    unsigned owned;                 /* bit k: operand k's value is the call's copy */
    atomic_bool drew_unnamed;       /* drew for samples that have no names, without psg_call_draws */
} psg_tape_node;

/* Memory for the gradient of an operand whose var has one already; kept for the next such operand. */
typedef struct psg_tape_scratch {
    void *data;
    size_t bytes;
} psg_tape_scratch;

typedef struct psg_tape_waiting psg_tape_waiting;

struct psg_tape {
    psg_context *context;
    psg_arena arena;
    psg_pass pass;
    psg_batch batch;          /* pass.batch, where there is one */
    bool begun;
    bool walked;
    psg_live_pass live;       /* its number is part of every psg_var */
    int64_t rows;             /* samples as ops have them, views of B records; -1: not known yet */
    psg_status status;
    char message[PSG_MESSAGE_SIZE];

    psg_tape_var *vars;
    size_t var_count, var_capacity;
    psg_tape_use *uses;
    size_t use_count, use_capacity;
    psg_tape_node *last;
    uint64_t node_count;
    psg_tape_waiting *waiting;   /* in the order of their calls */
    unsigned char *bad;       /* a byte a sample: its record is bad; NULL: none is */
    const psg_tape_node *loss;  /* the last op on the way back that reduced the batch, and how; NULL: none */
    psg_loss_reduction reduction;
    bool from_loss;           /* backward began at a loss of the pass */
    double grad_sample_scale; /* of blocks, where it did not: B or 1 */
    psg_tape_scratch scratch[PSG_MAX_INPUTS];
    psg_op_observer observer; /* NULL: none */
    void *observer_user;
};

/* psg_tape_fail: keeps the first status and message of the pass (also the context's message). */
psg_status psg_tape_fail_v(psg_tape *tape, psg_status status, const char *format, va_list arguments);
/* The same with the message that the context has now, for a tape that has not failed. */
psg_status psg_tape_adopt(psg_tape *tape, psg_status status);

/* Whether a pass has begun and has no error; without a pass it is failed with PSG_ERR_STATE. */
bool psg_tape_alive(psg_tape *tape, const char *function);
/* The status of the tape; of a failed one the message is put where messages are. */
psg_status psg_tape_say_again(const psg_tape *tape);

/* Memory until the next pass; NULL after failing the tape. */
void *psg_tape_take(psg_tape *tape, size_t bytes);
/* Room for one more element of a table of `size` bytes an element; false after failing the tape. */
bool psg_tape_grow(psg_tape *tape, void **table, size_t count, size_t *capacity, size_t size);
/* A contiguous tensor of memory of the tape; data NULL after failing it (no memory, overflow). */
psg_tensor psg_tape_tensor(psg_tape *tape, psg_dtype dtype, int rank, const int64_t *shape);

/* call.c: what psg_call_draws refuses, of an op that drew without asking: after its forward and backward. */
psg_status psg_tape_check_draws(psg_tape_node *node);

/* The clock before an op's function, 0 where nobody observes; and what the observer is told after it. */
double psg_tape_start(const psg_tape *tape);
void psg_tape_tell(const psg_tape_node *node, bool backward, double start);

/* The state of a var; NULL when it is not one of this pass. */
psg_tape_var *psg_tape_var_of(const psg_tape *tape, psg_var var);
/* Appends a var; id -1 after failing the tape. */
psg_var psg_tape_push(psg_tape *tape, const psg_tape_var *var);

/* record.c: applies an op, whose output is the var at `place`; key: its place among the calls of the pass. */
psg_status psg_tape_apply(psg_tape *tape, const psg_op *op, const psg_var *inputs, int input_count,
                          const void *attributes, size_t place, uint64_t key, psg_tape_var *output);

/* loss_scale.c, of backward: where the walk begins, and what is refused there; a node's scales and output gradient. */
psg_status psg_tape_check_ones(psg_tape *tape, const psg_tape_var *from);
void psg_tape_set_scales(psg_tape *tape, const psg_tape_var *start, const psg_tensor *grad_output);
psg_status psg_tape_scale_loss(psg_tape_node *node);

/* waiting.c: whether an op must wait for the batch size, and the var of one that does; all that wait, once it is known;
 * failing the tape where it never is. */
bool psg_tape_must_wait(const psg_tape *tape, const psg_op *op, const psg_var *inputs, int input_count);
psg_var psg_tape_wait(psg_tape *tape, const psg_op *op, const psg_var *inputs, int input_count,
                      const void *attributes);
psg_status psg_tape_resume(psg_tape *tape);
psg_status psg_tape_fail_waiting(psg_tape *tape);

/* part.c: the use of part op->view(operand 0) of a parameter, and its var; PSG_ERR_UNSUPPORTED when it is none. */
psg_status psg_tape_add_part(psg_tape_node *node, psg_tape_var *output);
/* A block of a part as blocks of the whole. */
psg_status psg_tape_append_part(psg_call *call, const psg_tape_use *part, const psg_block *block, double scale);
/* Appends to the table of uses, and holds the parameter; false after failing the tape. */
bool psg_tape_add_use(psg_tape *tape, const psg_tape_use *use);

psg_gradient psg_tape_gradient(const psg_tape *tape, const psg_tape_use *use);
/* The use of parameter input k of a call in backward; NULL when it wants no blocks or *status is an error. */
psg_tape_use *psg_tape_use_of(psg_call *call, int k, psg_status *status);
/* Adds a block, scale times its own. */
psg_status psg_tape_append(psg_call *call, psg_tape_use *use, const psg_block *block, double scale);
/* The same without a check. */
psg_status psg_tape_push_block(psg_tape *tape, psg_tape_use *use, const psg_block *block, double scale);
/* Rows of a record. */
static inline int64_t psg_tape_views(const psg_tape *tape) { return tape->pass.views > 1 ? tape->pass.views : 1; }
/* B of blocks, in records.  In an ordinary pass every block is that of one sample, see psg_call_add_rows. */
int64_t psg_tape_samples(const psg_tape *tape);

/* door.c: a tensor as the caller has it, seen with the batch in front, and back; a view. */
psg_tensor psg_tape_turned(const psg_tensor *tensor, bool batch_second);
/* The tensor itself when it is contiguous, else a copy of the tape's; data NULL after failing the tape. */
psg_tensor psg_tape_contiguous(psg_tape *tape, const psg_tensor *tensor);

static inline psg_var psg_tape_no_var(void) {
    psg_var var = { -1 };
    return var;
}

/* What is wrong with a descriptor; NULL when nothing is. */
const char *psg_op_defect(const psg_op *op);
/* "weight", or "input 1" where the op has no names. */
const char *psg_op_operand_name(const psg_op *op, int k);
/* The name of the parameter, or effective weight, that a var is or is a part of; NULL of others and of NULL. */
const char *psg_tape_parameter_name(const psg_tape *tape, const psg_tape_var *var);

#endif
