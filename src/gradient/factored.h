/* What the files of the factored room share. */
#ifndef PSG_GRADIENT_FACTORED_H
#define PSG_GRADIENT_FACTORED_H

#include "gradient/room.h"
#include "kernels.h"

/* Positions of one call of the product kernel. */
#define PSG_LONGEST ((int64_t)PSG_PRODUCT_MAX_K)

static inline psg_rectangle psg_whole(const psg_part *part) {
    return (psg_rectangle){ 0, part->place.rows, 0, part->place.columns };
}
/* The product kernel's arguments, which point into the piece, for positions [t, t + count); all but the finish. */
psg_product psg_product_of(const psg_piece *piece, int64_t n, const psg_rectangle *at, int64_t t, int64_t count);

/* Sample n's live positions: those of its piece, or of several pieces copied together where they are few. */
typedef struct psg_sample {
    const psg_piece *one;       /* is_whole: of all live positions */
    psg_piece copy;
    psg_rectangle at;           /* within it, as n */
    bool is_copied, is_whole;
    int64_t n, live;
} psg_sample;
/* Whether a sample of several pieces is copied, and so summed in one chain: alike in its norm and in sums. */
bool psg_is_copied(const psg_part *part, int64_t live);
/* Whether OpenBLAS takes an operand's rows of a sample where they are. */
bool psg_suits_blas(const psg_operand_view *x, int64_t positions);
/* The row stride of an operand that suits it: of one position, any that BLAS accepts. */
static inline int64_t psg_row_stride(const psg_operand_view *x) { return psg_most(x->position, x->columns); }
/* A rectangle of sample n; at `copy` are PSG_SMALL_BYTES. */
void psg_take_sample(psg_sample *s, const psg_part *part, int64_t n, const psg_rectangle *at, void *copy);
/* One live position, whose products are formed in double wherever they are summed. */
static inline bool psg_is_single(const psg_part *part, int64_t live) {
    return live == 1 && !part->pieces[0].has_windows;
}
/* The piece that has sample n's one live position, its first. */
const psg_piece *psg_single_live_piece(const psg_part *part, int64_t n);
/* lengths.c: at least sum_t |g_t| |a_t|; quick: |G| |A| in Frobenius norms, equal when all positions are alike. */
double psg_product_lengths(const psg_part *part, int64_t n, bool quick);
/* factored_norm.c: a sample's route; whether a clipped sum would keep its gradient; whether it has the memory to. */
psg_route psg_factored_route(const psg_part *part, int64_t live);
bool psg_factored_may_keep(const psg_part *part, int64_t live);
bool psg_factored_keeps(const psg_part *part, int64_t live);
psg_estimate psg_factored_square(const psg_part *part, int64_t n, void *workspace);
/* image_gram.c: the Gram route of windows: whether a sample may take it; its cost in factored_norm.c's operations; the
 * most terms behind an element of the windows' Gram; the sums of gram_combine. */
bool psg_image_gram_applies(const psg_part *part, int64_t live);
double psg_image_gram_cost(const psg_part *part, int64_t live);
double psg_image_gram_terms(const psg_unfolding *window);
void psg_image_gram_sums(const psg_part *part, int64_t n, int64_t live, const psg_raise *raise, double out[4],
                         void *workspace);
/* The square of sample n's unscaled gradient from its Grams; at most what it is off by; at least sum_t |g_t| |a_t|, and
 * at least each |a_t|, in the small memory. */
typedef struct psg_gram_square {
    double square, error, lengths;
    const double *norms;
} psg_gram_square;
psg_gram_square psg_gram_square_of(const psg_part *part, int64_t n, void *workspace);
/* Whether Grams of that many positions are to be had, and with so many operations more cost less than tiles. */
bool psg_gram_pays(const psg_part *part, int64_t live, double more);
/* gamma of what a sum of `terms` terms in Grams of that many rows rounds. */
double psg_gram_gamma(const psg_part *part, int64_t rows, int64_t terms);
/* Memory for a block of rows of a Gram and as many spare elements: half a tile each. */
#define PSG_GRAM_BYTES (PSG_TILE_BYTES / 2)
/* factored_sum.c */
psg_grid psg_factored_grid(const psg_part *part);
void psg_factored_sum(const psg_sink *to);

#endif
