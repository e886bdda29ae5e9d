#include <stdlib.h>
#include <string.h>

#include "cases.h"

/* The text after "key=", "" for a flag; NULL when absent. */
static const char *find(const case_line *line, const char *key) {
    size_t length = strlen(key);
    for (int k = 0; k < line->option_count; k++) {
        const char *option = line->options + line->option[k];
        if (strncmp(option, key, length)) continue;
        if (option[length] == '=') return option + length + 1;
        if (!option[length]) return option + length;
    }
    return NULL;
}

int case_flag(const case_line *line, const char *key) { return find(line, key) != NULL; }

int64_t case_int(const case_line *line, const char *key, int64_t otherwise) {
    int64_t value = otherwise;
    case_ints(line, key, &value, 1);
    return value;
}

double case_real(const case_line *line, const char *key, double otherwise) {
    const char *text = find(line, key);
    return text ? strtod(text, NULL) : otherwise;
}

const char *case_word(const case_line *line, const char *key, const char *otherwise) {
    const char *text = find(line, key);
    return text ? text : otherwise;
}

int case_choice(const case_line *line, const char *key, int otherwise, int count, const char *const names[]) {
    const char *word = find(line, key);
    if (!word) return otherwise;
    for (int k = 0; k < count; k++) {
        if (!strcmp(word, names[k])) return k;
    }
    return atoi(word);
}

int case_ints(const case_line *line, const char *key, int64_t *values, int capacity) {
    const char *text = find(line, key);
    int count = 0;
    while (text && *text) {
        int64_t value = *text == 'B' ? line->batch_size : strtoll(text, NULL, 10);
        if (count < capacity) values[count] = value;
        count++;
        text = strchr(text, ',');
        if (text) text++;
    }
    return count;
}

int case_spatial(const case_line *line) { return line->op->name[strlen(line->op->name) - 2] - '0'; }

void case_each(const case_line *line, const char *key, int64_t otherwise, int count, int64_t *values) {
    int given = case_ints(line, key, values, count);
    for (int k = given; k < count; k++) values[k] = given ? values[0] : otherwise;
}
