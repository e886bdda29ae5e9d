/* pld_atoms.h: the privacy loss of one release on the grid of multiples of an interval h, as few atoms.
 *
 * Points of the grid are left out where losses are far from the bulk: a distance of L from there is resolved to L over
 * `resolution`.  Any subset of the grid serves: atoms stay on multiples of h. */
#ifndef PSG_ACCOUNTANT_PLD_ATOMS_H
#define PSG_ACCOUNTANT_PLD_ATOMS_H

#include "pld_pair.h"
#include "psg/base.h"

typedef struct psg_atom {
    int64_t index; /* the loss is index * h */
    double mass;
} psg_atom;

typedef struct psg_atoms {
    psg_context *context;
    psg_atom *atom;
    size_t count, capacity;
    int64_t least, most; /* index; of no atoms, 0 and 0 */
    double infinity; /* mass of an infinite loss */
    double slack;    /* by which a loss may be off */
} psg_atoms;

/* Which of the three distributions of a pair. */
typedef enum psg_side {
    PSG_SIDE_UPPER,    /* no smaller: P and Q of every bucket are kept by moving them to both ends (Doroshenko et al.
                          2022, connect the dots) */
    PSG_SIDE_LOWER     /* no larger: outputs are merged so that their loss is that of the grid; merging is processing */
} psg_side;

typedef struct psg_loss_grid {
    double interval;
    double resolution;
    double tail;       /* probability that may be left out above, and given to infinity */
} psg_loss_grid;

/* The range of log(P / Q) between tails of probability `tail` of P, or mirrored of Q. */
void psg_pair_range(const psg_pair *pair, int mirrored, double tail, double *least, double *most);

/* Adds weight times the distribution of the loss of P against Q, or, mirrored, of Q against P.  PSG_ERR_MEMORY. */
psg_status psg_atoms_add(psg_atoms *atoms, const char *function, const psg_pair *pair, const psg_loss_grid *grid,
                         psg_side side, int mirrored, double weight);
void psg_atoms_free(psg_atoms *atoms);

#endif
