/* The table of the grid sampler against arithmetic of 256 bits that takes another way: heights by recurrence. */
#include "support.h"

#include <math.h>
#include <stdlib.h>

#include "dp/grid_table.h"

/* ---- fractions of 256 bits ----
 * limb[0] is the lowest of eight, limb[8] the whole part. */

enum { LIMBS = 9, FRACTION = 8 };

typedef struct big { uint32_t limb[LIMBS]; } big;

static big big_whole(uint32_t n) { return (big){ .limb[FRACTION] = n }; }

static big big_of(psg_u128 fraction) {
    big x = { { 0 } };
    for (int k = 0; k < 4; k++) x.limb[4 + k] = (uint32_t)(fraction >> (32 * k));
    return x;
}

static psg_u128 fraction_of(big x) {
    psg_u128 fraction = 0;
    for (int k = 3; k >= 0; k--) fraction = fraction << 32 | x.limb[4 + k];
    return fraction;
}

static double big_double(big x) {
    double sum = 0;
    for (int k = 0; k < LIMBS; k++) sum += ldexp(x.limb[k], 32 * (k - FRACTION));
    return sum;
}

static big big_add(big a, big b) {
    uint64_t carry = 0;
    for (int k = 0; k < LIMBS; k++) {
        carry += (uint64_t)a.limb[k] + b.limb[k];
        a.limb[k] = (uint32_t)carry;
        carry >>= 32;
    }
    return a;
}

static big big_subtract(big a, big b) {
    for (int k = 0; k < LIMBS; k++) b.limb[k] = ~b.limb[k];
    return big_add(big_add(a, b), (big){ .limb[0] = 1 });
}

static big big_multiply(big a, big b) {
    uint32_t product[2 * LIMBS] = { 0 };
    for (int i = 0; i < LIMBS; i++) {
        uint64_t carry = 0;
        for (int j = 0; j < LIMBS; j++) {
            carry += (uint64_t)a.limb[i] * b.limb[j] + product[i + j];
            product[i + j] = (uint32_t)carry;
            carry >>= 32;
        }
        product[i + LIMBS] = (uint32_t)carry;
    }
    big high;
    for (int k = 0; k < LIMBS; k++) high.limb[k] = product[k + FRACTION];
    return high;
}

static big big_divide(big a, uint32_t n) {
    uint64_t rest = 0;
    for (int k = LIMBS - 1; k >= 0; k--) {
        rest = rest << 32 | a.limb[k];
        a.limb[k] = (uint32_t)(rest / n);
        rest %= n;
    }
    return a;
}

/* exp(-x), 0 <= x < 1. */
static big big_exp_minus(big x) {
    big sum = big_whole(1), term = sum;
    for (uint32_t k = 1; k < 70; k++) {
        term = big_divide(big_multiply(term, x), k);
        sum = k % 2 ? big_subtract(sum, term) : big_add(sum, term);
    }
    return sum;
}

/* Fails unless |a - b| <= units 2^-128. */
static void near_units(big a, big b, psg_u128 units, const char *what, int64_t where) {
    big difference = big_subtract(a, b);
    if (difference.limb[FRACTION] >> 31) difference = big_subtract(b, a);
    const bool near = !difference.limb[FRACTION] && fraction_of(difference) <= units;
    if (!near) print_error("%s %lld: off by %g 2^-128\n", what, (long long)where, big_double(difference) * 0x1p128);
    assert_true(near);
}

static void the_big_numbers_are_right(void **state) {
    (void)state;
    const double third = big_double(big_divide(big_whole(1), 3));
    test_near(third, 1.0 / 3, 1e-16, "a third", 0);
    for (uint32_t k = 0; k < 10; k++) {
        const big x = big_divide(big_whole(k), 10);
        test_near(big_double(big_exp_minus(x)), exp(-0.1 * k), 1e-15, "exp", k);
    }
    /* exp(-1/2) 2^128, from 80 digits */
    const psg_u128 root = (psg_u128)0x9b4597e37cb04ff3 << 64 | 0xd675a35530cdd767;
    near_units(big_exp_minus(big_divide(big_whole(1), 2)), big_of(root), 1, "exp(-1/2)", 0);
}

static psg_u128 random_wide(test_random *random) {
    const psg_u128 high = test_random_bits(random);
    return high << 64 | test_random_bits(random);
}

static void products_are_rounded_down(void **state) {
    (void)state;
    test_random random = { 4 };
    const psg_u128 all = ~(psg_u128)0, low = UINT64_MAX, ends[] = { 0, 1, low, low + 1, all - low, all - 1, all };
    for (int k = 0; k < 49 + 1000; k++) {
        const psg_u128 a = k < 49 ? ends[k / 7] : random_wide(&random), b = k < 49 ? ends[k % 7] : random_wide(&random);
        assert_true(psg_high_product(a, b) == fraction_of(big_multiply(big_of(a), big_of(b))));
    }
}

/* ---- the table ---- */

/* What the alias table gives a column: its own place up to the threshold, and the rest of places it is the alias of. */
static psg_u128 *masses(const psg_grid_table *table) {
    psg_u128 *mass = calloc(PSG_GRID_COLUMNS, sizeof *mass);
    assert_non_null(mass);
    for (uint32_t c = 0; c < PSG_GRID_COLUMNS; c++) {
        const uint32_t alias = table->columns.entry[c] % PSG_GRID_COLUMNS;
        mass[c] += table->threshold[c];
        mass[alias] += ((psg_u128)1 << PSG_GRID_CAPACITY_BITS) - table->threshold[c];
    }
    return mass;
}

/* d_j = exp(-(2 j + 1) u), h_(j+1) = h_j d_j, d_(j+1) = d_j exp(-2 u), u = w^2 / (2 S^2). */
typedef struct heights {
    big height, drop, square;
} heights;

static heights first_height(unsigned ratio_bits) {
    const big drop = big_exp_minus(big_divide(big_whole(1), (uint32_t)1 << (2 * ratio_bits + 1)));
    return (heights){ big_whole(1), drop, big_multiply(drop, drop) };
}

static void next_height(heights *h) {
    h->height = big_multiply(h->height, h->drop);
    h->drop = big_multiply(h->drop, h->square);
}

static big sum_of_heights(unsigned ratio_bits) {
    big sum = { { 0 } };
    heights h = first_height(ratio_bits);
    for (int j = 0; j < PSG_GRID_CELLS; j++, next_height(&h)) sum = big_add(sum, h.height);
    return sum;
}

/* mass 2^-128 sum and area agree as well as mass, an integer, can. */
static void check_column(psg_u128 mass, big sum, big area, psg_u128 units, uint32_t column) {
    const psg_u128 bound = (sum.limb[FRACTION] + 1) * units;
    near_units(big_multiply(big_of(mass), sum), area, bound, "column", column);
}

static void check_table(unsigned ratio_bits) {
    psg_grid_table *table = malloc(sizeof *table);
    assert_non_null(table);
    psg_grid_table_make(table, ratio_bits, 0);
    psg_u128 *mass = masses(table);
    const big sum = sum_of_heights(ratio_bits);
    heights h = first_height(ratio_bits);
    for (uint32_t j = 0; j < PSG_GRID_CELLS; j++) {
        const big height = h.height;
        near_units(big_of(table->cap[j]), big_subtract(big_whole(1), h.drop), 64, "cap", j);
        next_height(&h);
        check_column(mass[j], sum, h.height, j ? 2 : 1 << 13, j);
        check_column(mass[PSG_GRID_CELLS + j], sum, big_subtract(height, h.height), 2, PSG_GRID_CELLS + j);
    }
    free(mass), free(table);
}

static void columns_have_the_areas(void **state) {
    (void)state;
    check_table(7);
    check_table(3);
    check_table(0);
}

static void masses_are_one_in_all(void **state) {
    (void)state;
    for (unsigned ratio_bits = 0; ratio_bits <= 7; ratio_bits++) {
        psg_grid_table table;
        psg_grid_table_make(&table, ratio_bits, 29);
        psg_u128 *mass = masses(&table), sum = 0;
        unsigned wraps = 0;
        for (uint32_t c = 0; c < PSG_GRID_COLUMNS; c++) {
            sum += mass[c];
            wraps += sum < mass[c];
            assert_true(table.threshold[c] >> PSG_GRID_CAPACITY_BITS == 0);
            assert_int_equal(table.columns.entry[c] / PSG_GRID_COLUMNS, (uint32_t)(table.threshold[c] >> 96));
        }
        assert_true(sum == 0 && wraps == 1);
        free(mass);
    }
}

static void the_fall_is_exact(void **state) {
    (void)state;
    psg_grid_table table;
    test_random random = { 5 };
    psg_grid_table_make(&table, 7, 29);
    assert_true(psg_grid_fall(&table, 0) == 0);
    for (unsigned k = 0; k < 125 + 300; k++) {
        const unsigned below = k < 125 ? 3 + k : 3 + k % 8;
        const psg_u128 y = k ? random_wide(&random) >> below : ((psg_u128)1 << 125) - 1;
        const big fall = big_subtract(big_whole(1), big_exp_minus(big_of(y)));
        near_units(big_of(psg_grid_fall(&table, y)), fall, 4, "fall below 2^-", below);
    }
}

/* The part of a cap below the curve at t: (exp(-m^2 / (2 S^2)) - h_(j+1)) / (h_j - h_(j+1)). */
static big part_below(const psg_grid_table *table, uint32_t cell, uint64_t offset, big cap) {
    const unsigned b = table->columns.offset_bits;
    const psg_u128 n = (psg_u128)offset * (((uint64_t)cell << (b + 1)) + offset);
    const big fall = big_subtract(big_whole(1), big_exp_minus(big_of(n << (127 - 2 * (table->ratio_bits + b)))));
    return big_subtract(cap, fall);
}

/* The least u that is taken, by bisection: u 2^-128 cap = fall, to 2^-120. */
static void caps_are_cut_by_the_curve(void **state) {
    (void)state;
    psg_grid_table table;
    test_random random = { 6 };
    psg_grid_table_make(&table, 7, 29);
    for (int round = 0; round < 300; round++) {
        const uint32_t cell = (uint32_t)test_range(&random, 0, round % 2 ? 2047 : 300);
        const uint64_t offset = (uint64_t)test_range(&random, 0, (1 << 29) - 1);
        const psg_grid_place place = { cell, true, false, offset };
        psg_u128 refused = 0, taken = ~(psg_u128)0;
        assert_true(psg_grid_below_curve(&table, &place, taken));
        assert_true(psg_grid_below_curve(&table, &place, 0) == (offset == 0));
        while (taken - refused > 1) {
            const psg_u128 middle = refused + (taken - refused) / 2;
            *(psg_grid_below_curve(&table, &place, middle) ? &taken : &refused) = middle;
        }
        const big cap = big_subtract(big_whole(1), big_exp_minus(big_divide(big_whole(2 * cell + 1), 32768)));
        near_units(big_multiply(big_of(-taken), cap), part_below(&table, cell, offset, cap), 256, "cap at", round);
    }
}

/* At the threshold itself the alias has it. */
static void the_last_bit_of_a_threshold_counts(void **state) {
    (void)state;
    psg_grid_table table;
    psg_grid_table_make(&table, 7, 29);
    for (uint32_t place = 0; place < PSG_GRID_COLUMNS; place++) {
        const psg_u128 threshold = table.threshold[place];
        if (!threshold) continue;
        const psg_u128 before = threshold - 1;
        const uint64_t word = (uint64_t)(threshold >> 96) << PSG_GRID_THRESHOLD_BIT | place;
        const uint64_t word_before = (uint64_t)(before >> 96) << PSG_GRID_THRESHOLD_BIT | place;
        const uint32_t alias = table.columns.entry[place] % PSG_GRID_COLUMNS;
        assert_int_equal(psg_grid_column(&table, word, threshold << 32), alias);
        assert_int_equal(psg_grid_column(&table, word_before, before << 32 | 0xffffffff), place);
        assert_true(alias != place);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_big_numbers_are_right),
        cmocka_unit_test(products_are_rounded_down),
        cmocka_unit_test(columns_have_the_areas),
        cmocka_unit_test(masses_are_one_in_all),
        cmocka_unit_test(the_fall_is_exact),
        cmocka_unit_test(caps_are_cut_by_the_curve),
        cmocka_unit_test(the_last_bit_of_a_threshold_counts),
    };
    return cmocka_run_group_tests_name("grid table", tests, NULL, NULL);
}
