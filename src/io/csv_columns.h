/* The columns of a CSV file: their names, and what is made of each. */
#ifndef PSG_IO_CSV_COLUMNS_H
#define PSG_IO_CSV_COLUMNS_H

#include "io/csv_text.h"
#include "io/csv_table.h"

typedef enum psg_csv_use { PSG_CSV_PASSED_OVER = 0, PSG_CSV_NUMBER, PSG_CSV_LABEL } psg_csv_use;

typedef struct psg_csv_target {
    psg_csv_use use;
    size_t place;                  /* among the numbers or labels */
} psg_csv_target;

/* Counts the fields of the first line, whose names csv then knows; reads it where it is the header: csv is then at the
 * first record.  The names are the arena's. */
psg_status psg_csv_read_names(psg_csv_text *csv, bool has_header, psg_arena *arena);
/* What each column becomes; names the table's columns and labels.  Nothing of options has been checked but what stands
 * in them alone. */
psg_status psg_csv_choose(const psg_csv_text *csv, const psg_csv_options *options, psg_table *table,
                          psg_csv_target **targets);

#endif
