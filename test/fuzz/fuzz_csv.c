/* CSV files of any bytes, or good ones that were edited, with drawn options: refused in words, or read to finite
 * numbers and codes that have texts; what was read and written again is read to the same. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

enum { LARGEST = 1 << 13, COLUMNS = 4 };

static uint8_t file[LARGEST];
static char text[64 * LARGEST];

/* ---- a file ---- */

typedef struct out {
    uint8_t *bytes;
    size_t length;
} out;

static void put(out *o, const char *what) {
    const size_t length = strlen(what);
    if (length > LARGEST - o->length) return;
    memcpy(o->bytes + o->length, what, length);
    o->length += length;
}

static void put_field(fuzz_bytes *bytes, out *o) {
    static const char *const fields[] = {
        "0",        "1",     "-2.5",    "1e3",    ".5",       "",     " 7 ",
        "NA",       "a",     "b",       "\"a\"",  "\"a,b\"",  "\"\"", "\"\"\"\"",
        "\"x\ny\"", "1e39",  "1e309",   "1e-400", "16777217", "0.1",  "1.00000017881393432617188",
        "nan",      "\"3\"", "\xc3\xa9"
    };
    put(o, fields[fuzz_byte(bytes) % (sizeof fields / sizeof fields[0])]);
}

static size_t good_csv(fuzz_bytes *bytes, char delimiter, int columns) {
    static const char *const ends[] = { "\n", "\r\n" };
    const char *end = ends[fuzz_one_in(bytes, 2)], between[2] = { delimiter, 0 };
    out o = { file, 0 };
    if (fuzz_one_in(bytes, 8)) put(&o, "\xef\xbb\xbf");
    for (int64_t lines = fuzz_range(bytes, 0, 8); lines >= 0; lines--) {
        for (int k = 0; k < columns; k++) {
            put_field(bytes, &o);
            if (k + 1 < columns) put(&o, between);
        }
        if (lines || fuzz_one_in(bytes, 2)) put(&o, end);
    }
    return fuzz_one_in(bytes, 2) ? fuzz_edit(bytes, file, o.length, LARGEST) : o.length;
}

/* ---- options ---- */

typedef struct choice {
    psg_csv_options options;
    psg_csv_column labels[2], numbers[2];
} choice;

static void draw_column(fuzz_bytes *bytes, psg_csv_column *column) {
    static const char *const names[] = { "a", "b", "0", "1" }, *const categories[] = { "a", "b", "x\ny", "" };
    *column = (psg_csv_column){ .index = (size_t)fuzz_range(bytes, 0, COLUMNS) };
    if (fuzz_one_in(bytes, 4)) column->name = names[fuzz_range(bytes, 0, 3)];
    if (!fuzz_one_in(bytes, 4)) return;
    column->categories = categories;
    column->category_count = (size_t)fuzz_range(bytes, 0, 4);
}

static void draw_choice(fuzz_bytes *bytes, choice *c) {
    static const char delimiters[] = { 0, ',', ';', '\t', ' ', '|', 'a', '"' };
    *c = (choice){ .options = PSG_CSV_OPTIONS_INIT };
    c->options.labels = c->labels;
    c->options.label_count = (size_t)fuzz_range(bytes, 0, 2);
    c->options.numbers = c->numbers;
    c->options.number_count = (size_t)fuzz_range(bytes, 0, 2);
    for (int k = 0; k < 2; k++) draw_column(bytes, &c->labels[k]);
    for (int k = 0; k < 2; k++) draw_column(bytes, &c->numbers[k]);
    c->options.dtype = fuzz_one_in(bytes, 2) ? PSG_F64 : PSG_F32;
    c->options.delimiter = delimiters[fuzz_one_in(bytes, 4) ? fuzz_range(bytes, 0, 7) : 0];
    c->options.no_header = fuzz_one_in(bytes, 2);
    c->options.missing = fuzz_one_in(bytes, 2) ? "NA" : NULL;
    c->options.fill_missing = fuzz_one_in(bytes, 2);
    c->options.fill = fuzz_one_in(bytes, 8) ? fuzz_odd(bytes) : -1;
}

/* ---- what was read ---- */

static double number_at(const psg_tensor *numbers, int64_t k) {
    return numbers->dtype == PSG_F64 ? ((const double *)numbers->data)[k] : (double)((const float *)numbers->data)[k];
}

static void check_table(const psg_table *table, const choice *c) {
    const psg_tensor *numbers = psg_table_numbers(table);
    FUZZ_CHECK(numbers->dtype == c->options.dtype && numbers->rank == 2 && psg_tensor_is_contiguous(numbers));
    for (int64_t k = 0; k < psg_tensor_count(numbers); k++) FUZZ_CHECK(isfinite(number_at(numbers, k)));
    for (size_t k = 0; k < (size_t)numbers->shape[1]; k++) FUZZ_CHECK(psg_table_name(table, k));
    FUZZ_CHECK(!psg_table_name(table, (size_t)numbers->shape[1]) && !psg_table_label(table, c->options.label_count));
    for (size_t k = 0; k < c->options.label_count; k++) {
        const psg_tensor *codes = psg_table_label(table, k);
        const size_t count = psg_table_category_count(table, k);
        FUZZ_CHECK(codes->dtype == PSG_I64 && codes->rank == 1 && codes->shape[0] == numbers->shape[0]);
        for (int64_t n = 0; n < codes->shape[0]; n++) FUZZ_CHECK(((const uint64_t *)codes->data)[n] < count);
        for (size_t code = 1; code < count && !c->labels[k].categories; code++) {
            FUZZ_CHECK(strcmp(psg_table_category(table, k, code - 1), psg_table_category(table, k, code)) < 0);
        }
    }
}

/* The numbers and then the codes, without names. */
static size_t write_table(const psg_table *table, size_t labels) {
    const psg_tensor *numbers = psg_table_numbers(table);
    char *to = text;
    for (int64_t n = 0; n < numbers->shape[0]; n++) {
        for (int64_t k = 0; k < numbers->shape[1]; k++) {
            to += sprintf(to, "%.17g,", number_at(numbers, n * numbers->shape[1] + k));
        }
        for (size_t k = 0; k < labels; k++) {
            to += sprintf(to, "%lld,", (long long)((const int64_t *)psg_table_label(table, k)->data)[n]);
        }
        to += sprintf(to, "0\r\n");
    }
    return (size_t)(to - text);
}

static void check_again(psg_context *context, const psg_table *table, const choice *c, unsigned fails) {
    const char *path = fuzz_path("again");
    const psg_tensor *numbers = psg_table_numbers(table);
    const size_t labels = c->options.label_count;
    psg_csv_options options = PSG_CSV_OPTIONS_INIT;
    psg_table *again;
    options.dtype = numbers->dtype;
    options.no_header = 1;
    if (!numbers->shape[0]) return;
    fuzz_write(path, text, write_table(table, labels));
    psg_status status = FUZZ_CALL(context, psg_csv_read(context, path, &options, &again));
    FUZZ_CHECK(!status || fails);
    if (status) return;
    const psg_tensor *all = psg_table_numbers(again);
    FUZZ_CHECK(all->shape[0] == numbers->shape[0] && all->shape[1] == numbers->shape[1] + (int64_t)labels + 1);
    for (int64_t n = 0; n < all->shape[0]; n++) {
        for (int64_t k = 0; k < numbers->shape[1]; k++) {
            FUZZ_CHECK(number_at(all, n * all->shape[1] + k) == number_at(numbers, n * numbers->shape[1] + k));
        }
    }
    psg_table_destroy(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_bytes bytes = { data, size };
    const char *path = fuzz_path("table");
    const unsigned fails = fuzz_one_in(&bytes, 4) ? (unsigned)fuzz_range(&bytes, 1, 16) : 0;
    psg_context *context = fuzz_context(fails, 0);
    psg_table *table = NULL;
    choice c;
    draw_choice(&bytes, &c);
    size_t length =
        good_csv(&bytes, c.options.delimiter ? c.options.delimiter : ',', (int)fuzz_range(&bytes, 1, COLUMNS));
    if (fuzz_one_in(&bytes, 8)) memcpy(file, bytes.at, length = bytes.left < LARGEST ? bytes.left : LARGEST);
    fuzz_write(path, file, length);
    psg_status status = FUZZ_CALL(context, psg_csv_read(context, path, &c.options, &table));
    FUZZ_CHECK(!status == !!table);
    if (table) {
        check_table(table, &c);
        check_again(context, table, &c, fails);
    }
    psg_table_destroy(table);
    fuzz_context_return(context);
    return 0;
}
