/* One step of a recurrent layer, unit by unit: from pre-activations to states, and back.
 *
 * Slopes are taken from the gates: sigmoid' = s (1 - s), tanh' = 1 - t^2. */
#include "kernels.h"
#include "vector.h"

#define INLINE static inline __attribute__((always_inline))

/* part <= LANES units from i on of the block at p. */
INLINE vec get(const void *p, size_t i, size_t part) {
    const real *x = (const real *)p + i;
    return part == LANES ? vec_load(x) : vec_load_part(x, part);
}

INLINE void put(void *p, size_t i, size_t part, vec v) {
    real *x = (real *)p + i;
    if (part == LANES) vec_store(x, v);
    else vec_store_part(x, v, part);
}

/* with t = exp(-|x|): 1 / (1 + t) or t / (1 + t) */
INLINE vec sigmoid(vec x) {
    vec t = vec_exp(-vec_abs(x));
    return vec_select(x < vec_zero(), t, vec_set(1)) / (1 + t);
}

INLINE vec sigmoid_slope(vec s) { return s * (1 - s); }
INLINE vec tanh_slope(vec t) { return 1 - t * t; }

/* The gradient of h: what came from later steps, and from the output. */
INLINE vec whole_grad_h(const psg_recurrent_row *r, size_t i, size_t part) {
    vec grad = get(r->grad_h, i, part);
    return r->grad_output ? grad + get(r->grad_output, i, part) : grad;
}

INLINE void for_units(const psg_recurrent_row *r, void (*step)(const psg_recurrent_row *, size_t, size_t)) {
    size_t i = 0;
    for (; i + LANES <= r->hidden; i += LANES) step(r, i, LANES);
    if (i < r->hidden) step(r, i, r->hidden - i);
}

/* ---- rnn: h = tanh(a) or relu(a); NaN passes relu ---- */

INLINE void rnn_step(const psg_recurrent_row *r, size_t i, size_t part) {
    vec a = get(r->sums, i, part);
    put(r->h, i, part, r->relu ? vec_select(a <= vec_zero(), vec_zero(), a) : vec_tanh(a));
}

INLINE void rnn_step_back(const psg_recurrent_row *r, size_t i, size_t part) {
    vec h = get(r->h, i, part), grad = whole_grad_h(r, i, part);
    vec relu = vec_select(h <= vec_zero(), vec_zero(), grad);
    put(r->grad_sums, i, part, r->relu ? relu : grad * tanh_slope(h));
}

void PSG_KERNEL(rnn_forward)(const psg_recurrent_row *row) { for_units(row, rnn_step); }
void PSG_KERNEL(rnn_backward)(const psg_recurrent_row *row) { for_units(row, rnn_step_back); }

/* ---- lstm: c = f c_prev + i g, h = o tanh(c) ---- */

INLINE void lstm_step(const psg_recurrent_row *r, size_t k, size_t part) {
    size_t n = r->hidden;
    vec i = sigmoid(get(r->sums, k, part)), f = sigmoid(get(r->sums, n + k, part));
    vec g = vec_tanh(get(r->sums, 2 * n + k, part)), o = sigmoid(get(r->sums, 3 * n + k, part));
    vec c = f * get(r->c_prev, k, part) + i * g;
    put(r->gates, k, part, i);
    put(r->gates, n + k, part, f);
    put(r->gates, 2 * n + k, part, g);
    put(r->gates, 3 * n + k, part, o);
    put(r->c, k, part, c);
    put(r->h, k, part, o * vec_tanh(c));
}

INLINE void lstm_step_back(const psg_recurrent_row *r, size_t k, size_t part) {
    size_t n = r->hidden;
    vec i = get(r->gates, k, part), f = get(r->gates, n + k, part);
    vec g = get(r->gates, 2 * n + k, part), o = get(r->gates, 3 * n + k, part);
    vec t = vec_tanh(get(r->c, k, part)), grad_h = whole_grad_h(r, k, part);
    vec grad_c = get(r->grad_c, k, part) + grad_h * o * tanh_slope(t);
    put(r->grad_sums, k, part, grad_c * g * sigmoid_slope(i));
    put(r->grad_sums, n + k, part, grad_c * get(r->c_prev, k, part) * sigmoid_slope(f));
    put(r->grad_sums, 2 * n + k, part, grad_c * i * tanh_slope(g));
    put(r->grad_sums, 3 * n + k, part, grad_h * t * sigmoid_slope(o));
    put(r->grad_c, k, part, grad_c * f);
}

void PSG_KERNEL(lstm_forward)(const psg_recurrent_row *row) { for_units(row, lstm_step); }
void PSG_KERNEL(lstm_backward)(const psg_recurrent_row *row) { for_units(row, lstm_step_back); }

/* ---- gru: n = tanh(nx + r nh), h = (h_prev - n) z + n ---- */

INLINE void gru_step(const psg_recurrent_row *r, size_t k, size_t part) {
    size_t n = r->hidden;
    vec reset = sigmoid(get(r->sums, k, part)), z = sigmoid(get(r->sums, n + k, part));
    vec hidden = get(r->sums, 3 * n + k, part), new = vec_tanh(get(r->sums, 2 * n + k, part) + reset * hidden);
    put(r->gates, k, part, reset);
    put(r->gates, n + k, part, z);
    put(r->gates, 2 * n + k, part, new);
    put(r->gates, 3 * n + k, part, hidden);
    put(r->h, k, part, (get(r->h_prev, k, part) - new) * z + new);
}

INLINE void gru_step_back(const psg_recurrent_row *r, size_t k, size_t part) {
    size_t n = r->hidden;
    vec reset = get(r->gates, k, part), z = get(r->gates, n + k, part);
    vec new = get(r->gates, 2 * n + k, part), hidden = get(r->gates, 3 * n + k, part);
    vec grad_h = whole_grad_h(r, k, part);
    vec grad_n = grad_h * (1 - z) * tanh_slope(new);
    vec grad_z = grad_h * (get(r->h_prev, k, part) - new) * sigmoid_slope(z);
    vec grad_r = grad_n * hidden * sigmoid_slope(reset);
    put(r->grad_sums, k, part, grad_r);
    put(r->grad_sums, n + k, part, grad_z);
    put(r->grad_sums, 2 * n + k, part, grad_n);
    put(r->grad_sums, 3 * n + k, part, grad_r);
    put(r->grad_sums, 4 * n + k, part, grad_z);
    put(r->grad_sums, 5 * n + k, part, grad_n * reset);
    put(r->grad_h, k, part, grad_h * z);
}

void PSG_KERNEL(gru_forward)(const psg_recurrent_row *row) { for_units(row, gru_step); }
void PSG_KERNEL(gru_backward)(const psg_recurrent_row *row) { for_units(row, gru_step_back); }
