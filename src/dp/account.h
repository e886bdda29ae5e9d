/* The account of a mechanism: what was released of its records, and what may be. */
#ifndef PSG_DP_ACCOUNT_H
#define PSG_DP_ACCOUNT_H

#include "dp/mechanism.h"

/* Opens the ledger of the options, where there is one, and counts. */
psg_status psg_dp_open_account(psg_dp *dp, const psg_dp_options *given);
void psg_dp_close_account(psg_dp *dp);

/* Accountant and budget anew, from what was given as earlier, the ledger, and the mechanism's own releases; on an error
 * they stay as they were. */
psg_status psg_dp_count(psg_dp *dp, const char *function);

/* Records the release that is about to be made.  Once it returns PSG_OK the release is in the accountant and, where there
 * is a ledger, on disk; otherwise nothing is to leave. */
psg_status psg_dp_record(psg_dp *dp, const char *function);

/* PSG_ERR_STATE where the budget allows no further release. */
psg_status psg_dp_check_budget(const psg_dp *dp, const char *function);

#endif
