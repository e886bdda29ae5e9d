/* The command line of psg-bench: what it refuses, before anything is measured, and what sizes make of an op's pattern.
 * The test runs in a folder that holds nothing. */
#include "support.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../bench/measure/bench_options.h"
#include "../bench/measure/case_lines.h"

/* ---- reading ---- */

enum { MOST_ARGUMENTS = 12 };
static char said[4096];

/* Words of a command line; what is printed to stderr is kept in `said`. */
static int reads(const char *line, bench_options *options) {
    static char text[512];
    char *argument[MOST_ARGUMENTS] = { "psg-bench" };
    int count = 1, copy = dup(STDERR_FILENO);
    FILE *file = tmpfile();
    assert_non_null(file);
    strcpy(text, line);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) argument[count++] = word;
    assert_true(count < MOST_ARGUMENTS);
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    optind = 0;
    int result = bench_options_read(options, count, argument);
    fflush(stderr);
    dup2(copy, STDERR_FILENO);
    close(copy);
    rewind(file);
    said[fread(said, 1, sizeof said - 1, file)] = 0;
    fclose(file);
    return result;
}

typedef struct refusal { const char *line, *words; } refusal;

static void wrong_arguments_are_refused_by_name(void **state) {
    static const refusal rows[] = {
        { "--op conv2d --case nothing", "--case: conv2d: its table (test/cases/conv2d.txt) has no line nothing" },
        { "--op conv2d --case B64_3_64", "has no line B64_3_64" },
        { "--op linear --case module", "--case: linear has no table here; --problem B,T,in,out" },
        { "--case module", "--problem and --case need --op" },
        { "--op lstm --case module --problem 1,2,3,4", "--problem and --case: one of the two" },
        { "--op conv2d --problem 4,3,8", "--problem: conv2d takes B,C,out,H,W,k,stride,groups" },
        { "--op lstm --problem 4,3,8,8,1", "--problem: lstm takes B,T,in,hidden" },
        { "--op lstm --problem 4,0,8,8", "--problem: at most 9 whole numbers above 0" },
        { "--op lstm --problem 4,x,8,8", "--problem: at most 9 whole numbers above 0" },
        { "--op lstm --problem 1,1,1,4611686018427387904", "--problem: lstm: 4*hidden is no whole number" },
        { "--op conv1d --problem 2,3,4,8,3,1,2", "--problem: conv1d: C/groups is no whole number" },
        { "--op conv2d --problem 2,4,3,8,8,3,1,2", "--problem: conv2d: PSG_ERR_SHAPE conv: groups is 2" },
        { "--op multi_head_attention --problem 2,3,8,3", "multi_head_attention: num_heads is 3" },
        { "--op group_norm --problem 2,8,4,3", "PSG_ERR_SHAPE group_norm: " },
        { "--op conv2d --question sqnorm", "no op conv2d with question sqnorm" },
        { "--peers file", "--peers needs --html" },
        { "--html page --growth", "neither of --growth nor of --passes" },
        { "--html page --passes", "neither of --growth nor of --passes" },
        { "--cases test/cases", "unrecognized option" },
    };
    (void)state;
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        bench_options options;
        assert_int_equal(reads(rows[k].line, &options), -1);
        if (!strstr(said, rows[k].words)) fail_msg("%s: \"%s\" lacks: %s", rows[k].line, said, rows[k].words);
    }
}

static void problems_of_every_op_are_taken(void **state) {
    static const char *const lines[] = {
        "--op linear --problem 2,3,4,5",
        "--op linear --question sqnorm --problem 2,3,4,5",
        "--op conv1d --problem 2,4,6,9,3,2,2",
        "--op conv2d --problem 2,3,4,6,5,3,1,1 --question clipped_sum",
        "--op conv3d --problem 2,2,4,3,4,5,3,1,2",
        "--op instance_norm --problem 2,3,4,5",
        "--op embedding --problem 2,3,10,4",
        "--op lstm --problem 2,3,4,5 --dtype f64",
        "--op multi_head_attention --problem 2,3,8,2",
        "--op conv2d --case depthwise",
        "--op noise --problem 100",
    };
    (void)state;
    for (size_t k = 0; k < sizeof lines / sizeof lines[0]; k++) {
        bench_options options;
        if (reads(lines[k], &options)) fail_msg("%s: %s", lines[k], said);
        assert_string_equal(said, "");
    }
}

/* ---- patterns ---- */

static void check_shape(const case_line *line, int k, int rank, const int64_t *shape) {
    assert_int_equal(line->operand[k].rank, rank);
    assert_memory_equal(line->operand[k].shape, shape, (size_t)rank * sizeof *shape);
}

static void sizes_become_operands_and_options(void **state) {
    (void)state;
    char message[300];
    case_line line;
    const bench_problem conv = { .op = "conv2d", .dim = { 7, 6, 4, 9, 8, 5, 3, 2 } };
    assert_int_equal(bench_line_of(&bench_conv2d, &conv, &line, message, sizeof message), 0);
    check_shape(&line, 0, 4, (const int64_t[]){ 7, 6, 9, 8 });
    check_shape(&line, 1, 4, (const int64_t[]){ 4, 3, 5, 5 });
    check_shape(&line, 2, 1, (const int64_t[]){ 4 });
    assert_int_equal(case_int(&line, "stride", 0), 3);
    assert_int_equal(case_int(&line, "groups", 0), 2);
    assert_string_equal(case_word(&line, "padding", ""), "same");
    const bench_problem lstm = { .op = "lstm", .dim = { 2, 3, 4, 5 } };
    assert_int_equal(bench_line_of(&bench_lstm, &lstm, &line, message, sizeof message), 0);
    check_shape(&line, 0, 3, (const int64_t[]){ 2, 3, 4 });
    assert_int_equal(line.batch_size, 2);
}

/* Every line that the list of problems names is there. */
static void lines_are_those_of_the_tables(void **state) {
    (void)state;
    char message[300];
    case_line line;
    const bench_problem named = { .op = "lstm", .line = "B64_T64_128_128" };
    assert_int_equal(bench_line_of(&bench_lstm, &named, &line, message, sizeof message), 0);
    check_shape(&line, 0, 3, (const int64_t[]){ 64, 64, 128 });
    assert_true(case_flag(&line, "bench"));
}

static int leave(void **state) {
    (void)state;
    return chdir("/");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_arguments_are_refused_by_name),
        cmocka_unit_test(problems_of_every_op_are_taken),
        cmocka_unit_test(sizes_become_operands_and_options),
        cmocka_unit_test(lines_are_those_of_the_tables),
    };
    return cmocka_run_group_tests_name("bench options", tests, leave, NULL);
}
