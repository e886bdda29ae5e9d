/* Random sets of gradients for the tests of psg/gradient.h, their values materialised in long double by plain loops,
 * and the answers of all questions as one struct. */
#ifndef PSG_TEST_GRADIENT_FIXTURE_H
#define PSG_TEST_GRADIENT_FIXTURE_H

#include "support.h"

enum { FIXTURE_GRADIENTS = 4, FIXTURE_BLOCKS = 4, FIXTURE_MOST_BLOCKS = 32 };   /* drawn, and given by hand */

typedef struct fixture {
    psg_dtype dtype;
    int64_t batch_size;
    size_t count;
    psg_gradient gradient[FIXTURE_GRADIENTS];
    const psg_gradient *pointer[FIXTURE_GRADIENTS];
    psg_block block[FIXTURE_GRADIENTS][FIXTURE_MOST_BLOCKS];
    test_array array[FIXTURE_GRADIENTS * FIXTURE_MOST_BLOCKS];
    size_t array_count;
    int64_t start[FIXTURE_GRADIENTS];   /* of gradient k among the total elements of a sample */
    int64_t size[FIXTURE_GRADIENTS];
    int64_t total;
    long double *dense;                 /* B x total: the gradients */
    double *terms;                      /* B x total: sum of the absolute values of their terms */
    double *mass;                       /* B x count: sum over blocks and t of |scale| |backprop_t| |activation_t| */
    double positions;                   /* most positions of one gradient, all blocks together */
    double features;                    /* greatest p + d */
} fixture;

/* One gradient of one block. */
typedef enum fixture_kind { FIXTURE_WHOLE, FIXTURE_TRANSPOSED, FIXTURE_ROWS, FIXTURE_SPARSE } fixture_kind;

/* Sizes from the lists of the test plan, 1 to 4 gradients, any mix of forms, maps and strides. */
void fixture_random(fixture *f, test_random *random, psg_dtype dtype);
/* layout as in test_array_new.  FIXTURE_SPARSE: a table of d rows of p elements. */
void fixture_single(fixture *f, test_random *random, psg_dtype dtype, fixture_kind kind, int64_t batch_size,
                    int64_t positions, int64_t p, int64_t d, int layout);
/* A set of one to three ordinary gradients (a weight, its bias, a norm's scale), for laws. */
void fixture_layer(fixture *f, test_random *random, psg_dtype dtype, int64_t batch_size, int64_t positions, int64_t p,
                   int64_t d);
/* fixture_layer with sizes and, by round, real type and number of positions drawn. */
void fixture_draw_layer(fixture *f, test_random *random, int round, int64_t batch_size);
/* An unfolded block; image and backprop are drawn, by the window's sizes. */
void fixture_unfolded(fixture *f, test_random *random, psg_dtype dtype, int64_t batch_size, int64_t p,
                      const psg_window *window, const int64_t *image, int layout);
/* By hand: operands of the fixture's real type, blocks in f->block[f->count], then the gradient over them; the values
 * are computed by fixture_refresh. */
const psg_tensor *fixture_operand(fixture *f, test_random *random, int rank, const int64_t *shape, int layout);
void fixture_add(fixture *f, size_t block_count, int rank, const int64_t *shape);
/* Computes the values anew after blocks were edited. */
void fixture_refresh(fixture *f);
void fixture_free(fixture *f);
/* The samples of the given indices, copied; operands that blocks share stay shared. */
void fixture_select(fixture *f, const fixture *from, const int64_t *samples, int64_t count);

long double fixture_sqnorm(const fixture *f, int64_t sample);
double fixture_mass_product(const fixture *f, int64_t n, int64_t m);

/* ---- all answers ---- */

typedef struct answers {
    test_array out[FIXTURE_GRADIENTS];       /* (B, *shape), any strides */
    test_array sum[FIXTURE_GRADIENTS];       /* (*shape), contiguous */
    psg_tensor sums[FIXTURE_GRADIENTS];
    test_array direction[FIXTURE_GRADIENTS];
    psg_tensor directions[FIXTURE_GRADIENTS];
    double *weights;
    double *sqnorm, *upper, *norms, *factors, *dots, *gram;   /* gram: B x B */
    int64_t fallbacks;
    psg_clip clip;
    psg_clip_report report;
    double scale;
    size_t count;
    int64_t batch_size;
} answers;

/* Everything NaN but directions, weights and, with accumulate, normal values in out and sum. */
void answers_new(answers *a, const fixture *f, test_random *random, psg_dtype sum_dtype, psg_write write);
void answers_free(answers *a);
/* The answer to one question, PSG_F64 sums; directions and weights are the same in every call. */
answers answers_of(psg_context *context, const fixture *f, psg_question question);
psg_status answers_ask(answers *a, psg_context *context, const fixture *f, psg_question question, psg_write write);
/* A hash of every bit that a question may have written. */
uint64_t answers_hash(const answers *a);

/* Asks and compares with the materialised values; write, real type of sums and values are drawn. */
void check_question(psg_context *context, const fixture *f, test_random *random, psg_question question);
void check_all_questions(psg_context *context, const fixture *f, test_random *random);
/* All questions, on every forced route. */
void check_routes(const fixture *f, test_random *random);
/* Every answer has the same bits on 1, 2 and 7 threads. */
void check_threads(const fixture *f);
/* Every question is refused so, by a message that holds the word, and writes nothing. */
void check_refusals(psg_context *context, const fixture *f, test_random *random, psg_status status, const char *word);

#endif
