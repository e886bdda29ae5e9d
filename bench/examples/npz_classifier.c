/* ./npz_classifier data.npz CLASSES: a network of one hidden layer, trained with differential privacy on the arrays of
 * numpy.savez("data.npz", x=x, y=y): x (N, D) of float32, scaled to about 1, and y (N) of int64, below CLASSES. */
#include <psg/psg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HIDDEN = 32, STEPS = 150, MOST_RECORDS = 4096 };   /* of a batch */

static struct { psg_context *context; psg_tensors *data; psg_generator *generator; psg_params *params; psg_tape *tape;
                psg_dp *dp; psg_optimizer *sgd; float *rows, loss; } r;

static psg_var scores_of(psg_var x) {
    psg_var w[4];
    for (size_t k = 0; k < 4; k++) w[k] = psg_use(r.tape, psg_params_all(r.params).params[k]);
    return psg_linear(r.tape, psg_relu(r.tape, psg_linear(r.tape, x, w[0], w[1])), w[2], w[3]);
}

static psg_status train_step(const psg_tensor *x, const psg_tensor *y) {
    static int64_t label[MOST_RECORDS];
    const int64_t width = x->shape[1];
    psg_batch batch;
    psg_tensor value;
    PSG_TRY(psg_dp_sample(r.dp, &batch));
    for (int64_t n = 0; n < batch.count; n++) {
        memcpy(r.rows + n * width, (const float *)x->data + batch.ids[n] * width, (size_t)width * sizeof *r.rows);
        label[n] = ((const int64_t *)y->data)[batch.ids[n]];
    }
    const psg_tensor rows = psg_f32_2d(r.rows, batch.count, width), labels = psg_i64_1d(label, batch.count);
    const psg_pass pass = { .batch = &batch };
    PSG_TRY(psg_tape_begin(r.tape, &pass));
    psg_var loss = psg_cross_entropy(r.tape, scores_of(psg_input(r.tape, &rows)), psg_input(r.tape, &labels), NULL);
    PSG_TRY(psg_backward(r.tape, loss));
    PSG_TRY(psg_value(r.tape, loss, &value));
    if (batch.count) r.loss = *(const float *)value.data;
    const psg_gradient *const *gradients;
    PSG_TRY(psg_params_gradients(r.params, r.tape, &gradients));
    PSG_TRY(psg_dp_accumulate(r.dp, &batch, gradients, 4, NULL));
    return psg_dp_release_to(r.dp, r.sgd);
}

static psg_status train(const char *path, int64_t classes) {
    PSG_TRY(psg_context_create(NULL, &r.context));
    PSG_TRY(psg_npz_read(r.context, path, PSG_FILE_MAP, 0, &r.data));
    const psg_tensor *x = psg_tensors_find(r.data, "x"), *y = psg_tensors_find(r.data, "y");
    const int is_there = x && y && x->rank == 2 && x->dtype == PSG_F32 && y->rank == 1 && y->dtype == PSG_I64;
    if (!is_there || x->shape[0] != y->shape[0]) return puts("no x (N, D) of float32 with y (N) of int64"), PSG_ERR_SHAPE;
    PSG_TRY(psg_generator_create(r.context, &r.generator));
    PSG_TRY(psg_tape_create(r.context, &r.tape));
    PSG_TRY(psg_params_create(r.context, PSG_F32, &r.params));
    psg_params_add(r.params, "hidden.weight", psg_init_kaiming(), PSG_SHAPE(HIDDEN, x->shape[1]));
    psg_params_add(r.params, "hidden.bias", psg_init_constant(0), PSG_SHAPE(HIDDEN));
    psg_params_add(r.params, "output.weight", psg_init_linear(), PSG_SHAPE(classes, HIDDEN));
    psg_params_add(r.params, "output.bias", psg_init_constant(0), PSG_SHAPE(classes));
    PSG_TRY(psg_params_initialize(r.params, 1));
    const psg_param_list all = psg_params_trainable(r.params);
    const psg_sgd_options step = { .lr = 1, .momentum = 0.5 };
    psg_dp_options dp = PSG_DP_OPTIONS_INIT;
    dp.records = (uint64_t)x->shape[0], dp.sample_rate = 0.05, dp.max_batch_size = MOST_RECORDS;
    dp.epsilon = 2, dp.delta = 1e-6, dp.steps = STEPS;
    PSG_TRY(psg_dp_create(r.context, r.generator, &dp, all.counts, all.count, &r.dp));
    PSG_TRY(psg_sgd_create(r.context, &step, all.values, all.count, &r.sgd));
    if (!(r.rows = malloc(MOST_RECORDS * (size_t)x->shape[1] * sizeof *r.rows))) return PSG_ERR_MEMORY;
    for (int k = 0; k < STEPS; k++) PSG_TRY(train_step(x, y));
    psg_privacy privacy;
    PSG_TRY(psg_dp_privacy(r.dp, dp.delta, &privacy));
    printf("not private: loss of the last batch %.3f\n", (double)r.loss);
    printf("epsilon %.3f at delta %g: weights in classifier.npz\n", privacy.epsilon, dp.delta);
    return psg_npz_write(r.context, "classifier.npz", all.named, all.count);
}

int main(int argc, char **argv) {
    if (argc != 3 || atol(argv[2]) < 2) return fprintf(stderr, "usage: npz_classifier FILE.npz CLASSES\n"), 2;
    psg_status status = train(argv[1], atol(argv[2]));
    if (status) fprintf(stderr, "npz_classifier: %s: %s\n", psg_status_name(status), psg_context_message(r.context));
    psg_optimizer_destroy(r.sgd), psg_dp_destroy(r.dp), psg_tape_destroy(r.tape), psg_params_destroy(r.params);
    psg_generator_destroy(r.generator), psg_tensors_destroy(r.data), free(r.rows), psg_context_destroy(r.context);
    return status;
}
