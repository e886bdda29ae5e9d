/* Many small tensors: N factored gradients of one position, p x d each, clipped and summed in one call.  What a tensor
 * costs beyond its arithmetic shows between rows of different N. */
#include "case.h"

typedef struct tensors_case {
    psg_block *block;
    psg_gradient *gradient;
    const psg_gradient **set;
    psg_tensor *sum;
    size_t count;
} tensors_case;

static psg_status run(bench_case *c) {
    tensors_case *s = c->state;
    const psg_clip clip = { .max_grad_norm = 1, .max_batch_size = c->samples };
    psg_clip_report report;
    psg_status status = psg_clipped_sum(c->context, s->set, s->count, &clip, PSG_OVERWRITE, s->sum, NULL, NULL, &report);
    c->fallbacks = report.fallbacks;
    return status;
}

static void add_tensor(bench_case *c, tensors_case *s, size_t k, int64_t p, int64_t d) {
    psg_tensor g = bench_uniform(c, 1.0, 2, (int64_t[]){ c->samples, p });
    psg_tensor a = bench_uniform(c, 1.0, 2, (int64_t[]){ c->samples, d });
    s->block[k] = psg_factored(&g, &a);
    s->gradient[k] = psg_gradient_of_blocks(&s->block[k], 1, 2, (int64_t[]){ p, d });
    s->set[k] = &s->gradient[k];
    s->sum[k] = bench_zeros(c, 2, (int64_t[]){ p, d });
}

/* Norms read both operands; the sum multiplies and adds. */
static void add_passes(bench_case *c, double tensors, double p, double d) {
    double samples = (double)c->samples, size = (double)psg_dtype_size(c->dtype);
    double operands = tensors * samples * (p + d) * size, outs = tensors * p * d * size;
    bench_add_pass(c, 2 * tensors * samples * (p + d), operands, 8 * samples);
    bench_add_pass(c, 2 * tensors * samples * p * d, operands, outs);
    c->working_set = operands + outs;
}

static psg_status prepare(bench_case *c) {
    const int64_t *dim = c->problem->dim;
    tensors_case *s = bench_memory(c, sizeof *s);
    c->state = s;
    c->samples = dim[1];
    s->count = (size_t)dim[0];
    s->block = bench_memory(c, s->count * sizeof *s->block);
    s->gradient = bench_memory(c, s->count * sizeof *s->gradient);
    s->set = bench_memory(c, s->count * sizeof *s->set);
    s->sum = bench_memory(c, s->count * sizeof *s->sum);
    for (size_t k = 0; k < s->count; k++) add_tensor(c, s, k, dim[2], dim[3]);
    add_passes(c, (double)dim[0], (double)dim[2], (double)dim[3]);
    c->run = run;
    c->tensors = (double)dim[0];
    c->question = PSG_ASK_CLIPPED_SUM;
    c->gradient[0] = s->set[0];
    c->gradient_count = 1;
    return PSG_OK;
}

static const char *const questions[] = { "clipped_sum", NULL };

const bench_op bench_tensors = { "tensors", "N,B,p,d", 4, questions, prepare, NULL };
