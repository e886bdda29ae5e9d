#include "dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "scattering.h"

/* Those of the training images, as they are commonly published with this data set: no release accounts for them. */
#define PIXEL_MEAN 0.286f
#define PIXEL_DEVIATION 0.353f

/* ---- files ---- */

/* The bytes of a file's one tensor, and its shape; NULL after a message. */
static uint8_t *read_bytes(psg_context *context, const char *path, int rank, int64_t shape[3]) {
    psg_tensors *file = NULL;
    if (psg_idx_read(context, path, 0, &file) != PSG_OK) {
        fprintf(stderr, "%s\nDebian's package dataset-fashion-mnist has the files; --data names their folder\n",
                psg_context_message(context));
        return NULL;
    }
    const psg_tensor *tensor = &psg_tensors_list(file)->tensor;
    const int64_t count = psg_tensor_count(tensor);
    uint8_t *bytes = NULL;
    if (tensor->dtype != PSG_I32 || tensor->rank != rank) {
        fprintf(stderr, "%s: %s of rank %d, must be bytes of rank %d\n", path, psg_dtype_name(tensor->dtype),
                tensor->rank, rank);
    } else if (!(bytes = malloc(count ? (size_t)count : 1))) {
        fprintf(stderr, "%s: no memory for %lld bytes\n", path, (long long)count);
    }
    for (int64_t i = 0; bytes && i < count; i++) bytes[i] = (uint8_t)((const int32_t *)tensor->data)[i];
    for (int d = 0; d < rank && bytes; d++) shape[d] = tensor->shape[d];
    psg_tensors_destroy(file);
    return bytes;
}

static int check(const char *name, const int64_t images[3], int64_t labels, const dataset *data) {
    if (images[0] != labels || images[1] != IMAGE_SIDE || images[2] != IMAGE_SIDE || images[0] < 1) {
        fprintf(stderr, "%s: %lld images of %lld x %lld pixels and %lld labels; must be as many, of 28 x 28\n", name,
                (long long)images[0], (long long)images[1], (long long)images[2], (long long)labels);
        return -1;
    }
    for (int64_t i = 0; i < labels; i++) {
        if (data->labels[i] < IMAGE_CLASSES) continue;
        fprintf(stderr, "%s: label %lld is %d, must be below 10\n", name, (long long)i, data->labels[i]);
        return -1;
    }
    return 0;
}

static uint8_t *read_labels(psg_context *context, const char *folder, const char *name, int64_t shape[3]) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s-labels-idx1-ubyte.gz", folder, name);
    return read_bytes(context, path, 1, shape);
}

int64_t dataset_count(psg_context *context, const char *folder, const char *name) {
    int64_t labels[3] = { 0 };
    uint8_t *bytes = read_labels(context, folder, name, labels);
    if (bytes && labels[0] < 1) fprintf(stderr, "%s/%s-labels-idx1-ubyte.gz: no label is in it\n", folder, name);
    free(bytes);
    return bytes && labels[0] > 0 ? labels[0] : -1;
}

int dataset_load(psg_context *context, const char *folder, const char *name, dataset *data) {
    char path[4096];
    int64_t images[3], labels[3];
    snprintf(path, sizeof path, "%s/%s-images-idx3-ubyte.gz", folder, name);
    data->pixels = read_bytes(context, path, 3, images);
    if (data->pixels) data->labels = read_labels(context, folder, name, labels);
    if (!data->labels || check(name, images, labels[0], data)) return -1;
    data->count = images[0];
    return 0;
}

void dataset_free(dataset *data) {
    free(data->pixels);
    free(data->labels);
    free(data->features);
}

/* ---- features ---- */

/* Half precision (IEEE 754 binary16) by moving a float's exponent: a product with 2^-112 or 2^112 does, for subnormal
 * halves too.  Rounded to nearest, ties to even; features are far below what a half holds. */
typedef union word { uint32_t bits; float value; } word;

static uint16_t half_of(float x) {
    word w = { .value = x };
    const uint32_t sign = w.bits >> 16 & 0x8000;
    w.bits &= 0x7fffffff;
    w.value *= 0x1p-112f;
    return (uint16_t)(sign | (w.bits + 0xfff + (w.bits >> 13 & 1)) >> 13);
}

static inline float float_of(uint16_t half) {
    word w = { (uint32_t)(half & 0x7fff) << 13 };
    w.value *= 0x1p112f;
    w.bits |= (uint32_t)(half & 0x8000) << 16;
    return w.value;
}

/* So many images at a time, whose features are floats first. */
enum { PART = 2048 };

static int scatter_parts(dataset *data, const scattering_filters *filters, unsigned threads, float *part) {
    for (int64_t first = 0; first < data->count; first += PART) {
        const int64_t left = data->count - first, count = left < PART ? left : PART;
        if (scattering_of(filters, data->pixels + first * IMAGE_PIXELS, count, threads, part)) return -1;
        uint16_t *out = data->features + first * SCATTERING_FEATURES;
        for (int64_t n = 0; n < count; n++) scattering_normalise(part + n * SCATTERING_FEATURES);
        for (int64_t i = 0; i < count * SCATTERING_FEATURES; i++) out[i] = half_of(part[i]);
    }
    return 0;
}

int dataset_scatter(dataset *data, unsigned threads) {
    const size_t count = (size_t)data->count;
    float *part = malloc(PART * SCATTERING_FEATURES * sizeof *part);
    scattering_filters *filters = scattering_filters_create();
    data->features = malloc((count ? count : 1) * SCATTERING_FEATURES * sizeof *data->features);
    if (threads == 0) threads = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    int failed = !part || !filters || !data->features || scatter_parts(data, filters, threads, part);
    if (failed) fprintf(stderr, "no memory, or no threads, for the features of %zu images\n", count);
    scattering_filters_destroy(filters);
    free(part);
    return failed ? -1 : 0;
}

/* ---- rows ---- */

int64_t dataset_width(image_input input) { return input == INPUT_SCATTERING ? SCATTERING_FEATURES : IMAGE_PIXELS; }

void dataset_row(const dataset *data, int64_t record, float *row) {
    const float factor = 1.0f / (255.0f * PIXEL_DEVIATION), shift = PIXEL_MEAN / PIXEL_DEVIATION;
    if (data->features) {
        const uint16_t *feature = data->features + record * SCATTERING_FEATURES;
        for (int i = 0; i < SCATTERING_FEATURES; i++) row[i] = float_of(feature[i]);
        return;
    }
    const uint8_t *pixel = data->pixels + record * IMAGE_PIXELS;
    for (int i = 0; i < IMAGE_PIXELS; i++) row[i] = (float)pixel[i] * factor - shift;
}
