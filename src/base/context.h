/* The context: one struct that stands for all the globals there are not. */
#ifndef PSG_BASE_CONTEXT_H
#define PSG_BASE_CONTEXT_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/fork_mark.h"
#include "base/memory.h"
#include "base/owner.h"
#include "psg/base.h"

#define PSG_MESSAGE_SIZE 512
#define PSG_MAX_THREADS 64
#define PSG_WORKSPACE_BYTES ((size_t)2 << 20)

typedef struct psg_pool psg_pool;
typedef struct psg_kernel_table psg_kernel_table;   /* kernels.h, for who calls one */
struct psg_op;

struct psg_context {
    psg_owner owner;
    psg_allocator allocator;
    size_t live_bytes;
    uint64_t allocations;

    char message[PSG_MESSAGE_SIZE];

    const psg_kernel_table *kernels[2];  /* by real dtype */
    const char *isa;

    unsigned threads;
    psg_pool *pool;                      /* NULL: one thread, or the host's parallel_for */
    psg_parallel_for parallel_for;
    void *parallel_user;
    int leave_openblas_alone;
    unsigned blas_calls;                 /* at a time: what buffers of OpenBLAS are reserved for */
    psg_gemm_engine gemm;
    atomic_ullong products[2];           /* served by OpenBLAS, by our kernel */
    psg_fork_mark process;               /* the maker's: worker threads do not survive a fork */

    void *workspace[PSG_MAX_THREADS];    /* PSG_WORKSPACE_BYTES a slot */
    size_t memory_budget;
    void *budget_memory;                 /* what plans hold of the budget; grown when needed, kept */
    size_t budget_bytes;
    void *scratch;                       /* shared by a whole question: B-sized arrays; grown when needed, kept */
    size_t scratch_bytes;
    psg_arena question;                  /* plans and arrays of the question under way */
    void *panels;                        /* of the weight of one product, shared by its workers; grown, kept */
    size_t panel_bytes;
    int forced_route;                    /* psg_context_force_route; 0: none */

    const struct psg_op **user_ops;
    size_t user_op_count;
    uint32_t passes;                     /* begun by any tape: a psg_var is stamped with its pass */
    struct psg_live_pass *live_passes;
    psg_lent *lent;
};

/* The pass that a tape is in; 0: none.  A psg_gradient carries its pass's number. */
typedef struct psg_live_pass {
    uint32_t number;
    struct psg_live_pass *next;
} psg_live_pass;

int psg_pass_is_live(const psg_context *context, uint32_t number);

/* Formats the message and returns status. */
psg_status psg_fail(psg_context *context, psg_status status, const char *format, ...) PSG_PRINTF(3, 4);
psg_status psg_fail_v(psg_context *context, psg_status status, const char *format, va_list arguments);
/* PSG_ERR_ARGUMENT: an argument is NULL.  context may be NULL too, and then there is no message. */
psg_status psg_fail_null(psg_context *context, const char *function, const char *argument);
/* What a function that another one calls says is said by that one: "psg_inner: ..." becomes "psg_outer: ...". */
psg_status psg_fail_as(psg_context *context, const char *function, psg_status status);
psg_status psg_fail_memory(psg_context *context, const char *function, size_t bytes);

/* bytes of the memory budget, kept between calls; NULL when the budget or the allocator does not hold them. */
void *psg_budget_memory(psg_context *context, size_t bytes);
/* bytes of scratch for one question, kept between calls; NULL when the allocator has none. */
void *psg_scratch(psg_context *context, size_t bytes);
/* bytes of panels for one product, kept between calls; NULL when the allocator has none. */
void *psg_panel_memory(psg_context *context, size_t bytes);

/* ---- of src/blas, which base knows no more of ---- */

/* Whether the products that the context may take, of the library's kernel and of OpenBLAS (with PSG_GEMM_KERNEL of the
 * kernel alone), come out right.  For a context's creation: overwrites the workspace of worker 0. */
bool psg_products_are_right(psg_context *context);

#endif
