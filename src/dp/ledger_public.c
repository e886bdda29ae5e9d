/* A ledger without a mechanism: what it comes to, and what others add to it. */
#include "accountant/event.h"
#include "base/context.h"
#include "base/floats.h"
#include "dp/ledger.h"
#include "psg/dp.h"

static psg_status read_ledger(psg_context *context, const char *path, psg_accountant *account) {
    psg_ledger *ledger;
    bool is_seeded;
    psg_status status = psg_ledger_open(context, "psg_ledger_read", path, PSG_LEDGER_READ,
                                        psg_accountant_relation(account), &ledger);
    if (status) return status;
    status = psg_ledger_runs_account(psg_ledger_all(ledger), "", account, &is_seeded);
    if (!status && is_seeded) psg_accountant_mark_not_private(account);
    psg_ledger_close(ledger);
    return status;
}

psg_status psg_ledger_read(psg_context *context, const char *path, psg_relation relation,
                           psg_accountant **accountant) {
    PSG_DEFAULT_FLOATS;
    if (!context) return PSG_ERR_ARGUMENT;
    if (!path || !accountant) return psg_fail_null(context, "psg_ledger_read", path ? "accountant" : "path");
    *accountant = NULL;
    psg_accountant *made;
    psg_status status = psg_accountant_create(context, relation, &made);
    if (status) return status;
    status = read_ledger(context, path, made);
    if (status) psg_accountant_destroy(made);
    else *accountant = made;
    return status;
}

psg_status psg_ledger_record(psg_context *context, const char *path, psg_relation relation, const psg_event *event,
                             uint64_t releases) {
    PSG_DEFAULT_FLOATS;
    const char *function = "psg_ledger_record";
    if (!context) return PSG_ERR_ARGUMENT;
    if (!path) return psg_fail_null(context, function, "path");
    psg_status status = psg_event_check(context, function, event, relation);
    psg_ledger_line line = { .count = releases, .relation = relation };
    psg_ledger *ledger;
    if (!status) status = psg_name_run(context, function, line.run);
    if (!status) status = psg_ledger_open(context, function, path, PSG_LEDGER_APPEND, relation, &ledger);
    if (status) return status;
    line.event = *event;
    status = psg_ledger_begin(ledger, function);
    if (!status) {
        status = psg_ledger_append(ledger, function, &line);
        psg_ledger_end(ledger);
    }
    psg_ledger_close(ledger);
    return status;
}
