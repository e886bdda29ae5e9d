/* A short run of the attack on the clip bound (test/attack), so that it keeps working, and of what it judges with. */
#include "support.h"

#include <math.h>

#include "attack/replay.h"

static void a_sum_that_moves_by_more_than_c_is_broken(void **state) {
    (void)state;
    double zero[2] = { 0, 0 }, at[2] = { 3, 4 }, above[2] = { 3, nextafter(4, 5) }, bad[2] = { 0, NAN };
    attack_outcome held = attack_compare(at, zero, 2, 5);
    assert_int_equal(held.verdict, HELD);
    assert_true(held.share == 1);
    assert_int_equal(attack_compare(above, zero, 2, 5).verdict, BROKEN);
    assert_int_equal(attack_compare(zero, bad, 2, 5).verdict, BROKEN);
}

/* 1 + 2^-60 against C = 1, spread over two elements: double arithmetic does not see it. */
static void movements_are_judged_beyond_double(void **state) {
    (void)state;
    double zero[2] = { 0, 0 }, little[2] = { 1, 0x1p-30 };
    assert_int_equal(attack_compare(little, zero, 2, 1).verdict, BROKEN);
    assert_true(attack_compare(little, zero, 2, 1).share == 1);
    double tiny[1] = { 3e-320 }, huge[1] = { 1.5e308 };
    assert_int_equal(attack_compare(tiny, zero, 1, 3e-320).verdict, HELD);
    assert_int_equal(attack_compare(huge, zero, 1, 1.4e308).verdict, BROKEN);
}

static void pairs_are_the_same_when_replayed(void **state) {
    (void)state;
    attack_climb climb = attack_climb_start(5, 2);
    for (int64_t k = 0; k < ATTACK_CLIMB; k++) {
        attack_pair pair, again;
        attack_outcome outcome = attack_climb_step(&climb, &pair);
        attack_outcome replayed = attack_replay(5, 2 * ATTACK_CLIMB + k, &again);
        assert_int_equal(outcome.verdict, replayed.verdict);
        assert_true(outcome.share == replayed.share);
        assert_true(pair.contents.seed == again.contents.seed && pair.settings.batch == again.settings.batch);
    }
}

/* Every family once; one whose records never come near C would test nothing. */
static void no_record_moves_the_sum_by_more_than_c(void **state) {
    (void)state;
    double largest = 0;
    for (int64_t number = 0; number < attack_family_count; number++) {
        attack_climb climb = attack_climb_start(7, number);
        for (int64_t k = 0; k < ATTACK_CLIMB; k++) {
            attack_pair pair;
            attack_outcome outcome = attack_climb_step(&climb, &pair);
            if (outcome.verdict == BROKEN) {
                fail_msg("%s: the sum moved by %.9g C: make dp-attack ARGS=\"--seed 7 --pair %lld\"",
                         attack_families[pair.family].name, outcome.share, (long long)(number * ATTACK_CLIMB + k));
            }
            if (outcome.share > largest) largest = outcome.share;
        }
    }
    assert_true(largest > 0.999);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sum_that_moves_by_more_than_c_is_broken),
        cmocka_unit_test(movements_are_judged_beyond_double),
        cmocka_unit_test(pairs_are_the_same_when_replayed),
        cmocka_unit_test(no_record_moves_the_sum_by_more_than_c),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
