/* psg/accountant.h: what a number of Poisson-subsampled Gaussian releases costs.  No tensors; usable alone.
 *
 * The Renyi accountant (RDP) of Mironov, Talwar and Zhang, "Renyi differential privacy of the sampled Gaussian
 * mechanism" (2019): add/remove neighbours, every record in every batch independently with probability sample_rate,
 * noise of standard deviation noise_multiplier * max_grad_norm on the sum.  Numbers for shuffled or fixed-size batches
 * are other numbers. Conversion to (epsilon, delta) after Canonne, Kamath and Steinke (2020), proposition 12.
 *
 * These functions have no context and leave no message: PSG_ERR_ARGUMENT says that an argument is outside its range. */
#ifndef PSG_ACCOUNTANT_H
#define PSG_ACCOUNTANT_H

#include "psg/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* RDP of one release at order alpha > 1: the exact series with signed binomials (log space; quadrature where the series
 * cancels).  noise_multiplier >= 0 (0: infinity), 0 <= sample_rate <= 1 (0: 0; 1: alpha / (2 sigma^2)).
 * PSG_ERR_ARGUMENT outside these, *rdp untouched. */
PSG_API psg_status psg_rdp_sampled_gaussian(double sample_rate, double noise_multiplier, double alpha, double *rdp);

/* An accountant adds the RDP curves of releases; different noise_multipliers and rates may follow one another.
 * Plain memory of the caller's: no ownership, copy it to save it. */
#define PSG_ACCOUNTANT_MAX_ORDERS 192

typedef struct psg_accountant {
    int order_count;
    double order[PSG_ACCOUNTANT_MAX_ORDERS];
    double rdp[PSG_ACCOUNTANT_MAX_ORDERS];     /* of all releases so far */
    uint64_t releases;
    int not_private;        /* set for good by psg_accountant_mark_not_private */
} psg_accountant;

/* orders NULL: 1.1 to 10.9 by 0.1, 11 to 63 by 1 (Opacus's), then 128, 256, 512, 1024.  Orders must exceed 1 and
 * ascend. */
PSG_API psg_status psg_accountant_init(psg_accountant *accountant, const double *orders, int order_count);

/* Adds `releases` releases.  On an error nothing is added. */
PSG_API psg_status psg_accountant_add(psg_accountant *accountant, double sample_rate, double noise_multiplier,
                                      uint64_t releases);
PSG_API void psg_accountant_mark_not_private(psg_accountant *accountant);

/* The smallest epsilon over the orders, an upper bound on the privacy loss at delta in (0, 1): never negative, 0 only
 * when nothing was released (or all at sample_rate 0), infinity when there is no bound (noise_multiplier 0, a marked
 * accountant). best_order (or NULL) receives the order that gave it; at the end of the list, more orders would tighten
 * it. */
PSG_API psg_status psg_accountant_epsilon(const psg_accountant *accountant, double delta, double *epsilon,
                                          double *best_order);

/* The smallest noise_multiplier, to within 1e-6 relative and rounded up, for which `releases` releases cost at most
 * epsilon at delta with the default orders.  PSG_ERR_NUMERIC when none below 1e6 does. */
PSG_API psg_status psg_noise_multiplier_for(double epsilon, double delta, double sample_rate, uint64_t releases,
                                            double *noise_multiplier);

/* Exact epsilon of `releases` Gaussian releases without sampling (Balle and Wang, 2018), rounded up. */
PSG_API psg_status psg_gaussian_epsilon(double noise_multiplier, uint64_t releases, double delta, double *epsilon);

#ifdef __cplusplus
}
#endif
#endif
