#include <math.h>
#include <string.h>

#include "base/reserved.h"
#include "base/shapes.h"
#include "io/csv_reading.h"

static bool is_delimiter(char c) {
    const bool is_letter = (c | 32) >= 'a' && (c | 32) <= 'z', is_digit = c >= '0' && c <= '9';
    return c && (unsigned char)c < 0x80 && !is_letter && !is_digit && !strchr("+-.\"\r\n", c);
}

static bool has_blank_end(const char *text) {
    return *text && (strchr(" \t", *text) || strchr(" \t", text[strlen(text) - 1]));
}

static psg_status check_columns(const psg_source *source, const char *name, const psg_csv_column *list, size_t count) {
    if (count && !list) return psg_fail(source->context, PSG_ERR_ARGUMENT, "%s: %s is NULL", source->function, name);
    for (size_t k = 0; k < count; k++) {
        if (!list[k].category_count || list[k].categories) continue;
        return psg_fail(source->context, PSG_ERR_ARGUMENT, "%s: %s[%zu].categories is NULL", source->function, name, k);
    }
    return PSG_OK;
}

psg_status psg_csv_check_options(const psg_source *source, const psg_csv_options *o) {
    psg_context *context = source->context;
    if (psg_reserved_is_set(o->reserved)) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: psg_csv_options" PSG_RESERVED_TEXT, source->function);
    }
    if (!psg_dtype_is_real(o->dtype)) {
        return psg_fail(context, PSG_ERR_DTYPE, "%s: dtype %s, must be f32 or f64", source->function,
                        psg_dtype_name(o->dtype));
    }
    if (o->delimiter && !is_delimiter(o->delimiter)) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: delimiter 0x%02x can be part of a number, text or line",
                        source->function, (unsigned char)o->delimiter);
    }
    if (o->missing && has_blank_end(o->missing)) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: missing is \"%.60s\", must have no blanks at its ends, which are "
                        "taken off numbers", source->function, o->missing);
    }
    if (o->fill_missing && !isfinite(o->dtype == PSG_F64 ? o->fill : (double)(float)o->fill)) {
        return psg_fail(context, PSG_ERR_NONFINITE, "%s: fill %g, must be finite in %s", source->function, o->fill,
                        psg_dtype_name(o->dtype));
    }
    psg_status status = check_columns(source, "labels", o->labels, o->label_count);
    return status ? status : check_columns(source, "numbers", o->numbers, o->number_count);
}
