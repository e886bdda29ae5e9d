/* Trains a classifier on Fashion-MNIST with DP-SGD.
 *
 * A step, in train_step, is the whole of libpsg in one function: ops -> tape -> clipped sum -> release -> optimizer. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <psg/psg.h>

#include "progress.h"
#include "resident.h"
#include "run_results.h"
#include "step_times.h"
#include "trainer.h"

/* Of the samples of one step.  None of it is private. */
typedef struct step_report {
    double loss;
    long correct, clipped;
    size_t samples;
} step_report;

static psg_status add_to_report(const trainer *t, const micro_batch *batch, psg_var scores, psg_var loss,
                                const psg_clip_report *clip, step_report *report) {
    psg_tensor score, value;
    TRY(psg_value(t->tape, scores, &score));
    TRY(psg_value(t->tape, loss, &value));
    report->loss += *(const float *)value.data * (double)batch->count;
    report->correct += trainer_correct(&score, batch);
    report->clipped += (long)clip->clipped;
    report->samples += batch->count;
    return PSG_OK;
}

/* One step of DP-SGD on a drawn batch; an empty one is a step too, and its update is noise. */
static psg_status train_step(trainer *t, const dataset *data, const psg_batch *drawn, step_report *report,
                             diagnostics *seen) {
    model_gradients gradients;
    psg_pass pass = PSG_PASS_INIT;
    psg_clip_report clip;
    for (int64_t first = 0; first < drawn->count; first += (int64_t)t->capacity) {
        micro_batch batch = trainer_gather(t, data, drawn->ids + first, (size_t)(drawn->count - first));
        psg_batch part = psg_batch_part(drawn, first, (int64_t)batch.count);
        pass.batch = &part;
        TRY(psg_tape_begin(t->tape, &pass));
        psg_var images = psg_input(t->tape, &batch.images);
        psg_var labels = psg_input(t->tape, &batch.labels);
        psg_var scores = model_scores(&t->model, t->tape, images);
        psg_var loss = psg_cross_entropy(t->tape, scores, labels, NULL);
        TRY(psg_backward(t->tape, loss));
        TRY(model_gradients_of(&t->model, t->tape, &gradients));
        TRY(diagnostics_add(seen, t, &gradients, batch.count));
        TRY(psg_dp_accumulate(t->dp, &part, gradients.list, (size_t)t->model.count, &clip));
        TRY(add_to_report(t, &batch, scores, loss, &clip, report));
    }
    return psg_dp_release_to(t->dp, t->sgd);
}

static psg_status train_step_quietly(trainer *t, const dataset *data, const psg_batch *drawn) {
    step_report report = { 0 };
    return train_step(t, data, drawn, &report, NULL);
}

static psg_status epsilon_so_far(const trainer *t, double delta, double *epsilon) {
    return psg_accountant_epsilon_upper(psg_dp_accountant(t->dp), delta, epsilon);
}

static psg_status show(progress *bar, long step, const trainer *t, double delta, const step_report *report) {
    char text[120];
    double epsilon, samples = fmax(1.0, (double)report->samples);
    if (!progress_is_due(bar, step)) return PSG_OK;
    TRY(epsilon_so_far(t, delta, &epsilon));
    snprintf(text, sizeof text, "epsilon %.2f  not private: loss %.3f accuracy %.1f%% clipped %.0f%%", epsilon,
             report->loss / samples, 100.0 * (double)report->correct / samples,
             100.0 * (double)report->clipped / samples);
    progress_show(bar, step, text);
    return PSG_OK;
}

/* ---- an interruption ---- */

static volatile sig_atomic_t is_interrupted;

static void interrupt(int signal_number) {
    (void)signal_number;
    is_interrupted = 1;
}

/* The first one ends the run after a step, the second at once. */
static void catch_interruptions(void) {
    struct sigaction action = { .sa_handler = interrupt, .sa_flags = (int)(SA_RESETHAND | SA_RESTART) };
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* Steps that the ledger has recorded already would be lost: they are made first. */
static int is_to_end(const trainer *t) { return is_interrupted && !psg_dp_recorded_ahead(t->dp); }

/* The steps from where the run is to its end, to an interruption or to the end of the budget. */
static psg_status train(trainer *t, const training_plan *plan, double delta, const dataset *data, run_folder *folder,
                        diagnostics *seen) {
    progress bar = progress_start(plan->steps, (long)psg_dp_step(t->dp));
    for (long step = bar.first; step < plan->steps && psg_dp_remaining(t->dp) && !is_to_end(t); step++) {
        step_report report = { 0 };
        psg_batch batch;
        TRY(psg_dp_sample(t->dp, &batch));
        TRY(train_step(t, data, &batch, &report, seen));
        trainer_average(t, step);
        diagnostics_end_step(seen, step + 1, report.loss, (double)report.clipped, report.samples);
        TRY(show(&bar, step + 1, t, delta, &report));
        if (run_folder_is_due(folder)) TRY(run_folder_save(folder, t));
    }
    progress_end(&bar);
    return run_folder_save(folder, t);
}

/* ---- the run ---- */

static void print_plan(const training_options *options, const training_plan *plan, const trainer *t,
                       const dataset *data) {
    printf("%lld images, %lld parameters, %u threads, %s\n", (long long)data->count,
           (long long)t->model.size, psg_context_threads(t->context), psg_context_isa(t->context));
    printf("DP-SGD: %ld steps, Poisson batches of %g expected (rate %.5f), max_grad_norm %g, noise_multiplier %.4f,\n"
           "at most epsilon %g at delta %g (records added or removed)\n", plan->steps, options->recipe.batch,
           plan->sample_rate, options->recipe.max_grad_norm, psg_dp_noise_multiplier(t->dp), options->epsilon,
           options->delta);
    if (options->seeded) puts("NOT PRIVATE: with --seed anybody can compute the noise");
}

static psg_status print_statement(const trainer *t, double delta) {
    char text[4096];
    TRY(psg_dp_statement(t->dp, delta, PSG_STATEMENT_WORDS, text, sizeof text, NULL));
    printf("\n%s\n", text);
    return PSG_OK;
}

/* The last line printed. */
static void print_result(const report_facts *facts, double epsilon, double seconds) {
    printf("result: test_accuracy=%.2f epsilon=%.2f delta=%g train_seconds=%.1f ms_private=%.2f ms_plain=%.2f "
           "ms_loop=%.1f\n", 100.0 * facts->test->accuracy, epsilon, facts->options->delta, seconds,
           facts->times.ms_private, facts->times.ms_plain, facts->times.ms_loop);
}

/* What the run gave, its accuracy first; then times, which take a while, and the files. */
static psg_status report_run(report_facts *facts, const evaluation *accuracy, const dataset *test, run_folder *folder,
                             const diagnostics *seen, double seconds) {
    const training_options *options = facts->options;
    double epsilon;
    facts->test = accuracy;
    TRY(epsilon_so_far(facts->t, options->delta, &epsilon));
    printf("test accuracy %.2f%% at epsilon %.2f, delta %g%s\n", 100.0 * accuracy->accuracy, epsilon, options->delta,
           options->seeded ? " (NOT PRIVATE: seeded)" : "");
    TRY(print_statement(facts->t, options->delta));
    TRY(step_times_measure(options, facts->plan, test, train_step_quietly, &facts->times));
    TRY(run_results_write(folder, facts, seen, test));
    printf("%s has the run, as a page\n", folder->report);
    if (seen) printf("%s has what it saw: NOT PRIVATE\n", folder->diagnostics);
    print_result(facts, epsilon, seconds);
    return PSG_OK;
}

static psg_status evaluate_and_report(const training_options *options, const training_plan *plan, trainer *t,
                                      const dataset *test, run_folder *folder, const diagnostics *seen,
                                      double seconds) {
    report_facts facts = { .options = options, .plan = plan, .t = t, .peak_mib = resident_peak() };
    evaluation accuracy;
    psg_status status = evaluation_of(t, test, &accuracy);
    if (status == PSG_OK) status = report_run(&facts, &accuracy, test, folder, seen, seconds);
    evaluation_free(&accuracy);
    return status;
}

static psg_status start(const training_options *options, const training_plan *plan, trainer *t, const dataset *training,
                        run_folder *folder) {
    if (!options->resumes && run_folder_begin(folder)) return PSG_ERR_FILE;
    TRY(trainer_create(options, plan, folder->ledger, t));
    print_plan(options, plan, t, training);
    if (!options->resumes) return PSG_OK;
    TRY(run_folder_load(folder, t));
    printf("going on after step %llu; %llu releases are in the ledger\n", (unsigned long long)psg_dp_step(t->dp),
           (unsigned long long)psg_accountant_releases(psg_dp_accountant(t->dp)));
    return PSG_OK;
}

static void say_end(const training_plan *plan, const trainer *t) {
    const unsigned long long step = psg_dp_step(t->dp);
    if (is_interrupted) {
        printf("interrupted and saved after step %llu of %ld; --resume goes on (make run ARGS=\"--resume\")\n", step,
               plan->steps);
    } else if ((long)step < plan->steps) {
        printf("the budget is spent after step %llu of %ld: steps that were recorded and lost count too\n", step,
               plan->steps);
    }
}

static psg_status run(const training_options *options, const training_plan *plan, trainer *t, const dataset *training,
                      const dataset *test, run_folder *folder, diagnostics *seen) {
    TRY(start(options, plan, t, training, folder));
    catch_interruptions();
    double began = now_seconds();
    TRY(train(t, plan, options->delta, training, folder, seen));
    double seconds = now_seconds() - began;
    say_end(plan, t);
    if (is_interrupted) return PSG_OK;
    TRY(run_folder_write_weights(folder, t));
    return evaluate_and_report(options, plan, t, test, folder, seen, seconds);
}

static int run_and_report(const training_options *options, const training_plan *plan, const dataset *training,
                          const dataset *test, run_folder *folder) {
    trainer t = { 0 };
    diagnostics *seen = options->diagnoses ? diagnostics_create(plan->steps) : NULL;
    psg_status status = options->diagnoses && !seen ? PSG_ERR_MEMORY
                                                    : run(options, plan, &t, training, test, folder, seen);
    if (status != PSG_OK) fprintf(stderr, "%s: %s\n", psg_status_name(status), trainer_message(&t));
    trainer_destroy(&t);
    diagnostics_destroy(seen);
    return status != PSG_OK ? EXIT_FAILURE : is_interrupted ? 128 + SIGINT : EXIT_SUCCESS;
}

/* As the model reads them. */
static int read_as(const training_options *options, dataset *training, dataset *test) {
    if (options->input != INPUT_SCATTERING) return 0;
    double began = now_seconds();
    int failed = dataset_scatter(training, options->threads) || dataset_scatter(test, options->threads);
    if (!failed) printf("scattering transforms: %.1f s\n", now_seconds() - began);
    return failed;
}

static int load_and_run(psg_context *context, const training_options *options, const training_plan *plan,
                        run_folder *folder) {
    dataset training = { 0 }, test = { 0 };
    int failed = dataset_load(context, options->data, "train", &training) ||
                 dataset_load(context, options->data, "t10k", &test) || read_as(options, &training, &test);
    int code = failed ? EXIT_FAILURE : run_and_report(options, plan, &training, &test, folder);
    dataset_free(&training);
    dataset_free(&test);
    return code;
}

static int plan_and_run(const training_options *options, run_folder *folder) {
    training_plan plan;
    psg_context *context;
    psg_context_options one = PSG_CONTEXT_OPTIONS_INIT;
    one.threads = 1;
    if (psg_context_create(&one, &context) != PSG_OK) {
        fprintf(stderr, "%s\n", trainer_message(&(trainer){ 0 }));
        return EXIT_FAILURE;
    }
    const int64_t records = dataset_count(context, options->data, "train");
    int code = records < 0 ? EXIT_FAILURE : training_plan_make(context, options, records, &plan) ? 2 :
               load_and_run(context, options, &plan, folder);
    psg_context_destroy(context);
    return code;
}

/* With the options that the run began with, and those of this command line that may change. */
static int resume(const training_options *now, run_folder *folder) {
    training_options options;
    char **began = run_folder_arguments(folder);
    int count = 0;
    while (began && began[count]) count++;
    int code = !began ? EXIT_FAILURE : training_options_resume(&options, now, count, began) ? 2 :
               plan_and_run(&options, folder);
    run_folder_free_arguments(began);
    return code;
}

int main(int argc, char **argv) {
    training_options options;
    run_folder folder;
    int read = training_options_read(&options, argc, argv);
    if (read != 0) return read > 0 ? EXIT_SUCCESS : 2;
    if (run_folder_open(options.folder, argv + 1, &folder)) return EXIT_FAILURE;
    return options.resumes ? resume(&options, &folder) : plan_and_run(&options, &folder);
}
