/* rdp.h: three ways to one moment, that of the likelihood ratio of a Poisson-subsampled Gaussian,
 *
 *     A = E over x ~ N(0, sigma^2) of (1 - q + q w)^alpha,    w = e^{(2x - 1) / (2 sigma^2)}.
 *
 * The RDP at order alpha is log(A) / (alpha - 1) (Mironov, Talwar and Zhang 2019, theorem 4).  Each function returns
 * log(A - 1), since A is 1 plus very little where privacy is good.  0 < q < 1, sigma > 0, alpha > 1. */
#ifndef PSG_ACCOUNTANT_RDP_H
#define PSG_ACCOUNTANT_RDP_H

/* The binomial sum; alpha must be an integer.  alpha terms, none negative: nothing cancels. */
double psg_rdp_log_excess_integer(double q, double sigma, double alpha);

/* The two series for fractional alpha; NaN when they cancel or converge too slowly to give the RDP to 1e-10. */
double psg_rdp_log_excess_series(double q, double sigma, double alpha);

/* The integral by the trapezoidal rule, for any alpha; about (20 sigma + alpha) / min(sigma, sigma^2) evaluations twice
 * over.  NaN when sigma is outside [0.01, 1e100]. */
double psg_rdp_log_excess_quadrature(double q, double sigma, double alpha);

#endif
