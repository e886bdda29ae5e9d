/* (damping I + F)^-1 v, F = J^T J / B.  The form (v - J^T (damping B I + J J^T)^-1 J v) / damping loses to cancellation
 * what v has in directions of F's eigenvalues above damping.  Those are never divided by damping: with K = J J^T,
 *   v = J^T w + r:   outs = J^T (damping I + K / B)^-1 w + (damping I + F)^-1 r,
 * where J^T w are v's parts in those directions and r is the rest, for which that form is good. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/context.h"
#include "base/floats.h"
#include "base/label.h"
#include "base/memory.h"
#include "base/shapes.h"
#include "blas/lapack.h"
#include "kernels.h"
#include "linalg/double_set.h"
#include "psg/linalg.h"

/* A vector of P elements, as one tensor a gradient too. */
typedef struct vector {
    double *data;
    psg_tensor *parts;
} vector;

typedef struct problem {
    psg_context *context;
    const char *function;
    const psg_gradient *const *gradients;   /* in double once they were checked */
    size_t count;
    int64_t batch, size;                    /* B, P */
    double damping;
    const psg_tensor *outs;
    void *memory;
    double *gram, *matrix;                  /* K; eigenvectors of K in rows, or a matrix to be factored */
    double *spectrum, *w, *z, *d;           /* B each */
    vector x, rest;
} problem;

/* ---- checks ---- */

/* What another question says is said in this one's name. */
static psg_status pass_on(const problem *p, psg_status status) {
    char text[PSG_MESSAGE_SIZE / 2];
    if (!status) return PSG_OK;
    snprintf(text, sizeof text, "%s", psg_context_message(p->context));
    return psg_fail(p->context, status, "%s: %s", p->function, text);
}

static psg_status check_arguments(const problem *p) {
    if (!p->gradients || !p->count || !p->gradients[0] || p->gradients[0]->batch_size < 0) {
        return psg_fail(p->context, PSG_ERR_ARGUMENT, "%s: gradients is NULL or empty, must hold at least one",
                        p->function);
    }
    if (p->damping > 0 && isfinite(p->damping)) return PSG_OK;
    return psg_fail(p->context, PSG_ERR_ARGUMENT, "%s: damping is %g, must be > 0 and finite", p->function, p->damping);
}

static psg_status check_tensor(const problem *p, const char *argument, size_t k, const psg_tensor *t) {
    const psg_gradient *gradient = p->gradients[k];
    const psg_label label = psg_label_at(argument, k, gradient->name);
    char have[PSG_SHAPE_TEXT], want[PSG_SHAPE_TEXT];
    if (!psg_tensor_is_valid(t) || !psg_shape_equal(t->rank, t->shape, gradient->rank, gradient->shape)) {
        return psg_fail(p->context, PSG_ERR_SHAPE, "%s: %s must have the parameter's shape %s, has %s",
                        p->function, label.text, psg_shape_text(gradient->rank, gradient->shape, want),
                        t->rank >= 0 && t->rank <= PSG_MAX_RANK ? psg_tensor_text(t, have) : "no valid shape");
    }
    if (t->dtype != gradient->dtype && t->dtype != PSG_F64) {
        return psg_fail(p->context, PSG_ERR_DTYPE, "%s: %s is %s, must be %s or f64", p->function, label.text,
                        psg_dtype_name(t->dtype), psg_dtype_name(gradient->dtype));
    }
    if (psg_tensor_is_contiguous(t)) return PSG_OK;
    return psg_fail(p->context, PSG_ERR_SHAPE, "%s: %s must be contiguous", p->function, label.text);
}

static psg_status check_tensors(const problem *p, const char *name, const psg_tensor *tensors) {
    if (!tensors) return psg_fail(p->context, PSG_ERR_ARGUMENT, "%s: %s is NULL", p->function, name);
    psg_status status = PSG_OK;
    for (size_t k = 0; k < p->count && !status; k++) status = check_tensor(p, name, k, &tensors[k]);
    return status;
}

/* The squared norms are the first question: it checks the set. */
static psg_status check_samples(problem *p) {
    size_t bytes;
    const int64_t batch = p->gradients[0]->batch_size;
    if (!psg_size_bytes(batch, sizeof(double), &bytes)) {
        return psg_fail(p->context, PSG_ERR_OVERFLOW, "%s: B is %lld", p->function, (long long)batch);
    }
    double *sqnorm = psg_alloc(p->context, bytes);
    if (!sqnorm) return psg_fail_memory(p->context, p->function, bytes);
    psg_status status = pass_on(p, psg_sqnorm(p->context, p->gradients, p->count, sqnorm, NULL, NULL));
    for (int64_t n = 0; n < batch && !status; n++) {
        if (isfinite(sqnorm[n])) continue;
        status = psg_fail(p->context, PSG_ERR_NONFINITE, "%s: the squared norm of sample %lld is %g, must be finite",
                          p->function, (long long)n, sqnorm[n]);
    }
    psg_free(p->context, sqnorm);
    return status;
}

/* ---- memory ---- */

static bool count_bytes(problem *p, size_t *bytes) {
    int64_t cells, part;
    bool fits = true;
    p->batch = p->gradients[0]->batch_size;
    for (size_t k = 0; k < p->count && fits; k++) {
        part = psg_shape_product(p->gradients[k]->rank, p->gradients[k]->shape);
        fits = part >= 0 && !__builtin_add_overflow(p->size, part, &p->size);
    }
    fits = fits && psg_size_multiply(p->batch, p->batch, &cells) && !__builtin_add_overflow(cells, p->size, &cells) &&
           !__builtin_add_overflow(cells, 2 * p->batch, &cells) && psg_size_multiply(cells, 2, &cells);
    return fits && psg_size_bytes(cells, sizeof(double), bytes) &&
           !__builtin_add_overflow(*bytes, 2 * p->count * sizeof(psg_tensor), bytes);
}

static double *take(double **memory, int64_t cells) {
    double *taken = *memory;
    *memory += cells;
    return taken;
}

static vector take_vector(const problem *p, psg_tensor *parts, double **memory) {
    vector v = { *memory, parts };
    for (size_t k = 0; k < p->count; k++) {
        const psg_gradient *gradient = p->gradients[k];
        parts[k] = psg_tensor_of(PSG_F64, *memory, gradient->rank, gradient->shape);
        *memory += psg_tensor_count(&parts[k]);
    }
    return v;
}

static psg_status take_memory(problem *p) {
    size_t bytes;
    if (!count_bytes(p, &bytes)) {
        return psg_fail(p->context, PSG_ERR_OVERFLOW, "%s: matrices of B x B and vectors of P do not fit, B = %lld",
                        p->function, (long long)p->batch);
    }
    p->memory = psg_alloc(p->context, bytes);
    if (!p->memory) return psg_fail_memory(p->context, p->function, bytes);
    psg_tensor *parts = p->memory;
    double *memory = (void *)(parts + 2 * p->count);
    p->gram = take(&memory, p->batch * p->batch);
    p->matrix = take(&memory, p->batch * p->batch);
    p->spectrum = take(&memory, p->batch);
    p->w = take(&memory, p->batch);
    p->z = take(&memory, p->batch);
    p->d = take(&memory, p->batch);
    p->x = take_vector(p, parts, &memory);
    p->rest = take_vector(p, parts + p->count, &memory);
    return PSG_OK;
}

/* ---- small vectors ---- */

static double norm(int64_t count, const double *x) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += x[i] * x[i];
    return sqrt(sum);
}

static double dot(int64_t count, const double *x, const double *y) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += x[i] * y[i];
    return sum;
}

static void add(int64_t count, double factor, const double *x, double *y) {
    for (int64_t i = 0; i < count; i++) y[i] += factor * x[i];
}

static double trace(const problem *p) {
    double sum = 0;
    for (int64_t n = 0; n < p->batch; n++) sum += p->gram[n * p->batch + n];
    return sum;
}

/* ---- products ---- */

static psg_status multiply(const problem *p, const vector *x, double *d) {   /* d = J x */
    return pass_on(p, psg_dot(p->context, p->gradients, p->count, x->parts, d));
}

static psg_status combine(const problem *p, const double *weights, const vector *x) {   /* x = J^T weights */
    return pass_on(p, psg_weighted_sum(p->context, p->gradients, p->count, weights, PSG_OVERWRITE, x->parts));
}

/* ---- the end ---- */

/* Whether every scale * x[i] is in the range of outs. */
static bool fits_outs(const problem *p, double scale) {
    const double *x = p->x.data;
    for (size_t k = 0; k < p->count; k++) {
        const double most = p->outs[k].dtype == PSG_F32 ? FLT_MAX : DBL_MAX;
        for (const double *end = x + psg_tensor_count(&p->outs[k]); x < end; x++) {
            if (!(fabs(*x) * scale <= most)) return false;
        }
    }
    return true;
}

/* outs = scale * x, if it is known well enough. */
static psg_status write(const problem *p, double scale, double found, double *error) {
    static const double limit = 0.01;
    if (error) *error = found;
    if (!(found <= limit) || !fits_outs(p, scale)) {
        return psg_fail(p->context, PSG_ERR_NUMERIC, "%s: at damping %g the direction %s, estimated relative error %g",
                        p->function, p->damping, found <= limit ? "leaves the range of outs" : "drowns in rounding",
                        found);
    }
    for (size_t k = 0; k < p->count; k++) {
        const psg_tensor *out = &p->outs[k], *x = &p->x.parts[k];
        p->context->kernels[out->dtype]->from_f64((size_t)psg_tensor_count(x), scale, x->data, out->data, false);
    }
    return PSG_OK;
}

/* What the rounding of a product is taken for, as a share of the norms of its factors. */
static const double unit = 4 * DBL_EPSILON;

static double relative(double error, double size) { return error > 0 ? error / size : 0; }

/* ---- v is given ---- */

static void add_v(const problem *p, const psg_tensor *v, double factor, double *sum) {
    for (size_t k = 0; k < p->count; k++) {
        const size_t count = (size_t)psg_tensor_count(&v[k]);
        p->context->kernels[v[k].dtype]->add_to_f64(count, factor, v[k].data, sum);
        sum += count;
    }
}

static void set_v(const problem *p, const psg_tensor *v, double factor, double *x) {
    memset(x, 0, (size_t)p->size * sizeof(double));
    add_v(p, v, factor, x);
}

/* A power of two that brings the largest |v[i]| to [1/2, 1); 0 when one is NaN or Inf.  Overwrites rest. */
static double scale_of(const problem *p, const psg_tensor *v) {
    double largest = 0;
    int exponent;
    set_v(p, v, 1, p->rest.data);
    for (int64_t i = 0; i < p->size; i++) {
        if (!isfinite(p->rest.data[i])) return 0;
        largest = fmax(largest, fabs(p->rest.data[i]));
    }
    frexp(largest, &exponent);
    return ldexp(1, -(exponent < -1000 ? -1000 : exponent > 1000 ? 1000 : exponent));
}

/* Functions of an eigenvalue s of K.  Directions of F's eigenvalues s / B below damping stay in rest. */
static bool is_large(const problem *p, double s) { return s > p->damping * (double)p->batch; }

static double inverse(const problem *p, double s) { return is_large(p, s) ? 1 / s : 0; }

static double damped_inverse(const problem *p, double s) {
    return is_large(p, s) ? 1 / (p->damping + s / (double)p->batch) : 0;
}

/* (1 / (damping + s / B) - 1 / damping) / s, for the unit vector J^T u / sqrt(s) of an eigenvector u of K. */
static double correction(const problem *p, double s) {
    return is_large(p, s) ? 0 : -1 / p->damping / (p->damping * (double)p->batch + s);
}

/* out += f(K) in. */
static void add_function_of_gram(const problem *p, double (*f)(const problem *p, double s), const double *in,
                                 double *out) {
    for (int64_t k = 0; k < p->batch; k++) {
        const double *row = p->matrix + k * p->batch, factor = f(p, p->spectrum[k]);
        if (factor != 0) add(p->batch, factor * dot(p->batch, row, in), row, out);
    }
}

/* rest = r and w of v = J^T w + r.  The first projection leaves what rounding made of w in the span, up to
 * 2^-53 ||J|| / sigma for a singular value sigma; the second one removes that. */
static psg_status split(const problem *p) {
    memset(p->w, 0, (size_t)p->batch * sizeof(double));
    for (int pass = 0; pass < 2; pass++) {
        psg_status status = multiply(p, &p->rest, p->d);
        if (status) return status;
        memset(p->z, 0, (size_t)p->batch * sizeof(double));
        add_function_of_gram(p, inverse, p->d, p->z);
        add(p->batch, 1, p->z, p->w);
        status = combine(p, p->z, &p->x);
        if (status) return status;
        add(p->size, -1, p->x.data, p->rest.data);
    }
    return PSG_OK;
}

/* x = J^T (damping I + K / B)^-1 w + (damping I + F)^-1 rest. */
static psg_status join(const problem *p) {
    psg_status status = multiply(p, &p->rest, p->d);
    if (status) return status;
    memset(p->z, 0, (size_t)p->batch * sizeof(double));
    add_function_of_gram(p, damped_inverse, p->w, p->z);
    add_function_of_gram(p, correction, p->d, p->z);
    status = combine(p, p->z, &p->x);
    for (int64_t i = 0; i < p->size && !status; i++) p->x.data[i] += p->rest.data[i] / p->damping;
    return status;
}

/* ||(damping I + F)^-1|| <= 1 / damping, so the error is at most the residual, damping x + F x - v, over damping; and
 * so much of what rounding may hide in the residual. */
static psg_status estimate(const problem *p, const psg_tensor *v, double scale, double *error) {
    const double batch = p->batch ? (double)p->batch : 1;
    psg_status status = multiply(p, &p->x, p->d);
    for (int64_t n = 0; n < p->batch; n++) p->d[n] /= batch;
    if (!status) status = combine(p, p->d, &p->rest);
    if (status) return status;
    add(p->size, p->damping, p->x.data, p->rest.data);
    add_v(p, v, -scale, p->rest.data);
    const double residual = norm(p->size, p->rest.data), size = norm(p->size, p->x.data);
    set_v(p, v, scale, p->rest.data);
    const double hidden = unit * (norm(p->size, p->rest.data) + (p->damping + trace(p) / batch) * size);
    *error = relative((residual + hidden) / p->damping, size);
    return PSG_OK;
}

static psg_status solve_given(problem *p, const psg_tensor *v, double *error) {
    double found = 0;
    const double scale = scale_of(p, v);
    if (scale == 0) return psg_fail(p->context, PSG_ERR_NONFINITE, "%s: v holds NaN or Inf", p->function);
    set_v(p, v, scale, p->rest.data);
    psg_status status = pass_on(p, psg_gram_spectrum(p->context, p->gram, p->batch, p->spectrum, p->matrix));
    if (!status) status = split(p);
    if (!status) status = join(p);
    if (!status) status = estimate(p, v, scale, &found);
    return status ? status : write(p, 1 / scale, found, error);
}

/* ---- v is a weighted sum of the gradients ---- */

/* z = (damping I + K / B)^-1 w. */
static psg_status solve_samples(const problem *p, double *error) {
    const double batch = (double)p->batch;
    for (int64_t i = 0; i < p->batch * p->batch; i++) p->matrix[i] = p->gram[i] / batch;
    for (int64_t n = 0; n < p->batch; n++) p->matrix[n * p->batch + n] += p->damping;
    memcpy(p->z, p->w, (size_t)p->batch * sizeof(double));
    if (psg_cholesky_solve(p->context, p->batch, p->matrix, p->z)) return PSG_OK;
    if (error) *error = INFINITY;
    return psg_fail(p->context, PSG_ERR_NUMERIC, "%s: damping I + J J^T / B is not positive definite at damping %g",
                    p->function, p->damping);
}

/* The error is J^T (damping I + K / B)^-1 (w - damping z - K z / B), a matrix of singular values
 * sigma / (damping + sigma^2 / B) <= min(sigma / damping, sqrt(B / damping) / 2); and the rounding of J^T z. */
static double estimate_of_sum(const problem *p) {
    const double batch = (double)p->batch, total = trace(p), size = norm(p->size, p->x.data);
    const double amplification = fmin(sqrt(total) / p->damping, sqrt(batch / p->damping) / 2);
    const double z = norm(p->batch, p->z);
    for (int64_t n = 0; n < p->batch; n++) {
        p->d[n] = p->w[n] - p->damping * p->z[n] - dot(p->batch, p->gram + n * p->batch, p->z) / batch;
    }
    const double hidden = unit * (norm(p->batch, p->w) + (p->damping + total / batch) * z);
    return relative(amplification * (norm(p->batch, p->d) + hidden) + unit * sqrt(total) * z, size);
}

static psg_status solve_sum(problem *p, const double *weights, double *error) {
    for (int64_t n = 0; n < p->batch; n++) {
        p->w[n] = weights ? weights[n] : 1 / (double)p->batch;
        if (isfinite(p->w[n])) continue;
        return psg_fail(p->context, PSG_ERR_NONFINITE, "%s: weights[%lld] is %g, must be finite", p->function,
                        (long long)n, p->w[n]);
    }
    psg_status status = solve_samples(p, error);
    if (!status) status = combine(p, p->z, &p->x);
    return status ? status : write(p, 1, trace(p) > 0 ? estimate_of_sum(p) : 0, error);
}

/* ---- both ---- */

static psg_status run(problem *p, const psg_tensor *v, const double *weights, double *error) {
    psg_double_set set = { p->context, p->gradients, NULL };
    psg_status status = take_memory(p);
    if (!status) status = psg_double_set_open(p->context, p->function, p->gradients, p->count, &set);
    p->gradients = set.gradients;
    if (!status) status = pass_on(p, psg_gram(p->context, p->gradients, p->count, p->gram));
    if (!status) status = v ? solve_given(p, v, error) : solve_sum(p, weights, error);
    psg_double_set_close(&set);
    psg_free(p->context, p->memory);
    return status;
}

psg_status psg_natural_gradient(psg_context *context, const psg_gradient *const *gradients, size_t count,
                                double damping, const psg_tensor *v, const psg_tensor *outs, double *error) {
    PSG_DEFAULT_FLOATS;
    problem p = { .context = context, .function = "psg_natural_gradient", .gradients = gradients, .count = count,
                  .damping = damping, .outs = outs };
    if (!context) return PSG_ERR_ARGUMENT;
    psg_status status = check_arguments(&p);
    if (!status) status = check_samples(&p);
    if (!status) status = check_tensors(&p, "v", v);
    if (!status) status = check_tensors(&p, "outs", outs);
    return status ? status : run(&p, v, NULL, error);
}

psg_status psg_natural_gradient_of_sum(psg_context *context, const psg_gradient *const *gradients, size_t count,
                                       double damping, const double *weights, const psg_tensor *outs, double *error) {
    PSG_DEFAULT_FLOATS;
    problem p = { .context = context, .function = "psg_natural_gradient_of_sum", .gradients = gradients,
                  .count = count, .damping = damping, .outs = outs };
    if (!context) return PSG_ERR_ARGUMENT;
    psg_status status = check_arguments(&p);
    if (!status) status = check_samples(&p);
    if (!status) status = check_tensors(&p, "outs", outs);
    return status ? status : run(&p, NULL, weights, error);
}
