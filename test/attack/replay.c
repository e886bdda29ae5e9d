#include "replay.h"

attack_climb attack_climb_start(uint64_t seed, int64_t number) {
    attack_random random = { attack_hash(attack_hash(seed) ^ (uint64_t)number) };
    return (attack_climb){ .random = random, .family = (int)(number % attack_family_count), .share = -1 };
}

attack_outcome attack_climb_step(attack_climb *climb, attack_pair *pair) {
    if (climb->step++ < ATTACK_FRESH) {
        attack_draw(&climb->random, climb->family, pair);
    } else {
        *pair = climb->best;
        attack_mutate(&climb->random, pair);
    }
    attack_outcome outcome = attack_run(pair);
    if (outcome.share >= climb->share) {
        climb->share = outcome.share;
        climb->best = *pair;
    }
    return outcome;
}

attack_outcome attack_replay(uint64_t seed, int64_t index, attack_pair *pair) {
    attack_climb climb = attack_climb_start(seed, index / ATTACK_CLIMB);
    attack_outcome outcome = attack_climb_step(&climb, pair);
    for (int64_t k = 0; k < index % ATTACK_CLIMB; k++) outcome = attack_climb_step(&climb, pair);
    return outcome;
}
