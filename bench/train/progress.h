/* A progress bar on a terminal, plain lines elsewhere. */
#ifndef BENCH_PROGRESS_H
#define BENCH_PROGRESS_H

typedef struct progress {
    int terminal;           /* standard output is one that takes escapes: a bar redrawn in place; else a line each
                             * twentieth of the run */
    long first, steps;      /* where the run begins and ends */
    double started, drawn;  /* of now_seconds */
} progress;

progress progress_start(long steps, long first);
/* Whether progress_show would print after this step (1 .. steps): the text need not be made otherwise. */
int progress_is_due(const progress *bar, long step);
/* Prints how far the run is, the text, and the time left. */
void progress_show(progress *bar, long step, const char *text);
/* Leaves the line of the bar. */
void progress_end(const progress *bar);

#endif
