#include "case_lines.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct written {
    char text[2048];
    size_t used;
} written;

/* ---- sizes in the op's pattern: "x {B},{in} | weight {4*hidden},{in} | key={C/groups}" ---- */

/* The number, or the size of that field, at *at, which moves behind it. */
static int64_t factor(const bench_op *op, const int64_t *dim, const char **at) {
    size_t length = strcspn(*at, "*/}");
    const char *word = *at, *field = op->fields;
    *at += length;
    if (isdigit((unsigned char)*word)) return strtoll(word, NULL, 10);
    for (int k = 0; k < op->dim_count; k++, field += strcspn(field, ",") + 1) {
        if (strcspn(field, ",") == length && !strncmp(field, word, length)) return dim[k];
    }
    bench_die("%s has no field %.*s", op->name, (int)length, word);
}

/* What stands between braces: a factor, or two multiplied or divided.  -1: it is no 63-bit whole number. */
static int64_t value(const bench_op *op, const int64_t *dim, const char **at) {
    int64_t first = factor(op, dim, at), second;
    char operation = *(*at)++;
    if (operation == '}') return first;
    second = factor(op, dim, at);
    ++*at;
    if (operation == '/') return first % second ? -1 : first / second;
    return __builtin_mul_overflow(first, second, &first) ? -1 : first;
}

static int write_sizes(const bench_op *op, const int64_t *dim, written *w, char *message, size_t size) {
    const char *at = op->line;
    while (*at && w->used + 32 < sizeof w->text) {
        const char *word = at + 1;
        if (*at != '{') {
            w->text[w->used++] = *at++;
            continue;
        }
        at++;
        int64_t number = value(op, dim, &at);
        if (number < 0) {
            snprintf(message, size, "%.*s is no whole number that there is room for", (int)(at - word) - 1, word);
            return -1;
        }
        w->used += (size_t)snprintf(w->text + w->used, sizeof w->text - w->used, "%lld", (long long)number);
    }
    w->text[w->used] = 0;
    return 0;
}

/* ---- lines of the table ---- */

static const char *find(const char *op, const char *name) {
    size_t length = strlen(name);
    for (size_t k = 0; k < table_line_count; k++) {
        const char *text = table_lines[k].text;
        if (!strcmp(table_lines[k].op, op) && !strncmp(text, name, length) && strchr(" |", text[length])) return text;
    }
    return NULL;
}

int bench_line_of(const bench_op *op, const bench_problem *problem, case_line *line, char *message, size_t size) {
    written w = { "sizes | ", sizeof "sizes | " - 1 };
    const char *text = problem->line ? find(op->name, problem->line) : w.text;
    if (!text) {
        snprintf(message, size, "its table (test/cases/%s.txt) has no line %s", op->name, problem->line);
        return -1;
    }
    if (!problem->line && write_sizes(op, problem->dim, &w, message, size)) return -1;
    return case_line_parse(case_op_find(op->name), text, line, message, size);
}
