/* The time of grid noise: slots for what one word leaves undecided, as many for any noise. */
#include "support.h"

#include <math.h>

#include "base/context.h"
#include "dp/grid_noise.h"

static void slots_do_not_tell_the_noise(void **state) {
    (void)state;
    static const unsigned char seed[32] = "one more seed, of 32 bytes again";
    static int64_t z[PSG_GRID_BLOCK];
    psg_context *context = test_context(1, NULL);
    psg_generator *generator;
    TEST_OK(context, psg_generator_create_seeded(context, seed, &generator));
    for (uint64_t step = 0; step < 200; step++) {
        const psg_stream stream = { PSG_PURPOSE_GRID_NOISE, 3, 0, step };
        const size_t counts[] = { 16384, 8000, 1000, 17 }, slots[] = { 216, 152, 48, 32 };
        for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
            const size_t run = psg_grid_noise(generator, &stream, 7 * step, counts[k], z, context->workspace[0]);
            assert_int_equal(run, slots[k]);
        }
    }
    psg_generator_destroy(generator);
    test_context_free(context);
}

/* A sample takes a slot with probability p (a cap, or a tie) and each further one with less than p: by Chernoff's
 * bound, P(more than m) <= (1 - p + p (1 - p) s / (1 - p s))^n s^-(m + 1) for any s in (1, 1 / p). */
static double log2_of_more(size_t n, double p, double s) {
    const double m = (double)psg_grid_least_slots(n);
    return (double)n * log2(1 - p + p * (1 - p) * s / (1 - p * s)) - (m + 1) * log2(s);
}

static void slots_suffice(void **state) {
    (void)state;
    double area = 0;
    for (double j = 0; j < PSG_GRID_CELLS; j++) area += exp(-j * j / 32768);
    const double p = 1 / area + 0x1p-20;
    for (size_t n = 1; n <= PSG_GRID_BLOCK; n++) {
        double least = 0;
        for (double s = 1.05; s < 100; s *= 1.04) least = fmin(least, log2_of_more(n, p, s));
        if (least > -68) print_error("%zu samples need more slots with probability 2^%g\n", n, least);
        assert_true(least <= -68);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_do_not_tell_the_noise),
        cmocka_unit_test(slots_suffice),
    };
    return cmocka_run_group_tests_name("grid slots", tests, NULL, NULL);
}
