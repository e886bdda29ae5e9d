/* What convolutions and their transposes share: one geometry, two directions, one weight gradient. */
#ifndef PSG_OPS_CONV_GEOMETRY_H
#define PSG_OPS_CONV_GEOMETRY_H

#include <stdbool.h>

#include "psg/op.h"

enum { PSG_CONV_INPUT = 0, PSG_CONV_WEIGHT = 1, PSG_CONV_BIAS = 2, PSG_CONV_INPUTS = 3 };

extern const char *const psg_conv_input_names[PSG_CONV_INPUTS];

/* A convolution from an image to an output over three axes; those that the op lacks come first and have size 1.  Both
 * are contiguous: (samples, groups * channels, *size); so is the weight: (groups * output_channels, image_channels,
 * *kernel).  A transposed convolution goes from the output to the image. */
typedef struct psg_conv_geometry {
    int first;                                                  /* the axis of the op's first spatial dimension */
    psg_dtype dtype;
    int64_t image[3], output[3], kernel[3], stride[3], dilation[3], padding[3];
    int64_t samples, groups, image_channels, output_channels;   /* channels of a group */
} psg_conv_geometry;

/* What a descriptor has for traits. */
typedef struct psg_conv_traits {
    psg_status (*read)(psg_call *call, psg_conv_geometry *geometry);   /* from operands and attributes, checked */
    bool is_transposed;
} psg_conv_traits;

/* The three functions of both ops. */
psg_status psg_conv_shape(psg_call *call);
psg_status psg_conv_forward(psg_call *call);
psg_status psg_conv_backward(psg_call *call);

/* What read begins with: checks all but the bias, the sizes and the padding, and fills the geometry but those.
 * spatial 0: what the input's rank says; zeros in stride and dilation, and groups 0: ones. */
psg_status psg_conv_begin(psg_call *call, int spatial, const int64_t *stride, const int64_t *dilation, int64_t groups,
                          psg_conv_geometry *geometry);

/* output = the convolution of image, plus bias (or NULL). */
psg_status psg_conv_gather(psg_call *call, const psg_conv_geometry *geometry, const void *image, const void *bias,
                           void *output);
/* image = the adjoint of the convolution at output, plus bias (or NULL), one element a channel of the image. */
psg_status psg_conv_scatter(psg_call *call, const psg_conv_geometry *geometry, const void *output, const void *bias,
                            void *image);

/* rows (samples, *weight): the weight's gradient of each sample, for groups of few channels. */
psg_status psg_conv_weight_rows(psg_call *call, const psg_conv_geometry *geometry, const void *image,
                                const void *output, void *rows);

/* Adds the weight's gradient, given the data of an image and of the gradient at its output, and the bias's, rows of
 * grad_output. */
psg_status psg_conv_add_weight(psg_call *call, const psg_conv_geometry *geometry, const void *image,
                               const void *output);
psg_status psg_conv_add_bias(psg_call *call);

#endif
