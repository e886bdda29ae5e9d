/* make law: the law "one sample, one result" on drawn batches of all case lines and of the larger ones of test/law.txt,
 * until the time is over.
 *
 *     law [--seconds N] [--seed S] [--case OP|OP/LINE]
 *
 * A trial: a line, a real type, an instruction set, a number of threads, a budget, a batch with neighbours; ends with
 * "N passed, N failed" (results compared). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "alone.h"
#include "support.h"

enum { LARGEST = 3000, CHECKED = 6, MAX_BATCH_SIZE = 4096 };

typedef struct options {
    double seconds;
    uint64_t seed;
    const char *only; /* an op, or op/line; NULL: all */
} options;

static int is_wanted(const options *o, const case_line *line) {
    char name[2 * CASE_NAME + 2];
    snprintf(name, sizeof name, "%s/%s", line->op->name, line->name);
    return !o->only || !strcmp(o->only, name) || !strcmp(o->only, line->op->name);
}

typedef struct tally {
    long long passed, failed, trials, refused;
} tally;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Elements of all operands of a sample, so that large lines get small batches. */
static double weight_of(const case_line *line) {
    double sum = 0;
    for (int k = 0; k < CASE_OPERANDS; k++) {
        const case_operand *operand = &line->operand[k];
        double count = operand->present;
        for (int d = operand->role == PSG_BATCHED; d < operand->rank; d++) count *= (double)operand->shape[d];
        sum += count;
    }
    return sum;
}

/* 1 .. 17 mostly, 33, 65, 300, for small lines 3,000. */
static int64_t draw_batch(test_random *random, const case_line *line) {
    static const int64_t large[] = { 33, 65, 300, 300, LARGEST };
    int64_t batch = test_range(random, 0, 3) ? test_range(random, 1, 17) : TEST_PICK(random, large);
    double most = (batch == LARGEST ? 1e5 : 3e6) / weight_of(line);
    return (double)batch > most && batch > 3 ? 3 : batch;
}

static void draw_picks(test_random *random, int64_t *pick, int64_t batch, int64_t pool) {
    int64_t neighbours = test_range(random, 0, 2);
    for (int64_t n = 0; n < batch; n++) {
        int64_t strange = neighbours && test_range(random, 0, 3) == 0;
        pick[n] = strange ? -test_range(random, 1, 3) : test_range(random, 0, pool - 1);
    }
}

static void try_line(test_random *random, const case_line *line, tally *t) {
    static const int64_t threads[] = { 1, 2, 3, 5 };
    static const char *isas[3];
    static size_t isa_count;
    size_t budget[ALONE_BUDGETS];
    if (!isa_count) isa_count = test_isas(isas);
    int64_t pick[LARGEST + 1], batch = draw_batch(random, line);
    alone_setting setting = { .real = (psg_dtype)test_range(random, 0, 1), .max_batch_size = MAX_BATCH_SIZE };
    setting.isa = isas[test_range(random, 0, (int64_t)isa_count - 1)];
    setting.threads = (unsigned)TEST_PICK(random, threads);
    alone_budgets(line, setting.real, MAX_BATCH_SIZE, budget);
    setting.budget = budget[test_range(random, 0, ALONE_BUDGETS - 1)];
    setting.accumulate = test_range(random, 0, 3) == 0;
    setting.wide = test_range(random, 0, 1) == 0;
    alone_case c;
    if (!alone_open(&c, line, &setting, batch + 1)) {
        t->refused++;
        return;
    }
    draw_picks(random, pick, batch, batch + 1);
    alone_check(&c, pick, batch, CHECKED);
    int64_t cut = test_range(random, 0, batch);
    alone_check(&c, pick + cut, batch - cut, 2); /* a micro-batch */
    alone_check_joined(&c, pick, batch, batch, cut);
    t->passed += c.passed;
    t->failed += c.failed;
    t->trials++;
    alone_close(&c);
}

static void try_table(test_random *random, const case_op *op, const options *o, tally *t, double end) {
    char message[512];
    case_table table;
    if (case_table_read(op, PSG_CASES_DIR, &table, message, sizeof message)) {
        puts(message);
        t->failed++;
    }
    for (int k = 0; k < table.count && now() < end; k++) {
        if (alone_applies(&table.line[k]) && is_wanted(o, &table.line[k])) try_line(random, &table.line[k], t);
    }
    case_table_free(&table);
}

/* "op | line" */
static void try_text(test_random *random, char *text, const options *o, tally *t) {
    char message[512], *rest = strchr(text, '|');
    case_line line;
    if (*text == '#' || !rest) return;
    *rest++ = 0;
    text[strcspn(text, " ")] = 0;
    rest[strcspn(rest, "\n")] = 0;
    const case_op *op = alone_op_find(text);
    if (!op || case_line_parse(op, rest, &line, message, sizeof message)) {
        printf("test/law.txt: %s\n", op ? message : text);
        t->failed++;
        return;
    }
    if (is_wanted(o, &line)) try_line(random, &line, t);
}

static void try_file(test_random *random, const options *o, tally *t, double end) {
    char text[4096];
    FILE *file = fopen(PSG_CASES_DIR "/../law.txt", "r");
    if (!file) {
        puts("test/law.txt cannot be read");
        t->failed++;
        return;
    }
    while (fgets(text, sizeof text, file) && now() < end) try_text(random, text, o, t);
    fclose(file);
}

static int read_options(int argc, char **argv, options *o) {
    for (int k = 1; k + 1 < argc; k += 2) {
        if (!strcmp(argv[k], "--seconds")) o->seconds = atof(argv[k + 1]);
        else if (!strcmp(argv[k], "--seed")) o->seed = strtoull(argv[k + 1], NULL, 10);
        else if (!strcmp(argv[k], "--case")) o->only = argv[k + 1];
        else return 0;
    }
    return argc % 2;
}

int main(int argc, char **argv) {
    options o = { 60, 1, NULL };
    if (!read_options(argc, argv, &o)) {
        fputs("usage: law [--seconds N] [--seed S] [--case OP|OP/LINE]\n", stderr);
        return 2;
    }
    test_random random = { o.seed };
    tally t = { 0 };
    double end = now() + o.seconds;
    while (now() < end) {
        const case_op *op;
        for (int k = 0; (op = case_op_at(k)); k++) {
            try_table(&random, op, &o, &t, end);
        }
        try_file(&random, &o, &t, end);
    }
    printf("%lld trials, %lld lines not at another batch size\n", t.trials, t.refused);
    printf("%lld passed, %lld failed\n", t.passed, t.failed);
    return t.failed > 0;
}
