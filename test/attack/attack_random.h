/* Random numbers of the attack: splitmix64 (Steele, Lea, Flood 2014), and its finisher as a hash. */
#ifndef PSG_ATTACK_RANDOM_H
#define PSG_ATTACK_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct attack_random { uint64_t state; } attack_random;

static inline uint64_t attack_hash(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline uint64_t attack_bits(attack_random *random) {
    uint64_t bits = attack_hash(random->state);
    random->state += 0x9e3779b97f4a7c15u;
    return bits;
}

/* In [low, high]. */
static inline int64_t attack_range(attack_random *random, int64_t low, int64_t high) {
    return low + (int64_t)(attack_bits(random) % (uint64_t)(high - low + 1));
}

/* True once in n times. */
static inline bool attack_once_in(attack_random *random, int64_t n) { return attack_range(random, 1, n) == 1; }

static inline int64_t attack_pick(attack_random *random, const int64_t *list, size_t count) {
    return list[attack_bits(random) % count];
}
#define ATTACK_PICK(random, ...)                                                                                       \
    attack_pick(random, (const int64_t[]){ __VA_ARGS__ }, sizeof((const int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t))

#endif
