#include "network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../bench/measure/case_lines.h"
#include "../alone.h"

/* ---- the lines of all tables ---- */

/* A line, and the shape of its first operand where that is one of real numbers with a batch; rank 0: it is not. */
typedef struct choice {
    const case_op *op;
    const char *text;
    int rank;
    int64_t shape[PSG_MAX_RANK];
} choice;

enum { MOST_CHOICES = 8192 };
static choice choices[MOST_CHOICES];
static int choice_count;

static int is_of_batch(const case_operand *operand) {
    return operand->present && operand->role == PSG_BATCHED && operand->rank > 0;
}

static void parse(const choice *from, case_line *line) {
    char message[512];
    FUZZ_CHECK(!case_line_parse(from->op, from->text, line, message, sizeof message));
}

static void read_tables(void) {
    static case_line line;
    for (size_t k = 0; k < table_line_count && choice_count < MOST_CHOICES; k++) {
        choice *c = &choices[choice_count];
        *c = (choice){ .op = case_op_find(table_lines[k].op), .text = table_lines[k].text };
        parse(c, &line);
        if (!alone_applies(&line) || case_flag(&line, "bench") || case_flag(&line, "batch_second")) continue;
        choice_count++;
        if (!is_of_batch(&line.operand[0]) || line.operand[0].kind != CASE_REAL) continue;
        c->rank = line.operand[0].rank;
        memcpy(c->shape, line.operand[0].shape, sizeof c->shape);
    }
}

/* ---- drawing ---- */

static void set_batch(case_line *line, int64_t count) {
    line->batch_size = count;
    for (int k = 0; k < CASE_OPERANDS; k++) {
        if (is_of_batch(&line->operand[k])) line->operand[k].shape[0] = count;
    }
}

static int takes(const choice *c, const case_operand *given) {
    return c->rank && c->rank == given->rank &&
           !memcmp(c->shape + 1, given->shape + 1, (size_t)(c->rank - 1) * sizeof *c->shape);
}

/* One whose first operand is shaped as that of the line before, whose output often is so too. */
static const choice *next_line(const case_line *before, fuzz_bytes *bytes) {
    int start = (fuzz_byte(bytes) << 8 | fuzz_byte(bytes)) % choice_count;
    for (int k = 0; before && k < choice_count; k++) {
        const choice *c = &choices[(start + k) % choice_count];
        if (takes(c, &before->operand[0])) return c;
    }
    return &choices[start];
}

static void change_size(case_line *line, fuzz_bytes *bytes) {
    case_operand *operand = &line->operand[fuzz_range(bytes, 0, 2)];
    if (!operand->present || operand->rank < 2) return;
    operand->shape[fuzz_range(bytes, 1, operand->rank - 1)] = fuzz_range(bytes, 0, 8);
}

void network_draw(network *net, psg_context *context, fuzz_bytes *bytes) {
    if (!choice_count) read_tables();
    *net = (network){ .context = context, .batch_size = fuzz_range(bytes, 1, NETWORK_SAMPLES) };
    net->real = fuzz_one_in(bytes, 2) ? PSG_F64 : PSG_F32;
    net->layer_count = (int)fuzz_range(bytes, 1, NETWORK_LAYERS);
    for (int k = 0; k < net->layer_count; k++) {
        parse(next_line(k && !fuzz_one_in(bytes, 4) ? &net->layer[k - 1] : NULL, bytes), &net->layer[k]);
        net->shares[k] = fuzz_one_in(bytes, 4) ? 0 : 1;
        set_batch(&net->layer[k], net->batch_size);
        if (fuzz_one_in(bytes, 16)) change_size(&net->layer[k], bytes);
    }
}

void network_free(network *net) {
    psg_tape_destroy(net->tape);
    for (int k = 0; k < net->param_count; k++) psg_param_destroy(net->param[k]);
    while (net->array_count) free(net->array[--net->array_count]);
}

/* ---- operands ---- */

static void *keep(network *net, void *memory) {
    FUZZ_CHECK(memory && net->array_count < NETWORK_ARRAYS);
    return net->array[net->array_count++] = memory;
}

static size_t bytes_of(const psg_tensor *x) {
    int64_t count = psg_tensor_count(x);
    return count > 0 ? (size_t)count * psg_dtype_size(x->dtype) : 0;
}

/* Operand k of all samples, or of some, in memory of its extent. */
static psg_tensor values_of(network *net, const case_line *line, int k, int64_t first, int64_t count) {
    const case_operand *operand = &line->operand[k];
    psg_dtype dtype = operand->kind == CASE_INTEGER ? operand->integer : operand->single ? PSG_F32 : net->real;
    psg_tensor all = psg_tensor_of(dtype, NULL, operand->rank, operand->shape), some = all;
    all.data = malloc(bytes_of(&all) + 1);
    FUZZ_CHECK(all.data);
    case_fill(line, k, &all);
    size_t skipped = 0;
    if (is_of_batch(operand)) {
        some.shape[0] = count;
        skipped = line->batch_size ? bytes_of(&all) / (size_t)line->batch_size * (size_t)first : 0;
    }
    some.data = keep(net, malloc(bytes_of(&some) + !bytes_of(&some)));
    memcpy(some.data, (char *)all.data + skipped, bytes_of(&some));
    free(all.data);
    return some;
}

static int has_shape(const psg_tensor *x, const case_operand *operand) {
    return x->rank == operand->rank && !memcmp(x->shape, operand->shape, (size_t)x->rank * sizeof *x->shape);
}

/* Parameters are made in the first pass and found in the next ones: k-th of layer l. */
static psg_param *param_of(network *net, int l, int k, int *used) {
    const case_line *line = &net->layer[l];
    for (int i = 0; net->shares[l] && i < *used; i++) {
        if (has_shape(psg_param_value(net->param[i]), &line->operand[k])) return net->param[i];
    }
    if (*used == net->param_count) {
        psg_tensor value = values_of(net, line, k, 0, 0);
        if (net->param_count == NETWORK_PARAMS) return NULL;
        if (FUZZ_CALL(net->context, psg_param_create(net->context, line->op->rule[k].name, &value,
                                                     &net->param[net->param_count]))) return NULL;
        psg_param_set_trainable(net->param[net->param_count++], !line->operand[k].frozen);
    }
    return net->param[(*used)++];
}

/* The latest output of that shape, or none. */
static psg_var earlier(network *net, const case_operand *operand, const psg_var *outputs, int count, int64_t samples) {
    psg_tensor value;
    for (int i = count - 1; i >= 0; i--) {
        if (psg_tape_status(net->tape) || psg_value_shape(net->tape, outputs[i], &value)) break;
        case_operand wanted = *operand;
        wanted.shape[0] = samples;
        if (value.dtype == net->real && has_shape(&value, &wanted)) return outputs[i];
    }
    return psg_none();
}

static psg_var var_of(network *net, int l, int k, int64_t first, int64_t count, const psg_var *outputs, int *used) {
    const case_line *line = &net->layer[l];
    const case_operand *operand = &line->operand[k];
    psg_var var = psg_none();
    if (!operand->present) return var;
    if (operand->role == PSG_PARAMETER) {
        psg_param *param = param_of(net, l, k, used);
        return param ? psg_use(net->tape, param) : var;
    }
    int is_free = net->shares[l] && is_of_batch(operand) && operand->kind == CASE_REAL && !operand->value_count;
    if (is_free) var = earlier(net, operand, outputs, l, count);
    if (var.id) return var;
    psg_tensor value = values_of(net, line, k, first, count);
    if (operand->role == PSG_CONSTANT) return psg_constant(net->tape, &value);
    return case_wants_grad(line, k) ? psg_input_with_grad(net->tape, &value) : psg_input(net->tape, &value);
}

psg_status network_forward(network *net, const psg_pass *pass, int64_t first, int64_t count, psg_var *output) {
    psg_var outputs[NETWORK_LAYERS], var[CASE_OPERANDS];
    int used = 0;
    if (!net->tape) PSG_TRY(FUZZ_CALL(net->context, psg_tape_create(net->context, &net->tape)));
    PSG_TRY(FUZZ_CALL(net->context, psg_tape_begin(net->tape, pass)));
    for (int l = 0; l < net->layer_count; l++) {
        case_line line = net->layer[l];
        for (int k = 0; k < CASE_OPERANDS && line.op->rule[k].name; k++) {
            var[k] = var_of(net, l, k, first, count, outputs, &used);
        }
        set_batch(&line, count);
        outputs[l] = line.op->apply(net->tape, &line, var);
    }
    *output = outputs[net->layer_count - 1];
    return psg_tape_status(net->tape);
}
