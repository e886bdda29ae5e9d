/* The convolution kernel: a sum over taps and channels at every position of a grid, in either direction.
 *
 *   out[n, g, m, first_a + i_a out_step_a] (+)= bias[g, m]
 *                                 + sum_{c, j} weight(g, m, c, kernel_j) in[n, g, c, i_a in_step_a + offset_a(j_a)]
 *
 * over three axes a; in is 0 outside its array.  A convolution has in_step = stride, out_step = 1 and one phase.  Its
 * adjoint (the input gradient; the transposed convolution) has in_step = 1 and out_step = stride: the outputs of one
 * remainder modulo the stride are a phase, which meets only every out_step-th tap. */
#ifndef PSG_KERNELS_CONV_KERNEL_H
#define PSG_KERNELS_CONV_KERNEL_H

#include <stdbool.h>
#include <stddef.h>

#define PSG_CONV_AXES 3

/* What one phase does along one axis.  Tap j < taps is element kernel_first + j kernel_step of the kernel and reads at
 * offset + j offset_step from i in_step. */
typedef struct psg_conv_phase {
    size_t first, positions;      /* outputs first + i out_step, i < positions */
    size_t taps;                  /* may be 0 */
    ptrdiff_t offset, offset_step;
    size_t kernel_first, kernel_step;
} psg_conv_phase;

typedef struct psg_conv_axis {
    size_t in_size, out_size, in_step, out_step;
    size_t phase_count;
    const psg_conv_phase *phases;
    ptrdiff_t low, high;          /* of the offsets of all phases */
    size_t positions;             /* the most of any phase */
    size_t box, boxes;            /* positions a task; tasks */
} psg_conv_axis;

typedef struct psg_conv {
    psg_conv_axis axis[PSG_CONV_AXES];
    const void *in;
    ptrdiff_t in_sample, in_channel;      /* strides in elements; the three axes are contiguous */
    void *out;
    ptrdiff_t out_sample, out_channel;
    const void *bias;                     /* one element an output channel, or NULL */
    bool accumulate;                      /* add to out, without the bias */
    size_t samples, groups, rows, channels;   /* of a group: output and input channels */
    const void *weight;
    ptrdiff_t weight_group, weight_row, weight_channel, weight_tap[PSG_CONV_AXES];
    void *packed;                         /* psg_conv_packed_count reals, 64-byte aligned */
    size_t task_samples, task_channels;   /* samples a task; channels summed at a time */
    size_t task_groups;                   /* groups a task: more than 1 only for the kernels of few channels */
    bool planes;                          /* 3 x 3 taps, and boxes hold whole rows of planes which, if there were more
                                             samples, would not be cut */
} psg_conv;

/* What a task's workspace holds: its part of in with zeros around it, then a panel of windows, then offsets of taps. */
#define PSG_CONV_STAGE_BYTES ((size_t)512 << 10)
#define PSG_CONV_PANEL_BYTES ((size_t)896 << 10)
#define PSG_CONV_MAX_TAPS ((size_t)4096)
/* The most channels times taps of one panel. */
#define PSG_CONV_MAX_TERMS ((size_t)6144)
/* Elements read past the end of what is staged. */
#define PSG_CONV_SLACK ((size_t)64)
/* packed holds rows rounded up to this many. */
#define PSG_CONV_ROW_GRAIN ((size_t)12)

/* Elements between rows, planes, channels and samples of what a task stages for boxes of box[a] positions.  The last
 * axis is split by its remainders modulo in_step, so that neighbouring positions are neighbours in memory. */
typedef struct psg_conv_stage {
    size_t extent[PSG_CONV_AXES];   /* elements of in that the box reads */
    size_t split, width;            /* remainders; elements of one */
    size_t row, plane, channel, sample;
} psg_conv_stage;

static inline psg_conv_stage psg_conv_stage_of(const psg_conv *conv, const size_t box[PSG_CONV_AXES], size_t channels) {
    psg_conv_stage s;
    for (int a = 0; a < PSG_CONV_AXES; a++) {
        const psg_conv_axis *x = &conv->axis[a];
        s.extent[a] = (box[a] - 1) * x->in_step + (size_t)(x->high - x->low) + 1;
    }
    size_t step = conv->axis[2].in_step;
    s.width = (s.extent[2] + step - 1) / step;
    s.split = step < s.extent[2] ? step : s.extent[2];
    s.row = s.width * s.split;
    s.plane = s.row * s.extent[1];
    s.channel = s.plane * s.extent[0];
    s.sample = s.channel * channels;
    return s;
}

#endif
