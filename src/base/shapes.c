#include "base/shapes.h"

#include <stdio.h>
#include <string.h>

#include "base/writer.h"

bool psg_size_multiply(int64_t a, int64_t b, int64_t *product) {
    return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, product);
}

bool psg_size_bytes(int64_t count, size_t size, size_t *bytes) {
    return count >= 0 && !__builtin_mul_overflow((uint64_t)count, (uint64_t)size, bytes);
}

/* Zeros count as ones, so that no product of some of the sizes overflows either; -1 on overflow. */
static int64_t span_of(int rank, const int64_t *shape) {
    int64_t span = 1;
    for (int d = 0; d < rank; d++) {
        if (shape[d] && !psg_size_multiply(span, shape[d], &span)) return -1;
    }
    return span;
}

int64_t psg_shape_product(int rank, const int64_t *shape) {
    int64_t span = span_of(rank, shape);
    for (int d = 0; d < rank && span > 0; d++) {
        if (shape[d] == 0) return 0;
    }
    return span;
}

bool psg_dtype_is_real(psg_dtype dtype) { return dtype == PSG_F32 || dtype == PSG_F64; }

bool psg_tensor_fits(const psg_tensor *tensor) {
    int64_t span = span_of(tensor->rank, tensor->shape);
    return span >= 0 && span <= PTRDIFF_MAX / (int64_t)psg_dtype_size(tensor->dtype);
}

bool psg_tensor_is_valid(const psg_tensor *tensor) {
    if (!tensor || tensor->rank < 0 || tensor->rank > PSG_MAX_RANK || !psg_dtype_size(tensor->dtype)) return false;
    return psg_tensor_fits(tensor) && (tensor->data || psg_tensor_count(tensor) == 0);
}

const char *psg_tensor_fault(const psg_tensor *tensor, char *text) {
    psg_writer w = { text, PSG_FAULT_TEXT, 0 };
    if (!tensor) return "NULL, must be a view";
    if (tensor->rank == -1) return "of no shape: the one it was made of was NULL, or its rank out of range";
    if (tensor->rank < 0 || tensor->rank > PSG_MAX_RANK) {
        psg_put(&w, "of rank %d, must be from 0 to %d", tensor->rank, PSG_MAX_RANK);
        return text;
    }
    if (!psg_dtype_size(tensor->dtype)) {
        psg_put(&w, "of dtype %d, must be one of psg_dtype", (int)tensor->dtype);
        return text;
    }
    for (int d = 0; d < tensor->rank; d++) {
        if (tensor->shape[d] >= 0) continue;
        psg_put(&w, "of size %lld in dimension %d, must be at least 0", (long long)tensor->shape[d], d);
        return text;
    }
    return psg_tensor_fits(tensor) ? "without data" : "of sizes whose bytes do not fit memory";
}

bool psg_shape_equal(int rank, const int64_t *a, int other_rank, const int64_t *b) {
    if (rank != other_rank) return false;
    for (int d = 0; d < rank; d++) {
        if (a[d] != b[d]) return false;
    }
    return true;
}

psg_tensor psg_tensor_strided(psg_dtype dtype, void *data, int rank, const int64_t *shape, const int64_t *stride) {
    psg_tensor tensor = { .data = data, .dtype = dtype, .rank = rank };
    if (rank < 0 || rank > PSG_MAX_RANK || (rank && (!shape || !stride))) {
        tensor.rank = -1;
        return tensor;
    }
    for (int d = 0; d < rank; d++) {
        tensor.shape[d] = shape[d];
        tensor.stride[d] = stride[d];
    }
    return tensor;
}

psg_tensor psg_tensor_of(psg_dtype dtype, void *data, int rank, const int64_t *shape) {
    int64_t stride[PSG_MAX_RANK];
    int64_t step = 1;
    for (int d = shape && rank > 0 && rank <= PSG_MAX_RANK ? rank - 1 : -1; d >= 0; d--) {
        stride[d] = step;
        if (shape[d] > 0 && __builtin_mul_overflow(step, shape[d], &step)) step = INT64_MAX;
    }
    return psg_tensor_strided(dtype, data, rank, shape, stride);
}

int64_t psg_tensor_count(const psg_tensor *tensor) {
    if (!tensor || tensor->rank < 0 || tensor->rank > PSG_MAX_RANK) return -1;
    return psg_shape_product(tensor->rank, tensor->shape);
}

int psg_tensor_is_contiguous(const psg_tensor *tensor) {
    int64_t count = psg_tensor_count(tensor), step = 1;
    if (count <= 0) return count == 0;
    for (int d = tensor->rank - 1; d >= 0; d--) {
        if (tensor->shape[d] != 1 && tensor->stride[d] != step) return 0;
        step *= tensor->shape[d];
    }
    return 1;
}

void *psg_tensor_offset(const psg_tensor *tensor, int64_t elements) {
    if (!elements || !tensor->data) return tensor->data;   /* an empty view may have no memory */
    return (char *)tensor->data + elements * (int64_t)psg_dtype_size(tensor->dtype);
}

psg_tensor psg_tensor_at(const psg_tensor *tensor, int64_t index) {
    return psg_tensor_strided(tensor->dtype, psg_tensor_offset(tensor, index * tensor->stride[0]), tensor->rank - 1,
                              tensor->shape + 1, tensor->stride + 1);
}

psg_tensor psg_tensor_swap(const psg_tensor *tensor, int a, int b) {
    psg_tensor swapped = *tensor;
    swapped.shape[a] = tensor->shape[b];
    swapped.shape[b] = tensor->shape[a];
    swapped.stride[a] = tensor->stride[b];
    swapped.stride[b] = tensor->stride[a];
    return swapped;
}

bool psg_tensor_merge(psg_tensor *tensor, int first, int last) {
    bool empty = psg_tensor_count(tensor) == 0;
    int64_t shape = 1, stride = 1;
    for (int d = last; d >= first; d--) {
        if (tensor->shape[d] != 1 && !empty) {
            if (shape == 1) stride = tensor->stride[d];
            else if (tensor->stride[d] != stride * shape) return false;
        }
        shape *= tensor->shape[d];
    }
    int removed = last - first;
    if (removed < 0) {   /* no dimensions: a new one of size 1 */
        memmove(tensor->shape + first + 1, tensor->shape + first, (size_t)(tensor->rank - first) * sizeof shape);
        memmove(tensor->stride + first + 1, tensor->stride + first, (size_t)(tensor->rank - first) * sizeof stride);
    } else {
        size_t tail = (size_t)(tensor->rank - last - 1);
        memmove(tensor->shape + first + 1, tensor->shape + last + 1, tail * sizeof shape);
        memmove(tensor->stride + first + 1, tensor->stride + last + 1, tail * sizeof stride);
    }
    tensor->shape[first] = shape;
    tensor->stride[first] = stride;
    tensor->rank -= removed;
    return true;
}

/* Copies of a constant size are single moves. */
static void copy_strided(const char *from, int64_t from_step, char *to, int64_t to_step, int64_t count, size_t size) {
    if (size == 4) {
        for (int64_t i = 0; i < count; i++) memcpy(to + i * to_step, from + i * from_step, 4);
    } else {
        for (int64_t i = 0; i < count; i++) memcpy(to + i * to_step, from + i * from_step, 8);
    }
}

static void copy_row(const char *from, int64_t from_stride, char *to, int64_t to_stride, int64_t count, size_t size) {
    if (from_stride == 1 && to_stride == 1) memcpy(to, from, (size_t)count * size);
    else copy_strided(from, from_stride * (int64_t)size, to, to_stride * (int64_t)size, count, size);
}

/* Dimensions of both shapes are taken in groups of one product; those of x must be one sequence each. */
static bool reshape_strided(psg_tensor *x, int rank, const int64_t *shape) {
    psg_tensor made = psg_tensor_of(x->dtype, x->data, rank, shape);
    int from = 0, to = 0;
    while (from < x->rank && to < rank) {
        int from_end = from + 1, to_end = to + 1;
        int64_t have = x->shape[from], want = shape[to];
        while (have != want) {
            if (have < want) have *= x->shape[from_end++];
            else want *= shape[to_end++];
        }
        psg_tensor group = *x;
        if (!psg_tensor_merge(&group, from, from_end - 1)) return false;
        int64_t stride = group.stride[from];
        for (int d = to_end - 1; d >= to; d--) {
            made.stride[d] = stride;
            stride *= shape[d];
        }
        from = from_end;
        to = to_end;
    }
    *x = made;   /* what is left has size 1 */
    return true;
}

bool psg_tensor_reshape(psg_tensor *tensor, int rank, const int64_t *shape) {
    if (psg_tensor_count(tensor) && !psg_tensor_is_contiguous(tensor)) return reshape_strided(tensor, rank, shape);
    *tensor = psg_tensor_of(tensor->dtype, tensor->data, rank, shape);
    return true;
}

void psg_tensor_copy(const psg_tensor *from, const psg_tensor *to) {
    int64_t count = psg_tensor_count(from);
    if (count <= 0) return;
    if (psg_tensor_is_contiguous(from) && psg_tensor_is_contiguous(to)) {
        memcpy(to->data, from->data, (size_t)count * psg_dtype_size(from->dtype));
    } else if (from->rank == 1) {
        copy_row(from->data, from->stride[0], to->data, to->stride[0], count, psg_dtype_size(from->dtype));
    } else {
        for (int64_t i = 0; i < from->shape[0]; i++) {
            psg_tensor inner = psg_tensor_at(from, i), target = psg_tensor_at(to, i);
            psg_tensor_copy(&inner, &target);
        }
    }
}

const char *psg_shape_text(int rank, const int64_t *shape, char text[PSG_SHAPE_TEXT]) {
    size_t used = (size_t)snprintf(text, PSG_SHAPE_TEXT, "(");
    for (int d = 0; d < rank && used < PSG_SHAPE_TEXT; d++) {
        used += (size_t)snprintf(text + used, PSG_SHAPE_TEXT - used, d ? ", %lld" : "%lld", (long long)shape[d]);
    }
    if (used < PSG_SHAPE_TEXT) snprintf(text + used, PSG_SHAPE_TEXT - used, ")");
    return text;
}

/* ---- short public forms ---- */

psg_tensor psg_tensor_const(psg_dtype dtype, const void *data, int rank, const int64_t *shape) {
    return psg_tensor_of(dtype, (void *)(uintptr_t)data, rank, shape);
}

psg_tensor psg_f32_1d(const float *data, int64_t d0) {
    return psg_tensor_const(PSG_F32, data, 1, (int64_t[]){ d0 });
}

psg_tensor psg_f32_2d(const float *data, int64_t d0, int64_t d1) {
    return psg_tensor_const(PSG_F32, data, 2, (int64_t[]){ d0, d1 });
}

psg_tensor psg_f32_3d(const float *data, int64_t d0, int64_t d1, int64_t d2) {
    return psg_tensor_const(PSG_F32, data, 3, (int64_t[]){ d0, d1, d2 });
}

psg_tensor psg_f32_4d(const float *data, int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
    return psg_tensor_const(PSG_F32, data, 4, (int64_t[]){ d0, d1, d2, d3 });
}

psg_tensor psg_f64_1d(const double *data, int64_t d0) {
    return psg_tensor_const(PSG_F64, data, 1, (int64_t[]){ d0 });
}

psg_tensor psg_f64_2d(const double *data, int64_t d0, int64_t d1) {
    return psg_tensor_const(PSG_F64, data, 2, (int64_t[]){ d0, d1 });
}

psg_tensor psg_f64_3d(const double *data, int64_t d0, int64_t d1, int64_t d2) {
    return psg_tensor_const(PSG_F64, data, 3, (int64_t[]){ d0, d1, d2 });
}

psg_tensor psg_f64_4d(const double *data, int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
    return psg_tensor_const(PSG_F64, data, 4, (int64_t[]){ d0, d1, d2, d3 });
}

psg_tensor psg_i32_1d(const int32_t *data, int64_t d0) {
    return psg_tensor_const(PSG_I32, data, 1, (int64_t[]){ d0 });
}

psg_tensor psg_i32_2d(const int32_t *data, int64_t d0, int64_t d1) {
    return psg_tensor_const(PSG_I32, data, 2, (int64_t[]){ d0, d1 });
}

psg_tensor psg_i64_1d(const int64_t *data, int64_t d0) {
    return psg_tensor_const(PSG_I64, data, 1, (int64_t[]){ d0 });
}

psg_tensor psg_i64_2d(const int64_t *data, int64_t d0, int64_t d1) {
    return psg_tensor_const(PSG_I64, data, 2, (int64_t[]){ d0, d1 });
}
