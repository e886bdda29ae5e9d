#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "base/file.h"
#include "base/floats.h"
#include "base/reserved.h"
#include "base/shapes.h"
#include "base/utf8.h"
#include "base/writer.h"
#include "io/tensors.h"

/* The names that are wanted beside those that a file holds, both sorted. */
typedef struct join {
    const psg_named **wanted;
    size_t wanted_count, wanted_next;
    const psg_named *held;
    size_t held_count, held_next;
} join;

/* The next name: where it is wanted and where it is held, one of which may be NULL; false after the last. */
static bool next_name(join *j, const psg_named **wanted, const psg_named **held) {
    *wanted = j->wanted_next < j->wanted_count ? j->wanted[j->wanted_next] : NULL;
    *held = j->held_next < j->held_count ? &j->held[j->held_next] : NULL;
    if (*wanted && *held) {
        int order = strcmp((*wanted)->name, (*held)->name);
        if (order < 0) *held = NULL;
        if (order > 0) *wanted = NULL;
    }
    j->wanted_next += *wanted != NULL;
    j->held_next += *held != NULL;
    return *wanted || *held;
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const psg_named *const *)a)->name, (*(const psg_named *const *)b)->name);
}

/* ---- which agree ---- */

static bool agrees(const psg_tensor *held, const psg_tensor *wanted) {
    bool holds = held->dtype == wanted->dtype || (held->dtype == PSG_F32 && wanted->dtype == PSG_F64);
    return holds && psg_shape_equal(held->rank, held->shape, wanted->rank, wanted->shape);
}

static void put_tensor(psg_writer *out, const char *before, const psg_named *named) {
    char shape[PSG_SHAPE_TEXT];
    psg_put(out, "%s%s %s", before, psg_dtype_name(named->tensor.dtype), psg_tensor_text(&named->tensor, shape));
}

/* A line whatever the name is: what the file has in it must not pass for another one. */
static void put_line(psg_writer *out, const psg_named *wanted, const psg_named *held) {
    const size_t begin = out->used;
    psg_put(out, "%s %s:", !held ? "missing" : !wanted ? "extra" : "mismatched", (held ? held : wanted)->name);
    if (wanted) put_tensor(out, " wanted ", wanted);
    if (held) put_tensor(out, wanted ? ", the file has " : " the file has ", held);
    if (begin < out->size) psg_make_line(out->text + begin);
}

/* Fills the report; first: the line of the first that is not loaded. */
static void compare(join j, psg_load_report *report, psg_writer *first) {
    psg_writer text = { report->text, report->text ? report->text_size : 0, 0 };
    const psg_named *wanted, *held;
    psg_put(&text, "%s", "");
    while (next_name(&j, &wanted, &held)) {
        if (wanted && held && agrees(&held->tensor, &wanted->tensor)) {
            report->loaded++;
            continue;
        }
        ++*(!held ? &report->missing : !wanted ? &report->extra : &report->mismatched);
        if (!first->used) put_line(first, wanted, held);
        put_line(&text, wanted, held);
        psg_put(&text, "\n");
    }
    report->text_needed = text.used;
}

/* ---- values ---- */

static void widen_values(const psg_tensor *from, const psg_tensor *to) {
    if (from->rank > 1) {
        for (int64_t i = 0; i < from->shape[0]; i++) {
            psg_tensor inner = psg_tensor_at(from, i), target = psg_tensor_at(to, i);
            widen_values(&inner, &target);
        }
        return;
    }
    const float *values = from->data;
    double *wide = to->data;
    const int64_t count = from->rank ? from->shape[0] : 1, step = from->rank ? to->stride[0] : 0;
    for (int64_t i = 0; i < count; i++) wide[i * step] = (double)values[i];
}

/* from: contiguous, with elements.  Dimensions that lie together are one, so that few rows are left. */
static void widen(psg_tensor from, psg_tensor to) {
    for (int d = to.rank - 1; d > 0; d--) {
        if (psg_tensor_merge(&to, d - 1, d)) psg_tensor_merge(&from, d - 1, d);
    }
    widen_values(&from, &to);
}

static void load(join j) {
    const psg_named *wanted, *held;
    while (next_name(&j, &wanted, &held)) {
        if (!wanted || !held || !agrees(&held->tensor, &wanted->tensor)) continue;
        if (held->tensor.dtype == wanted->tensor.dtype) psg_tensor_copy(&held->tensor, &wanted->tensor);
        else if (psg_tensor_count(&held->tensor)) widen(held->tensor, wanted->tensor);
    }
}

/* ---- the whole ---- */

static psg_status take(const psg_source *source, const psg_tensors *tensors, join j, psg_load_mode mode,
                       psg_load_report *report) {
    char first[256] = "";
    psg_writer line = { first, sizeof first, 0 };
    j.held = tensors->list;
    j.held_count = tensors->count;
    compare(j, report, &line);
    if (mode == PSG_LOAD_PARTIAL || report->loaded == j.wanted_count + report->extra) {
        load(j);
        return PSG_OK;
    }
    const size_t missing = report->missing, extra = report->extra, mismatched = report->mismatched;
    report->loaded = 0;
    return psg_fail_format(source->context, source->function, source->path,
                           "%zu missing, %zu extra, %zu mismatched; the first: %s", missing, extra, mismatched, first);
}

static psg_status check_weight(const psg_source *source, size_t k, const psg_named *weight) {
    psg_context *context = source->context;
    char fault[PSG_FAULT_TEXT];
    if (!weight->name) return psg_fail(context, PSG_ERR_ARGUMENT, "%s: name %zu is NULL", source->function, k);
    if (psg_tensor_is_valid(&weight->tensor)) return PSG_OK;
    return psg_fail(context, PSG_ERR_ARGUMENT, "%s: weight \"%.100s\" is %s", source->function, weight->name,
                    psg_tensor_fault(&weight->tensor, fault));
}

static psg_status sort_weights(const psg_source *source, const psg_named *weights, join *j) {
    psg_status status = PSG_OK;
    for (size_t k = 0; k < j->wanted_count && !status; k++) {
        status = check_weight(source, k, &weights[k]);
        j->wanted[k] = &weights[k];
    }
    if (status) return status;
    qsort(j->wanted, j->wanted_count, sizeof *j->wanted, by_name);
    for (size_t k = 1; k < j->wanted_count; k++) {
        const char *name = j->wanted[k]->name;
        if (strcmp(j->wanted[k - 1]->name, name)) continue;
        return psg_fail(source->context, PSG_ERR_ARGUMENT, "%s: name \"%.100s\" is there twice", source->function,
                        name);
    }
    return PSG_OK;
}

/* tensors NULL: those of the source's file. */
static psg_status read_and_take(const psg_source *source, const psg_tensors *tensors, const join *j, psg_load_mode mode,
                                psg_load_report *report) {
    if (tensors) return take(source, tensors, *j, mode, report);
    psg_tensors *read = NULL;
    psg_status status = psg_tensors_read(source, PSG_FILE_COPY, &read);
    if (!status) status = take(source, read, *j, mode, report);
    psg_tensors_destroy(read);
    return status;
}

/* What the report is where nothing is compared. */
static void empty_report(psg_load_report *report) {
    if (!report) return;
    const psg_load_report given = *report;
    *report = (psg_load_report){ .text = given.text, .text_size = given.text_size };
    memcpy(report->reserved, given.reserved, sizeof report->reserved);
    if (report->text && report->text_size) report->text[0] = 0;
}

psg_status psg_tensors_take(const psg_source *source, const psg_tensors *tensors, const psg_named *weights, size_t count,
                            psg_load_mode mode, psg_load_report *report) {
    psg_context *context = source->context;
    const char *function = source->function;
    psg_load_report own = PSG_LOAD_REPORT_INIT;
    if (!report) report = &own;
    if (psg_reserved_is_set(report->reserved)) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: report" PSG_RESERVED_TEXT, function);
    }
    if (count && !weights) return psg_fail(context, PSG_ERR_ARGUMENT, "%s: weights is NULL", function);
    if (mode != PSG_LOAD_STRICT && mode != PSG_LOAD_PARTIAL) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "%s: mode %d is unknown", function, (int)mode);
    }
    size_t bytes = count < SIZE_MAX / sizeof(void *) ? count * sizeof(void *) : SIZE_MAX;
    join j = { .wanted = psg_alloc(context, bytes), .wanted_count = count };
    if (!j.wanted) return psg_fail_memory(context, function, bytes);
    psg_status status = sort_weights(source, weights, &j);
    if (!status) status = read_and_take(source, tensors, &j, mode, report);
    psg_free(context, j.wanted);
    return status;
}

psg_status psg_weights_load(psg_context *context, const char *path, const psg_named *weights, size_t count,
                            psg_load_mode mode, psg_load_report *report) {
    PSG_DEFAULT_FLOATS;
    empty_report(report);
    if (!context) return PSG_ERR_ARGUMENT;
    const psg_source source = { context, "psg_weights_load", path };
    if (!path) return psg_fail(context, PSG_ERR_ARGUMENT, "%s: path is NULL", source.function);
    return psg_tensors_take(&source, NULL, weights, count, mode, report);
}

psg_status psg_weights_take(psg_context *context, const psg_tensors *tensors, const psg_named *weights, size_t count,
                            psg_load_mode mode, psg_load_report *report) {
    PSG_DEFAULT_FLOATS;
    empty_report(report);
    if (!context) return PSG_ERR_ARGUMENT;
    if (!tensors) return psg_fail(context, PSG_ERR_ARGUMENT, "psg_weights_take: tensors is NULL");
    const psg_source source = { context, "psg_weights_take", tensors->path };
    return psg_tensors_take(&source, tensors, weights, count, mode, report);
}
