/* The account of a mechanism: what was released of its records, and what may be. */
#ifndef PSG_DP_ACCOUNT_H
#define PSG_DP_ACCOUNT_H

#include "dp/mechanism.h"

/* Opens the ledger of the options, where there is one, and counts. */
psg_status psg_dp_open_account(psg_dp *dp, const psg_dp_options *given);
void psg_dp_close_account(psg_dp *dp);

/* Where a mechanism stands in the ledger. */
typedef struct psg_dp_place {
    const char *run;               /* its name there */
    uint64_t step, ahead;          /* made, and recorded beyond these */
} psg_dp_place;

/* Accountant and budget from what was given as earlier, the ledger, and the mechanism's own releases. */
typedef struct psg_dp_tally {
    psg_accountant *accountant;
    uint64_t most_steps;
} psg_dp_tally;

/* On an error there is nothing to drop. */
psg_status psg_dp_count(const psg_dp *dp, const char *function, const psg_dp_place *place, psg_dp_tally *tally);
/* Either of them ends the tally: it becomes the mechanism's, or goes. */
void psg_dp_take_tally(psg_dp *dp, psg_dp_tally *tally);
void psg_dp_drop_tally(psg_dp_tally *tally);

/* Counts what others have written to the ledger since.  In a child of the process that made the mechanism, which may
 * release nothing, it counts nothing: the lock is shared with the parent. */
psg_status psg_dp_refresh_account(psg_dp *dp, const char *function);

/* Records the release that is about to be made, where there is a ledger: it is on disk and in the accountant, and one
 * of those that are ahead.  Nothing is to leave before. */
psg_status psg_dp_record(psg_dp *dp, const char *function);
/* Counts the release that leaves next: where it was not recorded it is in the accountant now. */
psg_status psg_dp_count_release(psg_dp *dp);

/* PSG_ERR_BUDGET where the budget allows no further release. */
psg_status psg_dp_check_budget(const psg_dp *dp, const char *function);

#endif
