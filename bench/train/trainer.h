/* What a training run owns: the objects of libpsg, the model and the buffers of a batch. */
#ifndef BENCH_TRAINER_H
#define BENCH_TRAINER_H

#include <psg/psg.h>

#include "bench_support.h"
#include "dataset.h"
#include "model.h"
#include "training_plan.h"

typedef struct trainer {
    psg_context *context;
    psg_generator *generator;
    psg_tape *tape;
    psg_dp *dp;
    psg_optimizer *sgd;
    model model;
    psg_tensor average[MODEL_MAX_PARAMS];   /* of the weights over the last steps: what is evaluated */
    psg_tensor update[MODEL_MAX_PARAMS];   /* of the steps that are timed beside the private one */
    double average_decay;                   /* of late steps */
    int64_t width;                          /* numbers of an image */
    size_t capacity;                        /* samples the two buffers hold; a larger draw goes in micro-batches */
    float *images;
    int64_t *labels;
} trainer;

/* Views of the trainer's buffers. */
typedef struct micro_batch {
    size_t count;
    psg_tensor images, labels;              /* (count, width) f32; (count) i64 */
} micro_batch;

/* ledger: where releases are recorded, or NULL.  On an error the trainer holds what was made so far; trainer_destroy
 * takes it either way. */
psg_status trainer_create(const training_options *options, const training_plan *plan, const char *ledger, trainer *t);
void trainer_destroy(trainer *t);

/* The text of the last error of the tape or the context. */
const char *trainer_message(const trainer *t);

/* Copies the records into the buffers; at most capacity of them. */
micro_batch trainer_gather(trainer *t, const dataset *data, const int64_t *records, size_t count);

/* The class of the largest of a sample's 10 scores. */
int trainer_class(const float *scores);
/* How many of the batch the scores (N, 10) classify as the labels say. */
long trainer_correct(const psg_tensor *scores, const micro_batch *batch);

/* Moves the average after a step (0, 1, ...): w_avg += (1 - d) (w - w_avg), d = min(decay, step / (step + 10)).  It is
 * computed from released weights alone, so it costs no privacy. */
void trainer_average(trainer *t, long step);

/* psg_dp_statement in malloc'd memory; a line feed ends JSON. */
psg_status trainer_statement(const trainer *t, double delta, psg_statement_format format, char **text);

/* The scores (count, 10) that the averaged model gives the data. */
psg_status trainer_scores(trainer *t, const dataset *data, float *scores);

#endif
