/* One product y (m x n) = x (m x k) w^T: the forward pass of psg_linear without a bias. */
#ifndef BENCH_PRODUCT_CASE_H
#define BENCH_PRODUCT_CASE_H

#include "case.h"

/* A case of it, context and real type given. */
psg_status product_prepare(bench_case *c, int64_t m, int64_t n, int64_t k);

/* GF/s of 4096 x 768 x 768 on the library's own kernel, the best of several runs. */
psg_status product_kernel_gflops(unsigned threads, psg_dtype dtype, double *gflops);

#endif
