/* The kernels that write windows of an image out: lines of columns, and panels of two vectors. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "support.h"

enum { GUARD = 8 };

typedef struct scene {
    psg_unfolding u;
    double *image;             /* as drawn; steps index it */
    float *narrow;
    size_t count;
} scene;

static int64_t positions_of(const psg_unfolding *u) { return u->output[0] * u->output[1] * u->output[2]; }
static int64_t columns_of(const psg_unfolding *u) { return u->channels * u->kernel[0] * u->kernel[1] * u->kernel[2]; }

static void draw(scene *s, test_random *random) {
    static const int64_t lengths[] = { 1, 2, 3, 4, 7, 8, 15, 17, 33, 70 };
    psg_unfolding *u = &s->u;
    *s = (scene){ .u.channels = test_range(random, 1, 6) };
    ptrdiff_t step = test_range(random, 1, 2);
    for (int d = 2; d >= 0; d--) {
        u->size[d] = d == 2 ? TEST_PICK(random, lengths) : test_range(random, 1, 5);
        u->output[d] = d == 2 ? TEST_PICK(random, lengths) : test_range(random, 1, 5);
        u->kernel[d] = test_range(random, 1, 4);
        u->stride[d] = test_range(random, 1, 3);
        u->dilation[d] = test_range(random, 1, test_range(random, 0, 3) ? 3 : 400);
        u->padding[d] = test_range(random, 0, 4);
        u->step[d] = step;
        step *= u->size[d];
    }
    u->channel_step = step;
    s->count = (size_t)(step * u->channels);
    s->image = malloc(s->count * sizeof *s->image);
    s->narrow = malloc(s->count * sizeof *s->narrow);
    for (size_t k = 0; k < s->count; k++) s->narrow[k] = (float)(s->image[k] = (double)(float)test_normal(random));
}

static void free_scene(scene *s) {
    free(s->image);
    free(s->narrow);
}

static double element(const scene *s, int64_t t, int64_t column) {
    const psg_unfolding *u = &s->u;
    ptrdiff_t at = 0;
    for (int d = 2; d >= 0; d--) {
        int64_t x = t % u->output[d] * u->stride[d] + column % u->kernel[d] * u->dilation[d] - u->padding[d];
        t /= u->output[d];
        column /= u->kernel[d];
        if (x < 0 || x >= u->size[d]) return 0;
        at += x * u->step[d];
    }
    return s->image[at + column * u->channel_step];
}

static double value(const void *memory, int real, int64_t k) {
    return real ? ((const double *)memory)[k] : (double)((const float *)memory)[k];
}

/* Memory of NaN. */
static void *room(int real, int64_t count) {
    size_t bytes = (size_t)count * (real ? sizeof(double) : sizeof(float));
    return memset(malloc(bytes), 255, bytes);
}

static psg_unfold_part draw_part(const psg_unfolding *u, test_random *random, int64_t most_columns) {
    psg_unfold_part part = { .position = test_range(random, 0, positions_of(u) - 1),
                             .column = test_range(random, 0, columns_of(u) - 1) };
    int64_t columns = columns_of(u) - part.column;
    part.positions = test_range(random, 0, positions_of(u) - part.position);
    part.columns = test_range(random, 1, columns < most_columns ? columns : most_columns);
    return part;
}

static void check_lines(const scene *s, const psg_kernel_table *kernels, int real, test_random *random) {
    psg_unfold_part part = draw_part(&s->u, random, 50);
    int64_t step = part.positions + test_range(random, 0, 3), count = part.columns * step + GUARD;
    void *out = room(real, count);
    kernels->unfold(&s->u, real ? (void *)s->image : s->narrow, &part, out, step);
    for (int64_t k = 0; k < count; k++) {
        bool written = k / (step ? step : 1) < part.columns && step && k % step < part.positions;
        double have = value(out, real, k);
        if (!written) assert_true(isnan(have));
        else assert_true(have == element(s, part.position + k % step, part.column + k / step));
    }
    free(out);
}

static void check_panel(const scene *s, const psg_kernel_table *kernels, int real, size_t vector, test_random *random) {
    int64_t width = 2 * (int64_t)(vector / (real ? 8 : 4));
    psg_unfold_part part = draw_part(&s->u, random, 5 * width);
    int64_t panels = (part.columns + width - 1) / width, count = part.positions * width * panels + GUARD;
    void *panel = room(real, count);
    kernels->unfold_panels(&s->u, real ? (void *)s->image : s->narrow, &part, panel);
    for (int64_t k = 0; k < count; k++) {
        int64_t rows = part.positions ? part.positions : 1, t = k / width % rows;
        int64_t j = k / width / rows * width + k % width;
        double have = value(panel, real, k);
        if (k >= count - GUARD) assert_true(isnan(have));
        else assert_true(have == (j < part.columns ? element(s, part.position + t, part.column + j) : 0));
    }
    free(panel);
}

static void windows_are_written_out(void **state) {
    (void)state;
    static const char *const isas[] = { "baseline", "avx2", "avx512" };
    static const size_t vectors[] = { 16, 32, 64 };
    test_random random = { 1 };
    for (int round = 0; round < 3000; round++) {
        scene s;
        draw(&s, &random);
        for (int k = 0; k < 6; k++) {
            const psg_kernel_table *kernels = psg_kernels_choose(isas[k / 2], k % 2);
            if (!kernels) continue;
            check_lines(&s, kernels, k % 2, &random);
            check_panel(&s, kernels, k % 2, vectors[k / 2], &random);
        }
        free_scene(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(windows_are_written_out) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
