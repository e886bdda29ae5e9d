#include "recorded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t number_of(const char *line, const char *key) {
    const char *at = strstr(line, key);
    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static crash_line line_of(const char *text) {
    static const char run[] = "\"run\":\"";
    crash_line line = { { 0 }, number_of(text, "\"first\":"), number_of(text, "\"count\":") };
    const char *at = strstr(text, run);
    if (at) snprintf(line.run, sizeof line.run, "%s", at + strlen(run));
    return line;
}

crash_lines crash_read_lines(const char *path) {
    char text[4096];
    crash_lines all = { NULL, 0 };
    FILE *file = fopen(path, "r");
    while (file && fgets(text, sizeof text, file) && strchr(text, '\n')) {
        crash_line *more = realloc(all.lines, (all.count + 1) * sizeof *more);
        if (!more) break;
        all.lines = more;
        all.lines[all.count++] = line_of(text);
    }
    if (file) fclose(file);
    return all;
}

bool crash_covers(const crash_lines *lines, size_t from, const char *run, uint64_t step) {
    for (size_t k = 0; k < lines->count; k++) {
        const crash_line *line = &lines->lines[k];
        if (k < from && (!run || strcmp(run, line->run))) continue;
        if (step >= line->first && step - line->first < line->count) return true;
    }
    return false;
}

uint64_t crash_recorded(const crash_lines *lines) {
    uint64_t sum = 0;
    for (size_t k = 0; k < lines->count; k++) sum += lines->lines[k].count;
    return sum;
}
