/* First values of parameters. */
#ifndef PSG_TAPE_INITIAL_H
#define PSG_TAPE_INITIAL_H

#include "psg/params.h"

/* NULL, or what is wrong with it. */
const char *psg_init_defect(const psg_init *init);

/* Draws all elements of a parameter's contiguous value: a function of seed and name alone. */
void psg_init_draw(const psg_init *init, uint64_t seed, const char *name, const psg_tensor *value);

#endif
