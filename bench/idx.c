/* IDX: a big-endian header (magic 0x0000, type 0x08 = unsigned byte, rank; then one 32-bit size a dimension), then the
 * elements; the whole of it compressed or not. */
#include "idx.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define MAX_RANK 3
#define MAX_BYTES ((int64_t)1 << 30)
#define MOST_DEFLATED 1032   /* bytes that one of deflate's can stand for (RFC 1951: 258 of a match in two bits) */

typedef struct idx_array {
    int64_t size[MAX_RANK];
    uint8_t *bytes;
} idx_array;

/* ---- the bytes of a file, decompressed where they are gzip's (RFC 1952: one member or more) ---- */

typedef struct source {
    int file;
    int64_t bytes;               /* of the file */
    bool is_gzip, between;       /* between: no member has begun, or the last one was checked to its end */
    bool has_member;
    z_stream stream;             /* what is read and not used: next_in, avail_in */
    const char *problem;         /* the first one */
    uint8_t input[1 << 15];
} source;

static bool fail(source *s, const char *problem) {
    s->problem = s->problem ? s->problem : problem;
    return false;
}

/* Whether there is input; false too at the end of the file. */
static bool has_input(source *s) {
    ssize_t got = 1;
    if (s->stream.avail_in) return true;
    do got = read(s->file, s->input, sizeof s->input); while (got < 0 && errno == EINTR);
    if (got < 0) return fail(s, strerror(errno));
    s->stream.next_in = s->input;
    s->stream.avail_in = (unsigned)got;
    return got > 0;
}

static bool begin_member(source *s) {
    s->between = false;
    return inflateReset(&s->stream) == Z_OK;
}

/* The step of a member that fills what is left of next_out as far as the input goes. */
static bool inflate_some(source *s) {
    if (s->between && !begin_member(s)) return fail(s, "not enough memory");
    int result = inflate(&s->stream, Z_NO_FLUSH);
    if (result == Z_STREAM_END) s->between = s->has_member = true;
    if (result == Z_OK || result == Z_STREAM_END) return true;
    bool is_after = s->has_member && !s->stream.total_out;
    return fail(s, result == Z_MEM_ERROR ? "not enough memory"
                   : is_after ? "bytes after the end of its gzip data" : "damaged gzip data");
}

/* Up to count bytes: fewer at the end of the file, or where there is a problem. */
static unsigned read_some(source *s, uint8_t *out, unsigned count) {
    if (!s->is_gzip) {
        if (!has_input(s)) return 0;
        unsigned taken = count < s->stream.avail_in ? count : s->stream.avail_in;
        memcpy(out, s->stream.next_in, taken);
        s->stream.next_in += taken;
        s->stream.avail_in -= taken;
        return taken;
    }
    s->stream.next_out = out;
    s->stream.avail_out = count;
    while (s->stream.avail_out == count && has_input(s) && inflate_some(s)) {}
    if (s->stream.avail_out == count && !s->between) fail(s, "truncated");
    return count - s->stream.avail_out;
}

static bool read_exactly(source *s, uint8_t *out, int64_t count) {
    while (count > 0) {
        unsigned got = read_some(s, out, (unsigned)(count < (1 << 24) ? count : 1 << 24));
        if (!got) return fail(s, "truncated");
        out += got;
        count -= got;
    }
    return true;
}

static const char *kind_of(mode_t mode) {
    return S_ISREG(mode) ? NULL : S_ISDIR(mode) ? "a directory" : S_ISFIFO(mode) ? "a FIFO" : "not a regular file";
}

/* Does not wait for a FIFO's writer. */
static bool open_source(source *s, const char *path) {
    struct stat about;
    *s = (source){ .file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), .between = true };
    if (s->file < 0 || fstat(s->file, &about)) return fail(s, strerror(errno));
    if (kind_of(about.st_mode)) return fail(s, kind_of(about.st_mode));
    s->bytes = about.st_size;
    s->is_gzip = has_input(s) && s->stream.avail_in > 1 && s->input[0] == 0x1f && s->input[1] == 0x8b;
    if (s->is_gzip && inflateInit2(&s->stream, 16 + MAX_WBITS) != Z_OK) {
        s->is_gzip = false;
        return fail(s, "not enough memory");
    }
    return !s->problem;
}

static void close_source(source *s) {
    if (s->is_gzip) inflateEnd(&s->stream);
    if (s->file >= 0) close(s->file);
}

/* ---- the array ---- */

static uint32_t big_endian(const uint8_t b[4]) {
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | (uint32_t)b[3];
}

/* Whether the file may hold as many elements as its header says. */
static bool may_hold(const source *s, int64_t elements, int header_bytes) {
    return elements + header_bytes <= (s->is_gzip ? s->bytes * MOST_DEFLATED : s->bytes);
}

/* The number of elements, or 0. */
static int64_t read_header(source *s, int rank, idx_array *array) {
    uint8_t header[4 + 4 * MAX_RANK];
    if (!read_exactly(s, header, 4)) return 0;
    if (big_endian(header) != (0x0800u | (unsigned)rank)) {
        return fail(s, rank == 3 ? "not an IDX file of byte images (magic must be 0x00000803)"
                                 : "not an IDX file of byte labels (magic must be 0x00000801)");
    }
    if (!read_exactly(s, header + 4, 4 * rank)) return 0;
    int64_t count = 1;
    for (int k = 0; k < rank; k++) {
        array->size[k] = big_endian(header + 4 + 4 * k);
        if (array->size[k] == 0 || array->size[k] > MAX_BYTES / count) {
            return fail(s, "a header whose sizes are zero or exceed 1 GiB");
        }
        count *= array->size[k];
    }
    return may_hold(s, count, 4 + 4 * rank) ? count : fail(s, "truncated");
}

static bool read_elements(source *s, int64_t count, idx_array *array) {
    uint8_t one_more;
    array->bytes = malloc((size_t)count);
    if (!array->bytes) return fail(s, "not enough memory");
    if (read_exactly(s, array->bytes, count) && !read_some(s, &one_more, 1) && !s->problem) return true;
    free(array->bytes);
    array->bytes = NULL;
    return fail(s, "longer than its header says");
}

static int read_array(const char *path, int rank, idx_array *array, char *message, size_t message_size) {
    source s;
    int64_t count = open_source(&s, path) ? read_header(&s, rank, array) : 0;
    bool done = count && read_elements(&s, count, array);
    close_source(&s);
    if (!done) snprintf(message, message_size, "%s: %s", path, s.problem);
    return done ? 0 : -1;
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
