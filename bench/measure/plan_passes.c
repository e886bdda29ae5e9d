#include "plan_passes.h"

#include <stdio.h>
#include <string.h>

/* A line of psg_plan_text. */
typedef struct plan_line {
    const char *text;
    double B, T, p, d;          /* d: 0 where the gradient is no product */
    double operands, kept;      /* bytes */
} plan_line;

static int says(const plan_line *l, const char *words) { return strstr(l->text, words) != NULL; }

/* An image that windows are taken from is counted once, not once a tap. */
static double read_columns(const plan_line *l, const psg_gradient *gradient) {
    double columns = l->d;
    for (int k = 2; k < gradient->rank && says(l, "of windows"); k++) columns /= (double)gradient->shape[k];
    return columns;
}

/* Of a table that is looked up and multiplied, the positions that are multiplied: the others are added. */
static double multiplied_positions(const psg_gradient *gradient) {
    double positions = 0;
    for (size_t k = 0; k < gradient->block_count; k++) {
        const psg_block *block = &gradient->blocks[k];
        double of_block = 1;
        for (int d = 1; d < block->backprop.rank - 1; d++) of_block *= (double)block->backprop.shape[d];
        if (block->form == PSG_FACTORED) positions += of_block;
    }
    return positions;
}

/* "clipped_sum: gradient 0 (weight): recompute (norms by gram), factored T=128 p=768 d=768, budget 0 of 0" */
static plan_line read_line(const bench_case *c, const char *text, int *gradient) {
    plan_line l = { .text = text };
    const char *sizes = strstr(text, " T=");
    *gradient = -1;
    if (!sizes || sscanf(sizes, " T=%lf p=%lf d=%lf", &l.T, &l.p, &l.d) < 2) return l;
    sscanf(text, "%*[^:]: gradient %d", gradient);
    double size = (double)psg_dtype_size(c->dtype);
    l.B = (double)c->gradient[*gradient]->blocks[0].backprop.shape[0]; /* ordinary passes: often 1, of more positions */
    if (says(&l, "cross terms")) l.T = multiplied_positions(c->gradient[*gradient]);
    l.operands = size * l.B * l.T * (l.p + read_columns(&l, c->gradient[*gradient]));
    l.kept = says(&l, ": keep") ? size * l.B * l.p * l.d : 0;
    return l;
}

/* A bias whose norm is taken with its weight's costs nothing. */
static void add_norm(bench_case *c, const plan_line *l) {
    double flops = 2 * l->B * l->T * l->p;
    if (says(l, "with its weight's")) return;
    if (says(l, "gram)") || says(l, ": gram")) flops = l->B * l->T * (l->T + 1) * (l->p + l->d);
    else if (says(l, "identity")) flops = 2 * l->B * (l->p + l->d);
    else if (l->d > 0) flops = 2 * l->B * (l->T + 1) * l->p * l->d;
    bench_add_pass(c, flops, l->operands, l->kept);
}

static void add_sum(bench_case *c, const plan_line *l, double written) {
    double flops = 2 * l->B * l->p * (l->d > 0 ? l->T * l->d : l->T);
    if (l->kept > 0) bench_add_pass(c, 2 * l->B * l->p * l->d, l->kept, written);
    else bench_add_pass(c, flops, says(l, "with its weight's") ? 0 : l->operands, written);
}

static double elements_of(const psg_gradient *gradient) {
    double elements = 1;
    for (int k = 0; k < gradient->rank; k++) elements *= (double)gradient->shape[k];
    return elements;
}

static void add_lines(bench_case *c, char *text, double sum_size) {
    int norms = c->question != PSG_ASK_WEIGHTED_SUM, sums = c->question != PSG_ASK_SQNORM, gradient, last = -1;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        plan_line l = read_line(c, line, &gradient);
        if (gradient < 0) continue;
        double written = sum_size * elements_of(c->gradient[gradient]);
        if (norms) add_norm(c, &l);
        if (sums) add_sum(c, &l, gradient == last ? 0 : written);
        last = gradient;
    }
}

psg_status bench_add_plan(bench_case *c, double sum_size) {
    static char text[1 << 16];
    const psg_clip clip = { .max_grad_norm = 1, .max_batch_size = c->samples };
    TRY(psg_plan_text(c->context, c->question, c->gradient, c->gradient_count, &clip, text, sizeof text, NULL));
    add_lines(c, text, sum_size);
    return PSG_OK;
}
