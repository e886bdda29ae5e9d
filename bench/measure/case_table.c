/* Ops of the case tables: a line of the table, or one of sizes as the op's pattern has them; forward, input gradient
 * and the gradients of every parameter.
 *
 *   grad_sample   into arrays attached beforehand
 *   sparse        for look-up tables: psg_grad_sample_sparse
 *   clipped_sum   backward and clipped sum against backward and plain sum */
#include <math.h>
#include <string.h>

#include "case.h"
#include "case_lines.h"
#include "plan_passes.h"

typedef struct table_case table_case;
typedef struct sizes { double x, y, w, grads, size; } sizes;     /* bytes; of an element */

struct table_case {
    case_run run;
    psg_tensor cotangent;
    int param_count, operand[BENCH_MAX_PARAMS];     /* the operands that are parameters */
    psg_tensor grad_sample[BENCH_MAX_PARAMS], sum[BENCH_MAX_PARAMS];
    psg_gradient gradient[BENCH_MAX_PARAMS];
    psg_tensor ids, rows;                           /* of the sparse answer */
    int64_t *counts;
    double *factors;
    void (*passes)(bench_case *c, const table_case *s, const sizes *n);     /* but for the sums and their norms */
};

static psg_param *param_of(const table_case *s, int k) { return s->run.param[s->operand[k]]; }

/* ---- what is timed ---- */

static psg_status forward(bench_case *c, int ordinary) {
    table_case *s = c->state;
    psg_pass pass = case_run_pass(&s->run);
    pass.ordinary = ordinary;
    for (int k = 0; k < s->param_count; k++) psg_param_clear_grad_sample(param_of(s, k));
    return case_run_forward(&s->run, &pass);
}

static psg_status forward_per_sample(bench_case *c) { return forward(c, 0); }
static psg_status forward_ordinary(bench_case *c) { return forward(c, 1); }

static psg_status backward(bench_case *c) {
    table_case *s = c->state;
    TRY(psg_backward_from(s->run.tape, s->run.output, &s->cotangent));
    for (int k = 0; k < s->param_count; k++) TRY(psg_gradient_of(s->run.tape, param_of(s, k), &s->gradient[k]));
    return PSG_OK;
}

static psg_status pass(bench_case *c) {
    TRY(forward_per_sample(c));
    return backward(c);
}

static psg_status sparse(bench_case *c) {
    table_case *s = c->state;
    TRY(pass(c));
    return psg_grad_sample_sparse(c->context, &s->gradient[0], 1.0, &s->ids, &s->rows, s->counts);
}

static psg_status clipped_sum(bench_case *c) {
    table_case *s = c->state;
    const psg_clip clip = { .max_grad_norm = 1, .max_batch_size = c->samples };
    psg_clip_report report;
    TRY(backward(c));
    TRY(psg_clipped_sum(c->context, c->gradient, c->gradient_count, &clip, PSG_OVERWRITE, s->sum, NULL, s->factors,
                        &report));
    c->fallbacks = report.fallbacks;
    return PSG_OK;
}

static psg_status plain_sum(bench_case *c) {
    table_case *s = c->state;
    TRY(backward(c));
    return psg_weighted_sum(c->context, c->gradient, c->gradient_count, NULL, PSG_OVERWRITE, s->sum);
}

/* ---- residual: the last sample, computed alone in f64 ---- */

static psg_status compare_sample(bench_case *c, const table_case *s, const table_case *alone, double *residual) {
    for (int k = 0; k < s->param_count; k++) {
        int64_t count = psg_tensor_count(&s->run.value[s->operand[k]]);
        psg_tensor one = psg_tensor_of(PSG_F64, bench_memory(c, (size_t)count * sizeof(double)), 2,
                                       (int64_t[]){ 1, count });
        psg_gradient flat = alone->gradient[k];
        one.rank = flat.rank + 1;
        memcpy(one.shape + 1, flat.shape, sizeof *one.shape * (size_t)flat.rank);
        one = psg_tensor_of(PSG_F64, one.data, one.rank, one.shape);
        TRY(psg_grad_sample(c->context, &flat, 1.0, PSG_OVERWRITE, &one));
        const void *last = bench_at(&s->grad_sample[k], (c->samples - 1) * count);
        *residual = fmax(*residual, bench_error(c, count, last, one.data));
    }
    return PSG_OK;
}

static psg_status residual_of(bench_case *c, double *residual) {
    table_case *s = c->state, alone = *s;
    TRY(case_run_open(&alone.run, c->context, &s->run.line, PSG_F64, c->samples - 1, 1));
    psg_pass one = case_run_pass(&alone.run);
    psg_tensor last = s->cotangent;
    last.shape[0] = 1;
    last.data = bench_at(&s->cotangent, (c->samples - 1) * s->cotangent.stride[0]);
    psg_tensor cotangent = psg_tensor_of(PSG_F64, bench_to_f64(c, &last), last.rank, last.shape);
    psg_status status = case_run_forward(&alone.run, &one);
    if (status == PSG_OK) status = psg_backward_from(alone.run.tape, alone.run.output, &cotangent);
    for (int k = 0; k < s->param_count && status == PSG_OK; k++) {
        status = psg_gradient_of(alone.run.tape, param_of(&alone, k), &alone.gradient[k]);
    }
    if (status == PSG_OK) status = compare_sample(c, s, &alone, residual);
    case_run_close(&alone.run);
    return status;
}

/* ---- limits: forward, input gradient, parameter gradients ---- */

static int has_forward(const bench_case *c) { return !bench_asks(c, "clipped_sum"); }

/* Three products of as many operations each. */
static void products(bench_case *c, const sizes *n, double flops) {
    bench_add_pass(c, flops, n->y + n->w, n->x);
    if (!has_forward(c)) return;
    bench_add_pass(c, flops, n->x + n->w, n->y);
    bench_add_pass(c, flops, n->x + n->y, n->grads);
}

static void conv_passes(bench_case *c, const table_case *s, const sizes *n) {
    const psg_tensor *w = &s->run.value[s->operand[0]];
    products(c, n, 2 * (n->y / n->size) * (double)psg_tensor_count(w) / (double)w->shape[0]);
}

static void norm_passes(bench_case *c, const table_case *s, const sizes *n) {
    (void)s;
    if (has_forward(c)) bench_add_pass(c, 0, n->x, n->y);
    bench_add_pass(c, 0, n->x + n->y, n->x + (has_forward(c) ? n->grads : 0));
}

/* A row of the table read and one of the output written an id; a row of the answer, which is otherwise zeros. */
static void embedding_passes(bench_case *c, const table_case *s, const sizes *n) {
    (void)s;
    if (!has_forward(c)) return;
    bench_add_pass(c, 0, n->y, n->y);
    bench_add_pass(c, 0, n->y, n->y);
    if (bench_asks(c, "grad_sample")) bench_add_clear(c, n->grads);
}

/* Every weight is multiplied once a time step, in each of the three passes. */
static void recurrent_passes(bench_case *c, const table_case *s, const sizes *n) {
    double weights = 0;
    for (int k = 0; k < s->param_count; k++) {
        const psg_tensor *w = &s->run.value[s->operand[k]];
        if (w->rank == 2) weights += (double)psg_tensor_count(w);
    }
    products(c, n, 2 * n->x / n->size / (double)s->run.value[0].shape[2] * weights);
}

/* Projections as linear layers; scores and values 2 T products of the width a position, twice that in backward. */
static void attention_passes(bench_case *c, const table_case *s, const sizes *n) {
    recurrent_passes(c, s, n);
    double T = (double)s->run.value[0].shape[1], flops = 4 * T * n->y / n->size;
    if (has_forward(c)) bench_add_pass(c, flops, 3 * n->y, n->y);
    bench_add_pass(c, 2 * flops, 4 * n->y, 3 * n->y);
}

static psg_status count(bench_case *c) {
    const table_case *s = c->state;
    sizes n = { .size = (double)psg_dtype_size(c->dtype) };
    n.x = n.size * (double)psg_tensor_count(&s->run.value[0]);
    n.y = n.size * (double)psg_tensor_count(&s->cotangent);
    for (int k = 0; k < s->param_count; k++) n.w += n.size * (double)psg_tensor_count(&s->run.value[s->operand[k]]);
    n.grads = bench_asks(c, "grad_sample") ? n.w * (double)c->samples : n.w;
    c->working_set = 2 * (n.x + n.y) + n.w + (bench_asks(c, "sparse") ? n.y : n.grads);
    s->passes(c, s, &n);
    return has_forward(c) ? PSG_OK : bench_add_plan(c, n.size);
}

/* ---- the case ---- */

static void destroy(bench_case *c) { case_run_close(&((table_case *)c->state)->run); }

static psg_status attach(bench_case *c, table_case *s) {
    for (int k = 0; k < s->param_count; k++) {
        const psg_tensor *value = &s->run.value[s->operand[k]];
        int64_t shape[PSG_MAX_RANK] = { c->samples };
        memcpy(shape + 1, value->shape, (size_t)value->rank * sizeof *shape);
        s->grad_sample[k] = bench_zeros(c, value->rank + 1, shape);
        TRY(psg_param_attach_grad_sample(param_of(s, k), &s->grad_sample[k]));
    }
    c->question = PSG_ASK_GRAD_SAMPLE;
    c->run = pass;
    c->residual = residual_of;
    return PSG_OK;
}

static psg_status prepare_sparse(bench_case *c, table_case *s) {
    int64_t T = psg_tensor_count(&s->run.value[0]) / c->samples, width = s->run.value[s->operand[0]].shape[1];
    int64_t *ids = bench_memory(c, (size_t)(c->samples * T) * sizeof *ids);
    s->ids = psg_tensor_of(PSG_I64, ids, 2, (int64_t[]){ c->samples, T });
    s->rows = bench_zeros(c, 3, (int64_t[]){ c->samples, T, width });
    s->counts = bench_memory(c, (size_t)c->samples * sizeof *s->counts);
    c->question = PSG_ASK_GRAD_SAMPLE;
    c->run = sparse;
    return PSG_OK;
}

static psg_status prepare_sums(bench_case *c, table_case *s) {
    for (int k = 0; k < s->param_count; k++) {
        const psg_tensor *value = &s->run.value[s->operand[k]];
        s->sum[k] = bench_zeros(c, value->rank, value->shape);
    }
    s->factors = bench_memory(c, (size_t)c->samples * sizeof *s->factors);
    c->question = PSG_ASK_CLIPPED_SUM;
    c->before = forward_per_sample;
    c->run = clipped_sum;
    c->before_plain = forward_ordinary;
    c->plain = plain_sum;
    return PSG_OK;
}

static psg_status open(bench_case *c, table_case *s) {
    char message[300];
    case_line line;
    if (bench_line_of(c->op, c->problem, &line, message, sizeof message)) bench_die("%s: %s", c->op->name, message);
    return case_run_open(&s->run, c->context, &line, c->dtype, 0, -1);
}

static psg_status prepare(bench_case *c, void (*passes)(bench_case *c, const table_case *s, const sizes *n)) {
    table_case *s = bench_memory(c, sizeof *s);
    psg_tensor output;
    c->state = s;
    TRY(open(c, s));
    c->destroy = destroy;
    c->samples = s->run.line.batch_size;
    for (int k = 0; k < CASE_OPERANDS; k++) {
        if (!s->run.param[k]) continue;
        s->operand[s->param_count] = k;
        c->gradient[s->param_count] = &s->gradient[s->param_count];
        s->param_count++;
    }
    c->gradient_count = (size_t)s->param_count;
    psg_pass once = case_run_pass(&s->run);
    TRY(case_run_forward(&s->run, &once));
    TRY(psg_value(s->run.tape, s->run.output, &output));
    s->cotangent = bench_uniform(c, 1.0, output.rank, output.shape);
    s->passes = passes;
    c->count = count;
    if (bench_asks(c, "grad_sample")) return attach(c, s);
    return bench_asks(c, "sparse") ? prepare_sparse(c, s) : prepare_sums(c, s);
}

static psg_status prepare_conv(bench_case *c) { return prepare(c, conv_passes); }
static psg_status prepare_norm(bench_case *c) { return prepare(c, norm_passes); }
static psg_status prepare_embedding(bench_case *c) { return prepare(c, embedding_passes); }
static psg_status prepare_recurrent(bench_case *c) { return prepare(c, recurrent_passes); }
static psg_status prepare_attention(bench_case *c) { return prepare(c, attention_passes); }

static const char *const questions[] = { "grad_sample", "clipped_sum", NULL };
static const char *const table_questions[] = { "sparse", "grad_sample", "clipped_sum", NULL };

const bench_op bench_conv1d = { "conv1d", "B,C,out,L,k,stride,groups", 7, questions, prepare_conv,
                                "x {B},{C},{L} | weight {out},{C/groups},{k} | bias {out} | "
                                "padding=same stride={stride} groups={groups}" };
const bench_op bench_conv2d = { "conv2d", "B,C,out,H,W,k,stride,groups", 8, questions, prepare_conv,
                                "x {B},{C},{H},{W} | weight {out},{C/groups},{k},{k} | bias {out} | "
                                "padding=same stride={stride} groups={groups}" };
const bench_op bench_conv3d = { "conv3d", "B,C,out,D,H,W,k,stride,groups", 9, questions, prepare_conv,
                                "x {B},{C},{D},{H},{W} | weight {out},{C/groups},{k},{k},{k} | bias {out} | "
                                "padding=same stride={stride} groups={groups}" };
const bench_op bench_instance_norm = { "instance_norm", "B,C,H,W", 4, questions, prepare_norm,
                                       "x {B},{C},{H},{W} | weight {C} | bias {C} |" };
const bench_op bench_embedding = { "embedding", "B,T,rows,width", 4, table_questions, prepare_embedding,
                                   "ids {B},{T} <{rows} | weight {rows},{width} |" };
const bench_op bench_lstm = { "lstm", "B,T,in,hidden", 4, questions, prepare_recurrent,
                              "x {B},{T},{in} | weight_ih_l0 {4*hidden},{in} | weight_hh_l0 {4*hidden},{hidden} | "
                              "bias_ih_l0 {4*hidden} | bias_hh_l0 {4*hidden} |" };
const bench_op bench_attention = { "multi_head_attention", "B,T,width,heads", 4, questions, prepare_attention,
                                   "query {B},{T},{width} | in_proj_weight {3*width},{width} | "
                                   "in_proj_bias {3*width} | out_proj_weight {width},{width} | out_proj_bias {width} | "
                                   "num_heads={heads}" };
