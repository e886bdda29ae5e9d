#include "text_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int write_and_sync(const char *path, const char *text, size_t size) {
    FILE *file = fopen(path, "w");
    if (!file) return -1;
    int failed = fwrite(text, 1, size, file) != size || fflush(file) || fsync(fileno(file));
    return fclose(file) || failed ? -1 : 0;
}

int text_file_write(const char *path, const char *text, size_t size) {
    const size_t length = strlen(path) + sizeof ".new";
    char *temporary = malloc(length);
    if (temporary) snprintf(temporary, length, "%s.new", path);
    int failed = !temporary || write_and_sync(temporary, text, size) || rename(temporary, path);
    if (failed) fprintf(stderr, "%s cannot be written: %s\n", path, strerror(errno));
    if (failed && temporary) unlink(temporary);
    free(temporary);
    return failed ? -1 : 0;
}
