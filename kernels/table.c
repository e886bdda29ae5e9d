#include <string.h>

#include "kernels.h"

#define PASTE_(name, suffix) psg_kernel_##name##_##suffix
#define PASTE(name, suffix) PASTE_(name, suffix)

/* ---- prototypes and tables, one pair an instruction set that was compiled (the Makefile's ISAS) ---- */

#ifdef PSG_HAS_baseline
#define SUFFIX f32_baseline
#define ISA_NAME "baseline"
#include "table_entry.h"
#define SUFFIX f64_baseline
#define ISA_NAME "baseline"
#include "table_entry.h"
#endif
#ifdef PSG_HAS_avx2
#define SUFFIX f32_avx2
#define ISA_NAME "avx2"
#include "table_entry.h"
#define SUFFIX f64_avx2
#define ISA_NAME "avx2"
#include "table_entry.h"
#endif
#ifdef PSG_HAS_avx512
#define SUFFIX f32_avx512
#define ISA_NAME "avx512"
#include "table_entry.h"
#define SUFFIX f64_avx512
#define ISA_NAME "avx512"
#include "table_entry.h"
#endif

typedef struct choice {
    const psg_kernel_table *table[2];
    bool (*runs_here)(void);
} choice;

#ifdef PSG_HAS_baseline
static bool always(void) { return true; }
#endif

#if defined(PSG_HAS_avx2) || defined(PSG_HAS_avx512)
static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif

#ifdef PSG_HAS_avx512
static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
}
#endif

/* Best first. */
static const choice choices[] = {
#ifdef PSG_HAS_avx512
    { { &PASTE(table, f32_avx512), &PASTE(table, f64_avx512) }, has_avx512 },
#endif
#ifdef PSG_HAS_avx2
    { { &PASTE(table, f32_avx2), &PASTE(table, f64_avx2) }, has_avx2 },
#endif
#ifdef PSG_HAS_baseline
    { { &PASTE(table, f32_baseline), &PASTE(table, f64_baseline) }, always },
#endif
};

const psg_kernel_table *psg_kernels_choose(const char *isa, int real) {
    for (size_t k = 0; k < sizeof choices / sizeof choices[0]; k++) {
        const psg_kernel_table *table = choices[k].table[real];
        if (isa && strcmp(isa, table->isa)) continue;
        if (choices[k].runs_here()) return table;
    }
    return NULL;
}
