/* One pass of a case of test/cases, all its results as f64 arrays with the batch in front. */
#ifndef PSG_TEST_CASE_RESULTS_H
#define PSG_TEST_CASE_RESULTS_H

#include "cases/cases.h"
#include "support.h"

/* How a case is run.  Zero: as the line says, in f64, all samples, its own output gradient. */
typedef struct case_way {
    psg_dtype real; /* PSG_F32 is zero: say PSG_F64 */
    int one_sample; /* sample `first` alone */
    int64_t first;
    int ordinary;           /* an ordinary pass whatever the line says */
    int views;              /* inputs and output gradient are strided views in random layouts */
    int64_t changed_sample; /* with change: its batched reals are negated and its integers become others */
    int change;
    const double *grad_output; /* the output's elements, batch in front; NULL: the case's */
    double grad_scale;         /* of the output gradient; 0: 1 */
} case_way;

typedef struct case_tensor {
    int wanted;        /* the rest is set */
    int64_t rows, row; /* samples (1: a sum over them, or no batch), elements of one */
    double *data;
} case_tensor;

typedef struct case_results {
    case_tensor output, grad_output;
    case_tensor grad[CASE_OPERANDS]; /* of an input; of a parameter, (B, *shape), or one row in an ordinary pass */
    test_array held;                 /* the output gradient that the tape reads in place */
} case_results;

/* Runs a case; fails the test when it cannot be run.  case_results_free in the end. */
void case_take(psg_context *context, const case_line *line, const case_way *way, case_results *results);
void case_results_free(case_results *results);

/* The same on a run of the caller's, opened and with its forward pass done. */
void case_take_run(case_run *run, const case_way *way, case_results *results);

/* "linear/rows: what" */
typedef struct case_label {
    char text[512];
} case_label;
case_label case_label_of(const case_line *line, const char *what);

/* Fails unless every wanted result of `expected` has the same bits in actual, rows [from, to) of both (to < 0: all); or
 * lies within tolerance times the largest value of its tensor (at least 1). */
void case_same_bits(const case_line *line, const case_results *actual, const case_results *expected, int64_t from,
                    int64_t to, const char *what);
void case_near(const case_tensor *actual, const case_tensor *expected, double factor, double tolerance,
               case_label label);
void case_all_near(const case_line *line, const case_results *actual, const case_results *expected, double tolerance,
                   const char *what);
/* "linear/rows: what: gradient of weight"; k < 0: "... output". */
case_label case_result_label(const case_line *line, const char *what, int k);

double case_largest(const case_tensor *tensor);

#endif
