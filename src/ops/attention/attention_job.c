#include "ops/attention/attention_job.h"

#include <math.h>
#include <string.h>

#include "base/context.h"
#include "base/parallel.h"
#include "base/shapes.h"
#include "ops/shared/strided_copy.h"

/* What forward keeps for backward. */
typedef struct kept {
    char *stats;
    unsigned char *mask;       /* dropout: (tasks, group, all keys, L); or NULL */
} kept;

typedef struct run {
    const psg_attention_job *job;
    const psg_kernel_table *kernels;
    size_t size;               /* of a real */
    kept kept;
    int64_t tasks, together;   /* together: tasks that one worker does, one after another */
    int64_t all_keys, rows;    /* rows: queries of a task */
    bool backward;
    char *workspace;           /* threads times workspace_bytes; NULL: they fit the workers' own */
    size_t workspace_bytes;
    uint64_t *words;           /* dropout: threads times words_bytes, or NULL likewise */
    size_t words_bytes;
} run;

/* ---- for the ops ---- */

psg_mask psg_attention_mask_of(const psg_operand *operand, bool keeps) {
    psg_mask mask = { .keeps = keeps, .data = operand->value.data };
    if (operand->role == PSG_ABSENT) return mask;
    psg_dtype dtype = operand->value.dtype;
    mask.type = dtype == PSG_I32 ? PSG_MASK_I32 : dtype == PSG_I64 ? PSG_MASK_I64 : PSG_MASK_REAL;
    return mask;
}

psg_status psg_attention_check_dropout(psg_call *call, double dropout_p, int64_t samples) {
    const psg_pass *pass = call->pass;
    if (!(dropout_p >= 0 && dropout_p <= 1)) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "dropout_p is %g, must be in [0, 1]", dropout_p);
    }
    return dropout_p == 0 || pass->evaluation ? PSG_OK : psg_call_draws(call, samples);
}

/* ---- one task ---- */

static const void *shifted(const void *data, int64_t elements, size_t size) {
    return data ? (const char *)data + elements * (int64_t)size : NULL;
}

static void *shifted_mutable(void *data, int64_t elements, size_t size) {
    return data ? (char *)data + elements * (int64_t)size : NULL;
}

static size_t mask_size(const psg_mask *mask, size_t real_size) {
    return mask->type == PSG_MASK_I32 ? 4 : mask->type == PSG_MASK_I64 ? 8 : real_size;
}

/* The leading index of a task as offsets along every path. */
static void offsets_of(const psg_attention_job *job, int64_t index, int64_t offset[PSG_PATHS]) {
    memset(offset, 0, PSG_PATHS * sizeof *offset);
    for (int d = job->rank - 1; d >= 0; d--) {
        for (int p = 0; p < PSG_PATHS; p++) offset[p] += index % job->shape[d] * job->step[p][d];
        index /= job->shape[d];
    }
}

static psg_attention task_at(const run *r, int64_t index) {
    psg_attention t = r->job->first;
    int64_t o[PSG_PATHS];
    offsets_of(r->job, index, o);
    t.q = shifted(t.q, o[PSG_PATH_Q], r->size);
    t.k = shifted(t.k, o[PSG_PATH_K], r->size);
    t.v = shifted(t.v, o[PSG_PATH_V], r->size);
    t.out = shifted_mutable(t.out, o[PSG_PATH_OUT], r->size);
    t.weights = shifted_mutable(t.weights, o[PSG_PATH_WEIGHTS], r->size);
    t.bias_k = shifted(t.bias_k, o[PSG_PATH_BIAS], r->size);
    t.bias_v = shifted(t.bias_v, o[PSG_PATH_BIAS], r->size);
    t.mask.data = shifted(t.mask.data, o[PSG_PATH_MASK], mask_size(&t.mask, r->size));
    t.padding.data = shifted(t.padding.data, o[PSG_PATH_PADDING], mask_size(&t.padding, r->size));
    t.grad_out = shifted(t.grad_out, o[PSG_PATH_OUT], r->size);
    t.grad_weights = shifted(t.grad_weights, o[PSG_PATH_WEIGHTS], r->size);
    t.grad_q = shifted_mutable(t.grad_q, o[PSG_PATH_Q], r->size);
    t.grad_k = shifted_mutable(t.grad_k, o[PSG_PATH_K], r->size);
    t.grad_v = shifted_mutable(t.grad_v, o[PSG_PATH_V], r->size);
    t.grad_bias_k = shifted_mutable(t.grad_bias_k, o[PSG_PATH_GRAD_BIAS], r->size);
    t.grad_bias_v = shifted_mutable(t.grad_bias_v, o[PSG_PATH_GRAD_BIAS], r->size);
    t.grad_mask = shifted_mutable(t.grad_mask, o[PSG_PATH_GRAD_MASK], r->size);
    t.stats = r->kept.stats + (int64_t)PSG_ATTENTION_STATS * r->rows * index * (int64_t)r->size;
    if (r->kept.mask) t.kept = r->kept.mask + index * r->rows * r->all_keys;
    return t;
}

/* ---- all tasks ---- */

static void run_some(void *argument, size_t item, unsigned slot) {
    const run *r = argument;
    void *workspace = r->workspace ? r->workspace + slot * r->workspace_bytes : r->job->call->context->workspace[slot];
    for (int64_t k = 0; k < r->together; k++) {
        psg_attention task = task_at(r, (int64_t)item * r->together + k);
        if (r->backward) r->kernels->attention_backward(&task, workspace);
        else r->kernels->attention(&task, workspace);
    }
}

static int64_t in_sample(const run *r) { return r->tasks / r->job->shape[0]; }

/* The tasks of a sample add to one gradient of the mask; where that has no batch of its own, all tasks do. */
static void run_tasks(run *r) {
    const psg_attention_job *job = r->job;
    r->together = 1;
    if (r->backward && job->first.grad_mask) r->together = job->step[PSG_PATH_GRAD_MASK][0] ? in_sample(r) : r->tasks;
    psg_parallel(job->call->context, (size_t)(r->tasks / r->together), run_some, r);
}

/* Memory for every worker beyond its own workspace; *memory stays NULL where that is enough. */
static psg_status worker_memory(psg_call *call, size_t bytes, void **memory) {
    *memory = NULL;
    if (bytes <= PSG_WORKSPACE_BYTES) return PSG_OK;
    *memory = psg_call_keep(call, bytes * call->context->threads);
    return *memory ? PSG_OK : PSG_ERR_MEMORY;
}

/* *memory: the workspace. */
static psg_status begin(const psg_attention_job *job, run *r) {
    const psg_attention *t = &job->first;
    *r = (run){ .job = job, .kernels = job->call->context->kernels[job->call->input[0].value.dtype] };
    r->size = psg_dtype_size(job->call->input[0].value.dtype);
    r->tasks = psg_shape_product(job->rank, job->shape);
    r->all_keys = (int64_t)t->keys + (t->bias_k != NULL) + t->zero_key;
    r->rows = (int64_t)(t->group * t->queries);
    r->workspace_bytes = (psg_attention_workspace(t->key_size, t->value_size) * r->size + 63) / 64 * 64;
    void *memory;
    psg_status status = worker_memory(job->call, r->workspace_bytes, &memory);
    r->workspace = memory;
    return status;
}

/* ---- dropout ---- */

/* Half a word an element, in the order of the mask. */
static void draw_sample(void *argument, size_t sample, unsigned slot) {
    const run *r = argument;
    const psg_call *call = r->job->call;
    uint64_t *words = r->words ? r->words + slot * r->words_bytes / sizeof *words : call->context->workspace[slot];
    size_t count = (size_t)(in_sample(r) * r->rows * r->all_keys);
    uint64_t threshold = (uint64_t)ldexp(r->job->dropout_p, 32);
    unsigned char *mask = r->kept.mask + sample * count;
    psg_call_random(call, (int64_t)sample, words, (count + 1) / 2);
    for (size_t i = 0; i < count; i++) mask[i] = (uint32_t)(words[i / 2] >> (i % 2 * 32)) >= threshold;
}

static psg_status draw_masks(run *r) {
    psg_call *call = r->job->call;
    void *memory;
    r->words_bytes = ((size_t)(in_sample(r) * r->rows * r->all_keys) / 2 + 1) * sizeof *r->words;
    psg_status status = worker_memory(call, r->words_bytes, &memory);
    if (status) return status;
    r->words = memory;
    r->kept.mask = psg_call_keep(call, (size_t)(r->tasks * r->rows * r->all_keys));
    if (!r->kept.mask) return PSG_ERR_MEMORY;
    psg_parallel(call->context, (size_t)r->job->shape[0], draw_sample, r);
    return PSG_OK;
}

static void set_dropout(psg_attention_job *job) {
    job->first.kept_scale = job->dropout_p < 1 ? 1 / (1 - job->dropout_p) : 0;
}

/* ---- forward and backward ---- */

psg_status psg_attention_forward(psg_attention_job *job) {
    psg_call *call = job->call;
    run r;
    if (!psg_tensor_count(&call->output)) return PSG_OK;
    psg_status status = begin(job, &r);
    if (status) return status;
    if (!r.all_keys) {
        psg_fill_zero(call->context, &call->output);
        return PSG_OK;
    }
    set_dropout(job);
    if (!call->pass->evaluation && job->dropout_p > 0) status = draw_masks(&r);
    if (status) return status;
    r.kept.stats = psg_call_keep(call, PSG_ATTENTION_STATS * (size_t)(r.tasks * r.rows) * r.size);
    kept *saved = psg_call_keep(call, sizeof *saved);
    if (!r.kept.stats || !saved) return PSG_ERR_MEMORY;
    *saved = r.kept;
    call->kept = saved;
    run_tasks(&r);
    return PSG_OK;
}

psg_status psg_attention_backward(psg_attention_job *job) {
    psg_call *call = job->call;
    if (!call->kept) {   /* nothing was attended to */
        for (int k = 0; k < call->input_count; k++) {
            if (call->input[k].grad.data) psg_fill_zero(call->context, &call->input[k].grad);
        }
        return PSG_OK;
    }
    run r;
    psg_status status = begin(job, &r);
    if (status) return status;
    set_dropout(job);
    r.backward = true;
    r.kept = *(const kept *)call->kept;
    run_tasks(&r);
    return PSG_OK;
}
