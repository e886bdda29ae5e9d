#include "probe.h"

#include <cblas.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "probe_fma.h"
#include "bench_support.h"

#define TRIALS 4
#define FMA_ROUNDS ((size_t)1 << 19)        /* a millisecond or so: what disturbs it lasts longer than its trials */
#define FMA_TEAMS 4
#define GEMM_SIZE 768
#define GEMM_ELEMENTS ((size_t)GEMM_SIZE * GEMM_SIZE)
#define PIECE ((size_t)16 << 10)            /* what one memcpy or memset gets: below every non-temporal threshold */
#define MAX_WORKING_SET ((size_t)512 << 20)
#define MIN_TRIAL_BYTES ((size_t)32 << 20)  /* small working sets are gone through again and again */

struct probe {
    unsigned threads;
    const char *isa;
    size_t bytes;
    unsigned char *memory;      /* bytes, all touched */
    uint64_t seen;              /* the results of all work: they are used, so the work is done */
};

/* What one thread does in one trial; returns a number that depends on the memory it went through. */
typedef uint64_t (*probe_work)(unsigned char *share, size_t bytes, size_t rounds);

/* ---- memory ---- */

#ifdef __SSE2__
static void write_streaming(unsigned char *to, size_t bytes) {
    __m128i value = _mm_set1_epi8(1);
    for (size_t i = 0; i < bytes; i += sizeof value) _mm_stream_si128((__m128i *)(to + i), value);
    _mm_sfence();
}

static void copy_streaming(unsigned char *to, const unsigned char *from, size_t bytes) {
    for (size_t i = 0; i < bytes; i += sizeof(__m128i)) {
        _mm_stream_si128((__m128i *)(to + i), _mm_load_si128((const __m128i *)(from + i)));
    }
    _mm_sfence();
}
#else
static void write_streaming(unsigned char *to, size_t bytes) { memset(to, 1, bytes); }
static void copy_streaming(unsigned char *to, const unsigned char *from, size_t bytes) { memcpy(to, from, bytes); }
#endif

static uint64_t write_nontemporal(unsigned char *share, size_t bytes, size_t rounds) {
    for (size_t r = 0; r < rounds; r++) write_streaming(share, bytes);
    return share[bytes - 1];
}

static uint64_t write_ordinary(unsigned char *share, size_t bytes, size_t rounds) {
    for (size_t r = 0; r < rounds; r++) {
        for (size_t i = 0; i < bytes; i += PIECE) memset(share + i, 2, bytes - i < PIECE ? bytes - i : PIECE);
    }
    return share[bytes - 1];
}

static uint64_t write_zeros(unsigned char *share, size_t bytes, size_t rounds) {
    for (size_t r = 0; r < rounds; r++) memset(share, 0, bytes);
    return share[bytes - 1];
}

static uint64_t copy_nontemporal(unsigned char *share, size_t bytes, size_t rounds) {
    size_t half = bytes / 128 * 64;
    for (size_t r = 0; r < rounds; r++) copy_streaming(share + half, share, half);
    return share[bytes - 1];
}

static uint64_t copy_ordinary(unsigned char *share, size_t bytes, size_t rounds) {
    size_t half = bytes / 128 * 64;
    for (size_t r = 0; r < rounds; r++) {
        for (size_t i = 0; i < half; i += PIECE) {
            memcpy(share + half + i, share + i, half - i < PIECE ? half - i : PIECE);
        }
    }
    return share[bytes - 1];
}

/* memchr for a byte that is not there reads everything, as fast as the C library's vector code can; another byte each
 * round, so that the compiler cannot take one round for all. */
static uint64_t read_all(unsigned char *share, size_t bytes, size_t rounds) {
    uint64_t found = 0;
    for (size_t r = 0; r < rounds; r++) found += memchr(share, 0xff - (int)(r % 64), bytes) != NULL;
    return found;
}

/* ---- GEMM ---- */

static uint64_t multiply_f32(unsigned char *share, size_t bytes, size_t rounds) {
    float *a = (float *)share, *c = a + 2 * GEMM_ELEMENTS;
    for (size_t r = 0; r < rounds; r++) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, GEMM_SIZE, GEMM_SIZE, GEMM_SIZE, 1, a, GEMM_SIZE,
                    a + GEMM_ELEMENTS, GEMM_SIZE, 0, c, GEMM_SIZE);
    }
    return (uint64_t)c[0] + share[bytes - 1];
}

static uint64_t multiply_f64(unsigned char *share, size_t bytes, size_t rounds) {
    double *a = (double *)share, *c = a + 2 * GEMM_ELEMENTS;
    for (size_t r = 0; r < rounds; r++) {
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, GEMM_SIZE, GEMM_SIZE, GEMM_SIZE, 1, a, GEMM_SIZE,
                    a + GEMM_ELEMENTS, GEMM_SIZE, 0, c, GEMM_SIZE);
    }
    return (uint64_t)c[0] + share[bytes - 1];
}

/* ---- a trial: all threads start together; the last to end counts ---- */

typedef struct team {
    probe_work work;
    size_t share_bytes, rounds;
    unsigned char *memory;
    pthread_barrier_t barrier;
} team;

typedef struct member {
    team *team;
    unsigned index;
    double seconds[TRIALS];
    uint64_t result;
} member;

static void *run_member(void *argument) {
    member *m = argument;
    team *t = m->team;
    for (int trial = 0; trial < TRIALS; trial++) {
        pthread_barrier_wait(&t->barrier);
        double start = now_seconds();
        m->result += t->work(t->memory + m->index * t->share_bytes, t->share_bytes, t->rounds);
        m->seconds[trial] = now_seconds() - start;
    }
    return NULL;
}

static double best_seconds(const member *members, unsigned threads) {
    double best = INFINITY;
    for (int trial = 0; trial < TRIALS; trial++) {
        double slowest = 0;
        for (unsigned k = 0; k < threads; k++) slowest = fmax(slowest, members[k].seconds[trial]);
        best = fmin(best, slowest);
    }
    return best;
}

/* Seconds of the best trial.  The caller is the first member. */
static double run_team(probe *p, probe_work work, unsigned char *memory, size_t share_bytes, size_t rounds) {
    unsigned threads = p->threads;
    team t = { .work = work, .share_bytes = share_bytes, .rounds = rounds, .memory = memory };
    pthread_t *thread = bench_alloc(threads * sizeof *thread);
    member *members = bench_alloc(threads * sizeof *members);
    pthread_barrier_init(&t.barrier, NULL, threads);
    for (unsigned k = 0; k < threads; k++) {
        members[k] = (member){ .team = &t, .index = k };
        if (k > 0 && pthread_create(&thread[k], NULL, run_member, &members[k]) != 0) bench_die("no thread to be had");
    }
    run_member(&members[0]);
    for (unsigned k = 0; k < threads; k++) {
        if (k > 0) pthread_join(thread[k], NULL);
        p->seen += members[k].result;
    }
    pthread_barrier_destroy(&t.barrier);
    double seconds = best_seconds(members, threads);
    free(members);
    free(thread);
    return seconds;
}

/* ---- the probe ---- */

static double gbps(probe *p, probe_work work, size_t working_set) {
    size_t share = working_set / p->threads / 128 * 128;
    size_t rounds = 1 + MIN_TRIAL_BYTES / working_set;
    double seconds = run_team(p, work, p->memory, share, rounds);
    return 1e-9 * (double)(share * rounds * p->threads) / seconds;
}

double probe_fma_gflops(probe *p, psg_dtype dtype) {
    probe_fma fma = probe_fma_of(p->isa, dtype);
    double seconds = INFINITY;
    for (int k = 0; k < FMA_TEAMS; k++) seconds = fmin(seconds, run_team(p, fma.run, NULL, 0, FMA_ROUNDS));
    return 1e-9 * fma.flops * (double)FMA_ROUNDS * p->threads / seconds;
}

probe *probe_create(unsigned threads, const char *isa) {
    probe *p = bench_alloc(sizeof *p);
    p->threads = threads;
    p->isa = isa;
    return p;
}

void probe_destroy(probe *p) {
    free(p->memory);
    free(p);
}

static void hold(probe *p, size_t bytes) {
    if (bytes <= p->bytes) return;
    free(p->memory);
    p->memory = bench_alloc(bytes);
    p->bytes = bytes;
}

probe_rates probe_measure(probe *p, psg_dtype dtype, size_t working_set) {
    size_t bytes = working_set < MAX_WORKING_SET ? working_set : MAX_WORKING_SET;
    if (bytes < 256 * (size_t)p->threads) bytes = 256 * (size_t)p->threads;
    hold(p, bytes);
    probe_rates rates = { .fma_gflops = probe_fma_gflops(p, dtype), .read_gbps = gbps(p, read_all, bytes) };
    rates.write_gbps = fmax(gbps(p, write_ordinary, bytes), gbps(p, write_nontemporal, bytes));
    rates.clear_gbps = fmax(gbps(p, write_zeros, bytes), rates.write_gbps);
    rates.copy_gbps = fmax(gbps(p, copy_ordinary, bytes), gbps(p, copy_nontemporal, bytes));
    return rates;
}

double probe_openblas_gflops(probe *p, psg_dtype dtype) {
    size_t share = 3 * GEMM_ELEMENTS * psg_dtype_size(dtype);
    unsigned char *operands = bench_alloc(p->threads * share);
    memset(operands, 0x3c, p->threads * share);     /* 0.011 in f32, 1.6e-17 in f64 */
    openblas_set_num_threads(1);
    double seconds = run_team(p, dtype == PSG_F64 ? multiply_f64 : multiply_f32, operands, share, 1);
    free(operands);
    return 1e-9 * 2.0 * GEMM_SIZE * (double)GEMM_ELEMENTS * p->threads / seconds;
}
