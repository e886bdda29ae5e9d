#include "io/decimal.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

__extension__ typedef unsigned __int128 u128;

/* digits 10^exponent, where it is exact: else there are more digits than 64 bits hold, or an exponent out of reach. */
typedef struct decimal {
    uint64_t digits;
    int64_t exponent;
    bool is_negative, is_exact;
} decimal;

/* ---- the text ---- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* The digits from at on; returns how many.  19 of them fit 64 bits. */
static int64_t read_digits(const char *at, const char *end, decimal *d) {
    const uint64_t most = 999999999999999999u;   /* to which one more digit can be added */
    const char *const first = at;
    for (; at < end && is_digit(*at); at++) {
        if (d->digits <= most) d->digits = 10 * d->digits + (uint64_t)(*at - '0');
        else d->is_exact = false;
    }
    return at - first;
}

/* false: it is none. */
static bool read_exponent(const char *at, const char *end, decimal *d) {
    const int64_t most = 1000000;
    int64_t value = 0;
    bool is_negative = at < end && *at == '-';
    at += at < end && (*at == '-' || *at == '+');
    if (at == end) return false;
    for (; at < end && is_digit(*at); at++) value = value < most ? 10 * value + (*at - '0') : value;
    d->exponent += is_negative ? -value : value;
    d->is_exact &= value < most;
    return at == end;
}

static bool read_text(const char *text, size_t length, decimal *d) {
    const char *at = text, *const end = text + length;
    *d = (decimal){ .is_exact = true, .is_negative = length && *at == '-' };
    at += length && (*at == '-' || *at == '+');
    int64_t whole = read_digits(at, end, d), fraction = 0;
    at += whole;
    if (at < end && *at == '.') {
        fraction = read_digits(++at, end, d);
        at += fraction;
        d->exponent -= fraction;
    }
    if (!whole && !fraction) return false;
    if (at < end && (*at == 'e' || *at == 'E')) return read_exponent(at + 1, end, d);
    return at == end;
}

/* ---- its value ---- */

enum { MOST_POWER = 19 };

/* digits 10^exponent for |exponent| <= 19, rounded to so many bits, of which the digits or the power have more: in
 * integers, where products of 64 bits with 64 are exact and a quotient of 128 by 64 bits has 64 at least and a
 * remainder, which decides ties.  Between 1e-19 and 2e38, which is normal in both real types. */
static double nearest(uint64_t digits, int exponent, int bits) {
    static const uint64_t powers[MOST_POWER + 1] = {
        1u, 10u, 100u, 1000u, 10000u, 100000u, 1000000u, 10000000u, 100000000u, 1000000000u, 10000000000u,
        100000000000u, 1000000000000u, 10000000000000u, 100000000000000u, 1000000000000000u, 10000000000000000u,
        100000000000000000u, 1000000000000000000u, 10000000000000000000u,
    };
    const int scale = exponent < 0 ? 64 + __builtin_clzll(digits) : 0;
    const u128 scaled = (u128)digits << scale, power = powers[abs(exponent)];
    const u128 value = exponent < 0 ? scaled / power : scaled * power;
    const bool has_rest = exponent < 0 && value * power != scaled;
    const uint64_t high = (uint64_t)(value >> 64);
    const int width = high ? 128 - __builtin_clzll(high) : 64 - __builtin_clzll((uint64_t)value), drop = width - bits;
    const u128 half = (u128)1 << (drop - 1), low = value & (2 * half - 1);
    const uint64_t kept = (uint64_t)(value >> drop);
    const bool is_up = low > half || (low == half && (has_rest || kept & 1));
    return ldexp((double)(kept + is_up), drop - scale);
}

static bool is_near(const decimal *d) {
    return d->is_exact && d->exponent >= -MOST_POWER && d->exponent <= MOST_POWER;
}

/* One correctly rounded operation on two exact reals (Clinger, How to Read Floating Point Numbers Accurately, PLDI
 * 1990): digits to 2^53 and powers to 10^22 are such, in single precision to 2^24 and 10^10. */
psg_decimal psg_decimal_f64(const char *text, size_t length, locale_t c, double *value) {
    static const double powers[] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                     1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };
    const uint64_t most = (uint64_t)1 << 53;
    decimal d;
    if (!read_text(text, length, &d)) return PSG_DECIMAL_NONE;
    if (d.is_exact && d.digits <= most && d.exponent >= -22 && d.exponent <= 22) {
        const double digits = (double)d.digits;
        *value = d.exponent < 0 ? digits / powers[-d.exponent] : digits * powers[d.exponent];
    } else if (is_near(&d)) {
        *value = nearest(d.digits, (int)d.exponent, 53);
    } else {
        *value = fabs(strtod_l(text, NULL, c));
    }
    if (d.is_negative) *value = -*value;
    return isinf(*value) ? PSG_DECIMAL_LARGE : PSG_DECIMAL_READ;
}

psg_decimal psg_decimal_f32(const char *text, size_t length, locale_t c, float *value) {
    static const float powers[] = { 1e0f, 1e1f, 1e2f, 1e3f, 1e4f, 1e5f, 1e6f, 1e7f, 1e8f, 1e9f, 1e10f };
    const uint64_t most = (uint64_t)1 << 24;
    decimal d;
    if (!read_text(text, length, &d)) return PSG_DECIMAL_NONE;
    if (d.is_exact && d.digits <= most && d.exponent >= -10 && d.exponent <= 10) {
        const float digits = (float)d.digits;
        *value = d.exponent < 0 ? digits / powers[-d.exponent] : digits * powers[d.exponent];
    } else if (is_near(&d) && d.digits) {
        *value = (float)nearest(d.digits, (int)d.exponent, 24);
    } else {
        *value = fabsf(strtof_l(text, NULL, c));
    }
    if (d.is_negative) *value = -*value;
    return isinf(*value) ? PSG_DECIMAL_LARGE : PSG_DECIMAL_READ;
}
