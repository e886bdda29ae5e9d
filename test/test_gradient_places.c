/* Where a block may land: every part of a parameter's shape, and nothing else, so that p and d cannot be exchanged. */
#include "gradient_fixture.h"

#include <stdio.h>
#include <string.h>

typedef struct landing {
    int rank;
    int64_t shape[4], offset, p, d, stride;
} landing;

static const landing legal[] = {
    { 2, { 40, 30 }, 0, 40, 30, 30 },          /* whole */
    { 2, { 40, 30 }, 300, 5, 30, 30 },         /* some rows */
    { 2, { 40, 30 }, 30, 20, 30, 60 },         /* every other row */
    { 2, { 40, 30 }, 7, 40, 11, 30 },          /* some columns */
    { 2, { 40, 30 }, 19 + 90, 2, 11, 30 },     /* a rectangle at the right edge */
    { 2, { 40, 30 }, 29, 40, 1, 30 },          /* a column */
    { 2, { 40, 30 }, 1170, 1, 30, 30 },        /* a row */
    { 2, { 40, 30 }, 0, 1, 1200, 1200 },       /* all of it as a row */
    { 3, { 2, 30, 40 }, 1200, 30, 40, 40 },    /* a layer */
    { 3, { 2, 30, 40 }, 1220, 30, 20, 40 },    /* columns of a layer */
    { 3, { 2, 30, 40 }, 0, 60, 40, 40 },       /* rows of both layers */
    { 3, { 2, 30, 40 }, 0, 2, 1200, 1200 },    /* a row a layer */
    { 3, { 2, 30, 40 }, 400, 2, 80, 1200 },    /* some rows of every layer */
    { 3, { 2, 30, 40 }, 5, 60, 1, 40 },
    { 4, { 12, 4, 3, 3 }, 0, 12, 36, 36 },     /* a convolution */
    { 4, { 12, 4, 3, 3 }, 6 * 36, 6, 36, 36 }, /* its second group */
    { 4, { 12, 4, 3, 3 }, 18, 12, 18, 36 },    /* some input channels */
    { 4, { 12, 4, 3, 3 }, 0, 48, 9, 9 },       /* depthwise */
    { 4, { 12, 4, 1, 1 }, 0, 12, 4, 4 },
    { 3, { 12, 40, 1 }, 0, 12, 40, 40 },
    { 3, { 1, 12, 40 }, 0, 12, 40, 40 },
    { 3, { 12, 1, 40 }, 0, 12, 40, 40 },
    { 1, { 1200 }, 0, 30, 40, 40 },            /* flat parameters are cut by their user */
    { 1, { 1200 }, 5, 40, 7, 9 },
    { 1, { 30 }, 0, 30, 1, 1 },
    { 2, { 1, 1200 }, 0, 30, 40, 40 },
    { 3, { 1, 1200, 1 }, 0, 30, 40, 40 },
    { 0, { 0 }, 0, 1, 1, 1 },
};

static const landing illegal[] = {
    { 2, { 40, 30 }, 0, 30, 40, 40 },          /* p and d exchanged */
    { 2, { 40, 20 }, 0, 20, 40, 40 },
    { 2, { 20, 40 }, 0, 40, 20, 20 },
    { 2, { 3, 2 }, 0, 2, 3, 3 },
    { 3, { 2, 30, 40 }, 0, 40, 30, 30 },       /* of one layer */
    { 3, { 2, 30, 40 }, 1200, 40, 30, 30 },
    { 3, { 1, 30, 40 }, 0, 40, 30, 30 },
    { 4, { 12, 4, 3, 3 }, 0, 36, 12, 12 },
    { 4, { 12, 4, 3, 3 }, 6 * 36, 36, 6, 6 },  /* of one group */
    { 4, { 2, 3, 4, 5 }, 60, 20, 3, 3 },
    { 3, { 12, 40, 1 }, 0, 40, 12, 12 },
    { 2, { 8, 6 }, 0, 16, 3, 3 },              /* rows cut in two */
    { 2, { 40, 30 }, 20, 10, 20, 30 },         /* over the right edge */
    { 2, { 40, 30 }, 0, 30, 30, 31 },
    { 2, { 40, 30 }, 0, 30, 10, 29 },
    { 2, { 1200, 1 }, 0, 30, 40, 40 },
};

static void land(fixture *f, test_random *random, psg_dtype dtype, const landing *l, int64_t positions) {
    *f = (fixture){ .dtype = dtype, .batch_size = 3 };
    const psg_tensor *g = fixture_operand(f, random, 3, (int64_t[]){ 3, positions, l->p }, TEST_ANY);
    f->block[0][0] = psg_factored(g, fixture_operand(f, random, 3, (int64_t[]){ 3, positions, l->d }, TEST_ANY));
    f->block[0][0].offset = l->offset;
    f->block[0][0].row_stride = l->stride;
    fixture_add(f, 1, l->rank, l->shape);
}

static void every_part_of_a_shape_is_accepted(void **state) {
    (void)state;
    test_random random = { 1 };
    psg_context *context = test_context_with(NULL, 2, NULL, (size_t)1 << 20);
    for (size_t k = 0; k < 4 * (sizeof legal / sizeof legal[0]); k++) {
        fixture f;
        land(&f, &random, (psg_dtype)(k / 2 % 2), &legal[k / 4], k % 2 ? 5 : 1);
        fixture_refresh(&f);
        check_all_questions(context, &f, &random);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

static void check_message(const char *message, const landing *l) {
    char words[5][40], shape[64] = "(";
    for (int d = 0; d < l->rank; d++) sprintf(shape + strlen(shape), d ? ", %d" : "%d", (int)l->shape[d]);
    snprintf(words[0], sizeof words[0], "%d rows of %d", (int)l->p, (int)l->d);
    snprintf(words[1], sizeof words[1], "%d apart", (int)l->stride);
    snprintf(words[2], sizeof words[2], "offset %d", (int)l->offset);
    snprintf(words[3], sizeof words[3], "%.38s", shape);
    snprintf(words[4], sizeof words[4], "block 0");
    for (int k = 0; k < 5; k++) if (!strstr(message, words[k])) fail_msg("\"%s\" without \"%s\"", message, words[k]);
}

static void what_is_no_part_is_refused(void **state) {
    (void)state;
    test_random random = { 2 };
    psg_context *context = test_context(1, NULL);
    for (size_t k = 0; k < sizeof illegal / sizeof illegal[0]; k++) {
        fixture f;
        land(&f, &random, PSG_F32, &illegal[k], 2);
        f.size[0] = f.total = 1;   /* no values: the block does not fit them */
        answers a;
        answers_new(&a, &f, &random, PSG_F64, PSG_OVERWRITE);
        uint64_t before = answers_hash(&a);
        for (int q = 0; q < PSG_QUESTION_COUNT; q++) {
            psg_status status = answers_ask(&a, context, &f, (psg_question)q, PSG_OVERWRITE);
            if (status != PSG_ERR_SHAPE) fail_msg("%s accepts landing %zu", psg_question_name((psg_question)q), k);
            check_message(psg_context_message(context), &illegal[k]);
        }
        assert_true(answers_hash(&a) == before);
        answers_free(&a);
        fixture_free(&f);
    }
    psg_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_of_a_shape_is_accepted),
        cmocka_unit_test(what_is_no_part_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
