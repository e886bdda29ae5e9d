/* A file of text that is written whole or not at all. */
#ifndef BENCH_TEXT_FILE_H
#define BENCH_TEXT_FILE_H

#include <stddef.h>

/* To PATH.new, which then takes the place of path; -1 after a message, and path is as it was. */
int text_file_write(const char *path, const char *text, size_t size);

#endif
