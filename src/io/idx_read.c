/* IDX: two zero bytes, the type, the rank, then 32 bits of size a dimension and the elements, all big-endian. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/context.h"
#include "base/file.h"
#include "base/floats.h"
#include "base/shapes.h"
#include "io/gzip.h"
#include "io/widen.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers of files are big-endian and turned");

/* ---- element types ---- */

/* count elements in place. */
static void turn_16(char *at, size_t count) {
    uint16_t value;
    for (; count; count--, at += sizeof value) {
        memcpy(&value, at, sizeof value);
        memcpy(at, &(uint16_t){ __builtin_bswap16(value) }, sizeof value);
    }
}

static void turn_32(char *at, size_t count) {
    uint32_t value;
    for (; count; count--, at += sizeof value) {
        memcpy(&value, at, sizeof value);
        memcpy(at, &(uint32_t){ __builtin_bswap32(value) }, sizeof value);
    }
}

static void turn_64(char *at, size_t count) {
    uint64_t value;
    for (; count; count--, at += sizeof value) {
        memcpy(&value, at, sizeof value);
        memcpy(at, &(uint64_t){ __builtin_bswap64(value) }, sizeof value);
    }
}

typedef struct idx_type {
    unsigned char code;
    size_t size;                   /* of an element in the file */
    psg_dtype dtype;               /* what it becomes */
    void (*turn)(char *at, size_t count);                      /* NULL: of one byte */
    void (*widen)(const void *from, void *to, size_t count);   /* NULL: of its own size */
} idx_type;

static const idx_type types[] = {
    { 0x08, 1, PSG_I32, NULL, psg_widen_u8 }, { 0x09, 1, PSG_I32, NULL, psg_widen_i8 },
    { 0x0b, 2, PSG_I32, turn_16, psg_widen_i16 }, { 0x0c, 4, PSG_I32, turn_32, NULL },
    { 0x0d, 4, PSG_F32, turn_32, NULL }, { 0x0e, 8, PSG_F64, turn_64, NULL },
};

/* ---- header ---- */

typedef struct idx_header {
    const idx_type *type;
    psg_tensor view;               /* without memory */
} idx_header;

static psg_status refuse(const psg_reading *r, const char *format, ...) PSG_PRINTF(2, 3);
static psg_status refuse(const psg_reading *r, const char *format, ...) {
    char text[PSG_SHAPE_TEXT + 100];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return psg_fail_format(r->source.context, r->source.function, r->source.path, "%s", text);
}

static psg_status read_type(const psg_reading *r, const unsigned char magic[4], idx_header *h) {
    if (magic[0] || magic[1]) return refuse(r, "no IDX: bytes %02x %02x first, must be 00 00", magic[0], magic[1]);
    for (size_t k = 0; k < sizeof types / sizeof types[0]; k++) {
        if (types[k].code == magic[2]) h->type = &types[k];
    }
    if (!h->type) return refuse(r, "type 0x%02x, must be 0x08, 0x09 or 0x0b to 0x0e", magic[2]);
    if (magic[3] >= 1 && magic[3] <= PSG_MAX_RANK) return PSG_OK;
    return refuse(r, "rank %d, must be between 1 and %d", magic[3], PSG_MAX_RANK);
}

/* Whether the file bears out what the header says, and no more is taken than the caller allows. */
static psg_status check_sizes(const psg_gzip *s, const idx_header *h, int64_t most) {
    const psg_reading *r = s->reading;
    char shape[PSG_SHAPE_TEXT];
    psg_tensor_text(&h->view, shape);
    if (!psg_tensor_fits(&h->view)) return refuse(r, "shape %s is too large", shape);
    const int64_t count = psg_tensor_count(&h->view), bytes = count * (int64_t)psg_dtype_size(h->type->dtype);
    if (!psg_gzip_may_hold(s, count * (int64_t)h->type->size)) {
        return refuse(r, "truncated: shape %s, of which %lld bytes %s cannot hold the elements", shape,
                      (long long)r->bytes, s->is_gzip ? "of gzip" : "of file");
    }
    if (!most || bytes <= most) return PSG_OK;
    return refuse(r, "shape %s takes %lld bytes, at most %lld may be", shape, (long long)bytes, (long long)most);
}

static psg_status read_header(psg_gzip *s, int64_t most, idx_header *h) {
    unsigned char magic[4], sizes[4 * PSG_MAX_RANK];
    int64_t shape[PSG_MAX_RANK];
    psg_status status = psg_gzip_read(s, magic, sizeof magic);
    if (!status) status = read_type(s->reading, magic, h);
    if (!status) status = psg_gzip_read(s, sizes, 4 * (size_t)magic[3]);
    if (status) return status;
    turn_32((char *)sizes, magic[3]);
    for (int d = 0; d < magic[3]; d++) {
        uint32_t size;
        memcpy(&size, sizes + 4 * d, 4);
        shape[d] = size;
    }
    h->view = psg_tensor_of(h->type->dtype, NULL, magic[3], shape);
    return check_sizes(s, h, most);
}

/* ---- values ---- */

/* Elements that are widened are read into the last part of their memory. */
static psg_status read_elements(psg_gzip *s, const idx_header *h, char *memory) {
    const size_t count = (size_t)psg_tensor_count(&h->view), held = count * h->type->size;
    char *place = memory + count * psg_dtype_size(h->type->dtype) - held;
    psg_status status = psg_gzip_read(s, place, held);
    if (!status) status = psg_gzip_finish(s);
    if (status) return status;
    if (h->type->turn) h->type->turn(place, count);
    if (h->type->widen) h->type->widen(place, memory, count);
    return PSG_OK;
}

static psg_status read_values(psg_gzip *s, const psg_reading *r, idx_header *h) {
    psg_tensors *set = r->set;
    const size_t bytes = (size_t)psg_tensor_count(&h->view) * psg_dtype_size(h->type->dtype);
    set->list = psg_arena_take(&set->arena, sizeof *set->list);
    set->values = psg_alloc(r->source.context, bytes);
    if (!set->list || !set->values) return psg_fail_memory(r->source.context, r->source.function, bytes);
    psg_lend(r->source.context, &set->lent_values, &set->owner, set->values, bytes);
    h->view.data = set->values;
    set->list[set->count++] = (psg_named){ "", h->view };
    return read_elements(s, h, set->values);
}

static psg_status read_file(const psg_reading *r, int64_t most) {
    psg_gzip stream;
    idx_header header = { .type = NULL };
    psg_status status = psg_gzip_open(r, &stream);
    if (status) return status;
    status = read_header(&stream, most, &header);
    if (!status) status = read_values(&stream, r, &header);
    psg_gzip_close(&stream);
    return status;
}

psg_status psg_idx_read(psg_context *context, const char *path, int64_t max_bytes, psg_tensors **tensors) {
    PSG_DEFAULT_FLOATS;
    const psg_source source = { context, "psg_idx_read", path };
    psg_reading r;
    psg_status status = psg_reading_check(&source, PSG_FILE_COPY, tensors);
    if (status) return status;
    if (max_bytes < 0) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: max_bytes is %lld: negative", source.function,
                        (long long)max_bytes);
    }
    status = psg_reading_begin(&source, &r);
    if (!status) status = read_file(&r, max_bytes);
    return psg_reading_end(&r, status, tensors);
}
