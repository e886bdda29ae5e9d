/* How far f32 is from f64 where sums are long: no output and no gradient of an op may be more than twice as far as
 * PyTorch's, on every instruction set.
 *
 * The lines are those of test/accuracy.txt; test/golden/accuracy.txt, written by test/golden/make_accuracy.py, has a
 * line a result of each:
 *
 *     <op> <case> <output | operand> <count> <error>  <value> ...
 *
 * error is that of PyTorch's f32, ||f32 - f64|| / ||f64||; the values are some elements in f64, which pin down our f64
 * pass.  Against that one all elements of the f32 pass are held. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "case_results.h"

enum { STORED = 16, TEXT = 4096, OPS = 200 };

/* Beside PyTorch's error twice: one ulp, which is what an element of a vector mathematics function that is exact to 4
 * ulp at worst is off by on average, and what two roundings of an operation and its result make at most. */
static const double FLOOR = 0x1p-23;

typedef struct peer {
    char name[CASE_NAME];
    int64_t count;
    double error;
    int values;
    double value[STORED];
} peer;

/* ---- the stored values ---- */

static FILE *open_file(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) fail_msg("%s cannot be read", path);
    return file;
}

static void read_values(peer *p, char *text) {
    char *end;
    for (p->values = 0; p->values < STORED; p->values++, text = end) {
        p->value[p->values] = strtod(text, &end);
        if (end == text) return;
    }
}

/* The results of a case; returns how many. */
static int read_peers(const case_line *line, peer *peers) {
    FILE *file = open_file(PSG_GOLDEN_DIR "/accuracy.txt");
    char text[TEXT], op[CASE_NAME], name[CASE_NAME];
    int count = 0, length;
    while (fgets(text, sizeof text, file)) {
        peer p;
        long long elements;
        if (sscanf(text, "%63s %63s %63s %lld %lf%n", op, name, p.name, &elements, &p.error, &length) != 5) continue;
        if (strcmp(op, line->op->name) || strcmp(name, line->name) || count == CASE_OPERANDS) continue;
        p.count = elements;
        read_values(&p, text + length);
        peers[count++] = p;
    }
    fclose(file);
    return count;
}

/* ---- comparing ---- */

static const case_tensor *find_result(const case_line *line, const case_results *results, const char *name) {
    if (!strcmp(name, "output")) return &results->output;
    for (int k = 0; k < CASE_OPERANDS && line->op->rule[k].name; k++) {
        if (!strcmp(line->op->rule[k].name, name)) return &results->grad[k];
    }
    fail_msg("%s: a result called %s", case_label_of(line, "accuracy").text, name);
    return NULL;
}

static int64_t count_of(const case_tensor *tensor) { return tensor->rows * tensor->row; }

/* Places are drawn as integers of an operand "places of NAME" would be. */
static void check_pinned(const case_line *line, const peer *p, const case_tensor *exact) {
    char operand[CASE_NAME + 16];
    double *index = malloc(STORED * sizeof *index);
    int64_t stored = STORED;
    psg_tensor places = psg_tensor_of(PSG_F64, index, 1, &stored);
    snprintf(operand, sizeof operand, "places of %.63s", p->name);
    case_fill_integers(line, operand, p->count, &places);
    for (int k = 0; k < p->values; k++) {
        test_near(exact->data[(int64_t)index[k]], p->value[k], 1e-12 * (case_largest(exact) + 1),
                  case_label_of(line, p->name).text, k);
    }
    free(index);
}

/* ||actual - exact|| / ||exact|| */
static double error_of(const case_tensor *actual, const case_tensor *exact) {
    double error = 0, norm = 0;
    for (int64_t i = 0; i < count_of(exact); i++) {
        double difference = actual->data[i] - exact->data[i];
        error += difference * difference;
        norm += exact->data[i] * exact->data[i];
    }
    return error > 0 ? sqrt(error / norm) : error;
}

static void check_error(const case_line *line, const peer *p, const case_tensor *actual, const case_tensor *exact,
                        const char *isa) {
    double error = error_of(actual, exact), bound = 2 * p->error + FLOOR;
    if (error <= bound) return;
    fail_msg("%s: f32 is off by %.3g on %s, PyTorch's by %.3g, at most %.3g is allowed",
             case_label_of(line, p->name).text, error, isa, p->error, bound);
}

static int wanted_results(const case_results *results) {
    int wanted = results->output.wanted;
    for (int k = 0; k < CASE_OPERANDS; k++) wanted += results->grad[k].wanted;
    return wanted;
}

static void check_isa(const case_line *line, const peer *peers, int count, const case_results *exact, const char *isa) {
    psg_context *context = test_context(2, isa);
    static const case_way way = { .real = PSG_F32 };
    case_results results;
    case_take(context, line, &way, &results);
    for (int k = 0; k < count; k++) {
        check_error(line, &peers[k], find_result(line, &results, peers[k].name),
                    find_result(line, exact, peers[k].name), isa);
    }
    case_results_free(&results);
    test_context_free(context);
}

static void check_line(const case_line *line) {
    psg_context *context = test_context(2, NULL);
    static const case_way way = { .real = PSG_F64 };
    const char *isas[3];
    size_t isa_count = test_isas(isas);
    peer peers[CASE_OPERANDS];
    case_results exact;
    int count = read_peers(line, peers);
    case_take(context, line, &way, &exact);
    if (count != wanted_results(&exact)) {
        fail_msg("%s: %d of %d results stored (make_accuracy.py writes them)", case_label_of(line, "accuracy").text,
                 count, wanted_results(&exact));
    }
    for (int k = 0; k < count; k++) {
        const case_tensor *tensor = find_result(line, &exact, peers[k].name);
        assert_int_equal(count_of(tensor), peers[k].count);
        check_pinned(line, &peers[k], tensor);
    }
    for (size_t s = 0; s < isa_count; s++) check_isa(line, peers, count, &exact, isas[s]);
    case_results_free(&exact);
    test_context_free(context);
}

/* ---- one test an op ---- */

/* "op | line" */
static void run_op(void **state) {
    const case_op *op = *state;
    FILE *file = open_file(PSG_CASES_DIR "/../accuracy.txt");
    char text[TEXT], message[512];
    int lines = 0;
    while (fgets(text, sizeof text, file)) {
        case_line line;
        char *rest = strchr(text, '|');
        size_t name = strcspn(text, " ");
        if (*text == '#' || !rest || strlen(op->name) != name || strncmp(text, op->name, name)) continue;
        rest[strcspn(rest, "\n")] = 0;
        if (case_line_parse(op, rest + 1, &line, message, sizeof message)) fail_msg("%s: %s", op->name, message);
        check_line(&line);
        lines++;
    }
    fclose(file);
    if (!lines) fail_msg("%s has no line in test/accuracy.txt", op->name);
}

int main(void) {
    static struct CMUnitTest tests[OPS];
    size_t count = 0;
    for (const case_op *op; count < OPS && (op = case_op_at((int)count)); count++) {
        tests[count] = (struct CMUnitTest){ op->name, run_op, NULL, NULL, (void *)(uintptr_t)op };
    }
    return _cmocka_run_group_tests("accuracy", tests, count, NULL, NULL);
}
