/* A gradient set in double, so that all questions about it are answered in double. */
#ifndef PSG_LINALG_DOUBLE_SET_H
#define PSG_LINALG_DOUBLE_SET_H

#include "psg/gradient.h"

typedef struct psg_double_set {
    psg_context *context;
    const psg_gradient *const *gradients;   /* those given where they are f64 already */
    void *memory;                           /* else the copies: of gradients, blocks and their f32 arrays */
} psg_double_set;

/* The gradients, of which a question has checked that they are a set, with every f32 array copied to f64.  Arrays that
 * samples or positions share stay shared.  Returns PSG_OK, PSG_ERR_OVERFLOW or PSG_ERR_MEMORY. */
psg_status psg_double_set_open(psg_context *context, const char *function, const psg_gradient *const *gradients,
                               size_t count, psg_double_set *set);
void psg_double_set_close(psg_double_set *set);

#endif
