/* What the drawing of all families shares. */
#ifndef PSG_ATTACK_DRAW_H
#define PSG_ATTACK_DRAW_H

#include "attack.h"

/* Any type, route, instruction set, budget, threads, place; max_batch_size from B + 1 up; micro-batches at times. */
void attack_draw_settings(attack_random *random, attack_pair *pair);
/* All samples alike, the record too. */
void attack_all_roles(attack_pair *pair, attack_kind kind, int g_exponent, int a_exponent);
/* C from 2^-10 to 2 times 2^exponent. */
void attack_draw_norm(attack_random *random, attack_pair *pair, int exponent);
/* Fewer samples where the arrays or the products would take long. */
void attack_limit(attack_pair *pair);

/* Blocks: a new parameter with one block over all of it; a further block on the last parameter. */
attack_block *attack_add_param(attack_pair *pair, psg_form form, int64_t positions, int64_t p, int64_t d);
attack_block *attack_tie(attack_pair *pair);

/* The bias of the layer whose weight is the last parameter. */
void attack_add_bias(attack_pair *pair);
/* One or two parameters, some tied, some with a bias; kinds and sizes of the samples. */
void attack_draw_set(attack_random *random, attack_pair *pair);
void attack_draw_roles(attack_random *random, attack_pair *pair);

void attack_draw_network(attack_random *random, attack_pair *pair, attack_model model);

#endif
