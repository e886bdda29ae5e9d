#include "bench_options.h"

#include "case_lines.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const bench_op *const bench_ops[] = { &bench_linear, &bench_questions, &bench_layer_norm, &bench_group_norm,
                                      &bench_conv1d, &bench_conv2d, &bench_conv3d, &bench_instance_norm,
                                      &bench_embedding, &bench_lstm, &bench_attention, &bench_mlp_step,
                                      &bench_cnn_mnist_step, &bench_cnn_group_norm_step, &bench_transformer_step,
                                      &bench_gpt2_step, &bench_mlp_small_step, &bench_gru_small_step, &bench_tensors,
                                      &bench_noise };
const size_t bench_op_count = sizeof bench_ops / sizeof *bench_ops;

const bench_op *bench_find_op(const char *name, const char *question) {
    for (size_t k = 0; k < bench_op_count; k++) {
        if (strcmp(bench_ops[k]->name, name) != 0) continue;
        if (!question) return bench_ops[k];
        for (const char *const *q = bench_ops[k]->questions; *q; q++) {
            if (strcmp(*q, question) == 0) return bench_ops[k];
        }
    }
    return NULL;
}

static void print_help(const char *program) {
    printf("Usage: %s [options]\n"
           "Times libpsg against the limits of the machine and against naive loops.\n\n"
           "  --json               a header object, then one object a row, each in a line\n"
           "  --engines            products by OpenBLAS and by the library's own kernel, side by side, f32 and f64\n"
           "  --html FILE          a page too: rooflines, bars; with --engines, of the list and then of products\n"
           "  --peers FILE         for that page, what bench/measure/peers.py --json printed\n"
           "  --growth             times of doubled problems and their exponents\n"
           "  --passes             steps of models, pass by pass: private, or the --question\n"
           "  --op OP              only this op\n"
           "  --question QUESTION  only this question\n"
           "  --problem N,N,...    this problem instead of the list; needs --op\n"
           "  --case LINE          this line of the op's case table instead of the list; needs --op\n"
           "  --threads N          0: as many as there are processors (0)\n"
           "  --dtype f32|f64      (f32)\n"
           "  --budget MIB         memory budget of the plans\n"
           "  --route ROUTE        identity, gram, tiles, keep or recompute, where it applies\n"
           "  --help\n\nOps, the fields of their problems, their questions (the first is the default):\n", program);
    for (size_t k = 0; k < bench_op_count; k++) {
        printf("  %-20s %-29s", bench_ops[k]->name, bench_ops[k]->fields);
        for (const char *const *q = bench_ops[k]->questions; *q; q++) printf(" %s", *q);
        putchar('\n');
    }
    puts("\nB samples, T positions, D features, C channels of HW elements in G groups, N numbers; convolutions,\n"
         "of kernels k wide in each dimension, pad as much as gives an output of ceil(H / stride). The lines of\n"
         "--case, for convolutions, instance_norm, embedding, lstm and multi_head_attention, are those of\n"
         "test/cases when this program was built. Steps of models: private is a whole step of DP-SGD, plain the\n"
         "library's own step without privacy, clipped_sum the backward and clipped sum beside the plain backward.\n"
         "mlp is 784-512-256-10, mlp_small 784-32-10, gru_small two layers of 32 on 20 steps, gpt2 GPT-2 small on\n"
         "256 tokens; sparse answers a look-up table by sparse rows.");
}

/* Whole numbers >= 1 separated by commas. */
static int read_problem(const char *text, bench_options *options) {
    char *end;
    options->has_problem = 1;
    for (options->dim_count = 0; options->dim_count < BENCH_MAX_DIMS; text = end + 1) {
        errno = 0;
        int64_t value = strtoll(text, &end, 10);
        if (end == text || value < 1 || errno != 0) break;
        options->dim[options->dim_count++] = value;
        if (*end == 0) return 0;
        if (*end != ',') break;
    }
    fprintf(stderr, "--problem: at most %d whole numbers above 0, separated by commas\n", BENCH_MAX_DIMS);
    return -1;
}

static int read_number(const char *name, const char *text, unsigned long maximum, unsigned long *value) {
    char *end;
    errno = 0;
    *value = strtoul(text, &end, 10);
    if (*text >= '0' && *text <= '9' && *end == 0 && errno == 0 && *value <= maximum) return 0;
    fprintf(stderr, "--%s: %s is not a whole number from 0 to %lu\n", name, text, maximum);
    return -1;
}

static int read_dtype(const char *text, psg_dtype *dtype) {
    *dtype = strcmp(text, "f64") == 0 ? PSG_F64 : PSG_F32;
    if (strcmp(text, psg_dtype_name(*dtype)) == 0) return 0;
    fprintf(stderr, "--dtype: %s is neither f32 nor f64\n", text);
    return -1;
}

enum { JSON, ENGINES, HTML, PEER_FILE, GROWTH, PASSES, OP, QUESTION, PROBLEM, CASE, THREADS, DTYPE, BUDGET, ROUTE,
       HELP };

static const struct option long_options[] = {
    { "json", no_argument, NULL, JSON }, { "engines", no_argument, NULL, ENGINES },
    { "html", required_argument, NULL, HTML }, { "peers", required_argument, NULL, PEER_FILE },
    { "growth", no_argument, NULL, GROWTH }, { "passes", no_argument, NULL, PASSES },
    { "op", required_argument, NULL, OP },
    { "question", required_argument, NULL, QUESTION }, { "problem", required_argument, NULL, PROBLEM },
    { "case", required_argument, NULL, CASE }, { "threads", required_argument, NULL, THREADS },
    { "dtype", required_argument, NULL, DTYPE },
    { "budget", required_argument, NULL, BUDGET }, { "route", required_argument, NULL, ROUTE },
    { "help", no_argument, NULL, HELP }, { NULL, 0, NULL, 0 },
};

static int read_option(bench_options *options, int option) {
    unsigned long number;
    switch (option) {
    case JSON: options->json = 1; return 0;
    case ENGINES: options->engines = 1; return 0;
    case HTML: options->html = optarg; return 0;
    case PEER_FILE: options->peers = optarg; return 0;
    case GROWTH: options->growth = 1; return 0;
    case PASSES: options->passes = 1; return 0;
    case OP: options->op = optarg; return 0;
    case QUESTION: options->question = optarg; return 0;
    case CASE: options->line = optarg; return 0;
    case PROBLEM: return read_problem(optarg, options);
    case THREADS:
        if (read_number("threads", optarg, 64, &number) != 0) return -1;
        options->settings.threads = (unsigned)number;
        return 0;
    case DTYPE: return read_dtype(optarg, &options->settings.dtype);
    case BUDGET:
        if (read_number("budget", optarg, 1 << 20, &number) != 0) return -1;
        options->settings.budget_given = 1;
        options->settings.budget = (size_t)number << 20;
        return 0;
    case ROUTE: options->settings.route = optarg; return 0;
    default: return -1;
    }
}

bench_problem bench_given(const bench_options *options) {
    const bench_op *op = bench_find_op(options->op, options->question);
    bench_problem problem = { .op = op->name, .question = options->question ? options->question : op->questions[0] };
    memcpy(problem.dim, options->dim, sizeof problem.dim);
    problem.line = options->line;
    return problem;
}

/* A problem that cannot be run is refused before anything is measured. */
static int try(const bench_options *options, const bench_op *op) {
    char message[600];
    case_line line;
    bench_problem problem = bench_given(options);
    int is_bad = op->line && bench_line_of(op, &problem, &line, message, sizeof message);
    if (!is_bad) is_bad = bench_try(op, &problem, &options->settings, message, sizeof message) != PSG_OK;
    if (is_bad) fprintf(stderr, "--%s: %s: %s\n", problem.line ? "case" : "problem", op->name, message);
    return is_bad ? -1 : 0;
}

static int check(const bench_options *options) {
    const bench_op *op = options->op ? bench_find_op(options->op, options->question) : NULL;
    if (options->op && !op) {
        fprintf(stderr, "no op %s with question %s; see --help\n", options->op,
                options->question ? options->question : "(any)");
    } else if ((options->has_problem || options->line) && !op) {
        fputs("--problem and --case need --op\n", stderr);
    } else if (options->has_problem && options->line) {
        fputs("--problem and --case: one of the two\n", stderr);
    } else if (options->line && !op->line) {
        fprintf(stderr, "--case: %s has no table here; --problem %s\n", op->name, op->fields);
    } else if (options->has_problem && options->dim_count != op->dim_count) {
        fprintf(stderr, "--problem: %s takes %s\n", op->name, op->fields);
    } else if (options->peers && !options->html) {
        fputs("--peers needs --html, the page that shows them\n", stderr);
    } else if (options->html && (options->growth || options->passes)) {
        fputs("--html: a page of the list, a problem or --engines, neither of --growth nor of --passes\n", stderr);
    } else {
        return options->has_problem || options->line ? try(options, op) : 0;
    }
    return -1;
}

int bench_options_read(bench_options *options, int argc, char **argv) {
    int option;
    *options = (bench_options){ .op = NULL };
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == HELP) {
            print_help(argv[0]);
            return 1;
        }
        if (read_option(options, option) != 0) return -1;
    }
    if (optind == argc) return check(options);
    fprintf(stderr, "unexpected argument %s\n", argv[optind]);
    return -1;
}
