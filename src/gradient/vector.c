#include <string.h>

#include "gradient/room.h"

void psg_vector_sum(const psg_vector *v, int64_t first, int64_t count, double *sums) {
    memset(sums, 0, (size_t)count * sizeof *sums);
    const void *row = v->row ? psg_elements(v->row, v->part->dtype, first * v->step) : NULL;
    if (row) psg_add_strided(v->part, 1.0, row, v->step, count, sums);
    else v->add(v, first, count, sums);
}

long double psg_vector_square(const psg_vector *v, int64_t columns, void *workspace) {
    double *sums = psg_small_memory(workspace);
    long double square = 0;
    if (v->row) return psg_square_of(v->part->kernels, v->part->dtype, v->row, v->step, columns);
    for (int64_t first = 0; first < columns; first += PSG_AT_ONCE) {
        int64_t count = psg_least(PSG_AT_ONCE, columns - first);
        psg_vector_sum(v, first, count, sums);
        square += psg_square_of(v->part->doubles, PSG_F64, sums, 1, count);
    }
    return square;
}

double psg_vector_dot(const psg_vector *x, const psg_vector *y, int64_t columns, int64_t some, void *workspace) {
    const psg_part *part = x->part;
    double *sums = psg_small_memory(workspace), *others = psg_tile_memory(workspace), dot = 0;
    if (x->row && y->row) return psg_strided_dot(part, x->row, x->step, y->row, y->step, columns);
    for (int64_t first = 0; first < columns; first += some) {
        int64_t count = psg_least(some, columns - first);
        psg_vector_sum(x, first, count, sums);
        psg_vector_sum(y, first, count, others);
        dot += part->doubles->dot((size_t)count, sums, others);
    }
    return dot;
}

void psg_vector_write(const psg_vector *v, double scale, int64_t first, int64_t count, void *out, bool accumulate,
                      void *workspace) {
    const psg_part *part = v->part;
    const void *row = v->row ? psg_elements(v->row, part->dtype, first * v->step) : NULL;
    double *sums = psg_small_memory(workspace);
    if (row) part->kernels->scale_row((size_t)count, scale, row, v->step, out, accumulate);
    for (int64_t i = 0; i < count && !row; i += PSG_AT_ONCE) {
        int64_t some = psg_least(PSG_AT_ONCE, count - i);
        psg_vector_sum(v, first + i, some, sums);
        part->kernels->from_f64((size_t)some, scale, sums, psg_elements_mutable(out, part->dtype, i), accumulate);
    }
}
