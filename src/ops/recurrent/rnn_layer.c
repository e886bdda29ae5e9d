#include "ops/recurrent/rnn_layer.h"

#include "base/shapes.h"
#include "kernels.h"
#include "ops/shared/ranges.h"

/* ---- rows ---- */

psg_rnn_rows psg_rnn_rows_of(const psg_rnn_layer *layer, const psg_tensor *tensor) {
    int64_t step = tensor->shape[tensor->rank - 1] * (int64_t)layer->element;
    return (psg_rnn_rows){ .data = tensor->data, .step = step,
                           .sample = tensor->rank == 2 ? step : step * tensor->shape[1] };
}

bool psg_rnn_state_is_batched(const psg_rnn_layer *layer, int k) {
    return layer->call->input[k].value.rank == (layer->kind->one_step ? 2 : 3);
}

void *psg_rnn_state_row(const psg_rnn_layer *layer, int k, const psg_tensor *tensor, int64_t n, int64_t d) {
    const psg_recurrent_attributes *attributes = layer->call->attributes;
    int64_t row = layer->kind->one_step ? 0 : attributes->state_row + d;
    if (psg_rnn_state_is_batched(layer, k)) {
        psg_rnn_rows rows = psg_rnn_rows_of(layer, tensor);
        return psg_rnn_row(&rows, n, row);
    }
    return psg_tensor_offset(tensor, row * tensor->shape[tensor->rank - 1]);
}

/* Lengths descend along order. */
int64_t psg_rnn_active(const psg_rnn_layer *layer, int64_t first, int64_t count, int64_t t) {
    const psg_rnn_kept *kept = layer->kept;
    while (count > 0 && kept->lengths[kept->order[first + count - 1]] <= t) count--;
    return count;
}

/* ---- memory ---- */

void *psg_rnn_take(const psg_rnn_layer *layer, int64_t count) {
    size_t bytes;
    if (psg_size_bytes(count, layer->element, &bytes)) return psg_call_keep(layer->call, bytes);
    psg_call_fail(layer->call, PSG_ERR_OVERFLOW, "the states of all steps do not fit the address space");
    return NULL;
}

/* ---- panels ---- */

typedef struct pack_job {
    const psg_rnn_layer *layer;
    const char *w;
    char *panels;
    int64_t n, n_stride, k, k_stride, width, from, panel_k;
} pack_job;

static void pack_range(void *argument, size_t begin, size_t count) {
    const pack_job *j = argument;
    int64_t element = (int64_t)j->layer->element;
    for (int64_t panel = (int64_t)begin; panel < (int64_t)(begin + count); panel++) {
        int64_t column = panel * j->width, left = j->n - column;
        j->layer->kernels->pack_panel((size_t)(left < j->width ? left : j->width), (size_t)j->k,
                                      j->w + column * j->n_stride * element, j->n_stride, j->k_stride,
                                      j->panels + (panel * j->panel_k + j->from) * j->width * element);
    }
}

static int64_t panels_of(int64_t n, int64_t width) { return (n + width - 1) / width; }

void psg_rnn_pack(const psg_rnn_layer *layer, const void *w, int64_t n, int64_t n_stride, int64_t k, int64_t k_stride,
                  void *panels, int64_t from, int64_t panel_k) {
    int64_t width = (int64_t)layer->kernels->panel_width();
    pack_job j = { layer, w, panels, n, n_stride, k, k_stride, width, from, panel_k };
    psg_for_ranges(layer->call->context, (size_t)panels_of(n, width), psg_range_unit(k * width), pack_range, &j);
}

int64_t psg_rnn_panel_elements(const psg_rnn_layer *layer, int64_t n, int64_t k) {
    int64_t width = (int64_t)layer->kernels->panel_width(), elements;
    return psg_size_multiply(panels_of(n, width) * width, k, &elements) ? elements : -1;
}
