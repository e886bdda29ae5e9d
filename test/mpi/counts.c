/* How libpsg-mpi cuts what is sent: against an MPI that counts and sends nothing, which is this program as rank RANK
 * of RANKS.  No count may leave int, no call may pass its buffer, and every element is sent once, also where there are
 * more than 2^31 of them.  Those are one small piece of memory, mapped again and again. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <psg/mpi.h>

#include "pieces.h"

enum { RANK = 1, RANKS = 2 };

#define CHECK(holds) ((holds) ? (void)0 : (fprintf(stderr, "line %d: %s\n", __LINE__, #holds), exit(1)))

/* ---- the MPI ---- */

static struct { uint64_t calls, elements; } counted;

static void count_call(int count) {
    CHECK(count > 0);
    counted.calls++;
    counted.elements += (uint64_t)count;
}

int MPI_Initialized(int *flag) { return *flag = 1, MPI_SUCCESS; }
int MPI_Finalized(int *flag) { return *flag = 0, MPI_SUCCESS; }
int MPI_Query_thread(int *level) { return *level = MPI_THREAD_FUNNELED, MPI_SUCCESS; }
int MPI_Is_thread_main(int *flag) { return *flag = 1, MPI_SUCCESS; }
int MPI_Comm_get_errhandler(MPI_Comm comm, MPI_Errhandler *handler) { return (void)comm, *handler = MPI_ERRORS_RETURN, 0; }
int MPI_Errhandler_free(MPI_Errhandler *handler) { return *handler = MPI_ERRHANDLER_NULL, MPI_SUCCESS; }
int MPI_Comm_dup(MPI_Comm comm, MPI_Comm *copy) { return *copy = comm, MPI_SUCCESS; }
int MPI_Comm_set_errhandler(MPI_Comm comm, MPI_Errhandler handler) { return (void)comm, (void)handler, MPI_SUCCESS; }
int MPI_Comm_rank(MPI_Comm comm, int *rank) { return (void)comm, *rank = RANK, MPI_SUCCESS; }
int MPI_Comm_size(MPI_Comm comm, int *ranks) { return (void)comm, *ranks = RANKS, MPI_SUCCESS; }
int MPI_Comm_free(MPI_Comm *comm) { return *comm = MPI_COMM_NULL, MPI_SUCCESS; }
double MPI_Wtime(void) { return 0; }

int MPI_Allreduce(const void *send, void *data, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm) {
    return (void)send, (void)data, (void)count, (void)type, (void)op, (void)comm, MPI_SUCCESS;
}

int MPI_Bcast(void *data, int count, MPI_Datatype type, int root, MPI_Comm comm) {
    (void)data, (void)type, (void)root, (void)comm;
    return count_call(count), MPI_SUCCESS;
}

int MPI_Reduce(const void *send, void *data, int count, MPI_Datatype type, MPI_Op op, int root, MPI_Comm comm) {
    (void)send, (void)data, (void)type, (void)op, (void)root, (void)comm;
    return count_call(count), MPI_SUCCESS;
}

/* All ranks have the same sums. */
int MPI_Reduce_scatter_block(const void *send, void *data, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm) {
    int64_t *stage = data;
    (void)type, (void)op, (void)comm;
    count_call(count);
    CHECK(send == MPI_IN_PLACE && (size_t)count * RANKS * sizeof *stage <= PSG_MPI_STAGE);
    for (int k = 0; k < count; k++) stage[k] = RANKS * stage[RANK * count + k];
    return MPI_SUCCESS;
}

/* Rank 0 has the bytes of this one, each with its bits turned over. */
int MPI_Allgather(const void *send, int none, MPI_Datatype nothing, void *data, int count, MPI_Datatype type,
                  MPI_Comm comm) {
    unsigned char *stage = data;
    (void)none, (void)nothing, (void)type, (void)comm;
    count_call(count);
    CHECK(send == MPI_IN_PLACE && (size_t)count * RANKS <= PSG_MPI_STAGE);
    for (int k = 0; k < count; k++) stage[k] = (unsigned char)~stage[RANK * count + k];
    return MPI_SUCCESS;
}

/* ---- what is asked of it ---- */

static psg_dp_ranks attached;
static char mechanism;   /* its address alone counts */

psg_status psg_dp_set_ranks(psg_dp *dp, const psg_dp_ranks *ranks) {
    (void)dp;
    attached = *ranks;
    return PSG_OK;
}

/* bytes of address space in which every MAPPED are the same memory. */
static void *map_again_and_again(size_t bytes) {
    enum { MAPPED = 8 << 20 };
    const int file = memfd_create("sums", 0);
    char *all = mmap(NULL, bytes + MAPPED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(file >= 0 && !ftruncate(file, MAPPED) && all != MAP_FAILED);
    for (size_t at = 0; at < bytes; at += MAPPED) {
        CHECK(mmap(all + at, MAPPED, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) != MAP_FAILED);
    }
    close(file);
    return all;
}

static void expect(uint64_t elements, uint64_t least_calls) {
    CHECK(counted.elements == elements && counted.calls >= least_calls);
    counted.calls = counted.elements = 0;
}

static void large_counts_are_cut(psg_mpi *mpi) {
    const size_t many = ((size_t)1 << 31) + 16;
    void *data = map_again_and_again(many * sizeof(int64_t));
    CHECK(!attached.broadcast(mpi, data, many));
    expect(many, 2);
    CHECK(!psg_mpi_sum(mpi, data, many));
    expect(many + many * sizeof(double), 2);
    CHECK(!attached.gather(mpi, data, many));
    expect(many, many / PSG_MPI_STAGE);
    CHECK(!attached.reduce_scatter(mpi, data, many / RANKS));
    expect(many / RANKS, many / RANKS / PSG_MPI_STAGE);
    munmap(data, many * sizeof(int64_t));
}

/* Two whole pieces and a part of one. */
static void pieces_arrive_where_they_belong(psg_mpi *mpi) {
    const size_t block = 2 * psg_mpi_piece(RANKS) / sizeof(int64_t) + 5;
    int64_t *sums = malloc(RANKS * block * sizeof *sums);
    CHECK(sums);
    for (size_t k = 0; k < RANKS * block; k++) sums[k] = (int64_t)k * 1000003;
    CHECK(!attached.reduce_scatter(mpi, sums, block));
    for (size_t k = RANK * block; k < (RANK + 1) * block; k++) CHECK(sums[k] == RANKS * (int64_t)k * 1000003);
    CHECK(!attached.gather(mpi, sums, block * sizeof *sums));
    for (size_t k = 0; k < block; k++) CHECK(sums[k] == ~sums[RANK * block + k]);
    for (size_t k = RANK * block; k < (RANK + 1) * block; k++) CHECK(sums[k] == RANKS * (int64_t)k * 1000003);
    free(sums);
    expect(block + block * sizeof *sums, 6);
}

int main(void) {
    psg_mpi *mpi;
    CHECK(!psg_mpi_create(MPI_COMM_WORLD, &mpi) && !psg_mpi_attach(mpi, (psg_dp *)(void *)&mechanism, NULL));
    pieces_arrive_where_they_belong(mpi);
    large_counts_are_cut(mpi);
    psg_mpi_destroy(mpi);
    puts("counts: every element once, in pieces that MPI can count");
    return 0;
}
