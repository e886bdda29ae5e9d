#include "dp/grid_table.h"

#include <stddef.h>

#define ONE (~(psg_u128)0)                               /* 1 - 2^-128 */
#define CAPACITY ((psg_u128)1 << PSG_GRID_CAPACITY_BITS)
#define PREFIX_BITS 20

/* ---- exponentials of fractions ---- */

static void fill_factorials(psg_u128 *inverse) {
    inverse[0] = ONE;
    for (unsigned k = 1; k < PSG_GRID_TERMS; k++) inverse[k] = inverse[k - 1] / (k + 1);
}

/* y - y^2 (1 / 2! + y^2 / 4! + ...) + y^3 (1 / 3! + y^2 / 5! + ...): two chains of Horner's rule at a time take little
 * more time than one. */
static psg_u128 fall_by_series(const psg_u128 *inverse, psg_u128 y) {
    const psg_u128 square = psg_high_product(y, y);
    psg_u128 even = 0, odd = 0;
    for (int k = PSG_GRID_TERMS - 1; k > 1; k -= 2) {
        even = inverse[k] + psg_high_product(square, even);
        odd = inverse[k - 1] + psg_high_product(square, odd);
    }
    even = inverse[1] + psg_high_product(square, even);
    return y + psg_high_product(psg_high_product(y, square), odd) - psg_high_product(square, even);
}

#define REST_BITS (128 - PSG_GRID_FALL_BITS)

static void fill_falls(psg_grid_table *table) {
    for (psg_u128 k = 0; k < 1 << PSG_GRID_FALL_BITS; k++) {
        table->fall[k] = fall_by_series(table->inverse_factorial, k << REST_BITS);
    }
}

/* Of y < 2^-10: y - y^2 / 2! + ... - y^10 / 10!.  What follows y^6 counts for less than 2^-60, so 64 bits of it do,
 * taken from 2^-9 down: 1 / 6! is less. */
static psg_u128 fall_of_rest(const psg_u128 *inverse, psg_u128 y) {
    const uint64_t short_y = (uint64_t)(y >> 64);
    uint64_t tail = (uint64_t)(inverse[9] >> 55);
    for (int k = 8; k > 4; k--) tail = (uint64_t)(inverse[k] >> 55) - (uint64_t)((psg_u128)short_y * tail >> 64);
    psg_u128 sum = (psg_u128)tail << 55;
    for (int k = 4; k >= 0; k--) sum = inverse[k] - psg_high_product(y, sum);
    return psg_high_product(y, sum);
}

/* 1 - exp(-(a + b)) = fall(a) + (1 - fall(a)) fall(b). */
psg_u128 psg_grid_fall(const psg_grid_table *table, psg_u128 y) {
    const psg_u128 first = table->fall[(size_t)(y >> REST_BITS)];
    const psg_u128 rest = fall_of_rest(table->inverse_factorial, y & (((psg_u128)1 << REST_BITS) - 1));
    return first + (rest - psg_high_product(first, rest));
}

/* exp(-2^power).  Above 1/8 by squaring: the relative error doubles, the value shrinks faster. */
static psg_u128 exp_of_power(const psg_u128 *inverse, int power) {
    if (power <= -3) return -fall_by_series(inverse, (psg_u128)1 << (128 + power));
    const psg_u128 root = exp_of_power(inverse, power - 1);
    return psg_high_product(root, root);
}

#define POWERS 23   /* bits of PSG_GRID_CELLS^2 */

/* exp(-n w^2 / (2 S^2)), as the product over the bits of n. */
static psg_u128 exp_of_count(const psg_u128 powers[POWERS], uint32_t n) {
    psg_u128 product = ONE;
    for (int bit = 0; bit < POWERS; bit++) {
        if (n >> bit & 1) product = psg_high_product(product, powers[bit]);
    }
    return product;
}

/* ---- areas ---- */

/* floor(2^255 / d), 2^127 < d. */
static psg_u128 reciprocal(psg_u128 d) {
    psg_u128 quotient = 0, rest = (psg_u128)1 << 127;
    for (int bit = 0; bit < 128; bit++) {
        const bool above = rest >> 127;
        rest <<= 1;
        quotient <<= 1;
        if (above || rest >= d) {
            rest -= d;
            quotient |= 1;
        }
    }
    return quotient;
}

/* Scales areas to the sum 1.  Their sum is in [1, 256): 2^shift d, d in [1/2, 1). */
static void normalise(psg_u128 *area) {
    psg_u128 sum = 0, left = 0;
    unsigned whole = 0, shift = 0;
    for (size_t c = 0; c < PSG_GRID_COLUMNS; c++) {
        sum += area[c];
        whole += sum < area[c];
    }
    while (whole >> shift) shift++;
    const psg_u128 scale = reciprocal((psg_u128)whole << (128 - shift) | sum >> shift);
    for (size_t c = 0; c < PSG_GRID_COLUMNS; c++) {
        area[c] = psg_high_product(area[c], scale) >> (shift - 1);
        left -= area[c];
    }
    area[0] += left;
}

static void fill_areas(psg_grid_table *table, psg_u128 *area) {
    psg_u128 powers[POWERS], height = ONE;
    const int one = -(int)(2 * table->ratio_bits + 1);
    for (int bit = 0; bit < POWERS; bit++) powers[bit] = exp_of_power(table->inverse_factorial, one + bit);
    for (uint32_t j = 0; j < PSG_GRID_CELLS; j++) {
        const psg_u128 next = exp_of_count(powers, (j + 1) * (j + 1));
        area[j] = next;
        area[PSG_GRID_CELLS + j] = height - next;
        table->cap[j] = ONE - exp_of_count(powers, 2 * j + 1);
        height = next;
    }
    normalise(area);
}

/* ---- the alias table ---- */

typedef struct stack {
    uint16_t place[PSG_GRID_COLUMNS];
    size_t count;
} stack;

static void push(stack *s, uint16_t place) { s->place[s->count++] = place; }

static void finish(psg_grid_table *table, uint16_t place, psg_u128 threshold, uint16_t alias) {
    table->threshold[place] = threshold;
    table->columns.entry[place] = (uint32_t)(threshold >> (PSG_GRID_CAPACITY_BITS - PREFIX_BITS)) * PSG_GRID_COLUMNS
                                  + alias;
}

/* Walker (1977), in the linear time of Vose (1991): a place that its column does not fill is filled by a column that
 * has too much.  In integers all of it comes out even: what remains fills its places, and is its own alias. */
static void fill_places(psg_grid_table *table, psg_u128 *area) {
    stack poor = { .count = 0 }, rich = { .count = 0 };
    for (uint16_t c = 0; c < PSG_GRID_COLUMNS; c++) push(area[c] < CAPACITY ? &poor : &rich, c);
    while (poor.count) {
        const uint16_t place = poor.place[--poor.count], giver = rich.place[rich.count - 1];
        finish(table, place, area[place], giver);
        area[giver] -= CAPACITY - area[place];
        if (area[giver] < CAPACITY) push(&poor, rich.place[--rich.count]);
    }
    while (rich.count) {
        const uint16_t place = rich.place[--rich.count];
        finish(table, place, 0, place);
    }
}

/* Areas are made where the thresholds will be: a place that is finished needs its area no more. */
void psg_grid_table_make(psg_grid_table *table, unsigned ratio_bits, unsigned offset_bits) {
    table->ratio_bits = ratio_bits;
    table->columns.offset_bits = offset_bits;
    fill_factorials(table->inverse_factorial);
    fill_falls(table);
    fill_areas(table, table->threshold);
    fill_places(table, table->threshold);
}

/* ---- what a word and a table say ---- */

uint32_t psg_grid_column(const psg_grid_table *table, uint64_t word, psg_u128 more) {
    const uint32_t own = word % PSG_GRID_COLUMNS;
    const psg_u128 bits = (psg_u128)(word >> PSG_GRID_THRESHOLD_BIT) << (PSG_GRID_CAPACITY_BITS - PREFIX_BITS)
                          | more >> (128 - PSG_GRID_CAPACITY_BITS + PREFIX_BITS);
    return (uint32_t)psg_grid_choose(bits < table->threshold[own], own, table->columns.entry[own] % PSG_GRID_COLUMNS);
}

/* With y = (m^2 - j^2 w^2) / (2 S^2) = t (2 j w + t) / (2 S^2), the curve leaves of the cap's height the part
 * 1 - (1 - e^-y) / (1 - h_(j+1) / h_j); u and 1 - u have one law. */
bool psg_grid_below_curve(const psg_grid_table *table, const psg_grid_place *place, psg_u128 u) {
    const unsigned offset_bits = table->columns.offset_bits, scale_bits = table->ratio_bits + offset_bits;
    const psg_u128 n = (psg_u128)place->offset * (((uint64_t)place->cell << (offset_bits + 1)) + place->offset);
    const psg_u128 y = n << (128 - (2 * scale_bits + 1));
    return psg_high_product(table->cap[place->cell], u) >= psg_grid_fall(table, y);
}
