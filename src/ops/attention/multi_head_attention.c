/* multi_head_attention: projections, attention of every head, output projection; recorded as several ops.
 *
 * q, k and v that are one var and share a fused weight come from one product and stay in its output, side by side; so
 * do k and v alone in cross-attention. */
#include "base/label.h"
#include "base/shapes.h"
#include "psg/ops/attention.h"
#include "psg/ops/linear.h"

typedef psg_multi_head_attention_weights weights_of;

typedef struct layer {
    psg_tape *tape;
    const weights_of *w;
    int64_t embed, heads;
    psg_var source[3];       /* of q, k, v */
    psg_var projected[3];    /* none: side by side in the one before */
} layer;

static bool same(psg_var a, psg_var b) { return a.id == b.id; }

/* ---- checks: what the parts cannot say as well ---- */

static const char *missing_weight(const weights_of *w) {
    if (!w) return "weights is NULL";
    bool separate = w->q_proj_weight.id && w->k_proj_weight.id && w->v_proj_weight.id;
    bool any = w->q_proj_weight.id || w->k_proj_weight.id || w->v_proj_weight.id;
    if (w->in_proj_weight.id && any) return "in_proj_weight and separate projections are given, must be one of both";
    if (!w->in_proj_weight.id && !separate) {
        return "in_proj_weight is absent, then q_proj_weight, k_proj_weight and v_proj_weight are all required";
    }
    if (!w->out_proj_weight.id) return "out_proj_weight is absent, but required";
    if (!w->bias_k.id != !w->bias_v.id) return "bias_k and bias_v must both be given or both be absent";
    return NULL;
}

static bool has_shape(const layer *l, psg_var var, const char *name, int rank, const int64_t *shape) {
    psg_tensor value;
    char have[PSG_SHAPE_TEXT], want[PSG_SHAPE_TEXT];
    if (!var.id) return true;
    if (psg_value_shape(l->tape, var, &value)) {
        return !psg_tape_fail(l->tape, PSG_ERR_ARGUMENT, "multi_head_attention: %s is no var of this pass", name);
    }
    if (psg_shape_equal(value.rank, value.shape, rank, shape)) return true;
    return !psg_tape_fail(l->tape, PSG_ERR_SHAPE, "multi_head_attention: %s has shape %s, must be %s",
                          psg_label_of(name, psg_var_name(l->tape, var)).text, psg_tensor_text(&value, have),
                          psg_shape_text(rank, shape, want));
}

static bool check_weights(const layer *l) {
    int64_t e = l->embed, fused[2] = { 3 * e, e }, square[2] = { e, e }, three[1] = { 3 * e }, one[3] = { 1, 1, e };
    const weights_of *w = l->w;
    return has_shape(l, w->in_proj_weight, "in_proj_weight", 2, fused) &&
           has_shape(l, w->q_proj_weight, "q_proj_weight", 2, square) &&
           has_shape(l, w->in_proj_bias, "in_proj_bias", 1, three) && has_shape(l, w->bias_k, "bias_k", 3, one) &&
           has_shape(l, w->bias_v, "bias_v", 3, one) &&
           has_shape(l, w->out_proj_weight, "out_proj_weight", 2, square) &&
           has_shape(l, w->out_proj_bias, "out_proj_bias", 1, one + 2);
}

/* Separate weights: (E, features of the source). */
static bool check_separate(const layer *l, psg_var weight, psg_var source, const char *name) {
    psg_tensor value;
    if (!weight.id || psg_value_shape(l->tape, source, &value) || value.rank != 3) return true;   /* the part refuses */
    return has_shape(l, weight, name, 2, (int64_t[]){ l->embed, value.shape[2] });
}

static bool check(layer *l) {
    psg_tensor q;
    const char *missing = missing_weight(l->w);
    if (missing) return !psg_tape_fail(l->tape, PSG_ERR_ARGUMENT, "multi_head_attention: %s", missing);
    if (psg_value_shape(l->tape, l->source[0], &q) || q.rank != 3) {
        return !psg_tape_fail(l->tape, PSG_ERR_SHAPE, "multi_head_attention: query must be (N, L, E), of rank 3: "
                              "without a batch there are no per-sample gradients");
    }
    l->embed = q.shape[2];
    if (l->embed > INT32_MAX) {
        return !psg_tape_fail(l->tape, PSG_ERR_OVERFLOW, "multi_head_attention: query has size %lld, must be below "
                              "2^31", (long long)l->embed);
    }
    if (l->heads < 1 || l->embed < 1 || l->embed % l->heads) {
        return !psg_tape_fail(l->tape, PSG_ERR_ARGUMENT, "multi_head_attention: num_heads is %lld, must be positive "
                              "and divide query's size %lld", (long long)l->heads, (long long)l->embed);
    }
    return check_weights(l) && check_separate(l, l->w->k_proj_weight, l->source[1], "k_proj_weight") &&
           check_separate(l, l->w->v_proj_weight, l->source[2], "v_proj_weight");
}

/* ---- projections ---- */

/* Parts [first, first + count) of q, k, v from one source. */
static psg_var project(const layer *l, int first, int count) {
    const psg_var separate[3] = { l->w->q_proj_weight, l->w->k_proj_weight, l->w->v_proj_weight };
    bool fused = l->w->in_proj_weight.id != 0;
    psg_var x = l->source[first], weight = fused ? l->w->in_proj_weight : separate[first];
    bool all = count == 3 || (!fused && !l->w->in_proj_bias.id);
    if (all) return psg_linear(l->tape, x, weight, l->w->in_proj_bias);
    psg_in_projection_attributes rows = { .weight_row = fused ? first * l->embed : 0, .bias_row = first * l->embed,
                                          .features = count * l->embed };
    return psg_in_projection(l->tape, x, weight, l->w->in_proj_bias, &rows);
}

static void project_all(layer *l) {
    bool fused = l->w->in_proj_weight.id != 0;
    bool pair = fused && same(l->source[1], l->source[2]), all = pair && same(l->source[0], l->source[1]);
    l->projected[0] = project(l, 0, all ? 3 : 1);
    l->projected[1] = all ? psg_none() : project(l, 1, pair ? 2 : 1);
    l->projected[2] = pair ? psg_none() : project(l, 2, 1);
}

psg_var psg_multi_head_attention(psg_tape *tape, psg_var query, psg_var key, psg_var value, int64_t num_heads,
                                 const psg_multi_head_attention_weights *weights,
                                 const psg_multi_head_attention_options *options, psg_var *attention_weights) {
    layer l = { .tape = tape, .w = weights, .heads = num_heads, .source = { query, key, value } };
    if (attention_weights) *attention_weights = psg_none();
    if (!psg_tape_pass(tape)) {
        psg_tape_fail(tape, PSG_ERR_STATE, "multi_head_attention: no pass, call psg_tape_begin first");
        return psg_none();
    }
    if (!check(&l)) return psg_none();
    project_all(&l);
    psg_var heads = psg_head_attention(tape, l.projected[0], l.projected[1], l.projected[2], num_heads, weights->bias_k,
                                       weights->bias_v, options, attention_weights);
    return psg_linear(tape, heads, weights->out_proj_weight, weights->out_proj_bias);
}
