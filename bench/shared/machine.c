#include "machine.h"

#include <stdio.h>
#include <string.h>

/* Weak: another BLAS behind the same soname may lack it. */
extern char *openblas_get_corename(void) __attribute__((weak));

void machine_processor(char *name, size_t size) {
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(name, size, "unknown");
    while (file && fgets(line, sizeof line, file)) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !value) continue;
        value[strcspn(value, "\n\"\\")] = 0;
        snprintf(name, size, "%s", value + 2);
        break;
    }
    if (file) fclose(file);
}

const char *machine_openblas_core(void) { return openblas_get_corename ? openblas_get_corename() : "unknown"; }
