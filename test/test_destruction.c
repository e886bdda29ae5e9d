/* Handles are destroyed in any order: each works until it is destroyed itself, whatever went before it, and with the
 * last of them all memory is back. */
#include "io_fixture.h"

#include <stdlib.h>
#include <string.h>

/* ---- an allocator that keeps what is freed, so that who reads it finds nonsense and who writes it is found ---- */

typedef struct block {
    struct block *next;
    size_t bytes;
    bool is_free;
} block;

typedef struct quarantine {
    block *blocks;
    size_t live, mistakes;
} quarantine;

static const unsigned char seed[32] = "a key that no freed memory holds";

enum { HEAD = 64, LOOKED_AT = 1 << 16, KEYED = 1 << 20, FREED = 0xDB };
_Static_assert(sizeof(block) <= HEAD, "a block's head");

static void *take(void *user, size_t bytes) {
    quarantine *q = user;
    block *b = aligned_alloc(HEAD, (HEAD + bytes + HEAD - 1) / HEAD * HEAD);
    *b = (block){ q->blocks, bytes, false };
    q->blocks = b;
    q->live++;
    return (char *)b + HEAD;
}

static void give_back(void *user, void *memory, size_t bytes) {
    quarantine *q = user;
    block *b = (block *)((char *)memory - HEAD);
    q->mistakes += b->is_free || b->bytes != bytes || (bytes < KEYED && memmem(memory, bytes, seed, sizeof seed));
    b->is_free = true;
    memset(memory, FREED, bytes);
    q->live--;
}

/* Frees what was kept, and counts blocks that were written after they were freed. */
static void empty(quarantine *q) {
    while (q->blocks) {
        block *b = q->blocks;
        const unsigned char *memory = (unsigned char *)b + HEAD;
        for (size_t k = 0; b->is_free && k < b->bytes && k < LOOKED_AT; k++) q->mistakes += memory[k] != FREED;
        q->blocks = b->next;
        free(b);
    }
}

/* ---- one of everything ---- */

enum { RECORDS = 8, IN = 3, OUT = 2 };
typedef enum object { CONTEXT, TAPE, PARAM, PARAMS, OPTIMIZER, TENSORS, GENERATOR, DP, ACCOUNTANT, OBJECTS } object;

typedef struct scene {
    psg_context *context;
    psg_tape *tape;
    psg_param *param;           /* over the file's memory */
    psg_params *params;
    psg_optimizer *optimizer;   /* over the set's and the file's */
    psg_tensors *tensors;
    psg_generator *generator;
    psg_dp *dp;
    psg_accountant *accountant;
    psg_var loss;
} scene;

static float bias[OUT] = { 0.5f, -1 };
static float images[RECORDS][IN];
static int64_t labels[RECORDS];

static int write_file(void **state) {
    test_random random = { 1 };
    const psg_tensor all = psg_f32_2d(images[0], RECORDS, IN);
    const psg_named named = { "bias", psg_f32_1d(bias, OUT) };
    psg_context *context = test_context(1, NULL);
    int failed = io_setup(state);
    test_fill_normal(&random, &all, 1);
    TEST_OK(context, psg_safetensors_write(context, io_path("bias"), &named, 1, NULL, 0));
    test_context_free(context);
    return failed;
}

static void make_mechanism(scene *s) {
    const int64_t counts[] = { OUT * IN, OUT };
    psg_dp_options options = PSG_DP_OPTIONS_INIT;
    options.records = RECORDS;
    options.sample_rate = 0.5;
    options.noise_multiplier = 1;
    TEST_OK(s->context, psg_generator_create_seeded(s->context, seed, &s->generator));
    TEST_OK(s->context, psg_accountant_create(s->context, PSG_ADD_OR_REMOVE_ONE, &s->accountant));
    options.earlier = s->accountant;
    TEST_OK(s->context, psg_dp_create(s->context, s->generator, &options, counts, 2, &s->dp));
}

static void make_parameters(scene *s, psg_file_access access) {
    TEST_OK(s->context, psg_params_create(s->context, PSG_F32, &s->params));
    psg_params_add(s->params, "weight", psg_init_linear(), PSG_SHAPE(OUT, IN));
    TEST_OK(s->context, psg_params_initialize(s->params, 1));
    TEST_OK(s->context, psg_safetensors_read(s->context, io_path("bias"), access, &s->tensors));
    const psg_tensor *in_file = psg_tensors_find(s->tensors, "bias");
    TEST_OK(s->context, psg_param_create(s->context, "bias", in_file, &s->param));
    const psg_tensor values[] = { *psg_param_value(psg_params_find(s->params, "weight")), *in_file };
    TEST_OK(s->context, psg_sgd_create(s->context, NULL, values, 2, &s->optimizer));
}

/* A pass that has everything but its backward. */
static void begin_pass(scene *s) {
    psg_batch batch;
    psg_pass pass = PSG_PASS_INIT;
    TEST_OK(s->context, psg_dp_sample(s->dp, &batch));
    assert_true(batch.count > 0);
    const psg_tensor x = psg_f32_2d(images[0], batch.count, IN), y = psg_i64_1d(labels, batch.count);
    pass.batch = &batch;
    TEST_OK(s->context, psg_tape_create(s->context, &s->tape));
    TEST_OK(s->context, psg_tape_begin(s->tape, &pass));
    psg_var weight = psg_use(s->tape, psg_params_find(s->params, "weight"));
    psg_var h = psg_linear(s->tape, psg_input(s->tape, &x), weight, psg_use(s->tape, s->param));
    s->loss = psg_cross_entropy(s->tape, psg_dropout(s->tape, h, 0.25), psg_input(s->tape, &y), NULL);
    assert_int_equal(psg_tape_status(s->tape), PSG_OK);
}

static scene new_scene(quarantine *q, size_t k) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = k % 16 ? 1 : 2;
    options.gemm = PSG_GEMM_KERNEL;
    options.allocator = (psg_allocator){ take, give_back, q };
    scene s = { 0 };
    assert_int_equal(psg_context_create(&options, &s.context), PSG_OK);
    make_mechanism(&s);
    make_parameters(&s, k % 3 ? PSG_FILE_MAP : PSG_FILE_COPY);
    begin_pass(&s);
    return s;
}

/* ---- each does its work, and goes ---- */

static void end_tape(scene *s) {
    psg_tensor value;
    assert_int_equal(psg_backward(s->tape, s->loss), PSG_OK);
    assert_int_equal(psg_value(s->tape, s->loss, &value), PSG_OK);
    assert_true(test_get_at(&value, 0) > 0);
    psg_tape_destroy(s->tape);
}

static void end_optimizer(scene *s) {
    const float gradient[OUT * IN] = { 1, 2, 3 };
    const psg_tensor gradients[] = { psg_f32_2d(gradient, OUT, IN), psg_f32_1d(gradient, OUT) };
    assert_int_equal(psg_optimizer_step(s->optimizer, gradients, 2), PSG_OK);
    psg_optimizer_destroy(s->optimizer);
}

static void end_dp(scene *s) {
    static float first[OUT * IN];
    float noise[OUT * IN] = { 0 }, rest[OUT] = { 0 };
    const psg_tensor outs[] = { psg_f32_2d(noise, OUT, IN), psg_f32_1d(rest, OUT) };
    assert_int_equal(psg_dp_release(s->dp, outs, 2), PSG_OK);
    if (first[0] == 0) memcpy(first, noise, sizeof first);
    assert_memory_equal(noise, first, sizeof first);   /* the key is the seed's whenever the generator went */
    psg_dp_destroy(s->dp);
}

static void end_generator(scene *s) {
    double x;
    assert_int_equal(psg_gaussian(s->generator, 0, 0, 0, &x, 1), PSG_OK);
    psg_generator_destroy(s->generator);
}

static void end_accountant(scene *s) {
    psg_event event = PSG_EVENT_INIT;
    event.noise_multiplier = event.sample_rate = 1;
    assert_int_equal(psg_accountant_add(s->accountant, &event, 1), PSG_OK);
    psg_accountant_destroy(s->accountant);
}

static void end_tensors(scene *s) {
    assert_non_null(psg_tensors_find(s->tensors, "bias"));
    psg_tensors_destroy(s->tensors);
}

static void end_param(scene *s) {
    assert_true(test_get_at(psg_param_value(s->param), 1) < 0);
    psg_param_destroy(s->param);
}

static void end_params(scene *s) {
    const psg_tensor flat = psg_params_flat(s->params);
    assert_true(test_get_at(&flat, 0) != 0);
    psg_param_destroy(psg_params_find(s->params, "weight"));   /* is the set's: nothing */
    psg_params_destroy(s->params);
}

static void end_context(scene *s) {
    assert_string_equal(psg_context_message(s->context), "");
    psg_context_destroy(s->context);
}

static void (*const end[OBJECTS])(scene *) = {
    [CONTEXT] = end_context, [TAPE] = end_tape, [PARAM] = end_param, [PARAMS] = end_params,
    [OPTIMIZER] = end_optimizer, [TENSORS] = end_tensors, [GENERATOR] = end_generator, [DP] = end_dp,
    [ACCOUNTANT] = end_accountant
};

/* ---- orders ---- */

static void insert(object *order, size_t count, size_t place, object what) {
    memmove(order + place + 1, order + place, (count - place) * sizeof *order);
    order[place] = what;
}

/* Number k of the 720 orders of the first six, the other three at drawn places among them. */
static void order_of(size_t k, test_random *random, object order[OBJECTS]) {
    for (size_t count = 0; count < OBJECTS; count++) {
        size_t place = count < 6 ? k % (count + 1) : (size_t)test_range(random, 0, (int64_t)count);
        insert(order, count, place, (object)count);
        k /= count + 1;
    }
}

static void every_order_is_safe(void **state) {
    (void)state;
    test_random random = { 1 };
    for (size_t k = 0; k < 720; k++) {
        quarantine q = { 0 };
        object order[OBJECTS];
        order_of(k, &random, order);
        scene s = new_scene(&q, k);
        for (size_t n = 0; n < OBJECTS; n++) end[order[n]](&s);
        assert_int_equal(q.live, 0);
        empty(&q);
        assert_int_equal(q.mistakes, 0);
    }
}

/* ---- what a pass keeps, and for how long ---- */

static void a_pass_keeps_its_parameters(void **state) {
    (void)state;
    quarantine q = { 0 };
    scene s = new_scene(&q, 0);
    psg_gradient gradients[2];
    const psg_gradient *set[2];
    psg_param *const params[] = { psg_params_find(s.params, "weight"), s.param };
    psg_batch batch;
    const char *over = "gradients[0]: of a pass that is over";   /* and no name, which is gone */
    double sqnorm[RECORDS];
    TEST_OK(s.context, psg_backward(s.tape, s.loss));
    TEST_OK(s.context, psg_gradients_of(s.tape, params, 2, gradients, set));
    psg_params_destroy(s.params);
    psg_optimizer_destroy(s.optimizer);
    const size_t kept = q.live;
    TEST_OK(s.context, psg_sqnorm(s.context, set, 2, sqnorm, NULL, NULL));
    TEST_OK(s.context, psg_tape_begin(s.tape, NULL));
    assert_true(q.live < kept);
    test_fails(s.context, psg_sqnorm(s.context, set, 2, sqnorm, NULL, NULL), PSG_ERR_STATE, over);
    TEST_OK(s.context, psg_dp_sample(s.dp, &batch));
    test_fails(s.context, psg_dp_accumulate(s.dp, &batch, set, 2, NULL), PSG_ERR_STATE,
               "psg_dp_accumulate: gradients[0] is of a pass that is over");
    void (*const rest[])(scene *) = { end_param, end_tensors, end_generator, end_dp, end_accountant };
    psg_tape_destroy(s.tape);
    test_fails(s.context, psg_sqnorm(s.context, set, 2, sqnorm, NULL, NULL), PSG_ERR_STATE, over);
    for (size_t k = 0; k < sizeof rest / sizeof rest[0]; k++) rest[k](&s);
    psg_context_destroy(s.context);
    assert_int_equal(q.live, 0);
    empty(&q);
    assert_int_equal(q.mistakes, 0);
}

/* Objects that are not made leave a context that goes with its handle. */
static void what_was_refused_holds_nothing(void **state) {
    (void)state;
    quarantine q = { 0 };
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    options.allocator = (psg_allocator){ take, give_back, &q };
    psg_context *context;
    psg_generator *generator;
    psg_dp *dp;
    const psg_dp_options zeroed = { 0 };
    const int64_t count = 1;
    assert_int_equal(psg_context_create(&options, &context), PSG_OK);
    TEST_OK(context, psg_generator_create(context, &generator));
    assert_int_not_equal(psg_dp_create(context, generator, &zeroed, &count, 1, &dp), PSG_OK);
    psg_generator_destroy(generator);
    psg_context_destroy(context);
    assert_int_equal(q.live, 0);
    empty(&q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pass_keeps_its_parameters),
        cmocka_unit_test(what_was_refused_holds_nothing),
        cmocka_unit_test(every_order_is_safe),
    };
    return cmocka_run_group_tests(tests, write_file, io_teardown);
}
