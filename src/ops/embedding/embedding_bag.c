/* embedding_bag: the mean, sum or maximum of rows of a table, one bag a sample.
 *
 * The table's gradient is sparse rows.  Sum and mean: every id of a bag receives the bag's output gradient, which is
 * the same array for all of them (position stride 0) unless ids have weights of their own.  Maximum: of a bag's rows,
 * at most min(T, D) have won a column; each of those receives the output gradient of its columns, and 0 elsewhere. */
#include <string.h>

#include "base/context.h"
#include "base/shapes.h"
#include "kernels.h"
#include "ops/embedding/bags.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"
#include "psg/ops/embedding.h"

static const psg_embedding_bag_options *attributes_of(const psg_call *call) { return call->attributes; }

static psg_lookup_options options_of(const psg_call *call) {
    const psg_embedding_bag_options *o = call->attributes;
    return (psg_lookup_options){ o->has_padding_idx, o->padding_idx, o->max_norm, o->norm_type };
}

/* ---- shape ---- */

static psg_status check_mode(psg_call *call) {
    const psg_embedding_bag_options *o = call->attributes;
    if (o->mode != PSG_BAG_MEAN && o->mode != PSG_BAG_SUM && o->mode != PSG_BAG_MAX) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "mode is %d, must be PSG_BAG_MEAN, PSG_BAG_SUM or PSG_BAG_MAX",
                             (int)o->mode);
    }
    if (o->mode == PSG_BAG_MAX && o->scale_grad_by_freq) {
        return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "scale_grad_by_freq has no meaning with PSG_BAG_MAX");
    }
    return PSG_OK;
}

static psg_status check_weights(psg_call *call) {
    const psg_operand *weights = &call->input[PSG_BAG_WEIGHTS];
    const psg_tensor *ids = &call->input[PSG_LOOKUP_IDS].value, *w = &weights->value;
    char text[PSG_SHAPE_TEXT], want[PSG_SHAPE_TEXT];
    if (weights->role == PSG_ABSENT) return PSG_OK;
    if (attributes_of(call)->mode != PSG_BAG_SUM) {
        return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "per_sample_weights are only for PSG_BAG_SUM");
    }
    if (!psg_dtype_is_real(w->dtype)) {
        return psg_call_fail(call, PSG_ERR_DTYPE, "per_sample_weights is %s, must be f32 or f64",
                             psg_dtype_name(w->dtype));
    }
    if (psg_shape_equal(w->rank, w->shape, ids->rank, ids->shape)) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "per_sample_weights has shape %s, must have that of ids, %s",
                         psg_tensor_text(w, text), psg_tensor_text(ids, want));
}

/* The number of bags. */
static psg_status count_bags(psg_call *call, int64_t *count) {
    const psg_tensor *ids = &call->input[PSG_LOOKUP_IDS].value, *offsets = &call->input[PSG_BAG_OFFSETS].value;
    bool ragged = call->input[PSG_BAG_OFFSETS].role != PSG_ABSENT;
    const int last = attributes_of(call)->include_last_offset != 0;
    char text[PSG_SHAPE_TEXT];
    if (ids->rank > 2 || (ids->rank == 1) != ragged) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "ids has shape %s, must be (N, T) without offsets or (M) with them",
                             psg_tensor_text(ids, text));
    }
    if (last && !ragged) return psg_call_fail(call, PSG_ERR_ARGUMENT, "include_last_offset is set without offsets");
    *count = ids->shape[0];
    if (!ragged) return PSG_OK;
    psg_status status = psg_lookup_check_integers(call, PSG_BAG_OFFSETS);
    if (status) return status;
    *count = offsets->rank == 1 ? offsets->shape[0] - last : -1;
    if (offsets->rank != 1 || *count < 0) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "offsets has shape %s, must be %s", psg_tensor_text(offsets, text),
                             last ? "(N + 1)" : "(N)");
    }
    if (*count || !ids->shape[0]) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "offsets gives no bag, but ids has %lld",
                         (long long)ids->shape[0]);
}

/* One bag a sample: without offsets the ids carry the batch themselves. */
static psg_status check_batch(psg_call *call, int64_t count) {
    bool ragged = call->input[PSG_BAG_OFFSETS].role != PSG_ABSENT;
    if (call->pass->ordinary) return PSG_OK;
    if (!ragged && call->input[PSG_LOOKUP_IDS].role != PSG_BATCHED) {
        return psg_call_fail(call, PSG_ERR_BATCH, "ids is a constant of rank 2, must be a psg_input");
    }
    if (count == call->pass->batch_size) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_BATCH, "%s gives %lld bags, the pass has batch size %lld",
                         ragged ? "offsets" : "ids", (long long)count, (long long)call->pass->batch_size);
}

static psg_status shape(psg_call *call) {
    psg_lookup_options options = options_of(call);
    int64_t count = 0;
    psg_status status = psg_lookup_check(call, &options);
    if (!status) status = check_mode(call);
    if (!status) status = count_bags(call, &count);
    if (!status) status = check_weights(call);
    if (!status) status = check_batch(call, count);
    if (status) return status;
    const psg_tensor *table = &call->input[PSG_LOOKUP_TABLE].value;
    return psg_call_output(call, table->dtype, 2, (int64_t[]){ count, table->shape[1] });
}

/* ---- forward ---- */

typedef struct bag_job {
    const psg_call *call;
    const psg_kernel_table *kernels;
    const psg_bags *bags;
    const double *factor;     /* backward: a position, or NULL */
    psg_tensor rows, ids;     /* backward: what it writes */
    int32_t *slot;            /* backward of the maximum: a position's place in rows */
} bag_job;

static void forward_bags(void *argument, size_t begin, size_t count) {
    const bag_job *j = argument;
    const psg_call *call = j->call;
    const psg_bags *b = j->bags;
    const psg_tensor *table = &call->input[PSG_LOOKUP_TABLE].value, *weights = &call->input[PSG_BAG_WEIGHTS].value;
    const psg_bag_mode mode = attributes_of(call)->mode;
    size_t positions = (size_t)b->ids.shape[1], features = (size_t)table->shape[1];
    for (int64_t n = (int64_t)begin; n < (int64_t)(begin + count); n++) {
        const void *ids = psg_tensor_offset(&b->ids, n * b->ids.shape[1]);
        void *out = psg_tensor_offset(&call->output, n * table->shape[1]);
        size_t id_size = psg_dtype_size(b->ids.dtype);
        if (mode == PSG_BAG_MAX) {
            j->kernels->bag_max(positions, features, table->data, ids, id_size, out,
                                psg_tensor_offset(&b->winner, n * table->shape[1]));
        } else {
            j->kernels->bag_sum(positions, features, table->data, ids, id_size,
                                psg_tensor_offset(weights, psg_bag_start(b, n)),
                                mode == PSG_BAG_MEAN ? psg_bag_mean_factor(b, n) : 1, out);
        }
    }
}

static void for_bags(psg_call *call, const psg_bags *b, psg_range_task task, bag_job *job) {
    if (!b->ids.shape[1] && !call->output.shape[1]) return; /* nothing is read or written, of however many bags */
    int64_t work = (b->ids.shape[1] + 1) * (call->output.shape[1] + 1);
    psg_for_ranges(call->context, (size_t)call->output.shape[0], psg_range_unit(work), task, job);
}

static psg_status forward(psg_call *call) {
    psg_lookup_options options = options_of(call);
    const int64_t *start;
    psg_status status = psg_bags_start(call, &start);
    psg_bags collected;
    if (!status) status = psg_lookup_prepare(call, &options, start);
    if (!status) status = psg_bags_collect(call, &options, start, attributes_of(call)->mode == PSG_BAG_MAX, &collected);
    psg_bags *b = status ? NULL : psg_call_keep(call, sizeof *b);
    if (!b) return status ? status : PSG_ERR_MEMORY;
    *b = collected;
    call->kept = b;
    bag_job j = { .call = call, .kernels = call->context->kernels[call->output.dtype], .bags = b };
    for_bags(call, b, forward_bags, &j);
    return PSG_OK;
}

/* ---- gradients ---- */

/* Each position's factor of its bag's output gradient where they differ within a bag: weight, share of its id, 1 /
 * bag's length.  *factor is NULL where they do not. */
static psg_status position_factors(psg_call *call, const psg_bags *b, double **factor) {
    const psg_tensor *weights = &call->input[PSG_BAG_WEIGHTS].value;
    const psg_embedding_bag_options *o = call->attributes;
    int64_t count = b->ids.shape[0], positions = b->ids.shape[1];
    *factor = NULL;
    if (!o->scale_grad_by_freq && !weights->data) return PSG_OK;
    double *f = psg_call_keep(call, (size_t)(count * positions) * sizeof *f);
    if (!f) return PSG_ERR_MEMORY;
    *factor = f;
    for (int64_t k = 0; k < count * positions; k++) f[k] = 1;
    psg_tensor counted = b->ids;
    if (call->pass->ordinary) counted = psg_tensor_of(b->ids.dtype, b->ids.data, 2, (int64_t[]){ 1, count * positions });
    psg_status status = o->scale_grad_by_freq ? psg_lookup_shares(call, &counted, f) : PSG_OK;
    for (int64_t n = 0; n < count && o->mode == PSG_BAG_MEAN; n++) {
        const double mean = psg_bag_mean_factor(b, n);
        for (int64_t t = 0; t < positions; t++) f[n * positions + t] *= mean;
    }
    for (int64_t k = 0; k < count * positions && weights->data; k++) {
        if (psg_lookup_id(&b->ids, k) < 0) continue;
        psg_tensor weight = *weights;
        weight.data = psg_tensor_offset(weights, psg_bag_start(b, k / positions) + k % positions);
        f[k] *= psg_scalar_value(call, &weight);
    }
    return status;
}

/* rows[n, t] = factor[n, t] * grad_output[n], or rows[n] = grad_output[n] / length of bag n. */
static void scale_bags(void *argument, size_t begin, size_t count) {
    const bag_job *j = argument;
    int64_t features = j->call->output.shape[1], positions = j->factor ? j->bags->ids.shape[1] : 1;
    for (int64_t k = (int64_t)begin * positions; k < (int64_t)(begin + count) * positions; k++) {
        int64_t n = k / positions;
        bool row = !j->factor || psg_lookup_id(&j->bags->ids, k) >= 0;
        j->kernels->scale_row((size_t)features, j->factor ? j->factor[k] : psg_bag_mean_factor(j->bags, n),
                              psg_tensor_offset(&j->call->grad_output, n * features), 1,
                              psg_tensor_offset(&j->rows, k * features), false);
        if (!row) memset(psg_tensor_offset(&j->rows, k * features), 0,
                         (size_t)features * psg_dtype_size(j->rows.dtype));
    }
}

static psg_status keep_like(psg_call *call, psg_tensor *tensor) {
    size_t bytes;
    if (!psg_size_bytes(psg_tensor_count(tensor), psg_dtype_size(tensor->dtype), &bytes)) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "the gradients of all positions are too many");
    }
    tensor->data = psg_call_keep(call, bytes);
    return tensor->data ? PSG_OK : PSG_ERR_MEMORY;
}

static psg_status add_sums(psg_call *call, const psg_bags *b) {
    const psg_tensor *g = &call->grad_output;
    int64_t count = g->shape[0], positions = b->ids.shape[1], features = g->shape[1];
    double *factor;
    psg_status status = position_factors(call, b, &factor);
    bag_job j = { .call = call, .kernels = call->context->kernels[g->dtype], .bags = b, .factor = factor, .rows = *g };
    if (!status && (factor || attributes_of(call)->mode == PSG_BAG_MEAN)) {
        j.rows = psg_tensor_of(g->dtype, NULL, 3, (int64_t[]){ count, factor ? positions : 1, features });
        status = keep_like(call, &j.rows);
        if (!status) for_bags(call, b, scale_bags, &j);
    }
    int64_t step = factor ? features : 0;
    psg_tensor rows = psg_tensor_strided(g->dtype, j.rows.data, 3, (int64_t[]){ count, positions, features },
                                         (int64_t[]){ factor ? positions * features : features, step, 1 });
    return status ? status : psg_call_add_sparse_rows(call, PSG_LOOKUP_TABLE, &rows, &b->ids);
}

/* Positions that have won a column, in the order of their first column, each with its columns of grad_output. */
static void share_out_columns(const bag_job *j, int64_t n) {
    const psg_bags *b = j->bags;
    int64_t features = j->rows.shape[2], places = j->rows.shape[1], positions = b->ids.shape[1];
    size_t size = psg_dtype_size(j->rows.dtype);
    int32_t *slot = j->slot + n * positions, used = 0;
    memset(slot, 0xff, (size_t)positions * sizeof *slot);
    for (int64_t d = 0; d < features; d++) {
        int64_t winner = psg_lookup_id(&b->winner, n * features + d);
        if (winner < 0) continue;
        if (slot[winner] < 0) {
            slot[winner] = used++;
            psg_lookup_set_id(&j->ids, n * places + slot[winner], psg_lookup_id(&b->ids, n * positions + winner));
        }
        memcpy(psg_tensor_offset(&j->rows, (n * places + slot[winner]) * features + d),
               psg_tensor_offset(&j->call->grad_output, n * features + d), size);
    }
}

static void share_out_bags(void *argument, size_t begin, size_t count) {
    const bag_job *j = argument;
    int64_t places = j->rows.shape[1], features = j->rows.shape[2];
    for (int64_t n = (int64_t)begin; places && n < (int64_t)(begin + count); n++) {
        memset(psg_tensor_offset(&j->rows, n * places * features), 0,
               (size_t)(places * features) * psg_dtype_size(j->rows.dtype));
        memset(psg_tensor_offset(&j->ids, n * places), 0xff, (size_t)places * psg_dtype_size(j->ids.dtype));
        share_out_columns(j, n);
    }
}

static psg_status add_maxima(psg_call *call, const psg_bags *b) {
    const psg_tensor *g = &call->grad_output;
    int64_t count = g->shape[0], positions = b->ids.shape[1], features = g->shape[1];
    int64_t places = positions < features ? positions : features;
    bag_job j = { .call = call, .kernels = call->context->kernels[g->dtype], .bags = b };
    j.rows = psg_tensor_of(g->dtype, NULL, 3, (int64_t[]){ count, places, features });
    j.ids = psg_tensor_of(b->ids.dtype, NULL, 2, (int64_t[]){ count, places });
    psg_status status = keep_like(call, &j.rows);
    if (!status) status = keep_like(call, &j.ids);
    if (status) return status;
    j.slot = psg_call_keep(call, (size_t)(count * positions) * sizeof *j.slot);
    if (!j.slot) return PSG_ERR_MEMORY;
    for_bags(call, b, share_out_bags, &j);
    return psg_call_add_sparse_rows(call, PSG_LOOKUP_TABLE, &j.rows, &j.ids);
}

/* d loss / d weight[n, t] = <grad_output[n], table[ids[n, t]]>. */
static void weigh_bags(void *argument, size_t begin, size_t count) {
    const bag_job *j = argument;
    const psg_bags *b = j->bags;
    const psg_tensor *table = &j->call->input[PSG_LOOKUP_TABLE].value, *grad = &j->call->input[PSG_BAG_WEIGHTS].grad;
    int64_t features = table->shape[1], positions = b->ids.shape[1];
    for (int64_t n = (int64_t)begin; n < (int64_t)(begin + count); n++) {
        int64_t length = b->start ? b->start[n + 1] - b->start[n] : positions;
        const void *g = psg_tensor_offset(&j->call->grad_output, n * features);
        for (int64_t t = 0; t < length; t++) {
            int64_t id = psg_lookup_id(&b->ids, n * positions + t);
            const void *row = psg_tensor_offset(table, (id < 0 ? 0 : id) * features);
            double slope = id < 0 ? 0 : j->kernels->dot((size_t)features, g, row);
            j->kernels->from_f64(1, 1, &slope, psg_tensor_offset(grad, psg_bag_start(b, n) + t), false);
        }
    }
}

static psg_status backward(psg_call *call) {
    const psg_bags *b = call->kept;
    if (call->input[PSG_BAG_WEIGHTS].grad.data) {
        bag_job j = { .call = call, .kernels = call->context->kernels[call->output.dtype], .bags = b };
        for_bags(call, b, weigh_bags, &j);
    }
    if (!call->input[PSG_LOOKUP_TABLE].wants_grad) return PSG_OK;
    return attributes_of(call)->mode == PSG_BAG_MAX ? add_maxima(call, b) : add_sums(call, b);
}

static const char *const names[] = { "ids", "weight", "offsets", "per_sample_weights" };

const psg_op psg_op_embedding_bag = {
    .name = "embedding_bag",
    .input_count = PSG_BAG_INPUTS,
    .input_names = names,
    .optional_inputs = 1u << PSG_BAG_OFFSETS | 1u << PSG_BAG_WEIGHTS,
    .parameter_inputs = 1u << PSG_LOOKUP_TABLE,
    .attributes_size = sizeof(psg_embedding_bag_options),
    .reserved_at = offsetof(psg_embedding_bag_options, reserved),
    .repeats_over_batch = 1,
    .shape = shape,
    .forward = forward,
    .backward = backward,
};

psg_var psg_embedding_bag(psg_tape *tape, psg_var ids, psg_var weight, psg_var offsets, psg_var per_sample_weights,
                          const psg_embedding_bag_options *options) {
    return psg_record(tape, &psg_op_embedding_bag, (psg_var[]){ ids, weight, offsets, per_sample_weights },
                      PSG_BAG_INPUTS, options);
}
