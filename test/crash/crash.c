/* Tries to make a private run lose what it spent: by killing it, by failing its system calls, by what others do to its
 * ledger. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trials.h"

typedef struct options {
    uint64_t kills, seed, stride;
    const char *folder;
} options;

static void print_help(const char *program) {
    printf("Usage: %s [options]\n"
           "Kills a small private run and makes its system calls fail, and checks what is left of it.\n\n"
           "  --kills N      (200)\n"
           "  --seed S       of the moments of the kills (1)\n"
           "  --stride N     every N-th call fails alone (1: each of them in turn)\n"
           "  --folder PATH  of the runs (a new one under /dev/shm or /tmp, which is removed)\n", program);
}

static int read_options(options *o, int argc, char **argv) {
    static const struct option known[] = {
        { "kills", required_argument, NULL, 'k' }, { "seed", required_argument, NULL, 's' },
        { "stride", required_argument, NULL, 't' }, { "folder", required_argument, NULL, 'f' },
        { "help", no_argument, NULL, 'h' }, { 0 },
    };
    *o = (options){ .kills = 200, .seed = 1, .stride = 1 };
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'k': o->kills = strtoull(optarg, NULL, 10); break;
        case 's': o->seed = strtoull(optarg, NULL, 10); break;
        case 't': o->stride = strtoull(optarg, NULL, 10); break;
        case 'f': o->folder = optarg; break;
        case 'h': print_help(argv[0]); return 1;
        default: return -1;
        }
    }
    return optind == argc && o->stride ? 0 : -1;
}

/* The folder of this program has the victim and the library of calls. */
static void find_programs(const char *program) {
    char folder[CRASH_PATH];
    snprintf(folder, sizeof folder, "%s", program);
    char *slash = strrchr(folder, '/');
    if (slash) *slash = 0;
    crash_set_programs(slash ? folder : ".");
}

/* In memory where there is a place for it: nothing here needs a disk, whose power is cut in the plan alone. */
static int make_folder(const options *o, char path[CRASH_PATH]) {
    const char *parent = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
    snprintf(path, CRASH_PATH, "%s", o->folder ? o->folder : "");
    if (o->folder) return 0;
    snprintf(path, CRASH_PATH, "%s/psg-crash-XXXXXX", parent);
    return mkdtemp(path) ? 0 : -1;
}

static int run(const options *o, crash_watch *w) {
    const double began = crash_now();
    uint64_t kills = crash_kills(w, o->kills, o->seed);
    const double killed = crash_now();
    uint64_t faults = crash_faults(w, o->stride, o->seed);
    faults += crash_shared(w);
    printf("%.0f s of kills, %.0f s of faults\n", killed - began, crash_now() - killed);
    printf("%llu kills, %llu faults, %llu violations\n", (unsigned long long)kills, (unsigned long long)faults,
           (unsigned long long)w->violations);
    return w->violations ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    static crash_watch watch;
    options o;
    psg_context_options context = PSG_CONTEXT_OPTIONS_INIT;
    int read = read_options(&o, argc, argv);
    if (read < 0) fprintf(stderr, "see %s --help\n", argv[0]);
    if (read) return read > 0 ? EXIT_SUCCESS : 2;
    find_programs(argv[0]);
    context.threads = 1;
    watch.plan = crash_make_plan();
    if (!watch.plan || make_folder(&o, watch.victim.folder) || psg_context_create(&context, &watch.context)) {
        perror("the trial cannot begin");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    int result = run(&o, &watch);
    psg_context_destroy(watch.context);
    if (!o.folder) crash_remove_folder(&watch);
    return result;
}
