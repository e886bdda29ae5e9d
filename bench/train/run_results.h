/* What a finished run leaves beside its weights: the privacy statement, and pages about it. */
#ifndef BENCH_RUN_RESULTS_H
#define BENCH_RUN_RESULTS_H

#include "diagnostics.h"
#include "report_page.h"
#include "run_folder.h"

/* Prints the statement, and writes it in words and as JSON. */
psg_status run_results_state(const run_folder *folder, const trainer *t, double delta);
/* The pages.  d: written to a page of its own; NULL: there is none. */
psg_status run_results_write(const run_folder *folder, const report_facts *facts, const diagnostics *d,
                             const dataset *test);

#endif
