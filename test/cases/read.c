#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

typedef struct reader {
    const case_op *op;
    case_line *line;
    char *message;
    size_t size;
} reader;

static int refuse(const reader *r, const char *format, ...) PSG_PRINTF(2, 3);

static int refuse(const reader *r, const char *format, ...) {
    int length = snprintf(r->message, r->size, "%s: %s: ", r->op->name, r->line->name);
    va_list arguments;
    va_start(arguments, format);
    if (length > 0 && (size_t)length < r->size) {
        vsnprintf(r->message + length, r->size - (size_t)length, format, arguments);
    }
    va_end(arguments);
    return -1;
}

/* Cuts the text at the first c; returns what follows it, NULL at the end. */
static char *cut(char *text, char c) {
    char *at = strchr(text, c);
    if (at) *at++ = 0;
    return at;
}

/* The next word of *text, NULL at the end. */
static char *next_word(char **text) {
    while (isspace((unsigned char)**text)) ++*text;
    if (!**text) return NULL;
    char *word = *text;
    while (**text && !isspace((unsigned char)**text)) ++*text;
    if (**text) *(*text)++ = 0;
    return word;
}

static int rule_index(const case_op *op, const char *name) {
    for (int k = 0; k < CASE_OPERANDS && op->rule[k].name; k++) {
        if (!strcmp(op->rule[k].name, name)) return k;
    }
    return -1;
}

static int read_dims(const reader *r, case_operand *operand, const char *text) {
    if (!strcmp(text, "()")) return 0;
    for (char *end; operand->rank < PSG_MAX_RANK; text = end + 1) {
        operand->shape[operand->rank++] = strtoll(text, &end, 10);
        if (end == text) break;
        if (!*end) return 0;
        if (*end != ',') break;
    }
    return refuse(r, "bad dims %s", text);
}

static int read_values(const reader *r, case_operand *operand, const char *text) {
    for (char *end; operand->value_count < CASE_VALUES; text = end + 1) {
        operand->values[operand->value_count++] = strtod(text, &end);
        if (end == text) break;
        if (!*end) return 0;
        if (*end != ',') break;
    }
    return refuse(r, "bad values %s", text);
}

static int read_word(const reader *r, case_operand *operand, const char *word) {
    if (*word == '=') return read_values(r, operand, word + 1);
    if (*word == '<') {
        operand->kind = CASE_INTEGER;
        operand->high = strtoll(word + 1, NULL, 10);
    } else if (*word == '/') {
        operand->divisor = strtod(word + 1, NULL);
    } else if (!strncmp(word, ">=", 2)) {
        operand->low = strtoll(word + 2, NULL, 10);
    } else if (!strcmp(word, "i32") || !strcmp(word, "i64")) {
        operand->kind = CASE_INTEGER;
        operand->integer = word[1] == '3' ? PSG_I32 : PSG_I64;
    } else if (!strcmp(word, "f32")) {
        operand->single = 1;
    } else if (!strcmp(word, "real")) {
        operand->kind = CASE_REAL;
    } else if (!strcmp(word, "unit")) {
        operand->kind = CASE_UNIT;
    } else if (!strcmp(word, "positive")) {
        operand->kind = CASE_POSITIVE;
    } else if (!strcmp(word, "batched")) {
        operand->role = PSG_BATCHED;
    } else if (!strcmp(word, "constant")) {
        operand->role = PSG_CONSTANT;
    } else if (!strcmp(word, "parameter")) {
        operand->role = PSG_PARAMETER;
    } else {
        return refuse(r, "unknown word %s", word);
    }
    return 0;
}

static int64_t count_of(const case_operand *operand) {
    int64_t count = 1;
    for (int d = 0; d < operand->rank; d++) count *= operand->shape[d];
    return count;
}

/* "x 2,4,8 <5" */
static int read_operand(const reader *r, char *text) {
    char *name = next_word(&text), *dims = name ? next_word(&text) : NULL;
    if (!dims) return refuse(r, "an operand without dims");
    int k = rule_index(r->op, name);
    if (k < 0) return refuse(r, "unknown operand %s", name);
    case_operand *operand = &r->line->operand[k];
    if (operand->present) return refuse(r, "operand %s twice", name);
    *operand = (case_operand){
        .present = 1, .role = r->op->rule[k].role, .kind = r->op->rule[k].kind, .integer = PSG_I64, .high = 2,
        .divisor = 1
    };
    int bad = read_dims(r, operand, dims);
    for (char *word; !bad && (word = next_word(&text));) bad = read_word(r, operand, word);
    if (bad) return bad;
    if (operand->kind == CASE_INTEGER && operand->high <= operand->low) return refuse(r, "%s: an empty range", name);
    if (operand->value_count > 1 && operand->value_count != count_of(operand)) {
        return refuse(r, "%s has %d values", name, operand->value_count);
    }
    return 0;
}

static int read_options(const reader *r, const char *text) {
    case_line *line = r->line;
    if (strlen(text) >= sizeof line->options) return refuse(r, "too many options");
    strcpy(line->options, text);
    char *rest = line->options;
    for (char *word; (word = next_word(&rest));) {
        if (line->option_count == CASE_OPTIONS) return refuse(r, "too many options");
        line->option[line->option_count++] = (int)(word - line->options);
    }
    return 0;
}

/* frozen=weight,bias */
static int read_frozen(const reader *r) {
    char names[sizeof r->line->options] = "";
    strncpy(names, case_word(r->line, "frozen", ""), sizeof names - 1);
    for (char *name = names, *next; name && *name; name = next) {
        next = cut(name, ',');
        int k = rule_index(r->op, name);
        if (k < 0) return refuse(r, "frozen: unknown operand %s", name);
        r->line->operand[k].frozen = 1;
    }
    return 0;
}

static int check_operands(const reader *r) {
    case_line *line = r->line;
    line->batch_size = -1;
    for (int k = 0; k < CASE_OPERANDS && r->op->rule[k].name; k++) {
        const case_operand *operand = &line->operand[k];
        if (!operand->present && !r->op->rule[k].optional) return refuse(r, "no %s", r->op->rule[k].name);
        if (operand->present && operand->role == PSG_BATCHED && operand->rank && line->batch_size < 0) {
            line->batch_size = operand->shape[0];
        }
    }
    return 0;
}

int case_line_parse(const case_op *op, const char *text, case_line *line, char *message, size_t size) {
    char copy[4096];
    memset(line, 0, sizeof *line);
    line->op = op;
    reader r = { op, line, message, size };
    if (strlen(text) >= sizeof copy) return refuse(&r, "the line is too long");
    strcpy(copy, text);
    char *says = cut(copy, '"');
    if (says && (strcspn(says, "\"") >= CASE_TEXT || !strchr(says, '"'))) return refuse(&r, "bad text %s", says);
    if (says) memcpy(line->says, says, strcspn(says, "\""));
    char *rest = cut(copy, '|'), *start = copy, *name = next_word(&start);
    if (!name || !rest || strlen(name) >= CASE_NAME) return refuse(&r, "no name or no fields in \"%s\"", text);
    strcpy(line->name, name);
    for (char *field = rest, *next; field; field = next) {
        next = cut(field, '|');
        if (next ? read_operand(&r, field) : read_options(&r, field)) return -1;
    }
    return check_operands(&r) || read_frozen(&r) ? -1 : 0;
}

static int append(case_table *table, const char *text, char *message, size_t size) {
    case_line *grown = realloc(table->line, (size_t)(table->count + 1) * sizeof *grown);
    if (!grown) return -1;
    table->line = grown;
    return case_line_parse(table->op, text, &table->line[table->count++], message, size);
}

int case_table_read(const case_op *op, const char *folder, case_table *table, char *message, size_t size) {
    char path[512], text[4096];
    *table = (case_table){ .op = op };
    snprintf(path, sizeof path, "%s/%s.txt", folder, op->name);
    FILE *file = fopen(path, "r");
    if (!file) {
        snprintf(message, size, "%s cannot be read", path);
        return -1;
    }
    int bad = 0;
    while (!bad && fgets(text, sizeof text, file)) {
        cut(text, '#');
        text[strcspn(text, "\n")] = 0;
        if (text[strspn(text, " \t\r")]) bad = append(table, text, message, size);
    }
    fclose(file);
    return bad;
}

void case_table_free(case_table *table) {
    free(table->line);
    *table = (case_table){ 0 };
}
