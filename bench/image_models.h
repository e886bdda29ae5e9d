/* The models that fashion_mnist.c trains, each with the recipe that was found for it. */
#ifndef BENCH_IMAGE_MODELS_H
#define BENCH_IMAGE_MODELS_H

#include "model.h"

typedef struct training_recipe {
    double epochs;
    double batch;               /* expected number of samples in a batch */
    double max_grad_norm, lr, momentum;
} training_recipe;

/* Input (N, 784): images of 28 x 28 pixels; scores (N, 10). */
typedef struct image_model {
    model_kind kind;
    training_recipe recipe;
} image_model;

/* The first is the default. */
extern const image_model image_models[];
extern const size_t image_model_count;

#endif
