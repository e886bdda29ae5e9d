/* rnn_part: rows of a recurrent layer's output, such as its final states, as a value of their own. */
#include <string.h>

#include "base/shapes.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops.h"

enum { OUTPUT, BEFORE };

/* ---- shape ---- */

typedef struct part_sizes {
    int batch;                /* its dimension in values of rank 3 */
    int64_t samples, rows, width;     /* of the layer's output */
    int64_t before;           /* rows of the second input */
    int64_t columns;          /* of a row of the result */
    int64_t result_rows;
} part_sizes;

static part_sizes sizes_of(const psg_call *call) {
    const psg_rnn_part_attributes *a = call->attributes;
    const psg_tensor *x = &call->input[OUTPUT].value, *before = &call->input[BEFORE].value;
    int batch = 0;
    part_sizes s = { .batch = batch, .samples = x->shape[batch], .rows = x->shape[1 - batch], .width = x->shape[2] };
    s.before = call->input[BEFORE].role == PSG_ABSENT ? 0 : before->shape[1 - batch];
    s.columns = a->columns / a->split;
    s.result_rows = s.before + a->rows * a->split;
    return s;
}

static psg_status check_range(psg_call *call) {
    const psg_rnn_part_attributes *a = call->attributes;
    const psg_tensor *x = &call->input[OUTPUT].value;
    int64_t rows = x->shape[1 - 0], width = x->shape[2], parts;
    bool fits = a->row >= 0 && a->rows >= 0 && a->rows <= rows && a->row <= rows - a->rows;
    bool columns = a->columns >= 0 && a->columns <= width && a->split >= 1 && a->columns % a->split == 0;
    if (fits && columns && psg_size_multiply(a->rows, a->split, &parts)) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "row %lld, rows %lld, columns %lld and split %lld do not fit %lld "
                         "rows of %lld elements", (long long)a->row, (long long)a->rows, (long long)a->columns,
                         (long long)a->split, (long long)rows, (long long)width);
}

static psg_status part_shape(psg_call *call) {
    const psg_rnn_part_attributes *a = call->attributes;
    const psg_tensor *x = &call->input[OUTPUT].value, *before = &call->input[BEFORE].value;
    bool cat = call->input[BEFORE].role != PSG_ABSENT;
    if (x->rank != 3 || (cat && before->rank != 3)) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "operands must be of rank 3, are of rank %d and %d", x->rank,
                             cat ? before->rank : 3);
    }
    psg_status status = psg_operands_real(call, 2);
    if (!status) status = check_range(call);
    if (!status) status = psg_operand_carries_batch(call, OUTPUT);
    if (status) return status;
    part_sizes s = sizes_of(call);
    if (cat && (before->shape[s.batch] != s.samples || before->shape[2] != s.columns)) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "the rows of before must be of %lld samples and %lld elements",
                             (long long)s.samples, (long long)s.columns);
    }
    if (a->squeeze && s.result_rows == 1) {
        return psg_call_output(call, x->dtype, 2, (int64_t[]){ s.samples, s.columns });
    }
    int64_t shape[3] = { s.samples, s.samples, s.columns };
    shape[1 - s.batch] = s.result_rows;
    return psg_call_output(call, x->dtype, 3, shape);
}

/* ---- forward and backward ---- */

typedef struct part_job {
    const psg_rnn_part_attributes *attributes;
    part_sizes sizes;
    const psg_tensor *whole, *before, *result;
    size_t element;
    bool back;                /* from the result */
} part_job;

static void *row_of(const part_job *j, const psg_tensor *x, int64_t rows, int64_t width, int64_t n, int64_t row) {
    int64_t at = j->sizes.batch ? row * j->sizes.samples + n : n * rows + row;
    return psg_tensor_offset(x, at * width);
}

static void move(const part_job *j, void *from, void *result, size_t bytes) {
    if (j->back) memcpy(from, result, bytes);
    else memcpy(result, from, bytes);
}

static void move_whole(const part_job *j, int64_t n) {
    const psg_rnn_part_attributes *a = j->attributes;
    const part_sizes *s = &j->sizes;
    size_t row_bytes = (size_t)s->width * j->element, bytes = (size_t)s->columns * j->element;
    for (int64_t r = 0; r < s->rows; r++) {
        char *row = row_of(j, j->whole, s->rows, s->width, n, r);
        if (j->back) memset(row, 0, row_bytes);
        if (r < a->row || r >= a->row + a->rows) continue;
        for (int64_t p = 0; p < a->split; p++) {
            int64_t at = s->before + (r - a->row) * a->split + p;
            move(j, row + p * (int64_t)bytes, row_of(j, j->result, s->result_rows, s->columns, n, at), bytes);
        }
    }
}

static void move_samples(void *argument, size_t begin, size_t count) {
    const part_job *j = argument;
    const part_sizes *s = &j->sizes;
    for (int64_t n = (int64_t)begin; n < (int64_t)(begin + count); n++) {
        if (j->whole->data) move_whole(j, n);
        for (int64_t r = 0; j->before->data && r < s->before; r++) {
            move(j, row_of(j, j->before, s->before, s->columns, n, r),
                 row_of(j, j->result, s->result_rows, s->columns, n, r), (size_t)s->columns * j->element);
        }
    }
}

static void run(psg_call *call, const psg_tensor *whole, const psg_tensor *before, const psg_tensor *result,
                bool back) {
    part_job j = { call->attributes, sizes_of(call), whole, before, result, psg_dtype_size(result->dtype), back };
    size_t unit = psg_range_unit(j.sizes.rows * j.sizes.width);
    psg_for_ranges(call->context, (size_t)j.sizes.samples, unit, move_samples, &j);
}

static psg_status part_forward(psg_call *call) {
    run(call, &call->input[OUTPUT].value, &call->input[BEFORE].value, &call->output, false);
    return PSG_OK;
}

static psg_status part_backward(psg_call *call) {
    run(call, &call->input[OUTPUT].grad, &call->input[BEFORE].grad, &call->grad_output, true);
    return PSG_OK;
}

static const char *const input_names[] = { "output", "before" };

const psg_op psg_op_rnn_part = {
    .name = "rnn_part",
    .input_count = 2,
    .input_names = input_names,
    .optional_inputs = 1u << BEFORE,
    .attributes_size = sizeof(psg_rnn_part_attributes),
    .shape = part_shape,
    .forward = part_forward,
    .backward = part_backward,
};
