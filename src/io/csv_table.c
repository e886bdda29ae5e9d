#include "io/csv_table.h"

static void free_table(void *object) {
    psg_table *table = object;
    psg_take_back(table->context, &table->lent);
    psg_free(table->context, table->values);
    psg_arena_release(&table->arena);
    psg_free_object(table->context, table);
}

psg_table *psg_table_new(psg_context *context) {
    psg_table *made = psg_new_object(context, sizeof *made);
    if (!made) return NULL;
    *made = (psg_table){ .context = context, .owner = { .free = free_table, .object = made } };
    psg_arena_init(&made->arena, context);
    return made;
}

/* Codes stand behind the numbers at the next 8 bytes. */
bool psg_table_take_values(psg_table *table, psg_dtype dtype, int64_t records) {
    const size_t rows = (size_t)records, codes = rows * table->label_count * sizeof(int64_t);
    const size_t numbers = (rows * table->column_count * psg_dtype_size(dtype) + 7) & ~(size_t)7;
    table->values = psg_alloc(table->context, numbers + codes);
    if (!table->values) return false;
    psg_lend(table->context, &table->lent, &table->owner, table->values, numbers + codes);
    table->numbers = psg_tensor_of(dtype, table->values, 2, (int64_t[]){ records, (int64_t)table->column_count });
    for (size_t k = 0; k < table->label_count; k++) {
        int64_t *place = (int64_t *)((char *)table->values + numbers) + k * rows;
        table->labels[k].codes = psg_i64_1d(place, records);
    }
    return true;
}

void psg_table_end(psg_table *table, int64_t records) {
    table->numbers.shape[0] = records;
    for (size_t k = 0; k < table->label_count; k++) table->labels[k].codes.shape[0] = records;
}

void psg_table_destroy(psg_table *table) {
    if (table) psg_destroy_handle(&table->owner);
}

/* ---- what it holds ---- */

const psg_tensor *psg_table_numbers(const psg_table *table) { return table ? &table->numbers : NULL; }

const char *psg_table_name(const psg_table *table, size_t column) {
    return table && column < table->column_count ? table->names[column] : NULL;
}

static const psg_table_label_column *label_of(const psg_table *table, size_t label) {
    return table && label < table->label_count ? &table->labels[label] : NULL;
}

const psg_tensor *psg_table_label(const psg_table *table, size_t label) {
    const psg_table_label_column *found = label_of(table, label);
    return found ? &found->codes : NULL;
}

const char *psg_table_label_name(const psg_table *table, size_t label) {
    const psg_table_label_column *found = label_of(table, label);
    return found ? found->name : NULL;
}

size_t psg_table_category_count(const psg_table *table, size_t label) {
    const psg_table_label_column *found = label_of(table, label);
    return found ? found->category_count : 0;
}

const char *psg_table_category(const psg_table *table, size_t label, size_t code) {
    return code < psg_table_category_count(table, label) ? table->labels[label].categories[code] : NULL;
}
