#include "linalg/double_set.h"

#include <string.h>

#include "base/context.h"
#include "base/memory.h"
#include "base/shapes.h"
#include "kernels.h"

/* ---- one array ---- */

static bool is_widened(const psg_tensor *x) { return x->data && x->dtype == PSG_F32; }

/* The elements that differ: a dimension of stride 0 has one. */
static psg_tensor distinct(const psg_tensor *x) {
    psg_tensor view = *x;
    for (int d = 0; d < x->rank; d++) {
        if (!x->stride[d] && x->shape[d]) view.shape[d] = 1;
    }
    return view;
}

/* to, contiguous and 0, = from. */
static void widen(const psg_kernel_table *kernels, const psg_tensor *from, const psg_tensor *to) {
    const int64_t count = psg_tensor_count(from);
    if (psg_tensor_is_contiguous(from)) {
        kernels->add_to_f64((size_t)count, 1.0, from->data, to->data);
        return;
    }
    for (int64_t i = 0; i < from->shape[0]; i++) {
        psg_tensor inner = psg_tensor_at(from, i), target = psg_tensor_at(to, i);
        widen(kernels, &inner, &target);
    }
}

/* Makes *x a view of its copy in memory; returns the end of the copy. */
static double *move(const psg_kernel_table *kernels, psg_tensor *x, double *memory) {
    psg_tensor from = distinct(x);
    if (x->dtype == PSG_F32) x->dtype = PSG_F64;
    if (!is_widened(&from)) return memory;
    psg_tensor to = psg_tensor_of(PSG_F64, memory, from.rank, from.shape);
    const int64_t count = psg_tensor_count(&from);
    memset(memory, 0, (size_t)count * sizeof(double));
    widen(kernels, &from, &to);
    for (int d = 0; d < x->rank; d++) x->stride[d] = x->stride[d] ? to.stride[d] : 0;
    x->data = memory;
    return memory + count;
}

/* ---- the set ---- */

static bool add_cells(const psg_tensor *x, int64_t *cells) {
    if (!is_widened(x)) return true;
    psg_tensor view = distinct(x);
    const int64_t count = psg_tensor_count(&view);
    return count >= 0 && !__builtin_add_overflow(*cells, count, cells);
}

typedef struct sizes {
    size_t blocks, bytes;
} sizes;

static bool count_sizes(const psg_gradient *const *gradients, size_t count, sizes *found) {
    int64_t cells = 0;
    bool fits = true;
    *found = (sizes){ 0, 0 };
    for (size_t k = 0; k < count; k++) {
        for (size_t b = 0; b < gradients[k]->block_count; b++) {
            fits = fits && add_cells(&gradients[k]->blocks[b].backprop, &cells) &&
                   add_cells(&gradients[k]->blocks[b].activation, &cells);
        }
        found->blocks += gradients[k]->block_count;
    }
    size_t headers = count * (sizeof(psg_gradient) + sizeof(psg_gradient *)) + found->blocks * sizeof(psg_block);
    return fits && psg_size_bytes(cells, sizeof(double), &found->bytes) &&
           !__builtin_add_overflow(found->bytes, headers, &found->bytes);
}

/* memory: the doubles' place comes last, and every part before it is a multiple of their size. */
static void fill(const psg_kernel_table *kernels, const psg_gradient *const *given, size_t count, size_t blocks,
                 void *memory) {
    const psg_gradient **pointer = memory;
    psg_gradient *gradient = (void *)(pointer + count);
    psg_block *block = (void *)(gradient + count);
    double *cells = (void *)(block + blocks);
    for (size_t k = 0; k < count; k++) {
        gradient[k] = *given[k];
        gradient[k].dtype = PSG_F64;
        gradient[k].blocks = block;
        pointer[k] = &gradient[k];
        for (size_t b = 0; b < given[k]->block_count; b++, block++) {
            *block = given[k]->blocks[b];
            cells = move(kernels, &block->backprop, cells);
            cells = move(kernels, &block->activation, cells);
        }
    }
}

psg_status psg_double_set_open(psg_context *context, const char *function, const psg_gradient *const *gradients,
                               size_t count, psg_double_set *set) {
    *set = (psg_double_set){ context, gradients, NULL };
    if (gradients[0]->dtype == PSG_F64) return PSG_OK;
    sizes needed;
    if (!count_sizes(gradients, count, &needed)) {
        return psg_fail(context, PSG_ERR_OVERFLOW, "%s: a copy of the gradients in double does not fit the memory",
                        function);
    }
    set->memory = psg_alloc(context, needed.bytes);
    if (!set->memory) return psg_fail_memory(context, function, needed.bytes);
    fill(context->kernels[PSG_F32], gradients, count, needed.blocks, set->memory);
    set->gradients = set->memory;
    return PSG_OK;
}

void psg_double_set_close(psg_double_set *set) {
    psg_free(set->context, set->memory);
    set->memory = NULL;
}
