/* Pairs by number. */
#ifndef PSG_ATTACK_REPLAY_H
#define PSG_ATTACK_REPLAY_H

#include "attack.h"

/* The climb under way. */
typedef struct attack_climb {
    attack_random random;
    int family;
    int64_t step;
    attack_pair best;
    double share;            /* of the best; -1 before the first */
} attack_climb;

attack_climb attack_climb_start(uint64_t seed, int64_t number);
/* Draws or changes, runs, keeps the better; *pair is what was run. */
attack_outcome attack_climb_step(attack_climb *climb, attack_pair *pair);

/* Pair number `index` of a seed, from the beginning of its climb. */
attack_outcome attack_replay(uint64_t seed, int64_t index, attack_pair *pair);

#endif
