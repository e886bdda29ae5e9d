#include "runs.h"

#include <string.h>

#include "base/context.h"
#include "base/floats.h"
#include "base/memory.h"

#define FIRST_CAPACITY ((size_t)4)

/* ---- life ---- */

/* Room for `capacity` runs, those there are kept. */
static psg_status reserve(psg_accountant *a, const char *function, size_t capacity) {
    if (capacity <= a->capacity) return PSG_OK;
    if (capacity > SIZE_MAX / sizeof *a->runs) {
        return psg_fail(a->context, PSG_ERR_OVERFLOW, "%s: %zu runs do not fit memory", function, capacity);
    }
    psg_event_run *runs = psg_alloc(a->context, capacity * sizeof *runs);
    if (!runs) return psg_fail_memory(a->context, function, capacity * sizeof *runs);
    if (a->count) memcpy(runs, a->runs, a->count * sizeof *runs);
    psg_free(a->context, a->runs);
    a->runs = runs;
    a->capacity = capacity;
    return PSG_OK;
}

static psg_status make(psg_context *context, const char *function, psg_relation relation, size_t capacity,
                       psg_accountant **out) {
    psg_accountant *a = psg_new_object(context, sizeof *a);
    if (!a) return psg_fail_memory(context, function, sizeof *a);
    *a = (psg_accountant){ .context = context, .relation = relation };
    psg_status status = reserve(a, function, capacity);
    if (status) {
        psg_accountant_destroy(a);
        return status;
    }
    *out = a;
    return PSG_OK;
}

psg_status psg_accountant_create(psg_context *context, psg_relation relation, psg_accountant **accountant) {
    const char *function = "psg_accountant_create";
    if (!context) return PSG_ERR_ARGUMENT;
    if (!accountant) {
        return psg_fail_null(context, function, "accountant");
    }
    *accountant = NULL;
    if (relation != PSG_ADD_OR_REMOVE_ONE && relation != PSG_REPLACE_ONE) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: relation is %d, must be a psg_relation", function,
                        (int)relation);
    }
    return make(context, function, relation, FIRST_CAPACITY, accountant);
}

void psg_accountant_destroy(psg_accountant *accountant) {
    if (!accountant) return;
    psg_free(accountant->context, accountant->runs);
    psg_free_object(accountant->context, accountant);
}

psg_status psg_accountant_copy(const psg_accountant *accountant, psg_accountant **copy) {
    const char *function = "psg_accountant_copy";
    if (!accountant) return PSG_ERR_ARGUMENT;
    if (!copy) {
        return psg_fail_null(accountant->context, function, "copy");
    }
    *copy = NULL;
    psg_accountant *made;
    psg_status status = make(accountant->context, function, accountant->relation, accountant->capacity, &made);
    if (status) return status;
    memcpy(made->runs, accountant->runs, accountant->count * sizeof *made->runs);
    made->count = accountant->count;
    made->releases = accountant->releases;
    made->not_private = accountant->not_private;
    *copy = made;
    return PSG_OK;
}

/* ---- growth ---- */

static uint64_t position_after(const psg_event_run *run) {
    uint64_t batches = run->event.batches;
    return (run->position + run->releases % batches) % batches;
}

/* Where in its epoch a further release stands.  What was merged had epochs of its own: after it they begin anew. */
static uint64_t next_position(const psg_accountant *a, const psg_event *event) {
    if (!event->batches) return 0;
    for (size_t k = a->count; k-- > 0;) {
        const psg_event_run *run = &a->runs[k];
        if (!run->is_merged && psg_event_same_epochs(&run->event, event)) return position_after(run);
    }
    return 0;
}

/* lengthens: whether the last run may go on in `run`, where their events are equal. */
static psg_status append(psg_accountant *a, const char *function, const psg_event_run *run, int lengthens) {
    if (run->releases > UINT64_MAX - a->releases) {
        return psg_fail(a->context, PSG_ERR_OVERFLOW, "%s: %llu releases after %llu, must be below 2^64 together",
                        function, (unsigned long long)run->releases, (unsigned long long)a->releases);
    }
    if (lengthens && a->count && psg_event_equal(&a->runs[a->count - 1].event, &run->event)) {
        a->runs[a->count - 1].releases += run->releases;
    } else {
        psg_status status = a->count < a->capacity ? PSG_OK : reserve(a, function, 2 * a->capacity);
        if (status) return status;
        a->runs[a->count++] = *run;
    }
    a->releases += run->releases;
    return PSG_OK;
}

psg_status psg_accountant_add(psg_accountant *accountant, const psg_event *event, uint64_t releases) {
    PSG_DEFAULT_FLOATS;
    const char *function = "psg_accountant_add";
    if (!accountant) return PSG_ERR_ARGUMENT;
    psg_status status = psg_event_check(accountant->context, function, event, accountant->relation);
    if (status || !releases) return status;
    const psg_event_run run = { *event, releases, next_position(accountant, event), 0 };
    const int is_own = !accountant->count || !accountant->runs[accountant->count - 1].is_merged;
    return append(accountant, function, &run, is_own || !event->batches);
}

/* The epochs of another training are others: its runs stay apart from ours. */
static psg_status append_all(psg_accountant *a, const char *function, const psg_accountant *other) {
    psg_status status = reserve(a, function, a->count + other->count);
    for (size_t k = 0; !status && k < other->count; k++) {
        psg_event_run run = other->runs[k];
        run.is_merged = 1;
        status = append(a, function, &run, !run.event.batches);
    }
    return status;
}

static psg_status append_copy(psg_accountant *a, const char *function) {
    psg_accountant *copy;
    psg_status status = psg_accountant_copy(a, &copy);
    if (status) return status;
    status = append_all(a, function, copy);
    psg_accountant_destroy(copy);
    return status;
}

psg_status psg_accountant_merge(psg_accountant *accountant, const psg_accountant *other) {
    PSG_DEFAULT_FLOATS;
    const char *function = "psg_accountant_merge";
    if (!accountant) return PSG_ERR_ARGUMENT;
    if (!other || other->relation != accountant->relation) {
        return psg_fail(accountant->context, PSG_ERR_ARGUMENT, "%s: other %s", function,
                        other ? "has another relation, must have the same" : "is NULL, must not be");
    }
    if (other->releases > UINT64_MAX - accountant->releases) {
        return psg_fail(accountant->context, PSG_ERR_OVERFLOW, "%s: the releases must be below 2^64 together",
                        function);
    }
    psg_status status = other == accountant ? append_copy(accountant, function)
                                            : append_all(accountant, function, other);
    if (!status && other->not_private) accountant->not_private = 1;
    return status;
}

psg_status psg_accountant_reserve(psg_accountant *accountant, const char *function, size_t more) {
    return reserve(accountant, function, accountant->count + more);
}

void psg_accountant_swap(psg_accountant *a, psg_accountant *b) {
    psg_accountant was = *a;
    *a = *b;
    *b = was;
}

void psg_accountant_mark_not_private(psg_accountant *accountant) {
    if (accountant) accountant->not_private = 1;
}

/* ---- what is there ---- */

int psg_accountant_is_private(const psg_accountant *accountant) { return accountant && !accountant->not_private; }
uint64_t psg_accountant_releases(const psg_accountant *accountant) { return accountant ? accountant->releases : 0; }
size_t psg_accountant_runs(const psg_accountant *accountant) { return accountant ? accountant->count : 0; }
psg_relation psg_accountant_relation(const psg_accountant *accountant) {
    return accountant ? accountant->relation : PSG_ADD_OR_REMOVE_ONE;
}

psg_status psg_accountant_run(const psg_accountant *accountant, size_t k, psg_event *event, uint64_t *releases) {
    if (!accountant) return PSG_ERR_ARGUMENT;
    if (!event || !releases || k >= accountant->count) {
        const char *rule = event && releases ? "k must be below the number of runs" : "the results must not be NULL";
        return psg_fail(accountant->context, PSG_ERR_ARGUMENT, "psg_accountant_run: k is %zu of %zu, %s", k,
                        accountant->count, rule);
    }
    *event = accountant->runs[k].event;
    *releases = accountant->runs[k].releases;
    return PSG_OK;
}
