/* The elements of a pair's arrays: a function of the sample's id and the element's place, never of the batch. */
#include <math.h>

#include "attack.h"

static bool is_special(const attack_contents *c, int64_t id) {
    return id >= c->lead && (id - c->lead) % c->every == 0;
}

int64_t attack_special_number(const attack_contents *c, int64_t id) { return (id - c->lead) / c->every; }

int attack_role_of(const attack_contents *c, int64_t id, int64_t batch) {
    if (id == batch) return ROLE_RECORD;
    return is_special(c, id) ? ROLE_SPECIAL : ROLE_COMMON;
}

/* [-1, 1), keyed by what it stands for. */
static double keyed(const attack_contents *c, const attack_element *e, int64_t id, int64_t term) {
    uint64_t key = attack_hash(c->seed + (uint64_t)(c->alike ? -1 : id) * 0x100000001b3u);
    key = attack_hash(key ^ (uint64_t)e->array << 56 ^ (uint64_t)term << 32 ^ (uint64_t)e->column);
    return (double)(int64_t)(key >> 11) * 0x1p-52 - 1;
}

/* Binades -40 to 39. */
static double wide(const attack_contents *c, const attack_element *e) {
    double x = keyed(c, e, e->id, e->term);
    return ldexp(x, (int)(attack_hash((uint64_t)(x * 0x1p52)) % 80) - 40);
}

static double sign_of(const attack_element *e) { return e->activation || e->term % 2 == 0 ? 1 : -1; }

static double spike(const attack_contents *c, const attack_element *e) {
    int64_t number = e->id == e->batch ? 0 : attack_special_number(c, e->id);
    if (number < 0) number = -number;
    int64_t place = e->activation ? number % e->columns : number / e->columns % e->rows;
    return e->column == place ? sign_of(e) : 0;
}

static double cancelling(const attack_contents *c, const attack_element *e, double residue) {
    double x = keyed(c, e, e->id, e->term / 2);
    return sign_of(e) * x * (1 + (e->activation ? 0 : residue * keyed(c, e, e->id, ~e->term)));
}

static double offset(const attack_element *e) {
    return e->activation ? 700 + (double)e->column : sign_of(e) * (300 + (double)(e->column * (e->term / 2)));
}

static double one_hot(const attack_element *e) { return e->column == 0 && e->term == 0; }

static double unscaled(const attack_contents *c, const attack_element *e, attack_kind kind) {
    bool first = e->term == 0 && e->column == (e->activation ? e->columns : e->rows) / 2 &&
                 e->activation == (c->seed & 1);
    switch (kind) {
    case KIND_EQUAL: return keyed(c, e, -1, e->term);
    case KIND_EQUAL_ROWS: return keyed(c, e, -1, 0);
    case KIND_CONSTANT: return 1;
    case KIND_WIDE: return wide(c, e);
    case KIND_SPIKE: return spike(c, e);
    case KIND_CANCEL: return cancelling(c, e, 0);
    case KIND_NEARLY_CANCEL: return cancelling(c, e, ldexp(1, c->residue));
    case KIND_OFFSET: return offset(e);
    case KIND_ONE_HOT: return one_hot(e);
    case KIND_ZERO: return 0;
    case KIND_NAN: return first ? NAN : keyed(c, e, e->id, e->term);
    case KIND_INFINITE: return first ? -INFINITY : keyed(c, e, e->id, e->term);
    default: return keyed(c, e, e->id, e->term);
    }
}

double attack_value(const attack_contents *c, const attack_element *e) {
    const attack_role *role = &c->role[attack_role_of(c, e->id, e->batch)];
    double value = unscaled(c, e, role->kind) * (role->negative && !e->activation ? -1 : 1);
    int exponent = e->activation ? role->a_exponent : role->g_exponent;
    return exponent && value != 0 ? ldexp(value, exponent) : value;
}
