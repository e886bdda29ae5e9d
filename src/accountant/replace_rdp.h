/* replace_rdp.h: RDP where a neighbour has another record in the place of one, which a release meets with probability
 * rate: p = (1 - rate) p0 + rate p1 against (1 - rate) p0 + rate q1, any two of p0, p1, q1 at most
 * sensitivity = sigma * mu apart.  That is sampling without replacement, and Poisson sampling under PSG_REPLACE_ONE. */
#ifndef PSG_ACCOUNTANT_REPLACE_RDP_H
#define PSG_ACCOUNTANT_REPLACE_RDP_H

#define PSG_REPLACE_ORDERS 512 /* beyond, there is no credit for sampling */

typedef struct psg_replace_rdp {
    double rate, sigma;                        /* sigma: noise over the distance */
    double log_term[PSG_REPLACE_ORDERS + 1];   /* of j = 2, 3, ... without rate^j C(alpha, j); made when asked for */
    int terms;                                 /* so far */
    double log_moment[PSG_REPLACE_ORDERS + 1]; /* of |w - 1|^j, even j */
    int moments;
} psg_replace_rdp;

void psg_replace_rdp_init(psg_replace_rdp *curve, double rate, double sigma);

/* At any order alpha > 1. */
double psg_replace_rdp_at(psg_replace_rdp *curve, double alpha);

#endif
