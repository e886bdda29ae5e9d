/* What every case of a table must pass; each fails the test with "op/case: what". */
#ifndef PSG_TEST_CASE_CHECKS_H
#define PSG_TEST_CASE_CHECKS_H

#include "case_results.h"

/* Output, input gradients and grad_sample of sample n are those of running sample n alone. */
void case_check_samples(psg_context *context, const case_line *line);
/* Central differences of inputs and parameters. */
void case_check_differences(psg_context *context, const case_line *line);
/* Every question about all parameters together, against materialised gradients. */
void case_check_questions(psg_context *context, const case_line *line);
/* The output gradient enters linearly; a sample changes nothing but its own rows. */
void case_check_linearity(psg_context *context, const case_line *line);
void case_check_isolation(psg_context *context, const case_line *line);
/* One thread or two: the same bits, in both real types. */
void case_check_threads(psg_context *context, const case_line *line);
/* loss_reduction, views, batch second, frozen parameters, unwanted gradients, an ordinary pass: the same values. */
void case_check_variants(psg_context *context, const case_line *line);
/* Passes after the first allocate nothing, give the same bits, and write attached arrays. */
void case_check_repetition(psg_context *context, const case_line *line);
/* f32 against f64. */
void case_check_f32(psg_context *context, const case_line *line);
/* The digests of test/golden/cases. */
void case_check_golden(psg_context *context, const case_line *line);

#endif
