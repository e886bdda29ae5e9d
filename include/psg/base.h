/* psg/base.h: versions, statuses, the context.
 *
 * A context holds everything that libpsg would otherwise keep in globals: worker threads, workspace, allocator,
 * memory budget, kernel table, registered ops, the last message.  Contexts are independent of one another.
 *
 * Thread safety: different contexts may be used from different threads at the same time.  One context, and every
 * object made from it, belongs to one thread at a time.  Read-only data (parameters of another context, inputs) may be
 * shared while nobody writes it.
 *
 * Floating point: every function computes in the default environment (round to nearest, denormals kept, no traps),
 * whatever the calling thread, or one of a psg_parallel_for, has set, and gives that back before it returns; hooks are
 * called in the default one.  Flags of exceptions may be raised.
 *
 * Hooks (allocators, psg_parallel_for, observers, channels of ranks, functions of a psg_op) return to their caller: a C++
 * exception or a longjmp that leaves one through the library's frames skips what it would have given back, such as the
 * thread's rounding mode, OpenBLAS's number of threads and memory.
 *
 * Integers: how long an array argument is, size_t.  Sizes of tensors and batches, which views keep signed, int64_t.
 * What adds up over a training (records, steps, releases), uint64_t.  Ranks, and what is bounded by one or by a
 * constant (dimensions, inputs of an op, layers, groups), int.
 *
 * Destruction: in any order.  An object whose handle is destroyed works on until all that was made of it is destroyed:
 * all objects of a context, the psg_dps of a generator, the passes that use a parameter, the parameters and optimizers
 * over memory of a psg_params, psg_tensors or psg_table.  A handle that was destroyed is not used again.
 *
 * NULL: what is given NULL where the headers do not allow it returns PSG_ERR_ARGUMENT, or what means nothing: 0, NULL,
 * "", a view that every function refuses.
 *
 * Options: texts and arrays that a psg_..._options points at are read during the call, copied where they are kept, and
 * may go afterwards.  Memory of tensors is the caller's and stays as long as what was made over it.
 *
 * Structs that grow: those that a program fills, or that are filled for it, end with `reserved`, four words that are 0.
 * A new field takes the place of some of them, and its 0 means what was there before: so a program compiled against an
 * older header of the same soname runs on a newer library, and a newer one on an older library as long as it leaves the
 * new field 0; else PSG_ERR_ARGUMENT, as for a struct that was not cleared.  Fill them from their PSG_..._INIT macro,
 * or by naming fields ({ .lr = 0.1 }), which clears the rest.  A zeroed struct is its default or is refused.  Structs
 * without `reserved` are complete.
 *
 * ABI: while the major version is 0, the soname changes with every incompatible minor version; patch versions are
 * compatible in both directions.  Not part of it, and to be used with the library that the program was compiled for:
 * structs named psg_..._attributes, the field internal of psg_call, and the texts of messages and plans. */
#ifndef PSG_BASE_H
#define PSG_BASE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The version of the headers; psg_version has that of the library. */
#define PSG_VERSION_MAJOR 0
#define PSG_VERSION_MINOR 2
#define PSG_VERSION_PATCH 0
#define PSG_VERSION_STRING "0.2.0"

#if defined(__GNUC__)
#define PSG_API __attribute__((visibility("default")))
#define PSG_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define PSG_API
#define PSG_PRINTF(text, first)
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What every function that can fail returns; the message beside it is psg_context_message's. */
typedef enum psg_status {
    PSG_OK = 0,
    PSG_ERR_ARGUMENT = 1,    /* a value outside its range, a null pointer, an absent argument that is required */
    PSG_ERR_SHAPE = 2,       /* ranks or sizes that do not fit one another */
    PSG_ERR_DTYPE = 3,       /* a real or integer type that does not fit */
    PSG_ERR_BATCH = 4,       /* batch sizes that disagree */
    PSG_ERR_STATE = 5,       /* a call out of order: a second backward, grad_sample not cleared, ... */
    PSG_ERR_MEMORY = 6,      /* the allocator returned NULL, or a workspace is too small */
    PSG_ERR_OVERFLOW = 7,    /* a size that does not fit 64 bits */
    PSG_ERR_UNSUPPORTED = 8, /* well-formed, but without a per-sample meaning or not offered */
    PSG_ERR_NONFINITE = 9,   /* NaN or Inf where none may be */
    PSG_ERR_NUMERIC = 10,    /* a factorisation or a series that failed */
    PSG_ERR_FORKED = 11,     /* used in a child process of the one that made it */
    PSG_ERR_SYSTEM = 12,     /* the operating system refused (threads, entropy), or OpenBLAS multiplies wrongly */
    PSG_ERR_FILE = 13,       /* a file could not be opened, read, written or made durable: the message has why */
    PSG_ERR_FORMAT = 14,     /* what a file holds is not what it must be */
    PSG_ERR_BUDGET = 15      /* a release that would pass the budget of its mechanism: the end of a training, no mistake */
} psg_status;

/* The real and integer types of tensors.  PSG_F32 is 0: a zeroed option struct means f32. */
typedef enum psg_dtype { PSG_F32 = 0, PSG_F64 = 1, PSG_I32 = 2, PSG_I64 = 3 } psg_dtype;

/* "0.2.0": the version of the library that is running, as PSG_VERSION_STRING is that of the headers. */
PSG_API const char *psg_version(void);

/* "PSG_ERR_SHAPE", ...; "unknown status" for any other number.  Static storage. */
PSG_API const char *psg_status_name(psg_status status);

/* Bytes of one element; 0 for an unknown type. */
PSG_API size_t psg_dtype_size(psg_dtype dtype);
/* "f32", "f64", "i32", "i64"; "unknown". */
PSG_API const char *psg_dtype_name(psg_dtype dtype);

/* Ends the function, which returns a psg_status, where the call does not return PSG_OK. */
#define PSG_TRY(call)                                                                                                  \
    do {                                                                                                               \
        const psg_status psg_try_status = (call);                                                                      \
        if (psg_try_status != PSG_OK) return psg_try_status;                                                           \
    } while (0)

/* ---- batches ---- */

/* The records of one step of a mechanism, or a part of them for one pass: psg_dp_sample fills it, psg_pass and
 * psg_dp_accumulate take it. */
typedef struct psg_batch {
    const int64_t *ids;    /* record numbers, each once; element n is sample n of the pass */
    int64_t count;
    uint64_t step;         /* of the mechanism */
    uint64_t stream;       /* keys what a pass draws in this step (dropout): another one every step */
    uint64_t owner;        /* the mechanism that drew it; 0: none */
    uint64_t reserved[4];
} psg_batch;

/* Records [first, first + count) of a batch, which it must have: a micro-batch, of a pass and of an accumulation.  (The
 * inputs of a pass with views have views rows for each.) */
static inline psg_batch psg_batch_part(const psg_batch *batch, int64_t first, int64_t count) {
    psg_batch part;
    memset(&part, 0, sizeof part);
    if (!batch) return part;
    part = *batch;
    part.ids += first;
    part.count = count;
    return part;
}

/* ---- hooks ---- */

/* Every byte the library takes goes through these two (OpenBLAS's own buffers excepted, and jansson's while the header
 * of a file is read).  allocate returns at least bytes bytes, aligned as malloc aligns, or NULL; release gets the same
 * pointer and size back. */
typedef struct psg_allocator {
    void *(*allocate)(void *user, size_t bytes);
    void (*release)(void *user, void *memory, size_t bytes);
    void *user;
} psg_allocator;

/* One task of a parallel loop.  slot names the worker: no two tasks with one slot run at the same time. */
typedef void (*psg_task)(void *argument, size_t index, unsigned slot);

/* Runs task(argument, i, slot) for every i in [0, count), slot in [0, slots), and returns when all are done.  Tasks
 * need a stack of 512 KiB. */
typedef void (*psg_parallel_for)(void *user, size_t count, unsigned slots, psg_task task, void *argument);

/* ---- context ---- */

/* Threads, workspace, allocator, kernels and the last message; everything else is made from one. */
typedef struct psg_context psg_context;

/* The engine behind matrix products, PSG_GEMM in the environment: "automatic", "openblas", "kernel".
 *
 * automatic   products over batched rows (linear, attention's projections, matmul, bilinear) run on the library's own
 *             kernel, whose elements have one chain of operations wherever their row stands: what belongs to a sample
 *             has the bits that the sample alone gives.  Products that belong to one sample (the Gram matrix of its
 *             positions) go to whichever is faster by a table of kernels and OpenBLAS's cores.
 * openblas    all of these go to OpenBLAS, and materialised gradients of positions and features, one sample a call;
 *             OpenBLAS rounds a row by its place among the others: a sample's values then have the bits of the sample
 *             alone only where a call serves one sample.  The steps of recurrent layers, convolutions, attention's
 *             tiles and the tiles of norms and sums keep their own kernels.
 * kernel      none of these goes to OpenBLAS.
 *
 * Eigenvalues and linear systems are LAPACK's with any of them. */
typedef enum psg_gemm_engine { PSG_GEMM_AUTOMATIC = 0, PSG_GEMM_OPENBLAS = 1, PSG_GEMM_KERNEL = 2 } psg_gemm_engine;

/* Zero is the default of each. */
typedef struct psg_context_options {
    unsigned threads;          /* workers, the caller included; 0: PSG_NUM_THREADS, else the processors this process may
                                  use: those of its affinity mask, at most what the CPU quotas of its cgroups (version
                                  1 or 2) allow, rounded up, as they stand when the context is made.  More than 64
                                  stands for 64; of more workers than these processors, no more run at a time. */
    const char *isa;           /* "avx512", "avx2" or "baseline"; NULL: PSG_ISA, else the best this processor has */
    size_t memory_budget;      /* bytes that a plan may hold beyond 2 MiB a worker (and at most 4 MiB for the packed
                                  weight of a product), such as B x P gradients kept between their norms and their
                                  sum; 0: none.  See psg_plan_text. */
    psg_allocator allocator;   /* all zero: malloc and free */
    psg_parallel_for parallel_for; /* NULL: the context's own pool; else `threads` slots are asked of it */
    void *parallel_user;
    int leave_openblas_alone;  /* non-zero: the host has made OpenBLAS single-threaded and keeps it so */
    psg_gemm_engine gemm;      /* PSG_GEMM_AUTOMATIC: PSG_GEMM, where it is set */
    uint64_t reserved[4];
} psg_context_options;

#define PSG_CONTEXT_OPTIONS_INIT { 0, NULL, 0, { NULL, NULL, NULL }, NULL, NULL, 0, PSG_GEMM_AUTOMATIC, { 0, 0, 0, 0 } }

/* Makes a context; options NULL means all defaults.  On failure *context is NULL, and the status is
 * PSG_ERR_ARGUMENT (unknown isa, or one this processor lacks; an unknown gemm; a PSG_NUM_THREADS that is no number),
 * PSG_ERR_MEMORY or PSG_ERR_SYSTEM.  There is no context then to hold a message: PSG_ERR_ARGUMENT with good
 * options means that PSG_ISA, PSG_GEMM or PSG_NUM_THREADS in the environment is not.
 *
 * PSG_ERR_SYSTEM: there are no threads to be had; or, with one thread always, a product of known value came out wrong.
 * Some are tried, in all transposes and both real types, with each engine that the options allow (in 1 ms): a
 * BLAS may miscompute on some processors alone, and what is certified by its products would not hold.  With gemm
 * PSG_GEMM_KERNEL OpenBLAS is not tried: a context that is made so and not otherwise says that it is at fault.
 * OPENBLAS_VERBOSE=2 in the environment makes it print the core that it has chosen, OPENBLAS_CORETYPE chooses another.
 *
 * OpenBLAS: its thread count belongs to the process.  While any context computes, it is 1; the first to start saves the
 * host's value and the last to finish restores it.  The counters behind that and the next paragraph, under their lock,
 * are the one piece of process-wide state in the library.  In OpenBLAS's OpenMP build the count belongs to each thread:
 * there the threads that compute set their own (omp_set_num_threads(1); threads of the host's get theirs back), and
 * nothing of the process is touched, so that the host may call OpenBLAS in its other threads meanwhile.
 *
 * OpenBLAS maps 128 MiB (untouched, mostly) for each of its calls that run at the same time, keeps them, and never
 * returns where it cannot have them.  So they are asked of the system here, for as many calls as the context's workers
 * may make at a time and for OpenBLAS's own threads (64 for all contexts together): PSG_ERR_MEMORY where there are
 * none, and no call of a context that was made waits for memory afterwards. */
PSG_API psg_status psg_context_create(const psg_context_options *options, psg_context **context);

/* Frees a context and its threads, at once or with the last of what was made from it: until then hooks and registered
 * ops must stay.  NULL is none. */
PSG_API void psg_context_destroy(psg_context *context);

/* The text of the last call that failed on anything made from this context, tapes included: "" when there was none.
 * One line of UTF-8, whatever names and files it quotes (a byte that cannot be part of one is shown as '?').  Calls
 * that succeed leave it.  Valid until the next error. */
PSG_API const char *psg_context_message(const psg_context *context);

/* How many workers it has, the caller included. */
PSG_API unsigned psg_context_threads(const psg_context *context);
/* "avx512", "avx2" or "baseline": the kernels in use. */
PSG_API const char *psg_context_isa(const psg_context *context);

/* Matrix products that PSG_GEMM_OPENBLAS or PSG_GEMM_KERNEL has served so far, of those that the engine is chosen for;
 * with PSG_GEMM_AUTOMATIC both together. */
PSG_API uint64_t psg_context_products(const psg_context *context, psg_gemm_engine engine);

/* Bytes taken from the allocator and not yet returned, the workers' workspace included. */
PSG_API size_t psg_context_live_bytes(const psg_context *context);
/* How often the allocator was called since the context was made. */
PSG_API uint64_t psg_context_allocations(const psg_context *context);

#ifdef __cplusplus
}
#endif
#endif
