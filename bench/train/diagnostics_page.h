/* diagnostics.html: what a run saw of its records.  NOT PRIVATE, and marked so on the page and in every figure. */
#ifndef BENCH_DIAGNOSTICS_PAGE_H
#define BENCH_DIAGNOSTICS_PAGE_H

#include "diagnostics.h"
#include "evaluation.h"

/* -1 after a message. */
int diagnostics_page_write(const diagnostics *d, double max_grad_norm, const evaluation *e, const dataset *test,
                           const char *path);

#endif
