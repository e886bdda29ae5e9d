#include <stdlib.h>
#include <string.h>

#include "cases.h"

static psg_dtype dtype_of(const case_operand *operand, psg_dtype real) {
    return operand->kind == CASE_INTEGER ? operand->integer : operand->single ? PSG_F32 : real;
}

int case_wants_grad(const case_line *line, int k) {
    const case_operand *operand = &line->operand[k];
    if (!operand->present || operand->kind == CASE_INTEGER) return 0;
    if (operand->role == PSG_PARAMETER) return !operand->frozen;
    return operand->role == PSG_BATCHED && !operand->frozen && !case_flag(line, "no_input_grad");
}

int case_batch_dim(const case_line *line, int rank) { return rank >= 3 && case_flag(line, "batch_second"); }

psg_tensor case_batch_first(const case_line *line, const psg_tensor *tensor) {
    psg_tensor view = *tensor;
    if (!case_batch_dim(line, tensor->rank)) return view;
    for (int d = 0; d < 2; d++) {
        view.shape[d] = tensor->shape[1 - d];
        view.stride[d] = tensor->stride[1 - d];
    }
    return view;
}

/* to[j, i] = from[i, j], each a run of elements of `size` bytes. */
static void swap_first_two(const char *from, char *to, int rank, const int64_t *shape, size_t size) {
    size_t bytes = size;
    for (int d = 2; d < rank; d++) bytes *= (size_t)shape[d];
    for (int64_t i = 0; i < shape[0] && shape[1] && bytes; i++) {
        for (int64_t j = 0; j < shape[1]; j++) {
            memcpy(to + (size_t)(j * shape[0] + i) * bytes, from + (size_t)(i * shape[1] + j) * bytes, bytes);
        }
    }
}

/* Of a tensor without elements, whose sizes may overflow beside the 0: none. */
static size_t bytes_of(const psg_tensor *tensor) {
    int64_t count = psg_tensor_count(tensor);
    return count > 0 ? (size_t)count * psg_dtype_size(tensor->dtype) : 0;
}

/* Samples [first, first + count) of a filled tensor; batch second where the line says so. */
static psg_status keep_samples(case_run *run, int k, const psg_tensor *all, int64_t first) {
    int64_t shape[PSG_MAX_RANK];
    memcpy(shape, all->shape, sizeof shape);
    int batched = run->line.operand[k].role == PSG_BATCHED && all->rank > 0;
    if (batched) shape[0] = run->line.operand[k].shape[0];
    psg_tensor kept = psg_tensor_of(all->dtype, NULL, all->rank, shape);
    size_t size = psg_dtype_size(all->dtype), bytes = bytes_of(&kept);
    char *copy = malloc(bytes + !bytes); /* no byte more: sanitizers see every read past the end */
    if (!copy) return PSG_ERR_MEMORY;
    const char *from = all->data;
    if (batched) from += (size_t)(first * all->stride[0]) * size;
    if (batched && case_batch_dim(&run->line, all->rank)) {
        swap_first_two(from, copy, all->rank, shape, size);
        int64_t swapped = shape[0];
        shape[0] = shape[1];
        shape[1] = swapped;
    } else {
        memcpy(copy, from, bytes);
    }
    run->memory[k] = copy;
    run->value[k] = psg_tensor_of(all->dtype, copy, all->rank, shape);
    return PSG_OK;
}

static psg_status make_operand(case_run *run, const case_line *line, int k, int64_t first) {
    const case_operand *operand = &line->operand[k];
    psg_tensor all = psg_tensor_of(dtype_of(operand, run->real), NULL, operand->rank, operand->shape);
    all.data = malloc(bytes_of(&all) + 64);
    if (!all.data) return PSG_ERR_MEMORY;
    case_fill(line, k, &all);
    psg_status status = keep_samples(run, k, &all, first);
    free(all.data);
    if (status || operand->role != PSG_PARAMETER) return status;
    status = psg_param_create(run->context, line->op->rule[k].name, &run->value[k], &run->param[k]);
    if (!status && operand->frozen) psg_param_set_trainable(run->param[k], 0);
    return status;
}

/* More samples than anything is drawn for have no names: mutated shapes without elements have any number. */
static psg_status name_samples(case_run *run, int64_t first) {
    int few = run->line.batch_size > 0 && run->line.batch_size <= 1 << 20;
    size_t count = few ? (size_t)run->line.batch_size : 0;
    run->names = malloc((count + 1) * sizeof *run->names);
    if (!run->names) return PSG_ERR_MEMORY;
    for (size_t n = 0; n < count; n++) run->names[n] = first + (int64_t)n;
    return PSG_OK;
}

psg_status case_run_open(case_run *run, psg_context *context, const case_line *line, psg_dtype real, int64_t first,
                         int64_t count) {
    memset(run, 0, sizeof *run);
    run->line = *line;
    run->context = context;
    run->real = real;
    if (count >= 0) run->line.batch_size = count;
    psg_status status = name_samples(run, first);
    if (!status) status = psg_tape_create(context, &run->tape);
    for (int k = 0; k < CASE_OPERANDS && line->op->rule[k].name && !status; k++) {
        if (!line->operand[k].present) continue;
        if (count >= 0 && line->operand[k].role == PSG_BATCHED && line->operand[k].rank) {
            run->line.operand[k].shape[0] = run->line.batch_size;
        }
        status = make_operand(run, line, k, first);
    }
    return status;
}

void case_run_close(case_run *run) {
    psg_tape_destroy(run->tape);
    for (int k = 0; k < CASE_OPERANDS; k++) {
        psg_param_destroy(run->param[k]);
        free(run->memory[k]);
    }
    free(run->names);
    memset(run, 0, sizeof *run);
}

psg_pass case_run_pass(const case_run *run) {
    const case_line *line = &run->line;
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_second = case_flag(line, "batch_second");
    pass.loss_reduction = case_flag(line, "mean") ? PSG_LOSS_MEAN : PSG_LOSS_SUM;
    pass.batch_size = case_int(line, "batch_size", 0);
    pass.ordinary = case_flag(line, "ordinary");
    pass.evaluation = case_flag(line, "evaluation");
    pass.allow_updates = case_flag(line, "allow_updates");
    if (!pass.ordinary) pass.sample_ids = run->names;
    return pass;
}

static psg_var make_var(case_run *run, int k) {
    const psg_tensor *value = &run->value[k];
    if (!run->line.operand[k].present) return psg_none();
    switch (run->line.operand[k].role) {
    case PSG_PARAMETER:
        return psg_use(run->tape, run->param[k]);
    case PSG_CONSTANT:
        return psg_constant(run->tape, value);
    default:
        return case_wants_grad(&run->line, k) ? psg_input_with_grad(run->tape, value) : psg_input(run->tape, value);
    }
}

psg_status case_run_forward(case_run *run, const psg_pass *pass) {
    psg_status status = psg_tape_begin(run->tape, pass);
    if (status) return status;
    for (int k = 0; k < CASE_OPERANDS && run->line.op->rule[k].name; k++) run->var[k] = make_var(run, k);
    run->output = run->line.op->apply(run->tape, &run->line, run->var);
    return psg_tape_status(run->tape);
}
