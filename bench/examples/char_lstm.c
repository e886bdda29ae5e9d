/* A character LSTM that learns to spell, with differential privacy; a record is a word.  Its recurrence ends at its own
 * length, targets behind it are ignored, and its loss is the sum over its letters: the gradient that is clipped is that
 * of the word alone, however long the others of the batch are. */
#include <math.h>
#include <psg/psg.h>
#include <stdio.h>

enum { LETTERS = 27, T = 11, EMBEDDING = 16, HIDDEN = 32, WORDS = 20000, TRAINED = 19500, STEPS = 100 };
/* Letters are 1 to 26, a 0 stands before and after them, and length counts them and one 0. */
static int64_t word[WORDS][T + 1], length[WORDS];

typedef struct speller {
    psg_context *context;
    psg_generator *generator;
    psg_tape *tape;
    psg_params *params;
    psg_param *table, *ih, *hh, *out;
    psg_dp *dp;
    psg_optimizer *adam;
} speller;

/* Two to five syllables: "damoki", "tarulenosi". */
static void make_words(void) {
    uint32_t state = 1;
    for (int i = 0; i < WORDS; i++) {
        length[i] = 1;
        for (int k = 0, syllables = 2 + i % 4; k < syllables; k++) {
            state = state * 1664525u + 1013904223u;   /* Numerical Recipes' generator */
            word[i][length[i]++] = "dklmnrst"[state >> 29] - 'a' + 1;
            word[i][length[i]++] = "aaeiiouu"[(state >> 26) % 8] - 'a' + 1;
        }
    }
}

static psg_status prepare(speller *s) {
    psg_dp_options options = PSG_DP_OPTIONS_INIT;
    options.records = TRAINED;
    options.sample_rate = 256.0 / TRAINED;
    options.epsilon = 2;
    options.delta = 1e-6;
    options.steps = STEPS;
    psg_adam_options step = PSG_ADAM_OPTIONS_INIT;
    step.lr = 0.02;
    PSG_TRY(psg_context_create(NULL, &s->context));
    PSG_TRY(psg_generator_create(s->context, &s->generator));
    PSG_TRY(psg_tape_create(s->context, &s->tape));
    PSG_TRY(psg_params_create(s->context, PSG_F32, &s->params));
    s->table = psg_params_add(s->params, "table", psg_init_normal(1), PSG_SHAPE(LETTERS, EMBEDDING));
    s->ih = psg_params_add(s->params, "lstm.ih", psg_init_linear(), PSG_SHAPE(4 * HIDDEN, EMBEDDING));
    s->hh = psg_params_add(s->params, "lstm.hh", psg_init_linear(), PSG_SHAPE(4 * HIDDEN, HIDDEN));
    s->out = psg_params_add(s->params, "out", psg_init_linear(), PSG_SHAPE(LETTERS, HIDDEN));
    PSG_TRY(psg_params_initialize(s->params, 1));
    const psg_param_list all = psg_params_trainable(s->params);
    PSG_TRY(psg_dp_create(s->context, s->generator, &options, all.counts, all.count, &s->dp));
    return psg_adam_create(s->context, &step, all.values, all.count, &s->adam);
}

/* The summed loss of a batch of words: each letter, and the end, from those before it. */
static psg_var spell(speller *s, const int64_t *ids, int64_t count) {
    static int64_t before[WORDS * T], next[WORDS * T], steps[WORDS];
    psg_tape *t = s->tape;
    for (int64_t n = 0; n < count; n++) {
        steps[n] = length[ids[n]];
        for (int k = 0; k < T; k++) {
            before[n * T + k] = word[ids[n]][k];
            next[n * T + k] = k < steps[n] ? word[ids[n]][k + 1] : -1;
        }
    }
    const psg_tensor inputs = psg_i64_2d(before, count, T), targets = psg_i64_2d(next, count, T);
    const psg_tensor lengths = psg_i64_1d(steps, count);
    const psg_rnn_weights weights = { psg_use(t, s->ih), psg_use(t, s->hh), { 0 }, { 0 }, { 0 } };
    const psg_cross_entropy_options loss = { .reduction = PSG_SUM, .has_ignore_index = 1, .ignore_index = -1,
                                             .class_last = 1 };
    psg_var x = psg_embedding(t, psg_input(t, &inputs), psg_use(t, s->table), NULL);
    psg_var h = psg_lstm(t, x, psg_input(t, &lengths), psg_none(), psg_none(), &weights, NULL, NULL, NULL);
    h = psg_linear(t, h, psg_use(t, s->out), psg_none());
    return psg_cross_entropy(t, h, psg_input(t, &targets), &loss);
}

static psg_status train_step(speller *s) {
    const psg_gradient *const *gradients;
    psg_batch batch;
    psg_pass pass = PSG_PASS_INIT;
    PSG_TRY(psg_dp_sample(s->dp, &batch));
    pass.batch = &batch;
    PSG_TRY(psg_tape_begin(s->tape, &pass));
    PSG_TRY(psg_backward(s->tape, spell(s, batch.ids, batch.count)));
    PSG_TRY(psg_params_gradients(s->params, s->tape, &gradients));
    PSG_TRY(psg_dp_accumulate(s->dp, &batch, gradients, psg_params_trainable(s->params).count, NULL));
    return psg_dp_release_to(s->dp, s->adam);
}

/* Trains, and spells the words that were not trained on. */
static psg_status run(speller *s) {
    int64_t ids[WORDS - TRAINED], letters = 0;
    psg_privacy privacy;
    psg_tensor loss;
    PSG_TRY(prepare(s));
    for (int k = 0; k < STEPS; k++) PSG_TRY(train_step(s));
    for (int n = 0; n < WORDS - TRAINED; n++) letters += length[ids[n] = TRAINED + n];
    PSG_TRY(psg_tape_begin(s->tape, NULL));
    PSG_TRY(psg_value(s->tape, spell(s, ids, WORDS - TRAINED), &loss));
    PSG_TRY(psg_dp_privacy(s->dp, 1e-6, &privacy));
    printf("%.2f bits a letter (chance %.2f), ", *(const float *)loss.data / log(2) / (double)letters, log2(LETTERS));
    printf("epsilon %.2f\n", privacy.epsilon);
    return PSG_OK;
}

int main(void) {
    speller s = { 0 };
    make_words();
    psg_status status = run(&s);
    if (status) fprintf(stderr, "char_lstm: %s: %s\n", psg_status_name(status), psg_context_message(s.context));
    psg_optimizer_destroy(s.adam);
    psg_dp_destroy(s.dp);
    psg_tape_destroy(s.tape);
    psg_params_destroy(s.params);
    psg_generator_destroy(s.generator);
    psg_context_destroy(s.context);
    return status;
}
