/* The command line of psg-bench. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "row.h"

typedef struct bench_options {
    int json, engines, growth, passes;  /* the last three: instead of the list; engines with html: after it */
    const char *html, *peers;       /* a page of what was measured, or NULL; results of peers.py for it, or NULL */
    const char *op, *question;      /* NULL: all */
    int has_problem;
    int64_t dim[BENCH_MAX_DIMS];
    int dim_count;
    const char *line;               /* of a case table */
    bench_settings settings;
} bench_options;

/* Every op, and for ops in several parts each part. */
extern const bench_op *const bench_ops[];
extern const size_t bench_op_count;

/* The part of an op that answers a question (NULL: its default); NULL when there is none. */
const bench_op *bench_find_op(const char *name, const char *question);

/* The problem of --problem or --case, of which there is one. */
bench_problem bench_given(const bench_options *options);

/* Reads the command line, and runs a problem that it gives once.  Returns 0; 1 when --help was printed; -1 after a
 * message about a wrong argument or a problem that cannot be run. */
int bench_options_read(bench_options *options, int argc, char **argv);

#endif
