#include <string.h>

#include "io/csv_reading.h"

static psg_status add(const psg_csv_reading *r, size_t label, const char *text, size_t length) {
    psg_categories *known = &r->categories[label];
    if (psg_categories_add(known, text, length)) return PSG_OK;
    return psg_csv_fail_memory(r, 2 * known->capacity * sizeof *known->nodes);
}

psg_status psg_csv_read_label(const psg_csv_reading *r, const psg_csv_field *field, size_t label, int64_t record) {
    psg_categories *known = &r->categories[label];
    int64_t code = psg_categories_find(known, field->text, field->length);
    if (code < 0 && psg_csv_is_missing(r, field)) return psg_csv_refuse(&r->csv, field, "a label is missing");
    if (code < 0 && r->options->labels[label].categories) {
        return psg_csv_refuse(&r->csv, field, "is none of the categories that were given");
    }
    if (code < 0) {
        code = (int64_t)known->count;
        PSG_TRY(add(r, label, field->text, field->length));
    }
    ((int64_t *)r->table->labels[label].codes.data)[record] = code;
    return PSG_OK;
}

static psg_status add_given(psg_csv_reading *r, size_t label) {
    const psg_csv_column *column = &r->options->labels[label];
    for (size_t k = 0; k < column->category_count; k++) {
        const char *text = column->categories[k];
        if (!text || psg_categories_find(&r->categories[label], text, strlen(text)) >= 0) {
            return psg_fail(r->source.context, PSG_ERR_ARGUMENT, "%s: labels[%zu].categories[%zu] is %s",
                            r->source.function, label, k, text ? "there twice" : "NULL");
        }
        PSG_TRY(add(r, label, text, strlen(text)));
    }
    return PSG_OK;
}

psg_status psg_csv_begin_labels(psg_csv_reading *r) {
    const size_t count = r->table->label_count;
    psg_status status = PSG_OK;
    r->categories = psg_alloc(r->source.context, count * sizeof *r->categories);
    if (!r->categories) return psg_csv_fail_memory(r, count * sizeof *r->categories);
    for (size_t k = 0; k < count; k++) psg_categories_init(&r->categories[k], r->source.context);
    for (size_t k = 0; k < count && !status; k++) status = add_given(r, k);
    return status;
}

/* order[code]: the number of its text.  codes of records are numbers and become codes. */
static void name_codes(const psg_categories *known, const int64_t *order, char *texts, int64_t *codes_of,
                       psg_table_label_column *label) {
    int64_t *codes = label->codes.data;
    for (size_t code = 0; code < known->count; code++) {
        const psg_category *category = &known->nodes[order[code] + 1];
        codes_of[order[code]] = (int64_t)code;
        label->categories[code] = memcpy(texts, category->text, category->length);
        texts[category->length] = 0;
        texts += category->length + 1;
    }
    for (int64_t n = 0; n < label->codes.shape[0]; n++) codes[n] = codes_of[codes[n]];
    label->category_count = known->count;
}

psg_status psg_csv_end_label(const psg_csv_reading *r, size_t label) {
    const psg_categories *known = &r->categories[label];
    psg_table_label_column *column = &r->table->labels[label];
    size_t bytes = known->count;
    for (size_t k = 1; k <= known->count; k++) bytes += known->nodes[k].length;
    const size_t most = known->count * (2 * sizeof(int64_t) + sizeof *column->categories) + bytes;
    char *texts = psg_arena_take(&r->table->arena, bytes);
    column->categories = psg_arena_take(&r->table->arena, known->count * sizeof *column->categories);
    int64_t *order = psg_alloc(r->source.context, 2 * known->count * sizeof *order);
    if (!texts || !column->categories || !order) {
        psg_free(r->source.context, order);
        return psg_csv_fail_memory(r, most);
    }
    for (size_t k = 0; k < known->count; k++) order[k] = (int64_t)k;
    if (!r->options->labels[label].categories) psg_categories_sorted(known, order);
    name_codes(known, order, texts, order + known->count, column);
    psg_free(r->source.context, order);
    return PSG_OK;
}

void psg_csv_free_labels(psg_csv_reading *r) {
    for (size_t k = 0; r->categories && k < r->table->label_count; k++) psg_categories_release(&r->categories[k]);
    psg_free(r->source.context, r->categories);
}
