/* The model of fashion_mnist.c: 784 - 256 - 10 with layer normalization in the hidden layer. */
#ifndef BENCH_CLASSIFIER_H
#define BENCH_CLASSIFIER_H

#include <psg/psg.h>

enum { CLASSIFIER_PIXELS = 784, CLASSIFIER_HIDDEN = 256, CLASSIFIER_CLASSES = 10, CLASSIFIER_PARAMS = 6 };

typedef struct classifier {
    psg_tensor value[CLASSIFIER_PARAMS];    /* f32; the classifier's own memory */
    psg_param *param[CLASSIFIER_PARAMS];
} classifier;

/* One f32 tensor for each parameter, zeroed, all in one piece of memory; PSG_ERR_MEMORY when there is none. */
psg_status classifier_tensors(psg_tensor tensors[CLASSIFIER_PARAMS]);
void classifier_tensors_free(psg_tensor tensors[CLASSIFIER_PARAMS]);
/* Elements of all parameters together. */
int64_t classifier_size(void);

/* Initial weights are uniform in +-1/sqrt(inputs), from a generator of its own: they are public, so the seed is. */
psg_status classifier_create(psg_context *context, uint64_t seed, classifier *model);
void classifier_destroy(classifier *model);

/* The ops: images (N, 784) to scores (N, 10). */
psg_var classifier_scores(const classifier *model, psg_tape *tape, psg_var images);

/* After backward: the per-sample gradients, and pointers to them as the questions of psg/gradient.h take them. */
typedef struct classifier_gradients {
    psg_gradient gradient[CLASSIFIER_PARAMS];
    const psg_gradient *list[CLASSIFIER_PARAMS];
} classifier_gradients;
psg_status classifier_gradients_of(const classifier *model, const psg_tape *tape, classifier_gradients *gradients);

#endif
