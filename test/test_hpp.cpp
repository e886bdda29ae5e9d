// psg/psg.hpp: owners, errors, views, options; and the training of a C program, bit for bit.  Built by each compiler
// of C++ that there is, in C++17 and C++20, with all warnings as errors.
#include <psg/psg.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

namespace {

// ---- what a test is: a function that throws where it fails, and output as cmocka's ----

void require(bool holds, const char *what, int line) {
    if (!holds) throw std::logic_error("line " + std::to_string(line) + ": " + what);
}
#define REQUIRE(...) require((__VA_ARGS__), #__VA_ARGS__, __LINE__)

// The status that a call throws; its message must have these words.
template <class Call> psg_status thrown(const char *words, Call call) {
    try {
        call();
    } catch (const psg::error &error) {
        require(std::strstr(error.what(), words) != nullptr, error.what(), 0);
        return error.status();
    }
    return PSG_OK;
}

struct counter {
    std::size_t live = 0;
};

void *count_in(void *user, std::size_t bytes) {
    static_cast<counter *>(user)->live++;
    return std::malloc(bytes);
}

void count_out(void *user, void *memory, std::size_t) {
    static_cast<counter *>(user)->live--;
    std::free(memory);
}

psg::context counted(counter &count) {
    return psg::context(psg::options<psg_context_options>([&](auto &o) {
        o.threads = 1;
        o.allocator = { count_in, count_out, &count };
    }));
}

// ---- owners ----

template <class T>
constexpr bool moves_only = std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> &&
                            !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T>;
static_assert(moves_only<psg::context> && moves_only<psg::tape> && moves_only<psg::param> && moves_only<psg::params>);
static_assert(moves_only<psg::generator> && moves_only<psg::dp> && moves_only<psg::optimizer>);
static_assert(moves_only<psg::accountant> && moves_only<psg::tensors>);
static_assert(std::is_convertible_v<psg::tape &, psg_tape *> && !std::is_convertible_v<psg::tape &, psg_param *>);
static_assert(!std::is_convertible_v<psg::tape, psg_tape *>);   // gone with the statement
static_assert(!std::is_constructible_v<psg::params, psg_context *, std::nullptr_t>);
struct longer : psg_tensor {
    int more;
};
static_assert(std::is_convertible_v<const std::vector<psg_tensor> &, psg::span<psg_tensor>>);
static_assert(!std::is_convertible_v<const std::vector<longer> &, psg::span<psg_tensor>>);   // other strides
static_assert(std::is_convertible_v<const std::vector<psg::options<psg_clip>> &, psg::span<psg_clip>>);

void owners_move() {
    counter count;
    {
        psg::context context = counted(count), empty(std::move(context));
        REQUIRE(!context.get() && empty.get());
        context = std::move(empty);
        psg::tape tape(context), other(context);
        psg_tape *handle = tape;
        other = std::move(tape);             // what it had is destroyed
        REQUIRE(other.get() == handle && !tape.get());
        psg::tape &itself = other;
        other = std::move(itself);
        REQUIRE(other.get() == handle);
        REQUIRE(thrown("PSG_ERR_ARGUMENT", [&] { tape.begin(); }) == PSG_ERR_ARGUMENT);
        psg_tape_destroy(other.release());
        REQUIRE(!other.get());
        psg::tape adopted(context, psg::tape(context).release());
        adopted.begin();
    }
    REQUIRE(count.live == 0);
}

// Declared in the wrong order: the context goes first, the generator before its mechanism.
void owners_end_in_any_order() {
    counter count;
    {
        std::optional<psg::dp> dp;
        std::optional<psg::optimizer> sgd;
        std::optional<psg::tape> tape;
        std::optional<psg::params> params;
        std::optional<psg::generator> generator;
        psg::context context = counted(count);
        generator.emplace(context);
        params.emplace(context, PSG_F64);
        tape.emplace(context);
        psg_param *w = params->add("w", psg::init::constant(1), {3});
        params->initialize(1);
        sgd.emplace(context, psg::options<psg_sgd_options>(), params->trainable());
        psg::options<psg_dp_options> o;
        o.records = 10;
        o.sample_rate = 0.5;
        o.noise_multiplier = 1;
        dp.emplace(context, *generator, o, params->trainable());
        tape->begin();
        psg_use(*tape, w);
    }
    REQUIRE(count.live == 0);
}

// ---- errors ----

void errors_are_thrown() {
    psg::context context;
    const auto unknown = [] { psg::context(psg::options<psg_context_options>([](auto &o) { o.isa = "z80"; })); };
    REQUIRE(thrown("psg_context_create: isa, gemm or threads", unknown) == PSG_ERR_ARGUMENT);
    REQUIRE(psg::context() && !psg::tape());
    const std::vector<float> x(6, 1.0f), w(8, 1.0f);
    psg::param weight(context, "weight", psg::view(w, {2, 4}));
    psg::tape tape(context);
    tape.begin();
    psg_var y = psg_linear(tape, psg_input(tape, psg::view(x, {2, 3})), psg_use(tape, weight), psg_none());
    psg_var loss = psg_mse(tape, psg_tanh(tape, y), y, PSG_SUM);   // nothing is thrown before backward
    REQUIRE(thrown("linear: weight has 4 input features", [&] { tape.backward(loss); }) == PSG_ERR_SHAPE);
    REQUIRE(thrown("linear: weight", [&] { tape.gradients_of({weight}); }) == PSG_ERR_SHAPE);
    psg::params params(context, PSG_F32);
    params.add("a", psg::init::xavier(), {2});
    REQUIRE(thrown("a is there already", [&] { params.add("a", psg::init::xavier(), {2}); }) == PSG_ERR_ARGUMENT);
    REQUIRE(thrown("no/such", [&] { psg::tensors(context, "/no/such/file"); }) == PSG_ERR_FILE);
    psg::params none;
    REQUIRE(thrown("an owner is empty", [&] { none.add("a", psg::init::xavier(), {2}); }) == PSG_ERR_ARGUMENT);
    REQUIRE(thrown("an owner is empty", [] { psg::table().numbers(); }) == PSG_ERR_ARGUMENT);
    REQUIRE(thrown("PSG_ERR_ARGUMENT", [&] { psg::check(context, psg_gram(context, nullptr, 0, nullptr)); }) != PSG_OK);
    psg::check(context, PSG_OK);
}

template <class T> double item_of(psg_context *context, T number) {
    psg::tape tape(context);
    tape.begin();
    return tape.item(psg_input(tape, psg::view(&number, {1})));
}

void items_are_of_any_type() {
    psg::context context;
    REQUIRE(item_of(context, 1.5f) == 1.5 && item_of(context, -2.25) == -2.25);
    REQUIRE(item_of(context, int32_t{-7}) == -7 && item_of(context, int64_t{1} << 40) == 0x1p40);
}

// Lines of more than a first guess, also where that is thrown.
void a_load_tells_of_every_name() {
    const std::string path = (std::filesystem::temp_directory_path() / "psg_hpp.names").string();
    psg::context context;
    psg::params params(context, PSG_F32), wanted(context, PSG_F32);
    params.add("w", psg::init::constant(1), {2});
    for (int k = 0; k < 100; k++) wanted.add(("layer." + std::to_string(k)).c_str(), psg::init::constant(0), {2});
    params.initialize(1);
    wanted.initialize(1);
    psg::write_safetensors(context, path, params.all());
    for (psg_load_mode mode : {PSG_LOAD_PARTIAL, PSG_LOAD_STRICT}) {
        std::string lines = "old";
        const auto load = [&] { psg::load_weights(context, path, wanted.all(), mode, &lines); };
        REQUIRE(thrown("100 missing, 1 extra", load) == (mode == PSG_LOAD_STRICT ? PSG_ERR_FORMAT : PSG_OK));
        REQUIRE(std::count(lines.begin(), lines.end(), '\n') == 101 && lines.back() == '\n');
        REQUIRE(lines.find("missing layer.99: wanted f32 (2)\n") != std::string::npos);
    }
    std::filesystem::remove(path);
}

// Of many groups, whose shares make it long.
void statements_are_whole() {
    psg::context context;
    psg::generator generator(context);
    const std::vector<int64_t> counts(300, 1);
    psg::options<psg_dp_options> o;
    o.records = 10;
    o.sample_rate = 0.5;
    o.noise_multiplier = 1;
    o.group_count = 300;
    psg::dp dp(context, generator, o, counts);
    const std::string json = dp.statement(1e-5, PSG_STATEMENT_JSON);
    REQUIRE(json.front() == '{' && json.find('\0') == std::string::npos && json.find_last_of('}') + 2 >= json.size());
}

// ---- views ----

static_assert(psg::dtype_of<float>() == PSG_F32 && psg::dtype_of<const double>() == PSG_F64);
static_assert(psg::dtype_of<int>() == PSG_I32 && psg::dtype_of<long long>() == PSG_I64);
static_assert(psg::dtype_of<int64_t>() == PSG_I64);
static_assert(std::is_constructible_v<psg::view, std::vector<float> &, psg::extents>);
static_assert(!std::is_constructible_v<psg::view, std::vector<float>, psg::extents>);   // gone with the statement

bool is(const psg::view &v, psg_dtype dtype, const void *data, std::initializer_list<int64_t> sizes) {
    bool same = v.dtype == dtype && v.data == data && v.rank == static_cast<int>(sizes.size());
    for (int d = 0; same && d < v.rank; d++) same = v.shape[d] == sizes.begin()[d];
    return same && psg_tensor_is_contiguous(&v);
}

void views_are_of_anything() {
    std::vector<float> a(6);
    const std::array<double, 4> b{};
    int32_t c[3] = { 1, 2, 3 };
    const int64_t *d = nullptr;
    REQUIRE(is(psg::view(a, {2, 3}), PSG_F32, a.data(), {2, 3}) && is(psg::view(a), PSG_F32, a.data(), {6}));
    REQUIRE(is(psg::view(b, {1, 2, 2}), PSG_F64, b.data(), {1, 2, 2}) && is(psg::view(b), PSG_F64, b.data(), {4}));
    REQUIRE(is(psg::view(c), PSG_I32, c, {3}) && is(psg::view(c + 1, {2}), PSG_I32, c + 1, {2}));
    REQUIRE(is(psg::view(d, {0, 7}), PSG_I64, nullptr, {0, 7}) && is(psg::view(c + 2, {}), PSG_I32, c + 2, {}));
    const std::vector<int64_t> sizes{3, 2};
    REQUIRE(is(psg::view(a, sizes), PSG_F32, a.data(), {3, 2}));
    REQUIRE(thrown("must have 6 elements", [&] { psg::view(a, {2, 4}); }) == PSG_ERR_SHAPE);
    REQUIRE(psg::view(a.data(), {1, 1, 1, 1, 1, 1, 1, 1, 6}).rank == -1);
}

// ---- options ----

template <class T, class = void> constexpr bool has_initial = false;
template <class T> constexpr bool has_initial<T, std::void_t<decltype(psg::initial<T>())>> = true;
static_assert(has_initial<psg_pass> && !has_initial<psg_dropout_attributes>);

std::string text_of(const std::filesystem::path &path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
}

void options_know_every_macro() {
    const std::string header = text_of("include/psg/psg.hpp"), define = "#define PSG_", end = "_INIT ";
    int count = 0;
    for (const auto &file : std::filesystem::recursive_directory_iterator("include/psg")) {
        const bool is_known = file.path().extension() == ".h" && file.path().filename() != "mpi.h";   // needs MPI
        std::istringstream lines(is_known ? text_of(file.path()) : std::string());
        for (std::string line; std::getline(lines, line);) {
            const std::size_t stop = line.find(end);
            if (line.compare(0, define.size(), define) != 0 || stop == std::string::npos) continue;
            const std::string name = line.substr(define.size(), stop - define.size());
            require(header.find(", " + name + ")") != std::string::npos, ("no " + name).c_str(), __LINE__);
            count++;
        }
    }
    REQUIRE(count >= 24);
}

void options_go_where_structs_do() {
    psg::options<psg_adam_options> adam;
    const psg_adam_options plain = PSG_ADAM_OPTIONS_INIT;
    REQUIRE(adam.lr == plain.lr && adam.beta2 == plain.beta2 && adam.eps == plain.eps);
    psg::options<psg_adam_options> decoupled([](auto &o) { o.decoupled = 1; });
    REQUIRE(decoupled.decoupled == 1 && decoupled.beta1 == plain.beta1);
    const psg_adam_options *read = decoupled;
    psg_adam_options *written = decoupled;
    REQUIRE(read == written);
    psg::context context;
    const std::vector<float> x(8, 1.0f), w(6, 1.0f);
    psg::param weight(context, "weight", psg::view(w, {2, 1, 3}));
    psg::tape tape(context);
    tape.begin();
    psg_var y = psg_conv1d(tape, psg_input(tape, psg::view(x, {1, 2, 4})), psg_use(tape, weight), psg_none(),
                           psg::options<psg_conv_options>([](auto &o) { o.groups = 2; o.padding[0] = 1; }));
    const psg_tensor shape = tape.value(y);
    REQUIRE(shape.shape[1] == 2 && shape.shape[2] == 4);
}

// ---- a private training, in C++ and in C ----

constexpr int64_t records = 40, features = 5, classes = 3, steps = 4;
constexpr unsigned char seed[32] = { 3, 1, 4, 1, 5 };
constexpr int64_t two_sizes[] = { classes, features };

struct data_set {
    std::vector<float> x = std::vector<float>(records * features);
    std::vector<int64_t> y = std::vector<int64_t>(records);
    data_set() {
        for (std::size_t k = 0; k < x.size(); k++) x[k] = 0.125f * static_cast<float>(k * k % 17) - 1.0f;
        for (std::size_t k = 0; k < y.size(); k++) y[k] = static_cast<int64_t>(k % 3);
    }
};

// The rows of a batch.
data_set gather(const data_set &all, const psg_batch &batch) {
    data_set part;
    part.x.clear();
    part.y.clear();
    for (int64_t n = 0; n < batch.count; n++) {
        const auto row = all.x.begin() + batch.ids[n] * features;
        part.x.insert(part.x.end(), row, row + features);
        part.y.push_back(all.y[static_cast<std::size_t>(batch.ids[n])]);
    }
    return part;
}

psg_dp_options mechanism() {
    return psg::options<psg_dp_options>([](auto &o) {
        o.records = records;
        o.sample_rate = 0.3;
        o.noise_multiplier = 0.8;
        o.max_grad_norm = 0.5;
    });
}

std::vector<float> values_of(const psg_tensor &flat) {
    const float *first = static_cast<const float *>(flat.data);
    return std::vector<float>(first, first + psg_tensor_count(&flat));
}

std::vector<float> train(double &epsilon) {
    const data_set all;
    psg::context context;
    psg::params params(context, PSG_F32);
    psg_param *weight = params.add("fc.weight", psg::init::linear(), {classes, features});
    psg_param *bias = params.add("fc.bias", psg::init::constant(0), {classes});
    params.initialize(1);
    psg::generator generator(context, seed);
    psg::dp dp(context, generator, mechanism(), params.trainable());
    psg::optimizer sgd(context, psg::options<psg_sgd_options>([](auto &o) { o.lr = 0.1; o.momentum = 0.9; }),
                       params.trainable());
    psg::tape tape(context);
    while (dp.step() < steps) {
        const psg_batch batch = dp.sample();
        const data_set part = gather(all, batch);
        tape.begin(psg::options<psg_pass>([&](auto &o) { o.batch = &batch; }));
        psg_var x = psg_input(tape, psg::view(part.x, {batch.count, features}));
        psg_var y = psg_linear(tape, x, psg_use(tape, weight), psg_use(tape, bias));
        psg_var loss = psg_cross_entropy(tape, y, psg_input(tape, psg::view(part.y)), nullptr);
        tape.backward(loss);
        REQUIRE(tape.item(loss) > 0);
        dp.accumulate(batch, params.gradients(tape));
        dp.release_to(sgd);
    }
    REQUIRE(dp.statement(1e-5).find("Releases: 4") != std::string::npos && dp.remaining() == UINT64_MAX);
    psg::accountant alone(context);
    alone.add(psg::options<psg_event>([](auto &o) { o.sample_rate = 0.3; o.noise_multiplier = 0.8; }), steps);
    epsilon = alone.epsilon(1e-5).epsilon;   // dp's is infinite: its key is a seed
    return values_of(psg_params_flat(params));
}

#define C_OK(call) REQUIRE((call) == PSG_OK)

std::vector<float> train_in_c(double &epsilon) {
    const data_set all;
    psg_context *context = nullptr;
    psg_params *params = nullptr;
    psg_generator *generator = nullptr;
    psg_dp *dp = nullptr;
    psg_optimizer *sgd = nullptr;
    psg_tape *tape = nullptr;
    C_OK(psg_context_create(nullptr, &context));
    C_OK(psg_params_create(context, PSG_F32, &params));
    psg_param *weight = psg_params_add(params, "fc.weight", psg_init_linear(), 2, two_sizes);
    psg_param *bias = psg_params_add(params, "fc.bias", psg_init_constant(0), 1, two_sizes);
    C_OK(psg_params_initialize(params, 1));
    const psg_param_list list = psg_params_trainable(params);
    const psg_dp_options o = mechanism();
    psg_sgd_options step = PSG_SGD_OPTIONS_INIT;
    step.lr = 0.1;
    step.momentum = 0.9;
    C_OK(psg_generator_create_seeded(context, seed, &generator));
    C_OK(psg_dp_create(context, generator, &o, list.counts, list.count, &dp));
    C_OK(psg_sgd_create(context, &step, list.values, list.count, &sgd));
    C_OK(psg_tape_create(context, &tape));
    for (int t = 0; t < steps; t++) {
        psg_batch batch;
        C_OK(psg_dp_sample(dp, &batch));
        const data_set part = gather(all, batch);
        psg_pass pass = PSG_PASS_INIT;
        pass.batch = &batch;
        const psg_tensor images = psg_f32_2d(part.x.data(), batch.count, features);
        const psg_tensor labels = psg_i64_1d(part.y.data(), batch.count);
        psg_tape_begin(tape, &pass);
        psg_var y = psg_linear(tape, psg_input(tape, &images), psg_use(tape, weight), psg_use(tape, bias));
        C_OK(psg_backward(tape, psg_cross_entropy(tape, y, psg_input(tape, &labels), nullptr)));
        const psg_gradient *const *gradients = nullptr;
        C_OK(psg_params_gradients(params, tape, &gradients));
        C_OK(psg_dp_accumulate(dp, &batch, gradients, list.count, nullptr));
        C_OK(psg_dp_release_to(dp, sgd));
    }
    psg_accountant *alone = nullptr;
    psg_event event = PSG_EVENT_INIT;
    event.sample_rate = 0.3;
    event.noise_multiplier = 0.8;
    psg_privacy privacy;
    C_OK(psg_accountant_create(context, PSG_ADD_OR_REMOVE_ONE, &alone));
    C_OK(psg_accountant_add(alone, &event, steps));
    C_OK(psg_accountant_epsilon(alone, 1e-5, &privacy));
    epsilon = privacy.epsilon;
    const std::vector<float> values = values_of(psg_params_flat(params));
    psg_context_destroy(context);
    psg_accountant_destroy(alone);
    psg_tape_destroy(tape);
    psg_optimizer_destroy(sgd);
    psg_generator_destroy(generator);
    psg_dp_destroy(dp);
    psg_params_destroy(params);
    return values;
}

void training_is_that_of_c() {
    double epsilon = 0, in_c = 0;
    const std::vector<float> values = train(epsilon), same = train_in_c(in_c);
    REQUIRE(values == same && values.size() == 18 && epsilon == in_c && epsilon > 0);
}

// ---- questions, files ----

void questions_are_those_of_c() {
    const data_set all;
    psg::context context;
    psg::params params(context, PSG_F32);
    psg_param *weight = params.add("w", psg::init::normal(1), {classes, features});
    params.initialize(2);
    psg::tape tape(context);
    tape.begin();
    psg_var x = psg_input(tape, psg::view(all.x, {records, features}));
    psg_var y = psg_linear(tape, x, psg_use(tape, weight), psg_none());
    tape.backward(psg_cross_entropy(tape, y, psg_input(tape, psg::view(all.y)), nullptr));
    psg::gradients set = tape.gradients_of({weight}), moved(std::move(set));
    std::vector<double> upper, norms = psg::sqnorm(context, moved, &upper), products = psg::gram(context, moved);
    const std::vector<float> rows = psg::grad_sample<float>(context, moved[0]);
    constexpr std::size_t size = classes * features;
    REQUIRE(rows.size() == records * size && upper.size() == records && norms.size() == records);
    for (std::size_t n = 0; n < records; n++) {
        double square = 0;
        for (std::size_t k = 0; k < size; k++) square += double(rows[n * size + k]) * double(rows[n * size + k]);
        REQUIRE(square > 0 && upper[n] >= norms[n] && std::abs(square - norms[n]) <= 1e-5 * square);
        REQUIRE(std::abs(products[n * records + n] - norms[n]) <= 1e-5 * square);
    }
    REQUIRE(thrown("f64", [&] { psg::grad_sample<double>(context, moved[0]); }) == PSG_ERR_DTYPE);
    std::vector<double> sum(size);
    const psg_tensor out = psg::view(sum, {classes, features});
    const psg::options<psg_clip> clip([](auto &o) { o.max_grad_norm = 1e3; });
    const psg_clip_report report = psg::clipped_sum(context, moved, clip, PSG_OVERWRITE, {out});
    REQUIRE(report.clipped == 0 && report.max_norm > 0);
    for (std::size_t k = 0; k < size; k++) {
        double expected = 0;
        for (std::size_t n = 0; n < records; n++) expected += double(rows[n * size + k]);
        REQUIRE(std::abs(sum[k] - expected) <= 1e-6 * double(records));
    }
    REQUIRE(thrown("one a gradient", [&] { psg::clipped_sum(context, moved, clip, PSG_OVERWRITE, {}); }) ==
            PSG_ERR_ARGUMENT);
}

void files_hold_parameters() {
    const std::string path = (std::filesystem::temp_directory_path() /
                              ("psg_hpp." + std::to_string(reinterpret_cast<std::uintptr_t>(&path)))).string();
    psg::context context;
    psg::params params(context, PSG_F32), other(context, PSG_F32);
    for (psg::params *set : { &params, &other }) {
        set->add("w", psg::init::kaiming(), {3, 2});
        set->add("b", psg::init::uniform(1), {});
    }
    params.initialize(1);
    other.initialize(2);
    psg::write_safetensors(context, path, params.all(), {{"format", "psg"}});
    psg::tensors file(context, path, PSG_FILE_MAP);
    REQUIRE(file.list().size() == 2 && std::string(file.list()[0].name) == "b" && !file.find("c"));
    REQUIRE(std::string(psg_tensors_metadata(file, "format")) == "psg");
    REQUIRE(psg::load_weights(context, path, other.all()).loaded == 2);
    REQUIRE(values_of(psg_params_flat(params)) == values_of(psg_params_flat(other)));
    const std::vector<int64_t> before = { params.all().counts[0], params.all().counts[1] };
    REQUIRE(before[0] == 6 && before[1] == 1 && params.find("w") && !params.find("c"));
    psg::write_npz(context, path, params.all());
    const psg::tensors archive = psg::tensors::npz(context, path, PSG_FILE_MAP);
    REQUIRE(archive.list().size() == 2 && archive.find("w")->shape[0] == 3);
    REQUIRE(thrown("to copy", [&] { psg::tensors::npz(context, path, PSG_FILE_COPY, 1); }) == PSG_ERR_FORMAT);
    psg::write_npy(context, path, *archive.find("w"));
    REQUIRE(psg_tensor_count(psg::tensors::npy(context, path).find("")) == 6);
    std::ofstream(path, std::ios::binary) << std::string("\0\0\x08\1\0\0\0\2\5\7", 10);
    REQUIRE(static_cast<const int32_t *>(psg::tensors::idx(context, path).find("")->data)[1] == 7);
    std::filesystem::remove(path);
    REQUIRE(thrown(path.c_str(), [&] { psg::load_weights(context, path, other.all()); }) == PSG_ERR_FILE);
    std::ofstream(path) << "x,k\n1.5,b\n2,a\n";
    const psg_csv_column label = { "k", 0, nullptr, 0 };
    psg::options<psg_csv_options> csv([&](auto &o) { o.labels = &label, o.label_count = 1; });
    psg::table table(context, path, csv);
    REQUIRE(table.numbers().shape[0] == 2 && static_cast<const float *>(table.numbers().data)[0] == 1.5f);
    REQUIRE(static_cast<const int64_t *>(table.label(0)->data)[0] == 1 && std::string(table.category(0, 1)) == "b");
    REQUIRE(!table.label(1));
    REQUIRE(thrown("line 2, column 2 (\"k\"): \"b\"", [&] { psg::table(context, path); }) == PSG_ERR_FORMAT);
    std::filesystem::remove(path);
}

struct test {
    const char *name;
    void (*run)();
};
#define TEST(name) { #name, name }
const test tests[] = {
    TEST(owners_move), TEST(owners_end_in_any_order), TEST(errors_are_thrown), TEST(items_are_of_any_type),
    TEST(a_load_tells_of_every_name), TEST(statements_are_whole), TEST(views_are_of_anything),
    TEST(options_know_every_macro), TEST(options_go_where_structs_do), TEST(training_is_that_of_c),
    TEST(questions_are_those_of_c), TEST(files_hold_parameters)
};

bool passes(const test &one) {
    try {
        one.run();
        return true;
    } catch (const std::exception &error) {
        std::printf("[  FAILED  ] %s: %s\n", one.name, error.what());
        return false;
    }
}

}  // namespace

int main() {
    int passed = 0, failed = 0;
    for (const test &one : tests) ++(passes(one) ? passed : failed);
    std::printf("[  PASSED  ] %d test(s).\n", passed);
    if (failed) std::printf("[  FAILED  ] %d test(s)\n", failed);
    return failed;
}
