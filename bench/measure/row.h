/* A row of the benchmark: a case measured between two probes of the machine. */
#ifndef BENCH_ROW_H
#define BENCH_ROW_H

#include "case.h"
#include "probe.h"

typedef struct bench_settings {
    psg_dtype dtype;
    unsigned threads;           /* 0: the library's choice */
    const char *route;          /* forced; NULL: the planner's */
    int budget_given;           /* the budget below replaces those of the problems */
    size_t budget;
} bench_settings;

/* NAN where a number does not apply. */
typedef struct bench_row {
    const bench_op *op;
    const bench_problem *problem;
    psg_dtype dtype;
    unsigned threads;
    size_t budget;
    char route[96];
    double ms;                  /* median */
    double plain_ms;            /* the same without privacy */
    double ratio_plain;         /* median over pairs run in turn */
    double limit_ms;            /* mean of those of the probes before and after */
    double percent;             /* 100 limit_ms / ms */
    double naive_ms;            /* for all samples, from those that fit a fraction of a second */
    double residual;            /* normwise, against f64 loops */
    double gflops, gbps;        /* flops and bytes of the passes over ms */
    double fallback_share;      /* of samples whose norm was computed anew by tiles */
    double items_per_second;    /* of the noise */
    double us_per_tensor;       /* of a set of many tensors */
    double peak_rss_mib;        /* what preparing the case and its first run, of both forms, added to resident memory */
    probe_rates rates;          /* before */
    int steady;                 /* the limits before and after differ by at most 15 % */
} bench_row;

/* Its problem: the name of a line, or its dimensions. */
enum { BENCH_PROBLEM_TEXT = 200 };
void bench_problem_text(const bench_row *row, char text[BENCH_PROBLEM_TEXT]);

/* The least time of a pass, in milliseconds, on a machine of these rates. */
double bench_pass_ms(const bench_pass *pass, const probe_rates *rates);
/* The settings' context; budget: the problem's, when they give none. */
psg_status bench_create_context(const bench_settings *settings, size_t budget, psg_context **context);

/* Whether a problem can be prepared and run once; else the reason in message. */
psg_status bench_try(const bench_op *op, const bench_problem *problem, const bench_settings *settings, char *message,
                     size_t message_size);

/* Measures again, up to three times, while the probes disagree.  PSG_OK, or the library's error in message. */
psg_status bench_measure_row(const bench_op *op, const bench_problem *problem, const bench_settings *settings,
                             probe *p, bench_row *row, char *message, size_t message_size);

#endif
