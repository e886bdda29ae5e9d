/* Ops as cases: an op applied to operands, and what each element of its output must be.
 *
 * Values against the plain reference in f64, gradients against central differences, f32 and f64 on every instruction
 * set against that, the same bits for any number of threads, and isolation of the samples. */
#ifndef PSG_TEST_OP_CASES_H
#define PSG_TEST_OP_CASES_H

#include "support.h"

enum { MAX_IN = 4 };

/* GRAD: normal reals whose gradient is wanted; UNIT: those in (0, 1); INPUT_ONLY, CONSTANT: normal reals without a
 * gradient; LABELS: integers from 0 to classes - 1; WEIGHTS: constants in (0, 1). */
typedef enum source { GRAD, INPUT_ONLY, CONSTANT, LABELS, UNIT, WEIGHTS } source;

/* out(in, index) is element `index` of the output. */
typedef struct op_case {
    const char *name;
    psg_var (*build)(psg_tape *tape, const psg_var *in);
    double (*out)(const psg_tensor *in, const int64_t *index);
    int inputs;
    source from[MAX_IN];
    int rank[MAX_IN];
    int64_t shape[MAX_IN][PSG_MAX_RANK];
    int64_t classes;      /* labels are drawn from [0, classes) */
    int batch_second, ordinary;
} op_case;

void op_cases_values(const op_case *cases, int count);
void op_cases_types(const op_case *cases, int count);
void op_cases_threads(const op_case *cases, int count);
void op_cases_isolation(const op_case *cases, int count);

/* The index of the k-th element in row-major order. */
void op_case_index(const psg_tensor *tensor, int64_t k, int64_t index[PSG_MAX_RANK]);

#endif
