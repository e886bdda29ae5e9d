#include <string.h>

#include "io/csv_reading.h"
#include "io/decimal.h"

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

bool psg_csv_is_missing(const psg_csv_reading *r, const psg_csv_field *field) {
    const char *text = r->options->missing;
    return !field->length ||
           (text && field->length == r->missing_length && !memcmp(field->text, text, field->length));
}

static psg_decimal read_decimal(const psg_csv_reading *r, const psg_csv_field *field, int64_t at) {
    void *numbers = r->table->numbers.data;
    if (r->options->dtype == PSG_F64) return psg_decimal_f64(field->text, field->length, r->c, (double *)numbers + at);
    return psg_decimal_f32(field->text, field->length, r->c, (float *)numbers + at);
}

static psg_status fill(const psg_csv_reading *r, const psg_csv_field *field, int64_t at) {
    void *numbers = r->table->numbers.data;
    if (!r->options->fill_missing) return psg_csv_refuse(&r->csv, field, "a number is missing");
    if (r->options->dtype == PSG_F64) ((double *)numbers)[at] = r->options->fill;
    else ((float *)numbers)[at] = (float)r->options->fill;
    return PSG_OK;
}

/* Where the caller did not choose the column, what was more likely meant. */
static const char *no_number(const psg_csv_reading *r) {
    if (r->options->number_count) return "is no decimal number";
    return r->csv.columns == 1 && !r->options->delimiter ? "is no decimal number (options.delimiter is a comma)"
                                                         : "is no decimal number (columns of texts: options.labels)";
}

psg_status psg_csv_read_number(const psg_csv_reading *r, psg_csv_field field, int64_t at) {
    for (; field.length && is_blank(*field.text); field.text++) field.length--;
    while (field.length && is_blank(field.text[field.length - 1])) field.length--;
    if (psg_csv_is_missing(r, &field)) return fill(r, &field, at);
    switch (read_decimal(r, &field, at)) {
    case PSG_DECIMAL_READ: return PSG_OK;
    case PSG_DECIMAL_NONE: return psg_csv_refuse(&r->csv, &field, no_number(r));
    default: return psg_csv_refuse(&r->csv, &field, r->options->dtype == PSG_F64 ? "is too large for f64"
                                                                                 : "is too large for f32");
    }
}

