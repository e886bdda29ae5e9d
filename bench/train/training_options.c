#include "training_options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const training_options defaults = {
    .data = "/usr/share/datasets/fashion-mnist", .recipe.momentum = -1, .epsilon = 3, .delta = 1e-5,
    .folder = "build/run",
};

static void print_models(void) {
    puts("Models and their recipes (epochs, batch, clip, lr, momentum):");
    for (size_t k = 0; k < image_model_count; k++) {
        const training_recipe *r = &image_models[k].recipe;
        printf("  %-12s %4g %5g %5g %5g %5g   %s\n", image_models[k].kind.name, r->epochs, r->batch, r->max_grad_norm,
               r->lr, r->momentum, image_models[k].kind.summary);
    }
}

static void print_help(const char *program) {
    printf("Usage: %s [options]\n"
           "Trains a classifier on Fashion-MNIST with DP-SGD and says what it cost.\n\n"
           "  --model NAME          the model (%s)\n"
           "  --data DIR            folder of the IDX files (%s)\n"
           "  --epochs N            passes over the data\n"
           "  --batch N             expected batch size\n"
           "  --clip C              bound on the gradient norm of a sample, max_grad_norm\n"
           "  --lr RATE             learning rate of SGD with momentum\n"
           "  --momentum M          0: none\n"
           "  --epsilon E           privacy budget of the run (%g)\n"
           "  --delta D             and the delta that belongs to it (%g)\n"
           "  --threads N           0: as many as there are processors (0)\n"
           "  --seed N              reproducible randomness: the run is NOT PRIVATE\n"
           "  --folder DIR          where the run keeps its ledger, checkpoint, weights and report (%s)\n"
           "  --resume              go on with the run in the folder, with the options it began with; --data,\n"
           "                        --threads and --diagnostics may be other ones\n"
           "  --diagnostics         a second page, NOT PRIVATE: losses, norms, what was classified wrongly\n"
           "  --help\n\n",
           program, image_models[0].kind.name, defaults.data, defaults.epsilon, defaults.delta, defaults.folder);
    print_models();
}

/* A finite number in (0, maximum]. */
static int read_positive(const char *name, const char *text, double maximum, double *value) {
    char *end;
    *value = strtod(text, &end);
    if (end != text && *end == 0 && *value > 0 && *value <= maximum) return 0;
    fprintf(stderr, "--%s: %s is not a number above 0 and up to %g\n", name, text, maximum);
    return -1;
}

static int read_momentum(const char *name, const char *text, double *value) {
    char *end;
    *value = strtod(text, &end);
    if (end != text && *end == 0 && *value >= 0 && *value < 1) return 0;
    fprintf(stderr, "--%s: %s is not a number from 0 to below 1\n", name, text);
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

enum { MODEL, DATA, EPOCHS, BATCH, CLIP, LR, MOMENTUM, EPSILON, DELTA, THREADS, SEED, FOLDER, RESUME, DIAGNOSTICS, HELP };

static const struct option long_options[] = {
    { "model", required_argument, NULL, MODEL }, { "data", required_argument, NULL, DATA },
    { "epochs", required_argument, NULL, EPOCHS }, { "batch", required_argument, NULL, BATCH },
    { "clip", required_argument, NULL, CLIP }, { "lr", required_argument, NULL, LR },
    { "momentum", required_argument, NULL, MOMENTUM }, { "epsilon", required_argument, NULL, EPSILON },
    { "delta", required_argument, NULL, DELTA }, { "threads", required_argument, NULL, THREADS },
    { "seed", required_argument, NULL, SEED }, { "folder", required_argument, NULL, FOLDER },
    { "resume", no_argument, NULL, RESUME }, { "diagnostics", no_argument, NULL, DIAGNOSTICS },
    { "help", no_argument, NULL, HELP }, { NULL, 0, NULL, 0 },
};

static int read_model(const char *name, const image_model **chosen) {
    for (size_t k = 0; k < image_model_count; k++) {
        if (strcmp(name, image_models[k].kind.name) != 0) continue;
        *chosen = &image_models[k];
        return 0;
    }
    fprintf(stderr, "--model: %s is no model; see --help\n", name);
    return -1;
}

/* What the command line does not say is the recipe's. */
static void complete(training_recipe *given, const training_recipe *of_model) {
    if (given->epochs == 0) given->epochs = of_model->epochs;
    if (given->batch == 0) given->batch = of_model->batch;
    if (given->max_grad_norm == 0) given->max_grad_norm = of_model->max_grad_norm;
    if (given->lr == 0) given->lr = of_model->lr;
    if (given->momentum < 0) given->momentum = of_model->momentum;
}

static int read_option(training_options *options, int option, const char *name, const image_model **chosen) {
    training_recipe *recipe = &options->recipe;
    uint64_t threads;
    int failed;
    switch (option) {
    case MODEL: return read_model(optarg, chosen);
    case DATA: options->data = optarg; return 0;
    case EPOCHS: return read_positive(name, optarg, 1e6, &recipe->epochs);
    case BATCH: return read_positive(name, optarg, 1e9, &recipe->batch);
    case CLIP: return read_positive(name, optarg, 1e9, &recipe->max_grad_norm);
    case LR: return read_positive(name, optarg, 1e9, &recipe->lr);
    case MOMENTUM: return read_momentum(name, optarg, &recipe->momentum);
    case EPSILON: return read_positive(name, optarg, 1e6, &options->epsilon);
    case DELTA: return read_positive(name, optarg, 0.9999, &options->delta);
    case THREADS:
        failed = read_whole(name, optarg, 64, &threads);
        options->threads = (unsigned)threads;
        return failed;
    case SEED: options->seeded = 1; return read_whole(name, optarg, UINT64_MAX, &options->seed);
    case FOLDER: options->folder = optarg; return 0;
    case RESUME: options->resumes = 1; return 0;
    case DIAGNOSTICS: options->diagnoses = 1; return 0;
    default: return -1;
    }
}

/* ---- a run that goes on ---- */

/* The noise was found for the options that the run began with, and the checkpoint is of its model. */
static int check_resumed(unsigned given) {
    static const unsigned may_change = 1u << DATA | 1u << THREADS | 1u << FOLDER | 1u << RESUME |
                                       1u << DIAGNOSTICS;
    for (const struct option *o = long_options; o->name; o++) {
        if (!(given & ~may_change & 1u << o->val)) continue;
        fprintf(stderr, "--resume: the run goes on with the options it began with, and --%s is given\n", o->name);
        return -1;
    }
    return 0;
}

int training_options_resume(training_options *options, const training_options *now, int count, char **began) {
    char **argument = calloc((size_t)count + 2, sizeof *argument), program[] = "resume";
    if (!argument) return -1;
    argument[0] = program;
    for (int k = 0; k < count; k++) argument[k + 1] = began[k];
    int read = training_options_read(options, count + 1, argument);
    free(argument);
    if (now->given & 1u << DATA) options->data = now->data;
    if (now->given & 1u << THREADS) options->threads = now->threads;
    options->folder = now->folder;
    options->diagnoses = now->diagnoses;
    options->resumes = 1;
    return read;
}

/* ---- the command line ---- */

int training_options_read(training_options *options, int argc, char **argv) {
    const image_model *chosen = &image_models[0];
    int option, index = 0;
    *options = defaults;
    optind = 0;   /* a second line may be read */
    while ((option = getopt_long(argc, argv, "", long_options, &index)) != -1) {
        if (option == HELP) {
            print_help(argv[0]);
            return 1;
        }
        if (read_option(options, option, long_options[index].name, &chosen) != 0) return -1;
        options->given |= 1u << option;
    }
    options->model = &chosen->kind;
    options->input = chosen->input;
    options->recipe.average_decay = chosen->recipe.average_decay;
    complete(&options->recipe, &chosen->recipe);
    if (optind < argc) {
        fprintf(stderr, "%s: unexpected argument %s\n", argv[0], argv[optind]);
        return -1;
    }
    return options->resumes ? check_resumed(options->given) : 0;
}
