/* What the kernels of recurrent layers take. */
#ifndef PSG_KERNELS_RECURRENT_KERNEL_H
#define PSG_KERNELS_RECURRENT_KERNEL_H

#include <stdbool.h>
#include <stddef.h>

/* c[i][first + j] = start + sum_k a[i * a_stride + k] W[k][j], i < rows, j < n.  W lies in panels of panel_width()
 * columns, each k x panel_width() reals (pack_panel), 64-byte aligned.  Every element is the start and 128 terms in one
 * chain of multiply-adds, to which the sums of further chains of 128 terms are added in order, whatever rows: a row has
 * the same bits in any company.  (Recurrence amplifies rounding: chains of 256 leave gated layers of 256 units at three
 * times the error of 64.) */
#define PSG_RECURRENT_CHAIN 128

typedef struct psg_panel_product {
    size_t rows, n, k;
    const void *a;
    size_t a_stride;
    const void *panels;
    const void *bias;         /* the start: n elements, or NULL: zero */
    bool accumulate;          /* the start is what c held; bias is not read */
    void *const *c;           /* a row each */
    size_t first;
} psg_panel_product;

/* One step of one sample: rows of `hidden` units H, the gates of a unit H apart.
 *
 *         sums (pre-activations)       gates                   grad_sums
 *   rnn   a                            (not used)              da
 *   lstm  i f g o                      i f g o                 di df dg do
 *   gru   r z nx nh                    r z n nh                dr dz dnx dr dz dnh
 *
 * nx, nh: the parts of the n-gate's sum that come from the input and from the state, n = tanh(nx + r nh). */
typedef struct psg_recurrent_row {
    size_t hidden;
    bool relu;                /* rnn: relu for tanh */
    const void *sums;         /* forward only */
    void *gates;              /* written by forward, read by backward; may be where grad_sums goes */
    const void *h_prev, *c_prev;
    void *h, *c;              /* written by forward, read by backward */
    const void *grad_output;  /* backward: added to grad_h, or NULL */
    void *grad_h;             /* backward, gradient of h; gru leaves z times it there, the others leave it alone */
    void *grad_c;             /* backward, gradient of c; replaced by that of c_prev */
    void *grad_sums;          /* backward: written */
} psg_recurrent_row;

#endif
