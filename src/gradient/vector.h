/* Vectors of samples, as rows and sparse rows are made of: a row as it is, or a sum of rows in double. */
#ifndef PSG_GRADIENT_VECTOR_H
#define PSG_GRADIENT_VECTOR_H

#include "gradient/room.h"

typedef struct psg_vector {
    const psg_part *part;
    int64_t n;
    const void *row;           /* the row, unscaled, its elements step apart; NULL: there is something to sum */
    ptrdiff_t step;
    /* sums += elements [first, first + count), from the room's own terms. */
    void (*add)(const struct psg_vector *v, int64_t first, int64_t count, double *sums);
    const void *terms;
    int64_t count;
} psg_vector;

/* Elements at a time: doubles that fit the small memory. */
#define PSG_AT_ONCE ((int64_t)(PSG_SMALL_BYTES / sizeof(double)))

/* sums = elements [first, first + count). */
void psg_vector_sum(const psg_vector *v, int64_t first, int64_t count, double *sums);
long double psg_vector_square(const psg_vector *v, int64_t columns, void *workspace);
/* <x, y>, sums over some elements at a time. */
double psg_vector_dot(const psg_vector *x, const psg_vector *y, int64_t columns, int64_t some, void *workspace);
/* out = or += scale * elements [first, first + count). */
void psg_vector_write(const psg_vector *v, double scale, int64_t first, int64_t count, void *out, bool accumulate,
                      void *workspace);

#endif
