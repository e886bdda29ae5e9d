/* The scattering transform of bench/train: values of kymatio, any number of images and threads, and the
 * normalisation. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../bench/train/scattering.h"

enum { GOLDEN_IMAGES = 2, PIXELS = 784 };

static scattering_filters *filters;

static void make_image(int k, uint8_t *image) {
    for (int p = 0; p < PIXELS; p++) image[p] = (uint8_t)(p / 28 % 5 > k ? p * p * (k + 3) % 251 : 0);
}

/* Of features up to 1, in single precision through transforms of 1,296 points: the golden ones are in double. */
static void features_are_those_of_kymatio(void **state) {
    (void)state;
    uint8_t image[GOLDEN_IMAGES][PIXELS];
    float *features = malloc(GOLDEN_IMAGES * SCATTERING_FEATURES * sizeof *features);
    FILE *golden = fopen("test/golden/scattering.txt", "r");
    assert_non_null(golden);
    for (int k = 0; k < GOLDEN_IMAGES; k++) make_image(k, image[k]);
    assert_int_equal(scattering_of(filters, image[0], GOLDEN_IMAGES, 2, features), 0);
    int read = 0;
    for (int i = 0; i < GOLDEN_IMAGES * SCATTERING_FEATURES; i += 7, read++) {
        double expected;
        assert_int_equal(fscanf(golden, "%lf", &expected), 1);
        if (!(fabs(features[i] - expected) <= 1e-6)) fail_msg("feature %d is %.9g, must be %.9g", i, features[i], expected);
    }
    assert_int_equal(read, 1134);
    fclose(golden);
    free(features);
}

/* An image has the same bits whatever its lane, its company and the number of threads. */
static void an_image_is_transformed_by_itself(void **state) {
    (void)state;
    enum { COUNT = 21 };
    uint8_t image[COUNT][PIXELS];
    float *all = malloc(COUNT * SCATTERING_FEATURES * sizeof *all), *one = malloc(SCATTERING_FEATURES * sizeof *one);
    for (int k = 0; k < COUNT; k++) make_image(k % 7 - 1, image[k]);
    assert_int_equal(scattering_of(filters, image[0], COUNT, 3, all), 0);
    for (int k = 0; k < COUNT; k++) {
        assert_int_equal(scattering_of(filters, image[k], 1, 1, one), 0);
        assert_memory_equal(one, all + k * SCATTERING_FEATURES, SCATTERING_FEATURES * sizeof *one);
    }
    assert_int_equal(scattering_of(filters, image[0], 0, 2, all), 0);
    free(one);
    free(all);
}

static void groups_are_normalised(void **state) {
    (void)state;
    enum { GROUP = 3 * SCATTERING_PLACES };
    float *x = malloc(SCATTERING_FEATURES * sizeof *x), *y = malloc(SCATTERING_FEATURES * sizeof *y);
    for (int i = 0; i < SCATTERING_FEATURES; i++) y[i] = x[i] = i / GROUP == 5 ? 0.25f : (float)sin(i) * (float)(i / GROUP);
    scattering_normalise(y);
    for (int g = 0; g < SCATTERING_FEATURES / GROUP; g++) {
        double mean = 0, square = 0;
        for (int i = 0; i < GROUP; i++) mean += x[g * GROUP + i];
        mean /= GROUP;
        for (int i = 0; i < GROUP; i++) square += pow(x[g * GROUP + i] - mean, 2);
        const double scale = 1 / sqrt(square / GROUP + 1e-5);
        for (int i = 0; i < GROUP; i++) {
            const double expected = (x[g * GROUP + i] - mean) * scale;   /* rounded once */
            assert_true(fabs(y[g * GROUP + i] - expected) <= 0x1.01p-24 * fabs(expected) + 1e-12);
        }
    }
    free(y);
    free(x);
}

static int set_up(void **state) {
    (void)state;
    return !(filters = scattering_filters_create());
}

static int tear_down(void **state) {
    (void)state;
    scattering_filters_destroy(filters);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_are_those_of_kymatio),
        cmocka_unit_test(an_image_is_transformed_by_itself),
        cmocka_unit_test(groups_are_normalised),
    };
    return cmocka_run_group_tests_name("scattering", tests, set_up, tear_down);
}
