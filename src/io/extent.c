#include "io/extent.h"

#include <limits.h>
#include <stdio.h>

#include "base/context.h"
#include "base/file.h"
#include "io/inflater.h"

enum { BUFFER_BYTES = 32 * 1024 };

psg_status psg_extent_refuse(const psg_reading *reading, const psg_extent *extent, int64_t byte, const char *format,
                             ...) {
    const psg_source *from = &reading->source;
    char text[PSG_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const long long at = byte;
    if (!extent->member) return psg_fail_format(from->context, from->function, from->path, "byte %lld: %s", at, text);
    return psg_fail_format(from->context, from->function, from->path, "member \"%.100s\": byte %lld of it: %s",
                           extent->member, at, text);
}

static psg_status fail_memory(const psg_extent_stream *s) {
    return psg_fail_memory(s->reading->source.context, s->reading->source.function, BUFFER_BYTES);
}

/* Negative bits of window: no header of zlib's around the blocks. */
psg_status psg_extent_open(const psg_reading *reading, const psg_extent *extent, psg_extent_stream *s) {
    psg_context *context = reading->source.context;
    *s = (psg_extent_stream){ .reading = reading, .extent = extent };
    s->buffer = psg_alloc(context, BUFFER_BYTES);
    if (!s->buffer) return fail_memory(s);
    s->inflater = psg_inflater_of(context);
    if (!extent->is_deflated || inflateInit2(&s->inflater, -MAX_WBITS) == Z_OK) return PSG_OK;
    psg_free(context, s->buffer);
    return fail_memory(s);
}

void psg_extent_close(psg_extent_stream *s) {
    if (s->extent->is_deflated) inflateEnd(&s->inflater);
    psg_free(s->reading->source.context, s->buffer);
}

/* ---- reading ---- */

static psg_status take(psg_extent_stream *s, void *bytes, size_t count) {
    psg_status status = psg_read_bytes(s->reading, bytes, count, s->extent->begin + s->taken);
    if (!status) s->taken += (int64_t)count;
    return status;
}

static psg_status fill(psg_extent_stream *s) {
    const int64_t left = s->extent->held - s->taken;
    const size_t count = left < BUFFER_BYTES ? (size_t)left : BUFFER_BYTES;
    if (s->inflater.avail_in || !count) return PSG_OK;
    s->inflater.next_in = s->buffer;
    s->inflater.avail_in = (unsigned)count;
    return take(s, s->buffer, count);
}

static psg_status refuse_deflate(const psg_extent_stream *s, int answer) {
    const long long at = s->taken - s->inflater.avail_in;
    if (answer == Z_MEM_ERROR) return fail_memory(s);
    if (answer == Z_BUF_ERROR) {
        return psg_extent_refuse(s->reading, s->extent, s->given, "its deflated %lld bytes have no end",
                                 (long long)s->extent->held);
    }
    return psg_extent_refuse(s->reading, s->extent, s->given, "deflated byte %lld: %s", at,
                             s->inflater.msg ? s->inflater.msg : "is none of the format's");
}

/* As many of count bytes as there are before the end. */
static psg_status inflate_some(psg_extent_stream *s, void *bytes, size_t count, size_t *got) {
    for (*got = 0; *got < count && !s->has_ended;) {
        psg_status status = fill(s);
        if (status) return status;
        const unsigned room = count - *got < INT_MAX ? (unsigned)(count - *got) : INT_MAX;
        s->inflater.next_out = (unsigned char *)bytes + *got;
        s->inflater.avail_out = room;
        const int answer = inflate(&s->inflater, Z_NO_FLUSH);
        *got += room - s->inflater.avail_out;
        if (answer != Z_OK && answer != Z_STREAM_END) return refuse_deflate(s, answer);
        s->has_ended = answer == Z_STREAM_END;
    }
    return PSG_OK;
}

static psg_status read_some(psg_extent_stream *s, void *bytes, size_t count, size_t *got) {
    if (s->extent->is_deflated) return inflate_some(s, bytes, count, got);
    const int64_t left = s->extent->held - s->taken;
    *got = (uint64_t)left < count ? (size_t)left : count;
    return take(s, bytes, *got);
}

psg_status psg_extent_read(psg_extent_stream *s, void *bytes, size_t count) {
    size_t got;
    psg_status status = read_some(s, bytes, count, &got);
    if (status) return status;
    if (s->extent->has_crc) s->crc = (uint32_t)crc32_z(s->crc, bytes, got);
    s->given += (int64_t)got;
    if (got == count) return PSG_OK;
    return psg_extent_refuse(s->reading, s->extent, s->given, "its end, where %zu more bytes must follow", count - got);
}

psg_status psg_extent_skip(psg_extent_stream *s, int64_t count) {
    unsigned char skipped[4096];
    psg_status status = PSG_OK;
    while (count && !status) {
        size_t piece = (uint64_t)count < sizeof skipped ? (size_t)count : sizeof skipped;
        status = psg_extent_read(s, skipped, piece);
        count -= (int64_t)piece;
    }
    return status;
}

/* ---- the end ---- */

static psg_status check_end_of_deflate(psg_extent_stream *s) {
    unsigned char more;
    size_t got;
    psg_status status = inflate_some(s, &more, 1, &got);
    if (status) return status;
    if (got) {
        return psg_extent_refuse(s->reading, s->extent, s->given, "there is more than the %lld bytes that the archive "
                                 "says", (long long)s->extent->size);
    }
    const int64_t after = s->extent->held - s->taken + s->inflater.avail_in;
    if (!after) return PSG_OK;
    return psg_extent_refuse(s->reading, s->extent, s->given, "%lld bytes after the end of what was deflated",
                             (long long)after);
}

psg_status psg_extent_finish(psg_extent_stream *s) {
    const psg_extent *e = s->extent;
    psg_status status = e->is_deflated ? check_end_of_deflate(s) : PSG_OK;
    if (status || !e->has_crc || s->crc == e->crc) return status;
    return psg_extent_refuse(s->reading, e, s->given, "CRC-32 is %08lx, the archive says %08lx", (unsigned long)s->crc,
                             (unsigned long)e->crc);
}
