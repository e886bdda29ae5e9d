/* The fields of a CSV file (RFC 4180), one after the other. */
#ifndef PSG_IO_CSV_TEXT_H
#define PSG_IO_CSV_TEXT_H

#include <stdbool.h>

#include "io/tensors.h"

typedef struct psg_csv_field {
    const char *text;              /* without its quotes */
    size_t length;
    int64_t line;                  /* where it begins, from 1 */
    size_t column;                 /* from 0 */
    bool is_last;                  /* of its record */
    bool is_quoted;
} psg_csv_field;

typedef struct psg_csv_text {
    const psg_source *source;
    char *next, *end;              /* *end is 0; fields with quotes in them are rewritten in place */
    int64_t line;                  /* of next */
    const char *const *names;      /* of columns, for messages; NULL: not known yet */
    size_t columns;                /* that have names */
    unsigned char stops[256];      /* bytes that end a field without quotes */
    char delimiter;
    bool is_counting;              /* nothing is rewritten, so that the fields can be read again */
} psg_csv_text;

/* bytes of text, *(text + bytes) being 0. */
void psg_csv_begin(psg_csv_text *csv, const psg_source *source, char *text, size_t bytes, char delimiter);
static inline bool psg_csv_is_at_end(const psg_csv_text *csv) { return csv->next == csv->end; }
/* Whether what follows has the byte order mark of UTF-16: spreadsheets save such as "Unicode text". */
bool psg_csv_is_utf16(const psg_csv_text *csv);
/* The next field, of that column. */
psg_status psg_csv_next(psg_csv_text *csv, size_t column, psg_csv_field *field);
/* Whether a field is all that its line has, and that is nothing. */
static inline bool psg_csv_is_empty_line(const psg_csv_field *field) {
    return !field->column && field->is_last && !field->length && !field->is_quoted;
}
/* PSG_ERR_FORMAT: "FUNCTION: PATH: line 3, column 2 ("hours"): "VALUE": RULE". */
psg_status psg_csv_refuse(const psg_csv_text *csv, const psg_csv_field *field, const char *rule);

#endif
