/* composition.h: what the accountant's list comes to. */
#ifndef PSG_ACCOUNTANT_COMPOSITION_H
#define PSG_ACCOUNTANT_COMPOSITION_H

#include "runs.h"

/* The pair of distributions that one kind of release is between, noise of deviation sigma in units of max_grad_norm:
 *
 *   POISSON     N(0, sigma^2) against the mixture over j ~ Bin(group, rate) of N(j, sigma^2); under PSG_REPLACE_ONE the
 *               mixtures of N(j, sigma^2) and of N(-j, sigma^2) (Ganesh 2024 for groups)
 *   TRUNCATED   with probability 1 - full POISSON; with probability `full`, known to all, a record takes the place of
 *               another with probability full_rate: the replace pair of means +-2 (Ganesh et al. 2025)
 *   FIXED_SIZE  without replacement, rate of a batch to meet the group; sensitivity 2 group
 *   BINS        one of `batches` bins for good, `releases` from `position` on */
typedef enum psg_mechanism_kind {
    PSG_MECHANISM_POISSON,
    PSG_MECHANISM_TRUNCATED,
    PSG_MECHANISM_FIXED_SIZE,
    PSG_MECHANISM_BINS
} psg_mechanism_kind;

typedef struct psg_mechanism {
    psg_mechanism_kind kind;
    double sigma, rate;
    uint64_t group;
    double full, full_rate;
    uint64_t batches, position;
    uint64_t releases;
} psg_mechanism;

typedef struct psg_composition {
    psg_context *context;
    psg_relation relation;
    int unbounded;          /* noise of 0 */
    double squared_mu;      /* sum of (sensitivity / sigma)^2 over releases that nothing is sampled in */
    double squared_mu_all;  /* the same over all releases, without credit for sampling */
    double rho;             /* of releases known by their rho */
    double residue_epsilon, residue_delta;
    psg_mechanism *parts;        /* of releases with sampling, each kind once */
    size_t part_count;
    int coarse;             /* parts were merged into worse ones, since there were too many */
} psg_composition;

/* PSG_ERR_MEMORY.  Free it in any case. */
psg_status psg_composition_of(const psg_accountant *accountant, const char *function, psg_composition *composition);
void psg_composition_free(psg_composition *composition);

#endif
