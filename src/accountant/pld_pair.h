/* pld_pair.h: the dominating pair of one release, on a grid of privacy losses.
 *
 *   P = sum over j of pi_j N(j, sigma^2)   against   Q = N(0, sigma^2), or, where it is two-sided, against
 *   Q = sum over j of pi_j N(-j, sigma^2);   pi = Bin(group, rate), or all of it at j = 1 (rate 1).
 *
 * The loss log(P(x) / Q(x)) grows with x, so that the losses between two points of the grid are an interval of x. */
#ifndef PSG_ACCOUNTANT_PLD_PAIR_H
#define PSG_ACCOUNTANT_PLD_PAIR_H

#include <stddef.h>
#include <stdint.h>

#define PSG_MOST_MEANS 64 /* a group may have */

typedef struct psg_pair {
    double sigma, rate;
    int two_sided;
    int means;                          /* j = 0 .. means - 1 */
    double weight[PSG_MOST_MEANS + 1];  /* pi_j */
} psg_pair;

/* group >= 1; of more than PSG_MOST_MEANS - 1 records, a worse pair: all of them whenever one is there. */
psg_pair psg_pair_of(double sigma, double rate, uint64_t group, int two_sided);

/* log(P(x) / Q(x)). */
double psg_pair_loss(const psg_pair *pair, double x);

/* Where the loss is epsilon; -infinity below, infinity above the range of losses. */
double psg_pair_inverse(const psg_pair *pair, double epsilon);

/* How far the loss at psg_pair_inverse(epsilon) may be from epsilon: what the rounding of x and of epsilon comes to. */
double psg_pair_slack(const psg_pair *pair, double x, double epsilon);

/* Probabilities of an interval of x and bounds of their rounding errors.  excess is P - Q, summed where it is small. */
typedef struct psg_bucket {
    double q, q_error;
    double excess, excess_error;
} psg_bucket;

psg_bucket psg_pair_bucket(const psg_pair *pair, double from, double to);

#endif
