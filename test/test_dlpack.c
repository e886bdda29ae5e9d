/* DLPack: what is lent is what was given, ends once, and what is no tensor of ours is refused. */
#include "io_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "psg/dlpack.h"

/* ---- the layout, which other libraries have compiled in ---- */

#define AT(type, field, offset) _Static_assert(sizeof(void *) != 8 || offsetof(type, field) == (offset), #field)
AT(DLManagedTensorVersioned, version.minor, 4);
AT(DLManagedTensorVersioned, manager_ctx, 8);
AT(DLManagedTensorVersioned, deleter, 16);
AT(DLManagedTensorVersioned, flags, 24);
AT(DLManagedTensorVersioned, dl_tensor, 32);
AT(DLTensor, device.device_type, 8);
AT(DLTensor, device.device_id, 12);
AT(DLTensor, ndim, 16);
AT(DLTensor, dtype.code, 20);
AT(DLTensor, dtype.bits, 21);
AT(DLTensor, dtype.lanes, 22);
AT(DLTensor, shape, 24);
AT(DLTensor, strides, 32);
AT(DLTensor, byte_offset, 40);
_Static_assert(sizeof(void *) != 8 || sizeof(DLManagedTensorVersioned) == 80, "whole");

/* ---- to others ---- */

static void count_release(void *user) { ++*(int *)user; }

static void check_lent(const DLManagedTensorVersioned *managed, const psg_tensor *tensor) {
    const DLTensor *lent = &managed->dl_tensor;
    const int is_real = tensor->dtype == PSG_F32 || tensor->dtype == PSG_F64;
    assert_int_equal(managed->version.major, 1);
    assert_int_equal(lent->device.device_type, kDLCPU);
    assert_int_equal(lent->device.device_id, 0);
    assert_int_equal(lent->dtype.code, is_real ? kDLFloat : kDLInt);
    assert_int_equal(lent->dtype.bits, 8 * psg_dtype_size(tensor->dtype));
    assert_int_equal(lent->dtype.lanes, 1);
    assert_int_equal(lent->ndim, tensor->rank);
    assert_non_null(lent->strides);
    for (int d = 0; d < tensor->rank; d++) {
        assert_int_equal(lent->shape[d], tensor->shape[d]);
        assert_int_equal(lent->strides[d], tensor->stride[d]);
    }
    assert_ptr_equal((char *)lent->data + lent->byte_offset, tensor->data);
}

static void all_types_and_strides_go_and_come_back(void **state) {
    (void)state;
    static const struct { int rank; int64_t shape[PSG_MAX_RANK]; } shapes[] = {
        { 0, { 0 } }, { 1, { 5 } }, { 2, { 0, 3 } }, { 3, { 2, 3, 4 } }, { 8, { 1, 2, 1, 2, 1, 2, 1, 3 } },
    };
    static const int layouts[] = { TEST_CONTIGUOUS, TEST_PERMUTED, TEST_PADDED, TEST_NEGATIVE, TEST_ANY };
    psg_context *context = test_context(1, NULL);
    test_random random = { 1 };
    const size_t live = psg_context_live_bytes(context);
    int ends = 0;
    for (int k = 0; k < 100; k++) {
        const psg_dtype dtype = (psg_dtype)(k % 4);
        const int shape = k / 4 % 5;
        test_array array = test_array_new(&random, dtype, shapes[shape].rank, shapes[shape].shape, layouts[k / 20]);
        DLManagedTensorVersioned *managed = NULL;
        psg_tensor back;
        int read_only = 7;
        TEST_OK(context, psg_to_dlpack(context, &array.view, k % 2, count_release, &ends, &managed));
        check_lent(managed, &array.view);
        TEST_OK(context, psg_from_dlpack(context, managed, &read_only, &back));
        assert_int_equal(read_only, k % 2);
        assert_true(back.dtype == dtype && back.rank == array.view.rank);
        assert_memory_equal(back.shape, array.view.shape, sizeof back.shape[0] * (size_t)back.rank);
        assert_memory_equal(back.stride, array.view.stride, sizeof back.stride[0] * (size_t)back.rank);
        if (psg_tensor_count(&back)) assert_ptr_equal(back.data, array.view.data);
        assert_int_equal(ends, k);
        psg_dlpack_release(managed);
        assert_int_equal(ends, k + 1);
        assert_int_equal(psg_context_live_bytes(context), live);
        test_array_free(&array);
    }
    psg_dlpack_release(NULL);
    test_context_free(context);
}

/* The file's memory and the context outlive their handles while they are lent. */
static void what_is_lent_stays(void **state) {
    (void)state;
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, 0);
    DLManagedTensorVersioned *managed[2];
    psg_tensors *set = NULL;
    psg_table *table = NULL;
    TEST_OK(context, psg_safetensors_read(context, io_golden("types"), PSG_FILE_MAP, &set));
    TEST_OK(context, psg_to_dlpack(context, psg_tensors_find(set, "z.f32"), 0, NULL, NULL, &managed[0]));
    io_write(io_path("table"), "x,y\n1,2\n", 8);
    TEST_OK(context, psg_csv_read(context, io_path("table"), NULL, &table));
    TEST_OK(context, psg_to_dlpack(context, psg_table_numbers(table), 1, NULL, NULL, &managed[1]));
    psg_tensors_destroy(set);
    psg_table_destroy(table);
    psg_context_destroy(context);
    assert_true(((float *)managed[0]->dl_tensor.data)[5] == 3);
    assert_true(((float *)managed[1]->dl_tensor.data)[1] == 2);
    psg_dlpack_release(managed[0]);
    assert_true(allocator.live_bytes > 0);
    psg_dlpack_release(managed[1]);
    assert_int_equal(allocator.live_bytes, 0);
}

static void what_is_no_tensor_is_not_lent(void **state) {
    (void)state;
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, 0);
    DLManagedTensorVersioned *managed = (DLManagedTensorVersioned *)(uintptr_t)1;
    int ends = 0;
    const psg_tensor none = psg_tensor_of(PSG_F32, NULL, -1, NULL), good = psg_f32_1d((float[]){ 1 }, 1);
    test_fails(context, psg_to_dlpack(context, &none, 0, count_release, &ends, &managed), PSG_ERR_ARGUMENT,
               "tensor is of no shape");
    assert_null(managed);
    test_fails(context, psg_to_dlpack(context, NULL, 0, NULL, NULL, &managed), PSG_ERR_ARGUMENT, "tensor is NULL");
    assert_int_equal(psg_to_dlpack(context, &good, 0, NULL, NULL, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_to_dlpack(NULL, &good, 0, NULL, NULL, &managed), PSG_ERR_ARGUMENT);
    test_allocator_arm(&allocator, 1, false);
    test_fails(context, psg_to_dlpack(context, &good, 0, count_release, &ends, &managed), PSG_ERR_MEMORY,
               "psg_to_dlpack");
    assert_null(managed);
    assert_int_equal(ends, 0);
    test_context_free(context);
}

/* ---- from others ---- */

typedef struct lender {
    DLManagedTensorVersioned managed;
    int64_t shape[9], strides[9];
    double values[24];
    int ends;
} lender;

static void end_lender(DLManagedTensorVersioned *self) { ((lender *)self->manager_ctx)->ends++; }

/* (2, 3) of f64. */
static lender *lend(lender *l) {
    *l = (lender){ .shape = { 2, 3, 1, 1, 1, 1, 1, 1, 1 }, .strides = { 3, 1, 1, 1, 1, 1, 1, 1, 1 } };
    l->managed = (DLManagedTensorVersioned){ .version = { 1, 3 }, .manager_ctx = l, .deleter = end_lender };
    l->managed.dl_tensor = (DLTensor){ l->values, { kDLCPU, 0 }, 2, { kDLFloat, 64, 1 }, l->shape, l->strides, 0 };
    return l;
}

static void tensors_of_others_are_views(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    lender l;
    psg_tensor view;
    DLTensor *tensor = &lend(&l)->managed.dl_tensor;
    TEST_OK(context, psg_from_dlpack(context, &l.managed, NULL, &view));
    assert_true(view.data == l.values && view.rank == 2 && view.shape[1] == 3 && view.stride[0] == 3);
    tensor->strides = NULL;
    l.shape[0] = 4;
    TEST_OK(context, psg_from_dlpack(context, &l.managed, NULL, &view));
    assert_true(view.stride[0] == 3 && view.stride[1] == 1 && psg_tensor_is_contiguous(&view));
    tensor->byte_offset = 16;
    TEST_OK(context, psg_from_dlpack(context, &l.managed, NULL, &view));
    assert_ptr_equal(view.data, l.values + 2);
    tensor->strides = l.strides;
    l.strides[0] = -3;
    l.strides[1] = 0;
    tensor->byte_offset = 80;
    TEST_OK(context, psg_from_dlpack(context, &l.managed, NULL, &view));
    assert_true(view.stride[0] == -3 && view.stride[1] == 0 && view.data == l.values + 10);
    l.shape[1] = 0;
    tensor->data = NULL;
    TEST_OK(context, psg_from_dlpack(context, &l.managed, NULL, &view));
    assert_int_equal(psg_tensor_count(&view), 0);
    tensor = &lend(&l)->managed.dl_tensor;
    tensor->ndim = 0;
    tensor->shape = tensor->strides = NULL;
    TEST_OK(context, psg_from_dlpack(context, &l.managed, NULL, &view));
    assert_true(view.rank == 0 && psg_tensor_count(&view) == 1);
    assert_int_equal(l.ends, 0);
    psg_dlpack_release(&l.managed);
    assert_int_equal(l.ends, 1);
    lend(&l)->managed.deleter = NULL;
    psg_dlpack_release(&l.managed);
    test_context_free(context);
}

static void read_only_is_told_or_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    lender l;
    psg_tensor view;
    int read_only = 0;
    lend(&l)->managed.flags = 7;
    TEST_OK(context, psg_from_dlpack(context, &l.managed, &read_only, &view));
    assert_int_equal(read_only, 1);
    test_fails(context, psg_from_dlpack(context, &l.managed, NULL, &view), PSG_ERR_ARGUMENT,
               "is read-only, and read_only is NULL");
    assert_int_equal(view.rank, -1);
    l.managed.flags = 6;
    TEST_OK(context, psg_from_dlpack(context, &l.managed, &read_only, &view));
    assert_int_equal(read_only, 0);
    TEST_OK(context, psg_from_dlpack(context, &l.managed, NULL, &view));
    test_context_free(context);
}

static void what_is_none_of_ours_is_refused(void **state) {
    (void)state;
    psg_context *context = test_context(1, NULL);
    lender l;
    psg_tensor view;
    int read_only = 1;
#define REFUSED(change, status, words)                                                                                 \
    do {                                                                                                               \
        DLTensor *t = &lend(&l)->managed.dl_tensor;                                                                    \
        change;                                                                                                        \
        (void)t;                                                                                                       \
        test_fails(context, psg_from_dlpack(context, &l.managed, &read_only, &view), status, words);                   \
        assert_int_equal(view.rank, -1);                                                                               \
        assert_int_equal(read_only, 0);                                                                                \
        assert_int_equal(l.ends, 0);                                                                                   \
    } while (0)
    REFUSED(l.managed.version.major = 2, PSG_ERR_UNSUPPORTED, "version 2.3, must be 1");
    REFUSED(l.managed.version.major = 0, PSG_ERR_UNSUPPORTED, "version 0.3, must be 1");
    REFUSED(t->device.device_type = kDLCUDA, PSG_ERR_UNSUPPORTED, "device type 2, must be 1, the CPU");
    REFUSED(t->device.device_type = kDLCUDAHost, PSG_ERR_UNSUPPORTED, "device type 3");
    REFUSED(t->dtype.code = kDLUInt, PSG_ERR_DTYPE, "code 1, 64 bits, 1 lanes, must be f32, f64, i32 or i64");
    REFUSED(t->dtype.code = 5, PSG_ERR_DTYPE, "code 5");
    REFUSED(t->dtype.bits = 16, PSG_ERR_DTYPE, "16 bits");
    REFUSED(t->dtype.lanes = 2, PSG_ERR_DTYPE, "2 lanes");
    REFUSED(t->dtype.lanes = 0, PSG_ERR_DTYPE, "0 lanes");
    REFUSED(t->ndim = 9, PSG_ERR_SHAPE, "rank 9, must be between 0 and 8");
    REFUSED(t->ndim = -1, PSG_ERR_SHAPE, "rank -1");
    REFUSED(t->shape = NULL, PSG_ERR_SHAPE, "shape is NULL");
    REFUSED(l.shape[1] = -1, PSG_ERR_SHAPE, "shape (2, -1) is negative or too large");
    REFUSED((l.shape[0] = INT64_MAX, l.shape[1] = 0), PSG_ERR_SHAPE, "is negative or too large");
    REFUSED(l.strides[0] = INT64_MAX / 8 + 1, PSG_ERR_SHAPE, "strides reach");
    REFUSED(l.strides[0] = INT64_MIN / 8 - 1, PSG_ERR_SHAPE, "strides reach");
    REFUSED((l.strides[0] = INT64_MAX, l.strides[1] = INT64_MAX), PSG_ERR_SHAPE, "strides reach");
    REFUSED((l.shape[1] = 2, l.strides[0] = l.strides[1] = INT64_MAX), PSG_ERR_SHAPE, "strides reach");
    REFUSED((l.shape[1] = 2, l.strides[0] = l.strides[1] = -INT64_MAX), PSG_ERR_SHAPE, "strides reach");
    REFUSED(t->data = NULL, PSG_ERR_ARGUMENT, "data is NULL");
    REFUSED(t->byte_offset = UINT64_MAX - 7, PSG_ERR_ARGUMENT, "byte_offset 18446744073709551608 is too large");
    REFUSED(t->byte_offset = 4, PSG_ERR_ARGUMENT, "data is not aligned to the 8 bytes of f64");
#undef REFUSED
    test_fails(context, psg_from_dlpack(context, NULL, NULL, &view), PSG_ERR_ARGUMENT, "managed is NULL");
    assert_int_equal(psg_from_dlpack(context, &l.managed, NULL, NULL), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_from_dlpack(NULL, &l.managed, NULL, &view), PSG_ERR_ARGUMENT);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_types_and_strides_go_and_come_back),
        cmocka_unit_test(what_is_lent_stays),
        cmocka_unit_test(what_is_no_tensor_is_not_lent),
        cmocka_unit_test(tensors_of_others_are_views),
        cmocka_unit_test(read_only_is_told_or_refused),
        cmocka_unit_test(what_is_none_of_ours_is_refused),
    };
    return cmocka_run_group_tests(tests, io_setup, io_teardown);
}
