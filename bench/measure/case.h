/* A case: one problem and one question, ready to be timed. */
#ifndef BENCH_CASE_H
#define BENCH_CASE_H

#include <psg/psg.h>

#include "naive.h"
#include "bench_support.h"

#define BENCH_MAX_DIMS 9
#define BENCH_MAX_PASSES 512
#define BENCH_MAX_ARRAYS 4096
#define BENCH_MAX_PARAMS 160

typedef struct bench_op bench_op;

typedef struct bench_problem {
    const char *op, *question;
    int64_t dim[BENCH_MAX_DIMS];    /* in the order of the op's fields */
    size_t budget;                  /* bytes of memory budget granted to the plan */
    const char *line;               /* ops of a case table: the name of a line, instead of dim; or NULL */
} bench_problem;

/* One pass over data: flops; bytes read and written; bytes of zeros written.  Its limit is the larger of flops / peak
 * of multiply-adds and bytes / bandwidth; the limit of a case is the sum over its passes. */
typedef struct bench_pass { double flops, read, written, cleared; } bench_pass;

typedef struct bench_case bench_case;

struct bench_case {
    const bench_op *op;
    const bench_problem *problem;
    psg_dtype dtype;
    psg_context *context;

    /* Filled by the op's prepare.  before and before_plain are not timed. */
    psg_status (*before)(bench_case *c);            /* or NULL */
    psg_status (*run)(bench_case *c);
    psg_status (*before_plain)(bench_case *c);      /* or NULL */
    psg_status (*plain)(bench_case *c);             /* the same without privacy, timed in turn with run; or NULL */
    void (*naive)(bench_case *c, int64_t sample);   /* the naive loop's work for one sample; or NULL */
    psg_status (*residual)(bench_case *c, double *residual);    /* or NULL */
    psg_status (*count)(bench_case *c);             /* adds passes that depend on the plan, after a run; or NULL */
    void (*destroy)(bench_case *c);                 /* or NULL */
    int64_t samples;                                /* that a whole naive loop goes through */
    bench_pass pass[BENCH_MAX_PASSES];              /* none: the case has no limit */
    int pass_count;
    double working_set;                             /* bytes of all arrays that the passes go through */
    int64_t fallbacks;                              /* of a norm question, counted by run; -1: not applicable */
    double items;                                   /* to be counted per second; 0: not applicable */
    double tensors;                                 /* that share the time of a run; 0: not applicable */

    /* The plan that answers: a question and its gradients, valid after run.  None: the route is printed as "-". */
    psg_question question;
    const psg_gradient *gradient[BENCH_MAX_PARAMS];
    size_t gradient_count;

    void *state;                                    /* the op's own */
    void *array[BENCH_MAX_ARRAYS];                  /* freed with the case */
    int array_count;
    uint64_t random;
};

/* An op, or some of its questions.  questions ends with NULL; its first one is the default. */
struct bench_op {
    const char *name;
    const char *fields;                             /* "B,T,in,out" */
    int dim_count;
    const char *const *questions;
    psg_status (*prepare)(bench_case *c);
    const char *line;                               /* ops of a case table: the pattern of a line, fields in braces
                                                       (case_lines.h); or NULL */
};

extern const bench_op bench_linear, bench_questions, bench_layer_norm, bench_group_norm, bench_mlp_step, bench_noise,
                      bench_tensors;
extern const bench_op bench_conv1d, bench_conv2d, bench_conv3d, bench_instance_norm, bench_embedding, bench_lstm,
                      bench_attention, bench_cnn_mnist_step, bench_cnn_group_norm_step, bench_transformer_step;
extern const bench_op bench_gpt2_step, bench_mlp_small_step, bench_gru_small_step;

/* ---- helpers ---- */

/* Frees what a case holds, its context excepted. */
void bench_case_close(bench_case *c);

/* Zeroed memory that lives as long as the case. */
void *bench_memory(bench_case *c, size_t bytes);
/* A contiguous tensor of the case's real type: zeros, or uniform in [-bound, bound) from a fixed stream. */
psg_tensor bench_zeros(bench_case *c, int rank, const int64_t *shape);
psg_tensor bench_uniform(bench_case *c, double bound, int rank, const int64_t *shape);
/* A copy in f64. */
double *bench_to_f64(bench_case *c, const psg_tensor *tensor);
/* The address of element i. */
void *bench_at(const psg_tensor *tensor, int64_t i);

/* A standard normal number by Box-Muller on splitmix64, through the C library's scalar functions. */
double bench_gaussian(uint64_t *state);

void bench_add_pass(bench_case *c, double flops, double read, double written);
void bench_add_clear(bench_case *c, double bytes);
/* Whether the problem asks this question. */
int bench_asks(const bench_case *c, const char *question);

/* ||computed - reference|| / ||reference|| of count elements of the case's real type. */
double bench_error(const bench_case *c, int64_t count, const void *computed, const double *reference);
/* How many samples a check goes through when each costs so many flops: at least 1, at most 4 and B. */
int64_t bench_check_count(const bench_case *c, double flops);

#endif
