/* IDX: a big-endian header (magic 0x0000, type 0x08 = unsigned byte, rank; then one 32-bit size a dimension), then the
 * elements.  gzopen reads plain files as well as compressed ones. */
#include "idx.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MAX_RANK 3
#define MAX_BYTES ((int64_t)1 << 30)

typedef struct idx_array {
    int64_t size[MAX_RANK];
    uint8_t *bytes;
} idx_array;

static uint32_t big_endian(const uint8_t b[4]) {
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | (uint32_t)b[3];
}

/* Reads exactly count bytes; on less, says how far it came. */
static int read_exactly(gzFile file, uint8_t *out, int64_t count, const char **problem) {
    for (int64_t done = 0; done < count;) {
        int64_t rest = count - done;
        int got = gzread(file, out + done, (unsigned)(rest < (1 << 24) ? rest : 1 << 24));
        if (got <= 0) {
            *problem = got < 0 ? "damaged gzip data" : "truncated";
            return -1;
        }
        done += got;
    }
    return 0;
}

/* The number of elements, or -1. */
static int64_t read_header(gzFile file, int rank, idx_array *array, const char **problem) {
    uint8_t header[4 + 4 * MAX_RANK];
    if (read_exactly(file, header, 4 + 4 * rank, problem) != 0) return -1;
    if (big_endian(header) != (0x0800u | (unsigned)rank)) {
        *problem = rank == 3 ? "not an IDX file of byte images (magic must be 0x00000803)"
                             : "not an IDX file of byte labels (magic must be 0x00000801)";
        return -1;
    }
    int64_t count = 1;
    for (int k = 0; k < rank; k++) {
        array->size[k] = big_endian(header + 4 + 4 * k);
        if (array->size[k] == 0 || array->size[k] > MAX_BYTES / count) {
            *problem = "a header whose sizes are zero or exceed 1 GiB";
            return -1;
        }
        count *= array->size[k];
    }
    return count;
}

static int read_elements(gzFile file, int64_t count, idx_array *array, const char **problem) {
    uint8_t one_more;
    array->bytes = malloc((size_t)count);
    if (!array->bytes) {
        *problem = "not enough memory";
        return -1;
    }
    if (read_exactly(file, array->bytes, count, problem) == 0) {
        int after = gzread(file, &one_more, 1);
        if (after == 0) return 0;
        *problem = after < 0 ? "damaged gzip data" : "longer than its header says";
    }
    free(array->bytes);
    array->bytes = NULL;
    return -1;
}

static int read_array(const char *path, int rank, idx_array *array, char *message, size_t message_size) {
    const char *problem = NULL;
    gzFile file = gzopen(path, "rb");
    if (!file) {
        snprintf(message, message_size, "%s: %s", path, errno ? strerror(errno) : "not enough memory");
        return -1;
    }
    int64_t count = read_header(file, rank, array, &problem);
    int failed = count < 0 || read_elements(file, count, array, &problem) != 0;
    gzclose(file);
    if (failed) snprintf(message, message_size, "%s: %s", path, problem);
    return failed ? -1 : 0;
}

int idx_read_images(const char *path, idx_images *images, char *message, size_t message_size) {
    idx_array array;
    if (read_array(path, 3, &array, message, message_size) != 0) return -1;
    *images = (idx_images){ array.size[0], array.size[1], array.size[2], array.bytes };
    return 0;
}

int idx_read_labels(const char *path, idx_labels *labels, char *message, size_t message_size) {
    idx_array array;
    if (read_array(path, 1, &array, message, message_size) != 0) return -1;
    *labels = (idx_labels){ array.size[0], array.bytes };
    return 0;
}
