/* The command line of fashion_mnist.c. */
#ifndef BENCH_TRAINING_OPTIONS_H
#define BENCH_TRAINING_OPTIONS_H

#include <stdint.h>

typedef struct training_options {
    const char *data;           /* folder of the four IDX files */
    double epochs;
    double batch;               /* expected number of samples in a batch */
    double max_grad_norm, lr, momentum;
    double epsilon, delta;      /* what the whole run may cost */
    unsigned threads;           /* 0: the library's choice */
    int seeded;                 /* --seed was given: reproducible, and not private */
    uint64_t seed;
} training_options;

/* Reads the command line.  Returns 0; 1 when --help was printed; -1 after a message about a wrong argument. */
int training_options_read(training_options *options, int argc, char **argv);

#endif
