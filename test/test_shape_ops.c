/* The shape ops at random arguments.  All but fold copy: element i of the output is element source(i) of an input, or a
 * constant.  That map, written anew here, says what the output is and, read backwards, what the gradients are: both
 * must be exact, for every type, wherever the batch is, and for any number of threads.  fold is unfold read
 * backwards. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

enum { MOST_INPUTS = 40, NOWHERE = -1 };

/* ---- one application ---- */

typedef struct instance {
    int inputs;                                  /* of one shape but for dimension dim of cat */
    psg_tensor in[MOST_INPUTS];
    psg_pass pass;
    int batch;                                   /* the dimension that must not be touched; -1: none */
    int rank;                                    /* arguments */
    int dims[PSG_MAX_RANK];
    int64_t numbers[2 * PSG_MAX_RANK];
    int mode;
    double value;
    psg_unfold_options windows;
} instance;

typedef struct kind {
    const char *name;
    void (*draw)(test_random *random, instance *c);                             /* shape and arguments */
    psg_var (*build)(psg_tape *tape, const instance *c, const psg_var *in);
    int64_t (*source)(const instance *c, const int64_t *out, int *input);       /* row-major element, or NOWHERE */
} kind;

static int64_t flat(const psg_tensor *t, const int64_t *index) {
    int64_t k = 0;
    for (int d = 0; d < t->rank; d++) k = k * t->shape[d] + index[d];
    return k;
}

/* A dimension that is not the batch, and a name for it, maybe negative. */
static int other_dim(test_random *random, const instance *c) {
    int dim;
    do dim = (int)test_range(random, 0, c->in[0].rank - 1); while (dim == c->batch);
    return dim;
}
static int named(test_random *random, int dim, int rank) { return test_range(random, 0, 1) ? dim : dim - rank; }
static int positive(int dim, int rank) { return dim < 0 ? dim + rank : dim; }

/* ---- permute, transpose ---- */

static void draw_permute(test_random *random, instance *c) {
    c->rank = c->in[0].rank;
    for (int d = 0; d < c->rank; d++) c->dims[d] = d;
    for (int k = 0; k < 10; k++) {
        int a = other_dim(random, c), b = other_dim(random, c), kept = c->dims[a];
        c->dims[a] = c->dims[b];
        c->dims[b] = kept;
    }
    for (int d = 0; d < c->rank; d++) c->dims[d] = named(random, c->dims[d], c->rank);
}
static psg_var build_permute(psg_tape *t, const instance *c, const psg_var *in) {
    return psg_permute(t, in[0], c->rank, c->dims);
}
static int64_t source_permute(const instance *c, const int64_t *out, int *input) {
    int64_t at[PSG_MAX_RANK];
    *input = 0;
    for (int d = 0; d < c->rank; d++) at[positive(c->dims[d], c->rank)] = out[d];
    return flat(&c->in[0], at);
}

static void draw_transpose(test_random *random, instance *c) {
    for (int k = 0; k < 2; k++) c->dims[k] = named(random, other_dim(random, c), c->in[0].rank);
}
static psg_var build_transpose(psg_tape *t, const instance *c, const psg_var *in) {
    return psg_transpose(t, in[0], c->dims[0], c->dims[1]);
}
static int64_t source_transpose(const instance *c, const int64_t *out, int *input) {
    int64_t at[PSG_MAX_RANK];
    int rank = c->in[0].rank, a = positive(c->dims[0], rank), b = positive(c->dims[1], rank);
    *input = 0;
    memcpy(at, out, sizeof at);
    at[a] = out[b];
    at[b] = out[a];
    return flat(&c->in[0], at);
}

/* ---- slice, select, flip ---- */

static void draw_slice(test_random *random, instance *c) {
    c->dims[0] = named(random, other_dim(random, c), c->in[0].rank);
    for (int k = 0; k < 2; k++) c->numbers[k] = test_range(random, -9, 9);
    if (test_range(random, 0, 3) == 0) c->numbers[1] = INT64_MAX;
    if (test_range(random, 0, 3) == 0) c->numbers[0] = INT64_MIN;
    c->numbers[2] = test_range(random, 1, 4);
}
static psg_var build_slice(psg_tape *t, const instance *c, const psg_var *in) {
    return psg_slice(t, in[0], c->dims[0], c->numbers[0], c->numbers[1], c->numbers[2]);
}
static int64_t source_slice(const instance *c, const int64_t *out, int *input) {
    int64_t at[PSG_MAX_RANK];
    int dim = positive(c->dims[0], c->in[0].rank);
    int64_t size = c->in[0].shape[dim], start = c->numbers[0] < -size ? 0 : c->numbers[0];
    *input = 0;
    memcpy(at, out, sizeof at);
    at[dim] = (start < 0 ? start + size : start) + out[dim] * c->numbers[2];
    return flat(&c->in[0], at);
}

static void draw_select(test_random *random, instance *c) {
    int dim = other_dim(random, c), rank = c->in[0].rank;
    /* the batch must stay where it is looked for */
    while (c->batch == 1 && (dim < 2 ? rank != 3 : rank == 3)) {
        dim = other_dim(random, c);
        if (rank < 3) return;
    }
    c->dims[0] = named(random, dim, rank);
    c->numbers[0] = test_range(random, -c->in[0].shape[dim], c->in[0].shape[dim] - 1);
}
static psg_var build_select(psg_tape *t, const instance *c, const psg_var *in) {
    return psg_select(t, in[0], c->dims[0], c->numbers[0]);
}
static int64_t source_select(const instance *c, const int64_t *out, int *input) {
    int64_t at[PSG_MAX_RANK];
    int rank = c->in[0].rank, dim = positive(c->dims[0], rank);
    *input = 0;
    for (int d = 0; d < rank; d++) at[d] = out[d - (d > dim)];
    at[dim] = c->numbers[0] < 0 ? c->numbers[0] + c->in[0].shape[dim] : c->numbers[0];
    return flat(&c->in[0], at);
}

static void draw_flip(test_random *random, instance *c) {
    for (int d = 0; d < c->in[0].rank; d++) {
        if (d != c->batch && test_range(random, 0, 1)) c->dims[c->rank++] = named(random, d, c->in[0].rank);
    }
}
static psg_var build_flip(psg_tape *t, const instance *c, const psg_var *in) {
    return psg_flip(t, in[0], c->rank, c->dims);
}
static int64_t source_flip(const instance *c, const int64_t *out, int *input) {
    int64_t at[PSG_MAX_RANK];
    *input = 0;
    memcpy(at, out, sizeof at);
    for (int k = 0; k < c->rank; k++) {
        int dim = positive(c->dims[k], c->in[0].rank);
        at[dim] = c->in[0].shape[dim] - 1 - out[dim];
    }
    return flat(&c->in[0], at);
}

/* ---- expand, squeeze, unsqueeze ---- */

/* Puts the batch, if it is not dimension 0, back to dimension 0: new dimensions would move it. */
static void draw_expand(test_random *random, instance *c) {
    psg_tensor *x = &c->in[0];
    int64_t shape[PSG_MAX_RANK];
    int new = c->batch < 0 ? (int)test_range(random, 0, 2) : 0;
    c->rank = x->rank + new;
    for (int d = 0; d < x->rank; d++) {
        bool repeated = d != c->batch && test_range(random, 0, 1);
        shape[d] = repeated ? 1 : x->shape[d];
        c->numbers[d + new] = repeated ? test_range(random, 0, 4) : test_range(random, 0, 1) ? -1 : shape[d];
    }
    for (int d = 0; d < new; d++) c->numbers[d] = test_range(random, 1, 3);
    *x = psg_tensor_of(x->dtype, NULL, x->rank, shape);
}
static psg_var build_expand(psg_tape *t, const instance *c, const psg_var *in) {
    return psg_expand(t, in[0], c->rank, c->numbers);
}
static int64_t source_expand(const instance *c, const int64_t *out, int *input) {
    int64_t at[PSG_MAX_RANK];
    *input = 0;
    for (int d = 0; d < c->in[0].rank; d++) at[d] = c->in[0].shape[d] == 1 ? 0 : out[d + c->rank - c->in[0].rank];
    return flat(&c->in[0], at);
}

static void draw_squeeze(test_random *random, instance *c) {
    int64_t shape[PSG_MAX_RANK];
    int rank = c->in[0].rank, dim = c->batch == 1 && rank > 3 ? 2 + (int)test_range(random, 0, rank - 3)
                                    : c->batch == 1 ? 0 : other_dim(random, c);
    memcpy(shape, c->in[0].shape, sizeof shape);
    if (c->batch == 1 || test_range(random, 0, 1)) shape[dim] = 1;
    c->in[0] = psg_tensor_of(c->in[0].dtype, NULL, rank, shape);
    c->dims[0] = named(random, dim, rank);
}
static psg_var build_squeeze(psg_tape *t, const instance *c, const psg_var *in) {
    return psg_squeeze(t, in[0], c->dims[0]);
}
static psg_var build_unsqueeze(psg_tape *t, const instance *c, const psg_var *in) {
    return psg_unsqueeze(t, in[0], c->dims[0]);
}
static void draw_unsqueeze(test_random *random, instance *c) {
    int rank = c->in[0].rank;
    c->dims[0] = named(random, (int)test_range(random, c->batch + 1, rank), rank + 1);
}
/* The output has the same elements in the same order: its rank tells which op it was. */
static int64_t source_same_order(const instance *c, const int64_t *out, int *input) {
    int64_t at[PSG_MAX_RANK];
    int rank = c->in[0].rank, dropped = positive(c->dims[0], rank);
    *input = 0;
    for (int d = 0; d < rank; d++) {
        if (c->in[0].shape[dropped] == 1) at[d] = d == dropped ? 0 : out[d - (d > dropped)];
        else at[d] = out[d];
    }
    return flat(&c->in[0], at);
}
static int64_t source_unsqueeze(const instance *c, const int64_t *out, int *input) {
    int64_t at[PSG_MAX_RANK];
    int rank = c->in[0].rank, new = positive(c->dims[0], rank + 1);
    *input = 0;
    for (int d = 0; d < rank; d++) at[d] = out[d + (d >= new)];
    return flat(&c->in[0], at);
}

/* ---- cat, stack ---- */

static void draw_cat(test_random *random, instance *c) {
    int dim = other_dim(random, c);
    c->inputs = (int)(test_range(random, 0, 3) ? test_range(random, 1, 5) : test_range(random, 16, MOST_INPUTS));
    c->dims[0] = named(random, dim, c->in[0].rank);
    for (int k = 1; k < c->inputs; k++) {
        int64_t shape[PSG_MAX_RANK];
        memcpy(shape, c->in[0].shape, sizeof shape);
        shape[dim] = test_range(random, 0, 4);
        c->in[k] = psg_tensor_of(c->in[0].dtype, NULL, c->in[0].rank, shape);
    }
}
static psg_var build_cat(psg_tape *t, const instance *c, const psg_var *in) {
    return psg_cat(t, in, c->inputs, c->dims[0]);
}
static int64_t source_cat(const instance *c, const int64_t *out, int *input) {
    int64_t at[PSG_MAX_RANK];
    int dim = positive(c->dims[0], c->in[0].rank);
    memcpy(at, out, sizeof at);
    for (*input = 0; at[dim] >= c->in[*input].shape[dim]; ++*input) at[dim] -= c->in[*input].shape[dim];
    return flat(&c->in[*input], at);
}

static void draw_stack(test_random *random, instance *c) {
    draw_unsqueeze(random, c);
    c->inputs = (int)test_range(random, 1, 20);
    for (int k = 1; k < c->inputs; k++) c->in[k] = c->in[0];
}
static psg_var build_stack(psg_tape *t, const instance *c, const psg_var *in) {
    return psg_stack(t, in, c->inputs, c->dims[0]);
}
static int64_t source_stack(const instance *c, const int64_t *out, int *input) {
    int64_t element = source_unsqueeze(c, out, input);
    *input = (int)out[positive(c->dims[0], c->in[0].rank + 1)];
    return element;
}

/* ---- pad ---- */

static void draw_pad(test_random *random, instance *c) {
    const psg_tensor *x = &c->in[0];
    c->rank = 2 * (int)test_range(random, 0, x->rank);
    c->mode = (int)test_range(random, 0, 3);
    c->value = 2.5 + (psg_dtype_size(x->dtype) && x->dtype >= PSG_I32 ? 0.5 : 0);
    for (int k = 0; k < c->rank; k++) {
        int d = x->rank - 1 - k / 2;
        int64_t most = c->mode == PSG_PAD_REFLECT ? x->shape[d] - 1 : c->mode == PSG_PAD_CIRCULAR ? x->shape[d] : 4;
        int64_t least = c->mode == PSG_PAD_CONSTANT ? -x->shape[d] / 2 : 0;
        c->numbers[k] = d == c->batch ? 0 : test_range(random, least, most > 0 ? most : 0);
        if (!x->shape[d] && c->mode != PSG_PAD_CONSTANT) c->numbers[k] = 0;
    }
}
static psg_var build_pad(psg_tape *t, const instance *c, const psg_var *in) {
    return psg_pad(t, in[0], c->rank, c->numbers, (psg_pad_mode)c->mode, c->value);
}
static int64_t source_pad(const instance *c, const int64_t *out, int *input) {
    int64_t at[PSG_MAX_RANK];
    int rank = c->in[0].rank;
    *input = 0;
    for (int d = 0; d < rank; d++) {
        int k = 2 * (rank - 1 - d);
        int64_t size = c->in[0].shape[d], i = out[d] - (k < c->rank ? c->numbers[k] : 0);
        switch (c->mode) {
        case PSG_PAD_REFLECT: while (i < 0 || i >= size) i = i < 0 ? -i : 2 * (size - 1) - i; break;
        case PSG_PAD_REPLICATE: i = i < 0 ? 0 : i >= size ? size - 1 : i; break;
        case PSG_PAD_CIRCULAR: i = (i + size) % size; break;
        default: if (i < 0 || i >= size) return NOWHERE;
        }
        at[d] = i;
    }
    return flat(&c->in[0], at);
}

/* ---- unfold ---- */

static void draw_windows(test_random *random, const psg_tensor *x, psg_unfold_options *o) {
    for (int d = 0; d < 2; d++) {
        int64_t size = x->shape[2 + d];
        o->padding[d] = test_range(random, 0, 3);
        o->stride[d] = test_range(random, 0, 3);
        do {
            o->kernel[d] = test_range(random, 1, 4);
            o->dilation[d] = test_range(random, 0, 2);
        } while ((o->dilation[d] ? o->dilation[d] : 1) * (o->kernel[d] - 1) >= size + 2 * o->padding[d]);
    }
}
static void draw_unfold(test_random *random, instance *c) {
    int64_t shape[4] = { 2, 3, test_range(random, 1, 6), test_range(random, 1, 40) };
    c->in[0] = psg_tensor_of(c->in[0].dtype, NULL, 4, shape);
    draw_windows(random, &c->in[0], &c->windows);
}
static psg_var build_unfold(psg_tape *t, const instance *c, const psg_var *in) {
    return psg_unfold(t, in[0], &c->windows);
}
static int64_t places(const psg_tensor *x, const psg_unfold_options *o, int d) {
    int64_t span = (o->dilation[d] ? o->dilation[d] : 1) * (o->kernel[d] - 1) + 1;
    return (x->shape[2 + d] + 2 * o->padding[d] - span) / (o->stride[d] ? o->stride[d] : 1) + 1;
}
static int64_t source_unfold(const instance *c, const int64_t *out, int *input) {
    const psg_tensor *x = &c->in[0];
    const psg_unfold_options *o = &c->windows;
    int channel = c->batch == 1 ? 0 : 1, batch = 1 - channel;
    int64_t at[4], width = places(x, o, 1), r = out[channel];
    int64_t place[2] = { out[2] / width, out[2] % width };
    int64_t inner[2] = { r / o->kernel[1] % o->kernel[0], r % o->kernel[1] };
    *input = 0;
    at[batch] = out[batch];
    at[channel] = r / (o->kernel[0] * o->kernel[1]);
    for (int d = 0; d < 2; d++) {
        at[2 + d] = place[d] * (o->stride[d] ? o->stride[d] : 1) - o->padding[d] +
                    inner[d] * (o->dilation[d] ? o->dilation[d] : 1);
        if (at[2 + d] < 0 || at[2 + d] >= x->shape[2 + d]) return NOWHERE;
    }
    return flat(x, at);
}

static const kind kinds[] = {
    { "permute", draw_permute, build_permute, source_permute },
    { "transpose", draw_transpose, build_transpose, source_transpose },
    { "slice", draw_slice, build_slice, source_slice },
    { "select", draw_select, build_select, source_select },
    { "flip", draw_flip, build_flip, source_flip },
    { "expand", draw_expand, build_expand, source_expand },
    { "squeeze", draw_squeeze, build_squeeze, source_same_order },
    { "unsqueeze", draw_unsqueeze, build_unsqueeze, source_unsqueeze },
    { "cat", draw_cat, build_cat, source_cat },
    { "stack", draw_stack, build_stack, source_stack },
    { "pad", draw_pad, build_pad, source_pad },
    { "unfold", draw_unfold, build_unfold, source_unfold },
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* ---- checking one ---- */

typedef enum size { SMALL, LARGE, LONG_ROWS } size;

static instance draw_instance(test_random *random, const kind *k, size size) {
    static const int64_t sizes[] = { 0, 1, 1, 2, 3, 4, 5, 7 }, large_sizes[] = { 17, 33, 40 };
    instance c = { .inputs = 1, .pass = PSG_PASS_INIT };
    int64_t shape[PSG_MAX_RANK];
    int rank = size == LARGE ? 3 : size == LONG_ROWS ? 2 : (int)test_range(random, 2, 5);
    int where = (int)test_range(random, 0, 2);
    for (int d = 0; d < rank; d++) {
        shape[d] = size == SMALL ? TEST_PICK(random, sizes) : TEST_PICK(random, large_sizes);
    }
    if (size == LONG_ROWS) memcpy(shape, (int64_t[]){ 2, 36001 }, 2 * sizeof *shape);   /* two tasks a row */
    if (where == 1 && rank < 3) where = 0;
    c.pass.ordinary = where == 2;
    c.pass.batch_second = where == 1;
    c.batch = where == 2 ? -1 : where;
    c.in[0] = psg_tensor_of((psg_dtype)test_range(random, 0, 3), NULL, rank, shape);
    if (!strcmp(k->name, "select")) {
        for (int d = 0; d < rank; d++) shape[d] += !shape[d];
        if (where == 1 && size == SMALL) rank = (int)test_range(random, 3, 5);
        for (int d = 0; d < rank; d++) shape[d] = shape[d] > 0 && shape[d] < 40000 ? shape[d] : 2;
        c.in[0] = psg_tensor_of(c.in[0].dtype, NULL, rank, shape);
    }
    return c;
}

/* Gives the inputs memory of distinct small integers. */
static void fill_inputs(test_random *random, instance *c) {
    for (int k = 0; k < c->inputs; k++) {
        int64_t count = psg_tensor_count(&c->in[k]);
        c->in[k].data = malloc((size_t)count * 8 + 8);
        for (int64_t i = 0; i < count; i++) test_set_at(&c->in[k], i, (double)test_range(random, -1000, 1000));
    }
}

static void index_of(const psg_tensor *t, int64_t k, int64_t index[PSG_MAX_RANK]) {
    for (int d = t->rank - 1; d >= 0; k /= t->shape[d--]) index[d] = k % t->shape[d];
}

typedef struct result {
    psg_tensor value, grad[MOST_INPUTS];
    psg_tensor grad_output;
} result;

static void run_instance(psg_tape *tape, psg_context *context, const kind *k, const instance *c, result *r) {
    psg_var in[MOST_INPUTS];
    bool real = c->in[0].dtype < PSG_I32;
    TEST_OK(context, psg_tape_begin(tape, &c->pass));
    for (int i = 0; i < c->inputs; i++) {
        in[i] = real ? psg_input_with_grad(tape, &c->in[i]) : psg_input(tape, &c->in[i]);
    }
    psg_var out = k->build(tape, c, in);
    if (psg_tape_status(tape)) print_error("%s: %s\n", k->name, psg_tape_message(tape));
    TEST_OK(context, psg_tape_status(tape));
    TEST_OK(context, psg_value(tape, out, &r->value));
    if (!real) return;
    r->grad_output = psg_tensor_of(r->value.dtype, malloc((size_t)psg_tensor_count(&r->value) * 8 + 8), r->value.rank,
                                   r->value.shape);
    for (int64_t i = 0; i < psg_tensor_count(&r->value); i++) {
        test_set_at(&r->grad_output, i, (double)(i * 7 % 61 - 30));
    }
    TEST_OK(context, psg_backward_from(tape, out, &r->grad_output));
    for (int i = 0; i < c->inputs; i++) TEST_OK(context, psg_input_grad(tape, in[i], &r->grad[i]));
}

/* Sums of small integers are exact, in whatever order. */
static void check_result(const kind *k, const instance *c, const result *r) {
    bool real = c->in[0].dtype < PSG_I32;
    double *expected[MOST_INPUTS] = { NULL };
    for (int i = 0; i < c->inputs; i++) expected[i] = calloc((size_t)psg_tensor_count(&c->in[i]) + 1, sizeof(double));
    for (int64_t i = 0; i < psg_tensor_count(&r->value); i++) {
        int64_t index[PSG_MAX_RANK] = { 0 };
        int input;
        index_of(&r->value, i, index);
        int64_t from = k->source(c, index, &input);
        double constant = k->build == build_unfold ? 0 : c->value;
        double wanted = from == NOWHERE ? constant : test_get_at(&c->in[input], from);
        test_near(test_get_at(&r->value, i), wanted, 0, k->name, i);
        if (real && from != NOWHERE) expected[input][from] += test_get_at(&r->grad_output, i);
    }
    for (int n = 0; n < c->inputs; n++) {
        for (int64_t i = 0; real && i < psg_tensor_count(&c->in[n]); i++) {
            test_near(test_get_at(&r->grad[n], i), expected[n][i], 0, k->name, i);
        }
        free(expected[n]);
    }
}

/* More threads give the same, which check_result has said of one. */
static void test_copies(void **state) {
    (void)state;
    test_random random = { 11 };
    psg_context *context[2] = { test_context(1, NULL), test_context(3, "baseline") };
    psg_tape *tape[2];
    for (int t = 0; t < 2; t++) TEST_OK(context[t], psg_tape_create(context[t], &tape[t]));
    for (int n = 0; n < 150 * KINDS; n++) {
        const kind *k = &kinds[n % KINDS];
        instance c = draw_instance(&random, k, n / KINDS == 9 ? LONG_ROWS : n % 25 == 0 ? LARGE : SMALL);
        k->draw(&random, &c);
        fill_inputs(&random, &c);
        for (int t = 0; t < 2; t++) {
            result r = { .grad_output = { NULL } };
            run_instance(tape[t], context[t], k, &c, &r);
            check_result(k, &c, &r);
            free(r.grad_output.data);
        }
        for (int i = 0; i < c.inputs; i++) free(c.in[i].data);
    }
    for (int t = 0; t < 2; t++) {
        psg_tape_destroy(tape[t]);
        test_context_free(context[t]);
    }
}

/* fold(unfold's output gradient) is unfold's input gradient, and its gradient unfold of its output gradient. */
static void test_fold(void **state) {
    (void)state;
    test_random random = { 12 };
    psg_context *context = test_context(2, NULL);
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    for (int n = 0; n < 200; n++) {
        instance c = draw_instance(&random, &kinds[KINDS - 1], SMALL);
        c.in[0].dtype = PSG_F64;
        draw_unfold(&random, &c);
        fill_inputs(&random, &c);
        result r = { .grad_output = { NULL } };
        run_instance(tape, context, &kinds[KINDS - 1], &c, &r);
        psg_tensor image = c.in[0], columns = r.grad_output, folded, grad;
        int64_t count = psg_tensor_count(&image);
        double *sums = malloc((size_t)count * sizeof *sums), *unfolded = malloc((size_t)psg_tensor_count(&columns) * 8);
        memcpy(sums, r.grad[0].data, (size_t)count * sizeof *sums);
        memcpy(unfolded, r.value.data, (size_t)psg_tensor_count(&columns) * 8);
        TEST_OK(context, psg_tape_begin(tape, &c.pass));
        psg_var in = psg_input_with_grad(tape, &columns), out = psg_fold(tape, in, image.shape + 2, &c.windows);
        TEST_OK(context, psg_tape_status(tape));
        TEST_OK(context, psg_value(tape, out, &folded));
        assert_int_equal(psg_tensor_count(&folded), count);
        assert_memory_equal(folded.shape, image.shape, 4 * sizeof(int64_t));
        for (int64_t i = 0; i < count; i++) test_near(test_get_at(&folded, i), sums[i], 0, "fold", i);
        TEST_OK(context, psg_backward_from(tape, out, &image));
        TEST_OK(context, psg_input_grad(tape, in, &grad));
        for (int64_t i = 0; i < psg_tensor_count(&grad); i++) {
            test_near(test_get_at(&grad, i), unfolded[i], 0, "fold", i);
        }
        free(sums);
        free(unfolded);
        free(columns.data);
        free(image.data);
    }
    psg_tape_destroy(tape);
    test_context_free(context);
}

/* Sums against loops: rank 4 over every set of dimensions. */
static void test_sum(void **state) {
    (void)state;
    test_random random = { 13 };
    psg_context *context = test_context(2, NULL);
    psg_tape *tape;
    TEST_OK(context, psg_tape_create(context, &tape));
    psg_pass pass = PSG_PASS_INIT;
    pass.ordinary = 1;
    int64_t shape[4] = { 3, 4, 5, 7 };
    double data[420], sums[420];
    psg_tensor x = psg_tensor_of(PSG_F64, data, 4, shape), value, grad;
    test_fill_integers(&random, &x, -50, 50);
    for (int set = 1; set < 16; set++) {
        for (int keepdim = 0; keepdim < 2; keepdim++) {
            int dims[4], count = 0;
            for (int d = 0; d < 4; d++) if (set >> d & 1) dims[count++] = keepdim ? d : d - 4;
            TEST_OK(context, psg_tape_begin(tape, &pass));
            psg_var in = psg_input_with_grad(tape, &x), out = psg_sum(tape, in, count, dims, keepdim);
            TEST_OK(context, psg_value(tape, out, &value));
            assert_int_equal(value.rank, keepdim ? 4 : 4 - count);
            memset(sums, 0, sizeof sums);
            for (int64_t i = 0; i < 420; i++) {
                int64_t index[PSG_MAX_RANK], at = 0;
                index_of(&x, i, index);
                for (int d = 0; d < 4; d++) if (!(set >> d & 1)) at = at * shape[d] + index[d];
                sums[at] += data[i];
            }
            for (int64_t i = 0; i < psg_tensor_count(&value); i++) {
                test_near(test_get_at(&value, i), sums[i], 0, "sum", i);
            }
            TEST_OK(context, psg_backward_from(tape, out, NULL));
            TEST_OK(context, psg_input_grad(tape, in, &grad));
            for (int64_t i = 0; i < 420; i++) test_near(test_get_at(&grad, i), 1, 0, "sum", i);
        }
    }
    psg_tape_destroy(tape);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_fold),
        cmocka_unit_test(test_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
