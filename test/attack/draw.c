#include "draw.h"

#include <math.h>
#include <string.h>

/* ---- settings ---- */

static int64_t draw_batch(attack_random *random) {
    return ATTACK_PICK(random, 0, 1, 2, 3, 4, 5, 8, 13, 17, 33, 63, 64, 65, 100, 129, 257, 400);
}

static int64_t draw_most(attack_random *random, int64_t batch) {
    return batch + 1 + ATTACK_PICK(random, 0, 0, 0, 1, 7, 100, 1000);
}

void attack_draw_settings(attack_random *random, attack_pair *pair) {
    attack_settings *s = &pair->settings;
    s->dtype = attack_once_in(random, 3) ? PSG_F64 : PSG_F32;
    s->batch = draw_batch(random);
    s->place = ATTACK_PICK(random, 0, s->batch / 2, s->batch);
    s->max_grad_norm = 1;
    s->max_batch_size = draw_most(random, s->batch);
    s->route = attack_once_in(random, 2) ? 0 : (int)attack_range(random, 1, ATTACK_ROUTES - 1);
    s->isa = attack_once_in(random, 2) ? 2 : (int)attack_range(random, 0, 2);
    s->budget = (attack_budget)attack_range(random, 0, BUDGETS - 1);
    for (int side = 0; side < 2; side++) {
        s->threads[side] = attack_once_in(random, 3) ? (unsigned)attack_range(random, 1, 5) : 1;
        s->chunk[side] = attack_once_in(random, 4) ? attack_range(random, 1, s->batch + 1) : 0;
    }
}

void attack_repair(attack_pair *pair) {
    attack_settings *s = &pair->settings;
    if (s->batch < 0) s->batch = 0;
    if (s->place > s->batch) s->place = s->batch;
    if (s->max_batch_size && s->max_batch_size < s->batch + 1) s->max_batch_size = s->batch + 1;
    if (!s->max_batch_size) s->chunk[0] = s->chunk[1] = 0;
    if (pair->contents.lead < 0) pair->contents.lead = 0;
    if (pair->contents.every < 1) pair->contents.every = 1;
    attack_limit(pair);
}

void attack_all_roles(attack_pair *pair, attack_kind kind, int g_exponent, int a_exponent) {
    for (int k = 0; k < ROLES; k++) pair->contents.role[k] = (attack_role){ kind, g_exponent, a_exponent, false };
}

void attack_draw_norm(attack_random *random, attack_pair *pair, int exponent) {
    double factor = 1 + (double)attack_range(random, 0, 1023) / 1024;
    pair->settings.max_grad_norm = ldexp(factor, exponent + (int)attack_range(random, -10, 1));
}

/* ---- blocks ---- */

static int64_t elements_of(const attack_set *set) {
    int64_t elements = 1;
    for (int k = 0; k < set->blocks; k++) {
        const attack_block *b = &set->block[k];
        elements += (b->positions + set->pad) * (b->p + b->d);
    }
    return elements;
}

static int64_t products_of(const attack_set *set) {
    int64_t products = 1;
    for (int k = 0; k < set->blocks; k++) {
        const attack_block *b = &set->block[k];
        products += (b->positions + set->pad) * b->p * b->d;
    }
    for (int k = 0; k < set->params; k++) products += set->rows[k] * set->columns[k];
    return products;
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

void attack_limit(attack_pair *pair) {
    attack_settings *s = &pair->settings;
    s->batch = smaller(s->batch, 4096);
    if (attack_families[pair->family].tape) return;
    int64_t factor = pair->set.large ? 15 : 1;
    int64_t most = smaller(factor * 600000 / elements_of(&pair->set), factor * 40000000 / products_of(&pair->set));
    s->batch = smaller(s->batch, most < 1 ? 1 : most);
    s->place = smaller(s->place, s->batch);
}

attack_block *attack_add_param(attack_pair *pair, psg_form form, int64_t positions, int64_t p, int64_t d) {
    attack_set *set = &pair->set;
    int k = set->params++;
    set->rows[k] = form == PSG_ROWS ? 1 : form == PSG_SPARSE_ROWS ? d : p;
    set->columns[k] = form == PSG_ROWS || form == PSG_SPARSE_ROWS ? p : d;
    attack_block *b = &set->block[set->blocks++];
    *b = (attack_block){ .form = form, .param = k, .shares = -1, .positions = positions, .p = p, .d = d, .scale = 1 };
    if (form == PSG_ROWS || form == PSG_SPARSE_ROWS) b->d = 1;
    return b;
}

attack_block *attack_tie(attack_pair *pair) {
    attack_set *set = &pair->set;
    attack_block *b = &set->block[set->blocks];
    *b = set->block[set->blocks - 1];
    b->shares = -1;
    set->blocks++;
    return b;
}

void attack_draw(attack_random *random, int family, attack_pair *pair) {
    memset(pair, 0, sizeof *pair);
    pair->family = family;
    attack_draw_settings(random, pair);
    pair->contents = (attack_contents){ .seed = attack_bits(random), .every = 1 };
    pair->contents.residue = -(int)attack_range(random, 4, 24);
    attack_all_roles(pair, KIND_RANDOM, 0, 0);
    attack_families[family].draw(random, pair);
    attack_repair(pair);
}
