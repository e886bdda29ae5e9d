/* Runs the audits: one line each, and failure where one fails. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "audit.h"

typedef struct choice {
    uint64_t seed;
    const char *audit;          /* NULL: all */
    int64_t n, most;            /* 0: each audit's own; most n of each, 0: no limit */
} choice;

static void print_help(const char *program) {
    printf("Usage: %s [options]\n"
           "Audits psg_dp from outside; one line an audit.\n\n"
           "  --audit NAME   this one alone\n"
           "  --n N          instead of the audit's own size; at least what it needs\n"
           "  --most N       sizes above N are N\n"
           "  --seed S       key of everything (1)\n"
           "  --fresh        a seed of the operating system's, which is printed: a false alarm once in 10,000 runs\n\n",
           program);
    for (int k = 0; k < audit_count; k++) {
        const audit *a = &audit_list[k];
        printf("  %-10s %lld %s, at least %lld\n", a->name, (long long)a->n, a->counts, (long long)a->least);
    }
}

static int draw_seed(uint64_t *seed) {
    if (getrandom(seed, sizeof *seed, 0) != (ssize_t)sizeof *seed) return -1;
    printf("--seed %llu\n", (unsigned long long)*seed);
    return 0;
}

static int read_choice(choice *c, int argc, char **argv) {
    static const struct option known[] = {
        { "audit", required_argument, NULL, 'a' }, { "n", required_argument, NULL, 'n' },
        { "most", required_argument, NULL, 'm' },  { "seed", required_argument, NULL, 's' },
        { "fresh", no_argument, NULL, 'f' },       { "help", no_argument, NULL, 'h' }, { 0 },
    };
    *c = (choice){ .seed = 1 };
    for (int k; (k = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (k) {
        case 'a': c->audit = optarg; break;
        case 'n': c->n = strtoll(optarg, NULL, 10); break;
        case 'm': c->most = strtoll(optarg, NULL, 10); break;
        case 's': c->seed = strtoull(optarg, NULL, 10); break;
        case 'f': if (draw_seed(&c->seed)) return -1; break;
        case 'h': print_help(argv[0]); return 1;
        default: return -1;
        }
    }
    return optind == argc && c->n >= 0 && c->most >= 0 ? 0 : -1;
}

static bool run(const choice *c, const audit *a) {
    audit_options options = { c->seed, c->n ? c->n : a->n };
    if (c->most && options.n > c->most) options.n = c->most;
    if (options.n < a->least) options.n = a->least;
    const audit_report report = a->run(&options);
    printf("%-9s %s  %lld %s: %s\n", a->name, report.passed ? "passed" : "FAILED", (long long)options.n, a->counts,
           report.text);
    fflush(stdout);
    return report.passed;
}

int main(int argc, char **argv) {
    choice c;
    int read = read_choice(&c, argc, argv), ran = 0, failed = 0;
    if (read < 0) fprintf(stderr, "see %s --help\n", argv[0]);
    if (read) return read > 0 ? EXIT_SUCCESS : 2;
    for (int k = 0; k < audit_count; k++) {
        if (c.audit && strcmp(c.audit, audit_list[k].name)) continue;
        failed += !run(&c, &audit_list[k]);
        ran++;
    }
    if (!ran) fprintf(stderr, "no audit is called %s: %s --help\n", c.audit, argv[0]);
    return failed || !ran ? EXIT_FAILURE : EXIT_SUCCESS;
}
