#include "case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CHECK_FLOPS 2e9

void *bench_memory(bench_case *c, size_t bytes) {
    if (c->array_count == BENCH_MAX_ARRAYS) bench_die("a case of more than %d arrays", BENCH_MAX_ARRAYS);
    return c->array[c->array_count++] = bench_alloc(bytes);
}

void bench_case_close(bench_case *c) {
    if (c->destroy) c->destroy(c);
    for (int k = 0; k < c->array_count; k++) free(c->array[k]);
}

psg_tensor bench_zeros(bench_case *c, int rank, const int64_t *shape) {
    psg_tensor tensor = psg_tensor_of(c->dtype, c, rank, shape);
    int64_t count = psg_tensor_count(&tensor);
    if (count < 0) bench_die("%s: a problem whose arrays do not fit 64 bits", c->problem->op);
    tensor.data = bench_memory(c, (size_t)count * psg_dtype_size(c->dtype));
    return tensor;
}

/* splitmix64 (Steele, Lea and Flood, 2014) */
static double uniform(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-52 - 1.0;
}

psg_tensor bench_uniform(bench_case *c, double bound, int rank, const int64_t *shape) {
    psg_tensor tensor = bench_zeros(c, rank, shape);
    int64_t count = psg_tensor_count(&tensor);
    for (int64_t i = 0; i < count; i++) {
        double value = bound * uniform(&c->random);
        if (c->dtype == PSG_F64) ((double *)tensor.data)[i] = value;
        else ((float *)tensor.data)[i] = (float)value;
    }
    return tensor;
}

double bench_gaussian(uint64_t *state) {
    double radius = sqrt(-2.0 * log(0.5 * (1.0 - uniform(state)))), angle = M_PI * uniform(state);
    return radius * cos(angle);
}

static double element(psg_dtype dtype, const void *data, int64_t i) {
    return dtype == PSG_F64 ? ((const double *)data)[i] : (double)((const float *)data)[i];
}

double *bench_to_f64(bench_case *c, const psg_tensor *tensor) {
    int64_t count = psg_tensor_count(tensor);
    double *copy = bench_memory(c, (size_t)count * sizeof *copy);
    for (int64_t i = 0; i < count; i++) copy[i] = element(tensor->dtype, tensor->data, i);
    return copy;
}

void *bench_at(const psg_tensor *tensor, int64_t i) {
    return (char *)tensor->data + i * (int64_t)psg_dtype_size(tensor->dtype);
}

static void add_pass(bench_case *c, bench_pass pass) {
    if (c->pass_count == BENCH_MAX_PASSES) bench_die("a case of more than %d passes", BENCH_MAX_PASSES);
    c->pass[c->pass_count++] = pass;
}

void bench_add_pass(bench_case *c, double flops, double read, double written) {
    add_pass(c, (bench_pass){ flops, read, written, 0 });
}

void bench_add_clear(bench_case *c, double bytes) { add_pass(c, (bench_pass){ .cleared = bytes }); }

int bench_asks(const bench_case *c, const char *question) {
    return strcmp(c->problem->question, question) == 0;
}

double bench_error(const bench_case *c, int64_t count, const void *computed, const double *reference) {
    double error = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        double difference = element(c->dtype, computed, i) - reference[i];
        error += difference * difference;
        norm += reference[i] * reference[i];
    }
    return sqrt(error / norm);
}

int64_t bench_check_count(const bench_case *c, double flops) {
    double most = fmin(4.0, fmin(MAX_CHECK_FLOPS / flops, (double)c->samples));
    return most < 1.0 ? 1 : (int64_t)most;
}
