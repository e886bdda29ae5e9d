#include "psg/mpi.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pieces.h"

struct psg_mpi {
    MPI_Comm comm;
    int rank, ranks;
    unsigned char *stage;          /* ranks pieces */
    psg_mpi_report spent;
    char message[MPI_MAX_ERROR_STRING + 64];
};

/* ---- calls of MPI ---- */

/* The status of a call that began at `began` and was given so many bytes. */
static psg_status ended(psg_mpi *mpi, const char *call, double began, size_t bytes, int code) {
    int length = 0;
    char text[MPI_MAX_ERROR_STRING] = "";
    mpi->spent.seconds += MPI_Wtime() - began;
    mpi->spent.bytes += bytes;
    mpi->spent.calls++;
    if (code == MPI_SUCCESS) return PSG_OK;
    MPI_Error_string(code, text, &length);
    snprintf(mpi->message, sizeof mpi->message, "%s: %s", call, text);
    return PSG_ERR_SYSTEM;
}

static psg_status broadcast(void *user, void *data, size_t bytes) {
    psg_mpi *mpi = user;
    psg_status status = PSG_OK;
    for (size_t at = 0, part; at < bytes; at += part) {   /* after an error too: others are in the next part */
        const double began = MPI_Wtime();
        part = psg_mpi_part(bytes, at, (size_t)1 << 30);
        const psg_status of_part = ended(mpi, "MPI_Bcast", began, mpi->rank ? 0 : part,
                                         MPI_Bcast((char *)data + at, (int)part, MPI_BYTE, 0, mpi->comm));
        if (!status) status = of_part;
    }
    return status;
}

static psg_status largest(void *user, int64_t *value) {
    psg_mpi *mpi = user;
    const double began = MPI_Wtime();
    return ended(mpi, "MPI_Allreduce", began, sizeof *value,
                 MPI_Allreduce(MPI_IN_PLACE, value, 1, MPI_INT64_T, MPI_MAX, mpi->comm));
}

/* In place, MPI leaves the block of this rank at the start of the buffer. */
static psg_status reduce_part(psg_mpi *mpi, int64_t *sums, size_t block, size_t at, size_t count) {
    int64_t *stage = (int64_t *)(void *)mpi->stage;
    for (size_t k = 0; k < (size_t)mpi->ranks; k++) {
        memcpy(stage + k * count, sums + k * block + at, count * sizeof *stage);
    }
    const double began = MPI_Wtime();
    const int code = MPI_Reduce_scatter_block(MPI_IN_PLACE, stage, (int)count, MPI_INT64_T, MPI_SUM, mpi->comm);
    const psg_status status = ended(mpi, "MPI_Reduce_scatter_block", began,
                                    (size_t)(mpi->ranks - 1) * count * sizeof *stage, code);
    if (!status) memcpy(sums + (size_t)mpi->rank * block + at, stage, count * sizeof *stage);
    return status;
}

static psg_status reduce_scatter(void *user, int64_t *sums, size_t block) {
    psg_mpi *mpi = user;
    const size_t piece = psg_mpi_piece(mpi->ranks) / sizeof *sums;
    psg_status status = PSG_OK;
    for (size_t at = 0, part; at < block; at += part) {
        part = psg_mpi_part(block, at, piece);
        const psg_status of_part = reduce_part(mpi, sums, block, at, part);
        if (!status) status = of_part;
    }
    return status;
}

static psg_status gather_part(psg_mpi *mpi, unsigned char *blocks, size_t bytes, size_t at, size_t part) {
    memcpy(mpi->stage + (size_t)mpi->rank * part, blocks + (size_t)mpi->rank * bytes + at, part);
    const double began = MPI_Wtime();
    const int code = MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, mpi->stage, (int)part, MPI_BYTE, mpi->comm);
    const psg_status status = ended(mpi, "MPI_Allgather", began, (size_t)(mpi->ranks - 1) * part, code);
    for (size_t k = 0; !status && k < (size_t)mpi->ranks; k++) {
        memcpy(blocks + k * bytes + at, mpi->stage + k * part, part);
    }
    return status;
}

static psg_status gather(void *user, void *blocks, size_t bytes) {
    psg_mpi *mpi = user;
    const size_t piece = psg_mpi_piece(mpi->ranks);
    psg_status status = PSG_OK;
    for (size_t at = 0, part; at < bytes; at += part) {
        part = psg_mpi_part(bytes, at, piece);
        const psg_status of_part = gather_part(mpi, blocks, bytes, at, part);
        if (!status) status = of_part;
    }
    return status;
}

/* ---- life ---- */

/* Below MPI_THREAD_SERIALIZED the thread that initialized MPI alone. */
static bool may_call(void) {
    int is_there = 0, is_over = 0, level = MPI_THREAD_SINGLE, is_main = 0;
    MPI_Initialized(&is_there);
    MPI_Finalized(&is_over);
    if (!is_there || is_over) return false;
    MPI_Query_thread(&level);
    MPI_Is_thread_main(&is_main);
    return level >= (is_main ? MPI_THREAD_FUNNELED : MPI_THREAD_SERIALIZED);
}

/* The caller's communicator reports errors as the caller wants; this call returns its own. */
static psg_status duplicate(MPI_Comm comm, MPI_Comm *own) {
    MPI_Errhandler handler;
    if (MPI_Comm_get_errhandler(comm, &handler) != MPI_SUCCESS) return PSG_ERR_SYSTEM;
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    const int code = MPI_Comm_dup(comm, own);
    MPI_Comm_set_errhandler(comm, handler);
    MPI_Errhandler_free(&handler);
    if (code != MPI_SUCCESS) return PSG_ERR_SYSTEM;
    MPI_Comm_set_errhandler(*own, MPI_ERRORS_RETURN);
    return PSG_OK;
}

static psg_mpi *open_ranks(MPI_Comm own) {
    psg_mpi *mpi = calloc(1, sizeof *mpi);
    if (!mpi) return NULL;
    mpi->comm = own;
    MPI_Comm_rank(own, &mpi->rank);
    MPI_Comm_size(own, &mpi->ranks);
    mpi->stage = malloc(psg_mpi_piece(mpi->ranks) * (size_t)mpi->ranks);
    if (mpi->stage) return mpi;
    free(mpi);
    return NULL;
}

/* Memory that one rank lacks fails on all, so that none waits for it later. */
psg_status psg_mpi_create(MPI_Comm comm, psg_mpi **mpi) {
    MPI_Comm own;
    if (!mpi) return PSG_ERR_ARGUMENT;
    *mpi = NULL;
    if (!may_call()) return PSG_ERR_STATE;
    if (comm == MPI_COMM_NULL) return PSG_ERR_ARGUMENT;
    psg_status status = duplicate(comm, &own);
    if (status) return status;
    psg_mpi *made = open_ranks(own);
    int lacks = made == NULL;
    if (MPI_Allreduce(MPI_IN_PLACE, &lacks, 1, MPI_INT, MPI_MAX, own) != MPI_SUCCESS) status = PSG_ERR_SYSTEM;
    else if (lacks) status = PSG_ERR_MEMORY;
    if (!status) *mpi = made;
    else if (made) psg_mpi_destroy(made);
    else MPI_Comm_free(&own);
    return status;
}

void psg_mpi_destroy(psg_mpi *mpi) {
    if (!mpi) return;
    if (may_call()) MPI_Comm_free(&mpi->comm);
    explicit_bzero(mpi->stage, psg_mpi_piece(mpi->ranks) * (size_t)mpi->ranks);
    free(mpi->stage);
    free(mpi);
}

int psg_mpi_rank(const psg_mpi *mpi) { return mpi ? mpi->rank : 0; }
int psg_mpi_ranks(const psg_mpi *mpi) { return mpi ? mpi->ranks : 1; }
const char *psg_mpi_message(const psg_mpi *mpi) { return mpi ? mpi->message : ""; }

psg_mpi_report psg_mpi_spent(const psg_mpi *mpi) { return mpi ? mpi->spent : (psg_mpi_report){ 0 }; }

/* ---- use ---- */

/* A rank whose psg_dp was not made says so to those who wait for it. */
static psg_status is_everywhere(psg_mpi *mpi, bool is_here) {
    int64_t lacks = is_here ? 0 : mpi->rank + 1;
    const psg_status status = largest(mpi, &lacks);
    if (status || !lacks) return status;
    snprintf(mpi->message, sizeof mpi->message, "psg_mpi_attach: dp is NULL on rank %d, must be there on all ranks",
             (int)lacks - 1);
    return is_here ? PSG_ERR_STATE : PSG_ERR_ARGUMENT;
}

psg_status psg_mpi_attach(psg_mpi *mpi, psg_dp *dp, const psg_mpi_options *options) {
    psg_dp_ranks ranks = PSG_DP_RANKS_INIT;
    if (!mpi) return PSG_ERR_ARGUMENT;
    psg_status status = is_everywhere(mpi, dp != NULL);
    if (status) return status;
    ranks.rank = mpi->rank;
    ranks.ranks = mpi->ranks;
    ranks.user = mpi;
    ranks.broadcast = broadcast;
    ranks.largest = largest;
    ranks.reduce_scatter = reduce_scatter;
    ranks.gather = gather;
    if (options) {
        ranks.check_every = options->check_every;
        ranks.allow_other_kernels = options->allow_other_kernels;
        ranks.slices = options->slices;
        memcpy(ranks.reserved, options->reserved, sizeof ranks.reserved);
    }
    return psg_dp_set_ranks(dp, &ranks);
}

/* On rank 0, in the order of ranks that MPI recommends for equal results, and from there to all: one rounding. */
psg_status psg_mpi_sum(psg_mpi *mpi, double *values, size_t count) {
    if (!mpi || (!values && count)) return PSG_ERR_ARGUMENT;
    psg_status status = PSG_OK;
    for (size_t at = 0, part; at < count; at += part) {
        const double began = MPI_Wtime();
        part = psg_mpi_part(count, at, (size_t)1 << 20);
        const int code = MPI_Reduce(mpi->rank ? values + at : MPI_IN_PLACE, values + at, (int)part, MPI_DOUBLE, MPI_SUM,
                                    0, mpi->comm);
        const psg_status of_part = ended(mpi, "MPI_Reduce", began, part * sizeof *values, code);
        if (!status) status = of_part;
    }
    const psg_status sent = broadcast(mpi, values, count * sizeof *values);
    return status ? status : sent;
}
