#include "peer_results.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const peer_names[PEERS] = {
    "PyTorch without per-sample gradients (private steps: with noise)", "ExpandedWeights", "torch.func", "Opacus hooks",
    "Opacus ghost clipping", "JAX", "loop in PyTorch",
};

/* Their names in the file. */
static const struct { const char *name; int peer; } systems[] = {
    { "plain", PEER_PLAIN }, { "plain+noise", PEER_PLAIN }, { "EW", PEER_EW },   { "func", PEER_FUNC },
    { "hooks", PEER_HOOKS }, { "ghost", PEER_GHOST },       { "JAX", PEER_JAX }, { "loop", PEER_LOOP },
};

static peer_case *case_named(peer_results *results, const char *name) {
    for (size_t k = 0; k < results->count; k++) {
        if (strcmp(results->list[k].name, name) == 0) return &results->list[k];
    }
    peer_case *more = realloc(results->list, (results->count + 1) * sizeof *more);
    if (!more) return NULL;
    results->list = more;
    peer_case *c = &more[results->count++];
    snprintf(c->name, sizeof c->name, "%s", name);
    c->libpsg_ms = NAN;
    for (int k = 0; k < PEERS; k++) c->ms[k] = NAN;
    return c;
}

static double *place_of(peer_case *c, const char *system) {
    if (strcmp(system, "libpsg") == 0) return &c->libpsg_ms;
    for (size_t k = 0; k < sizeof systems / sizeof *systems; k++) {
        if (strcmp(systems[k].name, system) == 0) return &c->ms[systems[k].peer];
    }
    return NULL;
}

/* A header, a row with a time, or one of a run that failed or disagreed, which has no place in a plot. */
static int take(peer_results *results, const json_t *line) {
    const char *name = json_string_value(json_object_get(line, "case"));
    const char *system = json_string_value(json_object_get(line, "system"));
    const char *cpu = json_string_value(json_object_get(line, "cpu"));
    const json_t *ms = json_object_get(line, "median_ms");
    if (cpu) snprintf(results->cpu, sizeof results->cpu, "%s", cpu);
    if (!name || !system || !json_is_number(ms) || json_is_true(json_object_get(line, "mismatch"))) return 0;
    peer_case *c = case_named(results, name);
    if (!c) return -1;
    double *place = place_of(c, system);
    if (place) *place = fmin(*place, json_number_value(ms));
    return 0;
}

static int read_lines(FILE *file, const char *path, peer_results *results) {
    char *line = NULL;
    size_t size = 0;
    int failed = 0;
    for (long number = 1; !failed && getline(&line, &size, file) > 0; number++) {
        json_error_t error;
        json_t *object = line[strspn(line, " \n")] ? json_loads(line, 0, &error) : json_object();
        failed = !object || take(results, object);
        if (failed) fprintf(stderr, "%s:%ld: %s\n", path, number, object ? "no memory" : error.text);
        json_decref(object);
    }
    free(line);
    return failed ? -1 : 0;
}

int peer_results_read(const char *path, peer_results *results) {
    *results = (peer_results){ .cpu = "unknown" };
    FILE *file = fopen(path, "r");
    if (!file) {
        fprintf(stderr, "--peers: ");
        perror(path);
        return -1;
    }
    int failed = read_lines(file, path, results);
    fclose(file);
    if (!failed && results->count == 0) {
        fprintf(stderr, "--peers: %s has no row of bench/measure/peers.py --json\n", path);
        failed = -1;
    }
    return failed;
}

void peer_results_free(peer_results *results) { free(results->list); }
