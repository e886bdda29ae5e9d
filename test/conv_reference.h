/* Convolution by plain loops in double, and random cases of it. */
#ifndef PSG_TEST_CONV_REFERENCE_H
#define PSG_TEST_CONV_REFERENCE_H

#include "support.h"

enum { CONV_AXES = 3 };

/* One convolution, or (transposed) its adjoint.  Axes that the op lacks come last and have size 1. */
typedef struct conv_case {
    int spatial;
    bool transposed, with_bias;
    int64_t batch, groups, in_channels, out_channels;   /* of the op, all groups together */
    int64_t in[CONV_AXES], out[CONV_AXES], kernel[CONV_AXES];
    int64_t stride[CONV_AXES], dilation[CONV_AXES], padding[CONV_AXES], after[CONV_AXES];  /* transposed: after is
                                                                                             output_padding */
} conv_case;

/* Everything one pass gives, row-major and batch first: y (B, O, *out), grad_x (B, C, *in), grad_weight (B, *weight),
 * grad_bias (B, O).  terms_...: the sums of the absolute values of what each element sums. */
typedef struct conv_answer {
    double *y, *grad_x, *grad_weight, *grad_bias;
    double *terms_y, *terms_grad_x, *terms_grad_weight, *terms_grad_bias;
    int64_t y_count, x_count, weight_count, bias_count;   /* y, x: with the batch; weight, bias: without */
} conv_answer;

/* Sizes are random and small; the output sizes are filled in. */
conv_case conv_random_case(test_random *random);
/* Fills out from the other fields. */
void conv_find_output(conv_case *c);

/* x, weight, bias (or NULL) and the output's gradient, row-major. */
conv_answer conv_reference(const conv_case *c, const double *x, const double *weight, const double *bias,
                           const double *grad_y);
void conv_answer_free(conv_answer *answer);

void conv_x_shape(const conv_case *c, int64_t *shape);
void conv_y_shape(const conv_case *c, int64_t *shape);
void conv_weight_shape(const conv_case *c, int64_t *shape);

/* Records the op by its public front. */
psg_var conv_record(psg_tape *tape, const conv_case *c, psg_var x, psg_var weight, psg_var bias);

#endif
