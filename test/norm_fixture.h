/* One application of a norm by the statistics of its input, and what it must give. */
#ifndef PSG_TEST_NORM_FIXTURE_H
#define PSG_TEST_NORM_FIXTURE_H

#include "support.h"

enum { INPUT, WEIGHT, BIAS };
typedef enum norm_affine { ABSENT, TRAINABLE, FROZEN, CONSTANT, AFFINE_COUNT } norm_affine;

typedef struct norm_case {
    bool group;                /* group_norm, or instance_norm; else layer_norm, or rms_norm */
    bool instance, rms;
    psg_dtype dtype;
    int rank;
    int64_t shape[PSG_MAX_RANK];
    int normalized;            /* layer_norm: trailing dimensions */
    int64_t groups;
    double eps, mean;
    norm_affine mode[3];            /* of WEIGHT and BIAS */
    bool batch_second, input_grad;
    int layout;
} norm_case;

/* Logical places: sample n, part j (a row of layer_norm, a group of group_norm), element i of it. */
typedef struct norm_places {
    int64_t samples, parts, size, p;   /* p: elements of weight */
    int64_t inner;                     /* layer_norm: rows after the batch dimension; group_norm: positions */
    bool group, second;
} norm_places;

/* Each value comes with the sum of the magnitudes that it is made of. */
typedef struct norm_reference {
    double *y, *y_terms, *gx, *gx_terms, *gw, *gw_terms, *gb, *gb_terms;
} norm_reference;

typedef struct norm_run {
    psg_tape *tape;
    psg_param *param[3];
    psg_var x, y;
} norm_run;

norm_places norm_places_of(const norm_case *c);
/* By the definition, in doubles. */
norm_reference norm_refer(const norm_case *c, const norm_places *l, const test_array *in, const test_array *g);
void norm_reference_free(norm_reference *r);

/* Random operands and an output gradient for a case; the caller frees them. */
void norm_case_arrays(const norm_case *c, test_random *random, test_array in[3], test_array *g);
/* Makes input k, WEIGHT or BIAS, the var that the case wants, a parameter kept in r. */
psg_var norm_operand(psg_context *context, norm_run *r, const norm_case *c, const test_array *in, int k);
/* Applies the op on a tape of its own. */
norm_run norm_record(psg_context *context, const norm_case *c, const test_array *in);
void norm_run_free(norm_run *r);

/* Every element within test_bound of k and its terms. */
void norm_compare(const psg_tensor *actual, const double *expected, const double *terms, double k, const char *what);
/* Output, input gradient and per-sample gradients of a random instance against the definition. */
void norm_check_case(psg_context *context, const norm_case *c, test_random *random);

#endif
