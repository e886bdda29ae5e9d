/* Attributes that no front makes, through psg_apply: ranks, counts and dimensions at the ends of their type. */
#include <limits.h>
#include <stddef.h>
#include <string.h>

#include "support.h"

/* What the arrays of the attributes hold, so that one wrong number is all that is wrong: sizes are those of the input,
 * dims 0, 1, 2, ... */
typedef enum contents { NUMBERS, SIZES, DIMS } contents;

typedef union attributes {
    psg_expand_attributes sizes;   /* reshape, layer_norm, rms_norm: a rank and a shape too */
    psg_permute_attributes dims;   /* flip, mean, sum: a count and dims too */
    psg_pad_attributes pad;
    unsigned char bytes[256];
} attributes;

typedef struct field {
    const char *op;
    size_t at;              /* of the number in the attributes */
    contents contents;
    const char *message;    /* a part of what refuses it */
    int input_rank;
} field;

#define AT(kind, name) offsetof(psg_##kind##_attributes, name)

static const field fields[] = {
    { "expand", AT(expand, rank), SIZES, "rank must be in", 8 },
    { "expand", AT(expand, rank), SIZES, "rank must be in", 0 },
    { "reshape", AT(reshape, rank), SIZES, "rank must be in [0, 8]", 8 },
    { "layer_norm", AT(layer_norm, rank), SIZES, "normalized_shape has rank", 8 },
    { "rms_norm", AT(rms_norm, rank), SIZES, "normalized_shape has rank", 8 },
    { "permute", AT(permute, rank), DIMS, "dims must be 8 dimensions", 8 },
    { "flip", AT(flip, count), DIMS, ", must be in [0, 8]", 8 },
    { "mean", AT(mean, count), DIMS, ", must be in [1, 8]", 8 },
    { "sum", AT(mean, count), DIMS, ", must be in [1, 8]", 8 },
    { "pad", AT(pad, count), NUMBERS, ", must be even and in [0, 16]", 8 },
    { "flatten", AT(flatten, start_dim), NUMBERS, "start_dim is", 8 },
    { "flatten", AT(flatten, end_dim), NUMBERS, "end_dim is", 8 },
    { "squeeze", AT(squeeze, dim), NUMBERS, "dim is", 8 },
    { "unsqueeze", AT(squeeze, dim), NUMBERS, "dim is", 7 },
    { "transpose", AT(transpose, dim0), NUMBERS, "dim0 is", 8 },
    { "transpose", AT(transpose, dim1), NUMBERS, "dim1 is", 8 },
    { "permute", AT(permute, dims[7]), DIMS, "a dim is", 8 },
    { "flip", AT(flip, dims[0]), DIMS, "a dim is", 8 },
    { "mean", AT(mean, dims[0]), DIMS, "a dim is", 8 },
    { "slice", AT(slice, dim), NUMBERS, "dim is", 8 },
    { "select", AT(select, dim), NUMBERS, "dim is", 8 },
    { "cat", AT(cat, dim), NUMBERS, "dim is", 8 },
    { "glu", AT(glu, dim), NUMBERS, "dim is", 8 },
    { "softmax", AT(softmax, dim), NUMBERS, "dim is", 8 },
    { "log_softmax", AT(softmax, dim), NUMBERS, "dim is", 8 },
    { "feature_dropout", AT(feature_dropout, spatial), NUMBERS, "spatial dimensions", 8 },
};

enum { FIELDS = sizeof fields / sizeof fields[0], INPUT_COUNT = 256 };

/* The rank or count of SIZES and DIMS is that of the input until a field takes its place. */
static void fill(attributes *a, const field *f, int value) {
    memset(a, 0, sizeof *a);
    for (int d = 0; d < PSG_MAX_RANK; d++) {
        if (f->contents == SIZES) a->sizes.shape[d] = 2;
        if (f->contents == DIMS) a->dims.dims[d] = d;
    }
    if (f->contents != NUMBERS) a->dims.rank = f->input_rank;
    memcpy(a->bytes + f->at, &value, sizeof value);
}

static void expect_refused(psg_context *context, const field *f, int value, int ordinary) {
    static float data[INPUT_COUNT];
    static const int64_t shape[PSG_MAX_RANK] = { 2, 2, 2, 2, 2, 2, 2, 2 };
    psg_tensor input = psg_tensor_of(PSG_F32, data, f->input_rank, shape);
    psg_pass pass = PSG_PASS_INIT;
    pass.ordinary = ordinary;
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    TEST_OK(context, psg_tape_begin(tape, &pass));
    psg_var x = ordinary && !f->input_rank ? psg_constant(tape, &input) : psg_input(tape, &input);
    attributes a;
    fill(&a, f, value);
    psg_apply(tape, f->op, &x, 1, &a);
    const char *message = psg_tape_message(tape);
    bool named = !strncmp(message, f->op, strlen(f->op)) && strstr(message, f->message);
    bool known = psg_tape_status(tape) == PSG_ERR_ARGUMENT || psg_tape_status(tape) == PSG_ERR_SHAPE;
    if (!named || !known) fail_msg("%s, %d for \"%s\": \"%s\"", f->op, value, f->message, message);
    psg_tape_destroy(tape);
}

static void numbers_outside_their_range_are_refused(void **state) {
    (void)state;
    static const int values[] = { INT_MIN, INT_MIN + 1, INT_MIN + 8, -65, -17, 17, 18, 64, INT_MAX - 1, INT_MAX };
    psg_context *context = test_context(1, NULL);
    for (size_t k = 0; k < FIELDS; k++) {
        for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
            expect_refused(context, &fields[k], values[v], 1);
            if (fields[k].input_rank) expect_refused(context, &fields[k], values[v], 0);
        }
    }
    psg_context_destroy(context);
}

/* One past the arrays in the attributes. */
static void one_more_than_the_greatest_rank_is_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    for (size_t k = 0; k < FIELDS; k++) {
        if (fields[k].contents != NUMBERS) expect_refused(context, &fields[k], PSG_MAX_RANK + 1, 1);
    }
    psg_context_destroy(context);
}

/* ---- images too large to be counted ---- */

static void expect_overflow(psg_context *context, const char *op, int rank, const int64_t *shape, const void *given) {
    float data[4] = { 0 };
    psg_tensor input = psg_tensor_of(PSG_F32, data, rank, shape);
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_var x = psg_input(tape, &input);
    psg_apply(tape, op, &x, 1, given);
    assert_int_equal(psg_tape_status(tape), PSG_ERR_OVERFLOW);
    assert_non_null(strstr(psg_tape_message(tape), "the image or its windows have too many elements"));
    psg_tape_destroy(tape);
}

static void images_and_windows_beyond_counting_are_refused(void **state) {
    (void)state;
    const int64_t large = (int64_t)1 << 40, larger = (int64_t)1 << 60;
    psg_context *context = test_context(1, NULL);
    const psg_fold_attributes fold = { .output_size = { large, large },
                                       .windows = { .kernel = { 1, 1 }, .stride = { large / 2, large / 2 } } };
    expect_overflow(context, "fold", 3, (int64_t[]){ 1, 1, 4 }, &fold);
    const psg_unfold_options unfold = { .kernel = { 1, 1 }, .padding = { larger, larger } };
    expect_overflow(context, "unfold", 4, (int64_t[]){ 1, 1, 2, 2 }, &unfold);
    psg_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_outside_their_range_are_refused),
        cmocka_unit_test(one_more_than_the_greatest_rank_is_refused),
        cmocka_unit_test(images_and_windows_beyond_counting_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
