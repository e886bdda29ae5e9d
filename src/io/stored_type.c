#include "io/stored_type.h"

#include <string.h>

#include "io/half.h"
#include "io/widen.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers of files are little-endian and read as they are");

/* Those that are written stand first, in the order of the format. */
static const psg_stored_type types[] = {
    { "I64", 8, PSG_I64, NULL },           { "F64", 8, PSG_F64, NULL },           { "F32", 4, PSG_F32, NULL },
    { "I32", 4, PSG_I32, NULL },           { "BF16", 2, PSG_F32, psg_widen_bf16 }, { "F16", 2, PSG_F32, psg_widen_f16 },
    { "U32", 4, PSG_I64, psg_widen_u32 },  { "I16", 2, PSG_I32, psg_widen_i16 },  { "U16", 2, PSG_I32, psg_widen_u16 },
    { "I8", 1, PSG_I32, psg_widen_i8 },    { "U8", 1, PSG_I32, psg_widen_u8 },    { "BOOL", 1, PSG_I32, psg_widen_u8 },
};
enum { TYPES = sizeof types / sizeof types[0], BOOL = TYPES - 1 };

static const char *const others[] = { "F4", "F6_E2M3", "F6_E3M2", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ",
                                      "F8_E5M2FNUZ", "C64", "U64" };

const psg_stored_type *psg_stored_type_find(const char *name) {
    for (size_t k = 0; k < TYPES; k++) {
        if (!strcmp(types[k].name, name)) return &types[k];
    }
    return NULL;
}

bool psg_stored_type_is_bool(const psg_stored_type *type) { return type == &types[BOOL]; }

bool psg_stored_type_exists(const char *name) {
    for (size_t k = 0; k < sizeof others / sizeof others[0]; k++) {
        if (!strcmp(others[k], name)) return true;
    }
    return psg_stored_type_find(name) != NULL;
}

const psg_stored_type *psg_stored_type_of(psg_dtype dtype, int *place) {
    *place = 0;
    while (types[*place].dtype != dtype) ++*place;
    return &types[*place];
}
