/* Integers of files, widened to those of tensors; every value is exact.  count elements, contiguous, of any
 * alignment; the input may be the last part of the output's own memory. */
#ifndef PSG_IO_WIDEN_H
#define PSG_IO_WIDEN_H

#include <stddef.h>

void psg_widen_i8(const void *from, void *to, size_t count);     /* to i32 */
void psg_widen_u8(const void *from, void *to, size_t count);
void psg_widen_i16(const void *from, void *to, size_t count);
void psg_widen_u16(const void *from, void *to, size_t count);
void psg_widen_u32(const void *from, void *to, size_t count);    /* to i64 */

#endif
