/* The models that fashion_mnist.c trains, each with the recipe that was found for it. */
#ifndef BENCH_IMAGE_MODELS_H
#define BENCH_IMAGE_MODELS_H

#include "dataset.h"
#include "model.h"

typedef struct training_recipe {
    double epochs;
    double batch;               /* expected number of samples in a batch */
    double max_grad_norm, lr, momentum;
    double average_decay;       /* of the moving average of the weights, in late steps */
} training_recipe;

/* Input (N, 784): images of 28 x 28 pixels, or (N, 3969): features of them; scores (N, 10). */
typedef struct image_model {
    model_kind kind;
    training_recipe recipe;
    image_input input;
} image_model;

/* The first is the default. */
extern const image_model image_models[];
extern const size_t image_model_count;

#endif
