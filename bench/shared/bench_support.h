/* What both programs use. */
#ifndef BENCH_SUPPORT_H
#define BENCH_SUPPORT_H

#include <stddef.h>

#include <psg/base.h>

#define TRY(call) do { psg_status try_status = (call); if (try_status != PSG_OK) return try_status; } while (0)

/* Seconds of a clock that only runs forward. */
double now_seconds(void);

/* Ends the program with a message on standard error. */
_Noreturn void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Zeroed memory, 64-byte aligned and touched, for free(); ends the program when there is none. */
void *bench_alloc(size_t bytes);

/* A bound to two digits, rounded up: it stays one. */
double bound_shown(double bound);

/* The median; sorts the values. */
double bench_median(double *values, size_t count);

#endif
