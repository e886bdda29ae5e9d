/* What reads a CSV file: the state, and its parts. */
#ifndef PSG_IO_CSV_READING_H
#define PSG_IO_CSV_READING_H

#include <locale.h>

#include "base/context.h"
#include "io/categories.h"
#include "io/csv_columns.h"

/* A file under way to a table. */
typedef struct psg_csv_reading {
    psg_source source;
    const psg_csv_options *options;
    char *text;
    psg_csv_text csv;
    psg_table *table;
    psg_csv_target *targets;       /* of each column */
    psg_categories *categories;    /* of each label */
    locale_t c;
    size_t missing_length;
} psg_csv_reading;

/* PSG_ERR_ARGUMENT and others, for what is wrong whatever the file is. */
psg_status psg_csv_check_options(const psg_source *source, const psg_csv_options *options);

/* Whether a field is empty or the text that stands for what is missing. */
bool psg_csv_is_missing(const psg_csv_reading *r, const psg_csv_field *field);
/* A field to number `at` of the table. */
psg_status psg_csv_read_number(const psg_csv_reading *r, psg_csv_field field, int64_t at);

/* Between begin, which takes r->categories, and end the codes are numbers of the order in which texts came. */
psg_status psg_csv_begin_labels(psg_csv_reading *r);
psg_status psg_csv_read_label(const psg_csv_reading *r, const psg_csv_field *field, size_t label, int64_t record);
psg_status psg_csv_end_label(const psg_csv_reading *r, size_t label);
/* Also where there are none. */
void psg_csv_free_labels(psg_csv_reading *r);

static inline psg_status psg_csv_fail_memory(const psg_csv_reading *r, size_t bytes) {
    return psg_fail_memory(r->source.context, r->source.function, bytes);
}

#endif
