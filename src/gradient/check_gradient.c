#include <math.h>
#include <stdio.h>

#include "base/label.h"
#include "base/reserved.h"
#include "base/shapes.h"
#include "gradient/room.h"

psg_status psg_check_fail(const psg_check *at, psg_status status, const char *format, ...) {
    char text[PSG_MESSAGE_SIZE / 2], block[32] = "";
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (at->in_block) snprintf(block, sizeof block, ", block %zu", at->block);
    return psg_fail(at->set->context, status, "%s: %s%s: %s", at->set->function,
                    psg_label_at("gradients", at->index, at->gradient ? at->gradient->name : NULL).text, block, text);
}

/* 1 TiB of f32.  What is larger has strides of 0, or a parameter that is not there; no question about it would end. */
static const int64_t MOST_ELEMENTS = (int64_t)1 << 38;
static const int64_t MOST_SAMPLES = (int64_t)1 << 32;   /* bytes for each are then far below 2^63 */

/* Dimensions of 0 count as 1: there may be loops over the others. */
static bool is_too_large(const psg_tensor *x) {
    int64_t elements = 1;
    for (int d = 0; d < x->rank; d++) {
        if (!psg_size_multiply(elements, psg_most(x->shape[d], 1), &elements) || elements > MOST_ELEMENTS) return true;
    }
    return false;
}

psg_status psg_check_operand(const psg_check *at, const psg_block *block, const psg_tensor *x, const char *name) {
    bool image = block->form == PSG_UNFOLDED && x == &block->activation;
    int least = image ? 2 + block->window.spatial : 2, most = image ? least : 3;
    int64_t batch = at->gradient->batch_coupled ? block->backprop.shape[0] : at->gradient->batch_size;
    char text[PSG_SHAPE_TEXT];
    if (!psg_tensor_is_valid(x) || x->rank < least || x->rank > most) {
        return psg_check_fail(at, PSG_ERR_SHAPE, "%s must be a valid %s view of rank %d to %d, has rank %d", name,
                              image ? "(B, C, *X)" : "(B, p) or (B, T, p)", least, most, x->rank);
    }
    if (x->dtype != at->gradient->dtype) {
        return psg_check_fail(at, PSG_ERR_DTYPE, "%s is %s, the gradient is %s", name, psg_dtype_name(x->dtype),
                              psg_dtype_name(at->gradient->dtype));
    }
    if (is_too_large(x)) {
        return psg_check_fail(at, PSG_ERR_OVERFLOW, "%s has shape %s, more than 2^38 elements (0 taken as 1)", name,
                              psg_tensor_text(x, text));
    }
    if (x->shape[0] == batch) return PSG_OK;
    return psg_check_fail(at, PSG_ERR_BATCH, "%s has shape %s, the gradient's batch size is %lld", name,
                          psg_tensor_text(x, text), (long long)batch);
}

/* The last element must lie in the parameter, and rows must not overlap one another. */
static bool fits(const psg_check *at, int64_t offset, int64_t rows, int64_t columns, int64_t stride) {
    int64_t reach;
    return offset >= 0 && stride >= 0 && (rows == 1 || stride >= columns) &&
           psg_size_multiply(rows - 1, stride, &reach) && !__builtin_add_overflow(reach, offset, &reach) &&
           !__builtin_add_overflow(reach, columns, &reach) && reach <= at->numel;
}

/* Every row of the rectangle lies in a row of the parameter's last dimensions, one below the other, or all of it in one
 * row of the last (of more than one element): a block with p and d exchanged does not.  The tape looked when it was
 * added, and a reshaped parameter has blocks of another shape. */
static bool is_part(const psg_check *at, int64_t offset, int64_t rows, int64_t columns, int64_t stride) {
    int64_t row = 1;
    if (at->gradient->rank <= 1 || rows == 1 || at->gradient->pass) return true;
    for (int d = at->gradient->rank - 1; d > 0; d--) {
        row *= at->gradient->shape[d];
        bool below = stride % row == 0 && offset % row + columns <= row;
        bool flat = row == at->gradient->shape[d] && offset % row + (rows - 1) * stride + columns <= row;
        if (below || flat) return true;
    }
    return false;
}

psg_status psg_check_place(const psg_check *at, int64_t offset, int64_t rows, int64_t columns, int64_t stride) {
    if (rows == 0 || columns == 0) return PSG_OK;
    bool inside = fits(at, offset, rows, columns, stride);
    if (inside && rows > MOST_ELEMENTS / columns) {
        return psg_check_fail(at, PSG_ERR_OVERFLOW, "%lld rows of %lld elements, more than 2^38 in all",
                              (long long)rows, (long long)columns);
    }
    if (inside && is_part(at, offset, rows, columns, stride)) return PSG_OK;
    char text[PSG_SHAPE_TEXT];
    return psg_check_fail(at, PSG_ERR_SHAPE, "%lld rows of %lld elements, %lld apart from offset %lld on, %s the "
                          "parameter's shape %s (p rows of d: backprop has p features, activation d)", (long long)rows,
                          (long long)columns, (long long)stride, (long long)offset,
                          inside ? "are no part of" : "do not fit into",
                          psg_shape_text(at->gradient->rank, at->gradient->shape, text));
}

psg_status psg_check_block(const psg_check *at, const psg_block *block) {
    const psg_room *room = psg_room_of(block->form);
    if (!room) return psg_check_fail(at, PSG_ERR_ARGUMENT, "form is %d, must be one of psg_form", (int)block->form);
    if (psg_reserved_is_set(block->reserved)) return psg_check_fail(at, PSG_ERR_ARGUMENT, "block" PSG_RESERVED_TEXT);
    psg_status status = psg_check_operand(at, block, &block->backprop, "backprop");
    double scale = fabs(block->scale);
    if (!status && scale != 0 && !(scale >= 1e-100 && scale <= 1e100)) {
        return psg_check_fail(at, PSG_ERR_ARGUMENT, "scale is %g, must be 0 or of magnitude 1e-100 to 1e100",
                              block->scale);
    }
    return status ? status : room->check(at, block);
}

static psg_status check_shape(psg_check *at) {
    const psg_gradient *gradient = at->gradient;
    int64_t total, least = 0;
    if (psg_reserved_is_set(gradient->reserved)) {
        return psg_check_fail(at, PSG_ERR_ARGUMENT, "gradient" PSG_RESERVED_TEXT);
    }
    if (gradient->rank < 0 || gradient->rank > PSG_MAX_RANK || gradient->batch_size < 0) {
        return psg_check_fail(at, PSG_ERR_SHAPE, "rank %d and batch size %lld, must be a shape of 0 to %d dimensions "
                              "and at least 0", gradient->rank, (long long)gradient->batch_size, PSG_MAX_RANK);
    }
    if (!psg_dtype_is_real(gradient->dtype)) {
        return psg_check_fail(at, PSG_ERR_DTYPE, "%s, must be f32 or f64", psg_dtype_name(gradient->dtype));
    }
    for (int d = 0; d < gradient->rank; d++) least = gradient->shape[d] < least ? gradient->shape[d] : least;
    if (least < 0) return psg_check_fail(at, PSG_ERR_SHAPE, "the parameter has a negative dimension");
    at->numel = psg_gradient_numel(gradient);
    bool fits = gradient->batch_size <= MOST_SAMPLES && at->numel >= 0;
    if (fits && psg_size_multiply(at->numel, gradient->batch_size, &total)) return PSG_OK;
    return psg_check_fail(at, PSG_ERR_OVERFLOW, "B is beyond 2^32, or B x P beyond 63 bits");
}

static psg_status check_gradient(psg_check *at) {
    const psg_gradient *gradient = at->gradient;
    if (!gradient || (gradient->block_count && !gradient->blocks)) {
        return psg_check_fail(at, PSG_ERR_ARGUMENT, "NULL, or without its blocks array");
    }
    if (gradient->pass && !psg_pass_is_live(at->set->context, gradient->pass)) {
        at->gradient = NULL;   /* its name may be gone with the parameter */
        return psg_check_fail(at, PSG_ERR_STATE, "of a pass that is over, whose memory another has taken: must be asked before the next pass begins");
    }
    psg_status status = check_shape(at);
    at->in_block = true;
    for (at->block = 0; !status && at->block < gradient->block_count; at->block++) {
        status = psg_check_block(at, &gradient->blocks[at->block]);
    }
    at->in_block = false;
    return status;
}

static psg_status check_agreement(const psg_check *at, bool coupled) {
    const psg_gradient *first = at->set->gradients[0], *other = at->gradient;
    if (first->batch_size != other->batch_size) {
        return psg_check_fail(at, PSG_ERR_BATCH, "batch size %lld, gradients[0] has batch size %lld",
                              (long long)other->batch_size, (long long)first->batch_size);
    }
    if (first->dtype != other->dtype) {
        return psg_check_fail(at, PSG_ERR_DTYPE, "%s, gradients[0] is %s", psg_dtype_name(other->dtype),
                              psg_dtype_name(first->dtype));
    }
    if (coupled || !other->batch_coupled) return PSG_OK;
    return psg_check_fail(at, PSG_ERR_UNSUPPORTED, "of an ordinary pass, whose samples have no gradients of their own; "
                          "only psg_weighted_sum with weights NULL is answered");
}

psg_status psg_check_set(const psg_set *set, bool coupled) {
    psg_status status = PSG_OK;
    if (!set->context) return PSG_ERR_ARGUMENT;
    if (!set->gradients || !set->count) {
        return psg_fail(set->context, PSG_ERR_ARGUMENT, "%s: gradients is NULL or empty, must hold at least one",
                        set->function);
    }
    for (size_t k = 0; !status && k < set->count; k++) {
        psg_check at = { .set = set, .index = k, .gradient = set->gradients[k] };
        status = check_gradient(&at);
        if (!status) status = check_agreement(&at, coupled);
    }
    return status;
}

psg_status psg_check_array(const psg_set *set, const char *name, const void *array) {
    return array ? PSG_OK : psg_fail(set->context, PSG_ERR_ARGUMENT, "%s: %s is NULL", set->function, name);
}

psg_status psg_check_write(const psg_set *set, psg_write write) {
    if (write == PSG_OVERWRITE || write == PSG_ACCUMULATE) return PSG_OK;
    return psg_fail(set->context, PSG_ERR_ARGUMENT, "%s: write is %d, must be PSG_OVERWRITE or PSG_ACCUMULATE",
                    set->function, (int)write);
}

static bool has_shape(const psg_tensor *out, int rank, const int64_t *shape, psg_allow allow) {
    bool strided = allow & PSG_ALLOW_STRIDES;
    return psg_tensor_is_valid(out) && psg_shape_equal(out->rank, out->shape, rank, shape) &&
           (strided || psg_tensor_is_contiguous(out));
}

static bool has_type(const psg_tensor *out, psg_dtype dtype, psg_allow allow) {
    return out->dtype == dtype || (allow & PSG_ALLOW_F64 && out->dtype == PSG_F64);
}

psg_status psg_check_output(const psg_set *set, const char *name, const psg_tensor *out, psg_dtype dtype, int rank,
                            const int64_t *shape, psg_allow allow) {
    char have[PSG_SHAPE_TEXT], want[PSG_SHAPE_TEXT];
    bool strided = allow & PSG_ALLOW_STRIDES, wide = allow & PSG_ALLOW_F64 && dtype != PSG_F64;
    bool valid = psg_tensor_is_valid(out);
    if (!has_shape(out, rank, shape, allow)) {
        char fault[PSG_FAULT_TEXT];
        const bool same = valid && psg_shape_equal(out->rank, out->shape, rank, shape);
        return psg_fail(set->context, PSG_ERR_SHAPE, "%s: %s must be %s of shape %s, is %s%s", set->function, name,
                        strided ? "a view" : "contiguous", psg_shape_text(rank, shape, want),
                        valid ? psg_tensor_text(out, have) : psg_tensor_fault(out, fault), same ? " with strides" : "");
    }
    if (has_type(out, dtype, allow)) return PSG_OK;
    return psg_fail(set->context, PSG_ERR_DTYPE, "%s: %s is %s, must be %s%s", set->function, name,
                    psg_dtype_name(out->dtype), psg_dtype_name(dtype), wide ? " or f64" : "");
}

psg_status psg_check_tensors(const psg_set *set, const char *argument, const psg_tensor *tensors, psg_allow allow) {
    psg_status status = PSG_OK;
    if (!tensors) return psg_check_array(set, argument, tensors);
    for (size_t k = 0; !status && k < set->count; k++) {
        const psg_gradient *gradient = set->gradients[k];
        bool fits = has_shape(&tensors[k], gradient->rank, gradient->shape, allow);
        if (fits && has_type(&tensors[k], gradient->dtype, allow)) continue;
        status = psg_check_output(set, psg_label_at(argument, k, gradient->name).text, &tensors[k], gradient->dtype,
                                  gradient->rank, gradient->shape, allow);
    }
    return status;
}
