/* What per-sample gradients tell of a training: the gradient noise scale, how many directions the gradients of a batch
 * span, and which records hurt.  Logistic regression on two clouds, some of whose labels are wrong. */
#include <math.h>
#include <psg/psg.h>
#include <stdio.h>

enum { IN = 8, RECORDS = 400, TRAINED = 300, WRONG = 15, STEPS = 20 };   /* the others are held back, for influence */

static float x[RECORDS * IN], y[RECORDS];

typedef struct study {
    psg_context *context;
    psg_tape *tape;
    psg_params *params;
    psg_param *weight;                      /* (1, IN) */
    const psg_gradient *const *gradient;    /* of the last pass: of the weight alone */
    double sum[IN];                         /* of its samples */
} study;

/* Record i belongs to class i % 2; labels of the first WRONG records say otherwise. */
static void make_data(void) {
    uint32_t state = 1;
    for (int i = 0; i < RECORDS; i++) {
        y[i] = (float)((i + (i < WRONG)) % 2);
        for (int j = 0; j < IN; j++) {
            state = state * 1664525u + 1013904223u;   /* Numerical Recipes' generator */
            x[i * IN + j] = (float)(4 * (state / 4294967296.0 - 0.5) + (i % 2 ? 1 : -1));
        }
    }
}

/* A pass over records [first, first + count), and the sum of their gradients. */
static psg_status backward(study *s, int64_t first, int64_t count) {
    const psg_tensor inputs = psg_f32_2d(x + first * IN, count, IN), targets = psg_f32_2d(y + first, count, 1);
    const psg_tensor sum = psg_f64_2d(s->sum, 1, IN);
    PSG_TRY(psg_tape_begin(s->tape, NULL));
    psg_var in = psg_input(s->tape, &inputs), target = psg_input(s->tape, &targets);
    psg_var logits = psg_linear(s->tape, in, psg_use(s->tape, s->weight), psg_none());
    PSG_TRY(psg_backward(s->tape, psg_binary_cross_entropy_with_logits(s->tape, logits, target, PSG_MEAN)));
    PSG_TRY(psg_params_gradients(s->params, s->tape, &s->gradient));
    return psg_weighted_sum(s->context, s->gradient, 1, NULL, PSG_OVERWRITE, &sum);
}

static psg_status train_step(study *s) {
    float *values = psg_params_flat(s->params).data;
    PSG_TRY(backward(s, 0, TRAINED));
    for (int j = 0; j < IN; j++) values[j] -= (float)(0.5 * s->sum[j] / TRAINED);
    return PSG_OK;
}

/* tr(S) / |G|^2, of the mean G and the covariance S of samples' gradients: batches beyond that size save few steps
 * (McCandlish et al. 2018).  sum_n |g_n|^2 / B estimates |G|^2 + tr S, and |sum_n g_n|^2 / B^2 |G|^2 + tr S / B. */
static psg_status noise_scale(study *s) {
    double squares[IN] = { 0 }, square = 0, of_mean = 0;
    const psg_tensor out = psg_f64_2d(squares, 1, IN);
    PSG_TRY(backward(s, 0, TRAINED));
    PSG_TRY(psg_sum_of_squares(s->context, s->gradient, 1, PSG_OVERWRITE, &out));
    for (int j = 0; j < IN; j++) {
        square += squares[j] / TRAINED;
        of_mean += s->sum[j] * s->sum[j] / TRAINED / TRAINED;
    }
    const double trace = (square - of_mean) * TRAINED / (TRAINED - 1);
    printf("noise scale %.1f samples\n", trace / (square - trace));
    return PSG_OK;
}

static psg_status effective_rank(study *s) {
    static double gram[TRAINED * TRAINED], spectrum[TRAINED];
    PSG_TRY(psg_gram(s->context, s->gradient, 1, gram));
    PSG_TRY(psg_gram_spectrum(s->context, gram, TRAINED, spectrum, NULL));
    printf("effective rank %.2f of %d\n", psg_effective_rank(spectrum, TRAINED), IN);
    return PSG_OK;
}

/* v^T F^-1 g_n, v the gradient of the records held back, F the empirical Fisher matrix: what a step along record n
 * takes from their loss (Koh and Liang 2017, with F for the Hessian).  The least ones do harm. */
static psg_status influence(study *s) {
    float held_back[IN], solved[IN] = { 0 };
    double dots[TRAINED];
    int found = 0;
    PSG_TRY(backward(s, TRAINED, RECORDS - TRAINED));
    for (int j = 0; j < IN; j++) held_back[j] = (float)s->sum[j];
    const psg_tensor v = psg_f32_2d(held_back, 1, IN), direction = psg_f32_2d(solved, 1, IN);
    PSG_TRY(backward(s, 0, TRAINED));
    PSG_TRY(psg_natural_gradient(s->context, s->gradient, 1, 0.1, &v, &direction, NULL));
    PSG_TRY(psg_dot(s->context, s->gradient, 1, &direction, dots));
    for (int k = 0; k < WRONG; k++) {
        int worst = 0;
        for (int n = 1; n < TRAINED; n++) worst = dots[n] < dots[worst] ? n : worst;
        dots[worst] = INFINITY;
        found += worst < WRONG;
    }
    printf("of %d wrong labels %d are among the %d most harmful records\n", WRONG, found, WRONG);
    return PSG_OK;
}

static psg_status run(study *s) {
    PSG_TRY(psg_context_create(NULL, &s->context));
    PSG_TRY(psg_tape_create(s->context, &s->tape));
    PSG_TRY(psg_params_create(s->context, PSG_F32, &s->params));
    s->weight = psg_params_add(s->params, "weight", psg_init_constant(0), PSG_SHAPE(1, IN));
    PSG_TRY(psg_params_initialize(s->params, 1));
    PSG_TRY(noise_scale(s));
    PSG_TRY(effective_rank(s));     /* of the same pass */
    for (int k = 0; k < STEPS; k++) PSG_TRY(train_step(s));
    return influence(s);
}

int main(void) {
    study s = { 0 };
    make_data();
    psg_status status = run(&s);
    if (status) fprintf(stderr, "influence: %s: %s\n", psg_status_name(status), psg_context_message(s.context));
    psg_tape_destroy(s.tape);
    psg_params_destroy(s.params);
    psg_context_destroy(s.context);
    return status;
}
