/* psg/tensor.h: a view of an array: pointer, type, shape, strides.
 *
 * Strides count elements and may be zero or negative; data points at element (0, ..., 0).  A view owns nothing. */
#ifndef PSG_TENSOR_H
#define PSG_TENSOR_H

#include "psg/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Dimensions that a view can have. */
#define PSG_MAX_RANK 8

/* One number for every spatial dimension of an option: psg_conv_options options = { .padding = PSG_ALL(1) }; */
#define PSG_ALL(n) { (n), (n), (n) }

/* A view: it owns nothing. */
typedef struct psg_tensor {
    void *data;
    psg_dtype dtype;
    int rank;                      /* 0: a scalar */
    int64_t shape[PSG_MAX_RANK];
    int64_t stride[PSG_MAX_RANK];  /* in elements */
} psg_tensor;

/* A tensor with a name, as files hold it. */
typedef struct psg_named {
    const char *name;
    psg_tensor tensor;
} psg_named;

/* A contiguous row-major view of data.  A rank outside [0, PSG_MAX_RANK], or no shape for one above 0, gives a view of
 * rank -1, which every function refuses. */
PSG_API psg_tensor psg_tensor_of(psg_dtype dtype, void *data, int rank, const int64_t *shape);

/* The same with strides of the caller's. */
PSG_API psg_tensor psg_tensor_strided(psg_dtype dtype, void *data, int rank, const int64_t *shape,
                                      const int64_t *stride);

/* The number of elements; 0 when a dimension is 0, -1 when the dimensions that are not 0 make more than 63 bits count
 * or the view is not valid. */
PSG_API int64_t psg_tensor_count(const psg_tensor *tensor);

/* Whether the elements lie in row-major order without gaps. */
PSG_API int psg_tensor_is_contiguous(const psg_tensor *tensor);

/* psg_tensor_of for data that is read: a view of it given as an output is written to all the same. */
PSG_API psg_tensor psg_tensor_const(psg_dtype dtype, const void *data, int rank, const int64_t *shape);

/* Short forms for what a program writes most: contiguous views of rank 1 to 4, of integers 1 and 2.  data is const for
 * the sake of inputs; a view given as an output is written to. */
PSG_API psg_tensor psg_f32_1d(const float *data, int64_t d0);
PSG_API psg_tensor psg_f32_2d(const float *data, int64_t d0, int64_t d1);
PSG_API psg_tensor psg_f32_3d(const float *data, int64_t d0, int64_t d1, int64_t d2);
PSG_API psg_tensor psg_f32_4d(const float *data, int64_t d0, int64_t d1, int64_t d2, int64_t d3);
PSG_API psg_tensor psg_f64_1d(const double *data, int64_t d0);
PSG_API psg_tensor psg_f64_2d(const double *data, int64_t d0, int64_t d1);
PSG_API psg_tensor psg_f64_3d(const double *data, int64_t d0, int64_t d1, int64_t d2);
PSG_API psg_tensor psg_f64_4d(const double *data, int64_t d0, int64_t d1, int64_t d2, int64_t d3);
PSG_API psg_tensor psg_i32_1d(const int32_t *data, int64_t d0);
PSG_API psg_tensor psg_i32_2d(const int32_t *data, int64_t d0, int64_t d1);
PSG_API psg_tensor psg_i64_1d(const int64_t *data, int64_t d0);
PSG_API psg_tensor psg_i64_2d(const int64_t *data, int64_t d0, int64_t d1);

#ifdef __cplusplus
}
#endif
#endif
