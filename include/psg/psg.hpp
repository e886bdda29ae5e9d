// psg/psg.hpp: libpsg from C++17 and later: owners, errors as exceptions, views, options.  Header only.
//
//     psg::context context;
//     psg::params params(context, PSG_F32);
//     psg_param *weight = params.add("fc.weight", psg::init::linear(), {10, 784});
//     psg_param *bias = params.add("fc.bias", psg::init::constant(0), {10});
//     params.initialize(1);
//     psg::tape tape(context);
//     tape.begin();
//     psg_var x = psg_input(tape, psg::view(images, {64, 784}));         // any container, array or pointer
//     psg_var y = psg_linear(tape, x, psg_use(tape, weight), psg_use(tape, bias));
//     tape.backward(psg_cross_entropy(tape, y, psg_input(tape, psg::view(labels)), nullptr));
//     std::vector<double> norms = psg::sqnorm(context, params.gradients(tape));
//
// All of psg/psg.h is there, and what has no other form here (ops, questions with outputs of the caller's) is called as
// in C: an owner converts to its handle, a view to const psg_tensor *, options to a pointer to them.
//
// Owners move and do not copy; they are destroyed in any order (psg/base.h).  What fails throws psg::error, with the
// guarantees of the C function: those of a pass are thrown by tape::backward, whichever op they come from.  Hooks that
// the library calls are noexcept: none may throw through it (psg/base.h).  psg/mpi.h is called as in C.
#ifndef PSG_PSG_HPP
#define PSG_PSG_HPP

#if __cplusplus < 201703L && (!defined(_MSVC_LANG) || _MSVC_LANG < 201703L)
#error "psg/psg.hpp needs C++17 (-std=c++17); psg/psg.h is for C and for C++11 and later"
#endif

#include "psg/psg.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace psg {

// ---- errors ----

class error : public std::runtime_error {
public:
    error(psg_status status, const std::string &message)
        : std::runtime_error(std::string(psg_status_name(status)) + ": " + message), status_(status) {}
    psg_status status() const noexcept { return status_; }

private:
    psg_status status_;
};

// Throws unless status is PSG_OK, with the context's message: check(context, psg_gram(context, ...)).
inline void check(const psg_context *context, psg_status status) {
    if (status == PSG_OK) return;
    throw error(status, context ? psg_context_message(context) : "no context: an owner is empty (was it moved from?)");
}

// ---- arrays ----

// Constant elements one after another, of anything that has data() and size(), of a list in braces, or of the array of
// psg_param_list that has their type: for arguments, whose memory outlives the call.
template <class T> class span {
public:
    span(const T *data, std::size_t size) noexcept : data_(data), size_(size) {}
    span(std::initializer_list<T> list) noexcept : span(list.begin(), list.size()) {}
    span(const psg_param_list &list) noexcept : span(of(list, static_cast<const T *>(nullptr)), list.count) {}
    template <class C, class E = std::remove_pointer_t<decltype(std::data(std::declval<const C &>()))>,
              class = std::enable_if_t<std::is_convertible_v<E *, const T *> && sizeof(E) == sizeof(T)>>
    span(const C &from) noexcept : span(std::data(from), std::size(from)) {}
    const T *data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    const T &operator[](std::size_t k) const noexcept { return data_[k]; }
    const T *begin() const noexcept { return data_; }
    const T *end() const noexcept { return data_ + size_; }

private:
    static const psg_tensor *of(const psg_param_list &list, const psg_tensor *) noexcept { return list.values; }
    static const psg_named *of(const psg_param_list &list, const psg_named *) noexcept { return list.named; }
    static const int64_t *of(const psg_param_list &list, const int64_t *) noexcept { return list.counts; }
    static psg_param *const *of(const psg_param_list &list, psg_param *const *) noexcept { return list.params; }

    const T *data_;
    std::size_t size_;
};

// A shape: {64, 784}; {}: a scalar.  Sizes are int64_t, which other integers in braces must be converted to.
using extents = span<int64_t>;

// The psg_dtype of float, double, and signed integers of 32 and 64 bits.
template <class T> constexpr psg_dtype dtype_of() {
    using U = std::remove_cv_t<T>;
    constexpr bool is_real = std::is_same_v<U, float> || std::is_same_v<U, double>;
    constexpr bool is_integer = std::is_integral_v<U> && std::is_signed_v<U>;
    static_assert((is_real || is_integer) && (sizeof(U) == 4 || sizeof(U) == 8), "must be f32, f64, i32 or i64");
    return is_real ? (sizeof(U) == 4 ? PSG_F32 : PSG_F64) : (sizeof(U) == 4 ? PSG_I32 : PSG_I64);
}

// A contiguous psg_tensor over memory of the caller's, which may be const where it is an input; of containers the size
// must be that of the shape (PSG_ERR_SHAPE).  A temporary container has no view.
struct view : psg_tensor {
    view(const psg_tensor &tensor) noexcept : psg_tensor(tensor) {}
    template <class P, class = std::enable_if_t<std::is_pointer_v<P>>>
    view(const P &memory, extents sizes)
        : psg_tensor(psg_tensor_const(dtype_of<std::remove_pointer_t<P>>(), memory, static_cast<int>(sizes.size()),
                                      sizes.data())) {}
    template <class C, class E = std::remove_pointer_t<decltype(std::data(std::declval<C &>()))>>
    view(C &from, extents sizes) : view(static_cast<const E *>(std::data(from)), sizes) {
        if (psg_tensor_count(this) != static_cast<int64_t>(std::size(from))) {
            throw error(PSG_ERR_SHAPE, "psg::view: shape must have " + std::to_string(std::size(from)) + " elements");
        }
    }
    template <class C, class = decltype(std::data(std::declval<C &>()))>
    explicit view(C &from) : view(from, {static_cast<int64_t>(std::size(from))}) {}
    operator const psg_tensor *() const noexcept { return this; }
};

// ---- options ----

// The values of T's PSG_..._INIT macro; structs without one are zeroed: psg_dropout_attributes a{}.
template <class T> T initial() = delete;
#define PSG_HPP_INITIAL(name, macro) template <> inline psg_##name initial() { return PSG_##macro##_INIT; }
PSG_HPP_INITIAL(context_options, CONTEXT_OPTIONS) PSG_HPP_INITIAL(pass, PASS) PSG_HPP_INITIAL(clip, CLIP)
PSG_HPP_INITIAL(event, EVENT) PSG_HPP_INITIAL(dp_options, DP_OPTIONS) PSG_HPP_INITIAL(checkpoint, CHECKPOINT)
PSG_HPP_INITIAL(dp_ranks, DP_RANKS)
PSG_HPP_INITIAL(load_report, LOAD_REPORT) PSG_HPP_INITIAL(csv_options, CSV_OPTIONS)
PSG_HPP_INITIAL(sgd_options, SGD_OPTIONS)
PSG_HPP_INITIAL(adam_options, ADAM_OPTIONS) PSG_HPP_INITIAL(conv_options, CONV_OPTIONS)
PSG_HPP_INITIAL(conv_transpose_options, CONV_TRANSPOSE_OPTIONS) PSG_HPP_INITIAL(unfold_options, UNFOLD_OPTIONS)
PSG_HPP_INITIAL(max_pool_options, MAX_POOL_OPTIONS) PSG_HPP_INITIAL(avg_pool_options, AVG_POOL_OPTIONS)
PSG_HPP_INITIAL(embedding_options, EMBEDDING_OPTIONS) PSG_HPP_INITIAL(embedding_bag_options, EMBEDDING_BAG_OPTIONS)
PSG_HPP_INITIAL(rnn_options, RNN_OPTIONS)
PSG_HPP_INITIAL(scaled_dot_product_attention_options, SCALED_DOT_PRODUCT_ATTENTION_OPTIONS)
PSG_HPP_INITIAL(multi_head_attention_options, MULTI_HEAD_ATTENTION_OPTIONS)
PSG_HPP_INITIAL(cross_entropy_options, CROSS_ENTROPY_OPTIONS) PSG_HPP_INITIAL(nll_options, NLL_OPTIONS)
PSG_HPP_INITIAL(poisson_nll_options, POISSON_NLL_OPTIONS) PSG_HPP_INITIAL(weight_norm_options, WEIGHT_NORM_OPTIONS)
PSG_HPP_INITIAL(weight_standardize_options, WEIGHT_STANDARDIZE_OPTIONS)
#undef PSG_HPP_INITIAL

// A T that begins as its INIT macro says, and goes where a T, a T * or a const T * is asked for:
//     psg::options<psg_sgd_options> step;  step.lr = 0.1;
//     psg_conv2d(tape, x, w, b, psg::options<psg_conv_options>([](auto &o) { o.groups = 2; }));
template <class T> struct options : T {
    options() : T(initial<T>()) {}
    template <class Set, class = decltype(std::declval<Set &>()(std::declval<T &>()))>
    explicit options(Set set) : options() { set(static_cast<T &>(*this)); }
    operator const T *() const noexcept { return this; }
    operator T *() & noexcept { return this; }
};

// ---- owners ----

// The owner of a handle, which converts to it unless it is a temporary, whose get() serves for one call; empty after
// release() and after a move.
template <class T, void (*destroy)(T *)> class owner {
public:
    owner() noexcept = default;
    owner(psg_context *context, T *owned) noexcept : context_(context), owned_(owned) {}
    owner(psg_context *context, std::nullptr_t) = delete;   // with which a number that is 0 is ambiguous
    owner(owner &&from) noexcept
        : context_(std::exchange(from.context_, nullptr)), owned_(std::exchange(from.owned_, nullptr)) {}
    owner &operator=(owner &&from) noexcept {
        owner last(std::move(from));
        std::swap(context_, last.context_);
        std::swap(owned_, last.owned_);
        return *this;
    }
    ~owner() { destroy(owned_); }
    T *get() const noexcept { return owned_; }
    T *release() noexcept {
        context_ = nullptr;
        return std::exchange(owned_, nullptr);
    }
    operator T *() const & noexcept { return owned_; }
    operator T *() const && = delete;
    explicit operator bool() const noexcept { return owned_ != nullptr; }

protected:
    template <class Create, class... Arguments>
    static T *made(psg_context *context, Create create, Arguments... arguments) {
        T *handle = nullptr;
        psg::check(context, create(context, arguments..., &handle));
        return handle;
    }
    void check(psg_status status) const { psg::check(context_, status); }
    template <class Result, class Call, class... Arguments> Result of(Call call, Arguments... arguments) const {
        Result result{};
        check(call(owned_, arguments..., &result));
        return result;
    }

private:
    psg_context *context_ = nullptr;   // for messages; kept by the object
    T *owned_ = nullptr;
};

class context : public owner<psg_context, psg_context_destroy> {
public:
    explicit context(const psg_context_options &o = options<psg_context_options>()) : owner(create(o)) {}

private:
    static owner create(const psg_context_options &o) {
        psg_context *made = nullptr;
        if (psg_status status = psg_context_create(&o, &made)) {
            throw error(status, "psg_context_create: isa, gemm or threads of the options, or PSG_ISA, PSG_GEMM or "
                                "PSG_NUM_THREADS, do not suit this machine, or there is no memory");
        }
        return owner(made, made);
    }
};

// ---- gradients ----

// Those of parameters of a pass, for the questions of psg/gradient.h and dp::accumulate.
class gradients {
public:
    gradients(psg_context *context, const psg_tape *tape, span<psg_param *> params)
        : gradients_(params.size()), set_(params.size()) {
        check(context, psg_gradients_of(tape, params.data(), params.size(), gradients_.data(), set_.data()));
    }
    gradients(gradients &&) = default;   // vectors keep their elements' places when they move
    gradients &operator=(gradients &&) = default;
    const psg_gradient *const *data() const noexcept { return set_.data(); }
    std::size_t size() const noexcept { return set_.size(); }
    const psg_gradient &operator[](std::size_t k) const { return *set_[k]; }

private:
    std::vector<psg_gradient> gradients_;
    std::vector<const psg_gradient *> set_;
};

using gradient_set = span<const psg_gradient *>;

inline std::size_t batch_size(gradient_set set) {
    return set.size() && set[0]->batch_size > 0 ? static_cast<std::size_t>(set[0]->batch_size) : 0;
}

// Squared norms of the samples; upper: their certified bounds.
inline std::vector<double> sqnorm(psg_context *context, gradient_set set, std::vector<double> *upper = nullptr) {
    std::vector<double> norms(batch_size(set));
    if (upper) upper->resize(norms.size());
    check(context, psg_sqnorm(context, set.data(), set.size(), norms.data(), upper ? upper->data() : nullptr, nullptr));
    return norms;
}

// The sum of the samples' clipped gradients, into one out a gradient.  Neither that nor the report is private.
inline psg_clip_report clipped_sum(psg_context *context, gradient_set set, const psg_clip &clip, psg_write write,
                                   span<psg_tensor> outs) {
    psg_clip_report report{};
    if (outs.size() != set.size()) throw error(PSG_ERR_ARGUMENT, "psg::clipped_sum: outs must be one a gradient");
    check(context, psg_clipped_sum(context, set.data(), set.size(), &clip, write, outs.data(), nullptr, nullptr, &report));
    return report;
}

// B x B inner products.
inline std::vector<double> gram(psg_context *context, gradient_set set) {
    std::vector<double> products(batch_size(set) * batch_size(set));
    check(context, psg_gram(context, set.data(), set.size(), products.data()));
    return products;
}

// (B, *shape) in row-major order.
template <class T> std::vector<T> grad_sample(psg_context *context, const psg_gradient &gradient) {
    int64_t sizes[PSG_MAX_RANK + 1] = { gradient.batch_size };
    for (int d = 0; d < gradient.rank && d < PSG_MAX_RANK; d++) sizes[d + 1] = gradient.shape[d];
    psg_tensor out = psg_tensor_of(dtype_of<T>(), nullptr, gradient.rank + 1, sizes);
    const int64_t count = psg_tensor_count(&out);
    std::vector<T> rows(count > 0 ? static_cast<std::size_t>(count) : 0);
    out.data = rows.data();
    check(context, psg_grad_sample(context, &gradient, 1.0, PSG_OVERWRITE, &out));
    return rows;
}

// ---- parameters and passes ----

class tape : public owner<psg_tape, psg_tape_destroy> {
public:
    using owner::owner;
    explicit tape(psg_context *context) : owner(context, made(context, psg_tape_create)) {}
    void begin(const psg_pass &pass = options<psg_pass>()) { check(psg_tape_begin(*this, &pass)); }
    void backward(psg_var loss) { check(psg_backward(*this, loss)); }
    psg_tensor value(psg_var var) { return of<psg_tensor>(psg_value, var); }
    // Of one element: a loss.
    double item(psg_var var) {
        const psg_tensor one = value(var);
        if (psg_tensor_count(&one) != 1) throw error(PSG_ERR_SHAPE, "psg::tape::item: must be of one element");
        switch (one.dtype) {
        case PSG_F32: return static_cast<double>(*static_cast<const float *>(one.data));
        case PSG_F64: return *static_cast<const double *>(one.data);
        case PSG_I32: return static_cast<double>(*static_cast<const int32_t *>(one.data));
        default: return static_cast<double>(*static_cast<const int64_t *>(one.data));
        }
    }
    gradients gradients_of(span<psg_param *> params) const {
        return gradients(psg_tape_context(*this), *this, params);
    }
};

class param : public owner<psg_param, psg_param_destroy> {
public:
    using owner::owner;
    param(psg_context *context, const char *name, const view &value)
        : owner(context, made(context, psg_param_create, name, static_cast<const psg_tensor *>(value))) {}
};

namespace init {
inline psg_init constant(double value) { return psg_init_constant(value); }
inline psg_init uniform(double bound) { return psg_init_uniform(bound); }
inline psg_init normal(double deviation) { return psg_init_normal(deviation); }
inline psg_init linear() { return psg_init_linear(); }
inline psg_init xavier() { return psg_init_xavier(); }
inline psg_init kaiming() { return psg_init_kaiming(); }
}  // namespace init

class params : public owner<psg_params, psg_params_destroy> {
public:
    using owner::owner;
    params(psg_context *context, psg_dtype dtype) : owner(context, made(context, psg_params_create, dtype)) {}
    psg_param *add(const char *name, psg_init first, extents sizes) {
        psg_param *added = psg_params_add(*this, name, first, static_cast<int>(sizes.size()), sizes.data());
        if (!added) initialize(0);   // which returns what add has refused
        return added;
    }
    void initialize(uint64_t seed) { check(psg_params_initialize(*this, seed)); }
    psg_param *find(const char *name) const noexcept { return psg_params_find(*this, name); }
    psg_param_list all() { return psg_params_all(*this); }
    psg_param_list trainable() { return psg_params_trainable(*this); }
    // Of the trainable ones, until the next call; a list of them that was asked for before is not valid then.
    gradient_set gradients(const psg_tape *tape) {
        return { of<const psg_gradient *const *>(psg_params_gradients, tape), trainable().count };
    }
};

// ---- optimizers, files ----

class optimizer : public owner<psg_optimizer, psg_optimizer_destroy> {
public:
    using owner::owner;
    optimizer(psg_context *context, const psg_sgd_options &o, span<psg_tensor> values)
        : owner(context, made(context, psg_sgd_create, &o, values.data(), values.size())) {}
    optimizer(psg_context *context, const psg_adam_options &o, span<psg_tensor> values)
        : owner(context, made(context, psg_adam_create, &o, values.data(), values.size())) {}
    void step(span<psg_tensor> gradients) { check(psg_optimizer_step(*this, gradients.data(), gradients.size())); }
    void set_lr(double lr) { check(psg_optimizer_set_lr(*this, lr)); }
    double lr() const noexcept { return psg_optimizer_lr(*this); }
};

class tensors : public owner<psg_tensors, psg_tensors_destroy> {
public:
    using owner::owner;
    tensors(psg_context *context, const std::string &path, psg_file_access access = PSG_FILE_COPY)
        : owner(context, made(context, psg_safetensors_read, path.c_str(), access)) {}
    static tensors npy(psg_context *context, const std::string &path, psg_file_access access = PSG_FILE_COPY) {
        return { context, made(context, psg_npy_read, path.c_str(), access) };
    }
    static tensors npz(psg_context *context, const std::string &path, psg_file_access access = PSG_FILE_COPY,
                       int64_t max_bytes = 0) {
        return { context, made(context, psg_npz_read, path.c_str(), access, max_bytes) };
    }
    // One tensor, of the name "".
    static tensors idx(psg_context *context, const std::string &path, int64_t max_bytes = 0) {
        return { context, made(context, psg_idx_read, path.c_str(), max_bytes) };
    }
    span<psg_named> list() const noexcept { return { psg_tensors_list(*this), psg_tensors_count(*this) }; }
    const psg_tensor *find(const char *name) const noexcept { return psg_tensors_find(*this, name); }
    const char *metadata(const char *key) const noexcept { return psg_tensors_metadata(*this, key); }
};

// The numbers and labels of a CSV file.
class table : public owner<psg_table, psg_table_destroy> {
public:
    using owner::owner;
    table(psg_context *context, const std::string &path, const psg_csv_options &o = initial<psg_csv_options>())
        : owner(context, made(context, psg_csv_read, path.c_str(), &o)) {}
    const psg_tensor &numbers() const {
        if (!get()) check(PSG_ERR_ARGUMENT);
        return *psg_table_numbers(*this);
    }
    const psg_tensor *label(size_t k) const noexcept { return psg_table_label(*this, k); }
    size_t category_count(size_t label) const noexcept { return psg_table_category_count(*this, label); }
    const char *category(size_t label, size_t code) const noexcept { return psg_table_category(*this, label, code); }
};

inline void write_safetensors(psg_context *context, const std::string &path, span<psg_named> tensors,
                              span<psg_text_pair> metadata = {}) {
    check(context, psg_safetensors_write(context, path.c_str(), tensors.data(), tensors.size(), metadata.data(),
                                         metadata.size()));
}

inline void write_npy(psg_context *context, const std::string &path, const psg_tensor &tensor) {
    check(context, psg_npy_write(context, path.c_str(), &tensor));
}

inline void write_npz(psg_context *context, const std::string &path, span<psg_named> tensors) {
    check(context, psg_npz_write(context, path.c_str(), tensors.data(), tensors.size()));
}

// lines: one on each name that was not loaded, also where that is thrown; the file is then read twice.
inline psg_load_report load_weights(psg_context *context, const std::string &path, span<psg_named> weights,
                                    psg_load_mode mode = PSG_LOAD_STRICT, std::string *lines = nullptr) {
    options<psg_load_report> report;
    const auto load = [&] {
        return psg_weights_load(context, path.c_str(), weights.data(), weights.size(), mode, &report);
    };
    psg_status status = load();
    if (lines) {
        lines->assign(report.text_needed + 1, '\0');
        report.text = lines->data();
        report.text_size = lines->size();
        status = load();
        lines->resize(std::strlen(lines->c_str()));
        report.text = nullptr;
        report.text_size = 0;
    }
    check(context, status);
    return report;
}

// ---- privacy ----

class accountant : public owner<psg_accountant, psg_accountant_destroy> {
public:
    using owner::owner;
    explicit accountant(psg_context *context, psg_relation relation = PSG_ADD_OR_REMOVE_ONE)
        : owner(context, made(context, psg_accountant_create, relation)) {}
    void add(const psg_event &event, uint64_t releases) { check(psg_accountant_add(*this, &event, releases)); }
    psg_privacy epsilon(double at_delta) const { return of<psg_privacy>(psg_accountant_epsilon, at_delta); }
};

inline accountant read_ledger(psg_context *context, const std::string &path,
                              psg_relation relation = PSG_ADD_OR_REMOVE_ONE) {
    psg_accountant *made = nullptr;
    check(context, psg_ledger_read(context, path.c_str(), relation, &made));
    return { context, made };
}

class generator : public owner<psg_generator, psg_generator_destroy> {
public:
    using owner::owner;
    explicit generator(psg_context *context) : owner(context, made(context, psg_generator_create)) {}
    // Reproducible, and not private.
    generator(psg_context *context, const unsigned char (&seed)[32])
        : owner(context, made(context, psg_generator_create_seeded, seed)) {}
};

class dp : public owner<psg_dp, psg_dp_destroy> {
public:
    using owner::owner;
    dp(psg_context *context, psg_generator *generator, const psg_dp_options &o, span<int64_t> param_counts)
        : owner(context, made(context, psg_dp_create, generator, &o, param_counts.data(), param_counts.size())) {}
    psg_batch sample() { return of<psg_batch>(psg_dp_sample); }
    psg_batch take(span<int64_t> ids) {
        return of<psg_batch>(psg_dp_take, ids.data(), static_cast<int64_t>(ids.size()));
    }
    void accumulate(const psg_batch &batch, gradient_set set, psg_clip_report *reports = nullptr) {
        check(psg_dp_accumulate(*this, &batch, set.data(), set.size(), reports));
    }
    void release(span<psg_tensor> outs) { check(psg_dp_release(*this, outs.data(), outs.size())); }
    void release_to(psg_optimizer *optimizer) { check(psg_dp_release_to(*this, optimizer)); }
    void save(const psg_checkpoint &checkpoint, const std::string &path) {
        check(psg_dp_save(*this, &checkpoint, path.c_str()));
    }
    void load(const psg_checkpoint &checkpoint, const std::string &path) {
        check(psg_dp_load(*this, &checkpoint, path.c_str()));
    }
    uint64_t step() const noexcept { return psg_dp_step(*this); }
    uint64_t recorded_ahead() const noexcept { return psg_dp_recorded_ahead(*this); }
    double noise_multiplier() const noexcept { return psg_dp_noise_multiplier(*this); }
    double max_grad_norm() const noexcept { return psg_dp_max_grad_norm(*this); }
    uint64_t remaining() { return psg_dp_remaining(*this); }
    psg_privacy privacy(double delta) { return of<psg_privacy>(psg_dp_privacy, delta); }
    std::string statement(double delta, psg_statement_format format = PSG_STATEMENT_WORDS) {
        std::string text(4096, '\0');
        std::size_t needed = 0;
        check(psg_dp_statement(*this, delta, format, text.data(), text.size(), &needed));
        while (needed >= text.size()) {   // others may write to the ledger meanwhile
            text.resize(needed + 1);
            check(psg_dp_statement(*this, delta, format, text.data(), text.size(), &needed));
        }
        text.resize(needed);
        return text;
    }
};

}  // namespace psg

#endif
