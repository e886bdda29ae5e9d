/* What the shape ops refuse, and in what words. */
#include <string.h>

#include "support.h"

typedef struct refusal {
    const char *words;                     /* in the message */
    psg_status status;
    psg_var (*build)(psg_tape *tape, psg_var x234, psg_var x25, psg_var image);
    int batch_second;                      /* then the batch is 3 */
} refusal;

#define REFUSE(name, call) \
    static psg_var name(psg_tape *t, psg_var x, psg_var y, psg_var image) {  \
        return (void)x, (void)y, (void)image, call;                          \
    }
#define INTS(...) (int[]){ __VA_ARGS__ }
#define LONGS(...) (int64_t[]){ __VA_ARGS__ }
#define WINDOWS(...) &(psg_unfold_options){ __VA_ARGS__ }

REFUSE(permute_batch, psg_permute(t, x, 3, INTS(1, 0, 2)))
REFUSE(permute_rank, psg_permute(t, x, 2, INTS(0, 1)))
REFUSE(permute_null, psg_permute(t, x, 3, NULL))
REFUSE(permute_dim, psg_permute(t, x, 3, INTS(0, 1, 3)))
REFUSE(permute_twice, psg_permute(t, x, 3, INTS(0, 1, -2)))
REFUSE(permute_second, psg_permute(t, x, 3, INTS(1, 0, 2)))
REFUSE(slice_batch, psg_slice(t, x, -3, 0, 1, 1))
REFUSE(slice_dim, psg_slice(t, x, 3, 0, 1, 1))
REFUSE(slice_step, psg_slice(t, x, 1, 0, 1, 0))
REFUSE(slice_second, psg_slice(t, x, 1, 0, 1, 1))
REFUSE(select_batch, psg_select(t, x, 0, 0))
REFUSE(select_index, psg_select(t, x, 1, 3))
REFUSE(select_negative, psg_select(t, x, 1, -4))
REFUSE(flip_batch, psg_flip(t, x, 1, INTS(0)))
REFUSE(flip_twice, psg_flip(t, x, 2, INTS(1, -2)))
REFUSE(flip_null, psg_flip(t, x, 1, NULL))
REFUSE(cat_batch, psg_cat(t, (psg_var[]){ x, x }, 2, 0))
REFUSE(cat_shape, psg_cat(t, (psg_var[]){ x, psg_transpose(t, x, 1, 2) }, 2, 1))
REFUSE(cat_rank, psg_cat(t, (psg_var[]){ x, y }, 2, 1))
REFUSE(cat_none, psg_cat(t, NULL, 0, 1))
REFUSE(cat_dim, psg_cat(t, &x, 1, 3))
REFUSE(stack_batch, psg_stack(t, (psg_var[]){ x, x }, 2, 0))
REFUSE(pad_odd, psg_pad(t, x, 1, LONGS(1), PSG_PAD_CONSTANT, 0))
REFUSE(pad_many, psg_pad(t, y, 6, LONGS(1, 1, 0, 0, 0, 0), PSG_PAD_CONSTANT, 0))
REFUSE(pad_null, psg_pad(t, x, 2, NULL, PSG_PAD_CONSTANT, 0))
REFUSE(pad_mode, psg_pad(t, x, 2, LONGS(1, 1), (psg_pad_mode)4, 0))
REFUSE(pad_batch, psg_pad(t, y, 4, LONGS(0, 0, 1, 0), PSG_PAD_CONSTANT, 0))
REFUSE(pad_below, psg_pad(t, y, 2, LONGS(-3, -3), PSG_PAD_CONSTANT, 0))
REFUSE(pad_reflect, psg_pad(t, y, 2, LONGS(5, 0), PSG_PAD_REFLECT, 0))
REFUSE(pad_reflect_negative, psg_pad(t, y, 2, LONGS(-6, 0), PSG_PAD_REFLECT, 0))
REFUSE(pad_circular, psg_pad(t, y, 2, LONGS(0, 6), PSG_PAD_CIRCULAR, 0))
REFUSE(pad_large, psg_pad(t, y, 2, LONGS(INT64_MAX, 6), PSG_PAD_CONSTANT, 0))
REFUSE(unfold_rank, psg_unfold(t, x, WINDOWS(.kernel = { 1, 1 })))
REFUSE(unfold_null, psg_unfold(t, image, NULL))
REFUSE(unfold_kernel, psg_unfold(t, image, WINDOWS(.kernel = { 1, 0 })))
REFUSE(unfold_stride, psg_unfold(t, image, WINDOWS(.kernel = { 1, 1 }, .stride = { -1, 1 })))
REFUSE(unfold_padding, psg_unfold(t, image, WINDOWS(.kernel = { 1, 1 }, .padding = { 0, -1 })))
REFUSE(unfold_room, psg_unfold(t, image, WINDOWS(.kernel = { 1, 5 })))
REFUSE(fold_rank, psg_fold(t, image, LONGS(3, 4), WINDOWS(.kernel = { 1, 1 })))
REFUSE(fold_channels, psg_fold(t, x, LONGS(2, 2), WINDOWS(.kernel = { 2, 1 })))
REFUSE(fold_places, psg_fold(t, x, LONGS(2, 3), WINDOWS(.kernel = { 1, 1 })))
REFUSE(fold_size, psg_fold(t, x, LONGS(-2, 2), WINDOWS(.kernel = { 1, 1 })))
REFUSE(expand_size, psg_expand(t, x, 3, LONGS(2, 6, 4)))
REFUSE(expand_rank, psg_expand(t, x, 2, LONGS(3, 4)))
REFUSE(expand_front, psg_expand(t, x, 4, LONGS(2, 2, 3, 4)))
REFUSE(expand_null, psg_expand(t, x, 3, NULL))
REFUSE(squeeze_dim, psg_squeeze(t, x, 3))
REFUSE(unsqueeze_dim, psg_unsqueeze(t, x, 4))
REFUSE(unsqueeze_front, psg_unsqueeze(t, x, 0))
REFUSE(sum_batch, psg_sum(t, x, 1, INTS(0), 0))
REFUSE(sum_count, psg_sum(t, x, 0, NULL, 0))

static const refusal refusals[] = {
    { "permute: dims[0] is 1: the batch would leave dimension 0", PSG_ERR_BATCH, permute_batch, 0 },
    { "permute: dims must be 3 dimensions", PSG_ERR_ARGUMENT, permute_rank, 0 },
    { "permute: dims must be 3 dimensions", PSG_ERR_ARGUMENT, permute_null, 0 },
    { "permute: a dim is 3", PSG_ERR_ARGUMENT, permute_dim, 0 },
    { "permute: dim -2 is given twice", PSG_ERR_ARGUMENT, permute_twice, 0 },
    { "permute: dims[1] is 0", PSG_ERR_BATCH, permute_second, 1 },
    { "slice: dim is 0, the batch dimension", PSG_ERR_BATCH, slice_batch, 0 },
    { "slice: dim is 3", PSG_ERR_ARGUMENT, slice_dim, 0 },
    { "slice: step is 0, must be positive", PSG_ERR_ARGUMENT, slice_step, 0 },
    { "slice: dim is 1, the batch dimension", PSG_ERR_BATCH, slice_second, 1 },
    { "select: dim is 0, the batch dimension", PSG_ERR_BATCH, select_batch, 0 },
    { "select: index is 3, must be in [-3, 3)", PSG_ERR_ARGUMENT, select_index, 0 },
    { "select: index is -4", PSG_ERR_ARGUMENT, select_negative, 0 },
    { "flip: a dim is 0, the batch dimension", PSG_ERR_BATCH, flip_batch, 0 },
    { "flip: dim -2 is given twice", PSG_ERR_ARGUMENT, flip_twice, 0 },
    { "flip: count must be", PSG_ERR_ARGUMENT, flip_null, 0 },
    { "cat: dim is 0, the batch dimension", PSG_ERR_BATCH, cat_batch, 0 },
    { "cat: input 1 has shape (2, 4, 3), input 0 (2, 3, 4)", PSG_ERR_SHAPE, cat_shape, 0 },
    { "cat: input 1 has shape (2, 5)", PSG_ERR_SHAPE, cat_rank, 0 },
    { "cat: input 0 is absent", PSG_ERR_ARGUMENT, cat_none, 0 },
    { "cat: dim is 3", PSG_ERR_ARGUMENT, cat_dim, 0 },
    { "unsqueeze: ", PSG_ERR_BATCH, stack_batch, 0 },
    { "pad: count must be even", PSG_ERR_ARGUMENT, pad_odd, 0 },
    { "pad: count must be even and in [0, 4]", PSG_ERR_ARGUMENT, pad_many, 0 },
    { "pad: count must be even", PSG_ERR_ARGUMENT, pad_null, 0 },
    { "pad: mode is 4", PSG_ERR_ARGUMENT, pad_mode, 0 },
    { "pad: a padded dimension is 0, the batch dimension", PSG_ERR_BATCH, pad_batch, 0 },
    { "pad: pad of dimension 1 is -3 and -3, which leaves -1", PSG_ERR_ARGUMENT, pad_below, 0 },
    { "pad: pad of dimension 1 is 5, in reflect mode must be less than the size", PSG_ERR_ARGUMENT, pad_reflect, 0 },
    { "pad: pad of dimension 1 is -6, in reflect mode must be at least", PSG_ERR_ARGUMENT,
      pad_reflect_negative, 0 },
    { "pad: pad of dimension 1 is 6, in circular mode must be at most the size", PSG_ERR_ARGUMENT, pad_circular, 0 },
    { "pad: pad of dimension 1 is too large", PSG_ERR_OVERFLOW, pad_large, 0 },
    { "unfold: input has shape (2, 3, 4)", PSG_ERR_SHAPE, unfold_rank, 0 },
    { "kernel must be positive", PSG_ERR_ARGUMENT, unfold_null, 0 },
    { "unfold: kernel, dilation, stride and padding of the width are 0, 1, 1, 0; kernel", PSG_ERR_ARGUMENT,
      unfold_kernel, 0 },
    { "stride must be positive", PSG_ERR_ARGUMENT, unfold_stride, 0 },
    { "padding must be >= 0", PSG_ERR_ARGUMENT, unfold_padding, 0 },
    { "unfold: an image of 3 by 4 has no room", PSG_ERR_SHAPE, unfold_room, 0 },
    { "fold: input has shape (2, 2, 3, 4)", PSG_ERR_SHAPE, fold_rank, 0 },
    { "fold: input has shape (2, 3, 4), must be (N, C * 2", PSG_ERR_SHAPE, fold_channels, 0 },
    { "fold: input has shape (2, 3, 4), must be (N, C * 1, 2 * 3)", PSG_ERR_SHAPE, fold_places, 0 },
    { "fold: output_size is -2 by 2", PSG_ERR_ARGUMENT, fold_size, 0 },
    { "expand: shape[1] is 6, but that dimension of input has size 3", PSG_ERR_SHAPE, expand_size, 0 },
    { "expand: rank must be in [3, 8]", PSG_ERR_ARGUMENT, expand_rank, 0 },
    { "expand: input of shape (2, 3, 4) would be broadcast over the batch", PSG_ERR_BATCH, expand_front, 0 },
    { "expand: rank must be", PSG_ERR_ARGUMENT, expand_null, 0 },
    { "squeeze: dim is 3", PSG_ERR_ARGUMENT, squeeze_dim, 0 },
    { "unsqueeze: dim is 4", PSG_ERR_ARGUMENT, unsqueeze_dim, 0 },
    { "unsqueeze: ", PSG_ERR_BATCH, unsqueeze_front, 0 },
    { "sum: dims contain 0, the batch dimension: a sum over it", PSG_ERR_UNSUPPORTED, sum_batch, 0 },
    { "sum: count must be in [1, 3]", PSG_ERR_ARGUMENT, sum_count, 0 },
};

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    float data[48] = { 0 };
    for (size_t k = 0; k < sizeof refusals / sizeof refusals[0]; k++) {
        const refusal *r = &refusals[k];
        psg_pass pass = PSG_PASS_INIT;
        pass.batch_size = r->batch_second ? 3 : 2;
        pass.batch_second = r->batch_second;
        psg_tensor x = psg_f32_3d(data, 2, 3, 4), y = psg_f32_2d(data, 2, 5), image = psg_f32_4d(data, 2, 2, 3, 4);
        TEST_OK(context, psg_tape_begin(tape, &pass));
        r->build(tape, psg_input(tape, &x), psg_input(tape, &y), psg_input(tape, &image));
        bool good = psg_tape_status(tape) == r->status && strstr(psg_tape_message(tape), r->words);
        if (!good) {
            print_error("expected %s \"%s\", got %s \"%s\"\n", psg_status_name(r->status), r->words,
                        psg_status_name(psg_tape_status(tape)), psg_tape_message(tape));
        }
        assert_true(good);
    }
    psg_tape_destroy(tape);
    test_context_free(context);
}

/* A pad of integers takes an integer; a cat of types, one type. */
static void wrong_types_are_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    int64_t ids[4] = { 1, 2, 3, 4 };
    float reals[4] = { 0 };
    psg_tensor x = psg_tensor_of(PSG_I64, ids, 2, (int64_t[]){ 2, 2 }), y = psg_f32_2d(reals, 2, 2);
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_pad(tape, psg_input(tape, &x), 2, (int64_t[]){ 1, 0 }, PSG_PAD_CONSTANT, 0.5);
    test_status(context, psg_tape_status(tape), PSG_ERR_ARGUMENT, "pad");
    TEST_OK(context, psg_tape_begin(tape, NULL));
    psg_cat(tape, (psg_var[]){ psg_input(tape, &x), psg_input(tape, &y) }, 2, 1);
    test_status(context, psg_tape_status(tape), PSG_ERR_DTYPE, "cat");
    psg_tape_destroy(tape);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(wrong_types_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
