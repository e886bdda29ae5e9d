#include "report.h"

#include <stdio.h>
#include <string.h>

static const char *route_name(int route) { return attack_routes[route] ? attack_routes[route] : "planned"; }

static const char *source_of(int family) { return attack_families[family].tape ? "tape" : "blocks"; }

/* A family that is drawn several times is one line. */
static int line_of(int family) {
    int line = 0;
    while (strcmp(attack_families[line].name, attack_families[family].name) != 0) line++;
    return line;
}

static void add(attack_tally *tally, const attack_outcome *outcome) {
    bool broken = outcome->verdict == BROKEN;
    double *most = broken ? &tally->worst : &tally->largest;
    tally->pairs++;
    tally->broken += broken;
    tally->refused += outcome->verdict == REFUSED;
    tally->one_sided += outcome->verdict == REFUSED_ONE_SIDE;
    if (outcome->share > *most) *most = outcome->share;
}

void attack_count(attack_report *report, int64_t index, const attack_pair *pair, const attack_outcome *outcome) {
    const attack_settings *s = &pair->settings;
    int line = line_of(pair->family);
    add(&report->all, outcome);
    add(&report->tally[line][s->dtype == PSG_F64][s->route], outcome);
    if (outcome->verdict == REFUSED_ONE_SIDE) {
        memcpy(report->refusal[line], outcome->message, sizeof outcome->message);
    }
    if (outcome->verdict != BROKEN) return;
    printf("broken: %.9g C, %s, %s, %s, B %lld: --seed %llu --pair %lld\n", outcome->share,
           attack_families[line].name, psg_dtype_name(s->dtype), route_name(s->route), (long long)s->batch,
           (unsigned long long)report->seed, (long long)index);
    fflush(stdout);
}

static void print_tally(const char *family, const char *source, const char *dtype, const char *route,
                        const attack_tally *t) {
    printf("%-22s %-7s %-4s %-10s %7lld %8lld %9lld %7lld   %.9f", family, source, dtype, route, (long long)t->pairs,
           (long long)t->refused, (long long)t->one_sided, (long long)t->broken, t->largest);
    if (t->broken) printf("   %.9g", t->worst);
    putchar('\n');
}

void attack_print(const attack_report *report) {
    const char *isas[3];
    int count = attack_isas(isas);
    printf("instruction sets:");
    for (int k = 0; k < count; k++) printf(" %s", isas[k]);
    putchar('\n');
    printf("%-22s %-7s %-4s %-10s %7s %8s %9s %7s   %s   %s\n", "family", "source", "type", "route", "pairs", "refused",
           "one side", "broken", "largest held", "worst");
    for (int f = 0; f < attack_family_count; f++) {
        for (int d = 0; d < 2; d++) {
            for (int r = 0; r < ATTACK_ROUTES; r++) {
                const attack_tally *t = &report->tally[f][d][r];
                if (t->pairs) print_tally(attack_families[f].name, source_of(f), d ? "f64" : "f32", route_name(r), t);
            }
        }
        if (report->refusal[f][0]) printf("    refused on one side: %s\n", report->refusal[f]);
    }
    print_tally("all", "", "", "", &report->all);
    printf("%lld passed, %lld failed\n", (long long)(report->all.pairs - report->all.broken),
           (long long)report->all.broken);
}

/* ---- one pair ---- */

static void print_roles(const attack_contents *c) {
    static const char *const roles[ROLES] = { "common", "special", "record" };
    static const char *const kinds[KINDS] = { "random", "equal", "equal rows", "constant", "wide", "spike", "cancel",
                                              "nearly cancel", "offset", "one hot", "zero", "nan", "infinite" };
    printf("special samples: %lld, then every %lld; residue 2^%d%s\n", (long long)c->lead, (long long)c->every,
           c->residue, c->alike ? "; all samples alike" : "");
    for (int k = 0; k < ROLES; k++) {
        const attack_role *role = &c->role[k];
        printf("  %-8s %s, g * %s2^%d, a * 2^%d\n", roles[k], kinds[role->kind], role->negative ? "-" : "",
               role->g_exponent, role->a_exponent);
    }
}

static void print_set(const attack_set *set) {
    static const char *const forms[] = { "factored", "rows", "sparse rows", "unfolded" };
    for (int k = 0; k < set->blocks; k++) {
        const attack_block *b = &set->block[k];
        printf("  parameter %d (%lld, %lld), %s%s: T %lld, p %lld, d %lld at (%lld, %lld), scale %g, layouts %d %d%s\n",
               b->param, (long long)set->rows[b->param], (long long)set->columns[b->param],
               b->transposed ? "transposed " : "", forms[b->form], (long long)b->positions, (long long)b->p,
               (long long)b->d, (long long)b->row, (long long)b->column, b->scale, b->g_layout, b->a_layout,
               b->shares >= 0 ? ", shares its backprop" : "");
    }
    printf("  with the record: %lld more positions\n", (long long)set->pad);
}

static void print_network(const attack_network *n) {
    static const char *const models[MODELS] = { "linear", "mlp", "attention", "conv2d", "lstm", "layer_norm", "tied" };
    static const char *const weights[WEIGHT_KINDS] = { "a parameter", "standardized", "by fan in", "with gain", "normed",
                                                       "normed columns" };
    printf("  %s, weight %s: T %lld, inputs %lld, outputs %lld, %s%s, %s, with the record %lld more positions\n",
           models[n->model], weights[n->weight], (long long)n->positions, (long long)n->inputs, (long long)n->outputs,
           n->kink ? "at its kink" : "no kink", n->dropout ? ", dropout" : "", n->mean ? "mean loss" : "output gradients", (long long)n->pad);
}

void attack_print_pair(const attack_pair *pair, const attack_outcome *outcome) {
    static const char *const verdicts[] = { "held", "BROKEN", "refused", "refused on one side" };
    const attack_settings *s = &pair->settings;
    printf("%s: %s, B %lld, record at %lld, C %.17g, max_batch_size %lld\n", attack_families[pair->family].name,
           psg_dtype_name(s->dtype), (long long)s->batch, (long long)s->place, s->max_grad_norm,
           (long long)s->max_batch_size);
    printf("route %s, instruction set %d, budget %d, threads %u and %u, micro-batches of %lld and %lld\n",
           route_name(s->route), s->isa, (int)s->budget, s->threads[0], s->threads[1], (long long)s->chunk[0],
           (long long)s->chunk[1]);
    print_roles(&pair->contents);
    if (attack_families[pair->family].tape) print_network(&pair->network);
    else print_set(&pair->set);
    printf("%s: %.17g C %s\n", verdicts[outcome->verdict], outcome->share, outcome->message);
}
