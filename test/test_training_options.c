/* The command line of the training program, and what follows from it before any record is read. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../bench/train/training_plan.h"

enum { MOST_ARGUMENTS = 20 };
static char said[4096];

static FILE *catch_stderr(int *copy) {
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stderr);
    *copy = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    return file;
}

static void release_stderr(FILE *file, int copy) {
    fflush(stderr);
    dup2(copy, STDERR_FILENO);
    close(copy);
    rewind(file);
    said[fread(said, 1, sizeof said - 1, file)] = 0;
    fclose(file);
}

/* Words of a command line, in memory of the caller's: options keep some of them. */
static int words_of(const char *line, char *text, char **argument) {
    int count = 0;
    strcpy(text, line);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) argument[count++] = word;
    assert_true(count < MOST_ARGUMENTS);
    return count;
}

/* What is printed to stderr is kept in `said`. */
static int reads(const char *line, char *text, training_options *options) {
    char *argument[MOST_ARGUMENTS];
    int copy, count = words_of(line, text, argument);
    FILE *file = catch_stderr(&copy);
    int result = training_options_read(options, count, argument);
    release_stderr(file, copy);
    return result;
}

typedef struct refusal { const char *line, *words; } refusal;

static void wrong_arguments_are_refused_by_name(void **state) {
    static const refusal rows[] = {
        { "train --model resnet", "--model: resnet is no model" },
        { "train --epsilon 0", "--epsilon: 0 is not a number above 0" },
        { "train --epsilon nan", "--epsilon: nan is not" },
        { "train --delta 1", "--delta: 1 is not a number above 0 and up to 0.9999" },
        { "train --clip -1", "--clip: -1 is not" },
        { "train --lr 0", "--lr: 0 is not" },
        { "train --momentum 1", "--momentum: 1 is not a number from 0 to below 1" },
        { "train --threads 65", "--threads: 65 is not a whole number from 0 to 64" },
        { "train --seed -1", "--seed: -1 is not a whole number" },
        { "train model", "train: unexpected argument model" },
        { "train --resume --model cnn", "--resume: the run goes on with the options it began with, and --model is" },
        { "train --epsilon 4 --resume", "and --epsilon is given" },
        { "train --resume --seed 0", "and --seed is given" },
    };
    (void)state;
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        training_options options;
        char text[256];
        assert_int_equal(reads(rows[k].line, text, &options), -1);
        if (!strstr(said, rows[k].words)) fail_msg("%s: said %s", rows[k].line, said);
    }
}

/* Each model takes each option, and its recipe gives what is not said. */
static void options_hold_for_every_model(void **state) {
    (void)state;
    for (size_t k = 0; k < image_model_count; k++) {
        const training_recipe *r = &image_models[k].recipe;
        training_options options;
        char line[256], text[256];
        snprintf(line, sizeof line, "train --model %s", image_models[k].kind.name);
        assert_int_equal(reads(line, text, &options), 0);
        assert_true(options.model == &image_models[k].kind && options.input == image_models[k].input);
        assert_true(options.recipe.momentum == r->momentum && options.recipe.lr == r->lr);
        assert_true(options.epsilon == 3 && options.delta == 1e-5 && !options.seeded && !options.resumes);
        snprintf(line, sizeof line, "train --momentum 0 --lr 0.25 --clip 2 --batch 64 --epochs 3 --epsilon 1 "
                 "--delta 1e-6 --model %s", image_models[k].kind.name);
        assert_int_equal(reads(line, text, &options), 0);
        assert_true(options.recipe.momentum == 0 && options.recipe.lr == 0.25 && options.recipe.max_grad_norm == 2);
        assert_true(options.recipe.batch == 64 && options.recipe.epochs == 3);
        assert_true(options.recipe.average_decay == r->average_decay);
        assert_true(options.epsilon == 1 && options.delta == 1e-6);
    }
}

static void a_run_goes_on_as_it_began(void **state) {
    training_options now, options;
    char line[256], began[256], *argument[MOST_ARGUMENTS];
    (void)state;
    assert_int_equal(reads("train --resume --threads 3 --data /here --folder /there", line, &now), 0);
    int count = words_of("--model lstm --epsilon 2 --threads 1 --seed 7 --data /old --folder /gone", began, argument);
    assert_int_equal(training_options_resume(&options, &now, count, argument), 0);
    assert_string_equal(options.model->name, "lstm");
    assert_true(options.epsilon == 2 && options.seeded && options.seed == 7 && options.resumes == 1);
    assert_true(options.threads == 3);
    assert_string_equal(options.data, "/here");
    assert_string_equal(options.folder, "/there");

    assert_int_equal(reads("train --resume", line, &now), 0);
    count = words_of("--threads 1 --data /old", began, argument);
    assert_int_equal(training_options_resume(&options, &now, count, argument), 0);
    assert_true(options.threads == 1);
    assert_string_equal(options.data, "/old");
}

/* Of 60,000 records, none of which is there. */
static void plans_that_make_no_sense_are_refused(void **state) {
    static const refusal rows[] = {
        { "train --batch 60001", "--batch: 60001 records are expected in a batch, must be at most the 60000" },
        { "train --epochs 0.01", "--epochs: 0.01 of 60000 records in batches of 8192 are 0.0732" },
        { "train --epochs 1e6 --batch 1", "--epochs: 1e+06 of 60000" },
        { "train --epsilon 1e-9 --delta 1e-12", "--epsilon: no noise keeps 293 steps" },
    };
    psg_context *context = test_context(1, NULL);
    training_options options;
    training_plan plan;
    char text[256];
    (void)state;
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        int copy;
        assert_int_equal(reads(rows[k].line, text, &options), 0);
        FILE *file = catch_stderr(&copy);
        int result = training_plan_make(context, &options, 60000, &plan);
        release_stderr(file, copy);
        assert_int_equal(result, -1);
        if (!strstr(said, rows[k].words)) fail_msg("%s: said %s", rows[k].line, said);
    }
    assert_int_equal(reads("train --epochs 2 --batch 60000", text, &options), 0);
    assert_int_equal(training_plan_make(context, &options, 60000, &plan), 0);
    assert_true(plan.steps == 2 && plan.sample_rate == 1 && plan.records == 60000);
    test_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_arguments_are_refused_by_name),
        cmocka_unit_test(options_hold_for_every_model),
        cmocka_unit_test(a_run_goes_on_as_it_began),
        cmocka_unit_test(plans_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
