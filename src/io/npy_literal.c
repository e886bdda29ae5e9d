#include "io/npy_literal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/context.h"

typedef struct parser {
    const psg_extent_stream *stream;
    const char *text, *at;         /* ends with 0, as well as at length */
    size_t length;
    int64_t first;                 /* text[0] in the extent */
    psg_npy_header *header;
} parser;

enum { QUOTED = 64 };

static psg_status refuse(const parser *p, const char *at, const char *format, ...) PSG_PRINTF(3, 4);
static psg_status refuse(const parser *p, const char *at, const char *format, ...) {
    char text[PSG_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return psg_extent_refuse(p->stream->reading, p->stream->extent, p->first + (at - p->text), "%s", text);
}

static void skip_spaces(parser *p) { p->at += strspn(p->at, " \t\n"); }

/* Whether c comes next, which is then behind. */
static bool passes(parser *p, char c) {
    skip_spaces(p);
    if (*p->at != c) return false;
    p->at++;
    return true;
}

static psg_status expect(parser *p, char c, const char *where) {
    if (passes(p, c)) return PSG_OK;
    return refuse(p, p->at, "header: '%c' must stand %s", c, where);
}

/* ---- values ---- */

static psg_status read_quoted(parser *p, const char *what, char text[QUOTED]) {
    skip_spaces(p);
    const char *begin = p->at, quote = *begin;
    if (quote == '[') return refuse(p, begin, "%s is a list: structured types are not read", what);
    if (quote != '\'' && quote != '"') return refuse(p, begin, "%s is no text in quotes", what);
    const size_t length = strcspn(begin + 1, (char[]){ quote, '\\', '\n', 0 });
    if (begin[1 + length] != quote) return refuse(p, begin, "%s: its text has a backslash or no end", what);
    if (length >= QUOTED) return refuse(p, begin, "%s: %zu characters, fewer than %d may be", what, length, QUOTED);
    memcpy(text, begin + 1, length);
    text[length] = 0;
    p->at = begin + length + 2;
    return PSG_OK;
}

static psg_status read_descr(parser *p) {
    char descr[QUOTED];
    const char *why = NULL;
    skip_spaces(p);
    const char *begin = p->at;
    psg_status status = read_quoted(p, "descr", descr);
    if (status) return status;
    p->header->type = psg_npy_type_find(descr, &why);
    return p->header->type ? PSG_OK : refuse(p, begin, "descr '%s': %s", descr, why);
}

static psg_status read_order(parser *p) {
    skip_spaces(p);
    const bool is_true = !strncmp(p->at, "True", 4);
    if (!is_true && strncmp(p->at, "False", 5)) return refuse(p, p->at, "fortran_order is not True or False");
    p->at += is_true ? 4 : 5;
    p->header->is_fortran = is_true;
    return PSG_OK;
}

/* Decimal digits, 0 alone or none of them in front; Python 2 wrote an L behind those that it held as long integers. */
static psg_status read_size(parser *p, int d) {
    skip_spaces(p);
    const char *begin = p->at;
    const size_t digits = strspn(begin, "0123456789");
    int64_t size = 0;
    if (!digits) return refuse(p, begin, "shape[%d] is no integer, 0 or above", d);
    if (digits > 1 && *begin == '0') return refuse(p, begin, "shape[%d] begins with 0", d);
    for (; p->at < begin + digits; p->at++) {
        if (!__builtin_mul_overflow(size, 10, &size) && !__builtin_add_overflow(size, *p->at - '0', &size)) continue;
        return refuse(p, begin, "shape[%d] has %zu digits, %.*s..., at most 2^63 - 1 may be", d, digits,
                      digits < 20 ? (int)digits : 20, begin);
    }
    p->at += *p->at == 'L';
    p->header->shape[d] = size;
    return PSG_OK;
}

/* (), (2,), (2, 3), (2, 3,). */
static psg_status read_shape(parser *p) {
    psg_npy_header *h = p->header;
    psg_status status = expect(p, '(', "before the sizes of shape");
    bool comma = true;
    for (h->rank = 0; !status && !passes(p, ')'); h->rank++) {
        if (!comma) return refuse(p, p->at, "shape: ',' or ')' must stand after a size");
        if (h->rank == PSG_MAX_RANK) return refuse(p, p->at, "shape has more than %d sizes", PSG_MAX_RANK);
        status = read_size(p, h->rank);
        comma = !status && passes(p, ',');
    }
    if (status || h->rank != 1 || comma) return status;
    return refuse(p, p->at, "shape: one number in parentheses is no tuple, (N,) is");
}

/* ---- the dictionary ---- */

static psg_status read_pair(parser *p, unsigned *seen) {
    static const struct {
        const char *name;
        psg_status (*read)(parser *);
    } keys[] = { { "descr", read_descr }, { "fortran_order", read_order }, { "shape", read_shape } };
    char name[QUOTED];
    skip_spaces(p);
    const char *begin = p->at;
    psg_status status = read_quoted(p, "header: a key", name);
    for (unsigned k = 0; k < 3 && !status; k++) {
        if (strcmp(keys[k].name, name)) continue;
        if (*seen & 1u << k) return refuse(p, begin, "header: '%s' is there twice", name);
        *seen |= 1u << k;
        status = expect(p, ':', "after a key");
        return status ? status : keys[k].read(p);
    }
    return status ? status : refuse(p, begin, "header: '%s' is none of descr, fortran_order and shape", name);
}

static psg_status read_pairs(parser *p, unsigned *seen) {
    psg_status status = expect(p, '{', "first");
    bool comma = true;
    while (!status && !passes(p, '}')) {
        if (!comma) return refuse(p, p->at, "header: ',' or '}' must stand after a value");
        status = read_pair(p, seen);
        comma = !status && passes(p, ',');
    }
    return status;
}

/* Spaces, then the newline that ends the header. */
static psg_status check_padding(const parser *p) {
    const char *end = p->at + strspn(p->at, " ");
    if (*end == '\n' && end + 1 == p->text + p->length) return PSG_OK;
    return refuse(p, end, "header: only spaces and a last newline may follow the dictionary");
}

psg_status psg_npy_literal_read(const psg_extent_stream *stream, const char *text, size_t length, int64_t first,
                                psg_npy_header *header) {
    parser p = { stream, text, text, length, first, header };
    unsigned seen = 0;
    psg_status status = read_pairs(&p, &seen);
    if (status) return status;
    if (!(seen & 1)) return refuse(&p, p.at, "header: it has no descr");
    if (!(seen & 2)) return refuse(&p, p.at, "header: it has no fortran_order");
    if (!(seen & 4)) return refuse(&p, p.at, "header: it has no shape");
    return check_padding(&p);
}
