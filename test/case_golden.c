#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "case_checks.h"

/* test/golden/cases/<op>.txt, written by test/golden/make_cases.py.  A line a result of a case:
 *
 *     <case> <output | operand> <rows> <row>  <sum 0> <sum 1> <terms> ... (three numbers a row)
 *
 * sum j = sum_i w_j[i] v[i] and terms = sum_i |v[i]| over the row; w_j is what an operand "digest0" or "digest1" of the
 * case would hold. */

typedef struct digest {
    double sum[2], terms;
} digest;

static FILE *open_digests(const case_line *line) {
    char path[512];
    snprintf(path, sizeof path, "%s/cases/%s.txt", PSG_GOLDEN_DIR, line->op->name);
    FILE *file = fopen(path, "r");
    if (!file) fail_msg("%s cannot be read", path);
    return file;
}

static double *weights_of(const case_line *line, const char *name, int64_t row) {
    double *weights = malloc((size_t)row * sizeof *weights + 8);
    psg_tensor tensor = psg_tensor_of(PSG_F64, weights, 1, &row);
    case_fill_reals(line, name, &tensor);
    return weights;
}

static void compare_row(const case_line *line, const case_tensor *result, int64_t n, double *const weights[2],
                        const digest *expected, const char *what) {
    for (int j = 0; j < 2; j++) {
        double sum = 0;
        for (int64_t i = 0; i < result->row; i++) sum += weights[j][i] * result->data[n * result->row + i];
        test_near(sum, expected->sum[j], 1e-10 * expected->terms + 1e-12, case_label_of(line, what).text, n);
    }
}

static void compare_result(const case_line *line, FILE *file, const case_tensor *result, const char *name) {
    char what[128];
    long long rows, row;
    snprintf(what, sizeof what, "digest of %s", name);
    if (fscanf(file, "%lld %lld", &rows, &row) != 2 || !result->wanted || rows != result->rows || row != result->row) {
        fail_msg("%s: another shape: %lld x %lld values", case_label_of(line, what).text, (long long)result->rows,
                 (long long)result->row);
    }
    double *weights[] = { weights_of(line, "digest0", row), weights_of(line, "digest1", row) };
    for (int64_t n = 0; n < rows; n++) {
        digest expected;
        assert_int_equal(fscanf(file, "%lf %lf %lf", &expected.sum[0], &expected.sum[1], &expected.terms), 3);
        compare_row(line, result, n, weights, &expected, what);
    }
    free(weights[0]);
    free(weights[1]);
}

static const case_tensor *find_result(const case_line *line, const case_results *results, const char *name) {
    if (!strcmp(name, "output")) return &results->output;
    for (int k = 0; k < CASE_OPERANDS && line->op->rule[k].name; k++) {
        if (!strcmp(line->op->rule[k].name, name)) return &results->grad[k];
    }
    fail_msg("%s: a digest of %s", case_label_of(line, "golden").text, name);
    return NULL;
}

static int wanted_results(const case_results *results) {
    int wanted = results->output.wanted;
    for (int k = 0; k < CASE_OPERANDS; k++) wanted += results->grad[k].wanted;
    return wanted;
}

void case_check_golden(psg_context *context, const case_line *line) {
    static const case_way way = { .real = PSG_F64 };
    case_results results;
    case_take(context, line, &way, &results);
    FILE *file = open_digests(line);
    char name[CASE_NAME], result[CASE_NAME];
    int found = 0;
    while (fscanf(file, "%63s %63s", name, result) == 2) {
        if (!strcmp(name, line->name)) {
            compare_result(line, file, find_result(line, &results, result), result);
            found++;
        } else if (fscanf(file, "%*[^\n]") < 0) {
            break;
        }
    }
    fclose(file);
    if (found != wanted_results(&results)) {
        fail_msg("%s: %d of %d digests (make_cases.py writes them)", case_label_of(line, "golden").text, found,
                 wanted_results(&results));
    }
    case_results_free(&results);
}
