/* What the averaged model says of a data set. */
#ifndef BENCH_EVALUATION_H
#define BENCH_EVALUATION_H

#include "trainer.h"

typedef struct evaluation {
    int64_t count;
    float *scores;              /* (count, 10) */
    int64_t correct;
    double accuracy;            /* correct / count */
} evaluation;

/* evaluation_free takes it either way. */
psg_status evaluation_of(trainer *t, const dataset *data, evaluation *e);
void evaluation_free(evaluation *e);

/* The 95 % interval of an accuracy over images drawn as these were (Wilson 1927). */
void evaluation_interval(const evaluation *e, double *low, double *high);

/* The class that an image was given, and by how much its score is above that of another class. */
int evaluation_class(const evaluation *e, int64_t image);
double evaluation_margin(const evaluation *e, int64_t image, int other);

#endif
