/* What an op's functions may do with their call. */
#include <ctype.h>
#include <endian.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/shapes.h"
#include "base/writer.h"
#include "tape/tape_struct.h"

/* ---- messages: they name the parameters that they are of ---- */

static bool continues_word(char c) { return isalnum((unsigned char)c) || c == '_'; }

static bool has_word(const char *text, const char *word) {
    const size_t length = strlen(word);
    if (!length) return false;
    for (const char *at = text; (at = strstr(at, word)); at++) {
        if ((at == text || !continues_word(at[-1])) && !continues_word(at[length])) return true;
    }
    return false;
}

/* Not where the text has the name in quotes, nor where it says no more than the operand's. */
static void put_parameter(psg_writer *note, const psg_call *call, int k, const char *text) {
    const char *operand = psg_op_operand_name(call->op, k), *name = call->input[k].name;
    char quoted[PSG_MESSAGE_SIZE];
    snprintf(quoted, sizeof quoted, "\"%s\"", name);
    if (strstr(text, quoted) || !strcmp(name, operand)) return;
    psg_put(note, "%s%s: %s", note->used ? ", " : " (", operand, name);
}

/* " (weight: fc1.weight, bias: fc1.bias)": of the operands that the text names, else of the first parameter. */
static void put_parameters(psg_writer *note, const psg_call *call, const char *text) {
    int first = -1;
    for (int k = 0; k < call->input_count; k++) {
        if (!call->input[k].name) continue;
        if (first < 0) first = k;
        if (has_word(text, psg_op_operand_name(call->op, k))) put_parameter(note, call, k, text);
    }
    if (!note->used && first >= 0) put_parameter(note, call, first, text);
    if (note->used) psg_put(note, ")");
}

psg_status psg_call_fail(psg_call *call, psg_status status, const char *format, ...) {
    if (!call) return PSG_ERR_ARGUMENT;
    psg_tape_node *node = call->internal;
    char text[PSG_MESSAGE_SIZE], names[PSG_MESSAGE_SIZE] = "";
    psg_writer parameters = { names, sizeof names, 0 };
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    bool turned = call->pass->batch_second && strstr(text, "shape");
    const char *note = turned ? " (batch_second: shapes, not dimensions, are told with the batch in front)" : "";
    put_parameters(&parameters, call, text);
    psg_tape_fail(node->tape, status, "%s: %s%s%s", call->op->name, text, names, note);
    return status;
}

/* ---- outputs, memory ---- */

psg_status psg_call_output(psg_call *call, psg_dtype dtype, int rank, const int64_t *shape) {
    if (!call) return PSG_ERR_ARGUMENT;
    psg_tensor output = psg_tensor_of(dtype, NULL, rank, shape);
    char text[PSG_SHAPE_TEXT];
    if (output.rank < 0 || !psg_dtype_size(dtype)) {
        return psg_call_fail(call, PSG_ERR_SHAPE, "an output of rank %d and type %s cannot be", rank,
                             psg_dtype_name(dtype));
    }
    for (int d = 0; d < rank; d++) {
        if (shape[d] < 0) {
            return psg_call_fail(call, PSG_ERR_SHAPE, "the output shape would be %s", psg_tensor_text(&output, text));
        }
    }
    if (!psg_tensor_fits(&output)) {
        return psg_call_fail(call, PSG_ERR_OVERFLOW, "the output shape %s is too large",
                             psg_tensor_text(&output, text));
    }
    call->output = output;
    return PSG_OK;
}

void *psg_call_keep(psg_call *call, size_t bytes) {
    if (!call) return NULL;
    psg_tape_node *node = call->internal;
    return psg_tape_take(node->tape, bytes);
}

/* ---- bad records ---- */

int psg_call_removes(psg_call *call, int64_t sample) {
    if (!call) return 0;
    psg_tape *tape = ((psg_tape_node *)call->internal)->tape;
    if (!call->pass->remove_bad_records || call->pass->ordinary) return 0;
    if (sample < 0 || sample >= tape->rows) return 0;
    if (!tape->bad) {
        size_t records = (size_t)psg_tape_samples(tape);
        tape->bad = psg_tape_take(tape, records);
        if (!tape->bad) return 0;
        memset(tape->bad, 0, records);
    }
    tape->bad[sample / psg_tape_views(tape)] = 1;
    return 1;
}

void *psg_call_own(psg_call *call, int k) {
    if (!call || k < 0 || k >= call->input_count) return NULL;
    psg_tape_node *node = call->internal;
    psg_tensor *value = &call->input[k].value;
    if (node->owned >> k & 1u) return value->data;
    size_t bytes = (size_t)psg_tensor_count(value) * psg_dtype_size(value->dtype);
    void *own = psg_call_keep(call, bytes);
    if (!own) return NULL;
    if (bytes) memcpy(own, value->data, bytes);
    node->owned |= 1u << k;
    return value->data = own;
}

/* ---- randomness ---- */

static bool names_samples(const psg_pass *pass) { return pass->batch || pass->sample_ids; }

static psg_status fail_unnamed(psg_call *call) {
    return psg_call_fail(call, PSG_ERR_STATE, "draws for each sample, by its name and not by its row: give "
                         "psg_pass.batch, or sample_ids and a dropout_seed of each step");
}

psg_status psg_tape_check_draws(psg_tape_node *node) {
    return node->drew_unnamed ? fail_unnamed(&node->call) : PSG_OK;
}

psg_status psg_call_draws(psg_call *call, int64_t samples) {
    if (!call) return PSG_ERR_ARGUMENT;
    const psg_pass *pass = call->pass;
    if (!names_samples(pass)) return pass->ordinary ? PSG_OK : fail_unnamed(call);
    if (samples == pass->batch_size) return PSG_OK;
    return psg_call_fail(call, PSG_ERR_BATCH, "draws for %lld samples, psg_pass names %lld", (long long)samples,
                         (long long)pass->batch_size);
}

/* ChaCha20 (RFC 8439) under the key (seed of the step, place of the op), with the record's identity and the view as the
 * nonce: every sample of every call has a stream of its own, wherever and in whatever company it is computed.  The
 * third word of the key parts the seeds of mechanisms from the caller's. */
void psg_call_random(const psg_call *call, int64_t sample, uint64_t *words, size_t count) {
    if (!call || !words) return;
    const psg_pass *pass = call->pass;
    psg_tape_node *node = call->internal;
    const int64_t views = psg_tape_views(node->tape), record = sample / views;
    if (!pass->ordinary && !names_samples(pass)) node->drew_unnamed = true;
    uint64_t identity = htole64((uint64_t)(pass->sample_ids ? pass->sample_ids[record] : record));
    uint32_t view = htole32((uint32_t)(sample % views));
    uint64_t key_words[4] = { htole64(pass->batch ? pass->batch->stream : pass->dropout_seed),
                              htole64(call->stream_key), htole64(pass->batch != NULL) };
    unsigned char key[crypto_stream_chacha20_ietf_KEYBYTES] = { 0 };
    unsigned char nonce[crypto_stream_chacha20_ietf_NONCEBYTES] = { 0 };
    memcpy(key, key_words, sizeof key_words);
    memcpy(nonce, &identity, sizeof identity);
    memcpy(nonce + sizeof identity, &view, sizeof view);
    crypto_stream_chacha20_ietf((unsigned char *)words, count * sizeof *words, nonce, key);
    for (size_t i = 0; i < count; i++) words[i] = le64toh(words[i]);
}
