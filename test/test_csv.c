/* CSV: numbers are the nearest reals, labels are codes in order, whatever the lines look like. */
#include "io_fixture.h"

#include <fenv.h>
#include <float.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/categories.h"
#include "io/decimal.h"

/* ---- numbers: against strtod, and where a quarter of an ulp decides ---- */

static locale_t c_locale;

static int same_f64(double a, double b) { return !memcmp(&a, &b, sizeof a); }
static int same_f32(float a, float b) { return !memcmp(&a, &b, sizeof a); }

static void check_number(const char *text) {
    double wide = 7;
    float narrow = 7;
    const double expected_wide = strtod(text, NULL);
    const float expected_narrow = strtof(text, NULL);
    const psg_decimal large = isinf(expected_wide) ? PSG_DECIMAL_LARGE : PSG_DECIMAL_READ;
    if (psg_decimal_f64(text, strlen(text), c_locale, &wide) != large || !same_f64(wide, expected_wide)) {
        fail_msg("%s: %a is no %a", text, wide, expected_wide);
    }
    const psg_decimal large_narrow = isinf(expected_narrow) ? PSG_DECIMAL_LARGE : PSG_DECIMAL_READ;
    if (psg_decimal_f32(text, strlen(text), c_locale, &narrow) != large_narrow || !same_f32(narrow, expected_narrow)) {
        fail_msg("%s: %a is no %a", text, (double)narrow, (double)expected_narrow);
    }
}

static void numbers_are_the_nearest_reals(void **state) {
    (void)state;
    static const char *const texts[] = {
        "0", "-0", "+0", "0.0", "-.0", "1", "+1", "-1.", ".5", "1e0", "1E+2", "1e-2", "0e999999999999999999999",
        "0e15", "1e15", "0.1", "0.3", "00000000000000000000000000001", "0.00000000000000000000000000000000000001",
        "123456789012345678", "16777217", "9007199254740993", "9007199254740991", "9007199254740992.5",
        "18446744073709551615", "1844674407370955161.6", "9999999999999999999", "99999999999999999999", "1e22",
        "1e23", "8.5e22", "1e-22", "1e-23", "9007199254740993e19", "9007199254740993e-19", "1e19", "1e-19", "1e20",
        "16777217e10", "16777217e-11", "33554433.5", "16777215.5", "3.4028235e38", "3.4028235677973366e38",
        "3.4028236e38", "1.7976931348623157e308", "1.7976931348623159e308", "1e400", "-1e400", "1e-400", "4.9e-324",
        "2.4703282292062327e-324", "2.4703282292062328e-324", "2.2250738585072011e-308", "1.4e-45",
        "7.006492321624085e-46", "7.0064923216240854e-46", "1e99999999999999999999", "1e-99999999999999999999",
        "1.00000005960464477539062", "1.00000005960464477539063", "1.00000017881393432617187",
        "1.00000017881393432617188", "1.000000059604644775390625", "1.000000178813934326171875",
        "0.500000029802322387695312500000000000001", "8.0000004768371582031", "1.00000000000000011102230246251565404",
        "1.00000000000000011102230246251565405",
    };
    for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++) check_number(texts[k]);
}

/* As many zeros as the exponent takes back: what is cut short of either would make another number of it. */
static void zeros_and_exponents_may_be_long(void **state) {
    (void)state;
    enum { ZEROS = 1000001 };
    static char text[ZEROS + 32];
    static const char *const exponents[] = { "1e1000002", "1e999999", "1e10000001", "1e-10000001", "e99" };
    memset(text, '0', ZEROS + 2);
    text[1] = '.';
    for (size_t k = 0; k < sizeof exponents / sizeof exponents[0]; k++) {
        strcpy(text + ZEROS + 2, exponents[k]);
        check_number(text);
    }
    text[1] = '0';
    for (size_t k = 0; k < sizeof exponents / sizeof exponents[0]; k++) {
        strcpy(text + ZEROS + 2, exponents[k]);
        check_number(text);
    }
}

/* Digits and exponents of all lengths, and texts at and beside the middle between two reals of either type. */
static void drawn_numbers_are_the_nearest_reals(void **state) {
    (void)state;
    test_random random = { 3 };
    char text[128];
    for (int k = 0; k < 60000; k++) {
        const uint64_t high = (uint64_t)test_range(&random, 0, UINT32_MAX);
        const uint64_t bits = high << 32 | (uint64_t)test_range(&random, 0, UINT32_MAX);
        const int length = (int)test_range(&random, 1, 20);
        snprintf(text, sizeof text, "%.*s%" PRIu64 "e%d", k % 2, "-", bits >> (64 - 64 * length / 20) % 64,
                 (int)test_range(&random, -30, 30));
        check_number(text);
        const float near = (float)ldexp((double)(bits >> 40 | 1u << 23), (int)test_range(&random, -60, 20));
        const double middle = ((double)near + (double)nextafterf(near, INFINITY)) / 2;
        snprintf(text, sizeof text, "%.*g", (int)test_range(&random, 8, 19), middle);
        check_number(text);
        snprintf(text, sizeof text, "%.17g", nextafter(middle, k % 3 ? 0 : INFINITY));
        check_number(text);
        snprintf(text, sizeof text, "%.*f", (int)test_range(&random, 0, 12), ldexp((double)bits, -48));
        check_number(text);
    }
}

static void what_is_no_number_is_none(void **state) {
    (void)state;
    static const char *const texts[] = { "",
                                         "-",
                                         "+",
                                         ".",
                                         "-.",
                                         "e1",
                                         ".e1",
                                         "1e",
                                         "1e+",
                                         "1e-",
                                         "1.2.3",
                                         "1,5",
                                         "0x10",
                                         "nan",
                                         "inf",
                                         "-inf",
                                         "infinity",
                                         "1 ",
                                         " 1",
                                         "1f",
                                         "1d",
                                         "--1",
                                         "+-1",
                                         "1e1.5",
                                         "1e1e1",
                                         "1_0",
                                         "\xc2\xa0"
                                         "1",
                                         "\xd9\xa1" };
    for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++) {
        double wide;
        float narrow;
        assert_int_equal(psg_decimal_f64(texts[k], strlen(texts[k]), c_locale, &wide), PSG_DECIMAL_NONE);
        assert_int_equal(psg_decimal_f32(texts[k], strlen(texts[k]), c_locale, &narrow), PSG_DECIMAL_NONE);
    }
}

/* ---- files ---- */

static psg_table *read_table(psg_context *context, const char *text, const psg_csv_options *options) {
    psg_table *table = NULL;
    io_write(io_path("table"), text, strlen(text));
    TEST_OK(context, psg_csv_read(context, io_path("table"), options, &table));
    assert_non_null(table);
    return table;
}

static void check_numbers(const psg_table *table, psg_dtype dtype, int64_t rows, int64_t columns,
                          const double *expected) {
    const psg_tensor *numbers = psg_table_numbers(table);
    assert_int_equal(numbers->dtype, dtype);
    assert_int_equal(numbers->rank, 2);
    assert_int_equal(numbers->shape[0], rows);
    assert_int_equal(numbers->shape[1], columns);
    assert_true(psg_tensor_is_contiguous(numbers));
    for (int64_t k = 0; k < rows * columns; k++) {
        const double value = test_get_at(numbers, k),
                     wanted = dtype == PSG_F32 ? (double)(float)expected[k] : expected[k];
        if (value != wanted) fail_msg("number %lld: %a is no %a", (long long)k, value, wanted);
    }
}

static void check_codes(const psg_table *table, size_t label, int64_t rows, const int64_t *expected) {
    const psg_tensor *codes = psg_table_label(table, label);
    assert_true(codes->dtype == PSG_I64 && codes->rank == 1 && codes->shape[0] == rows);
    assert_memory_equal(codes->data, expected, (size_t)rows * sizeof *expected);
}

static void a_table_is_numbers_labels_and_names(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const psg_csv_column labels[] = { { .name = "kind" }, { .index = 0 } };
    const psg_csv_options options = { .labels = labels, .label_count = 2, .dtype = PSG_F64 };
    psg_table *table = read_table(context, "id,x,kind,y\nb,1,pear,2.5\na,-3,apple,1e3\nb, 4\t,pear,.25\n", &options);
    check_numbers(table, PSG_F64, 3, 2, (double[]){ 1, 2.5, -3, 1000, 4, 0.25 });
    check_codes(table, 0, 3, (int64_t[]){ 1, 0, 1 });
    check_codes(table, 1, 3, (int64_t[]){ 1, 0, 1 });
    assert_string_equal(psg_table_name(table, 0), "x");
    assert_string_equal(psg_table_name(table, 1), "y");
    assert_null(psg_table_name(table, 2));
    assert_string_equal(psg_table_label_name(table, 0), "kind");
    assert_string_equal(psg_table_label_name(table, 1), "id");
    assert_null(psg_table_label_name(table, 2));
    assert_null(psg_table_label(table, 2));
    assert_int_equal(psg_table_category_count(table, 0), 2);
    assert_string_equal(psg_table_category(table, 0, 0), "apple");
    assert_string_equal(psg_table_category(table, 0, 1), "pear");
    assert_null(psg_table_category(table, 0, 2));
    assert_null(psg_table_category(table, 2, 0));
    psg_table_destroy(table);
    test_context_free(context);
}

/* One table in all the ways that lines, quotes and marks can be written. */
static void lines_may_look_otherwise(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    static const char *const texts[] = {
        "x,k,y\n1,a,2\n3,b,4\n", "x,k,y\n1,a,2\n3,b,4", "x,k,y\r\n1,a,2\r\n3,b,4\r\n", "x,k,y\r\n1,a,2\r\n3,b,4",
        "\xef\xbb\xbfx,k,y\n1,a,2\n3,b,4", "\"x\",\"k\",\"y\"\n\"1\",\"a\",\"2\"\n\"3\",\"b\",\"4\"",
        "x,\"k\",y\r\n1 ,a,\t2\n\"3 \",b,4\r\n", "\xef\xbb\xbf\"x\",k,y\n+1,a,2.\n3e0,\"b\",40E-1\n",
    };
    const psg_csv_column label = { .name = "k" };
    const psg_csv_options options = { .labels = &label, .label_count = 1 };
    for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++) {
        psg_table *table = read_table(context, texts[k], &options);
        check_numbers(table, PSG_F32, 2, 2, (double[]){ 1, 2, 3, 4 });
        check_codes(table, 0, 2, (int64_t[]){ 0, 1 });
        assert_string_equal(psg_table_name(table, 0), "x");
        assert_string_equal(psg_table_category(table, 0, 1), "b");
        psg_table_destroy(table);
    }
    test_context_free(context);
}

static void quotes_hold_delimiters_lines_and_quotes(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const psg_csv_column label = { .index = 1 };
    psg_csv_options options = { .labels = &label, .label_count = 1 };
    const char *text = "\"a \"\"b\"\"\",\"c,\nd\"\n1,\"x,\"\"y\"\"\"\n2,\"\"\"\"\n3,\"1\r\n2\"\n4, z \n";
    psg_table *table = read_table(context, text, &options);
    assert_string_equal(psg_table_name(table, 0), "a \"b\"");
    assert_string_equal(psg_table_label_name(table, 0), "c,\nd");
    static const char *const sorted[] = { " z ", "\"", "1\r\n2", "x,\"y\"" };
    for (size_t k = 0; k < 4; k++) assert_string_equal(psg_table_category(table, 0, k), sorted[k]);
    check_codes(table, 0, 4, (int64_t[]){ 3, 1, 2, 0 });
    check_numbers(table, PSG_F32, 4, 1, (double[]){ 1, 2, 3, 4 });
    psg_table_destroy(table);
    /* The first line is counted and then read: its quotes must be there the second time. */
    options.no_header = 1;
    table = read_table(context, "1,\"\"\"p\"\",\"\"\"\n", &options);
    assert_string_equal(psg_table_category(table, 0, 0), "\"p\",\"");
    assert_string_equal(psg_table_name(table, 0), "0");
    assert_string_equal(psg_table_label_name(table, 0), "1");
    psg_table_destroy(table);
    test_context_free(context);
}

static void columns_are_chosen(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const psg_csv_column numbers[] = { { .name = "d" }, { .index = 0 } },
                         by_index[] = { { .name = "12" }, { .index = 1 } };
    psg_csv_options options = { .numbers = numbers, .number_count = 2, .delimiter = ';' };
    psg_table *table = read_table(context, "a;b;b;d\n1;no number;;4\n5;;x;8\n", &options);
    check_numbers(table, PSG_F32, 2, 2, (double[]){ 4, 1, 8, 5 });
    assert_string_equal(psg_table_name(table, 0), "d");
    assert_string_equal(psg_table_name(table, 1), "a");
    psg_table_destroy(table);
    options = (psg_csv_options){ .numbers = by_index, .number_count = 2, .delimiter = ' ', .no_header = 1 };
    table = read_table(context, "0 1 2 3 4 5 6 7 8 9 10 11 12\n", &options);
    check_numbers(table, PSG_F32, 1, 2, (double[]){ 12, 1 });
    assert_string_equal(psg_table_name(table, 0), "12");
    psg_table_destroy(table);
    options = (psg_csv_options){ .delimiter = '|' };
    table = read_table(context, "x|y\n1|2\n", &options);
    check_numbers(table, PSG_F32, 1, 2, (double[]){ 1, 2 });
    psg_table_destroy(table);
    table = read_table(context, "x,y\n", NULL);
    check_numbers(table, PSG_F32, 0, 2, NULL);
    psg_table_destroy(table);
    test_context_free(context);
}

static void missing_numbers_are_filled(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    for (int dtype = PSG_F32; dtype <= PSG_F64; dtype++) {
        psg_csv_options options = { .dtype = (psg_dtype)dtype, .fill_missing = 1, .fill = -0.1, .missing = "NA" };
        psg_table *table = read_table(context, "x,y\n,2\n\"\",NA\n 3,\" NA \"\n  ,\n", &options);
        check_numbers(table, (psg_dtype)dtype, 4, 2, (double[]){ -0.1, 2, -0.1, -0.1, 3, -0.1, -0.1, -0.1 });
        psg_table_destroy(table);
        options.missing = NULL;
        table = read_table(context, "x\n1\n\"\"\n2\n\"\"\n", &options);
        check_numbers(table, (psg_dtype)dtype, 4, 1, (double[]){ 1, -0.1, 2, -0.1 });
        psg_table_destroy(table);
    }
    test_context_free(context);
}

static void given_categories_keep_their_order(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    static const char *const sizes[] = { "small", "large", "", "huge" };
    const psg_csv_column label = { .name = "size", .categories = sizes, .category_count = 4 };
    const psg_csv_options options = { .labels = &label, .label_count = 1 };
    psg_table *table = read_table(context, "size\nlarge\nsmall\n\"\"\nlarge\n", &options);
    check_codes(table, 0, 4, (int64_t[]){ 1, 0, 2, 1 });
    assert_int_equal(psg_table_category_count(table, 0), 4);
    for (size_t k = 0; k < 4; k++) assert_string_equal(psg_table_category(table, 0, k), sizes[k]);
    psg_table_destroy(table);
    test_context_free(context);
}

/* ---- many ---- */

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Ascending, descending and drawn: the tree stays low, and codes are places among the sorted texts. */
static void many_categories_are_sorted(void **state) {
    (void)state;
    enum { MANY = 5000 };
    static char text[MANY * 12 + 8], words[MANY][12];
    static char *sorted[MANY];
    psg_context *context = test_context(1, NULL);
    const psg_csv_column label = { .index = 0 };
    const psg_csv_options options = { .labels = &label, .label_count = 1 };
    for (int kind = 0; kind < 3; kind++) {
        char *to = text + sprintf(text, "w\n");
        for (int k = 0; k < MANY; k++) {
            const int value = kind == 0 ? k : kind == 1 ? MANY - k : k * 7919 % MANY;
            sprintf(words[k], "%c%d", 'a' + value % 3, value / 2);
            to += sprintf(to, "%s\n", words[k]);
            sorted[k] = words[k];
        }
        qsort(sorted, MANY, sizeof *sorted, by_text);
        psg_table *table = read_table(context, text, &options);
        const int64_t *codes = psg_table_label(table, 0)->data;
        const size_t count = psg_table_category_count(table, 0);
        assert_in_range(count, MANY / 2, MANY);
        for (size_t k = 1; k < count; k++) {
            assert_true(strcmp(psg_table_category(table, 0, k - 1), psg_table_category(table, 0, k)) < 0);
        }
        for (int k = 0; k < MANY; k++) assert_string_equal(psg_table_category(table, 0, (size_t)codes[k]), words[k]);
        assert_string_equal(psg_table_category(table, 0, 0), sorted[0]);
        assert_string_equal(psg_table_category(table, 0, count - 1), sorted[MANY - 1]);
        psg_table_destroy(table);
    }
    test_context_free(context);
}

static int depth_of(const psg_categories *tree, size_t node) {
    if (!node) return 0;
    const int left = depth_of(tree, tree->nodes[node].left), right = depth_of(tree, tree->nodes[node].right);
    return 1 + (left > right ? left : right);
}

static void the_tree_is_low(void **state) {
    (void)state;
    enum { MANY = 1 << 12 };
    static char words[MANY][8];
    psg_context *context = test_context(1, NULL);
    for (int kind = 0; kind < 3; kind++) {
        psg_categories tree;
        psg_categories_init(&tree, context);
        for (int k = 0; k < MANY; k++) {
            sprintf(words[k], "%06d", kind == 0 ? k : kind == 1 ? MANY - k : k * 2003 % MANY);
            assert_true(psg_categories_add(&tree, words[k], 6));
        }
        assert_in_range(depth_of(&tree, tree.root), 12, 24); /* 2 log2(MANY) */
        for (int k = 0; k < MANY; k++) assert_int_equal(psg_categories_find(&tree, words[k], 6), k);
        assert_int_equal(psg_categories_find(&tree, words[0], 5), -1);
        psg_categories_release(&tree);
    }
    test_context_free(context);
}

/* ---- the host ---- */

static void the_host_decides_nothing(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    const psg_csv_options options = { .dtype = PSG_F64 };
    static const int modes[] = { FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO };
    setlocale(LC_ALL, "de_DE.UTF-8"); /* a comma for the point, where the locale is there */
    for (size_t k = 0; k < 3; k++) {
        fesetround(modes[k]);
        psg_table *table = read_table(context, "x,y,z\n0.1,1e-30,1.00000000000000011102230246251565405\n", &options);
        fesetround(FE_TONEAREST);
        check_numbers(table, PSG_F64, 1, 3, (double[]){ 0.1, 1e-30, 1 + DBL_EPSILON });
        psg_table_destroy(table);
    }
    setlocale(LC_ALL, "C");
    test_context_free(context);
}

/* A table goes with the last that uses its values. */
static void handles_may_go_in_any_order(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_table *table = read_table(context, "x\n1\n", NULL);
    test_context_free(context);
    check_numbers(table, PSG_F32, 1, 1, (double[]){ 1 });
    psg_table_destroy(table);
    psg_table_destroy(NULL);
    assert_null(psg_table_numbers(NULL));
    assert_null(psg_table_name(NULL, 0));
    assert_int_equal(psg_table_category_count(NULL, 0), 0);
}

static int setup(void **state) {
    c_locale = newlocale(LC_ALL_MASK, "C", 0);
    return c_locale ? io_setup(state) : -1;
}

static int teardown(void **state) {
    freelocale(c_locale);
    return io_teardown(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_the_nearest_reals),
        cmocka_unit_test(zeros_and_exponents_may_be_long),
        cmocka_unit_test(drawn_numbers_are_the_nearest_reals),
        cmocka_unit_test(what_is_no_number_is_none),
        cmocka_unit_test(a_table_is_numbers_labels_and_names),
        cmocka_unit_test(lines_may_look_otherwise),
        cmocka_unit_test(quotes_hold_delimiters_lines_and_quotes),
        cmocka_unit_test(columns_are_chosen),
        cmocka_unit_test(missing_numbers_are_filled),
        cmocka_unit_test(given_categories_keep_their_order),
        cmocka_unit_test(many_categories_are_sorted),
        cmocka_unit_test(the_tree_is_low),
        cmocka_unit_test(the_host_decides_nothing),
        cmocka_unit_test(handles_may_go_in_any_order),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
