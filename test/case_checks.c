#include "case_checks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const case_way in_f64 = { .real = PSG_F64 };

static int is_ordinary(const case_line *line) { return case_flag(line, "ordinary"); }

/* ---- samples alone ---- */

static case_tensor row_of(const case_tensor *tensor, int64_t n) {
    case_tensor row = *tensor;
    row.rows = 1;
    if (n < tensor->rows) row.data += n * tensor->row;
    return row;
}

/* What a sample's own gradient is multiplied by in the batch: a mean over the batch divides it by B, and
 * loss_reduction = mean multiplies a parameter's by B. */
static double input_factor(const case_line *line, const case_results *all) {
    int reduced = all->output.rows == 1 && all->output.row == 1;
    int mean = strcmp(case_word(line, "reduction", "mean"), "sum") != 0;
    return reduced && mean ? 1.0 / (double)line->batch_size : 1.0;
}

static void compare_sample(const case_line *line, const case_results *all, const case_results *alone, int64_t n) {
    double batch = (double)line->batch_size, factor = input_factor(line, all);
    for (int k = 0; k < CASE_OPERANDS; k++) {
        if (!all->grad[k].wanted) continue;
        case_tensor row = row_of(&all->grad[k], n);
        int scaled = line->operand[k].role == PSG_PARAMETER && case_flag(line, "mean");
        case_near(&row, &alone->grad[k], scaled ? batch * factor : factor, 1e-11, case_result_label(line, "alone", k));
    }
}

void case_check_samples(psg_context *context, const case_line *line) {
    case_results all, alone;
    if (is_ordinary(line)) return;
    case_take(context, line, &in_f64, &all);
    int each = all.output.rows == line->batch_size;
    case_tensor sum = all.output;
    if (!each) sum.data = calloc((size_t)sum.row + 1, sizeof(double));
    for (int64_t n = 0; n < line->batch_size; n++) {
        case_way way = { .real = PSG_F64, .one_sample = 1, .first = n, .grad_output = all.grad_output.data };
        if (each && way.grad_output) way.grad_output += n * all.output.row;
        case_take(context, line, &way, &alone);
        case_tensor row = row_of(&all.output, n);
        if (each) case_near(&row, &alone.output, 1.0, 1e-11, case_result_label(line, "alone", -1));
        for (int64_t i = 0; i < sum.row && !each; i++) sum.data[i] += input_factor(line, &all) * alone.output.data[i];
        compare_sample(line, &all, &alone, n);
        case_results_free(&alone);
    }
    if (!each && line->batch_size > 0) {
        case_near(&all.output, &sum, 1.0, 1e-11, case_result_label(line, "over the batch", -1));
    }
    if (!each) free(sum.data);
    case_results_free(&all);
}

/* ---- linearity, isolation, threads ---- */

static void double_grads(case_results *results) {
    for (int k = 0; k < CASE_OPERANDS; k++) {
        case_tensor *grad = &results->grad[k];
        for (int64_t i = 0; grad->wanted && i < grad->rows * grad->row; i++) grad->data[i] *= 2;
    }
}

/* A factor of two commutes with every rounding. */
void case_check_linearity(psg_context *context, const case_line *line) {
    case_results once, twice;
    case_way way = in_f64;
    case_take(context, line, &way, &once);
    way.grad_scale = 2;
    case_take(context, line, &way, &twice);
    double_grads(&once);
    case_same_bits(line, &twice, &once, 0, -1, "twice the output gradient");
    case_results_free(&once);
    case_results_free(&twice);
}

/* Without the output, if it is one value of the batch. */
static void compare_rows(const case_line *line, case_results *changed, case_results *plain, int64_t from, int64_t to) {
    int saved = plain->output.wanted;
    plain->output.wanted = plain->output.rows == line->batch_size && plain->output.row != 1;
    case_same_bits(line, changed, plain, from, to, "a changed sample changes another");
    plain->output.wanted = saved;
}

void case_check_isolation(psg_context *context, const case_line *line) {
    case_results plain, changed;
    if (is_ordinary(line) || line->batch_size < 2) return;
    case_take(context, line, &in_f64, &plain);
    for (int64_t n = 0; n < line->batch_size; n += line->batch_size - 1) {
        case_way way = { .real = PSG_F64, .change = 1, .changed_sample = n };
        case_take(context, line, &way, &changed);
        compare_rows(line, &changed, &plain, 0, n);
        compare_rows(line, &changed, &plain, n + 1, line->batch_size);
        case_results_free(&changed);
    }
    case_results_free(&plain);
}

void case_check_threads(psg_context *context, const case_line *line) {
    test_allocator allocator = { .live_bytes = 0 };
    psg_context *one = test_context_with(&allocator, 1, NULL, 0);
    for (int real = 0; real < 2; real++) {
        case_way way = { .real = (psg_dtype)real };
        case_results with_one, with_two;
        case_take(one, line, &way, &with_one);
        case_take(context, line, &way, &with_two);
        case_same_bits(line, &with_two, &with_one, 0, -1, "two threads");
        case_results_free(&with_one);
        case_results_free(&with_two);
    }
    test_context_free(one);
}

/* ---- variants ---- */

/* The line without an option, whether it is a flag or somebody's value. */
static case_line without(const case_line *line, const char *option) {
    case_line other = *line;
    for (int k = 0; k < other.option_count; k++) {
        const char *text = other.options + other.option[k], *value = strchr(text, '=');
        if (!strcmp(text, option) || (value && !strcmp(value + 1, option))) {
            other.option[k--] = other.option[--other.option_count];
        }
    }
    return other;
}

static void check_mean(psg_context *context, const case_line *line, const case_results *plain) {
    if (!case_flag(line, "mean")) return;
    case_results sum;
    case_line other = without(line, "mean");
    case_take(context, &other, &in_f64, &sum);
    for (int k = 0; k < CASE_OPERANDS; k++) {
        if (!plain->grad[k].wanted) continue;
        double factor = line->operand[k].role == PSG_PARAMETER ? (double)line->batch_size : 1;
        case_near(&plain->grad[k], &sum.grad[k], factor, 1e-13, case_result_label(line, "mean against sum", k));
    }
    case_results_free(&sum);
}

static void check_views(psg_context *context, const case_line *line, const case_results *plain) {
    case_results views;
    case_way way = { .real = PSG_F64, .views = 1 };
    case_take(context, line, &way, &views);
    case_same_bits(line, &views, plain, 0, -1, "strided views");
    case_results_free(&views);
}

static void check_batch_first(psg_context *context, const case_line *line, const case_results *plain) {
    if (!case_flag(line, "batch_second") || case_flag(line, "physical")) return;
    case_results first;
    case_line other = without(line, "batch_second");
    case_take(context, &other, &in_f64, &first);
    case_all_near(line, plain, &first, 1e-12, "batch second against first");
    case_results_free(&first);
}

/* Freezes one operand at a time; what is left must stay. */
static void check_frozen(psg_context *context, const case_line *line, const case_results *plain) {
    for (int k = 0; k < CASE_OPERANDS; k++) {
        if (!plain->grad[k].wanted) continue;
        case_results frozen;
        case_line other = *line;
        other.operand[k].frozen = 1;
        case_take(context, &other, &in_f64, &frozen);
        case_results rest = *plain;
        rest.grad[k].wanted = 0;
        case_all_near(line, &frozen, &rest, 1e-12, "with an operand frozen");
        case_results_free(&frozen);
    }
}

/* An ordinary pass gives the sum over the samples, never multiplied by B; but for frequencies, which it counts in the
 * whole batch. */
static void check_ordinary(psg_context *context, const case_line *line, const case_results *plain) {
    if (is_ordinary(line) || case_flag(line, "scale_grad_by_freq")) return;
    case_results ordinary;
    case_way way = { .real = PSG_F64, .ordinary = 1 };
    case_take(context, line, &way, &ordinary);
    for (int k = -1; k < CASE_OPERANDS; k++) {
        const case_tensor *p = k < 0 ? &plain->output : &plain->grad[k];
        const case_tensor *o = k < 0 ? &ordinary.output : &ordinary.grad[k];
        if (!p->wanted) continue;
        case_tensor sum = *p;
        double factor = 1;
        if (k >= 0 && line->operand[k].role == PSG_PARAMETER) {
            sum = (case_tensor){ 1, 1, p->row, calloc((size_t)p->row + 1, sizeof(double)) };
            for (int64_t i = 0; i < p->rows * p->row; i++) sum.data[i % p->row] += p->data[i];
            if (case_flag(line, "mean")) factor = 1.0 / (double)line->batch_size;
        }
        if (line->batch_size || factor == 1) {
            case_near(o, &sum, factor, 1e-11, case_result_label(line, "ordinary pass", k));
        }
        if (sum.data != p->data) free(sum.data);
    }
    case_results_free(&ordinary);
}

void case_check_variants(psg_context *context, const case_line *line) {
    case_results plain;
    case_take(context, line, &in_f64, &plain);
    check_mean(context, line, &plain);
    check_views(context, line, &plain);
    check_batch_first(context, line, &plain);
    check_frozen(context, line, &plain);
    check_ordinary(context, line, &plain);
    case_results_free(&plain);
}

/* ---- f32 ---- */

/* Roundings of a sum of K terms grow like sqrt(K); K is at most what one sample or one parameter holds. */
static double f32_tolerance(const case_line *line) {
    double longest = 1;
    for (int k = 0; k < CASE_OPERANDS; k++) {
        const case_operand *operand = &line->operand[k];
        double count = 1;
        for (int d = operand->role == PSG_BATCHED; d < operand->rank; d++) count *= (double)operand->shape[d];
        longest = fmax(longest, count);
    }
    return case_real(line, "f32", test_gamma(PSG_F32, 32 + 2 * sqrt(longest)));
}

void case_check_f32(psg_context *context, const case_line *line) {
    case_results f32, f64;
    case_way way = { .real = PSG_F32 };
    case_take(context, line, &way, &f32);
    case_take(context, line, &in_f64, &f64);
    case_all_near(line, &f32, &f64, f32_tolerance(line), "f32");
    case_results_free(&f32);
    case_results_free(&f64);
}
