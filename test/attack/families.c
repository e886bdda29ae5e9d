/* The families that pairs are drawn from: each is the neighbourhood of one idea of how the bound might break. */
#include <math.h>

#include "draw.h"

/* ---- anything ---- */

static void draw_anything(attack_random *random, attack_pair *pair) {
    attack_draw_set(random, pair);
    attack_draw_roles(random, pair);
    const attack_role *role = &pair->contents.role[attack_range(random, 0, ROLES - 1)];
    attack_draw_norm(random, pair, role->g_exponent + role->a_exponent + (int)attack_range(random, -2, 6));
}

/* ---- terms of one sample that cancel in a sum that others share ---- */

/* A few ordinary samples, then samples whose terms are 2^exponent and its opposite, one for each coordinate. */
static void draw_spikes(attack_random *random, attack_pair *pair, int64_t coordinates) {
    attack_contents *c = &pair->contents;
    int64_t root = (int64_t)sqrt((double)coordinates);
    c->lead = attack_range(random, 0, root);
    int exponent = pair->settings.dtype == PSG_F32 ? 60 : (int)ATTACK_PICK(random, 60, 60, 30, 120, 300);
    attack_kind ordinary = (attack_kind)ATTACK_PICK(random, KIND_CONSTANT, KIND_CONSTANT, KIND_EQUAL, KIND_RANDOM);
    int size = (int)attack_range(random, -8, 4);
    c->role[ROLE_COMMON] = c->role[ROLE_RECORD] = (attack_role){ ordinary, size, 0, false };
    c->role[ROLE_SPECIAL] = (attack_role){ KIND_SPIKE, exponent, 0, false };
    pair->settings.batch = c->lead + coordinates;
    pair->settings.place = 0;
    pair->settings.max_batch_size = pair->settings.batch + 1;
    double factor = 1 + (double)attack_range(random, 0, 3) / 4;
    pair->settings.max_grad_norm = ldexp(factor, (int)attack_range(random, -8, 4));
}

static void draw_cancelling_positions(attack_random *random, attack_pair *pair) {
    bool sparse = attack_once_in(random, 2);
    int64_t p = ATTACK_PICK(random, 16, 64, 144, 256, 256), rows = sparse ? attack_range(random, 1, 3) : 1;
    attack_block *b = attack_add_param(pair, sparse ? PSG_SPARSE_ROWS : PSG_ROWS,
                                       ATTACK_PICK(random, 2, 2, 2, 4, 8, 3), p, rows);
    if (attack_once_in(random, 4)) b->g_layout = (int)attack_range(random, 1, 7);
    if (attack_once_in(random, 3)) pair->settings.dtype = PSG_F64;
    draw_spikes(random, pair, p * rows);
}

static void draw_cancelling_blocks(attack_random *random, attack_pair *pair) {
    int64_t p = ATTACK_PICK(random, 4, 8, 16, 16, 32), d = ATTACK_PICK(random, 8, 16, 16);
    if (attack_once_in(random, 30)) p = 32, d = 64;
    psg_form form = (psg_form)ATTACK_PICK(random, PSG_FACTORED, PSG_FACTORED, PSG_FACTORED, PSG_ROWS, PSG_SPARSE_ROWS);
    if (form == PSG_ROWS || form == PSG_SPARSE_ROWS) p *= d;
    attack_add_param(pair, form, attack_once_in(random, 4) ? 3 : 1, p, form == PSG_FACTORED ? d : 1);
    for (int64_t more = attack_range(random, 1, ATTACK_PICK(random, 1, 3, 7)); more > 0; more--) attack_tie(pair);
    pair->settings.dtype = attack_once_in(random, 4) ? PSG_F32 : PSG_F64;
    draw_spikes(random, pair, form == PSG_FACTORED ? p * d : p);
}

/* Records whose positions cancel but for a residue. */
static void draw_loose_contents(attack_random *random, attack_pair *pair) {
    bool wide = attack_once_in(random, 5);
    attack_kind kind = (attack_kind)ATTACK_PICK(random, KIND_NEARLY_CANCEL, KIND_NEARLY_CANCEL, KIND_OFFSET,
                                                KIND_EQUAL);
    attack_all_roles(pair, pair->set.large ? KIND_NEARLY_CANCEL : kind, 0, 0);
    pair->contents.alike = !attack_once_in(random, 4);
    pair->contents.residue = (wide ? -14 : 0) - (int)attack_range(random, 1, pair->set.large ? 4 : 8);
    pair->contents.role[ROLE_RECORD].negative = attack_once_in(random, 2);
    pair->settings.dtype = wide ? PSG_F64 : PSG_F32;
}

/* A Gram product knows the norms of such records to a per cent only, tiles know them better: where the route follows
 * from the batch, all norms change when a record joins. */
static void draw_loose_layer(attack_random *random, attack_pair *pair) {
    bool large = pair->set.large = attack_once_in(random, 30);
    int64_t positions = ATTACK_PICK(random, 8, 16, 32, 32, 64), p = ATTACK_PICK(random, 32, 64, 64, 128);
    int64_t d = ATTACK_PICK(random, 32, 64, 64, 128);
    attack_add_param(pair, PSG_FACTORED, large ? 32 : positions, large ? 64 : p, large ? 64 : d);
    if (attack_once_in(random, 4)) attack_add_bias(pair);
    draw_loose_contents(random, pair);
    attack_settings *s = &pair->settings;
    s->batch = large ? 2000 : ATTACK_PICK(random, 50, 100, 200, 300);
    s->place = ATTACK_PICK(random, 0, s->batch);
    s->max_batch_size = s->batch + 1;
    s->chunk[0] = s->chunk[1] = 0;
    if (large || attack_once_in(random, 3)) s->route = 0;
    attack_draw_norm(random, pair, large ? -6 : -2);
}

static void draw_budget(attack_random *random, attack_pair *pair) {
    draw_loose_layer(random, pair);
    attack_settings *s = &pair->settings;
    s->budget = (attack_budget)ATTACK_PICK(random, BUDGET_OF_B, BUDGET_OF_B, BUDGET_BYTES_OF_B, BUDGET_OF_MOST);
    if (attack_once_in(random, 6)) s->chunk[0] = s->chunk[1] = attack_range(random, 1, 64);
}

static void draw_padding(attack_random *random, attack_pair *pair) {
    draw_loose_layer(random, pair);
    pair->set.pad = ATTACK_PICK(random, 1, 7, 32, 64, 98, 130);
    if (attack_once_in(random, 5)) pair->set.block[0].positions = attack_range(random, 1, 3);
    if (pair->set.params > 1) pair->set.block[1].positions = pair->set.block[0].positions;
}

/* ---- what may depend on the realised batch or on the neighbours ---- */

/* max_batch_size 0 stands for a constant, or is refused. */
static void draw_unbounded_batch(attack_random *random, attack_pair *pair) {
    int64_t p = attack_range(random, 1, 9), d = attack_range(random, 1, 9);
    attack_add_param(pair, PSG_FACTORED, ATTACK_PICK(random, 1, 1, 3), p, d);
    attack_all_roles(pair, (attack_kind)ATTACK_PICK(random, KIND_EQUAL, KIND_CONSTANT), 0, 0);
    pair->contents.role[ROLE_RECORD].negative = !attack_once_in(random, 3);
    pair->settings.batch = ATTACK_PICK(random, 0, 1, 64, 400, 1025, 4096);
    pair->settings.max_batch_size = 0;
    attack_draw_norm(random, pair, -2);
}

static void draw_large_batch(attack_random *random, attack_pair *pair) {
    psg_form form = (psg_form)ATTACK_PICK(random, PSG_FACTORED, PSG_FACTORED, PSG_ROWS, PSG_SPARSE_ROWS);
    int64_t p = attack_range(random, 1, 12), d = attack_range(random, 1, 12);
    attack_add_param(pair, form, ATTACK_PICK(random, 1, 1, 2), p, d);
    attack_all_roles(pair, (attack_kind)ATTACK_PICK(random, KIND_EQUAL, KIND_CONSTANT, KIND_RANDOM), 0, 0);
    pair->contents.role[ROLE_RECORD].negative = attack_once_in(random, 2);
    pair->settings.batch = ATTACK_PICK(random, 1025, 2001, 2048);
    pair->settings.max_batch_size = pair->settings.batch + ATTACK_PICK(random, 1, 1, 1000, 60000);
    attack_draw_norm(random, pair, 0);
}

static void draw_poison(attack_random *random, attack_pair *pair) {
    attack_draw_set(random, pair);
    attack_draw_roles(random, pair);
    attack_role *role = &pair->contents.role[attack_once_in(random, 3) ? ROLE_SPECIAL : ROLE_RECORD];
    role->kind = (attack_kind)ATTACK_PICK(random, KIND_NAN, KIND_INFINITE, KIND_WIDE, KIND_CONSTANT);
    role->g_exponent = (int)ATTACK_PICK(random, 0, 100, 127, -149, 1000, -1060);
    attack_draw_norm(random, pair, (int)attack_range(random, -4, 4));
}

/* ---- norms at C, sizes at the ends of the range ---- */

/* Norms that are exactly a power of two, and C that power or its neighbour. */
static void draw_boundary(attack_random *random, attack_pair *pair) {
    int64_t power = (int64_t)1 << attack_range(random, 0, 4);
    psg_form form = (psg_form)ATTACK_PICK(random, PSG_FACTORED, PSG_ROWS, PSG_SPARSE_ROWS);
    attack_add_param(pair, form, ATTACK_PICK(random, 1, 1, 4), power * power, form == PSG_FACTORED ? power * power : 1);
    int exponent = (int)attack_range(random, -40, 40);
    attack_all_roles(pair, (attack_kind)ATTACK_PICK(random, KIND_ONE_HOT, KIND_CONSTANT), exponent, 0);
    if (attack_once_in(random, 2)) pair->contents.role[ROLE_COMMON].kind = KIND_RANDOM;
    if (attack_once_in(random, 2)) pair->contents.lead = pair->settings.batch;
    double norm = ldexp(1, exponent + (int)attack_range(random, 0, 6));
    double neighbour = nextafter(norm, attack_once_in(random, 2) ? 0 : 2 * norm);
    pair->settings.max_grad_norm = attack_once_in(random, 2) ? norm : neighbour;
}

static int clamp(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

/* C, the scale, g and a anywhere in the type's range, so that the gradient is of the size of C or larger. */
static void draw_range(attack_random *random, attack_pair *pair) {
    bool wide = attack_once_in(random, 2);
    pair->settings.dtype = wide ? PSG_F64 : PSG_F32;
    psg_form form = (psg_form)ATTACK_PICK(random, PSG_FACTORED, PSG_FACTORED, PSG_FACTORED, PSG_ROWS, PSG_SPARSE_ROWS);
    int64_t p = attack_range(random, 1, 20), d = form == PSG_FACTORED ? attack_range(random, 1, 20) : 1;
    attack_block *b = attack_add_param(pair, form, ATTACK_PICK(random, 1, 1, 1, 2), p, d);
    int low = wide ? -1060 : -148, high = wide ? 1020 : 126;
    int a = form == PSG_FACTORED ? (int)attack_range(random, low, high) : 0, norm, scale = 0;
    if (attack_once_in(random, 2)) scale = (int)attack_range(random, wide ? -900 : -160, wide ? 900 : 160);
    switch (attack_range(random, 0, 3)) {
    case 0: norm = high + (int)attack_range(random, -4, 12); break;
    case 1: norm = low + (int)attack_range(random, -4, 30); break;
    case 2: norm = (int)attack_range(random, low, high); break;
    default: norm = (int)attack_range(random, -15, 15);
    }
    int g = clamp(norm - a - scale + (int)attack_range(random, -2, 12), low, high);
    attack_all_roles(pair, (attack_kind)ATTACK_PICK(random, KIND_CONSTANT, KIND_CONSTANT, KIND_EQUAL), g, a);
    b->scale = ldexp(1, scale);
    if (attack_once_in(random, 4)) attack_tie(pair);
    pair->settings.max_grad_norm = ldexp(1.5, clamp(norm, -1070, 1020));
    pair->settings.batch = ATTACK_PICK(random, 0, 0, 1, 2, 64);
}

/* A forced route does not weaken the bound: weights that make products subnormal. */
static void draw_forced_routes(attack_random *random, attack_pair *pair) {
    int64_t p = attack_range(random, 1, 40), d = attack_range(random, 1, 20);
    attack_add_param(pair, PSG_FACTORED, ATTACK_PICK(random, 1, 1, 2), p, d);
    if (attack_once_in(random, 3)) attack_add_bias(pair);
    bool wide = pair->settings.dtype == PSG_F64;
    int a = wide ? 500 : 126, norm = wide ? (int)ATTACK_PICK(random, 0, -550) : -12;
    attack_kind kind = (attack_kind)ATTACK_PICK(random, KIND_CONSTANT, KIND_EQUAL, KIND_EQUAL_ROWS);
    attack_all_roles(pair, kind, (int)attack_range(random, -20, attack_once_in(random, 3) ? 40 : 1), a);
    pair->settings.route = attack_once_in(random, 2) ? 3 : (int)attack_range(random, 0, ATTACK_ROUTES - 1);
    double factor = 1 + (double)attack_range(random, 0, 99) / 100;
    pair->settings.max_grad_norm = ldexp(factor, norm + (int)attack_range(random, -13, 15));
    pair->settings.batch = ATTACK_PICK(random, 0, 0, 1, 5);
}

/* ---- networks ---- */

static void draw_linear(attack_random *random, attack_pair *pair) { attack_draw_network(random, pair, MODEL_LINEAR); }
static void draw_mlp(attack_random *random, attack_pair *pair) { attack_draw_network(random, pair, MODEL_MLP); }
static void draw_attention(attack_random *random, attack_pair *pair) {
    attack_draw_network(random, pair, MODEL_ATTENTION);
}
static void draw_conv(attack_random *random, attack_pair *pair) { attack_draw_network(random, pair, MODEL_CONV); }
static void draw_lstm(attack_random *random, attack_pair *pair) { attack_draw_network(random, pair, MODEL_LSTM); }
static void draw_norm(attack_random *random, attack_pair *pair) { attack_draw_network(random, pair, MODEL_LAYER_NORM); }
static void draw_head(attack_random *random, attack_pair *pair) { attack_draw_network(random, pair, MODEL_TIED); }

/* What a layer's weight is derived from gets next to nothing of records whose activations are all alike. */
static void draw_derived(attack_random *random, attack_pair *pair) {
    attack_draw_network(random, pair, (attack_model)ATTACK_PICK(random, MODEL_LINEAR, MODEL_LINEAR, MODEL_MLP,
                                                                MODEL_CONV, MODEL_LSTM, MODEL_TIED));
    pair->network.weight = (attack_weight)attack_range(random, WEIGHT_STANDARDIZED, WEIGHT_KINDS - 1);
    for (int k = 0; k < ROLES; k++) {
        attack_role *role = &pair->contents.role[k];
        if (attack_once_in(random, 2)) role->kind = (attack_kind)ATTACK_PICK(random, KIND_CONSTANT, KIND_OFFSET, KIND_CANCEL);
    }
    attack_draw_norm(random, pair, (int)ATTACK_PICK(random, -2, -2, -14, -24));
}

const attack_family attack_families[] = {
    { "anything", false, draw_anything },
    { "linear and relu", true, draw_linear },
    { "cancelling positions", false, draw_cancelling_positions },
    { "budget of B", false, draw_budget },
    { "mlp", true, draw_mlp },
    { "range", false, draw_range },
    { "anything", false, draw_anything },
    { "cancelling blocks", false, draw_cancelling_blocks },
    { "zero padding", false, draw_padding },
    { "attention", true, draw_attention },
    { "forced routes", false, draw_forced_routes },
    { "range", false, draw_range },
    { "anything", false, draw_anything },
    { "max_batch_size 0", false, draw_unbounded_batch },
    { "conv2d", true, draw_conv },
    { "large batch", false, draw_large_batch },
    { "poison", false, draw_poison },
    { "lstm", true, draw_lstm },
    { "anything", false, draw_anything },
    { "norm at C", false, draw_boundary },
    { "layer_norm", true, draw_norm },
    { "poison", false, draw_poison },
    { "tied embedding", true, draw_head },
    { "derived weight", true, draw_derived },
};
const int attack_family_count = sizeof attack_families / sizeof *attack_families;
