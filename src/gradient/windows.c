/* Windows of an image: their checks. */
#include "base/shape.h"
#include "gradient/factored.h"

static psg_status check_window(const psg_check *at, const psg_window *w) {
    const struct { const char *name; const int64_t *values, least; } limits[] = {
        { "kernel", w->kernel, 1 }, { "stride", w->stride, 1 }, { "dilation", w->dilation, 1 },
        { "padding", w->padding, 0 }, { "output", w->output, 0 },
    };
    for (int d = 0; d < w->spatial; d++) {
        for (size_t k = 0; k < sizeof limits / sizeof limits[0]; k++) {
            if (limits[k].values[d] >= limits[k].least) continue;
            return psg_check_fail(at, PSG_ERR_ARGUMENT, "window.%s[%d] is %lld, must be >= %lld", limits[k].name, d,
                                  (long long)limits[k].values[d], (long long)limits[k].least);
        }
        int64_t reach, dilated;
        bool fits = psg_size_multiply(w->output[d], w->stride[d], &reach) &&
                    psg_size_multiply(w->kernel[d], w->dilation[d], &dilated) &&
                    !__builtin_add_overflow(reach, dilated, &reach) && w->padding[d] < INT64_MAX / 4 &&
                    reach < INT64_MAX / 4;
        if (!fits) return psg_check_fail(at, PSG_ERR_OVERFLOW, "the window's reach does not fit 63 bits");
    }
    return PSG_OK;
}

static psg_status check_image(const psg_check *at, const psg_block *b) {
    const psg_tensor *x = &b->activation;
    char text[PSG_SHAPE_TEXT];
    if (b->window.spatial < 1 || b->window.spatial > 3) {
        return psg_check_fail(at, PSG_ERR_ARGUMENT, "window.spatial is %d, must be 1, 2 or 3", b->window.spatial);
    }
    if (!psg_tensor_is_valid(x) || x->rank != 2 + b->window.spatial) {
        return psg_check_fail(at, PSG_ERR_SHAPE, "the image must be a valid (B, C, *X) view of %d spatial dimensions, "
                              "has rank %d", b->window.spatial, x->rank);
    }
    if (x->dtype != at->gradient->dtype) {
        return psg_check_fail(at, PSG_ERR_DTYPE, "the image is %s, the gradient is %s", psg_dtype_name(x->dtype),
                              psg_dtype_name(at->gradient->dtype));
    }
    if (x->shape[0] != b->backprop.shape[0]) {
        return psg_check_fail(at, PSG_ERR_BATCH, "the image has shape %s, the batch size is %lld",
                              psg_tensor_text(x, text), (long long)b->backprop.shape[0]);
    }
    return PSG_OK;
}

psg_status psg_check_windows(const psg_check *at, const psg_block *b, int64_t *columns) {
    psg_status status = check_image(at, b);
    if (!status) status = check_window(at, &b->window);
    if (status) return status;
    int64_t positions = psg_shape_product(b->window.spatial, b->window.output);
    if (positions != psg_positions_of(&b->backprop)) {
        return psg_check_fail(at, PSG_ERR_SHAPE, "backprop has %lld positions, the window's output %lld",
                              (long long)psg_positions_of(&b->backprop), (long long)positions);
    }
    bool counted = psg_window_columns(&b->activation, &b->window, columns);
    return counted ? PSG_OK : psg_check_fail(at, PSG_ERR_OVERFLOW, "the window's elements do not fit 63 bits");
}
