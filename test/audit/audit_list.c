#include "audit.h"

/* As long as a check on every change may take: together about a minute on two cores. */
const audit audit_list[] = {
    { "records", "pairs of data sets", 1000, 100, audit_records },
    { "one-step", "releases a side", 1000000, 100000, audit_one_step },
    { "one-run", "canaries", 20000, 10000, audit_one_run },
    { "noise", "samples", 100000000, 1000000, audit_noise },
};

const int audit_count = sizeof audit_list / sizeof *audit_list;
