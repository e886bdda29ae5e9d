// A convolutional network in C++17, trained with differential privacy: bars that lie, stand or lean, in noise.
#include <psg/psg.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <random>
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

class network {
public:
    explicit network(psg_context *context) : params(context, PSG_F32) {
        conv1 = params.add("conv1", psg::init::kaiming(), { channels, 1, 3, 3 });
        conv2 = params.add("conv2", psg::init::kaiming(), { 2 * channels, channels, 3, 3 });
        head = params.add("head", psg::init::kaiming(), { classes, 2 * channels });
        params.initialize(1);
    }

    // Scores (count, classes) of images in a row.
    psg_var scores(psg_tape *tape, const float *images, int64_t count) const {
        const psg::options<psg_conv_options> same([](auto &o) { o.padding_rule = PSG_CONV_SAME; });
        const int64_t window[2] = { 2, 2 }, one[2] = { 1, 1 };
        psg_var x = psg_input(tape, psg::view(images, { count, 1, side, side }));
        x = psg_relu(tape, psg_conv2d(tape, x, psg_use(tape, conv1), psg_none(), same));
        x = psg_group_norm(tape, psg_max_pool2d(tape, x, window, nullptr), 2, psg_none(), psg_none(), 1e-5);
        x = psg_relu(tape, psg_conv2d(tape, x, psg_use(tape, conv2), psg_none(), same));
        x = psg_flatten(tape, psg_adaptive_max_pool2d(tape, x, one), 1, -1);
        return psg_linear(tape, x, psg_use(tape, head), psg_none());
    }

    psg::params params;

private:
    psg_param *conv1, *conv2, *head;
};

// One step with the batch that the mechanism draws.
void train_step(network &net, psg::tape &tape, psg::dp &dp, psg_optimizer *sgd, const dataset &data) {
    const psg_batch batch = dp.sample();
    std::vector<float> images;
    std::vector<int64_t> labels;
    for (int64_t n = 0; n < batch.count; n++) {
        const auto first = data.images.begin() + batch.ids[n] * pixels;
        images.insert(images.end(), first, first + pixels);
        labels.push_back(data.labels[batch.ids[n]]);
    }
    psg::options<psg_pass> pass;
    pass.batch = &batch;
    tape.begin(pass);
    const psg_var scores = net.scores(tape, images.data(), batch.count);
    tape.backward(psg_cross_entropy(tape, scores, psg_input(tape, psg::view(labels)), nullptr));
    dp.accumulate(batch, net.params.gradients(tape));
    dp.release_to(sgd);
}

// The share of the images not trained on whose highest score is their label's.
double accuracy(const network &net, psg::tape &tape, const dataset &data) {
    tape.begin();
    const psg_tensor scores = tape.value(net.scores(tape, data.images.data() + trained * pixels, records - trained));
    int64_t correct = 0;
    for (int64_t n = trained; n < records; n++) {
        const float *row = static_cast<const float *>(scores.data) + (n - trained) * classes;
        correct += std::max_element(row, row + classes) - row == data.labels[n];
    }
    return static_cast<double>(correct) / static_cast<double>(records - trained);
}

}  // namespace

int main() try {
    const dataset data = draw_images();
    psg::context context;
    psg::generator generator(context);
    psg::tape tape(context);
    network net(context);
    psg::options<psg_dp_options> budget;
    budget.records = trained;
    budget.sample_rate = 0.07;
    budget.epsilon = 3;
    budget.delta = 1e-5;
    budget.steps = steps;
    psg::options<psg_sgd_options> step;
    step.lr = 1;
    step.momentum = 0.8;
    psg::dp dp(context, generator, budget, net.params.trainable());
    psg::optimizer sgd(context, step, net.params.trainable());
    for (int k = 0; k < steps; k++) train_step(net, tape, dp, sgd, data);
    std::printf("accuracy %.3f (chance 0.250), epsilon %.2f\n", accuracy(net, tape, data), dp.privacy(1e-5).epsilon);
    return 0;
} catch (const std::exception &failure) {
    std::fprintf(stderr, "convnet: %s\n", failure.what());
    return 1;
}
