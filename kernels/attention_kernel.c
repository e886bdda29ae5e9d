/* Attention by tiles of queries and keys (Dao, FlashAttention-2, 2023): the softmax is computed online over the keys,
 * backward computes its tiles anew. */
#include "kernels.h"
#include "attention_tile.h"

/* Packed operands of the tile at hand, and what is summed over tiles.  Of a query tile: q scaled, its transpose, the
 * output gradient and its transpose; of a key tile: k and v. */
typedef struct work {
    rows qt, q, gq, o, go, got, k, gk, v, gv, p, gp;
    real *max, *sum, *rescale, *mean, *rest;
    size_t all_keys;
    size_t packed;           /* first key of the tile in k and v; all_keys: none yet */
    bool careful;            /* what is not finite is kept from those who do not see it */
    vec_bits zero;           /* 0 times the gradients */
} work;

static size_t all_keys(const psg_attention *t) { return t->keys + (t->bias_k != NULL) + t->zero_key; }

static rows take(real **memory, size_t count, size_t columns) {
    rows taken = { *memory, columns };
    *memory += count * columns;
    return taken;
}

static work divide(const psg_attention *t, void *workspace) {
    real *memory = workspace;
    size_t e = padded(t->key_size, LANES), ev = padded(t->value_size, LANES);
    work w = { .all_keys = all_keys(t) };
    w.packed = w.all_keys;
    w.qt = take(&memory, e, LB);
    w.q = take(&memory, LB, e);
    w.gq = take(&memory, LB, e);
    w.k = take(&memory, KB, e);
    w.gk = take(&memory, KB, e);
    w.o = take(&memory, LB, ev);
    w.go = take(&memory, LB, ev);
    w.got = take(&memory, ev, LB);
    w.v = take(&memory, KB, ev);
    w.gv = take(&memory, KB, ev);
    w.p = take(&memory, KB, LB);
    w.gp = take(&memory, KB, LB);
    w.max = take(&memory, 1, LB).data;
    w.sum = take(&memory, 1, LB).data;
    w.rescale = take(&memory, 1, LB).data;
    w.mean = take(&memory, 1, LB).data;
    w.rest = take(&memory, 1, LB).data;
    return w;
}

/* Columns of a lane array that hold queries, in whole vectors. */
static size_t lanes_of(const place *at) { return padded(at->queries, LANES); }

/* ---- packing ---- */

static void pack_one(const void *rows_, ptrdiff_t step, const void *bias, size_t size, size_t keys, const place *at,
                     const rows *to) {
    size_t given = at->j0 < keys ? smaller(at->keys, keys - at->j0) : 0, j = given;
    if (given) pack_rows((const real *)rows_ + (ptrdiff_t)at->j0 * step, step, given, size, 1, to);
    if (bias && j < at->keys && at->j0 + j == keys) pack_row(bias, size, 1, to->data + j++ * to->stride, to->stride);
    size_t end = padded(at->keys, MR);
    if (to->stride) memset(to->data + j * to->stride, 0, (end - j) * to->stride * sizeof(real));
}

static void pack_keys(const psg_attention *t, work *w, const place *at) {
    if (w->packed == at->j0) return;
    w->packed = at->j0;
    pack_one(t->k, t->k_row, t->bias_k, t->key_size, t->keys, at, &w->k);
    pack_one(t->v, t->v_row, t->bias_v, t->value_size, t->keys, at, &w->v);
}

static void pack_queries(const psg_attention *t, work *w, const place *at) {
    const real *q = (const real *)t->q + (ptrdiff_t)at->head * t->q_head + (ptrdiff_t)at->i0 * t->q_row;
    pack_rows(q, t->q_row, at->queries, t->key_size, (real)t->scale, &w->q);
    transpose_rows(&w->q, at->queries, w->qt.data);
}

static ptrdiff_t out_at(const psg_attention *t, const place *at) {
    return (ptrdiff_t)at->head * t->out_head + (ptrdiff_t)at->i0 * t->out_row;
}

static ptrdiff_t weights_at(const psg_attention *t, const place *at) {
    return (ptrdiff_t)at->head * t->weights_head + (ptrdiff_t)at->i0 * t->weights_row;
}

static real *stats_of(const psg_attention *t, const place *at) {
    return (real *)t->stats + PSG_ATTENTION_STATS * at->head * t->queries + at->i0;
}

/* ---- tiles ---- */

/* Whether every query of the tile comes before every key of it. */
static bool is_future(const psg_attention *t, const place *at) {
    return t->causal && at->j0 + at->keys <= t->keys && at->j0 > at->i0 + at->queries - 1;
}

static void scores(const psg_attention *t, work *w, const place *at) {
    product(at->keys, lanes_of(at), t->key_size, &w->k, &w->qt, &w->p, false);
    mask_tile(t, at, w->p.data);
}

/* p = exp(p - max) under the maximum so far; sums of earlier tiles are to be multiplied by rescale. */
static void exponentials(work *w, const place *at) {
    for (size_t i = 0; i < lanes_of(at); i += LANES) {
        vec high = vec_load(w->max + i), sum = vec_zero();
        real *p = w->p.data + i;
        for (size_t j = 0; j < at->keys; j++) high = vec_max(vec_load(p + j * LB), high);
        vec base = vec_select(high == vec_set(-(real)INFINITY), vec_zero(), high);
        vec rescale = vec_exp_below(vec_load(w->max + i) - base);
        for (size_t j = 0; j < at->keys; j++) {
            vec e = vec_exp_below(vec_load(p + j * LB) - base);
            vec_store(p + j * LB, e);
            sum += e;
        }
        vec_store(w->max + i, high);
        vec_store(w->rescale + i, rescale);
        vec_store(w->sum + i, vec_add_product(sum, vec_load(w->sum + i), rescale));
    }
}

/* p = exp(p - max) / sum from the statistics of its rows; 0 where it is masked, in a row of NaN too. */
static void probabilities(const psg_attention *t, work *w, const place *at) {
    const real *stats = stats_of(t, at);
    for (size_t i = 0; i < lanes_of(at); i += LANES) {
        size_t part = at->queries - i < LANES ? at->queries - i : LANES;
        vec base = vec_load_part(stats + i, part), inverse = vec_load_part(stats + t->queries + i, part);
        real *p = w->p.data + i;
        for (size_t j = 0; j < at->keys; j++, p += LB) {
            vec score = vec_load(p), e = inverse * vec_exp_below(score - base);
            vec_store(p, vec_select(score == vec_set(masked_score), vec_zero(), e));
        }
    }
}

/* ---- forward ---- */

static void add_values(const psg_attention *t, work *w, const place *at) {
    if (t->kept) drop(t, at, w->all_keys, w->p.data);
    for (size_t i = 0; at->j0 && i < at->queries; i++) {
        unpack_row(w->o.data + i * w->o.stride, w->o.stride, w->rescale[i], false, w->o.data + i * w->o.stride);
    }
    if (w->careful) {
        mark_masked(t, at, w->p.data, w->gp.data);
        set_apart(&w->v, at->keys, w->gp.data, LB, &w->o, at->queries, 1);
        w->packed = w->all_keys;
    }
    product_transposed(padded(at->queries, MR), w->o.stride, at->keys, &w->p, &w->v, &w->o, w->careful || at->j0 > 0);
}

static void finish_rows(const psg_attention *t, work *w, const place *at) {
    real *stats = stats_of(t, at), *out = (real *)t->out + out_at(t, at);
    for (size_t i = 0; i < at->queries; i++) {
        real inverse = w->sum[i] == 0 ? 0 : 1 / w->sum[i];
        stats[i] = w->max[i] == -(real)INFINITY ? 0 : w->max[i];
        stats[t->queries + i] = inverse;
        unpack_row(w->o.data + i * w->o.stride, t->value_size, inverse, false, out + (ptrdiff_t)i * t->out_row);
    }
}

static void write_weights(const psg_attention *t, work *w, place at) {
    real *weights = (real *)t->weights + weights_at(t, &at);
    for (at.j0 = 0; at.j0 < w->all_keys; at.j0 += KB) {
        at.keys = smaller(KB, w->all_keys - at.j0);
        pack_keys(t, w, &at);
        scores(t, w, &at);
        probabilities(t, w, &at);
        if (t->kept) drop(t, &at, w->all_keys, w->p.data);
        for (size_t i = 0; i < at.queries; i++) {
            real *row = weights + (ptrdiff_t)i * t->weights_row + at.j0;
            for (size_t j = 0; j < at.keys; j++) row[j] = w->p.data[j * LB + i];
        }
    }
}

/* o, max and sum over all keys. */
static void attend(const psg_attention *t, work *w, place at) {
    memset(w->o.data, 0, LB * w->o.stride * sizeof(real));
    for (size_t i = 0; i < LB; i++) {
        w->max[i] = -(real)INFINITY;
        w->sum[i] = 0;
    }
    for (at.j0 = 0; at.j0 < w->all_keys; at.j0 += KB) {
        at.keys = smaller(KB, w->all_keys - at.j0);
        if (is_future(t, &at)) continue;
        pack_keys(t, w, &at);
        scores(t, w, &at);
        exponentials(w, &at);
        add_values(t, w, &at);
    }
}

static void forward_queries(const psg_attention *t, work *w, place at) {
    pack_queries(t, w, &at);
    attend(t, w, at);
    w->careful = !is_zero(times_zero(&w->o, at.queries));
    if (w->careful) attend(t, w, at);
    w->careful = false;
    finish_rows(t, w, &at);
    if (t->weights) write_weights(t, w, at);
}

void PSG_KERNEL(attention)(const psg_attention *t, void *workspace) {
    work w = divide(t, workspace);
    for (size_t head = 0; head < t->group; head++) {
        for (size_t i0 = 0; i0 < t->queries; i0 += LB) {
            forward_queries(t, &w, (place){ .head = head, .i0 = i0, .queries = smaller(LB, t->queries - i0) });
        }
    }
}

/* ---- backward ----
 * With gw_ij = <go_i, v_j> + the gradient of the weights:  gp = d gw,  gs = p (gp - mean),
 *   mean_i = sum_j p_ij gp_ij = <go_i, o_i> + sum_j w_ij times the gradient of the weights,
 *   gv_j = sum_i w_ij go_i,   gq_i = scale sum_j gs_ij k_j,   gk_j = sum_i gs_ij scale q_i,   gmask = gs */

static void pack_output_gradient(const psg_attention *t, work *w, const place *at) {
    pack_rows((const real *)t->grad_out + out_at(t, at), t->out_row, at->queries, t->value_size, 1, &w->go);
    transpose_rows(&w->go, at->queries, w->got.data);
}

static bool is_nothing(const real *row, size_t count) {
    size_t k = 0;
    while (k < count && row[k] == 0) k++;
    return k == count;
}

/* Where no gradient comes by the values, as where the weights alone are used, infinite ones do not matter. */
static void forget_values(const work *w, const place *at, size_t size) {
    for (size_t i = 0; i < at->queries; i++) {
        if (!is_nothing(w->go.data + i * w->go.stride, size)) continue;
        for (size_t j = 0; j < at->keys; j++) w->gp.data[j * LB + i] = 0;
    }
}

/* gp: the gradient of w. */
static void weight_gradients(const psg_attention *t, work *w, const place *at) {
    product(at->keys, lanes_of(at), t->value_size, &w->v, &w->got, &w->gp, false);
    if (!t->grad_weights) return;
    if (w->careful) forget_values(w, at, t->value_size);
    const real *gw = (const real *)t->grad_weights + weights_at(t, at) + at->j0;
    for (size_t i = 0; i < at->queries; i++, gw += t->weights_row) {
        for (size_t j = 0; j < at->keys; j++) w->gp.data[j * LB + i] += gw[j];
    }
}

/* p and gp of a tile. */
static void weigh_tile(const psg_attention *t, work *w, const place *at) {
    pack_keys(t, w, at);
    scores(t, w, at);
    probabilities(t, w, at);
    weight_gradients(t, w, at);
    if (t->kept) drop(t, at, w->all_keys, w->gp.data);
}

/* ---- means ----
 * The mean from the results is rounded otherwise than the gp it is taken from.  Where one p is nearly 1, at key m,
 * their difference is all there is:  mean = gp_m + rest,  rest = sum_j p_j (gp_j - gp_m),  gs = p ((gp - gp_m) -
 * rest). */

/* The largest p of a row, 1 / sum, from which on this is done. */
static const real nearly_one = (real)0.98;

static real *means_of(const psg_attention *t, const place *at) { return stats_of(t, at) + 2 * t->queries; }

static double dot(const real *x, const real *y, size_t count) {
    wide sum = wide_zero();
    for (size_t j = 0; j < count; j += LANES) {
        size_t part = smaller(LANES, count - j);
        sum = wide_add_product(sum, vec_load_part(x + j, part), vec_load_part(y + j, part));
    }
    return wide_sum(sum);
}

/* From the results: mean, and rest = 0. */
static void output_means(const psg_attention *t, const work *w, const place *at, real *mean) {
    const ptrdiff_t out = out_at(t, at), weights = weights_at(t, at);
    for (size_t i = 0; i < at->queries; i++) {
        const ptrdiff_t o = out + (ptrdiff_t)i * t->out_row, row = weights + (ptrdiff_t)i * t->weights_row;
        const real *go = (const real *)t->grad_out + o;
        bool values = !(w->careful && t->grad_weights && is_nothing(go, t->value_size));
        double sum = values ? dot(go, (const real *)t->out + o, t->value_size) : 0;
        if (t->grad_weights) {
            sum += dot((const real *)t->grad_weights + row, (const real *)t->weights + row, w->all_keys);
        }
        mean[i] = (real)sum;
        mean[t->queries + i] = 0;
    }
}

/* Lanes of the tile's vector i whose row is sharp. */
static vec_bits sharp_lanes(const psg_attention *t, const place *at, size_t i) {
    const real *inverse = stats_of(t, at) + t->queries;
    return vec_load_part(inverse + i, smaller(LANES, at->queries - i)) > vec_set(nearly_one);
}

static bool is_sharp(const psg_attention *t, const place *at, size_t i) {
    return !is_zero(sharp_lanes(t, at, i) & (vec_bits)vec_set(1));
}

static bool has_sharp_row(const psg_attention *t, const place *at) {
    bool sharp = false;
    for (size_t i = 0; i < at->queries; i += LANES) sharp |= is_sharp(t, at, i);
    return sharp;
}

static void start_means(work *w) {
    for (size_t i = 0; i < LB; i++) w->max[i] = w->sum[i] = w->mean[i] = w->rest[i] = 0;
}

/* The tile's part of mean and rest; max: the largest p so far, sum: that of all p. */
static void add_means(const psg_attention *t, work *w, const place *at) {
    for (size_t i = 0; i < at->queries; i += LANES) {
        if (!is_sharp(t, at, i)) continue;
        vec max = vec_load(w->max + i), sum = vec_load(w->sum + i);
        vec mean = vec_load(w->mean + i), rest = vec_load(w->rest + i);
        for (size_t j = 0; j < at->keys; j++) {
            vec p = vec_load(w->p.data + j * LB + i);
            vec gp = vec_select(p == vec_zero(), mean, vec_load(w->gp.data + j * LB + i));
            vec next = vec_select(p > max, gp, mean);
            rest += sum * (mean - next) + p * (gp - next);
            sum += p;
            max = vec_max(p, max);
            mean = next;
        }
        vec_store(w->max + i, max);
        vec_store(w->sum + i, sum);
        vec_store(w->mean + i, mean);
        vec_store(w->rest + i, rest);
    }
}

/* A row's means depend on itself alone: other rows of the tile keep theirs. */
static void store_means(const psg_attention *t, const work *w, const place *at) {
    const real *inverse = stats_of(t, at) + t->queries;
    real *mean = means_of(t, at);
    for (size_t i = 0; i < at->queries; i++) {
        if (!(inverse[i] > nearly_one)) continue;
        mean[i] = w->mean[i];
        mean[t->queries + i] = w->rest[i];
    }
}

/* Whether queries of the tile see keys of the first key tile alone: then its p and gp serve for the means too. */
static bool sees_one_tile(const psg_attention *t, const work *w, place at) {
    at.j0 = KB;
    at.keys = w->all_keys > KB ? w->all_keys - KB : 0;
    return !at.keys || is_future(t, &at);
}

static void find_means(const psg_attention *t, work *w, place at) {
    output_means(t, w, &at, means_of(t, &at));
    if (sees_one_tile(t, w, at) || !has_sharp_row(t, &at)) return;
    pack_queries(t, w, &at);
    pack_output_gradient(t, w, &at);
    start_means(w);
    for (at.j0 = 0; at.j0 < w->all_keys; at.j0 += KB) {
        at.keys = smaller(KB, w->all_keys - at.j0);
        if (is_future(t, &at)) continue;
        weigh_tile(t, w, &at);
        add_means(t, w, &at);
    }
    store_means(t, w, &at);
}

/* ---- gradients ---- */

/* gp becomes the gradient of the scores, 0 where p is. */
static void score_gradients(const psg_attention *t, work *w, const place *at) {
    const real *means = means_of(t, at);
    for (size_t i = 0; i < lanes_of(at); i += LANES) {
        size_t part = at->queries - i < LANES ? at->queries - i : LANES;
        vec mean = vec_load_part(means + i, part), rest = vec_load_part(means + t->queries + i, part);
        real *p = w->p.data + i, *gp = w->gp.data + i;
        for (size_t j = 0; j < at->keys; j++, p += LB, gp += LB) {
            vec gs = vec_load(p) * (vec_load(gp) - mean - rest);
            vec_store(gp, vec_select(vec_load(p) == vec_zero(), vec_zero(), gs));
        }
    }
}

static void add_mask_gradient(const psg_attention *t, const work *w, const place *at) {
    const psg_mask *mask = &t->mask;
    size_t masked = at->j0 < t->keys ? smaller(at->keys, t->keys - at->j0) : 0;
    real *grad = (real *)t->grad_mask + mask_start(mask, at);
    for (size_t i = 0; i < at->queries; i++, grad += mask->row_stride) {
        for (size_t j = 0; j < masked; j++) grad[(ptrdiff_t)j * mask->column_stride] += w->gp.data[j * LB + i];
    }
}

static void backward_tile(const psg_attention *t, work *w, const place *at) {
    weigh_tile(t, w, at);
    if (sees_one_tile(t, w, *at) && has_sharp_row(t, at)) {
        start_means(w);
        add_means(t, w, at);
        store_means(t, w, at);
    }
    score_gradients(t, w, at);
    if (t->grad_mask) add_mask_gradient(t, w, at);
    if (w->careful) {   /* gs is NaN where such a q and k meet */
        set_apart(&w->q, at->queries, NULL, 0, NULL, 0, 0);
        set_apart(&w->k, at->keys, NULL, 0, NULL, 0, 0);
        w->packed = w->all_keys;
    }
    if (t->grad_k || t->grad_bias_k) {
        product(padded(at->keys, MR), w->gk.stride, at->queries, &w->gp, &w->q, &w->gk, true);
    }
    if (t->grad_q) {
        product_transposed(padded(at->queries, MR), w->gq.stride, at->keys, &w->gp, &w->k, &w->gq, false);
        w->zero |= times_zero(&w->gq, at->queries);
        real *grad = (real *)t->grad_q + (ptrdiff_t)at->head * t->q_head + (ptrdiff_t)at->i0 * t->q_row;
        unpack_rows(&w->gq, at->queries, t->key_size, (real)t->scale, at->j0 > 0, grad, t->q_row);
    }
    if (!t->grad_v && !t->grad_bias_v) return;
    if (t->kept) drop(t, at, w->all_keys, w->p.data);
    if (w->careful) {
        mark_masked(t, at, w->p.data, w->gp.data);
        set_apart(&w->go, at->queries, w->gp.data, 1, &w->gv, at->keys, LB);
    }
    product(padded(at->keys, MR), w->gv.stride, at->queries, &w->p, &w->go, &w->gv, true);
}

/* Rows of a sum over the queries go to the keys they belong to. */
static void write_sums(const rows *sums, size_t size, size_t keys, const place *at, void *grad, ptrdiff_t step,
                       void *grad_bias) {
    size_t given = at->j0 < keys ? smaller(at->keys, keys - at->j0) : 0;
    if (grad) unpack_rows(sums, given, size, 1, false, (real *)grad + (ptrdiff_t)at->j0 * step, step);
    bool here = keys >= at->j0 && keys < at->j0 + at->keys;
    if (grad_bias && here) unpack_row(sums->data + (keys - at->j0) * sums->stride, size, 1, false, grad_bias);
}

static void backward_keys(const psg_attention *t, work *w, place at) {
    memset(w->gk.data, 0, KB * w->gk.stride * sizeof(real));
    memset(w->gv.data, 0, KB * w->gv.stride * sizeof(real));
    for (at.head = 0; at.head < t->group; at.head++) {
        for (at.i0 = 0; at.i0 < t->queries; at.i0 += LB) {
            at.queries = smaller(LB, t->queries - at.i0);
            if (is_future(t, &at)) continue;
            pack_queries(t, w, &at);
            pack_output_gradient(t, w, &at);
            backward_tile(t, w, &at);
        }
    }
    w->zero |= times_zero(&w->gk, at.keys) | times_zero(&w->gv, at.keys);
    write_sums(&w->gk, t->key_size, t->keys, &at, t->grad_k, t->k_row, t->grad_bias_k);
    write_sums(&w->gv, t->value_size, t->keys, &at, t->grad_v, t->v_row, t->grad_bias_v);
}

static void clear_query_gradient(const psg_attention *t) {
    for (size_t head = 0; head < t->group; head++) {
        for (size_t i = 0; i < t->queries; i++) {
            real *row = (real *)t->grad_q + (ptrdiff_t)head * t->q_head + (ptrdiff_t)i * t->q_row;
            for (size_t e = 0; e < t->key_size; e++) row[e] = 0;
        }
    }
}

static void backward(const psg_attention *t, work *w) {
    for (size_t head = 0; head < t->group; head++) {
        for (size_t i0 = 0; i0 < t->queries; i0 += LB) {
            find_means(t, w, (place){ .head = head, .i0 = i0, .queries = smaller(LB, t->queries - i0) });
        }
    }
    for (size_t j0 = 0; j0 < w->all_keys; j0 += KB) {
        backward_keys(t, w, (place){ .j0 = j0, .keys = smaller(KB, w->all_keys - j0) });
    }
}

void PSG_KERNEL(attention_backward)(const psg_attention *t, void *workspace) {
    work w = divide(t, workspace);
    if (!w.all_keys && t->grad_q) clear_query_gradient(t);
    backward(t, &w);
    if (is_zero(w.zero)) return;
    psg_attention again = *t;
    again.grad_mask = NULL;   /* has its sums */
    w.careful = true;
    backward(&again, &w);
}
