/* What the fuzzers share: bytes read as numbers, edits of files, a context whose memory is bounded, and what must hold
 * of every call.  A fuzzer is one LLVMFuzzerTestOneInput, which libFuzzer or driver.c calls. */
#ifndef PSG_TEST_FUZZ_H
#define PSG_TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include <psg/psg.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- bytes: zeros follow the last one ---- */

typedef struct fuzz_bytes {
    const uint8_t *at;
    size_t left;
} fuzz_bytes;

uint8_t fuzz_byte(fuzz_bytes *bytes);
/* One in n; never where the bytes have ended (n > 1). */
int fuzz_one_in(fuzz_bytes *bytes, int n);
/* Both ends included, at most 256 values. */
int64_t fuzz_range(fuzz_bytes *bytes, int64_t low, int64_t high);
int64_t fuzz_pick(fuzz_bytes *bytes, const int64_t *list, size_t count);
#define FUZZ_PICK(bytes, list) fuzz_pick(bytes, list, sizeof(list) / sizeof(list)[0])
/* A number that a call may not expect: NaN, infinities, the ends of the real types, small ones. */
double fuzz_odd(fuzz_bytes *bytes);
/* count values of that real type: multiples of 1/16, odd ones among them where the bytes say so.  Returns whether. */
int fuzz_fill(fuzz_bytes *bytes, psg_dtype dtype, void *values, int64_t count);

/* Up to eight edits of a file of length bytes (capacity in all): bytes set, taken out, doubled, decimal numbers
 * replaced, the end cut.  Returns the new length. */
size_t fuzz_edit(fuzz_bytes *bytes, uint8_t *file, size_t length, size_t capacity);

/* ---- the end of an input that shows a fault ---- */

_Noreturn void fuzz_fail(const char *file, int line, const char *what);
#define FUZZ_CHECK(holds)                                                                                              \
    do {                                                                                                               \
        if (!(holds)) fuzz_fail(__FILE__, __LINE__, #holds);                                                           \
    } while (0)

/* ---- contexts and calls ---- */

/* A context of one thread, for one input.  More than 64 MiB at a time, and from the fails-th allocation on (0: none),
 * there is no memory.  budget: of plans. */
psg_context *fuzz_context(unsigned fails, size_t budget);
/* What was made of it has been freed; checked at the end of the program. */
void fuzz_context_return(psg_context *context);

/* Between these stands a call: it has a known status, and on an error, and only then, a message of its own that begins
 * with a word and a colon. */
void fuzz_before(psg_context *context);
psg_status fuzz_after(psg_context *context, psg_status status);
#define FUZZ_CALL(context, call) (fuzz_before(context), fuzz_after(context, call))

/* ---- files ---- */

/* The path of a name in a folder of this process, in memory where there is such a one; the last eight are valid. */
const char *fuzz_path(const char *name);
void fuzz_write(const char *path, const void *bytes, size_t length);
/* Its first capacity bytes; 0 also where there is no file. */
size_t fuzz_read(const char *path, void *bytes, size_t capacity);

#endif
