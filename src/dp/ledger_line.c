#include "dp/ledger_line.h"

#include <jansson.h>
#include <sodium.h>
#include <string.h>

#include "accountant/event.h"
#include "base/context.h"
#include "base/entropy.h"
#include "base/file.h"
#include "base/writer.h"
#include "dp/names.h"

/* The fields of a line, in their order, for json_pack and json_unpack: both take the same arguments but for &. */
#define FIELDS_OF(number)                                                                                              \
    "{s:i, s:s, s:s, s:I, s:I, s:s, s:b, s:s, s:" number ", s:I, s:I, s:I, s:I, s:" number ", s:" number ", s:" number \
    ", s:" number ", s:" number ", s:s"

/* What follows the fields: the BLAKE2b-256 of all that stands before. */
#define HASH_BEFORE ",\"hash\":\""
#define HASH_AFTER "\"}"
#define HASH_LENGTH (sizeof HASH_BEFORE - 1 + PSG_LINE_HASH_TEXT - 1 + sizeof HASH_AFTER - 1)

static bool fits(uint64_t value) { return value <= INT64_MAX; }

bool psg_ledger_line_fits(const psg_ledger_line *line) {
    const psg_event *e = &line->event;
    return fits(line->first) && fits(line->count) && fits(line->first + line->count) && fits(e->records) &&
           fits(e->batch_size) && fits(e->batches) && fits(e->group_size);
}

static void hash_of(const char *text, size_t length, char hash[PSG_LINE_HASH_TEXT]) {
    unsigned char bytes[PSG_LINE_HASH_BYTES];
    crypto_generichash(bytes, sizeof bytes, (const unsigned char *)text, length, NULL, 0);
    sodium_bin2hex(hash, PSG_LINE_HASH_TEXT, bytes, sizeof bytes);
}

size_t psg_ledger_line_write(const psg_ledger_line *line, const char *previous, char text[PSG_LINE_TEXT],
                             char hash[PSG_LINE_HASH_TEXT]) {
    const psg_event *e = &line->event;
    json_t *json = json_pack(
        FIELDS_OF("f") "}", "psg_ledger", PSG_LEDGER_VERSION, "library", psg_version(), "run", line->run, "first",
        (json_int_t)line->first, "count", (json_int_t)line->count, "relation", psg_relation_name(line->relation),
        "seeded", line->is_seeded, "sampling", psg_sampling_name(e->sampling), "sample_rate", e->sample_rate, "records",
        (json_int_t)e->records, "batch_size", (json_int_t)e->batch_size, "batches", (json_int_t)e->batches,
        "group_size", (json_int_t)e->group_size, "noise_multiplier", e->noise_multiplier, "max_grad_norm",
        line->max_grad_norm, "rho", e->rho, "residue_epsilon", e->residue_epsilon, "residue_delta", e->residue_delta,
        "previous", previous);
    if (!json) return 0;
    const size_t flags = JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17);
    const size_t length = json_dumpb(json, text, PSG_LINE_TEXT, flags);
    json_decref(json);
    if (!length || length + HASH_LENGTH >= PSG_LINE_TEXT) return 0;
    hash_of(text, length - 1, hash);
    psg_writer w = { text, PSG_LINE_TEXT, length - 1 };
    psg_put(&w, HASH_BEFORE "%s" HASH_AFTER, hash);
    return w.used;
}

bool psg_ledger_line_hash(const char *text, size_t length, char hash[PSG_LINE_HASH_TEXT]) {
    const char *at = text + length - HASH_LENGTH;
    if (length <= HASH_LENGTH || memcmp(at, HASH_BEFORE, sizeof HASH_BEFORE - 1)) return false;
    memcpy(hash, at + sizeof HASH_BEFORE - 1, PSG_LINE_HASH_TEXT - 1);
    hash[PSG_LINE_HASH_TEXT - 1] = 0;
    return true;
}

bool psg_is_torn_line(const char *text, size_t length) {
    static const char begin[] = "{\"psg_ledger\":";
    const size_t known = length < sizeof begin - 1 ? length : sizeof begin - 1;
    size_t zeros = 0;
    while (zeros < length && !text[zeros]) zeros++;
    return zeros == length || (!memcmp(text, begin, known) && text[length - 1] != '}');
}

psg_status psg_name_run(psg_context *context, const char *function, char run[PSG_RUN_TEXT]) {
    unsigned char bytes[(PSG_RUN_TEXT - 1) / 2];
    psg_status status = psg_entropy(context, function, bytes, sizeof bytes);
    if (!status) sodium_bin2hex(run, PSG_RUN_TEXT, bytes, sizeof bytes);
    return status;
}

/* ---- reading ---- */

bool psg_is_run(const char *text) {
    return strlen(text) == PSG_RUN_TEXT - 1 && strspn(text, "0123456789abcdef") == PSG_RUN_TEXT - 1;
}

psg_status psg_ledger_line_refuse(const psg_line_place *at, const char *what) {
    return psg_fail_format(at->context, at->function, at->path, "line %llu %s", (unsigned long long)at->line, what);
}

static psg_status check_version(const psg_line_place *at, const json_t *json) {
    const json_t *version = json_object_get(json, "psg_ledger");
    if (!json_is_integer(version)) return psg_ledger_line_refuse(at, "is not of a ledger: it has no psg_ledger");
    if (json_integer_value(version) == PSG_LEDGER_VERSION) return PSG_OK;
    return psg_fail_format(at->context, at->function, at->path, "line %llu is of version %lld, this library reads "
                           "version %d", (unsigned long long)at->line, (long long)json_integer_value(version),
                           PSG_LEDGER_VERSION);
}

static psg_status check_chain(const psg_line_place *at, const char *found, const char *previous) {
    if (!strcmp(found, previous)) return PSG_OK;
    return psg_fail_format(at->context, at->function, at->path, "line %llu stands after a line of hash %s, says %s",
                           (unsigned long long)at->line, previous, found);
}

static psg_status check_hash(const psg_line_place *at, const char *text, size_t length, char hash[PSG_LINE_HASH_TEXT]) {
    char found[PSG_LINE_HASH_TEXT];
    if (!psg_ledger_line_hash(text, length, found)) return psg_ledger_line_refuse(at, "does not end with its hash");
    hash_of(text, length - HASH_LENGTH, hash);
    if (!strcmp(found, hash)) return PSG_OK;
    return psg_fail_format(at->context, at->function, at->path, "line %llu says that its hash is %s, it is %s",
                           (unsigned long long)at->line, found, hash);
}

/* Texts of the line, which are the JSON's. */
typedef struct texts {
    const char *run, *relation, *sampling, *previous;
} texts;

/* The numbers into *line, the texts into *t; false where a field is missing, of another type, or unknown. */
static bool unpack(json_t *json, psg_ledger_line *line, texts *t) {
    psg_event *e = &line->event;
    json_int_t first, count, records, batch_size, batches, group_size;
    const char *library, *hash;
    int version, seeded;
    if (json_unpack(json, FIELDS_OF("F") ", s:s !}", "psg_ledger", &version, "library", &library, "run", &t->run, "first",
                    &first, "count", &count, "relation", &t->relation, "seeded", &seeded, "sampling", &t->sampling,
                    "sample_rate", &e->sample_rate, "records", &records, "batch_size", &batch_size, "batches", &batches,
                    "group_size", &group_size, "noise_multiplier", &e->noise_multiplier, "max_grad_norm",
                    &line->max_grad_norm, "rho", &e->rho, "residue_epsilon", &e->residue_epsilon, "residue_delta",
                    &e->residue_delta, "previous", &t->previous, "hash", &hash)) {
        return false;
    }
    if ((first | count | records | batch_size | batches | group_size) < 0 || count > INT64_MAX - first) return false;
    line->first = (uint64_t)first;
    line->count = (uint64_t)count;
    line->is_seeded = seeded != 0;
    e->records = (uint64_t)records;
    e->batch_size = (uint64_t)batch_size;
    e->batches = (uint64_t)batches;
    e->group_size = (uint64_t)group_size;
    return true;
}

static psg_status take_texts(const psg_line_place *at, const texts *t, const char *previous, psg_ledger_line *line) {
    int sampling = psg_sampling_of_name(t->sampling), relation = psg_relation_of_name(t->relation);
    if (sampling < 0 || relation < 0) return psg_ledger_line_refuse(at, "has an unknown sampling or relation");
    if (!psg_is_run(t->run)) return psg_ledger_line_refuse(at, "has a run that is not of 32 hexadecimal digits");
    memcpy(line->run, t->run, PSG_RUN_TEXT);
    line->event.sampling = (psg_sampling)sampling;
    line->relation = (psg_relation)relation;
    return check_chain(at, t->previous, previous);
}

static psg_status take_fields(const psg_line_place *at, json_t *json, const char *previous, psg_ledger_line *line) {
    texts t;
    if (!unpack(json, line, &t)) {
        return psg_ledger_line_refuse(at, "lacks a field, or has one of another type or an unknown one");
    }
    psg_status status = take_texts(at, &t, previous, line);
    if (status) return status;
    status = psg_event_check(at->context, at->function, &line->event, line->relation);
    return status ? psg_ledger_line_refuse(at, "has no valid event") : PSG_OK;
}

psg_status psg_ledger_line_read(const psg_line_place *place, const char *text, size_t length, const char *previous,
                                psg_ledger_line *line, char hash[PSG_LINE_HASH_TEXT]) {
    json_error_t error;
    if (length >= PSG_LINE_TEXT) return psg_ledger_line_refuse(place, "is longer than any");
    json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (!json && !error.text[0]) {   /* jansson says nothing where its memory ends */
        return psg_fail_memory(place->context, place->function, length);
    }
    if (!json) return psg_ledger_line_refuse(place, "is not JSON");
    *line = (psg_ledger_line){ .event = PSG_EVENT_INIT };
    psg_status status = check_version(place, json);
    if (!status) status = check_hash(place, text, length, hash);
    if (!status) status = take_fields(place, json, previous, line);
    json_decref(json);
    return status;
}
