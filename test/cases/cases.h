/* Case tables: what an op is tried at.  One text table an op (or family), test/cases/<op>.txt, a line a case, read by
 * the C tests, the benchmarks and the Python scripts; one row in C an op, test/cases/<family>.c, named in list.h.
 *
 *     name | operand dims words | operand dims words | ... | key=value flag
 *     stride_groups | x 2,4,8 | weight 2,2,3 | bias 2 | stride=3 padding=1 groups=2 dilation=2
 *     ids_long      | ids 4,7 <10 | weight 10,5 | padding_idx=3
 *     lengths       | x 2,4,3 | lengths 2 =4,2 | weight 5,3 |
 *
 * The last field holds the options, empty or not; # starts a comment.  An absent optional operand is left out.  Batched
 * operands have the batch in dimension 0, also under batch_second.  Dims: "2,3"; "()" is a scalar.  Words of an
 * operand:
 *
 *     <K          integers drawn from [0, K), i64         >=L     from [L, K)         i32     stored as i32
 *     f32         stored as f32 in a pass of f64 too
 *     =1,2,...    these values, row-major (of the row's kind, or as i64, i32 or real says); one stands for all
 *     unit        reals in (0, 1)                         positive reals in (1/2, 3/2)
 *     /K          reals over K, a power of two; 0.125: in (-8, 8)
 *     batched, constant, parameter                        another role than the row's
 *
 * Without words: reals in (-1, 1), or what the row says.  Options any op knows:
 *
 *     batch_second        the pass has its batch in dimension 1 of every operand of rank >= 3
 *     physical            beside batch_second: options name dimensions as the pass has them
 *     mean                loss_reduction = mean
 *     frozen=weight,bias  parameters that are not trainable        no_input_grad   nobody wants input gradients
 *     ordinary            only an ordinary pass: the op couples the batch
 *     evaluation, allow_updates   the pass's flags
 *     reduction=mean      of an op whose output is one value of the batch: mean (also absent), batchmean or sum
 *     error=SHAPE         refused with PSG_ERR_SHAPE and a message that begins with the op's name (error_name=... if
 *                         it begins with another name) and holds the text that ends the line in double quotes
 *     batch_size=4        what the pass says of its batch, else inferred
 *     smooth=no           no central differences, for a reason in a comment
 *     f32=TOLERANCE       what f32 may differ from f64, of the largest terms, where the default is too strict
 *     bench               too big for tests: benchmarks only
 *
 * Data: element k of an operand is word k of splitmix64 seeded with FNV-1a 64 of "op/case/operand":
 *     real      (2 (word >> 40) + 1 - 2^24) / 2^24      exact in f32, never 0
 *     unit      (2 (word >> 42) + 1) / 2^23             positive: 1/2 more
 *     integer   low + word mod (high - low)
 * The output gradient is the operand "grad_output". */
#ifndef TEST_CASES_H
#define TEST_CASES_H

#include <stddef.h>
#include <stdint.h>

#include <psg/psg.h>

enum { CASE_OPERANDS = 40, CASE_NAME = 64, CASE_OPTIONS = 32, CASE_VALUES = 64, CASE_TEXT = 200 };

typedef enum case_kind { CASE_REAL, CASE_UNIT, CASE_POSITIVE, CASE_INTEGER } case_kind;

typedef struct case_line case_line;

/* What a row says of an operand (the scripts read the rows too, after the preprocessor): its usual role; whether it may
 * be left out; what values it has without words. */
typedef struct case_rule {
    const char *name;
    psg_role role; /* PSG_BATCHED, PSG_CONSTANT, PSG_PARAMETER */
    int optional;
    case_kind kind;
} case_rule;

typedef struct case_op {
    const char *name;              /* of the table */
    case_rule rule[CASE_OPERANDS]; /* up to the first without a name */
    /* Records the case by the public functions; var[k] belongs to rule[k], psg_none() for one left out. */
    psg_var (*apply)(psg_tape *tape, const case_line *line, const psg_var *var);
} case_op;

typedef struct case_operand {
    int present;
    psg_role role;
    case_kind kind;
    psg_dtype integer; /* PSG_I64 or PSG_I32 */
    int single;        /* f32, whatever the others are */
    int64_t low, high; /* integers: [low, high) */
    double divisor;    /* of reals */
    int rank;
    int64_t shape[PSG_MAX_RANK];
    int value_count; /* explicit values, else 0 */
    double values[CASE_VALUES];
    int frozen;
} case_operand;

struct case_line {
    const case_op *op;
    char name[CASE_NAME];
    case_operand operand[CASE_OPERANDS];
    int64_t batch_size;       /* of the batched operands; -1: none is batched */
    char options[1024];       /* the text, cut in pieces */
    int option[CASE_OPTIONS]; /* where each begins in it */
    int option_count;
    char says[CASE_TEXT];     /* in the message of a refusal */
};

typedef struct case_table {
    const case_op *op;
    case_line *line;
    int count;
} case_table;

/* ---- options of a line ---- */

int case_flag(const case_line *line, const char *key);
int64_t case_int(const case_line *line, const char *key, int64_t otherwise);
double case_real(const case_line *line, const char *key, double otherwise);
const char *case_word(const case_line *line, const char *key, const char *otherwise);
/* Which of the names the option is, or the number it says instead. */
int case_choice(const case_line *line, const char *key, int otherwise, int count, const char *const names[]);
/* How many integers key=1,2,... holds, at most capacity are stored; 0 when absent.  "B" is the batch size. */
int case_ints(const case_line *line, const char *key, int64_t *values, int capacity);
/* The 2 of conv2d: what a table's front fixes. */
int case_spatial(const case_line *line);
/* count integers; a single one stands for all of them, an absent key for `otherwise`. */
void case_each(const case_line *line, const char *key, int64_t otherwise, int count, int64_t *values);

/* ---- tables ---- */

/* The k-th row of list.h; NULL past the end.  By name; NULL when there is none. */
const case_op *case_op_at(int k);
const case_op *case_op_find(const char *name);

/* Reads <folder>/<op>.txt.  Returns 0, or -1 with a message; case_table_free in any case. */
int case_table_read(const case_op *op, const char *folder, case_table *table, char *message, size_t size);
void case_table_free(case_table *table);
/* One line of a table, into *line. */
int case_line_parse(const case_op *op, const char *text, case_line *line, char *message, size_t size);

/* ---- data ---- */

/* FNV-1a 64 of "op/case/operand". */
uint64_t case_seed(const case_line *line, const char *operand);
/* Fills a contiguous tensor of the operand's elements, of any real type or the operand's integer type. */
void case_fill(const case_line *line, int k, const psg_tensor *tensor);
/* Reals, as an operand of that name would hold: "grad_output". */
void case_fill_reals(const case_line *line, const char *name, const psg_tensor *tensor);
/* Integers in [0, high), likewise. */
void case_fill_integers(const case_line *line, const char *name, int64_t high, const psg_tensor *tensor);

/* ---- running a case ---- */

typedef struct case_run {
    case_line line; /* of these samples only */
    psg_context *context;
    psg_tape *tape;
    psg_dtype real;                  /* PSG_F32 or PSG_F64 */
    psg_tensor value[CASE_OPERANDS]; /* contiguous; batch second where the line says so; may be replaced by views */
    void *memory[CASE_OPERANDS];
    psg_param *param[CASE_OPERANDS]; /* of the parameters */
    psg_var var[CASE_OPERANDS];      /* of the last pass */
    psg_var output;
    int64_t *names;                  /* of its samples: their places in the line's batch */
} case_run;

/* Makes the operands of samples [first, first + count) of the line, a tape, parameters.  count < 0: all. */
psg_status case_run_open(case_run *run, psg_context *context, const case_line *line, psg_dtype real, int64_t first,
                         int64_t count);
void case_run_close(case_run *run);
/* The pass that the line asks for. */
psg_pass case_run_pass(const case_run *run);
/* Begins the pass, records the op; the tape's status. */
psg_status case_run_forward(case_run *run, const psg_pass *pass);
/* Whether the gradient of operand k is wanted. */
int case_wants_grad(const case_line *line, int k);
/* The dimension of the batch in a tensor of the run: 0, or 1 when it is second. */
int case_batch_dim(const case_line *line, int rank);
/* A view with the batch in front. */
psg_tensor case_batch_first(const case_line *line, const psg_tensor *tensor);

#endif
