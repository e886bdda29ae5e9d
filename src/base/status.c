#include "psg/base.h"

const char *psg_version(void) { return PSG_VERSION_STRING; }

const char *psg_status_name(psg_status status) {
    switch (status) {
    case PSG_OK: return "PSG_OK";
    case PSG_ERR_ARGUMENT: return "PSG_ERR_ARGUMENT";
    case PSG_ERR_SHAPE: return "PSG_ERR_SHAPE";
    case PSG_ERR_DTYPE: return "PSG_ERR_DTYPE";
    case PSG_ERR_BATCH: return "PSG_ERR_BATCH";
    case PSG_ERR_STATE: return "PSG_ERR_STATE";
    case PSG_ERR_MEMORY: return "PSG_ERR_MEMORY";
    case PSG_ERR_OVERFLOW: return "PSG_ERR_OVERFLOW";
    case PSG_ERR_UNSUPPORTED: return "PSG_ERR_UNSUPPORTED";
    case PSG_ERR_NONFINITE: return "PSG_ERR_NONFINITE";
    case PSG_ERR_NUMERIC: return "PSG_ERR_NUMERIC";
    case PSG_ERR_FORKED: return "PSG_ERR_FORKED";
    case PSG_ERR_SYSTEM: return "PSG_ERR_SYSTEM";
    case PSG_ERR_FILE: return "PSG_ERR_FILE";
    case PSG_ERR_FORMAT: return "PSG_ERR_FORMAT";
    case PSG_ERR_BUDGET: return "PSG_ERR_BUDGET";
    }
    return "unknown status";
}

size_t psg_dtype_size(psg_dtype dtype) {
    switch (dtype) {
    case PSG_F32: return 4;
    case PSG_F64: return 8;
    case PSG_I32: return 4;
    case PSG_I64: return 8;
    }
    return 0;
}

const char *psg_dtype_name(psg_dtype dtype) {
    switch (dtype) {
    case PSG_F32: return "f32";
    case PSG_F64: return "f64";
    case PSG_I32: return "i32";
    case PSG_I64: return "i64";
    }
    return "unknown";
}
