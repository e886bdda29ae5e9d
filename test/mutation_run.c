/* Trying a mutated line, and telling which one it was when the program dies. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mutation.h"

enum {
    LARGEST_BLOCK = 8 << 20,
    SECONDS = 2,
    SANITIZED = 20 /* times slower */,
    SECONDS_TO_HANG = 120,
    VALUES = 1 << 20
};

/* ---- the last words of a program ---- */

static char current[MUTATION_TEXT + 64];

static void tell(void) {
    ssize_t written = write(STDERR_FILENO, current, strlen(current));
    written += write(STDERR_FILENO, "\n", 1);
    (void)written;
}

static void die(int signal_number) {
    tell();
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

void mutation_watch(void) {
    static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
    signal(SIGALRM, die);
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(tell);
        return;
    }
    for (size_t k = 0; k < sizeof signals / sizeof signals[0]; k++) signal(signals[k], die);
}

/* ---- memory ---- */

/* Sizes that a program cannot mean are refused, so that no time is lost on clearing them. */
static void *allocate(void *user, size_t bytes) {
    psg_allocator hook = test_allocator_hook(user);
    return bytes > LARGEST_BLOCK ? NULL : hook.allocate(hook.user, bytes);
}

static void release(void *user, void *memory, size_t bytes) {
    psg_allocator hook = test_allocator_hook(user);
    hook.release(hook.user, memory, bytes);
}

void mutation_open(mutation_bench *bench, mutation_tally *tally) {
    *bench = (mutation_bench){ .tally = tally };
    psg_context_options options = PSG_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    options.allocator = (psg_allocator){ allocate, release, &bench->allocator };
    psg_status status = psg_context_create(&options, &bench->context);
    if (status) fail_msg("psg_context_create: %s", psg_status_name(status));
}

static void complain(mutation_bench *bench, const char *what, const char *detail) {
    bench->tally->failed++;
    printf("%s: %s %s\n", current, what, detail);
    fflush(stdout);
}

void mutation_close(mutation_bench *bench, const char *what) {
    psg_context_destroy(bench->context);
    snprintf(current, sizeof current, "%s", what);
    if (bench->allocator.live_blocks) complain(bench, "memory leaked", "");
}

/* ---- the law ---- */

/* "conv2d: ..." from the op, "psg_input: ..." from what makes operands, "linear: ..." beside weight_norm. */
static int is_named(psg_context *context, const case_line *line, const char *message) {
    char name[64];
    size_t length = strcspn(message, ":");
    if (!message[length] || !message[length + 1] || length >= sizeof name) return 0;
    snprintf(name, sizeof name, "%.*s", (int)length, message);
    return !strcmp(name, line->op->name) || psg_op_find(context, name) || !strncmp(name, "psg_", 4);
}

static void check_refused(mutation_bench *bench, const case_line *line, psg_status status, const char *message) {
    const char *name = psg_status_name(status);
    if (status == PSG_ERR_MEMORY && *message) return; /* of the tape, which serves all ops */
    if (status < 0 || strncmp(name, "PSG_ERR_", 8)) complain(bench, "a status without a name", message);
    else if (!is_named(bench->context, line, message)) complain(bench, name, message);
}

static void count(mutation_bench *bench, const case_line *line, psg_status status, const char *message) {
    if (status) check_refused(bench, line, status, message);
    if (status) bench->tally->refused++;
    else bench->tally->ran++;
}

static psg_status ask(case_run *run, int k) {
    psg_gradient gradient;
    psg_status status = psg_gradient_of(run->tape, run->param[k], &gradient);
    const psg_tensor *value = psg_param_value(run->param[k]);
    int64_t shape[PSG_MAX_RANK + 1] = { gradient.batch_size }, rows = gradient.batch_size;
    if (status || rows > VALUES || rows * psg_tensor_count(value) > VALUES)
        return status == PSG_ERR_STATE ? PSG_OK : status;
    for (int d = 0; d < value->rank; d++) shape[d + 1] = value->shape[d];
    psg_tensor out = psg_tensor_of(run->real, NULL, value->rank + 1, shape);
    size_t bytes = (size_t)psg_tensor_count(&out) * psg_dtype_size(out.dtype);
    out.data = malloc(bytes + !bytes);
    double *sqnorm = malloc((size_t)rows * sizeof *sqnorm + !rows);
    status = psg_grad_sample(run->context, &gradient, 1.0, PSG_OVERWRITE, &out);
    const psg_gradient *set[] = { &gradient };
    if (!status) status = psg_sqnorm(run->context, set, 1, sqnorm, NULL, NULL);
    free(out.data);
    free(sqnorm);
    return status;
}

static psg_status backward(case_run *run) {
    psg_tensor output;
    psg_status status = psg_value(run->tape, run->output, &output);
    if (status || (output.dtype != PSG_F32 && output.dtype != PSG_F64)) return status;
    psg_tensor grad = psg_tensor_of(run->real, NULL, output.rank, output.shape);
    size_t bytes = (size_t)psg_tensor_count(&grad) * psg_dtype_size(grad.dtype);
    grad.data = malloc(bytes + !bytes);
    case_fill_reals(&run->line, "grad_output", &grad);
    status = psg_backward_from(run->tape, run->output, &grad);
    for (int k = 0; k < CASE_OPERANDS && !status; k++) {
        if (run->param[k] && !run->line.operand[k].frozen && !case_flag(&run->line, "ordinary")) status = ask(run, k);
    }
    free(grad.data);
    return status;
}

/* ---- the op of a line with other attributes ---- */

enum { ATTRIBUTES = 512 };

typedef struct recorded {
    const psg_op *op;
    unsigned char attributes[ATTRIBUTES];
    psg_var input[PSG_MAX_INPUTS];
    case_run *run;
} recorded;

static psg_var var_of(const case_run *run, const psg_operand *operand) {
    for (int k = 0; k < CASE_OPERANDS && operand->role; k++) {
        if (run->line.operand[k].present && run->value[k].data == operand->value.data) return run->var[k];
    }
    return psg_none();
}

/* The first op of a line whose inputs are operands of the line. */
static void note(void *user, const psg_call *call, int is_backward, double seconds) {
    recorded *r = user;
    (void)seconds;
    size_t size = call->op->attributes_size;
    if (is_backward || r->op || !size || size > ATTRIBUTES) return;
    for (int k = 0; k < call->input_count; k++) {
        r->input[k] = var_of(r->run, &call->input[k]);
        if (call->input[k].role && !r->input[k].id) return;
    }
    r->op = call->op;
    memcpy(r->attributes, call->attributes, size);
}

/* Attributes with views in them are no numbers. */
static int has_views(const psg_op *op) { return !strcmp(op->name, "batch_norm") || !strcmp(op->name, "instance_norm"); }

/* A number of four or eight bytes becomes another. */
static void change_attribute(test_random *random, recorded *r) {
    static const int64_t ints[] = { 0, 1, -1, 2, 3, 4, 7, 9, 17, -9, 100, INT32_MIN, INT32_MAX, INT32_MIN + 1 };
    static const int64_t longs[] = {
        0, 1, -1, 2, 3, 9, INT64_MIN, INT64_MAX, INT64_MIN + 1, 1LL << 31, 1LL << 32, 1LL << 40, 1LL << 61, -(1LL << 40)
    };
    static const double reals[] = { NAN, INFINITY, -INFINITY, -1, 0.5, 1, 1e300, -1e300, 1e-300 };
    size_t size = r->op->attributes_size, at = 4 * (size_t)test_range(random, 0, (int64_t)size / 4 - 1);
    int64_t kind = at % 8 || at + 8 > size ? 0 : test_range(random, 0, 2);
    int32_t small = (int32_t)TEST_PICK(random, ints);
    int64_t large = TEST_PICK(random, longs);
    double real = reals[test_range(random, 0, 8)];
    if (kind == 0) memcpy(r->attributes + at, &small, 4);
    if (kind == 1) memcpy(r->attributes + at, &large, 8);
    if (kind == 2) memcpy(r->attributes + at, &real, 8);
}

static void run_attributes(mutation_bench *bench, case_run *run, recorded *r, uint64_t seed) {
    test_random random = { seed };
    change_attribute(&random, r);
    if (seed % 2) change_attribute(&random, r);
    run->output = psg_record(run->tape, r->op, r->input, r->op->input_count, r->attributes);
    psg_status status = psg_tape_status(run->tape);
    if (!status) status = backward(run);
    psg_status sticky = psg_tape_status(run->tape);
    count(bench, &run->line, status, sticky ? psg_tape_message(run->tape) : psg_context_message(bench->context));
}

static void run_line_attributes(mutation_bench *bench, const case_line *line, psg_dtype real, uint64_t seed) {
    case_run run;
    recorded r = { .run = &run };
    psg_status status = case_run_open(&run, bench->context, line, real, 0, -1);
    if (!status) status = psg_tape_observe(run.tape, note, &r);
    if (!status) {
        psg_pass pass = case_run_pass(&run);
        status = case_run_forward(&run, &pass);
    }
    if (!status && r.op && !has_views(r.op)) run_attributes(bench, &run, &r, seed);
    case_run_close(&run);
}

static void run_line(mutation_bench *bench, const case_line *line, psg_dtype real) {
    case_run run;
    psg_status status = case_run_open(&run, bench->context, line, real, 0, -1);
    if (!status) {
        psg_pass pass = case_run_pass(&run);
        status = case_run_forward(&run, &pass);
    }
    if (!status) status = backward(&run);
    psg_status sticky = run.tape ? psg_tape_status(run.tape) : PSG_OK;
    count(bench, line, status, sticky ? psg_tape_message(run.tape) : psg_context_message(bench->context));
    case_run_close(&run);
}

static double processor_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void mutation_try_text(mutation_bench *bench, const char *text, psg_dtype real, uint64_t seed) {
    char op_name[CASE_NAME], message[512];
    case_line line;
    snprintf(op_name, sizeof op_name, "%.*s", (int)strcspn(text, " |"), text);
    snprintf(current, sizeof current, "%s (%s, attributes %llu)", text, psg_dtype_name(real), (unsigned long long)seed);
    if (bench->tally->verbose) tell();
    const case_op *op = case_op_find(op_name);
    const char *rest = strchr(text, '|');
    if (!op || !rest || case_line_parse(op, rest + 1, &line, message, sizeof message)) {
        complain(bench, "no such line:", op && rest ? message : "op");
        return;
    }
    uint64_t mistakes = bench->allocator.mistakes;
    double start = processor_time();
    alarm(SECONDS_TO_HANG);
    if (seed) run_line_attributes(bench, &line, real, seed);
    else run_line(bench, &line, real);
    alarm(0);
    double limit = __sanitizer_set_death_callback ? SECONDS * SANITIZED : SECONDS;
    if (processor_time() - start > limit) complain(bench, "took too long", "");
    if (bench->allocator.mistakes > mistakes) complain(bench, "wrote out of bounds", "");
}

void mutation_try(mutation_bench *bench, const case_line *line, psg_dtype real, uint64_t seed) {
    char text[MUTATION_TEXT];
    if (mutation_write(line, text)) mutation_try_text(bench, text, real, seed);
}
