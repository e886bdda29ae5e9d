/* torch.optim.SGD. */
#include <math.h>

#include "base/context.h"
#include "base/floats.h"
#include "base/reserved.h"
#include "optim/optimizer.h"

static psg_status check_options(psg_context *context, const psg_sgd_options *o) {
    const struct { const char *name; double value; } magnitudes[] = {
        { "lr", o->lr }, { "momentum", o->momentum }, { "weight_decay", o->weight_decay }
    };
    if (psg_reserved_is_set(o->reserved)) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_sgd_create: options" PSG_RESERVED_TEXT);
    }
    if (o->lr == 0) return psg_optimizer_refuse_zero_lr(context, "psg_sgd_create");
    for (size_t k = 0; k < sizeof magnitudes / sizeof magnitudes[0]; k++) {
        if (psg_optimizer_is_magnitude(magnitudes[k].value)) continue;
        return psg_optimizer_refuse(context, "psg_sgd_create", magnitudes[k].name, magnitudes[k].value,
                                    "finite and at least 0");
    }
    if (!isfinite(o->dampening)) {
        return psg_optimizer_refuse(context, "psg_sgd_create", "dampening", o->dampening, "finite");
    }
    if (o->nesterov && o->momentum == 0) {
        return psg_optimizer_refuse(context, "psg_sgd_create", "momentum", o->momentum, "above 0 with nesterov");
    }
    if (o->nesterov && o->dampening != 0) {
        return psg_optimizer_refuse(context, "psg_sgd_create", "dampening", o->dampening, "0 with nesterov");
    }
    return PSG_OK;
}

/* v is 0 before the first step, where nothing is dampened: v = momentum 0 + 1 d = d. */
static void prepare(psg_optimizer *optimizer) {
    const psg_sgd_options *o = &optimizer->options.sgd;
    optimizer->numbers.sgd = (psg_sgd_step){ .lr = optimizer->lr,
                                             .momentum = o->momentum,
                                             .keep = optimizer->steps == 1 ? 1 : 1 - o->dampening,
                                             .weight_decay = o->weight_decay,
                                             .nesterov = o->nesterov != 0 };
}

static void update(const psg_optimizer *optimizer, const psg_optimizer_chunk *chunk) {
    chunk->kernels->sgd(chunk->count, &optimizer->numbers.sgd, chunk->values, chunk->gradients, chunk->state[0]);
}

static void describe(const psg_optimizer *optimizer, psg_writer *writer) {
    const psg_sgd_options *o = &optimizer->options.sgd;
    const psg_option_number numbers[] = { { "momentum", o->momentum }, { "dampening", o->dampening },
                                        { "weight_decay", o->weight_decay } };
    psg_optimizer_describe(writer, "sgd", numbers, sizeof numbers / sizeof *numbers);
    psg_put(writer, ", nesterov %d", o->nesterov != 0);
}

psg_status psg_sgd_create(psg_context *context, const psg_sgd_options *options, const psg_tensor *values,
                          size_t count, psg_optimizer **optimizer) {
    PSG_DEFAULT_FLOATS;
    const psg_sgd_options defaults = PSG_SGD_OPTIONS_INIT;
    if (!context) return PSG_ERR_ARGUMENT;
    if (!options) options = &defaults;
    psg_status status = check_options(context, options);
    if (status) return status;
    psg_optimizer model = { .context = context, .name = "psg_sgd_create", .prepare = prepare, .update = update };
    model.describe = describe;
    model.state_name[0] = "momentum_buffer";
    model.state_count = options->momentum == 0 ? 0 : 1;
    model.options.sgd = *options;
    model.lr = options->lr;
    return psg_optimizer_create(&model, values, count, optimizer);
}
