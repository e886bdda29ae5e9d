#include "io/csv_columns.h"

#include <stdio.h>
#include <string.h>

#include "base/context.h"
#include "base/file.h"

static psg_status fail_memory(const psg_csv_text *csv, size_t bytes) {
    return psg_fail_memory(csv->source->context, csv->source->function, bytes);
}

static psg_status refuse(const psg_csv_text *csv, const char *rule) {
    return psg_fail_format(csv->source->context, csv->source->function, csv->source->path, "%s", rule);
}

/* ---- names ---- */

/* Fields of the line and the bytes of their texts: no more fields than bytes, and one. */
static psg_status count_fields(psg_csv_text csv, size_t *count, size_t *bytes) {
    psg_csv_field field = { .is_last = false };
    csv.is_counting = true;
    for (*count = *bytes = 0; !field.is_last; *bytes += field.length) {
        psg_status status = psg_csv_next(&csv, (*count)++, &field);
        if (status) return status;
        if (psg_csv_is_empty_line(&field)) return psg_csv_refuse(&csv, &field, "an empty line, which has no columns");
    }
    return PSG_OK;
}

enum { DIGITS = 20 };   /* of a size_t, at most */

static void copy_names(psg_csv_text *csv, const char **names, char *texts) {
    psg_csv_field field = { .is_last = false };
    for (size_t k = 0; !field.is_last; k++) {
        psg_csv_next(csv, k, &field);
        names[k] = memcpy(texts, field.text, field.length);
        texts[field.length] = 0;
        texts += field.length + 1;
    }
}

static void count_names(const char **names, size_t count, char *texts) {
    for (size_t k = 0; k < count; k++) {
        names[k] = texts;
        texts += snprintf(texts, DIGITS + 1, "%zu", k) + 1;
    }
}

psg_status psg_csv_read_names(psg_csv_text *csv, bool has_header, psg_arena *arena) {
    size_t count, bytes;
    if (psg_csv_is_utf16(csv)) return refuse(csv, "begins with the mark of UTF-16, must be UTF-8");
    if (psg_csv_is_at_end(csv)) return refuse(csv, has_header ? "is empty, where a line of names must be" : "is empty");
    psg_status status = count_fields(*csv, &count, &bytes);
    if (status) return status;
    const size_t text_bytes = has_header ? bytes + count : count * (DIGITS + 1);
    const char **names = psg_arena_take(arena, count * sizeof *names);
    char *texts = psg_arena_take(arena, text_bytes);
    if (!names || !texts) return fail_memory(csv, count * sizeof *names + text_bytes);
    if (has_header) copy_names(csv, names, texts);
    else count_names(names, count, texts);
    csv->names = names;
    csv->columns = count;
    return PSG_OK;
}

/* ---- choices ---- */

static psg_status find_column(const psg_csv_text *csv, const psg_csv_column *wanted, size_t *column) {
    char rule[400];
    size_t found = 0;
    for (size_t k = 0; wanted->name && k < csv->columns; k++) {
        if (strcmp(csv->names[k], wanted->name)) continue;
        found++;
        *column = k;
    }
    if (!wanted->name) *column = wanted->index;
    if (wanted->name ? found == 1 : wanted->index < csv->columns) return PSG_OK;
    if (!wanted->name) snprintf(rule, sizeof rule, "has %zu columns, none of index %zu", csv->columns, wanted->index);
    else if (found) snprintf(rule, sizeof rule, "has two columns \"%.100s\", which an index must tell apart", wanted->name);
    else snprintf(rule, sizeof rule, "has no column \"%.100s\": the first of %zu is \"%.100s\", the last \"%.100s\"",
                  wanted->name, csv->columns, csv->names[0], csv->names[csv->columns - 1]);
    return refuse(csv, rule);
}

static psg_status choose(const psg_csv_text *csv, const psg_csv_column *wanted, psg_csv_target target,
                         psg_csv_target *targets, const char **name) {
    size_t column = 0;
    psg_status status = find_column(csv, wanted, &column);
    if (status) return status;
    if (targets[column].use != PSG_CSV_PASSED_OVER) {
        return psg_fail(csv->source->context, PSG_ERR_ARGUMENT, "%s: column \"%.100s\" is chosen twice",
                        csv->source->function, csv->names[column]);
    }
    targets[column] = target;
    *name = csv->names[column];
    return PSG_OK;
}

static void choose_rest(const psg_csv_text *csv, psg_table *table, psg_csv_target *targets) {
    for (size_t k = 0; k < csv->columns; k++) {
        if (targets[k].use != PSG_CSV_PASSED_OVER) continue;
        targets[k] = (psg_csv_target){ PSG_CSV_NUMBER, table->column_count };
        table->names[table->column_count++] = csv->names[k];
    }
}

static psg_status choose_all(const psg_csv_text *csv, const psg_csv_options *options, psg_table *table,
                             psg_csv_target *targets) {
    psg_status status = PSG_OK;
    for (size_t k = 0; k < options->label_count && !status; k++) {
        const psg_csv_target target = { PSG_CSV_LABEL, k };
        status = choose(csv, &options->labels[k], target, targets, &table->labels[k].name);
    }
    for (size_t k = 0; k < options->number_count && !status; k++) {
        const psg_csv_target target = { PSG_CSV_NUMBER, k };
        status = choose(csv, &options->numbers[k], target, targets, &table->names[k]);
        table->column_count = k + 1;
    }
    if (!options->number_count && !status) choose_rest(csv, table, targets);
    return status;
}

/* No more are chosen than there are. */
psg_status psg_csv_choose(const psg_csv_text *csv, const psg_csv_options *options, psg_table *table,
                          psg_csv_target **targets) {
    const size_t columns = csv->columns;
    if (options->label_count > columns || options->number_count > columns - options->label_count) {
        char rule[100];
        snprintf(rule, sizeof rule, "has %zu columns, of which %zu labels and %zu numbers are chosen", columns,
                 options->label_count, options->number_count);
        return refuse(csv, rule);
    }
    *targets = psg_arena_take(&table->arena, columns * sizeof **targets);
    table->names = psg_arena_take(&table->arena, columns * sizeof *table->names);
    table->labels = psg_arena_take(&table->arena, (options->label_count + 1) * sizeof *table->labels);
    if (!*targets || !table->names || !table->labels) return fail_memory(csv, columns * sizeof **targets);
    memset(*targets, 0, columns * sizeof **targets);
    memset(table->labels, 0, (options->label_count + 1) * sizeof *table->labels);
    table->label_count = options->label_count;
    return choose_all(csv, options, table, *targets);
}
