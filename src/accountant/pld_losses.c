#include "pld_losses.h"

#include <math.h>

size_t psg_composition_losses(const psg_composition *composition) {
    return composition->part_count + (composition->squared_mu > 0);
}

/* Of kind k; the last one is the Gaussian. */
static psg_pair pair_of(const psg_composition *c, size_t k) {
    if (k == c->part_count) return psg_pair_of(1 / sqrt(c->squared_mu), 1, 1, 0);
    const psg_mechanism *part = &c->parts[k];
    return psg_pair_of(part->sigma, part->rate, part->group, c->relation == PSG_REPLACE_ONE);
}

/* A truncated release is a mixture, known to all, of its usual pair and one in which records take others' places. */
static psg_status add_kind(const psg_composition *c, const char *function, const psg_loss_setting *s, size_t k,
                           psg_atoms *atoms) {
    const psg_loss_grid grid = { s->interval, s->resolution, s->tail };
    const psg_mechanism *part = k < c->part_count ? &c->parts[k] : NULL;
    psg_pair usual = pair_of(c, k);
    double full = part && part->kind == PSG_MECHANISM_TRUNCATED ? part->full : 0;
    psg_status status = psg_atoms_add(atoms, function, &usual, &grid, s->side, s->mirrored, 1 - full);
    if (status || full == 0) return status;
    psg_pair other = psg_pair_of(part->sigma / 2, part->full_rate, 1, 1);
    return psg_atoms_add(atoms, function, &other, &grid, s->side, s->mirrored, full);
}

psg_status psg_composition_fill(const psg_composition *composition, const char *function,
                                const psg_loss_setting *setting, psg_release_loss *loss) {
    const psg_composition *c = composition;
    const size_t count = psg_composition_losses(c);
    psg_status status = PSG_OK;
    for (size_t k = 0; k < count; k++) loss[k] = (psg_release_loss){ .atoms = { .context = c->context } };
    for (size_t k = 0; !status && k < count; k++) {
        loss[k].releases = k < c->part_count ? (double)c->parts[k].releases : 1;
        status = add_kind(c, function, setting, k, &loss[k].atoms);
    }
    return status;
}

void psg_composition_empty(const psg_composition *composition, psg_release_loss *loss) {
    for (size_t k = 0; k < psg_composition_losses(composition); k++) psg_atoms_free(&loss[k].atoms);
}

double psg_composition_range(const psg_composition *composition, int mirrored, double tail) {
    double widest = 0, least, most;
    for (size_t k = 0; k < psg_composition_losses(composition); k++) {
        psg_pair pair = pair_of(composition, k);
        psg_pair_range(&pair, mirrored, tail, &least, &most);
        if (!isfinite(most - least)) return INFINITY;
        widest = fmax(widest, fmax(most - least, fmax(fabs(most), fabs(least)) / 1024));
    }
    return widest;
}
