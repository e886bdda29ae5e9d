/* Inner products between samples of sparse rows: every sample's rows once, in ascending order, then a merge a pair. */
#include "base/parallel.h"
#include "gradient/sparse_rows.h"

typedef struct job {
    psg_context *context;
    const psg_gradient *gradient;
    int64_t positions, width;
    int64_t *counts, *ids;     /* B; B x T */
    void *rows;                /* B x T x D reals */
    double *gram;
} job;

bool psg_sparse_gram_applies(const psg_gradient *gradient) {
    return psg_is_row_sparse(gradient) && psg_gradient_positions(gradient) <= PSG_SORTED_MOST;
}

static size_t id_bytes(const psg_gradient *gradient) {
    size_t batch = (size_t)gradient->batch_size;
    return (batch + batch * (size_t)psg_gradient_positions(gradient)) * sizeof(int64_t);
}

size_t psg_sparse_gram_bytes(const psg_gradient *gradient) {
    size_t rows = (size_t)gradient->batch_size * (size_t)psg_gradient_positions(gradient);
    return id_bytes(gradient) + rows * (size_t)psg_sparse_width(gradient) * psg_dtype_size(gradient->dtype);
}

static void *rows_of(const job *j, int64_t n) {
    return psg_elements_mutable(j->rows, j->gradient->dtype, n * j->positions * j->width);
}

static void run_collect(void *argument, size_t n, unsigned slot) {
    const job *j = argument;
    void *workspace = j->context->workspace[slot];
    j->counts[n] = psg_collect_rows(j->context, j->gradient, (int64_t)n, 1.0, j->ids + (int64_t)n * j->positions,
                                    rows_of(j, (int64_t)n), workspace, workspace);
}

static double pair(const job *j, int64_t n, int64_t m) {
    const int64_t *left = j->ids + n * j->positions, *right = j->ids + m * j->positions;
    const psg_kernel_table *kernels = j->context->kernels[j->gradient->dtype];
    double sum = 0;
    for (int64_t i = 0, k = 0; i < j->counts[n] && k < j->counts[m];) {
        if (left[i] == right[k]) {
            sum += kernels->dot((size_t)j->width, psg_elements(rows_of(j, n), j->gradient->dtype, i * j->width),
                                psg_elements(rows_of(j, m), j->gradient->dtype, k * j->width));
        }
        int64_t a = left[i], b = right[k];
        i += a <= b;
        k += b <= a;
    }
    return sum;
}

static void run_pairs(void *argument, size_t n, unsigned slot) {
    (void)slot;
    const job *j = argument;
    for (int64_t m = 0; m <= (int64_t)n; m++) {
        j->gram[(int64_t)n * j->gradient->batch_size + m] += pair(j, (int64_t)n, m);
    }
}

void psg_add_sparse_gram(psg_context *context, const psg_gradient *gradient, void *memory, double *gram) {
    job j = { .context = context, .gradient = gradient, .positions = psg_gradient_positions(gradient),
              .width = psg_sparse_width(gradient), .counts = memory, .gram = gram };
    j.ids = j.counts + gradient->batch_size;
    j.rows = (char *)memory + id_bytes(gradient);
    psg_parallel(context, (size_t)gradient->batch_size, run_collect, &j);
    psg_parallel(context, (size_t)gradient->batch_size, run_pairs, &j);
}
