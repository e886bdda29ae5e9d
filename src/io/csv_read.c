#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/floats.h"
#include "io/csv_reading.h"
#include "io/reading.h"

/* ---- records ---- */

static psg_status read_field(const psg_csv_reading *r, const psg_csv_field *field, int64_t record) {
    const psg_csv_target target = r->targets[field->column];
    const int64_t columns = r->table->numbers.shape[1];
    if (target.use == PSG_CSV_NUMBER) return psg_csv_read_number(r, *field, record * columns + (int64_t)target.place);
    return target.use == PSG_CSV_LABEL ? psg_csv_read_label(r, field, target.place, record) : PSG_OK;
}

static psg_status check_end(const psg_csv_reading *r, const psg_csv_field *field) {
    char rule[100];
    const size_t columns = r->csv.columns;
    const bool is_empty = psg_csv_is_empty_line(field);
    if (field->is_last == (field->column + 1 == columns) && !is_empty) return PSG_OK;
    const char *what = !field->is_last ? "more fields follow" : is_empty ? "an empty line" : "the record ends";
    snprintf(rule, sizeof rule, "%s, where the first line has %zu fields", what, columns);
    return psg_csv_refuse(&r->csv, field, rule);
}

static psg_status read_record(psg_csv_reading *r, int64_t record) {
    psg_csv_field field = { .is_last = false };
    for (size_t k = 0; !field.is_last; k++) {
        psg_status status = psg_csv_next(&r->csv, k, &field);
        if (!status) status = check_end(r, &field);
        if (!status) status = read_field(r, &field, record);
        if (status) return status;
    }
    return PSG_OK;
}

/* A record has a line feed, but the last one, and a byte at least for each of its columns: so the file bears out the
 * memory that is taken for the values. */
static int64_t most_records(const psg_csv_reading *r) {
    const size_t bytes = (size_t)(r->csv.end - r->csv.next);
    int64_t lines = bytes > 0;
    const char *at = r->csv.next;
    while ((at = memchr(at, '\n', (size_t)(r->csv.end - at)))) {
        lines++;
        at++;
    }
    const int64_t held = (int64_t)((bytes + 1) / r->csv.columns);
    return lines < held ? lines : held;
}

static psg_status read_records(psg_csv_reading *r) {
    const int64_t most = most_records(r);
    int64_t records = 0;
    psg_status status = PSG_OK;
    if (!psg_table_take_values(r->table, r->options->dtype, most)) {
        return psg_csv_fail_memory(r, (size_t)most * r->csv.columns * psg_dtype_size(r->options->dtype));
    }
    for (; !psg_csv_is_at_end(&r->csv) && !status; records++) status = read_record(r, records);
    if (status) return status;
    psg_table_end(r->table, records);
    for (size_t k = 0; k < r->table->label_count && !status; k++) status = psg_csv_end_label(r, k);
    return status;
}

static psg_status read_table(psg_csv_reading *r) {
    psg_status status = psg_csv_read_names(&r->csv, !r->options->no_header, &r->table->arena);
    if (!status) status = psg_csv_choose(&r->csv, r->options, r->table, &r->targets);
    if (!status) status = psg_csv_begin_labels(r);
    if (!status) status = read_records(r);
    psg_csv_free_labels(r);
    return status;
}

/* ---- the file ---- */

static psg_status read_bytes(psg_csv_reading *r, int descriptor, int64_t bytes) {
    const psg_reading file = { .source = r->source, .descriptor = descriptor, .bytes = bytes };
    const char delimiter = r->options->delimiter ? r->options->delimiter : ',';
    psg_status status = psg_read_bytes(&file, r->text, (size_t)bytes, 0);
    if (status) return status;
    r->text[bytes] = 0;
    psg_csv_begin(&r->csv, &r->source, r->text, (size_t)bytes, delimiter);
    return PSG_OK;
}

static psg_status read_text(psg_csv_reading *r) {
    const psg_source *from = &r->source;
    int descriptor;
    int64_t bytes;
    psg_status status = psg_open_regular(from->context, from->function, from->path, &descriptor, &bytes);
    if (status) return status;
    r->text = psg_alloc(from->context, (size_t)bytes + 1);
    status = r->text ? read_bytes(r, descriptor, bytes) : psg_csv_fail_memory(r, (size_t)bytes + 1);
    psg_close(descriptor);
    return status;
}

static psg_status read_file(psg_csv_reading *r) {
    r->c = newlocale(LC_ALL_MASK, "C", 0);
    if (!r->c) return psg_csv_fail_memory(r, sizeof r->c);
    psg_status status = read_text(r);
    if (!status) status = read_table(r);
    psg_free(r->source.context, r->text);
    freelocale(r->c);
    return status;
}

psg_status psg_csv_read(psg_context *context, const char *path, const psg_csv_options *options, psg_table **table) {
    PSG_DEFAULT_FLOATS;
    static const psg_csv_options defaults = PSG_CSV_OPTIONS_INIT;
    if (table) *table = NULL;
    if (!context || !table) return psg_fail_null(context, "psg_csv_read", "table");
    psg_csv_reading r = { .source = { context, "psg_csv_read", path }, .options = options ? options : &defaults };
    if (!path) return psg_fail(context, PSG_ERR_ARGUMENT, "%s: path is NULL", r.source.function);
    psg_status status = psg_csv_check_options(&r.source, r.options);
    if (status) return status;
    r.table = psg_table_new(context);
    if (!r.table) return psg_csv_fail_memory(&r, sizeof *r.table);
    r.missing_length = r.options->missing ? strlen(r.options->missing) : 0;
    status = read_file(&r);
    if (status) psg_table_destroy(r.table);
    else *table = r.table;
    return status;
}
