/* The elementwise functions of one operand, a row each: of these rows are made psg_function, the loops of
 * activation_kernel.c, the ops, their fronts psg_<name>, their places in the registry and the rows of the case tables.
 * Who includes this list defines ACTIVATION, and the others where more than the name matters.
 *
 *   ACTIVATION(name)                          y = f(x)
 *   ACTIVATION_1(name, number, rule)          with a number; the rules are in src/ops/activation/activation.c
 *   ACTIVATION_2(name, first, second, rule)   with two
 *   ACTIVATION_OR(name, other, flag)          with a flag, which chooses the function `other` */
#ifndef ACTIVATION_1
#define ACTIVATION_1(name, number, rule) ACTIVATION(name)
#endif
#ifndef ACTIVATION_2
#define ACTIVATION_2(name, first, second, rule) ACTIVATION(name)
#endif
#ifndef ACTIVATION_OR
#define ACTIVATION_OR(name, other, flag) ACTIVATION(name)
#endif

ACTIVATION(relu)
ACTIVATION(relu6)
ACTIVATION(tanh)
ACTIVATION(sigmoid)
ACTIVATION(logsigmoid)
ACTIVATION(silu)
ACTIVATION(mish)
ACTIVATION(hardsigmoid)
ACTIVATION(hardswish)
ACTIVATION(softsign)
ACTIVATION(tanhshrink)
ACTIVATION(exp)
ACTIVATION(log)
ACTIVATION(sqrt)
ACTIVATION(square)
ACTIVATION(abs)
ACTIVATION(sin)
ACTIVATION(cos)
ACTIVATION(selu)
ACTIVATION_OR(gelu, gelu_tanh, approximate_tanh)
ACTIVATION_1(elu, alpha, is_finite)
ACTIVATION_1(celu, alpha, not_zero)
ACTIVATION_1(leaky_relu, negative_slope, is_finite)
ACTIVATION_1(softshrink, lambda, not_negative)
ACTIVATION_1(hardshrink, lambda, NO_RULE)
ACTIVATION_2(softplus, beta, threshold, not_zero)
ACTIVATION_2(hardtanh, min_val, max_val, in_order)
ACTIVATION_2(threshold, threshold, value, NO_RULE)

#undef ACTIVATION
#undef ACTIVATION_1
#undef ACTIVATION_2
#undef ACTIVATION_OR
