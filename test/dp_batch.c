#include "dp_batch.h"

#include "base/shapes.h"

dp_batch dp_batch_new(test_random *random, psg_dtype dtype, int64_t b, int64_t t, double scale) {
    dp_batch batch = { .b = b, .t = t };
    batch.p = test_range(random, 1, 17);
    batch.d = test_range(random, 1, 21);
    batch.q = test_range(random, 1, 33);
    batch.g = test_array_new(random, dtype, 3, (const int64_t[]){ b, t, batch.p }, TEST_CONTIGUOUS);
    batch.a = test_array_new(random, dtype, 3, (const int64_t[]){ b, t, batch.d }, TEST_CONTIGUOUS);
    batch.s = test_array_new(random, dtype, 3, (const int64_t[]){ b, 1, batch.q }, TEST_CONTIGUOUS);
    test_fill_normal(random, &batch.g.view, scale);
    test_fill_normal(random, &batch.a.view, scale);
    test_fill_normal(random, &batch.s.view, scale);
    return batch;
}

void dp_batch_free(dp_batch *batch) {
    test_array_free(&batch->g);
    test_array_free(&batch->a);
    test_array_free(&batch->s);
}

void dp_batch_counts(const dp_batch *batch, int64_t counts[DP_PARAMS]) {
    counts[0] = batch->p * batch->d;
    counts[1] = batch->p;
    counts[2] = batch->q;
}

int64_t dp_batch_elements(const dp_batch *batch) { return batch->p * batch->d + batch->p + batch->q; }

static psg_tensor samples(const test_array *array, int64_t first, int64_t count) {
    psg_tensor view = array->view;
    view.data = psg_tensor_offset(&view, first * view.stride[0]);
    view.shape[0] = count;
    return view;
}

void dp_batch_part(const dp_batch *batch, int64_t first, int64_t count, dp_part *part) {
    psg_tensor g = samples(&batch->g, first, count), a = samples(&batch->a, first, count);
    psg_tensor s = samples(&batch->s, first, count);
    part->block[0] = psg_factored(&g, &a);
    part->block[1] = psg_rows(&g);
    part->block[2] = psg_rows(&s);
    part->gradient[0] = psg_gradient_of_blocks(&part->block[0], 1, 2, (const int64_t[]){ batch->p, batch->d });
    part->gradient[1] = psg_gradient_of_blocks(&part->block[1], 1, 1, &batch->p);
    part->gradient[2] = psg_gradient_of_blocks(&part->block[2], 1, 1, &batch->q);
    for (int k = 0; k < DP_PARAMS; k++) part->list[k] = &part->gradient[k];
}

void dp_batch_set_sample(dp_batch *batch, int64_t n, double value) {
    psg_tensor rows[] = { samples(&batch->g, n, 1), samples(&batch->a, n, 1), samples(&batch->s, n, 1) };
    for (int k = 0; k < 3; k++) test_fill_value(&rows[k], value);
}

dp_run dp_run_new(psg_context *context, const psg_dp_options *options, const dp_batch *batch, unsigned char seed) {
    dp_run run = { .context = context };
    const unsigned char key[32] = { seed };
    dp_batch_counts(batch, run.counts);
    TEST_OK(context, psg_generator_create_seeded(context, key, &run.generator));
    TEST_OK(context, psg_dp_create(context, run.generator, options, run.counts, DP_PARAMS, &run.dp));
    return run;
}

void dp_run_free(dp_run *run) {
    psg_dp_destroy(run->dp);
    psg_generator_destroy(run->generator);
}

psg_dp_options dp_external(double max_grad_norm, double noise_multiplier, double expected, int64_t most) {
    psg_dp_options options = PSG_DP_OPTIONS_INIT;
    options.sampling = PSG_SAMPLING_EXTERNAL;
    options.max_grad_norm = max_grad_norm;
    options.noise_multiplier = noise_multiplier;
    options.without_noise = noise_multiplier == 0;
    options.expected_batch_size = expected;
    options.max_batch_size = most;
    return options;
}

enum { MOST_TAKEN = 256 };

psg_batch dp_take(psg_context *context, psg_dp *dp, int64_t first, int64_t count) {
    int64_t ids[MOST_TAKEN];
    psg_batch batch;
    assert_true(count <= MOST_TAKEN);
    for (int64_t n = 0; n < count; n++) ids[n] = first + n;
    TEST_OK(context, psg_dp_take(dp, ids, count, &batch));
    return batch;
}

psg_status dp_run_add(dp_run *run, const dp_batch *batch, int64_t first, int64_t count) {
    dp_part part;
    int64_t ids[MOST_TAKEN];
    psg_batch taken;
    for (int64_t n = 0; n < count; n++) ids[n] = run->next++;
    psg_status status = psg_dp_take(run->dp, ids, count, &taken);
    if (status) return status;
    dp_batch_part(batch, first, count, &part);
    return psg_dp_accumulate(run->dp, &taken, part.list, DP_PARAMS, NULL);
}

psg_status dp_run_release(dp_run *run, double out[DP_MAX_ELEMENTS]) {
    psg_tensor outs[DP_PARAMS];
    for (int k = 0; k < DP_PARAMS; k++) {
        outs[k] = psg_tensor_of(PSG_F64, out, 1, &run->counts[k]);
        out += run->counts[k];
    }
    return psg_dp_release(run->dp, outs, DP_PARAMS);
}
