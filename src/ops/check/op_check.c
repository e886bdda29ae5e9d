/* psg_op_check: is an op what it says it is?
 *
 * Everything is computed in f64 at inputs from a fixed stream, with the loss sum(output * grad_output) for a random
 * grad_output.  Isolation comes first: an op that mixes samples has no per-sample gradient to compare with. */
#include "ops/check/op_check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/floats.h"
#include "base/shapes.h"
#include "tape/tape_struct.h"

/* ---- helpers ---- */

psg_status psg_op_check_fail(psg_op_checker *check, const char *format, ...) {
    char text[PSG_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return psg_fail(check->context, PSG_ERR_NUMERIC, "psg_op_check: %s: %s", check->op->name, text);
}

double *psg_op_check_doubles(psg_op_checker *check, int64_t count) {
    size_t bytes;
    void *memory = psg_size_bytes(count, sizeof(double), &bytes) ? psg_arena_take(&check->arena, bytes) : NULL;
    if (!memory) psg_fail(check->context, PSG_ERR_MEMORY, "psg_op_check: no memory for %lld doubles", (long long)count);
    return memory;
}

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t next_word(psg_op_checker *check) {
    uint64_t z = check->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

double psg_op_check_draw(psg_op_checker *check) {
    uint64_t word = next_word(check);
    double size = 0.25 + 0.75 * (double)(word >> 11) * 0x1p-53;
    return word & 1 ? size : -size;
}

const char *psg_op_check_input_name(const psg_op_checker *check, int k) {
    const char *const *names = check->op->input_names;
    return names && names[k] ? names[k] : "an input without a name";
}

static void draw_tensor(psg_op_checker *check, const psg_tensor *tensor) {
    int64_t count = psg_tensor_count(tensor);
    for (int64_t i = 0; i < count; i++) {
        switch (tensor->dtype) {
        case PSG_I32: ((int32_t *)tensor->data)[i] = (int32_t)(next_word(check) >> 63); break;
        case PSG_I64: ((int64_t *)tensor->data)[i] = (int64_t)(next_word(check) >> 63); break;
        default: ((double *)tensor->data)[i] = psg_op_check_draw(check); break;
        }
    }
}

/* Elements of one sample of input k, or of one parameter. */
static int64_t row_count(const psg_op_checker *check, int k) {
    const psg_tensor *input = &check->input[k];
    if (check->role[k] == PSG_PARAMETER) return psg_tensor_count(input);
    return psg_shape_product(input->rank - 1, input->shape + 1);
}

static bool has_gradient(const psg_op_checker *check, int k) {
    bool wanted = check->role[k] == PSG_BATCHED || check->role[k] == PSG_PARAMETER;
    return wanted && psg_dtype_is_real(check->input[k].dtype);
}

/* ---- setting up ---- */

enum { PROBES = 3 };   /* samples that use an effective weight, or a part of a parameter */

static bool gives_weight(const psg_op_checker *check) {
    return check->op->derives || (check->op->view && check->role[0] == PSG_PARAMETER);
}

static psg_status add_input(psg_op_checker *check, int k, const psg_operand *declared) {
    check->role[k] = declared->role;
    if (declared->role == PSG_ABSENT) return PSG_OK;
    const psg_tensor *value = &declared->value;
    if (declared->role < PSG_BATCHED || declared->role > PSG_PARAMETER) {
        return psg_fail(check->context, PSG_ERR_ARGUMENT, "psg_op_check: the role of %s is %d",
                        psg_op_check_input_name(check, k), (int)declared->role);
    }
    if (value->data && value->dtype == PSG_F32) {
        return psg_fail(check->context, PSG_ERR_DTYPE, "psg_op_check: values of %s are f32, must be f64 (or be left out)",
                        psg_op_check_input_name(check, k));
    }
    psg_dtype dtype = psg_dtype_is_real(value->dtype) ? PSG_F64 : value->dtype;
    psg_tensor tensor = psg_tensor_of(dtype, NULL, value->rank, value->shape);
    int64_t count = psg_tensor_count(&tensor);
    if (count < 0) return psg_fail(check->context, PSG_ERR_SHAPE, "psg_op_check: %s has no valid shape",
                                   psg_op_check_input_name(check, k));
    tensor.data = psg_op_check_doubles(check, count);
    if (!tensor.data) return PSG_ERR_MEMORY;
    check->input[k] = tensor;
    check->given[k] = value->data && value->dtype == dtype;
    if (check->given[k]) psg_tensor_copy(value, &tensor);
    else draw_tensor(check, &tensor);
    if (declared->role == PSG_PARAMETER) {
        return psg_param_create(check->context, psg_op_check_input_name(check, k), &tensor, &check->param[k]);
    }
    if (declared->role != PSG_BATCHED) return PSG_OK;
    if (check->batch_size < 0 && tensor.rank) check->batch_size = tensor.shape[0];
    if (tensor.rank && tensor.shape[0] == check->batch_size) return PSG_OK;
    return psg_fail(check->context, PSG_ERR_BATCH, "psg_op_check: dimension 0 of %s must be the batch size",
                    psg_op_check_input_name(check, k));
}

static psg_status name_samples(psg_op_checker *check) {
    check->ids = psg_arena_take(&check->arena, (size_t)check->batch_size * sizeof *check->ids);
    if (!check->ids) return psg_fail_memory(check->context, "psg_op_check", (size_t)check->batch_size * sizeof(int64_t));
    for (int64_t n = 0; n < check->batch_size; n++) check->ids[n] = n;
    return PSG_OK;
}

static psg_status set_up(psg_op_checker *check, const psg_operand *inputs) {
    psg_status status = psg_tape_create(check->context, &check->tape);
    for (int k = 0; k < check->op->input_count && !status; k++) status = add_input(check, k, &inputs[k]);
    if (check->batch_size < 0) check->batch_size = gives_weight(check) ? PROBES : 0;
    return status ? status : name_samples(check);
}

static void tear_down(psg_op_checker *check) {
    for (int k = 0; k < PSG_MAX_INPUTS; k++) psg_param_destroy(check->param[k]);
    psg_tape_destroy(check->tape);
    psg_arena_release(&check->arena);
}

/* ---- one pass ---- */

static psg_var add_var(psg_op_checker *check, int k) {
    psg_tape *tape = check->tape;
    if (check->role[k] == PSG_ABSENT) return psg_none();
    if (check->role[k] == PSG_PARAMETER) return psg_use(tape, check->param[k]);
    if (check->role[k] == PSG_CONSTANT) return psg_constant(tape, &check->input[k]);
    return has_gradient(check, k) ? psg_input_with_grad(tape, &check->input[k]) : psg_input(tape, &check->input[k]);
}

/* An effective weight is checked through its product with a batched input of its shape. */
static psg_status multiply_by_probe(psg_op_checker *check) {
    psg_tensor weight;
    int64_t shape[PSG_MAX_RANK] = { check->batch_size };
    psg_status status = psg_value(check->tape, check->output_var, &weight);
    if (status) return status;
    if (weight.rank == PSG_MAX_RANK) return psg_op_check_fail(check, "derives a weight of rank %d", PSG_MAX_RANK);
    for (int d = 0; d < weight.rank; d++) shape[d + 1] = weight.shape[d];
    if (!check->probe.data) {
        check->probe = psg_tensor_of(PSG_F64, NULL, weight.rank + 1, shape);
        check->probe.data = psg_op_check_doubles(check, psg_tensor_count(&check->probe));
        if (!check->probe.data) return PSG_ERR_MEMORY;
        draw_tensor(check, &check->probe);
    }
    check->output_var = psg_mul(check->tape, psg_input(check->tape, &check->probe), check->output_var);
    return PSG_OK;
}

static psg_status run_forward(psg_op_checker *check) {
    psg_pass pass = PSG_PASS_INIT;
    pass.batch_size = check->batch_size;
    pass.has_batch_size = 1;
    pass.sample_ids = check->ids;
    pass.loss_reduction = PSG_LOSS_SUM;     /* the output gradient is drawn: it is taken as it is */
    psg_status status = psg_tape_begin(check->tape, &pass);
    if (status) return status;
    for (int k = 0; k < check->op->input_count; k++) check->var[k] = add_var(check, k);
    check->output_var = psg_record(check->tape, check->op, check->var, check->op->input_count, check->attributes);
    if (gives_weight(check)) status = multiply_by_probe(check);
    return status ? status : psg_value(check->tape, check->output_var, &check->output);
}

static psg_status copy_gradient(psg_op_checker *check, int k, double *copy) {
    psg_tensor grad;
    if (check->role[k] == PSG_BATCHED) {
        psg_status status = psg_input_grad(check->tape, check->var[k], &grad);
        if (!status) memcpy(copy, grad.data, (size_t)psg_tensor_count(&grad) * sizeof *copy);
        return status;
    }
    int64_t shape[2] = { check->batch_size, row_count(check, k) };
    psg_gradient gradient;
    psg_status status = psg_gradient_of(check->tape, check->param[k], &gradient);
    if (status) return status;
    gradient.rank = 1;     /* flattened: a parameter of the greatest rank has no room for the batch */
    gradient.shape[0] = shape[1];
    grad = psg_tensor_of(PSG_F64, copy, 2, shape);
    return psg_grad_sample(check->context, &gradient, 1.0, PSG_OVERWRITE, &grad);
}

/* Forward, backward, and copies of everything they gave into results, whose memory exists. */
static psg_status run(psg_op_checker *check, const psg_op_check_results *results) {
    psg_status status = run_forward(check);
    if (status) return status;
    memcpy(results->output, check->output.data, (size_t)psg_tensor_count(&check->output) * sizeof(double));
    status = psg_backward_from(check->tape, check->output_var, &check->grad_output);
    for (int k = 0; k < check->op->input_count && !status; k++) {
        if (has_gradient(check, k)) status = copy_gradient(check, k, results->grad[k]);
    }
    return status;
}

static psg_status take_results(psg_op_checker *check, psg_op_check_results *results) {
    results->output = psg_op_check_doubles(check, psg_tensor_count(&check->output));
    if (!results->output) return PSG_ERR_MEMORY;
    for (int k = 0; k < check->op->input_count; k++) {
        if (!has_gradient(check, k)) continue;
        results->grad[k] = psg_op_check_doubles(check, check->batch_size * row_count(check, k));
        if (!results->grad[k]) return PSG_ERR_MEMORY;
    }
    return PSG_OK;
}

static psg_status draw_grad_output(psg_op_checker *check) {
    check->grad_output = check->output;
    check->grad_output.data = psg_op_check_doubles(check, psg_tensor_count(&check->output));
    if (!check->grad_output.data) return PSG_ERR_MEMORY;
    draw_tensor(check, &check->grad_output);
    return PSG_OK;
}

/* ---- isolation ---- */

/* Samples of the output: B, or 1 when the op reduced the batch. */
static int64_t output_samples(const psg_op_checker *check) {
    return check->output.rank && check->output.shape[0] == check->batch_size ? check->batch_size : 1;
}

static psg_status compare_others(psg_op_checker *check, const char *what, const char *name, int64_t changed,
                                 int64_t row, const double *got, const double *expected) {
    for (int64_t i = 0; i < check->batch_size * row; i++) {
        if (i / row == changed || fabs(got[i] - expected[i]) <= 1e-12 * (1 + fabs(expected[i]))) continue;
        return psg_op_check_fail(check, "changing sample %lld changes %s %s of sample %lld by %.3g, but samples must "
                                 "not mix", (long long)changed, what, name, (long long)(i / row),
                                 got[i] - expected[i]);
    }
    return PSG_OK;
}

static psg_status compare_results(psg_op_checker *check, int64_t changed, const psg_op_check_results *got) {
    const psg_op_check_results *expected = &check->results;
    psg_status status = PSG_OK;
    if (output_samples(check) == check->batch_size) {
        int64_t row = psg_tensor_count(&check->output) / check->batch_size;
        status = compare_others(check, "the", "output", changed, row, got->output, expected->output);
    }
    for (int k = 0; k < check->op->input_count && !status; k++) {
        if (!has_gradient(check, k)) continue;
        status = compare_others(check, "the gradient of", psg_op_check_input_name(check, k), changed,
                                row_count(check, k), got->grad[k], expected->grad[k]);
    }
    return status;
}

/* Another value near each, of one sign with it: it stays in the domain of the op. */
static void scale_tensor(const psg_tensor *tensor) {
    int64_t count = psg_dtype_is_real(tensor->dtype) ? psg_tensor_count(tensor) : 0;
    for (int64_t i = 0; i < count; i++) ((double *)tensor->data)[i] *= 0.75;
}

/* Draws sample n of every batched input anew, or puts back what saved holds. */
static void change_sample(psg_op_checker *check, int64_t n, void *const saved[PSG_MAX_INPUTS], bool restore) {
    for (int k = 0; k < check->op->input_count; k++) {
        if (check->role[k] != PSG_BATCHED) continue;
        psg_tensor sample = psg_tensor_at(&check->input[k], n);
        size_t bytes = (size_t)psg_tensor_count(&sample) * psg_dtype_size(sample.dtype);
        if (restore) {
            memcpy(sample.data, saved[k], bytes);
        } else {
            memcpy(saved[k], sample.data, bytes);
            if (check->given[k]) scale_tensor(&sample);
            else draw_tensor(check, &sample);
        }
    }
}

static psg_status check_isolation(psg_op_checker *check) {
    void *saved[PSG_MAX_INPUTS] = { NULL };
    psg_op_check_results results = { NULL, { NULL } };
    psg_status status = take_results(check, &results);
    if (status) return status;
    for (int k = 0; k < check->op->input_count; k++) {
        if (check->role[k] == PSG_BATCHED && !(saved[k] = psg_op_check_doubles(check, row_count(check, k)))) {
            return PSG_ERR_MEMORY;
        }
    }
    for (int64_t n = 0; n < check->batch_size && !status; n++) {
        change_sample(check, n, saved, false);
        status = run(check, &results);
        if (!status) status = compare_results(check, n, &results);
        change_sample(check, n, saved, true);
    }
    return status;
}

/* ---- central differences ---- */

/* sums[n] += factor * loss of sample n, at *element = value. */
static psg_status add_losses(psg_op_checker *check, double *element, double value, double factor, double *sums) {
    double saved = *element;
    *element = value;
    psg_status status = run_forward(check);
    *element = saved;
    if (status) return status;
    int64_t samples = output_samples(check), row = samples ? psg_tensor_count(&check->output) / samples : 0;
    const double *y = check->output.data, *g = check->grad_output.data;
    for (int64_t i = 0; i < samples * row; i++) sums[i / row] += factor * g[i] * y[i];
    return PSG_OK;
}

/* The central difference of fourth order, (8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / 12 h. */
static psg_status differentiate(psg_op_checker *check, double *element, double *slopes) {
    static const double h = 1e-4;
    double x = *element;
    memset(slopes, 0, (size_t)output_samples(check) * sizeof *slopes);
    psg_status status = add_losses(check, element, x + h, 8 / (12 * h), slopes);
    if (!status) status = add_losses(check, element, x - h, -8 / (12 * h), slopes);
    if (!status) status = add_losses(check, element, x + 2 * h, -1 / (12 * h), slopes);
    if (!status) status = add_losses(check, element, x - 2 * h, 1 / (12 * h), slopes);
    return status;
}

static psg_status compare_slope(psg_op_checker *check, int k, int64_t element, int64_t sample, double got,
                                double slope) {
    if (fabs(got - slope) <= 1e-6 * fmax(1, fabs(slope))) return PSG_OK;
    const char *name = psg_op_check_input_name(check, k);
    if (sample < 0) {
        return psg_op_check_fail(check, "the gradient of %s (input %d) at element %lld is %.9g, by central differences "
                                 "%.9g (error %.3g)", name, k, (long long)element, got, slope, fabs(got - slope));
    }
    return psg_op_check_fail(check, "the gradient of %s (input %d) at element %lld for sample %lld is %.9g, by central "
                             "differences %.9g (error %.3g)", name, k, (long long)element, (long long)sample, got,
                             slope, fabs(got - slope));
}

/* One slope a sample where the output has one loss a sample, else their sum. */
static psg_status compare_parameter(psg_op_checker *check, int k, int64_t element, const double *slopes) {
    int64_t row = row_count(check, k), samples = output_samples(check);
    const double *grad = check->results.grad[k];
    psg_status status = PSG_OK;
    if (samples == check->batch_size) {
        for (int64_t n = 0; n < samples && !status; n++) {
            status = compare_slope(check, k, element, n, grad[n * row + element], slopes[n]);
        }
        return status;
    }
    double sum = 0;
    for (int64_t n = 0; n < check->batch_size; n++) sum += grad[n * row + element];
    return compare_slope(check, k, element, -1, sum, slopes[0]);
}

static psg_status compare_input(psg_op_checker *check, int k, int64_t element, const double *slopes) {
    double sum = 0;
    for (int64_t n = 0; n < output_samples(check); n++) sum += slopes[n];
    return compare_slope(check, k, element, -1, check->results.grad[k][element], sum);
}

static psg_status check_differences(psg_op_checker *check) {
    double *slopes = psg_op_check_doubles(check, output_samples(check));
    psg_status status = slopes ? PSG_OK : PSG_ERR_MEMORY;
    for (int k = 0; k < check->op->input_count && !status; k++) {
        if (!has_gradient(check, k)) continue;
        for (int64_t i = 0; i < psg_tensor_count(&check->input[k]) && !status; i++) {
            status = differentiate(check, (double *)check->input[k].data + i, slopes);
            if (status) break;
            status = check->role[k] == PSG_PARAMETER ? compare_parameter(check, k, i, slopes)
                                                     : compare_input(check, k, i, slopes);
        }
    }
    return status;
}

/* ---- all of it ---- */

static psg_status check_all(psg_op_checker *check, const psg_operand *inputs) {
    psg_status status = set_up(check, inputs);
    if (!status) status = run_forward(check);
    if (status || !psg_dtype_is_real(check->output.dtype)) return status;
    status = draw_grad_output(check);
    if (!status) status = take_results(check, &check->results);
    if (!status) status = run(check, &check->results);
    if (!status) status = check_isolation(check);
    if (!status) status = check_differences(check);
    if (!status) status = run(check, &check->results);
    return status ? status : psg_op_check_questions(check);
}

psg_status psg_op_check(psg_context *context, const psg_op *op, const psg_operand *inputs, const void *attributes) {
    PSG_DEFAULT_FLOATS;
    if (!context) return PSG_ERR_ARGUMENT;
    const char *defect = psg_op_defect(op);
    if (!defect && op->input_count > 0 && !inputs) defect = "inputs is NULL";
    if (defect) return psg_fail(context, PSG_ERR_ARGUMENT, "psg_op_check: %s", defect);
    psg_op_checker check = { .context = context, .op = op, .attributes = attributes, .batch_size = -1, .random = 1 };
    psg_arena_init(&check.arena, context);
    psg_status status = check_all(&check, inputs);
    tear_down(&check);
    return status;
}
