#include "attention_reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>


double *attention_take(attention_scene *s, int64_t count) {
    void *memory = calloc((size_t)count + 1, sizeof(double));
    assert_true(memory && s->count < 64);
    s->taken[s->count++] = memory;
    return memory;
}

static double rounded(const attention_scene *s, double x) { return s->c->dtype == PSG_F32 ? (double)(float)x : x; }

static double *draw(attention_scene *s, test_random *random, int64_t count, double scale) {
    double *x = attention_take(s, count);
    for (int64_t i = 0; i < count; i++) x[i] = rounded(s, scale * test_normal(random));
    return x;
}

bool attention_copies(const attention_case *c, int k) {
    return (c->sources == SELF && k > Q) || (c->sources == KEY_IS_VALUE && k == V);
}

/* Integers become 0 and -inf. */
static double *draw_mask(attention_scene *s, test_random *random, int64_t count, bool integer) {
    double *x = draw(s, random, count, 1);
    for (int64_t i = 0; i < count && integer; i++) x[i] = x[i] > 0.7 ? -INFINITY : 0;
    return x;
}

void attention_draw(attention_scene *s, test_random *random) {
    const attention_case *c = s->c;
    s->e = c->heads * c->head_size;
    s->all = c->keys + c->bias_kv + c->zero_attn;
    for (int k = Q; k <= V; k++) {
        s->length[k] = k == Q ? c->queries : c->keys;
        s->dim[k] = !c->separate || k == Q ? s->e : k == K ? c->kdim : c->vdim;
        bool copy = attention_copies(c, k);
        s->x[k] = copy ? s->x[k - 1] : draw(s, random, c->samples * s->length[k] * s->dim[k], 1);
        s->w[k] = draw(s, random, s->e * s->dim[k], 0.5);
        s->b[k] = c->in_bias ? draw(s, random, s->e, 0.5) : attention_take(s, s->e);
    }
    for (int k = 0; k < 2; k++) s->bias[k] = draw(s, random, s->e, 1);
    s->wo = draw(s, random, s->e * s->e, 0.5);
    s->bo = c->out_bias ? draw(s, random, s->e, 0.5) : attention_take(s, s->e);
    int64_t planes = c->mask <= MASK_REAL ? 1 : c->samples * (c->mask == MASK_BATCHED_REAL ? 1 : c->heads);
    bool integer = c->mask == MASK_INTEGER || c->mask == MASK_HEADS_INTEGER;
    s->mask = draw_mask(s, random, planes * c->queries * c->keys, integer);
    s->padding = draw_mask(s, random, c->samples * c->keys, c->padding == 1);
    s->gy = draw(s, random, c->samples * c->queries * s->e, 1);
}

/* ---- the loops ---- */

int64_t attention_mask_at(const attention_scene *s, int64_t n, int64_t h, int64_t i, int64_t j) {
    const attention_case *c = s->c;
    int64_t plane = c->mask <= MASK_REAL ? 0 : c->mask == MASK_BATCHED_REAL ? n : n * c->heads + h;
    return (plane * c->queries + i) * c->keys + j;
}

static double mask_of(const attention_scene *s, int64_t n, int64_t h, int64_t i, int64_t j) {
    const attention_case *c = s->c;
    if (j >= c->keys) return 0;
    double value = c->mask ? s->mask[attention_mask_at(s, n, h, i, j)] : 0;
    if (c->padding) value += s->padding[n * c->keys + j];
    return c->causal && j > i ? -INFINITY : value;
}

static void project(attention_scene *s) {
    for (int k = Q; k <= V; k++) {
        int64_t rows = k == Q ? s->length[k] : s->all, d = s->dim[k];
        s->projected[k] = attention_take(s, s->c->samples * rows * s->e);
        for (int64_t n = 0; n < s->c->samples; n++) {
            for (int64_t i = 0; i < rows; i++) {
                double *to = s->projected[k] + (n * rows + i) * s->e;
                const double *from = s->x[k] + (n * s->length[k] + i) * d;
                for (int64_t f = 0; f < s->e; f++) {
                    if (i < s->length[k]) to[f] = s->b[k][f];
                    else if (i == s->length[k] && s->c->bias_kv) to[f] = s->bias[k - K][f];
                    for (int64_t j = 0; i < s->length[k] && j < d; j++) to[f] += s->w[k][f * d + j] * from[j];
                }
            }
        }
    }
}

/* The row of weights of query i in head h: p before dropout. */
static void softmax_row(const attention_scene *s, int64_t n, int64_t h, int64_t i, double *p) {
    const attention_case *c = s->c;
    const double *q = s->projected[Q] + (n * c->queries + i) * s->e + h * c->head_size;
    double max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < s->all; j++) {
        const double *k = s->projected[K] + (n * s->all + j) * s->e + h * c->head_size;
        p[j] = 0;
        for (int64_t d = 0; d < c->head_size; d++) p[j] += q[d] * k[d] / sqrt((double)c->head_size);
        p[j] += mask_of(s, n, h, i, j);
        max = fmax(max, p[j]);
    }
    for (int64_t j = 0; j < s->all; j++) sum += p[j] = max == -INFINITY ? 0 : exp(p[j] - max);
    for (int64_t j = 0; j < s->all; j++) p[j] = sum > 0 ? p[j] / sum : 0;
}

static double dropped(const attention_scene *s, int64_t at) {
    return s->kept ? s->kept[at] / (1 - s->c->dropout_p) : 1;
}

static void refer_forward(attention_scene *s) {
    const attention_case *c = s->c;
    project(s);
    s->p = attention_take(s, c->samples * c->heads * c->queries * s->all);
    s->weights = attention_take(s, c->samples * c->heads * c->queries * s->all);
    s->o = attention_take(s, c->samples * c->queries * s->e);
    s->y = attention_take(s, c->samples * c->queries * s->e);
    for (int64_t r = 0; r < c->samples * c->heads * c->queries; r++) {
        int64_t i = r % c->queries, h = r / c->queries % c->heads, n = r / c->queries / c->heads;
        softmax_row(s, n, h, i, s->p + r * s->all);
        for (int64_t j = 0; j < s->all; j++) {
            const double *v = s->projected[V] + (n * s->all + j) * s->e;
            double w = s->weights[r * s->all + j] = s->p[r * s->all + j] * dropped(s, r * s->all + j);
            for (int64_t d = h * c->head_size; d < (h + 1) * c->head_size; d++) {
                s->o[(n * c->queries + i) * s->e + d] += w * v[d];
            }
        }
    }
    for (int64_t r = 0; r < c->samples * c->queries; r++) {
        for (int64_t f = 0; f < s->e; f++) {
            s->y[r * s->e + f] = s->bo[f];
            for (int64_t d = 0; d < s->e; d++) s->y[r * s->e + f] += s->wo[f * s->e + d] * s->o[r * s->e + d];
        }
    }
}

/* Gradients of y = x w^T + b at one row, from that of y. */
static void linear_row(int64_t out, int64_t in, const double *g, const double *x, const double *w, double *gx,
                       double *gw, double *gb) {
    for (int64_t f = 0; f < out; f++) {
        gb[f] += g[f];
        for (int64_t j = 0; j < in; j++) {
            gw[f * in + j] += g[f] * x[j];
            gx[j] += g[f] * w[f * in + j];
        }
    }
}

/* One query of one head; go: the gradient of its output, g: those of the projections. */
static void attention_row(attention_scene *s, int64_t n, int64_t h, int64_t i, const double *go, double *const g[3]) {
    const attention_case *c = s->c;
    int64_t r = ((n * c->heads + h) * c->queries + i) * s->all, first = h * c->head_size;
    double mean = 0, *gp = calloc((size_t)s->all + 1, sizeof *gp);
    for (int64_t j = 0; j < s->all; j++) {
        int64_t row = (n * s->all + j) * s->e + first;
        for (int64_t d = 0; d < c->head_size; d++) {
            gp[j] += go[first + d] * s->projected[V][row + d] * dropped(s, r + j);
            g[V][row + d] += s->weights[r + j] * go[first + d];
        }
        mean += gp[j] * s->p[r + j];
    }
    for (int64_t j = 0; j < s->all; j++) {
        double gs = s->p[r + j] * (gp[j] - mean);
        int64_t row = (n * s->all + j) * s->e + first, query = (n * c->queries + i) * s->e + first;
        if (j < c->keys && c->mask) s->gmask[attention_mask_at(s, n, h, i, j)] += gs;
        for (int64_t d = 0; d < c->head_size; d++) {
            g[Q][query + d] += gs * s->projected[K][row + d] / sqrt((double)c->head_size);
            g[K][row + d] += gs * s->projected[Q][query + d] / sqrt((double)c->head_size);
        }
    }
    free(gp);
}

static void take_gradients(attention_scene *s) {
    const attention_case *c = s->c;
    for (int k = Q; k <= V; k++) {
        bool copy = attention_copies(c, k);
        s->gx[k] = copy ? s->gx[k - 1] : attention_take(s, c->samples * s->length[k] * s->dim[k]);
        s->gw[k] = attention_take(s, c->samples * s->e * s->dim[k]);
        s->gb[k] = attention_take(s, c->samples * s->e);
        if (k < 2) s->gbias[k] = attention_take(s, c->samples * s->e);
    }
    s->gwo = attention_take(s, c->samples * s->e * s->e);
    s->gbo = attention_take(s, c->samples * s->e);
    s->gmask = attention_take(s, c->samples * c->heads * c->queries * c->keys);
}

static void refer_projections(attention_scene *s, double *const g[3]) {
    for (int k = Q; k <= V; k++) {
        int64_t rows = k == Q ? s->length[k] : s->all, d = s->dim[k];
        for (int64_t r = 0; r < s->c->samples * rows; r++) {
            int64_t n = r / rows, i = r % rows, from = (n * s->length[k] + i) * d;
            const double *row = g[k] + r * s->e;
            if (i < s->length[k]) {
                linear_row(s->e, d, row, s->x[k] + from, s->w[k], s->gx[k] + from, s->gw[k] + n * s->e * d,
                           s->gb[k] + n * s->e);
            } else if (i == s->length[k] && s->c->bias_kv) {
                memcpy(s->gbias[k - K] + n * s->e, row, (size_t)s->e * sizeof *row);
            }
        }
    }
}

static void refer_backward(attention_scene *s) {
    const attention_case *c = s->c;
    double *go = attention_take(s, c->samples * c->queries * s->e), *g[3];
    for (int k = Q; k <= V; k++) g[k] = attention_take(s, c->samples * (k == Q ? c->queries : s->all) * s->e);
    take_gradients(s);
    for (int64_t r = 0; r < c->samples * c->queries; r++) {
        int64_t n = r / c->queries;
        linear_row(s->e, s->e, s->gy + r * s->e, s->o + r * s->e, s->wo, go + r * s->e, s->gwo + n * s->e * s->e,
                   s->gbo + n * s->e);
        for (int64_t h = 0; h < c->heads; h++) attention_row(s, n, h, r % c->queries, go + r * s->e, g);
    }
    refer_projections(s, g);
}

void attention_refer(attention_scene *s) {
    refer_forward(s);
    refer_backward(s);
}

void attention_free(attention_scene *s) {
    for (int k = 0; k < s->count; k++) free(s->taken[k]);
}
