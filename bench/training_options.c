#include "training_options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const training_options defaults = {
    .data = "/usr/share/datasets/fashion-mnist", .epochs = 10, .batch = 1024, .max_grad_norm = 0.5, .lr = 0.5,
    .momentum = 0.9, .epsilon = 3, .delta = 1e-5,
};

static void print_help(const char *program) {
    printf("Usage: %s [options]\n"
           "Trains a classifier on Fashion-MNIST with DP-SGD and says what it cost.\n\n"
           "  --data DIR            folder of the IDX files (%s)\n"
           "  --epochs N            passes over the data (%g)\n"
           "  --batch N             expected batch size (%g)\n"
           "  --max-grad-norm C     bound on the gradient norm of a sample (%g)\n"
           "  --lr RATE             learning rate of SGD with momentum %g (%g)\n"
           "  --epsilon E           privacy budget of the run at delta = %g (%g)\n"
           "  --threads N           0: as many as there are processors (0)\n"
           "  --seed N              reproducible randomness: the run is NOT PRIVATE\n"
           "  --help\n",
           program, defaults.data, defaults.epochs, defaults.batch, defaults.max_grad_norm, defaults.momentum,
           defaults.lr, defaults.delta, defaults.epsilon);
}

/* A finite number in (0, maximum]. */
static int read_positive(const char *name, const char *text, double maximum, double *value) {
    char *end;
    *value = strtod(text, &end);
    if (end != text && *end == 0 && *value > 0 && *value <= maximum) return 0;
    fprintf(stderr, "--%s: %s is not a number above 0 and up to %g\n", name, text, maximum);
    return -1;
}

static int read_whole(const char *name, const char *text, uint64_t maximum, uint64_t *value) {
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    if (*text >= '0' && *text <= '9' && *end == 0 && errno == 0 && *value <= maximum) return 0;
    fprintf(stderr, "--%s: %s is not a whole number from 0 to %llu\n", name, text, (unsigned long long)maximum);
    return -1;
}

enum { DATA, EPOCHS, BATCH, MAX_GRAD_NORM, LR, EPSILON, THREADS, SEED, HELP };

static const struct option long_options[] = {
    { "data", required_argument, NULL, DATA }, { "epochs", required_argument, NULL, EPOCHS },
    { "batch", required_argument, NULL, BATCH }, { "max-grad-norm", required_argument, NULL, MAX_GRAD_NORM },
    { "lr", required_argument, NULL, LR }, { "epsilon", required_argument, NULL, EPSILON },
    { "threads", required_argument, NULL, THREADS }, { "seed", required_argument, NULL, SEED },
    { "help", no_argument, NULL, HELP }, { NULL, 0, NULL, 0 },
};

static int read_option(training_options *options, int option, const char *name) {
    uint64_t threads;
    int failed;
    switch (option) {
    case DATA: options->data = optarg; return 0;
    case EPOCHS: return read_positive(name, optarg, 1e6, &options->epochs);
    case BATCH: return read_positive(name, optarg, 1e9, &options->batch);
    case MAX_GRAD_NORM: return read_positive(name, optarg, 1e9, &options->max_grad_norm);
    case LR: return read_positive(name, optarg, 1e9, &options->lr);
    case EPSILON: return read_positive(name, optarg, 1e6, &options->epsilon);
    case THREADS:
        failed = read_whole(name, optarg, 64, &threads);
        options->threads = (unsigned)threads;
        return failed;
    case SEED: options->seeded = 1; return read_whole(name, optarg, UINT64_MAX, &options->seed);
    default: return -1;
    }
}

int training_options_read(training_options *options, int argc, char **argv) {
    int option, index = 0;
    *options = defaults;
    while ((option = getopt_long(argc, argv, "", long_options, &index)) != -1) {
        if (option == HELP) {
            print_help(argv[0]);
            return 1;
        }
        if (read_option(options, option, long_options[index].name) != 0) return -1;
    }
    if (optind == argc) return 0;
    fprintf(stderr, "%s: unexpected argument %s\n", argv[0], argv[optind]);
    return -1;
}
