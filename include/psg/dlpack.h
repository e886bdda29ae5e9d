/* psg/dlpack.h: the structs of DLPack 1 (https://dmlc.github.io/dlpack), for programs that look into them.
 *
 * They are those of the project's own dlpack/dlpack.h, which is taken in their place where it was included before (1.0
 * or newer); afterwards it cannot be.  psg/io.h has the functions and includes neither. */
#ifndef PSG_DLPACK_H
#define PSG_DLPACK_H

#ifdef DLPACK_DLPACK_H_
#if !defined(DLPACK_MAJOR_VERSION) || DLPACK_MAJOR_VERSION != 1
#error "psg/dlpack.h: the dlpack/dlpack.h that was included before is not of version 1"
#endif
#else
#define DLPACK_DLPACK_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DLPACK_MAJOR_VERSION 1
#define DLPACK_MINOR_VERSION 0

#define DLPACK_FLAG_BITMASK_READ_ONLY ((uint64_t)1)

/* Of what is stored; minor versions add values and flags alone. */
typedef struct DLPackVersion {
    uint32_t major, minor;
} DLPackVersion;

/* kDLCPU alone is read here. */
#ifdef __cplusplus
typedef enum DLDeviceType : int32_t {
#else
typedef enum DLDeviceType {
#endif
    kDLCPU = 1, kDLCUDA = 2, kDLCUDAHost = 3
} DLDeviceType;

typedef struct DLDevice {
    DLDeviceType device_type;
    int32_t device_id;
} DLDevice;

typedef enum DLDataTypeCode { kDLInt = 0, kDLUInt = 1, kDLFloat = 2 } DLDataTypeCode;

/* An element: lanes numbers of so many bits. */
typedef struct DLDataType {
    uint8_t code, bits;
    uint16_t lanes;
} DLDataType;

/* Element (0, ..., 0) is byte_offset behind data. */
typedef struct DLTensor {
    void *data;
    DLDevice device;
    int32_t ndim;
    DLDataType dtype;
    int64_t *shape, *strides;      /* in elements; strides NULL: row-major without gaps */
    uint64_t byte_offset;
} DLTensor;

/* A tensor and the end of its loan: who has it calls the deleter, once (NULL: nothing is to be done). */
typedef struct DLManagedTensorVersioned {
    DLPackVersion version;         /* first, where every version has it */
    void *manager_ctx;             /* the lender's */
    void (*deleter)(struct DLManagedTensorVersioned *self);
    uint64_t flags;
    DLTensor dl_tensor;
} DLManagedTensorVersioned;

#ifdef __cplusplus
}
#endif
#endif
#endif
