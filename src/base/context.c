#include "base/context.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/floats.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/reserved.h"
#include "base/utf8.h"
#include "kernels.h"

/* ---- messages ---- */

psg_status psg_fail_v(psg_context *context, psg_status status, const char *format, va_list arguments) {
    vsnprintf(context->message, sizeof context->message, format, arguments);
    psg_make_line(context->message);
    return status;
}

psg_status psg_fail(psg_context *context, psg_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    psg_fail_v(context, status, format, arguments);
    va_end(arguments);
    return status;
}

psg_status psg_fail_null(psg_context *context, const char *function, const char *argument) {
    if (!context) return PSG_ERR_ARGUMENT;
    return psg_fail(context, PSG_ERR_ARGUMENT, "%s: %s is NULL, must not be", function, argument);
}

psg_status psg_fail_as(psg_context *context, const char *function, psg_status status) {
    char text[sizeof context->message];
    const size_t length = strspn(context->message, "abcdefghijklmnopqrstuvwxyz_0123456789");
    if (!status || strncmp(context->message, "psg_", 4) || context->message[length] != ':') return status;
    memcpy(text, context->message, sizeof text);
    return psg_fail(context, status, "%s%s", function, text + length);
}

psg_status psg_fail_memory(psg_context *context, const char *function, size_t bytes) {
    return psg_fail(context, PSG_ERR_MEMORY, "%s: no memory for %zu bytes", function, bytes);
}

/* ---- creation ---- */

static void *allocate_by_malloc(void *user, size_t bytes) {
    (void)user;
    return malloc(bytes);
}

static void release_by_free(void *user, void *memory, size_t bytes) {
    (void)user;
    (void)bytes;
    free(memory);
}

static void free_context(void *object) {
    psg_context *context = object;
    psg_parallel_stop(context);
    for (unsigned slot = 0; slot < PSG_MAX_THREADS; slot++) psg_free(context, context->workspace[slot]);
    psg_free(context, context->budget_memory);
    psg_free(context, context->scratch);
    psg_arena_release(&context->question);
    psg_free(context, context->panels);
    psg_free(context, context->user_ops);
    psg_fork_mark_remove(&context->process);
    psg_allocator allocator = context->allocator;
    allocator.release(allocator.user, context, sizeof *context);
}

static psg_context *new_context(const psg_context_options *options) {
    psg_allocator allocator = options->allocator;
    if (!allocator.allocate) allocator = (psg_allocator){ allocate_by_malloc, release_by_free, NULL };
    psg_context *context = allocator.allocate(allocator.user, sizeof *context);
    if (!context) return NULL;
    *context = (psg_context){ .allocator = allocator, .live_bytes = sizeof *context, .allocations = 1 };
    context->owner = (psg_owner){ .free = free_context, .object = context };
    context->memory_budget = options->memory_budget;
    context->parallel_for = options->parallel_for;
    context->parallel_user = options->parallel_user;
    context->leave_openblas_alone = options->leave_openblas_alone;
    psg_fork_mark_set(&context->process);
    psg_arena_init(&context->question, context);
    return context;
}

static psg_status take_workspace(psg_context *context) {
    for (unsigned slot = 0; slot < context->threads; slot++) {
        context->workspace[slot] = psg_alloc(context, PSG_WORKSPACE_BYTES);
        if (!context->workspace[slot]) return PSG_ERR_MEMORY;
        memset(context->workspace[slot], 0, PSG_WORKSPACE_BYTES);   /* touched once, here */
    }
    return PSG_OK;
}

static psg_status choose_kernels(psg_context *context, const char *isa) {
    if (!isa) isa = getenv("PSG_ISA");
    for (int real = 0; real < 2; real++) {
        context->kernels[real] = psg_kernels_choose(isa, real);
        if (!context->kernels[real]) return PSG_ERR_ARGUMENT;
    }
    context->isa = context->kernels[0]->isa;
    return PSG_OK;
}

static psg_status choose_gemm(psg_context *context, psg_gemm_engine wanted) {
    static const char *const names[] = { "automatic", "openblas", "kernel" };
    const char *name = getenv("PSG_GEMM");
    if ((unsigned)wanted > PSG_GEMM_KERNEL) return PSG_ERR_ARGUMENT;
    context->gemm = wanted;
    if (wanted != PSG_GEMM_AUTOMATIC || !name) return PSG_OK;
    for (unsigned engine = PSG_GEMM_AUTOMATIC; engine <= PSG_GEMM_KERNEL; engine++) {
        context->gemm = (psg_gemm_engine)engine;
        if (!strcmp(name, names[engine])) return PSG_OK;
    }
    return PSG_ERR_ARGUMENT;
}

psg_status psg_context_create(const psg_context_options *options, psg_context **context) {
    PSG_DEFAULT_FLOATS;
    if (!context) return PSG_ERR_ARGUMENT;
    *context = NULL;
    psg_context_options defaults = PSG_CONTEXT_OPTIONS_INIT;
    if (!options) options = &defaults;
    if (psg_reserved_is_set(options->reserved)) return PSG_ERR_ARGUMENT;
    if (!options->allocator.allocate != !options->allocator.release) return PSG_ERR_ARGUMENT;
    psg_context *made = new_context(options);
    if (!made) return PSG_ERR_MEMORY;
    psg_status status = choose_kernels(made, options->isa);
    if (!status) status = choose_gemm(made, options->gemm);
    if (!status) status = psg_parallel_start(made, options->threads);
    if (!status) status = take_workspace(made);
    if (!status && !psg_products_are_right(made)) status = PSG_ERR_SYSTEM;
    if (status) {
        psg_context_destroy(made);
        return status;
    }
    *context = made;
    return PSG_OK;
}

void psg_context_destroy(psg_context *context) {
    if (context) psg_destroy_handle(&context->owner);
}

/* Memory that only grows: *memory holds at least bytes, or NULL. */
static void *grow(psg_context *context, void **memory, size_t *held, size_t bytes) {
    if (bytes > *held) {
        psg_free(context, *memory);
        *memory = psg_alloc(context, bytes);
        *held = *memory ? bytes : 0;
    }
    return *memory;
}

void *psg_budget_memory(psg_context *context, size_t bytes) {
    if (bytes > context->memory_budget) return NULL;
    return grow(context, &context->budget_memory, &context->budget_bytes, bytes);
}

void *psg_scratch(psg_context *context, size_t bytes) {
    return grow(context, &context->scratch, &context->scratch_bytes, bytes ? bytes : 1);
}

int psg_pass_is_live(const psg_context *context, uint32_t number) {
    const psg_live_pass *pass = context->live_passes;
    while (pass && pass->number != number) pass = pass->next;
    return pass != NULL;
}

void *psg_panel_memory(psg_context *context, size_t bytes) {
    return grow(context, &context->panels, &context->panel_bytes, bytes);
}

/* ---- what a caller may ask ---- */

const char *psg_context_message(const psg_context *context) { return context ? context->message : ""; }
unsigned psg_context_threads(const psg_context *context) { return context ? context->threads : 0; }
const char *psg_context_isa(const psg_context *context) { return context ? context->isa : ""; }
size_t psg_context_live_bytes(const psg_context *context) { return context ? context->live_bytes : 0; }
uint64_t psg_context_allocations(const psg_context *context) { return context ? context->allocations : 0; }

uint64_t psg_context_products(const psg_context *context, psg_gemm_engine engine) {
    if (!context) return 0;
    uint64_t openblas = atomic_load_explicit(&context->products[0], memory_order_relaxed);
    uint64_t kernel = atomic_load_explicit(&context->products[1], memory_order_relaxed);
    return engine == PSG_GEMM_OPENBLAS ? openblas : engine == PSG_GEMM_KERNEL ? kernel : openblas + kernel;
}
