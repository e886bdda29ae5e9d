/* Tries to break the law of the private sum: with f64 outs, adding or removing one record moves psg_clipped_sum by at
 * most C in the Euclidean norm, for every input. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "replay.h"
#include "report.h"

typedef struct options {
    uint64_t seed;
    int64_t pairs, pair;        /* pair -1: all */
    double seconds;             /* 0: no limit */
    bool blocks, tape;
    const char *family;         /* a part of its name, or NULL */
} options;

static void print_help(const char *program) {
    printf("Usage: %s [options]\n"
           "Draws pairs (D, D + record) and tells how far the record moved the clipped sum, as a share of C.\n\n"
           "  --seed S       (1)\n"
           "  --pairs N      this many (20000; with --seconds: no end)\n"
           "  --seconds N    stop after so long\n"
           "  --pair K       run pair K of the seed alone and describe it\n"
           "  --blocks       only blocks of a caller's own\n"
           "  --from-tape    only networks on a tape\n"
           "  --family TEXT  only families whose name holds TEXT\n", program);
}

static int read_options(options *o, int argc, char **argv) {
    static const struct option known[] = {
        { "seed", required_argument, NULL, 's' }, { "pairs", required_argument, NULL, 'n' },
        { "seconds", required_argument, NULL, 't' }, { "pair", required_argument, NULL, 'k' },
        { "blocks", no_argument, NULL, 'b' }, { "from-tape", no_argument, NULL, 'T' },
        { "family", required_argument, NULL, 'f' }, { "help", no_argument, NULL, 'h' }, { 0 },
    };
    *o = (options){ .seed = 1, .pairs = -1, .pair = -1 };
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 's': o->seed = strtoull(optarg, NULL, 10); break;
        case 'n': o->pairs = strtoll(optarg, NULL, 10); break;
        case 't': o->seconds = strtod(optarg, NULL); break;
        case 'k': o->pair = strtoll(optarg, NULL, 10); break;
        case 'b': o->blocks = true; break;
        case 'T': o->tape = true; break;
        case 'f': o->family = optarg; break;
        case 'h': print_help(argv[0]); return 1;
        default: return -1;
        }
    }
    if (o->pairs < 0) o->pairs = o->seconds > 0 ? INT64_MAX : 20000;
    return optind == argc ? 0 : -1;
}

static bool is_wanted(const options *o, int family) {
    const attack_family *f = &attack_families[family];
    if (o->family && !strstr(f->name, o->family)) return false;
    return o->blocks == o->tape || o->tape == f->tape;
}

static bool any_wanted(const options *o) {
    for (int f = 0; f < attack_family_count; f++) {
        if (is_wanted(o, f)) return true;
    }
    return false;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void search(const options *o, attack_report *report) {
    double end = o->seconds > 0 ? now() + o->seconds : 0;
    for (int64_t number = 0; report->all.pairs < o->pairs; number++) {
        attack_climb climb = attack_climb_start(o->seed, number);
        if (!is_wanted(o, climb.family)) continue;
        for (int64_t k = 0; k < ATTACK_CLIMB && report->all.pairs < o->pairs; k++) {
            attack_pair pair;
            attack_outcome outcome = attack_climb_step(&climb, &pair);
            attack_count(report, number * ATTACK_CLIMB + k, &pair, &outcome);
            if (end > 0 && now() >= end) return;
        }
    }
}

static int run_one(const options *o) {
    attack_pair pair;
    attack_outcome outcome = attack_replay(o->seed, o->pair, &pair);
    attack_print_pair(&pair, &outcome);
    return outcome.verdict == BROKEN ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    options o;
    int read = read_options(&o, argc, argv);
    if (read < 0) fprintf(stderr, "see %s --help\n", argv[0]);
    if (read) return read > 0 ? EXIT_SUCCESS : 2;
    if (o.pair >= 0) return run_one(&o);
    if (!any_wanted(&o)) {
        fputs("no family is of that name\n", stderr);
        return 2;
    }
    static attack_report report;
    report.seed = o.seed;
    search(&o, &report);
    attack_print(&report);
    return report.all.broken ? EXIT_FAILURE : EXIT_SUCCESS;
}
