/* make mutations: random mutations of all case lines, see mutation.h.
 *
 *     mutations [--count N] [--seconds N] [--seed S] [--op OP] [--verbose 1]
 *     mutations --line "op | line" [--real 64] [--attributes S]
 *
 * Ends with "N passed, N failed". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mutation.h"

typedef struct options {
    long long count;
    double seconds;
    uint64_t seed, attributes;
    const char *only, *line;
    psg_dtype real;
} options;

static int read_options(int argc, char **argv, options *o, mutation_tally *tally) {
    for (int k = 1; k + 1 < argc; k += 2) {
        if (!strcmp(argv[k], "--count")) o->count = atoll(argv[k + 1]);
        else if (!strcmp(argv[k], "--seconds")) o->seconds = atof(argv[k + 1]);
        else if (!strcmp(argv[k], "--seed")) o->seed = strtoull(argv[k + 1], NULL, 10);
        else if (!strcmp(argv[k], "--attributes")) o->attributes = strtoull(argv[k + 1], NULL, 10);
        else if (!strcmp(argv[k], "--op")) o->only = argv[k + 1];
        else if (!strcmp(argv[k], "--line")) o->line = argv[k + 1];
        else if (!strcmp(argv[k], "--real")) o->real = atoi(argv[k + 1]) == 64 ? PSG_F64 : PSG_F32;
        else if (!strcmp(argv[k], "--verbose")) tally->verbose = atoi(argv[k + 1]);
        else return 0;
    }
    return argc % 2;
}

static long long tried(const mutation_tally *tally) { return tally->ran + tally->refused; }

static int is_over(const options *o, const mutation_tally *tally) {
    static double start;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    double now = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    if (start == 0) start = now;
    return tried(tally) >= o->count || now - start > o->seconds;
}

static void try_table(test_random *random, const case_op *op, const options *o, mutation_tally *tally) {
    char message[512];
    case_table table;
    mutation_bench bench;
    mutation_open(&bench, tally);
    if (case_table_read(op, PSG_CASES_DIR, &table, message, sizeof message)) {
        puts(message);
        tally->failed++;
    }
    for (int k = 0; k < table.count && !is_over(o, tally); k++) {
        case_line mutated;
        if (case_flag(&table.line[k], "bench")) continue;
        uint64_t attributes = test_range(random, 0, 2) ? 0 : test_random_bits(random) | 2;
        if (attributes) mutated = table.line[k];
        else mutation_draw(random, &table, &table.line[k], &mutated);
        mutation_try(&bench, &mutated, (psg_dtype)test_range(random, PSG_F32, PSG_F64), attributes);
    }
    case_table_free(&table);
    mutation_close(&bench, op->name);
}

static int replay(const options *o, mutation_tally *tally) {
    mutation_bench bench;
    mutation_open(&bench, tally);
    mutation_try_text(&bench, o->line, o->real, o->attributes);
    printf("%s\n", tally->ran ? "ran" : psg_context_message(bench.context));
    mutation_close(&bench, o->line);
    return tally->failed > 0;
}

int main(int argc, char **argv) {
    mutation_tally tally = { .ran = 0 };
    options o = { 100000, 1e9, 1, 0, NULL, NULL, PSG_F32 };
    if (!read_options(argc, argv, &o, &tally)) {
        fputs("usage: mutations [--count N] [--seconds N] [--seed S] [--op OP] [--line \"op | line\"] [--real 32|64] "
              "[--attributes S] [--verbose 1]\n",
              stderr);
        return 2;
    }
    mutation_watch();
    if (o.line) return replay(&o, &tally);
    test_random random = { o.seed };
    while (!is_over(&o, &tally)) {
        const case_op *op;
        for (int k = 0; (op = case_op_at(k)); k++) {
            if (!o.only || !strcmp(op->name, o.only)) try_table(&random, op, &o, &tally);
        }
    }
    printf("%lld mutated lines ran, %lld were refused\n", tally.ran, tally.refused);
    printf("%lld passed, %lld failed\n", tried(&tally) - tally.failed, tally.failed);
    return tally.failed > 0;
}
