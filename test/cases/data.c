#include <stdio.h>
#include <string.h>

#include "cases.h"

/* Word k (from 0) of splitmix64. */
static uint64_t word_at(uint64_t seed, uint64_t k) {
    uint64_t z = seed + (k + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint64_t case_seed(const case_line *line, const char *operand) {
    char text[3 * CASE_NAME];
    snprintf(text, sizeof text, "%s/%s/%s", line->op->name, line->name, operand);
    uint64_t hash = 0xCBF29CE484222325u;
    for (const char *c = text; *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001B3u;
    return hash;
}

static double real_of(uint64_t word) { return (double)(2 * (int64_t)(word >> 40) + 1 - (1 << 24)) * 0x1p-24; }

static double unit_of(uint64_t word) { return (double)(2 * (word >> 42) + 1) * 0x1p-23; }

static double element(const case_operand *operand, uint64_t seed, int64_t k) {
    if (operand->value_count) return operand->values[k % operand->value_count];
    uint64_t word = word_at(seed, (uint64_t)k);
    switch (operand->kind) {
    case CASE_UNIT:
        return unit_of(word) / operand->divisor;
    case CASE_POSITIVE:
        return (0.5 + unit_of(word)) / operand->divisor;
    case CASE_INTEGER:
        return (double)(operand->low + (int64_t)(word % (uint64_t)(operand->high - operand->low)));
    default:
        return real_of(word) / operand->divisor;
    }
}

static void store(const psg_tensor *tensor, int64_t k, double value) {
    switch (tensor->dtype) {
    case PSG_F32:
        ((float *)tensor->data)[k] = (float)value;
        break;
    case PSG_F64:
        ((double *)tensor->data)[k] = value;
        break;
    case PSG_I32:
        ((int32_t *)tensor->data)[k] = (int32_t)value;
        break;
    case PSG_I64:
        ((int64_t *)tensor->data)[k] = (int64_t)value;
        break;
    }
}

void case_fill(const case_line *line, int k, const psg_tensor *tensor) {
    uint64_t seed = case_seed(line, line->op->rule[k].name);
    int64_t count = psg_tensor_count(tensor);
    for (int64_t i = 0; i < count; i++) store(tensor, i, element(&line->operand[k], seed, i));
}

void case_fill_reals(const case_line *line, const char *name, const psg_tensor *tensor) {
    uint64_t seed = case_seed(line, name);
    int64_t count = psg_tensor_count(tensor);
    for (int64_t i = 0; i < count; i++) store(tensor, i, real_of(word_at(seed, (uint64_t)i)));
}

void case_fill_integers(const case_line *line, const char *name, int64_t high, const psg_tensor *tensor) {
    uint64_t seed = case_seed(line, name);
    int64_t count = psg_tensor_count(tensor);
    for (int64_t i = 0; i < count; i++) store(tensor, i, (double)(word_at(seed, (uint64_t)i) % (uint64_t)high));
}
