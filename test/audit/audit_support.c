#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attack/attack_random.h"
#include "audit.h"

void audit_say(audit_report *report, const char *format, ...) {
    const size_t length = strlen(report->text);
    va_list arguments;
    va_start(arguments, format);
    if (report->passed) vsnprintf(report->text + length, sizeof report->text - length, format, arguments);
    va_end(arguments);
}

void audit_fail(audit_report *report, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (report->passed) vsnprintf(report->text, sizeof report->text, format, arguments);
    report->passed = false;
    va_end(arguments);
}

void audit_need(psg_context *context, psg_status status, const char *call) {
    if (status == PSG_OK) return;
    fprintf(stderr, "audit: %s: %s %s\n", call, psg_status_name(status), context ? psg_context_message(context) : "");
    exit(EXIT_FAILURE);
}

void *audit_array(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    audit_need(NULL, memory ? PSG_OK : PSG_ERR_MEMORY, "calloc");
    return memory;
}

psg_context *audit_context(unsigned threads) {
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    psg_context *context;
    options.threads = threads;
    AUDIT_OK(NULL, psg_context_create(&options, &context));
    return context;
}

psg_generator *audit_generator(psg_context *context, uint64_t seed, uint64_t number) {
    attack_random random = { attack_hash(seed) ^ attack_hash(~number) };
    unsigned char key[32];
    psg_generator *generator;
    for (int k = 0; k < 32; k++) key[k] = (unsigned char)attack_bits(&random);
    AUDIT_OK(context, psg_generator_create_seeded(context, key, &generator));
    return generator;
}

psg_dp_options audit_external(double max_grad_norm, double noise_multiplier, int64_t max_batch_size) {
    psg_dp_options options = PSG_DP_OPTIONS_INIT;
    options.sampling = PSG_SAMPLING_EXTERNAL;
    options.max_grad_norm = max_grad_norm;
    options.noise_multiplier = noise_multiplier;
    options.expected_batch_size = 1;
    options.max_batch_size = max_batch_size;
    return options;
}

double audit_unit(double noise_multiplier, double max_grad_norm, double elements) {
    return noise_multiplier * max_grad_norm / (0x1p36 - noise_multiplier * sqrt(elements));
}

psg_accountant *audit_accountant_of(psg_context *context, const psg_dp *dp) {
    const psg_accountant *recorded = psg_dp_accountant(dp);
    psg_accountant *accountant;
    AUDIT_OK(context, psg_accountant_create(context, psg_accountant_relation(recorded), &accountant));
    for (size_t k = 0; k < psg_accountant_runs(recorded); k++) {
        psg_event event;
        uint64_t releases;
        AUDIT_OK(context, psg_accountant_run(recorded, k, &event, &releases));
        AUDIT_OK(context, psg_accountant_add(accountant, &event, releases));
    }
    return accountant;
}
