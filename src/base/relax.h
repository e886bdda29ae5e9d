/* What a thread says to its processor while it spins. */
#ifndef PSG_BASE_RELAX_H
#define PSG_BASE_RELAX_H

static inline void psg_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__ARM_ARCH) && __ARM_ARCH >= 7)
    __asm__ volatile("yield");
#endif
}

#endif
