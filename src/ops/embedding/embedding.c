/* embedding: rows of a table by ids.  The table's gradient is sparse rows (grad_output, ids). */
#include <string.h>

#include "base/context.h"
#include "base/shapes.h"
#include "kernels.h"
#include "ops/embedding/lookup.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops/embedding.h"

/* Rows of an output beyond this leave the cache before anybody reads them. */
static const int64_t stream_bytes = INT64_C(24) << 20;

/* Row (n, i) of the output is that of the id at n * sample_step + i: the step is 0 where all samples have the same
 * ids. */
typedef struct layout {
    int64_t samples, inner, sample_step;
} layout;

static psg_lookup_options options_of(const psg_call *call) {
    const psg_embedding_options *o = call->attributes;
    return (psg_lookup_options){ o->has_padding_idx, o->padding_idx, o->max_norm, o->norm_type };
}

/* ---- shape ---- */

/* ids with a dimension for the batch: a constant of shape (T) is (1, T). */
static psg_tensor batched_ids(const psg_call *call) {
    const psg_operand *operand = &call->input[PSG_LOOKUP_IDS];
    psg_tensor ids = psg_operand_aligned(call, PSG_LOOKUP_IDS, operand->value.rank);
    if (operand->role != PSG_BATCHED && ids.rank == 1) psg_tensor_merge(&ids, 0, -1);
    return ids;
}

/* Ids of a per-sample pass belong to samples, or to all of them. */
static psg_status check_batch(psg_call *call, const psg_tensor *ids) {
    if (call->pass->ordinary) return PSG_OK;
    bool constant = call->input[PSG_LOOKUP_IDS].role != PSG_BATCHED;
    if (ids->shape[0] == 1 && ids->rank > 1) return PSG_OK;
    if (!constant && ids->shape[0] == call->pass->batch_size) return PSG_OK;
    char text[PSG_SHAPE_TEXT];
    return psg_call_fail(call, PSG_ERR_BATCH, "ids of shape %s has batch size %lld, must have %s",
                         psg_tensor_text(ids, text), (long long)ids->shape[0],
                         constant ? "1, being a constant, or be a psg_input"
                                  : "the pass's, or 1 for the same ids in every sample");
}

static psg_status shape(psg_call *call) {
    psg_lookup_options options = options_of(call);
    psg_status status = psg_lookup_check(call, &options);
    if (status) return status;
    psg_tensor ids = batched_ids(call);
    status = check_batch(call, &ids);
    if (status) return status;
    int64_t out[PSG_MAX_RANK + 2] = { 0 };
    memcpy(out, ids.shape, (size_t)ids.rank * sizeof *out);
    if (!call->pass->ordinary) out[0] = call->pass->batch_size;
    out[ids.rank] = call->input[PSG_LOOKUP_TABLE].value.shape[1];
    return psg_call_output(call, call->input[PSG_LOOKUP_TABLE].value.dtype, ids.rank + 1, out);
}

static layout layout_of(const psg_call *call) {
    const psg_tensor ids = batched_ids(call), *output = &call->output;
    layout l = { .samples = output->shape[0], .inner = psg_shape_product(output->rank - 2, output->shape + 1) };
    l.sample_step = ids.shape[0] == 1 ? 0 : l.inner;
    return l;
}

/* ---- forward ---- */

typedef struct gather_job {
    const psg_call *call;
    layout layout;
    bool stream;
} gather_job;

static void gather(const gather_job *j, int64_t first, int64_t count, int64_t id) {
    const psg_tensor *ids = &j->call->input[PSG_LOOKUP_IDS].value, *table = &j->call->input[PSG_LOOKUP_TABLE].value;
    int64_t features = table->shape[1];
    j->call->context->kernels[table->dtype]->gather_rows(
        (size_t)count, (size_t)features, table->data, psg_tensor_offset(ids, id), psg_dtype_size(ids->dtype), 1,
        psg_tensor_offset(&j->call->output, first * features), j->stream);
}

static void gather_range(void *argument, size_t begin, size_t count) {
    const gather_job *j = argument;
    const layout *l = &j->layout;
    int64_t row = (int64_t)begin, end = (int64_t)(begin + count);
    while (row < end) {
        int64_t i = row % l->inner, run = l->inner - i;
        if (run > end - row) run = end - row;
        gather(j, row, run, row / l->inner * l->sample_step + i);
        row += run;
    }
}

static psg_status forward(psg_call *call) {
    psg_lookup_options options = options_of(call);
    psg_status status = psg_lookup_prepare(call, &options, NULL);
    if (status || !psg_tensor_count(&call->output)) return status;
    gather_job j = { .call = call, .layout = layout_of(call) };
    int64_t features = call->output.shape[call->output.rank - 1], rows = psg_tensor_count(&call->output) / features;
    j.stream = psg_tensor_count(&call->output) > stream_bytes / (int64_t)psg_dtype_size(call->output.dtype);
    if (rows == psg_tensor_count(&call->input[PSG_LOOKUP_IDS].value)) j.layout = (layout){ 1, rows, 0 };
    psg_for_ranges(call->context, (size_t)rows, psg_range_unit(features), gather_range, &j);
    return PSG_OK;
}

/* ---- gradient ---- */

/* Rows `step` apart from sample to sample as (samples, positions), with features behind them, if any.  An ordinary
 * pass, which tells no samples apart, has one sample. */
static psg_tensor by_sample(const psg_call *call, const psg_tensor *x, const layout *l, int64_t step,
                            int64_t features) {
    int64_t width = features < 0 ? 1 : features;
    psg_tensor view = psg_tensor_strided(x->dtype, x->data, features < 0 ? 2 : 3,
                                         (int64_t[]){ l->samples, l->inner, features },
                                         (int64_t[]){ step * width, width, 1 });
    if (!call->pass->ordinary) return view;
    psg_tensor_merge(&view, 0, 1);
    psg_tensor_merge(&view, 0, -1);
    return view;
}

typedef struct share_job {
    const psg_kernel_table *kernels;
    const psg_tensor *g, *rows;   /* (samples, positions, D) */
    const double *share;          /* a position */
} share_job;

static void scale_rows(void *argument, size_t begin, size_t count) {
    const share_job *j = argument;
    int64_t positions = j->g->shape[1], features = j->g->shape[2];
    for (int64_t k = (int64_t)begin; k < (int64_t)(begin + count); k++) {
        int64_t from = k / positions * j->g->stride[0] + k % positions * j->g->stride[1];
        j->kernels->scale_row((size_t)features, j->share[k], psg_tensor_offset(j->g, from), 1,
                              psg_tensor_offset(j->rows, k * features), false);
    }
}

/* g becomes g[n, t] / how often ids[n, t] occurs in sample n, kept. */
static psg_status scale_by_frequency(psg_call *call, const psg_tensor *ids, psg_tensor *g) {
    int64_t positions = g->shape[0] * g->shape[1];
    psg_tensor rows = psg_tensor_of(g->dtype, NULL, 3, g->shape);
    double *share = psg_call_keep(call, (size_t)positions * sizeof *share);
    rows.data = psg_call_keep(call, (size_t)psg_tensor_count(g) * psg_dtype_size(g->dtype));
    if (!share || !rows.data) return PSG_ERR_MEMORY;
    psg_status status = psg_lookup_shares(call, ids, share);
    if (status) return status;
    share_job j = { call->context->kernels[g->dtype], g, &rows, share };
    psg_for_ranges(call->context, (size_t)positions, psg_range_unit(g->shape[2]), scale_rows, &j);
    *g = rows;
    return PSG_OK;
}

static psg_status backward(psg_call *call) {
    if (!call->input[PSG_LOOKUP_TABLE].wants_grad) return PSG_OK;
    const psg_embedding_options *attributes = call->attributes;
    const layout l = layout_of(call);
    const int64_t features = call->grad_output.shape[call->grad_output.rank - 1];
    psg_lookup_options options = options_of(call);
    psg_tensor found;
    psg_status status = psg_lookup_without_padding(call, &options, &call->input[PSG_LOOKUP_IDS].value, &found);
    if (status) return status;
    psg_tensor ids = by_sample(call, &found, &l, l.sample_step, -1);
    psg_tensor g = by_sample(call, &call->grad_output, &l, l.inner, features);
    if (attributes->scale_grad_by_freq) status = scale_by_frequency(call, &ids, &g);
    return status ? status : psg_call_add_sparse_rows(call, PSG_LOOKUP_TABLE, &g, &ids);
}

static const char *const names[] = { "ids", "weight" };

const psg_op psg_op_embedding = {
    .name = "embedding",
    .input_count = 2,
    .input_names = names,
    .parameter_inputs = 1u << PSG_LOOKUP_TABLE,
    .attributes_size = sizeof(psg_embedding_options),
    .reserved_at = offsetof(psg_embedding_options, reserved),
    .repeats_over_batch = 1,
    .shape = shape,
    .forward = forward,
    .backward = backward,
};

psg_var psg_embedding(psg_tape *tape, psg_var ids, psg_var weight, const psg_embedding_options *options) {
    return psg_record(tape, &psg_op_embedding, (psg_var[]){ ids, weight }, 2, options);
}
