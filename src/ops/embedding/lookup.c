#include "ops/embedding/lookup.h"

#include <string.h>

#include "base/context.h"
#include "base/shapes.h"
#include "kernels.h"
#include "ops/shared/operand.h"
#include "ops/shared/ranges.h"

/* ---- shape ---- */

psg_status psg_lookup_check_integers(psg_call *call, int k) {
    psg_dtype dtype = call->input[k].value.dtype;
    if (dtype == PSG_I32 || dtype == PSG_I64) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_DTYPE, "%s is %s, must be i32 or i64", call->op->input_names[k],
                         psg_dtype_name(dtype));
}

static psg_status check_table(psg_call *call) {
    const psg_operand *table = &call->input[PSG_LOOKUP_TABLE];
    const char *name = call->op->input_names[PSG_LOOKUP_TABLE];
    char text[PSG_SHAPE_TEXT];
    if (!psg_dtype_is_real(table->value.dtype)) {
        return psg_call_fail(call, PSG_ERR_DTYPE, "%s is %s, must be f32 or f64", name,
                             psg_dtype_name(table->value.dtype));
    }
    if (table->value.rank != 2) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "%s must have shape (rows, features), has %s", name,
                             psg_tensor_text(&table->value, text));
    }
    if (table->role != PSG_BATCHED) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "%s is computed in this pass, must be a parameter or a constant",
                         name);
}

static psg_status check_padding(psg_call *call, const psg_lookup_options *options) {
    int64_t rows = call->input[PSG_LOOKUP_TABLE].value.shape[0], index = options->padding_idx;
    if (!options->has_padding_idx || (index >= -rows && index < rows)) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "padding_idx is %lld, must be in [%lld, %lld), the rows of %s",
                         (long long)index, -(long long)rows, (long long)rows,
                         call->op->input_names[PSG_LOOKUP_TABLE]);
}

static psg_status check_max_norm(psg_call *call, const psg_lookup_options *options) {
    if (!(options->max_norm >= 0)) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "max_norm is %g, must be >= 0 (0: none)", options->max_norm);
    }
    if (options->max_norm == 0) return PSG_OK;
    if (!(options->norm_type >= 0)) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "norm_type is %g, must be > 0 (0: 2)", options->norm_type);
    }
    const char *table = call->op->input_names[PSG_LOOKUP_TABLE];
    if (call->pass->remove_bad_records) {
        return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "max_norm changes rows of %s by ids of records that "
                             "psg_pass.remove_bad_records would remove", table);
    }
    if (call->input[PSG_LOOKUP_TABLE].role != PSG_PARAMETER || call->input[PSG_LOOKUP_TABLE].is_derived) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "max_norm changes rows of %s, which must be a parameter", table);
    }
    if (psg_may_update(call)) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "max_norm changes rows of %s by the ids of a batch, which clipping "
                         "and noise do not protect; a per-sample pass must say psg_pass.allow_updates", table);
}

psg_status psg_lookup_check(psg_call *call, const psg_lookup_options *options) {
    psg_status status = psg_lookup_check_integers(call, PSG_LOOKUP_IDS);
    if (!status) status = check_table(call);
    if (!status) status = check_padding(call, options);
    if (!status) status = check_max_norm(call, options);
    if (status || call->input[PSG_LOOKUP_IDS].value.rank) return status;
    return psg_call_fail(call, PSG_ERR_SHAPE, "%s is a scalar, must have at least rank 1",
                         call->op->input_names[PSG_LOOKUP_IDS]);
}

/* ---- ids ---- */

int64_t psg_lookup_id(const psg_tensor *ids, int64_t k) {
    return ids->dtype == PSG_I32 ? ((const int32_t *)ids->data)[k] : ((const int64_t *)ids->data)[k];
}

void psg_lookup_set_id(const psg_tensor *ids, int64_t k, int64_t id) {
    if (ids->dtype == PSG_I32) ((int32_t *)ids->data)[k] = (int32_t)id;
    else ((int64_t *)ids->data)[k] = id;
}

static bool all_below(const psg_tensor *ids, int64_t limit) {
    int64_t count = psg_tensor_count(ids);
    uint64_t bad = 0, bound = (uint64_t)limit;
    if (ids->dtype == PSG_I32) {
        const int32_t *id = ids->data;
        for (int64_t k = 0; k < count; k++) bad |= (uint64_t)(int64_t)id[k] >= bound;
    } else {
        const int64_t *id = ids->data;
        for (int64_t k = 0; k < count; k++) bad |= (uint64_t)id[k] >= bound;
    }
    return !bad;
}

static psg_status fail_id(psg_call *call, int64_t k, int64_t limit) {
    const psg_tensor *ids = &call->input[PSG_LOOKUP_IDS].value;
    int64_t index[PSG_MAX_RANK], at = k;
    for (int64_t d = ids->rank - 1, rest = k; d >= 0; d--) {
        index[d] = rest % ids->shape[d];
        rest /= ids->shape[d];
    }
    char text[PSG_SHAPE_TEXT];
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "%s at %s is %lld, must be in [0, %lld), the rows of %s",
                         call->op->input_names[PSG_LOOKUP_IDS], psg_shape_text(ids->rank, index, text),
                         (long long)psg_lookup_id(ids, at), (long long)limit,
                         call->op->input_names[PSG_LOOKUP_TABLE]);
}

/* The sample that has id k, in ascending order of k from call to call; -1: it belongs to none. */
static int64_t sample_of(const psg_call *call, const int64_t *start, int64_t k, int64_t sample) {
    const psg_operand *ids = &call->input[PSG_LOOKUP_IDS];
    bool own = ids->role == PSG_BATCHED && ids->value.shape[0] == call->output.shape[0];
    if (!start) return own ? k / (psg_tensor_count(&ids->value) / ids->value.shape[0]) : -1;
    while (start[sample + 1] <= k) sample++;
    return sample;
}

static psg_status correct_ids(psg_call *call, const int64_t *start, int64_t limit) {
    int64_t count = psg_tensor_count(&call->input[PSG_LOOKUP_IDS].value), sample = 0;
    psg_status status = PSG_OK;
    for (int64_t k = 0; k < count && !status; k++) {
        if ((uint64_t)psg_lookup_id(&call->input[PSG_LOOKUP_IDS].value, k) < (uint64_t)limit) continue;
        sample = sample_of(call, start, k, sample);
        bool removes = limit > 0 && psg_call_removes(call, sample);
        status = removes ? psg_integer_correct(call, PSG_LOOKUP_IDS, k) : fail_id(call, k, limit);
    }
    return status;
}

/* ---- max_norm ---- */

static void shrink_row(const psg_call *call, const psg_lookup_options *options, int64_t id) {
    const psg_tensor *table = &call->input[PSG_LOOKUP_TABLE].value;
    const double p = options->norm_type > 0 ? options->norm_type : 2;
    call->context->kernels[table->dtype]->limit_norm((size_t)table->shape[1], p, options->max_norm,
                                                     psg_tensor_offset(table, id * table->shape[1]));
}

/* Each row once, however often its id occurs: rounding may leave a row a little longer than max_norm. */
static psg_status shrink_rows(psg_call *call, const psg_lookup_options *options) {
    const psg_tensor *ids = &call->input[PSG_LOOKUP_IDS].value;
    size_t bytes = (size_t)call->input[PSG_LOOKUP_TABLE].value.shape[0] / 8 + 1;
    unsigned char *seen = psg_call_keep(call, bytes);
    if (!seen) return PSG_ERR_MEMORY;
    memset(seen, 0, bytes);
    int64_t count = psg_tensor_count(ids);
    for (int64_t k = 0; k < count; k++) {
        int64_t id = psg_lookup_id(ids, k);
        if (seen[id / 8] >> id % 8 & 1) continue;
        seen[id / 8] |= (unsigned char)(1u << id % 8);
        shrink_row(call, options, id);
    }
    return PSG_OK;
}

psg_status psg_lookup_prepare(psg_call *call, const psg_lookup_options *options, const int64_t *start) {
    int64_t limit = call->input[PSG_LOOKUP_TABLE].value.shape[0];
    psg_status status = PSG_OK;
    if (!all_below(&call->input[PSG_LOOKUP_IDS].value, limit)) status = correct_ids(call, start, limit);
    return !status && options->max_norm > 0 ? shrink_rows(call, options) : status;
}

/* ---- gradients ---- */

psg_status psg_lookup_without_padding(psg_call *call, const psg_lookup_options *options, const psg_tensor *ids,
                                      psg_tensor *without) {
    int64_t count = psg_tensor_count(ids), rows = call->input[PSG_LOOKUP_TABLE].value.shape[0], k = 0;
    int64_t padding = options->padding_idx + (options->padding_idx < 0 ? rows : 0);
    *without = *ids;
    if (!options->has_padding_idx) return PSG_OK;
    while (k < count && psg_lookup_id(ids, k) != padding) k++;
    if (k == count) return PSG_OK;
    without->data = psg_call_keep(call, (size_t)count * psg_dtype_size(ids->dtype));
    if (!without->data) return PSG_ERR_MEMORY;
    memcpy(without->data, ids->data, (size_t)count * psg_dtype_size(ids->dtype));
    for (; k < count; k++) {
        if (psg_lookup_id(ids, k) == padding) psg_lookup_set_id(without, k, -1);
    }
    return PSG_OK;
}

/* ---- how often ids occur in a sample: one open-addressing table a sample, twice as large as needed ---- */

typedef struct share_entry {
    int64_t id;       /* -1: free */
    int64_t count;
} share_entry;

typedef struct share_job {
    const psg_tensor *ids;
    double *share;
    share_entry *tables;
    uint64_t size;    /* entries of a table, a power of 2 */
} share_job;

/* Fibonacci hashing (Knuth, vol. 3, 6.4). */
static share_entry *find_entry(share_entry *table, uint64_t size, int64_t id) {
    uint64_t k = ((uint64_t)id * 0x9e3779b97f4a7c15u >> 20) & (size - 1);
    while (table[k].id >= 0 && table[k].id != id) k = (k + 1) & (size - 1);
    return &table[k];
}

static void share_samples(void *argument, size_t begin, size_t count) {
    const share_job *j = argument;
    const psg_tensor *ids = j->ids;
    int64_t positions = ids->shape[1];
    for (int64_t n = (int64_t)begin; n < (int64_t)(begin + count); n++) {
        share_entry *table = j->tables + (uint64_t)n * j->size;
        double *share = j->share + n * positions;
        memset(table, 0xff, j->size * sizeof *table);
        for (int64_t t = 0; t < positions; t++) {
            int64_t id = psg_lookup_id(ids, n * ids->stride[0] + t * ids->stride[1]);
            if (id < 0) continue;
            share_entry *entry = find_entry(table, j->size, id);
            entry->count = entry->id < 0 ? 1 : entry->count + 1;
            entry->id = id;
        }
        for (int64_t t = 0; t < positions; t++) {
            int64_t id = psg_lookup_id(ids, n * ids->stride[0] + t * ids->stride[1]);
            share[t] = id < 0 ? 0 : 1 / (double)find_entry(table, j->size, id)->count;
        }
    }
}

psg_status psg_lookup_shares(psg_call *call, const psg_tensor *ids, double *share) {
    int64_t samples = ids->shape[0], positions = ids->shape[1], entries;
    share_job j = { .ids = ids, .share = share, .size = 1 };
    while (j.size < 2 * (uint64_t)positions) j.size *= 2;
    size_t bytes;
    if (!psg_size_multiply(samples, (int64_t)j.size, &entries) || !psg_size_bytes(entries, sizeof *j.tables, &bytes)) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "too many ids for scale_grad_by_freq");
    }
    j.tables = psg_call_keep(call, bytes);
    if (!j.tables) return PSG_ERR_MEMORY;
    psg_for_ranges(call->context, (size_t)samples, psg_range_unit(8 * positions), share_samples, &j);
    return PSG_OK;
}
