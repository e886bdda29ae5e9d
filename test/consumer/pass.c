/* One per-sample pass through an installed libpsg, as a C11 program of somebody else's. */
#include <psg/psg.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { B = 4, IN = 5, OUT = 3 };

static int fail(const char *what, const char *message) {
    fprintf(stderr, "%s: %s\n", what, message);
    return 1;
}

/* The squared norms of a linear layer's samples from their materialised gradients. */
static int compare(psg_context *context, const psg_gradient *gradient, const double *sqnorm) {
    float gradients[B * OUT * IN] = { 0 };
    psg_tensor out = psg_f32_3d(gradients, B, OUT, IN);
    if (psg_grad_sample(context, gradient, 1.0, PSG_OVERWRITE, &out)) {
        return fail("grad_sample", psg_context_message(context));
    }
    for (int n = 0; n < B; n++) {
        double sum = 0;
        const float *g = gradients + n * OUT * IN;
        for (int e = 0; e < OUT * IN; e++) sum += (double)g[e] * (double)g[e];
        if (!(sqnorm[n] > 0) || fabs(sum - sqnorm[n]) > 1e-5 * sum) return fail("sqnorm", "another value");
    }
    return 0;
}

static int run(psg_context *context, psg_tape *tape, psg_param *weight) {
    float images[B * IN];
    int64_t labels[B] = { 0, 2, 1, 0 };
    for (int i = 0; i < B * IN; i++) images[i] = 0.5f - 0.125f * (float)(i % 7);
    psg_tensor x = psg_f32_2d(images, B, IN), y = psg_i64_1d(labels, B);
    psg_pass pass = PSG_PASS_INIT;
    pass.loss_reduction = PSG_LOSS_MEAN;
    psg_tape_begin(tape, &pass);
    psg_var logits = psg_linear(tape, psg_input(tape, &x), psg_use(tape, weight), psg_none());
    psg_var loss = psg_cross_entropy(tape, logits, psg_input(tape, &y), NULL);
    if (psg_backward(tape, loss)) return fail("backward", psg_tape_message(tape));
    psg_gradient gradient;
    if (psg_gradient_of(tape, weight, &gradient)) return fail("gradient_of", psg_tape_message(tape));
    const psg_gradient *set[] = { &gradient };
    double sqnorm[B];
    if (psg_sqnorm(context, set, 1, sqnorm, NULL, NULL)) return fail("sqnorm", psg_context_message(context));
    return compare(context, &gradient, sqnorm);
}

int main(void) {
    if (strcmp(psg_version(), PSG_VERSION_STRING)) return fail("version", psg_version());
    float w[OUT * IN];
    for (int i = 0; i < OUT * IN; i++) w[i] = 0.1f * (float)(i % 4 - 1);
    psg_tensor value = psg_f32_2d(w, OUT, IN);
    psg_context *context;
    psg_param *weight;
    psg_tape *tape;
    if (psg_context_create(NULL, &context)) return fail("context", "none");
    if (psg_param_create(context, "weight", &value, &weight)) return fail("param", psg_context_message(context));
    if (psg_tape_create(context, &tape)) return fail("tape", psg_context_message(context));
    int failed = run(context, tape, weight);
    psg_tape_destroy(tape);
    psg_param_destroy(weight);
    psg_context_destroy(context);
    if (!failed) puts(psg_version());
    return failed;
}
