/* What convolutions and their transposes share: one geometry, two directions, one weight gradient. */
#ifndef PSG_OPS_CONV_GEOMETRY_H
#define PSG_OPS_CONV_GEOMETRY_H

#include "psg/op.h"

enum { PSG_CONV_INPUT = 0, PSG_CONV_WEIGHT = 1, PSG_CONV_BIAS = 2, PSG_CONV_INPUTS = 3 };

extern const char *const psg_conv_input_names[PSG_CONV_INPUTS];

/* A convolution from an image to an output over three axes; those that the op lacks come first and have size 1.  The
 * weight is contiguous: (groups * output_channels, image_channels, *kernel).  A transposed convolution goes from the
 * output to the image. */
typedef struct psg_conv_geometry {
    int spatial;
    psg_dtype dtype;
    int64_t image[3], output[3], kernel[3], stride[3], dilation[3], padding[3];
    int64_t samples, groups, image_channels, output_channels;   /* channels of a group */
    int64_t image_sample, image_channel, output_sample, output_channel;   /* strides, in elements */
} psg_conv_geometry;

/* Real types, ranks, a batched input that carries the batch, a weight and a bias that do not. */
psg_status psg_conv_check_operands(psg_call *call, int spatial);
/* Fields of options that have their default 0, and the ranges of all: each entry in [least, 2^31); zeros become
 * `otherwise`. */
psg_status psg_conv_check_option(psg_call *call, const char *name, int spatial, const int64_t *given, int64_t least,
                                 int64_t otherwise, int64_t *found);
/* Kernels are not empty, groups divides the weight's first dimension; bias has `outputs` elements. */
psg_status psg_conv_check_weight(psg_call *call, int64_t groups);
psg_status psg_conv_check_bias(psg_call *call, int64_t outputs);
/* Fills sizes, channels and strides from the call's image and output, of which one is input 0, the other the output. */
void psg_conv_fill_geometry(psg_conv_geometry *geometry, const psg_call *call, const psg_tensor *image,
                            const psg_tensor *output);

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
