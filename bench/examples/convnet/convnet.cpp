// A convolutional network in C++17, trained with differential privacy: bars that lie, stand or lean, in noise.
#include <psg/psg.h>

#include <algorithm>
#include <cstdio>
#include <initializer_list>
#include <random>
#include <stdexcept>
#include <vector>

namespace {

constexpr int side = 12, pixels = side * side, channels = 8, classes = 4, steps = 60;
constexpr int64_t records = 4000, trained = 3600;

struct dataset {
    std::vector<float> images;      // (records, pixels)
    std::vector<int64_t> labels;
};

dataset draw_images() {
    dataset data;
    std::mt19937 random(1);
    std::normal_distribution<float> noise(0, 0.5f);
    for (int64_t i = 0; i < records; i++) {
        const int label = static_cast<int>(i % classes), at = 2 + static_cast<int>(random() % (side - 4));
        data.labels.push_back(label);
        for (int r = 0; r < side; r++) {
            for (int c = 0; c < side; c++) {
                const int distance[classes] = { r - at, c - at, (r + c) % side - at, (r - c + side) % side - at };
                data.images.push_back(noise(random) + (distance[label] == 0 ? 1.0f : 0.0f));
            }
        }
    }
    return data;
}

class training {
public:
    training() {
        check(psg_context_create(nullptr, &context_));
        check(psg_generator_create(context_, &generator_));
        check(psg_tape_create(context_, &tape_));
        check(psg_params_create(context_, PSG_F32, &params_));
        conv1_ = add("conv1", { channels, 1, 3, 3 });
        conv2_ = add("conv2", { 2 * channels, channels, 3, 3 });
        head_ = add("head", { classes, 2 * channels });
        check(psg_params_initialize(params_, 1));
        const psg_param_list all = psg_params_trainable(params_);
        psg_dp_options options = PSG_DP_OPTIONS_INIT;
        options.records = trained;
        options.sample_rate = 0.07;
        options.epsilon = 3;
        options.delta = 1e-5;
        options.steps = steps;
        check(psg_dp_create(context_, generator_, &options, all.counts, all.count, &dp_));
        psg_sgd_options step = PSG_SGD_OPTIONS_INIT;
        step.lr = 1;
        step.momentum = 0.8;
        check(psg_sgd_create(context_, &step, all.values, all.count, &sgd_));
    }
    training(const training &) = delete;
    training &operator=(const training &) = delete;
    ~training() {
        psg_optimizer_destroy(sgd_);
        psg_dp_destroy(dp_);
        psg_params_destroy(params_);
        psg_tape_destroy(tape_);
        psg_generator_destroy(generator_);
        psg_context_destroy(context_);
    }

    // With the batch that the mechanism draws.
    void step(const dataset &data) {
        psg_batch batch;
        check(psg_dp_sample(dp_, &batch));
        std::vector<float> images;
        std::vector<int64_t> labels;
        for (int64_t n = 0; n < batch.count; n++) {
            const float *first = data.images.data() + batch.ids[n] * pixels;
            images.insert(images.end(), first, first + pixels);
            labels.push_back(data.labels[batch.ids[n]]);
        }
        psg_pass pass = PSG_PASS_INIT;
        pass.batch = &batch;
        check(psg_tape_begin(tape_, &pass));
        const psg_tensor y = psg_i64_1d(labels.data(), batch.count);
        const psg_var scores = forward(images.data(), batch.count);
        check(psg_backward(tape_, psg_cross_entropy(tape_, scores, psg_input(tape_, &y), nullptr)));
        const psg_gradient *const *gradients;
        check(psg_params_gradients(params_, tape_, &gradients));
        check(psg_dp_accumulate(dp_, &batch, gradients, psg_params_trainable(params_).count, nullptr));
        check(psg_dp_release_to(dp_, sgd_));
    }

    // The share of the images not trained on whose highest score is their label's.
    double accuracy(const dataset &data) {
        int64_t correct = 0;
        psg_tensor scores;
        check(psg_tape_begin(tape_, nullptr));
        check(psg_value(tape_, forward(data.images.data() + trained * pixels, records - trained), &scores));
        for (int64_t n = trained; n < records; n++) {
            const float *row = static_cast<const float *>(scores.data) + (n - trained) * classes;
            correct += std::max_element(row, row + classes) - row == data.labels[n];
        }
        return static_cast<double>(correct) / static_cast<double>(records - trained);
    }

    double epsilon() {
        psg_privacy privacy;
        check(psg_dp_privacy(dp_, 1e-5, &privacy));
        return privacy.epsilon;
    }

private:
    void check(psg_status status) const {
        if (status != PSG_OK) throw std::runtime_error(psg_context_message(context_));
    }

    psg_param *add(const char *name, std::initializer_list<int64_t> shape) {
        return psg_params_add(params_, name, psg_init_kaiming(), static_cast<int>(shape.size()), shape.begin());
    }

    // Scores (count, classes).
    psg_var forward(const float *images, int64_t count) {
        const psg_tensor input = psg_f32_4d(images, count, 1, side, side);
        const int64_t window[2] = { 2, 2 }, one[2] = { 1, 1 };
        psg_conv_options same = PSG_CONV_OPTIONS_INIT;
        same.padding_rule = PSG_CONV_SAME;
        psg_var x = psg_conv2d(tape_, psg_input(tape_, &input), psg_use(tape_, conv1_), psg_none(), &same);
        x = psg_max_pool2d(tape_, psg_relu(tape_, x), window, nullptr);
        x = psg_group_norm(tape_, x, 2, psg_none(), psg_none(), 1e-5);
        x = psg_relu(tape_, psg_conv2d(tape_, x, psg_use(tape_, conv2_), psg_none(), &same));
        x = psg_flatten(tape_, psg_adaptive_max_pool2d(tape_, x, one), 1, -1);
        return psg_linear(tape_, x, psg_use(tape_, head_), psg_none());
    }

    psg_context *context_ = nullptr;
    psg_generator *generator_ = nullptr;
    psg_tape *tape_ = nullptr;
    psg_params *params_ = nullptr;
    psg_param *conv1_ = nullptr, *conv2_ = nullptr, *head_ = nullptr;
    psg_dp *dp_ = nullptr;
    psg_optimizer *sgd_ = nullptr;
};

}  // namespace

int main() try {
    const dataset data = draw_images();
    training run;
    for (int k = 0; k < steps; k++) run.step(data);
    std::printf("accuracy %.3f (chance 0.250), epsilon %.2f\n", run.accuracy(data), run.epsilon());
    return 0;
} catch (const std::exception &failure) {
    std::fprintf(stderr, "convnet: %s\n", failure.what());
    return 1;
}
