#include "dp/ledger_runs.h"

#include <string.h>

#include "accountant/event.h"
#include "base/context.h"
#include "base/memory.h"

/* ---- the table: open addressing, at most half full ---- */

/* FNV-1a. */
static uint64_t hash_of(const char *id) {
    uint64_t hash = 14695981039346656037u;
    for (; *id; id++) hash = (hash ^ (unsigned char)*id) * 1099511628211u;
    return hash;
}

/* The place of a run, or the free one where it would stand. */
static size_t *place_of(const psg_ledger_runs *r, const char *id, const psg_event *event) {
    const size_t mask = 2 * r->capacity - 1;
    for (size_t at = (size_t)hash_of(id);; at++) {
        size_t *place = &r->places[at & mask];
        if (!*place) return place;
        const psg_ledger_run *run = &r->runs[*place - 1];
        if (!strcmp(run->id, id) && psg_event_equal(&run->event, event)) return place;
    }
}

static void move_to(psg_ledger_runs *r, psg_ledger_run *runs, size_t *places, size_t capacity) {
    if (r->count) memcpy(runs, r->runs, r->count * sizeof *runs);
    psg_ledger_runs_free(r);
    r->runs = runs;
    r->places = places;
    r->capacity = capacity;
    for (size_t k = 0; k < r->count; k++) *place_of(r, runs[k].id, &runs[k].event) = k + 1;
}

psg_status psg_ledger_runs_reserve(psg_ledger_runs *r, const char *function) {
    if (r->count < r->capacity) return PSG_OK;
    const size_t capacity = r->capacity ? 2 * r->capacity : 4;
    psg_ledger_run *runs = psg_alloc(r->context, capacity * sizeof *runs);
    size_t *places = psg_alloc_zeroed(r->context, 2 * capacity * sizeof *places);
    if (!runs || !places) {
        psg_free(r->context, places);
        psg_free(r->context, runs);
        return psg_fail_memory(r->context, function, capacity * (sizeof *runs + 2 * sizeof *places));
    }
    move_to(r, runs, places, capacity);
    return PSG_OK;
}

void psg_ledger_runs_free(psg_ledger_runs *r) {
    psg_free(r->context, r->places);
    psg_free(r->context, r->runs);
}

/* ---- lines ---- */

static const psg_ledger_run *find(const psg_ledger_runs *r, const psg_ledger_line *line) {
    const size_t place = r->capacity ? *place_of(r, line->run, &line->event) : 0;
    return place ? &r->runs[place - 1] : NULL;
}

const char *psg_ledger_runs_refuse(const psg_ledger_runs *r, const psg_ledger_line *line) {
    const psg_ledger_run *run = find(r, line);
    if (!line->count) return "has no step";
    if (run && run->end != line->first) return "does not begin where its run has ended";
    return line->count > ((uint64_t)1 << 62) - r->total ? "brings the releases to 2^62 or more" : NULL;
}

void psg_ledger_runs_add(psg_ledger_runs *r, const psg_ledger_line *line) {
    size_t *place = place_of(r, line->run, &line->event);
    if (!*place) {
        r->runs[r->count] = (psg_ledger_run){ .event = line->event };
        memcpy(r->runs[r->count].id, line->run, PSG_RUN_TEXT);
        *place = ++r->count;
    }
    psg_ledger_run *run = &r->runs[*place - 1];
    run->releases += line->count;
    run->end = line->first + line->count;
    run->is_seeded |= line->is_seeded;
    r->total += line->count;
}

/* ---- what they cost ---- */

/* The epochs of another run are its own. */
static psg_status merge(const psg_ledger_run *run, psg_context *context, psg_accountant *accountant) {
    psg_accountant *one;
    psg_status status = psg_accountant_create(context, psg_accountant_relation(accountant), &one);
    if (status) return status;
    status = psg_accountant_add(one, &run->event, run->releases);
    if (!status) status = psg_accountant_merge(accountant, one);
    psg_accountant_destroy(one);
    return status;
}

static psg_status add_all(const psg_ledger_runs *r, const char *own, bool is_own, psg_accountant *accountant) {
    psg_status status = PSG_OK;
    for (size_t k = 0; !status && k < r->count; k++) {
        const psg_ledger_run *run = &r->runs[k];
        if (!strcmp(run->id, own) != is_own) continue;
        status = is_own ? psg_accountant_add(accountant, &run->event, run->releases) : merge(run, r->context, accountant);
    }
    return status;
}

psg_status psg_ledger_runs_account(const psg_ledger_runs *r, const char *own, psg_accountant *accountant,
                                   bool *is_seeded) {
    *is_seeded = false;
    for (size_t k = 0; k < r->count; k++) *is_seeded |= r->runs[k].is_seeded;
    psg_status status = add_all(r, own, false, accountant);
    return status ? status : add_all(r, own, true, accountant);
}

uint64_t psg_ledger_runs_end(const psg_ledger_runs *r, const char *own) {
    uint64_t end = 0;
    for (size_t k = 0; k < r->count; k++) {
        if (!strcmp(r->runs[k].id, own) && r->runs[k].end > end) end = r->runs[k].end;
    }
    return end;
}
