/* What every form answers: one table a form, all the questions see of it.  A part is what a room works on: the pieces
 * of one gradient that fill one place, positions in the order of the blocks; no other part touches its elements. */
#ifndef PSG_GRADIENT_ROOM_H
#define PSG_GRADIENT_ROOM_H

#include <stdatomic.h>

#include "gradient/piece.h"
#include "kernels.h"

/* What psg_context_force_route asks for.  Norms: identity, one position's |g|^2 |a|^2; gram, <A A^T, G G^T>; tiles of
 * the gradient, used and discarded.  Clipped sums: gradients kept from the norms, or recomputed for the sum. */
typedef enum psg_route {
    PSG_ROUTE_NONE = 0, PSG_ROUTE_IDENTITY, PSG_ROUTE_GRAM, PSG_ROUTE_TILES, PSG_ROUTE_KEEP, PSG_ROUTE_RECOMPUTE
} psg_route;
const char *psg_route_name(psg_route route);   /* plan_text.c */
/* A squared norm, whose range is beyond that of doubles, and the most by which rounding may have moved the norm. */
typedef struct psg_estimate {
    long double square;
    double error;
} psg_estimate;

typedef struct psg_part {
    const psg_room *room;
    psg_context *context;
    const psg_kernel_table *kernels, *doubles;   /* of the gradient's real type, of double */
    const psg_piece *pieces;
    size_t count;
    struct psg_part *inner;    /* mixed: a part a piece; derived: the parts of the effective weight's gradient */
    size_t inner_count;
    psg_dtype dtype;
    psg_place place;
    double scale;              /* of all pieces; 1 where they differ */
    size_t gradient;           /* its place in the set */
    int64_t *live;             /* of piece k in sample n: [k * B + n]; NULL with inner parts, and in a plain sum, where
                                  all positions are, of as many samples as a piece has */
    int64_t batch;
    struct psg_part *partner;  /* the bias whose backprop is this weight's; its norm is answered with the weight's */
    bool is_partner;
    void *memory;              /* the room's own, see psg_room */
    atomic_llong *fallbacks;   /* samples whose Gram was too loose */
    char *kept;                /* clipped sums: B x P gradients kept from norms to sum; NULL: none are */
    bool *is_kept;             /* B: whether sample n's was */
    bool has_room;             /* clipped sums: by itself the budget would hold the most samples' gradients of it */
    bool in_budget;            /* kept in the budget's memory */
    const psg_tensor *out;     /* sums: the parameter's output */
    bool accumulate;           /* sums: add to what it held */
    bool is_summed;            /* sums: by one product, without tasks */
    int64_t first_task, tasks; /* sums: its first; of this part and those before it, small ones sharing theirs */
} psg_part;

/* Where a task of a sum over samples adds, see plan.h. */
typedef struct psg_sink psg_sink;

/* A rectangle of a matrix; a rows x columns matrix cut into rectangles of at most high x wide. */
typedef struct psg_rectangle { int64_t row, rows, column, columns; } psg_rectangle;
typedef struct psg_grid { int64_t rows, columns, high, wide; } psg_grid;

struct psg_room {
    const char *name;
    /* Checks a block of this form, given that backprop is a (B, T, p) view. */
    psg_status (*check)(const psg_check *at, const psg_block *block);
    /* Fills in what is this form's: operands, place. */
    void (*view)(const psg_block *block, psg_piece *piece);
    bool stays_single;         /* no part may take several such pieces together */
    /* out[f - first] = or += scale * unscaled gradient of sample n at f, for the elements f in [first, last) that are
     * the part's.  `out` is of the real type. */
    void (*write)(const psg_part *part, int64_t n, double scale, int64_t first, int64_t last, void *out,
                  bool accumulate, void *workspace);
    bool overwrites;           /* without accumulate, write writes every element of the place */
    /* At least the sum over live positions of the lengths whose rounding a sum over them multiplies. */
    double (*lengths)(const psg_part *part, int64_t n, bool quick);
    /* psg_gradient_error over the scale, where it is not the one of a sum of products; or NULL. */
    double (*error)(const psg_part *part, int64_t n, bool quick);
    /* The norm of sample n. */
    psg_estimate (*square)(const psg_part *part, int64_t n, void *workspace);
    /* dots[i] += <gradient of sample first + i, v>, v in the parameter's layout. */
    void (*dot)(const psg_part *part, int64_t first, int64_t count, const void *v, double *dots, void *workspace);
    /* Sums: rectangles of the gradient, a task each. */
    psg_grid (*grid)(const psg_part *part);
    void (*sum)(const psg_sink *to);
    /* Inner products without gradients, or NULL: whether sample n allows it (NULL: all do); that of i and j. */
    bool (*has_pairs)(const psg_part *part, int64_t n);
    double (*pair)(const psg_part *part, int64_t i, int64_t j, void *workspace);
    /* Memory that a part has for one question, and what fills in sample n's; or NULL. */
    size_t (*memory)(const psg_part *part);
    void (*prepare)(const psg_part *part, int64_t n);
    /* How it answers, in a word, for samples without padding; or what tells it. */
    const char *routes[PSG_QUESTION_COUNT];
    const char *(*route)(const psg_part *part, psg_question question);
};

/* By psg_form; mixed: pieces of different forms or places that overlap, by tiles. */
extern const psg_room psg_factored_room, psg_rows_room, psg_sparse_room, psg_derived_room, psg_mixed_room;
const psg_room *psg_room_of(psg_form form);
static inline int64_t psg_live(const psg_part *part, size_t piece, int64_t n) {
    if (part->live) return part->live[(int64_t)piece * part->batch + n];
    return n < part->pieces[piece].batch ? part->pieces[piece].positions : 0;
}
/* Of all pieces together; of inner parts where there are. */
int64_t psg_part_live(const psg_part *part, int64_t n);
int64_t psg_part_positions(const psg_part *part);

/* Adds scale * gradient of sample n in [first, last) of all of these parts to out, which begins at first. */
void psg_write_parts(const psg_part *parts, size_t count, int64_t n, double scale, int64_t first, int64_t last,
                     void *out, void *workspace);
/* mixed.c: the same for inner parts; their lengths. */
void psg_write_inner(const psg_part *part, int64_t n, double scale, int64_t first, int64_t last, void *out,
                     bool accumulate, void *workspace);
double psg_inner_lengths(const psg_part *part, int64_t n, bool quick);
/* mixed_norm.c: the norm of sample n; its route, by the plan's positions and by those of a sample. */
psg_estimate psg_mixed_square(const psg_part *part, int64_t n, void *workspace);
psg_route psg_mixed_route(const psg_part *part);
double psg_in_range(const psg_part *part, double lengths);   /* INFINITY: a partial sum may leave the real type's range */
/* The norm from tiles of the gradient, and the rounding of a gradient summed in the real type. */
psg_estimate psg_square_by_tiles(const psg_part *part, int64_t n, void *workspace);
double psg_summed_error(const psg_part *part, int64_t n, long double square);
/* At most what rounding in the real type moves the gradient of sample n by; a sum of products of such lengths. */
double psg_gradient_error(const psg_part *part, int64_t n, bool quick);
double psg_products_error(const psg_part *part, int64_t n, double lengths);
/* gamma_k = k u / (1 - k u) for the real type: the relative rounding of a sum of k products in any order. */
double psg_gamma(psg_dtype dtype, double k);
/* A quick bound is taken while it is at most this share of the value. */
static const double psg_loose = 0.02;
/* Whether B gradients of this piece are larger than the cache: they are written around it. */
bool psg_leaves_cache(const psg_piece *piece);
/* sum_i x[i]^2 over `count` elements `step` apart, whatever their magnitudes. */
long double psg_square_of(const psg_kernel_table *kernels, psg_dtype dtype, const void *x, ptrdiff_t step,
                          int64_t count);
/* Of elements of the part's real type that lie steps apart: sum_i x[i] y[i] in double; at least the norm; sums[i] +=
 * weight * x[i]. */
double psg_strided_dot(const psg_part *part, const void *x, ptrdiff_t x_step, const void *y, ptrdiff_t y_step,
                       int64_t count);
double psg_norm_bound(const psg_part *part, const void *x, ptrdiff_t step, int64_t count);
void psg_add_strided(const psg_part *part, double weight, const void *x, ptrdiff_t step, int64_t count, double *sums);
/* At least the norm of row (n, t) of an operand. */
double psg_row_bound(const psg_part *part, const psg_operand_view *x, int64_t n, int64_t t);

/* rows.c: a vector of a sample, as rows and sparse rows have them: a row as it is, or a sum of rows in double. */
typedef struct psg_vector {
    const psg_part *part;
    int64_t n;
    const void *row;           /* the row, unscaled, its elements step apart; NULL: there is something to sum */
    ptrdiff_t step;
    /* sums += elements [first, first + count), from the room's own terms. */
    void (*add)(const struct psg_vector *v, int64_t first, int64_t count, double *sums);
    const void *terms;
    int64_t count;
} psg_vector;

/* Doubles that fit the small memory. */
#define PSG_AT_ONCE ((int64_t)(PSG_SMALL_BYTES / sizeof(double)))
/* sums = elements [first, first + count). */
void psg_vector_sum(const psg_vector *v, int64_t first, int64_t count, double *sums);
long double psg_vector_square(const psg_vector *v, int64_t columns, void *workspace);
/* <x, y>, sums over some elements at a time. */
double psg_vector_dot(const psg_vector *x, const psg_vector *y, int64_t columns, int64_t some, void *workspace);
/* out = or += scale * elements [first, first + count). */
void psg_vector_write(const psg_vector *v, double scale, int64_t first, int64_t count, void *out, bool accumulate,
                      void *workspace);
/* sparse_rows.c: the rows that sample n names, ascending, each once; how many. */
int64_t psg_sparse_rows_of(const psg_part *part, int64_t n, int64_t *rows);
/* sums += scale * elements [first, first + count) of what sample n adds to a row. */
void psg_sparse_add_row(const psg_part *part, int64_t n, int64_t row, int64_t first, int64_t count, double scale,
                        double *sums);

/* A norm raised by this covers underflow too: a product below the smallest normal number is off by less than 2^-149
 * (f32), 2^-1074 (f64), which u * tiny^2 exceeds for any sum of at most 2^32 of them. */
double psg_tiny_norm(psg_dtype dtype);
/* A worker's workspace: panels of the product kernel, then a tile of the gradient, then small arrays. */
#define PSG_TILE_BYTES ((size_t)768 << 10)
/* Of the tile: what `write` is given in the workspace; the rest is the derived room's. */
#define PSG_OUT_TILE_BYTES (PSG_TILE_BYTES / 2)
#define PSG_SMALL_BYTES (PSG_WORKSPACE_BYTES - PSG_PRODUCT_WORKSPACE - PSG_TILE_BYTES)
static inline void *psg_tile_memory(void *workspace) { return (char *)workspace + PSG_PRODUCT_WORKSPACE; }
static inline void *psg_small_memory(void *workspace) {
    return (char *)workspace + PSG_PRODUCT_WORKSPACE + PSG_TILE_BYTES;
}
static inline int64_t psg_parts_of(int64_t count, int64_t part) { return (count + part - 1) / part; }
/* Cuts count into equal parts of about target, multiples of grain: the size of a part. */
static inline int64_t psg_even_part(int64_t count, int64_t target, int64_t grain) {
    int64_t parts = psg_parts_of(count, target);
    if (parts <= 1) return count > 0 ? count : 1;
    return psg_parts_of(psg_parts_of(count, parts), grain) * grain;
}

#endif
