#include "alone.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "tape/tape_struct.h"

int alone_same(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

/* ---- messages ---- */

static void describe(const alone_case *c, char *text, size_t size) {
    const alone_setting *s = &c->setting;
    snprintf(text, size, "%s, %s, %u threads, budget %zu%s%s", psg_dtype_name(s->real), psg_context_isa(c->context),
             s->threads, s->budget, s->accumulate ? ", accumulate" : "", s->wide ? ", wide" : "");
}

/* FNV-1a; true the second time. */
static int has_said(alone_case *c, const char *what) {
    uint32_t hash = 0x811C9DC5u;
    for (const char *at = what; *at; at++) hash = (hash ^ (unsigned char)*at) * 0x01000193u;
    for (int k = 0; k < c->said_count; k++) {
        if (c->said[k] == hash) return 1;
    }
    if (c->said_count < 2 * ALONE_PARTS) c->said[c->said_count++] = hash;
    return 0;
}

static void report(alone_case *c, const char *what, int64_t n, int64_t batch, const char *detail) {
    char setting[128];
    c->failed++;
    if (has_said(c, what)) return;
    describe(c, setting, sizeof setting);
    printf("%s/%s: %s: sample %lld of %lld: %s (%s)\n", c->line.op->name, c->line.name, what, (long long)n,
           (long long)batch, detail, setting);
}

/* ---- samples ---- */

int alone_applies(const case_line *line) {
    return line->batch_size >= 0 && !case_flag(line, "error") && !case_flag(line, "ordinary");
}

size_t alone_gradient_bytes(const case_line *line, psg_dtype real) {
    size_t sum = 0;
    for (int k = 0; k < CASE_OPERANDS; k++) {
        const case_operand *operand = &line->operand[k];
        size_t count = operand->present && operand->role == PSG_PARAMETER && !operand->frozen;
        for (int d = 0; d < operand->rank; d++) count *= (size_t)operand->shape[d];
        sum += count;
    }
    return sum * psg_dtype_size(real);
}

void alone_budgets(const case_line *line, psg_dtype real, int64_t max_batch_size, size_t budget[ALONE_BUDGETS]) {
    size_t enough = alone_gradient_bytes(line, real) * (size_t)max_batch_size;
    budget[0] = 0;
    budget[1] = enough;
    budget[2] = enough ? enough - 1 : 0;
    budget[3] = 16 * enough + (1u << 20);
}

/* The line with another number of samples. */
static case_line line_of(const case_line *line, int64_t batch) {
    case_line other = *line;
    other.batch_size = batch;
    for (int k = 0; k < CASE_OPERANDS; k++) {
        case_operand *operand = &other.operand[k];
        if (operand->present && operand->role == PSG_BATCHED && operand->rank) operand->shape[0] = batch;
    }
    return other;
}

static int is_batched(const case_line *line, int k) {
    const case_operand *operand = &line->operand[k];
    return operand->present && operand->role == PSG_BATCHED && operand->rank > 0;
}

static int draw_samples(alone_case *c) {
    case_line all = line_of(&c->line, c->pool);
    for (int k = 0; k < CASE_OPERANDS; k++) {
        if (!is_batched(&all, k)) continue;
        const case_operand *operand = &all.operand[k];
        psg_dtype dtype = operand->kind == CASE_INTEGER ? operand->integer : c->setting.real;
        psg_tensor *sample = &c->sample[k];
        *sample = psg_tensor_of(dtype, NULL, operand->rank, operand->shape);
        sample->data = malloc((size_t)psg_tensor_count(sample) * psg_dtype_size(dtype) + 64);
        if (!sample->data) return 0;
        case_fill(&all, k, sample);
    }
    return 1;
}

static uint64_t mixed(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static double widened(const alone_case *c, double value, int64_t sample, int64_t i) {
    if (!c->setting.wide) return value;
    return ldexp(value, (int)(mixed((uint64_t)(sample * 7919 + i + 1) * 0x9E3779B97F4A7C15u) % 40) - 36);
}

static double neighbour(int64_t pick, psg_dtype real, int64_t i) {
    double huge = real == PSG_F32 ? 1e30 : 1e300;
    return pick == ALONE_ZERO ? 0 : pick == ALONE_NAN ? NAN : i % 2 ? -huge : huge;
}

/* Row n of an operand of the run becomes the sample that was picked. */
static void put_sample(const alone_case *c, case_run *run, int k, int64_t n, int64_t pick) {
    psg_tensor to = case_batch_first(&run->line, &run->value[k]);
    int64_t row = to.shape[0] ? psg_tensor_count(&to) / to.shape[0] : 0, from = pick < 0 ? 0 : pick;
    int free_reals = run->line.operand[k].kind == CASE_REAL && !run->line.operand[k].value_count;
    for (int64_t i = 0; i < row; i++) {
        double value = test_get_at(&c->sample[k], from * row + i);
        if (pick < 0 && free_reals) value = neighbour(pick, c->setting.real, i);
        else if (free_reals && !c->live) value = widened(c, value, from, i);
        test_set_at(&to, n * row + i, value);
    }
}

/* ---- one pass ---- */

static alone_shape flat(int64_t count) { return (alone_shape){ 1, { count } }; }

/* Of a view with the batch in front. */
static alone_shape shape_of(const psg_tensor *view) {
    alone_shape shape = { view->rank - 1, { 0 } };
    for (int d = 0; d < shape.rank; d++) shape.size[d] = view->shape[d + 1];
    return shape;
}

static int64_t count_of(const alone_shape *shape) {
    int64_t count = 1;
    for (int d = 0; d < shape->rank; d++) count *= shape->size[d];
    return count;
}

/* Where element i of the larger shape is in the smaller one of the same rank; -1: nowhere. */
static int64_t place_in(const alone_shape *larger, const alone_shape *smaller, int64_t i) {
    int64_t at = 0, stride = 1;
    for (int d = larger->rank - 1; d >= 0; d--) {
        int64_t k = i % larger->size[d];
        i /= larger->size[d];
        if (k >= smaller->size[d]) return -1;
        at += k * stride;
        stride *= smaller->size[d];
    }
    return at;
}

static alone_part *add_part(alone_results *results, const char *name, const char *of, alone_shape shape) {
    int64_t row = count_of(&shape);
    alone_part *part = &results->part[results->count++];
    snprintf(part->name, sizeof part->name, "%s%s", name, of);
    part->row = row;
    part->shape = shape;
    part->data = calloc((size_t)(results->batch * row) + 1, sizeof(double));
    return part;
}

static double *add_numbers(alone_results *results, const char *name) {
    return add_part(results, name, "", flat(1))->data;
}

static void copy_part(alone_results *results, const char *name, const char *of, const case_line *line,
                      const psg_tensor *tensor) {
    psg_tensor view = case_batch_first(line, tensor);
    int64_t count = psg_tensor_count(&view);
    alone_part *part = add_part(results, name, of, shape_of(&view));
    for (int64_t i = 0; i < count; i++) part->data[i] = test_get_at(&view, i);
}

/* Element i of the output gradient of a sample. */
static double grad_output_at(const alone_case *c, int64_t pick, int64_t row, int64_t i) {
    if (c->live) {
        int64_t at = place_in(&c->output, &c->live->output, i);
        return at < 0 ? 0 : grad_output_at(c->live, pick, count_of(&c->live->output), at);
    }
    if (pick < 0) return neighbour(pick, c->setting.real, i);
    uint64_t word = mixed((uint64_t)(pick * row + i + 1) * 0x9E3779B97F4A7C15u);
    return widened(c, (double)(2 * (int64_t)(word >> 40) + 1 - (1 << 24)) * 0x1p-24, pick, i);
}

static psg_status walk_back(alone_case *c, case_run *run, const int64_t *pick, void **grad) {
    psg_tensor output;
    psg_status status = psg_value(run->tape, run->output, &output);
    if (status || c->reduced) return status ? status : psg_backward(run->tape, run->output);
    psg_tensor given = psg_tensor_of(output.dtype, NULL, output.rank, output.shape);
    int64_t count = psg_tensor_count(&given), row = run->line.batch_size ? count / run->line.batch_size : 0;
    given.data = *grad = malloc((size_t)count * psg_dtype_size(given.dtype) + 64);
    psg_tensor first = case_batch_first(&run->line, &given);
    c->output = shape_of(&first);
    for (int64_t k = 0; k < count; k++) test_set_at(&first, k, grad_output_at(c, pick[k / row], row, k % row));
    return psg_backward_from(run->tape, run->output, &given);
}

static psg_status ask_grad_sample(const alone_case *c, const case_run *run, int k, const psg_gradient *gradient,
                                  const int64_t *pick, alone_results *results) {
    int64_t shape[PSG_MAX_RANK] = { results->batch }, row = 1;
    for (int d = 0; d < gradient->rank && d < PSG_MAX_RANK - 1; d++) row *= shape[d + 1] = gradient->shape[d];
    psg_tensor out = psg_tensor_of(run->real, NULL, gradient->rank + 1, shape);
    out.data = malloc((size_t)psg_tensor_count(&out) * psg_dtype_size(out.dtype) + 64);
    for (int64_t i = 0; i < psg_tensor_count(&out); i++) {
        int64_t sample = pick[i / row];
        test_set_at(&out, i, c->setting.accumulate ? 0.3 + (double)(sample + i % row) * 0.01 : 7);
    }
    psg_write write = c->setting.accumulate ? PSG_ACCUMULATE : PSG_OVERWRITE;
    psg_status status = psg_grad_sample(run->context, gradient, 1.0, write, &out);
    alone_part *part = add_part(results, "grad_sample of ", run->line.op->rule[k].name, flat(row));
    for (int64_t i = 0; i < psg_tensor_count(&out); i++) part->data[i] = test_get_at(&out, i);
    free(out.data);
    return status;
}

/* The gradients that were reached. */
typedef struct gradient_set {
    psg_gradient gradient[CASE_OPERANDS];
    const psg_gradient *at[CASE_OPERANDS];
    psg_tensor direction[CASE_OPERANDS], sum[CASE_OPERANDS];
    size_t count;
} gradient_set;

static void add_gradient(const alone_case *c, gradient_set *set, int k, const psg_gradient *gradient) {
    size_t at = set->count++;
    set->gradient[at] = *gradient;
    set->at[at] = &set->gradient[at];
    psg_tensor *direction = &set->direction[at], *sum = &set->sum[at];
    *direction = psg_tensor_of(gradient->dtype, NULL, gradient->rank, gradient->shape);
    *sum = psg_tensor_of(PSG_F64, NULL, gradient->rank, gradient->shape);
    direction->data = malloc((size_t)psg_tensor_count(direction) * 8 + 64);
    sum->data = calloc((size_t)psg_tensor_count(sum) + 8, 8);
    case_fill_reals(&c->line, c->line.op->rule[k].name, direction);
}

static void free_set(gradient_set *set) {
    for (size_t k = 0; k < set->count; k++) {
        free(set->direction[k].data);
        free(set->sum[k].data);
    }
}

static psg_status ask_set(const alone_case *c, psg_context *context, gradient_set *set, alone_results *results) {
    double *sqnorm = add_numbers(results, "sqnorm"), *upper = add_numbers(results, "upper");
    double *norm = add_numbers(results, "norm"), *factor = add_numbers(results, "factor");
    double *dot = add_numbers(results, "dot");
    psg_clip clip = { .max_grad_norm = 0.7, .max_batch_size = c->setting.max_batch_size };
    psg_write write = c->setting.accumulate ? PSG_ACCUMULATE : PSG_OVERWRITE;
    if (results->batch <= ALONE_GRAM) results->gram = calloc((size_t)(results->batch * results->batch) + 1, 8);
    psg_status status = psg_sqnorm(context, set->at, set->count, sqnorm, upper, NULL);
    if (!status) {
        status = psg_clipped_sum(context, set->at, set->count, &clip, write, set->sum, norm, factor, NULL);
    }
    if (!status) status = psg_dot(context, set->at, set->count, set->direction, dot);
    return status || !results->gram ? status : psg_gram(context, set->at, set->count, results->gram);
}

static psg_status ask(const alone_case *c, case_run *run, const int64_t *pick, alone_results *results) {
    gradient_set set = { .count = 0 };
    psg_status status = PSG_OK;
    for (int k = 0; k < CASE_OPERANDS && !status; k++) {
        psg_gradient gradient;
        psg_tensor grad;
        if (!case_wants_grad(&run->line, k)) continue;
        if (!run->param[k]) {
            status = psg_input_grad(run->tape, run->var[k], &grad);
            if (!status) copy_part(results, "gradient of ", run->line.op->rule[k].name, &run->line, &grad);
        } else if (!psg_gradient_of(run->tape, run->param[k], &gradient)) {
            add_gradient(c, &set, k, &gradient);
            status = ask_grad_sample(c, run, k, &gradient, pick, results);
        }
    }
    if (!status && set.count) status = ask_set(c, run->context, &set, results);
    free_set(&set);
    return status;
}

static psg_pass pass_of(const alone_case *c, const case_run *run, const int64_t *pick) {
    psg_pass pass = case_run_pass(run);
    int mean = c->reduced && strcmp(case_word(&c->line, "reduction", "mean"), "sum") != 0;
    pass.loss_reduction = mean ? PSG_LOSS_MEAN : PSG_LOSS_SUM;
    pass.sample_ids = pick;
    return pass;
}

static psg_status run_pass(alone_case *c, case_run *run, const int64_t *pick, alone_results *results) {
    psg_pass pass = pass_of(c, run, pick);
    psg_tensor output;
    void *grad = NULL;
    psg_status status = case_run_forward(run, &pass);
    const psg_tape_node *node = run->tape->last;
    for (; node && c->recorded; node = node->previous) c->recorded(node->call.op->name);
    if (!status) status = psg_value(run->tape, run->output, &output);
    if (!status && !c->reduced) copy_part(results, "output", "", &run->line, &output);
    if (!status && (output.dtype == PSG_F32 || output.dtype == PSG_F64)) {
        status = walk_back(c, run, pick, &grad);
        if (!status) status = ask(c, run, pick, results);
    }
    free(grad);
    return status;
}

int alone_run(alone_case *c, psg_context *context, const int64_t *pick, int64_t batch, alone_results *results) {
    case_run run;
    case_line line = line_of(&c->line, batch);
    *results = (alone_results){ .batch = batch };
    psg_status status = case_run_open(&run, context, &line, c->setting.real, 0, -1);
    for (int k = 0; k < CASE_OPERANDS && !status; k++) {
        for (int64_t n = 0; n < batch && is_batched(&line, k); n++) put_sample(c, &run, k, n, pick[n]);
    }
    if (!status) status = run_pass(c, &run, pick, results);
    if (status) {
        int sticky = run.tape && psg_tape_status(run.tape);
        report(c, psg_status_name(status), 0, batch,
               sticky ? psg_tape_message(run.tape) : psg_context_message(context));
    }
    case_run_close(&run);
    return !status;
}

void alone_results_free(alone_results *results) {
    for (int k = 0; k < results->count; k++) free(results->part[k].data);
    free(results->gram);
    *results = (alone_results){ 0 };
}

/* ---- a case ---- */

psg_context *alone_context(const alone_setting *setting, unsigned threads) {
    return test_context_with(NULL, threads, setting->isa, setting->budget);
}

/* Whether two samples are run, and what their output is: 2 rows, or one loss. */
static int try_case(alone_case *c) {
    case_run run;
    case_line line = line_of(&c->line, 2);
    psg_tensor output;
    psg_status status = case_run_open(&run, c->single, &line, c->setting.real, 0, -1);
    psg_pass pass = case_run_pass(&run);
    if (!status) status = case_run_forward(&run, &pass);
    if (!status) status = psg_value(run.tape, run.output, &output);
    int rows = 0;
    if (!status) {
        psg_tensor first = case_batch_first(&run.line, &output);
        c->reduced = psg_tensor_count(&first) == 1;
        if (!c->reduced) c->output = shape_of(&first);
        rows = first.rank ? (int)first.shape[0] : 0;
    }
    case_run_close(&run);
    return !status && (c->reduced || rows == 2);
}

int alone_open(alone_case *c, const case_line *line, const alone_setting *setting, int64_t pool) {
    *c = (alone_case){ .line = *line, .setting = *setting, .pool = pool };
    c->context = setting->context ? setting->context : alone_context(setting, setting->threads);
    c->single = setting->single ? setting->single : alone_context(setting, 1);
    if (try_case(c) && draw_samples(c)) return 1;
    alone_close(c);
    return 0;
}

void alone_close(alone_case *c) {
    for (int k = 0; k < CASE_OPERANDS; k++) free(c->sample[k].data);
    if (!c->setting.context) test_context_free(c->context);
    if (!c->setting.single) test_context_free(c->single);
    c->context = c->single = NULL;
}

/* ---- comparing ---- */

static int64_t first_difference(const double *x, const double *y, int64_t count) {
    int64_t i = 0;
    while (i < count && alone_same(x[i], y[i])) i++;
    return i;
}

void alone_compare(alone_case *c, const alone_results *x, int64_t a, const alone_results *y, int64_t b,
                   const char *what) {
    char name[2 * ALONE_NAME], detail[128];
    for (int k = 0; k < x->count && k < y->count; k++) {
        const alone_part *p = &x->part[k], *q = &y->part[k];
        const double *row = p->data + a * p->row, *other = q->data + b * q->row;
        int64_t i = p->row == q->row ? first_difference(row, other, p->row) : -1;
        if (i == p->row) {
            c->passed++;
            continue;
        }
        snprintf(name, sizeof name, "%s: %s", what, p->name);
        if (i < 0) snprintf(detail, sizeof detail, "%lld values, not %lld", (long long)p->row, (long long)q->row);
        else snprintf(detail, sizeof detail, "[%lld] %.9g, not %.9g", (long long)i, row[i], other[i]);
        report(c, name, a, x->batch, detail);
    }
    if (x->count != y->count) report(c, what, a, x->batch, "another number of results");
}

/* gram[i][j] against that of samples i and j, and that of j and i. */
static void check_pair(alone_case *c, const int64_t *pick, const alone_results *all, int64_t i, int64_t j) {
    alone_results pair;
    char detail[128];
    for (int turn = 0; turn < 2; turn++) {
        const int64_t two[2] = { pick[turn ? j : i], pick[turn ? i : j] };
        double in_batch[2] = { all->gram[i * all->batch + j], all->gram[j * all->batch + i] };
        if (alone_run(c, c->single, two, 2, &pair) && pair.gram) {
            int same = alone_same(in_batch[0], pair.gram[1]) && alone_same(in_batch[1], pair.gram[2]);
            snprintf(detail, sizeof detail, "with %lld: %.17g, not %.17g", (long long)j, in_batch[0], pair.gram[1]);
            if (same) c->passed++;
            else report(c, "alone: gram", i, all->batch, detail);
        }
        alone_results_free(&pair);
    }
}

static void check_gram(alone_case *c, const int64_t *pick, const alone_results *all) {
    int64_t last = all->batch - 1;
    if (!all->gram || last < 1) return;
    if (pick[0] >= 0 && pick[last] >= 0) check_pair(c, pick, all, 0, last);
    for (int64_t i = last / 2; i > 0; i--) {
        if (pick[i] < 0 || pick[i - 1] < 0) continue;
        check_pair(c, pick, all, i - 1, i);
        return;
    }
}

void alone_check(alone_case *c, const int64_t *pick, int64_t batch, int64_t checked) {
    alone_results all, alone;
    int64_t step = checked && batch > checked ? batch / checked : 1;
    if (!alone_run(c, c->context, pick, batch, &all)) batch = 0;
    for (int64_t n = 0; n < batch; n += step) {
        if (pick[n] < 0) continue;
        if (alone_run(c, c->single, &pick[n], 1, &alone)) alone_compare(c, &all, n, &alone, 0, "alone");
        if (alone.gram && all.gram) {
            if (alone_same(alone.gram[0], all.gram[n * batch + n])) c->passed++;
            else report(c, "alone: gram with itself", n, batch, "differs");
        }
        alone_results_free(&alone);
        if (n + step >= batch && n < batch - 1) n = batch - 1 - step;
    }
    if (batch) check_gram(c, pick, &all);
    alone_results_free(&all);
}

void alone_check_joined(alone_case *c, const int64_t *pick, int64_t batch, int64_t record, int64_t place) {
    alone_results with, without;
    int64_t *joined = calloc((size_t)(batch + 1), sizeof *joined);
    for (int64_t n = 0; n <= batch; n++) joined[n] = n == place ? record : pick[n - (n > place)];
    int ran = alone_run(c, c->context, joined, batch + 1, &with);
    ran &= alone_run(c, c->context, pick, batch, &without);
    for (int64_t n = 0; n < batch && ran; n++) {
        if (pick[n] >= 0) alone_compare(c, &with, n + (n >= place), &without, n, "beside a new record");
    }
    alone_results_free(&with);
    alone_results_free(&without);
    free(joined);
}

/* ---- padding ---- */

static int is_mask(const case_line *line, int k) {
    const char *name = line->op->rule[k].name;
    size_t length = strlen(name);
    return length >= 4 && !strcmp(name + length - 4, "mask");
}

static void pad_samples(alone_case *padded, const alone_case *c, double pad) {
    for (int k = 0; k < CASE_OPERANDS; k++) {
        psg_tensor *to = &padded->sample[k];
        if (!is_batched(&padded->line, k)) continue;
        alone_shape larger = shape_of(to), smaller = shape_of(&c->sample[k]);
        int64_t row = count_of(&larger), live = count_of(&smaller);
        for (int64_t i = 0; i < padded->pool * row; i++) {
            int64_t at = place_in(&larger, &smaller, i % row);
            double behind = is_mask(&padded->line, k) ? 1 : pad;
            test_set_at(to, i, at < 0 ? behind : test_get_at(&c->sample[k], i / row * live + at));
        }
    }
}

/* Row n of the padded results becomes one of the smaller shapes. */
static void cut_row(const alone_results *padded, int64_t n, const alone_results *alone, alone_results *cut) {
    *cut = (alone_results){ .batch = 1 };
    for (int k = 0; k < padded->count && k < alone->count; k++) {
        const alone_part *from = &padded->part[k];
        alone_part *to = add_part(cut, from->name, "", alone->part[k].shape);
        for (int64_t i = 0; i < from->row; i++) {
            int64_t at = place_in(&from->shape, &to->shape, i);
            if (at >= 0) to->data[at] = from->data[n * from->row + i];
        }
    }
}

void alone_check_padded(alone_case *c, const case_line *line, double pad, const int64_t *pick, int64_t batch) {
    alone_case padded;
    alone_results all, alone, cut;
    if (!alone_open(&padded, line, &c->setting, c->pool)) {
        report(c, "padded", 0, batch, "cannot be run");
        return;
    }
    pad_samples(&padded, c, pad);
    padded.live = c;
    int ran = alone_run(c, c->single, pick, 1, &alone);   /* c->output */
    alone_results_free(&alone);
    ran &= alone_run(&padded, padded.context, pick, batch, &all);
    for (int64_t n = 0; n < batch && ran; n++) {
        if (alone_run(c, c->single, &pick[n], 1, &alone)) {
            cut_row(&all, n, &alone, &cut);
            alone_compare(c, &cut, 0, &alone, 0, pad == 0 ? "padded" : "padded by values");
            alone_results_free(&cut);
        }
        alone_results_free(&alone);
    }
    alone_results_free(&all);
    c->failed += padded.failed;
    alone_close(&padded);
}
