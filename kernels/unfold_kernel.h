/* Windows of an image (C, *X), one a position of the output: the rows of the matrix A (T x d) that a convolution
 * multiplies, T = prod output, d = C prod kernel.
 *
 * Column (c, k) at position t, both row-major, is image[c, t * stride + k * dilation - padding], 0 outside the image.
 * There are always 3 spatial dimensions: those that an image lacks come first, with sizes and kernels of 1. */
#ifndef PSG_KERNELS_UNFOLD_KERNEL_H
#define PSG_KERNELS_UNFOLD_KERNEL_H

#include <stddef.h>
#include <stdint.h>

typedef struct psg_unfolding {
    int64_t channels;
    ptrdiff_t channel_step;     /* in elements, like step */
    int64_t size[3];            /* of the image */
    ptrdiff_t step[3];
    int64_t kernel[3], stride[3], dilation[3], padding[3];
    int64_t output[3];          /* positions */
} psg_unfolding;

/* A rectangle of A: rows (positions) [position, position + positions), columns [column, column + columns). */
typedef struct psg_unfold_part {
    int64_t position, positions, column, columns;
} psg_unfold_part;

/* The most elements a channel of windows whose inner products are taken. */
#define PSG_MOST_TAPS 128

#endif
