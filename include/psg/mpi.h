/* psg/mpi.h: one psg_dp on the processes of an MPI program (libpsg-mpi; compile with mpicc, or with MPI's flags).
 *
 *     MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
 *     psg_mpi_create(MPI_COMM_WORLD, &mpi);
 *     options.ledger = psg_mpi_rank(mpi) ? NULL : "ledger.jsonl";
 *     psg_dp_create(context, generator, &options, counts, count, &dp);   // NULL where it fails
 *     psg_mpi_attach(mpi, dp, NULL);
 *
 * Then as on one process, each rank with its own records: psg/dp.h, "several ranks", says what holds and which calls
 * are collective.  A rank that fails where others do not wait for it in one of those ends the job: MPI_Abort.
 *
 * MPI is called by the thread that calls these functions, and by no worker.  What is sent is the key, sums without
 * noise and releases: MPI does not encrypt, so the network must be one that only the job sees.  psg/psg.h does not
 * include this header. */
#ifndef PSG_MPI_H
#define PSG_MPI_H

#include <mpi.h>

#include "psg/dp.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Ranks that reach each other through a communicator of their own. */
typedef struct psg_mpi psg_mpi;

/* A duplicate of the communicator, whose errors are returned and not fatal.  Collective.  Takes 4 MiB by malloc for
 * pieces of what is sent.  On an error *mpi is NULL and nothing says more than the status: PSG_ERR_ARGUMENT,
 * PSG_ERR_STATE (MPI is not initialized, or no thread may call it), PSG_ERR_MEMORY, PSG_ERR_SYSTEM (MPI refused). */
PSG_API psg_status psg_mpi_create(MPI_Comm comm, psg_mpi **mpi);
/* Collective, after the psg_dp that are attached and before MPI_Finalize.  NULL is none. */
PSG_API void psg_mpi_destroy(psg_mpi *mpi);

PSG_API int psg_mpi_rank(const psg_mpi *mpi);    /* of this process; 0 for NULL */
PSG_API int psg_mpi_ranks(const psg_mpi *mpi);   /* of all; 1 for NULL */
/* The text of MPI's last error here, or of an attach that lacked a psg_dp; "" when there was none. */
PSG_API const char *psg_mpi_message(const psg_mpi *mpi);

/* What psg_dp_set_ranks takes beside the channel; NULL where a struct is asked for: zeros. */
typedef struct psg_mpi_options {
    uint64_t check_every;          /* steps between comparisons of the parameters; 0: 64 */
    int allow_other_kernels;       /* non-zero: instruction sets and OpenBLAS cores may differ */
    int slices;                    /* non-zero, on all: each rank moves its slice of the parameters (psg_dp_ranks) */
    uint64_t reserved[4];
} psg_mpi_options;

#define PSG_MPI_OPTIONS_INIT { 0, 0, 0, { 0, 0, 0, 0 } }

/* Makes the psg_dp of all ranks one (psg_dp_set_ranks, whose errors these are; messages are those of dp's context).
 * mpi outlives dp.  Collective: a rank that could not make its psg_dp gives NULL, and fails all (PSG_ERR_ARGUMENT
 * there, PSG_ERR_STATE on the others, psg_mpi_message).  A psg_dp that is not attached is a mechanism of its own. */
PSG_API psg_status psg_mpi_attach(psg_mpi *mpi, psg_dp *dp, const psg_mpi_options *options);

/* values[k] = their sum over all ranks, in the same bits on all: losses, counts, norms for the eyes of those who train.
 * NOT PRIVATE, and counted by no account.  Collective. */
PSG_API psg_status psg_mpi_sum(psg_mpi *mpi, double *values, size_t count);

/* What this rank has spent in MPI since psg_mpi_create. */
typedef struct psg_mpi_report {
    double seconds;                /* in calls, waiting for others included */
    uint64_t calls, bytes;         /* bytes that it gave to them */
} psg_mpi_report;
PSG_API psg_mpi_report psg_mpi_spent(const psg_mpi *mpi);

#ifdef __cplusplus
}
#endif
#endif
