/* What a file of records held: numbers and labels. */
#ifndef PSG_IO_CSV_TABLE_H
#define PSG_IO_CSV_TABLE_H

#include <stdbool.h>

#include "base/memory.h"
#include "base/owner.h"
#include "psg/io.h"

typedef struct psg_table_label_column {
    const char *name;
    psg_tensor codes;
    const char **categories;
    size_t category_count;
} psg_table_label_column;

struct psg_table {
    psg_context *context;
    psg_owner owner;               /* held by views of the values */
    psg_lent lent;
    psg_arena arena;               /* of all that follows but the values */
    const char **names;            /* of the columns of numbers */
    size_t column_count;
    psg_tensor numbers;
    psg_table_label_column *labels;
    size_t label_count;
    void *values;                  /* the numbers, then the codes of each label */
};

/* An empty one; NULL when there is no memory. */
psg_table *psg_table_new(psg_context *context);
/* Memory for so many records of numbers and codes, for columns and labels as they are counted; false: there is none.
 * The views have `records` rows. */
bool psg_table_take_values(psg_table *table, psg_dtype dtype, int64_t records);
/* Of the records that there was room for so many have come. */
void psg_table_end(psg_table *table, int64_t records);

#endif
