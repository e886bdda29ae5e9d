/* The line of a case table that a problem stands for: one of the table, by its name, or one made of the problem's
 * sizes. */
#ifndef BENCH_CASE_LINES_H
#define BENCH_CASE_LINES_H

#include <stddef.h>

#include "case.h"
#include "cases/cases.h"

/* Every line of test/cases when psg-bench was built: table_lines.awk. */
typedef struct table_line { const char *op, *text; } table_line;
extern const table_line table_lines[];
extern const size_t table_line_count;

/* 0, or -1 with a message: no such line, a size that another does not divide, a line that cannot be read. */
int bench_line_of(const bench_op *op, const bench_problem *problem, case_line *line, char *message, size_t size);

#endif
