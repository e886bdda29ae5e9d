/* Effective weights: weight_standardize and weight_norm.
 *
 * Row w of n elements becomes E = gain u, u = (w - mean) / s: with the mean or without, and s a root of its square sum.
 * The transposed Jacobian of a row is
 *
 *     J^T e = gain / s (e - mean(e) - c u <u, e>)           and of its gain  <u, e>
 *
 * c 1 where s^2 is the square sum, 1 / n where it is the variance and eps, 0 where s is constant.  What u, 1 / s and c
 * are is found once, in double, and kept. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/context.h"
#include "base/floats.h"
#include "base/parallel.h"
#include "base/shapes.h"
#include "kernels.h"
#include "ops/shared/operand.h"
#include "psg/ops/arithmetic.h"
#include "psg/ops/linear.h"
#include "psg/ops/norm.h"
#include "psg/ops/weight.h"

enum { WEIGHT, GAIN, INPUTS };

/* ---- what tells the ops apart ---- */

/* The weight is (outer, rows, inner). */
typedef struct view {
    int64_t outer, rows, inner;
} view;

typedef struct rule {
    bool centred, adds_eps;    /* s^2 = var + eps; else max(square sum, eps) */
    double eps;
} rule;

typedef struct kind {
    psg_status (*view)(psg_call *call, view *v);
    psg_status (*rule)(psg_call *call, rule *r);
} kind;

static const kind *kind_of(const psg_call *call) { return call->op->traits; }

static psg_status standardize_view(psg_call *call, view *v) {
    const psg_tensor *w = &call->input[WEIGHT].value;
    *v = (view){ 1, w->shape[0], psg_shape_product(w->rank - 1, w->shape + 1) };
    return PSG_OK;
}

static psg_status standardize_rule(psg_call *call, rule *r) {
    const psg_weight_standardize_options *options = call->attributes;
    *r = (rule){ true, !options->by_fan_in, options->by_fan_in ? 1e-4 : 1e-6 };
    if (options->has_eps) r->eps = options->eps;
    if (r->eps >= 0 && isfinite(r->eps)) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_ARGUMENT, "eps is %g, must be finite and >= 0", r->eps);
}

static psg_status norm_view(psg_call *call, view *v) {
    const psg_weight_norm_options *options = call->attributes;
    const psg_tensor *w = &call->input[WEIGHT].value;
    int dim;
    *v = (view){ 1, 1, psg_tensor_count(w) };
    if (options->over_all) return PSG_OK;
    psg_status status = psg_operand_dim(call, "dim", options->dim, w->rank, &dim);
    if (status) return status;
    *v = (view){ psg_shape_product(dim, w->shape), w->shape[dim],
                 psg_shape_product(w->rank - dim - 1, w->shape + dim + 1) };
    return PSG_OK;
}

static psg_status norm_rule(psg_call *call, rule *r) {
    (void)call;
    *r = (rule){ false, false, 0 };
    return PSG_OK;
}

/* ---- shape ---- */

/* One element a row, alone or where the rows are. */
static psg_status check_gain(psg_call *call, const view *v) {
    const psg_tensor *w = &call->input[WEIGHT].value, *g = &call->input[GAIN].value;
    char text[PSG_SHAPE_TEXT];
    if (!call->input[GAIN].role) return PSG_OK;
    bool alone = psg_tensor_count(g) == v->rows && (g->rank == 1 || v->rows == 1), there = g->rank == w->rank;
    int64_t before = 1;
    for (int d = 0; there && d < g->rank; d++) {
        bool at = before == v->outer && w->shape[d] == v->rows && g->shape[d] == v->rows;
        there = at || g->shape[d] == 1;
        before *= w->shape[d];
    }
    if (alone || (there && psg_tensor_count(g) == v->rows)) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_SHAPE, "%s has shape %s, must have an element for each of %lld rows: (%lld), or "
                         "that beside ones", call->op->input_names[GAIN], psg_tensor_text(g, text), (long long)v->rows,
                         (long long)v->rows);
}

static psg_status check_length(psg_call *call, const view *v) {
    int64_t columns = v->outer * v->inner;
    bool wanted = call->input[WEIGHT].wants_grad || call->input[GAIN].wants_grad;
    if (!wanted || columns <= PSG_MOST_DERIVED_COLUMNS) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_UNSUPPORTED, "%s has rows of %lld elements, with a gradient at most %d may be",
                         call->op->input_names[WEIGHT], (long long)columns, PSG_MOST_DERIVED_COLUMNS);
}

static psg_status shape(psg_call *call) {
    const psg_tensor *w = &call->input[WEIGHT].value;
    view v;
    rule r;
    psg_status status = psg_operands_real(call, INPUTS);
    if (!status && !w->rank) {
        status = psg_call_fail(call, PSG_ERR_SHAPE, "%s is a scalar, must have at least rank 1",
                               call->op->input_names[WEIGHT]);
    }
    if (!status) status = kind_of(call)->view(call, &v);
    if (!status) status = kind_of(call)->rule(call, &r);
    if (!status) status = check_gain(call, &v);
    if (!status) status = check_length(call, &v);
    return status ? status : psg_output_like_input(call);
}

/* ---- rows ---- */

/* What is kept, an array of doubles each. */
typedef struct rows {
    const psg_kernel_table *doubles;
    int64_t columns;
    double *unit;              /* (rows, columns): u */
    double *gain;              /* of row i */
    double *slope;             /* gain / s */
    double *along;             /* c */
    double *ones;              /* columns of them; NULL: rows are not centred */
} rows;

/* Divides by a power of two, so that no square leaves the range; returns its exponent. */
static int scale_to_one(double *x, int64_t count) {
    double most = 0;
    int exponent;
    for (int64_t k = 0; k < count; k++) {
        if (!isfinite(x[k])) return 0;
        most = fmax(most, fabs(x[k]));
    }
    if (most == 0) return 0;
    frexp(most, &exponent);
    for (int64_t k = 0; k < count; k++) x[k] = ldexp(x[k], -exponent);
    return exponent;
}

/* Twice: the first differences are exact where they cancel; of equal elements they are a few units in the last place,
 * and the second ones 0. */
static void centre(const psg_kernel_table *doubles, double *x, int64_t count) {
    for (int turn = 0; turn < 2; turn++) {
        double mean = doubles->sum((size_t)count, x) / (double)count;
        for (int64_t k = 0; k < count; k++) x[k] -= mean;
    }
}

/* u, and 1 / s and c of row i; x holds w. */
static void normalise(const rows *all, const rule *r, int64_t i, double *x) {
    int64_t count = all->columns;
    int exponent = scale_to_one(x, count);
    if (r->centred) {
        centre(all->doubles, x, count);
        exponent += scale_to_one(x, count);
    }
    long double scale = ldexpl(1, exponent), square = all->doubles->dot((size_t)count, x, x) * scale * scale;
    bool constant = !r->adds_eps && square <= r->eps;
    long double root = sqrtl(r->adds_eps ? square / count + r->eps : constant ? r->eps : square);
    double unit = root == 0 ? 0 : (double)(scale / root);
    for (int64_t k = 0; k < count; k++) x[k] *= unit;
    all->slope[i] = root == 0 ? 0 : (double)(all->gain[i] / root);
    all->along[i] = constant ? 0 : r->adds_eps ? 1 / (double)count : 1;
}

/* ---- forward ---- */

typedef struct job {
    psg_call *call;
    const rows *rows;
    view view;
    rule rule;
    int64_t some;              /* rows a task */
} job;

static void run_rows(void *argument, size_t index, unsigned slot) {
    const job *j = argument;
    const psg_kernel_table *kernels = psg_call_kernels(j->call);
    const view *v = &j->view;
    const int64_t first = (int64_t)index * j->some, last = first + j->some, outer = v->inner ? v->outer : 0;
    (void)slot;
    for (int64_t i = first; i < last && i < v->rows; i++) {
        double *x = j->rows->unit + i * j->rows->columns;
        for (int64_t a = 0; a < outer; a++) {
            const void *from = psg_tensor_offset(&j->call->input[WEIGHT].value, (a * v->rows + i) * v->inner);
            kernels->add_to_f64((size_t)v->inner, 1.0, from, x + a * v->inner);
        }
        normalise(j->rows, &j->rule, i, x);
        for (int64_t a = 0; a < outer; a++) {
            void *to = psg_tensor_offset(&j->call->output, (a * v->rows + i) * v->inner);
            kernels->from_f64((size_t)v->inner, j->rows->gain[i], x + a * v->inner, to, false);
        }
    }
}

static psg_status keep_rows(psg_call *call, const view *v, const rule *r, rows **kept) {
    int64_t columns = v->outer * v->inner, count = v->rows * (columns + 3) + (r->centred ? columns : 0);
    size_t bytes;
    if (!psg_size_bytes(count, sizeof(double), &bytes)) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "%lld elements do not fit the memory", (long long)count);
    }
    double *memory = psg_call_keep(call, bytes);
    rows *all = memory ? psg_call_keep(call, sizeof *all) : NULL;
    if (!all) return PSG_ERR_MEMORY;
    call->kept = all;
    memset(memory, 0, bytes);
    *all = (rows){ call->context->kernels[PSG_F64], columns, memory, memory + v->rows * columns, NULL, NULL, NULL };
    all->slope = all->gain + v->rows;
    all->along = all->slope + v->rows;
    if (r->centred) all->ones = all->along + v->rows;
    for (int64_t k = 0; r->centred && k < columns; k++) all->ones[k] = 1;
    *kept = all;
    return PSG_OK;
}

static void read_gain(const psg_call *call, int64_t count, double *gain) {
    const psg_operand *operand = &call->input[GAIN];
    if (operand->role) psg_call_kernels(call)->add_to_f64((size_t)count, 1.0, operand->value.data, gain);
    for (int64_t i = 0; !operand->role && i < count; i++) gain[i] = 1;
}

static psg_status forward(psg_call *call) {
    enum { ELEMENTS = 1 << 14 };   /* a task */
    job j = { .call = call };
    rows *all = NULL;
    psg_status status = kind_of(call)->view(call, &j.view);
    if (!status) status = kind_of(call)->rule(call, &j.rule);
    if (!status) status = keep_rows(call, &j.view, &j.rule, &all);
    if (status) return status;
    j.rows = all;
    j.some = all->columns < ELEMENTS ? ELEMENTS / (all->columns + 1) + 1 : 1;
    read_gain(call, j.view.rows, all->gain);
    psg_parallel(call->context, (size_t)((j.view.rows + j.some - 1) / j.some), run_rows, &j);
    return PSG_OK;
}

/* ---- backward ---- */

static void pull_weight(const void *user, int64_t first, int64_t count, const double *grad, double *pulled) {
    const rows *all = user;
    const psg_kernel_table *doubles = all->doubles;
    size_t columns = (size_t)all->columns;
    for (int64_t i = 0; i < count; i++, grad += columns, pulled += columns) {
        const double *unit = all->unit + (first + i) * all->columns;
        double slope = all->slope[first + i], along = all->along[first + i] * doubles->dot(columns, unit, grad);
        doubles->from_f64(columns, slope, grad, pulled, false);
        doubles->add_to_f64(columns, -slope * along, unit, pulled);
        if (!all->ones) continue;
        doubles->add_to_f64(columns, -slope * (doubles->sum(columns, grad) / (double)columns), all->ones, pulled);
    }
}

/* The matrix in brackets has eigenvalues from 0 to 1. */
static double norm_weight(const void *user, int64_t row) {
    const rows *all = user;
    return fabs(all->slope[row]) * (1 + 0x1p-20);
}

static void pull_gain(const void *user, int64_t first, int64_t count, const double *grad, double *pulled) {
    const rows *all = user;
    for (int64_t i = 0; i < count; i++) {
        const double *unit = all->unit + (first + i) * all->columns;
        pulled[i] = all->doubles->dot((size_t)all->columns, unit, grad + i * all->columns);
    }
}

static double norm_gain(const void *user, int64_t row) {
    const rows *all = user;
    const double *unit = all->unit + row * all->columns;
    return sqrt(all->doubles->dot((size_t)all->columns, unit, unit)) * (1 + 0x1p-20);
}

static psg_status backward(psg_call *call) {
    view v;
    const rows *all = (const rows *)call->kept;
    psg_status status = kind_of(call)->view(call, &v);
    if (status) return status;
    psg_derivation weight = { .rows = v.rows, .columns = all->columns, .width = all->columns, .inner = v.inner,
                              .pull = pull_weight, .norm = norm_weight, .user = all };
    psg_derivation gain = weight;
    gain.width = 1;
    gain.pull = pull_gain;
    gain.norm = norm_gain;
    status = psg_call_derive(call, WEIGHT, &weight);
    return status ? status : psg_call_derive(call, GAIN, &gain);
}

/* ---- the ops ---- */

static const kind standardize = { standardize_view, standardize_rule }, norm = { norm_view, norm_rule };
static const char *const standardize_names[] = { "weight", "gain" }, *const norm_names[] = { "v", "g" };

#define DERIVES                                                                                                        \
    .input_count = INPUTS, .optional_inputs = 1u << GAIN, .parameter_inputs = 1u << WEIGHT | 1u << GAIN, .derives = 1, \
    .shape = shape, .forward = forward, .backward = backward

const psg_op psg_op_weight_standardize = { .name = "weight_standardize",
                                           .input_names = standardize_names,
                                           .attributes_size = sizeof(psg_weight_standardize_options),
                                           .reserved_at = offsetof(psg_weight_standardize_options, reserved),
                                           .traits = &standardize,
                                           DERIVES };

const psg_op psg_op_weight_norm = { .name = "weight_norm",
                                    .input_names = norm_names,
                                    .attributes_size = sizeof(psg_weight_norm_options),
                                    .reserved_at = offsetof(psg_weight_norm_options, reserved),
                                    .traits = &norm,
                                    DERIVES };

psg_var psg_weight_standardize(psg_tape *tape, psg_var weight, psg_var gain,
                               const psg_weight_standardize_options *options) {
    return psg_record(tape, &psg_op_weight_standardize, (psg_var[]){ weight, gain }, INPUTS, options);
}

psg_var psg_weight_norm(psg_tape *tape, psg_var v, psg_var g, const psg_weight_norm_options *options) {
    return psg_record(tape, &psg_op_weight_norm, (psg_var[]){ v, g }, INPUTS, options);
}

/* rms_norm gives x sqrt(in) / sqrt(||x||^2 + eps) where its eps is eps / in. */
psg_var psg_cosine_linear(psg_tape *tape, psg_var x, psg_var weight, double scale, double eps) {
    PSG_DEFAULT_FLOATS;
    psg_tensor value = { .rank = 0 };
    psg_status status = psg_value(tape, x, &value);
    int64_t in = !status && value.rank ? value.shape[value.rank - 1] : 0;
    double some = in ? (double)in : 1;
    psg_var unit = psg_rms_norm(tape, x, 1, &in, psg_none(), eps / some);
    psg_var y = psg_linear(tape, unit, psg_weight_norm(tape, weight, psg_none(), NULL), psg_none());
    return psg_scale(tape, y, scale / sqrt(some));
}
