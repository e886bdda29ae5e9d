/* A recurrent network of a test: its description, its data, what plain formulas say of it and what libpsg does.
 *
 * Data and results are arrays of doubles, sample after sample, whatever the layout and real type of the pass; the data
 * are f32 numbers. */
#ifndef PSG_TEST_RECURRENT_MODEL_H
#define PSG_TEST_RECURRENT_MODEL_H

#include "support.h"

enum { MODEL_RNN, MODEL_LSTM, MODEL_GRU };
enum { NO_STATES, BATCHED_STATES, SHARED_STATES };    /* shared: parameters without a batch */
enum { WIH, WHH, BIH, BHH, WHR, WEIGHT_KINDS };
enum { MOST_WEIGHTS = 6 * WEIGHT_KINDS };

typedef struct model {
    const char *name;
    int kind;
    int64_t batch, steps, input, hidden;
    int layers, directions;
    int64_t projection;           /* 0: none */
    int states;
    const int64_t *lengths;       /* NULL: none */
    bool no_bias_ih, no_bias_hh, relu, cell, batch_second;
    bool final_states;            /* h_n and c_n are outputs too */
    bool tied;                    /* every layer and direction has the first one's weights */
    unsigned frozen;              /* bit WIH ... */
    bool no_input_grad, mean, ordinary, i32_lengths;
    double dropout;
    const int64_t *ids;           /* of the samples, for dropout */
} model;

typedef struct model_data {
    double *x, *h0, *c0, *grad_y, *grad_h, *grad_c;
    double *weights[MOST_WEIGHTS];              /* of layer and direction k: WEIGHT_KINDS * k + ... */
    int64_t *lengths;
} model_data;

enum { Y, H_N, C_N, GRAD_X, GRAD_H0, GRAD_C0, GRAD_WEIGHTS, FIELDS = GRAD_WEIGHTS + MOST_WEIGHTS };

typedef struct model_result {
    double *field[FIELDS];        /* NULL: there is none */
    int64_t of_sample[FIELDS];    /* elements of one sample */
    double *norms[FIELDS];        /* of a parameter's per-sample gradient: B sqnorm, then B upper; else NULL */
    int64_t batch;
    size_t most_blocks;           /* of any weight's gradient */
} model_result;

int64_t model_output(const model *m);           /* R */
int64_t model_directions(const model *m);       /* rows of h0 and h_n */
/* Rows and columns (1: a bias) of weight k; false when the model has none. */
bool model_weight_shape(const model *m, int k, int64_t shape[2]);

void model_data_new(test_random *random, const model *m, model_data *data);
void model_data_free(model_data *data);
/* Sample n of the data on its own; lengths receives its length. */
void model_alone(const model *m, const model_data *data, int64_t n, model *alone, model_data *one);

void model_expect(const model *m, const model_data *data, model_result *result);
void model_run(psg_context *context, psg_dtype dtype, const model *m, const model_data *data, model_result *result);
/* Zeros of the sizes that the model has; for the two above. */
void model_result_new(const model *m, model_result *result);
void model_result_free(model_result *result);

/* |actual - expected| <= tolerance (1 + the largest of the field). */
void model_near(const model *m, const model_result *actual, const model_result *expected, double tolerance);
/* Sample n of one result and sample k of another, bit for bit. */
void model_same_sample(const model *m, const model_result *a, int64_t n, const model_result *b, int64_t k);

#endif
