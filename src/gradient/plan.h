/* The planner: which route answers a question, by a cost in units of one multiply-add of a large matrix product.
 * Costs depend on shapes, real type and budget alone. */
#ifndef PSG_GRADIENT_PLAN_H
#define PSG_GRADIENT_PLAN_H

#include "gradient/block.h"

typedef enum psg_route {
    PSG_ROUTE_NONE = 0,
    PSG_ROUTE_IDENTITY,   /* T = 1: |g|^2 |a|^2; one weighted product for sums */
    PSG_ROUTE_GRAM,       /* <A A^T, G G^T> */
    PSG_ROUTE_TILES,      /* tiles of the gradient, used and discarded: any form, any number of blocks */
    PSG_ROUTE_ROWS,       /* vectors are read as they are */
    PSG_ROUTE_STACKED,    /* one product over samples and positions together */
    PSG_ROUTE_PROJECT,    /* (G V) . A */
    PSG_ROUTE_KEEP,       /* clipped_sum: B x P gradients kept between norms and sum */
    PSG_ROUTE_RECOMPUTE,  /* clipped_sum: norms first, then a weighted sum from the blocks */
    PSG_ROUTE_MATERIALISE, /* grad_sample */
    PSG_ROUTE_SORTED,     /* sparse rows: a sample's ids sorted, duplicates summed */
    PSG_ROUTE_SCATTER,    /* sparse rows: added where their ids say */
    PSG_ROUTE_GATHER,     /* sparse rows: against the rows that their ids name */
    PSG_ROUTE_MERGE,      /* sparse rows: a merge of two samples' rows a pair */
    PSG_ROUTE_SAMPLES     /* unfolded: a product a sample */
} psg_route;

const char *psg_route_name(psg_route route);

/* The route of a gradient for the norm: identity, gram, tiles or rows. */
psg_route psg_plan_sqnorm(const psg_context *context, const psg_gradient *gradient);
/* stacked (single factored blocks), rows or tiles (anything mixed). */
psg_route psg_plan_sum(const psg_gradient *gradient);
/* identity and project need one factored block; else rows or tiles. */
psg_route psg_plan_dot(const psg_context *context, const psg_gradient *gradient);
/* identity (one position), merge (sparse rows alone) or tiles. */
psg_route psg_plan_gram(const psg_context *context, const psg_gradient *gradient);
/* keep or recompute, given what is left of the budget. */
psg_route psg_plan_clip(const psg_context *context, const psg_gradient *gradient, size_t budget_left);
/* Bytes of the budget that keep holds, whole cache lines. */
size_t psg_keep_bytes(const psg_gradient *gradient);

/* The bias (rows) that shares the backprop of a weight's single factored block: its index in the set, or count. */
size_t psg_plan_partner(const psg_gradient *const *gradients, size_t count, size_t k);
/* Whether gradient k is answered together with a weight, as its partner. */
bool psg_plan_is_partner(const psg_gradient *const *gradients, size_t count, size_t k);

#endif
