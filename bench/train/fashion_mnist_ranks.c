/* mpirun -n R fashion_mnist_ranks [options]: the training of fashion_mnist.c on the processes of an MPI program.
 * Each rank has its share of the records, and computes the features of those alone; weights, epsilon and the accuracy
 * are those of one process.  Rank 0 prints. */
#include <stdio.h>
#include <stdlib.h>

#include <psg/mpi.h>
#include <psg/psg.h>

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

static psg_status train(training *r) {
    TRY(psg_mpi_attach(r->mpi, r->t.dp, NULL));
    const psg_mpi_report before = psg_mpi_spent(r->mpi);
    const double began = now_seconds();
    for (long k = 0; k < r->plan.steps && psg_dp_remaining(r->t.dp); k++) TRY(step(r, k));
    r->seconds = now_seconds() - began;
    const psg_mpi_report after = psg_mpi_spent(r->mpi);
    const double steps = (double)psg_dp_step(r->t.dp);
    if (!is_first(r)) return PSG_OK;
    printf("%d ranks of %u threads: %.2f ms a step, of which %.2f ms in MPI, for %.0f bytes sent\n",
           psg_mpi_ranks(r->mpi), psg_context_threads(r->t.context), 1e3 * r->seconds / steps,
           1e3 * (after.seconds - before.seconds) / steps, (double)(after.bytes - before.bytes) / steps);
    return PSG_OK;
}

/* ---- the run ---- */

static psg_status report(training *r, dataset *test) {
    float *scores = malloc((size_t)test->count * IMAGE_CLASSES * sizeof *scores);
    psg_privacy privacy;
    long correct = 0;
    psg_status status = scores ? trainer_scores(&r->t, test, scores) : PSG_ERR_MEMORY;
    for (int64_t n = 0; !status && n < test->count; n++) {
        correct += trainer_class(scores + n * IMAGE_CLASSES) == test->labels[n];
    }
    free(scores);
    if (!status) status = psg_dp_privacy(r->t.dp, r->options.delta, &privacy);
    if (status) return status;
    printf("result: test_accuracy=%.2f epsilon=%.2f delta=%g train_seconds=%.1f ranks=%d\n",
           100.0 * (double)correct / (double)test->count, privacy.epsilon, r->options.delta, r->seconds,
           psg_mpi_ranks(r->mpi));
    return PSG_OK;
}

static int run(training *r, dataset *all, dataset *test) {
    char ledger[4200];
    snprintf(ledger, sizeof ledger, "%s/ledger.jsonl", r->options.folder);
    if (take_share(r, all)) return -1;
    if (is_first(r) && r->options.input == INPUT_SCATTERING && dataset_scatter(test, r->options.threads)) return -1;
    psg_status status = trainer_create(&r->options, &r->plan, is_first(r) ? ledger : NULL, &r->t);
    if (!status) status = train(r);
    if (!status && is_first(r)) status = report(r, test);
    if (status) fprintf(stderr, "rank %d: %s\n", psg_mpi_rank(r->mpi), trainer_message(&r->t));
    return status;
}

static int load_and_run(training *r) {
    dataset all = { 0 }, test = { 0 };
    psg_context *context = NULL;
    int failed = psg_context_create(NULL, &context) || dataset_load(context, r->options.data, "train", &all) ||
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

/* A rank that ends before the others ends the job: they would wait for it. */
int main(int argc, char **argv) {
    training r = { 0 };
    int provided;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    int read = training_options_read(&r.options, argc, argv);
    if (!read && r.options.resumes) fprintf(stderr, "--resume: fashion_mnist does\n");
    if (!read && !r.options.resumes) read = psg_mpi_create(MPI_COMM_WORLD, &r.mpi) || load_and_run(&r) ? -1 : 0;
    if (read < 0) MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
    psg_mpi_destroy(r.mpi);
    MPI_Finalize();
    return r.options.resumes ? 2 : EXIT_SUCCESS;
}
