/* The elementwise losses f(x, y) of a prediction x and a target y, a row each: of these rows are made psg_loss, the
 * loops of regression_loss_kernel.c, the ops of src/ops/loss/regression_loss.c and their places in the registry.  Who
 * includes this list defines LOSS, and the others where more than the name matters.
 *
 *   LOSS(name)
 *   LOSS_OF_PROBABILITY(name)           of an x that must be in [0, 1]
 *   LOSS_1(name, number, holds, rule)   with a number p[0] of which `holds`, a condition of regression_loss.c, is true
 *   LOSS_OR(name, other)                whose options may choose the function `other` */
#ifndef LOSS_OF_PROBABILITY
#define LOSS_OF_PROBABILITY(name) LOSS(name)
#endif
#ifndef LOSS_1
#define LOSS_1(name, number, holds, rule) LOSS(name)
#endif
#ifndef LOSS_OR
#define LOSS_OR(name, other) LOSS(name)
#endif

LOSS(mse)
LOSS(l1)
LOSS_1(smooth_l1, beta, not_negative, "finite and >= 0")
LOSS_1(huber, delta, positive, "positive")
LOSS(binary_cross_entropy_with_logits)
LOSS_OF_PROBABILITY(binary_cross_entropy)
LOSS_OR(kl_div, kl_div_log)
LOSS_OR(poisson_nll, poisson_nll_rate)
LOSS(soft_margin)
LOSS_1(hinge_embedding, margin, a_number, "a number")

#undef LOSS
#undef LOSS_OF_PROBABILITY
#undef LOSS_1
#undef LOSS_OR
