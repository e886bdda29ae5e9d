#include "mutation.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST_OPERAND = 1 << 16, LAYERS = 3 /* that the tables have operands for */, WORD = 256 };

static int operand_count(const case_line *line) {
    int count = 0;
    while (count < CASE_OPERANDS && line->op->rule[count].name) count++;
    return count;
}

static int64_t elements(const case_operand *operand) {
    psg_tensor view = psg_tensor_of(PSG_F64, NULL, operand->rank, operand->shape);
    return psg_tensor_count(&view);
}

/* Given values are kept for as many elements as there are now. */
static void fit_values(case_operand *operand) {
    int64_t count = elements(operand);
    if (operand->value_count <= 1) return;
    if (count > CASE_VALUES || count == 0) {
        operand->value_count = 0;
        return;
    }
    for (int64_t k = operand->value_count; k < count; k++)
        operand->values[k] = operand->values[k % operand->value_count];
    operand->value_count = (int)count;
}

static void set_dim(case_operand *operand, int d, int64_t size) {
    case_operand before = *operand;
    operand->shape[d] = size;
    if (size < 0 || elements(operand) > LARGEST_OPERAND || elements(operand) < 0) *operand = before;
    fit_values(operand);
}

/* Every dimension of that size, of all operands. */
static void set_dims_of(case_line *line, int64_t from, int64_t to) {
    for (int k = 0; k < operand_count(line); k++) {
        case_operand *operand = &line->operand[k];
        for (int d = 0; operand->present && d < operand->rank; d++) {
            if (operand->shape[d] == from) set_dim(operand, d, to);
        }
    }
}

/* ---- options ---- */

static const char *option_at(const case_line *line, int k) { return line->options + line->option[k]; }

static size_t key_length(const char *option) { return strcspn(option, "="); }

static int has_key(const case_line *line, const char *option) {
    size_t length = key_length(option);
    for (int k = 0; k < line->option_count; k++) {
        const char *other = option_at(line, k);
        if (key_length(other) == length && !strncmp(other, option, length)) return 1;
    }
    return 0;
}

/* Option k becomes `word`, "" to leave it out; k = option_count adds one. */
static void set_option(case_line *line, int k, const char *word) {
    char text[sizeof line->options];
    int at[CASE_OPTIONS], count = 0;
    size_t used = 0;
    for (int i = 0; i < line->option_count || i == k; i++) {
        const char *option = i == k ? word : option_at(line, i);
        size_t length = strlen(option) + 1;
        if (length == 1) continue;
        if (count == CASE_OPTIONS || used + length > sizeof text) return;
        at[count++] = (int)used;
        memcpy(text + used, option, length);
        used += length;
    }
    memcpy(line->options, text, used);
    memcpy(line->option, at, (size_t)count * sizeof *at);
    line->option_count = count;
}

static int begins(const char *option, const char *key) {
    return key_length(option) == strlen(key) && !strncmp(option, key, strlen(key));
}

/* What says how the tables' own checks treat a line. */
static int is_of_checks(const char *option) {
    static const char *const keys[] = { "error", "error_name", "batch_size", "smooth", "f32", "bench" };
    int found = 0;
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) found |= begins(option, keys[k]);
    return found;
}

static void drop_checks(case_line *line) {
    for (int k = line->option_count - 1; k >= 0; k--) {
        if (is_of_checks(option_at(line, k))) set_option(line, k, "");
    }
}

/* ---- zero sizes ---- */

static int zero_alone(case_line *line, int *k) {
    for (int i = 0; i < operand_count(line); i++) {
        case_operand *operand = &line->operand[i];
        for (int d = 0; operand->present && d < operand->rank; d++) {
            if (!operand->shape[d] || (*k)--) continue;
            set_dim(operand, d, 0);
            return 1;
        }
    }
    return 0;
}

static int zero_together(case_line *line, int *k) {
    for (int64_t size = 1; size <= 64; size++) {
        int found = 0;
        for (int i = 0; i < operand_count(line); i++) {
            for (int d = 0; line->operand[i].present && d < line->operand[i].rank; d++) {
                found += line->operand[i].shape[d] == size;
            }
        }
        if (found < 2 || (*k)--) continue;
        set_dims_of(line, size, 0);
        return 1;
    }
    return 0;
}

int mutation_zero(const case_line *line, int k, case_line *mutated) {
    *mutated = *line;
    drop_checks(mutated);
    return zero_alone(mutated, &k) || zero_together(mutated, &k);
}

/* ---- random ones ---- */

static case_operand *draw_operand(test_random *random, case_line *line) {
    int present[CASE_OPERANDS], count = 0;
    for (int k = 0; k < operand_count(line); k++) {
        if (line->operand[k].present) present[count++] = k;
    }
    return count ? &line->operand[present[test_range(random, 0, count - 1)]] : NULL;
}

static void change_dim(test_random *random, case_line *line) {
    static const int64_t sizes[] = { 0, 1, 2, 3, 7, 17 };
    case_operand *operand = draw_operand(random, line);
    if (!operand || !operand->rank) return;
    int d = (int)test_range(random, 0, operand->rank - 1);
    int64_t from = operand->shape[d];
    int64_t near = from < INT64_MAX ? from + 2 * test_range(random, 0, 1) - 1 : 0;
    int64_t to = test_range(random, 0, 1) ? TEST_PICK(random, sizes) : near;
    if (test_range(random, 0, 1)) set_dim(operand, d, to);
    else if (to >= 0) set_dims_of(line, from, to);
}

/* A huge size needs no memory beside a size of zero. */
static void empty_and_huge(test_random *random, case_line *line) {
    static const int64_t sizes[] = { 1LL << 31, 1LL << 32, 1LL << 40, 1LL << 61, INT64_MAX };
    case_operand *operand = draw_operand(random, line);
    if (!operand || operand->rank < 2) return;
    int d = (int)test_range(random, 0, operand->rank - 1), e = (int)test_range(random, 0, operand->rank - 2);
    int64_t size = TEST_PICK(random, sizes), from = operand->shape[d], other = operand->shape[e += e >= d];
    if (test_range(random, 0, 1)) set_dims_of(line, other, 0);
    else set_dim(operand, e, 0);
    if (test_range(random, 0, 1)) set_dims_of(line, from, size);
    else set_dim(operand, d, size);
}

static void change_rank(test_random *random, case_line *line) {
    case_operand *operand = draw_operand(random, line);
    if (!operand) return;
    const case_operand before = *operand;
    int d = (int)test_range(random, 0, operand->rank);
    size_t tail = (size_t)(operand->rank - d) * sizeof *operand->shape;
    if (test_range(random, 0, 1) && d < operand->rank) {
        memmove(operand->shape + d, operand->shape + d + 1, tail - sizeof *operand->shape);
        operand->rank--;
    } else if (operand->rank < PSG_MAX_RANK) {
        memmove(operand->shape + d + 1, operand->shape + d, tail);
        operand->shape[d] = 1;
        operand->rank++;
        set_dim(operand, d, test_range(random, 0, 2));
    }
    if (elements(operand) < 0 || elements(operand) > LARGEST_OPERAND) *operand = before;
    fit_values(operand);
}

static void swap_dims(test_random *random, case_line *line) {
    case_operand *operand = draw_operand(random, line);
    if (!operand || operand->rank < 2) return;
    int a = (int)test_range(random, 0, operand->rank - 1), b = (int)test_range(random, 0, operand->rank - 1);
    int64_t size = operand->shape[a];
    operand->shape[a] = operand->shape[b];
    operand->shape[b] = size;
}

static void change_role(test_random *random, case_line *line) {
    static const int64_t roles[] = { PSG_BATCHED, PSG_CONSTANT, PSG_PARAMETER };
    case_operand *operand = draw_operand(random, line);
    if (operand) operand->role = (psg_role)TEST_PICK(random, roles);
}

static void change_presence(test_random *random, case_line *line) {
    int k = (int)test_range(random, 0, operand_count(line) - 1);
    if (!line->op->rule[k].optional) return;
    case_operand *operand = &line->operand[k], *other = draw_operand(random, line);
    if (operand->present || !other) {
        operand->present = 0;
    } else {
        *operand = *other;
        operand->role = line->op->rule[k].role;
    }
}

static void change_kind(test_random *random, case_line *line) {
    case_operand *operand = draw_operand(random, line);
    if (!operand) return;
    operand->kind = (case_kind)test_range(random, CASE_REAL, CASE_INTEGER);
    operand->integer = test_range(random, 0, 1) ? PSG_I32 : PSG_I64;
    operand->value_count = 0;
}

static double draw_value(test_random *random, const case_operand *operand) {
    const double reals[] = { NAN, INFINITY, -INFINITY, 0, -1, 1e300, -1e300, 1e-300, 1e38, 0.5 };
    const double wide[] = { -1, (double)INT64_MIN, 0x1.fffffffffffffp62, 0x1p31, 0x1p32, (double)operand->high, 0 };
    const double narrow[] = { -1, INT_MIN, INT_MAX, (double)operand->high, 0 };
    if (operand->kind != CASE_INTEGER) return reals[test_range(random, 0, 9)];
    double value = operand->integer == PSG_I32 ? narrow[test_range(random, 0, 4)] : wide[test_range(random, 0, 6)];
    return operand->integer == PSG_I32 ? fmin(value, INT_MAX) : fmin(value, 0x1.fffffffffffffp62);
}

/* One element of a small operand, or all. */
static void change_data(test_random *random, case_line *line) {
    case_operand *operand = draw_operand(random, line);
    int64_t count = operand ? elements(operand) : 0;
    if (!count) return;
    if (count <= CASE_VALUES && test_range(random, 0, 1)) {
        psg_tensor drawn = psg_tensor_of(PSG_F64, operand->values, 1, &count);
        case_fill(line, (int)(operand - line->operand), &drawn);
        operand->value_count = (int)count;
        operand->values[test_range(random, 0, count - 1)] = draw_value(random, operand);
    } else {
        operand->value_count = 1;
        operand->values[0] = draw_value(random, operand);
    }
}

/* Rows of weights that the front reads are as many as the table has operands for. */
static void draw_number(test_random *random, const char *option, const char *old, char text[64]) {
    static const int64_t numbers[] = { 0,
                                       1,
                                       2,
                                       3,
                                       -1,
                                       -2,
                                       7,
                                       INT_MIN,
                                       INT_MAX,
                                       INT64_MIN,
                                       INT64_MAX,
                                       1LL << 31,
                                       1LL << 32,
                                       1LL << 40,
                                       9,
                                       100,
                                       INT64_MAX / 2,
                                       -(1LL << 31) - 1,
                                       INT64_MIN + 1,
                                       1LL << 62 };
    static const char *const reals[] = { "nan", "inf", "-inf", "0", "-1", "1e300", "1e-300", "0.5", "2" };
    int64_t number = TEST_PICK(random, numbers);
    if (test_range(random, 0, 2) == 0) {
        number = (int64_t)((uint64_t)strtoll(old, NULL, 10) + (uint64_t)(2 * test_range(random, 0, 1) - 1));
    }
    if (begins(option, "num_layers") && number > LAYERS) number = LAYERS;
    if (strchr(old, '.') || strchr(old, 'e') || test_range(random, 0, 9) == 0) {
        snprintf(text, 64, "%s", reals[test_range(random, 0, 8)]);
    } else {
        snprintf(text, 64, "%lld", (long long)number);
    }
}

static int is_number(const char *text) { return *text == '-' || (*text >= '0' && *text <= '9'); }

/* One of the numbers of key=1,2,...; or one more; or one less. */
static void change_number(test_random *random, case_line *line, int k) {
    char word[WORD], number[64];
    const char *option = option_at(line, k), *values = option + key_length(option);
    if (!*values || !is_number(values + 1) || strlen(option) > WORD - 66) return;
    int count = 1;
    for (const char *c = values; *c; c++) count += *c == ',';
    const char *at = values + 1;
    for (int64_t skip = test_range(random, 0, count - 1); skip; skip--) at = strchr(at, ',') + 1;
    draw_number(random, option, at, number);
    const char *rest = at + strcspn(at, ",");
    int64_t way = test_range(random, 0, 7);
    if (way == 0) snprintf(word, sizeof word, "%s,%s", option, number);
    else if (way == 1 && count > 1) snprintf(word, sizeof word, "%.*s", (int)(at - 1 - option), option);
    else snprintf(word, sizeof word, "%.*s%s%s", (int)(at - option), option, number, rest);
    if (strcmp(word + key_length(word), "=")) set_option(line, k, word);
}

static void change_option(test_random *random, case_line *line) {
    if (!line->option_count) return;
    int k = (int)test_range(random, 0, line->option_count - 1);
    if (test_range(random, 0, 4)) change_number(random, line, k);
    else set_option(line, k, "");
}

/* One of another line's; its numbers may change too. */
static void borrow_option(test_random *random, const case_table *table, case_line *line) {
    const case_line *other = &table->line[test_range(random, 0, table->count - 1)];
    if (!other->option_count) return;
    const char *option = option_at(other, (int)test_range(random, 0, other->option_count - 1));
    if (is_of_checks(option) || has_key(line, option)) return;
    set_option(line, line->option_count, option);
    if (test_range(random, 0, 1)) change_number(random, line, line->option_count - 1);
}

static void toggle_flag(test_random *random, case_line *line) {
    static const char *const flags[] = { "batch_second",  "mean",       "ordinary",   "evaluation", "allow_updates",
                                         "no_input_grad", "reduction=", "reduction=", "frozen=" };
    static const char *const reductions[] = { "none", "sum", "mean", "batchmean" };
    const char *flag = flags[test_range(random, 0, 8)];
    char word[WORD];
    snprintf(word, sizeof word, "%s", flag);
    if (*flag == 'r') strcat(word, reductions[test_range(random, 0, 3)]);
    if (*flag == 'f') strcat(word, line->op->rule[test_range(random, 0, operand_count(line) - 1)].name);
    int k = line->option_count;
    for (int i = 0; i < line->option_count; i++) {
        if (key_length(option_at(line, i)) == key_length(flag) &&
            !strncmp(option_at(line, i), flag, key_length(flag))) {
            k = i;
        }
    }
    set_option(line, k, k < line->option_count && !strchr(flag, '=') ? "" : word);
}

void mutation_draw(test_random *random, const case_table *table, const case_line *line, case_line *mutated) {
    *mutated = *line;
    drop_checks(mutated);
    for (int64_t changes = test_range(random, 1, 3); changes; changes--) {
        switch (test_range(random, 0, 15)) {
        case 0:
        case 1:
        case 2:
            change_dim(random, mutated);
            break;
        case 3:
            change_rank(random, mutated);
            break;
        case 4:
            test_range(random, 0, 1) ? swap_dims(random, mutated) : empty_and_huge(random, mutated);
            break;
        case 5:
            change_role(random, mutated);
            break;
        case 6:
            change_presence(random, mutated);
            break;
        case 7:
            change_kind(random, mutated);
            break;
        case 8:
        case 9:
            change_data(random, mutated);
            break;
        case 10:
            toggle_flag(random, mutated);
            break;
        case 11:
        case 12:
            borrow_option(random, table, mutated);
            break;
        default:
            change_option(random, mutated);
            break;
        }
    }
}

/* ---- writing ---- */

typedef struct writer {
    char *text;
    size_t used;
} writer;

static void put(writer *w, const char *format, ...) PSG_PRINTF(2, 3);

static void put(writer *w, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t left = w->used < MUTATION_TEXT ? MUTATION_TEXT - w->used : 0;
    w->used += (size_t)vsnprintf(left ? w->text + w->used : NULL, left, format, arguments);
    va_end(arguments);
}

static void put_operand(writer *w, const case_rule *rule, const case_operand *operand) {
    static const char *const roles[] = { "", "batched", "constant", "parameter" };
    static const char *const kinds[] = { "real", "unit", "positive" };
    put(w, " | %s %s", rule->name, operand->rank ? "" : "()");
    for (int d = 0; d < operand->rank; d++) put(w, d ? ",%lld" : "%lld", (long long)operand->shape[d]);
    if (operand->role != rule->role) put(w, " %s", roles[operand->role]);
    if (operand->kind == CASE_INTEGER) {
        put(w, " >=%lld <%lld %s", (long long)operand->low, (long long)operand->high,
            operand->integer == PSG_I32 ? "i32" : "i64");
    } else if (operand->kind != rule->kind) {
        put(w, " %s", kinds[operand->kind]);
    }
    if (operand->divisor != 1) put(w, " /%.17g", operand->divisor);
    for (int k = 0; k < operand->value_count; k++) put(w, k ? ",%.17g" : " =%.17g", operand->values[k]);
}

int mutation_write(const case_line *line, char *text) {
    writer w = { text, 0 };
    put(&w, "%s | %s", line->op->name, line->name);
    for (int k = 0; k < operand_count(line); k++) {
        if (line->operand[k].present) put_operand(&w, &line->op->rule[k], &line->operand[k]);
    }
    put(&w, " |");
    for (int k = 0; k < line->option_count; k++) put(&w, " %s", option_at(line, k));
    return w.used < MUTATION_TEXT;
}
