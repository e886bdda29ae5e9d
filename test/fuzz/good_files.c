#include "good_files.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static size_t shortest(size_t a, size_t b) { return a < b ? a : b; }

static size_t raw(fuzz_bytes *bytes, uint8_t *file, size_t capacity) {
    size_t length = shortest(bytes->left, capacity);
    memcpy(file, bytes->at, length);
    bytes->left = 0;
    return length;
}

/* ---- safetensors: 8 bytes of length, little-endian; a header of that length; the values ---- */

static void write_tensors(fuzz_bytes *bytes, const char *path) {
    static const char *const names[] = { "weight", "b", "layer.bias", "\"quoted\\", "ä", "" };
    static double values[256];
    psg_named tensor[4];
    psg_text_pair pair[] = { { "format", "pt" }, { "k", "v\n" } };
    size_t count = (size_t)fuzz_range(bytes, 0, 4);
    fuzz_fill(bytes, PSG_F64, values, 256);
    for (size_t k = 0; k < count; k++) {
        int64_t shape[3] = { fuzz_range(bytes, 0, 4), fuzz_range(bytes, 1, 4), fuzz_range(bytes, 1, 4) };
        tensor[k].name = names[(k + fuzz_byte(bytes) % 3) % 6];
        psg_dtype dtype = (psg_dtype)fuzz_range(bytes, 0, 3);
        tensor[k].tensor = psg_tensor_of(dtype, values + 8 * k, (int)fuzz_range(bytes, 0, 3), shape);
    }
    psg_context *context = fuzz_context(0, 0);
    unlink(path);
    psg_safetensors_write(context, path, tensor, count, pair, (size_t)fuzz_range(bytes, 0, 2));
    fuzz_context_return(context);
}

static size_t edit_tensors(fuzz_bytes *bytes, uint8_t *file, size_t length, size_t capacity) {
    uint64_t header = 0;
    if (length < 8) return length;
    for (int k = 0; k < 8; k++) header |= (uint64_t)file[k] << 8 * k;
    if (header > length - 8 || capacity > 1 << 14) return length;
    static uint8_t text[1 << 14];
    size_t rest = length - 8 - (size_t)header;
    memcpy(text, file + 8, (size_t)header);
    size_t edited = fuzz_edit(bytes, text, (size_t)header, capacity - 8 - rest);
    memmove(file + 8 + edited, file + 8 + header, rest);
    memcpy(file + 8, text, edited);
    for (int k = 0; k < 8 && !fuzz_one_in(bytes, 8); k++) file[k] = (uint8_t)(edited >> 8 * k);
    length = 8 + edited + rest;
    return fuzz_one_in(bytes, 4) ? fuzz_edit(bytes, file, length, capacity) : length;
}

size_t good_safetensors(fuzz_bytes *bytes, uint8_t *file, size_t capacity) {
    const char *path = fuzz_path("good");
    if (fuzz_one_in(bytes, 8)) return raw(bytes, file, capacity);
    write_tensors(bytes, path);
    return edit_tensors(bytes, file, fuzz_read(path, file, capacity), capacity);
}

/* ---- ledgers ---- */

static void draw_event(fuzz_bytes *bytes, psg_event *event) {
    *event = (psg_event)PSG_EVENT_INIT;
    event->sampling = fuzz_one_in(bytes, 4) ? PSG_SAMPLING_EXTERNAL : PSG_SAMPLING_POISSON;
    event->noise_multiplier = 0.5 + (double)fuzz_range(bytes, 0, 7) / 4;
    if (event->sampling == PSG_SAMPLING_POISSON) event->sample_rate = 1.0 / (double)fuzz_range(bytes, 1, 64);
}

/* The hash of a line is that of all before `,"hash":"`; the next one quotes it.  Lines that have no such parts stay. */
static void chain(uint8_t *file, size_t length) {
    static const char hash_before[] = ",\"hash\":\"", previous_before[] = "\"previous\":\"";
    char previous[65], *line = (char *)file, *end;
    unsigned char digest[32];
    memset(previous, '0', 64);
    for (; (end = memchr(line, '\n', length - (size_t)(line - (char *)file))); line = end + 1) {
        char *hash = memmem(line, (size_t)(end - line), hash_before, sizeof hash_before - 1);
        char *quote = memmem(line, (size_t)(end - line), previous_before, sizeof previous_before - 1);
        if (!hash || end - hash < (ptrdiff_t)sizeof hash_before + 63) continue;
        if (quote && line > (char *)file && hash - quote > (ptrdiff_t)sizeof previous_before + 63) {
            memcpy(quote + sizeof previous_before - 1, previous, 64);
        }
        crypto_generichash(digest, sizeof digest, (unsigned char *)line, (size_t)(hash - line), NULL, 0);
        sodium_bin2hex(previous, sizeof previous, digest, sizeof digest);
        memcpy(hash + sizeof hash_before - 1, previous, 64);
    }
}

size_t good_ledger(fuzz_bytes *bytes, uint8_t *file, size_t capacity) {
    const char *path = fuzz_path("good");
    if (fuzz_one_in(bytes, 8)) return raw(bytes, file, capacity);
    psg_context *context = fuzz_context(0, 0);
    unlink(path);
    for (int64_t lines = fuzz_range(bytes, 0, 4); lines > 0; lines--) {
        psg_event event;
        draw_event(bytes, &event);
        psg_ledger_record(context, path, PSG_ADD_OR_REMOVE_ONE, &event, (uint64_t)fuzz_range(bytes, 1, 200));
    }
    fuzz_context_return(context);
    size_t length = fuzz_read(path, file, capacity);
    if (fuzz_one_in(bytes, 8)) return length;
    length = fuzz_edit(bytes, file, length, capacity);
    if (!fuzz_one_in(bytes, 3)) chain(file, length);
    return length;
}

/* ---- IDX ---- */

static size_t pack(const uint8_t *plain, size_t length, uint8_t *file, size_t capacity) {
    z_stream stream = { 0 };
    FUZZ_CHECK(deflateInit2(&stream, 1, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    stream.next_in = (void *)(uintptr_t)plain;
    stream.avail_in = (unsigned)length;
    stream.next_out = file;
    stream.avail_out = (unsigned)capacity;
    deflate(&stream, Z_FINISH);
    deflateEnd(&stream);
    return stream.total_out;
}

size_t good_idx(fuzz_bytes *bytes, uint8_t *file, size_t capacity) {
    static uint8_t plain[1024];
    static const int64_t types[] = { 8, 9, 11, 12, 13, 14 }, widths[] = { 1, 1, 2, 4, 4, 8 };
    const int rank = (int)fuzz_range(bytes, 1, 3), type = (int)fuzz_range(bytes, 0, 5);
    size_t length = 4, elements = (size_t)widths[type];
    if (fuzz_one_in(bytes, 8)) return raw(bytes, file, capacity);
    memset(plain, 0, sizeof plain);
    plain[2] = (uint8_t)types[type];
    plain[3] = (uint8_t)rank;
    for (int d = 0; d < rank; d++, length += 4) elements *= plain[length + 3] = (uint8_t)fuzz_range(bytes, 0, 4);
    for (size_t k = 0; k < elements; k++) plain[length + k] = fuzz_byte(bytes);
    length += elements;
    if (fuzz_one_in(bytes, 2)) length = fuzz_edit(bytes, plain, length, sizeof plain);
    if (!fuzz_one_in(bytes, 2)) {
        memcpy(file, plain, length);
        return length;
    }
    length = pack(plain, length, file, capacity);
    return fuzz_one_in(bytes, 2) ? fuzz_edit(bytes, file, length, capacity) : length;
}

/* ---- checkpoints ---- */

psg_status good_run_make(psg_context *context, const char *ledger, good_run *run) {
    const int64_t count = GOOD_WEIGHT;
    const unsigned char seed[32] = { 7 };
    psg_dp_options options = PSG_DP_OPTIONS_INIT;
    psg_sgd_options sgd = PSG_SGD_OPTIONS_INIT;
    *run = (good_run){ .generator = NULL };
    options.records = 50;
    options.sample_rate = 0.25;
    options.noise_multiplier = 1;
    options.ledger = ledger;
    options.ledger_ahead = 1;
    sgd.lr = 0.5;
    sgd.momentum = 0.5;
    run->params[0] = (psg_named){ "weight", psg_f64_1d(run->weight, count) };
    run->extra[0] = (psg_named){ "average", psg_f64_1d(run->average, count) };
    psg_status status = psg_generator_create_seeded(context, seed, &run->generator);
    if (!status) status = psg_dp_create(context, run->generator, &options, &count, 1, &run->dp);
    if (!status) status = psg_sgd_create(context, &sgd, &run->params[0].tensor, 1, &run->optimizer);
    run->checkpoint = (psg_checkpoint){ run->params, 1, run->optimizer, run->extra, 1, { 0 } };
    return status;
}

void good_run_free(good_run *run) {
    psg_optimizer_destroy(run->optimizer);
    psg_dp_destroy(run->dp);
    psg_generator_destroy(run->generator);
    *run = (good_run){ .generator = NULL };
}

void good_run_fill(good_run *run, double value) {
    for (int k = 0; k < GOOD_WEIGHT; k++) run->weight[k] = run->average[k] = value;
}

int good_run_holds(const good_run *run, double value) {
    int all = 1;
    for (int k = 0; k < GOOD_WEIGHT; k++) all &= run->weight[k] == value && run->average[k] == value;
    return all;
}

/* Steps whose records have no gradient: what is released is noise. */
static psg_status make_steps(good_run *run, int64_t steps) {
    psg_batch batch;
    psg_status status = PSG_OK;
    for (; steps > 0 && !status; steps--) {
        status = psg_dp_sample(run->dp, &batch);
        if (!status) status = psg_dp_release_to(run->dp, run->optimizer);
    }
    return status;
}

size_t good_checkpoint(fuzz_bytes *bytes, uint8_t *file, size_t capacity, const char *ledger) {
    static good_run run;
    const char *path = fuzz_path("good");
    psg_context *context = fuzz_context(0, 0);
    unlink(ledger);
    FUZZ_CHECK(!good_run_make(context, ledger, &run));
    good_run_fill(&run, 0.5);
    FUZZ_CHECK(!make_steps(&run, fuzz_range(bytes, 0, 3)));
    FUZZ_CHECK(!psg_dp_save(run.dp, &run.checkpoint, path));
    good_run_free(&run);
    fuzz_context_return(context);
    size_t length = fuzz_read(path, file, capacity);
    return fuzz_one_in(bytes, 8) ? length : edit_tensors(bytes, file, length, capacity);
}
