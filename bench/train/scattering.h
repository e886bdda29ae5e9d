/* The scattering transform of 28 x 28 images (Mallat, "Group invariant scattering", 2012; Bruna and Mallat, "Invariant
 * scattering convolution networks", 2013), of scale 2^J = 4 with L = 8 directions: features that are the same function
 * of each image, with nothing learned.  The filters and the padding are those of kymatio's Scattering2D(J=2, L=8). */
#ifndef BENCH_SCATTERING_H
#define BENCH_SCATTERING_H

#include <stdint.h>

enum {
    SCATTERING_PATHS = 81,                  /* 1 of order 0, 16 of order 1, 64 of order 2 */
    SCATTERING_PLACES = 7 * 7,              /* of each */
    SCATTERING_FEATURES = SCATTERING_PATHS * SCATTERING_PLACES
};

/* The filters, which take a tenth of a second; NULL: no memory. */
typedef struct scattering_filters scattering_filters;
scattering_filters *scattering_filters_create(void);
void scattering_filters_destroy(scattering_filters *filters);

/* features (count, 81, 7, 7) of images (count, 28, 28) of bytes, which stand for byte / 255; in `threads` threads.
 * -1: no memory, or no thread. */
int scattering_of(const scattering_filters *filters, const uint8_t *images, int64_t count, unsigned threads,
                  float *features);

/* Normalises one image's features as torch's GroupNorm(27, 81) does: each three paths in a row to mean 0 and variance
 * 1, with 1e-5 beside the variance. */
void scattering_normalise(float *features);

#endif
