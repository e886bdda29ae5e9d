#include "evaluation.h"

#include <math.h>
#include <stdlib.h>

#define Z 1.959964              /* of 95 % */

psg_status evaluation_of(trainer *t, const dataset *data, evaluation *e) {
    *e = (evaluation){ .count = data->count };
    e->scores = malloc((size_t)data->count * IMAGE_CLASSES * sizeof *e->scores);
    if (!e->scores) return PSG_ERR_MEMORY;
    TRY(trainer_scores(t, data, e->scores));
    for (int64_t n = 0; n < e->count; n++) e->correct += evaluation_class(e, n) == data->labels[n];
    e->accuracy = (double)e->correct / (double)e->count;
    return PSG_OK;
}

void evaluation_free(evaluation *e) { free(e->scores); }

/* (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n) */
void evaluation_interval(const evaluation *e, double *low, double *high) {
    const double n = (double)e->count, p = e->accuracy, middle = p + Z * Z / (2 * n);
    const double half = Z * sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)), whole = 1 + Z * Z / n;
    *low = (middle - half) / whole;
    *high = (middle + half) / whole;
}

int evaluation_class(const evaluation *e, int64_t image) { return trainer_class(e->scores + image * IMAGE_CLASSES); }

double evaluation_margin(const evaluation *e, int64_t image, int other) {
    const float *scores = e->scores + image * IMAGE_CLASSES;
    return (double)scores[trainer_class(scores)] - (double)scores[other];
}
