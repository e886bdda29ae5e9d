// One per-sample pass through an installed libpsg, as a C++17 program of somebody else's: every initialiser macro, the
// inline functions and a user's own op.
#include <psg/psg.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

namespace {

void check(psg_status status, const char *message) {
    if (status != PSG_OK) throw std::runtime_error(message);
}

using context_ptr = std::unique_ptr<psg_context, decltype(&psg_context_destroy)>;
using tape_ptr = std::unique_ptr<psg_tape, decltype(&psg_tape_destroy)>;
using param_ptr = std::unique_ptr<psg_param, decltype(&psg_param_destroy)>;

// y = x + x
psg_status twice_shape(psg_call *call) {
    const psg_tensor &x = call->input[0].value;
    return psg_call_output(call, x.dtype, x.rank, x.shape);
}

void add_twice(const psg_tensor &from, const psg_tensor &to) {
    const float *x = static_cast<const float *>(from.data);
    float *y = static_cast<float *>(to.data);
    for (int64_t k = 0; k < psg_tensor_count(&from); k++) y[k] = x[k] + x[k];
}

psg_status twice_forward(psg_call *call) {
    add_twice(call->input[0].value, call->output);
    return PSG_OK;
}

psg_status twice_backward(psg_call *call) {
    if (call->input[0].grad.data) add_twice(call->grad_output, call->input[0].grad);
    return PSG_OK;
}

const char *const twice_names[] = { "input" };
psg_op twice_op() {
    psg_op op = {};
    op.name = "twice";
    op.input_count = 1;
    op.input_names = twice_names;
    op.shape = twice_shape;
    op.forward = twice_forward;
    op.backward = twice_backward;
    return op;
}
const psg_op twice = twice_op();

std::vector<double> norms(psg_context *context, psg_param *weight, bool user_op) {
    std::vector<float> images(4 * 5, 0.25f);
    std::vector<float> targets(4 * 3, 1.0f);
    for (size_t k = 0; k < images.size(); k++) images[k] -= 0.0625f * static_cast<float>(k % 6);
    psg_tensor x_view = psg_f32_2d(images.data(), 4, 5), y_view = psg_f32_2d(targets.data(), 4, 3);
    psg_tape *made = nullptr;
    check(psg_tape_create(context, &made), psg_context_message(context));
    tape_ptr tape(made, psg_tape_destroy);
    psg_pass pass = PSG_PASS_INIT;
    check(psg_tape_begin(tape.get(), &pass), psg_tape_message(tape.get()));
    psg_var x = psg_linear(tape.get(), psg_input(tape.get(), &x_view), psg_use(tape.get(), weight), psg_none());
    psg_var y = user_op ? psg_apply(tape.get(), "twice", &x, 1, nullptr) : psg_scale(tape.get(), x, 2.0);
    psg_var loss = psg_mse(tape.get(), psg_tanh(tape.get(), y), psg_input(tape.get(), &y_view), PSG_SUM);
    check(psg_backward(tape.get(), loss), psg_tape_message(tape.get()));
    psg_gradient gradient;
    check(psg_gradient_of(tape.get(), weight, &gradient), psg_tape_message(tape.get()));
    const psg_gradient *set[] = { &gradient };
    std::vector<double> sqnorm(4), factors(4), sum(15);
    check(psg_sqnorm(context, set, 1, sqnorm.data(), nullptr, nullptr), psg_context_message(context));
    psg_clip clip = PSG_CLIP_INIT;
    const int64_t shape[] = { 3, 5 };
    psg_tensor out = psg_tensor_of(PSG_F64, sum.data(), 2, shape);
    check(psg_clipped_sum(context, set, 1, &clip, PSG_OVERWRITE, &out, nullptr, factors.data(), nullptr),
          psg_context_message(context));
    return sqnorm;
}

}  // namespace

int main() try {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    psg_sgd_options sgd = PSG_SGD_OPTIONS_INIT;
    psg_adam_options adam = PSG_ADAM_OPTIONS_INIT;
    psg_cross_entropy_options loss = PSG_CROSS_ENTROPY_OPTIONS_INIT;
    if (sgd.lr != adam.lr || loss.reduction != PSG_MEAN) return 1;
    options.threads = 2;
    psg_context *made = nullptr;
    check(psg_context_create(&options, &made), "no context");
    context_ptr context(made, psg_context_destroy);
    check(psg_op_register(context.get(), &twice), psg_context_message(context.get()));
    std::vector<float> w(15, 0.5f);
    psg_tensor value = psg_f32_2d(w.data(), 3, 5);
    psg_param *weight = nullptr;
    check(psg_param_create(context.get(), "weight", &value, &weight), psg_context_message(context.get()));
    param_ptr owner(weight, psg_param_destroy);
    std::vector<double> own = norms(context.get(), weight, true), built_in = norms(context.get(), weight, false);
    for (size_t n = 0; n < own.size(); n++) {
        if (!(own[n] > 0) || std::fabs(own[n] - built_in[n]) > 1e-5 * own[n]) return 1;
    }
    std::puts(psg_version());
    return 0;
} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
