#include "io/npy_header.h"

#include <string.h>

#include "base/context.h"
#include "base/shapes.h"
#include "base/writer.h"
#include "io/npy_literal.h"

static const char magic[6] = { '\x93', 'N', 'U', 'M', 'P', 'Y' };
enum { VERSION = sizeof magic, SHORT_LENGTH = VERSION + 2, MOST_TEXT = 0xFFFF };

/* ---- reading ---- */

static psg_status refuse_magic(const psg_extent_stream *s) {
    return psg_extent_refuse(s->reading, s->extent, 0, "does not begin with \"\\x93NUMPY\": no npy");
}

/* Only structured types need more text than version 1 can say. */
static psg_status read_length(psg_extent_stream *s, const unsigned char first[SHORT_LENGTH + 2], size_t *length) {
    const unsigned major = first[VERSION], minor = first[VERSION + 1];
    unsigned char more[2] = { 0, 0 };
    if (major < 1 || major > 3 || minor) {
        return psg_extent_refuse(s->reading, s->extent, VERSION, "version %u.%u, only 1.0, 2.0 and 3.0 are read", major,
                                 minor);
    }
    psg_status status = major == 1 ? PSG_OK : psg_extent_read(s, more, sizeof more);
    *length = (size_t)(first[SHORT_LENGTH] | first[SHORT_LENGTH + 1] << 8);
    if (status) return status;
    const unsigned long said = *length | (unsigned long)more[0] << 16 | (unsigned long)more[1] << 24;
    const long long left = s->extent->size - s->given;
    if (said > MOST_TEXT) {
        return psg_extent_refuse(s->reading, s->extent, SHORT_LENGTH, "header of %lu bytes, at most %d may be", said,
                                 MOST_TEXT);
    }
    if ((long long)said <= left) return PSG_OK;
    return psg_extent_refuse(s->reading, s->extent, SHORT_LENGTH, "header of %lu bytes where %lld follow", said, left);
}

static psg_status read_text(psg_extent_stream *s, size_t length, psg_npy_header *h) {
    const psg_source *from = &s->reading->source;
    char *text = psg_alloc(from->context, length + 1);
    if (!text) return psg_fail_memory(from->context, from->function, length + 1);
    const int64_t first = s->given;
    psg_status status = psg_extent_read(s, text, length);
    text[length] = 0;
    if (!status) status = psg_npy_literal_read(s, text, length, first, h);
    psg_free(from->context, text);
    return status;
}

/* What the shape says is what the extent has. */
static psg_status check_bytes(const psg_extent_stream *s, const psg_npy_header *h) {
    char shape[PSG_SHAPE_TEXT];
    const psg_tensor view = psg_npy_view(h, NULL);
    psg_shape_text(h->rank, h->shape, shape);
    if (!psg_tensor_fits(&view)) {
        return psg_extent_refuse(s->reading, s->extent, h->bytes, "shape %s is too large", shape);
    }
    const int64_t held = s->extent->size - h->bytes, wanted = psg_tensor_count(&view) * (int64_t)h->type->size;
    if (held == wanted) return PSG_OK;
    if (held > wanted) {
        return psg_extent_refuse(s->reading, s->extent, h->bytes + wanted, "%lld bytes after the last value",
                                 (long long)(held - wanted));
    }
    return psg_extent_refuse(s->reading, s->extent, h->bytes, "%lld bytes of values, %s of shape %s has %lld",
                             (long long)held, h->type->name, shape, (long long)wanted);
}

/* At most one size above 1, or no element: both orders are the same. */
static bool orders_differ(const psg_npy_header *h) {
    int long_sides = 0;
    for (int d = 0; d < h->rank; d++) {
        if (!h->shape[d]) return false;
        long_sides += h->shape[d] > 1;
    }
    return long_sides > 1;
}

psg_status psg_npy_header_read(psg_extent_stream *s, psg_npy_header *h) {
    unsigned char first[SHORT_LENGTH + 2];
    size_t length = 0;
    *h = (psg_npy_header){ .type = NULL };
    if (s->extent->size < (int64_t)sizeof first) {
        return psg_extent_refuse(s->reading, s->extent, s->extent->size, "its end, where a header takes %zu bytes and "
                                 "more", sizeof first);
    }
    psg_status status = psg_extent_read(s, first, sizeof first);
    if (!status && memcmp(first, magic, sizeof magic)) status = refuse_magic(s);
    if (!status) status = read_length(s, first, &length);
    if (!status) status = read_text(s, length, h);
    if (status) return status;
    h->bytes = s->given;
    h->is_fortran = h->is_fortran && orders_differ(h);
    return check_bytes(s, h);
}

psg_tensor psg_npy_view(const psg_npy_header *h, void *values) {
    return psg_tensor_of(h->type->dtype, values, h->rank, h->shape);
}

/* ---- writing ---- */

static int digits_of(int64_t value) {
    int digits = 1;
    while (value /= 10) digits++;
    return digits;
}

/* numpy leaves room for a first size of 21 digits, so that a file may be appended to, and pads with 1 to 64 spaces
 * (numpy.lib.format, GROWTH_AXIS_MAX_DIGITS and ARRAY_ALIGN). */
size_t psg_npy_header_put(const psg_tensor *t, char text[PSG_NPY_MOST_WRITTEN]) {
    enum { BEFORE = SHORT_LENGTH + 2, GROWTH = 21, ALIGN = 64 };
    psg_writer out = { text + BEFORE, PSG_NPY_MOST_WRITTEN - BEFORE, 0 };
    psg_put(&out, "{'descr': '%s', 'fortran_order': False, 'shape': (", psg_npy_type_of(t->dtype)->name);
    for (int d = 0; d < t->rank; d++) psg_put(&out, d ? ", %lld" : "%lld", (long long)t->shape[d]);
    psg_put(&out, t->rank == 1 ? ",), }" : "), }");
    const int room = t->rank ? GROWTH - digits_of(t->shape[0]) : 0;
    const int padding = ALIGN - (int)((BEFORE + out.used + (size_t)room + 1) % ALIGN);
    psg_put(&out, "%*s\n", room + padding, "");
    memcpy(text, magic, sizeof magic);
    memcpy(text + VERSION, (char[]){ 1, 0, (char)(out.used & 0xFF), (char)(out.used >> 8) }, 4);
    return BEFORE + out.used;
}
