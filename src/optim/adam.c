/* torch.optim.Adam and AdamW (Kingma and Ba 2015; Loshchilov and Hutter 2019). */
#include <math.h>

#include "base/context.h"
#include "base/floats.h"
#include "base/reserved.h"
#include "optim/optimizer.h"

static psg_status check_options(psg_context *context, const psg_adam_options *o) {
    const struct { const char *name; double value, below; const char *rule; } ranges[] = {
        { "lr", o->lr, INFINITY, "finite and at least 0" },
        { "beta1", o->beta1, 1, "in [0, 1)" },
        { "beta2", o->beta2, 1, "in [0, 1)" },
        { "eps", o->eps, INFINITY, "finite and at least 0" },
        { "weight_decay", o->weight_decay, INFINITY, "finite and at least 0" },
    };
    if (psg_reserved_is_set(o->reserved)) {
        return psg_fail(context, PSG_ERR_ARGUMENT, "psg_adam_create: options" PSG_RESERVED_TEXT);
    }
    if (o->lr == 0) return psg_optimizer_refuse_zero_lr(context, "psg_adam_create");
    if (o->beta2 == 0 && o->eps == 0) {
        return psg_optimizer_refuse(context, "psg_adam_create", "eps", 0, "above 0 beside beta2 of 0, where a gradient of 0 "
                                    "is divided by nothing (the options' INIT macro has 1e-8 and 0.999)");
    }
    for (size_t k = 0; k < sizeof ranges / sizeof ranges[0]; k++) {
        if (ranges[k].value >= 0 && ranges[k].value < ranges[k].below) continue;
        return psg_optimizer_refuse(context, "psg_adam_create", ranges[k].name, ranges[k].value, ranges[k].rule);
    }
    return PSG_OK;
}

/* Moments begin at 0; 1 - beta^t is the weight they have gathered by step t. */
static void prepare(psg_optimizer *optimizer) {
    const psg_adam_options *o = &optimizer->options.adam;
    const double t = (double)optimizer->steps;
    optimizer->numbers.adam = (psg_adam_step){ .beta1 = o->beta1,
                                               .beta2 = o->beta2,
                                               .eps = o->eps,
                                               .l2 = o->decoupled ? 0 : o->weight_decay,
                                               .shrink = o->decoupled ? 1 - optimizer->lr * o->weight_decay : 1,
                                               .step_size = optimizer->lr / (1 - pow(o->beta1, t)),
                                               .root_scale = 1 / sqrt(1 - pow(o->beta2, t)) };
}

static void update(const psg_optimizer *optimizer, const psg_optimizer_chunk *chunk) {
    chunk->kernels->adam(chunk->count, &optimizer->numbers.adam, chunk->values, chunk->gradients, chunk->state[0],
                         chunk->state[1]);
}

static void describe(const psg_optimizer *optimizer, psg_writer *writer) {
    const psg_adam_options *o = &optimizer->options.adam;
    const psg_option_number numbers[] = { { "beta1", o->beta1 }, { "beta2", o->beta2 }, { "eps", o->eps },
                                        { "weight_decay", o->weight_decay } };
    psg_optimizer_describe(writer, "adam", numbers, sizeof numbers / sizeof *numbers);
    psg_put(writer, ", decoupled %d", o->decoupled != 0);
}

psg_status psg_adam_create(psg_context *context, const psg_adam_options *options, const psg_tensor *values,
                           size_t count, psg_optimizer **optimizer) {
    PSG_DEFAULT_FLOATS;
    const psg_adam_options defaults = PSG_ADAM_OPTIONS_INIT;
    if (!context) return PSG_ERR_ARGUMENT;
    if (!options) options = &defaults;
    psg_status status = check_options(context, options);
    if (status) return status;
    psg_optimizer model = { .context = context, .name = "psg_adam_create", .state_count = 2 };
    model.prepare = prepare;
    model.update = update;
    model.describe = describe;
    model.state_name[0] = "exp_avg";
    model.state_name[1] = "exp_avg_sq_root";
    model.options.adam = *options;
    model.lr = options->lr;
    return psg_optimizer_create(&model, values, count, optimizer);
}
