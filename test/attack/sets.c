/* Sets of blocks of any form, layout and place. */
#include <math.h>

#include "draw.h"

static int draw_layout(attack_random *random) {
    int layout = attack_once_in(random, 2) ? LAYOUT_CONTIGUOUS : (int)attack_range(random, 1, 7);
    return layout | (attack_once_in(random, 12) ? LAYOUT_SHARED : 0);
}

static int64_t draw_positions(attack_random *random) {
    int64_t most = ATTACK_PICK(random, 1, 1, 1, 2, 4, 8, 16, 33, 70);
    return attack_once_in(random, 40) ? attack_range(random, 71, 300) : attack_range(random, 1, most);
}

static int64_t draw_size(attack_random *random) {
    int64_t most = ATTACK_PICK(random, 2, 4, 9, 17, 33, 65, 130, 300);
    return attack_range(random, 1, most);
}

/* T, p and d follow from the window. */
static void draw_window(attack_random *random, attack_pair *pair, attack_block *b) {
    b->spatial = (int)attack_range(random, 1, 2);
    b->channels = attack_range(random, 1, 4);
    b->image = attack_range(random, 3, b->spatial == 1 ? 20 : 8);
    b->kernel = attack_range(random, 1, 3);
    b->stride = attack_range(random, 1, 2);
    b->padding = attack_range(random, 0, 2);
    int64_t output = (b->image + 2 * b->padding - b->kernel) / b->stride + 1;
    b->positions = b->spatial == 1 ? output : output * output;
    b->d = b->channels * (b->spatial == 1 ? b->kernel : b->kernel * b->kernel);
    pair->set.columns[b->param] = b->d;
}

static attack_block *draw_param(attack_random *random, attack_pair *pair) {
    psg_form form = (psg_form)ATTACK_PICK(random, PSG_FACTORED, PSG_FACTORED, PSG_ROWS, PSG_SPARSE_ROWS, PSG_UNFOLDED);
    int64_t positions = draw_positions(random), p = draw_size(random), d = draw_size(random);
    attack_block *b = attack_add_param(pair, form, positions, p, d);
    if (form == PSG_UNFOLDED) draw_window(random, pair, b);
    b->g_layout = draw_layout(random);
    b->a_layout = draw_layout(random);
    b->scale = attack_once_in(random, 2) ? 1 : -1.75;
    b->scale = ldexp(b->scale, (int)ATTACK_PICK(random, 0, 0, 0, -20, 7, 30));
    return b;
}

/* A rectangle of the parameter. */
static void draw_place(attack_random *random, attack_pair *pair, attack_block *b) {
    int64_t R = pair->set.rows[b->param], C = pair->set.columns[b->param];
    bool vector = b->form == PSG_ROWS || b->form == PSG_SPARSE_ROWS;
    b->row = attack_range(random, 0, R - 1);
    b->column = attack_range(random, 0, C - 1);
    int64_t rows = attack_range(random, 1, R - b->row), columns = attack_range(random, 1, C - b->column);
    b->transposed = b->form == PSG_FACTORED && attack_once_in(random, 3);
    b->p = vector || b->transposed ? columns : rows;
    b->d = vector ? 1 : b->transposed ? rows : columns;
}

/* A further block on the last parameter, of any form but windows, over all of it or over a rectangle. */
static void draw_tied(attack_random *random, attack_pair *pair) {
    bool window = pair->set.block[pair->set.blocks - 1].form == PSG_UNFOLDED;
    attack_block *b = attack_tie(pair);
    bool other = window || attack_once_in(random, 2);
    if (other) b->form = (psg_form)ATTACK_PICK(random, PSG_FACTORED, PSG_ROWS, PSG_SPARSE_ROWS);
    if (other) b->positions = draw_positions(random);
    if (other || attack_once_in(random, 3)) draw_place(random, pair, b);
    if (attack_once_in(random, 4)) b->scale = -b->scale;
}

void attack_add_bias(attack_pair *pair) {
    const attack_set *set = &pair->set;
    const attack_block *weight = &set->block[set->blocks - 1];
    attack_block *bias = attack_add_param(pair, PSG_ROWS, weight->positions, weight->p, 1);
    bias->scale = weight->scale;
    bias->shares = set->blocks - 2;
}

void attack_draw_set(attack_random *random, attack_pair *pair) {
    int params = (int)attack_range(random, 1, 2);
    for (int k = 0; k < params; k++) {
        const attack_block *b = draw_param(random, pair);
        bool layer = b->form == PSG_FACTORED || b->form == PSG_UNFOLDED;
        int64_t more = attack_once_in(random, 4) ? attack_range(random, 1, 3) : 0;
        for (int64_t i = 0; i < more; i++) draw_tied(random, pair);
        if (!more && layer && pair->set.params < ATTACK_PARAMS && attack_once_in(random, 3)) attack_add_bias(pair);
    }
    pair->set.pad = attack_once_in(random, 8) ? attack_range(random, 1, 40) : 0;
}

static attack_kind draw_kind(attack_random *random) { return (attack_kind)attack_range(random, 0, KINDS - 1); }

void attack_draw_roles(attack_random *random, attack_pair *pair) {
    attack_contents *c = &pair->contents;
    c->lead = attack_once_in(random, 2) ? 0 : attack_range(random, 0, pair->settings.batch);
    c->every = ATTACK_PICK(random, 1, 1, 2, 5);
    c->alike = attack_once_in(random, 3);
    for (int k = 0; k < ROLES; k++) {
        int size = attack_once_in(random, 6) ? (int)attack_range(random, -150, 110) : (int)attack_range(random, -3, 3);
        attack_kind kind = draw_kind(random);
        c->role[k] = (attack_role){ kind, size, (int)ATTACK_PICK(random, 0, 0, 0, 10, -60, 60), false };
        c->role[k].negative = attack_once_in(random, 4);
    }
}
