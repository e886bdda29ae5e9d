/* The end of public structs that programs fill (psg/base.h, "Structs that grow"): words that are 0 as long as nobody
 * has given them a meaning. */
#ifndef PSG_BASE_RESERVED_H
#define PSG_BASE_RESERVED_H

#include <stdbool.h>
#include <stdint.h>

#define PSG_RESERVED_WORDS 4

/* Ends a message that begins with "function: struct's name". */
#define PSG_RESERVED_TEXT ".reserved is not 0: the struct was not cleared, or has a field of a newer version than this"

static inline bool psg_reserved_is_set(const uint64_t reserved[PSG_RESERVED_WORDS]) {
    return reserved[0] | reserved[1] | reserved[2] | reserved[3];
}

#endif
