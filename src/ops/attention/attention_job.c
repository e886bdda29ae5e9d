#include "ops/attention/attention_job.h"

#include <math.h>
#include <string.h>

#include "base/context.h"
#include "base/parallel.h"
#include "base/shapes.h"

/* What forward keeps for backward. */
typedef struct kept {
    void *stats;
    unsigned char *mask;       /* dropout: (samples, tasks of a sample, group, all keys, L); or NULL */
} kept;

typedef struct run {
    const psg_attention_job *job;
    const psg_kernel_table *kernels;
    size_t size;               /* of a real */
    kept kept;
    int64_t tasks;
    bool backward;
    char *workspace;           /* threads times workspace_bytes; NULL: they fit the workers' own */
    size_t workspace_bytes;
    uint64_t *words;           /* dropout: threads times words_bytes, or NULL likewise */
    size_t words_bytes;
} run;

/* ---- shapes ---- */

int64_t psg_attention_all_keys(const psg_attention *task) {
    return (int64_t)task->keys + (task->bias_k != NULL) + task->zero_key;
}

psg_mask psg_attention_mask_of(const psg_operand *operand, bool keeps) {
    psg_mask mask = { .keeps = keeps, .data = operand->value.data };
    if (operand->role == PSG_ABSENT) return mask;
    psg_dtype dtype = operand->value.dtype;
    mask.type = dtype == PSG_I32 ? PSG_MASK_I32 : dtype == PSG_I64 ? PSG_MASK_I64 : PSG_MASK_REAL;
    return mask;
}

psg_status psg_attention_check_dropout(psg_call *call, double dropout_p, int64_t samples) {
    if (!(dropout_p >= 0 && dropout_p <= 1)) {
        return psg_call_fail(call, PSG_ERR_ARGUMENT, "dropout_p is %g, must be in [0, 1]", dropout_p);
    }
    if (dropout_p == 0 || call->pass->evaluation || !call->pass->sample_ids || samples == call->pass->batch_size) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_BATCH, "query has %lld samples, psg_pass.sample_ids names %lld",
                         (long long)samples, (long long)call->pass->batch_size);
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

/* The leading index of a task as offsets along every path; *sample and *within, its place in the sample. */
static void offsets_of(const psg_attention_job *job, int64_t index, int64_t offset[PSG_PATHS], int64_t *sample,
                       int64_t *within) {
    int64_t place = 1;
    memset(offset, 0, PSG_PATHS * sizeof *offset);
    *sample = *within = 0;
    for (int d = job->rank - 1; d >= 0; d--) {
        int64_t i = index % job->shape[d];
        index /= job->shape[d];
        for (int p = 0; p < PSG_PATHS; p++) offset[p] += i * job->step[p][d];
        if (d == job->batch) {
            *sample = i;
        } else {
            *within += i * place;
            place *= job->shape[d];
        }
    }
}

static psg_attention task_at(const run *r, int64_t index) {
    const psg_attention_job *job = r->job;
    psg_attention t = job->first;
    int64_t o[PSG_PATHS], sample, within;
    offsets_of(job, index, o, &sample, &within);
    t.q = shifted(t.q, o[PSG_PATH_Q], r->size);
    t.k = shifted(t.k, o[PSG_PATH_K], r->size);
    t.v = shifted(t.v, o[PSG_PATH_V], r->size);
    t.out = shifted_mutable(t.out, o[PSG_PATH_OUT], r->size);
    t.bias_k = shifted(t.bias_k, o[PSG_PATH_BIAS], r->size);
    t.bias_v = shifted(t.bias_v, o[PSG_PATH_BIAS], r->size);
    t.mask.data = shifted(t.mask.data, o[PSG_PATH_MASK], mask_size(&t.mask, r->size));
    t.padding.data = shifted(t.padding.data, o[PSG_PATH_PADDING], mask_size(&t.padding, r->size));
    t.grad_out = shifted(t.grad_out, o[PSG_PATH_OUT], r->size);
    t.grad_q = shifted_mutable(t.grad_q, o[PSG_PATH_Q], r->size);
    t.grad_k = shifted_mutable(t.grad_k, o[PSG_PATH_K], r->size);
    t.grad_v = shifted_mutable(t.grad_v, o[PSG_PATH_V], r->size);
    t.grad_bias_k = shifted_mutable(t.grad_bias_k, o[PSG_PATH_GRAD_BIAS], r->size);
    t.grad_bias_v = shifted_mutable(t.grad_bias_v, o[PSG_PATH_GRAD_BIAS], r->size);
    t.grad_mask = shifted_mutable(t.grad_mask, o[PSG_PATH_GRAD_MASK], r->size);
    int64_t rows = (int64_t)(t.group * t.queries), all_keys = psg_attention_all_keys(&t);
    t.stats = (char *)r->kept.stats + (int64_t)PSG_ATTENTION_STATS * rows * index * (int64_t)r->size;
    int64_t in_sample = r->tasks / job->shape[job->batch];
    if (r->kept.mask) t.kept = r->kept.mask + (sample * in_sample + within) * rows * all_keys;
    return t;
}

static void run_task(const run *r, int64_t index, unsigned slot) {
    psg_attention task = task_at(r, index);
    void *workspace = r->workspace ? r->workspace + slot * r->workspace_bytes : r->job->call->context->workspace[slot];
    if (r->backward) r->kernels->attention_backward(&task, workspace);
    else r->kernels->attention(&task, workspace);
}

/* ---- all tasks ---- */

static void run_one(void *argument, size_t index, unsigned slot) { run_task(argument, (int64_t)index, slot); }

/* The tasks of one sample, which add to one mask gradient. */
static void run_sample(void *argument, size_t sample, unsigned slot) {
    const run *r = argument;
    const psg_attention_job *job = r->job;
    int64_t inner = psg_shape_product(job->rank - job->batch - 1, job->shape + job->batch + 1);
    for (int64_t index = 0; index < r->tasks; index++) {
        if (index / inner % job->shape[job->batch] == (int64_t)sample) run_task(r, index, slot);
    }
}

/* A mask gradient without a batch of its own: everything adds to it. */
static void run_all(void *argument, size_t index, unsigned slot) {
    const run *r = argument;
    for (int64_t i = (int64_t)index; i < r->tasks; i++) run_task(r, i, slot);
}

static void run_tasks(run *r) {
    const psg_attention_job *job = r->job;
    psg_context *context = job->call->context;
    bool adds = r->backward && job->first.grad_mask, alone = adds && !job->step[PSG_PATH_GRAD_MASK][job->batch];
    if (!adds) psg_parallel(context, (size_t)r->tasks, run_one, r);
    else psg_parallel(context, alone ? 1 : (size_t)job->shape[job->batch], alone ? run_all : run_sample, r);
}

/* Memory for every worker beyond its own workspace; *memory stays NULL where that is enough. */
static psg_status worker_memory(psg_call *call, size_t bytes, void **memory) {
    *memory = NULL;
    if (bytes <= PSG_WORKSPACE_BYTES) return PSG_OK;
    *memory = psg_call_keep(call, bytes * call->context->threads);
    return *memory ? PSG_OK : PSG_ERR_MEMORY;
}

static psg_status begin(const psg_attention_job *job, run *r) {
    const psg_attention *t = &job->first;
    *r = (run){ .job = job, .kernels = job->call->context->kernels[job->call->input[0].value.dtype] };
    r->size = psg_dtype_size(job->call->input[0].value.dtype);
    r->tasks = psg_shape_product(job->rank, job->shape);
    size_t reals = psg_attention_workspace(t->key_size, t->gives_weights ? 0 : t->value_size);
    r->workspace_bytes = (reals * r->size + 63) / 64 * 64;
    void *memory;
    psg_status status = worker_memory(job->call, r->workspace_bytes, &memory);
    r->workspace = memory;
    return status;
}

/* ---- dropout ---- */

/* Half a word an element, in the order of the mask. */
static void draw_sample(void *argument, size_t sample, unsigned slot) {
    const run *r = argument;
    const psg_attention_job *job = r->job;
    psg_call call = *job->call;
    call.stream_key -= (uint64_t)job->nodes_back;
    uint64_t *words = r->words ? r->words + slot * r->words_bytes / sizeof *words : call.context->workspace[slot];
    const psg_attention *t = &job->first;
    size_t count = (size_t)(r->tasks / job->shape[job->batch]) * t->group * t->queries *
                   (size_t)psg_attention_all_keys(t);
    uint64_t threshold = (uint64_t)ldexp(job->dropout_p, 32);
    unsigned char *mask = r->kept.mask + sample * count;
    psg_call_random(&call, (int64_t)sample, words, (count + 1) / 2);
    for (size_t i = 0; i < count; i++) mask[i] = (uint32_t)(words[i / 2] >> (i % 2 * 32)) >= threshold;
}

static psg_status draw_masks(const psg_attention_job *job, run *r) {
    const psg_attention *t = &job->first;
    size_t count = (size_t)r->tasks * t->group * t->queries * (size_t)psg_attention_all_keys(t);
    void *memory;
    r->words_bytes = (count / (size_t)job->shape[job->batch] / 2 + 1) * sizeof *r->words;
    psg_status status = worker_memory(job->call, r->words_bytes, &memory);
    if (status) return status;
    r->words = memory;
    r->kept.mask = psg_call_keep(job->call, count);
    if (!r->kept.mask) return PSG_ERR_MEMORY;
    psg_parallel(job->call->context, (size_t)job->shape[job->batch], draw_sample, r);
    return PSG_OK;
}

static void set_dropout(psg_attention_job *job) {
    job->first.kept_scale = job->dropout_p < 1 ? 1 / (1 - job->dropout_p) : 0;
}

/* ---- forward and backward ---- */

static void clear(const psg_tensor *tensor) {
    size_t bytes = (size_t)psg_tensor_count(tensor) * psg_dtype_size(tensor->dtype);
    if (tensor->data && bytes) memset(tensor->data, 0, bytes);
}

psg_status psg_attention_forward(psg_attention_job *job) {
    psg_call *call = job->call;
    if (!psg_tensor_count(&call->output)) return PSG_OK;
    if (!psg_attention_all_keys(&job->first)) {
        clear(&call->output);
        return PSG_OK;
    }
    run r;
    psg_status status = begin(job, &r);
    if (status) return status;
    set_dropout(job);
    if (!call->pass->evaluation && job->dropout_p > 0) status = draw_masks(job, &r);
    if (status) return status;
    r.kept.stats = psg_call_keep(call, (size_t)r.tasks * job->first.group * PSG_ATTENTION_STATS *
                                        job->first.queries * r.size);
    kept *saved = psg_call_keep(call, sizeof *saved);
    if (!r.kept.stats || !saved) return PSG_ERR_MEMORY;
    *saved = r.kept;
    call->kept = saved;
    run_tasks(&r);
    return PSG_OK;
}

psg_status psg_attention_backward(psg_attention_job *job) {
    psg_call *call = job->call;
    if (!psg_tensor_count(&call->output) || !psg_attention_all_keys(&job->first)) {
        for (int k = 0; k < call->input_count; k++) clear(&call->input[k].grad);
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
