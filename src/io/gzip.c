#include "io/gzip.h"

#include <stdio.h>
#include <string.h>

#include "base/context.h"
#include "base/file.h"
#include "io/extent.h"
#include "io/inflater.h"

enum { BUFFER_BYTES = 32 * 1024 };

static psg_status refuse(const psg_gzip *s, const char *rule) {
    const psg_source *from = &s->reading->source;
    return psg_fail_format(from->context, from->function, from->path, "%s, near byte %lld", rule,
                           (long long)(s->taken - s->inflater.avail_in));
}

static psg_status refuse_end(const psg_gzip *s, size_t lacking) {
    const psg_source *from = &s->reading->source;
    return psg_fail_format(from->context, from->function, from->path, "truncated: it ends after %lld bytes%s, where "
                           "%zu more must follow", (long long)s->given, s->is_gzip ? " inflated" : "", lacking);
}

static psg_status fail_memory(const psg_reading *reading) {
    return psg_fail_memory(reading->source.context, reading->source.function, BUFFER_BYTES);
}

/* ---- what the file has ---- */

/* More input where there is none; none is left at the end of the file. */
static psg_status fill(psg_gzip *s) {
    const int64_t left = s->reading->bytes - s->taken;
    const size_t count = left < BUFFER_BYTES ? (size_t)left : BUFFER_BYTES;
    if (s->inflater.avail_in || !count) return PSG_OK;
    psg_status status = psg_read_bytes(s->reading, s->buffer, count, s->taken);
    if (status) return status;
    s->inflater.next_in = s->buffer;
    s->inflater.avail_in = (unsigned)count;
    s->taken += (int64_t)count;
    return PSG_OK;
}

/* The step of a member that fills what is left of next_out as far as the input goes. */
static psg_status inflate_some(psg_gzip *s) {
    if (s->is_between && inflateReset(&s->inflater) != Z_OK) return fail_memory(s->reading);
    s->is_between = false;
    const int answer = inflate(&s->inflater, Z_NO_FLUSH);
    if (answer == Z_STREAM_END) s->is_between = s->has_member = true;
    if (answer == Z_OK || answer == Z_STREAM_END) return PSG_OK;
    if (answer == Z_MEM_ERROR) return fail_memory(s->reading);
    char rule[100];
    const bool is_member = !s->has_member || s->inflater.total_in > 2;   /* its first bytes are a member's */
    if (!is_member) return refuse(s, "more follows the end of its gzip data");
    snprintf(rule, sizeof rule, "damaged gzip data: %.60s", s->inflater.msg ? s->inflater.msg : "none of the format's");
    return refuse(s, rule);
}

/* Up to count bytes; 0 at the end of the file. */
static psg_status inflate_part(psg_gzip *s, void *bytes, unsigned count, unsigned *got) {
    s->inflater.next_out = bytes;
    s->inflater.avail_out = count;
    psg_status status = fill(s);
    while (!status && s->inflater.avail_out == count && s->inflater.avail_in) {
        status = inflate_some(s);
        if (!status) status = fill(s);
    }
    *got = count - s->inflater.avail_out;
    return status;
}

static psg_status copy_part(psg_gzip *s, void *bytes, unsigned count, unsigned *got) {
    psg_status status = fill(s);
    *got = count < s->inflater.avail_in ? count : s->inflater.avail_in;
    if (status || !*got) return status;
    memcpy(bytes, s->inflater.next_in, *got);
    s->inflater.next_in += *got;
    s->inflater.avail_in -= *got;
    return PSG_OK;
}

static psg_status read_part(psg_gzip *s, void *bytes, unsigned count, unsigned *got) {
    return s->is_gzip ? inflate_part(s, bytes, count, got) : copy_part(s, bytes, count, got);
}

psg_status psg_gzip_read(psg_gzip *s, void *bytes, size_t count) {
    const size_t most = (size_t)1 << 30;
    char *to = bytes;
    while (count) {
        unsigned got;
        psg_status status = read_part(s, to, (unsigned)(count < most ? count : most), &got);
        if (status) return status;
        if (!got) return refuse_end(s, count);
        to += got;
        count -= got;
        s->given += got;
    }
    return PSG_OK;
}

psg_status psg_gzip_finish(psg_gzip *s) {
    unsigned char more;
    unsigned got;
    psg_status status = read_part(s, &more, 1, &got);
    if (status) return status;
    if (got) {
        const psg_source *from = &s->reading->source;
        return psg_fail_format(from->context, from->function, from->path, "longer than its header says: the first %lld "
                               "bytes%s are all of it", (long long)s->given, s->is_gzip ? " inflated" : "");
    }
    return s->is_gzip && !s->is_between ? refuse(s, "truncated: the gzip data has no end") : PSG_OK;
}

bool psg_gzip_may_hold(const psg_gzip *s, int64_t bytes) {
    return s->is_gzip ? bytes / PSG_MOST_INFLATED <= s->reading->bytes : bytes <= s->reading->bytes;
}

/* ---- begin and end ---- */

/* Bits of window above 15 say that a gzip header is there. */
static psg_status begin(psg_gzip *s) {
    psg_status status = fill(s);
    if (status) return status;
    s->is_gzip = s->inflater.avail_in > 1 && s->buffer[0] == 0x1f && s->buffer[1] == 0x8b;
    if (!s->is_gzip || inflateInit2(&s->inflater, 16 + MAX_WBITS) == Z_OK) return PSG_OK;
    s->is_gzip = false;
    return fail_memory(s->reading);
}

psg_status psg_gzip_open(const psg_reading *reading, psg_gzip *s) {
    psg_context *context = reading->source.context;
    *s = (psg_gzip){ .reading = reading, .is_between = true };
    s->inflater = psg_inflater_of(context);
    s->buffer = psg_alloc(context, BUFFER_BYTES);
    psg_status status = s->buffer ? begin(s) : fail_memory(reading);
    if (status) psg_gzip_close(s);
    return status;
}

void psg_gzip_close(psg_gzip *s) {
    if (s->is_gzip) inflateEnd(&s->inflater);
    psg_free(s->reading->source.context, s->buffer);
}
