/* Fashion-MNIST in memory: its images as bytes, or as features of them. */
#ifndef BENCH_DATASET_H
#define BENCH_DATASET_H

#include <psg/psg.h>

enum { IMAGE_SIDE = 28, IMAGE_PIXELS = IMAGE_SIDE * IMAGE_SIDE, IMAGE_CLASSES = 10 };

/* What a model reads of an image: 784 pixels, standardised by constants of the data set, or the 3,969 numbers of its scattering
 * transform, normalised. */
typedef enum image_input { INPUT_PIXELS = 0, INPUT_SCATTERING } image_input;

typedef struct dataset {
    int64_t count;
    uint8_t *pixels, *labels;   /* (count, 784); (count), below 10 */
    uint16_t *features;         /* (count, 3969) halves, or NULL */
} dataset;

/* How many records NAME-labels-idx1-ubyte.gz of a folder has, one at least; -1 after a message. */
int64_t dataset_count(psg_context *context, const char *folder, const char *name);

/* NAME-images-idx3-ubyte.gz and NAME-labels-idx1-ubyte.gz of a folder, as many images of 28 x 28 as labels below 10,
 * one at least; -1 after a message.  dataset_free takes it either way.  The context reads, and nothing stays its. */
int dataset_load(psg_context *context, const char *folder, const char *name, dataset *data);
void dataset_free(dataset *data);

/* Computes the features; threads 0: one a processor.  -1 after a message. */
int dataset_scatter(dataset *data, unsigned threads);

/* Numbers of an image. */
int64_t dataset_width(image_input input);
/* Those of one record; its features where they were computed. */
void dataset_row(const dataset *data, int64_t record, float *row);

#endif
