#include "diagnostics.h"

#include <math.h>
#include <stdlib.h>

const double norm_quantiles[NORM_QUANTILES] = { 0.1, 0.5, 0.9 };

diagnostics *diagnostics_create(long steps) {
    const size_t room = (size_t)steps;
    diagnostics *d = calloc(1, sizeof *d);
    double *values = calloc(room * (3 + NORM_QUANTILES) + 1, sizeof *values);
    if (!d || !values) {
        free(d);
        free(values);
        return NULL;
    }
    *d = (diagnostics){ .room = room, .step = values, .loss = values + room, .clipped = values + 2 * room };
    for (size_t k = 0; k < NORM_QUANTILES; k++) d->norm[k] = values + (3 + k) * room;
    return d;
}

void diagnostics_destroy(diagnostics *d) {
    if (!d) return;
    free(d->step);
    free(d->norms);
    free(d);
}

static int reserve_norms(diagnostics *d, size_t count) {
    if (count <= d->norm_room) return 0;
    double *more = realloc(d->norms, 2 * count * sizeof *more);
    if (!more) return -1;
    d->norms = more;
    d->norm_room = 2 * count;
    return 0;
}

psg_status diagnostics_add(diagnostics *d, const trainer *t, const model_gradients *gradients, size_t samples) {
    if (!d) return PSG_OK;
    if (reserve_norms(d, d->norm_count + samples)) return PSG_ERR_MEMORY;
    double *square = d->norms + d->norm_count;
    TRY(psg_sqnorm(t->context, gradients->list, (size_t)t->model.count, square, NULL, NULL));
    for (size_t n = 0; n < samples; n++) {
        if (isfinite(square[n])) d->norms[d->norm_count++] = sqrt(square[n]);
    }
    return PSG_OK;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void diagnostics_end_step(diagnostics *d, long step, double loss, double clipped, size_t samples) {
    if (!d || d->count == d->room) return;
    const size_t k = d->count++;
    d->step[k] = (double)step;
    d->loss[k] = samples ? loss / (double)samples : NAN;
    d->clipped[k] = samples ? clipped / (double)samples : NAN;
    if (d->norm_count) qsort(d->norms, d->norm_count, sizeof *d->norms, ascending);
    for (size_t q = 0; q < NORM_QUANTILES; q++) {
        const size_t at = (size_t)(norm_quantiles[q] * (double)d->norm_count);
        d->norm[q][k] = d->norm_count ? d->norms[at] : NAN;
    }
    d->norm_count = 0;
}
