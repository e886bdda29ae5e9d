/* What the lines of a ledger record, read without the library. */
#ifndef CRASH_RECORDED_H
#define CRASH_RECORDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct crash_line {
    char run[33];
    uint64_t first, count;         /* steps [first, first + count) */
} crash_line;

typedef struct crash_lines {
    crash_line *lines;
    size_t count;
} crash_lines;

/* Whole lines; none where there is no file.  To be freed: lines. */
crash_lines crash_read_lines(const char *path);
/* Whether a line from number `from` on, or any before it of run `run` (or NULL), covers the step. */
bool crash_covers(const crash_lines *lines, size_t from, const char *run, uint64_t step);
uint64_t crash_recorded(const crash_lines *lines);   /* steps of all */

#endif
