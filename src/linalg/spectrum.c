#include <math.h>
#include <string.h>

#include "base/context.h"
#include "base/floats.h"
#include "base/memory.h"
#include "blas/lapack.h"
#include "psg/linalg.h"

/* LAPACK gives ascending values; the caller gets descending ones. */
static void reverse(int64_t n, const double *vectors, const double *ascending, double *values, double *rows) {
    for (int64_t k = 0; k < n; k++) {
        int64_t from = n - 1 - k;
        values[k] = ascending[from] > 0 ? ascending[from] : 0;
        if (rows) memcpy(rows + k * n, vectors + from * n, (size_t)n * sizeof(double));
    }
}

psg_status psg_gram_spectrum(psg_context *context, const double *gram, int64_t batch_size, double *eigenvalues,
                             double *eigenvectors) {
    PSG_DEFAULT_FLOATS;
    if (!context) return PSG_ERR_ARGUMENT;
    if (batch_size < 0 || batch_size > INT32_MAX || !gram || !eigenvalues) {
        return psg_fail(context, PSG_ERR_ARGUMENT,
                        "psg_gram_spectrum: batch_size is %lld, must be in [0, 2^31); gram and eigenvalues must not be "
                        "NULL", (long long)batch_size);
    }
    for (int64_t i = 0; i < batch_size * batch_size; i++) {
        if (isfinite(gram[i])) continue;
        return psg_fail(context, PSG_ERR_NONFINITE, "psg_gram_spectrum: gram[%lld][%lld] is %g, must be finite",
                        (long long)(i / batch_size), (long long)(i % batch_size), gram[i]);
    }
    size_t n = (size_t)batch_size, bytes = (n * n + n) * sizeof(double);
    double *work = psg_alloc(context, bytes);
    if (!work) return psg_fail_memory(context, "psg_gram_spectrum", bytes);
    memcpy(work, gram, n * n * sizeof(double));
    psg_status status = psg_symmetric_eigen(context, "psg_gram_spectrum", batch_size, work, work + n * n,
                                            eigenvectors != NULL);
    if (!status) reverse(batch_size, work, work + n * n, eigenvalues, eigenvectors);
    psg_free(context, work);
    return status;
}

/* Scaled by a power of two, so that squares neither overflow nor vanish. */
double psg_effective_rank(const double *eigenvalues, int64_t batch_size) {
    PSG_DEFAULT_FLOATS;
    double largest = 0, sum = 0, squares = 0;
    for (int64_t k = 0; k < batch_size; k++) {
        if (!eigenvalues || !isfinite(eigenvalues[k])) return NAN;
        largest = fmax(largest, fabs(eigenvalues[k]));
    }
    int exponent;
    frexp(largest, &exponent);
    for (int64_t k = 0; k < batch_size; k++) {
        double scaled = ldexp(eigenvalues[k], -exponent);
        sum += scaled;
        squares += scaled * scaled;
    }
    return squares > 0 ? sum * sum / squares : 0;
}
