/* The ledger: every release is in the file before it is made, whoever shares the file, and nothing of it is believed
 * that is not a chain of whole lines. */
#include "saved_run.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct place {
    char folder[RUN_PATH], ledger[RUN_PATH];
    psg_context *context;
} place;

static place place_new(test_allocator *allocator) {
    place p;
    saved_folder_make(p.folder);
    saved_path(p.folder, "ledger", p.ledger);
    p.context = test_context_with(allocator, 1, NULL, 0);
    return p;
}

static void place_free(place *p) {
    test_context_free(p->context);
    saved_folder_remove(p->folder);
}

static void refused(const place *p, psg_status status, psg_status expected, const char *words) {
    test_status(p->context, status, expected, words);
    if (!strstr(psg_context_message(p->context), words)) fail_msg("%s", psg_context_message(p->context));
}

static psg_status read_it(const place *p, psg_accountant **accountant) {
    return psg_ledger_read(p->context, p->ledger, PSG_ADD_OR_REMOVE_ONE, accountant);
}

static void file_is_refused(const place *p, psg_status expected, const char *words) {
    psg_dp_options options = saved_options(p->ledger);
    psg_accountant *accountant;
    saved_run run;
    refused(p, read_it(p, &accountant), expected, words);
    assert_null(accountant);
    refused(p, saved_run_try(p->context, &options, 0, &run), expected, words);
    saved_run_free(&run);
}

/* ---- what is recorded ---- */

/* The hook sees the sums before noise: the line must be there then. */
typedef struct witness {
    const place *place;
    saved_run *run;
} witness;

static psg_status look(void *user, int64_t *sums, size_t count) {
    const witness *w = user;
    (void)sums, (void)count;
    assert_int_equal(saved_releases(w->place->context, w->place->ledger), psg_dp_step(w->run->dp) + 1);
    return PSG_OK;
}

static void a_step_is_on_disk_before_its_sums_leave(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_dp_options options = saved_options(p.ledger);
    saved_run run;
    saved_run_make(p.context, &options, 0, &run);
    witness w = { &p, &run };
    psg_dp_set_reduce(run.dp, look, &w);
    assert_int_equal(saved_releases(p.context, p.ledger), 0);
    for (uint64_t t = 0; t < 5; t++) saved_run_steps(&run, 1);
    saved_run_free(&run);
    place_free(&p);
}

/* The accountant of the file, of the mechanism and of a mechanism without a ledger say the same. */
static void the_file_costs_what_the_run_costs(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_dp_options options = saved_options(p.ledger);
    saved_run run, other;
    saved_run_make(p.context, &options, 0, &run);
    options.ledger = NULL;
    options.ledger_ahead = 0;
    saved_run_make(p.context, &options, 0, &other);
    saved_run_steps(&run, 20);
    saved_run_steps(&other, 20);
    psg_accountant *accountant;
    double epsilon;
    TEST_OK(p.context, read_it(&p, &accountant));
    TEST_OK(p.context, psg_accountant_epsilon_upper(accountant, 1e-5, &epsilon));
    assert_true(epsilon == saved_run_epsilon(&run) && epsilon == saved_run_epsilon(&other));
    assert_true(epsilon > 1);
    psg_accountant_destroy(accountant);
    saved_run_free(&other);
    saved_run_free(&run);
    place_free(&p);
}

/* What is recorded ahead counts at once, is used up before more is, and never goes beyond the budget. */
static void steps_recorded_ahead_are_spent(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_dp_options options = saved_options(p.ledger);
    saved_run run;
    options.ledger_ahead = 8;
    options.epsilon = 50;
    options.delta = 1e-5;
    options.steps = 20;
    saved_run_make(p.context, &options, 0, &run);
    const uint64_t recorded[] = { 8, 16, 20 };
    for (uint64_t t = 1; t <= 20; t++) {
        saved_run_steps(&run, 1);
        assert_int_equal(saved_releases(p.context, p.ledger), recorded[(t - 1) / 8]);
        assert_int_equal(psg_accountant_releases(psg_dp_accountant(run.dp)), recorded[(t - 1) / 8]);
        assert_int_equal(psg_dp_recorded_ahead(run.dp), recorded[(t - 1) / 8] - t);
        assert_int_equal(psg_dp_remaining(run.dp), 20 - t);
    }
    refused(&p, saved_run_step(&run), PSG_ERR_BUDGET, "allows 20 releases");
    saved_run_free(&run);
    place_free(&p);
}

/* Left to itself it records 1, 2, 4, ... and then 32 steps a line, however long they take. */
static void lines_grow_to_their_bound(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_dp_options options = saved_options(p.ledger);
    saved_run run;
    options.ledger_ahead = 0;
    saved_run_make(p.context, &options, 0, &run);
    uint64_t recorded = 0, line = 1;
    for (uint64_t t = 0; t < 200; t++) {
        if (t == recorded) {
            recorded += line;
            line = line < 32 ? 2 * line : 32;
        }
        saved_run_steps(&run, 1);
        assert_int_equal(psg_accountant_releases(psg_dp_accountant(run.dp)), recorded);
    }
    saved_run_free(&run);
    place_free(&p);
}

/* ---- several runs ---- */

static void costs_of_runs_add(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_dp_options options = saved_options(p.ledger);
    saved_run first, second;
    saved_run_make(p.context, &options, 0, &first);
    saved_run_steps(&first, 7);
    options.noise_multiplier = 2;
    saved_run_make(p.context, &options, 0, &second);
    assert_int_equal(psg_accountant_releases(psg_dp_accountant(second.dp)), 7);
    assert_int_equal(psg_dp_step(second.dp), 0);
    saved_run_steps(&second, 3);
    saved_run_steps(&first, 1);   /* sees the others' lines, then writes its own */
    assert_int_equal(psg_accountant_releases(psg_dp_accountant(first.dp)), 11);
    assert_int_equal(psg_accountant_releases(psg_dp_accountant(second.dp)), 10);
    saved_run_steps(&second, 1);
    assert_true(saved_run_epsilon(&second) >= saved_run_epsilon(&first));
    assert_int_equal(saved_releases(p.context, p.ledger), 12);
    saved_run_free(&second);
    saved_run_free(&first);
    place_free(&p);
}

/* A budget is that of everything in the file: what another run spends ends this one. */
static void a_budget_is_of_the_whole_file(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_dp_options options = saved_options(p.ledger);
    saved_run bounded, other;
    psg_event event = PSG_EVENT_INIT;
    options.epsilon = 8;
    options.delta = 1e-5;
    saved_run_make(p.context, &options, 0, &bounded);
    const uint64_t all = psg_dp_remaining(bounded.dp);
    assert_in_range(all, 10, 1000);
    options.epsilon = options.delta = 0;
    saved_run_make(p.context, &options, 0, &other);
    saved_run_steps(&other, (int)all - 3);
    saved_run_steps(&bounded, 3);
    refused(&p, saved_run_step(&bounded), PSG_ERR_BUDGET, "beside what else the ledger holds");
    assert_int_equal(psg_dp_step(bounded.dp), 3);
    assert_true(saved_run_epsilon(&bounded) <= 8);
    event.sampling = PSG_SAMPLING_EXTERNAL;
    event.rho = 100;
    TEST_OK(p.context, psg_ledger_record(p.context, p.ledger, PSG_ADD_OR_REMOVE_ONE, &event, 1));
    options.epsilon = 8;
    options.delta = 1e-5;
    saved_run_free(&other);
    saved_run_make(p.context, &options, 0, &other);   /* there is nothing left, which the first draw says */
    assert_int_equal(psg_dp_remaining(other.dp), 0);
    refused(&p, saved_run_step(&other), PSG_ERR_BUDGET, "is spent by what the ledger holds");
    saved_run_free(&other);
    saved_run_free(&bounded);
    place_free(&p);
}

/* What a mechanism says of itself is of the file as it is, though another one wrote last. */
static void what_others_spend_is_told_at_once(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_dp_options options = saved_options(p.ledger);
    saved_run quiet, busy;
    psg_privacy privacy;
    char text[4096];
    options.epsilon = 20;
    options.delta = 1e-5;
    saved_run_make(p.context, &options, 0, &quiet);
    saved_run_make(p.context, &options, 0, &busy);
    saved_run_steps(&quiet, 1);
    const uint64_t left = psg_dp_remaining(quiet.dp);
    saved_run_steps(&busy, 5);
    assert_in_range(psg_dp_remaining(quiet.dp), left - 6, left - 4);
    saved_run_steps(&busy, 5);
    TEST_OK(p.context, psg_dp_privacy(quiet.dp, 1e-5, &privacy));
    assert_true(privacy.epsilon == saved_run_epsilon(&busy));
    saved_run_steps(&busy, 1);
    TEST_OK(p.context, psg_dp_statement(quiet.dp, 1e-5, PSG_STATEMENT_WORDS, text, sizeof text, NULL));
    assert_non_null(strstr(text, "those of all 12 in it"));
    saved_write(p.ledger, "", 0);
    assert_int_equal(psg_dp_remaining(quiet.dp), 1);   /* a loop over what remains meets the reason */
    refused(&p, saved_run_step(&quiet), PSG_ERR_FORMAT, "lines were removed");
    refused(&p, psg_dp_privacy(quiet.dp, 1e-5, &privacy), PSG_ERR_FORMAT, "lines were removed");
    saved_run_free(&busy);
    saved_run_free(&quiet);
    place_free(&p);
}

static void a_seed_in_the_file_ends_privacy(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_dp_options options = saved_options(p.ledger);
    saved_run run;
    psg_accountant *accountant;
    saved_run_make(p.context, &options, 5, &run);
    saved_run_steps(&run, 1);
    saved_run_free(&run);
    TEST_OK(p.context, read_it(&p, &accountant));
    assert_false(psg_accountant_is_private(accountant));
    psg_accountant_destroy(accountant);
    saved_run_make(p.context, &options, 0, &run);
    assert_false(psg_accountant_is_private(psg_dp_accountant(run.dp)));
    saved_run_free(&run);
    place_free(&p);
}

/* Batches of epochs cost by their place in the epoch: lines of one run go on, another run begins its own. */
static void epochs_go_on_over_lines(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_dp_options options = saved_options(p.ledger);
    saved_run run, alone;
    options.sampling = PSG_SAMPLING_EPOCHS;
    options.sample_rate = 0;
    options.batch_size = 6;   /* ten batches an epoch */
    saved_run_make(p.context, &options, 0, &run);
    saved_run_steps(&run, 10);
    options.ledger = NULL;
    options.ledger_ahead = 0;
    saved_run_make(p.context, &options, 0, &alone);
    saved_run_steps(&alone, 10);
    psg_accountant *accountant;
    double epsilon;
    TEST_OK(p.context, read_it(&p, &accountant));
    TEST_OK(p.context, psg_accountant_epsilon_upper(accountant, 1e-5, &epsilon));
    assert_true(epsilon == saved_run_epsilon(&alone) && saved_run_epsilon(&run) == epsilon);
    psg_accountant_destroy(accountant);
    saved_run_free(&alone);
    saved_run_free(&run);
    place_free(&p);
}

/* ---- what the file may hold ---- */

/* A line that a killed process did not write to its hash was never released under; the next line takes its place. */
static void a_torn_end_is_cut(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_dp_options options = saved_options(p.ledger);
    saved_run run;
    size_t length;
    saved_run_make(p.context, &options, 0, &run);
    saved_run_steps(&run, 3);
    saved_run_free(&run);
    char *bytes = saved_bytes(p.ledger, &length);
    for (size_t cut = 2; cut < length / 3; cut += 7) {
        saved_write(p.ledger, bytes, length - cut);
        assert_int_equal(saved_releases(p.context, p.ledger), 2);
        saved_run_make(p.context, &options, 0, &run);
        saved_run_steps(&run, 2);
        saved_run_free(&run);
        assert_int_equal(saved_releases(p.context, p.ledger), 4);
    }
    memset(bytes + length - 40, 0, 40);   /* a file system that made the file longer and lost what was in it */
    memset(bytes + length / 3 * 2, 0, length / 3);
    saved_write(p.ledger, bytes, length);
    assert_int_equal(saved_releases(p.context, p.ledger), 2);
    free(bytes);
    place_free(&p);
}

/* A line that lacks its end alone may have been durable with it: it counts, and the next one brings the end. */
static void a_line_without_its_end_counts(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_dp_options options = saved_options(p.ledger);
    saved_run run, other;
    size_t length;
    saved_run_make(p.context, &options, 0, &run);
    saved_run_steps(&run, 3);
    saved_run_free(&run);
    char *bytes = saved_bytes(p.ledger, &length);
    saved_write(p.ledger, bytes, length - 1);
    assert_int_equal(saved_releases(p.context, p.ledger), 3);
    saved_run_make(p.context, &options, 0, &other);
    saved_run_make(p.context, &options, 0, &run);
    saved_run_steps(&run, 2);
    saved_run_steps(&other, 1);   /* which had read the line without its end */
    assert_int_equal(saved_releases(p.context, p.ledger), 6);
    saved_run_free(&run);
    saved_write(p.ledger, bytes, length - 1);
    saved_run_make(p.context, &options, 0, &run);
    FILE *file = fopen(p.ledger, "a");
    fputs("and more", file);
    fclose(file);
    refused(&p, saved_run_step(&run), PSG_ERR_FORMAT, "line 3 goes on after its hash");
    saved_run_free(&run);
    saved_run_free(&other);
    free(bytes);
    place_free(&p);
}

/* A file that is no ledger is not made one: nothing of it is cut away. */
static void other_files_are_left_as_they_are(void **state) {
    (void)state;
    place p = place_new(NULL);
    const char *const texts[] = { "my notes", "{\"some\": \"json\"}", "{", "x", "{\"psg_ledger\":1}", "\n" };
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
        size_t length;
        saved_write(p.ledger, texts[k], strlen(texts[k]));
        if (k == 2) continue;   /* may be the beginning of a line */
        file_is_refused(&p, PSG_ERR_FORMAT, "line 1 ");
        char *bytes = saved_bytes(p.ledger, &length);
        assert_string_equal(bytes, texts[k]);
        free(bytes);
    }
    char *large = calloc(1, 200000);
    memset(large, '[', 199999);
    saved_write(p.ledger, large, 199999);
    file_is_refused(&p, PSG_ERR_FORMAT, "line 1 is longer than any");
    large[3000] = '\n';
    saved_write(p.ledger, large, 199999);
    file_is_refused(&p, PSG_ERR_FORMAT, "line 1 is longer than any");
    free(large);
    place_free(&p);
}

/* Every bit of every line counts: of the chain, of the fields, of the names, of the hash; of the last line too. */
static void every_flipped_bit_is_noticed(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_dp_options options = saved_options(p.ledger);
    psg_accountant *accountant;
    saved_run run;
    size_t length;
    saved_run_make(p.context, &options, 0, &run);
    saved_run_steps(&run, 3);
    saved_run_free(&run);
    char *bytes = saved_bytes(p.ledger, &length);
    for (size_t at = length / 3; at < length - 1; at++) {   /* the end alone may be lost, see above */
        for (int bit = 0; bit < 8; bit++) {
            bytes[at] = (char)(bytes[at] ^ 1 << bit);
            saved_write(p.ledger, bytes, length);
            if (read_it(&p, &accountant) != PSG_ERR_FORMAT) fail_msg("bit %d of byte %zu", bit, at);
            bytes[at] = (char)(bytes[at] ^ 1 << bit);
        }
    }
    free(bytes);
    place_free(&p);
}

/* One field of a good line put in another's place, the line then hashed as it is. */
typedef struct fault {
    const char *from, *to, *words;
} fault;

/* Writes the hash of what stands before it into a line. */
static void hash_again(char *line) {
    char *at = strstr(line, ",\"hash\":\"");
    unsigned char bytes[32];
    if (!at) return;
    crypto_generichash(bytes, sizeof bytes, (const unsigned char *)line, (size_t)(at - line), NULL, 0);
    char hash[65];
    sodium_bin2hex(hash, sizeof hash, bytes, sizeof bytes);
    memcpy(at + strlen(",\"hash\":\""), hash, 64);
}

static const fault faults[] = {
    { "\"psg_ledger\":1", "\"psg_ledger\":2", "is of version 2, this library reads version 1" },
    { "\"psg_ledger\":1", "\"psg_ledger\":\"1\"", "is not of a ledger" },
    { "\"psg_ledger\":1,", "", "is not of a ledger" },
    { "\"count\":1", "\"count\":-1", "lacks a field" },
    { "\"count\":1", "\"count\":1.0", "lacks a field" },
    { "\"count\":1", "\"count\":1,\"more\":1", "lacks a field" },
    { "\"count\":1", "\"count\":1,\"count\":1", "is not JSON" },
    { "\"first\":0", "\"first\":9223372036854775807", "lacks a field" },
    { "\"sampling\":\"poisson\"", "\"sampling\":\"other\"", "unknown sampling" },
    { "\"sampling\":\"poisson\"", "\"sampling\":\"fixed_size\"", "no valid event" },
    { "\"relation\":\"add_or_remove_one\"", "\"relation\":\"none\"", "unknown sampling or relation" },
    { "\"relation\":\"add_or_remove_one\"", "\"relation\":\"replace_one\"", "must be for add_or_remove_one" },
    { "\"sample_rate\":0.25", "\"sample_rate\":1.25", "no valid event" },
    { "\"sample_rate\":0.25", "\"sample_rate\":null", "lacks a field" },
    { "\"run\":\"", "\"run\":\"z", "32 hexadecimal digits" },
    { "\"previous\":\"0", "\"previous\":\"1", "stands after a line of hash 0000" },
    { "\"count\":1", "\"count\":0", "has no step" },
    { "\"count\":1", "\"count\":4611686018427387905", "brings the releases to 2^62 or more" },
    { ",\"hash\":", ",\"hush\":", "does not end with its hash" },
    { "{", "[", "is not JSON" },
};

static void faulty_lines_are_refused(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_dp_options options = saved_options(p.ledger);
    saved_run run;
    size_t length;
    saved_run_make(p.context, &options, 0, &run);
    saved_run_steps(&run, 1);
    saved_run_free(&run);
    char *bytes = saved_bytes(p.ledger, &length), changed[4096];
    for (size_t k = 0; k < sizeof faults / sizeof *faults; k++) {
        char *at = strstr(bytes, faults[k].from);
        assert_non_null(at);
        int size = snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - bytes), bytes, faults[k].to,
                            at + strlen(faults[k].from));
        hash_again(changed);
        saved_write(p.ledger, changed, (size_t)size);
        file_is_refused(&p, PSG_ERR_FORMAT, faults[k].words);
    }
    free(bytes);
    place_free(&p);
}

/* What a file cannot hold is refused before it is written, so that the file stays readable. */
static void records_that_cannot_be_are_refused(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_event event = PSG_EVENT_INIT;
    event.sample_rate = 0.5;
    event.noise_multiplier = 1;
    for (int k = 0; k < 3; k++) {
        psg_status status = psg_ledger_record(p.context, p.ledger, PSG_ADD_OR_REMOVE_ONE, &event, (uint64_t)1 << 61);
        if (k < 2) TEST_OK(p.context, status);
        else refused(&p, status, PSG_ERR_OVERFLOW, "brings the releases to 2^62 or more");
    }
    refused(&p, psg_ledger_record(p.context, p.ledger, PSG_ADD_OR_REMOVE_ONE, &event, 0), PSG_ERR_OVERFLOW, "has no step");
    assert_int_equal(saved_releases(p.context, p.ledger), (uint64_t)1 << 62);
    place_free(&p);
}

/* The line of step 1 taken out, and the chain mended by who knows how: the steps of the run tell. */
static void steps_of_a_run_follow_one_another(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_dp_options options = saved_options(p.ledger);
    saved_run run;
    size_t length;
    saved_run_make(p.context, &options, 0, &run);
    saved_run_steps(&run, 3);
    saved_run_free(&run);
    char *bytes = saved_bytes(p.ledger, &length), changed[8192];
    char *second = strchr(bytes, '\n') + 1, *third = strchr(second, '\n') + 1;
    memcpy(changed, bytes, (size_t)(second - bytes));
    strcpy(changed + (second - bytes), third);
    char *line = changed + (second - bytes);
    memcpy(strstr(line, "previous\":\"") + strlen("previous\":\""), strstr(bytes, "hash\":\"") + strlen("hash\":\""), 64);
    hash_again(line);
    saved_write(p.ledger, changed, strlen(changed));
    file_is_refused(&p, PSG_ERR_FORMAT, "line 2 does not begin where its run has ended");
    free(bytes);
    place_free(&p);
}

static void what_is_no_ledger_is_refused(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_accountant *accountant;
    psg_event event = PSG_EVENT_INIT;
    event.sample_rate = 0.5;
    event.noise_multiplier = 1;
    refused(&p, read_it(&p, &accountant), PSG_ERR_FILE, "No such file");
    assert_int_not_equal(access(p.ledger, F_OK), 0);   /* reading does not begin one */
    assert_int_equal(mkfifo(p.ledger, 0600), 0);
    file_is_refused(&p, PSG_ERR_FILE, "no regular file");
    remove(p.ledger);
    assert_int_equal(mkdir(p.ledger, 0700), 0);
    psg_dp_options options = saved_options(p.ledger);
    saved_run run;
    refused(&p, saved_run_try(p.context, &options, 0, &run), PSG_ERR_FILE, "open: Is a directory");
    saved_run_free(&run);
    rmdir(p.ledger);
    refused(&p, psg_ledger_read(p.context, NULL, PSG_ADD_OR_REMOVE_ONE, &accountant), PSG_ERR_ARGUMENT, "path");
    refused(&p, psg_ledger_read(p.context, p.ledger, PSG_ADD_OR_REMOVE_ONE, NULL), PSG_ERR_ARGUMENT, "accountant");
    assert_int_equal(psg_ledger_read(NULL, p.ledger, PSG_ADD_OR_REMOVE_ONE, &accountant), PSG_ERR_ARGUMENT);
    assert_int_equal(psg_ledger_record(NULL, p.ledger, PSG_ADD_OR_REMOVE_ONE, &event, 1), PSG_ERR_ARGUMENT);
    refused(&p, psg_ledger_record(p.context, NULL, PSG_ADD_OR_REMOVE_ONE, &event, 1), PSG_ERR_ARGUMENT, "path");
    refused(&p, psg_ledger_record(p.context, p.ledger, PSG_ADD_OR_REMOVE_ONE, NULL, 1), PSG_ERR_ARGUMENT, "event");
    options.ledger = "";
    refused(&p, saved_run_try(p.context, &options, 0, &run), PSG_ERR_ARGUMENT, "ledger is \"\"");
    saved_run_free(&run);
    options.ledger = NULL;
    refused(&p, saved_run_try(p.context, &options, 0, &run), PSG_ERR_ARGUMENT, "ledger_ahead is 1");
    saved_run_free(&run);
    place_free(&p);
}

/* What is appended to a file that has lost its name, or its lines, would be lost. */
static void a_file_that_changed_stops_releases(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_dp_options options = saved_options(p.ledger);
    char aside[RUN_PATH];
    saved_run run;
    size_t length;
    saved_run_make(p.context, &options, 0, &run);
    saved_run_steps(&run, 2);
    double weights[RUN_WEIGHT];
    memcpy(weights, run.weight, sizeof weights);
    rename(p.ledger, saved_path(p.folder, "aside", aside));
    refused(&p, saved_run_step(&run), PSG_ERR_FILE, "No such file");
    saved_write(p.ledger, "", 0);
    refused(&p, psg_dp_release_to(run.dp, run.optimizer), PSG_ERR_FILE, "another file");
    rename(aside, p.ledger);
    char *bytes = saved_bytes(p.ledger, &length);
    assert_int_equal(truncate(p.ledger, (off_t)length / 2), 0);
    refused(&p, psg_dp_release_to(run.dp, run.optimizer), PSG_ERR_FORMAT, "lines were removed");
    assert_memory_equal(weights, run.weight, sizeof weights);
    assert_int_equal(psg_dp_step(run.dp), 2);
    FILE *file = fopen(p.ledger, "r+");   /* the same file with its bytes again: the step goes on */
    fwrite(bytes, 1, length, file);
    fclose(file);
    TEST_OK(p.context, psg_dp_release_to(run.dp, run.optimizer));
    assert_int_equal(saved_releases(p.context, p.ledger), 3);
    free(bytes);
    saved_run_free(&run);
    place_free(&p);
}

/* A process may change its folder: the ledger stays where it was opened. */
static void a_relative_path_stays(void **state) {
    (void)state;
    place p = place_new(NULL);
    char before[RUN_PATH];
    saved_run run;
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(p.folder), 0);
    psg_dp_options options = saved_options("ledger");
    saved_run_make(p.context, &options, 0, &run);
    assert_int_equal(chdir(before), 0);
    saved_run_steps(&run, 2);
    assert_int_equal(saved_releases(p.context, p.ledger), 2);
    saved_run_free(&run);
    place_free(&p);
}

static void a_statement_tells_of_the_ledger(void **state) {
    (void)state;
    place p = place_new(NULL);
    psg_dp_options options = saved_options(p.ledger);
    char text[4096];
    saved_run run;
    options.ledger_ahead = 4;
    saved_run_make(p.context, &options, 0, &run);
    saved_run_steps(&run, 2);
    TEST_OK(p.context, psg_dp_statement(run.dp, 1e-5, PSG_STATEMENT_WORDS, text, sizeof text, NULL));
    assert_non_null(strstr(text, "Releases: 2.\nLedger: "));
    assert_non_null(strstr(text, "those of all 4 in it"));
    TEST_OK(p.context, psg_dp_statement(run.dp, 1e-5, PSG_STATEMENT_JSON, text, sizeof text, NULL));
    assert_non_null(strstr(text, "\"releases\": 2, \"has_earlier\": false, \"recorded\": 4"));
    saved_run_free(&run);
    place_free(&p);
}

/* Wherever memory ends, the step can be tried again, and nothing was made that is not recorded. */
static void without_memory_nothing_is_released(void **state) {
    (void)state;
    test_allocator allocator = { 0 };
    place p = place_new(&allocator);
    psg_dp_options options = saved_options(p.ledger);
    saved_run run, other;
    options.noise_multiplier = 2;
    saved_run_make(p.context, &options, 0, &other);
    options.noise_multiplier = 1;
    saved_run_make(p.context, &options, 0, &run);
    saved_run_steps(&run, 1);
    uint64_t made = 1, others = 0;
    bool failed = true;
    for (uint64_t n = 1; failed; n++) {
        saved_run_steps(&other, 1);   /* so that there is something to read and to count */
        others++;
        psg_batch batch;
        TEST_OK(p.context, psg_dp_sample(run.dp, &batch));
        test_allocator_arm(&allocator, n, false);
        psg_status status = psg_dp_release_to(run.dp, run.optimizer);
        test_allocator_arm(&allocator, 0, false);
        failed = status != PSG_OK;
        if (failed) test_status(p.context, status, PSG_ERR_MEMORY, "release");
        made += !failed;
        assert_int_equal(psg_dp_step(run.dp), made);
        if (failed) TEST_OK(p.context, psg_dp_release_to(run.dp, run.optimizer));
        made += failed;
        assert_int_equal(psg_accountant_releases(psg_dp_accountant(run.dp)), made + others);
        assert_int_equal(saved_releases(p.context, p.ledger), made + others);
    }
    assert_true(others > 3);
    for (uint64_t n = 1; ; n++) {
        saved_run again;
        test_allocator_arm(&allocator, n, false);
        psg_status status = saved_run_try(p.context, &options, 0, &again);
        test_allocator_arm(&allocator, 0, false);
        saved_run_free(&again);
        if (!status) break;
        assert_int_equal(status, PSG_ERR_MEMORY);
    }
    saved_run_free(&other);
    saved_run_free(&run);
    place_free(&p);
    assert_int_equal(allocator.live_blocks, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_is_on_disk_before_its_sums_leave),
        cmocka_unit_test(the_file_costs_what_the_run_costs),
        cmocka_unit_test(steps_recorded_ahead_are_spent),
        cmocka_unit_test(lines_grow_to_their_bound),
        cmocka_unit_test(costs_of_runs_add),
        cmocka_unit_test(a_budget_is_of_the_whole_file),
        cmocka_unit_test(what_others_spend_is_told_at_once),
        cmocka_unit_test(a_seed_in_the_file_ends_privacy),
        cmocka_unit_test(epochs_go_on_over_lines),
        cmocka_unit_test(a_torn_end_is_cut),
        cmocka_unit_test(a_line_without_its_end_counts),
        cmocka_unit_test(other_files_are_left_as_they_are),
        cmocka_unit_test(records_that_cannot_be_are_refused),
        cmocka_unit_test(steps_of_a_run_follow_one_another),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(faulty_lines_are_refused),
        cmocka_unit_test(what_is_no_ledger_is_refused),
        cmocka_unit_test(a_file_that_changed_stops_releases),
        cmocka_unit_test(a_relative_path_stays),
        cmocka_unit_test(a_statement_tells_of_the_ledger),
        cmocka_unit_test(without_memory_nothing_is_released),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
