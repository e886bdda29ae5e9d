/* mpirun -n R fashion_mnist_ranks [options]: the training of fashion_mnist.c on the processes of an MPI program.
 * Each rank has its share of the records, and computes the features of those alone; weights, epsilon and the accuracy
 * are those of one process.  Rank 0 has the folder of the run, and prints. */
#include <stdio.h>
#include <stdlib.h>

#include <psg/mpi.h>
#include <psg/psg.h>

#include "earlier_runs.h"
#include "evaluation.h"
#include "run_results.h"
#include "trainer.h"

/* The records of this rank, [first, first + own.count) of all. */
typedef struct share {
    dataset own;
    int64_t first;
    int64_t *places;            /* of a batch's records among them */
} share;

typedef struct training {
    psg_mpi *mpi;
    training_options options;
    training_plan plan;
    run_folder folder;          /* rank 0's */
    trainer t;
    share data;
    double seconds;             /* of all steps */
} training;

static int is_first(const training *r) { return psg_mpi_rank(r->mpi) == 0; }

/* ---- the data ---- */

static int take_share(training *r, dataset *all) {
    const int64_t rank = psg_mpi_rank(r->mpi), ranks = psg_mpi_ranks(r->mpi);
    r->data.first = all->count * rank / ranks;
    r->data.own = (dataset){ .count = all->count * (rank + 1) / ranks - r->data.first };
    r->data.own.pixels = all->pixels + r->data.first * IMAGE_PIXELS;
    r->data.own.labels = all->labels + r->data.first;
    r->data.places = malloc((size_t)all->count * sizeof *r->data.places);
    if (!r->data.places) return -1;
    return r->options.input == INPUT_SCATTERING ? dataset_scatter(&r->data.own, r->options.threads) : 0;
}

/* ---- a step ---- */

static psg_status add_part(training *r, const psg_batch *part, double *loss) {
    trainer *t = &r->t;
    model_gradients gradients;
    psg_tensor value;
    const psg_pass pass = { .batch = part };
    for (int64_t n = 0; n < part->count; n++) r->data.places[n] = part->ids[n] - r->data.first;
    const micro_batch batch = trainer_gather(t, &r->data.own, r->data.places, (size_t)part->count);
    TRY(psg_tape_begin(t->tape, &pass));
    psg_var scores = model_scores(&t->model, t->tape, psg_input(t->tape, &batch.images));
    psg_var mean = psg_cross_entropy(t->tape, scores, psg_input(t->tape, &batch.labels), NULL);
    TRY(psg_backward(t->tape, mean));
    TRY(psg_value(t->tape, mean, &value));
    *loss += *(const float *)value.data * (double)part->count;
    TRY(model_gradients_of(&t->model, t->tape, &gradients));
    return psg_dp_accumulate(t->dp, part, gradients.list, (size_t)t->model.count, NULL);
}

static psg_status add_own(training *r, const psg_batch *own, double *loss) {
    for (int64_t at = 0, count; at < own->count; at += count) {
        const int64_t most = (int64_t)r->t.capacity;
        count = own->count - at < most ? own->count - at : most;
        const psg_batch part = psg_batch_part(own, at, count);
        TRY(add_part(r, &part, loss));
    }
    return PSG_OK;
}

static psg_status step(training *r, long number) {
    psg_batch batch, own;
    double loss = 0;
    TRY(psg_dp_sample(r->t.dp, &batch));
    TRY(psg_dp_own_batch(r->t.dp, &batch, &own));
    TRY(psg_dp_agree(r->t.dp, add_own(r, &own, &loss)));
    const double records = (double)batch.count;
    TRY(psg_dp_release_to(r->t.dp, r->t.sgd));
    trainer_average(&r->t, number);
    if ((number + 1) % 50) return PSG_OK;
    TRY(psg_mpi_sum(r->mpi, &loss, 1));
    if (is_first(r)) printf("step %ld/%ld  not private: loss %.3f\n", number + 1, r->plan.steps, loss / records);
    return PSG_OK;
}

static void print_times(const training *r, const psg_mpi_report *before) {
    const psg_mpi_report after = psg_mpi_spent(r->mpi);
    const double steps = (double)psg_dp_step(r->t.dp);
    printf("%d ranks of %u threads, not private: %.2f ms a step, of which %.2f ms in MPI, for %.0f bytes sent\n",
           psg_mpi_ranks(r->mpi), psg_context_threads(r->t.context), 1e3 * r->seconds / steps,
           1e3 * (after.seconds - before->seconds) / steps, (double)(after.bytes - before->bytes) / steps);
}

static psg_status train(training *r) {
    TRY(psg_mpi_attach(r->mpi, r->t.dp, NULL));
    const psg_mpi_report before = psg_mpi_spent(r->mpi);
    const double began = now_seconds();
    for (long k = 0; k < r->plan.steps && psg_dp_remaining(r->t.dp); k++) TRY(step(r, k));
    r->seconds = now_seconds() - began;
    if (is_first(r)) print_times(r, &before);
    return PSG_OK;
}

/* ---- the run ---- */

/* Rank 0's. */
static psg_status report(training *r, const dataset *test) {
    evaluation accuracy;
    psg_privacy privacy = { 0 };
    run_total total;
    psg_status status = evaluation_of(&r->t, test, &accuracy);
    if (!status) status = run_folder_write_weights(&r->folder, &r->t);
    if (!status) status = run_results_state(&r->folder, &r->t, r->options.delta);
    if (!status) status = earlier_runs_total(&r->folder, &r->t, r->options.delta, &total);
    if (!status) status = psg_dp_privacy(r->t.dp, r->options.delta, &privacy);
    if (!status) {
        earlier_runs_say(&r->folder, &total);
        printf("result: test_accuracy=%.2f epsilon=%.2f delta=%g ranks=%d\n", 100 * accuracy.accuracy,
               bound_shown(privacy.epsilon), r->options.delta, psg_mpi_ranks(r->mpi));
    }
    evaluation_free(&accuracy);
    return status;
}

static int run(training *r, dataset *all, dataset *test) {
    if (is_first(r) && run_folder_begin(&r->folder, all)) return -1;
    if (take_share(r, all)) return -1;
    if (is_first(r) && r->options.input == INPUT_SCATTERING && dataset_scatter(test, r->options.threads)) return -1;
    if (is_first(r) && r->options.seeded) puts("NOT PRIVATE: with --seed anybody can compute the noise");
    psg_status status = trainer_create(&r->options, &r->plan, is_first(r) ? r->folder.ledger : NULL, &r->t);
    if (!status && is_first(r)) status = earlier_runs_check(&r->folder, &r->t);
    if (!status) status = train(r);
    if (!status && is_first(r)) status = report(r, test);
    if (status) fprintf(stderr, "rank %d: %s\n", psg_mpi_rank(r->mpi), trainer_message(&r->t));
    return status;
}

static int load_and_run(training *r, char **command_line) {
    dataset all = { 0 }, test = { 0 };
    psg_context *context = NULL;
    int failed = (is_first(r) && run_folder_open(r->options.folder, 0, command_line, &r->folder)) ||
                 psg_context_create(NULL, &context) || dataset_load(context, r->options.data, "train", &all) ||
                 dataset_load(context, r->options.data, "t10k", &test) ||
                 training_plan_make(context, &r->options, all.count, &r->plan) || run(r, &all, &test);
    trainer_destroy(&r->t);
    free(r->data.own.features);
    free(r->data.places);
    dataset_free(&all);
    dataset_free(&test);
    psg_context_destroy(context);
    return failed;
}

/* What fashion_mnist alone does; 0 where nothing of it is asked for. */
static int check_options(const training_options *options) {
    if (options->resumes) fprintf(stderr, "--resume: fashion_mnist does, fashion_mnist_ranks does not\n");
    if (options->diagnoses) fprintf(stderr, "--diagnostics: fashion_mnist does, fashion_mnist_ranks does not\n");
    return options->resumes || options->diagnoses;
}

/* A rank that ends before the others ends the job: they would wait for it. */
int main(int argc, char **argv) {
    training r = { 0 };
    int provided;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    const int read = training_options_read(&r.options, argc, argv);
    int code = read > 0 ? EXIT_SUCCESS : read || check_options(&r.options) ? 2 : EXIT_SUCCESS;
    if (!read && !code && (psg_mpi_create(MPI_COMM_WORLD, &r.mpi) || load_and_run(&r, argv + 1))) {
        MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
    }
    psg_mpi_destroy(r.mpi);
    MPI_Finalize();
    return code;
}
