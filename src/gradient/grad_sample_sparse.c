/* grad_sample_sparse: the rows that a sample touches, instead of the whole table. */
#include "base/parallel.h"
#include "base/shape.h"
#include "gradient/sparse_rows.h"

static const char *const function = "psg_grad_sample_sparse";

typedef struct job {
    psg_context *context;
    const psg_gradient *gradient;
    double scale;
    int64_t positions, width;
    int64_t *ids, *counts;
    void *rows;
    psg_entry *entries;        /* 2 T a worker; NULL: they fit the workspace */
} job;

static void run_sample(void *argument, size_t n, unsigned slot) {
    const job *j = argument;
    void *workspace = j->context->workspace[slot];
    psg_entry *entries = j->entries ? j->entries + 2 * j->positions * (int64_t)slot : workspace;
    int64_t *ids = j->ids + (int64_t)n * j->positions;
    void *rows = psg_elements_mutable(j->rows, j->gradient->dtype, (int64_t)n * j->positions * j->width);
    int64_t count = psg_collect_rows(j->context, j->gradient, (int64_t)n, j->scale, ids, rows, entries, workspace);
    for (int64_t k = count; k < j->positions; k++) ids[k] = -1;
    j->counts[n] = count;
}

static psg_status check_output(psg_context *context, const char *name, const psg_tensor *out, psg_dtype dtype, int rank,
                               const int64_t *shape) {
    char have[PSG_SHAPE_TEXT], want[PSG_SHAPE_TEXT];
    if (!psg_tensor_is_valid(out) || !psg_shape_equal(out->rank, out->shape, rank, shape) ||
        !psg_tensor_is_contiguous(out)) {
        bool readable = out && out->rank >= 0 && out->rank <= PSG_MAX_RANK;
        return psg_fail(context, PSG_ERR_SHAPE, "%s: %s must be contiguous of shape %s, is %s", function, name,
                        psg_shape_text(rank, shape, want), readable ? psg_tensor_text(out, have) : "no valid view");
    }
    if (out->dtype != dtype) {
        return psg_fail(context, PSG_ERR_DTYPE, "%s: %s is %s, must be %s", function, name,
                        psg_dtype_name(out->dtype), psg_dtype_name(dtype));
    }
    return PSG_OK;
}

static psg_status check_outputs(const job *j, const psg_tensor *ids, const psg_tensor *rows) {
    int64_t shape[3] = { j->gradient->batch_size, j->positions, j->width };
    psg_status status = check_output(j->context, "ids", ids, PSG_I64, 2, shape);
    if (!status) status = check_output(j->context, "rows", rows, j->gradient->dtype, 3, shape);
    if (!status && !j->counts) return psg_fail(j->context, PSG_ERR_ARGUMENT, "%s: counts is NULL", function);
    return status;
}

static psg_status check_blocks(psg_context *context, const psg_gradient *gradient) {
    for (size_t k = 0; k < gradient->block_count; k++) {
        psg_form form = gradient->blocks[k].form;
        if (form == PSG_SPARSE_ROWS) continue;
        return psg_fail(context, PSG_ERR_UNSUPPORTED, "%s: block %zu is %s, must be sparse rows like every block; "
                        "psg_grad_sample takes all forms", function, k, psg_form_name(form));
    }
    if (psg_is_row_sparse(gradient)) return PSG_OK;
    return psg_fail(context, PSG_ERR_UNSUPPORTED, "%s: every block must be sparse rows inside the rows of a parameter "
                    "of shape (V, *D)", function);
}

psg_status psg_grad_sample_sparse(psg_context *context, const psg_gradient *gradient, double scale,
                                  const psg_tensor *ids, const psg_tensor *rows, int64_t *counts) {
    psg_status status = psg_check_questions(context, function, &gradient, 1);
    if (!status) status = check_blocks(context, gradient);
    if (status) return status;
    job j = { .context = context, .gradient = gradient, .scale = scale, .positions = psg_gradient_positions(gradient),
              .width = psg_sparse_width(gradient), .counts = counts };
    status = check_outputs(&j, ids, rows);
    if (status) return status;
    if (j.positions > PSG_SORTED_MOST) {
        size_t bytes = (size_t)j.positions * 2 * sizeof(psg_entry) * context->threads;
        j.entries = psg_scratch(context, bytes);
        if (!j.entries) return psg_fail_memory(context, function, bytes);
    }
    j.ids = ids->data;
    j.rows = rows->data;
    psg_parallel(context, (size_t)gradient->batch_size, run_sample, &j);
    return PSG_OK;
}
