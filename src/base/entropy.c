#include "base/entropy.h"

#include <sodium.h>
#include <unistd.h>

#include "base/context.h"

psg_status psg_entropy(psg_context *context, const char *function, void *bytes, size_t count) {
    if (getentropy(bytes, count)) return psg_fail(context, PSG_ERR_SYSTEM, "%s: the system gives no entropy", function);
    if (sodium_init() < 0) return psg_fail(context, PSG_ERR_SYSTEM, "%s: libsodium does not start", function);
    return PSG_OK;
}
