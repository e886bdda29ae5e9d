/* Where the rows of a window lie in a plane. */
#ifndef PSG_KERNELS_POOLING_ROWS_H
#define PSG_KERNELS_POOLING_ROWS_H

#include "pooling_kernel.h"

static inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static inline size_t plane_in(const psg_pooling *p) { return p->dim[0].in * p->dim[1].in * p->dim[2].in; }

/* The rows of the windows of one row of outputs, row (a, b) of them beginning at row_at. */
typedef struct rows {
    size_t depth, height;
    const psg_pooling_dim *d, *h;
    size_t first_d, first_h, width;
} rows;

static inline rows rows_of(const psg_pooling *p, size_t od, size_t oh) {
    const psg_pooling_dim *d = &p->dim[0], *h = &p->dim[1];
    return (rows){ (size_t)d->count[od], (size_t)h->count[oh], d, h, (size_t)d->first[od], (size_t)h->first[oh],
                   p->dim[2].in };
}

static inline size_t row_at(const rows *r, size_t a, size_t b) {
    return ((r->first_d + a * r->d->step) * r->h->in + r->first_h + b * r->h->step) * r->width;
}

#endif
