/* Audits of psg_dp from outside: what a record can move, and what an attacker who sees the releases can tell.  Public
 * headers only, so that an audit sees what a user does.  Each says in one line what it found. */
#ifndef PSG_AUDIT_H
#define PSG_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "psg/psg.h"

typedef struct audit_options {
    uint64_t seed;             /* keys everything: the same seed, the same line */
    int64_t n;                 /* pairs, releases a side, canaries, samples: see audit_list */
} audit_options;

typedef struct audit_report {
    bool passed;
    char text[600];
} audit_report;

typedef struct audit {
    const char *name, *counts; /* what n counts */
    int64_t n, least;          /* of `make dp-audit`; fewer would see too little to say anything */
    audit_report (*run)(const audit_options *options);
} audit;

extern const audit audit_list[];
extern const int audit_count;

/* records.c: record and replay of neighbours. */
audit_report audit_records(const audit_options *options);
/* one_step.c: two distributions, told apart as well as sigma says and no better. */
audit_report audit_one_step(const audit_options *options);
/* one_run.c: one training run with canaries. */
audit_report audit_one_run(const audit_options *options);
/* noise.c: the law of the noise that is released. */
audit_report audit_noise(const audit_options *options);

/* ---- what audits share ---- */

/* To a report, which passes at first; the first failure takes the place of what was said. */
void audit_say(audit_report *report, const char *format, ...) PSG_PRINTF(2, 3);
void audit_fail(audit_report *report, const char *format, ...) PSG_PRINTF(2, 3);

/* A call that must succeed: what fails otherwise is the audit, not the library's privacy, and the program ends. */
void audit_need(psg_context *context, psg_status status, const char *call);
#define AUDIT_OK(context, call) audit_need(context, call, #call)

void *audit_array(size_t count, size_t size);   /* zeros */
psg_context *audit_context(unsigned threads);
/* Keyed by the seed and by which generator of the audits it is. */
psg_generator *audit_generator(psg_context *context, uint64_t seed, uint64_t number);
/* External batches, divisor 1. */
psg_dp_options audit_external(double max_grad_norm, double noise_multiplier, int64_t max_batch_size);
/* What one integer of a release of `elements` elements is worth (psg/dp.h). */
double audit_unit(double noise_multiplier, double max_grad_norm, double elements);
/* What a mechanism has recorded, as if its generator had no seed: that alone would make epsilon infinite. */
psg_accountant *audit_accountant_of(psg_context *context, const psg_dp *dp);

#endif
