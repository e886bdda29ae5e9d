/* src/ops/README.md has one row for every built-in op, and none for what is not one; files have names of their own. */
#include "support.h"

#include <stdio.h>
#include <string.h>

enum { NAME = 64, MOST = 400 };

typedef struct page {
    char name[MOST][NAME];
    int rows;
} page;

/* The names of the rows "| `name` | ...". */
static void read_page(page *p) {
    FILE *file = fopen("src/ops/README.md", "r");
    char line[4096];
    if (!file) fail_msg("src/ops/README.md cannot be read");
    p->rows = 0;
    while (fgets(line, sizeof line, file)) {
        assert_true(p->rows < MOST);
        if (sscanf(line, "| `%63[a-z0-9_]` |", p->name[p->rows]) == 1) p->rows++;
    }
    fclose(file);
}

static int rows_named(const page *p, const char *name) {
    int found = 0;
    for (int k = 0; k < p->rows; k++) found += !strcmp(p->name[k], name);
    return found;
}

static void every_op_has_a_row(void **state) {
    (void)state;
    page p;
    psg_context *context = test_context(1, NULL);
    read_page(&p);
    for (size_t k = 0; psg_op_at(context, k); k++) {
        const char *name = psg_op_at(context, k)->name;
        if (rows_named(&p, name) != 1) fail_msg("op %s has %d rows", name, rows_named(&p, name));
    }
    test_context_free(context);
}

static void every_row_has_an_op(void **state) {
    (void)state;
    page p;
    psg_context *context = test_context(1, NULL);
    read_page(&p);
    assert_true(p.rows > 90);
    for (int k = 0; k < p.rows; k++) {
        if (!psg_op_find(context, p.name[k])) fail_msg("there is no op %s", p.name[k]);
    }
    test_context_free(context);
}

/* An include of a file cannot mean another one by its place. */
static void a_name_is_one_file(void **state) {
    (void)state;
    FILE *found = popen("find include src kernels bench test -name '*.[ch]' | sed 's|.*/||' | sort | uniq -d", "r");
    char name[256];
    assert_non_null(found);
    if (fgets(name, sizeof name, found)) fail_msg("several files are called %s", name);
    assert_int_equal(pclose(found), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_has_a_row),
        cmocka_unit_test(every_row_has_an_op),
        cmocka_unit_test(a_name_is_one_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
