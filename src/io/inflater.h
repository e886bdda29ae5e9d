/* zlib's streams. */
#ifndef PSG_IO_INFLATER_H
#define PSG_IO_INFLATER_H

#include <zlib.h>

#include "psg/base.h"

/* A stream that takes its memory from the context, for inflateInit2. */
z_stream psg_inflater_of(psg_context *context);

#endif
