/* psg/dp.h: differentially private training: Poisson batches, clipped sums, noise, the release.
 *
 *     sampler -> (forward, backward) -> psg_dp_accumulate, once a micro-batch -> psg_dp_release_to (optimizer)
 *
 * A release is (sum of clipped gradients + noise_multiplier * max_grad_norm * N(0, I)) / expected_batch_size.  The
 * divisor is the expected batch size, a public constant, never the realised one.  An empty batch is a batch: its
 * release is noise.  Neighbouring data sets differ by one record added or removed.  Per-sample gradients must be those
 * of each sample's own loss: a loss with PSG_SUM in a pass with PSG_LOSS_SUM, or PSG_MEAN with PSG_LOSS_MEAN.
 *
 * Not answered: attacks on the floating-point representation of the noise (Mironov 2012; Jin et al. 2022).  Norms,
 * losses and clipped fractions are diagnostics; they are not private.  Messages are the context's. */
#ifndef PSG_DP_H
#define PSG_DP_H

#include "psg/accountant.h"
#include "psg/gradient.h"
#include "psg/optim.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- randomness ----
 * ChaCha20 (RFC 8439) through libsodium, addressed by (purpose, step, parameter, coordinate): the same numbers for any
 * number of threads.  A generator refuses (PSG_ERR_FORKED) in a child of the process that made it. */

typedef struct psg_generator psg_generator;

/* Keyed by the operating system. */
PSG_API psg_status psg_generator_create(psg_context *context, psg_generator **generator);
/* Keyed by 32 bytes of the caller's: reproducible, and NOT PRIVATE.  A psg_dp made with it marks its accountant so. */
PSG_API psg_status psg_generator_create_seeded(psg_context *context, const unsigned char seed[32],
                                               psg_generator **generator);
PSG_API void psg_generator_destroy(psg_generator *generator);   /* wipes the key */
PSG_API int psg_generator_is_seeded(const psg_generator *generator);

/* count integers at coordinates first, first + 1, ... of stream (step, parameter), from the discrete Gaussian of scale
 * S = 2^36: P(z) is proportional to exp(-z^2 / (2 S^2)).  |z| < 2^40.  Sampled in integers alone: the law of a sample is
 * within 2^-114 of this in total variation, and of a normal deviate N(0, S^2) rounded to an integer within a factor of
 * exp(2^-69) up to 13 S.  The noise of a mechanism whose sums are integers. */
PSG_API psg_status psg_discrete_gaussian(psg_generator *generator, uint64_t step, uint32_t parameter, uint64_t first,
                                         int64_t *out, size_t count);

/* count standard normal doubles at coordinates first, first + 1, ... of stream (step, parameter): Box-Muller on 53-bit
 * uniforms, computed in double.  Not every double can come out, so added to a private number they may tell it from
 * another (Mironov 2012): for simulations, not for a mechanism. */
PSG_API psg_status psg_gaussian(psg_generator *generator, uint64_t step, uint32_t parameter, uint64_t first,
                                double *out, size_t count);

/* ---- Poisson sampling ---- */

/* Writes the records of the batch of a step (0, 1, ...; one step has one batch: psg_dp_step counts them), ascending:
 * record i < records is in it when a 64-bit word keyed by (step, i) is below floor(sample_rate * 2^64), so records do
 * not influence one another.  indices has room for capacity; *count is the true size, and PSG_ERR_MEMORY is returned
 * when it exceeds the capacity (indices then holds the first capacity, which is no Poisson sample to train on: call
 * again with room for *count). */
PSG_API psg_status psg_poisson_sample(psg_generator *generator, uint64_t step, uint64_t records, double sample_rate,
                                      int64_t *indices, size_t capacity, size_t *count);

/* ---- the private sum and its release ---- */

typedef struct psg_dp psg_dp;

typedef struct psg_dp_options {
    double max_grad_norm;        /* C, finite, in the range of psg_clip */
    double noise_multiplier;     /* sigma >= 0; 0 gives no privacy */
    double expected_batch_size;  /* required; public: sample_rate * records */
    double sample_rate;          /* required; of the Poisson sampler, for the accountant; in (0, 1] */
    int64_t max_batch_size;      /* public; samples one step may sum; 0: expected + 12 sqrt(expected) + 64, rounded up.
                                    The clip factors leave room for the rounding of that many (psg_clipped_sum) */
    int allow_openblas;          /* non-zero: a context whose gemm is PSG_GEMM_OPENBLAS is accepted.  Under it OpenBLAS
                                    multiplies batched rows and rounds a row by its place, so a record changes the
                                    gradients of others and the sum moves by more than C: refused by default */
} psg_dp_options;

#define PSG_DP_OPTIONS_INIT { 1.0, 1.0, 0.0, 0.0, 0, 0 }

/* For parameters of the given element counts.  Holds one double an element.  The generator must outlive it, and may
 * serve several: each draws noise of its own. */
PSG_API psg_status psg_dp_create(psg_context *context, psg_generator *generator, const psg_dp_options *options,
                                 const int64_t *param_counts, size_t param_count, psg_dp **dp);
PSG_API void psg_dp_destroy(psg_dp *dp);

/* Adds the clipped gradients of one (micro-)batch, one gradient a parameter in the order of creation.  report as in
 * psg_clipped_sum; not private.  PSG_ERR_STATE when the step would exceed max_batch_size: nothing is added. */
PSG_API psg_status psg_dp_accumulate(psg_dp *dp, const psg_gradient *const *gradients, size_t count,
                                     psg_clip_report *report);

/* Called between sum and noise with the sums of all parameters (doubles, in order), to add those of other ranks. */
typedef psg_status (*psg_dp_reduce)(void *user, double *sums, size_t count);
PSG_API void psg_dp_set_reduce(psg_dp *dp, psg_dp_reduce reduce, void *user);

/* Ends the step, also when the reduce hook fails (its status is returned, outs are untouched): records it in the
 * accountant, then writes outs[k] = (sum + noise) / expected_batch_size (contiguous, f32 or f64), and starts the next
 * step with sums of zero.  Nothing accumulated is an empty batch. */
PSG_API psg_status psg_dp_release(psg_dp *dp, const psg_tensor *outs, size_t count);

/* psg_dp_release and psg_optimizer_step in one pass over memory: the same bits as a release to arrays of the values'
 * types and a step with these, and no such arrays.  The optimizer's values are the parameters, in order.  Nothing is
 * recorded and nothing changes where the optimizer does not fit (PSG_ERR_ARGUMENT, PSG_ERR_SHAPE) or the process has
 * forked since the generator was made (PSG_ERR_FORKED); where the reduce hook fails the step is over and the optimizer
 * has not moved.  The optimizer may be of another context; messages are those of the dp's. */
PSG_API psg_status psg_dp_release_to(psg_dp *dp, psg_optimizer *optimizer);

/* Releases so far, and the accountant that counts them (a generator with a seed marks it not private). */
PSG_API uint64_t psg_dp_step(const psg_dp *dp);
PSG_API const psg_accountant *psg_dp_accountant(const psg_dp *dp);

#ifdef __cplusplus
}
#endif
#endif
