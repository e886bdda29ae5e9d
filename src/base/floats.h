/* The floating-point environment: rounding, denormals, traps.  It belongs to each thread, and the host may have set its
 * own in the one that calls.  What the library computes is defined in the default environment, in every thread. */
#ifndef PSG_BASE_FLOATS_H
#define PSG_BASE_FLOATS_H

#include <fenv.h>
#include <stdbool.h>

/* The host's, where it is not the default. */
typedef struct psg_floats {
    bool differ;
    fenv_t host;
} psg_floats;

/* First in every public function that computes, and around what runs in threads of the host's: the default environment
 * until the end of the scope, then the host's again.  Where the host's is the default, two registers are read (25 ns on
 * a Zen 4, nearly all of them for MXCSR: once a call, not once a loop). */
#define PSG_DEFAULT_FLOATS                                                                                             \
    __attribute__((cleanup(psg_floats_restore), unused)) psg_floats psg_floats_of_host = psg_floats_take()

void psg_floats_save(psg_floats *floats);   /* and set the default */
void psg_floats_set(const fenv_t *environment);

/* Flags of past exceptions do not count. */
static inline bool psg_floats_are_default(void) {
#if defined(__x86_64__)
    enum { MXCSR_FLAGS = 0x3f, MXCSR_DEFAULT = 0x1f80, X87_DEFAULT = 0x37f };
    unsigned short x87;
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    return (__builtin_ia32_stmxcsr() & ~(unsigned)MXCSR_FLAGS) == MXCSR_DEFAULT && x87 == X87_DEFAULT;
#elif defined(__aarch64__)
    unsigned long control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    return control == 0;
#else
    return false;
#endif
}

static inline psg_floats psg_floats_take(void) {
    psg_floats floats;
    floats.differ = !psg_floats_are_default();
    if (floats.differ) psg_floats_save(&floats);
    return floats;
}

static inline void psg_floats_restore(const psg_floats *floats) {
    if (floats->differ) psg_floats_set(&floats->host);
}

#endif
