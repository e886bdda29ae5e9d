/* Clipped sums for a program that has a backward pass of its own: it hands over arrays, a micro-batch at a time.
 *
 * A network 2 - 16 - 2 on two rings, written out with plain loops.  Of its backward pass the products that form the
 * gradients of weights are left out: the clipped sum forms them, for the whole batch, with each record clipped. */
#include <math.h>
#include <psg/psg.h>
#include <stdio.h>

enum { IN = 2, HIDDEN = 16, OUT = 2, RECORDS = 600, BATCH = 150, MICRO_BATCH = 32, STEPS = 200 };

static float record[RECORDS][IN];
static int label[RECORDS];
static float w1[HIDDEN * IN], b1[HIDDEN], w2[OUT * HIDDEN], b2[OUT];
static double w1_sum[HIDDEN * IN], b1_sum[HIDDEN], w2_sum[OUT * HIDDEN], b2_sum[OUT];   /* of a batch, clipped */

/* What the passes of a micro-batch leave behind. */
static float x[MICRO_BATCH][IN], h[MICRO_BATCH][HIDDEN], h_grad[MICRO_BATCH][HIDDEN], y_grad[MICRO_BATCH][OUT];

static double uniform(void) {
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;   /* Numerical Recipes' generator */
    return state / 4294967296.0;
}

static void make_data(void) {
    for (int i = 0; i < RECORDS; i++) {
        label[i] = i % 2;
        const double angle = 6.283185307 * uniform(), radius = label[i] + 0.5 + 0.4 * uniform();
        record[i][0] = (float)(radius * cos(angle));
        record[i][1] = (float)(radius * sin(angle));
    }
    for (int i = 0; i < HIDDEN * IN; i++) w1[i] = (float)(2 * uniform() - 1);
    for (int i = 0; i < OUT * HIDDEN; i++) w2[i] = (float)(uniform() - 0.5);
}

/* The class of record i, by scores y, from its hidden layer a. */
static int forward(int i, float *a, float *y) {
    for (int j = 0; j < HIDDEN; j++) a[j] = tanhf(w1[j * IN] * record[i][0] + w1[j * IN + 1] * record[i][1] + b1[j]);
    for (int c = 0; c < OUT; c++) {
        y[c] = b2[c];
        for (int j = 0; j < HIDDEN; j++) y[c] += w2[c * HIDDEN + j] * a[j];
    }
    return y[1] > y[0];
}

/* Record i as sample n: the derivatives of its own cross-entropy by the outputs of the two layers. */
static void forward_and_backward(int i, int n) {
    float y[OUT];
    forward(i, h[n], y);
    const float p = 1 / (1 + expf(y[0] - y[1])) - (float)label[i];
    y_grad[n][0] = -p;
    y_grad[n][1] = p;
    for (int j = 0; j < HIDDEN; j++) h_grad[n][j] = (1 - h[n][j] * h[n][j]) * p * (w2[HIDDEN + j] - w2[j]);
    for (int j = 0; j < IN; j++) x[n][j] = record[i][j];
}

/* Adds the clipped gradients of count samples to the sums. */
static psg_status add_clipped(psg_context *context, int count, psg_write write) {
    const psg_tensor in[2] = { psg_f32_2d(x[0], count, IN), psg_f32_2d(h[0], count, HIDDEN) };
    const psg_tensor grad[2] = { psg_f32_2d(h_grad[0], count, HIDDEN), psg_f32_2d(y_grad[0], count, OUT) };
    const psg_block blocks[4] = { psg_factored(&grad[0], &in[0]), psg_rows(&grad[0]),
                                  psg_factored(&grad[1], &in[1]), psg_rows(&grad[1]) };
    const psg_tensor sums[4] = { psg_f64_2d(w1_sum, HIDDEN, IN), psg_f64_1d(b1_sum, HIDDEN),
                                 psg_f64_2d(w2_sum, OUT, HIDDEN), psg_f64_1d(b2_sum, OUT) };
    psg_gradient gradients[4];
    const psg_gradient *set[4];
    for (int k = 0; k < 4; k++) {
        gradients[k] = psg_gradient_of_blocks(&blocks[k], 1, sums[k].rank, sums[k].shape);
        set[k] = &gradients[k];
    }
    psg_clip clip = PSG_CLIP_INIT;
    clip.max_grad_norm = 0.5;
    clip.max_batch_size = BATCH;   /* of the whole sum: its rounding is within the bound, too */
    return psg_clipped_sum(context, set, 4, &clip, write, sums, NULL, NULL, NULL);
}

static void update(float *values, const double *sums, int count) {
    for (int k = 0; k < count; k++) values[k] -= (float)(2 * sums[k] / BATCH);
}

static psg_status train(psg_context *context) {
    for (int step = 0; step < STEPS; step++) {
        for (int first = 0, count; first < BATCH; first += count) {
            count = BATCH - first < MICRO_BATCH ? BATCH - first : MICRO_BATCH;
            for (int n = 0; n < count; n++) forward_and_backward((step * BATCH + first + n) % RECORDS, n);
            PSG_TRY(add_clipped(context, count, first ? PSG_ACCUMULATE : PSG_OVERWRITE));
        }
        update(w1, w1_sum, HIDDEN * IN);
        update(b1, b1_sum, HIDDEN);
        update(w2, w2_sum, OUT * HIDDEN);
        update(b2, b2_sum, OUT);
    }
    return PSG_OK;
}

int main(void) {
    psg_context *context = NULL;
    make_data();
    psg_status status = psg_context_create(NULL, &context);
    if (!status) status = train(context);
    if (status) fprintf(stderr, "raw_arrays: %s: %s\n", psg_status_name(status), psg_context_message(context));
    int correct = 0;
    for (int i = 0; i < RECORDS; i++) {
        float a[HIDDEN], y[OUT];
        correct += forward(i, a, y) == label[i];
    }
    printf("accuracy %.3f (chance 0.500)\n", (double)correct / RECORDS);
    psg_context_destroy(context);
    return status;
}
