#include "io/npy_type.h"

#include <string.h>

#include "io/half.h"
#include "io/widen.h"

/* Those that are written stand first. */
static const psg_stored_type types[] = {
    { "<f4", 4, PSG_F32, NULL },         { "<f8", 8, PSG_F64, NULL },          { "<i4", 4, PSG_I32, NULL },
    { "<i8", 8, PSG_I64, NULL },         { "<f2", 2, PSG_F32, psg_widen_f16 }, { "|b1", 1, PSG_I32, psg_widen_u8 },
    { "|i1", 1, PSG_I32, psg_widen_i8 }, { "|u1", 1, PSG_I32, psg_widen_u8 },  { "<i2", 2, PSG_I32, psg_widen_i16 },
    { "<u2", 2, PSG_I32, psg_widen_u16 }, { "<u4", 4, PSG_I64, psg_widen_u32 },
};
enum { TYPES = sizeof types / sizeof types[0], BOOL = 5 };

/* By the letter of its kind. */
static const struct kind {
    char letter;
    const char *what;
} kinds[] = {
    { 'O', "Python objects are never read" },      { 'S', "byte strings are no numbers" },
    { 'a', "byte strings are no numbers" },        { 'U', "texts are no numbers" },
    { 'T', "texts are no numbers" },               { 'V', "raw or structured records are no numbers" },
    { 'M', "dates are not read" },                 { 'm', "spans of time are not read" },
    { 'c', "complex numbers are not read" },       { 'u', "of unsigned integers u1, u2 and u4 are read" },
    { 'i', "of integers i1, i2, i4 and i8 are read" }, { 'f', "of reals f2, f4 and f8 are read" },
    { 'b', "of truth values b1 is read" },
};

/* One byte has no order, which numpy writes as '|'. */
static const psg_stored_type *find(char order, const char *kind) {
    for (size_t k = 0; k < TYPES; k++) {
        if (!strcmp(types[k].name + 1, kind) && (order == '<' || order == types[k].name[0])) return &types[k];
    }
    return NULL;
}

static const char *reason(const char *descr) {
    if (!strchr("<|>=", descr[0]) || !descr[0]) return "it does not begin with '<' or '|'";
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        if (kinds[k].letter != descr[1]) continue;
        if (find('<', descr + 1)) break;
        return kinds[k].what;
    }
    if (descr[0] == '=') return "'=' is the order of a machine that the file does not name";
    if (descr[0] == '>') return "big-endian numbers are not read";
    return find('<', descr + 1) ? "numbers of more than one byte begin with '<'" : "it is none of numpy's";
}

const psg_stored_type *psg_npy_type_find(const char *descr, const char **why) {
    const bool has_order = descr[0] == '<' || descr[0] == '|';
    const psg_stored_type *type = has_order ? find(descr[0], descr + 1) : NULL;
    if (!type) *why = reason(descr);
    return type;
}

const psg_stored_type *psg_npy_type_of(psg_dtype dtype) {
    size_t k = 0;
    while (types[k].dtype != dtype) k++;
    return &types[k];
}

bool psg_npy_type_is_bool(const psg_stored_type *type) { return type == &types[BOOL]; }
