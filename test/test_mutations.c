/* Every case line with a size of zero, and with random mistakes: refused by name or run, see mutation.h. */
#include <stdio.h>

#include "mutation.h"

enum { DRAWN = 3 /* a line */ };

static void try_lines(void (*try_line)(mutation_bench *, test_random *, const case_table *, const case_line *)) {
    test_random random = { 1 };
    mutation_tally tally = { .ran = 0 };
    const case_op *op;
    mutation_watch();
    for (int k = 0; (op = case_op_at(k)); k++) {
        char message[512];
        case_table table;
        mutation_bench bench;
        mutation_open(&bench, &tally);
        if (case_table_read(op, PSG_CASES_DIR, &table, message, sizeof message)) fail_msg("%s", message);
        for (int i = 0; i < table.count; i++) {
            if (!case_flag(&table.line[i], "bench")) try_line(&bench, &random, &table, &table.line[i]);
        }
        case_table_free(&table);
        mutation_close(&bench, op->name);
    }
    assert_true(tally.ran > 1000 && tally.refused > 1000);
    assert_int_equal(tally.failed, 0);
}

static void try_zeros(mutation_bench *bench, test_random *random, const case_table *table, const case_line *line) {
    case_line mutated;
    (void)random;
    (void)table;
    for (int k = 0; mutation_zero(line, k, &mutated); k++) mutation_try(bench, &mutated, PSG_F32, 0);
}

static void try_drawn(mutation_bench *bench, test_random *random, const case_table *table, const case_line *line) {
    case_line mutated;
    for (int k = 0; k < DRAWN; k++) {
        mutation_draw(random, table, line, &mutated);
        mutation_try(bench, &mutated, (psg_dtype)test_range(random, PSG_F32, PSG_F64), 0);
        mutation_try(bench, line, PSG_F32, test_random_bits(random));
    }
}

/* Mutations that once crashed or did not come to an end. */
static void found_before(void **state) {
    static const char *const lines[] = {
        "lstm | states | x 2,3,2 | weight_ih_l0 12,2 | weight_hh_l0 12,2 | weight_hr_l0 2,3 | weight_ih_l1 12,2 | "
        "weight_hh_l1 12,2 | weight_hr_l1 2,3 | num_layers=2 output=y bidirectional",
        "scaled_dot_product_attention | no_heads | query 2,0,3,5 | key 2,2,6,5 | value 2,2,6,5 | attn_mask 0,3,6 | "
        "enable_gqa is_causal",
        "weight_norm | conv2d | x 4,2,0,4 | v 0,2305843009213693952,2305843009213693952,2 | g 0 | bias 0 |",
        "weight_norm | outer | x 0,3,5,4 | v 1099511627776,3,3,0 | g 3 | dim=2",
        "layer_norm | no_rows | x 1099511627776,0,6 | bias 6 | frozen=bias",
        "layer_norm | no_features | x 1099511627776,5,0 |",
        "prelu | no_channels | x 1099511627776,0 | weight 0 |",
        "prelu | no_positions | x 1099511627776,4,0 | weight 4 | ordinary",
        "matmul | no_rows | a 1099511627776,0,2 parameter | b 3,1,2,4 |",
        "embedding | no_ids | ids 1099511627776,0 <6 | weight 6,1 |",
        "embedding_bag | no_features | ids 1099511627776,0 <3 | weight 6,0 | mode=max",
    };
    (void)state;
    mutation_tally tally = { .ran = 0 };
    mutation_bench bench;
    mutation_watch();
    mutation_open(&bench, &tally);
    for (size_t k = 0; k < sizeof lines / sizeof lines[0]; k++) {
        mutation_try_text(&bench, lines[k], PSG_F32, 0);
        mutation_try_text(&bench, lines[k], PSG_F64, 0);
    }
    mutation_close(&bench, "found before");
    assert_int_equal(tally.failed, 0);
}

static void zero_sizes(void **state) {
    (void)state;
    try_lines(try_zeros);
}

static void random_mistakes(void **state) {
    (void)state;
    try_lines(try_drawn);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(found_before),
        cmocka_unit_test(zero_sizes),
        cmocka_unit_test(random_mistakes),
    };
    return cmocka_run_group_tests_name("mutations", tests, NULL, NULL);
}
