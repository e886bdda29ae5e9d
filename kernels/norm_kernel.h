/* The statistics of a row or a group. */
#ifndef PSG_KERNELS_NORM_KERNEL_H
#define PSG_KERNELS_NORM_KERNEL_H

/* The mean of scale x, or 0, and rstd = 1 / sqrt(its variance, or mean square, + eps scale^2).  scale is a power of
 * two: 1 where the squares of x are in range. */
typedef struct psg_norm_stats {
    double scale, mean, rstd;
} psg_norm_stats;

#endif
