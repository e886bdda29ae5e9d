/* What goes through the staging buffer at a time: of `ranks` blocks, the same part of each.  MPI counts in int, and
 * memory stays bounded for any size. */
#ifndef PSG_MPI_PIECES_H
#define PSG_MPI_PIECES_H

#include <stddef.h>

#define PSG_MPI_STAGE ((size_t)4 << 20)   /* bytes */

/* Bytes of each block at a time, a multiple of 8: at least 8, whatever the number of ranks. */
static inline size_t psg_mpi_piece(int ranks) {
    const size_t piece = PSG_MPI_STAGE / (size_t)ranks / 8 * 8;
    return piece ? piece : 8;
}

/* Of a block of `bytes`, what comes from `at` on. */
static inline size_t psg_mpi_part(size_t bytes, size_t at, size_t piece) {
    return bytes - at < piece ? bytes - at : piece;
}

#endif
