/* A small image within a page. */
#ifndef BENCH_PNG_H
#define BENCH_PNG_H

#include <stdint.h>
#include <stdio.h>

/* "data:image/png;base64,..." of height x width bytes of grey, 0 black; at most 256 x 256. */
void png_put_grey(FILE *out, const uint8_t *pixels, unsigned width, unsigned height);

#endif
