/* report.html: what may be published of a private run: options, the mechanism's account, what was measured on the public
 * test set, and the machine.  The one number beside these, the memory of the process, is marked as not covered. */
#ifndef BENCH_REPORT_PAGE_H
#define BENCH_REPORT_PAGE_H

#include "earlier_runs.h"
#include "evaluation.h"
#include "step_times.h"

typedef struct report_facts {
    const training_options *options;
    const training_plan *plan;
    trainer *t;                     /* of which its options, mechanism and account are asked */
    const evaluation *test;
    run_total total;                /* with the runs before */
    step_times times;               /* on test images */
    double peak_mib;                /* resident, of the training: batches of other sizes take other memory */
} report_facts;

psg_status report_page_write(const report_facts *f, const char *path);

#endif
