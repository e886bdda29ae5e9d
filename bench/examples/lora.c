/* Low-rank adaptation (Hu et al. 2022) of a transformer: W stays as it is, a layer computes with W + B A, and the
 * gradients of A and B alone are clipped and summed.  The base weights are random here; in earnest they come from a
 * file: psg_weights_load(context, path, all.named, all.count, PSG_LOAD_PARTIAL, &report). */
#include <psg/psg.h>
#include <stdio.h>

enum { LAYERS = 2, WIDTH = 32, HEADS = 4, RANK = 4, TOKENS = 16, CLASSES = 4, T = 12, BATCH = 64, STEPS = 60 };
enum { QUERY, KEY, VALUE, OUT, UP, DOWN, MAPS, ADAPTERS = LAYERS * MAPS * 2, MOST_ELEMENTS = 8192 };

typedef struct model {
    psg_context *context;
    psg_tape *tape;
    psg_params *params;
    psg_optimizer *adam;
    psg_param *table, *head;
    struct { psg_param *w, *a, *b; } map[LAYERS][MAPS];
} model;

static psg_param *add(model *m, int trained, const char *name, psg_init init, int64_t out, int64_t in) {
    psg_param *param = psg_params_add(m->params, name, init, PSG_SHAPE(out, in));
    psg_param_set_trainable(param, trained);
    return param;
}

/* B begins as 0: training starts from W. */
static void add_map(model *m, int layer, int k) {
    const int64_t out = k == UP ? 4 * WIDTH : WIDTH, in = k == DOWN ? 4 * WIDTH : WIDTH;
    char name[3][32];
    for (int i = 0; i < 3; i++) snprintf(name[i], sizeof name[i], "layer%d.%c.%c", layer, "qkvoud"[k], "WAB"[i]);
    m->map[layer][k].w = add(m, 0, name[0], psg_init_linear(), out, in);
    m->map[layer][k].a = add(m, 1, name[1], psg_init_linear(), RANK, in);
    m->map[layer][k].b = add(m, 1, name[2], psg_init_constant(0), out, RANK);
}

static psg_status prepare(model *m) {
    psg_adam_options step = PSG_ADAM_OPTIONS_INIT;
    step.lr = 0.01;
    PSG_TRY(psg_context_create(NULL, &m->context));
    PSG_TRY(psg_tape_create(m->context, &m->tape));
    PSG_TRY(psg_params_create(m->context, PSG_F32, &m->params));
    m->table = add(m, 0, "table", psg_init_normal(1), TOKENS, WIDTH);
    m->head = add(m, 0, "head", psg_init_linear(), CLASSES, WIDTH);
    for (int k = 0; k < LAYERS * MAPS; k++) add_map(m, k / MAPS, k % MAPS);
    PSG_TRY(psg_params_initialize(m->params, 1));
    const psg_param_list trained = psg_params_trainable(m->params);
    return psg_adam_create(m->context, &step, trained.values, trained.count, &m->adam);
}

static psg_var linear(psg_tape *t, psg_var x, psg_param *w) { return psg_linear(t, x, psg_use(t, w), psg_none()); }

/* x W^T + (x A^T) B^T */
static psg_var adapted(const model *m, psg_var x, int layer, int k) {
    psg_var low = linear(m->tape, linear(m->tape, x, m->map[layer][k].a), m->map[layer][k].b);
    return psg_add(m->tape, linear(m->tape, x, m->map[layer][k].w), low);
}

static psg_var normed(psg_tape *t, psg_var x) {
    return psg_layer_norm(t, x, PSG_SHAPE(WIDTH), psg_none(), psg_none(), 1e-5);
}

/* Logits (BATCH, CLASSES) of ids (BATCH, T). */
static psg_var forward(const model *m, psg_var ids) {
    psg_tape *t = m->tape;
    psg_var x = psg_embedding(t, ids, psg_use(t, m->table), NULL);
    for (int k = 0; k < LAYERS; k++) {
        psg_var h = normed(t, x);
        psg_var q = adapted(m, h, k, QUERY), key = adapted(m, h, k, KEY), value = adapted(m, h, k, VALUE);
        h = psg_head_attention(t, q, key, value, HEADS, psg_none(), psg_none(), NULL, NULL);
        x = psg_add(t, x, adapted(m, h, k, OUT));
        x = psg_add(t, x, adapted(m, psg_gelu(t, adapted(m, normed(t, x), k, UP), 0), k, DOWN));
    }
    return linear(t, psg_mean(t, normed(t, x), 1, (const int[]){ 1 }, 0), m->head);
}

/* Sequences of noise with one of CLASSES tokens somewhere: which one is the label. */
static void draw(int64_t *ids, int64_t *labels) {
    static uint32_t state = 1;
    for (int k = 0; k < BATCH * T; k++) {
        state = state * 1664525u + 1013904223u;   /* Numerical Recipes' generator */
        ids[k] = CLASSES + (state >> 16) % (TOKENS - CLASSES);
        if (k % T == T - 1) ids[k - (state >> 20) % T] = labels[k / T] = (state >> 28) % CLASSES;
    }
}

static psg_status train_step(model *m, psg_tensor *loss) {
    static int64_t ids[BATCH * T], labels[BATCH];
    static float sums[MOST_ELEMENTS];
    const psg_tensor inputs = psg_i64_2d(ids, BATCH, T), targets = psg_i64_1d(labels, BATCH);
    const psg_param_list trained = psg_params_trainable(m->params);
    const psg_clip clip = PSG_CLIP_INIT;   /* to norm 1, of all adapters together */
    const psg_gradient *const *gradients;
    psg_tensor outs[ADAPTERS];
    draw(ids, labels);
    PSG_TRY(psg_tape_begin(m->tape, NULL));
    psg_var x = psg_input(m->tape, &inputs), y = psg_input(m->tape, &targets);
    psg_var mean = psg_cross_entropy(m->tape, forward(m, x), y, NULL);
    PSG_TRY(psg_backward(m->tape, mean));
    PSG_TRY(psg_value(m->tape, mean, loss));
    PSG_TRY(psg_params_gradients(m->params, m->tape, &gradients));
    for (size_t k = 0, first = 0; k < trained.count; first += (size_t)trained.counts[k++]) {
        outs[k] = psg_tensor_of(PSG_F32, sums + first, trained.values[k].rank, trained.values[k].shape);
    }
    PSG_TRY(psg_clipped_sum(m->context, gradients, trained.count, &clip, PSG_OVERWRITE, outs, NULL, NULL, NULL));
    return psg_optimizer_step(m->adam, outs, trained.count);
}

int main(void) {
    model m = { 0 };
    psg_tensor loss;
    psg_status status = prepare(&m);
    for (int k = 0; !status && k < STEPS; k++) status = train_step(&m, &loss);
    if (status) fprintf(stderr, "lora: %s: %s\n", psg_status_name(status), psg_context_message(m.context));
    else printf("loss %.3f (chance 1.386)\n", *(const float *)loss.data);
    psg_optimizer_destroy(m.adam);
    psg_tape_destroy(m.tape);
    psg_params_destroy(m.params);
    psg_context_destroy(m.context);
    return status;
}
