#include "io/csv_text.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"

void psg_csv_begin(psg_csv_text *csv, const psg_source *source, char *text, size_t bytes, char delimiter) {
    static const char mark[] = "\xef\xbb\xbf";   /* of UTF-8 */
    *csv = (psg_csv_text){ .source = source, .next = text, .end = text + bytes, .line = 1, .delimiter = delimiter };
    if (bytes >= 3 && !memcmp(text, mark, 3)) csv->next += 3;
    csv->stops[0] = csv->stops['\n'] = csv->stops['\r'] = csv->stops['"'] = 1;
    csv->stops[(unsigned char)delimiter] = 1;
}

bool psg_csv_is_utf16(const psg_csv_text *csv) {
    return csv->end - csv->next >= 2 && (!memcmp(csv->next, "\xff\xfe", 2) || !memcmp(csv->next, "\xfe\xff", 2));
}

/* Up to 60 bytes, whole characters, in quotes. */
static const char *shown(const char *text, size_t length, char out[72]) {
    const size_t most = 60;
    size_t count = length < most ? length : most;
    while (count && count < length && ((unsigned char)text[count] & 0xC0) == 0x80) count--;
    snprintf(out, 72, "\"%.*s%s\"", (int)count, text, count < length ? "..." : "");
    return out;
}

psg_status psg_csv_refuse(const psg_csv_text *csv, const psg_csv_field *field, const char *rule) {
    const psg_source *from = csv->source;
    char value[72], name[72] = "", named[80] = "";
    if (field->column < csv->columns) {
        const char *text = csv->names[field->column];
        snprintf(named, sizeof named, " (%s)", shown(text, strlen(text), name));
    }
    return psg_fail_format(from->context, from->function, from->path, "line %lld, column %zu%s: %s: %s",
                           (long long)field->line, field->column + 1, named, shown(field->text, field->length, value),
                           rule);
}

static psg_status refuse_end(const psg_csv_text *csv, const char *at, bool is_quoted, const psg_csv_field *field) {
    if (!*at) return psg_csv_refuse(csv, field, "a NUL byte follows");
    if (*at == '\r') return psg_csv_refuse(csv, field, "a carriage return follows, and no line feed");
    if (is_quoted) return psg_csv_refuse(csv, field, "more follows the quote that ends the field");
    return psg_csv_refuse(csv, field, "a quote follows, in a field that does not begin with one");
}

/* at: the byte after the field. */
static psg_status end_field(psg_csv_text *csv, char *at, bool is_quoted, psg_csv_field *field) {
    if (*at == csv->delimiter) {
        csv->next = at + 1;
        return PSG_OK;
    }
    field->is_last = true;
    at += *at == '\r' && at[1] == '\n';
    if (*at == '\n') csv->line++;
    else if (at != csv->end) return refuse_end(csv, at, is_quoted, field);
    csv->next = at + (at != csv->end);
    return PSG_OK;
}

static psg_status next_quoted(psg_csv_text *csv, psg_csv_field *field) {
    char *at = csv->next + 1, *to = at;
    field->text = at;
    field->is_quoted = true;
    while (*at && (*at != '"' || at[1] == '"')) {
        csv->line += *at == '\n';
        at += *at == '"';
        if (!csv->is_counting) *to = *at;
        at++;
        to++;
    }
    field->length = (size_t)(to - field->text);
    if (at == csv->end) return psg_csv_refuse(csv, field, "no quote ends the field");
    return end_field(csv, at + (*at == '"'), true, field);
}

psg_status psg_csv_next(psg_csv_text *csv, size_t column, psg_csv_field *field) {
    *field = (psg_csv_field){ .text = csv->next, .line = csv->line, .column = column };
    if (*csv->next == '"') return next_quoted(csv, field);
    char *at = csv->next;
    while (!csv->stops[(unsigned char)*at]) at++;
    field->length = (size_t)(at - field->text);
    return end_field(csv, at, false, field);
}
