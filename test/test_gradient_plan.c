/* psg_plan_text tells what a question does, and a plan costs its tensors alone. */
#include "clip_sum.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- layers of one block over shared operands ---- */

enum { MOST = 10000 };

typedef struct net {
    psg_block *block;
    psg_gradient *gradient;
    const psg_gradient **set;
    psg_tensor *out;
    double *sums;
    float *g, *a;
    size_t count;
} net;

typedef struct sizes { int64_t batch, positions, p, d; } sizes;

static void *memory(size_t count, size_t size) {
    void *block = calloc(count + 1, size);
    assert_non_null(block);
    return block;
}

/* Every second one a bias of the weight before it when biases are wanted; each has a backprop of its own. */
static void open_net(net *m, size_t count, sizes s, bool biases) {
    test_random random = { 1 };
    size_t rows = (size_t)(s.batch * s.positions), cells = (size_t)(s.p * s.d);
    *m = (net){ memory(count, sizeof *m->block), memory(count, sizeof *m->gradient), memory(count, sizeof *m->set),
                memory(count, sizeof *m->out), memory(count * cells, 8), memory(count * rows * (size_t)s.p, 4),
                memory(rows * (size_t)s.d, 4), count };
    for (size_t e = 0; e < count * rows * (size_t)s.p; e++) m->g[e] = (float)test_normal(&random);
    for (size_t e = 0; e < rows * (size_t)s.d; e++) m->a[e] = (float)test_normal(&random);
    for (size_t k = 0; k < count; k++) {
        bool bias = biases && k % 2;
        psg_tensor g = view3(PSG_F32, m->g + (k - bias) * rows * (size_t)s.p, s.batch, s.positions, s.p);
        psg_tensor a = view3(PSG_F32, m->a, s.batch, s.positions, s.d);
        m->block[k] = bias ? psg_rows(&g) : psg_factored(&g, &a);
        m->gradient[k] = psg_gradient_of_blocks(&m->block[k], 1, bias ? 1 : 2, (int64_t[]){ s.p, s.d });
        m->gradient[k].name = bias ? "bias" : "weight";
        m->set[k] = &m->gradient[k];
        m->out[k] = psg_tensor_of(PSG_F64, m->sums + k * cells, m->gradient[k].rank, m->gradient[k].shape);
    }
}

static void close_net(net *m) {
    void *all[] = { m->block, m->gradient, m->set, m->out, m->sums, m->g, m->a };
    for (int k = 0; k < 7; k++) free(all[k]);
}

static char *text_of(psg_context *context, const net *m, psg_question question, const psg_clip *clip) {
    size_t needed;
    TEST_OK(context, psg_plan_text(context, question, m->set, m->count, clip, NULL, 0, &needed));
    char *text = memory(needed + 1, 1);
    TEST_OK(context, psg_plan_text(context, question, m->set, m->count, clip, text, needed + 1, NULL));
    return text;
}

static void expect_text(psg_context *context, const net *m, psg_question question, const psg_clip *clip,
                        const char *words) {
    char *text = text_of(context, m, question, clip);
    if (!strstr(text, words)) fail_msg("no \"%s\" in %s", words, text);
    free(text);
}

static psg_status ask_clipped(psg_context *context, const net *m, const psg_clip *clip, double *factors) {
    return psg_clipped_sum(context, m->set, m->count, clip, PSG_OVERWRITE, m->out, NULL, factors, NULL);
}

/* ---- names ---- */

static void plans_name_parameters(void **state) {
    (void)state;
    net m;
    open_net(&m, 4, (sizes){ 3, 1, 7, 9 }, true);
    m.gradient[2].name = NULL;
    psg_context *context = test_context(1, NULL);
    for (int q = 0; q < PSG_QUESTION_COUNT; q++) {
        char words[80];
        snprintf(words, sizeof words, "%s: gradient 0 (weight): ", psg_question_name((psg_question)q));
        expect_text(context, &m, (psg_question)q, NULL, words);
        expect_text(context, &m, (psg_question)q, NULL, "gradient 1 (bias): ");
        expect_text(context, &m, (psg_question)q, NULL, "gradient 2: ");
    }
    m.gradient[1].block_count = 0;
    expect_text(context, &m, PSG_ASK_SQNORM, NULL, "gradient 1 (bias): none\n");
    psg_context_destroy(context);
    close_net(&m);
}

/* ---- keep, recompute: seen in the context's memory ---- */

enum { B = 50 };
static const sizes kept_sizes = { B, 32, 32, 32 };   /* norms by tiles; 4 KiB a sample */
static const size_t sample_bytes = 32 * 32 * 4;

/* The budget's memory that a clipped sum takes. */
static size_t bytes_taken(const net *m, const psg_clip *clip, size_t budget) {
    psg_context *context = test_context_with(NULL, 1, NULL, budget), *without = test_context(1, NULL);
    size_t before = psg_context_live_bytes(context), before_without = psg_context_live_bytes(without);
    TEST_OK(context, ask_clipped(context, m, clip, NULL));
    TEST_OK(without, ask_clipped(without, m, clip, NULL));
    size_t taken = psg_context_live_bytes(context) - before;
    size_t other = psg_context_live_bytes(without) - before_without;
    psg_context_destroy(context);
    psg_context_destroy(without);
    return taken > other ? taken - other : 0;
}

/* What max_batch_size samples would hold decides, what B hold is taken. */
static void kept_gradients_are_told_and_held(void **state) {
    (void)state;
    static const int64_t most[] = { B, 2 * B, 0 };
    net m;
    open_net(&m, 1, kept_sizes, false);
    for (int k = 0; k < 3; k++) {
        psg_clip clip = { .max_grad_norm = 1, .max_batch_size = most[k] };
        size_t capacity = (size_t)(most[k] ? most[k] : PSG_DEFAULT_MAX_BATCH_SIZE) * sample_bytes;
        for (int fits = 0; fits < 2; fits++) {
            size_t budget = fits ? capacity : capacity - 1, taken = bytes_taken(&m, &clip, budget);
            char words[100];
            psg_context *context = test_context_with(NULL, 1, NULL, budget);
            snprintf(words, sizeof words, "%s, factored T=32 p=32 d=32, budget %zu of %zu\n",
                     fits ? ": keep" : ": recompute (norms by tiles)", fits ? capacity : 0, budget);
            expect_text(context, &m, PSG_ASK_CLIPPED_SUM, &clip, words);
            if (!most[k]) expect_text(context, &m, PSG_ASK_CLIPPED_SUM, NULL, words);
            bool holds = taken >= B * sample_bytes && taken < B * sample_bytes + 8192;
            if (fits ? !holds : taken > 8192) fail_msg("%s, but %zu bytes are taken", words, taken);
            psg_context_destroy(context);
        }
    }
    close_net(&m);
}

/* Parameters whose norms go by Gram, here since that costs less than keeping, keep nothing: what they do not need is
 * left to others. */
static void the_budget_is_for_those_who_keep(void **state) {
    (void)state;
    net large, small;
    open_net(&large, 1, (sizes){ B, 16, 64, 64 }, false);
    open_net(&small, 1, kept_sizes, false);
    const psg_gradient *set[] = { large.set[0], small.set[0] };
    net both = { .set = set, .count = 2 };
    psg_clip clip = { .max_grad_norm = 1, .max_batch_size = B };
    psg_context *context = test_context_with(NULL, 1, NULL, 4 * B * sample_bytes);
    expect_text(context, &both, PSG_ASK_CLIPPED_SUM, &clip,
                "recompute (norms by gram), factored T=16 p=64 d=64, budget 0 of");
    expect_text(context, &both, PSG_ASK_CLIPPED_SUM, &clip, "keep, factored T=32 p=32 d=32");
    psg_context_destroy(context);
    close_net(&large);
    close_net(&small);
}

/* A Gram that costs more than keeping is for those without a budget: one that has room for this parameter, whatever it
 * keeps of others. */
static void a_budget_moves_norms_to_tiles(void **state) {
    (void)state;
    net first, second;
    open_net(&first, 1, (sizes){ B, 32, 64, 64 }, false);
    open_net(&second, 1, (sizes){ B, 32, 64, 64 }, false);
    const psg_gradient *set[] = { first.set[0], second.set[0] };
    net both = { .set = set, .count = 2 };
    psg_clip clip = { .max_grad_norm = 1, .max_batch_size = B };
    const size_t one = B * 64 * 64 * 4;
    static const char *const words[] = { "1 (weight): recompute (norms by gram)", "0 (weight): keep",
                                         "1 (weight): recompute (norms by tiles)", "1 (weight): keep" };
    for (int k = 0; k < 4; k++) {
        psg_context *context = test_context_with(NULL, 1, NULL, k == 0 ? one - 1 : k < 3 ? one : 2 * one);
        expect_text(context, &both, PSG_ASK_CLIPPED_SUM, &clip, words[k]);
        expect_text(context, &both, PSG_ASK_SQNORM, NULL, "1 (weight): gram");
        psg_context_destroy(context);
    }
    close_net(&first);
    close_net(&second);
}

/* ---- forced routes: seen in who multiplies ---- */

/* A Gram is one of the products that are counted, tiles are not. */
static void forced_routes_are_told_and_taken(void **state) {
    (void)state;
    static const char *const routes[] = { NULL, "gram", "tiles" };
    for (int k = 0; k < 3 * 2; k++) {
        net m;
        open_net(&m, 1, k / 3 ? kept_sizes : (sizes){ B, 32, 64, 64 }, false);
        psg_context *context = test_context(1, NULL);
        double square[B];
        TEST_OK(context, psg_context_force_route(context, routes[k % 3]));
        char *text = text_of(context, &m, PSG_ASK_SQNORM, NULL);
        uint64_t before = psg_context_products(context, PSG_GEMM_AUTOMATIC);
        TEST_OK(context, psg_sqnorm(context, m.set, 1, square, NULL, NULL));
        bool gram = psg_context_products(context, PSG_GEMM_AUTOMATIC) > before, told = strstr(text, ": gram,") != NULL;
        if (gram != told || (routes[k % 3] && !strstr(text, routes[k % 3]))) fail_msg("%s", text);
        assert_true(k != 0 || told);
        assert_true(k != 3 || !told);
        free(text);
        psg_context_destroy(context);
        close_net(&m);
    }
}

/* ---- cost ---- */

static psg_status ask(psg_context *context, const net *m, int question, double *numbers) {
    psg_clip clip = { .max_grad_norm = 1, .max_batch_size = 64 };
    switch (question) {
    case 0: return psg_sqnorm(context, m->set, m->count, numbers, NULL, NULL);
    case 1: return psg_weighted_sum(context, m->set, m->count, NULL, PSG_OVERWRITE, m->out);
    case 2: return psg_sum_of_squares(context, m->set, m->count, PSG_OVERWRITE, m->out);
    case 3: return psg_gram(context, m->set, m->count, numbers);
    default: return ask_clipped(context, m, &clip, numbers);
    }
}

/* 10,000 tensors at once; a search among pairs of them would take hours. */
static void many_tensors_are_planned_at_once(void **state) {
    (void)state;
    net m;
    open_net(&m, MOST, (sizes){ 2, 1, 8, 8 }, true);
    psg_context *context = test_context_with(NULL, 2, NULL, (size_t)1 << 20);
    double numbers[4];
    for (int question = 0; question < 5; question++) {
        TEST_OK(context, ask(context, &m, question, numbers));
        uint64_t before = psg_context_allocations(context);
        for (int again = 0; again < 2; again++) TEST_OK(context, ask(context, &m, question, numbers));
        assert_int_equal(psg_context_allocations(context), before);
    }
    char *text = text_of(context, &m, PSG_ASK_SQNORM, NULL);
    int lines = 0, partners = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++) lines++;
    for (const char *at = text; (at = strstr(at, "norm taken with its weight's")); at++) partners++;
    assert_int_equal(lines, MOST);
    assert_int_equal(partners, MOST / 2);
    free(text);
    psg_context_destroy(context);
    close_net(&m);
}

/* As many weights and biases over one backprop: each bias finds one weight. */
static void tensors_of_one_backprop_are_paired_once(void **state) {
    (void)state;
    enum { COUNT = 400 };
    net m;
    open_net(&m, COUNT, (sizes){ 2, 1, 8, 8 }, true);
    for (size_t k = 0; k < COUNT; k++) m.block[k].backprop.data = m.g;
    psg_context *context = test_context(1, NULL);
    double square[2], one[2][2];
    TEST_OK(context, psg_sqnorm(context, m.set, COUNT, square, NULL, NULL));
    for (int k = 0; k < 2; k++) TEST_OK(context, psg_sqnorm(context, m.set + k, 1, one[k], NULL, NULL));
    for (int n = 0; n < 2; n++) {
        double expected = COUNT / 2 * (one[0][n] + one[1][n]);
        test_near(square[n], expected, 1e-12 * expected, "sqnorm", n);
    }
    char *text = text_of(context, &m, PSG_ASK_SQNORM, NULL);
    int partners = 0;
    for (const char *at = text; (at = strstr(at, "norm taken with its weight's")); at++) partners++;
    assert_int_equal(partners, COUNT / 2);
    free(text);
    psg_context_destroy(context);
    close_net(&m);
}

/* ---- memory that cannot be had ---- */

/* Of all outs, the gaps behind biases included. */
static size_t cells_of(const net *m) { return m->count * (size_t)psg_tensor_count(&m->out[0]); }

/* Clipped sums with the n-th allocation failing: PSG_OK and the bits of an undisturbed one, or PSG_ERR_MEMORY and
 * nothing written.  Returns how it went; -1: no failure was met. */
static int clip_failing(const net *m, int64_t batch, size_t budget, uint64_t n, const double *sums,
                        const double *factors) {
    test_allocator allocator = { 0 };
    psg_context *context = test_context_with(&allocator, 1, NULL, budget);
    psg_clip clip = { .max_grad_norm = 1, .max_batch_size = batch };
    size_t count = cells_of(m);
    double *have = memory((size_t)batch, 8), *norms = memory((size_t)batch, 8);
    for (int64_t k = 0; k < batch; k++) have[k] = norms[k] = 7;
    for (size_t e = 0; e < count; e++) m->sums[e] = 7;
    test_allocator_arm(&allocator, n, false);
    psg_status status = psg_clipped_sum(context, m->set, m->count, &clip, PSG_OVERWRITE, m->out, norms, have, NULL);
    bool met = allocator.failed > 0;
    if (status == PSG_OK) {
        if (memcmp(have, factors, (size_t)batch * 8)) fail_msg("allocation %d: other factors", (int)n);
        for (size_t k = 0; k < m->count; k++) {
            size_t at = (size_t)((double *)m->out[k].data - m->sums), own = (size_t)psg_tensor_count(&m->out[k]);
            if (memcmp(m->sums + at, sums + at, own * 8)) fail_msg("allocation %d: another sum", (int)n);
        }
    } else {
        assert_true(met && status == PSG_ERR_MEMORY);
        for (size_t e = 0; e < count; e++) if (m->sums[e] != 7) fail_msg("allocation %d: outs are written", (int)n);
        for (int64_t k = 0; k < batch; k++) {
            if (have[k] != 7 || norms[k] != 7) fail_msg("allocation %d: norms or factors are written", (int)n);
        }
    }
    free(have), free(norms);
    psg_context_destroy(context);
    assert_true(allocator.live_blocks == 0 && allocator.mistakes == 0);
    return met ? status == PSG_OK : -1;
}

/* Gradients that cannot be kept are computed again, and whatever else fails leaves no trace: any batch, so that every
 * piece of memory is at some time the one that needs more. */
static void a_budget_that_cannot_be_had_is_done_without(void **state) {
    (void)state;
    static const sizes all[] = { { 7, 32, 32, 32 }, { 700, 16, 8, 8 }, { 2000, 16, 8, 8 }, { 9000, 13, 8, 4 } };
    for (int k = 0; k < 4 * 2; k++) {
        net m;
        sizes s = all[k % 4];
        open_net(&m, k / 4 ? 3 : 1, s, k / 4);
        size_t budget = (size_t)64 << 20, cells = cells_of(&m);
        psg_context *context = test_context_with(NULL, 1, NULL, budget);
        psg_clip clip = { .max_grad_norm = 1, .max_batch_size = s.batch };
        expect_text(context, &m, PSG_ASK_CLIPPED_SUM, &clip, ": keep,");
        double *factors = memory((size_t)s.batch, 8), *sums = memory(cells, 8);
        TEST_OK(context, ask_clipped(context, &m, &clip, factors));
        memcpy(sums, m.sums, cells * 8);
        int without = 0, refused = 0, how;
        for (uint64_t n = 1; (how = clip_failing(&m, s.batch, budget, n, sums, factors)) >= 0; n++) {
            without += how;
            refused += !how;
        }
        assert_true(without > 0 && refused > 0);
        free(factors), free(sums);
        psg_context_destroy(context);
        close_net(&m);
    }
}

/* A plan that could not have its budget does not claim to hold it. */
static void plans_tell_what_memory_they_have(void **state) {
    (void)state;
    net m;
    open_net(&m, 1, kept_sizes, false);
    int kept = 0, recomputed = 0;
    for (uint64_t n = 1; n < 20; n++) {
        test_allocator allocator = { 0 };
        psg_context *context = test_context_with(&allocator, 1, NULL, (size_t)1 << 20);
        psg_clip clip = { .max_grad_norm = 1, .max_batch_size = B };
        char text[400];
        test_allocator_arm(&allocator, n, false);
        psg_status status = psg_plan_text(context, PSG_ASK_CLIPPED_SUM, m.set, 1, &clip, text, sizeof text, NULL);
        if (!status && strstr(text, ": keep,")) kept++;
        else if (!status && strstr(text, ": recompute (norms by tiles)") && strstr(text, "budget 0 of")) recomputed++;
        else if (!status) fail_msg("%s", text);
        else assert_int_equal(status, PSG_ERR_MEMORY);
        psg_context_destroy(context);
    }
    assert_true(kept > 0 && recomputed > 0);
    close_net(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_name_parameters),
        cmocka_unit_test(kept_gradients_are_told_and_held),
        cmocka_unit_test(the_budget_is_for_those_who_keep),
        cmocka_unit_test(a_budget_moves_norms_to_tiles),
        cmocka_unit_test(forced_routes_are_told_and_taken),
        cmocka_unit_test(many_tensors_are_planned_at_once),
        cmocka_unit_test(tensors_of_one_backprop_are_paired_once),
        cmocka_unit_test(a_budget_that_cannot_be_had_is_done_without),
        cmocka_unit_test(plans_tell_what_memory_they_have),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
