/* The command line of fashion_mnist.c. */
#ifndef BENCH_TRAINING_OPTIONS_H
#define BENCH_TRAINING_OPTIONS_H

#include <stdint.h>

#include "image_models.h"

typedef struct training_options {
    const model_kind *model;
    image_input input;          /* what it reads */
    const char *data;           /* folder of the four IDX files */
    training_recipe recipe;     /* the model's own where the command line does not say */
    double epsilon, delta;      /* what the whole run may cost */
    unsigned threads;           /* 0: the library's choice */
    int seeded;                 /* --seed was given: reproducible, and not private */
    uint64_t seed;
    const char *folder;         /* of the run */
    int resumes;                /* --resume was given: goes on with the run that is there */
    unsigned given;             /* a bit for each option of the command line */
    int diagnoses;              /* --diagnostics was given: a page of what the run saw, NOT PRIVATE */
} training_options;

/* Reads the command line.  Returns 0; 1 when --help was printed; -1 after a message about a wrong argument, or one that
 * --resume does not go with. */
int training_options_read(training_options *options, int argc, char **argv);

/* The options that a run began with, with the data, threads and folder of the line that goes on with it.  The strings
 * stay those of `began` and `now`. */
int training_options_resume(training_options *options, const training_options *now, int count, char **began);

#endif
