/* psg/dp.h: differentially private training as one object that draws its batches, clips, sums, adds noise and keeps the
 * account, so that none of these can disagree with another.
 *
 *     psg_dp_sample -> (forward, backward) -> psg_dp_accumulate, once a micro-batch -> psg_dp_release_to (optimizer)
 *
 * What is released is (k + z) unit / expected_batch_size: k is a sum of integers, sum_n round(c_n grad_n / unit), to
 * which each record adds a fixed vector; z is integer noise of standard deviation S = 2^36; and
 *
 *     unit = sigma C / (S - sigma sqrt(D)),          C max_grad_norm, sigma noise_multiplier, D the elements,
 *
 * so that adding or removing a record moves k by at most C / unit + sqrt(D) / 2 <= S / sigma in the Euclidean norm.  As
 * rounding is a function of the sum, k + round(N(0, S^2)) is computed from the Gaussian mechanism of multiplier sigma,
 * in any dimension; z differs from round(N(0, S^2)) by at most the residues that the accountant adds.  So (epsilon,
 * delta) hold of what is written, in floating point, as implemented.  The argument, with its tests: dp.md beside
 * README.md in share/doc/psg (src/dp/README.md).
 *
 * What may be published: what psg_dp_release and psg_dp_release_to write, everything computed from that alone,
 * psg_dp_statement, psg_dp_privacy, psg_dp_step, psg_dp_max_grad_norm and the options.  Nothing else: batches and their
 * sizes, losses, norms, psg_clip_report, counts of removed records, messages that quote a record, times.  Not counted
 * by any account: hyperparameters chosen by looking at the data, other runs on the same records (give them as
 * `earlier`, or share a ledger), and that `records` is itself taken as public.
 *
 * Messages are the context's. */
#ifndef PSG_DP_H
#define PSG_DP_H

#include "psg/accountant.h"
#include "psg/gradient.h"
#include "psg/io.h"
#include "psg/optim.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- randomness ----
 * ChaCha20 (RFC 8439) through libsodium, addressed by (purpose, step, parameter, coordinate): the same numbers for any
 * number of threads.  A generator refuses (PSG_ERR_FORKED) in a child of the process that made it. */

/* A key, and the streams of random numbers that it gives. */
typedef struct psg_generator psg_generator;

/* Keyed by the operating system. */
PSG_API psg_status psg_generator_create(psg_context *context, psg_generator **generator);
/* Keyed by 32 bytes of the caller's: reproducible, and NOT PRIVATE.  A psg_dp made with it marks its accountant so. */
PSG_API psg_status psg_generator_create_seeded(psg_context *context, const unsigned char seed[32],
                                               psg_generator **generator);
/* Wipes the key, once no psg_dp has it.  NULL is none. */
PSG_API void psg_generator_destroy(psg_generator *generator);
/* 1: its key is the caller's, 0: the system's. */
PSG_API int psg_generator_is_seeded(const psg_generator *generator);

/* count integers at coordinates first, first + 1, ... of stream (step, parameter), from the discrete Gaussian of scale
 * S = 2^36: P(z) is proportional to exp(-z^2 / (2 S^2)); |z| < 2^40.  Sampled in integers alone, within 2^-114 of this
 * law in total variation.  The law is that of a normal deviate N(0, S^2) rounded to an integer, up to factors of
 * exp(2^-69) for |z| <= 13 S: the noise of a mechanism whose sums are integers.  Coordinates are made in blocks of
 * 16384: a call that begins inside one takes the time of one that begins with it. */
PSG_API psg_status psg_discrete_gaussian(psg_generator *generator, uint64_t step, uint32_t parameter, uint64_t first,
                                         int64_t *out, size_t count);

/* count standard normal doubles at coordinates first, first + 1, ... of stream (step, parameter): Box-Muller on 53-bit
 * uniforms, computed in double.  Not every double can come out, so added to a private number they may tell it from
 * another (Mironov 2012): for simulations, not for a mechanism. */
PSG_API psg_status psg_gaussian(psg_generator *generator, uint64_t step, uint32_t parameter, uint64_t first,
                                double *out, size_t count);

/* ---- the mechanism ---- */

/* A mechanism: the sampler, the clip, the sums, the noise and the account of one training. */
typedef struct psg_dp psg_dp;

/* All of this is public.  A zeroed struct is refused: what has no default must be said. */
typedef struct psg_dp_options {
    /* How batches are drawn; psg/accountant.h says what each costs. */
    psg_sampling sampling;
    uint64_t records;          /* N, of the data set; required unless sampling is external */
    double sample_rate;        /* POISSON, TRUNCATED_POISSON: in (0, 1] */
    int64_t batch_size;        /* FIXED_SIZE, EPOCHS: records a batch (EPOCHS: the last of an epoch may have fewer) */
    uint64_t batches;          /* BALLS_IN_BINS: of one epoch */
    psg_relation relation;     /* which data sets are neighbours */
    double expected_batch_size; /* the divisor, never the realised size; 0: sample_rate * records, batch_size,
                                  records / batches; EXTERNAL: required */
    int64_t max_batch_size;    /* records that one step may sum; 0: expected + 12 sqrt(expected) + 64, batch_size,
                                  EXTERNAL: PSG_DEFAULT_MAX_BATCH_SIZE.  TRUNCATED_POISSON: a larger batch is cut to so
                                  many of its records at random, which is accounted for; elsewhere it is PSG_ERR_STATE
                                  before anything is computed */
    /* How records are clipped; the bound of what one adds is max_grad_norm with each of them. */
    double max_grad_norm;      /* C, from 1e-100 to 1e100 */
    psg_clipping clipping;     /* psg/gradient.h */
    double stability;          /* of automatic clipping; 0: 0.01 */
    int group_count;           /* 0 or 1: one norm over all parameters; else each group is clipped by a norm of its own,
                                  and C^2 is the sum of the groups' C_g^2 (McMahan et al. 2018) */
    const int *groups;         /* of each parameter, in [0, group_count), each group of one at least; NULL: parameter k
                                  is group k */
    const double *group_norms; /* shares of C: C_g = C group_norms[g] / |group_norms|; NULL: equal ones */
    double quantile;           /* in (0, 1): C follows this quantile of the norms, found privately (Andrew, Thakkar,
                                  McMahan and Ramaswamy 2021); max_grad_norm is the first C.  0: C stays */
    double quantile_rate;      /* of its geometric update; 0: 0.2 */
    double quantile_noise;     /* deviation of the noise on the count of norms below C; 0: expected / 20.  The noise of
                                  the gradients grows so that both cost what noise_multiplier does */
    /* How much noise. */
    double noise_multiplier;   /* sigma, 1/1024 to 1e6; 0: found from the budget */
    double epsilon, delta;     /* a budget: a release that would pass it is PSG_ERR_BUDGET; 0: none.  With
                                  noise_multiplier 0 sigma is the least that keeps to it for `steps` releases.  A seeded
                                  generator's releases count as others do, and keep to no budget for who has the seed */
    uint64_t steps;            /* beside epsilon: the most releases of this mechanism, whatever the budget allows.  Those
                                  that a crash loses (below) are missing at the end: for slack, give some more */
    const psg_accountant *earlier; /* what was released of these records before, or NULL: it is counted in.  Not what the
                                  ledger holds, which would count twice */
    int without_noise;         /* non-zero: noise_multiplier 0 is meant: no noise, no privacy */
    /* Where releases are recorded.  A ledger is a file that outlives the process (below): each release is on disk
     * before anything of it leaves, and epsilon is that of everything in the file, which other mechanisms, processes and
     * runs on the same records may share: their costs add, and epsilon and delta are the budget of all.  The noise for
     * `steps` releases is found as if the file were empty, so that a run that goes on finds the same; several that are to
     * share a budget need a noise_multiplier that allows for all, or `steps` of all together. */
    const char *ledger;        /* path, of a file of this relation or none yet; NULL: counted in memory alone */
    uint64_t ledger_ahead;     /* steps that one line of it records at a time, at most those that the budget allows, so
                                  that not each of them waits for the disk.  What is recorded counts as spent, made or
                                  not: a process that ends before they are made loses
                                  as many (psg_dp_recorded_ahead).  0: 1, 2, 4, ..., then 32 a line */
    int allow_openblas;        /* non-zero: a context whose gemm is PSG_GEMM_OPENBLAS is accepted.  Under it OpenBLAS
                                  multiplies batched rows and rounds a row by its place, so a record changes the
                                  gradients of others and the sum moves by more than C: refused by default */
    uint64_t reserved[4];
} psg_dp_options;

#define PSG_DP_OPTIONS_INIT                                                                                            \
    { PSG_SAMPLING_POISSON, 0, 0.0, 0, 0, PSG_ADD_OR_REMOVE_ONE, 0.0, 0, 1.0, PSG_CLIP_FLAT, 0.0, 0, NULL, NULL, 0.0,  \
      0.0, 0.0, 0.0, 0.0, 0.0, 0, NULL, 0, NULL, 0, 0, { 0, 0, 0, 0 } }

/* For parameters of the given element counts: all that are trained, since what one psg_dp does not know no account
 * covers (psg_dp_accumulate refuses a pass with others).  Holds one 64-bit integer an element and a batch of record
 * numbers.  The generator may serve several: each draws batches and noise of its own. */
PSG_API psg_status psg_dp_create(psg_context *context, psg_generator *generator, const psg_dp_options *options,
                                 const int64_t *param_counts, size_t param_count, psg_dp **dp);
/* Wipes sums that were not released and the numbers of the batch.  NULL is none. */
PSG_API void psg_dp_destroy(psg_dp *dp);

/* ---- a step ---- */

/* The batch of the step, from this psg_dp's own streams: ids are below `records` and ascend.  They are psg_dp's, until
 * the release; asked for again they are the same.  Poisson: record i is in when a 64-bit word keyed by (step, i) is
 * below floor(sample_rate * 2^64), so records do not influence one another.  An empty batch is a batch: its release is
 * noise.  PSG_ERR_STATE: more than max_batch_size records were drawn (the default is exceeded with probability 1e-30;
 * drawing again would be another mechanism); PSG_ERR_BUDGET: the budget is spent; PSG_ERR_UNSUPPORTED: sampling is
 * external. */
PSG_API psg_status psg_dp_sample(psg_dp *dp, psg_batch *batch);

/* EXTERNAL sampling: the caller's records as the batch of the step, in their order; copied.  Called again before the
 * release, they are more records of the same step.  PSG_ERR_STATE: one of them is in the step already, or there are
 * more than max_batch_size. */
PSG_API psg_status psg_dp_take(psg_dp *dp, const int64_t *ids, int64_t count, psg_batch *batch);

/* Adds the clipped gradients of the batch or a part of it (psg_batch_part, any ids of it in any order), one gradient a
 * parameter in the order of creation, sample n of them that of batch->ids[n].  reports: NULL, or one a group, of what
 * psg_clipped_sum tells; not private.  PSG_ERR_STATE, and nothing is added: the batch is another mechanism's or step's;
 * a record that was not drawn, or was accumulated before in this step; the pass has other trainable parameters, or does
 * not reach one of these; the gradients are of a pass over other records.  A pass that named none (psg_pass.batch) is
 * taken to be over these, in this order.  Where memory ends after one of several groups was added (PSG_ERR_MEMORY), the
 * sums of the step are gone: it takes nothing more and its release is noise. */
PSG_API psg_status psg_dp_accumulate(psg_dp *dp, const psg_batch *batch, const psg_gradient *const *gradients,
                                     size_t count, psg_clip_report *reports);

/* Called between sum and noise with the sums of all parameters in order, in units (and, with a quantile, one more: the
 * count): to look at them, or to add sums that this library did not make, so that they stay below 2^62.  It is not for
 * sums of other psg_dp: each adds noise of its own, and two releases of one sum cost as two; psg_dp_set_ranks is. */
typedef psg_status (*psg_dp_reduce)(void *user, int64_t *sums, size_t count);
/* From the next release on; NULL: none. */
PSG_API void psg_dp_set_reduce(psg_dp *dp, psg_dp_reduce reduce, void *user);

/* Ends the step, also when the reduce hook fails (its status is returned, outs are untouched): records it in the
 * accountant and the ledger, then writes outs[k] = (k + z) unit / expected_batch_size (contiguous, f32 or f64), and
 * starts the next step with sums of zero.  Records of the batch that were not accumulated add nothing.  PSG_ERR_STATE,
 * and nothing happens: no batch was drawn (unless sampling is external); PSG_ERR_BUDGET, and nothing happens: the
 * budget does not allow another release (with a ledger others may have spent it since the batch was drawn);
 * PSG_ERR_FILE, PSG_ERR_FORMAT, and nothing happens: the ledger took no line. */
PSG_API psg_status psg_dp_release(psg_dp *dp, const psg_tensor *outs, size_t count);

/* psg_dp_release and psg_optimizer_step in one pass over memory: the same bits as a release to arrays of the values'
 * types and a step with these, and no such arrays.  The optimizer's values are the parameters, in order.  Nothing is
 * recorded and nothing changes where the optimizer does not fit (PSG_ERR_ARGUMENT, PSG_ERR_SHAPE) or the process has
 * forked since the generator was made (PSG_ERR_FORKED); where the reduce hook fails the step is over and the optimizer
 * has not moved.  The optimizer may be of another context; messages are those of the dp's. */
PSG_API psg_status psg_dp_release_to(psg_dp *dp, psg_optimizer *optimizer);

/* ---- several ranks ----
 * One mechanism of several processes, each with a psg_dp of the same options: one key, one batch, one sum, one noise,
 * one account.  Records are dealt out by number: rank r of R has those from N r / R to N (r + 1) / R, and accumulates
 * no others.  Sums are integers, so batches, releases and epsilon have the bits of one process, for any R:
 *
 *     psg_dp_create (ledger, ledger_ahead: rank 0 alone) -> psg_dp_set_ranks -> psg_dp_load, where a run goes on
 *     psg_dp_sample -> psg_dp_own_batch -> (forward, backward) -> psg_dp_accumulate -> psg_dp_release_to
 *
 * psg_dp_set_ranks, psg_dp_agree, psg_dp_save, psg_dp_load and the releases are collective: every rank calls them, in
 * the same order, an empty share included.  What fails on one fails on all, with the same status or one that names the
 * rank, before anything is released (but where the channel fails on one rank in the last vote of a release: then
 * parameters differ, which the next comparison says; load a checkpoint); a rank that fails between them (no memory for
 * a pass) says so in psg_dp_agree.  The account is that of rank 0: other ranks count this mechanism's releases alone,
 * and say no epsilon where rank 0 has a ledger (psg_dp_privacy, psg_dp_statement: PSG_ERR_STATE); all follow its budget
 * as it was at the last release (psg_dp_remaining).  A reduce hook runs on every rank, on that rank's sums.  psg/mpi.h
 * attaches a psg_dp to the processes of an MPI program. */

/* How ranks reach each other; each function is called by all, from the thread that calls the psg_dp, and returns a
 * status.  What is sent holds the key and sums without noise: the channel must be as safe as the processes are. */
typedef struct psg_dp_ranks {
    int rank, ranks;               /* in [0, ranks); at least 1 */
    void *user;
    psg_status (*broadcast)(void *user, void *data, size_t bytes);       /* data of rank 0 to all */
    psg_status (*largest)(void *user, int64_t *value);                   /* the largest of all values to all */
    psg_status (*reduce_scatter)(void *user, int64_t *sums, size_t block);  /* sums are `ranks` blocks; that of this
                                      rank, sums + rank * block, becomes the sum over all ranks; others may be anything */
    psg_status (*gather)(void *user, void *blocks, size_t bytes);        /* `ranks` blocks of so many bytes; that of this
                                      rank is there, and those of others arrive */
    uint64_t check_every;          /* steps; 0: 64.  Before the first release and so often, releases compare the step,
                                      what the ledger has recorded ahead and C, psg_dp_release_to also lr and a hash of
                                      the parameters: PSG_ERR_STATE where they differ, with the values */
    int allow_other_kernels;       /* non-zero: other instruction sets or OpenBLAS cores on some ranks, which give other
                                      bits than one process would */
    int slices;                    /* non-zero, on all: psg_dp_release_to moves on each rank a slice of the parameters,
                                      and gathers these (f32: 4 bytes an element) instead of sums (8), with the same
                                      bits.  A rank's optimizer has the state of its slice alone, so all of its releases
                                      are to it; psg_dp_save gathers the state.  Where gathering fails parameters are not
                                      the same any more: load a checkpoint */
    uint64_t reserved[4];
} psg_dp_ranks;

#define PSG_DP_RANKS_INIT { 0, 1, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, { 0, 0, 0, 0 } }

/* Before the first step.  dp takes the key of rank 0's generator (broadcast, never shown; seeded if one of any rank
 * is); generators, and what else is made of them, keep their own.  ranks is copied; what its functions need outlives
 * dp.  PSG_ERR_STATE: a step was begun, rank 0 alone may have a ledger, or ranks differ (both values are named):
 * version, options, ranks, elements of parameters, engine, memory budget, instruction set, OpenBLAS's core.
 * PSG_ERR_ARGUMENT: ranks->rank is not where the channel has this process.  PSG_ERR_UNSUPPORTED: sampling is external,
 * where no rank can tell that a record was taken twice.  On an error dp has no ranks.  A rank that gives NULL for dp or
 * for a function is refused by itself, and others wait. */
PSG_API psg_status psg_dp_set_ranks(psg_dp *dp, const psg_dp_ranks *ranks);

/* The records of the batch that are this rank's, a part of it; all of them without ranks. */
PSG_API psg_status psg_dp_own_batch(psg_dp *dp, const psg_batch *batch, psg_batch *own);

/* The worst status that any rank gives, of BUDGET, FORMAT, ... down to OK.  Without ranks: status. */
PSG_API psg_status psg_dp_agree(psg_dp *dp, psg_status status);

/* ---- the ledger ----
 * An append-only file of JSON lines, each of them the steps [first, first + count) of one mechanism: what they cost
 * (the fields of psg_event, max_grad_norm, relation, whether the key was a seed), the hash (BLAKE2b-256) of the line
 * before, and its own.  A psg_dp of options.ledger appends; a line that covers a step is durable before the reduce hook
 * sees its sums and before anything of it is written.  Where the file cannot be written, is kept locked for half a
 * minute, or is not the one that was opened, the release is PSG_ERR_FILE, nothing happens, and it may be tried again.
 * What a killed process wrote of a line stands at the end of the file, was never released under, and makes room for the
 * next one; any other fault of the file is PSG_ERR_FORMAT, and nothing of it is changed.  Removing the file, or whole
 * lines at its end, is forgetting what was spent; a checkpoint notices. */

/* An accountant of all that the file holds, as it is now. */
PSG_API psg_status psg_ledger_read(psg_context *context, const char *path, psg_relation relation,
                                   psg_accountant **accountant);
/* Records releases, at least one, that no psg_dp makes (a private statistic, another library's training) before they
 * are made.  PSG_ERR_OVERFLOW, and nothing is recorded: those of the file would be 2^62 or more. */
PSG_API psg_status psg_ledger_record(psg_context *context, const char *path, psg_relation relation,
                                     const psg_event *event, uint64_t releases);

/* ---- save and resume ----
 * A checkpoint is one safetensors file (psg/io.h): the parameters under their names, "optimizer.NAME.STATE" with steps
 * and lr, the caller's arrays as "extra.NAME", "psg.step" and other numbers, and as metadata the mechanism's options
 * and the last line of its ledger.  psg_weights_load takes the parameters from it (PSG_LOAD_PARTIAL).  It replaces the
 * file as a whole.  It needs a ledger: steps that are made after a checkpoint count after a crash because the ledger
 * has them.
 *
 * A mechanism that was loaded goes on at the checkpoint's step with a key of its own generator, so no noise is used
 * with other data; what the ledger holds counts, made or not.  Its epochs begin anew.  One whose generator has a seed
 * (not private) must be of the same seed, and gives the bits that the run would have given without the interruption. */

/* What a checkpoint holds beside the mechanism: of several ranks, the same names, types and sizes on all. */
typedef struct psg_checkpoint {
    const psg_named *params;       /* in the order of psg_dp_create; each name once, none like those above */
    size_t param_count;
    psg_optimizer *optimizer;      /* of these parameters in this order, or NULL */
    const psg_named *extra;        /* averages, counters, ...: any tensors, each name once; or NULL */
    size_t extra_count;
    uint64_t reserved[4];
} psg_checkpoint;

#define PSG_CHECKPOINT_INIT { NULL, 0, NULL, NULL, 0, { 0, 0, 0, 0 } }

/* Writes a checkpoint between releases (sums that were accumulated and not released are not saved).  Of several ranks
 * every one calls it, and rank 0 writes.  Steps that the ledger has recorded ahead (psg_dp_recorded_ahead) are lost to
 * who goes on from here, also after a clean end: make them first, or give ledger_ahead.  PSG_ERR_STATE: there is no
 * ledger. */
PSG_API psg_status psg_dp_save(psg_dp *dp, const psg_checkpoint *checkpoint, const char *path);

/* Loads a checkpoint into a mechanism that was just made with the options of the saved one (but for the budget, where
 * noise_multiplier is given) and the same ledger; of several ranks every one calls it, and rank 0 reads.  The
 * optimizer's lr is the saved one then too, and f32 of the file becomes f64 where the parameters are.  Everything is
 * checked before anything changes: PSG_ERR_FORMAT with both values where the file is damaged, of a newer format, of
 * another model, optimizer, mechanism or seed, or where the ledger lacks the line that the checkpoint was made after;
 * PSG_ERR_STATE: the mechanism has drawn or released, or has no ledger; PSG_ERR_FORKED. */
PSG_API psg_status psg_dp_load(psg_dp *dp, const psg_checkpoint *checkpoint, const char *path);

/* ---- what it is and what it has cost; public ---- */

PSG_API uint64_t psg_dp_step(const psg_dp *dp);                /* releases so far, those before a checkpoint too */
PSG_API double psg_dp_noise_multiplier(const psg_dp *dp);      /* sigma, given or found from the budget */
PSG_API double psg_dp_max_grad_norm(const psg_dp *dp);         /* C of the step, which a quantile moves */
PSG_API double psg_dp_expected_batch_size(const psg_dp *dp);   /* what releases are divided by */
PSG_API int64_t psg_dp_max_batch_size(const psg_dp *dp);       /* records that one step may sum */
/* Releases that the budget allows after those so far, and after what others have written to the ledger by now;
 * UINT64_MAX without one; 1 where the ledger cannot be read, so that a loop meets the release that says why.  Of
 * several ranks, what rank 0's budget allowed when they last released or attached. */
PSG_API uint64_t psg_dp_remaining(psg_dp *dp);
/* Releases that the ledger has recorded and that are not made yet: what a process that ends here loses. */
PSG_API uint64_t psg_dp_recorded_ahead(const psg_dp *dp);
/* Counts the releases, those of `earlier`, and with a ledger all that it recorded, made or not, when the mechanism last
 * released or one of the functions above and below was called; a generator with a seed marks it not private. */
PSG_API const psg_accountant *psg_dp_accountant(const psg_dp *dp);
/* What psg_accountant_epsilon says of it, the ledger read anew. */
PSG_API psg_status psg_dp_privacy(psg_dp *dp, double delta, psg_privacy *privacy);

/* The statement of what was done and what it guarantees: unit of privacy, relation, sampling, N and that it is taken as
 * public, C, sigma, steps, delta (and 1 / N beside it), epsilon with its lower bound and by which accountant, the
 * mechanism and its residues, whether the generator had a seed, what is not covered, library version; in words, or as
 * one JSON object.  At most size bytes with the final 0; *needed (or NULL) is the full length without it. */
typedef enum psg_statement_format { PSG_STATEMENT_WORDS = 0, PSG_STATEMENT_JSON = 1 } psg_statement_format;
/* Written into text; PSG_ERR_ARGUMENT: delta outside (0, 1), or an unknown format. */
PSG_API psg_status psg_dp_statement(psg_dp *dp, double delta, psg_statement_format format, char *text,
                                    size_t size, size_t *needed);

#ifdef __cplusplus
}
#endif
#endif
