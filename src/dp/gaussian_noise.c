#include "dp/random.h"

#include <sodium.h>
#include <string.h>

#include "base/context.h"
#include "base/floats.h"
#include "base/parallel.h"
#include "kernels.h"

const double *psg_normals(const psg_generator *generator, const psg_stream *stream, uint64_t first, size_t count,
                          double *scratch) {
    const size_t group = PSG_NORMALS_GROUP, lead = first % group;
    size_t made = (lead + count + group - 1) / group * group;
    psg_stream_read(generator, stream, (first - lead) / PSG_WORDS_PER_BLOCK, scratch, made * sizeof *scratch);
    generator->context->kernels[PSG_F64]->gaussian(made, scratch);
    return scratch + lead;
}

/* ---- the public stream ---- */

#define CHUNK ((size_t)4096)   /* with its words it stays in the first two cache levels */

typedef struct fill {
    const psg_generator *generator;
    psg_stream stream;
    uint64_t first;
    double *out;
    size_t count;
} fill;

static void fill_chunk(void *argument, size_t index, unsigned slot) {
    const fill *job = argument;
    size_t begin = index * CHUNK, count = job->count - begin < CHUNK ? job->count - begin : CHUNK;
    double *scratch = job->generator->context->workspace[slot];
    const double *normals = psg_normals(job->generator, &job->stream, job->first + begin, count, scratch);
    memcpy(job->out + begin, normals, count * sizeof *normals);
    sodium_memzero(scratch, PSG_NORMALS_SCRATCH(count) * sizeof *scratch);
}

psg_status psg_gaussian(psg_generator *generator, uint64_t step, uint32_t parameter, uint64_t first, double *out,
                        size_t count) {
    PSG_DEFAULT_FLOATS;
    if (!generator) return PSG_ERR_ARGUMENT;
    psg_context *context = generator->context;
    psg_status status = psg_generator_check(generator, "psg_gaussian");
    if (status) return status;
    if (!out && count) return psg_fail(context, PSG_ERR_ARGUMENT, "psg_gaussian: out is NULL, must hold %zu", count);
    if (first > INT64_MAX || count > INT64_MAX - first) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_gaussian: first + count is %llu + %zu, must be below 2^63",
                        (unsigned long long)first, count);
    }
    fill job = { generator, { PSG_PURPOSE_GAUSSIAN, parameter, 0, step }, first, out, count };
    psg_parallel(context, (count + CHUNK - 1) / CHUNK, fill_chunk, &job);
    return PSG_OK;
}
