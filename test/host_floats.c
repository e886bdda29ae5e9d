#include "host_floats.h"

#include <fenv.h>

/* ---- environments ---- */

typedef struct host_mode {
    const char *name;
    int rounding;
    bool flush, denormals_are_zero, traps;   /* results, operands */
} host_mode;

static const host_mode modes[] = {
    { "to nearest", FE_TONEAREST, false, false, false }, { "downward", FE_DOWNWARD, false, false, false },
    { "upward", FE_UPWARD, false, false, false },        { "toward zero", FE_TOWARDZERO, false, false, false },
    { "FTZ", FE_TONEAREST, true, false, false },         { "DAZ", FE_TONEAREST, false, true, false },
    { "FTZ and DAZ", FE_TONEAREST, true, true, false },  { "traps", FE_TONEAREST, false, false, true },
};
static const host_mode *mode = modes;

/* What belongs to the host: all but the flags of past exceptions. */
static uint64_t controls(void) {
    uint64_t found = (uint64_t)fegetround();
#if defined(__x86_64__)
    unsigned short x87;
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    found |= (uint64_t)x87 << 16 | (uint64_t)(__builtin_ia32_stmxcsr() & ~0x3fu) << 32;
#elif defined(__aarch64__)
    unsigned long control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    found |= (uint64_t)control << 32;
#endif
    return found;
}

static void flush_denormals(bool results, bool operands) {
#if defined(__x86_64__)
    unsigned bits = (results ? 0x8000u : 0) | (operands ? 0x40u : 0);
    __builtin_ia32_ldmxcsr((__builtin_ia32_stmxcsr() & ~0x8040u) | bits);
#elif defined(__aarch64__)
    unsigned long control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    if (results || operands) control |= 1ul << 24;
    __asm__ volatile("msr fpcr, %0" : : "r"(control));
#else
    (void)results;
    (void)operands;
#endif
}

psg_context *host_asked;
static uint64_t expected_controls;

void host_enter(void) {
    fesetround(mode->rounding);
    flush_denormals(mode->flush, mode->denormals_are_zero);
    if (mode->traps) feenableexcept(FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW | FE_UNDERFLOW | FE_INEXACT);
    expected_controls = controls();
}

psg_status host_leave(psg_status status) {
    uint64_t found = controls();
    fesetenv(FE_DFL_ENV);
    if (found != expected_controls) fail_msg("the host's environment was changed: %s", mode->name);
    return status;
}

/* ---- results ---- */

static uint64_t hash;

void host_see(const void *memory, size_t bytes) {
    const unsigned char *byte = memory;
    for (size_t k = 0; k < bytes; k++) hash = (hash ^ byte[k]) * 0x100000001B3u;
}

void host_see_double(double x) { host_see(&x, sizeof x); }
/* ---- every call in every environment ---- */

static void reversed(void *user, size_t count, unsigned slots, psg_task task, void *argument) {
    (void)user;
    for (size_t k = count; k-- > 0;) {
        host_enter();   /* a thread of the host's has its environment too */
        task(argument, k, (unsigned)(k % slots));
        host_leave(PSG_OK);
    }
}

/* The context too is made in the host's environment. */
static psg_context *context_of(unsigned threads, psg_parallel_for loop) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    psg_context *context;
    options.threads = threads;
    options.parallel_for = loop;
    assert_int_equal(HOST(psg_context_create(&options, &context)), PSG_OK);
    return host_asked = context;
}

static void hashes_of(const host_calls *calls, size_t count, unsigned threads, psg_parallel_for loop, uint64_t *found) {
    psg_context *context = context_of(threads, loop);
    for (size_t k = 0; k < count; k++) {
        hash = 0xCBF29CE484222325u;
        if (threads == 1 || calls[k].on_threads) calls[k].made(context);
        found[k] = hash;
    }
    psg_context_destroy(context);
}

static void compare(const host_calls *calls, size_t count, const uint64_t *expected, unsigned threads,
                    psg_parallel_for loop) {
    uint64_t found[HOST_MOST_CALLS];
    hashes_of(calls, count, threads, loop, found);
    for (size_t k = 0; k < count; k++) {
        if (threads > 1 && !calls[k].on_threads) continue;
        if (found[k] != expected[k]) fail_msg("%s: other bits %s, %u threads", calls[k].name, mode->name, threads);
    }
}

void host_same_bits_in_every_environment(const host_calls *calls, size_t count) {
    static const unsigned threads[] = { 1, 2, 5 };
    uint64_t expected[HOST_MOST_CALLS];
    mode = &modes[0];
    hashes_of(calls, count, 1, NULL, expected);
    for (size_t m = 0; m < sizeof modes / sizeof modes[0]; m++) {
        mode = &modes[m];
        for (int t = 0; t < 3; t++) compare(calls, count, expected, threads[t], NULL);
    }
    mode = &modes[0];
}

void host_same_bits_in_its_own_loop(const host_calls *calls, size_t count) {
    uint64_t expected[HOST_MOST_CALLS];
    mode = &modes[0];
    hashes_of(calls, count, 1, NULL, expected);
    for (size_t m = 1; m < sizeof modes / sizeof modes[0]; m += 2) {
        mode = &modes[m];
        compare(calls, count, expected, 4, reversed);
    }
    mode = &modes[0];
}
