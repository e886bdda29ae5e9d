/* The elementwise functions of two operands that broadcast, a row each: of these rows are made the loops of
 * elementwise_kernel.c, the ops of src/ops/arithmetic/arithmetic.c with their fronts psg_<name>, their places in the
 * registry and the rows of the case tables.  Who includes this list defines PAIR.
 *
 *   PAIR(name, operator, b_kind, shape, signs, factors, divided)
 *
 * y = a operator b.  b_kind: what b is drawn from in the case tables.  shape: a function of arithmetic.c.  The slope
 * with respect to operand k is signs[k] times factors[k], all over b where divided. */
#define BOTH(x, y) { x, y }
PAIR(add, +, CASE_REAL, pair_shape, BOTH(1, 1), BOTH(NOTHING, NOTHING), false)
PAIR(sub, -, CASE_REAL, pair_shape, BOTH(1, -1), BOTH(NOTHING, NOTHING), false)
PAIR(mul, *, CASE_REAL, product_shape, BOTH(1, 1), BOTH(B, A), false)
PAIR(div, /, CASE_POSITIVE, quotient_shape, BOTH(1, -1), BOTH(NOTHING, OUTPUT), true)

#undef BOTH
#undef PAIR
