#include "dp/ledger_runs.h"

#include <string.h>

#include "accountant/event.h"
#include "base/context.h"
#include "base/memory.h"

static psg_status reserve(psg_ledger_runs *r, const char *function) {
    if (r->count < r->capacity) return PSG_OK;
    size_t capacity = r->capacity ? 2 * r->capacity : 4;
    psg_ledger_run *runs = psg_alloc(r->context, capacity * sizeof *runs);
    if (!runs) return psg_fail_memory(r->context, function, capacity * sizeof *runs);
    if (r->count) memcpy(runs, r->runs, r->count * sizeof *runs);
    psg_free(r->context, r->runs);
    r->runs = runs;
    r->capacity = capacity;
    return PSG_OK;
}

/* Lines mostly go on where the last ones ended. */
static psg_ledger_run *find(const psg_ledger_runs *r, const psg_ledger_line *line) {
    for (size_t k = r->count; k-- > 0;) {
        psg_ledger_run *run = &r->runs[k];
        if (!strcmp(run->id, line->run) && psg_event_equal(&run->event, &line->event)) return run;
    }
    return NULL;
}

psg_status psg_ledger_runs_add(psg_ledger_runs *r, const char *function, const psg_ledger_line *line) {
    psg_ledger_run *run = find(r, line);
    if (run && run->releases > UINT64_MAX - line->count) {
        return psg_fail(r->context, PSG_ERR_OVERFLOW, "%s: the steps of run %s must be below 2^64", function, line->run);
    }
    psg_status status = run ? PSG_OK : reserve(r, function);
    if (status) return status;
    if (!run) {
        run = &r->runs[r->count++];
        *run = (psg_ledger_run){ .event = line->event };
        memcpy(run->id, line->run, PSG_RUN_TEXT);
    }
    run->releases += line->count;
    run->end = line->first + line->count;
    run->is_seeded |= line->is_seeded;
    return PSG_OK;
}

void psg_ledger_runs_free(psg_ledger_runs *r) { psg_free(r->context, r->runs); }

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
