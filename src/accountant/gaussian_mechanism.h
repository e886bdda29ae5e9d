/* gaussian_mechanism.h: Gaussian releases without sampling; mu, their sensitivity over their standard deviation, is
 * that of all of them together: mu^2 adds. */
#ifndef PSG_ACCOUNTANT_GAUSSIAN_MECHANISM_H
#define PSG_ACCOUNTANT_GAUSSIAN_MECHANISM_H

/* Exact, rounded up; 0 for mu = 0, infinity for mu = infinity. */
double psg_gaussian_epsilon_of(double mu, double delta);
/* At most the exact one. */
double psg_gaussian_epsilon_lower(double mu, double delta);

/* log(delta) at epsilon >= 0: at least the exact value for direction 1, at most for -1. */
double psg_gaussian_log_delta(double mu, double epsilon, double direction);

#endif
