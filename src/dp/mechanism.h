/* The mechanism: its public facts, the batch and the sums of one step on their way to one release. */
#ifndef PSG_DP_MECHANISM_H
#define PSG_DP_MECHANISM_H

#include <stdbool.h>

#include "dp/grid.h"
#include "dp/ledger.h"
#include "psg/dp.h"

/* A record of the step. */
typedef struct psg_drawn {
    int64_t id;
    bool is_used;                   /* accumulated */
} psg_drawn;

struct psg_dp {
    psg_context *context;
    psg_generator *generator;       /* the caller's, held */
    uint64_t owner;                 /* of the streams, see dp/random.h */
    psg_dp_options options;         /* with every default resolved; groups, group_norms, ledger not read; earlier:
                                       whether */
    psg_dp_reduce reduce;           /* or NULL */
    void *reduce_user;
    psg_dp_ranks ranks;             /* of one: none */

    size_t param_count;
    size_t *offset;                 /* param_count + 1: parameter k is sums[offset[k]] to sums[offset[k + 1]] */
    int64_t *sums;                  /* in units; with a quantile one more, the count; of several ranks, padded */
    size_t block;                   /* of them that one rank adds noise to */
    psg_tensor *views;              /* param_count: views of sums; those of a group one after another */
    const psg_gradient **gradients; /* param_count: of a group */
    int *group;                     /* of each parameter */
    double *share;                  /* of each group: C_g / C */

    double max_grad_norm;           /* C of this step */
    double gradient_noise;          /* sigma of the gradients: above noise_multiplier with a quantile */
    psg_grid grid;                  /* of this step */

    uint64_t step;                  /* releases so far */
    uint64_t first_step;            /* of this key: epochs begin there */
    uint64_t most_steps;            /* that the budget allows */
    uint64_t agreed_steps;          /* of several ranks: that it allowed when they last agreed */
    uint64_t compare_at;            /* of several ranks: the step before which they compare what moves */
    bool is_account_elsewhere;      /* rank 0 has the ledger */
    bool is_drawn, is_lost;         /* the step has its batch; its sums are gone */
    uint64_t stream;                /* of its batch */
    int64_t *ids;                   /* max_batch_size: of the batch, as it is handed out */
    psg_drawn *drawn;               /* the same, ascending */
    int64_t count;
    int64_t *order;                 /* epochs: records in the order of this epoch */
    uint64_t epoch;                 /* that it is of; UINT64_MAX: none yet */

    psg_event event;                /* what each release is to the accountant */
    psg_accountant *accountant;     /* all that counts: earlier, the ledger's, its own */
    psg_accountant *earlier;        /* or NULL */

    psg_ledger *ledger;             /* or NULL, and then none of these: */
    char run[PSG_RUN_TEXT];         /* its name there */
    char resumed[PSG_RUN_TEXT];     /* that of the checkpoint it goes on from; "": none */
    uint64_t counted;               /* lines of it that are in the accountant */
    uint64_t ahead;                 /* releases that are recorded and not made */
    uint64_t pace;                  /* steps that the next line covers */
};

/* The elements of parameter k; of all. */
static inline size_t psg_dp_elements(const psg_dp *dp, size_t k) { return dp->offset[k + 1] - dp->offset[k]; }
static inline size_t psg_dp_total(const psg_dp *dp) { return dp->offset[dp->param_count]; }
static inline bool psg_dp_has_quantile(const psg_dp *dp) { return dp->options.quantile > 0; }
/* Of sums: the elements, and the count. */
/* The parameter that has an element. */
size_t psg_dp_parameter_at(const psg_dp *dp, size_t at);
static inline size_t psg_dp_sum_count(const psg_dp *dp) { return psg_dp_total(dp) + psg_dp_has_quantile(dp); }

/* mechanism_options.c: checks them and fills in their defaults, sigma from the budget among them. */
psg_status psg_dp_resolve(psg_context *context, psg_dp_options *options, int64_t elements, size_t param_count);
psg_event psg_dp_event(const psg_dp_options *options, int64_t elements);

/* quantile.c: what the samples of an accumulation add to the count, in units; C after a release that found `count`. */
int64_t psg_quantile_units(const psg_dp *dp, int64_t below, int64_t samples);
double psg_quantile_next(const psg_dp *dp, int64_t count);
/* The noise of the gradients beside that of the count. */
double psg_quantile_gradient_noise(const psg_dp_options *options);

static inline bool psg_dp_has_ranks(const psg_dp *dp) { return dp->ranks.ranks > 1; }
/* Releases that the budget allows: of several ranks as all know it. */
static inline uint64_t psg_dp_most_steps(const psg_dp *dp) {
    return psg_dp_has_ranks(dp) ? dp->agreed_steps : dp->most_steps;
}
/* Of memory: whole blocks. */
static inline size_t psg_dp_sum_room(const psg_dp *dp) {
    return psg_dp_has_ranks(dp) ? dp->block * (size_t)dp->ranks.ranks : psg_dp_sum_count(dp);
}

/* batches.c: forgets the batch of a step. */
void psg_dp_forget_batch(psg_dp *dp);
/* PSG_OK if all of these are in the step and not used; marks them. */
psg_status psg_dp_use(psg_dp *dp, const int64_t *ids, int64_t count);
void psg_dp_unuse(psg_dp *dp, const int64_t *ids, int64_t count);

#endif
