/* The attention kernel: the query heads that share the keys and values of one head, of one sample.
 *
 *   out_i = sum_j w_ij v_j,   w_ij = d_ij p_ij,   p_i = softmax_j(scale <q_i, k_j> + mask_ij)
 *
 * with d_ij what dropout multiplies.  No L x S matrix is kept: backward computes p anew from the maximum and the
 * inverse sum of its row.  A row whose every key is masked has p_i = 0, so it is zero and passes no gradient.
 *
 * With weights, w is a result too, (group, L, all keys).
 *
 * Strides count reals.  Rows are contiguous. */
#ifndef PSG_KERNELS_ATTENTION_KERNEL_H
#define PSG_KERNELS_ATTENTION_KERNEL_H

#include <stdbool.h>
#include <stddef.h>

typedef enum psg_mask_type { PSG_MASK_NONE = 0, PSG_MASK_REAL, PSG_MASK_I32, PSG_MASK_I64 } psg_mask_type;

/* Element (head, i, j) at head * head_stride + i * row_stride + j * column_stride; a stride is 0 where the mask is
 * repeated.  Reals are added; integers say which keys take part: those that are not zero (keeps), or those that are. */
typedef struct psg_mask {
    psg_mask_type type;
    bool keeps;
    const void *data;
    ptrdiff_t head_stride, row_stride, column_stride;
} psg_mask;

typedef struct psg_attention {
    size_t group;                  /* query heads */
    size_t queries, keys;          /* L, S */
    size_t key_size, value_size;   /* E of q and k, Ev of v and out */
    double scale;
    bool causal;                   /* key j > i is masked for query i */
    const void *q, *k, *v;
    ptrdiff_t q_head, q_row, k_row, v_row;
    const void *bias_k, *bias_v;   /* key S and its value, which no mask reaches; NULL: none */
    bool zero_key;                 /* one more key and value of zeros, the last */
    psg_mask mask;                 /* over the S keys */
    psg_mask padding;              /* the same, equal in all rows: row_stride is 0 */
    const unsigned char *kept;     /* dropout, (group, all keys, L): 0 drops; NULL: no dropout */
    double kept_scale;             /* what the others are multiplied by */
    void *stats;                   /* (group, PSG_ATTENTION_STATS, L) of the rows: forward writes the maximum and the
                                      inverse sum, which backward reads; it writes the others */
    void *out;                     /* forward writes, backward reads */
    ptrdiff_t out_head, out_row;
    void *weights;                 /* likewise; or NULL */
    ptrdiff_t weights_head, weights_row;

    /* backward: each output may be NULL; grad_mask is added to, the others are written */
    const void *grad_out, *grad_weights;   /* like out and weights */
    void *grad_q, *grad_k, *grad_v;/* like q, k, v */
    void *grad_bias_k, *grad_bias_v;
    void *grad_mask;               /* reals, with the strides of mask */
} psg_attention;

#define PSG_ATTENTION_STATS ((size_t)4)

/* Queries and keys of a tile. */
#define PSG_ATTENTION_QUERIES ((size_t)64)
#define PSG_ATTENTION_KEYS ((size_t)128)

/* Reals of workspace, 64-byte aligned, for heads of these sizes. */
static inline size_t psg_attention_workspace(size_t key_size, size_t value_size) {
    size_t e = key_size + 64, ev = value_size + 64;   /* rows are padded to vectors */
    return e * (3 * PSG_ATTENTION_QUERIES + 2 * PSG_ATTENTION_KEYS) +
           ev * (3 * PSG_ATTENTION_QUERIES + 2 * PSG_ATTENTION_KEYS) +
           2 * PSG_ATTENTION_KEYS * PSG_ATTENTION_QUERIES + 8 * PSG_ATTENTION_QUERIES;
}

#endif
