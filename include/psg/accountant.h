/* psg/accountant.h: what releases with Gaussian noise cost: (epsilon, delta) of a list of events, and the noise, the
 * number or the rate that a budget allows.  No tensors; usable alone.
 *
 * An event is the plain facts of one release: how its records were sampled and how much noise was added, in units of
 * max_grad_norm (the largest norm of one record's contribution).  Every bound that holds for the events of an
 * accountant is computed and the smallest is returned and named:
 *
 *   PLD        privacy loss distributions, composed by FFT: upper bounds by connecting the dots (Doroshenko, Ghazi,
 *              Kamath, Kumar and Manurangsi 2022), lower bounds by merging outputs; what discretisation, truncation and
 *              rounding may have taken is in the bounds.
 *   RDP        Renyi differential privacy (Mironov, Talwar and Zhang 2019; Wang, Balle and Kasiviswanathan 2019,
 *              theorem 27), converted after Canonne, Kamath and Steinke (2020), proposition 12.
 *   Gaussian   exact (Balle and Wang 2018), where nothing is sampled; a bound otherwise, without credit for sampling.
 *   zCDP       concentrated differential privacy (Bun and Steinke 2016), for releases known by their rho alone. */
#ifndef PSG_ACCOUNTANT_H
#define PSG_ACCOUNTANT_H

#include "psg/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- events ---- */

/* Which data sets are neighbours.  It belongs to every epsilon: numbers of different relations do not compare. */
typedef enum psg_relation {
    PSG_ADD_OR_REMOVE_ONE = 0, /* one record (or group) more or less; where the number of records is public, its
                                  contribution becomes zero */
    PSG_REPLACE_ONE = 1        /* one record (or group) has other values; the number of records is public */
} psg_relation;

/* How the records of one release were drawn. */
typedef enum psg_sampling {
    PSG_SAMPLING_POISSON = 0,           /* every record in every batch independently with probability sample_rate.  T
                                           releases of noise correlated over b bands of unit columns, records split in
                                           b groups that take turns: T / b (rounded up) releases of rate b times that
                                           of all records (Choquette-Choo et al. 2023) */
    PSG_SAMPLING_TRUNCATED_POISSON = 1, /* Poisson, of which batch_size records at random are kept where more were
                                           drawn; `records` is public (Ganesh, McKenna, McMahan, Smith and Wu 2025) */
    PSG_SAMPLING_FIXED_SIZE = 2,        /* batch_size of `records` without replacement; PSG_REPLACE_ONE only */
    PSG_SAMPLING_EPOCHS = 3,            /* each record once in every `batches` releases, in a fixed or shuffled order
                                           that does not depend on the data: no credit for sampling */
    PSG_SAMPLING_BALLS_IN_BINS = 4,     /* each record picks one of `batches` batches for good: is in every
                                           `batches`-th release from there (Chua et al. 2024) */
    PSG_SAMPLING_EXTERNAL = 5           /* unknown, or all: any record may be in every release */
} psg_sampling;

/* One release.  A zeroed event is refused, since it has no sample_rate; fields that the sampling does not name must be
 * 0. */
typedef struct psg_event {
    psg_sampling sampling;
    double noise_multiplier; /* sigma, at least 0, at most 1e100: standard deviation of the noise over max_grad_norm, under
                                PSG_REPLACE_ONE too (not over the distance 2 max_grad_norm of two records).  0: no
                                bound, epsilon is infinite */
    double sample_rate;      /* POISSON, TRUNCATED_POISSON: in (0, 1] */
    uint64_t records;        /* TRUNCATED_POISSON, FIXED_SIZE: in the data set, at least 1 */
    uint64_t batch_size;     /* FIXED_SIZE: in [1, records]; TRUNCATED_POISSON: the most a batch holds, at least 1 */
    uint64_t batches;        /* EPOCHS, BALLS_IN_BINS: of one epoch, at least 1.  Epochs go on over the releases of one
                                accountant with the same sampling and batches, whatever comes between */
    uint64_t group_size;     /* 0 or 1: neighbours differ by one record; k: by a group of k */
    double rho;              /* EXTERNAL with noise_multiplier 0: a release known only as rho-zCDP for these neighbours
                                (a private statistic, a threshold); else 0 */
    double residue_epsilon;  /* imperfection of one release, all coordinates together: its density is within
                                e^{+-residue_epsilon} of the ideal ... */
    double residue_delta;    /* ... outside a set of probability residue_delta.  T releases turn (epsilon, delta) into
                                (epsilon + 2 T residue_epsilon,
                                 e^{T residue_epsilon} delta + (1 + e^epsilon) T residue_delta) */
    uint64_t reserved[4];    /* 0 */
} psg_event;

#define PSG_EVENT_INIT { PSG_SAMPLING_POISSON, 0.0, 0.0, 0, 0, 0, 0, 0.0, 0.0, 0.0, { 0, 0, 0, 0 } }

/* ---- the accountant: a list of (event, releases) ---- */

/* Releases so far and the relation that they are accounted for. */
typedef struct psg_accountant psg_accountant;

/* An empty list for neighbours of that relation.  On an error *accountant is NULL. */
PSG_API psg_status psg_accountant_create(psg_context *context, psg_relation relation, psg_accountant **accountant);
/* NULL is none. */
PSG_API void psg_accountant_destroy(psg_accountant *accountant);
/* A new accountant of the same context with the same list. */
PSG_API psg_status psg_accountant_copy(const psg_accountant *accountant, psg_accountant **copy);

/* Adds `releases` releases of one event.  An event that equals the last one lengthens its run: no memory is taken and
 * nothing can fail but PSG_ERR_OVERFLOW of the number of releases; nor is memory taken by the first four runs.
 * PSG_ERR_ARGUMENT: a field outside its range; PSG_ERR_UNSUPPORTED: a sampling that has no bound for the relation, with
 * the reason.  On an error nothing is added. */
PSG_API psg_status psg_accountant_add(psg_accountant *accountant, const psg_event *event, uint64_t releases);

/* Adds the list of another accountant of the same relation (its not_private mark too): two trainings on one data
 * set.  Releases that are added afterwards go on in the epochs of this accountant's own, or begin one. */
PSG_API psg_status psg_accountant_merge(psg_accountant *accountant, const psg_accountant *other);

/* For good: epsilon is infinite from now on (seeded noise, ...). */
PSG_API void psg_accountant_mark_not_private(psg_accountant *accountant);
/* 1, or 0 once it was marked so, also where that came with a merge. */
PSG_API int psg_accountant_is_private(const psg_accountant *accountant);

/* As it was created. */
PSG_API psg_relation psg_accountant_relation(const psg_accountant *accountant);
/* Releases so far. */
PSG_API uint64_t psg_accountant_releases(const psg_accountant *accountant);

/* The list, run-length coded, in the order of addition: run k < psg_accountant_runs.  PSG_ERR_ARGUMENT outside. */
PSG_API size_t psg_accountant_runs(const psg_accountant *accountant);
PSG_API psg_status psg_accountant_run(const psg_accountant *accountant, size_t k, psg_event *event,
                                      uint64_t *releases);

/* ---- the bounds ---- */

/* What an accountant answers: bounds on epsilon and delta from both sides, and what gave them. */
typedef struct psg_privacy {
    double epsilon;         /* upper bound; 0 only where nothing was released, infinity where there is no bound */
    double delta;           /* upper bound */
    double epsilon_lower;   /* psg_accountant_epsilon: what discretisation and rounding leave open: no smaller epsilon
                               is true for this delta and the pair of distributions that the bound is for.  That pair
                               is attained under POISSON and EXTERNAL, may not be under others.  0: not known */
    double delta_lower;     /* psg_accountant_delta: the same for delta */
    const char *accountant; /* "PLD", "RDP", "Gaussian", "zCDP", or "none" where nothing is computed; static storage */
    double order;           /* RDP, zCDP: the order that gave it; else 0 */
    double interval;        /* PLD: of the discretisation; else 0 */
    const char *note;       /* why a finer accountant had no bound, or NULL; static storage */
    uint64_t reserved[4];
} psg_privacy;

/* epsilon at delta in (0, 1), with its lower bound. */
PSG_API psg_status psg_accountant_epsilon(const psg_accountant *accountant, double delta, psg_privacy *privacy);
/* delta at epsilon >= 0, finite, with its lower bound. */
PSG_API psg_status psg_accountant_delta(const psg_accountant *accountant, double epsilon, psg_privacy *privacy);
/* The upper bound of psg_accountant_epsilon alone, in half its time. */
PSG_API psg_status psg_accountant_epsilon_upper(const psg_accountant *accountant, double delta, double *epsilon);

/* How many more releases of an event fit: the largest number found after which epsilon at delta is at most epsilon.  It
 * is certified to fit; more may fit by less than 0.1 %, or 1.  0 also where the list is beyond epsilon already.
 * UINT64_MAX where 2^53 releases fit. */
PSG_API psg_status psg_accountant_remaining(const psg_accountant *accountant, const psg_event *event, double epsilon,
                                            double delta, uint64_t *releases);

/* ---- calibration: one field of an event, or the number of releases, from a budget ----
 * The field that is sought is ignored in *event.  What is returned is certified: an accountant with these releases
 * alone has psg_accountant_epsilon_upper <= epsilon at delta.  PSG_ERR_NUMERIC where nothing in range does. */

/* The smallest noise_multiplier, to within 1e-4 relative; at most 1e6. */
PSG_API psg_status psg_calibrate_noise(psg_context *context, const psg_event *event, uint64_t releases,
                                       psg_relation relation, double epsilon, double delta, double *noise_multiplier);
/* The largest number of releases, as psg_accountant_remaining. */
PSG_API psg_status psg_calibrate_steps(psg_context *context, const psg_event *event, psg_relation relation,
                                       double epsilon, double delta, uint64_t *releases);
/* The largest sample_rate of POISSON or TRUNCATED_POISSON, to within 1e-4 relative. */
PSG_API psg_status psg_calibrate_rate(psg_context *context, const psg_event *event, uint64_t releases,
                                      psg_relation relation, double epsilon, double delta, double *sample_rate);

/* ---- closed forms, without a context: PSG_ERR_ARGUMENT says that an argument is outside its range ---- */

/* RDP of one Poisson release at order alpha > 1, add/remove one record: the exact series with signed binomials (log
 * space; quadrature where the series cancels).  noise_multiplier >= 0 (0: infinity), 0 <= sample_rate <= 1 (0: 0; 1:
 * alpha / (2 sigma^2)).  PSG_ERR_ARGUMENT outside these, *rdp untouched. */
PSG_API psg_status psg_rdp_sampled_gaussian(double sample_rate, double noise_multiplier, double alpha, double *rdp);

/* Exact epsilon of `releases` Gaussian releases without sampling (Balle and Wang, 2018), rounded up. */
PSG_API psg_status psg_gaussian_epsilon(double noise_multiplier, uint64_t releases, double delta, double *epsilon);

#ifdef __cplusplus
}
#endif
#endif
