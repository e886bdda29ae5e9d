/* Search: a pair that came near C is changed a little, and what brings it nearer is kept. */
#include <math.h>

#include "attack.h"

static void change_role(attack_random *random, attack_pair *pair) {
    attack_role *role = &pair->contents.role[attack_range(random, 0, ROLES - 1)];
    int by = (int)attack_range(random, -8, 8);
    switch (attack_range(random, 0, 4)) {
    case 0: role->kind = (attack_kind)attack_range(random, 0, KINDS - 1); break;
    case 1: role->a_exponent += by; break;
    case 2: role->negative = !role->negative; break;
    default: role->g_exponent += by;
    }
}

static void change_contents(attack_random *random, attack_pair *pair) {
    attack_contents *c = &pair->contents;
    switch (attack_range(random, 0, 5)) {
    case 0: c->seed = attack_bits(random); break;
    case 1: c->every += attack_range(random, -1, 1); break;
    case 2: c->residue += (int)attack_range(random, -2, 2); break;
    case 3: c->alike = !c->alike; break;
    default: c->lead += attack_range(random, -2, 2);
    }
}

static void change_norm(attack_random *random, attack_pair *pair) {
    double factor = attack_once_in(random, 2) ? 1 + (double)attack_range(random, -50, 50) / 1000
                                              : ldexp(1, (int)attack_range(random, -3, 3));
    double norm = pair->settings.max_grad_norm * factor;
    if (norm > 0 && isfinite(norm)) pair->settings.max_grad_norm = norm;
}

static void change_batch(attack_random *random, attack_pair *pair) {
    attack_settings *s = &pair->settings;
    s->batch += attack_once_in(random, 4) ? s->batch / 2 + 1 : attack_range(random, -2, 2);
    if (attack_once_in(random, 2) && s->max_batch_size) s->max_batch_size = s->batch + 1;
}

static void change_settings(attack_random *random, attack_pair *pair) {
    attack_settings *s = &pair->settings;
    switch (attack_range(random, 0, 4)) {
    case 0: s->place = attack_range(random, 0, s->batch); break;
    case 1: s->route = (int)attack_range(random, 0, ATTACK_ROUTES - 1); break;
    case 2: s->isa = (int)attack_range(random, 0, 2); break;
    case 3: s->budget = (attack_budget)attack_range(random, 0, BUDGETS - 1); break;
    default: s->chunk[0] = s->chunk[1] = 0;
    }
}

/* All blocks that share positions get them together. */
static void change_positions(attack_random *random, attack_pair *pair) {
    attack_set *set = &pair->set;
    int64_t by = attack_range(random, -1, 1);
    for (int k = 0; k < set->blocks; k++) {
        if (set->block[k].form == PSG_UNFOLDED) return;
    }
    for (int k = 0; k < set->blocks; k++) {
        if (set->block[k].positions + by >= 1) continue;
        by = 0;
    }
    for (int k = 0; k < set->blocks; k++) set->block[k].positions += by;
    if (set->pad) set->pad += attack_range(random, 0, 2);
}

static void change_scale(attack_random *random, attack_pair *pair) {
    if (!pair->set.blocks) return;
    double *scale = &pair->set.block[attack_range(random, 0, pair->set.blocks - 1)].scale;
    *scale *= attack_once_in(random, 3) ? -1 : ldexp(1, (int)attack_range(random, -4, 4));
}

static void change(attack_random *random, attack_pair *pair) {
    static void (*const changes[])(attack_random *, attack_pair *) = {
        change_role, change_role, change_contents, change_norm, change_norm, change_batch, change_settings,
        change_positions, change_scale,
    };
    changes[attack_range(random, 0, sizeof changes / sizeof *changes - 1)](random, pair);
}

void attack_mutate(attack_random *random, attack_pair *pair) {
    for (int64_t k = attack_range(random, 1, 2); k > 0; k--) {
        change(random, pair);
        attack_repair(pair);
    }
}
