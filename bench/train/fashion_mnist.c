/* Trains a classifier on Fashion-MNIST with DP-SGD.
 *
 * A step, in train_step, is the whole of libpsg in one function: ops -> tape -> clipped sum -> release -> optimizer. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <psg/psg.h>

#include "earlier_runs.h"
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

/* A run under way. */
typedef struct training_run {
    const training_options *options;
    const training_plan *plan;
    const dataset *training, *test;
    run_folder *folder;
    diagnostics *seen;          /* NULL: nothing is recorded */
    trainer t;
    double seconds;             /* of all steps of this process */
    int ended_by;               /* the signal that ended it, or 0 */
} training_run;

static psg_status epsilon_so_far(const training_run *r, double *epsilon) {
    return psg_accountant_epsilon_upper(psg_dp_accountant(r->t.dp), r->options->delta, epsilon);
}

static psg_status show(progress *bar, long step, const training_run *r, const step_report *report) {
    char text[120];
    double epsilon, samples = fmax(1.0, (double)report->samples);
    if (!progress_is_due(bar, step)) return PSG_OK;
    TRY(epsilon_so_far(r, &epsilon));
    snprintf(text, sizeof text, "epsilon %.2f  not private: loss %.3f accuracy %.1f%% clipped %.0f%%",
             bound_shown(epsilon), report->loss / samples, 100.0 * (double)report->correct / samples,
             100.0 * (double)report->clipped / samples);
    progress_show(bar, step, text);
    return PSG_OK;
}

/* ---- an interruption ---- */

static volatile sig_atomic_t caught;   /* the signal's number */

static void interrupt(int signal_number) { caught = signal_number; }

/* The first one ends the run after a step, the second at once. */
static void catch_interruptions(void) {
    struct sigaction action = { .sa_handler = interrupt, .sa_flags = (int)(SA_RESETHAND | SA_RESTART) };
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* Steps that the ledger has recorded already would be lost: they are made first. */
static int is_to_end(const trainer *t) { return caught && !psg_dp_recorded_ahead(t->dp); }

static psg_status step(training_run *r, long number, progress *bar) {
    step_report report = { 0 };
    psg_batch batch;
    TRY(psg_dp_sample(r->t.dp, &batch));
    TRY(train_step(&r->t, r->training, &batch, &report, r->seen));
    trainer_average(&r->t, number);
    diagnostics_end_step(r->seen, number + 1, report.loss, (double)report.clipped, report.samples);
    TRY(show(bar, number + 1, r, &report));
    return run_folder_is_due(r->folder) ? run_folder_save(r->folder, &r->t) : PSG_OK;
}

/* The steps from where the run is to its end, to an interruption or to the end of the budget. */
static psg_status train(training_run *r) {
    const long steps = r->plan->steps;
    const double began = now_seconds();
    progress bar = progress_start(steps, (long)psg_dp_step(r->t.dp));
    for (long k = bar.first; k < steps && psg_dp_remaining(r->t.dp) && !is_to_end(&r->t); k++) TRY(step(r, k, &bar));
    progress_end(&bar);
    r->seconds = now_seconds() - began;
    r->ended_by = caught;   /* one that comes later ends nothing */
    return run_folder_save(r->folder, &r->t);
}

/* ---- what it gave ---- */

static void print_plan(const training_run *r) {
    const training_options *options = r->options;
    printf("%lld images, %lld parameters, %u threads, %s\n", (long long)r->training->count, (long long)r->t.model.size,
           psg_context_threads(r->t.context), psg_context_isa(r->t.context));
    printf("DP-SGD: %ld steps, Poisson batches of %g expected (rate %.5f), max_grad_norm %g, noise_multiplier %.4f,\n"
           "at most epsilon %g at delta %g (records added or removed)\n", r->plan->steps, options->recipe.batch,
           r->plan->sample_rate, options->recipe.max_grad_norm, psg_dp_noise_multiplier(r->t.dp), options->epsilon,
           options->delta);
    if (options->seeded) puts("NOT PRIVATE: with --seed anybody can compute the noise");
}

/* The last line printed. */
static void print_result(const report_facts *facts, double epsilon) {
    printf("result: test_accuracy=%.2f epsilon=%.2f delta=%g ms_private=%.2f ms_plain=%.2f ms_loop=%.1f\n",
           100.0 * facts->test->accuracy, bound_shown(epsilon), facts->options->delta, facts->times.ms_private,
           facts->times.ms_plain, facts->times.ms_loop);
}

/* Its accuracy and statement first; then times, which take a while, and the pages. */
static psg_status report_run(const training_run *r, report_facts *facts) {
    double epsilon;
    TRY(epsilon_so_far(r, &epsilon));
    printf("test accuracy %.2f%% at epsilon %.2f, delta %g%s\n", 100.0 * facts->test->accuracy, bound_shown(epsilon),
           r->options->delta, r->options->seeded ? " (NOT PRIVATE: seeded)" : "");
    TRY(run_results_state(r->folder, &r->t, r->options->delta));
    TRY(earlier_runs_total(r->folder, &r->t, r->options->delta, &facts->total));
    earlier_runs_say(r->folder, &facts->total);
    printf("not private: training took %.1f s and at most %.0f MiB\n", r->seconds, facts->peak_mib);
    TRY(step_times_measure(r->options, r->plan, psg_dp_noise_multiplier(r->t.dp), r->test, train_step_quietly,
                           &facts->times));
    TRY(run_results_write(r->folder, facts, r->seen, r->test));
    printf("%s has the run, as a page\n", r->folder->report);
    if (r->seen) printf("%s has what it saw: NOT PRIVATE\n", r->folder->diagnostics);
    print_result(facts, epsilon);
    return PSG_OK;
}

static psg_status evaluate_and_report(training_run *r) {
    evaluation accuracy;
    report_facts facts = { .options = r->options, .plan = r->plan, .t = &r->t, .test = &accuracy,
                           .peak_mib = resident_peak() };
    psg_status status = evaluation_of(&r->t, r->test, &accuracy);
    if (status == PSG_OK) status = report_run(r, &facts);
    evaluation_free(&accuracy);
    return status;
}

/* ---- the run ---- */

/* A run that is killed before its first steps can go on too; one beside a ledger that cannot be read is not begun. */
static psg_status start(training_run *r) {
    TRY(trainer_create(r->options, r->plan, r->folder->ledger, &r->t));
    print_plan(r);
    TRY(earlier_runs_check(r->folder, &r->t));
    if (!r->options->resumes) return run_folder_save(r->folder, &r->t);
    TRY(run_folder_load(r->folder, &r->t));
    printf("going on after step %llu; %llu releases are in the ledger\n", (unsigned long long)psg_dp_step(r->t.dp),
           (unsigned long long)psg_accountant_releases(psg_dp_accountant(r->t.dp)));
    return PSG_OK;
}

static void say_end(const training_run *r) {
    const unsigned long long step = psg_dp_step(r->t.dp);
    if (r->ended_by) {
        printf("interrupted and saved after step %llu of %ld; --resume goes on (make run ARGS=\"--resume\")\n", step,
               r->plan->steps);
    } else if ((long)step < r->plan->steps) {
        printf("the budget is spent after step %llu of %ld: steps that were recorded and lost count too\n", step,
               r->plan->steps);
    }
}

static psg_status run(training_run *r) {
    catch_interruptions();
    TRY(start(r));
    TRY(train(r));
    say_end(r);
    if (r->ended_by) return PSG_OK;
    TRY(run_folder_write_weights(r->folder, &r->t));
    return evaluate_and_report(r);
}

static int run_and_tell(training_run *r) {
    psg_status status = PSG_ERR_MEMORY;
    if (r->options->diagnoses) r->seen = diagnostics_create(r->plan->steps);
    if (r->seen || !r->options->diagnoses) status = run(r);
    if (status != PSG_OK) fprintf(stderr, "%s: %s\n", psg_status_name(status), trainer_message(&r->t));
    trainer_destroy(&r->t);
    diagnostics_destroy(r->seen);
    if (status != PSG_OK) return EXIT_FAILURE;
    return r->ended_by ? 128 + r->ended_by : EXIT_SUCCESS;
}

/* As the model reads them. */
static int read_as(const training_options *options, dataset *training, dataset *test) {
    if (options->input != INPUT_SCATTERING) return 0;
    double began = now_seconds();
    int failed = dataset_scatter(training, options->threads) || dataset_scatter(test, options->threads);
    if (!failed) printf("scattering transforms: %.1f s\n", now_seconds() - began);
    return failed;
}

/* The data, and the folder where it is theirs. */
static int load(psg_context *context, const training_options *options, run_folder *folder, dataset *training,
                dataset *test) {
    return dataset_load(context, options->data, "train", training) ||
           dataset_load(context, options->data, "t10k", test) ||
           (options->resumes ? run_folder_check(folder, training) : run_folder_begin(folder, training)) ||
           read_as(options, training, test);
}

static int load_and_run(psg_context *context, const training_options *options, const training_plan *plan,
                        run_folder *folder) {
    dataset training = { 0 }, test = { 0 };
    training_run r = { .options = options, .plan = plan, .training = &training, .test = &test, .folder = folder };
    int code = load(context, options, folder, &training, &test) ? EXIT_FAILURE : run_and_tell(&r);
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
    int code = EXIT_FAILURE;
    const int64_t records = dataset_count(context, options->data, "train");
    if (records >= 0 && training_plan_make(context, options, records, &plan)) code = 2;
    else if (records >= 0) code = load_and_run(context, options, &plan, folder);
    psg_context_destroy(context);
    return code;
}

/* With the options that the run began with, and those of this command line that may change. */
static int resume(const training_options *now, run_folder *folder) {
    training_options options;
    char **began = run_folder_arguments(folder);
    int count = 0, code = EXIT_FAILURE;
    while (began && began[count]) count++;
    if (began && training_options_resume(&options, now, count, began)) code = 2;
    else if (began) code = plan_and_run(&options, folder);
    run_folder_free_arguments(began);
    return code;
}

int main(int argc, char **argv) {
    training_options options;
    run_folder folder;
    int read = training_options_read(&options, argc, argv);
    if (read != 0) return read > 0 ? EXIT_SUCCESS : 2;
    if (run_folder_open(options.folder, options.resumes, argv + 1, &folder)) return EXIT_FAILURE;
    return options.resumes ? resume(&options, &folder) : plan_and_run(&options, &folder);
}
