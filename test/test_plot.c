/* The drawings of bench's pages: where ticks stand, where values land, and what has no place on an axis. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../bench/pages/plot.h"
#include "../bench/pages/plot_heat.h"
#include "../bench/pages/plot_rows.h"

/* ---- scales ---- */

/* Values, the ends of their scale, its first ticks and how many it has. */
typedef struct scale_row {
    int is_log;
    double values[3];
    size_t count;
    double low, high, tick[4];
    size_t ticks;
} scale_row;

static void ends_and_ticks_are_round_numbers(void **state) {
    static const scale_row rows[] = {
        { 0, { 0.3, 9.2 }, 2, 0, 10, { 0, 2, 4, 6 }, 6 },
        { 0, { -0.013, 0.004 }, 2, -0.015, 0.005, { -0.015, -0.01, -0.005, 0 }, 5 },
        { 0, { 3, 3 }, 2, 1, 5, { 1, 2, 3, 4 }, 5 },
        { 0, { 0, 0 }, 2, -1, 1, { -1, -0.5, 0, 0.5 }, 5 },
        { 0, { 0 }, 0, 0, 1, { 0, 0.2, 0.4, 0.6 }, 6 },
        { 0, { NAN, 1, 2 }, 3, 1, 2, { 1, 1.2, 1.4, 1.6 }, 6 },
        { 0, { INFINITY, 7, -INFINITY }, 3, 2, 12, { 2, 4, 6, 8 }, 6 },
        { 0, { -1, 8.75 }, 2, -2, 10, { -2, 0, 2, 4 }, 7 },
        { 1, { 0.02, 300 }, 2, 0.01, 1000, { 0.01, 0.1, 1, 10 }, 6 },
        { 1, { 2, 30 }, 2, 1, 100, { 1, 2, 5, 10 }, 7 },
        { 1, { 0, -4, 10 }, 3, 10, 100, { 10, 20, 50, 100 }, 4 },
        { 1, { 1e-30, 1 }, 2, 1e-30, 1, { 1e-30, 1e-26, 1e-22, 1e-18 }, 8 },
        { 1, { 0, NAN }, 2, 1, 10, { 1, 2, 5, 10 }, 4 },
    };
    (void)state;
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        const scale_row *row = &rows[k];
        double tick[PLOT_MAX_TICKS];
        const plot_scale s = plot_scale_of(row->is_log, row->values, row->count);
        const size_t ticks = plot_scale_ticks(&s, tick);
        if (fabs(s.low - row->low) > 1e-9 * fabs(row->low) + 1e-300) fail_msg("row %zu: low %g", k, s.low);
        if (fabs(s.high - row->high) > 1e-9 * fabs(row->high)) fail_msg("row %zu: high %g", k, s.high);
        if (ticks != row->ticks) fail_msg("row %zu: %zu ticks", k, ticks);
        for (size_t i = 0; i < ticks && i < 4; i++) {
            const double error = fabs(tick[i] - row->tick[i]);
            if (error > 1e-9 * fabs(row->tick[i]) + 1e-17 * !row->is_log) fail_msg("row %zu: tick %g", k, tick[i]);
        }
    }
}

static void values_land_where_their_scale_says(void **state) {
    const plot_scale linear = { .low = 10, .high = 20, .from = 100, .to = 300 };
    const plot_scale falling = { .low = 0, .high = 4, .from = 200, .to = 0 };
    const plot_scale logarithmic = { .is_log = 1, .low = 0.01, .high = 100, .from = 0, .to = 400 };
    (void)state;
    assert_float_equal(plot_scale_at(&linear, 10), 100, 1e-9);
    assert_float_equal(plot_scale_at(&linear, 12.5), 150, 1e-9);
    assert_float_equal(plot_scale_at(&falling, 1), 150, 1e-9);
    assert_float_equal(plot_scale_at(&logarithmic, 1), 200, 1e-9);
    assert_float_equal(plot_scale_at(&logarithmic, 10), 300, 1e-9);
    assert_true(plot_scale_takes(0, -1) && plot_scale_takes(0, 0) && plot_scale_takes(1, 1e-300));
    assert_false(plot_scale_takes(1, 0) || plot_scale_takes(1, -1) || plot_scale_takes(0, NAN));
    assert_false(plot_scale_takes(0, INFINITY) || plot_scale_takes(1, INFINITY));
}

/* ---- drawings ---- */

static char *drawn;
static size_t drawn_size;

static FILE *begin_drawing(void) {
    FILE *out = open_memstream(&drawn, &drawn_size);
    assert_non_null(out);
    return out;
}

static int count_of(const char *word) {
    int count = 0;
    for (const char *at = drawn; (at = strstr(at, word)); at++) count++;
    return count;
}

/* Whatever is drawn, no number in it is NaN or infinite. */
static void end_drawing(FILE *out) {
    assert_int_equal(fclose(out), 0);
    assert_null(strstr(drawn, "nan"));
    assert_null(strstr(drawn, "inf"));
}

static void draw_series(plot_mark mark, int is_log, const double *x, const double *y, size_t count) {
    const plot_caption caption = { "a title", NULL, NULL };
    const plot_axis x_axis = { .label = "x (s)" }, y_axis = { .label = "y", .is_log = is_log };
    const plot_series series = { .name = "one", .mark = mark, .x = x, .y = y, .count = count };
    FILE *out = begin_drawing();
    plot_write(out, &caption, &x_axis, &y_axis, &series, 1);
    end_drawing(out);
}

static void lines_break_where_a_value_has_no_place(void **state) {
    static const double x[] = { 1, 2, 3, 4, 5, 6 }, y[] = { 1, 2, NAN, 4, INFINITY, 6 };
    (void)state;
    draw_series(PLOT_LINE, 0, x, y, 6);
    const char *line = strstr(drawn, "d=\"M");
    assert_non_null(line);
    int pieces = 0;
    for (const char *at = line; *at != '>'; at++) pieces += *at == 'M';
    assert_int_equal(pieces, 3);
    assert_int_equal(count_of("no values"), 0);
    free(drawn);
}

static void points_below_zero_leave_a_logarithmic_axis(void **state) {
    static const double x[] = { 1, 2, 3, 4 }, y[] = { 0, -1, 5, 50 };
    (void)state;
    draw_series(PLOT_POINTS, 1, x, y, 4);
    assert_int_equal(count_of("translate("), 2);
    free(drawn);
    draw_series(PLOT_POINTS, 0, x, y, 4);
    assert_int_equal(count_of("translate("), 4);
    free(drawn);
}

static void nothing_and_one_point_can_be_drawn(void **state) {
    static const double x[] = { 3 }, y[] = { 7 }, none[] = { NAN };
    (void)state;
    draw_series(PLOT_LINE, 0, x, y, 0);
    assert_int_equal(count_of("no values"), 1);
    free(drawn);
    draw_series(PLOT_LINE, 1, x, none, 1);
    assert_int_equal(count_of("no values"), 1);
    free(drawn);
    draw_series(PLOT_LINE, 0, x, y, 1);
    assert_int_equal(count_of("no values"), 0);
    assert_non_null(strstr(drawn, "h0\"/>"));       /* a stroke of no length, whose round ends show */
    free(drawn);
}

static void labels_and_warnings_stand_in_the_drawing(void **state) {
    static const double x[] = { 1, 2 }, y[] = { 1e-7, 1 };
    const plot_caption caption = { "a < b & \"c\"", "note", "NOT PRIVATE" };
    const plot_axis x_axis = { .label = "time (s)" }, y_axis = { .label = "delta", .is_log = 1 };
    const plot_series series[] = { { .name = "<upper>", .x = x, .y = y, .count = 2 },
                                   { .name = "lower", .mark = PLOT_DASHES, .colour = 1, .x = x, .y = y, .count = 2 } };
    (void)state;
    FILE *out = begin_drawing();
    plot_write(out, &caption, &x_axis, &y_axis, series, 2);
    end_drawing(out);
    assert_int_equal(count_of("NOT PRIVATE"), 2);   /* beside the title, and in the drawing */
    assert_non_null(strstr(drawn, "a &lt; b &amp; &quot;c&quot;"));
    assert_non_null(strstr(drawn, "&lt;upper&gt;"));
    assert_non_null(strstr(drawn, "time (s)"));
    assert_non_null(strstr(drawn, "10<tspan dy=\"-5\" font-size=\"9\">\u22127</tspan>"));
    assert_int_equal(count_of("stroke-dasharray"), 2);      /* in the legend and in the plot */
    free(drawn);
}

/* ---- rows and cells ---- */

static double width_of_bar(int which) {
    const char *at = drawn;
    double width = NAN;
    for (int k = 0; at && k <= which; k++) at = strstr(at + 1, "<rect");
    assert_non_null(at);
    assert_int_equal(sscanf(strstr(at, "width=\""), "width=\"%lf", &width), 1);
    return width;
}

static void draw_bars(int is_log, const double *value) {
    static const char *const names[] = { "first", "second", "third" };
    const plot_caption caption = { "bars", NULL, NULL };
    const plot_row_series series = { .name = "ms", .is_bar = 1, .value = value };
    const plot_rows rows = { "ms", is_log, names, 3, &series, 1 };
    FILE *out = begin_drawing();
    plot_rows_write(out, &caption, &rows);
    end_drawing(out);
}

static void bars_are_as_long_as_their_values(void **state) {
    static const double linear[] = { 20, NAN, 40 }, logarithmic[] = { 10, 0, 100 };
    (void)state;
    draw_bars(0, linear);
    assert_int_equal(count_of("<rect"), 2);
    assert_float_equal(width_of_bar(1), 2 * width_of_bar(0), 0.2);
    free(drawn);
    draw_bars(1, logarithmic);
    assert_int_equal(count_of("<rect"), 2);
    assert_float_equal(width_of_bar(1), 2 * width_of_bar(0), 0.2);
    free(drawn);
}

static void cells_are_shaded_by_the_share_of_their_row(void **state) {
    static const char *const names[] = { "a", "b" };
    static const double count[] = { 3, 1, 0, 0 };
    const plot_caption caption = { "matrix", NULL, NULL };
    const plot_heat heat = { "rows", "columns", names, 2, count };
    (void)state;
    FILE *out = begin_drawing();
    plot_heat_write(out, &caption, &heat);
    end_drawing(out);
    assert_int_equal(count_of("fill-opacity=\"0.375\""), 1);
    assert_int_equal(count_of("fill-opacity=\"0.125\""), 1);
    assert_int_equal(count_of("fill-opacity=\"0.000\""), 2);    /* a row of none */
    free(drawn);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_and_ticks_are_round_numbers),
        cmocka_unit_test(values_land_where_their_scale_says),
        cmocka_unit_test(lines_break_where_a_value_has_no_place),
        cmocka_unit_test(points_below_zero_leave_a_logarithmic_axis),
        cmocka_unit_test(nothing_and_one_point_can_be_drawn),
        cmocka_unit_test(labels_and_warnings_stand_in_the_drawing),
        cmocka_unit_test(bars_are_as_long_as_their_values),
        cmocka_unit_test(cells_are_shaded_by_the_share_of_their_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
