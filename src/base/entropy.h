#ifndef PSG_BASE_ENTROPY_H
#define PSG_BASE_ENTROPY_H

#include "psg/base.h"

/* count <= 256 random bytes of the system, with libsodium started; PSG_ERR_SYSTEM, named by function, without them.
 * The system is asked first: sodium_init would end the process where there is no entropy. */
psg_status psg_entropy(psg_context *context, const char *function, void *bytes, size_t count);

#endif
