/* Reads IDX files (the format of MNIST), compressed with gzip or not. */
#ifndef BENCH_IDX_H
#define BENCH_IDX_H

#include <stddef.h>
#include <stdint.h>

typedef struct idx_images {
    int64_t count, rows, columns;
    uint8_t *pixels;            /* count x rows x columns; the caller frees it */
} idx_images;

typedef struct idx_labels {
    int64_t count;
    uint8_t *labels;            /* count; the caller frees it */
} idx_labels;

/* 0, or -1 with what is wrong in message (the path named) and nothing allocated.  A regular file must hold exactly what
 * its header announces, compressed data to their check sums: fewer or more bytes are refused, and so is a header of more
 * than 1 GiB.  Memory is taken for what the file may hold alone. */
int idx_read_images(const char *path, idx_images *images, char *message, size_t message_size);
int idx_read_labels(const char *path, idx_labels *labels, char *message, size_t message_size);

#endif
