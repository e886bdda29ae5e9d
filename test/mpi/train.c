/* mpirun -n R train [--steps N] [--save PATH] [--load PATH] [--ledger PATH] [--kill RANK] [--fail RANK] [--alter RANK]
 *          [--lack RANK] [--private]
 * A private linear classifier on records that every rank can make, each its own.  Rank 0 prints one line: what must be
 * the same for any number of ranks.  --kill: that rank kills itself in step 7; --fail: it has no memory then; --alter:
 * its weights differ from the start; --lack: it has no psg_dp; --private: the key is no seed, so that there is an
 * epsilon and no bits to compare. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <psg/mpi.h>
#include <psg/psg.h>

enum { RECORDS = 700, FEATURES = 40, CLASSES = 5, BAD_STEP = 7 };

static struct { const char *save, *load, *ledger; int steps, kill, fail, alter, lack, is_private; } o = {
    .steps = 20, .kill = -1, .fail = -1, .alter = -1, .lack = -1 };

static struct { psg_mpi *mpi; psg_context *context; psg_generator *generator; psg_params *params; psg_tape *tape;
                psg_dp *dp; psg_optimizer *sgd; uint64_t batches; double loss; } r;

static void read_options(int argc, char **argv) {
    static const struct option known[] = { { "steps", 1, NULL, 's' }, { "save", 1, NULL, 'w' }, { "load", 1, NULL, 'r' },
                                           { "ledger", 1, NULL, 'l' }, { "kill", 1, NULL, 'k' },
                                           { "fail", 1, NULL, 'f' }, { "alter", 1, NULL, 'a' },
                                           { "lack", 1, NULL, 'n' }, { "private", 0, NULL, 'p' }, { NULL, 0, NULL, 0 } };
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 's': o.steps = atoi(optarg); break;
        case 'w': o.save = optarg; break;
        case 'r': o.load = optarg; break;
        case 'l': o.ledger = optarg; break;
        case 'k': o.kill = atoi(optarg); break;
        case 'f': o.fail = atoi(optarg); break;
        case 'a': o.alter = atoi(optarg); break;
        case 'n': o.lack = atoi(optarg); break;
        case 'p': o.is_private = 1; break;
        default: exit(2);
        }
    }
}

static psg_status create(psg_param_list *all) {
    const unsigned char seed[32] = { 11 };
    psg_dp_options dp = PSG_DP_OPTIONS_INIT;
    const psg_sgd_options sgd = { .lr = 0.5, .momentum = 0.9 };
    PSG_TRY(psg_context_create(NULL, &r.context));
    PSG_TRY(o.is_private ? psg_generator_create(r.context, &r.generator)
                         : psg_generator_create_seeded(r.context, seed, &r.generator));
    PSG_TRY(psg_tape_create(r.context, &r.tape));
    PSG_TRY(psg_params_create(r.context, PSG_F32, &r.params));
    psg_params_add(r.params, "weight", psg_init_linear(), PSG_SHAPE(CLASSES, FEATURES));
    psg_params_add(r.params, "bias", psg_init_constant(0), PSG_SHAPE(CLASSES));
    PSG_TRY(psg_params_initialize(r.params, psg_mpi_rank(r.mpi) == o.alter ? 2 : 1));
    *all = psg_params_trainable(r.params);
    dp.records = RECORDS, dp.sample_rate = 0.1, dp.noise_multiplier = 1, dp.quantile = 0.6;
    dp.ledger = psg_mpi_rank(r.mpi) ? NULL : o.ledger;
    dp.ledger_ahead = dp.ledger ? 1 : 0;
    if (psg_mpi_rank(r.mpi) == o.lack) dp.sample_rate = 0;
    PSG_TRY(psg_sgd_create(r.context, &sgd, all->values, all->count, &r.sgd));
    psg_status status = psg_dp_create(r.context, r.generator, &dp, all->counts, all->count, &r.dp);
    psg_status attached = psg_mpi_attach(r.mpi, r.dp, NULL);
    return status ? status : attached;
}

static psg_status accumulate(const psg_batch *own, const psg_param_list *all) {
    static float x[RECORDS][FEATURES];
    static int64_t y[RECORDS];
    for (int64_t n = 0; n < own->count; n++) {
        for (int j = 0; j < FEATURES; j++) x[n][j] = (float)((own->ids[n] * 17 + j * 29) % 23) / 23;
        y[n] = own->ids[n] % CLASSES;
    }
    const psg_tensor in = psg_f32_2d(x[0], own->count, FEATURES), target = psg_i64_1d(y, own->count);
    const psg_pass pass = { .batch = own };
    const psg_gradient *const *gradients;
    psg_tensor value;
    PSG_TRY(psg_tape_begin(r.tape, &pass));
    psg_var scores = psg_linear(r.tape, psg_input(r.tape, &in), psg_use(r.tape, all->params[0]),
                                psg_use(r.tape, all->params[1]));
    psg_var loss = psg_cross_entropy(r.tape, scores, psg_input(r.tape, &target), NULL);
    PSG_TRY(psg_backward(r.tape, loss));
    PSG_TRY(psg_value(r.tape, loss, &value));
    r.loss = own->count ? (double)*(const float *)value.data * (double)own->count : 0;
    PSG_TRY(psg_params_gradients(r.params, r.tape, &gradients));
    return psg_dp_accumulate(r.dp, own, gradients, all->count, NULL);
}

static psg_status step(const psg_param_list *all) {
    psg_batch batch, own;
    const int is_bad = psg_dp_step(r.dp) == BAD_STEP;
    PSG_TRY(psg_dp_sample(r.dp, &batch));
    PSG_TRY(psg_dp_own_batch(r.dp, &batch, &own));
    for (int64_t n = 0; n < batch.count; n++) r.batches = (r.batches ^ (uint64_t)batch.ids[n]) * 0x100000001b3u;
    psg_status status = accumulate(&own, all);
    if (is_bad && psg_mpi_rank(r.mpi) == o.kill) raise(SIGKILL);
    if (is_bad && psg_mpi_rank(r.mpi) == o.fail) status = PSG_ERR_MEMORY;
    PSG_TRY(psg_dp_agree(r.dp, status));
    double sums[2] = { r.loss, (double)own.count };
    PSG_TRY(psg_mpi_sum(r.mpi, sums, 2));
    if ((int64_t)sums[1] != batch.count) return PSG_ERR_BATCH;
    return psg_dp_release_to(r.dp, r.sgd);
}

static psg_status train(void) {
    psg_param_list all;
    PSG_TRY(create(&all));
    psg_checkpoint checkpoint = PSG_CHECKPOINT_INIT;
    checkpoint.params = all.named, checkpoint.param_count = all.count, checkpoint.optimizer = r.sgd;
    if (o.load) PSG_TRY(psg_dp_load(r.dp, &checkpoint, o.load));
    while ((int)psg_dp_step(r.dp) < o.steps) {
        PSG_TRY(step(&all));
        if (o.save) PSG_TRY(psg_dp_save(r.dp, &checkpoint, o.save));
    }
    return PSG_OK;
}

static void show(void) {
    const psg_tensor flat = psg_params_flat(r.params);
    uint64_t hash = 0;
    double epsilon = 0;
    for (int64_t e = 0; e < flat.shape[0]; e++) {
        uint32_t bits;
        memcpy(&bits, (const float *)flat.data + e, sizeof bits);
        hash = (hash ^ bits) * 0x100000001b3u;
    }
    psg_accountant_epsilon_upper(psg_dp_accountant(r.dp), 1e-5, &epsilon);
    double low[1] = { (double)(hash >> 32) };   /* as many times as there are ranks */
    psg_mpi_sum(r.mpi, low, 1);
    const int is_one = low[0] == (double)(hash >> 32) * psg_mpi_ranks(r.mpi);
    if (psg_mpi_rank(r.mpi)) return;
    printf("steps %llu releases %llu epsilon %.17g batches %016llx weights %016llx%s\n",
           (unsigned long long)psg_dp_step(r.dp),
           (unsigned long long)psg_accountant_releases(psg_dp_accountant(r.dp)), epsilon,
           (unsigned long long)(o.load ? 0 : r.batches), (unsigned long long)hash, is_one ? "" : " AND OTHERS");
}

int main(int argc, char **argv) {
    int provided;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    read_options(argc, argv);
    psg_status status = psg_mpi_create(MPI_COMM_WORLD, &r.mpi);
    if (!status) status = train();
    if (status) fprintf(stderr, "rank %d: %s %s\n", psg_mpi_rank(r.mpi), psg_context_message(r.context),
                        psg_mpi_message(r.mpi));
    else show();
    psg_optimizer_destroy(r.sgd), psg_dp_destroy(r.dp), psg_tape_destroy(r.tape), psg_params_destroy(r.params);
    psg_generator_destroy(r.generator), psg_mpi_destroy(r.mpi), psg_context_destroy(r.context);
    MPI_Finalize();
    return status;
}
